"""What the registry does, each in one transaction with its audit event: create, issue, import, revoke, list.

Decides by the pure checks of `provisioning.enrolment`; keeps secrets only through the vault. Prints nothing.
"""

import datetime
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import connection, transaction
from django.db.utils import IntegrityError

from provisioning import keys, registry, signers, tickets
from provisioning.enrolment import EnrolmentRefused, IssuedTicket, Reason, Record, admit
from provisioning.registry import audit
from provisioning.registry.models import AuditEvent, Batch, Device, DeviceChain, EpochKey, JournalImport, Ticket
from provisioning.registry.vault import Vault, chain_label, ticket_label
from provisioning.station import journal
from sealwire.frame import EPOCH_BITS_MASK
from sealwire.messages import EPOCH_2025

EPOCHS_AHEAD = 3  # a device may go on by itself so far
JOURNAL_MAX = 256 << 20  # bytes


class RegistryError(Exception):
    """The registry cannot do it; the message says why."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Refusal:
    """A record that was not admitted.

    Attributes:
        line: its line in the journal.
        eui: of the board, in hex, as the journal says.
        ticket: its number in hex, as the journal says.
        reason: why, of a closed list.
        text: why, in words.
    """

    line: int
    eui: str
    ticket: str
    reason: Reason
    text: str


@dataclass
class ImportResult:
    """What became of the records of a journal.

    Attributes:
        admitted: EUIs, in hex, that have an identity from now on.
        repeated: records that were admitted by an earlier import.
        refused: records that are not admitted, each with its reason.
        torn: bytes of a half-written last line, which is not read.
    """

    admitted: list[str] = field(default_factory=list)
    repeated: int = 0
    refused: list[Refusal] = field(default_factory=list)
    torn: int = 0


def init_registry(vault: Vault, actor: str = "system", clock: Callable[[], float] = time.time) -> bool:
    """Create the tables, or bring them up to date; True if the registry is new.

    Raises:
        AuditBroken: it exists and its audit trail does not fit this master key.
    """
    registry.migrate()
    with transaction.atomic():
        if AuditEvent.objects.exists() or Batch.objects.exists() or Device.objects.exists():
            audit.verify(vault)
            return False
        audit.append(vault, audit.FIRST, actor=actor, clock=clock)
    return True


def require_registry() -> None:
    """Raise RegistryError unless the connected database is a registry of this version."""
    if registry.pending_migrations():
        raise RegistryError("the database is not a registry, or one of an older version", "run: sealband registry init")


def issue_batch(
    vault: Vault,
    signer: signers.Signer,
    model: str,
    count: int,
    *,
    out: Path | None = None,
    actor: str = "system",
    clock: Callable[[], float] = time.time,
) -> tickets.TicketFile:
    """Make a batch of tickets; their private keys go into the database wrapped, the rest into the file.

    Args:
        model: the model of board that may be enrolled with them.
        count: 1 to 10,000.
        out: a new file to write the ticket file to; without it nothing is written.

    Raises:
        RegistryError: model or count are out of bounds, or the file exists already.
        OSError: the file cannot be written; then there is no batch either.
    """
    try:
        tickets.check_model(model)
    except ValueError as error:
        raise RegistryError(str(error), "give the model as board.toml has it") from None
    if not 1 <= count <= tickets.TICKETS_MAX:
        raise RegistryError(f"a batch has 1 to {tickets.TICKETS_MAX} tickets", "issue several batches")
    with ExitStack() as undo:
        file = _issue(vault, signer, model, count, out, actor, clock, undo)
        undo.pop_all()  # committed
    return file


def _issue(
    vault: Vault,
    signer: signers.Signer,
    model: str,
    count: int,
    out: Path | None,
    actor: str,
    clock: Callable[[], float],
    undo: ExitStack,
) -> tickets.TicketFile:
    now = datetime.datetime.fromtimestamp(clock(), datetime.UTC)
    name = f"{now:%Y%m%d}-{os.urandom(4).hex()}"
    issued_at = max(0, int(now.timestamp()) - EPOCH_2025)
    with transaction.atomic():
        batch = Batch.objects.create(
            model=model, quota=count, created_at=now, name=name, signing_key=signer.public_key, parameters={}
        )
        rows, issued = [], []
        for _ in range(count):
            private = ec.generate_private_key(ec.SECP256R1())
            ticket = tickets.Ticket(
                os.urandom(8), private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            )
            scalar = private.private_numbers().private_value.to_bytes(32, "big")
            issued.append(ticket)
            rows.append(
                Ticket(
                    ticket_id=ticket.ticket_id,
                    batch=batch,
                    public_key=ticket.public_key,
                    private_wrapped=vault.wrap(scalar, ticket_label(ticket.ticket_id)),
                    changed_at=now,
                )
            )
        Ticket.objects.bulk_create(rows, batch_size=500)
        file = tickets.TicketFile.sign(name, model, issued_at, tuple(issued), signer)
        audit.append(vault, "batch_issued", subject=name, actor=actor, clock=clock, model=model, tickets=count)
        if out is not None:
            # the last thing before the commit: neither tickets without a file nor, as `undo` sees to, the reverse
            _write_new(out, file.to_bytes())
            undo.callback(out.unlink)
    return file


def import_journal(
    path: Path, vault: Vault, *, actor: str = "system", clock: Callable[[], float] = time.time
) -> ImportResult:
    """Admit the boards of a station's journal: all that can be, in one transaction, and say why of the others.

    Repeatable: what an earlier import admitted is counted as repeated, and nothing changes.

    Raises:
        RegistryError: the journal is too long, is not one, or does not continue what was imported of it before.
        JournalDamaged: it was changed; nothing of it is admitted.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(JOURNAL_MAX + 1)
    if len(data) > JOURNAL_MAX:
        raise RegistryError(f"{path} is longer than {JOURNAL_MAX} bytes", "check that it is a journal")
    content = journal.parse(data)
    if not content.entries:
        raise RegistryError(f"{path} is not a journal: it has no first entry", "name the station's journal")
    result = ImportResult(torn=len(content.torn))
    with transaction.atomic():
        known = _known(path, content)
        before = known.entries if known else 0
        for entry in content.entries:
            if entry.kind == journal.ENROLLED:
                _import(entry, vault, actor, clock, result, first_time=entry.number > before)
        if before < len(content.entries):
            name = _name(content)
            JournalImport.objects.update_or_create(
                journal=name, defaults={"entries": len(content.entries), "head": content.head}
            )
            audit.append(
                vault,
                "journal_imported",
                subject=name.hex(),
                actor=actor,
                clock=clock,
                admitted=len(result.admitted),
                repeated=result.repeated,
                refused=len(result.refused),
                entries=len(content.entries),
            )
    if result.admitted and connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            # destroyed ticket keys leave the write-ahead log too
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return result


