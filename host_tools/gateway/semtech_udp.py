"""The Semtech UDP packet-forwarder protocol: bytes ⇄ dataclasses, for both ends.

Owns the datagrams of Lora-net/packet_forwarder's PROTOCOL.TXT (protocol versions 1 and 2) and their JSON. No socket, no
clock, no state. Everything that comes in may have been written by an enemy: lengths and the first bytes are looked at
before the JSON is; JSON is refused for duplicate keys, NaN, infinity and numbers beyond 64 bits; every field that is
used is checked for type and range. Fields that are not used are let be, since each forwarder adds its own.

One bad packet in a PUSH_DATA does not cost the others: its reason stands in `PushData.refused`.
"""

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

PUSH_DATA, PUSH_ACK, PULL_DATA, PULL_RESP, PULL_ACK, TX_ACK = range(6)
VERSIONS = (1, 2)
DATAGRAM_MAX = 32_768  # what the reference forwarder sends is below 5 KB
SMALL_DATAGRAM_MAX = 1_024  # TX_ACK and PULL_RESP
RXPK_MAX = 64  # packets in one PUSH_DATA
DATA_MAX = 255
VALUES_MAX = 2_048  # in one datagram: RXPK_MAX packets of twice the fields that PROTOCOL.TXT names

TX_ERRORS = frozenset(
    {
        "NONE",
        "TOO_LATE",
        "TOO_EARLY",
        "COLLISION_PACKET",
        "COLLISION_BEACON",
        "TX_FREQ",
        "TX_POWER",
        "GPS_UNLOCKED",
    }
)

_DATA_RATE = re.compile(r"SF(5|6|7|8|9|10|11|12)BW(125|250|500)", re.ASCII)
_CODING_RATE = re.compile(r"4/[5-8]", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}", re.ASCII)
_INT64_DIGITS = 20
_UINT32 = 0xFFFFFFFF

Value = TypeVar("Value")


class DatagramRefused(Exception):
    """Not a datagram of this protocol. `reason` is one word, for counting; no part of the datagram is in the text."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _FieldRefused(Exception):
    """One object in a datagram is not to be used; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Rxpk:
    """A LoRa packet that a gateway has heard.

    Attributes:
        data: its bytes, 1 to 255.
        tmst_us: the gateway's clock at its end, microseconds modulo 2^32.
        frequency_hz: centre frequency.
        data_rate: "SF7BW125".
        rssi: dBm.
        snr: dB.
        coding_rate: "4/5", or "" where the gateway does not say.
    """

    data: bytes
    tmst_us: int
    frequency_hz: int
    data_rate: str
    rssi: float
    snr: float
    coding_rate: str = "4/5"

    def to_json(self) -> dict[str, Any]:
        """As a forwarder sends it."""
        return {
            "tmst": self.tmst_us,
            "chan": 0,
            "rfch": 0,
            "freq": self.frequency_hz / 1e6,
            "stat": 1,
            "modu": "LORA",
            "datr": self.data_rate,
            "codr": self.coding_rate,
            "rssi": round(self.rssi),
            "lsnr": round(self.snr, 1),
            "size": len(self.data),
            "data": base64.b64encode(self.data).decode("ascii"),
        }

    @classmethod
    def _from_json(cls, item: object) -> "Rxpk":
        if not isinstance(item, dict):
            raise _FieldRefused("rxpk")
        crc = _integer(item, "stat", -1, 1)
        if _text(item, "modu") != "LORA":
            raise _FieldRefused("modulation")
        if crc != 1:
            raise _FieldRefused("crc")
        data_rate = _text(item, "datr")
        if _DATA_RATE.fullmatch(data_rate) is None:
            raise _FieldRefused("datr")
        coding_rate = item.get("codr", "")
        return cls(
            _payload(item),
            _integer(item, "tmst", 0, _UINT32),
            _frequency_hz(item),
            data_rate,
            _number(item, "rssi", -250, 100),
            _number(item, "lsnr", -100, 100),
            coding_rate if isinstance(coding_rate, str) and _CODING_RATE.fullmatch(coding_rate) else "",
        )


