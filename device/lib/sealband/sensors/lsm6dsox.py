# LSM6DSOX, accelerometer (its gyroscope stays off): what is done seldom, loaded for it by motion.py. Section numbers:
# datasheet DS12814; its application note is AN5272.
#
# 52 Hz in low-power mode, +-8 g, into the FIFO (512 words: 9.8 s). Before deep sleep a free fall or an impact is told
# to raise INT1, and the part's own pedometer is switched on; the FIFO goes on filling. A part that is found so has
# slept with us: it is left as it is, since what it holds is the history of the wake-up.
import time

from micropython import const

from sealband.sensors.base import SensorError

_FUNC_CFG_ACCESS = const(0x01)  # section 9.1: 0x80 shows the embedded functions' registers
_FIFO_CTRL3 = const(0x09)
_FIFO_CTRL4 = const(0x0A)
_WHO_AM_I = const(0x0F)
_CTRL1_XL = const(0x10)
_CTRL3_C = const(0x12)
_CTRL6_C = const(0x15)
_CTRL9_XL = const(0x18)
_ALL_INT_SRC = const(0x1A)
_FIFO_STATUS1 = const(0x3A)
_TAP_CFG0 = const(0x56)
_TAP_CFG2 = const(0x58)
_WAKE_UP_THS = const(0x5B)
_WAKE_UP_DUR = const(0x5C)
_FREE_FALL = const(0x5D)
_MD1_CFG = const(0x5E)
_FIFO_TAG = const(0x78)

_ID = const(0x6C)  # section 9.16
_52_HZ_8_G = const(0x3C)  # section 9.17: ODR_XL 0011, FS_XL 11
_SW_RESET = const(0x01)  # section 9.19
_BDU_INC = const(0x44)
_LOW_POWER = const(0x10)  # section 9.22: XL_HM_MODE
_NO_I3C = const(0xE2)  # section 9.25: I3C_disable, the rest as after a reset
_BATCH_52_HZ = const(0x03)  # section 9.9: BDR_XL
_CONTINUOUS = const(0x06)  # section 9.10
_WORDS = const(0x3FF)  # section 9.36: DIFF_FIFO

# sections 9.61 to 9.68; AN5272 5.1 and 5.2
_LATCHED = const(0x41)  # INT_CLR_ON_READ, LIR
_INTERRUPTS = const(0x80)
_WAKE_4_G = const(0x0C)  # 12 of 64 parts of the full scale: half the way from 1 g to 4 g, as the slope filter has it
_FALL_100_MS = const(0x2F)  # five samples below 500 mg on each axis
_ON_INT1 = const(0x30)  # INT1_WU, INT1_FF

# the embedded functions' registers, sections 11.3 and 11.31 to 11.33
_EMB_FUNC_EN_A = const(0x04)
_STEP_COUNTER = const(0x62)
_EMB_FUNC_SRC = const(0x64)
_PEDOMETER = const(0x08)
_RESET_STEPS = const(0x80)


# what is at a register of the embedded functions; with a value, that is written to it first
def _embedded(part, register, value=None):
    part.write_byte(_FUNC_CFG_ACCESS, 0x80)
    try:
        if value is not None:
            part.write_byte(register, value)
        part.read_into(register, part._word)
        return part._word[0] | part._word[1] << 8
    finally:
        part.write_byte(_FUNC_CFG_ACCESS, 0)


# Where the samples are: register and mask of their count, register and length of a word, whether the part counts steps.
def start(part):
    part.write_byte(_FUNC_CFG_ACCESS, 0)  # should that have failed in _embedded(), all other registers are hidden
    part.expect(part.read_byte(_WHO_AM_I), _ID)
    slept = part.read_byte(_TAP_CFG0) == _LATCHED and part.read_byte(_CTRL1_XL) == _52_HZ_8_G
    slept = slept and _embedded(part, _EMB_FUNC_EN_A) & 0xFF == _PEDOMETER
    if slept:
        part.write_byte(_MD1_CFG, 0)
        part.read_byte(_ALL_INT_SRC)
    else:
        _begin(part)
    return (_FIFO_STATUS1, _WORDS, _FIFO_TAG, 7, slept)


def _begin(part):
    part.write_byte(_CTRL3_C, _SW_RESET)
    for _ in range(10):
        time.sleep_ms(1)
        if not part.read_byte(_CTRL3_C) & _SW_RESET:
            break
    else:
        raise SensorError("LSM6DSOX does not come out of reset")
    part.write_byte(_CTRL3_C, _BDU_INC)
    part.write_byte(_CTRL9_XL, _NO_I3C)
    part.write_byte(_CTRL6_C, _LOW_POWER)
    part.write_byte(_FIFO_CTRL3, _BATCH_52_HZ)
    part.write_byte(_CTRL1_XL, _52_HZ_8_G)
    part.write_byte(_FIFO_CTRL4, _CONTINUOUS)
    if part.read_byte(_CTRL1_XL) != _52_HZ_8_G or part.read_byte(_FIFO_CTRL4) != _CONTINUOUS:
        raise SensorError("LSM6DSOX does not take its settings")


# steps since it was asked last
def steps(part):
    count = _embedded(part, _STEP_COUNTER)
    _embedded(part, _EMB_FUNC_SRC, _RESET_STEPS)
    return count


# The pin that a fall raises and its level; None: no pin is wired. Steps are counted all the same.
def arm(part, pin):
    part.expect(part.read_byte(_WHO_AM_I), _ID)
    if part.read_byte(_CTRL1_XL) != _52_HZ_8_G:
        return None  # it is off: nobody has consented
    if _embedded(part, _EMB_FUNC_EN_A) & 0xFF != _PEDOMETER:
        _embedded(part, _EMB_FUNC_EN_A, _PEDOMETER)
        _embedded(part, _EMB_FUNC_SRC, _RESET_STEPS)
    part.write_byte(_WAKE_UP_THS, _WAKE_4_G)
    part.write_byte(_WAKE_UP_DUR, 0)
    part.write_byte(_FREE_FALL, _FALL_100_MS)
    part.write_byte(_TAP_CFG0, _LATCHED)
    part.write_byte(_TAP_CFG2, _INTERRUPTS)
    part.write_byte(_MD1_CFG, 0 if pin is None else _ON_INT1)
    part.read_byte(_ALL_INT_SRC)
    return None if pin is None else (pin, 1)


def stop(part):
    _embedded(part, _EMB_FUNC_EN_A, 0)
    part.write_byte(_MD1_CFG, 0)
    part.write_byte(_TAP_CFG0, 0)
    part.write_byte(_FIFO_CTRL4, 0)
    part.write_byte(_CTRL1_XL, 0)
