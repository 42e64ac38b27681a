"""What the store has taken of a device, in words and numbers: readings, events and the rest."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from host_tools.device.happening import Happening
from sealwire.messages import EPOCH_2025

if TYPE_CHECKING:
    from host_tools.ingest.intake import Refusal, Stored
    from host_tools.ingest.vocabulary import Vocabulary


def arrived(stored: "Stored", vocabulary: "Vocabulary") -> Iterator[Happening]:
    """One frame that was opened and is committed; the application's own records and events by their names."""
    from host_tools.ingest.decode import Event, Telemetry

    message = stored.message
    if isinstance(message, Telemetry):
        values: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for t, record, value in message.samples():
            values[record].append((t, value))
        for record, found in values.items():
            name, unit, scale = vocabulary.record(record)
            t, value = found[-1]
            scaled = Decimal(value).scaleb(scale)
            several = f", newest of {len(found)}" if len(found) > 1 else ""
            yield Happening(
                "reading",
                f"{name} {scaled} {unit}".rstrip() + f" at {_time(t)}{several}",
                {
                    "device": stored.eui,
                    "record": record,
                    "name": name,
                    "value": float(scaled),
                    "unit": unit,
                    "samples": len(found),
                    "at": _time(t),
                },
            )
    elif isinstance(message, Event):
        name = vocabulary.event(message.event)
        values_text = " ".join(map(str, message.values))
        data = {"device": stored.eui, "id": message.event, "name": name, "values": list(message.values)}
        yield Happening("event", f"event {name} {values_text}".rstrip(), data)
    else:
        name = type(message).__name__.lower() if message is not None else f"unreadable: {stored.fault}"
        yield Happening("stored", f"{name}, {stored.frame_len} B", {"device": stored.eui, "message": name})


def refused(refusal: "Refusal") -> Happening:
    """One frame that was not taken."""
    return Happening("refused", f"a frame was refused: {refusal.reason.value}", {"reason": refusal.reason.value})


def _time(t: int) -> str:
    return datetime.fromtimestamp(t + EPOCH_2025, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
