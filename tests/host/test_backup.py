"""Backups, recovery shares and restoring: whole or not at all, and nothing that was damaged or forged is taken."""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import stat
import zipfile
from pathlib import Path

import pytest
from shamir_mnemonic import combine_mnemonics

from tests.support import softhsm
from tests.support.fleet import Fleet, models, process, readings, store, telemetry, uplink
from tests.support.keyed import APPS, MASTER, KeyedFleet
from tests.support.operators import session_of

# isort: split
# these have models, and fleet.py has connected Django
from django.db import connections

from provisioning import registry
from provisioning.operators import sessions
from provisioning.registry import audit, backup, keyring, masters, restore, restored, shares
from provisioning.registry.models import DataKey, Device, DeviceChain
from provisioning.registry.vault import MasterKeyRefused

PLANTED = "planted by the test, to be found by nobody"


@pytest.fixture
def fleet(tmp_path: Path):
    (tmp_path / "site").mkdir()
    fleet = KeyedFleet(tmp_path / "site")
    yield fleet
    fleet.close()


@pytest.fixture
def share_files(fleet: Fleet, tmp_path: Path) -> list[Path]:
    return shares.issue(tmp_path / "shares", keyring.data_key(MASTER), 3, 5, actor="tester")


def made(fleet: Fleet, tmp_path: Path) -> Path:
    path = tmp_path / "backup.sealband"
    backup.make(path, fleet.vault, actor="tester", clock=fleet.clock)
    return path


def again(path: Path, tmp_path: Path, name: str = "new.db", **options: object) -> restore.Restored:
    return restore.restore(path, str(tmp_path / name), f"file:{tmp_path / 'new.key'}", extra_apps=APPS, **options)  # type: ignore[arg-type]


def refused(path: Path, tmp_path: Path, message: str, error: type[Exception] = backup.BackupError, **options: object):
    """A restore is refused so, and nothing is left behind."""
    connections.close_all()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message) as raised:
        again(path, tmp_path, **options)
    assert getattr(raised.value, "remedy", "")
    connections.close_all()
    assert sorted(tmp_path.rglob("*")) == before
    return raised.value


# --- shares


def test_any_three_of_five_shares_give_the_key_and_two_give_nothing(fleet: Fleet, share_files: list[Path]):
    key = keyring.data_key(MASTER)
    for chosen in ((0, 1, 2), (4, 2, 0), (1, 3, 4), (0, 1, 2, 3, 4), (0, 0, 1, 2)):
        assert shares.combine(shares.read([share_files[number] for number in chosen])) == key
    for chosen in ((0,), (0, 4), (2, 2, 2)):
        with pytest.raises(shares.SharesRefused, match="3 are needed"):
            shares.combine(shares.read([share_files[number] for number in chosen]))
    with pytest.raises(shares.SharesRefused, match="no share"):
        shares.combine([])


def test_shares_are_standard_words_that_another_program_can_combine(fleet: Fleet, share_files: list[Path]):
    words = [path.read_text().splitlines()[1] for path in share_files]
    assert combine_mnemonics(words[2:]) == keyring.data_key(MASTER)


def test_each_share_is_a_file_that_only_its_owner_reads_and_none_is_overwritten(fleet: Fleet, share_files: list[Path]):
    folder = share_files[0].parent
    assert [path.name for path in share_files] == [f"share-{number}-of-5.txt" for number in range(1, 6)]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    texts = [path.read_bytes() for path in share_files]
    share_files[0].unlink()
    with pytest.raises(shares.SharesRefused, match="exists already"):
        shares.issue(folder, keyring.data_key(MASTER), 3, 5)
    assert [path.read_bytes() for path in share_files[1:]] == texts[1:]
    assert len(list(folder.iterdir())) == 4
    assert audit.verify(fleet.vault).events == 2, "only what was done is in the trail"


@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (1, 5), (6, 5), (3, 17), (0, 0)])
def test_thresholds_that_make_no_sense_are_refused(threshold: int, count: int):
    with pytest.raises(shares.SharesRefused):
        shares.split(bytes(32), threshold, count)


