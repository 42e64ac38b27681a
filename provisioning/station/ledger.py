"""What journals say of boards and tickets: an index over this station's journal, through which it is written, and over
further journals that are only read.

All lanes of a station share one ledger. Whoever decides by what stands in it and then writes holds `lock` meanwhile:
so no ticket is reserved twice.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provisioning.enrolment import EnrolmentRefused, Record
from provisioning.station import journal as kinds
from provisioning.station.journal import Content, Entry, Journal, parse


@dataclass(frozen=True)
class Past:
    """Where a board, a key or a nonce was met before.

    Attributes:
        where: the journal's file name.
        number: of the entry.
        at: Unix seconds.
        eui, ticket: hex.
    """

    where: str
    number: int
    at: int
    eui: str
    ticket: str

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.at))
        return f"board {self.eui}, ticket {self.ticket}, on {when} UTC (entry {self.number} of {self.where})"


@dataclass
class Standing:
    """How far this station got with one board.

    Attributes:
        eui: hex.
        ticket, nonce: hex, as reserved; "" before.
        record: its signed record, journaled; b"" before.
        enrolled: where that stands.
        certificate: its certificate in DER, journaled; b"" before.
        sealed, labelled, done: what is behind it.
    """

    eui: str
    ticket: str = ""
    nonce: str = ""
    record: bytes = b""
    enrolled: Past | None = None
    certificate: bytes = b""
    sealed: bool = False
    labelled: bool = False
    done: bool = False


@dataclass
class _Index:
    """Keys, nonces and boards of one or more journals, each with where it was met first."""

    boards: dict[str, Past] = field(default_factory=dict)
    keys: dict[bytes, Past] = field(default_factory=dict)
    nonces: dict[bytes, Past] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)

    def take(self, entry: Entry, where: str) -> Past | None:
        if entry.kind == kinds.RESERVED:
            self.spent.add(entry.body["ticket"])
        if entry.kind != kinds.ENROLLED:
            return None
        past = Past(where, entry.number, entry.at, entry.body["eui"], entry.body["ticket"])
        self.boards.setdefault(past.eui, past)
        try:
            record = Record.from_bytes(bytes.fromhex(entry.body["record"]))
        except EnrolmentRefused:
            return past  # a dishonest station's; its EUI and ticket count all the same
        self.keys.setdefault(record.device_pub, past)
        self.nonces.setdefault(record.device_nonce, past)
        return past


class Ledger:
    """The index, and the way to this station's journal.

    Args:
        journal: this station's, open.
        known: further journals by their names, checked.

    Attributes:
        lock: hold it from a decision to the entry that it leads to.
    """

    def __init__(self, journal: Journal, known: Mapping[str, Content] | None = None) -> None:
        self.lock = threading.RLock()
        self._journal = journal
        self._own = _Index()
        self._others = _Index()
        self._standings: dict[str, Standing] = {}
        for name, content in (known or {}).items():
            for entry in content.entries:
                self._others.take(entry, name)
        for entry in journal.entries:
            self._note(entry)

    def append(self, kind: str, **body: str) -> Entry:
        """Write an entry into the journal; it is on disk when this returns. Raises JournalError."""
        with self.lock:
            entry = self._journal.append(kind, **body)
            self._note(entry)
            return entry

    def standing(self, eui: str) -> Standing:
        """How far this station got with a board; a blank one for a board that it never reserved a ticket for."""
        with self.lock:
            return self._standings.get(eui) or Standing(eui)

    def standings(self) -> list[Standing]:
        """All boards that ever had a ticket reserved, the first one first."""
        with self.lock:
            return list(self._standings.values())

    def is_spent(self, ticket: str) -> bool:
        """Whether a ticket (hex) was reserved, here or in a further journal."""
        with self.lock:
            return ticket in self._own.spent or ticket in self._others.spent

    def elsewhere(self, eui: str) -> Past | None:
        """Where a board (hex) was enrolled according to the further journals."""
        return self._others.boards.get(eui)

    def same_key(self, record: Record) -> Past | None:
        """Another board with this one's public key."""
        return self._other(record, "keys", record.device_pub)

    def same_nonce(self, record: Record) -> Past | None:
        """Another board that drew the same nonce."""
        return self._other(record, "nonces", record.device_nonce)

    def _other(self, record: Record, index: str, value: bytes) -> Past | None:
        with self.lock:
            for one in (self._own, self._others):
                past: Past | None = getattr(one, index).get(value)
                if past and past.eui != record.eui.hex():
                    return past
        return None

    def _note(self, entry: Entry) -> None:
        past = self._own.take(entry, self._journal.path.name)
        eui = entry.body.get("eui", "")
        if entry.kind == kinds.RESERVED:
            standing = self._standings.setdefault(eui, Standing(eui))
            standing.ticket, standing.nonce = entry.body["ticket"], entry.body["station_nonce"]
            return
        known = self._standings.get(eui)
        if known is None:
            return
        if past is not None:
            known.record, known.enrolled = bytes.fromhex(entry.body["record"]), past
        elif entry.kind == kinds.CERTIFIED:
            known.certificate = bytes.fromhex(entry.body["certificate"])
        elif entry.kind == kinds.SEALED:
            known.sealed = True
        elif entry.kind == kinds.LABELLED:
            known.labelled = True
        elif entry.kind == kinds.DONE:
            known.done = True


def read_known(path: Path) -> Content:
    """A further journal, checked from its first entry to its last.

    Raises:
        JournalDamaged: it was changed.
        OSError: it cannot be read.
    """
    return parse(path.read_bytes())
