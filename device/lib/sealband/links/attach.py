# From an unlocked SIM to IP: radio, network, its time, PPP. Each step is a generator of pauses in ms, bounded in time.
# Loaded by lte.py while it is needed. Section numbers are of 3GPP TS 27.007 unless they say more.
import time

from micropython import const

from sealband.links.base import LinkError
from sealband.links.modem import checked, entry

_ANSWER_MS = const(5000)
_SLOW_MS = const(10000)  # CFUN, CGDCONT
_DIAL_MS = const(60000)
_PPP_MS = const(30000)
_PPP_POLL_MS = const(100)
_REGISTER_POLL_MS = const(2000)
_DENIALS = const(10)  # a network that refused may be followed by one that does not
_MISSES = const(4)
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


# Seconds since 2025-01-01 UTC of "yy/MM/dd,hh:mm:ss+zz" (8.9; Quectel's year has four digits), zz in quarters of an
# hour; None for what is no time from 2025 to 2069, such as that of a clock that was never set.
def network_time(text, utc):
    try:
        date, clock = text.strip('"').split(",")[:2]
        year, month, day = map(int, date.split("/"))
        hour, minute, second = map(int, clock[:8].split(":"))
        zone = 0 if utc or len(clock) < 9 else int(clock[8:])
    except ValueError:
        return None
    year %= 100
    if not (25 <= year < 70 and 0 < month < 13 and 0 < day < 32 and 0 <= hour < 24 and 0 <= minute < 60):
        return None
    if not 0 <= second < 61 or not -56 <= zone <= 56:
        return None
    # the day of the year, by the known formula
    day += 275 * month // 9 - (2 if year % 4 else 1) * ((month + 9) // 12) - 31
    days = (year - 25) * 365 + (year - 25) // 4 + day
    return max(0, ((days * 24 + hour) * 60 + minute - 15 * zone) * 60 + second)


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


# <stat> of "+CEREG: <n>,<stat>[,...]", or of "+CEREG: <stat>[,...]", which comes by itself (10.1.22)
def status(text):
    fields = text.split(",")
    for field in fields[1:2] + fields[:1]:
        if field.isdigit():
            return int(field[:4])
    return 0


# Home or roaming (1, 5), within the time.
def _register(modem, wait_ms, ticks_ms):
    began = ticks_ms()
    denied = missed = 0
    while time.ticks_diff(ticks_ms(), began) < wait_ms:
        for name in ("+CEREG", "+CGREG"):
            try:
                stat = status((yield from modem.ask(name + "?", _ANSWER_MS, name + ":")))
            except LinkError:
                missed += 1
                if missed > _MISSES:
                    raise
                continue
            if stat in (1, 5):
                return
            denied += stat == 3
        if denied >= _DENIALS:
            raise LinkError("the network refuses the SIM")
        yield _REGISTER_POLL_MS
    raise LinkError("no network")


# PPP in either form: from MicroPython 1.26, and before.
def _connect(bearer, uart, user, password):
    import network

    bearer.ppp = ppp = network.PPP(uart)
    more = {}
    if hasattr(ppp, "SEC_PAP"):
        if user:
            more = {"security": ppp.SEC_PAP, "user": user, "key": password}
    else:
        ppp.active(True)
        if user:
            more = {"authmode": ppp.AUTH_PAP, "username": user, "password": password}
    ppp.connect(**more)
    began = bearer.ticks_ms()
    while not ppp.isconnected():
        if time.ticks_diff(bearer.ticks_ms(), began) >= _PPP_MS:
            raise LinkError("PPP does not come up")
        yield _PPP_POLL_MS


def run(bearer, modem, table, uart, cellular):
    for text in entry(table, "begin"):
        yield from _attempt(modem, text)
    yield from _choose(modem, table, bearer.rat, bearer.bands, cellular[0])
    if bearer.psm:
        timers = (timer(bearer.psm[0], _TAU), timer(bearer.psm[1], _ACTIVE))
        yield from _attempt(modem, '+CPSMS=1,,,"%s","%s"' % timers)  # 7.38
    if bearer.edrx_s:
        kind = 5 if bearer.rat == "nb-iot" else 4
        yield from _attempt(modem, '+CEDRXS=1,%d,"%s"' % (kind, cycle(bearer.edrx_s)))  # 7.40
    yield from _register(modem, bearer.wait_s * 1000, bearer.ticks_ms)
    try:
        level = status((yield from modem.ask("+CSQ", _ANSWER_MS, "+CSQ:")).split(",")[0])  # 8.5
        bearer.signal_dbm = 2 * level - 113 if level < 32 else None
        clock = entry(table, "clock")
        t = network_time((yield from modem.ask(clock[0], _ANSWER_MS, clock[1])), len(clock) > 2)
        if t:
            bearer.told = (t, bearer.ticks_ms())
    except LinkError:
        pass
    yield from modem.ask("D*99#", _DIAL_MS, done="CONNECT")
    yield from _connect(bearer, uart, cellular[2], cellular[3])
