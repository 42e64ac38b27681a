# Falls from acceleration at 50 Hz: samples and half seconds in, a verdict out. Owns no part and no clock.
#
# A fall is a free fall, an impact, stillness soon after it, and an arm that lies otherwise than before. A low fall has
# no free fall that a wrist could tell: then the impact must be higher and the stillness longer. The impact must also
# stand out from what the arm did in the seconds before, so that running, clapping and hammering are none. A clean free
# fall that ends in a rest which no arm can keep was the band, which fell alone. Kangas et al. (Gait & Posture 28, 2008)
# judge by begin, impact and posture alike; 50 Hz is what Aguiar et al. (PMC6603555) found to be enough.
from micropython import const

_FREE = const(314572)  # (0.55 g)^2; 1024 is 1 g
_FREE_MIN = const(4)  # samples, 80 ms
_CLEAN = const(10486)  # (0.1 g)^2
_CLEAN_MIN = const(8)  # 160 ms: 13 cm
_AFTER = const(50)  # samples from the free fall to the impact
_IMPACT = const(6553600)  # (2.5 g)^2
_LOW_IMPACT = const(16777216)  # (4 g)^2
_LIMIT_MAX = const(67108864)  # (8 g)^2: there an axis ends

# half seconds
_STILL = const(3775)  # (60 mg)^2
_DEAD = const(52)  # (7 mg)^2, little more than the part's own noise
_SETTLE = const(24)
_BOUNCE = const(4)
_LIE = const(16)
_LIE_LOW = const(30)
_LONG = const(60)
_QUIET = const(236)  # (15 mg)^2


class Falls:
    def __init__(self):
        self.open = False  # there was an impact, and it is not decided yet
        self._free = self._sum = self._window = 0
        self._clean = self._fell = self._dropped = False
        self._high = self._recent = self.peak = 0
        self._limit = _IMPACT
        self._low = _LOW_IMPACT
        self._before = self._last = None

    # one sample: the square of its magnitude
    def sample(self, s):
        if s < _FREE:
            self._free += 1
            self._sum += s
            return
        free = self._free
        if free:
            if free >= _FREE_MIN:
                self._window = _AFTER
                self._clean = free >= _CLEAN_MIN and self._sum // free < _CLEAN
            self._free = self._sum = 0
        elif self._window:
            self._window -= 1
        if s > self._high:
            self._high = s
            if not self.open and s > self._limit and (self._window or s > self._low):
                self.open = True
                self._fell = self._window > 0
                self._dropped = self._fell and self._clean
                self._blocks = self.still = self._rest = self.peak = 0

    # half a second is over: its mean and its variance. True: this was a fall.
    def block(self, mean, variance):
        top = self._high
        self._high = 0
        if not self.open:
            if self._last:
                a, b, c = self._last
                d, e, f = self._before or self._last
                self._before = (3 * d + a >> 2, 3 * e + b >> 2, 3 * f + c >> 2)
            self._last = mean
            self._heard(top)
            return False
        if top > self.peak:
            self.peak = top
        self._blocks += 1
        if variance < _STILL:
            self.still += 1
            if variance > self._rest:
                self._rest = variance
            if self._lies(mean):
                self._recent = 0
                self._heard(self.peak)
                return True
        else:
            self.still = self._rest = 0
            # who strikes again is not lying there
            self.open = self._blocks <= (_BOUNCE if top > _IMPACT else _SETTLE)
        if not self.open:
            self._heard(self.peak)
        return False

    # what the arm does sets what an impact must exceed: by a fifth, without free fall by two fifths
    def _heard(self, top):
        recent = self._recent
        recent -= recent >> 5
        if top > recent:
            recent = top
        self._recent = recent
        self._limit = min(_LIMIT_MAX, max(_IMPACT, recent + (recent >> 1)))
        self._low = min(_LIMIT_MAX, max(_LOW_IMPACT, recent << 1))

    # Still for long enough: lying, if the arm is turned by 30 degrees. One that is not may be somebody's who jumped and
    # stands; but only one that lies does not sway for long.
    def _lies(self, mean):
        x, y, z = mean
        lie = _LIE if self._fell else _LIE_LOW
        if self.still == lie:
            if self._dropped and self._rest < _DEAD:
                self.open = False
                return False
            self._rest = 0
            a, b, c = self._before or self._last or (0, 0, 0)
            along = a * x + b * y + c * z
            if along > 0 and 4 * along * along >= 3 * (a * a + b * b + c * c) * (x * x + y * y + z * z):
                self.open = self._fell
                return False
        elif self.still == _LONG:
            self.open = False
            return self._rest < _QUIET
        else:
            return False
        self.open = False
        return True
