"""Attacks on the audit trail and its copy: edits, deletions, cut tails, older databases, planted secrets, formulas."""

import base64
import csv
import io
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host_tools import cli
from host_tools.cli import guard, session_file
from provisioning.registry.vault import Vault
from tests.support.operators import CHOSEN, PASSWORD, Desk, recovery_codes_of
from tests.support.registries import MODEL, TemporaryRegistry

TRIGGERS = ("registry_audit_no_update", "registry_audit_no_delete")


@pytest.fixture
def trail(tmp_path: Path):
    """A registry with eight events, and the copy of its trail."""
    registry = TemporaryRegistry(tmp_path)
    from provisioning.registry import audit, audit_log

    audit_log.keep(tmp_path / "audit.jsonl")
    for number in range(7):
        audit.append(registry.vault, "sensitive_read", subject=f"s{number}", actor="operator:anna", count=number)
    yield registry
    audit_log.keep(None)


def lines(registry: TemporaryRegistry) -> list[bytes]:
    return (registry.folder / "audit.jsonl").read_bytes().splitlines(keepends=True)


def tamper(registry: TemporaryRegistry, *statements: str) -> None:
    from django.db import connections

    connections.close_all()
    with sqlite3.connect(registry.database) as database:
        for trigger in TRIGGERS:
            database.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            database.execute(statement)


def broken_at(check: Callable[[], object]) -> int:
    from provisioning.registry import audit

    with pytest.raises(audit.AuditBroken) as broken:
        check()
    return broken.value.sequence


# the copy


def test_copy_is_whole_private_and_holds_what_the_database_does(trail: TemporaryRegistry):
    from provisioning.registry import audit
    from provisioning.registry.models import AuditEvent

    path = trail.folder / "audit.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    told = [json.loads(line) for line in lines(trail)]
    assert [(one["sequence"], one["event"], one["subject"], one["mac"]) for one in told] == [
        (row.sequence, row.event, row.subject, bytes(row.mac).hex()) for row in AuditEvent.objects.order_by("sequence")
    ]
    assert audit.verify_log(trail.vault, path) == 8


@pytest.mark.parametrize(
    ("edit", "sequence"),
    [
        (lambda all_: [*all_[:3], all_[3].replace(b"anna", b"otto"), *all_[4:]], 4),
        (lambda all_: [*all_[:3], all_[3].replace(b'"count":2', b'"count":3'), *all_[4:]], 4),
        (lambda all_: [all_[0].replace(b"registry_created", b"sys_startup"), *all_[1:]], 1),
        (lambda all_: [*all_[:3], *all_[4:]], 4),
        (lambda all_: all_[1:], 1),
        (lambda all_: [*all_[:3], all_[4], all_[3], *all_[5:]], 4),
        (lambda all_: [*all_[:4], all_[3], *all_[4:]], 5),
        (lambda all_: [*all_, all_[-1]], 9),
        (lambda all_: [*all_[:7], all_[7].rstrip(b"\n")], 8),
        (lambda all_: [*all_[:3], all_[3].replace(b'{"seq', b'{ "seq'), *all_[4:]], 4),
        (lambda all_: [*all_[:3], all_[3].replace(b"}\n", b',"more":1}\n'), *all_[4:]], 4),
        (lambda all_: [*all_[:3], b"\xff\n", *all_[3:]], 4),
    ],
    ids=[
        "who",
        "detail",
        "what",
        "deletion",
        "first deleted",
        "order",
        "twice",
        "appended",
        "torn",
        "spaces",
        "more",
        "junk",
    ],
)
def test_edit_of_the_copy_is_found(trail: TemporaryRegistry, edit: Callable[[list[bytes]], list[bytes]], sequence: int):
    from provisioning.registry import audit

    path = trail.folder / "audit.jsonl"
    path.write_bytes(b"".join(edit(lines(trail))))
    assert broken_at(lambda: audit.verify_log(trail.vault, path)) == sequence


