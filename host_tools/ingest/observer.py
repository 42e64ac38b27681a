"""Who wants to know what devices say of their updates and what became of commands: `host_tools.rollout`, as a rule.

Ingest knows no rollouts; whoever runs it passes observers in. They are called inside the transaction that stores the
frames, so what they note is committed with the frames that are the reason for it, or not at all. An observer that
fails is a defect: it is logged and what it wrote is undone, but it costs nobody's readings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from host_tools.ingest.decode import Status, UpdateReport


@dataclass(frozen=True, slots=True)
class Told:
    """A status or an update report that was stored just now.

    Attributes:
        device: primary key of the device that sealed it; nobody else could have.
        epoch, ctr: the frame's number. A device's numbers only go up, so they say which of two messages is newer.
    """

    device: int
    eui: bytes
    epoch: int
    ctr: int
    message: Status | UpdateReport


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that came to an end.

    Attributes:
        command: its primary key.
        device: of the device that it was for.
        code: the receipt's; None when it was sent as often as is allowed and no receipt came.
        kind: type of the downlink message.
    """

    command: int
    device: int
    eui: bytes
    code: int | None
    kind: int = 0


class Observer(Protocol):
    """Told of what concerns updates, in the store's thread."""

    def follow(self, told: Sequence[Told], ended: Sequence[Ended]) -> None:
        """Note what devices said; inside the transaction, before the answers leave."""

    def keep_house(self) -> None:
        """Do what is due by time; about once a minute, outside any transaction."""
