"""MQTT over TLS, over a bearer: Wi-Fi or LTE."""

from types import ModuleType

from sealband.links.base import Link

class Mqtt(Link):
    """A link to the broker that the station has written down."""

    name: str

    def __init__(
        self, board: ModuleType, bearer: object, grade: int | None = None, ntp: tuple[str, int] = ("pool.ntp.org", 123)
    ) -> None:
        """The link.

        Args:
            board: the module `board`.
            bearer: `WifiBearer()` or `LteBearer(board)`.
            grade: 0 free to 9 dear; None: the bearer's own, 0 for Wi-Fi, 3 for LTE.
            ntp: host and port of a time server.
        """
