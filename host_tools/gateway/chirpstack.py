"""ChirpStack's gateway protocol: MQTT payloads ⇄ dataclasses. Pure: no MQTT, no clock, no state.

ChirpStack's Gateway Bridge (Basics Station, Semtech UDP), MQTT Forwarder and Concentratord publish to
`<prefix>/gateway/<id>/event/<up|stats|ack>` and obey `<prefix>/gateway/<id>/command/down`; before version 4 there was
no prefix. Payloads are gw.proto's messages, as protobuf or as its JSON mapping, whatever the gateway is set to: which
one it is shows in its first byte, and the answer is in the same. Sources: chirpstack.io/docs, "Gateway Bridge",
payloads; gw.proto of PyPI's chirpstack-api, which also reads and writes the bytes.

Whoever may publish as a gateway may be an enemy: size and number of values are looked at first, then every field that
is used is checked for its range. Fields that are not used, and those that later versions add, are let be.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from host_tools.gateway.envelope import Route

PAYLOAD_MAX = 16_384  # a stats event of a busy gateway has some KB, everything else less than one
VALUES_MAX = 2_048
PROTOBUF, JSON = 1, 2  # first byte of a context of ours
CONTEXT_MAX = 64  # of a gateway: Concentratord and UDP have 4 bytes, Basics Station 16
DATA_MAX = 255

REASONS = ("size", "protobuf", "json", "v3", "gateway", "crc", "modulation", "range", "data", "status")

_GATEWAY = r"([0-9a-f]{16})"
_PREFIX = re.compile(r"[A-Za-z0-9_\-]{1,32}", re.ASCII)
_CRC_BAD = 1
_ACK_OK, _ACK_IGNORED = 1, 0
_CODE_RATE_4_5 = 1

Message = TypeVar("Message")


class EventRefused(Exception):
    """Not an event that can be used. `reason` is one of `REASONS`; no part of the payload is in the text."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class NotInstalled(Exception):
    """chirpstack-api is not there; `remedy` says what to do."""

    remedy = "pip install 'sealband[chirpstack]'"


@dataclass(frozen=True, slots=True)
class Heard:
    """A LoRa packet that a gateway has heard.

    Attributes:
        data: its bytes, 1 to 255.
        context: encoding, board, antenna and ChirpStack's own context, for `encode_downlink`.
    """

    data: bytes
    rssi: float
    snr: float
    frequency_hz: int
    data_rate: str
    context: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """What became of a downlink; `error` is "NONE" or a name of gw.proto's TxAckStatus."""

    downlink_id: int
    error: str


@dataclass(frozen=True, slots=True)
class Stats:
    """What a gateway says of itself."""

    received: int
    received_ok: int
    transmitted: int


def checked_prefix(prefix: str) -> str:
    """`prefix` if a topic can begin with it; "" for none. Raises ValueError."""
    if prefix and _PREFIX.fullmatch(prefix) is None:
        raise ValueError("a topic prefix has letters, digits, - and _")
    return prefix


def filters(prefix: str) -> list[str]:
    """The topics to subscribe to."""
    return [f"{_base(prefix)}gateway/+/event/{event}" for event in ("up", "stats", "ack")]


def command_topic(prefix: str, gateway: str) -> str:
    """Where a gateway takes downlinks from."""
    return f"{_base(prefix)}gateway/{gateway}/command/down"


def event_of(topic: str, prefixes: tuple[str, ...]) -> tuple[str, str, str]:
    """(prefix, gateway, event) of a topic; EventRefused "gateway" if it is none of theirs."""
    for prefix in prefixes:
        match = re.fullmatch(rf"{re.escape(_base(prefix))}gateway/{_GATEWAY}/event/(up|stats|ack)", topic, re.ASCII)
        if match:
            return prefix, match.group(1), match.group(2)
    raise EventRefused("gateway", "not a gateway's event topic")


def region_of(prefix: str, default: str) -> str:
    """The region that a prefix is ChirpStack's name of: "eu868", "us915_0", "as923_2"; `default` for others."""
    name = prefix.partition("_")[0].upper()
    return name if name in ("EU868", "US915", "AS923", "AU915", "IN865") else default


def decode_uplink(gateway: str, payload: bytes) -> Heard:
    """Read an `up` event.

    Args:
        gateway: whose topic it came in.

    Raises:
        EventRefused: it is not a LoRa packet that this gateway heard well.
    """
    event, encoding = _read("UplinkFrame", payload)
    if event.HasField("rx_info_legacy") and not event.HasField("rx_info"):
        raise EventRefused("v3", "an event of ChirpStack 3")
    rx, modulation = event.rx_info, event.tx_info.modulation
    _same_gateway(gateway, rx.gateway_id)
    # a gateway that says nothing of the CRC (older ones, and those in the documentation) does not forward bad ones
    if rx.crc_status == _CRC_BAD:
        raise EventRefused("crc", "the packet's CRC is wrong")
    if modulation.WhichOneof("parameters") != "lora":
        raise EventRefused("modulation", "not LoRa")
    lora = modulation.lora
    if lora.bandwidth not in (125_000, 250_000, 500_000) or not 5 <= lora.spreading_factor <= 12:
        raise EventRefused("modulation", "no data rate of ours")
    if not 100_000_000 <= event.tx_info.frequency <= 3_000_000_000:
        raise EventRefused("range", "frequency")
    if not (-250 <= rx.rssi <= 100 and -100 <= rx.snr <= 100):  # false for NaN, too
        raise EventRefused("range", "rssi or snr")
    if not 1 <= len(event.phy_payload) <= DATA_MAX:
        raise EventRefused("data", f"{len(event.phy_payload)} bytes")
    if len(rx.context) > CONTEXT_MAX or rx.board > 255 or rx.antenna > 255:
        raise EventRefused("range", "context, board or antenna")
    return Heard(
        data=bytes(event.phy_payload),
        rssi=float(rx.rssi),
        snr=float(rx.snr),
        frequency_hz=event.tx_info.frequency,
        data_rate=f"SF{lora.spreading_factor}BW{lora.bandwidth // 1000}",
        context=bytes((encoding, rx.board, rx.antenna)) + bytes(rx.context),
    )


