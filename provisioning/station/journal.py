"""The station's journal: what was done to which board, append-only, hash-chained, on disk before anything goes on.

One JSON object a line, each with the SHA-256 over the one before and itself. Holds no secret. Decides nothing about
boards or tickets.

A line that a power cut left half-written can only be the last one. It is moved into a file beside the journal
(`<name>.torn-<digest>`) and reported; anything else that does not fit was changed by somebody, and is refused.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cbor2

from provisioning.wholefile import sync_folder

OPENED = "opened"  # journal: its random name, format: FORMAT
BEGUN = "begun"  # lane, port: a board came to this lane
RESERVED = "reserved"  # ticket, eui, station_nonce: this ticket is for this board from now on
ENROLLED = "enrolled"  # ticket, eui, record
CERTIFIED = "certified"  # ticket, eui, certificate: DER
SEALED = "sealed"  # ticket, eui, frame: the first one that the board sealed
LABELLED = "labelled"  # ticket, eui: its label's file is whole
DONE = "done"  # ticket, eui, ms: how long it took
FAILED = "failed"  # eui, ticket ("" where unknown), reason, step
_BODIES = {
    OPENED: {"format", "journal"},
    BEGUN: {"lane", "port"},
    RESERVED: {"ticket", "eui", "station_nonce"},
    ENROLLED: {"ticket", "eui", "record"},
    CERTIFIED: {"ticket", "eui", "certificate"},
    SEALED: {"ticket", "eui", "frame"},
    LABELLED: {"ticket", "eui"},
    DONE: {"ticket", "eui", "ms"},
    FAILED: {"ticket", "eui", "reason", "step"},
}
KINDS = frozenset(_BODIES)
# journals of before there were steps lack it
_OPTIONAL = {FAILED: {"step"}}
_MAY_BE_EMPTY = {FAILED: {"ticket", "eui"}}
# field → its length in bytes, in hex; None: any
_HEX = {
    "journal": 16,
    "ticket": 8,
    "eui": 8,
    "station_nonce": 16,
    "record": None,
    "certificate": None,
    "frame": None,
}

FORMAT = "sealband/1 journal"
LINE_MAX = 4096  # bytes
AT_MAX = 1 << 36  # Unix seconds; beyond it, there are times that no calendar shows
GENESIS = bytes(32)
_FIELDS = {"n", "at", "kind", "body", "hash"}

Body = Mapping[str, str]


class JournalError(Exception):
    """The journal cannot be used now: it is in use, or the disk refused."""

    remedy = "see that no other station uses this journal and that the disk has space"


class JournalDamaged(JournalError):
    """The journal was changed after it was written; the message names the line."""

    remedy = "keep the file as evidence; go on with a backup of it or a new journal"


@dataclass(frozen=True)
class Entry:
    """One line.

    Attributes:
        number: 1, 2, 3 …
        at: Unix time, seconds.
        kind: one of `KINDS`.
        body: what `kind` says.
        digest: SHA-256 over the digest before and this entry.
    """

    number: int
    at: int
    kind: str
    body: Body
    digest: bytes

    def to_bytes(self) -> bytes:
        """The line, with its newline."""
        row = {"n": self.number, "at": self.at, "kind": self.kind, "body": self.body, "hash": self.digest.hex()}
        return json.dumps(row, separators=(",", ":"), sort_keys=True).encode() + b"\n"


@dataclass(frozen=True)
class Content:
    """What a journal file holds.

    Attributes:
        entries: all whole entries, in order.
        end: bytes of the file that they fill.
        torn: what follows them: b"" or a line that a power cut left half-written.
    """

    entries: tuple[Entry, ...]
    end: int
    torn: bytes

    @property
    def head(self) -> bytes:
        """The last entry's digest."""
        return self.entries[-1].digest if self.entries else GENESIS


def parse(data: bytes) -> Content:
    """Check a journal from its first byte to its last.

    Raises:
        JournalDamaged: a whole line is not what was written there.
    """
    entries: list[Entry] = []
    end = 0
    previous = GENESIS
    while end < len(data):
        stop = data.find(b"\n", end)
        line = data[end : stop + 1] if stop >= 0 else data[end:] + b"\n"
        try:
            entry = _entry(line, len(entries) + 1, previous)
        except ValueError as error:
            # after a power cut a file may have grown before its bytes arrived: then they are zeros
            last = stop < 0 or stop == len(data) - 1
            if stop < 0 or (last and b"\0" in line):
                return Content(tuple(entries), end, data[end:])
            raise JournalDamaged(f"line {len(entries) + 1} of the journal was changed: {error}") from None
        if stop < 0:
            # all of it is there but its newline; whoever opens it for writing completes it
            return Content((*entries, entry), len(data), b"")
        entries.append(entry)
        previous = entry.digest
        end = stop + 1
    return Content(tuple(entries), end, b"")