@dataclass(frozen=True, slots=True)
class Stat:
    """What a gateway says of itself; a count that it leaves out is None.

    Attributes:
        rxnb: packets received.
        rxok: of them with a good CRC.
        rxfw: of them forwarded.
        ackr: percentage of upstream datagrams that were acknowledged.
        dwnb: downlink datagrams received.
        txnb: packets transmitted.
    """

    rxnb: int | None = None
    rxok: int | None = None
    rxfw: int | None = None
    ackr: float | None = None
    dwnb: int | None = None
    txnb: int | None = None

    @classmethod
    def _from_json(cls, item: object) -> "Stat":
        if not isinstance(item, dict):
            raise _FieldRefused("stat")
        counts = {
            name: _integer(item, name, 0, _UINT32)
            for name in ("rxnb", "rxok", "rxfw", "dwnb", "txnb")
            if item.get(name) is not None
        }
        ratio = _number(item, "ackr", 0, 100) if item.get("ackr") is not None else None
        return cls(ackr=ratio, **counts)


@dataclass(frozen=True, slots=True)
class Txpk:
    """A LoRa packet that a gateway shall send.

    Attributes:
        data: its bytes, 1 to 255.
        frequency_hz: centre frequency.
        data_rate: "SF7BW125".
        tmst_us: when, by the gateway's clock modulo 2^32; None: at once, or by GPS time.
        by_gps: at a GPS time (which this project never asks for).
        power_dbm: radiated power.
        coding_rate: "4/5".
        invert_iq: polarity; downlinks are inverted so that only devices hear them.
        preamble_len: symbols.
        crc: with a payload CRC.
    """

    data: bytes
    frequency_hz: int
    data_rate: str
    tmst_us: int | None
    by_gps: bool = False
    power_dbm: int = 14
    coding_rate: str = "4/5"
    invert_iq: bool = True
    preamble_len: int = 8
    crc: bool = True

    def to_json(self) -> dict[str, Any]:
        """As a server sends it."""
        when: dict[str, Any] = {"imme": True} if self.tmst_us is None else {"imme": False, "tmst": self.tmst_us}
        return when | {
            "freq": self.frequency_hz / 1e6,
            "rfch": 0,
            "powe": self.power_dbm,
            "modu": "LORA",
            "datr": self.data_rate,
            "codr": self.coding_rate,
            "ipol": self.invert_iq,
            "prea": self.preamble_len,
            "ncrc": not self.crc,
            "size": len(self.data),
            "data": base64.b64encode(self.data).decode("ascii"),
        }

    @classmethod
    def _from_json(cls, item: object) -> "Txpk":
        if not isinstance(item, dict):
            raise _FieldRefused("txpk")
        if _text(item, "modu") != "LORA":
            raise _FieldRefused("modulation")
        data_rate, coding_rate = _text(item, "datr"), _text(item, "codr")
        if _DATA_RATE.fullmatch(data_rate) is None or _CODING_RATE.fullmatch(coding_rate) is None:
            raise _FieldRefused("datr")
        immediate = _flag(item, "imme")
        timed = not immediate and "tmst" in item
        return cls(
            _payload(item),
            _frequency_hz(item),
            data_rate,
            _integer(item, "tmst", 0, _UINT32) if timed else None,
            not immediate and not timed,
            _integer(item, "powe", -20, 40) if "powe" in item else 14,
            coding_rate,
            _flag(item, "ipol"),
            _integer(item, "prea", 1, 65535) if "prea" in item else 8,
            not _flag(item, "ncrc"),
        )


@dataclass(frozen=True, slots=True)
class Header:
    """What every datagram has.

    Attributes:
        token: two bytes that an acknowledgement repeats.
        version: of the protocol, 1 or 2; a server answers in the version it was asked in.
    """

    token: int
    version: int

    KIND: ClassVar[int]

    def _head(self) -> bytes:
        return struct.pack(">BHB", self.version, self.token, self.KIND)

    def to_bytes(self) -> bytes:
        """The datagram."""
        return self._head()


@dataclass(frozen=True, slots=True)
class PushAck(Header):
    """Server: a PUSH_DATA came."""

    KIND = PUSH_ACK


@dataclass(frozen=True, slots=True)
class PullAck(Header):
    """Server: a PULL_DATA came, the way down is open."""

    KIND = PULL_ACK


