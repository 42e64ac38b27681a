"""TMP117, skin temperature."""

from collections.abc import Callable, Sequence
from types import ModuleType

from board import Bus

from sealband.sensors.base import Sensor

PARTS: Sequence[str]
"""Names in a board definition that this driver serves."""
ADDRESS: int
"""On the I2C bus, unless the board says another."""

class SkinTemperature(Sensor):
    """SKIN_TEMPERATURE in hundredths of a degree Celsius, -5500 to 15000. It is no medical device."""

    def __init__(self, i2c: Bus, address: int = 0x48, sleep_ms: Callable[[int], None] = ...) -> None:
        """The part.

        Args:
            i2c: `board.i2c()`.
            address: `board.PARTS['TMP117']`.
            sleep_ms: for tests.
        """

def sensor(board: ModuleType, kept: object = None) -> SkinTemperature:
    """That of this board, as `part` makes it; SensorError: the board has none."""