def revoke_batch(name: str, vault: Vault, *, actor: str = "system", clock: Callable[[], float] = time.time) -> int:
    """Revoke the unused tickets of a batch and destroy their private keys; returns how many.

    Raises:
        RegistryError: there is no such batch.
    """
    with transaction.atomic():
        batch = Batch.objects.filter(name=name).first()
        if batch is None:
            raise RegistryError(f"there is no batch {name!r}", "see: sealband registry devices")
        revoked = batch.tickets.filter(state=Ticket.State.ISSUED).update(
            state=Ticket.State.REVOKED, private_wrapped=None, changed_at=_now(clock)
        )
        if revoked:
            audit.append(vault, "key_revoked", subject=name, actor=actor, clock=clock, tickets=revoked)
    return revoked


def devices() -> list[dict[str, str | int]]:
    """All devices, oldest first, as plain values."""
    rows = Device.objects.select_related("ticket__batch", "chain").order_by("id")
    return [
        {
            "eui": row.eui_hex,
            "model": row.model,
            "state": row.state,
            "batch": row.ticket.batch.name,
            "ticket": bytes(row.ticket.ticket_id).hex(),
            "enrolled_at": row.enrolled_at.isoformat(timespec="seconds"),
            "epoch": row.chain.newest_epoch,
            "release": row.release,
            "key": signers.kid(bytes(row.public_key)).hex(),
        }
        for row in rows
    ]


def candidate_rows(device: Device, ck: bytes, epoch: int) -> list[EpochKey]:
    """Unsaved pseudonym rows of a device for `epoch` and the three after it; `ck` is CK[epoch]."""
    rows = []
    for number in range(epoch, epoch + EPOCHS_AHEAD + 1):
        did = keys.epoch_keys(ck, bytes(device.eui)).did
        rows.append(EpochKey(device=device, epoch=number, epoch_bits=number & EPOCH_BITS_MASK, did=did))
        ck = keys.ratchet(ck)
    return rows


