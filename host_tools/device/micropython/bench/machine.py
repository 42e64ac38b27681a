# `machine` for a developer's tests: whatever pins are named, what is behind them is sealtest's.
import sealtest

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5


def reset_cause():
    return PWRON_RESET


def unique_id():
    return b"\x02sealt"


def I2C(id=-1, **pins_and_freq):
    return sealtest.bus


class Pin:
    IN, OUT, OPEN_DRAIN = 1, 3, 7
    PULL_DOWN, PULL_UP = 1, 2
    IRQ_RISING, IRQ_FALLING = 1, 2
    WAKE_LOW, WAKE_HIGH = 4, 5

    def __init__(self, id, mode=-1, pull=-1, value=None):
        self.id = id
        if value is not None:
            self.value(value)

    def value(self, x=None):
        if x is None:
            return sealtest.pins.get(self.id, 0)
        sealtest.pins[self.id] = int(bool(x))

    __call__ = value

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def irq(self, handler=None, trigger=3, **more):
        pass


class ADC:
    ATTN_0DB, ATTN_2_5DB, ATTN_6DB, ATTN_11DB = 0, 1, 2, 3

    def __init__(self, pin, atten=0):
        self._pin = pin.id if isinstance(pin, Pin) else pin

    def atten(self, atten):
        pass

    def read_uv(self):
        return sealtest.microvolts.get(self._pin, 0)

    def read_u16(self):
        return min(self.read_uv() * 65535 // 3100000, 65535)


def UART(id, *settings, **more):
    return sealtest.uart
