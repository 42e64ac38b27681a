"""LoRa, by the region of the board."""

from collections.abc import Callable
from types import ModuleType

from sealband.links.base import Link

class LoRa(Link):
    """A link to LoRa gateways."""

    name: str
    region: str
    """EU868, IN865, AS923, US915 or AU915."""
    rssi: int | None
    """Of the last frame that was heard, in dBm."""

    def __init__(
        self,
        board: ModuleType,
        make: Callable[..., object] = ...,
        ticks_ms: Callable[[], int] = ...,
        grade: int = 1,
    ) -> None:
        """The board's radio.

        Args:
            board: the module `board`.
            make, ticks_ms: for tests.
            grade: 0 free to 9 dear.

        Raises:
            LinkError: the board has no radio for a region.
        """