def test_mistyped_share_share_of_another_split_and_no_share_at_all_are_refused(
    fleet: Fleet, share_files: list[Path], tmp_path: Path
):
    other = shares.issue(tmp_path / "other", keyring.data_key(MASTER), 3, 5)
    with pytest.raises(shares.SharesRefused, match="not of one split"):
        shares.combine(shares.read([share_files[0], share_files[1], other[2]]))
    words = shares.read(share_files[:3])
    swapped = words[1].split()
    swapped[8], swapped[9] = swapped[9], swapped[8]
    for wrong in (" ".join(swapped), words[1].rsplit(" ", 1)[0], "academic", "x" * 200):
        with pytest.raises(shares.SharesRefused, match="number 2 is not one") as error:
            shares.combine([words[0], wrong, words[2]])
        assert not set(words[0].split()) & set(str(error.value).split())
    for content in (b"", b"# only a remark\n", bytes(5000)):
        (tmp_path / "wrong").write_bytes(content)
        with pytest.raises(shares.SharesRefused, match="holds no share"):
            shares.read([tmp_path / "wrong"])
    with pytest.raises(shares.SharesRefused, match="cannot be read"):
        shares.read([tmp_path / "none"])


# --- making


def test_backup_is_one_private_file_that_says_what_is_in_it(fleet: Fleet, tmp_path: Path):
    for _ in range(3):
        fleet.add()
    anchor = audit.verify(fleet.vault).anchor
    path = made(fleet, tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("manifest.json"))
        database = archive.read("database")
    assert told["sha256"] == hashlib.sha256(database).hexdigest()
    assert told["size"] == len(database)
    assert (told["devices"], told["batches"], told["tickets"]) == (3, 1, 3)
    assert told["anchor"] == anchor
    assert told["made_at"] == int(fleet.clock())
    assert told["master"] == MASTER.name
    event = audit.AuditEvent.objects.order_by("sequence").last()
    assert (event.event, event.actor, event.subject) == ("sys_backup", "tester", path.name)
    assert told["sha256"] in event.details
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_backup_holds_no_secret_in_the_clear(fleet: Fleet, tmp_path: Path, share_files: list[Path]):
    root = os.urandom(32)
    wearable = fleet.add(root=root)
    sealed = wearable.seal(telemetry(70) + b"\x00" + PLANTED.encode())
    process(fleet.intake(), uplink(sealed))
    assert models.Frame.objects.count() == 1
    data = made(fleet, tmp_path).read_bytes()
    secrets = [root, PLANTED.encode(), MASTER.key, keyring.data_key(MASTER), wearable.keys(0).ku, wearable.keys(0).kd]
    for secret in secrets:
        assert secret not in data
        assert secret.hex().encode() not in data
    for file in share_files:
        assert file.read_text().splitlines()[1].encode() not in data
    assert wearable.eui in data, "this test would find what is there"


def test_backup_that_is_there_is_not_replaced(fleet: Fleet, tmp_path: Path):
    path = made(fleet, tmp_path)
    data = path.read_bytes()
    events = audit.verify(fleet.vault).events
    with pytest.raises(backup.BackupError, match="exists already"):
        backup.make(path, fleet.vault)
    assert path.read_bytes() == data
    assert audit.verify(fleet.vault).events == events


