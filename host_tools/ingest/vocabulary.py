"""What the numbers in messages are called: the table of sealwire, and an application's own records and events. Pure.

Names of the application's own come from its file (`definitions`), by way of the database (`meanings`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from host_tools.ingest.definitions import Event, Record
from sealwire import records
from sealwire.names import EVENTS, MEANINGS

_WORDS = ("event", "update", "status")


class FilterError(Exception):
    """What was asked for does not exist; `remedy` says how to ask."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Vocabulary:
    """Names, units and scales by number; what has no name is called by its number.

    Attributes:
        records: the application's own, by id.
        events: likewise.
    """

    records: Mapping[int, Record] = field(default_factory=dict)
    events: Mapping[int, Event] = field(default_factory=dict)

    def record(self, number: int) -> tuple[str, str, int]:
        """(name, unit, scale) of a record."""
        own = self.records.get(number)
        if own:
            return own.name, own.unit, own.scale
        name, unit, scale = records.lookup(number)
        return str(name), str(unit), int(scale)

    def event(self, number: int) -> str:
        """The name of an event, without `event/` before it."""
        own = self.events.get(number)
        return own.name if own else str(EVENTS.get(number, number))

    def record_id(self, text: str) -> int | None:
        """The id of a record, given by name or by number; None: there is none."""
        if text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= records.RECORD_MAX:
            return int(text)
        for number, name in self.rows():
            if name == text:
                return number
        return None

    def filter_name(self, text: str) -> str:
        """What to filter readings by, of the name or the number of a record, or an event's name.

        Raises:
            FilterError: there is no such record or event.
        """
        number = self.record_id(text)
        if number is not None:
            return self.record(number)[0]
        events = {f"event/{name}" for name in [*EVENTS.values(), *(own.name for own in self.events.values())]}
        if text in events or text in _WORDS or text.startswith(("record_", *(f"{word}/" for word in _WORDS))):
            return text
        if f"event/{text}" in events:
            return f"event/{text}"
        raise FilterError(f"there is no record {text!r}", "there are: " + ", ".join(row[1] for row in self.rows()))

    def rows(self) -> list[tuple[int, str]]:
        """(id, name) of all records that have a name."""
        return [(row[0], row[1]) for row in records.RECORDS] + [(one.number, one.name) for one in self.records.values()]


STANDARD = Vocabulary()


def meaning(number: int, value: int) -> str:
    """What a value of a record is called, as 1 of activity is walking; "" for a record of plain quantities."""
    words = MEANINGS.get(number)
    if words is None:
        return ""
    return str(words.get(value, value))
