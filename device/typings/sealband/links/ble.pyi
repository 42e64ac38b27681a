"""Bluetooth: a phone that comes by, a listener."""

from sealband.node import Node

class Ble:
    """Put it into `listeners`."""

    name: str
    visits: int
    errors: int

    def __init__(
        self,
        interval_ms: int = 1000,
        name_ms: int = 600000,
        handshake_ms: int = 5000,
        idle_ms: int = 10000,
        visit_ms: int = 180000,
    ) -> None:
        """The listener.

        Args:
            interval_ms: between two advertisements.
            name_ms: the name that it advertises lasts so long.
            handshake_ms, idle_ms, visit_ms: longest handshake, silence and visit.
        """

    async def serve(self, node: Node) -> None:
        """Advertise and serve visits, for ever."""
