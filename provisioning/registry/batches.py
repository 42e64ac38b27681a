"""Batches of tickets: issue within quotas, write the ticket file again, revoke. One transaction each, with its event.

A ticket file is linked into place as the last thing before the commit, and removed if the commit fails: there are
neither tickets without a file nor a file without tickets. Keeps secrets only through the vault. Prints nothing.
"""

import datetime
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import transaction
from django.db.models import Count, Q, Sum

from provisioning import signers, tickets, wholefile
from provisioning.registry import audit
from provisioning.registry.errors import Clock, RegistryError, moment
from provisioning.registry.models import Batch, ModelQuota, Ticket
from provisioning.registry.vault import Vault, ticket_label
from sealwire.messages import EPOCH_2025

DAY = datetime.timedelta(days=1)
QUOTA_MAX = 10_000_000


def issue_batch(
    vault: Vault,
    signer: signers.Signer,
    model: str,
    count: int,
    *,
    out: Path | None = None,
    service_key: bytes = b"",
    actor: str = "system",
    clock: Clock = time.time,
) -> tickets.TicketFile:
    """Make a batch of tickets; their private keys go into the database wrapped, the rest into the file.

    Args:
        model: the model of board that may be enrolled with them.
        count: 1 to 10,000.
        out: a new file to write the ticket file to; without it nothing is written.
        service_key: public key (65 bytes) whose tokens open the local port of these boards; b"" for none.

    Raises:
        RegistryError: model, count or key are out of bounds, the quota is used up, or the file exists already.
        OSError: the file cannot be written; then there is no batch either.
    """
    try:
        tickets.check_model(model)
    except ValueError as error:
        raise RegistryError(str(error), "give the model as board.toml has it") from None
    if not 1 <= count <= tickets.TICKETS_MAX:
        raise RegistryError(f"a batch has 1 to {tickets.TICKETS_MAX} tickets", "issue several batches")
    if service_key:
        try:
            tickets.check_public_key(service_key)
        except ValueError as error:
            raise RegistryError(f"the service key: {error}", "give a P-256 public key, 130 hex digits") from None
    now = moment(clock)
    with ExitStack() as undo:
        with transaction.atomic():
            _keep_to_quota(model, count, now)
            name = f"{now:%Y%m%d}-{os.urandom(4).hex()}"
            batch = Batch.objects.create(
                model=model,
                quota=count,
                created_at=now,
                name=name,
                signing_key=signer.public_key,
                parameters={},
                service_key=service_key,
            )
            Ticket.objects.bulk_create((_ticket(batch, vault, now) for _ in range(count)), batch_size=500)
            file = _sign(batch, signer)
            audit.append(vault, "batch_issued", subject=name, actor=actor, clock=clock, model=model, tickets=count)
            if out is not None:
                _put(out, file, undo)
        undo.pop_all()  # committed
    return file


def write_ticket_file(batch: Batch, signer: signers.Signer, out: Path, undo: ExitStack) -> tickets.TicketFile:
    """Write the file of a batch again, as the batch is now; inside the caller's transaction, as the last thing.

    Args:
        undo: removes the file again when it is closed; call its `pop_all` after the commit.

    Raises:
        RegistryError: another key signed the batch, or the file exists.
    """
    if signer.public_key != bytes(batch.signing_key):
        raise RegistryError(
            f"batch {batch.name} was signed by {signers.kid(bytes(batch.signing_key)).hex()}, not by this key",
            "name the key that signed it: --signing-key",
        )
    file = _sign(batch, signer)
    _put(out, file, undo)
    return file


def find_batch(name: str) -> Batch:
    """The batch of that name, locked until the transaction ends, or RegistryError."""
    batch = Batch.objects.select_for_update().filter(name=name).first()
    if batch is None:
        raise RegistryError(f"there is no batch {name!r}", "see: sealband registry batches")
    return batch


def batches() -> list[dict[str, Any]]:
    """All batches, oldest first, as plain values."""
    counts = {
        state.value: Count("tickets", filter=Q(tickets__state=state.value), distinct=True) for state in Ticket.State
    }
    rows = Batch.objects.annotate(**counts, certified=Count("issuers", distinct=True)).order_by("id")
    return [
        {
            "batch": row.name,
            "model": row.model,
            "created_at": row.created_at.isoformat(timespec="seconds"),
            "tickets": row.quota,
            **{state.value: getattr(row, state.value) for state in Ticket.State},
            "issuers": row.certified,
            "service": signers.kid(bytes(row.service_key)).hex() if row.service_key else "",
        }
        for row in rows
    ]


