"""Import of a station's journal: admits its boards, keeps their certificates, opens their first frames.

One transaction for the whole journal, repeatable, with the reason for every entry that is refused. Chunks of a journal
are decided here, by the pure checks of `provisioning.enrolment`, from what was read of the database for all of a chunk
at once. What two imports at the same time cannot both see is decided by the database's own constraints; the chunk is
then judged again. Keeps secrets only through the vault. Prints nothing.

Locks are taken in one order, so that nobody waits in a circle: imports one after the other, then the tickets of all
the journal, then the audit trail.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from django.db import connection, transaction
from django.db.models import Max
from django.db.utils import IntegrityError

from provisioning import certificates, keys, signers
from provisioning.enrolment import EnrolmentRefused, IssuedTicket, Reason, Record, admit
from provisioning.registry import audit, devices, issuers
from provisioning.registry.errors import Clock, RegistryError, moment
from provisioning.registry.models import Certificate, Claim, Device, DeviceChain, EpochKey, JournalImport, Ticket
from provisioning.registry.vault import Vault, VaultError, chain_label, ticket_label
from provisioning.station import journal
from sealwire import frame as wire
from sealwire.keys import EPOCHS_WITHOUT_CONTACT

JOURNAL_MAX = 256 << 20  # bytes
CHUNK = 500  # entries
TRIES_MAX = 3  # of a chunk, when others admit boards at the same time
_TAKEN = frozenset({journal.ENROLLED, journal.CERTIFIED, journal.SEALED})
_IMPORTS = 0x5EA1BA9D  # number of the lock that imports take on PostgreSQL

Progress = Callable[[int, int], None]
_Found = dict[bytes, Device]
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Refusal:
    """An entry that was not taken.

    Attributes:
        line: its line in the journal.
        eui: of the board, in hex, as the journal says.
        ticket: its number in hex, as the journal says.
        reason: why, of a closed list.
        text: why, in words; of a board that was enrolled before, what it was.
    """

    line: int
    eui: str
    ticket: str
    reason: Reason
    text: str


@dataclass
class ImportResult:
    """What became of the entries of a journal.

    Attributes:
        admitted: EUIs, in hex, that have an identity from now on.
        repeated: records that were admitted by an earlier import.
        refused: entries that are not taken, each with its reason.
        torn: bytes of a half-written last line, which is not read.
        certified: certificates that are kept from now on.
        proven: devices whose first frame opened.
    """

    admitted: list[str] = field(default_factory=list)
    repeated: int = 0
    refused: list[Refusal] = field(default_factory=list)
    torn: int = 0
    certified: int = 0
    proven: int = 0


@dataclass
class _Chunk:
    """What became of a chunk; thrown away when the chunk is judged again."""

    admitted: list[str] = field(default_factory=list)
    repeated: int = 0
    refused: list[Refusal] = field(default_factory=list)
    events: list[tuple[str, str, dict[str, audit.Detail]]] = field(default_factory=list)


def import_journal(
    path: Path,
    vault: Vault,
    *,
    actor: str = "system",
    clock: Clock = time.time,
    progress: Progress = lambda done, total: None,
) -> ImportResult:
    """Take what a station's journal says: all that can be, in one transaction, and say why of the rest.

    Repeatable: what an earlier import took is counted as repeated, and nothing changes.

    Args:
        progress: told how many of how many entries are done.

    Raises:
        RegistryError: the journal is too long, is not one, or does not continue what was imported of it before.
        JournalDamaged: it was changed; nothing of it is taken.
        OSError: it cannot be read.
    """
    content = _read(path)
    result = ImportResult(torn=len(content.torn))
    with transaction.atomic():
        _one_after_the_other()
        known = _known(path, content)
        _Import(content, known.entries if known else 0, vault, actor, clock, progress).run(result)
    if result.admitted and connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            # destroyed ticket keys leave the write-ahead log too
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return result


def candidate_rows(device: Device, ck: bytes, epoch: int) -> list[EpochKey]:
    """Unsaved pseudonym rows of a device for `epoch` and those that it may go on to by itself; `ck` is CK[epoch]."""
    rows = []
    for number in range(epoch, epoch + EPOCHS_WITHOUT_CONTACT + 1):
        did = keys.epoch_keys(ck, bytes(device.eui)).did
        rows.append(EpochKey(device=device, epoch=number, epoch_bits=number & wire.EPOCH_BITS_MASK, did=did))
        ck = keys.ratchet(ck)
    return rows


class _Import:
    """One import, inside its transaction."""

    def __init__(
        self,
        content: journal.Content,
        before: int,
        vault: Vault,
        actor: str,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self._content = content
        self._before = before
        self._vault = vault
        self._actor = actor
        self._clock = clock
        self._now = moment(clock)
        self._progress = progress
        self._done = 0
        self._events: list[tuple[str, str, dict[str, audit.Detail]]] = []

    def run(self, result: ImportResult) -> None:
        entries = [entry for entry in self._content.entries if entry.kind in _TAKEN]
        self._lock_tickets(entries)
        total = len(entries)
        for kind, take in (
            (journal.ENROLLED, self._enrolled),
            (journal.CERTIFIED, self._certified),
            (journal.SEALED, self._sealed),
        ):
            for chunk in chunks([entry for entry in entries if entry.kind == kind]):
                take(chunk, result)
                self._done += len(chunk)
                self._progress(self._done, total)
        result.refused.sort(key=lambda refusal: refusal.line)
        # also of entries that were refused before and are let in now
        if self._before < len(self._content.entries) or self._events:
            self._note(result)

    def _note(self, result: ImportResult) -> None:
        name = _name(self._content)
        entries = len(self._content.entries)
        JournalImport.objects.update_or_create(journal=name, defaults={"entries": entries, "head": self._content.head})
        audit.append_all(self._vault, self._events, actor=self._actor, clock=self._clock)
        audit.append(
            self._vault,
            "journal_imported",
            subject=name.hex(),
            actor=self._actor,
            clock=self._clock,
            admitted=len(result.admitted),
            repeated=result.repeated,
            refused=len(result.refused),
            certified=result.certified,
            proven=result.proven,
            entries=entries,
        )

    def _lock_tickets(self, entries: Sequence[journal.Entry]) -> None:
        numbers = sorted({bytes.fromhex(entry.body["ticket"]) for entry in entries})
        for part in chunks(numbers):
            list(Ticket.objects.select_for_update().filter(ticket_id__in=part).order_by("pk").values_list("pk"))

    def _refused(self, entry: journal.Entry, reason: Reason, text: str) -> Refusal:
        return Refusal(entry.number, entry.body["eui"], entry.body["ticket"], reason, text)

    def _is_new(self, entry: journal.Entry) -> bool:
        return entry.number > self._before

    # --- records

    def _enrolled(self, entries: Sequence[journal.Entry], result: ImportResult) -> None:
        records = [self._parsed(entry) for entry in entries]
        for attempt in range(1, TRIES_MAX + 1):
            try:
                with transaction.atomic():
                    chunk = self._judge(entries, records)
                break
            except IntegrityError:
                # somebody else was admitted in between: now it is seen which of the values is taken
                if attempt == TRIES_MAX:
                    raise
        result.admitted += chunk.admitted
        result.repeated += chunk.repeated
        result.refused += chunk.refused
        self._events += chunk.events

    def _parsed(self, entry: journal.Entry) -> Record | EnrolmentRefused:
        try:
            record = Record.from_bytes(bytes.fromhex(entry.body["record"]))
        except EnrolmentRefused as refused:
            return refused
        if record.eui.hex() != entry.body["eui"] or record.ticket_id.hex() != entry.body["ticket"]:
            return EnrolmentRefused(Reason.OTHER_BOARD, "the journal names another board or ticket than the record")
        return record

    def _judge(self, entries: Sequence[journal.Entry], records: Sequence[Record | EnrolmentRefused]) -> _Chunk:
        """Decide a chunk and write what follows; raises IntegrityError when somebody else was faster."""
        chunk, made = _Chunk(), _Made()
        known = _Known(record for record in records if isinstance(record, Record))
        for entry, record in zip(entries, records, strict=True):
            try:
                if isinstance(record, EnrolmentRefused):
                    raise record
                device = self._admitted(record, known, made)
            except EnrolmentRefused as refused:
                chunk.refused.append(self._refused(entry, refused.reason, str(refused)))
                if self._is_new(entry):
                    details: dict[str, audit.Detail] = {"ticket": entry.body["ticket"], "reason": str(refused.reason)}
                    chunk.events.append(("device_enrolment_refused", entry.body["eui"], details))
                continue
            if device is None:
                chunk.repeated += 1
                continue
            chunk.admitted.append(device.eui_hex)
            chunk.events.append(("device_enrolled", device.eui_hex, self._told(device)))
        made.write(self._vault, self._now)
        return chunk

    def _admitted(self, record: Record, known: "_Known", made: "_Made") -> Device | None:
        """The new device; None if this very record made one before. Raises EnrolmentRefused."""
        ticket = known.tickets.get(record.ticket_id)
        if ticket is None:
            raise EnrolmentRefused(Reason.UNKNOWN_TICKET, "there is no such ticket")
        if ticket.state == Ticket.State.REVOKED:
            raise EnrolmentRefused(
                Reason.TICKET_REVOKED, f"the ticket, of batch {ticket.batch.name}, was revoked on {_day(ticket)}"
            )
        if ticket.state == Ticket.State.USED:
            user = known.users[record.ticket_id]
            if bytes(user.record_digest) == record.digest:
                return None
            raise EnrolmentRefused(Reason.TICKET_USED, f"the ticket was used: {devices.was(user)}")
        former = known.refuse_taken(record)
        assert ticket.private_wrapped is not None  # the database's own constraint
        private = self._vault.unwrap(ticket.private_wrapped, ticket_label(record.ticket_id))
        root = admit(record, IssuedTicket(bytes(ticket.public_key), private, ticket.batch.model))
        device = Device(
            eui=record.eui,
            public_key=record.device_pub,
            device_nonce=record.device_nonce,
            model=record.model,
            state=Device.State.ENROLLED,
            changed_at=self._now,
            ticket=ticket,
            record_digest=record.digest,
            enrolled_at=self._now,
            release=record.release,
        )
        ticket.state, ticket.private_wrapped = Ticket.State.USED, None
        known.add(device)
        made.add(device, root, former)
        return device

    def _told(self, device: Device) -> dict[str, audit.Detail]:
        return {
            "batch": device.ticket.batch.name,
            "key": signers.kid(bytes(device.public_key)).hex(),
            "model": device.model,
            "ticket": bytes(device.ticket.ticket_id).hex(),
        }

    # --- certificates and first frames

    def _certified(self, entries: Sequence[journal.Entry], result: ImportResult) -> None:
        users = _users(entry.body["ticket"] for entry in entries)
        for entry in entries:
            try:
                is_new = self._certificate(entry, users)
            except EnrolmentRefused as refused:
                self._refuse(entry, refused, result)
                continue
            result.certified += is_new

    def _certificate(self, entry: journal.Entry, users: _Found) -> bool:
        device = _user(entry, users)
        der = bytes.fromhex(entry.body["certificate"])
        batch = device.ticket.batch
        told, why = None, f"batch {batch.name} has no issuing certificate"
        for issuer in issuers.newest(batch):
            try:
                told = certificates.check_device(der, bytes(issuer.certificate), bytes(device.eui), batch=batch.name)
                break
            except certificates.CertificateError as error:
                why = str(error)
        if told is None:
            raise EnrolmentRefused(Reason.BAD_CERTIFICATE, why)
        serial = f"{told.serial:x}"
        if Certificate.objects.filter(digest=told.digest).exists():
            return False
        if Certificate.objects.filter(issuer=issuer, serial=serial).exists():
            raise EnrolmentRefused(Reason.BAD_CERTIFICATE, "another certificate has its serial number")
        Certificate.objects.create(
            device=device,
            issuer=issuer,
            serial=serial,
            digest=told.digest,
            ends_at=told.ends,
            # of a device that is over by now
            revoked_at=None if device.state in devices.PRESENT else self._now,
        )
        details: dict[str, audit.Detail] = {"serial": serial, "sha256": told.digest.hex()}
        self._events.append(("certificate_issued", device.eui_hex, details))
        return True

    def _sealed(self, entries: Sequence[journal.Entry], result: ImportResult) -> None:
        users = _users(entry.body["ticket"] for entry in entries)
        for entry in entries:
            try:
                device = _user(entry, users)
                if device.proven_at is not None:
                    continue
                if not self._opens(bytes.fromhex(entry.body["frame"]), device):
                    raise EnrolmentRefused(
                        Reason.BAD_FRAME, "its first frame does not open: the board and the registry differ in keys"
                    )
            except EnrolmentRefused as refused:
                self._refuse(entry, refused, result)
                continue
            device.proven_at = self._now
            device.save(update_fields=["proven_at"])
            result.proven += 1

    def _opens(self, data: bytes, device: Device) -> bool:
        """Whether a frame is one that the device sealed in its first epoch."""
        chain = DeviceChain.objects.filter(device=device, newest_epoch=0).first()
        if chain is None:
            return False  # the device has gone on, or is over: what could open it is destroyed
        eui = bytes(device.eui)
        try:
            parts = wire.parse(data)
            own = keys.epoch_keys(self._vault.unwrap(chain.ck_wrapped, chain_label(eui, 0)), eui)
            if parts.kind != wire.KIND_DATA or parts.did != own.did:
                return False
            aad = wire.associated_data(parts.ctl, eui, 0, parts.ctr)
            AESCCM(own.ku, tag_length=wire.TAG_LEN).decrypt(wire.nonce(own.iu, parts.ctr), bytes(parts.sealed), aad)
        except (wire.FrameError, VaultError, InvalidTag):
            return False
        return True

    def _refuse(self, entry: journal.Entry, refused: EnrolmentRefused, result: ImportResult) -> None:
        result.refused.append(self._refused(entry, refused.reason, str(refused)))
        if self._is_new(entry):
            details: dict[str, audit.Detail] = {"ticket": entry.body["ticket"], "reason": str(refused.reason)}
            self._events.append(("device_enrolment_refused", entry.body["eui"], details))


class _Known:
    """What the database says of the tickets and values of a chunk's records, and what the chunk adds to it."""

    def __init__(self, records: Iterable[Record]) -> None:
        told = list(records)
        numbers = [record.ticket_id for record in told]
        self.tickets = {
            bytes(row.ticket_id): row
            for row in Ticket.objects.select_related("batch").filter(ticket_id__in=numbers).order_by("pk")
        }
        rows = Device.objects.select_related("ticket__batch")
        self.users = {bytes(row.ticket.ticket_id): row for row in rows.filter(ticket__ticket_id__in=numbers)}
        self._keys = {
            bytes(row.public_key): row for row in rows.filter(public_key__in=[record.device_pub for record in told])
        }
        self._nonces = {
            bytes(row.device_nonce): row
            for row in rows.filter(device_nonce__in=[record.device_nonce for record in told])
        }
        euis = [record.eui for record in told]
        self._boards = {bytes(row.eui): row for row in rows.filter(eui__in=euis, former=None)}

    def add(self, device: Device) -> None:
        self.users[bytes(device.ticket.ticket_id)] = device
        self._keys[bytes(device.public_key)] = device
        self._nonces[bytes(device.device_nonce)] = device
        self._boards[bytes(device.eui)] = device

    def refuse_taken(self, record: Record) -> Device | None:
        """The board's identity before, if another may follow it; raises EnrolmentRefused for what is taken."""
        if other := self._keys.get(record.device_pub):
            raise EnrolmentRefused(
                Reason.KEY_TAKEN, f"another board has this key, one is a copy of the other: {devices.was(other)}"
            )
        before = self._boards.get(record.eui)
        if before is not None and before.reenrol_at is None:
            raise EnrolmentRefused(
                Reason.EUI_TAKEN,
                f"{devices.was(before)}; it is let in again by: sealband registry reenrol {before.eui_hex}",
            )
        if other := self._nonces.get(record.device_nonce):
            raise EnrolmentRefused(
                Reason.NONCE_TAKEN,
                f"another board drew the same nonce, its random numbers are not random: {devices.was(other)}",
            )
        return before


