"""The registry on SQLite: issue, import, revoke; atomic, repeatable, and without a secret in the clear."""

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from provisioning.enrolment import Reason
from provisioning.registry.vault import Vault, chain_label, ticket_label
from provisioning.station.journal import JournalDamaged
from tests.support.operators import log_in
from tests.support.registries import MASTER_KEY, TemporaryRegistry, add_record
from tests.support.soft_board import SoftBoard


@pytest.fixture
def registry(tmp_path: Path) -> TemporaryRegistry:
    return TemporaryRegistry(tmp_path)


def test_an_imported_board_has_its_root_key_and_four_pseudonyms(registry: TemporaryRegistry):
    from provisioning import keys
    from provisioning.registry.models import Device, EpochKey, Ticket

    file = registry.issue(2)
    board = SoftBoard()
    result = registry.take(registry.station("a", file, [board]))
    assert (result.admitted, result.repeated, result.refused) == ([board.eui.hex()], 0, [])
    device = Device.objects.get()
    assert bytes(device.eui) == board.eui
    assert registry.vault.unwrap(device.chain.ck_wrapped, chain_label(board.eui, 0)) == board.root
    assert device.chain.newest_epoch == 0 and device.chain.previous_ck_wrapped is None
    ck = board.root
    for row in EpochKey.objects.order_by("epoch"):
        assert row.epoch_bits == row.epoch
        assert bytes(row.did) == keys.epoch_keys(ck, board.eui).did
        assert (row.failures, row.downlink_ctr) == (0, 0)
        ck = keys.ratchet(ck)
    assert EpochKey.objects.count() == 4
    states = {bytes(ticket.ticket_id): ticket for ticket in Ticket.objects.all()}
    used, unused = (states[ticket.ticket_id] for ticket in file.tickets)
    assert used.state == "used" and used.private_wrapped is None
    assert unused.state == "issued" and unused.private_wrapped is not None
    assert [row["eui"] for row in registry.services.devices()] == [board.eui.hex()]


def test_a_second_import_of_the_same_journal_changes_nothing_and_says_so(registry: TemporaryRegistry):
    from django.db import connections

    file = registry.issue(3)
    stranger = SoftBoard()
    path = registry.station("a", file, [SoftBoard(), SoftBoard()])
    add_record(path, stranger, stranger.enrol(file.tickets[0], bytes(16), 0))
    first = registry.take(path)
    assert (len(first.admitted), first.repeated, len(first.refused)) == (2, 0, 1)
    before = tables()
    connections.close_all()
    second = registry.take(path)
    assert (second.admitted, second.repeated) == ([], 2)
    assert [(r.line, r.reason) for r in second.refused] == [(r.line, r.reason) for r in first.refused]
    assert tables() == before


def tables() -> dict[str, list[tuple]]:
    from django.apps import apps

    return {model.__name__: list(model.objects.values_list()) for model in apps.get_app_config("registry").get_models()}


def test_an_import_that_fails_half_way_leaves_nothing(registry: TemporaryRegistry, monkeypatch: pytest.MonkeyPatch):
    path = registry.station("a", registry.issue(3), [SoftBoard() for _ in range(3)])
    before = tables()

    def fail(*_: object, **__: object):
        raise RuntimeError("power cut")

    monkeypatch.setattr(registry.services.DeviceChain.objects, "bulk_create", fail)
    with pytest.raises(RuntimeError):
        registry.take(path)
    assert tables() == before
    monkeypatch.undo()
    assert len(registry.take(path).admitted) == 3


def test_a_journal_that_goes_on_is_imported_further(registry: TemporaryRegistry):
    file = registry.issue(2)
    first, second = SoftBoard(), SoftBoard()
    path = registry.station("a", file, [first])
    assert registry.take(path).admitted == [first.eui.hex()]
    registry.station("a", file, [second])
    result = registry.take(path)
    assert (result.admitted, result.repeated) == ([second.eui.hex()], 1)