@dataclass(frozen=True, slots=True)
class PullResp(Header):
    """Server: send this packet."""

    txpk: Txpk

    KIND = PULL_RESP

    def to_bytes(self) -> bytes:
        """The datagram."""
        return self._head() + _json_bytes({"txpk": self.txpk.to_json()})


@dataclass(frozen=True, slots=True)
class _FromGateway(Header):
    gateway: str  # EUI-64, 16 lower-case hex digits

    def to_bytes(self) -> bytes:
        """The datagram."""
        return self._head() + bytes.fromhex(self.gateway)


@dataclass(frozen=True, slots=True)
class PushData(_FromGateway):
    """Gateway: packets heard, and sometimes its status.

    Attributes:
        received: the packets that can be used.
        refused: for each other one, why, in one word.
        stat: its status, if it sent one.
    """

    received: tuple[Rxpk, ...] = ()
    refused: tuple[str, ...] = ()
    stat: Stat | None = None

    KIND = PUSH_DATA

    def to_bytes(self) -> bytes:
        """The datagram."""
        body: dict[str, Any] = {}
        if self.received:
            body["rxpk"] = [packet.to_json() for packet in self.received]
        if self.stat is not None:
            names = ("rxnb", "rxok", "rxfw", "ackr", "dwnb", "txnb")
            body["stat"] = {name: value for name in names if (value := getattr(self.stat, name)) is not None}
        return self._head() + bytes.fromhex(self.gateway) + _json_bytes(body)


@dataclass(frozen=True, slots=True)
class PullData(_FromGateway):
    """Gateway: downlinks may be sent to where this comes from."""

    KIND = PULL_DATA


@dataclass(frozen=True, slots=True)
class TxAck(_FromGateway):
    """Gateway: what became of a PULL_RESP; `error` is one of `TX_ERRORS`."""

    error: str = "NONE"

    KIND = TX_ACK

    def to_bytes(self) -> bytes:
        """The datagram."""
        return self._head() + bytes.fromhex(self.gateway) + _json_bytes({"txpk_ack": {"error": self.error}})


def sender_of(datagram: bytes) -> str:
    """Which gateway a datagram claims to come from, by its first 12 bytes alone: cheap enough for any flood.

    Raises:
        DatagramRefused: `reason` is "size", "version" or "identifier".
    """
    _header(datagram, (PUSH_DATA, PULL_DATA, TX_ACK), 12)
    return datagram[4:12].hex()


def decode_upstream(datagram: bytes) -> PushData | PullData | TxAck:
    """Read what a gateway sends.

    Raises:
        DatagramRefused: `reason` is "size", "version", "identifier", "json" or "shape".
    """
    version, token, kind = _header(datagram, (PUSH_DATA, PULL_DATA, TX_ACK), 12)
    gateway = datagram[4:12].hex()
    body = datagram[12:]
    if kind == PULL_DATA:
        if body:
            raise DatagramRefused("size", "a PULL_DATA has 12 bytes")
        return PullData(token, version, gateway)
    if kind == TX_ACK:
        return TxAck(token, version, gateway, _tx_error(body))
    root = _json_object(body)
    packets = root.get("rxpk", [])
    if not isinstance(packets, list) or len(packets) > RXPK_MAX:
        raise DatagramRefused("shape", f"rxpk must be an array of at most {RXPK_MAX}")
    if not packets and "stat" not in root:
        raise DatagramRefused("shape", "neither rxpk nor stat")
    received: list[Rxpk] = []
    refused: list[str] = []
    for item in packets:
        _take(Rxpk._from_json, item, received, refused)
    stats: list[Stat] = []
    if "stat" in root:
        _take(Stat._from_json, root["stat"], stats, refused)
    return PushData(token, version, gateway, tuple(received), tuple(refused), stats[0] if stats else None)


def decode_downstream(datagram: bytes) -> PushAck | PullAck | PullResp:
    """Read what a server sends.

    Raises:
        DatagramRefused: `reason` is "size", "version", "identifier", "json" or "shape".
    """
    version, token, kind = _header(datagram, (PUSH_ACK, PULL_ACK, PULL_RESP), 4)
    if kind != PULL_RESP:
        if len(datagram) != 4:
            raise DatagramRefused("size", "an acknowledgement has 4 bytes")
        return PushAck(token, version) if kind == PUSH_ACK else PullAck(token, version)
    try:
        txpk = Txpk._from_json(_json_object(datagram[4:]).get("txpk"))
    except _FieldRefused as refusal:
        raise DatagramRefused("shape", f"txpk: {refusal}") from refusal
    return PullResp(token, version, txpk)