class _Made:
    """Devices that are to be written, all of a chunk at once."""

    def __init__(self) -> None:
        self._rows: list[tuple[Device, bytes]] = []
        self._former: list[Device] = []

    def add(self, device: Device, root: bytes, former: Device | None) -> None:
        self._rows.append((device, root))
        if former is not None:
            self._former.append(former)

    def write(self, vault: Vault, now: datetime) -> None:
        for row in self._former:
            numbers = Device.objects.filter(eui=row.eui).aggregate(last=Max("former"))
            row.former = (numbers["last"] or 0) + 1
            row.save(update_fields=["former"])
        made = [device for device, _ in self._rows]
        Device.objects.bulk_create(made)
        DeviceChain.objects.bulk_create(
            DeviceChain(device=device, newest_epoch=0, ck_wrapped=vault.wrap(root, chain_label(bytes(device.eui), 0)))
            for device, root in self._rows
        )
        EpochKey.objects.bulk_create(
            (row for device, root in self._rows for row in candidate_rows(device, root, 0)), batch_size=CHUNK
        )
        Claim.objects.bulk_create(
            Claim(device=device, digest=keys.claim_digest(bytes(device.eui), keys.claim_secret(root)))
            for device, root in self._rows
        )
        Ticket.objects.filter(pk__in=[device.ticket_id for device in made]).update(
            state=Ticket.State.USED, private_wrapped=None, changed_at=now
        )


def chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """So many at a time as one statement takes."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def _users(tickets: Iterable[str]) -> _Found:
    """The devices that were made of these tickets."""
    rows = Device.objects.select_related("ticket__batch").filter(
        ticket__ticket_id__in=[bytes.fromhex(number) for number in tickets]
    )
    return {bytes(row.ticket.ticket_id): row for row in rows}


def _user(entry: journal.Entry, users: _Found) -> Device:
    device = users.get(bytes.fromhex(entry.body["ticket"]))
    if device is None or device.eui_hex != entry.body["eui"]:
        raise EnrolmentRefused(Reason.NOT_ENROLLED, "no board was admitted with this ticket and this EUI")
    return device


def _day(ticket: Ticket) -> str:
    return f"{ticket.changed_at:%Y-%m-%d}"


def _one_after_the_other() -> None:
    """Imports wait for each other. SQLite has one writer at all."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_IMPORTS])


def _read(path: Path) -> journal.Content:
    with open(path, "rb") as file:
        data = file.read(JOURNAL_MAX + 1)
    if len(data) > JOURNAL_MAX:
        raise RegistryError(f"{path} is longer than {JOURNAL_MAX} bytes", "check that it is a journal")
    content = journal.parse(data)
    if not content.entries:
        raise RegistryError(f"{path} is not a journal: it has no first entry", "name the station's journal")
    return content


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
