"""The audit trail: an edit, a deletion, an insertion and a cut tail are found; the vocabulary is closed."""

import sqlite3
from pathlib import Path

import pytest

from provisioning.registry.vault import Vault
from tests.support.registries import MASTER_KEY, TemporaryRegistry

REPEATED = (
    "INSERT INTO registry_auditevent SELECT 7, at_ms, event, actor, subject, details, mac "
    "FROM registry_auditevent WHERE sequence = 6"
)
TRIGGERS = ["registry_audit_no_update", "registry_audit_no_delete"]


@pytest.fixture
def trail(tmp_path: Path):
    registry = TemporaryRegistry(tmp_path)
    from provisioning.registry import audit

    for number in range(5):
        audit.append(registry.vault, "sensitive_read", subject=f"s{number}", clock=lambda: 1.75e9, count=number)
    assert audit.verify(registry.vault).events == 6
    return registry


def tamper(registry: TemporaryRegistry, *statements: str) -> None:
    """What somebody with the database in hand can do, triggers or not."""
    from django.db import connections

    connections.close_all()
    with sqlite3.connect(registry.database) as database:
        for trigger in TRIGGERS:
            database.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            database.execute(statement)


@pytest.mark.parametrize(
    ("statement", "sequence"),
    [
        ("UPDATE registry_auditevent SET details = '{\"count\":9}' WHERE sequence = 3", 3),
        ("UPDATE registry_auditevent SET subject = 'x' WHERE sequence = 2", 2),
        ("UPDATE registry_auditevent SET at_ms = at_ms + 1 WHERE sequence = 6", 6),
        ("UPDATE registry_auditevent SET actor = 'x' WHERE sequence = 1", 1),
        ("UPDATE registry_auditevent SET event = 'device_lost' WHERE sequence = 4", 4),
        ("DELETE FROM registry_auditevent WHERE sequence = 4", 4),
        ("DELETE FROM registry_auditevent WHERE sequence = 1", 1),
        ("DELETE FROM registry_auditevent WHERE sequence = 6", 6),
        ("DELETE FROM registry_auditevent WHERE sequence > 3", 4),
        ("DELETE FROM registry_audithead", 6),
        ("UPDATE registry_audithead SET sequence = 5", 6),
        ("UPDATE registry_audithead SET mac = zeroblob(32)", 6),
        (REPEATED, 7),
    ],
)
def test_tampering_is_found_at_its_place(trail: TemporaryRegistry, statement: str, sequence: int):
    from provisioning.registry import audit

    tamper(trail, statement)
    with pytest.raises(audit.AuditBroken) as broken:
        audit.verify(trail.vault)
    assert broken.value.sequence == sequence


def test_a_cut_tail_with_its_head_moved_back_is_found(trail: TemporaryRegistry):
    from provisioning.registry import audit

    tamper(
        trail,
        "DELETE FROM registry_auditevent WHERE sequence = 6",
        "UPDATE registry_audithead SET sequence = 5, mac = (SELECT mac FROM registry_auditevent WHERE sequence = 5)",
    )
    with pytest.raises(audit.AuditBroken):
        audit.verify(trail.vault)
    with pytest.raises(audit.AuditBroken):
        audit.append(trail.vault, "sys_startup")


def test_a_trail_that_was_wiped_whole_is_found_and_not_begun_anew(trail: TemporaryRegistry):
    from provisioning.registry import audit

    tamper(trail, "DELETE FROM registry_auditevent", "DELETE FROM registry_audithead")
    with pytest.raises(audit.AuditBroken):
        audit.verify(trail.vault)
    with pytest.raises(audit.AuditBroken):
        audit.append(trail.vault, "sys_startup")


def test_an_older_copy_of_the_trail_is_found_by_its_anchor(trail: TemporaryRegistry):
    from django.db import connections

    from provisioning.registry import audit

    connections.close_all()
    older = sqlite3.connect(trail.database).serialize()
    audit.append(trail.vault, "device_lost", subject="after the copy")
    anchor = audit.verify(trail.vault).anchor
    connections.close_all()
    for path in trail.folder.glob("registry.db*"):
        path.unlink()
    trail.database.write_bytes(older)
    assert audit.verify(trail.vault).events == 6
    with pytest.raises(audit.AuditBroken, match="anchor says 7"):
        audit.verify(trail.vault, anchor)
    audit.append(trail.vault, "sys_startup")
    with pytest.raises(audit.AuditBroken, match="anchor"):
        audit.verify(trail.vault, anchor)


def test_another_master_key_neither_verifies_nor_appends(trail: TemporaryRegistry):
    from provisioning.registry import audit

    other = Vault(bytes(32))
    with pytest.raises(audit.AuditBroken):
        audit.verify(other)
    with pytest.raises(audit.AuditBroken):
        audit.append(other, "sys_startup")
    assert audit.verify(Vault(MASTER_KEY)).events == 6


def test_the_vocabulary_is_closed_and_details_hold_no_bytes(trail: TemporaryRegistry):
    from provisioning.registry import audit

    for arguments in (
        ("no_such_event", {}),
        ("sys_startup", {"key": b"secret"}),
        ("sys_startup", {"key": [b"secret"]}),
        ("sys_startup", {"key": 1.5}),
        ("sys_startup", {"key": "x" * 3000}),
    ):
        with pytest.raises(audit.UnknownEvent):
            audit.append(trail.vault, arguments[0], **arguments[1])
    with pytest.raises(audit.UnknownEvent):
        audit.append(trail.vault, "sys_startup", subject="x" * 65)
    assert audit.verify(trail.vault).events == 6


def test_the_database_itself_refuses_to_change_or_delete_events(trail: TemporaryRegistry):
    from django.db import DatabaseError

    from provisioning.registry.models import AppendOnly, AuditEvent

    for attempt in (
        lambda: AuditEvent.objects.update(subject="x"),
        lambda: AuditEvent.objects.all().delete(),
        lambda: AuditEvent.objects.first().save(),
    ):
        with pytest.raises(DatabaseError):
            attempt()
    with pytest.raises(AppendOnly):
        AuditEvent.objects.first().delete()
    assert AuditEvent.objects.count() == 6


def test_an_event_is_undone_with_the_transaction_that_it_tells_about(trail: TemporaryRegistry):
    from django.db import transaction

    from provisioning.registry import audit

    def fail() -> None:
        with transaction.atomic():
            audit.append(trail.vault, "sys_startup")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert audit.verify(trail.vault).events == 6
