# Heart rate from a photoplethysmogram: samples in, beats a minute or None out. Owns no part and no clock.
#
# Each sample passes an integer band-pass (0.5 to 4 Hz) into a window of bounded size. estimate() finds the pulse's
# period twice, by autocorrelation and from beat to beat, and gives a number only when both agree and each beat looks
# like the one before it: a wearer that moves gets None, not a guess. Small integers only: no allocation a sample.
from array import array

from micropython import const

_RATE_HZ = const(25)
_WINDOW = const(200)  # samples that estimate() looks at: 8 s
_SETTLE = const(30)  # samples after a gap until the band-pass has forgotten the step: 1.2 s

_ROOM = const(232)  # and what else a FIFO can hold, so that the next window joins this one
_LAG_MIN = const(7)  # 214 beats/min
_LAG_MAX = const(40)  # 37 beats/min
_HEIGHT_MAX = const(32000)
_INTERVALS_MIN = const(3)
_COVERED_MIN_MS = const(4500)  # what gaps leave may be the few beats of one breath, not the rate of eight seconds
_SEGMENTS_MAX = const(4)
# 1.5 s: the accelerometer tells of the last second, half a second late
_SPOILED = const(38)

# quality limits, in percent
_RHYTHM_MIN = const(25)
_LIKENESS_MIN = const(75)
_SHARE_OF_BEST = const(85)
_PERIODS_DIFFER_MAX = const(12)
_STEP_MAX = const(25)
_SPREAD_MAX = const(35)


# The band-pass, of one channel.
class Band:
    def __init__(self):
        self._state = array("i", bytes(20))
        self.origin = None

    # what passes of this sample, in its unit
    def step(self, value):
        state = self._state
        if self.origin is None:
            self.origin = value
            for i in range(5):
                state[i] = 0
        x = (value - self.origin) << 4
        # low-pass: mean of four, its first zero at 6.25 Hz
        low = (x + state[0] + state[1] + state[2]) >> 2
        state[2] = state[1]
        state[1] = state[0]
        state[0] = x
        # high-pass: two one-pole stages, each 25 Hz / (2 pi 8) = 0.5 Hz
        high = low - (state[3] >> 3)
        state[3] += high
        high2 = high - (state[4] >> 3)
        state[4] += high2
        return high2 >> 4


