"""Keys, backups and a restore by the commands, as an operator gives them: on SQLite and on PostgreSQL."""

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provisioning.station import bench
from provisioning.station.journal import Journal
from provisioning.tickets import TicketFile
from tests.support import softhsm
from tests.support.operators import Desk, code_of
from tests.support.postgresql import TemporaryPostgresql, has_postgresql
from tests.support.registries import MODEL
from tests.support.soft_board import SoftBoard

SEALBAND = str(Path(sys.executable).parent / "sealband")
Run = Callable[..., Any]


def commands(folder: Path, database: str) -> Run:
    """Runs `sealband … --json` in a folder; what it printed, as JSON."""

    def run(
        *words: str, session: Path = folder / "session-root.json", status: int = 0, key_file: str = "sealband.key"
    ) -> Any:
        own = {**os.environ, "SEALBAND_DATABASE": database, "SEALBAND_SESSION": str(session)}
        own["SEALBAND_KEY_FILE"] = key_file
        done = subprocess.run(
            [SEALBAND, *words, "--json"], cwd=folder, env=own, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout or done.stderr)

    return run


def enrolled(run: Run, folder: Path, boards: int) -> None:
    """So many boards, enrolled at a station and imported."""
    run("registry", "issue", "--model", MODEL, "--count", str(boards), "--out", "tickets.json", session=_desk(folder))
    file = TicketFile.from_bytes((folder / "tickets.json").read_bytes())
    with Journal.open(folder / "journal") as journal:
        for _ in range(boards):
            bench.enrol(SoftBoard(), file, journal)
    run("registry", "import", "journal", session=_desk(folder))


def log_in_again(run: Run, folder: Path, key_file: str) -> None:
    """Everybody's session ended with the restore. Root's code is the next one, for each is good once."""
    code = code_of(folder / "root.totp", time.time() + 30)
    run("operator", "login", "root", "--password-file", "password", "--code", code, key_file=key_file)
    own = {"session": _desk(folder), "key_file": key_file}
    run("operator", "login", "desk", "--password-file", "chosen", "--code", "", **own)


def _desk(folder: Path) -> Path:
    return folder / "session-desk.json"


@softhsm.needs_softhsm()
def test_lost_server_and_lost_master_key_come_back_from_a_backup_and_three_of_five_shares(tmp_path: Path):
    run = commands(tmp_path, "sealband.db")
    desk = Desk(lambda words, session: run(*words, session=session), tmp_path)
    desk.found()
    desk.add("desk", "factory")
    enrolled(run, tmp_path, 3)
    split = run("registry", "key", "split", "--shares", "5", "--threshold", "3", "--out", "shares")
    assert [Path(file).name for file in split["files"]] == [f"share-{number}-of-5.txt" for number in range(1, 6)]
    made = run("registry", "backup", "--out", "monday.backup")
    assert made["devices"] == 3
    assert stat.S_IMODE((tmp_path / "monday.backup").stat().st_mode) == 0o600
    assert "exists already" in run("registry", "backup", "--out", "monday.backup", status=1)["error"]
    denied = run("registry", "backup", "--out", "mine.backup", session=_desk(tmp_path), status=1)
    assert not (tmp_path / "mine.backup").exists(), denied

    # the disk with the database and the master key is gone
    for file in [*tmp_path.glob("sealband.db*"), tmp_path / "sealband.key"]:
        file.unlink()
    shares = [f"shares/share-{number}-of-5.txt" for number in (5, 1, 4)]
    given = [word for share in shares for word in ("--share", share)]
    to = ("--database", "new.db", "--master", "file:new.key")
    assert "3 are needed" in run("registry", "restore", "monday.backup", *given[:4], *to, status=1)["error"]
    assert run("registry", "restore", "monday.backup", *to, status=2)["remedy"]
    assert not list(tmp_path.glob("new.*"))
    done = run("registry", "restore", "monday.backup", *given, *to, "--anchor", made["anchor"])
    assert done["devices"] == 3
    assert "exists already" in run("registry", "restore", "monday.backup", *given, *to, status=1)["error"]

    again = commands(tmp_path, "new.db")
    assert "error" in again("registry", "key", "show", key_file="new.key", status=1), "all sessions ended"
    log_in_again(again, tmp_path, "new.key")
    assert again("registry", "key", "show", key_file="new.key")["master"] == done["master"]
    assert len(again("registry", "devices", session=_desk(tmp_path), key_file="new.key")) == 3

    # and on to a token; who starts with the key of before is told which one is needed
    made_key = again("registry", "key", "create", softhsm.uri("restored"))
    rotated = again("registry", "key", "rotate", "--to", softhsm.uri("restored"), key_file="new.key")
    assert rotated == {"old": done["master"], "new": made_key["master"]}
    refused = again("registry", "key", "show", key_file="new.key", status=1)
    assert made_key["master"] in refused["error"]
    assert again("registry", "key", "show", key_file=softhsm.uri("restored"))["master"] == made_key["master"]


@pytest.mark.skipif(not has_postgresql(), reason="needs PostgreSQL's initdb and postgres on PATH")
def test_postgresql_is_backed_up_and_restored_into_an_empty_database(tmp_path: Path):
    import psycopg

    with TemporaryPostgresql() as server:
        run = commands(tmp_path, server.url)
        desk = Desk(lambda words, session: run(*words, session=session), tmp_path)
        desk.found()
        desk.add("desk", "factory")
        enrolled(run, tmp_path, 2)
        made = run("registry", "backup", "--out", "monday.backup")
        assert (made["engine"], made["devices"]) == ("postgresql", 2)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE spare")
        spare = server.url.replace("/postgres?", "/spare?")
        same = ("--old-master", "file:sealband.key", "--master", "file:new.key")
        full = run("registry", "restore", "monday.backup", *same, "--database", server.url, status=1)
        assert "not empty" in full["error"]
        assert (
            "of that kind"
            in run("registry", "restore", "monday.backup", *same, "--database", "x.db", status=1)["remedy"]
        )
        tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'public'"
        (tmp_path / "taken.key").touch(mode=0o644)  # found out only when everything else is there
        late = ("--old-master", "file:sealband.key", "--master", "file:taken.key")
        assert run("registry", "restore", "monday.backup", *late, "--database", spare, status=1)["error"]
        with psycopg.connect(spare) as connection:
            assert connection.execute(tables).fetchone() == (0,)

        done = run("registry", "restore", "monday.backup", *same, "--database", spare, "--anchor", made["anchor"])
        assert done["devices"] == 2
        again = commands(tmp_path, spare)
        log_in_again(again, tmp_path, "new.key")
        assert len(again("registry", "devices", session=_desk(tmp_path), key_file="new.key")) == 2
        with psycopg.connect(spare) as connection, pytest.raises(psycopg.errors.RaiseException):
            connection.execute("DELETE FROM registry_auditevent")  # the triggers came with it
