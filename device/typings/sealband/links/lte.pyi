"""A cellular modem for `Mqtt`."""

from collections.abc import Callable, Sequence
from types import ModuleType

class LteBearer:
    """The board's modem, at the access point that the station has written down."""

    name: str
    signal_dbm: int | None

    def __init__(
        self,
        board: ModuleType,
        rat: str | None = None,
        bands: Sequence[int] = (),
        psm: tuple[int, int] | None = None,
        edrx_s: float = 0,
        wait_s: int = 180,
        urc: Callable[[str], object] | None = None,
        store: object = None,
        ticks_ms: Callable[[], int] = ...,
    ) -> None:
        """The bearer.

        Args:
            board: the module `board`; its MODEM says where.
            rat: "cat-m" or "nb-iot"; None: what the modem finds.
            bands: numbers of bands; (): all.
            psm: seconds of power saving mode, (periodic update, active); None: without.
            edrx_s: seconds of extended DRX; 0: without.
            wait_s: so many seconds are waited for a network.
            urc: told each line that the modem says by itself.
            store, ticks_ms: for tests.
        """
