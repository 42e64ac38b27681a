"""The envelope: one LoRa frame and its radio figures as they travel over MQTT between gateway bridge and server.

Owns the topics below `sb/v1/` and the CBOR maps in them. It neither opens frames nor speaks MQTT.

An envelope is one CBOR map with text keys, deterministically encoded (RFC 8949 section 4.2.1), of at most
`ENVELOPE_MAX` bytes. Whatever is not exactly that (a missing or unknown key, another type, a value out of range,
a tag, another way to write the same number) is refused: there is one way to write an envelope.
"""

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import cbor2

from sealwire.frame import FRAME_MAX, MTYPE, OVERHEAD

ENVELOPE_MAX = 1_280  # a frame of 255 bytes and everything else at its longest stay well below
CONTEXT_MAX = 128  # what a gateway wants to see again in the answer; theirs have 4 to 16 bytes
ROUTES_MAX = 4
DELAY_MAX_MS = 15_000  # LoRaWAN's longest receive delay

REGIONS = ("EU868", "US915", "AS923", "AU915", "IN865")

# Shared subscriptions: each envelope goes to one of the workers that subscribe (MQTT 5 section 4.8.2)
UPLINK_FILTER = "sb/v1/gw/+/up"
SHARED_UPLINK_FILTER = f"$share/ingest/{UPLINK_FILTER}"
DOWNLINK_FILTER = "sb/v1/gw/+/down"

_GATEWAY = re.compile(r"[0-9a-f]{16}", re.ASCII)
_TOPIC = re.compile(r"sb/v1/gw/([0-9a-f]{16})/(up|down)", re.ASCII)
_DATA_RATE = re.compile(r"SF(5|6|7|8|9|10|11|12)BW(125|250|500)", re.ASCII)
_MTYPE_MASK = 0xE0