def _header(datagram: bytes, kinds: tuple[int, ...], least: int) -> tuple[int, int, int]:
    if len(datagram) < least:
        raise DatagramRefused("size", f"{len(datagram)} bytes; a header has {least}")
    version, token, kind = struct.unpack_from(">BHB", datagram)
    if version not in VERSIONS:
        raise DatagramRefused("version", "protocol version is neither 1 nor 2")
    if kind not in kinds:
        raise DatagramRefused("identifier", "this identifier does not come from that side")
    if len(datagram) > (DATAGRAM_MAX if kind == PUSH_DATA else SMALL_DATAGRAM_MAX):
        raise DatagramRefused("size", f"{len(datagram)} bytes are too many")
    return version, token, kind


def _tx_error(body: bytes) -> str:
    # "if no JSON is present (empty string), this means that no error occurred"; some send a zero byte
    if not body.strip(b"\0"):
        return "NONE"
    acknowledgement = _json_object(body).get("txpk_ack")
    if not isinstance(acknowledgement, dict):
        raise DatagramRefused("shape", "no txpk_ack")
    # the SX1302's forwarder sends {"warn": "TX_POWER"} where it transmits with another power: that is no error
    error = acknowledgement.get("error", "NONE")
    if not isinstance(error, str) or error not in TX_ERRORS:
        raise DatagramRefused("shape", "unknown error")
    return error


def _json_bytes(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _json_object(data: bytes) -> dict[str, Any]:
    # what is expensive about JSON is the number of its values, not its length
    if sum(map(data.count, (b"{", b"[", b","))) > VALUES_MAX:
        raise DatagramRefused("json", f"more than {VALUES_MAX} values")
    try:
        root = json.loads(
            data.strip(b"\0").decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
            object_pairs_hook=_without_duplicates,
        )
    except (ValueError, RecursionError) as error:
        raise DatagramRefused("json", "not strict JSON") from error
    if not isinstance(root, dict):
        raise DatagramRefused("json", "not a JSON object")
    return root


def _refuse_constant(_: str) -> float:
    raise ValueError("NaN and Infinity are not JSON")


def _bounded_int(digits: str) -> int:
    if len(digits) > _INT64_DIGITS:
        raise ValueError("integer beyond 64 bits")
    return int(digits)


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("number beyond a double")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def _take(parse: Callable[[object], Value], item: object, good: list[Value], refused: list[str]) -> None:
    try:
        good.append(parse(item))
    except _FieldRefused as refusal:
        refused.append(str(refusal))


def _text(item: dict[str, Any], name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise _FieldRefused(name)
    return value


def _flag(item: dict[str, Any], name: str) -> bool:
    value = item.get(name, False)
    if not isinstance(value, bool):
        raise _FieldRefused(name)
    return value


def _integer(item: dict[str, Any], name: str, least: int, most: int) -> int:
    value = item.get(name)
    # bool is an int to Python, but not to JSON
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _FieldRefused(name)
    return value


def _number(item: dict[str, Any], name: str, least: float, most: float) -> float:
    value = item.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise _FieldRefused(name)
    return float(value)


def _frequency_hz(item: dict[str, Any]) -> int:
    return round(_number(item, "freq", 100, 3000) * 1e6)


def _payload(item: dict[str, Any]) -> bytes:
    size = _integer(item, "size", 1, DATA_MAX)
    # PROTOCOL.TXT's own examples mix both alphabets and leave the padding out
    text = _text(item, "data").replace("-", "+").replace("_", "/")
    if len(text) > 4 * (DATA_MAX // 3 + 1) or _BASE64.fullmatch(text) is None:
        raise _FieldRefused("data")
    text = text.rstrip("=")
    try:
        data = binascii.a2b_base64(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise _FieldRefused("data") from error
    if len(data) != size:
        raise _FieldRefused("size")
    return data
