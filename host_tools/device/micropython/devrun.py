# Runs an application as start.py does, for whoever develops it: what its sensors raise is shown with file and line, and
# its end is said. Pushed for a run only.
import sys

from sealband import start

_STARTED = "sealband-run started"
_ENDED = "sealband-run ended"


# a sensor that also says why a reading failed; the sampler counts it as before
def _telling(sensor):
    begin, steps = sensor.start, sensor.measure

    def start():
        try:
            begin()
        except Exception as error:
            sys.print_exception(error)
            raise

    def measure():
        try:
            return (yield from steps())
        except Exception as error:
            sys.print_exception(error)
            raise

    sensor.start = start
    sensor.measure = measure


def _prepare():
    import app

    build = app.build

    def built(board):
        application = build(board)
        for every in application.sensors:
            try:
                _telling(every.sensor)
            except AttributeError:
                pass  # what it lacks is said when it is missed
        application.echo = True
        return application

    app.build = built


def run():
    work = start.work

    def working(*facts):
        print(_STARTED)
        _prepare()
        work(*facts)

    start.work = working
    try:
        start.run()
    except BaseException as error:
        sys.print_exception(error)
    print(_ENDED)
