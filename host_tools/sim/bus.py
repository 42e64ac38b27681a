"""What a simulated part on an I2C bus offers, and how it refuses. The parts are in `host_tools.sim.parts`."""

from typing import Protocol


class Nack(Exception):
    """The part does not acknowledge: the driver on the board gets OSError 19 (ENODEV), as on the ESP32."""


class Part(Protocol):
    """A part on the bus, at register level.

    Attributes:
        address: its 7-bit address.
    """

    address: int

    def write(self, data: bytes) -> None:
        """The bytes that the board wrote to this address; usually a register's number, then its content."""

    def read(self, n: int) -> bytes:
        """The next n bytes that the board reads; Nack if the part does not answer."""