def test_a_torn_last_line_is_left_out_and_said(registry: TemporaryRegistry):
    boards = [SoftBoard(), SoftBoard()]
    path = registry.station("a", registry.issue(2), boards)
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    result = registry.take(path)
    assert result.admitted == [boards[0].eui.hex()] and result.torn > 0
    path.write_bytes(data)
    assert registry.take(path).admitted == [boards[1].eui.hex()]


def test_a_damaged_cut_or_rewritten_journal_is_refused_whole(registry: TemporaryRegistry, tmp_path: Path):
    file = registry.issue(4)
    path = registry.station("a", file, [SoftBoard(), SoftBoard()])
    data = path.read_bytes()
    damaged = tmp_path / "damaged"
    damaged.write_bytes(data.replace(b'"kind":"reserved"', b'"kind":"enrolled"', 1))
    with pytest.raises(JournalDamaged):
        registry.take(damaged)
    assert registry.services.devices() == []
    registry.take(path)
    path.write_bytes(b"".join(data.splitlines(keepends=True)[:3]))
    with pytest.raises(registry.services.RegistryError, match="cut off"):
        registry.take(path)
    registry.station("a", file, [SoftBoard(), SoftBoard()])
    with pytest.raises(registry.services.RegistryError, match="rewritten"):
        registry.take(path)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(registry.services.RegistryError, match="not a journal"):
        registry.take(tmp_path / "empty")
    assert len(registry.services.devices()) == 2


def test_no_secret_stands_in_the_database_files(registry: TemporaryRegistry):
    from provisioning.registry.models import Ticket

    board = SoftBoard()
    path = registry.station("a", registry.issue(2), [board])
    scalars = [
        registry.vault.unwrap(row.private_wrapped, ticket_label(bytes(row.ticket_id))) for row in Ticket.objects.all()
    ]
    spent = bytes(Ticket.objects.first().private_wrapped)
    assert spent in registry.dump()
    registry.take(path)
    dump = registry.dump()
    for secret in (*scalars, board.root, MASTER_KEY):
        assert secret not in dump and secret.hex().encode() not in dump
    assert spent not in dump  # overwritten, in the write-ahead log too


def test_the_journal_and_the_ticket_file_hold_no_secret(registry: TemporaryRegistry):
    board = SoftBoard()
    file = registry.issue(1)
    data = registry.station("a", file, [board]).read_bytes() + file.to_bytes()
    scalar = board.key.private_numbers().private_value.to_bytes(32, "big")
    for secret in (scalar, board.root):
        assert secret not in data and secret.hex().encode() not in data


def test_revoked_tickets_admit_nobody_and_keep_no_key(registry: TemporaryRegistry):
    from provisioning.registry.models import Ticket

    file = registry.issue(3)
    used, late = SoftBoard(), SoftBoard()
    registry.take(registry.station("a", file, [used]))
    path = registry.station("a", file, [late])
    assert registry.services.revoke_batch(file.batch, registry.vault) == 2
    assert registry.services.revoke_batch(file.batch, registry.vault) == 0
    assert not Ticket.objects.filter(private_wrapped__isnull=False).exists()
    result = registry.take(path)
    assert [refusal.reason for refusal in result.refused] == [Reason.TICKET_REVOKED]
    with pytest.raises(registry.services.RegistryError, match="no batch"):
        registry.services.revoke_batch("none", registry.vault)


def test_everything_is_in_the_audit_trail(registry: TemporaryRegistry):
    from provisioning.registry import audit
    from provisioning.registry.models import AuditEvent

    board = SoftBoard()
    registry.take(registry.station("a", registry.issue(1), [board]))
    events = list(AuditEvent.objects.order_by("sequence").values_list("event", flat=True))
    assert events == ["registry_created", "batch_issued", "device_enrolled", "journal_imported"]
    assert audit.verify(registry.vault).events == 4


