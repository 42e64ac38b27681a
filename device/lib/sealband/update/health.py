# Whether new code is healthy: every sensor that gave values before the switch answers, and the server has acknowledged
# something since. It asks the sensors itself, every 47 s until they have answered; what they say is not kept.
from micropython import const

_AGAIN_S = const(47)  # no multiple of a usual period: a sensor that the sampler is busy with is not asked
_PROBE_MAX_MS = const(60000)
DEADLINE_S = const(86400)


class Health:
    # records: those that had values before the switch
    def __init__(self, sensors, records):
        self._sensors = sensors
        self._needed = records
        self._answered = []  # indexes of sensors
        self._next_s = 0
        self.acknowledged = False

    # Generators of pauses, one for each sensor that has yet to answer.
    def probes(self, now_s):
        if now_s < self._next_s or self.sensors_answer():
            return []
        self._next_s = now_s + _AGAIN_S
        tasks = []
        for index, every in enumerate(self._sensors):
            if index not in self._answered and not every.busy:
                every.busy = True
                tasks.append(self._probe(index, every))
        return tasks

    def _probe(self, index, every):
        left_ms = _PROBE_MAX_MS
        try:
            every.sensor.start()
            steps = every.sensor.measure()
            while left_ms > 0:
                pause_ms = next(steps)
                left_ms -= max(1, pause_ms)
                yield pause_ms
        except StopIteration:
            self._answered.append(index)
        except Exception:
            pass  # asked again
        finally:
            every.busy = False
            try:
                every.sensor.stop()
            except Exception:
                pass

    # Those that matter have answered; one at least, if there are any.
    def sensors_answer(self):
        if self._sensors and not self._answered:
            return False
        for index, every in enumerate(self._sensors):
            if index not in self._answered:
                for record in every.sensor.records:
                    if record in self._needed:
                        return False
        return True

    def healthy(self):
        return self.acknowledged and self.sensors_answer()
