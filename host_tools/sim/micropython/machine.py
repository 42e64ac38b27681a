# `machine` as the ESP32 has it, as far as Sealband uses it. Thin: what the hardware would do happens in the supervisor.
# No pin interrupts and no timers.
import struct
import time

import _link
from _link import call as _call
from micropython import const
from umachine import Signal, idle, soft_reset  # noqa: F401

PWRON_RESET = const(1)
HARD_RESET = const(2)
WDT_RESET = const(3)
DEEPSLEEP_RESET = const(4)
SOFT_RESET = const(5)
PIN_WAKE = EXT0_WAKE = const(2)
EXT1_WAKE = const(3)
TIMER_WAKE = const(4)
_ENODEV = const(19)


def reset_cause():
    return _link.cause


def wake_reason():
    return _link.wake


def unique_id():
    return _link.mac


def reset():
    _call(b"r")


def deepsleep(time_ms=0):
    _call(b"d", struct.pack(">q", time_ms))


def lightsleep(time_ms=0):
    time.sleep_ms(time_ms)


def freq(hz=None):
    if hz is None:
        return 240000000
    if hz not in (20000000, 40000000, 80000000, 160000000, 240000000):
        raise ValueError("frequency must be 20MHz, 40MHz, 80Mhz, 160MHz or 240MHz")


class Pin:
    IN = const(1)
    OUT = const(3)
    OPEN_DRAIN = const(7)
    PULL_DOWN = const(1)
    PULL_UP = const(2)

    def __init__(self, id, mode=-1, pull=-1, value=None):
        if not 0 <= id <= 39:
            raise ValueError("invalid pin")
        self.id = id
        if value is not None:
            self.value(value)

    def value(self, x=None):
        if x is None:
            return _call(b"p", bytes((self.id,)))[0]
        _call(b"q", bytes((self.id, bool(x))))

    __call__ = value

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)


class I2C:
    def __init__(self, id=-1, **pins_and_freq):
        pass

    def scan(self):
        return list(_call(b"a", b"", 112))

    def writeto(self, addr, buf, stop=True):
        _call(b"i", bytes((addr, 0, 0)) + buf)
        return len(buf)

    def readfrom(self, addr, nbytes, stop=True):
        return _call(b"i", struct.pack(">BH", addr, nbytes), nbytes)

    def writeto_mem(self, addr, memaddr, buf, addrsize=8):
        _call(b"i", bytes((addr, 0, 0)) + memaddr.to_bytes(addrsize // 8, "big") + buf)

    def readfrom_mem(self, addr, memaddr, nbytes, addrsize=8):
        head = struct.pack(">BH", addr, nbytes)
        return _call(b"i", head + memaddr.to_bytes(addrsize // 8, "big"), nbytes)

    def readfrom_mem_into(self, addr, memaddr, buf, addrsize=8):
        buf[:] = self.readfrom_mem(addr, memaddr, len(buf), addrsize)


class SPI:
    # only to be handed to the radio's driver, which is simulated at its own API: no part of the simulation speaks SPI
    MSB = const(0)
    LSB = const(1)

    def __init__(self, id=1, baudrate=500000, **settings):
        pass


class ADC:
    ATTN_0DB = const(0)
    ATTN_2_5DB = const(1)
    ATTN_6DB = const(2)
    ATTN_11DB = const(3)

    def __init__(self, pin, atten=0):
        self._pin = bytes((pin.id if isinstance(pin, Pin) else pin,))
        self.atten(atten)

    def atten(self, atten):
        # full scale in microvolts: ESP32 datasheet, ADC characteristics
        self._full_uv = (950000, 1250000, 1750000, 3100000)[atten]

    def read_uv(self):
        return min(struct.unpack(">I", _call(b"v", self._pin))[0], self._full_uv)

    def read_u16(self):
        return self.read_uv() * 65535 // self._full_uv


class RTC:
    def datetime(self, parts=None):
        if parts is None:
            y, mo, d, h, mi, s, wd, _ = time.gmtime()
            return (y, mo, d, wd, h, mi, s, time.time_ns() // 1000 % 1000000)
        y, mo, d, _, h, mi, s, us = parts
        board_ns = time.mktime((y, mo, d, h, mi, s, 0, 0)) * 1000000000 + us * 1000
        _link.rtc0 = time._now() - board_ns
        _call(b"t", struct.pack(">q", _link.rtc0))

    def memory(self, data=None):
        if data is None:
            return _call(b"m", b"", 2048)
        _call(b"n", data)


class WDT:
    def __init__(self, id=0, timeout=5000):
        _call(b"w", struct.pack(">q", timeout))

    def feed(self):
        _call(b"f")


def __getattr__(name):
    # loaded only where there is a modem: on the chip it is C and takes no heap
    if name != "UART":
        raise AttributeError(name)
    import _uart

    return _uart.UART