def _import(
    entry: journal.Entry,
    vault: Vault,
    actor: str,
    clock: Callable[[], float],
    result: ImportResult,
    *,
    first_time: bool,
) -> None:
    eui, ticket = entry.body["eui"], entry.body["ticket"]
    try:
        record = Record.from_bytes(bytes.fromhex(entry.body["record"]))
        if record.eui.hex() != eui or record.ticket_id.hex() != ticket:
            raise EnrolmentRefused(Reason.OTHER_BOARD, "the journal names another board or ticket than the record")
        try:
            with transaction.atomic():
                admitted = _admit(record, vault, actor, clock)
        except IntegrityError:
            # somebody else was admitted in between: now it is seen which of the values is taken
            _refuse_taken(record)
            raise
    except EnrolmentRefused as refused:
        result.refused.append(Refusal(entry.number, eui, ticket, refused.reason, str(refused)))
        if first_time:
            audit.append(
                vault,
                "device_enrolment_refused",
                subject=eui,
                actor=actor,
                clock=clock,
                ticket=ticket,
                reason=str(refused.reason),
            )
        return
    if admitted:
        result.admitted.append(eui)
    else:
        result.repeated += 1


def _admit(record: Record, vault: Vault, actor: str, clock: Callable[[], float]) -> bool:
    """Make the device; False if this very record made it before. Raises EnrolmentRefused."""
    row = (
        Ticket.objects.select_for_update(of=("self",))
        .select_related("batch")
        .filter(ticket_id=record.ticket_id)
        .first()
    )
    if row is None:
        raise EnrolmentRefused(Reason.UNKNOWN_TICKET, "there is no such ticket")
    if row.state == Ticket.State.REVOKED:
        raise EnrolmentRefused(Reason.TICKET_REVOKED, "the ticket was revoked")
    if row.state == Ticket.State.USED:
        if bytes(row.device.record_digest) == record.digest:
            return False
        raise EnrolmentRefused(Reason.TICKET_USED, f"the ticket was used by board {row.device.eui_hex}")
    _refuse_taken(record)
    assert row.private_wrapped is not None  # the database's own constraint
    private = vault.unwrap(row.private_wrapped, ticket_label(record.ticket_id))
    root = admit(record, IssuedTicket(bytes(row.public_key), private, row.batch.model))
    now = _now(clock)
    device = Device.objects.create(
        eui=record.eui,
        public_key=record.device_pub,
        device_nonce=record.device_nonce,
        model=record.model,
        ticket=row,
        record_digest=record.digest,
        enrolled_at=now,
        release=record.release,
    )
    DeviceChain.objects.create(device=device, newest_epoch=0, ck_wrapped=vault.wrap(root, chain_label(record.eui, 0)))
    EpochKey.objects.bulk_create(candidate_rows(device, root, 0))
    row.state = Ticket.State.USED
    row.private_wrapped = None
    row.changed_at = now
    row.save()
    audit.append(
        vault,
        "device_enrolled",
        subject=device.eui_hex,
        actor=actor,
        clock=clock,
        batch=row.batch.name,
        key=signers.kid(record.device_pub).hex(),
        model=record.model,
        ticket=record.ticket_id.hex(),
    )
    return True


def _refuse_taken(record: Record) -> None:
    if Device.objects.filter(public_key=record.device_pub).exists():
        raise EnrolmentRefused(Reason.KEY_TAKEN, "another board has this key: one is a copy of the other")
    if Device.objects.filter(eui=record.eui).exists():
        raise EnrolmentRefused(Reason.EUI_TAKEN, "a board with this EUI is enrolled already")
    if Device.objects.filter(device_nonce=record.device_nonce).exists():
        raise EnrolmentRefused(
            Reason.NONCE_TAKEN, "another board drew the same nonce: its random numbers are not random"
        )


def _known(path: Path, content: journal.Content) -> JournalImport | None:
    """What was imported of this journal before, after checking that it still begins with that."""
    known = JournalImport.objects.select_for_update().filter(journal=_name(content)).first()
    if known is None:
        return None
    if known.entries > len(content.entries):
        raise RegistryError(
            f"{path} has {len(content.entries)} entries, but {known.entries} were imported before: its end is cut off",
            "import the journal itself, not an older copy",
        )
    if content.entries[known.entries - 1].digest != bytes(known.head):
        raise RegistryError(
            f"{path} was rewritten: its first {known.entries} entries are not those imported before",
            "keep it as evidence and ask the station",
        )
    return known


def _name(content: journal.Content) -> bytes:
    return bytes.fromhex(content.entries[0].body["journal"])


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that was not there, whole or not at all."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=".tickets-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(beside, path)  # unlike rename, fails where a file is
    except FileExistsError:
        raise RegistryError(f"{path} exists already", "name a new file; a batch is issued once") from None
    finally:
        os.unlink(beside)


def _now(clock: Callable[[], float]) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(clock(), datetime.UTC)
