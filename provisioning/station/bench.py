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
from provisioning.station.ledger import Ledger, Standing
from provisioning.station.link import BoardRefused, LinkError, Status
from provisioning.tickets import Ticket, TicketFile
from sealwire import enrolment as wire
from sealwire.messages import EPOCH_2025

_T = TypeVar("_T")

WRONG_MODEL = "wrong_model"
NO_TICKET = "no_ticket"
ENROLLED_BEFORE = "enrolled_before"
DUPLICATE_KEY = "duplicate_key"
DUPLICATE_NONCE = "duplicate_nonce"

STEP = "enrol"  # what this is called in the journal
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
    """This board is not enrolled here now; nothing was spent.

    Attributes:
        reason: one of `WRONG_MODEL`, `NO_TICKET`, `ENROLLED_BEFORE`, `DUPLICATE_KEY`, `DUPLICATE_NONCE`.
    """

    def __init__(self, reason: str, what: str, remedy: str) -> None:
        super().__init__(what)
        self.reason = reason
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
    journal: Journal | Ledger,
    *,
    restart: bool = True,
    note_refusal: bool = True,
    chip_eui: bytes | None = None,
    clock: Callable[[], float] = time.time,
    random: Callable[[int], bytes] = os.urandom,
) -> Enrolled:
    """Give one board its identity, or finish what was begun.

    Args:
        file: the tickets that this station has.
        journal: this station's journal, open; or the ledger over it, which also knows other stations' journals.
        restart: boot the board anew when its record is on disk.
        note_refusal: journal why a board that has a ticket is not enrolled; False: the caller does.
        chip_eui: the number that the board must have, if it is known: a board that says another one gets no ticket.
        clock: Unix seconds.

    Raises:
        StationRefused: wrong model, no ticket left, a board that was enrolled elsewhere or before, or one that has
            another one's key or nonce.
        EnrolmentRefused: its record is malformed or does not answer what was asked.
        BoardRefused, LinkError: the board will not, or does not answer.
        JournalError: the journal cannot be written.
    """
    ledger = journal if isinstance(journal, Ledger) else Ledger(journal)
    status = patiently(board.status)
    if chip_eui is not None and status.eui != chip_eui:
        raise StationRefused(
            WRONG_MODEL, f"the board says it is {status.eui.hex()}, its chip is {chip_eui.hex()}", "take it out"
        )
    if status.model != file.model:
        raise StationRefused(
            WRONG_MODEL,
            f"board {status.eui.hex()} is a {status.model}; the tickets are for {file.model}",
            "use tickets for its model",
        )
    if done := _journaled(ledger, status):
        if restart:
            board.restart()
        return Enrolled(done, repeated=True)
    ticket, nonce = _reserved(ledger, file, status) or _reserve(ledger, file, status, random)
    try:
        data = patiently(lambda: board.enrol(ticket, nonce, max(0, int(clock()) - EPOCH_2025)))
        record = Record.from_bytes(data)
        record.answers(ticket, status.eui, nonce, file.model)
        with ledger.lock:  # two boards with one number or key could come at the same time
            standing = ledger.standing(status.eui.hex())
            if standing.record and standing.record != data:
                raise enrolled_before(standing)
            _refuse_duplicates(ledger, record)
            ledger.append(ENROLLED, ticket=ticket.ticket_id.hex(), eui=status.eui.hex(), record=data.hex())
    except (BoardRefused, EnrolmentRefused, StationRefused) as error:
        if note_refusal:
            reason = error.code if isinstance(error, BoardRefused) else error.reason
            eui, number = status.eui.hex(), ticket.ticket_id.hex()
            ledger.append(FAILED, eui=eui, ticket=number, reason=str(reason), step=STEP)
        raise
    if restart:
        board.restart()
    return Enrolled(record, repeated=False)


def tickets_left(journal: Journal, file: TicketFile) -> int:
    """How many tickets of the file are not spoken for in this journal."""
    spent = {entry.body["ticket"] for entry in journal.entries if entry.kind == RESERVED}
    return sum(ticket.ticket_id.hex() not in spent for ticket in file.tickets)


def patiently(ask: Callable[[], _T]) -> _T:
    """Ask a board again when it did not answer; raises LinkError after the last attempt."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except LinkError as error:
            if attempt == ATTEMPTS or error.gone:
                raise
    raise AssertionError


def _journaled(ledger: Ledger, status: Status) -> Record | None:
    """The record of a board that this station has enrolled; None if it has not."""
    standing = ledger.standing(status.eui.hex())
    if not standing.record:
        return None
    record = Record.from_bytes(standing.record)
    if status.ticket != record.ticket_id:
        raise enrolled_before(standing)
    return record


def enrolled_before(standing: Standing) -> StationRefused:
    """The refusal of a board whose number this station has enrolled, and which does not have that identity."""
    return StationRefused(
        ENROLLED_BEFORE,
        f"a board {standing.eui} was enrolled here before, and this one does not have its identity: "
        f"{standing.enrolled}",
        "find out whether its flash was erased or it is a copy; a new identity needs the old one retired",
    )


def _reserved(ledger: Ledger, file: TicketFile, status: Status) -> tuple[Ticket, bytes] | None:
    """The ticket and nonce that this board was promised."""
    eui = status.eui.hex()
    standing = ledger.standing(eui)
    for ticket in file.tickets:
        if ticket.ticket_id.hex() == standing.ticket and status.ticket in (None, ticket.ticket_id):
            return ticket, bytes.fromhex(standing.nonce)
    if past := ledger.elsewhere(eui):
        raise StationRefused(
            ENROLLED_BEFORE,
            f"it was enrolled before: {past}",
            "set it aside; a new identity needs the old one retired",
        )
    if status.ticket is not None:
        raise StationRefused(
            ENROLLED_BEFORE,
            f"board {eui} was enrolled elsewhere, with ticket {status.ticket.hex()}",
            "go on with the tickets and the journal of the station that began it",
        )
    return None


def _reserve(ledger: Ledger, file: TicketFile, status: Status, random: Callable[[int], bytes]) -> tuple[Ticket, bytes]:
    with ledger.lock:
        for ticket in file.tickets:
            number = ticket.ticket_id.hex()
            if not ledger.is_spent(number):
                nonce = random(wire.NONCE_LEN)
                ledger.append(RESERVED, ticket=number, eui=status.eui.hex(), station_nonce=nonce.hex())
                return ticket, nonce
    raise StationRefused(
        NO_TICKET,
        f"no ticket is left: all {len(file.tickets)} of batch {file.batch} are given out",
        "get a new batch from the registry",
    )


def _refuse_duplicates(ledger: Ledger, record: Record) -> None:
    for reason, what, past in (
        (DUPLICATE_KEY, "public key", ledger.same_key(record)),
        (DUPLICATE_NONCE, "nonce", ledger.same_nonce(record)),
    ):
        if past:
            raise StationRefused(
                reason,
                f"board {record.eui.hex()} came with the {what} of another one: {past}",
                "set both boards aside: their random number generators, or one of them, cannot be trusted",
            )
