# `machine`: I2C and ADC are answered by the register models of the virtual board, on the other end of the line.
import time

from _wire import answer, answer_into, tell, tell_bytes

PWRON_RESET = 1
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5


def reset_cause():
    return PWRON_RESET


def reset():
    raise SystemExit


class Pin:
    IN = OUT = PULL_UP = PULL_DOWN = 0

    def __init__(self, *args, **settings):
        self._id = args[0] if args else None
        if "value" in settings:
            tell("out", time.now_us, self._id, settings["value"])

    def value(self, *level):
        if not level:
            tell("pin", time.now_us, self._id)
            return int(answer())
        return None


SPI = Pin


class RTC:
    def memory(self, data=None):
        return b""


class ADC:
    ATTN_11DB = 3

    def __init__(self, pin, atten=0):
        pass

    def read_uv(self):
        tell("adc", time.now_us)
        return int(answer())


class I2C(Pin):
    def writeto_mem(self, address, register, data):
        tell_bytes(data, "write", time.now_us, address, register)

    def readfrom_mem_into(self, address, register, buffer):
        tell("read", time.now_us, address, register, len(buffer))
        answer_into(buffer)


class UART(Pin):
    def readinto(self, buffer):
        tell("uart", time.now_us, self._id, len(buffer))
        return answer_into(buffer)

    def deinit(self):
        pass
