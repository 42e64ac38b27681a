"""The life of a device: enrolled → active ⇄ suspended → retiring → retired, or revoked. One transaction a step.

    enrolled   admitted; active with the first frame that is opened (`activate`)
    suspended  refused until it is resumed
    retiring   told to retire; heard until its receipt comes (`ended`), or until it is given up (`retire` as lost)
    revoked    refused for good
    retired    ended; only so may another identity of the same board follow, and only after `allow_reenrol`

With revoked and retired the server's keys of the device are destroyed, its certificates are revoked, and its claim
ends. What it sent stays, under its own row. Commands to devices are not known here: see `host_tools.ingest.lifecycle`.
"""

import json
import time
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction

from provisioning import signers
from provisioning.registry import audit
from provisioning.registry.errors import Clock, RegistryError, moment
from provisioning.registry.models import AuditEvent, Certificate, Claim, Device, DeviceChain
from provisioning.registry.vault import Vault

State = Device.State
# whose frames are opened
HEARD = frozenset({State.ENROLLED, State.ACTIVE, State.RETIRING})
# who is worn or will be: updates and keys are for them
SERVED = frozenset({State.ENROLLED, State.ACTIVE})
# who is still there: at a broker, for a claim
PRESENT = HEARD | {State.SUSPENDED}
REASON_MAX = 200


def find(eui: bytes, *, former: int | None = None, lock: bool = True) -> Device:
    """The present identity of a board, or a former one, by EUI; locked until the transaction ends.

    Raises:
        RegistryError: it is not enrolled.
    """
    rows = Device.objects.select_related("ticket__batch")
    if lock:
        rows = rows.select_for_update(of=("self",))
    row = rows.filter(eui=eui, former=former).first()
    if row is None:
        raise RegistryError(f"{eui.hex()} is not enrolled", "see: sealband registry devices")
    return row


def served(eui: bytes, what: str) -> Device:
    """The present identity of a board that is served, locked until the transaction ends.

    Args:
        what: it is to be told, for people.

    Raises:
        RegistryError: it is not enrolled, or not served.
    """
    row = find(eui)
    if row.state not in SERVED:
        raise RegistryError(f"{row.eui_hex} is {row.state}: it takes no {what}", "resume it first, if it may be")
    return row


def suspend(eui: bytes, vault: Vault, *, reason: str = "", actor: str = "system", clock: Clock = time.time) -> None:
    """Refuse a device's frames until it is resumed.

    Raises:
        RegistryError: it is not enrolled, or not in a state from which this can be done.
    """
    _step(eui, vault, State.SUSPENDED, {State.ENROLLED, State.ACTIVE}, "device_suspended", reason, actor, clock)


def resume(eui: bytes, vault: Vault, *, reason: str = "", actor: str = "system", clock: Clock = time.time) -> None:
    """Take a suspended device's frames again.

    Raises:
        RegistryError: it is not suspended.
    """
    with transaction.atomic():
        state = State.ACTIVE if find(eui).active_at else State.ENROLLED
        _step(eui, vault, state, {State.SUSPENDED}, "device_resumed", reason, actor, clock)


def revoke(eui: bytes, vault: Vault, *, reason: str = "", actor: str = "system", clock: Clock = time.time) -> None:
    """Refuse a device for good, from its next frame on, and destroy its keys.

    Raises:
        RegistryError: it is retired or revoked already.
    """
    with transaction.atomic():
        row = _step(eui, vault, State.REVOKED, PRESENT, "device_revoked", reason, actor, clock)
        _destroy(row, moment(clock))
    _forget_on_disk()


def retiring(eui: bytes, vault: Vault, *, reason: str = "", actor: str = "system", clock: Clock = time.time) -> Device:
    """Note that a device is told to retire; inside the transaction that queues the command.

    Raises:
        RegistryError: it is retired or revoked already.
    """
    return _step(eui, vault, State.RETIRING, PRESENT, "device_retiring", reason, actor, clock, again=True)


