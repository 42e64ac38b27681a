"""`sealband operator`, as people and scripts call it: first admin, tokens, terminals, and registries from before."""

import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host_tools import cli
from host_tools.cli import guard, session_file
from tests.support.operators import PASSWORD, Desk, code_of, private_file, recovery_codes_of
from tests.support.registries import MODEL, TemporaryRegistry

ROOT = Path(__file__).resolve().parents[2]
SEALBAND = str(Path(sys.executable).with_name("sealband"))


@pytest.fixture
def sealband(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    for name in ("MASTER_KEY", "DATABASE", "KEY_FILE", "BATCH_KEY", "AUDIT_LOG", "OPERATOR_TOKEN_FILE"):
        monkeypatch.delenv(f"SEALBAND_{name}", raising=False)

    def run(words: tuple[str, ...], session: Path, status: int = 0) -> Any:
        monkeypatch.setenv(session_file.ENVIRONMENT, str(session))
        found = cli.run([*words, "--json"])
        out, err = capsys.readouterr()
        assert found == status, err
        return json.loads(err if status else out)

    return run


def test_from_the_first_admin_to_a_script_with_a_token(sealband: Callable[..., Any], tmp_path: Path):
    desk = Desk(sealband, tmp_path)
    assert desk.found()["operator"] == "root"
    assert (tmp_path / "root.totp").stat().st_mode & 0o777 == 0o600
    assert len(recovery_codes_of(tmp_path / "root.totp")) == 10
    desk.add("desk", "factory")
    desk.add("anna", "fleet", "care")
    at_desk, anna, root = (desk.session(name) for name in ("desk", "anna", "root"))
    issue = ("registry", "issue", "--model", MODEL, "--count", "1", "--out", "tickets.json")
    assert "may not do this (batch.issue)" in sealband(issue, anna, 1)["error"]
    assert "may not do this (batch.issue)" in sealband(issue, root, 1)["error"]
    assert not (tmp_path / "tickets.json").exists()
    assert sealband(issue, at_desk)["tickets"] == 1
    assert sealband(("rollout", "status"), anna) == []
    assert "(rollout.view)" in sealband(("rollout", "status"), at_desk, 1)["error"]
    assert sealband(("operator", "whoami"), at_desk)["roles"] == ["factory"]

    made = sealband(
        ("operator", "token", "create", "--action", "device.list", "--days", "2", "--out", "list.token"), anna
    )
    assert (tmp_path / "list.token").stat().st_mode & 0o777 == 0o600
    nobody = tmp_path / "nobody.json"
    assert sealband(("registry", "devices", "--operator", "list.token"), nobody) == []
    assert "not for rollout.view" in sealband(("rollout", "status", "--operator", "list.token"), nobody, 1)["error"]
    assert [row["token"] for row in sealband(("operator", "token", "list"), anna)] == [made["token"]]
    assert "no token" in sealband(("operator", "token", "revoke", made["token"]), at_desk, 1)["error"]
    sealband(("operator", "token", "revoke", made["token"]), anna)
    assert "ended" in sealband(("registry", "devices", "--operator", "list.token"), nobody, 1)["error"]

    listed = {row["name"]: row for row in sealband(("operator", "list"), root)}
    assert {name: row["roles"] for name, row in listed.items()} == {
        "root": ["admin"], "desk": ["factory"], "anna": ["care", "fleet"]
    }  # fmt: skip
    assert {name: row["second_factor"] for name, row in listed.items()} == {"root": True, "desk": False, "anna": True}
    assert sealband(("operator", "role", "desk", "--add", "care"), root)["roles"] == ["care", "factory"]
    sealband(("operator", "totp", "anna", "--reset"), root)
    assert "ended" in sealband(("rollout", "status"), anna, 1)["error"]
    sealband(("operator", "logout"), at_desk)
    assert not at_desk.exists()
    assert "nobody is logged in" in sealband(("registry", "devices"), at_desk, 1)["error"]


def test_token_by_a_pipe_and_by_the_environment(sealband, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    desk = Desk(sealband, tmp_path)
    desk.found()
    desk.add("desk", "factory")
    out = tmp_path / "list.token"
    sealband(("operator", "token", "create", "--action", "device.list", "--out", str(out)), desk.session("desk"))
    environment = {**os.environ, session_file.ENVIRONMENT: str(tmp_path / "none")}
    words = [SEALBAND, "registry", "devices", "--json"]
    piped = subprocess.run(
        [*words, "--operator", "-"], input=out.read_text(), capture_output=True, text=True, env=environment, check=True
    )
    named = subprocess.run(words, capture_output=True, env={**environment, guard.TOKEN_FILE: str(out)}, check=True)
    assert json.loads(piped.stdout) == json.loads(named.stdout) == []


def test_password_is_no_argument_and_its_file_is_private(sealband, tmp_path: Path):
    loose = tmp_path / "loose"
    loose.write_text(PASSWORD)
    loose.chmod(0o644)
    none = tmp_path / "none"
    told = sealband(("registry", "init", "--admin", "root", "--password-file", str(loose)), none, 1)
    assert "others can read the password" in told["error"]
    weak = str(private_file(tmp_path / "weak", "short"))
    assert "12 characters" in sealband(("operator", "init", "root", "--password-file", weak), none, 1)["error"]
    assert "no terminal" in sealband(("operator", "init", "root"), none, 1)["error"]
    good = str(private_file(tmp_path / "good", PASSWORD))
    assert not sealband(("operator", "init", "root", "--password-file", good), none)["second_factor"]
    assert "has operators" in sealband(("operator", "init", "other", "--password-file", good), none, 1)["error"]
    # without the second factor an admin can do nothing but set it up
    sealband(("operator", "login", "root", "--password-file", good, "--code", ""), none)
    assert "second factor" in sealband(("operator", "list"), none, 1)["error"]
    sealband(("operator", "totp", "--totp-file", "root.totp"), none)
    assert sealband(("operator", "list"), none)[0]["second_factor"] is True
    for word in ("--password", "--token"):
        assert sealband(("operator", "login", "root", word, PASSWORD), none, 2)["error"].startswith("No such option")


def test_person_at_a_terminal_is_asked_once(sealband, tmp_path: Path):
    """Password unseen, code seen; then commands go on without being asked."""
    desk = Desk(sealband, tmp_path)
    desk.found()
    session = tmp_path / "typed.json"
    environment = {**os.environ, session_file.ENVIRONMENT: str(session), "TERM": "dumb"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(SEALBAND, [SEALBAND, "operator", "login", "root"], environment)
    shown = b""

    def answer(prompt: bytes, text: str) -> None:
        nonlocal shown
        while prompt not in shown:
            shown += os.read(terminal, 4096)
        os.write(terminal, text.encode() + b"\n")

    answer(b"Password:", PASSWORD)
    answer(b"(none yet: Enter)", recovery_codes_of(tmp_path / "root.totp")[0])
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    assert PASSWORD.encode() not in shown
    assert sealband(("operator", "list"), session)[0]["name"] == "root"


def test_registry_from_before_operators_takes_its_first_one(sealband, tmp_path: Path):
    """The tables as they were, with events; brought up to date by `registry init`, then `operator init`."""
    code = (
        "import sys; from provisioning import registry; from provisioning.registry.vault import Vault, create_key_file;"
        "from pathlib import Path; create_key_file(Path('sealband.key')); registry.setup('sealband.db');"
        "from django.core.management import call_command;"
        "call_command('migrate', 'registry', '0002', verbosity=0);"
        "from provisioning.registry import audit; vault = Vault.from_settings('sealband.key');"
        "audit.append(vault, audit.FIRST); audit.append(vault, 'sys_startup')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)
    with sqlite3.connect("sealband.db") as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    assert "registry_auditevent" in tables and not any(name.startswith("operators_") for name in tables)
    none = tmp_path / "none.json"
    assert "older version" in sealband(("registry", "devices"), none, 1)["error"]
    assert sealband(("registry", "init"), none)["new"] is False
    assert "no operator yet" in sealband(("registry", "devices"), none, 1)["error"]
    password = str(private_file(tmp_path / "password", PASSWORD))
    sealband(("operator", "init", "root", "--password-file", password, "--totp-file", "root.totp"), none)
    code_now = code_of(tmp_path / "root.totp")
    sealband(("operator", "login", "root", "--password-file", password, "--code", code_now), none)
    assert [row["name"] for row in sealband(("operator", "list"), none)] == ["root"]


def test_release_is_signed_offline_without_a_registry_and_with_one_only_by_who_may(sealband, tmp_path: Path):
    from provisioning import signers
    from tests.support import signed_release

    none = tmp_path / "none.json"
    signers.create_file_key(tmp_path / "release.pem")
    key = ("--key", f"file:{tmp_path / 'release.pem'}", "--yes")
    offline = ("release", "sign", str(signed_release.write(tmp_path / "offline")), *key)
    assert sealband(offline, none)["signatures"] == 1  # the key alone decides
    words = ("release", "sign", str(signed_release.write(tmp_path / "8")), *key)
    desk = Desk(sealband, tmp_path)
    desk.found()
    desk.add("desk", "factory")
    desk.add("rita", "release")
    assert "may not do this (release.sign)" in sealband(words, desk.session("desk"), 1)["error"]
    assert "nobody is logged in" in sealband(words, none, 1)["error"]
    assert sealband(words, desk.session("rita"))["signatures"] == 1
    desk.add("checker", "audit")
    (event,) = sealband(("audit", "show", "--event", "ota_signed"), desk.session("checker"))
    assert event["actor"] == "operator:rita" and event["details"]["sequence"] == 2


def test_kept_demo_lets_viewer_and_auditor_look(tmp_path: Path):
    from host_tools.demo import people

    registry = TemporaryRegistry(tmp_path)
    people.leave_tokens(registry.vault, tmp_path)
    from provisioning.operators import sessions
    from provisioning.operators.roles import ACTIONS

    for name, (_, scope) in people.TOKENS.items():
        path = tmp_path / f"{name}.token"
        assert path.stat().st_mode & 0o777 == 0o600
        acting = sessions.resolve(registry.vault, path.read_text())
        assert {action for action in ACTIONS if sessions.why_not(acting, action) is None} == set(scope)


def test_roles_are_shown_as_they_are(sealband, tmp_path: Path):
    from provisioning.operators.roles import ACTIONS

    told = sealband(("operator", "roles"), tmp_path / "none")
    assert {action: set(roles) for action, roles in told.items()} == {a: set(map(str, r)) for a, r in ACTIONS.items()}