class EnvelopeError(Exception):
    """A payload or a topic is not an envelope's. `reason` is one word of a closed list, for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


REASONS = ("size", "cbor", "keys", "type", "range", "frame", "topic")


def uplink_topic(gateway: str) -> str:
    """The topic of frames that this gateway (16 lower-case hex digits) has heard."""
    return f"sb/v1/gw/{checked_gateway(gateway)}/up"


def downlink_topic(gateway: str) -> str:
    """The topic of frames that this gateway (16 lower-case hex digits) shall transmit."""
    return f"sb/v1/gw/{checked_gateway(gateway)}/down"


def gateway_of(topic: str, direction: str) -> str:
    """The gateway that a topic is about.

    Args:
        topic: as the broker gave it.
        direction: "up" or "down".

    Raises:
        EnvelopeError: it is not a topic of that direction.
    """
    match = _TOPIC.fullmatch(topic)
    if match is None or match.group(2) != direction:
        raise EnvelopeError("topic", f"not a gateway's {direction} topic")
    return match.group(1)


def checked_gateway(gateway: object) -> str:
    """`gateway` if it is an EUI-64 in 16 lower-case hex digits, else EnvelopeError."""
    if not isinstance(gateway, str):
        raise EnvelopeError("type", "gateway is not text")
    if _GATEWAY.fullmatch(gateway) is None:
        raise EnvelopeError("range", "gateway is not 16 lower-case hex digits")
    return gateway


def checked_frame(frame: object) -> bytes:
    """`frame` if a Sealband frame could look like that from outside (length and first three bits)."""
    if not isinstance(frame, bytes):
        raise EnvelopeError("type", "frame is not a byte string")
    if not OVERHEAD <= len(frame) <= FRAME_MAX:
        raise EnvelopeError("frame", f"frame of {len(frame)} bytes; {OVERHEAD} to {FRAME_MAX} are possible")
    if frame[0] & _MTYPE_MASK != MTYPE:
        raise EnvelopeError("frame", "frame does not begin with 0b111")
    return frame


def _checked_int(name: str, value: object, least: int, most: int) -> int:
    # bool is an int to Python, but not to CBOR
    if not isinstance(value, int) or isinstance(value, bool):
        raise EnvelopeError("type", f"{name} is not an integer")
    if not least <= value <= most:
        raise EnvelopeError("range", f"{name} is not within {least} to {most}")
    return value


def _checked_number(name: str, value: object, least: float, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise EnvelopeError("type", f"{name} is not a number")
    if not least <= value <= most:  # false for NaN and infinity; an integer may be too large for a float
        raise EnvelopeError("range", f"{name} is not within {least} to {most}")
    return float(value)


def _checked_context(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise EnvelopeError("type", "context is not a byte string")
    if not 1 <= len(value) <= CONTEXT_MAX:
        raise EnvelopeError("range", f"context has {len(value)} bytes; 1 to {CONTEXT_MAX} are possible")
    return value


def _checked_region(value: object) -> str:
    if not isinstance(value, str):
        raise EnvelopeError("type", "region is not text")
    if value not in REGIONS:
        raise EnvelopeError("range", f"region is none of {', '.join(REGIONS)}")
    return value


def _checked_data_rate(value: object) -> str:
    if not isinstance(value, str):
        raise EnvelopeError("type", "data_rate is not text")
    if _DATA_RATE.fullmatch(value) is None:
        raise EnvelopeError("range", "data_rate is not like SF7BW125")
    return value


class _Envelope:
    """What both directions share: the way to and from bytes."""

    __slots__ = ()
    KEYS: ClassVar[frozenset[str]]
    DEPTH: ClassVar[int] = 2

    def to_bytes(self) -> bytes:
        """The CBOR map."""
        return cbor2.dumps({key: _plain(getattr(self, key)) for key in self.KEYS}, canonical=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a payload that anybody may have written.

        Args:
            data: the MQTT payload.

        Raises:
            EnvelopeError: it is not such an envelope; `reason` says in what way.
        """
        envelope = cls(**_decoded_map(data, cls.KEYS, cls.DEPTH))
        if envelope.to_bytes() != data:
            raise EnvelopeError("cbor", "not deterministically encoded, or bytes left over")
        return envelope


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Route):
        return [getattr(value, field.name) for field in fields(Route)]
    return value


def _decoded_map(data: bytes, keys: frozenset[str], depth: int) -> dict[str, Any]:
    if len(data) > ENVELOPE_MAX:
        raise EnvelopeError("size", f"{len(data)} bytes; at most {ENVELOPE_MAX}")
    try:
        value = cbor2.loads(
            data, max_depth=depth, allow_indefinite=False, allow_duplicate_keys=False, strict_hashable_types=True
        )
    except Exception as error:  # a decoder for tags may raise anything
        raise EnvelopeError("cbor", "not one well-formed CBOR map") from error
    if not isinstance(value, dict):
        raise EnvelopeError("cbor", "not a CBOR map")
    if value.keys() != keys:
        raise EnvelopeError("keys", f"keys must be {', '.join(sorted(keys))}")
    return value


@dataclass(frozen=True, slots=True)
class Uplink(_Envelope):
    """A frame that a gateway has heard.

    Attributes:
        frame: the sealed frame, 13 to 255 bytes, first three bits 0b111.
        gateway: the gateway's EUI-64, 16 lower-case hex digits.
        rssi: dBm.
        snr: dB.
        frequency_hz: where it was heard.
        data_rate: "SF7BW125".
        region: one of `REGIONS`: whose rules the gateway stands under.
        context: the gateway's own note of when it heard this; the bridge wants it back in the answer, as it is.
        received_at: the bridge's clock when the gateway told it, Unix seconds.
    """

    frame: bytes
    gateway: str
    rssi: float
    snr: float
    frequency_hz: int
    data_rate: str
    region: str
    context: bytes
    received_at: float

    def __post_init__(self) -> None:
        checked_frame(self.frame)
        checked_gateway(self.gateway)
        object.__setattr__(self, "rssi", _checked_number("rssi", self.rssi, -250, 100))
        object.__setattr__(self, "snr", _checked_number("snr", self.snr, -100, 100))
        _checked_int("frequency_hz", self.frequency_hz, 100_000_000, 3_000_000_000)
        _checked_data_rate(self.data_rate)
        _checked_region(self.region)
        _checked_context(self.context)
        object.__setattr__(self, "received_at", _checked_number("received_at", self.received_at, 0, 2**33))

    @classmethod
    def from_message(cls, topic: str, payload: bytes) -> "Uplink":
        """Read an uplink and check that it lies in its own gateway's topic (which is what a broker's ACL guards).

        Raises:
            EnvelopeError: the topic or the payload is not an uplink's, or they name two gateways.
        """
        gateway = gateway_of(topic, "up")
        uplink = cls.from_bytes(payload)
        if uplink.gateway != gateway:
            raise EnvelopeError("topic", "the envelope names another gateway than its topic")
        return uplink


