"""What an application declares: which sensors how often, what is watched, and over which links it speaks.

`app.py` has a function `build(board)` that returns an `App`; `board` is the module `board`.
"""

from collections.abc import Callable, Iterable, Sequence
from types import ModuleType

from sealband.links.base import Link
from sealband.node import Node
from sealband.sampler import Every as Every
from sealband.sampler import Watcher
from sealband.sensors import button as _button
from sealband.sensors.motion import Motion
from sealband.sensors.part import part as part

__all__ = ("App", "Button", "Every", "motion", "part")

def motion(board: ModuleType) -> Motion | None:
    """The board's accelerometer, a sensor and a watcher at once; None: it has none that is known."""

def Button(board: ModuleType) -> _button.Button | None:
    """The SOS button, a watcher; None: the board has none."""

class App:
    """What runs on the board."""

    def __init__(
        self,
        sensors: Iterable[Every],
        links: Iterable[Link],
        send_every_s: int = 600,
        status_every_s: int = 86400,
        spreading_factor: int = 7,
        deep_sleep: bool = False,
        watchdog_s: int | None = None,
        on_sample: Callable[[Node, int, int, int], object] | None = None,
        echo: bool = True,
        listeners: Sequence[object] = (),
        patience_s: int = 3600,
        ask_first: bool = False,
        watchers: Iterable[Watcher | None] = (),
    ) -> None:
        """Declare it; nothing runs yet.

        Args:
            sensors: what is read, and how often. One whose sensor is None is left out: the board has no such part.
            links: ways to the server, in any order; `grade` says how dear each is.
            send_every_s: seconds between two frames of telemetry, 10 to 86400, until the server says another.
            status_every_s: seconds between two statuses, 60 to 604800, until the server says another.
            spreading_factor: of LoRa, 7 to 12, until the server says another.
            deep_sleep: sleep deeply between wakes; each wake starts the board anew.
            watchdog_s: reset the board when nothing goes on for so many seconds; None: no watchdog.
            on_sample: told (node, record id, time in seconds since 2025, unscaled value) of each value.
            echo: print the log on the serial port.
            listeners: coroutines beside the work, each `await listener.serve(node)`; not with deep_sleep.
            patience_s: so many seconds telemetry waits for the cheapest link before it takes a dearer one.
            ask_first: sample nothing before the server has said what the wearer agrees to.
            watchers: what works all the time, a button for instance; None is left out.

        Raises:
            ValueError: two sensors give one record, or a value is not in its range.
        """
