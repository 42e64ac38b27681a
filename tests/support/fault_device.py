# Runs on MicroPython: a bus and an ADC that the host may spoil (faults.py), a clock that moves only while the device
# sleeps or talks to a part, and trials: one measurement by the real sampler each, beside a sensor that is well.
import sys

_US_A_TRANSACTION = 500
us = 0


def sleep_ms(milliseconds):
    global us
    us += milliseconds * 1000


def sleep_us(microseconds):
    global us
    us += microseconds


def ticks_us():
    return us & 0x3FFFFFFF


def ticks_ms():
    return us // 1000 & 0x3FFFFFFF


def ticks_add(ticks, more):
    return (ticks + more) & 0x3FFFFFFF


def ticks_diff(one, other):
    return ((one - other + 0x20000000) & 0x3FFFFFFF) - 0x20000000


def time():
    return us // 1000000


# whatever is imported from here on measures and sleeps in this time, and finds its UART here
sys.modules["time"] = sys.modules["machine"] = sys.modules[__name__]

import sealband  # noqa: E402

_loaded = {}
_once = sealband.once


# Compiling a driver for each measurement would take longer than measuring.
def once(name):
    if name not in _loaded:
        _loaded[name] = _once(name)
    return _loaded[name]


sealband.once = once

from sealband.batch import Batch  # noqa: E402
from sealband.sampler import Every, Sampler  # noqa: E402

_ERRORS = (OSError, ValueError, RuntimeError, MemoryError, TypeError, AttributeError, IndexError)


# What the host says: bytes or a number; or (which error, its arguments), which is raised here.
def _ask(*question):
    global us
    us += _US_A_TRANSACTION
    print("?" + repr(question + (us,)))  # noqa: RUF005 - MicroPython has no other way
    answer = eval(sys.stdin.readline())
    if type(answer) is tuple:
        raise _ERRORS[answer[0]](*answer[1])
    return answer


class I2C:
    def readfrom_mem_into(self, address, register, buffer):
        buffer[:] = _ask("read", address, register, len(buffer))

    def readfrom_mem(self, address, register, count):
        return _ask("read", address, register, count)

    def writeto_mem(self, address, register, data):
        _ask("write", address, bytes((register,)) + bytes(data))


class UART:
    def __init__(self, number, baudrate, tx, rx, rxbuf):
        _ask("uart", "open", baudrate, rxbuf)

    def readinto(self, buffer):
        data = _ask("uart", "read", len(buffer))
        buffer[: len(data)] = data
        return len(data) or None

    def deinit(self):
        _ask("uart", "close")


class ADC:
    def read_uv(self):
        return _ask("adc")


class Board:
    I2C = None
    BATTERY = {"divider": 2.0, "low_mv": 3500, "empty_mv": 3300, "full_mv": 4200}
    PMU = None
    INTERRUPTS = {}
    GNSS = None

    def __init__(self, **parts):
        self.PARTS = parts
        self._adc = ADC()

    def i2c(self):
        return I2C()

    def battery_adc(self):
        return self._adc

    def gnss_power(self, on):
        _ask("pin", 1 if on else 0)


class Trials:
    # sensor: the one that is spoilt; well: the one that is not, whose records are told with 200 added
    def __init__(self, sensor, well, period_s=60):
        well.records = tuple(200 + record for record in well.records)
        self._told = []
        self._period_s = period_s
        self._batch = Batch()
        self.sampler = Sampler(
            [Every(period_s, sensor), Every(period_s, well)], self._batch, lambda *told: self._told.append(told)
        )
        self._t = 1000 * period_s
        self.sampler.start(self._t)

    # So many measurements; before each one the host says what is wrong, and after it hears what became of it.
    def run(self, count):
        global us
        for number in range(count):
            _ask("trial", number)
            errors = self.sampler.errors
            self._told.clear()
            begun = us
            self._t += self._period_s
            escaped = ""
            try:
                waiting = []
                while True:
                    # a sensor that measures alone lets the other begin when it has done
                    waiting += [(us, len(waiting) + i, task) for i, task in enumerate(self.sampler.due(self._t))]
                    if not waiting:
                        break
                    waiting.sort(key=lambda one: one[:2])
                    due, i, task = waiting.pop(0)
                    us = max(us, due)
                    pause_ms = next(task, None)
                    if pause_ms is not None:
                        waiting.append((us + 1000 * pause_ms, i, task))
            except Exception as error:
                escaped = repr(error)
            took_ms = (us - begun) // 1000
            us = max(us, begun + 1000000 * self._period_s)
            told = [(record, value) for record, t, value in self._told]
            _ask("end", number, told, self.sampler.errors - errors, escaped, took_ms)
