# What an application declares: which sensors how often, and over which links. It runs nothing.
from sealband import once
from sealband.sampler import Every
from sealband.sensors.part import part

__all__ = ("App", "Button", "Every", "motion", "part")


# The board's accelerometer, a sensor and a watcher at once; None: it has none.
def motion(board):
    from sealband.sensors import motion

    return motion.motion(board)


# The SOS button, a watcher.
def Button(board):
    from sealband.sensors import button

    return button.Button(board) if board.BUTTON else None


class App:
    # App(sensors, links, ...): [Every(seconds, sensor) ...]; [link ...], each of which has a `grade`: how dear it is
    # watchers=(): what works all the time, for instance a button (sealband/watching.py says what one is)
    # send_every_s=600, status_every_s=86400, spreading_factor=7: until the server configures others
    # deep_sleep=False: sleep deeply between wake-ups, which restarts the board; else it stays awake
    # watchdog_s=None: reset the board when the loop hangs so long; None: none (it can't be stopped by the REPL)
    # listeners=(): coroutines beside the work, each `await listener.serve(node)`; only on a board that stays awake
    # patience_s=3600: so long telemetry waits for the cheapest link before it goes over a dearer one
    # ask_first=False: nothing is sampled until the server has said what the wearer agrees to
    # on_sample(node, record, t, value)=None: may call node.event(id, value ...)
    # echo=True: print the log on the serial port
    # A sensor or watcher that is None is left out: this board has no such part.
    def __init__(self, *declared, **more):
        once("sealband.declaration").take(self, *declared, **more)
