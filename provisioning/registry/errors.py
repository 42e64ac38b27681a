"""What the registry's services refuse with, and how they tell the time. Decides nothing."""

import datetime
from collections.abc import Callable

Clock = Callable[[], float]  # Unix seconds


class RegistryError(Exception):
    """The registry cannot do it; the message says why."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def moment(clock: Clock) -> datetime.datetime:
    """The time, aware, in UTC."""
    return datetime.datetime.fromtimestamp(clock(), datetime.UTC)
