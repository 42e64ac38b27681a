# Oxygen saturation by the ratio of ratios: samples of red and infrared in, percent or None out. Owns no part. No
# medical device: the curve is that of another device; every product must measure its own against blood gas analysis.
#
#     R = (AC red / DC red) / (AC infrared / DC infrared)
#     saturation = a R^2 + b R + c
#
# a, b, c: Maxim's example for a MAX30101 without cover glass, application note 6845 "Guidelines for SpO2 Measurement
# Using the Maxim MAX32664 Sensor Hub": R 0.4 is 99 %, 0.5 96 %, 0.7 89 %, 1.0 80 %, 1.3 70 %.
# The ratio of the ACs is the slope of red over infrared in the pulse's band, so that noise of the red LED falls out.
from math import sqrt

from micropython import const

_CALIBRATION = (1.5958422, -34.6596622, 112.6898759)
_SAMPLES_MIN = const(150)  # six seconds in one piece
_SAMPLES_MAX = const(200)
# share of red's pulse that infrared does not explain: more is movement or noise
_UNEXPLAINED_MAX = 0.1
_PERFUSION_MIN = 0.0005  # effective value of AC by DC
_LEAK_MAX = 0.2  # of what comes back; less is taken off
_R_MIN = 0.3  # below is no blood
_PERCENT_MIN = const(70)  # nobody calibrates below


class Ratio:
    # band: a band-pass of its own; leak: what the photodiode sees with the LED dark; calibration: (a, b, c)
    def __init__(self, band, leak, calibration=None):
        self._band = band
        band.origin = None
        self._leak = leak
        self._calibration = calibration or _CALIBRATION
        self._begin()

    def _begin(self):
        self._count = self._reds = self._infrareds = 0
        self._rr = self._ri = self._ii = 0

    # one sample of each, and what passed the filter of infrared's, turned over; None: not settled
    def add(self, red, infrared, passed):
        r = self._band.step(-red)
        if passed is None:
            self._begin()
        elif self._count < _SAMPLES_MAX:
            self._count += 1
            self._reds += red
            self._infrareds += infrared
            # by 16, so that a window's sums are small integers up to a perfusion of 10 %
            self._rr += (r * r + 8) >> 4
            self._ri += (r * passed + 8) >> 4
            self._ii += (passed * passed + 8) >> 4

    # percent, or None when it is not good enough to tell
    def percent(self):
        count = self._count
        if count < _SAMPLES_MIN or self._ii <= 0 or self._ri <= 0:
            return None
        red = self._reds / count
        infrared = self._infrareds / count
        leak = self._leak
        if leak > _LEAK_MAX * red or leak > _LEAK_MAX * infrared:
            return None
        red -= leak
        infrared -= leak
        slope = self._ri / self._ii
        if (
            slope * self._ri < (1 - _UNEXPLAINED_MAX) * self._rr
            or sqrt(16 * self._ii / count) < _PERFUSION_MIN * infrared
        ):
            return None
        ratio = slope * infrared / red
        a, b, c = self._calibration
        percent = int((a * ratio + b) * ratio + c + 0.5)
        return min(percent, 100) if ratio >= _R_MIN and percent >= _PERCENT_MIN else None
