# `time` as the ESP32 has it, in the simulation's virtual time: epoch 2000, ticks of 30 bits that start at boot.
import _link
from utime import gmtime as _gmtime
from utime import mktime as _mktime
from utime import sleep as _sleep
from utime import time_ns as _time_ns

_UNIX_2000 = 946684800
_TICKS_MASK = 0x3FFFFFFF
_TICKS_HALF = 0x20000000
_real0 = _link.real0
_virtual0 = _link.virtual0
_num = _link.num
_den = _link.den


def _now():
    # virtual Unix time in nanoseconds; the host's wall clock is what all processes of a simulation share
    return _virtual0 + (_time_ns() - _real0) * _num // _den


_boot = _now()


def _ticks_ms_at(now):
    return (now - _boot) // 1000000 & _TICKS_MASK


def ticks_ms():
    return (_now() - _boot) // 1000000 & _TICKS_MASK


def ticks_us():
    return (_now() - _boot) // 1000 & _TICKS_MASK


def ticks_add(ticks, delta):
    return (ticks + delta) & _TICKS_MASK


def ticks_diff(end, start):
    return ((end - start + _TICKS_HALF) & _TICKS_MASK) - _TICKS_HALF


def sleep(seconds):
    if seconds > 0:
        _sleep(seconds * _den / _num)


def sleep_ms(ms):
    if ms > 0:
        _sleep(ms * _den / _num / 1000)


def sleep_us(us):
    if us > 0:
        _sleep(us * _den / _num / 1000000)


def time_ns():
    return _now() - _link.rtc0


def time():
    return (_now() - _link.rtc0) // 1000000000


def gmtime(seconds=None):
    return _gmtime((time() if seconds is None else int(seconds)) + _UNIX_2000)[:8]


localtime = gmtime  # the chip knows no time zones


def mktime(parts):
    return int(_mktime(parts)) - _UNIX_2000
