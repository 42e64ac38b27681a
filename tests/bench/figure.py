"""One measured figure beside its limit: what every benchmark returns and the table shows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A figure, measured in one process or one run beside its yardstick.

    Attributes:
        name: what was measured, a ratio wherever it is about time.
        value: the measured number.
        limit: at most this (or at least, if `at_least`); None: reported only.
        unit: "" for a ratio.
        note: what a reader must know to believe it (sizes, broker, runs).
    """

    name: str
    value: float
    limit: float | None = None
    at_least: bool = False
    unit: str = ""
    note: str = ""

    @property
    def kept(self) -> bool:
        """Whether the figure is on the right side of its limit."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit
