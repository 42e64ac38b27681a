"""What ids of an application's own mean in this database: added to, never changed.

An id that was used once keeps its meaning, since readings that carry it stay: one that means something else gets
another id. What a file does not mention any more stays defined. Names stand in the clear: they tell of a product, not
of a wearer.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import IntegrityError, transaction

from host_tools.ingest.definitions import Definition, Event, MeaningRefused, Record
from host_tools.ingest.models import Meaning
from host_tools.ingest.vocabulary import Vocabulary
from provisioning.registry import audit
from provisioning.registry.vault import Vault

__all__ = ["Defined", "MeaningRefused", "define", "load"]


@dataclass(frozen=True, slots=True)
class Defined:
    """What became of a definition.

    Attributes:
        added: what is new.
        known: how many records and events were defined so already.
    """

    added: tuple[Record | Event, ...]
    known: int


def load() -> Vocabulary:
    """All that is defined in the connected database."""
    rows = list(Meaning.objects.order_by("kind", "number"))
    return Vocabulary(
        {row.number: _record(row) for row in rows if row.kind == Meaning.Kind.RECORD},
        {row.number: Event(row.number, row.name) for row in rows if row.kind == Meaning.Kind.EVENT},
    )


def define(
    vault: Vault, definition: Definition, clock: Callable[[], float] = time.time, actor: str = "ingest"
) -> Defined:
    """Add a definition to what the database knows, all of it or nothing.

    Args:
        vault: of the registry, for the audit trail.
        clock: Unix seconds.
        actor: who does it.

    Raises:
        MeaningRefused: an id has another meaning, or a name another id.
    """
    now_ms = int(clock() * 1000)
    wanted: list[Record | Event] = [*definition.records, *definition.events]
    try:
        with transaction.atomic():
            there = list(Meaning.objects.select_for_update())
            added = tuple(one for one in wanted if not _is_known(one, there))
            Meaning.objects.bulk_create(_row(one, now_ms) for one in added)
            if added:
                audit.append(
                    vault,
                    "meaning_defined",
                    actor=actor,
                    clock=clock,
                    records=[one.number for one in added if isinstance(one, Record)],
                    events=[one.number for one in added if isinstance(one, Event)],
                )
    except IntegrityError:
        raise MeaningRefused("somebody else defines the same at this moment", "run it again") from None
    return Defined(added, len(wanted) - len(added))


def _is_known(one: Record | Event, there: list[Meaning]) -> bool:
    kind = Meaning.Kind.RECORD if isinstance(one, Record) else Meaning.Kind.EVENT
    for row in (row for row in there if row.kind == kind):
        before = _record(row) if isinstance(one, Record) else Event(row.number, row.name)
        if before == one:
            return True
        if row.number == one.number:
            since = datetime.fromtimestamp(row.defined_at_ms / 1000, UTC).date()
            raise MeaningRefused(f"{kind.value} {one.number} is {_said(before)} since {since}, not {_said(one)}")
        if row.name == one.name:
            raise MeaningRefused(
                f"{one.name} is {kind.value} {row.number} already, not {one.number}", "choose another name"
            )
    return False


def _record(row: Meaning) -> Record:
    return Record(row.number, row.name, row.unit, row.scale)


def _row(one: Record | Event, now_ms: int) -> Meaning:
    if isinstance(one, Record):
        return Meaning(
            kind=Meaning.Kind.RECORD,
            number=one.number,
            name=one.name,
            unit=one.unit,
            scale=one.scale,
            defined_at_ms=now_ms,
        )
    return Meaning(kind=Meaning.Kind.EVENT, number=one.number, name=one.name, defined_at_ms=now_ms)


def _said(one: Record | Event) -> str:
    if isinstance(one, Event):
        return one.name
    return f"{one.name} ({one.unit or 'no unit'}, scale {one.scale})"
