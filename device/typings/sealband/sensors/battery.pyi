"""Battery voltage by an ADC pin behind a divider, or by the board's power management."""

from collections.abc import Sequence
from types import ModuleType

from board import VoltageSource

from sealband.sensors.base import Sensor

PARTS: Sequence[str]

class BatteryVoltage(Sensor):
    """BATTERY_VOLTAGE in millivolts of the cell, 1000 to 20000."""

    def __init__(self, adc: VoltageSource, divider: float) -> None:
        """The cell.

        Args:
            adc: `board.battery_adc()`.
            divider: `board.BATTERY["divider"]`.
        """

def sensor(board: ModuleType, kept: object = None) -> BatteryVoltage:
    """That of this board, as `part` makes it; SensorError: the board has none."""
