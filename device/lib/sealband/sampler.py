# Measures when it is time, and puts what was measured into the batch. Knows no frame, no link and no key.
#
# Sampling times are multiples of the period, so that series of different sensors begin together and pack well. A sample
# bears the time at which it was due. A sensor that fails is counted, and leaves a gap; the others go on.
from micropython import const

_MEASURE_MAX_MS = const(60000)


class Every:
    # a sensor and how often it is read, in seconds

    def __init__(self, period_s, sensor):
        if type(period_s) is not int or not 1 <= period_s <= 86400:
            raise ValueError("a period is 1 to 86400 whole seconds")
        self.period_s = period_s
        self.sensor = sensor
        self.last = None  # the time that was sampled last, or is being sampled
        self.busy = False
        self.probe = False  # asked out of turn: what it says is not kept


class Sampler:
    # on_sample(record, t, value), or None, is told of every value; failed(index) of every reading that failed
    def __init__(self, sensors, batch, on_sample=None, failed=None):
        self.sensors = sensors
        self._batch = batch
        self._on_sample = on_sample
        self._failed = failed
        self.errors = 0  # readings that failed since the cold start
        self.newest = {}  # record: last value
        self.consent = None  # the records that may be sampled, None: all
        self.answered = 0  # bit i: sensor i has answered since the start

    # whether this record may be sampled
    def may(self, record):
        return self.consent is None or record in self.consent

    def _wanted(self, every):
        for record in every.sensor.records:
            if self.may(record):
                return not every.busy
        return False

    # begin with the next multiple of each period
    def start(self, now):
        for every in self.sensors:
            if not every.busy:
                every.last = now // every.period_s * every.period_s

    # Ask every sensor now, only whether it answers.
    def probe(self):
        for every in self.sensors:
            every.last = -1
            every.probe = True

    # one generator of pauses in ms for each sensor that is due
    def due(self, now):
        tasks = []
        for index, every in enumerate(self.sensors):
            t = now // every.period_s * every.period_s
            if t > every.last and self._wanted(every):
                every.last = t
                every.busy = True
                tasks.append(self._measure(index, every))
        return tasks

    # whether something is being measured that belongs before this time
    def pending(self, limit):
        for every in self.sensors:
            if every.busy and every.last < limit:
                return True
        return False

    # seconds until the next sample, or None without sensors
    def wait(self, now):
        wait = None
        for every in self.sensors:
            if self._wanted(every):
                left = max(0, every.last + every.period_s - now)
                if wait is None or left < wait:
                    wait = left
        return wait

    # The clock moved: what is under way is stamped anew, and the schedule begins again.
    def shift(self, seconds, now):
        for every in self.sensors:
            if every.busy:
                every.last += seconds
        self.start(now)

    # A generator holds its locals on the heap in one piece, several at a time: so it does little itself.
    def _measure(self, index, every):
        values = None
        left_ms = _MEASURE_MAX_MS
        try:
            every.sensor.start()
            steps = every.sensor.measure()
            while left_ms > 0:
                pause_ms = next(steps)
                left_ms -= max(1, pause_ms)
                yield pause_ms
            self._fail(index)  # it would hold back what the others measured
        except StopIteration as end:
            values = end.value
        except Exception:
            # SensorError as a rule; whatever a driver raises, it must not end the loop
            self._fail(index)
        finally:
            every.busy = False
            self._stop(index, every.sensor)
        if values is not None:
            self._take(index, every, values)

    def _stop(self, index, sensor):
        try:
            sensor.stop()
        except Exception:
            self._fail(index)

    def _take(self, index, every, values):
        names = every.sensor.records
        if not isinstance(values, (tuple, list)) or len(values) != len(names):
            self._fail(index)
            return
        self.answered |= 1 << index
        if every.probe:
            every.probe = False
            return
        for i, value in enumerate(values):
            if value is None or not self.may(names[i]):
                continue
            if type(value) is not int or not self._batch.add(names[i], every.period_s, every.last, value):
                self._fail(index)
                continue
            self.newest[names[i]] = value
            if self._on_sample:
                self._on_sample(names[i], every.last, value)

    def _fail(self, index):
        self.errors += 1
        if self._failed:
            self._failed(index)
