"""Steps, activity, movement and falls, by whichever accelerometer the board has."""

from collections.abc import Generator, Iterator, Sequence
from types import ModuleType

from sealband.node import Node
from sealband.sensors.base import Sensor

FALL: int
"""Its event, 1, with the peak in mg and the stillness after it in s."""

class Motion(Sensor):
    """A watcher and a sensor at once: STEPS since the last reading, ACTIVITY (0 still, 1 walking, 2 running, 3 other),
    ACCELERATION_RMS without gravity. Put the same object into `sensors` and `watchers`.
    """

    def __init__(self, board: ModuleType, name: str) -> None:
        """Use `motion(board)`."""

    def watch(self, node: Node) -> Iterator[int]:
        """A generator of pauses in ms, for ever."""

    def arm(self) -> tuple[int, int] | None:
        """Before deep sleep: (pin, level of its interrupt line) to wake on, or None."""

    def woken(self) -> object:
        """Told first after a deep sleep that its pin has ended."""

    def close(self) -> None:
        """The part off."""

    def level(self) -> int | None:
        """How much it moved in the last second, in mg without gravity; None: unknown."""

    def measure(self) -> Generator[int, None, Sequence[int | None]]:
        """Steps since the last reading, what it mostly was since then, and the movement."""

def motion(board: ModuleType) -> Motion | None:
    """That of this board; None: it has no accelerometer that is known."""
