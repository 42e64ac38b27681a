# Oxygen saturation by the ratio of ratios: samples of red and infrared in, percent or None out. Owns no part. No
# medical device: the curve is that of another device; every product must measure its own against blood gas analysis.
#
#     R = (AC red / DC red) / (AC infrared / DC infrared)
#     saturation = a R^2 + b R + c
#
# a, b, c: Maxim's example for a MAX30101 without cover glass, application note 6845 "Guidelines for SpO2 Measurement
# Using the Maxim MAX32664 Sensor Hub": R 0.4 is 99 %, 0.5 96 %, 0.7 89 %, 1.0 80 %, 1.3 70 %.
# The ratio of the ACs is the slope of red over infrared in the pulse's band, so that noise of the red LED falls out.
from micropython import const

_SAMPLES_MIN = const(150)  # six seconds in one piece
_SAMPLES_MAX = const(200)
_PERCENT_MIN = const(70)  # nobody calibrates below


class Ratio:
    # band: a band-pass for red; leak: what the photodiode sees with the LED dark; calibration: (a, b, c)
    def __init__(self, band, leak, calibration=None):
        self._how = band, leak, calibration or (1.5958422, -34.6596622, 112.6898759)
        self._sums = [0] * 6

    # one sample of each, and what passed the filter of infrared's, turned over; None: not settled
    def add(self, red, infrared, beat):
        sums = self._sums
        other = self._how[0].step(-red)
        if beat is None:
            for i in range(6):
                sums[i] = 0
        elif sums[0] < _SAMPLES_MAX:
            sums[0] += 1
            sums[1] += red
            sums[2] += infrared
            # by 16, so that a window's sums are small integers up to a perfusion of 10 %
            sums[3] += (other * other + 8) >> 4
            sums[4] += (other * beat + 8) >> 4
            sums[5] += (beat * beat + 8) >> 4

    # percent, or None when it is not good enough to tell
    def percent(self):
        count, red, infrared, rr, ri, ii = self._sums
        if count < _SAMPLES_MIN or ri <= 0 or ii <= 0:
            return None
        _, leak, (a, b, c) = self._how
        red /= count
        infrared /= count
        # light that leaks in is taken off up to a fifth
        if leak * 5 > red or leak * 5 > infrared:
            return None
        red -= leak
        infrared -= leak
        # more than a tenth of red's pulse that infrared does not explain is movement or noise
        slope = ri / ii
        if slope * ri * 10 < 9 * rr:
            return None
        # an effective value of the pulse below 1/2000 of the light is none
        if 6.4e7 * ii / count < infrared * infrared:
            return None
        ratio = slope * infrared / red
        percent = int((a * ratio + b) * ratio + c + 0.5)
        # R below 0.3 is no blood
        return min(percent, 100) if ratio >= 0.3 and percent >= _PERCENT_MIN else None