def revoke_batch(name: str, vault: Vault, *, actor: str = "system", clock: Clock = time.time) -> int:
    """Revoke the unused tickets of a batch and destroy their private keys; returns how many.

    Raises:
        RegistryError: there is no such batch.
    """
    with transaction.atomic():
        batch = find_batch(name)
        revoked = batch.tickets.filter(state=Ticket.State.ISSUED).update(
            state=Ticket.State.REVOKED, private_wrapped=None, changed_at=moment(clock)
        )
        if revoked:
            audit.append(vault, "batch_revoked", subject=name, actor=actor, clock=clock, tickets=revoked)
    return revoked


def set_quota(
    model: str,
    open_max: int | None,
    vault: Vault,
    *,
    a_day_max: int | None = None,
    actor: str = "system",
    clock: Clock = time.time,
) -> None:
    """Say how many tickets for a model may be open (issued and unused) at once, and be issued in a day.

    Args:
        open_max: 0 lets no more be issued; None takes the quota of the model away.

    Raises:
        RegistryError: a number is out of bounds, or the model is none.
    """
    try:
        tickets.check_model(model)
    except ValueError as error:
        raise RegistryError(str(error), "give the model as board.toml has it") from None
    if any(not 0 <= number <= QUOTA_MAX for number in (open_max, a_day_max) if number is not None):
        raise RegistryError(f"a quota is 0 to {QUOTA_MAX}", "give a smaller number")
    with transaction.atomic():
        if open_max is None:
            ModelQuota.objects.filter(model=model).delete()
        else:
            ModelQuota.objects.update_or_create(model=model, defaults={"open_max": open_max, "a_day_max": a_day_max})
        audit.append(
            vault,
            "batch_quota_changed",
            subject=model,
            actor=actor,
            clock=clock,
            open_max=open_max,
            a_day_max=a_day_max,
        )


def quotas(clock: Clock = time.time) -> list[dict[str, Any]]:
    """The quotas, and what is used of them."""
    since = moment(clock) - DAY
    return [
        {
            "model": row.model,
            "open_max": row.open_max,
            "open": _open(row.model),
            "a_day_max": row.a_day_max,
            "last_day": _issued_since(row.model, since),
        }
        for row in ModelQuota.objects.order_by("model")
    ]


def _keep_to_quota(model: str, count: int, now: datetime.datetime) -> None:
    # locked, so that two who issue at once do not both find room for one
    quota = ModelQuota.objects.select_for_update().filter(model=model).first()
    if quota is None:
        return
    left = quota.open_max - _open(model)
    if count > left:
        raise RegistryError(
            f"the quota for {model} is {quota.open_max} open tickets; {max(left, 0)} are left, {count} were asked for",
            "import the stations' journals or revoke batches that are over; who sets quotas may raise it",
        )
    if quota.a_day_max is not None and count > (left := quota.a_day_max - _issued_since(model, now - DAY)):
        raise RegistryError(
            f"the quota for {model} is {quota.a_day_max} tickets in 24 hours; {max(left, 0)} are left, "
            f"{count} were asked for",
            "wait, or ask who sets quotas",
        )


def _open(model: str) -> int:
    return Ticket.objects.filter(batch__model=model, state=Ticket.State.ISSUED).count()


def _issued_since(model: str, since: datetime.datetime) -> int:
    total = Batch.objects.filter(model=model, created_at__gt=since).aggregate(total=Sum("quota"))["total"]
    return int(total or 0)


def _ticket(batch: Batch, vault: Vault, now: datetime.datetime) -> Ticket:
    private = ec.generate_private_key(ec.SECP256R1())
    number = os.urandom(8)
    return Ticket(
        ticket_id=number,
        batch=batch,
        public_key=private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        private_wrapped=vault.wrap(private.private_numbers().private_value.to_bytes(32, "big"), ticket_label(number)),
        changed_at=now,
    )


def _sign(batch: Batch, signer: signers.Signer) -> tickets.TicketFile:
    rows = batch.tickets.order_by("id").values_list("ticket_id", "public_key")
    issuer = batch.issuers.order_by("-id").values_list("certificate", flat=True).first()
    return tickets.TicketFile.sign(
        batch.name,
        batch.model,
        max(0, int(batch.created_at.timestamp()) - EPOCH_2025),
        tuple(tickets.Ticket(bytes(number), bytes(key)) for number, key in rows),
        signer,
        service=bytes(batch.service_key),
        issuer=bytes(issuer or b""),
    )


def _put(out: Path, file: tickets.TicketFile, undo: ExitStack) -> None:
    write_new(out, file.to_bytes())
    undo.callback(out.unlink)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that was not there, whole or not at all.

    Raises:
        RegistryError: it is there.
        OSError: the disk refuses.
    """
    try:
        wholefile.create(path, data)
    except FileExistsError:
        raise RegistryError(f"{path} exists already", "name a new file") from None
