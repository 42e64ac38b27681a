# Runs on MicroPython: machine.I2C and machine.ADC whose parts live in the host's process, and a clock that stands still
# between sleeps. See bus.py.
import sys


def _ask(*question):
    print("?" + repr(question))
    answer = eval(sys.stdin.readline())
    if isinstance(answer, int) and answer < 0:
        raise OSError(-answer)
    return answer


class I2C:
    def readfrom_mem_into(self, address, register, buffer):
        buffer[:] = _ask("read", address, register, len(buffer))

    def writeto_mem(self, address, register, data):
        _ask("write", address, bytes((register,)) + bytes(data))


class ADC:
    def __init__(self, pin):
        self._pin = pin

    def read_uv(self):
        return _ask("adc", self._pin)


def sleep_ms(milliseconds):
    _ask("sleep", milliseconds)


def ticks_ms():
    return _ask("ticks")


# the result of a call, or how it failed
def attempt(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
