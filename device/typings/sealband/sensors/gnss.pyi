"""Position by a satellite receiver on a UART."""

from collections.abc import Sequence
from types import ModuleType

from sealband.config import Config
from sealband.sensors.base import Sensor

PARTS: Sequence[str]

class Position(Sensor):
    """LATITUDE, LONGITUDE and ALTITUDE in the records' scales, coarsened to `position_cell_m`."""

    settings: Config | None

    def __init__(self, board: ModuleType, kept: object = None) -> None:
        """The receiver of the board.

        Args:
            board: the module `board`; its GNSS says where.
            kept: what the driver before it left.
        """

def coarsen(latitude: int, longitude: int, cell_m: int) -> tuple[int, int]:
    """The centre of the cell of a fixed grid in which a place lies.

    Args:
        latitude: in 1e-5 degrees.
        longitude: in 1e-5 degrees.
        cell_m: edge of a cell in metres, 0 to 100000; 0: as measured.
    """

def sensor(board: ModuleType, kept: object = None) -> Position:
    """That of this board, as `part` makes it; SensorError: the board has none."""
