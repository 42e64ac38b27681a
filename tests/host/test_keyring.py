"""The data key: the master key changes under it without a stop, and everything that hangs on it stays."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import softhsm
from tests.support.fleet import Fleet, models, process, readings, store, telemetry, uplink, worker
from tests.support.keyed import APPS, KeyedFleet
from tests.support.keyed import MASTER as OLD
from tests.support.keyed import OTHER_MASTER as NEW
from tests.support.mqtt_peer import MqttPeer

# isort: split
# these have models, and fleet.py has connected Django
from django.db import connections

from provisioning import registry
from provisioning.registry import audit, keyring, masters
from provisioning.registry.models import DataKey
from provisioning.registry.vault import MasterKeyRefused, Vault


def wait(true: Callable[[], bool]) -> bool:
    limit = time.monotonic() + 10
    while not true() and time.monotonic() < limit:
        time.sleep(0.01)
    return true()


@pytest.fixture
def fleet(tmp_path: Path):
    fleet = KeyedFleet(tmp_path)
    yield fleet
    fleet.close()


def test_new_registry_has_a_data_key_of_its_own_which_only_the_master_key_opens(fleet: Fleet):
    row = DataKey.objects.get()
    assert row.master == OLD.name
    key = OLD.unwrap(bytes(row.wrapped))
    assert key != OLD.key
    assert keyring.open_vault(OLD).subkey(b"x") == Vault(key).subkey(b"x")
    assert key not in fleet.on_disk()
    audit.verify(Vault(key))
    with pytest.raises(keyring.OtherMaster):
        keyring.open_vault(NEW)
    assert keyring.create_vault(OLD).subkey(b"x") == fleet.vault.subkey(b"x"), "init again keeps it"
    assert DataKey.objects.get().wrapped == row.wrapped


def test_ingest_goes_on_while_the_master_key_is_rotated(fleet: Fleet):
    wearable = fleet.add()
    with MqttPeer() as broker, worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock) as ingest:
        for number in range(4):
            broker.deliver(*uplink(wearable.seal(telemetry(70 + number))), number)
            assert wait(lambda stored=number + 1: ingest.statistics().stored == stored)
            if number == 1:
                assert keyring.rotate(OLD, NEW, actor="tester") == (OLD.name, NEW.name)
        assert ingest.statistics().refused == {}
        assert broker.connections == 1
    # and what was stored before and after opens with the new master key
    vault = keyring.open_vault(NEW)
    found = list(readings.Readings(store.Payloads(vault)).in_order(readings.Filter()))
    assert [one.value for one in found] == [70, 71, 72, 73]
    assert models.Frame.objects.count() == 4


def test_who_starts_with_the_old_master_key_is_told_which_one_is_needed(fleet: Fleet):
    keyring.rotate(OLD, NEW)
    with pytest.raises(keyring.OtherMaster) as error:
        keyring.open_vault(OLD)
    assert NEW.name in str(error.value)
    assert OLD.name in str(error.value)
    assert NEW.name in error.value.remedy
    with pytest.raises(keyring.OtherMaster):
        keyring.rotate(OLD, masters.KeyMaster(bytes(32)))
    assert keyring.needed() == NEW.name


def test_audit_trail_is_whole_after_a_rotation_and_tells_of_it(fleet: Fleet):
    anchor = audit.verify(fleet.vault).anchor
    keyring.rotate(OLD, NEW, actor="tester")
    audit.verify(keyring.open_vault(NEW), anchor)
    audit.append(fleet.vault, "sys_startup")  # a process that has the data key from before
    audit.verify(keyring.open_vault(NEW), anchor)
    event = audit.AuditEvent.objects.get(event="key_rotated")
    assert event.actor == "tester"
    assert event.details == f'{{"new":"{NEW.name}","old":"{OLD.name}"}}'


def test_old_wrapping_leaves_the_disk(fleet: Fleet):
    wrapped = bytes(DataKey.objects.get().wrapped)
    assert wrapped in fleet.on_disk()
    keyring.rotate(OLD, NEW)
    assert wrapped not in fleet.on_disk()
    assert bytes(DataKey.objects.get().wrapped) in fleet.on_disk()


def test_copy_of_the_database_from_before_a_rotation_still_opens_with_the_old_master_key(fleet: Fleet, tmp_path: Path):
    # a rotation can't reach copies; it is said in README and shown here, so that nobody believes otherwise
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        connections["default"].connection.backup(copy)
    copy.close()
    keyring.rotate(OLD, NEW)
    registry.setup(tmp_path / "copy.db", extra_apps=APPS)
    assert keyring.open_vault(OLD).subkey(b"x") == fleet.vault.subkey(b"x")


def test_rotation_that_fails_half_way_changes_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    before = DataKey.objects.get()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(keyring.audit, "append", fail)
    with pytest.raises(RuntimeError):
        keyring.rotate(OLD, NEW)
    assert DataKey.objects.get().wrapped == before.wrapped
    keyring.open_vault(OLD)


def test_master_key_that_does_not_give_back_what_it_wrapped_is_not_taken(fleet: Fleet):
    class Forgetful(masters.KeyMaster):
        def unwrap(self, wrapped: bytes) -> bytes:
            return bytes(32)

    with pytest.raises(MasterKeyRefused, match="does not open what it wrapped"):
        keyring.rotate(OLD, Forgetful(bytes(32)))
    keyring.open_vault(OLD)


def test_rotation_to_the_same_key_is_refused(fleet: Fleet):
    with pytest.raises(MasterKeyRefused, match="same"):
        keyring.rotate(OLD, masters.KeyMaster(OLD.key))


def test_wrapped_key_that_was_changed_or_is_anothers_is_refused(fleet: Fleet):
    for wrapped in (masters.KeyMaster(bytes(32)).wrap(bytes(32)), OLD.wrap(b"short"), b""):
        DataKey.objects.update(wrapped=wrapped)
        with pytest.raises(keyring.OtherMaster) as error:
            keyring.open_vault(OLD)
        assert "restore" in error.value.remedy


def test_registry_from_before_data_keys_opens_with_its_master_key_and_can_be_rotated(tmp_path: Path):
    fleet = Fleet(tmp_path)  # made as such a registry was
    try:
        wearable = fleet.add()
        process(fleet.intake(), uplink(wearable.seal(telemetry(70))))
        assert not DataKey.objects.exists()
        assert keyring.needed() == ""
        assert keyring.open_vault(OLD).subkey(b"x") == fleet.vault.subkey(b"x")
        assert keyring.create_vault(OLD).subkey(b"x") == fleet.vault.subkey(b"x")
        assert not DataKey.objects.exists(), "init changes nothing"
        keyring.rotate(OLD, NEW)
        found = list(readings.Readings(store.Payloads(keyring.open_vault(NEW))).in_order(readings.Filter()))
        assert [one.value for one in found] == [70]
        with pytest.raises(keyring.OtherMaster):
            keyring.open_vault(OLD)
    finally:
        fleet.close()


@softhsm.needs_softhsm()
def test_master_key_moves_onto_a_token_and_off_it_again(fleet: Fleet):
    masters.create_master(softhsm.uri("registry"))
    keyring.rotate(OLD, masters.open_master(softhsm.uri("registry"), {}))
    token = masters.open_master(softhsm.uri("registry"), {})
    assert keyring.open_vault(token).subkey(b"x") == fleet.vault.subkey(b"x")
    with pytest.raises(keyring.OtherMaster, match="token Sealband"):
        keyring.open_vault(OLD)
    masters.create_master(softhsm.uri("wrong"))
    with pytest.raises(keyring.OtherMaster):
        keyring.open_vault(masters.open_master(softhsm.uri("wrong"), {}))
    keyring.rotate(token, NEW)
    assert keyring.open_vault(NEW).subkey(b"x") == fleet.vault.subkey(b"x")


@softhsm.needs_softhsm()
def test_token_cannot_open_a_registry_from_before_data_keys(tmp_path: Path):
    fleet = Fleet(tmp_path)
    masters.create_master(softhsm.uri("early"))
    try:
        with pytest.raises(keyring.OtherMaster, match="file or the environment"):
            keyring.open_vault(masters.open_master(softhsm.uri("early"), {}))
    finally:
        fleet.close()
