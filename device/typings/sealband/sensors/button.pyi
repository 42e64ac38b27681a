"""The SOS button."""

from collections.abc import Iterator, Sequence
from types import ModuleType

from sealband.node import Node

SOS: int
"""Its event, 2."""

class Button:
    """A watcher: held for three seconds it is event 2."""

    records: Sequence[int]

    def __init__(self, board: ModuleType, pin: object = None) -> None:
        """The button of the board.

        Args:
            board: the module `board`; its BUTTON says which pin.
            pin: another `machine.Pin`, for tests.
        """

    def watch(self, node: Node) -> Iterator[int]:
        """A generator of pauses in ms, for ever."""

    def arm(self) -> tuple[int, int] | None:
        """Before deep sleep: (pin, level of a pressed one) to wake on, or None."""

    def woken(self) -> object:
        """Told first after a deep sleep that its pin has ended."""

    def close(self) -> None:
        """Nothing to switch off."""
