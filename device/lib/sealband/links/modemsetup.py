# What a module keeps or is told before it looks for a network: radio access, bands, APN, power saving. Loaded by lte.py
# while it is needed. Section numbers are of 3GPP TS 27.007 unless they say more.
from micropython import const

from sealband.links.base import LinkError
from sealband.links.modem import checked, entry

_ANSWER_MS = const(5000)
_SLOW_MS = const(10000)  # CFUN, CGDCONT
# TS 24.008 10.5.7.4a (T3412 extended) and 10.5.7.3 (T3324): seconds, and what stands in bits 8 to 6
_TAU = (2, 3, 30, 4, 60, 5, 600, 0, 3600, 1, 36000, 2, 1152000, 6)
_ACTIVE = (2, 0, 60, 1, 360, 2)


# The timer that is at least so long, eight binary digits; the longest there is if none is.
def timer(seconds, units):
    for at in range(0, len(units), 2):
        count = min(31, (seconds + units[at] - 1) // units[at])
        if count < 31 or count * units[at] >= seconds:
            break
    return "{:08b}".format(units[at + 1] << 5 | count)


# The longest eDRX cycle that is not longer, of those that Cat-M and NB-IoT both have (TS 24.008 10.5.5.32): 20.48 s and
# 40.96 s are 2 and 3, 81.92 s is 5, 163.84 s and its doubles up to 10485.76 s are 9 to 15.
def cycle(seconds):
    code, length = 2, 4096
    for following in b"\3\5\x09\x0a\x0b\x0c\x0d\x0e\x0f":
        if seconds * 100 < length:
            break
        code, length = following, length * 2
    return "{:04b}".format(code)


# A setting that the module keeps: written only where it differs, for its flash's sake. Whether it was.
def _set(modem, read, prefix, value, write):
    try:
        held = yield from modem.ask(read, _ANSWER_MS, prefix)
    except LinkError as error:
        if error.args[-1] is None:
            raise
        held = ""
    if held == value or held.startswith(value + ","):
        return False
    yield from modem.ask(write, _SLOW_MS)
    return True


def _choose(modem, table, rat, bands, apn):
    changed = False
    read, prefix, write = entry(table, "setting")
    if rat:
        wanted = entry(table, "rat " + rat)
        if not wanted:
            raise LinkError("the modem has no %s" % rat)
        for at in range(0, len(wanted), 2):
            name, value = wanted[at : at + 2]
            changed |= yield from _set(modem, read % name, prefix % name, value, write % (name, value))
    if bands:
        mask = entry(table, "band mask")
        if mask:
            name, number = mask[0], 0
            for band in bands:
                number |= 1 << band - 1
            held = (yield from modem.ask(read % name, _ANSWER_MS, prefix % name)).split(",")
            if held[1:3] != ["0x%x" % number] * 2:
                yield from modem.ask(write % (name, "0,%x,%x" % (number, number)), _SLOW_MS)
                changed = True
        names = entry(table, "band list")
        if not mask and not names:
            raise LinkError("the modem's bands cannot be chosen")
        text = str(bands).strip("(,)").replace(" ", "")
        for name in names:
            name = '"%s",' % name
            changed |= yield from _set(
                modem, "+CBANDCFG?", "+CBANDCFG: " + name, text, "+CBANDCFG=" + name + checked(text, ",", 1, 80)
            )
    if apn:
        context = '"IP","%s"' % checked(apn, "-._", 1, 100)  # 10.1.1; an APN's form: TS 23.003 9.1
        changed |= yield from _set(modem, "+CGDCONT?", "+CGDCONT: 1,", context, "+CGDCONT=1," + context)
    if changed:
        # for the new ones to count: the radio off and on (8.2); 4 leaves the SIM its power, so that it stays unlocked
        yield from modem.ask("+CFUN=4", _SLOW_MS)
        yield from modem.ask("+CFUN=1", _SLOW_MS)


# What a module may refuse: that is no reason to stay offline.
def _attempt(modem, text):
    try:
        yield from modem.ask(text)
    except LinkError as error:
        if error.args[-1] is None:
            raise


def run(modem, bearer, table, apn):
    for text in entry(table, "begin"):
        yield from _attempt(modem, text)
    yield from _choose(modem, table, bearer.rat, bearer.bands, apn)
    if bearer.psm:
        timers = (timer(bearer.psm[0], _TAU), timer(bearer.psm[1], _ACTIVE))
        yield from _attempt(modem, '+CPSMS=1,,,"%s","%s"' % timers)  # 7.38
    if bearer.edrx_s:
        kind = 5 if bearer.rat == "nb-iot" else 4
        yield from _attempt(modem, '+CEDRXS=1,%d,"%s"' % (kind, cycle(bearer.edrx_s)))  # 7.40
