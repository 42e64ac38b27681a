"""Events of the audit trail as text: one JSON object a line, or CSV; and which events somebody wants to see.

A line has everything that the event's MAC covers, so a copy can be checked line by line (`audit.verify_log`).
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from provisioning.cells import safe_cell
from provisioning.registry.models import AuditEvent

COLUMNS = ("sequence", "at", "event", "actor", "subject", "details", "mac")
LINE_MAX = 16 << 10  # bytes; details of 2,048 characters, six bytes each at the most, and the rest


class LineError(Exception):
    """A line is not an event as `to_line` writes it."""


@dataclass(frozen=True)
class Wanted:
    """Which events.

    Attributes:
        events: names, or beginnings of names that end in `*`; empty: all.
        actors: who did it, or beginnings as above.
        subjects: whom or what it concerned, or beginnings as above.
        since_ms: from this Unix time on, in milliseconds.
        until_ms: before this time.
    """

    events: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None


def select(wanted: Wanted, last: int | None = None) -> Iterator[AuditEvent]:
    """The events that are wanted, in their order; with `last`, only so many, the newest."""
    from django.db.models import Q

    rows = AuditEvent.objects.all()
    for column, patterns in (("event", wanted.events), ("actor", wanted.actors), ("subject", wanted.subjects)):
        any_of = Q()
        for pattern in patterns:
            is_start = pattern.endswith("*")
            any_of |= Q(**{f"{column}__startswith" if is_start else column: pattern.removesuffix("*")})
        rows = rows.filter(any_of)
    if wanted.since_ms is not None:
        rows = rows.filter(at_ms__gte=wanted.since_ms)
    if wanted.until_ms is not None:
        rows = rows.filter(at_ms__lt=wanted.until_ms)
    if last is not None:
        return reversed(rows.order_by("-sequence")[:last])
    return rows.order_by("sequence").iterator(chunk_size=1000)


def plain(row: AuditEvent) -> dict[str, Any]:
    """An event as plain values, in the order of `COLUMNS`."""
    return {
        "sequence": row.sequence,
        "at": timestamp(row.at_ms),
        "event": row.event,
        "actor": row.actor,
        "subject": row.subject,
        "details": json.loads(row.details),
        "mac": bytes(row.mac).hex(),
    }


def to_line(row: AuditEvent) -> str:
    """One line of JSON, in ASCII: a device's text cannot move a reader's cursor."""
    return json.dumps(plain(row), separators=(",", ":")) + "\n"


def from_line(line: str) -> AuditEvent:
    """What `to_line` made a line of; not saved.

    Raises:
        LineError: it is no such line, down to the last character.
    """
    try:
        told = json.loads(line)
        at = datetime.strptime(told["at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        row = AuditEvent(
            sequence=told["sequence"],
            at_ms=int(at.timestamp()) * 1000 + at.microsecond // 1000,
            event=told["event"],
            actor=told["actor"],
            subject=told["subject"],
            details=json.dumps(told["details"], sort_keys=True, separators=(",", ":")),
            mac=bytes.fromhex(told["mac"]),
        )
        same = to_line(row) == line
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        same = False
    if not same:
        raise LineError("not an event")
    return row


def to_json_lines(rows: Iterable[AuditEvent]) -> Iterator[str]:
    """A line for each."""
    return map(to_line, rows)


def to_csv(rows: Iterable[AuditEvent]) -> Iterator[str]:
    """RFC 4180: a header and a line for each; no cell is a formula."""
    yield _csv_line(COLUMNS)
    for row in rows:
        told = plain(row) | {"details": row.details}
        yield _csv_line([safe_cell(str(told[column])) for column in COLUMNS])


def timestamp(at_ms: int) -> str:
    """Unix milliseconds as RFC 3339."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{at_ms % 1000:03}Z"


FORMATS = {"jsonl": to_json_lines, "csv": to_csv}


def _csv_line(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
