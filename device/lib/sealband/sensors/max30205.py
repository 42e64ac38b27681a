# MAX30205, clinical thermometer: skin temperature by one-shot conversions. Quoted names: datasheet 19-8505 Rev 0.
#
# It has no identity register and no flag that says "done". So it is known by what it keeps: all 16 bits of a limit,
# where an LM75 and its relatives keep 9 to 12 ("Temperature, THYST and TOS Register Definition"). And a value that is
# the same to the last of its 256ths many times in a row is not measured any more.
import time

from micropython import const

from sealband.sensors.base import Registers, Sensor, SensorError
from sealwire.recordids import SKIN_TEMPERATURE

PARTS = ("MAX30205",)
ADDRESS = const(0x48)  # "Slave Address", A2, A1, A0 to ground

# "Internal Registers"
_TEMPERATURE = const(0x00)
_CONFIGURATION = const(0x01)
_HYSTERESIS = const(0x02)
# "Configuration Register": D7 starts a conversion and reads 0, D0 is shutdown
_ONE_SHOT = const(0x81)
_SHUTDOWN = const(0x01)
# 75 Cel as after power-up, and a pattern below it; the OS output, which alone looks at it, is not connected
_MARK = const(0x4BA5)

_CONVERSION_MS = const(55)  # "Electrical Characteristics": at most 50 ms
_RAW_MAX = const(50 * 256)  # what it is specified for: 0 to 50 Cel
_SAME_MAX = const(6)


class SkinTemperature(Sensor):
    records = (SKIN_TEMPERATURE,)
    read_ms = 60

    def __init__(self, i2c, address=ADDRESS, kept=None, sleep_ms=time.sleep_ms):
        self._part = Registers(i2c, address, "MAX30205")
        self._sleep_ms = sleep_ms
        self.kept = kept  # the newest raw value, and how often it was the same

    def start(self):
        part = self._part
        self.kept = self.kept or (0, 0)
        part.write_byte(_CONFIGURATION, _SHUTDOWN)
        part.write_word(_HYSTERESIS, _MARK)
        self._known()

    # The mark is there, and the configuration, one byte, is told again as the second of two.
    def _known(self):
        part = self._part
        part.expect(part.read_word(_HYSTERESIS), _MARK)
        part.expect(part.read_word(_CONFIGURATION), _SHUTDOWN << 8 | _SHUTDOWN)

    # hundredths of a degree Celsius
    def read(self):
        part = self._part
        part.write_byte(_CONFIGURATION, _ONE_SHOT)
        self._sleep_ms(_CONVERSION_MS)
        raw = part.read_word(_TEMPERATURE)
        # the bus has no checksum, and a part that was without power in between has lost its mark
        if part.read_word(_TEMPERATURE) != raw:
            raise SensorError("MAX30205 tells two temperatures")
        self._known()
        last, same = self.kept
        same = same + 1 if raw == last else 0
        self.kept = raw, same
        # after power-up it reads 0 until the first conversion
        if not 0 < raw <= _RAW_MAX or same > _SAME_MAX:
            raise SensorError("MAX30205 reads %d" % raw)
        # 1/256 Cel = 25/64 of a hundredth
        return ((raw * 25 + 32) >> 6,)

    def stop(self):
        try:
            self._part.write_byte(_CONFIGURATION, _SHUTDOWN)
        except SensorError:
            pass


def sensor(board, kept=None):
    if PARTS[0] not in board.PARTS:
        raise SensorError("no MAX30205")
    return SkinTemperature(board.i2c(), board.PARTS[PARTS[0]], kept)
