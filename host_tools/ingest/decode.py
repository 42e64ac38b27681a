"""Uplink plaintexts: the bytes that were sealed in a frame become one typed message, or an error. Pure.

An authenticated plaintext is still input: the device may be broken or captured. So the bytes are walked once and held
against the small part of CBOR that the wire format uses (RFC 8949: definite lengths, integers, strings, arrays, maps,
null and booleans; no tags, no floats, little depth) before the CBOR library sees them, and what it makes of them must
encode to the same bytes again (section 4.2.1, deterministic encoding). Ranges are checked last.

Scaling, names and units are not applied here: `host_tools.ingest.readings`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cbor2

from sealwire import messages, names
from sealwire.frame import CTR_MAX, FRAME_MAX, OVERHEAD
from sealwire.records import RECORD_MAX

PLAINTEXT_MAX = FRAME_MAX - OVERHEAD
DEPTH_MAX = 3
TIME_MAX_S = 2**32 - 1  # until 2161
INTERVAL_MAX_S = 7 * 86400
# what JSON readers and spreadsheets hold exactly
VALUE_MAX = 2**53 - 1
EVENT_MAX = 255
EVENT_VALUES_MAX = 16
CODE_MAX = 255
STATUS_KEY_MAX = 255
RUNNING_LEN = 8
CHARGE_PART_MAX = 255

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_ARGUMENT_LEN = {24: 1, 25: 2, 26: 4, 27: 8}
_FALSE, _TRUE, _NULL = 20, 21, 22


class MessageError(Exception):
    """A plaintext is not a message of this version."""


@dataclass(frozen=True, slots=True)
class Series:
    """Samples of one record, evenly spaced.

    Attributes:
        record: id, 1 to 255; see `sealwire.records`.
        interval_s: seconds between samples; 0 only for a single sample.
        values: unscaled; None where the device has no sample.
    """

    record: int
    interval_s: int
    values: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Series that begin at the same time.

    Attributes:
        t0: seconds since 2025-01-01 UTC.
    """

    TYPE: ClassVar[int] = messages.TELEMETRY
    t0: int
    series: tuple[Series, ...]

    def span(self) -> tuple[int, int]:
        """Time of the first and the last sample."""
        return self.t0, max(self.t0 + one.interval_s * (len(one.values) - 1) for one in self.series)

    def samples(self) -> Iterator[tuple[int, int, int]]:
        """(time, record, unscaled value) of everything that was sampled."""
        for one in self.series:
            for index, value in enumerate(one.values):
                if value is not None:
                    yield self.t0 + index * one.interval_s, one.record, value


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened once; `event` is an id of `sealwire.names.EVENTS` or the application's own."""

    TYPE: ClassVar[int] = messages.EVENT
    t: int
    event: int
    values: tuple[int | None, ...]

    def span(self) -> tuple[int, int]:
        """Its time, twice."""
        return self.t, self.t


@dataclass(frozen=True, slots=True)
class Status:
    """What a device says of itself; keys of `sealwire.names.STATUS_NAMES`, unknown ones kept by number."""

    TYPE: ClassVar[int] = messages.STATUS
    t: int
    fields: Mapping[int, Any]

    def span(self) -> tuple[int, int]:
        """Its time, twice."""
        return self.t, self.t


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """Where an update stands on the device."""

    TYPE: ClassVar[int] = messages.UPDATE_REPORT
    release: int
    state: int
    code: int

    def span(self) -> None:
        """Carries no time."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of the downlink with this counter."""

    TYPE: ClassVar[int] = messages.RECEIPT
    downlink_ctr: int
    code: int

    def span(self) -> None:
        """Carries no time."""


Message = Telemetry | Event | Status | UpdateReport | Receipt


def decode(plaintext: bytes) -> Message:
    """Read the message that a device sealed.

    Args:
        plaintext: what a frame held, at most 242 bytes.

    Raises:
        MessageError: anything that the wire format does not allow; says what.
    """
    items = _sequence(plaintext)
    kind, body = items[0], items[1:]
    if not _is_integer(kind) or kind not in _READERS:
        raise MessageError(f"message type {_shown(kind)} is not known")
    return _READERS[kind](body)


def _sequence(data: bytes) -> list[Any]:
    if len(data) > PLAINTEXT_MAX:
        raise MessageError(f"plaintext of {len(data)} bytes is longer than {PLAINTEXT_MAX}")
    count = _walk(data)
    if not count:
        raise MessageError("plaintext is empty")
    # the sequence, made one array, so that one call reads it
    whole = (bytes((0x80 | count,)) if count < 24 else bytes((0x98, count))) + data
    try:
        items: list[Any] = cbor2.loads(whole, max_depth=DEPTH_MAX + 1, allow_indefinite=False)
        same = cbor2.dumps(items, canonical=True) == whole
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        raise MessageError(f"plaintext is not CBOR: {type(error).__name__}") from None
    if not same:
        raise MessageError("plaintext is not deterministic CBOR")
    return items