class Pulse(Band):
    def __init__(self):
        Band.__init__(self)
        self.other = Band()  # of the other light
        self._window = array("h", bytes(2 * _ROOM))
        self.reset()

    # forget everything
    def reset(self):
        self._count = 0  # samples in the window
        self._gone = 0  # samples that slid out of it
        self._starts = []  # where in the window a segment without gap begins
        self.beats = []
        self.reason = "too short"
        self.gap()

    # samples were lost: what comes next does not join what was before
    def gap(self):
        self._settle = _SETTLE
        self.origin = self.other.origin = None

    # the wearer moves: what came last is worth nothing either
    def spoil(self):
        if not self._settle:
            self._count = max(self._starts[-1], self._count - _SPOILED)
        self.gap()

    # whether the window is full
    def full(self):
        return self._count >= _WINDOW

    # one sample, 25 a second; higher while the vessels are fuller. What passed the filter, None: not settled.
    def add(self, value):
        value = self.step(value)
        if self._settle:
            self._settle -= 1
            if not self._settle:
                self._begin()
            return None
        if self._count < _ROOM:
            self._window[self._count] = max(-_HEIGHT_MAX, min(_HEIGHT_MAX, value))
            self._count += 1
        return value

    def _begin(self):
        # a segment that is too short for three beats is worth nothing: take its place
        while self._starts and self._count - self._starts[-1] < 3 * _LAG_MAX // 2:
            self._count = self._starts.pop()
        if len(self._starts) == _SEGMENTS_MAX:
            self._count = 0
            self._starts = []
        self._starts.append(self._count)

    # make room for so many more
    def slide(self, samples):
        window = self._window
        samples = min(samples, self._count)
        self._count -= samples
        self._gone += samples
        for i in range(self._count):
            window[i] = window[i + samples]
        starts = self._starts
        self._starts = []
        for start in starts:
            if start <= samples:
                self._starts = [0]
            else:
                self._starts.append(start - samples)

    # Beats a minute, or None with the reason in self.reason; self.beats: when those of the last segment were, in ms.
    def estimate(self):
        self.beats = []
        bpm, self.reason = self._estimate()
        return bpm

    def _estimate(self):
        if self._count < _WINDOW * 3 // 4:
            return None, "too short"
        small = self._small()
        period, correlation = self._period(small)
        if correlation < _RHYTHM_MIN:
            return None, "no rhythm"
        reach = period * _RATE_HZ // 2000
        intervals = []
        likeness = last = 0
        for begin, end in self._segments():
            beats = self._beats(begin + reach, end - reach, reach)
            found = []
            for i in range(len(beats)):
                at = _vertex_ms(self._window, beats[i])
                if i:
                    likeness += _likeness(small, beats[i - 1], beats[i], reach)
                    intervals.append(at - last)
                last = at
                found.append(at + self._gone * 1000 // _RATE_HZ)
        if len(intervals) < _INTERVALS_MIN:
            return None, "too few beats"
        if likeness < _LIKENESS_MIN * len(intervals):
            return None, "beats unlike"
        total = sum(intervals)
        if total < _COVERED_MIN_MS:
            return None, "too few beats"
        middle = sorted(intervals)[len(intervals) // 2]
        last = 0
        for interval in intervals:
            if last and abs(interval - last) * 100 > _STEP_MAX * last:
                return None, "irregular"
            if abs(interval - middle) * 100 > _SPREAD_MAX * middle:
                return None, "irregular"
            last = interval
        if abs(total - period * len(intervals)) * 100 > _PERIODS_DIFFER_MAX * total:
            return None, "ambiguous"
        self.beats = found
        return (60000 * len(intervals) + total // 2) // total, "good"

    # the window in 8 bits, so that sums of products stay small integers
    def _small(self):
        window = self._window
        count = min(self._count, _WINDOW)
        height = 1
        for i in range(count):
            height = max(height, abs(window[i]))
        small = array("b", bytes(count))
        for i in range(count):
            small[i] = window[i] * 127 // height
        return small

    # the segments of the window as (begin, end)
    def _segments(self):
        ends = self._starts[1:] + [self._count]
        return [(self._starts[i], min(ends[i], _WINDOW)) for i in range(len(ends))]

    # the pulse's period in ms and how well the window repeats after it, in percent
    def _period(self, small):
        segments = self._segments()
        scores = array("b", bytes(_LAG_MAX + 2))
        for lag in range(_LAG_MIN - 1, _LAG_MAX + 2):
            product = power = 0
            for begin, end in segments:
                for i in range(begin, end - lag):
                    a = small[i]
                    b = small[i + lag]
                    product += a * b
                    power += a * a + b * b
            scores[lag] = 200 * product // power if power else 0
        best = 0
        for lag in range(_LAG_MIN, _LAG_MAX + 1):
            if scores[lag - 1] < scores[lag] >= scores[lag + 1]:
                best = max(best, _vertex(scores, lag))
        # two periods repeat as well as one: the shortest that is nearly as good as the best
        for lag in range(_LAG_MIN, _LAG_MAX + 1):
            if best and scores[lag - 1] < scores[lag] >= scores[lag + 1]:
                score = _vertex(scores, lag)
                if score * 100 >= _SHARE_OF_BEST * best:
                    return _vertex_ms(scores, lag), score
        return 0, 0

    # where in the window the beats are: tops that nothing within `reach` overtops
    def _beats(self, begin, end, reach):
        window = self._window
        beats = []
        for i in range(begin, end):
            y = window[i]
            # of equal neighbours the first is the top
            if y > 0 and y > window[i - 1] and y >= window[i + 1]:
                for j in range(1, reach + 1):
                    if window[i - j] >= y or window[i + j] > y:
                        break
                else:
                    beats.append(i)
        return beats


# how alike two beats are in shape and height, in percent
def _likeness(small, one, other, reach):
    product = power = 0
    for i in range(-reach, reach + 1):
        a = small[one + i]
        b = small[other + i]
        product += a * b
        power += a * a + b * b
    return 200 * product // power if power else 0


# where the parabola through a top and its neighbours is highest, in ms
def _vertex_ms(values, i):
    bend = values[i - 1] - 2 * values[i] + values[i + 1]
    shift = (values[i - 1] - values[i + 1]) * 1000 // (2 * bend * _RATE_HZ) if bend else 0
    return i * 1000 // _RATE_HZ + shift


# how high it is there: at fast rates a top between two lags would be underrated by either
def _vertex(values, i):
    bend = values[i - 1] - 2 * values[i] + values[i + 1]
    slope = values[i - 1] - values[i + 1]
    return values[i] - slope * slope // (8 * bend) if bend else values[i]
