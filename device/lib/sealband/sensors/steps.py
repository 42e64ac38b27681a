# Steps from the magnitude of the acceleration at 26 Hz: samples in, a count out. Owns no part and no clock.
#
# What rises above its mean and falls below it again is a candidate. It counts when it comes as regularly as steps do:
# periodicity, similarity and continuity, as Gu, Khoshelham et al., "Robust Step Detection Using Smartphones" (2017) ask
# for; only from the eighth such interval on, those before it included. So a hand that is shaken, washes or steers adds
# little. Small integers only; no allocation a sample.
from micropython import const

RATE_HZ = const(26)

_RUN = const(8)
_MIN = const(100)  # a quarter of 1/1024 g: the sum of four samples stands so far from its mean at least, 24 mg
_FAST = const(6)  # samples between steps: 4.3 a second
_SLOW = const(39)  # 0.67 a second
_END = const(52)  # two seconds without a step
_RUNNING = const(2400)  # from top to bottom, 0.59 g after the low-pass
_RUNNING_MAX = const(22)  # samples of two steps: 2.36 a second and more


class Steps:
    def __init__(self):
        self.count = 0
        self._a = self._b = self._c = 0
        self._mean = None
        self._up = False
        self.gap()

    # samples are missing: what comes is not measured against what was
    def gap(self):
        self._run = self._missed = 0
        self._time = _END
        self._size = self._high = self._low = 0
        self._last = self._before = 0

    # one sample, 1024 is 1 g
    def add(self, m):
        f = m + self._a + self._b + self._c
        self._c = self._b
        self._b = self._a
        self._a = m
        if self._mean is None:
            self._mean = m << 7
            self._a = self._b = self._c = m
            return
        # high-pass, 26 Hz / (2 pi 32) = 0.13 Hz
        h = f - (self._mean >> 5)
        self._mean += h
        if h > self._high:
            self._high = h
        elif h < self._low:
            self._low = h
        limit = self._size >> 3
        if limit < _MIN:
            limit = _MIN
        if self._time < _END:
            self._time += 1
        elif self._run:
            self.gap()
        if not self._up:
            self._up = h > limit
        elif h < -limit:
            self._up = False
            self._step()

    def _step(self):
        size = self._high - self._low
        time = self._time
        self._high = self._low = self._time = 0
        fits = abs(time - self._last) <= time // 5 + 1 or abs(time - self._before) <= time // 5 + 1
        fits = fits and _FAST <= time <= _SLOW and size < 3 * self._size and 3 * size > self._size
        self._before = self._last
        self._last = time
        self._size = self._size + ((size - self._size) >> 2) if self._size else size
        if fits:
            self._run += 1
            self._missed = 0
        elif self._run < _RUN or self._missed or time < _FAST:
            self._run = self._missed = 0
            return
        else:
            # one that is out of step, in the middle of a walk
            self._missed = 1
            self._run += 1
        if self._run > _RUN:
            self.count += 1
        elif self._run == _RUN:
            self.count += _RUN + 1

    # 0 no steps, 1 walking, 2 running
    def gait(self):
        if self._run < _RUN:
            return 0
        return 2 if self._size > _RUNNING and self._last + self._before <= _RUNNING_MAX else 1