def decode_ack(gateway: str, payload: bytes) -> Ack:
    """Read an `ack` event; EventRefused if it is none of this gateway."""
    event, _ = _read("DownlinkTxAck", payload)
    if event.downlink_id_legacy and not event.downlink_id:
        raise EventRefused("v3", "an event of ChirpStack 3")
    _same_gateway(gateway, event.gateway_id)
    # one for each item of the command; what follows one that was sent is "ignored"
    statuses = [item.status for item in event.items]
    if not statuses:
        raise EventRefused("status", "no item")
    if _ACK_OK in statuses:
        return Ack(event.downlink_id, "NONE")
    status = next((status for status in statuses if status != _ACK_IGNORED), _ACK_IGNORED)
    names = _gw().TxAckStatus
    if status not in names.values():
        raise EventRefused("status", "unknown status")
    return Ack(event.downlink_id, names.Name(status))


def decode_stats(gateway: str, payload: bytes) -> Stats:
    """Read a `stats` event; EventRefused if it is none of this gateway."""
    event, _ = _read("GatewayStats", payload)
    if event.gateway_id_legacy and not event.gateway_id:
        raise EventRefused("v3", "an event of ChirpStack 3")
    _same_gateway(gateway, event.gateway_id)
    return Stats(event.rx_packets_received, event.rx_packets_received_ok, event.tx_packets_emitted)


def is_context(context: bytes) -> bool:
    """Whether this is a context of `decode_uplink`, and one that can be answered."""
    return len(context) > 3 and context[0] in (PROTOBUF, JSON)


def encode_downlink(route: Route, frame: bytes, delay_ms: int, downlink_id: int) -> bytes:
    """A `down` command: send this `delay_ms` after the uplink that the route's context is of.

    Args:
        route: its context satisfies `is_context`.
        downlink_id: 1 to 2^32 - 1; the `ack` event repeats it.
    """
    gw = _gw()
    command = gw.DownlinkFrame(downlink_id=downlink_id, gateway_id=route.gateway)
    item = command.items.add(phy_payload=frame)
    info = item.tx_info
    info.frequency, info.power = route.frequency_hz, route.power_dbm
    spreading_factor, _, bandwidth_khz = route.data_rate.removeprefix("SF").partition("BW")
    lora = info.modulation.lora
    lora.bandwidth, lora.spreading_factor = 1000 * int(bandwidth_khz), int(spreading_factor)
    lora.code_rate, lora.polarization_inversion = _CODE_RATE_4_5, True
    encoding, info.board, info.antenna, info.context = (*route.context[:3], route.context[3:])
    info.timing.delay.delay.FromMilliseconds(delay_ms)
    if encoding == JSON:
        from google.protobuf import json_format

        return str(json_format.MessageToJson(command, indent=None)).encode("ascii")
    return bytes(command.SerializeToString())


def _base(prefix: str) -> str:
    return f"{prefix}/" if prefix else ""


@functools.cache
def _gw() -> Any:
    try:
        # of all that chirpstack-api brings, this loads protobuf only
        from chirpstack_api.gw import gw_pb2
    except ImportError as error:
        raise NotInstalled("the library for ChirpStack's messages is not installed") from error
    return gw_pb2


def check_installed() -> None:
    """Raise NotInstalled if messages cannot be read."""
    _gw()


def _same_gateway(topic: str, told: str) -> None:
    if told.lower() != topic:
        raise EventRefused("gateway", "the event names another gateway than its topic")


def _read(name: str, payload: bytes) -> tuple[Any, int]:
    """The message and how it was encoded. No message of protobuf begins as JSON does: 0x7b would be a group."""
    if len(payload) > PAYLOAD_MAX:
        raise EventRefused("size", f"{len(payload)} bytes; at most {PAYLOAD_MAX}")
    message = getattr(_gw(), name)()
    if payload[:1] == b"{":
        _read_json(message, payload)
        return message, JSON
    try:
        message.ParseFromString(payload)
    except Exception as error:  # DecodeError; what else a version of the library raises is no reason to stop
        raise EventRefused("protobuf", "not the message of this event") from error
    return message, PROTOBUF


def _read_json(message: Any, payload: bytes) -> None:
    from google.protobuf import json_format

    # what is expensive about JSON is the number of its values, not its length
    if sum(map(payload.count, (b"{", b"[", b","))) > VALUES_MAX:
        raise EventRefused("json", f"more than {VALUES_MAX} values")
    try:
        json_format.Parse(payload.decode("utf-8"), message, ignore_unknown_fields=True, max_recursion_depth=16)
    except (Exception, RecursionError) as error:  # as above; the JSON decoder has more ways to fail
        raise EventRefused("json", "not the message of this event") from error
