"""What happens during a run, one value each, for whoever shows it: people or programs. Shows nothing itself.

line      the board printed something                       text
running   the application runs                              text, device
error     a developer's file raised, or does not compile    text, file, line, trace, times
reading   samples that the store has                        text, device, record, name, value, unit, samples, at
event     an event that the store has                       text, device, id, name, values
stored    any other message                                 text, device, message
refused   the store did not take a frame                    text, reason
reload    the application was exchanged                     text, took_s
remark    what else whoever runs it should know             text
ended     the application ended by itself                   text
"""

from dataclasses import dataclass, field
from typing import Any

LINE_MAX = 400  # characters of a board's line that are kept


@dataclass(frozen=True)
class Happening:
    """One of them.

    Attributes:
        kind: as above.
        text: for people; without control characters, whoever said it.
        data: for programs.
    """

    kind: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        return {**self.data, "event": self.kind, "text": self.text}


def harmless(text: str) -> str:
    """A board's text as it may be shown: no control characters, which move a terminal's cursor or worse; bounded."""
    kept = text[:LINE_MAX] + ("…" if len(text) > LINE_MAX else "")
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in kept)