@pytest.mark.parametrize(
    ("statements", "in_database", "against_copy"),
    [
        (["UPDATE registry_auditevent SET actor = 'x' WHERE sequence = 3"], 3, None),
        (["DELETE FROM registry_auditevent WHERE sequence = 3"], 3, 3),
        (["DELETE FROM registry_auditevent WHERE sequence > 5"], 6, 6),
        (["DELETE FROM registry_auditevent"], 1, 1),
    ],
    ids=["edit", "deletion", "cut tail", "all"],
)
def test_edit_deletion_and_cut_tail_of_the_database_are_found(
    trail: TemporaryRegistry, statements: list[str], in_database: int, against_copy: int | None
):
    from provisioning.registry import audit

    tamper(trail, *statements)
    assert broken_at(lambda: audit.verify(trail.vault)) == in_database
    path = trail.folder / "audit.jsonl"
    if against_copy is None:
        # the copy still says what was there: its MAC is that of the event as it was
        assert audit.verify_log(trail.vault, path) == 8
        assert json.loads(lines(trail)[2])["actor"] == "operator:anna"
    else:
        assert broken_at(lambda: audit.verify_log(trail.vault, path)) == against_copy


def test_older_database_in_place_of_the_present_one_is_found_by_the_copy(trail: TemporaryRegistry, caplog):
    """The database alone looks whole, tail and head; only the copy knows more."""
    from django.db import connections

    from provisioning.registry import audit

    connections.close_all()
    older = sqlite3.connect(trail.database).serialize()
    audit.append(trail.vault, "device_lost", subject="after the copy")
    connections.close_all()
    for path in trail.folder.glob("registry.db*"):
        path.unlink()
    trail.database.write_bytes(older)
    copy = trail.folder / "audit.jsonl"
    assert audit.verify(trail.vault).events == 8
    assert broken_at(lambda: audit.verify_log(trail.vault, copy)) == 9
    # what happens next is not written over or behind it, and that is said
    audit.append(trail.vault, "sys_startup")
    assert len(lines(trail)) == 9 and "older database" in caplog.text
    assert broken_at(lambda: audit.verify_log(trail.vault, copy)) == 9


def test_copy_of_another_registry_is_refused(trail: TemporaryRegistry, tmp_path: Path, caplog):
    from provisioning.registry import audit

    (tmp_path / "other").mkdir()
    before = lines(trail)
    other = TemporaryRegistry(tmp_path / "other")
    audit.append(other.vault, "sys_startup")
    assert lines(trail) == before and "another" in caplog.text


def test_what_a_crash_left_out_of_the_copy_comes_with_the_next_event(trail: TemporaryRegistry):
    from provisioning.registry import audit

    path = trail.folder / "audit.jsonl"
    all_ = lines(trail)
    for left in (b"".join(all_[:5]), b"".join(all_[:5]) + all_[5][:40], b""):
        path.write_bytes(left)
        audit.append(trail.vault, "sys_startup")
        assert lines(trail)[:8] == all_
    assert audit.verify_log(trail.vault, path) == 11


def test_event_that_was_undone_is_not_in_the_copy(trail: TemporaryRegistry):
    from django.db import transaction

    from provisioning.registry import audit

    def fail() -> None:
        with transaction.atomic():
            audit.append(trail.vault, "device_lost")
            assert len(lines(trail)) == 8
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert len(lines(trail)) == 8
    with transaction.atomic():
        for _ in range(3):
            audit.append(trail.vault, "sys_startup")
    assert len(lines(trail)) == 11


def test_copy_that_cannot_be_written_costs_no_work_and_is_said(trail: TemporaryRegistry, caplog):
    from provisioning.registry import audit, audit_log

    for number, path in enumerate((Path("/dev/full"), trail.folder, trail.folder / "nothing" / "log"), 9):
        audit_log.keep(path)
        caplog.clear()
        audit.append(trail.vault, "device_lost")
        assert "was not written" in caplog.text
        assert audit.verify(trail.vault).events == number


