"""How often a sensor is read."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from sealband.node import Node
from sealband.sensors.base import Sensor

class Watcher(Protocol):
    """Works the whole time while the node is awake. A class of your own with these is one; it inherits nothing.

    One that is to end deep sleep has arm() and woken(), too, as `sealband.sensors.button.Button` has.
    It exists for type checkers only, and cannot be imported on the board.
    """

    records: Sequence[int]
    """Ids of which one needs the wearer's consent for it to run; (): it needs none."""

    def watch(self, node: Node) -> Iterator[int]:
        """A generator of pauses in ms, for ever; may call node.event() and node.pace()."""

    def close(self) -> None:
        """The part off: consent withdrawn, or the node ends. Never raises; watch() may be called anew."""

class Every:
    """A sensor, and the times at which it is read: multiples of the period."""

    def __init__(
        self,
        period_s: int,
        sensor: Sensor | None,
        motion: int | None = None,
        alarm: int | None = None,
        burst: int = 1,
        quiet: bool = True,
    ) -> None:
        """Declare it.

        Args:
            period_s: whole seconds between readings at rest, 1 to 86400.
            sensor: what is read; None: this board has no such part, and it is left out.
            motion: the period while the wearer moves; None: as at rest.
            alarm: the period for ten minutes after an alarm; None: as in motion.
            burst: so many readings one after the other each time, 1 to 60.
            quiet: False: not read in the quiet hours.

        Raises:
            ValueError: a period or burst is not in its range.
        """
