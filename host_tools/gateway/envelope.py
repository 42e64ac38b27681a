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

ENVELOPE_MAX = 640  # a frame of 255 bytes and everything else at its longest stay well below

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

    def to_bytes(self) -> bytes:
        """The CBOR map."""
        return cbor2.dumps({key: getattr(self, key) for key in self.KEYS}, canonical=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a payload that anybody may have written.

        Args:
            data: the MQTT payload.

        Raises:
            EnvelopeError: it is not such an envelope; `reason` says in what way.
        """
        envelope = cls(**_decoded_map(data, cls.KEYS))
        if envelope.to_bytes() != data:
            raise EnvelopeError("cbor", "not deterministically encoded, or bytes left over")
        return envelope


def _decoded_map(data: bytes, keys: frozenset[str]) -> dict[str, Any]:
    if len(data) > ENVELOPE_MAX:
        raise EnvelopeError("size", f"{len(data)} bytes; at most {ENVELOPE_MAX}")
    try:
        value = cbor2.loads(
            data, max_depth=2, allow_indefinite=False, allow_duplicate_keys=False, strict_hashable_types=True
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
        tmst_us: the gateway's own clock at the end of the packet, microseconds modulo 2^32.
        received_at: the bridge's clock when the gateway told it, Unix seconds.
    """

    frame: bytes
    gateway: str
    rssi: float
    snr: float
    frequency_hz: int
    data_rate: str
    tmst_us: int
    received_at: float

    def __post_init__(self) -> None:
        checked_frame(self.frame)
        checked_gateway(self.gateway)
        object.__setattr__(self, "rssi", _checked_number("rssi", self.rssi, -250, 100))
        object.__setattr__(self, "snr", _checked_number("snr", self.snr, -100, 100))
        _checked_int("frequency_hz", self.frequency_hz, 100_000_000, 3_000_000_000)
        _checked_data_rate(self.data_rate)
        _checked_int("tmst_us", self.tmst_us, 0, 0xFFFFFFFF)
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
class Downlink(_Envelope):
    """A frame that a gateway shall transmit; the topic says which gateway.

    Attributes:
        frame: the sealed frame, 13 to 255 bytes, first three bits 0b111.
        tmst_us: when, by that gateway's own clock, microseconds modulo 2^32 (the uplink's plus the receive delay).
        frequency_hz: where.
        data_rate: "SF7BW125".
        power_dbm: radiated power, dBm.
    """

    frame: bytes
    tmst_us: int
    frequency_hz: int
    data_rate: str
    power_dbm: int

    def __post_init__(self) -> None:
        checked_frame(self.frame)
        _checked_int("tmst_us", self.tmst_us, 0, 0xFFFFFFFF)
        _checked_int("frequency_hz", self.frequency_hz, 100_000_000, 3_000_000_000)
        _checked_data_rate(self.data_rate)
        _checked_int("power_dbm", self.power_dbm, -20, 30)


Uplink.KEYS = frozenset(field.name for field in fields(Uplink))
Downlink.KEYS = frozenset(field.name for field in fields(Downlink))
