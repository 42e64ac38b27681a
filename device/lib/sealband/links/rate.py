# Data rate and power from what became of frames: margin reports raise the rate and then lower the power, as long as
# enough margin stays; a bad report, or silence, takes one step back: first to full power, then to a slower rate.
# Pure. What a step is worth and how much must stay is LoRaWAN's usual: 3 dB and 10 dB.
from micropython import const

_STEP_DB = const(3)  # a spreading factor is worth 2.5 dB
_KEPT_DB = const(10)  # stays after a step up
_LEAST_DB = const(5)  # less than this: a step back. Between the two nothing changes
_REPORTS = const(3)  # of which the worst counts
_SILENT = const(2)  # exchanges without an answer before a step back,
_SILENT_GOOD = const(8)  # and where the last reports were good: what is lost then is seldom lost to distance
_POWER_MIN_DBM = const(2)


# Before the first report. [spreading factor, dBm, exchanges in silence, reports, dB of the worst of them plus 64]
def begin(sf, power_dbm):
    return [sf, power_dbm, 0, 0, 64]


# A report in dB, or None for an exchange without an answer. Changes the state.
def adapt(state, db, slowest, power_max_dbm):
    sf, power_dbm, silent, reports, worst = state
    if db is None:
        silent += 1
        back = silent >= (_SILENT_GOOD if worst >= 64 + _KEPT_DB else _SILENT)
    else:
        silent = 0
        db = max(0, min(127, db + 64))
        worst = min(worst, db) if reports else db
        reports += 1
        back = db < 64 + _LEAST_DB
        if reports == _REPORTS:
            reports = 0
            while worst >= 64 + _KEPT_DB + _STEP_DB and (sf > 7 or power_dbm > _POWER_MIN_DBM):
                worst -= _STEP_DB
                if sf > 7:
                    sf -= 1
                else:
                    power_dbm = max(_POWER_MIN_DBM, power_dbm - _STEP_DB)
    if back:
        if power_dbm < power_max_dbm:
            power_dbm = min(power_max_dbm, power_dbm + _STEP_DB)
        elif sf < slowest:
            sf += 1
        silent = reports = 0
        worst = 64
    state[:] = [sf, power_dbm, silent, reports, worst]
