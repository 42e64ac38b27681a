"""BME280 and BMP280, the air around the wearer."""

from collections.abc import Callable, Sequence
from types import ModuleType

from board import Bus

from sealband.sensors.base import Sensor

PARTS: Sequence[str]
"""Names in a board definition that this driver serves."""
ADDRESS: int
"""On the I2C bus, unless the board says another."""

class Air(Sensor):
    """AMBIENT_TEMPERATURE and PRESSURE, in the records' scales."""

    def __init__(self, i2c: Bus, address: int = 0x76, sleep_ms: Callable[[int], None] = ...) -> None:
        """The part.

        Args:
            i2c: `board.i2c()`.
            address: `board.PARTS['BME280']`.
            sleep_ms: for tests.
        """

def sensor(board: ModuleType, kept: object = None) -> Air:
    """That of this board, as `part` makes it; SensorError: the board has none."""
