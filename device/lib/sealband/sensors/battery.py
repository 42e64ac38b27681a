# Battery voltage by an ADC pin behind a resistor divider.
from micropython import const

from sealband.sensors.base import Sensor, SensorError
from sealwire.recordids import BATTERY_VOLTAGE

PARTS = ()  # none by name: sensor() sees what there is
_READS = const(5)
# less is no battery (or no divider), more is no single or double cell
_MV_MIN = const(1000)
_MV_MAX = const(20000)


class BatteryVoltage(Sensor):
    records = (BATTERY_VOLTAGE,)
    read_ms = 5

    # adc: board.battery_adc(), divider: board.BATTERY["divider"]
    def __init__(self, adc, divider):
        self._adc = adc
        self._divider = divider

    # millivolts of the cell: the median, since the radio's current pulls single readings down
    def read(self):
        try:
            reads = sorted(self._adc.read_uv() for _ in range(_READS))
        except (OSError, ValueError) as error:
            raise SensorError("battery ADC does not answer: %r" % error)
        millivolts = int(reads[_READS // 2] * self._divider / 1000 + 0.5)
        if not _MV_MIN <= millivolts <= _MV_MAX:
            raise SensorError("battery reads %d mV" % millivolts)
        return (millivolts,)


# whichever the board has: an ADC pin, or the PMU's own converter
def sensor(board, kept=None):
    if not board.BATTERY:
        raise SensorError("no battery")
    return BatteryVoltage(board.battery_adc(), board.BATTERY["divider"])