def _walk(data: bytes) -> int:
    """Count the items of a sequence; refuse what the wire format never uses, before memory is spent on it."""
    position, end = 0, len(data)
    open_items: list[int] = []  # items still to come, in each array or map that is open
    count = 0
    while position < end:
        first = data[position]
        major, argument = first >> 5, first & 31
        position += 1
        if major == _SIMPLE:
            if argument not in (_FALSE, _TRUE, _NULL):
                raise MessageError("plaintext holds a float or an unassigned simple value")
        elif major == _TAG:
            raise MessageError("plaintext holds a tag")
        else:
            if argument >= 24:
                argument_len = _ARGUMENT_LEN.get(argument)
                if argument_len is None:
                    raise MessageError("plaintext holds an indefinite or reserved length")
                if end - position < argument_len:
                    raise MessageError("plaintext is cut short")
                argument = int.from_bytes(data[position : position + argument_len], "big")
                position += argument_len
            if major in (_BYTES, _TEXT):
                if argument > end - position:
                    raise MessageError("plaintext is cut short")
                position += argument
        if open_items:
            open_items[-1] -= 1
        else:
            count += 1
        if major in (_ARRAY, _MAP):
            wanted = argument * 2 if major == _MAP else argument
            if wanted > end - position:
                raise MessageError("plaintext is cut short")
            open_items.append(wanted)
            if len(open_items) > DEPTH_MAX:
                raise MessageError(f"plaintext nests deeper than {DEPTH_MAX}")
        while open_items and not open_items[-1]:
            open_items.pop()
    if open_items:
        raise MessageError("plaintext is cut short")
    return count


def _telemetry(body: list[Any]) -> Telemetry:
    if len(body) < 2:
        raise MessageError("telemetry has no series")
    t0 = _integer(body[0], 0, TIME_MAX_S, "telemetry time")
    return Telemetry(t0, tuple(_series(item, t0) for item in body[1:]))


def _series(item: Any, t0: int) -> Series:
    if not isinstance(item, list) or len(item) < 3:
        raise MessageError("a series is not [record, seconds, value, ...]")
    record = _integer(item[0], 1, RECORD_MAX, "record id")
    interval_s = _integer(item[1], 0, INTERVAL_MAX_S, "seconds between samples")
    differences = item[2:]
    if not interval_s and len(differences) > 1:
        raise MessageError("several samples of one record at the same time")
    if t0 + interval_s * (len(differences) - 1) > TIME_MAX_S:
        raise MessageError("a series runs past the last time that can be written")
    if differences[0] is None:
        raise MessageError("a series does not begin with a value")
    last = 0
    values: list[int | None] = []
    for difference in differences:
        if difference is None:
            values.append(None)
            continue
        if not _is_integer(difference):
            raise MessageError(f"a value is {_shown(difference)}, not an integer")
        last += difference
        if not -VALUE_MAX <= last <= VALUE_MAX:
            raise MessageError(f"a value of record {record} is out of range")
        values.append(last)
    return Series(record, interval_s, tuple(values))


def _event(body: list[Any]) -> Event:
    if not 2 <= len(body) <= 2 + EVENT_VALUES_MAX:
        raise MessageError(f"an event has {len(body)} fields")
    values = tuple(
        None if value is None else _integer(value, -VALUE_MAX, VALUE_MAX, "event value") for value in body[2:]
    )
    return Event(_integer(body[0], 0, TIME_MAX_S, "event time"), _integer(body[1], 1, EVENT_MAX, "event id"), values)


def _status(body: list[Any]) -> Status:
    if len(body) != 2 or not isinstance(body[1], dict):
        raise MessageError("a status is not a time and a map")
    t = _integer(body[0], 0, TIME_MAX_S, "status time")
    fields: dict[int, Any] = {}
    for key, value in body[1].items():
        number = _integer(key, 0, STATUS_KEY_MAX, "status key")
        if number == messages.STATUS_RUNNING:
            if not isinstance(value, bytes) or len(value) != RUNNING_LEN:
                raise MessageError("the running digest in a status is not 8 bytes")
        elif number == messages.STATUS_CONSENT:
            if not isinstance(value, bytes) or 0 in value:
                raise MessageError("what may be sampled is not record ids of a byte each")
        elif number == messages.STATUS_CHARGE:
            _charge(value)
        elif number in names.STATUS_NAMES:
            _integer(value, 0, TIME_MAX_S, f"status {names.STATUS_NAMES[number]}")
        fields[number] = value
    return Status(t, fields)


def _charge(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise MessageError("charge in a status is not pairs of part and microampere hours")
    for part, used in value:
        _integer(part, 0, CHARGE_PART_MAX, "part")
        _integer(used, 0, VALUE_MAX, "charge")


def _update_report(body: list[Any]) -> UpdateReport:
    if len(body) != 3:
        raise MessageError(f"an update report has {len(body)} fields, not 3")
    return UpdateReport(
        _integer(body[0], 0, TIME_MAX_S, "release sequence"),
        _integer(body[1], 0, CODE_MAX, "update state"),
        _integer(body[2], -CODE_MAX, CODE_MAX, "update code"),
    )


def _receipt(body: list[Any]) -> Receipt:
    if len(body) != 2:
        raise MessageError(f"a receipt has {len(body)} fields, not 2")
    return Receipt(
        _integer(body[0], 0, CTR_MAX, "downlink counter"),
        _integer(body[1], 0, CODE_MAX, "result code"),
    )


_READERS: dict[int, Callable[[list[Any]], Message]] = {
    messages.TELEMETRY: _telemetry,
    messages.EVENT: _event,
    messages.STATUS: _status,
    messages.UPDATE_REPORT: _update_report,
    messages.RECEIPT: _receipt,
}


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(value: Any, low: int, high: int, what: str) -> int:
    if not _is_integer(value):
        raise MessageError(f"{what} is {_shown(value)}, not an integer")
    if not low <= value <= high:
        raise MessageError(f"{what} {value} is not in {low} to {high}")
    return int(value)


def _shown(value: Any) -> str:
    # never the value itself of what is not a number: it is the wearer's, and ends up in logs
    return str(value) if _is_integer(value) else type(value).__name__
