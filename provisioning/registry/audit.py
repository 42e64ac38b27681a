"""The audit trail: events from a closed vocabulary, each bound to the one before by a MAC. Append-only.

The MAC's key is derived from the master key, so whoever can write to the database but has not that key can neither
edit, insert nor delete an event, nor cut the tail (`AuditHead` says where it ends). Putting back an older copy of the
whole trail is found by comparing with an anchor noted elsewhere (`Trail.anchor`).
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cbor2
from django.db import transaction

from provisioning.registry import audit_log
from provisioning.registry.audit_lines import LINE_MAX, LineError, from_line
from provisioning.registry.models import AuditEvent, AuditHead
from provisioning.registry.vault import Vault

# OWASP's logging vocabulary (sys_*, authn_*, authz_*, session_*, input_*, malicious_*, sensitive_* …), then our own
_VOCABULARY = """
sys_startup sys_shutdown sys_restart sys_crash sys_monitor_disabled sys_backup sys_restore
    authn_login_success authn_login_fail authn_login_fail_max authn_login_lock authn_login_successafterfail
    authn_password_change authn_password_change_fail authn_token_created authn_token_revoked authn_token_reuse
    authn_mfa_change
    authz_fail authz_change authz_admin
    session_created session_expired session_use_after_expire
    user_created user_updated user_archived user_deleted
    input_validation_fail excess_rate_limit_exceeded upload_complete
    malicious_excess_404 malicious_attack_tool malicious_direct_reference malicious_sequence_fail
    sensitive_create sensitive_read sensitive_update sensitive_delete
    operator_action operator_logout operator_unlocked operator_recovery_code_used
    registry_created batch_issued batch_revoked batch_quota_changed issuer_created journal_imported
    station_failure station_finished
    device_enrolled device_enrolment_refused device_suspended device_resumed device_retired device_lost
    device_activated device_revoked device_reenrolled device_claimed device_claim_refused
    device_retiring device_reenrol_allowed device_claim_released
    device_replay_refused device_epoch_changed device_rekeyed device_command_sent
    certificate_issued certificate_revoked crl_made broker_list_made service_unlocked
    meaning_defined
    key_created key_used key_destroyed key_rotated key_revoked key_exhausted
    ota_built ota_signed ota_published ota_started ota_paused ota_resumed ota_stopped ota_confirmed ota_failed
    ota_trust_changed
