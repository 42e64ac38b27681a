# From a module that looks for its network to IP: registration, time, PPP. Each step is a generator of pauses in ms and
# bounded in time. Loaded by lte.py while it is needed. Section numbers are of 3GPP TS 27.007 unless they say more.
import time

from micropython import const

from sealband.links.base import LinkError
from sealband.links.modem import entry

_ANSWER_MS = const(5000)
_DIAL_MS = const(60000)
_PPP_MS = const(30000)
_PPP_POLL_MS = const(100)
_REGISTER_POLL_MS = const(2000)
_DENIALS = const(10)  # a network that refused may be followed by one that does not
_MISSES = const(4)


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


def run(modem, bearer, table, uart, user, password):
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
    yield from _connect(bearer, uart, user, password)
