"""Readings: stored frames, opened again and expanded to single values with name, unit and scale. Writes nothing.

A frame's samples lie between its `t_first` and `t_last`, which stand in the table in the clear; so a range of time is
found without opening anything, and frames that overlap are merged into one order of time as they stream by.
"""

import heapq
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Max, Min, Q, QuerySet

from host_tools.ingest import meanings
from host_tools.ingest.carried_out import CarriedOut, carried_out
from host_tools.ingest.decode import Event, Message, MessageError, Status, Telemetry, UpdateReport, decode
from host_tools.ingest.models import Frame
from host_tools.ingest.store import Payloads
from host_tools.ingest.vocabulary import STANDARD, FilterError, Vocabulary, meaning
from provisioning.registry.vault import VaultError
from sealwire.messages import EPOCH_2025, EVENT, STATUS, STATUS_CHARGE, STATUS_CONSENT, TELEMETRY, UPDATE_REPORT
from sealwire.names import CHARGE_PARTS, STATUS_NAMES, UPDATE_CODES, UPDATE_STATES

_COLUMNS = (
    "pk",
    "device__eui",
    "device__former",
    "epoch",
    "ctr",
    "payload_wrapped",
    "t_first",
    "t_last",
    "link",
    "gateway",
    "received_at_ms",
    "fault",
)
_STATUS_UNITS = {"s": "s", "ms": "ms", "mv": "mV"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one device.

    Attributes:
        device: EUI-64 in hex; of an identity that another of the same board followed, with `.1`, `.2` … behind it.
        unix_s: when it was sampled; of an update report, which carries no time, when it was heard.
        record: name of the record; events are `event/<name>`, update reports `update/<state>` or, where it says why,
            `update/<state>/<code>`; what a status says `status/<field>`. What has no name is shown by its number.
        record_id: id of the record, of the event, of the report's state, or of the status's field.
        value: scaled; None for an event that carries none; the release sequence of an update report.
        unit: "" where there is none.
        meaning: what the value stands for, as walking; "" where it is a quantity.
        received_at: when it arrived, Unix seconds.
    """

    device: str
    unix_s: int
    record: str
    record_id: int
    value: Decimal | None
    unit: str
    link: str
    gateway: str
    received_at: float
    meaning: str = ""

    @property
    def number(self) -> int | float | None:
        """The value as JSON has it."""
        if self.value is None:
            return None
        return int(self.value) if self.value == self.value.to_integral_value() else float(self.value)


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show.

    Attributes:
        devices: EUI-64s, each with the number of a former identity, None for the present one; empty: all.
        names: record names, `event` for all events, `update` for all update reports, `status` for what devices say of
            themselves; empty: all but the last.
        since: Unix seconds, the first that is shown.
        until: Unix seconds, the first that is not shown any more.
        faulty: also frames with an implausible time.
    """

    devices: frozenset[tuple[bytes, int | None]] = frozenset()
    names: frozenset[str] = frozenset()
    since: float | None = None
    until: float | None = None
    faulty: bool = False

    def takes(self, reading: Reading) -> bool:
        """Whether this one is to be shown."""
        return (
            (not self.names or reading.record in self.names or self._takes_part_of(reading.record))
            and (self.since is None or reading.unix_s >= self.since)
            and (self.until is None or reading.unix_s < self.until)
        )

    @property
    def types(self) -> frozenset[int]:
        """The types of the messages that can hold it."""
        asked = any(name.partition("/")[0] == "status" for name in self.names)
        return frozenset((TELEMETRY, EVENT, UPDATE_REPORT, *((STATUS,) if asked else ())))

    def _takes_part_of(self, record: str) -> bool:
        parts = record.split("/")
        return any("/".join(parts[:count]) in self.names for count in range(1, len(parts)))


@dataclass(frozen=True, slots=True)
class Opened:
    """A stored frame, opened.

    Attributes:
        device: as in `Reading`.
        t_first: when what it holds begins, seconds since 2025; of what carries no time, when it was heard.
        received_at: when it arrived, Unix seconds.
    """

    device: str
    message: Message
    t_first: int
    link: str
    gateway: str
    received_at: float


def record_filter(text: str, vocabulary: Vocabulary = STANDARD) -> str:
    """The name of a record, given by name or by number; raises FilterError."""
    return vocabulary.filter_name(text)


def moment(text: str, now: float) -> float:
    """Unix seconds of an ISO 8601 time (UTC where it names no zone), or of so long ago: `90s`, `15m`, `2h`, `7d`.

    Raises:
        FilterError: it is neither.
    """
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if ago:
        return now - int(ago.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[ago.group(2)]
    try:
        told = datetime.fromisoformat(text)
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise FilterError(f"{text!r} is no time", "write 2026-03-01T12:00 (UTC), or 2h for so long ago") from None


class Readings:
    """Reads the store.

    Args:
        payloads: opens what the store sealed.
        vocabulary: what the numbers are called; None: as the connected database says.

    Attributes:
        damaged: frames that did not open or could not be read; they are skipped.
    """

    def __init__(self, payloads: Payloads, vocabulary: Vocabulary | None = None) -> None:
        self._payloads = payloads
        self.vocabulary = meanings.load() if vocabulary is None else vocabulary
        self.damaged = 0

    def in_order(self, wanted: Filter) -> Iterator[Reading]:
        """All of them, by time; holds no more in memory than what overlaps."""
        waiting: list[tuple[int, int, Reading]] = []
        count = 0
        for row in _frames(wanted).order_by("t_first", "pk").values_list(*_COLUMNS).iterator(chunk_size=500):
            while waiting and waiting[0][0] < row[6] + EPOCH_2025:
                yield heapq.heappop(waiting)[2]
            for reading in self._expand(row, wanted):
                count += 1
                heapq.heappush(waiting, (reading.unix_s, count, reading))
        while waiting:
            yield heapq.heappop(waiting)[2]

    def last(self, wanted: Filter, count: int) -> list[Reading]:
        """The newest `count` of them, by time."""
        newest: list[tuple[int, int, Reading]] = []
        number = 0
        for row in _frames(wanted).order_by("-t_last", "-pk").values_list(*_COLUMNS).iterator(chunk_size=100):
            if len(newest) >= count and row[7] + EPOCH_2025 < newest[0][0]:
                break
            for reading in self._expand(row, wanted):
                number -= 1
                heapq.heappush(newest, (reading.unix_s, number, reading))
                if len(newest) > count:
                    heapq.heappop(newest)
        return [reading for _, _, reading in sorted(newest, key=lambda item: (item[0], item[2].device, item[1]))]

    def arrived_after(self, wanted: Filter, frame: int) -> tuple[list[Reading], int]:
        """Readings of frames that were stored after the one with this primary key, and the last frame's key."""
        found: list[Reading] = []
        for row in _frames(wanted).filter(pk__gt=frame).order_by("pk").values_list(*_COLUMNS)[:500]:
            frame = row[0]
            found += self._expand(row, wanted)
        return sorted(found, key=lambda reading: reading.unix_s), frame

    def opened(self, wanted: Filter, types: Collection[int]) -> Iterator[Opened]:
        """The frames of what is wanted, each device's by the time of what they hold, one device after the other.

        What a frame holds beside the wanted is not taken out; nothing is held in memory.

        Args:
            types: of messages.
        """
        rows = _frames(wanted, types).order_by("device", "t_first", "pk").values_list(*_COLUMNS)
        for row in rows.iterator(chunk_size=500):
            found = self._open(row)
            if found is not None:
                yield found

    def count(self, wanted: Filter, types: Collection[int]) -> int:
        """How many frames `opened` goes through."""
        return _frames(wanted, types).count()

    def carried_out(self) -> list[CarriedOut]:
        """What devices were told and did, by time."""
        return carried_out(self._payloads.vault)

    def extent(self, wanted: Filter, types: Collection[int]) -> tuple[float, float] | None:
        """When the first and the last of what is wanted was sampled, Unix seconds, by frames; None: there is none.

        By statuses only where there is nothing else: a device sends one before it knows the time.
        """
        ends = {"first": Min("t_first"), "last": Max("t_last")}
        found = _frames(wanted, set(types) - {STATUS}).aggregate(**ends)
        if found["first"] is None:
            found = _frames(wanted, types).aggregate(**ends)
        if found["first"] is None:
            return None
        return found["first"] + EPOCH_2025, found["last"] + EPOCH_2025

    def _open(self, row: tuple[Any, ...]) -> Opened | None:
        _, eui, former, epoch, ctr, wrapped, t_first, _, link, gateway, received_at_ms, _ = row
        eui = bytes(eui)
        label = eui.hex() if former is None else f"{eui.hex()}.{former}"
        try:
            message = decode(self._payloads.unwrap(wrapped, eui, epoch, ctr))
        except (VaultError, MessageError):
            self.damaged += 1
            return None
        return Opened(label, message, t_first, link, gateway, received_at_ms / 1000)

    def _expand(self, row: tuple[Any, ...], wanted: Filter) -> Iterator[Reading]:
        found = self._open(row)
        if found is None:
            return
        for t, record, record_id, value, unit, said in _values(found.message, found.t_first, self.vocabulary):
            reading = Reading(
                found.device,
                t + EPOCH_2025,
                record,
                record_id,
                value,
                unit,
                found.link,
                found.gateway,
                found.received_at,
                said,
            )
            if wanted.takes(reading):
                yield reading


def follow(source: Readings, wanted: Filter, seen: int, pause: Callable[[], object]) -> Iterator[list[Reading]]:
    """What arrives, for ever, in pieces that may be empty.

    Args:
        seen: primary key of the newest frame that is known.
        pause: called when there is nothing new.
    """
    while True:
        found, newest = source.arrived_after(wanted, seen)
        yield found
        if newest == seen:
            pause()
        seen = newest


def newest_frame() -> int:
    """Primary key of the frame that was stored last; 0 when there is none."""
    return Frame.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def _frames(wanted: Filter, types: Collection[int] | None = None) -> QuerySet[Frame]:
    types = wanted.types if types is None else types
    frames = Frame.objects.filter(message_type__in=sorted(types), t_first__isnull=False)
    if not wanted.faulty:
        frames = frames.filter(fault="")
    if wanted.devices:
        named = Q()
        for eui, former in wanted.devices:
            named |= Q(device__eui=eui, device__former=former)
        frames = frames.filter(named)
    if wanted.since is not None:
        frames = frames.filter(t_last__gte=int(wanted.since) - EPOCH_2025)
    if wanted.until is not None:
        frames = frames.filter(t_first__lte=int(wanted.until) - EPOCH_2025)
    return frames


def status_values(status: Status, vocabulary: Vocabulary) -> Iterator[tuple[str, int, Decimal, str, str]]:
    """(name, field, value, unit, meaning) of what a status says in numbers."""
    for field, told in sorted(status.fields.items()):
        name = STATUS_NAMES.get(field, str(field))
        if field == STATUS_CONSENT and isinstance(told, bytes):
            for record_id in told:
                yield f"status/{name}", field, Decimal(record_id), "", vocabulary.record(record_id)[0]
        elif field == STATUS_CHARGE and isinstance(told, list):
            for part, used in told:
                yield f"status/charge/{CHARGE_PARTS.get(part, part)}", field, Decimal(used), "uAh", ""
        elif isinstance(told, int):
            yield f"status/{name}", field, Decimal(told), _STATUS_UNITS.get(name.rpartition("_")[2], ""), ""


def _values(
    message: object, heard_at: int, vocabulary: Vocabulary
) -> Iterator[tuple[int, str, int, Decimal | None, str, str]]:
    """(time, record, id, scaled value, unit, meaning) of everything a message holds."""
    if isinstance(message, Telemetry):
        for t, record_id, value in message.samples():
            name, unit, scale = vocabulary.record(record_id)
            yield t, name, record_id, Decimal(value).scaleb(scale), unit, meaning(record_id, value)
    elif isinstance(message, Event):
        name = f"event/{vocabulary.event(message.event)}"
        values = [value for value in message.values if value is not None]
        if not values:
            yield message.t, name, message.event, None, "", ""
        for value in values:
            yield message.t, name, message.event, Decimal(value), "", ""
    elif isinstance(message, UpdateReport):
        name = f"update/{UPDATE_STATES.get(message.state, message.state)}"
        if message.code:
            name += f"/{UPDATE_CODES.get(message.code, message.code)}"
        yield heard_at, name, message.state, Decimal(message.release), "", ""
    elif isinstance(message, Status):
        for name, field, number, unit, said in status_values(message, vocabulary):
            yield message.t, name, field, number, unit, said