def test_issuing_is_all_or_nothing(registry: TemporaryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from django.db import OperationalError, connection

    from provisioning.registry import audit
    from provisioning.registry.models import Batch

    services = registry.services
    out = tmp_path / "tickets.json"
    for path, error in ((tmp_path / "none" / "x", OSError), (tmp_path / "batches.pem", services.RegistryError)):
        with pytest.raises(error):
            services.issue_batch(registry.vault, registry.signer, "m", 2, out=path)
    for model, count in (("", 1), ("a b", 1), ("m", 0), ("m", 10_001)):
        with pytest.raises(services.RegistryError):
            services.issue_batch(registry.vault, registry.signer, model, count, out=out)
    assert Batch.objects.count() == 0 and not out.exists()

    def disk_full() -> None:
        raise OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "commit", disk_full)
        with pytest.raises(OperationalError):
            services.issue_batch(registry.vault, registry.signer, "m", 2, out=out)
    assert Batch.objects.count() == 0 and not out.exists()
    services.issue_batch(registry.vault, registry.signer, "m", 2, out=out)
    assert Batch.objects.get().quota == 2 and out.exists()
    assert audit.verify(registry.vault).events == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tickets")]


def test_initialising_again_keeps_everything_and_refuses_another_master_key(registry: TemporaryRegistry):
    from provisioning.registry import audit

    registry.issue(1)
    before = tables()
    assert registry.services.init_registry(registry.vault) is False
    with pytest.raises(audit.AuditBroken):
        registry.services.init_registry(Vault(bytes(32)))
    assert tables() == before


def test_two_imports_at_once_admit_a_board_once(registry: TemporaryRegistry, tmp_path: Path):
    path = registry.station("a", registry.issue(30), [SoftBoard() for _ in range(30)])
    key = tmp_path / "key"
    key.write_bytes(base64.b64encode(MASTER_KEY))
    key.chmod(stat.S_IRUSR)
    command = [str(Path(sys.executable).parent / "sealband"), "registry", "import", str(path), "--json"]
    environment = {**os.environ, "SEALBAND_DATABASE": str(registry.database), "SEALBAND_KEY_FILE": str(key)}
    environment["SEALBAND_SESSION"] = str(log_in(registry.vault, tmp_path, "factory"))
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(len(result["admitted"]) for result in results) == [0, 30]
    assert sorted(result["repeated"] for result in results) == [0, 30]
    assert len(registry.services.devices()) == 30


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p%40ss@db.example:5433/seal?sslmode=verify-full", ("u", "p@ss", "db.example", "5433", "seal")),
        ("postgres://db/seal", ("", "", "db", "", "seal")),
    ],
)
def test_a_postgresql_url_is_split(url: str, expected: tuple[str, ...]):
    from provisioning.registry import settings

    found = settings.database(url)
    assert found["ENGINE"] == "django.db.backends.postgresql"
    assert tuple(found[name] for name in ("USER", "PASSWORD", "HOST", "PORT", "NAME")) == expected


@pytest.mark.parametrize(
    "url",
    ["mysql://u:secret@h/d", "postgresql://u:secret@h", "postgresql://u:secret@h:99999/d", "sqlite://h/secret", "x://"],
)
def test_a_database_url_that_is_none_is_refused_without_repeating_it(url: str):
    from provisioning.registry import settings

    with pytest.raises(settings.DatabaseUrlError) as refused:
        settings.database(url)
    assert "secret" not in str(refused.value)


def test_sqlite_runs_with_foreign_keys_and_write_ahead_log(registry: TemporaryRegistry):
    from django.db import connection

    with connection.cursor() as cursor:
        for pragma, value in (("foreign_keys", 1), ("journal_mode", "wal"), ("synchronous", 2), ("secure_delete", 1)):
            cursor.execute(f"PRAGMA {pragma}")
            assert cursor.fetchone()[0] == value