def write_off(eui: bytes, vault: Vault, *, reason: str = "", actor: str = "system", clock: Clock = time.time) -> None:
    """Retire a device that cannot answer any more, lost or broken: without its receipt, and with what it holds.

    Raises:
        RegistryError: it is retired already.
    """
    with transaction.atomic():
        row = _step(eui, vault, State.RETIRED, PRESENT | {State.REVOKED}, "device_lost", reason, actor, clock)
        _destroy(row, moment(clock))
    _forget_on_disk()


def ended(device: int, vault: Vault, *, actor: str = "ingest", clock: Clock = time.time) -> bool:
    """Retire a device whose receipt says that it erases itself; in the caller's transaction. False: it was not told."""
    row = Device.objects.select_for_update(of=("self",)).filter(pk=device, state=State.RETIRING).first()
    if row is None:
        return False
    now = moment(clock)
    _enter(row, State.RETIRED, now)
    _destroy(row, now)
    audit.append(vault, "device_retired", subject=row.eui_hex, actor=actor, clock=clock, receipt=True)
    return True


def activate(devices: Collection[int], vault: Vault, *, actor: str = "ingest", clock: Clock = time.time) -> None:
    """Note that frames of these devices were opened; in the caller's transaction."""
    rows = Device.objects.select_for_update(of=("self",)).filter(pk__in=set(devices), state=State.ENROLLED)
    for row in rows.order_by("pk"):
        row.active_at = moment(clock)
        row.save(update_fields=["active_at"])
        _enter(row, State.ACTIVE, row.active_at)
        audit.append(vault, "device_activated", subject=row.eui_hex, actor=actor, clock=clock)


def allow_reenrol(
    eui: bytes, vault: Vault, *, reason: str = "", actor: str = "system", clock: Clock = time.time
) -> None:
    """Let another identity of a retired device's board in, by the record of a new ticket.

    Raises:
        RegistryError: it is not enrolled, or not retired.
    """
    _check_reason(reason)
    with transaction.atomic():
        row = find(eui)
        if row.state != State.RETIRED:
            raise RegistryError(
                f"{row.eui_hex} is {row.state}: a board is enrolled again only when its old identity is retired",
                "retire it first: sealband registry retire EUI, or --lost when it cannot answer",
            )
        row.reenrol_at = moment(clock)
        row.save(update_fields=["reenrol_at"])
        audit.append(vault, "device_reenrol_allowed", subject=eui.hex(), actor=actor, clock=clock, reason=reason)


def was(row: Device) -> str:
    """What a board was before, in words: for whoever tries to enrol it again."""
    when = f"{row.enrolled_at.astimezone(UTC):%Y-%m-%d}"
    since = f" since {row.changed_at.astimezone(UTC):%Y-%m-%d}" if row.changed_at else ""
    ticket = bytes(row.ticket.ticket_id).hex()
    now = f"replaced by a later one ({row.label})" if row.former else f"now {row.state}{since}"
    return f"board {row.eui_hex} was enrolled on {when} in batch {row.ticket.batch.name} with ticket {ticket}, {now}"


