# BME280 and BMP280, pressure and temperature of the air, by forced conversions. Section numbers: BMP280 datasheet
# BST-BMP280-DS001-23, with which the BME280's (BST-BME280-DS001-23) agrees as far as this goes. Humidity, which only
# the BME280 has, is not read: the wire has no record for it.
import struct
import time

from micropython import const

from sealband.sensors.base import Registers, Sensor, SensorError
from sealwire.recordids import AMBIENT_TEMPERATURE, PRESSURE

PARTS = ("BME280", "BMP280")
ADDRESS = const(0x76)  # section 5.2: SDO to ground

# section 4.2, memory map
_CALIBRATION = const(0x88)
_ID = const(0xD0)
_RESET = const(0xE0)
_STATUS = const(0xF3)
_CONTROL = const(0xF4)
_DATA = const(0xF7)  # pressure, then temperature: 20 bits each, from the top

_BME280 = const(0x60)
_BMP280 = const(0x58)
_RESET_WORD = const(0xB6)  # section 4.3.2
_COPYING = const(0x01)  # section 4.3.3: the calibration is being copied from NVM
# section 4.3.4: temperature once, pressure four times, forced mode
_FORCED = const(0x2D)
_MODE = const(0x03)
_START_MS = const(3)  # section 1, table 2: 2 ms
_CONVERSION_MS = const(14)  # section 3.8.1, the same figures: 1.25 + 2.3 + (4 * 2.3 + 0.575) ms
_POLLS = const(5)
_SKIPPED = const(0x80000)  # section 4.3.6: what stands there until something was measured


class Air(Sensor):
    records = (AMBIENT_TEMPERATURE, PRESSURE)
    read_ms = 40

    def __init__(self, i2c, address=ADDRESS, sleep_ms=time.sleep_ms):
        self._part = Registers(i2c, address, "BME280")
        self._sleep_ms = sleep_ms
        self._digs = None

    # a reset, so that nothing old can be taken for new; then the part's own constants (section 3.11.2)
    def start(self):
        part = self._part
        if part.read_byte(_ID) != _BMP280:
            part.expect(part.read_byte(_ID), _BME280)
        part.write_byte(_RESET, _RESET_WORD)
        for _ in range(_POLLS):
            self._sleep_ms(_START_MS)
            if not part.read_byte(_STATUS) & _COPYING:
                break
        else:
            raise SensorError("BME280 does not come out of reset")
        self._digs = struct.unpack("<HhhHhhhhhhhh", self._twice(_CALIBRATION, 24))
        if self._digs[0] in (0, 0xFFFF) or self._digs[3] in (0, 0xFFFF):
            raise SensorError("BME280 has no calibration")

    # The bus has no checksum: what is read twice and the same is likely to be true.
    def _twice(self, register, count):
        one, other = bytearray(count), bytearray(count)
        self._part.read_into(register, one)
        self._part.read_into(register, other)
        if one != other:
            raise SensorError("BME280 tells two things")
        return one

    # tenths of a degree Celsius, tenths of a hectopascal
    def read(self):
        part = self._part
        part.write_byte(_CONTROL, _FORCED)
        for _ in range(_POLLS):
            self._sleep_ms(_CONVERSION_MS)
            # section 3.6.2: after a forced conversion it goes to sleep by itself
            if part.read_byte(_CONTROL) == _FORCED & ~_MODE:
                break
        else:
            raise SensorError("BME280 does not convert")
        data = self._twice(_DATA, 6)
        raw_p = (data[0] << 16 | data[1] << 8 | data[2]) >> 4
        raw_t = (data[3] << 16 | data[4] << 8 | data[5]) >> 4
        if raw_p == _SKIPPED or raw_t == _SKIPPED:
            raise SensorError("BME280 has not measured")
        centi, pascal = compensate(self._digs, raw_t, raw_p)
        # what it is specified for (section 1): -40 to 85 Cel, 300 to 1100 hPa
        if not (-4000 <= centi <= 8500 and 30000 << 8 <= pascal <= 110000 << 8):
            raise SensorError("BME280 reads %d, %d" % (centi, pascal >> 8))
        return (centi + 5) // 10, (pascal + 1280) // 2560

    def stop(self):
        try:
            self._part.write_byte(_CONTROL, 0)
        except SensorError:
            pass


# Section 3.11.3: hundredths of a degree Celsius and 256ths of a pascal from the part's twelve constants and what its
# converter told. Integers of any length, so the formula for 64 bits holds everywhere.
def compensate(digs, raw_t, raw_p):
    t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9 = digs
    away = (raw_t >> 4) - t1
    fine = (((raw_t >> 3) - (t1 << 1)) * t2 >> 11) + ((away * away >> 12) * t3 >> 14)
    x = fine - 128000
    offset = x * x * p6 + (x * p5 << 17) + (p4 << 35)
    gain = ((1 << 47) + (x * x * p3 >> 8) + (x * p2 << 12)) * p1 >> 33
    if gain <= 0:
        raise SensorError("BME280 has no calibration")
    p = (((1048576 - raw_p) << 31) - offset) * 3125 // gain
    half = p >> 13
    return fine * 5 + 128 >> 8, (p + (p9 * half * half >> 25) + (p8 * p >> 19) >> 8) + (p7 << 4)


def sensor(board, kept=None):
    for name in PARTS:
        if name in board.PARTS:
            return Air(board.i2c(), board.PARTS[name])
    raise SensorError("no BME280")
