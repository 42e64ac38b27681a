"""What a courier needs of a radio, and the names by which the parts know each other. `radio` and `wire_air` are two.

A radio finds devices by the service they advertise, and connects to one. It knows no label.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Seen:
    """A device in reach.

    Attributes:
        address: what `Air.connect` takes; it changes with each name.
        pseudonym: the name that it goes by now.
        rssi: dBm, None where the radio does not tell.
    """

    address: str
    pseudonym: bytes
    rssi: int | None = None


class Connection(Protocol):
    """A connection to one device, subscribed to what it notifies.

    Attributes:
        value_max: bytes that one value may have, in both directions.
    """

    value_max: int

    async def write(self, value: bytes) -> None:
        """Write one value, acknowledged; raises VisitEnded."""

    async def read(self) -> bytes:
        """The next value that was notified; raises VisitEnded when the device is gone."""

    async def close(self) -> None:
        """Disconnect; raises nothing."""


class Air(Protocol):
    """A radio."""

    async def scan(self, seconds: float) -> list[Seen]:
        """Who is in reach; raises CourierError when there is no radio."""

    async def connect(self, address: str) -> Connection:
        """Connect to one that was seen; raises VisitEnded."""
