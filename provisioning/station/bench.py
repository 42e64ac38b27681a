"""The station's flow for one board: identify, reserve a ticket, enrol, check, journal. Works without the registry.

Every step that spends something is in the journal before it happens: the ticket is reserved for this board, with the
session's nonce, before the board hears of it. So after a power cut of board, station or both, the same board gets the
same ticket and nonce again, and answers with the very same record.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from provisioning.enrolment import EnrolmentRefused, Record
from provisioning.station.journal import ENROLLED, FAILED, RESERVED, Journal
from provisioning.station.link import BoardRefused, LinkError, Status
from provisioning.tickets import Ticket, TicketFile
from sealwire import enrolment as wire
from sealwire.messages import EPOCH_2025

_T = TypeVar("_T")

ATTEMPTS = 3  # asking again is harmless: a board answers the same ticket with the same record


class Board(Protocol):
    """What the flow asks of a board; `provisioning.station.link.Link` over a serial port."""

    def status(self) -> Status:
        """Who it is."""

    def enrol(self, ticket: Ticket, station_nonce: bytes, now_s: int) -> bytes:
        """Its signed record for this ticket."""

    def restart(self) -> None:
        """Boot anew."""


class StationRefused(Exception):
    """This board is not enrolled here now; nothing was spent."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Enrolled:
    """A board with an identity.

    Attributes:
        record: its signed record, checked.
        repeated: it was in the journal already.
    """

    record: Record
    repeated: bool


def enrol(
    board: Board,
    file: TicketFile,
    journal: Journal,
    *,
    restart: bool = True,
    clock: Callable[[], float] = time.time,
    random: Callable[[int], bytes] = os.urandom,
) -> Enrolled:
    """Give one board its identity, or finish what was begun.

    Args:
        file: the tickets that this station has.
        journal: this station's journal, open.
        restart: boot the board anew when its record is on disk.
        clock: Unix seconds.

    Raises:
        StationRefused: wrong model, no ticket left, or a board that was enrolled elsewhere or before.
        EnrolmentRefused: its record is malformed or does not answer what was asked.
        BoardRefused, LinkError: the board will not, or does not answer.
        JournalError: the journal cannot be written.
    """
    status = _patiently(board.status)
    if status.model != file.model:
        raise StationRefused(
            f"board {status.eui.hex()} is a {status.model}; the tickets are for {file.model}",
            "use tickets for its model",
        )
    if done := _journaled(journal, status):
        if restart:
            board.restart()
        return Enrolled(done, repeated=True)
    ticket, nonce = _reserved(journal, file, status) or _reserve(journal, file, status, random)
    try:
        data = _patiently(lambda: board.enrol(ticket, nonce, max(0, int(clock()) - EPOCH_2025)))
        record = Record.from_bytes(data)
        record.answers(ticket, status.eui, nonce, file.model)
    except (BoardRefused, EnrolmentRefused) as error:
        reason = error.code if isinstance(error, BoardRefused) else error.reason
        journal.append(FAILED, eui=status.eui.hex(), ticket=ticket.ticket_id.hex(), reason=str(reason))
        raise
    journal.append(ENROLLED, ticket=ticket.ticket_id.hex(), eui=status.eui.hex(), record=data.hex())
    if restart:
        board.restart()
    return Enrolled(record, repeated=False)


def tickets_left(journal: Journal, file: TicketFile) -> int:
    """How many tickets of the file are not spoken for in this journal."""
    spent = {entry.body["ticket"] for entry in journal.entries if entry.kind == RESERVED}
    return sum(ticket.ticket_id.hex() not in spent for ticket in file.tickets)


def _patiently(ask: Callable[[], _T]) -> _T:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except LinkError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError


def _journaled(journal: Journal, status: Status) -> Record | None:
    """The record of a board that this station has enrolled; None if it has not."""
    for entry in journal.entries:
        if entry.kind == ENROLLED and entry.body["eui"] == status.eui.hex():
            record = Record.from_bytes(bytes.fromhex(str(entry.body["record"])))
            if status.ticket != record.ticket_id:
                raise StationRefused(
                    f"a board {status.eui.hex()} was enrolled here before, and this one does not have its identity",
                    "find out whether its flash was erased or it is a copy; a new identity needs the old one retired",
                )
            return record
    return None


def _reserved(journal: Journal, file: TicketFile, status: Status) -> tuple[Ticket, bytes] | None:
    """The ticket and nonce that this board was promised."""
    by_id = {ticket.ticket_id.hex(): ticket for ticket in file.tickets}
    for entry in reversed(journal.entries):
        if entry.kind == RESERVED and entry.body["eui"] == status.eui.hex():
            ticket = by_id.get(str(entry.body["ticket"]))
            if ticket and status.ticket in (None, ticket.ticket_id):
                return ticket, bytes.fromhex(str(entry.body["station_nonce"]))
    if status.ticket is not None:
        raise StationRefused(
            f"board {status.eui.hex()} was enrolled elsewhere, with ticket {status.ticket.hex()}",
            "go on with the tickets and the journal of the station that began it",
        )
    return None


def _reserve(
    journal: Journal, file: TicketFile, status: Status, random: Callable[[int], bytes]
) -> tuple[Ticket, bytes]:
    spent = {entry.body["ticket"] for entry in journal.entries if entry.kind == RESERVED}
    for ticket in file.tickets:
        if ticket.ticket_id.hex() not in spent:
            nonce = random(wire.NONCE_LEN)
            journal.append(RESERVED, ticket=ticket.ticket_id.hex(), eui=status.eui.hex(), station_nonce=nonce.hex())
            return ticket, nonce
    raise StationRefused(
        f"no ticket is left: all {len(file.tickets)} of batch {file.batch} are given out",
        "get a new batch from the registry",
    )
