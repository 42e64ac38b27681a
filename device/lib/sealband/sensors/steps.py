# Steps from the magnitude of the acceleration at 26 Hz: samples in, a count out. Owns no part and no clock.
#
# What rises above its mean and falls below it again is a candidate. It counts when candidates come as steps do:
# periodicity, similarity and continuity, as Gu et al., "Robust Step Detection Using Smartphones" (2017) ask for; and
# only from the tenth that fits on, those before it included. So a hand that is shaken, washes or steers adds little.
# Small integers only; no allocation a sample.
from micropython import const

_NEED = const(10)
_BEST = const(12)
_MIN = const(100)  # the sum of four samples stands so far from its mean at least: 24 mg
_FAST = const(6)  # samples from step to step: 4.3 a second
_SLOW = const(25)  # 1.04 a second
_END = const(52)  # two seconds without a candidate
_RUNNING = const(2400)  # from top to bottom, 0.59 g after the low-pass
_RUNNING_MAX = const(22)  # samples of two steps: 2.36 a second and more


class Steps:
    def __init__(self):
        self.count = 0
        self._a = self._b = self._c = 0
        self._mean = None
        self._up = False
        self._end()

    def _end(self):
        self._run = self._pending = 0
        self._sure = False
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
            self._end()
        if not self._up:
            self._up = h > limit
        elif h < -limit:
            self._up = False
            self._step()

    def _step(self):
        size = self._high - self._low
        time = self._time
        self._high = self._low = self._time = 0
        near = time // 5 + 1
        # as far from the last one as that was from the one before; or that one, since left and right may differ
        if (
            _FAST <= time <= _SLOW
            and (abs(time - self._last) <= near or abs(time - self._before) <= near)
            and 2 * size > self._size > size >> 1
        ):
            self._run = min(self._run + 1, _BEST)
        else:
            self._run -= 2 if time >= _FAST else 3
        self._before = self._last
        self._last = time
        self._size = self._size + ((size - self._size) >> 2) if self._size else size
        if self._run <= 0 or time > _SLOW:
            self._run = self._pending = 0
            self._sure = False
            return
        if time >= _FAST:
            self._pending += 1
        if self._run >= _NEED and not self._sure:
            self._sure = True
            self._pending += 1
        if self._sure:
            self.count += self._pending
            self._pending = 0

    # 0 no steps, 1 walking, 2 running
    def gait(self):
        if not self._sure:
            return 0
        return 2 if self._size > _RUNNING and self._last + self._before <= _RUNNING_MAX else 1
