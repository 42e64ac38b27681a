# TMP117, digital thermometer: skin temperature by one-shot conversions. Section numbers: datasheet SNOSD82D.
import time

from micropython import const

from sealband.sensors.base import Registers, Sensor, SensorError
from sealwire.recordids import SKIN_TEMPERATURE

PARTS = ("TMP117",)
ADDRESS = const(0x48)  # section 7.5.3.1.2, ADD0 to ground

_TEMPERATURE = const(0x00)  # section 7.6, register map
_CONFIGURATION = const(0x01)
_DEVICE_ID = const(0x0F)
_ID = const(0x0117)

# section 7.6.2: MOD[1:0] in bits 11:10, AVG[1:0] in bits 6:5, Data_Ready in bit 13
_ONE_SHOT_8_AVERAGED = const(0x0C20)
_SHUTDOWN = const(0x0400)
_MODE = const(0x0C00)
_READY = const(0x2000)

_CONVERSION_MS = const(130)  # section 7.3.2: eight conversions of 15.5 ms
_POLL_MS = const(20)
_POLLS = const(10)
_NO_RESULT = const(-0x8000)  # section 7.3.3: until the first conversion after a reset

# in the part's own unit: -40 to 85 Cel. It is specified for more (section 6.3); a wearer and a cell are not.
_RAW_MIN = const(-40 * 128)
_RAW_MAX = const(85 * 128)


class SkinTemperature(Sensor):
    records = (SKIN_TEMPERATURE,)
    read_ms = 400

    def __init__(self, i2c, address=ADDRESS, sleep_ms=time.sleep_ms):
        self._part = Registers(i2c, address, "TMP117")
        self._sleep_ms = sleep_ms

    # check that it is the right part, and end the continuous conversions that it wakes up with
    def start(self):
        self._part.expect(self._part.read_word(_DEVICE_ID) & 0x0FFF, _ID)
        self._part.write_word(_CONFIGURATION, _SHUTDOWN)
        if self._part.read_word(_CONFIGURATION) & _MODE != _SHUTDOWN:
            raise SensorError("TMP117 does not take its settings")

    # hundredths of a degree Celsius
    def read(self):
        part = self._part
        part.write_word(_CONFIGURATION, _ONE_SHOT_8_AVERAGED)
        self._sleep_ms(_CONVERSION_MS)
        for _ in range(_POLLS):
            # after a one-shot conversion it shuts down by itself (section 7.4.3); a line stuck high looks ready too
            if part.read_word(_CONFIGURATION) & (_MODE | _READY) == _SHUTDOWN | _READY:
                break
            self._sleep_ms(_POLL_MS)
        else:
            raise SensorError("TMP117 does not convert")
        raw = part.read_word(_TEMPERATURE)
        # the bus has no checksum: what it tells twice, and it still knows its name, is likely to be the temperature
        if part.read_word(_TEMPERATURE) != raw:
            raise SensorError("TMP117 tells two temperatures")
        part.expect(part.read_word(_DEVICE_ID) & 0x0FFF, _ID)
        if raw & 0x8000:
            raw -= 0x10000
        if raw == _NO_RESULT or not _RAW_MIN <= raw <= _RAW_MAX:
            raise SensorError("TMP117 reads %d, outside its range" % raw)
        # 7.8125 mCel = 25/32 of a hundredth
        return ((raw * 25 + 16) >> 5,)

    def stop(self):
        try:
            self._part.write_word(_CONFIGURATION, _SHUTDOWN)
        except SensorError:
            pass


def sensor(board, kept=None):
    if PARTS[0] not in board.PARTS:
        raise SensorError("no TMP117")
    return SkinTemperature(board.i2c(), board.PARTS[PARTS[0]])
