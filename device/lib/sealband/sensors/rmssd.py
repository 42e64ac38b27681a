# Variability of the heart rate: RMSSD over the clean intervals of 48 s. Owns no part; in the heap only while it is due.
#
# Tops are found between samples by a parabola, which makes 25 samples a second enough (agreement: tests/bench). An
# interval that is more than a fifth away from the median of its eight seconds is an outlier: it is left out, not
# mended, and so are both differences that it is part of.
from math import sqrt

from micropython import const

_HALF_WINDOW = const(100)  # samples: 4 s
_HALVES = const(10)
_BAD_MAX = const(2)
_OUTLIER = const(5)  # 1/5
_DIFFERENCES_MIN = const(20)


class Rmssd:
    def __init__(self):
        self.count = self._squares = 0
        self.join()

    # what comes next does not join what was before
    def join(self):
        self._last = -1
        self._interval = 0

    # when the beats of a window were, in ms; windows may overlap
    def take(self, beats):
        if len(beats) < 3:
            self.join()
            return
        intervals = sorted(beats[i] - beats[i - 1] for i in range(1, len(beats)))
        middle = intervals[len(intervals) // 2]
        last = seen = self._last
        interval = self._interval
        for at in beats:
            if at <= seen:
                continue
            if last >= 0:
                new = at - last
                if abs(new - middle) * _OUTLIER > middle:
                    new = 0
                elif interval:
                    self._squares += (new - interval) ** 2
                    self.count += 1
                interval = new
            last = at
        self._last = last
        self._interval = interval

    # ms, or None when there are too few
    def value(self):
        return int(sqrt(self._squares / self.count) + 0.5) if self.count >= _DIFFERENCES_MIN else None


# Goes on measuring after a heart rate was found; the driver fills the pulse's window.
def measure(driver, pulse, leak):
    rmssd = Rmssd()
    halves = bad = 0
    while True:
        rmssd.take(pulse.beats)
        if halves >= _HALVES:
            return rmssd.value()
        gaps = driver.gaps
        pulse.slide(_HALF_WINDOW)
        if not (yield from driver.fill(leak)):
            return None
        halves += 1
        if driver.gaps != gaps:
            # how much was lost is not known: a window from the beginning
            pulse.reset()
            halves += 1
        elif pulse.estimate():
            bad = 0
        else:
            bad += 1
        if bad == _BAD_MAX:
            return None
