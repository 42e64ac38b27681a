# BMA423, accelerometer: what is done seldom, loaded for it by motion.py. Section numbers: datasheet BST-BMA423-DS000.
#
# Its step counter and its motion interrupts are run by a program of the maker's that the host has to load at each
# start; we have none. So it is a plain accelerometer: 50 Hz, +-8 g, its FIFO without headers (170 samples, 3.4 s).
# Nothing of it wakes a board, and in deep sleep nobody counts steps or sees a fall.
import time

from micropython import const

from sealband.sensors.base import SensorError

_CHIP_ID = const(0x00)
_FIFO_LENGTH = const(0x24)
_FIFO_DATA = const(0x26)
_ACC_CONF = const(0x40)
_ACC_RANGE = const(0x41)
_FIFO_CONFIG_0 = const(0x48)
_FIFO_CONFIG_1 = const(0x49)
_PWR_CONF = const(0x7C)
_PWR_CTRL = const(0x7D)
_CMD = const(0x7E)

_ID = const(0x13)
_50_HZ = const(0xA7)  # "ACC_CONF": performance mode, bandwidth normal, ODR 50 Hz
_8_G = const(0x02)
_STREAM = const(0x00)  # "FIFO_CONFIG_0": overwrite the oldest, no sensor time
_ACC_NO_HEADER = const(0x40)  # "FIFO_CONFIG_1"
_BYTES = const(0x3FFF)  # "FIFO_LENGTH_1"
_ACC_EN = const(0x04)  # "PWR_CTRL"
_SOFT_RESET = const(0xB6)
_FLUSH = const(0xB0)


# Where the samples are: register and mask of their length, register and length of a sample; it counts no steps.
def start(part):
    part.expect(part.read_byte(_CHIP_ID), _ID)
    try:
        part.write_byte(_CMD, _SOFT_RESET)
    except SensorError:
        pass  # it may reset before it acknowledges
    time.sleep_ms(5)
    part.expect(part.read_byte(_CHIP_ID), _ID)
    # section 4.3: without advanced power saving, in which the FIFO is not read; writes then need no pause of 1 ms
    part.write_byte(_PWR_CONF, 0)
    time.sleep_ms(1)
    part.write_byte(_ACC_CONF, _50_HZ)
    part.write_byte(_ACC_RANGE, _8_G)
    part.write_byte(_FIFO_CONFIG_0, _STREAM)
    part.write_byte(_FIFO_CONFIG_1, _ACC_NO_HEADER)
    part.write_byte(_PWR_CTRL, _ACC_EN)
    part.write_byte(_CMD, _FLUSH)
    if part.read_byte(_ACC_CONF) != _50_HZ or part.read_byte(_FIFO_CONFIG_1) != _ACC_NO_HEADER:
        raise SensorError("BMA423 does not take its settings")
    return (_FIFO_LENGTH, _BYTES, _FIFO_DATA, 6, False)


def arm(part, pin):
    stop(part)


def stop(part):
    part.write_byte(_PWR_CTRL, 0)
    part.write_byte(_PWR_CONF, 0x03)