def devices(
    states: Collection[str] = (), models: Collection[str] = (), batches: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Devices, oldest first, as plain values; those of these states, models and batches, if any are named."""
    rows = Device.objects.select_related("ticket__batch", "chain").order_by("id")
    if states:
        rows = rows.filter(state__in=states)
    if models:
        rows = rows.filter(model__in=models)
    if batches:
        rows = rows.filter(ticket__batch__name__in=batches)
    return [_plain(row) for row in rows]


def show(eui: bytes, former: int | None = None) -> dict[str, Any]:
    """All that the registry says of one device, with its history from the audit trail.

    The trail names boards by EUI; what concerns the identities before and after this one is left out by time.

    Raises:
        RegistryError: it is not enrolled.
    """
    row = find(eui, former=former, lock=False)
    later = Device.objects.filter(eui=eui, enrolled_at__gt=row.enrolled_at).order_by("enrolled_at").first()
    claim = Claim.objects.filter(device=row).first()
    return {
        **_plain(row),
        "changed_at": _iso(row.changed_at),
        "proven_at": _iso(row.proven_at),
        "may_be_enrolled_again": row.reenrol_at is not None and row.former is None,
        "certificates": [
            {
                "serial": one.serial,
                "sha256": bytes(one.digest).hex(),
                "ends_at": _iso(one.ends_at),
                "revoked_at": _iso(one.revoked_at),
            }
            for one in Certificate.objects.filter(device=row).order_by("id")
        ],
        "claim": {
            "account": claim.account,
            "claimed_at": _iso(claim.claimed_at),
            "locked_until": _iso(claim.locked_until),
        }
        if claim
        else None,
        "identities": list(Device.objects.filter(eui=eui).order_by("id").values_list("former", flat=True)),
        "history": _history(row, later),
    }


def _plain(row: Device) -> dict[str, Any]:
    chain = getattr(row, "chain", None)
    return {
        "eui": row.label,
        "model": row.model,
        "state": row.state,
        "batch": row.ticket.batch.name,
        "ticket": bytes(row.ticket.ticket_id).hex(),
        "enrolled_at": row.enrolled_at.isoformat(timespec="seconds"),
        "epoch": chain.newest_epoch if chain else None,
        "release": row.release,
        "key": signers.kid(bytes(row.public_key)).hex(),
    }


def _history(row: Device, later: Device | None) -> list[dict[str, Any]]:
    events = AuditEvent.objects.filter(subject=row.eui_hex).order_by("sequence")
    told: list[dict[str, Any]] = []
    for event in events:
        details = json.loads(event.details)
        if event.event == "device_enrolled":
            mine = details.get("ticket") == bytes(row.ticket.ticket_id).hex()
            told = [] if mine else told
            if not mine and later is not None and details.get("ticket") == bytes(later.ticket.ticket_id).hex():
                break
        told.append(
            {
                "at": datetime.fromtimestamp(event.at_ms / 1000, UTC).isoformat(timespec="seconds"),
                "event": event.event,
                "actor": event.actor,
                "details": details,
            }
        )
    return told


def _step(
    eui: bytes,
    vault: Vault,
    state: Device.State,
    allowed: Iterable[Device.State],
    event: str,
    reason: str,
    actor: str,
    clock: Clock,
    *,
    again: bool = False,
) -> Device:
    _check_reason(reason)
    with transaction.atomic():
        row = find(eui)
        if row.state == state and not again:
            raise RegistryError(f"{row.eui_hex} is {row.state} already", "nothing is to be done")
        if row.state not in set(allowed):
            raise RegistryError(
                f"{row.eui_hex} is {row.state}, and that is not followed by {state.value}",
                f"see: sealband registry show {row.eui_hex}",
            )
        _enter(row, state, moment(clock))
        details = {"reason": reason} if reason else {}
        audit.append(vault, event, subject=row.eui_hex, actor=actor, clock=clock, **details)
    return row


def _enter(row: Device, state: Device.State, now: datetime) -> None:
    row.state = state
    row.changed_at = now
    row.save(update_fields=["state", "changed_at"])


def _destroy(row: Device, now: datetime) -> None:
    """End all that the device could do. The rows of its pseudonyms stay: a late frame gets its reason."""
    DeviceChain.objects.filter(device=row).delete()
    Certificate.objects.filter(device=row, revoked_at__isnull=True).update(revoked_at=now)
    Claim.objects.filter(device=row).update(account="", claimed_at=None)


def _forget_on_disk() -> None:
    """Destroyed keys leave the write-ahead log too; `secure_delete` overwrote them in the database itself."""
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _check_reason(reason: str) -> None:
    if len(reason) > REASON_MAX or not reason.isprintable():
        raise RegistryError(f"a reason is at most {REASON_MAX} printable characters", "say it in fewer words")


def _iso(when: datetime | None) -> str | None:
    return when.isoformat(timespec="seconds") if when else None
