# Measures when it is time, and puts what was measured into the batch. Knows no frame, no link and no key.
#
# Sampling times are multiples of the period, so that series of different sensors begin together and pack well. A sample
# bears the time at which it was due. A sensor that fails is counted, and leaves a gap; the others go on.
#
# Drivers that are loaded for a measurement take much of the heap: one at a time, and none while `held`.
from micropython import const

from sealwire.recordids import BATTERY_VOLTAGE, LATITUDE

_MEASURE_MAX_MS = const(60000)
_BURST_MAX = const(60)
_LOW_TIMES = const(4)
# a sensor is said to fail at the third failure in a row, and to be well again after twelve good readings
_FAILURE = const(4)
_FAILS = const(12)


class Every:
    # how often a sensor is read, in seconds: at rest, in motion and in alarm
    # burst: so many readings one after the other each time; quiet=False: none in quiet hours
    def __init__(self, period_s, sensor, motion=None, alarm=None, burst=1, quiet=True):
        motion = period_s if motion is None else motion
        self.periods = (period_s, motion, motion if alarm is None else alarm)
        for period_s in self.periods:
            if type(period_s) is not int or not 1 <= period_s <= 86400:
                raise ValueError("a period is 1 to 86400 whole seconds")
        if type(burst) is not int or not 1 <= burst <= _BURST_MAX:
            raise ValueError("a burst is 1 to %d readings" % _BURST_MAX)
        self.period_s = self.periods[0]
        self.sensor = sensor
        self.alone = getattr(sensor, "alone", False)
        self.burst = burst
        self.quiet = quiet
        self.last = None  # the time that was sampled last, or is being sampled
        self.busy = False
        self.probe = False  # asked out of turn: what it says is not kept
        self.spent_ms = 0  # measuring, since charge.py asked last


