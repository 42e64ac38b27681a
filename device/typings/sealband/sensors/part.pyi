"""A sensor whose driver is in the heap only while it measures."""

from types import ModuleType

from sealband.sensors.base import Sensor

class Part(Sensor):
    """What `part` returns."""

def part(name: str, board: ModuleType, **options: object) -> Part | None:
    """The sensor of sealband.sensors.<name>, loaded for each measurement.

    Args:
        name: of the driver's module: "tmp117", "max30205", "max30102", "bme280", "battery", "gnss" …
        board: the module `board`.
        options: of the driver, `motion=` of "max30102" for instance.

    Returns:
        None: this board has no such part. `Every` takes None, so that one app.py serves every board.
    """