def test_backup_that_fails_leaves_no_file_and_no_event(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for target, name in ((os, "link"), (os, "fsync"), (zipfile.ZipFile, "write"), (audit, "append")):
        with monkeypatch.context() as patched:
            patched.setattr(target, name, fail)
            with pytest.raises(OSError, match="No space"):
                backup.make(tmp_path / "backup", fleet.vault)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["site"]
    assert audit.verify(fleet.vault).events == 1


def test_registry_whose_trail_was_edited_is_not_backed_up(fleet: Fleet, tmp_path: Path):
    with sqlite3.connect(fleet.path) as database:
        database.execute("DROP TRIGGER registry_audit_no_update")
        database.execute("UPDATE registry_auditevent SET actor = 'nobody'")
    database.close()
    with pytest.raises(audit.AuditBroken):
        backup.make(tmp_path / "backup", fleet.vault)
    assert not (tmp_path / "backup").exists()


# --- restoring


def test_restored_registry_has_all_that_the_backup_had_under_a_new_master_key(
    fleet: Fleet, tmp_path: Path, share_files: list[Path]
):
    wearable = fleet.add()
    process(fleet.intake(), uplink(wearable.seal(telemetry(70))))
    DeviceChain.objects.update(downlink_from_epoch=7)  # from an earlier restore
    path = made(fleet, tmp_path)
    process(fleet.intake(), uplink(wearable.seal(telemetry(99))))
    fleet.close()
    shutil.rmtree(tmp_path / "site")  # the server, its database and master key are gone

    done = again(path, tmp_path, share_files=share_files[2:], actor="tester")
    assert stat.S_IMODE((tmp_path / "new.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new.key").stat().st_mode) == 0o600
    master = masters.open_master(f"file:{tmp_path / 'new.key'}", {})
    vault = keyring.open_vault(master)
    assert done.master == master.name == DataKey.objects.get().master
    audit.verify(vault, done.manifest.anchor)
    assert audit.verify(vault) == done.trail
    found = list(readings.Readings(store.Payloads(vault)).in_order(readings.Filter()))
    assert [one.value for one in found] == [70]
    assert Device.objects.get().eui == wearable.eui
    assert DeviceChain.objects.get().downlink_from_epoch == 0
    event = audit.AuditEvent.objects.order_by("sequence").last()
    assert (event.event, event.actor) == ("sys_restore", "tester")
    assert restored.restored_at() == event.at_ms / 1000
    with pytest.raises(keyring.OtherMaster):
        keyring.open_vault(MASTER)
    connections.close_all()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["backup.sealband", "new.db", "new.key", "shares"]


def test_master_key_that_is_still_there_restores_without_shares(fleet: Fleet, tmp_path: Path, monkeypatch):
    path = made(fleet, tmp_path)
    import base64

    monkeypatch.setenv("OLD", base64.b64encode(MASTER.key).decode())
    again(path, tmp_path, old_master="env:OLD")
    monkeypatch.setenv("OLD", base64.b64encode(bytes(32)).decode())
    refused(path, tmp_path, "needs the master key", keyring.OtherMaster, name="third.db", old_master="env:OLD")


@softhsm.needs_softhsm()
def test_lost_token_is_replaced_by_another(fleet: Fleet, tmp_path: Path, share_files: list[Path]):
    masters.create_master(softhsm.uri("lost"))
    keyring.rotate(MASTER, masters.open_master(softhsm.uri("lost"), {}))
    path = made(fleet, tmp_path)
    masters.create_master(softhsm.uri("next"))
    database = str(tmp_path / "new.db")
    restore.restore(path, database, softhsm.uri("next"), share_files=share_files[:3], extra_apps=APPS)
    keyring.open_vault(masters.open_master(softhsm.uri("next"), {}))
    with pytest.raises(keyring.OtherMaster):
        keyring.open_vault(masters.open_master(softhsm.uri("lost"), {}))


def test_sessions_and_tokens_of_before_do_not_come_back_with_a_backup(
    fleet: Fleet, tmp_path: Path, share_files: list[Path]
):
    text = session_of(fleet.vault, "somebody", ["care"])
    sessions.resolve(fleet.vault, text)
    path = made(fleet, tmp_path)
    again(path, tmp_path, share_files=share_files[:3])
    with pytest.raises(sessions.SessionRefused):
        sessions.resolve(fleet.vault, text)


def test_existing_database_is_never_touched(fleet: Fleet, tmp_path: Path, share_files: list[Path]):
    path = made(fleet, tmp_path)
    (tmp_path / "new.db").write_bytes(b"mine")
    refused(path, tmp_path, "exists already", share_files=share_files[:3])
    assert (tmp_path / "new.db").read_bytes() == b"mine"


def test_shares_that_are_too_few_mixed_or_of_another_registry_restore_nothing(
    fleet: Fleet, tmp_path: Path, share_files: list[Path]
):
    path = made(fleet, tmp_path)
    other = shares.issue(tmp_path / "other", keyring.data_key(MASTER), 3, 5)
    stranger = [tmp_path / f"stranger-{number}" for number in range(3)]
    for file, text in zip(stranger, shares.split(bytes(32), 3, 5), strict=False):
        file.write_text(text)
    refused(path, tmp_path, "3 are needed", shares.SharesRefused, share_files=share_files[:2])
    refused(path, tmp_path, "not of one split", shares.SharesRefused, share_files=[*share_files[:2], other[2]])
    refused(path, tmp_path, "not the key of this backup", share_files=stranger)


def rewritten(path: Path, change: dict[str, bytes | None], extra: str = "") -> Path:
    """A copy of a backup with other content in some of its members."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    copy = path.with_name("rewritten")
    with zipfile.ZipFile(copy, "w") as archive:
        for name, data in {**content, **change}.items():
            if data is not None:
                archive.writestr(name, data)
        if extra:
            archive.writestr(extra, b"x")
    return copy


def test_damaged_cut_and_forged_backups_are_refused(fleet: Fleet, tmp_path: Path, share_files: list[Path]):
    fleet.add()
    path = made(fleet, tmp_path)
    enough = {"share_files": share_files[:3]}
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        database, manifest = archive.read("database"), archive.read("manifest.json")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"")
    for position in (data.index(b"SQLite format 3"), len(data) // 2):
        damaged.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        refused(damaged, tmp_path, "damaged", **enough)
    for cut in (0, 100, len(data) // 2, len(data) - 1):
        damaged.write_bytes(data[:cut])
        refused(damaged, tmp_path, "not a backup|damaged", **enough)
    rewritten(path, {})
    # whoever has no data key can compute the hash anew, but not the MAC
    forged = database.replace(b"test-band", b"BEST-BAND")
    told = re.sub(rb'"sha256": "\w+"', b'"sha256": "%s"' % hashlib.sha256(forged).hexdigest().encode(), manifest)
    refused(rewritten(path, {"database": forged, "manifest.json": told}), tmp_path, "manifest was changed", **enough)
    refused(rewritten(path, {"database": forged}), tmp_path, "damaged", **enough)
    refused(rewritten(path, {"database": database[:-1]}), tmp_path, "damaged", **enough)
    refused(rewritten(path, {"database": database + b"x"}), tmp_path, "damaged", **enough)
    refused(rewritten(path, {"manifest.mac": bytes(32)}), tmp_path, "manifest was changed", **enough)
    refused(rewritten(path, {"manifest.mac": bytes(31)}), tmp_path, "manifest is damaged", **enough)
    for wrong in (b"{}", b"[]", b"", manifest.replace(b'"devices": 1', b'"devices": "1"'), bytes(70000)):
        refused(rewritten(path, {"manifest.json": wrong}), tmp_path, "manifest is damaged", **enough)
    refused(rewritten(path, {"manifest.json": manifest.replace(b"/1 b", b"/2 b")}), tmp_path, "version", **enough)
    refused(rewritten(path, {"database": None}), tmp_path, "not a backup", **enough)
    refused(rewritten(path, {}, extra="../etc/passwd"), tmp_path, "not a backup", **enough)
    refused(tmp_path / "none", tmp_path, "cannot be read", **enough)
    again(rewritten(path, {}), tmp_path, **enough)  # the same content is taken


def test_backup_that_is_older_than_a_noted_anchor_is_refused(fleet: Fleet, tmp_path: Path, share_files: list[Path]):
    path = made(fleet, tmp_path)
    audit.append(fleet.vault, "sys_startup")
    anchor = audit.verify(fleet.vault).anchor
    refused(path, tmp_path, "older", share_files=share_files[:3], anchor=anchor)
    refused(path, tmp_path, "no anchor", share_files=share_files[:3], anchor="nonsense")
    _, mac = anchor.split(":")
    refused(path, tmp_path, "not what the anchor says", share_files=share_files[:3], anchor=f"2:{mac}")
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("manifest.json"))["anchor"]
    again(path, tmp_path, share_files=share_files[:3], anchor=told)


def test_new_master_key_that_cannot_be_used_leaves_nothing(fleet: Fleet, tmp_path: Path, share_files: list[Path]):
    path = made(fleet, tmp_path)
    for uri in ("env:NOT_SET", f"file:{tmp_path / 'site' / 'key'}"):
        (tmp_path / "site" / "key").touch(mode=0o644)
        with pytest.raises(MasterKeyRefused):
            restore.restore(path, str(tmp_path / "new.db"), uri, share_files=share_files[:3], extra_apps=APPS)
        assert not (tmp_path / "new.db").exists()
    registry.setup(fleet.path, extra_apps=APPS)
    assert restored.restored_at() is None


@pytest.mark.parametrize("step", [(os, "link"), (restore, "sync_folder"), (restore.restored, "mark")], ids=str)
def test_restore_that_fails_at_a_late_step_leaves_nothing(
    fleet: Fleet, tmp_path: Path, share_files: list[Path], monkeypatch: pytest.MonkeyPatch, step: tuple[object, str]
):
    path = made(fleet, tmp_path)
    connections.close_all()
    before = sorted(tmp_path.rglob("*"))
    original = getattr(*step)

    def fail(*arguments: object, **options: object) -> object:
        if step[1] == "link" and "new.db" not in str(arguments):
            return original(*arguments, **options)  # the new master key's file
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*step, fail)
    with pytest.raises(OSError, match="No space"):
        again(path, tmp_path, share_files=share_files[:3])
    assert sorted(tmp_path.rglob("*")) == before