def test_formula_in_a_name_stays_text_in_a_spreadsheet(trail: TemporaryRegistry):
    from provisioning.registry import audit, audit_lines

    nasty = ("=cmd|'/c calc'!A0", "+1", "-1", "@x", "\tx", 'a,"b"\nc')
    for text in nasty:
        audit.append(trail.vault, "device_lost", subject=text, actor=text)
    out = "".join(audit_lines.to_csv(audit_lines.select(audit_lines.Wanted(events=("device_lost",)))))
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["subject"].removeprefix("'") for row in rows] == list(nasty)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())


# the commands, and secrets


@pytest.fixture
def sealband(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    for name in (
        "SEALBAND_MASTER_KEY",
        "SEALBAND_DATABASE",
        "SEALBAND_KEY_FILE",
        "SEALBAND_BATCH_KEY",
        guard.TOKEN_FILE,
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEALBAND_AUDIT_LOG", str(tmp_path / "audit.jsonl"))
    printed: list[str] = []

    def run(words: tuple[str, ...], session: Path, status: int = 0) -> Any:
        monkeypatch.setenv(session_file.ENVIRONMENT, str(session))
        assert cli.run([*words, "--json"]) == status, capsys.readouterr().err
        out, err = capsys.readouterr()
        printed.append(out + err)
        return json.loads(err if status else out) if words[:2] != ("audit", "export") else out

    run.printed = printed  # type: ignore[attr-defined]
    yield run
    from provisioning.registry import audit_log

    audit_log.keep(None)


def test_planted_secrets_are_nowhere_in_the_trail(sealband, tmp_path: Path):
    """Passwords, codes, sessions, tokens, TOTP secrets and keys of a day, searched for in all that was written."""
    desk = Desk(sealband, tmp_path)
    desk.found()
    for name, roles in (("desk", ("factory",)), ("anna", ("fleet", "care")), ("checker", ("audit",))):
        desk.add(name, *roles)
    anna, checker = desk.session("anna"), desk.session("checker")
    sealband(("registry", "issue", "--model", MODEL, "--count", "2", "--out", "tickets.json"), desk.session("desk"))
    sealband(("registry", "issue", "--model", MODEL, "--count", "2", "--out", "more.json"), anna, status=1)
    token = ("operator", "token", "create", "--action", "device.list", "--label", "list", "--out", "anna.token")
    sealband(token, anna)
    sealband(("registry", "devices", "--operator", "anna.token"), checker)
    sealband(("rollout", "status", "--operator", "anna.token"), checker, status=1)
    for name in ("anna", "nobody", PASSWORD):
        words = ("operator", "login", name, "--password-file", str(tmp_path / "password"), "--code", "123456")
        sealband(words, tmp_path / "none.json", status=1)
    sealband(("operator", "role", "anna", "--remove", "care"), desk.session("root"))
    sealband(("operator", "disable", "anna"), desk.session("root"))
    sealband(("registry", "devices"), anna, status=1)
    sealband(("operator", "logout"), desk.session("desk"))
    assert sealband(("audit", "verify", "--log", "audit.jsonl"), checker)["log"] >= 30
    exported = sealband(("audit", "export"), checker)
    sealband(("audit", "export", "--output", "events.csv", "--format", "csv"), checker)
    shown = sealband(("audit", "show", "--last", "500"), checker)
    assert "authn_login_fail" in {row["event"] for row in shown} and "authz_fail" in {row["event"] for row in shown}

    key = base64.b64decode((tmp_path / "sealband.key").read_text())
    secrets = {
        "password": PASSWORD.encode(),
        "chosen password": CHOSEN.encode(),
        "token": (tmp_path / "anna.token").read_bytes().strip()[4:],
        "master key": base64.b64encode(key),
        "master key's bytes": key,
    }
    for name in ("root", "anna", "checker"):
        totp = tmp_path / f"{name}.totp"
        secrets[f"TOTP of {name}"] = totp.read_bytes().split(b"secret=")[1].split(b"&")[0]
        secrets |= {f"recovery code {n} of {name}": c.encode() for n, c in enumerate(recovery_codes_of(totp))}
    for path in tmp_path.glob("session-*.json"):
        secrets[path.name] = json.loads(path.read_text())["session"].encode()[4:]
    vault = _vault(tmp_path)
    secrets["audit key"] = vault.subkey(b"sealband/1 audit")
    written = {
        "trail and database": b"".join(path.read_bytes() for path in tmp_path.glob("sealband.db*")),
        "copy": (tmp_path / "audit.jsonl").read_bytes(),
        "CSV": (tmp_path / "events.csv").read_bytes(),
        "export": exported.encode(),
        "printed": "".join(sealband.printed).encode(),
    }
    for where, data in written.items():
        for name, secret in secrets.items():
            for form in {secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)}:
                assert form not in data, f"{name} is in the {where}"
    # the search itself finds what is there
    assert b"operator:anna" in written["copy"] and b"operator:anna" in written["trail and database"]


def _vault(folder: Path) -> Vault:
    from host_tools.cli.connection import open_registry

    return open_registry(str(folder / "sealband.db"), folder / "sealband.key")


def test_auditor_gets_in_to_see_a_broken_trail_and_nobody_else(sealband, tmp_path: Path):
    from django.db import connections

    desk = Desk(sealband, tmp_path)
    desk.found()
    desk.add("desk", "factory")
    desk.add("checker", "audit")
    connections.close_all()
    with sqlite3.connect("sealband.db") as database:
        for trigger in TRIGGERS:
            database.execute(f"DROP TRIGGER {trigger}")
        database.execute(
            "DELETE FROM registry_auditevent WHERE sequence = (SELECT max(sequence) FROM registry_auditevent)"
        )
    checker = desk.session("checker")
    assert "audit trail broken" in sealband(("registry", "devices"), desk.session("desk"), status=1)["error"]
    assert "audit trail broken" in sealband(("audit", "verify"), checker, status=1)["error"]
    assert sealband(("audit", "show"), checker)[0]["event"] == "registry_created"
    assert "audit trail broken at event" in sealband(("audit", "verify", "--log", "audit.jsonl"), checker, 1)["error"]


def test_filters_show_what_they_say(sealband, tmp_path: Path):
    desk = Desk(sealband, tmp_path)
    desk.found()
    desk.add("checker", "audit")
    checker = desk.session("checker")

    def shown(*words: str) -> list[dict[str, Any]]:
        return sealband(("audit", "show", *words), checker)

    assert {row["event"] for row in shown("--event", "authn_*")} == {
        "authn_login_success", "authn_mfa_change", "authn_password_change"
    }  # fmt: skip
    assert [row["subject"] for row in shown("--event", "user_created")] == ["root", "checker"]
    assert {row["actor"] for row in shown("--actor", "operator:root")} == {"operator:root"}
    assert {row["subject"] for row in shown("--subject", "checker")} == {"checker"}
    assert shown("--since", "2999-01-01") == [] and shown("--until", "2020-01-01") == []
    assert len(shown("--since", "1h", "--last", "3")) == 3
    assert "no event" in sealband(("audit", "show", "--event", "nothing"), checker, 1)["error"]
    assert "not an anchor" in sealband(("audit", "verify", "--anchor", "x"), checker, 1)["error"]
    out = [json.loads(line) for line in sealband(("audit", "export", "--event", "user_created"), checker).splitlines()]
    assert [row["subject"] for row in out] == ["root", "checker"]
    anchor = sealband(("audit", "verify"), checker)["anchor"]
    assert sealband(("audit", "verify", "--anchor", anchor), checker)["events"] == int(anchor.split(":")[0]) + 1
    assert os.stat("audit.jsonl").st_mode & 0o777 == 0o600