"""
EVENTS = frozenset(_VOCABULARY.split())
DETAILS_MAX = 2048  # characters of JSON
NAME_MAX = 64
BATCH = 500  # events a statement
GENESIS = bytes(32)
HEAD_ID = 1
FIRST = "registry_created"  # every trail begins with it, so that wiping the whole trail does not make a new one

Detail = str | int | bool | None | list[str] | list[int]


class UnknownEvent(Exception):
    """An event that is not in the vocabulary, or details that are not of the allowed kinds: a defect of the caller."""


class AuditBroken(Exception):
    """The trail was changed, or the master key is not the one that it was written with.

    Attributes:
        sequence: the first event that does not fit.
    """

    remedy = "stop, keep the database as evidence, and compare with a backup"

    def __init__(self, sequence: int, what: str) -> None:
        super().__init__(f"audit trail broken at event {sequence}: {what}")
        self.sequence = sequence


@dataclass(frozen=True)
class Trail:
    """A trail that was found whole: how many events, and a value to note elsewhere and compare with later."""

    events: int
    mac: bytes

    @property
    def anchor(self) -> str:
        """`events:mac` in hex."""
        return f"{self.events}:{self.mac.hex()}"


def append(
    vault: Vault,
    event: str,
    *,
    subject: str = "",
    actor: str = "system",
    clock: Callable[[], float] = time.time,
    **details: Detail,
) -> None:
    """Add an event; call it inside the transaction of what it tells about.

    Args:
        event: one of `EVENTS`.
        subject: whom or what it concerns, at most 64 characters.
        actor: who did it.
        clock: Unix seconds.
        details: strings, whole numbers, truth values, and lists of them; never bytes, so that no key slips in.

    Raises:
        UnknownEvent: not in the vocabulary.
        AuditBroken: the trail does not end where its head says, or another master key wrote it.
    """
    append_all(vault, [(event, subject, details)], actor=actor, clock=clock)


def append_all(
    vault: Vault,
    events: Sequence[tuple[str, str, Mapping[str, Detail]]],
    *,
    actor: str = "system",
    clock: Callable[[], float] = time.time,
) -> None:
    """Add events in this order, for what concerns many at once; see `append`.

    Args:
        events: event, subject and details of each.
    """
    told = [_checked(event, subject, actor, details) for event, subject, details in events]
    if not told:
        return
    key = _key(vault)
    with transaction.atomic():
        head = AuditHead.objects.select_for_update().filter(id=HEAD_ID).first()
        last, previous = _end(key, head)
        rows = []
        for event, subject, text in told:
            if (last == 0) != (event == FIRST):
                raise AuditBroken(last + 1, f"only the first event is {FIRST}, and it must be there")
            last += 1
            row = AuditEvent(
                sequence=last, at_ms=int(clock() * 1000), event=event, actor=actor, subject=subject, details=text
            )
            previous = row.mac = _mac(key, previous, row)
            rows.append(row)
        AuditEvent.objects.bulk_create(rows, batch_size=BATCH)
        AuditHead.objects.update_or_create(
            id=HEAD_ID, defaults={"sequence": last, "mac": _head_mac(key, last, previous)}
        )
        audit_log.note()


def _checked(event: str, subject: str, actor: str, details: Mapping[str, Detail]) -> tuple[str, str, str]:
    """Event, subject and the JSON of the details, or UnknownEvent."""
    if event not in EVENTS:
        raise UnknownEvent(f"{event!r} is not in the audit vocabulary")
    if len(subject) > NAME_MAX or len(actor) > NAME_MAX:
        raise UnknownEvent(f"subject and actor have at most {NAME_MAX} characters")
    for name, value in details.items():
        if not all(isinstance(part, str | int | None) for part in (value if isinstance(value, list) else [value])):
            raise UnknownEvent(f"audit detail {name!r} is of type {type(value).__name__}")
    text = json.dumps(dict(details), sort_keys=True, separators=(",", ":"))
    if len(text) > DETAILS_MAX:
        raise UnknownEvent(f"audit details of {len(text)} characters are longer than {DETAILS_MAX}")
    return event, subject, text


def verify(vault: Vault, anchor: str | None = None) -> Trail:
    """Check the whole trail.

    Args:
        anchor: what `Trail.anchor` was at an earlier time; finds an older copy of the trail put in its place.

    Raises:
        AuditBroken: an event was edited, inserted, deleted or cut off, or the trail is older than the anchor.
        ValueError: the anchor is malformed.
    """
    key = _key(vault)
    anchored = _parse_anchor(anchor) if anchor else None
    previous, count = GENESIS, 0
    with transaction.atomic():
        # the head first, and locked: an event appended meanwhile is not mistaken for a forged one
        head = AuditHead.objects.select_for_update().filter(id=HEAD_ID).first()
        for row in AuditEvent.objects.order_by("sequence").iterator(chunk_size=1000):
            count += 1
            if row.sequence != count or (count == 1 and row.event != FIRST):
                raise AuditBroken(count, "it is missing")
            if not hmac.compare_digest(bytes(row.mac), _mac(key, previous, row)):
                raise AuditBroken(count, "it was edited, or another master key wrote it")
            previous = bytes(row.mac)
            if anchored and anchored[0] == count and anchored[1] != previous:
                raise AuditBroken(count, "it is not what the anchor says")
        if head is None:
            if count:
                raise AuditBroken(count, "the head of the trail is missing")
        elif head.sequence != count:
            raise AuditBroken(
                min(head.sequence, count) + 1, f"{count} events are there, but the head says {head.sequence}"
            )
        elif not hmac.compare_digest(bytes(head.mac), _head_mac(key, count, previous)):
            raise AuditBroken(count, "the head of the trail was edited")
    if not count:
        raise AuditBroken(1, "the trail is empty")
    if anchored and anchored[0] > count:
        raise AuditBroken(count + 1, f"the tail is cut off: the anchor says {anchored[0]} events")
    return Trail(count, previous)


def verify_log(vault: Vault, path: Path) -> int:
    """Check a copy of the trail in a file (`audit_log`) by itself and against the database; how many events it has.

    The copy may end before the database does, by what was not copied yet; never after it.

    Raises:
        AuditBroken: a line was edited, deleted or moved, or the database has another event there, or none.
        OSError: it cannot be read.
    """
    key = _key(vault)
    previous, count = GENESIS, 0
    in_order = AuditEvent.objects.order_by("sequence").iterator(chunk_size=1000)
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file, closing(in_order) as rows:  # type: ignore[type-var]
        while line := file.readline(LINE_MAX):
            count += 1
            try:
                copied = from_line(line)
            except LineError:
                raise AuditBroken(count, f"line {count} of the copy is not an event") from None
            if copied.sequence != count:
                raise AuditBroken(count, "it is missing in the copy")
            if not hmac.compare_digest(bytes(copied.mac), _mac(key, previous, copied)):
                raise AuditBroken(count, "it was edited in the copy, or another master key wrote it")
            previous = bytes(copied.mac)
            row = next(rows, None)
            if row is None:
                raise AuditBroken(count, "the copy has it, the database does not: its tail was cut off")
            if row.sequence != count or bytes(row.mac) != previous:
                raise AuditBroken(count, "the database has another event than the copy")
    return count


def _end(key: bytes, head: AuditHead | None) -> tuple[int, bytes]:
    """Where the trail ends, (sequence, mac), checked against its head."""
    row = AuditEvent.objects.order_by("-sequence").first()
    last, mac = (row.sequence, bytes(row.mac)) if row else (0, GENESIS)
    if head is None:
        if row:
            raise AuditBroken(last, "the head of the trail is missing")
    elif head.sequence != last:
        raise AuditBroken(min(head.sequence, last) + 1, f"the last event is {last}, but the head says {head.sequence}")
    elif not hmac.compare_digest(bytes(head.mac), _head_mac(key, last, mac)):
        raise AuditBroken(last, "the head was edited, or another master key wrote it")
    return last, mac


def _key(vault: Vault) -> bytes:
    return vault.subkey(b"sealband/1 audit")


def _mac(key: bytes, previous: bytes, row: AuditEvent) -> bytes:
    told = cbor2.dumps([previous, row.sequence, row.at_ms, row.event, row.actor, row.subject, row.details])
    return hmac.new(key, told, hashlib.sha256).digest()


def _head_mac(key: bytes, sequence: int, mac: bytes) -> bytes:
    return hmac.new(key, cbor2.dumps(["head", sequence, mac]), hashlib.sha256).digest()


def _parse_anchor(text: str) -> tuple[int, bytes]:
    count, _, mac = text.partition(":")
    return int(count), bytes.fromhex(mac)