class Sampler:
    # on_sample(record, t, value), or None, is told of every value; failed(index, told) of the first failure, and when
    # it is to be told; config: for quiet hours, and for sensors that ask for `settings`
    def __init__(self, sensors, batch, on_sample=None, failed=None, config=None):
        self.sensors = sensors
        self._batch = batch
        self._on_sample = on_sample
        self._failed = failed
        self._config = config
        self.errors = 0  # readings that failed since the cold start
        self.bad = {}  # index: how far it is from being well
        self.failing = 0  # bit i: it was told that sensor i fails
        self.newest = {}  # record: last value
        self.consent = None  # the records that may be sampled, None: all
        self.told = True  # a status has told that they changed
        self.answered = 0  # bit i: sensor i has answered since the start
        self.dated = False  # whether times are of the UTC day
        self.held = False  # nobody begins to measure alone
        self.low = 0  # the cell is low: less often, and no position
        self.alone = None  # the measurement of a sensor that measures alone

    # whether this record may be sampled
    def may(self, record):
        return self.consent is None or record in self.consent

    # whether one of them may
    def any(self, records):
        for record in records:
            if self.may(record):
                return True
        return False

    def _wanted(self, every):
        sensor = every.sensor
        if every.busy or (every.alone and (self.alone or self.held)):
            return False
        if self.low and LATITUDE in every.sensor.records:
            return False
        return self.any(sensor.records)

    # how long quiet hours will last, 0: there are none
    def quiet_s(self, now):
        if not self.dated or not self._config:
            return 0
        begin = self._config.quiet_from_min * 60
        left = (self._config.quiet_to_min * 60 - begin) % 86400 - (now - begin) % 86400
        return max(0, left)

    # 0 rest, 1 motion, 2 alarm
    def pace(self, level):
        for every in self.sensors:
            every.period_s = every.periods[level]
            if self.low and level < 2 and BATTERY_VOLTAGE not in every.sensor.records:
                every.period_s = min(86400, every.period_s * _LOW_TIMES)

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
        quiet = self.quiet_s(now)
        for index, every in enumerate(self.sensors):
            t = now // every.period_s * every.period_s
            if t > every.last and self._wanted(every) and (every.quiet or every.probe or not quiet):
                every.last = t
                every.busy = True
                tasks.append(self._measure(index, every, every.period_s))
                if every.alone:
                    self.alone = tasks[-1]
        return tasks

    # Whoever measures alone gives way, and is due again.
    def give_way(self):
        for every in self.sensors:
            if every.busy and every.alone:
                self.alone.close()
                self.alone = None
                every.busy = False
                every.last -= 1

    # whether something is being measured that belongs before this time
    def pending(self, limit):
        for every in self.sensors:
            if every.busy and every.last < limit:
                return True
        return False

    # seconds until the next sample, or None without sensors
    def wait(self, now):
        wait = None
        quiet = self.quiet_s(now)
        for every in self.sensors:
            if self._wanted(every):
                left = (every.last // every.period_s + 1) * every.period_s - now
                left = max(0, left, 0 if every.quiet else quiet)
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
    def _measure(self, index, every, dt):
        sensor = every.sensor
        taken = []
        failed = False
        step_s = max(1, (sensor.read_ms + 999) // 1000)  # from one reading of a burst to the next
        try:
            if hasattr(sensor, "settings"):
                sensor.settings = self._config
            if hasattr(sensor, "wanted"):
                sensor.wanted = self.consent
            sensor.start()
            while len(taken) < every.burst:
                steps = sensor.measure()
                left_ms = _MEASURE_MAX_MS + sensor.read_ms
                try:
                    while left_ms > 0:
                        pause_ms = min(max(0, next(steps)), left_ms)
                        left_ms -= max(1, pause_ms)
                        every.spent_ms += pause_ms
                        yield pause_ms
                        if not self.any(sensor.records):
                            return  # the wearer has withdrawn consent meanwhile
                    failed = True  # it would hold back what the others measured
                    break
                except StopIteration as end:
                    taken.append(end.value)
                if len(taken) < every.burst:
                    yield max(0, step_s * 1000 - _MEASURE_MAX_MS - sensor.read_ms + left_ms)
        except Exception:
            # SensorError as a rule; whatever a driver raises, it must not end the loop
            failed = True
        finally:
            steps = None  # a generator that is closed keeps its locals, and this one the driver
            every.busy = False
            if every.alone:
                self.alone = None
            self._stop(index, sensor)
        if failed:
            self.fail(index)  # not before: the event that may come of it takes the heap that the driver had
        for i, values in enumerate(taken):
            self._take(index, every, every.last + i * step_s, dt if every.burst == 1 else step_s, values)

    def _stop(self, index, sensor):
        try:
            sensor.stop()
        except Exception:
            self.fail(index)
        self.forget(sensor)

    # What a driver leaves behind goes with the consent for all of its records.
    def forget(self, sensor):
        if hasattr(sensor, "kept") and not self.any(sensor.records):
            sensor.kept = None

    def _take(self, index, every, t, dt, values):
        names = every.sensor.records
        if not isinstance(values, (tuple, list)) or len(values) != len(names):
            self.fail(index)
            return
        self.answered |= 1 << index
        if every.probe:
            every.probe = False
            return
        errors = self.errors
        for i, value in enumerate(values):
            if value is None or not self.may(names[i]):
                continue
            if type(value) is not int or not self._batch.add(names[i], dt, t, value):
                self.fail(index)
                continue
            self.newest[names[i]] = value
            if self._on_sample:
                self._on_sample(names[i], t, value)
        if self.errors == errors and index in self.bad:
            self.bad[index] -= 1
            if not self.bad[index]:
                del self.bad[index]
                self.failing &= ~(1 << index)

    # Sensor `index`, or a watcher behind the sensors, failed.
    def fail(self, index):
        self.errors += 1
        bad = self.bad.get(index, 0)
        self.bad[index] = min(bad + _FAILURE, _FAILS)
        told = bad + _FAILURE >= _FAILS and not self.failing >> index & 1
        if told:
            self.failing |= 1 << index
        if self._failed and (told or not bad):
            self._failed(index, told)
