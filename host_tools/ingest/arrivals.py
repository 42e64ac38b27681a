"""What passes between the steps of one batch: what the broker delivered, what looks like a frame, what opened.

Holds no logic beyond that. `intake` makes them, `answers` answers them.
"""

from dataclasses import dataclass

from host_tools.gateway.envelope import Uplink
from host_tools.ingest import store
from host_tools.ingest.chains import Key
from host_tools.ingest.decode import Message
from host_tools.ingest.unseal import Opened
from sealwire.frame import Frame


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message of the broker.

    Attributes:
        at: when it came, Unix seconds.
        redelivered: the broker says that an earlier delivery was never acknowledged.
    """

    topic: str
    payload: bytes
    at: float
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame that looks like one.

    Attributes:
        uplink: how a gateway heard it; None: it came in the device's own topic, or in a courier's.
        eui: whose topic it was.
        courier: who carried it, "" for nobody.
    """

    arrival: Arrival
    frame: bytes
    parts: Frame
    uplink: Uplink | None
    eui: bytes | None
    courier: str = ""

    @property
    def received_at(self) -> float:
        """Unix seconds."""
        # Nothing was heard after it came here: a gateway whose clock is ahead, or that lies, must not set a device's
        # clock or draw all answers to itself.
        return min(self.uplink.received_at, self.arrival.at) if self.uplink else self.arrival.at


@dataclass(frozen=True, slots=True)
class Genuine:
    """A frame that opened."""

    heard: Heard
    key: Key
    opened: Opened
    row: store.Row
    message: Message | None
