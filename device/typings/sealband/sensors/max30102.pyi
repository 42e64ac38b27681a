"""MAX30102, pulse and oxygen saturation. It is no medical device."""

from collections.abc import Callable, Sequence
from types import ModuleType

from board import Bus

from sealband.sensors.base import Sensor

PARTS: Sequence[str]
"""Names in a board definition that this driver serves."""
ADDRESS: int
"""On the I2C bus, unless the board says another."""

class HeartRate(Sensor):
    """HEART_RATE, SPO2, HRV_RMSSD and WEAR_STATE (1 worn, 0 not); None: not good enough to tell."""

    def __init__(
        self,
        i2c: Bus,
        address: int = 0x57,
        sleep_ms: Callable[[int], None] = ...,
        ticks_ms: Callable[[], int] = ...,
        kept: object = None,
        motion: object = None,
        rmssd_every: int = 20,
        calibration: object = None,
    ) -> None:
        """The part.

        Args:
            i2c: `board.i2c()`.
            address: `board.PARTS['MAX30102']`.
            sleep_ms, ticks_ms: for tests.
            kept: what the driver before it left.
            motion: `motion(board)`, so that what moves is not counted as a pulse.
            rmssd_every: each so many readings take long enough for the RMSSD.
            calibration: of SpO2; None: the driver's table.
        """

def sensor(board: ModuleType, kept: object = None, **options: object) -> HeartRate:
    """That of this board, as `part` makes it; SensorError: the board has none."""