class Journal:
    """A journal that is open for appending, by this process alone. Make it with `Journal.open`."""

    def __init__(
        self, path: Path, descriptor: int, content: Content, recovered: str, clock: Callable[[], float]
    ) -> None:
        self.path = path
        self.recovered = recovered  # what was found and done about it, "" when the journal was whole
        self._descriptor = descriptor
        self._entries = list(content.entries)
        self._end = content.end
        self._head = content.head
        self._clock = clock

    @classmethod
    def open(cls, path: Path, clock: Callable[[], float] = time.time) -> "Journal":
        """Open or create a journal, and set right what a power cut left.

        Args:
            clock: Unix seconds.

        Raises:
            JournalError: another process has it open, or the disk refuses.
            JournalDamaged: it was changed.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JournalError(f"the journal {path} is in use by another station") from None
            data = _read_all(descriptor)
            content = parse(data)
            recovered = _set_right(path, descriptor, data, content)
            sync_folder(path.parent)
            journal = cls(path, descriptor, parse(_read_all(descriptor)), recovered, clock)
            if not content.entries:
                journal.append(OPENED, format=FORMAT, journal=os.urandom(16).hex())
        except BaseException:
            os.close(descriptor)
            raise
        return journal

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    def append(self, kind: str, **body: str) -> Entry:
        """Write an entry; it is on disk when this returns.

        Raises:
            JournalError: the disk refused; the journal is as before.
        """
        number = len(self._entries) + 1
        at = int(self._clock())
        entry = Entry(number, at, kind, body, _digest(self._head, number, at, kind, body))
        line = entry.to_bytes()
        try:
            _entry(line, number, self._head)  # what could not be read back must not be written
        except ValueError as error:
            raise JournalError(f"an entry of kind {kind!r} is not for a journal: {error}") from None
        try:
            _write_at(self._descriptor, line, self._end)
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            raise JournalError(f"the journal {self.path} cannot be written: {error.strerror}") from None
        self._entries.append(entry)
        self._end += len(line)
        self._head = entry.digest
        return entry

    def close(self) -> None:
        """Give the journal free for others."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _digest(previous: bytes, number: int, at: int, kind: str, body: Body) -> bytes:
    return hashlib.sha256(cbor2.dumps([previous, number, at, kind, dict(body)], canonical=True)).digest()


def _entry(line: bytes, number: int, previous: bytes) -> Entry:
    """The entry of a line, or ValueError with what is wrong."""
    if len(line) > LINE_MAX:
        raise ValueError(f"it is longer than {LINE_MAX} bytes")
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(row, dict) or set(row) != _FIELDS or not isinstance(row["body"], dict):
        raise ValueError("it has not the fields of an entry")
    if type(row["n"]) is not int or type(row["at"]) is not int or not isinstance(row["kind"], str):
        raise ValueError("a field is of the wrong kind")
    if row["kind"] not in KINDS or not 0 <= row["at"] < AT_MAX:
        raise ValueError("its kind or its time is none")
    kind, body = row["kind"], row["body"]
    if set(body) | _OPTIONAL.get(kind, set()) != _BODIES[kind] or not all(_fits(kind, *item) for item in body.items()):
        raise ValueError(f"it is not what an entry of kind {row['kind']!r} holds")
    if not re.fullmatch(r"[0-9a-f]{64}", str(row["hash"])):
        raise ValueError("its hash is malformed")
    if row["n"] != number:
        raise ValueError(f"it is entry {row['n']}: one is missing, surplus or moved")
    entry = Entry(number, row["at"], row["kind"], row["body"], bytes.fromhex(row["hash"]))
    try:
        digest = _digest(previous, number, entry.at, entry.kind, entry.body)
    except (ValueError, OverflowError):
        raise ValueError("a number is out of range") from None
    if digest != entry.digest or entry.to_bytes() != line:
        raise ValueError("its hash does not fit")
    if (number == 1) != (entry.kind == OPENED):
        raise ValueError(f"the first entry, and no other, is of kind {OPENED!r}")
    return entry


def _fits(kind: str, name: str, value: object) -> bool:
    if not isinstance(value, str):
        return False
    if not value and name in _MAY_BE_EMPTY.get(kind, ()):
        return True
    if name not in _HEX:
        return value.isprintable()
    length = _HEX[name]
    return bool(re.fullmatch(r"([0-9a-f]{2})+", value)) and length in (None, len(value) // 2)


def _set_right(path: Path, descriptor: int, data: bytes, content: Content) -> str:
    if content.torn:
        # named by content: a second power cut in here makes the same file again
        beside = path.with_name(f"{path.name}.torn-{hashlib.sha256(content.torn).hexdigest()[:16]}")
        quarantine = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_at(quarantine, content.torn, 0)
            os.fsync(quarantine)
        finally:
            os.close(quarantine)
        sync_folder(path.parent)
        os.ftruncate(descriptor, content.end)
        os.fsync(descriptor)
        return (
            f"the last line of {path.name} was half-written ({len(content.torn)} bytes, as after a power cut); "
            f"it is kept in {beside.name}; the {len(content.entries)} entries before it are whole"
        )
    if data and not data.endswith(b"\n"):
        _write_at(descriptor, b"\n", len(data))
        os.fsync(descriptor)
        return f"the last line of {path.name} lacked its end only (as after a power cut) and was completed"
    return ""


def _read_all(descriptor: int) -> bytes:
    parts, offset = [], 0
    while part := os.pread(descriptor, 1 << 20, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    done = 0
    while done < len(data):
        written = os.pwrite(descriptor, data[done:], offset + done)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done += written