@dataclass(frozen=True, slots=True)
class Route:
    """One way to transmit a downlink.

    Attributes:
        gateway: by which gateway.
        context: of the uplink as this gateway told it.
        frequency_hz: where.
        data_rate: "SF7BW125".
        power_dbm: radiated power (EIRP), dBm.
        region: whose rules the gateway stands under.
    """

    gateway: str
    context: bytes
    frequency_hz: int
    data_rate: str
    power_dbm: int
    region: str

    def __post_init__(self) -> None:
        checked_gateway(self.gateway)
        _checked_context(self.context)
        _checked_int("frequency_hz", self.frequency_hz, 100_000_000, 3_000_000_000)
        _checked_data_rate(self.data_rate)
        _checked_int("power_dbm", self.power_dbm, -20, 30)
        _checked_region(self.region)


@dataclass(frozen=True, slots=True)
class Downlink(_Envelope):
    """A frame that one of some gateways shall transmit; the topic names the first of them.

    Attributes:
        frame: the sealed frame, 13 to 255 bytes, first three bits 0b111.
        at: when it goes on the air, Unix seconds: until shortly before, another route is worth trying.
        delay_ms: the same by the gateways' clocks: so long after the uplink that the routes' contexts are of.
        routes: 1 to `ROUTES_MAX`, the best one first; the next one is for when the gateway cannot send it.
    """

    frame: bytes
    at: float
    delay_ms: int
    routes: tuple[Route, ...]

    DEPTH: ClassVar[int] = 4

    def __post_init__(self) -> None:
        checked_frame(self.frame)
        object.__setattr__(self, "at", _checked_number("at", self.at, 0, 2**33))
        _checked_int("delay_ms", self.delay_ms, 0, DELAY_MAX_MS)
        if not isinstance(self.routes, list | tuple):
            raise EnvelopeError("type", "routes is not an array")
        if not 1 <= len(self.routes) <= ROUTES_MAX:
            raise EnvelopeError("range", f"{len(self.routes)} routes; 1 to {ROUTES_MAX} are possible")
        object.__setattr__(self, "routes", tuple(_route(route) for route in self.routes))

    @classmethod
    def from_message(cls, topic: str, payload: bytes) -> "Downlink":
        """Read a downlink and check that it lies in the topic of its first gateway.

        Raises:
            EnvelopeError: the topic or the payload is not a downlink's, or they name two gateways.
        """
        gateway = gateway_of(topic, "down")
        downlink = cls.from_bytes(payload)
        if downlink.routes[0].gateway != gateway:
            raise EnvelopeError("topic", "the envelope names another gateway than its topic")
        return downlink


def _route(value: object) -> Route:
    if isinstance(value, Route):
        return value
    if not isinstance(value, list | tuple) or len(value) != len(fields(Route)):
        raise EnvelopeError("type", "a route is not an array of its six items")
    return Route(*value)


Uplink.KEYS = frozenset(field.name for field in fields(Uplink))
Downlink.KEYS = frozenset(field.name for field in fields(Downlink))
