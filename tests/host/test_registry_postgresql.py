"""The registry on PostgreSQL, through its command line: the same promises as on SQLite."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioning.station import bench
from provisioning.station.journal import Journal
from provisioning.tickets import Ticket, TicketFile
from tests.support.operators import Desk
from tests.support.postgresql import TemporaryPostgresql, has_postgresql
from tests.support.registries import MODEL, add_record
from tests.support.soft_board import SoftBoard

pytestmark = pytest.mark.skipif(not has_postgresql(), reason="needs PostgreSQL's initdb and postgres on PATH")
SEALBAND = str(Path(sys.executable).parent / "sealband")


@pytest.fixture
def url() -> Iterator[str]:
    with TemporaryPostgresql() as server:
        yield server.url


@pytest.fixture
def sealband(url: str, tmp_path: Path) -> Callable[..., Any]:
    environment = {**os.environ, "SEALBAND_DATABASE": url}

    def start(*words: str, session: Path) -> subprocess.Popen[str]:
        command = [SEALBAND, *words, "--json"]
        own = {**environment, "SEALBAND_SESSION": str(session)}
        return subprocess.Popen(command, cwd=tmp_path, env=own, stdout=-1, stderr=-1, text=True)

    def run(*words: str, session: Path = tmp_path / "session-desk.json", status: int = 0) -> Any:
        process = start(*words, session=session)
        out, error = process.communicate(timeout=60)
        assert process.returncode == status, error
        return json.loads(out or error)

    run.start = start  # type: ignore[attr-defined]
    return run


def test_registry_on_postgresql_from_init_to_audit(sealband, url: str, tmp_path: Path):
    import psycopg

    desk = Desk(lambda words, session: sealband(*words, session=session), tmp_path)
    assert desk.found()["new"]
    assert not sealband("registry", "init")["new"]
    desk.add("desk", "factory")
    desk.add("checker", "audit")
    checker = desk.session("checker")
    sealband("registry", "issue", "--model", MODEL, "--count", "12", "--out", "tickets.json")
    file = TicketFile.from_bytes((tmp_path / "tickets.json").read_bytes())
    boards = [SoftBoard() for _ in range(10)]
    path = tmp_path / "journal"
    with Journal.open(path) as journal:
        for board in boards:
            bench.enrol(board, file, journal)
    clone, second, stranger = SoftBoard(), SoftBoard(boards[1].eui), SoftBoard()
    clone.key = boards[0].key
    add_record(path, clone, clone.enrol(file.tickets[10], bytes(16), 0))
    add_record(path, second, second.enrol(file.tickets[10], bytes(16), 0))
    add_record(path, stranger, stranger.enrol(file.tickets[0], bytes(16), 0))
    invented = SoftBoard()
    add_record(path, invented, invented.enrol(Ticket(bytes(8), file.tickets[0].public_key), bytes(16), 0))

    both = [sealband.start("registry", "import", str(path), session=desk.session("desk")) for _ in range(2)]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert sorted(len(result["admitted"]) for result in results) == [0, 10]
    assert sorted(result["repeated"] for result in results) == [0, 10]
    for result in results:
        reasons = [refusal["reason"] for refusal in result["refused"]]
        assert reasons == ["key_taken", "eui_taken", "ticket_used", "unknown_ticket"]
    assert len(sealband("registry", "devices")) == 10
    changes = [row for row in sealband("audit", "show", session=checker) if row["actor"] == "operator:desk"]
    assert sealband("registry", "import", str(path), status=1)["repeated"] == 10
    again = [row for row in sealband("audit", "show", session=checker) if row["actor"] == "operator:desk"]
    assert [row["event"] for row in again[len(changes) :]] == ["operator_action"]
    assert sealband("audit", "verify", session=checker)["events"] > len(again)

    with psycopg.connect(url, autocommit=True) as database:
        for statement in (
            "UPDATE registry_auditevent SET subject = 'x'",
            "DELETE FROM registry_auditevent",
            "TRUNCATE registry_auditevent",
        ):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                database.execute(statement)
        with pytest.raises(psycopg.errors.CheckViolation):
            database.execute("UPDATE registry_ticket SET private_wrapped = 'x' WHERE state = 'used'")
        database.execute("ALTER TABLE registry_auditevent DISABLE TRIGGER ALL")
        database.execute("DELETE FROM registry_auditevent WHERE sequence = 3")
    assert "broken at event 3" in sealband("audit", "verify", status=1, session=checker)["error"]


PROGRAM = """
import os, sys, json
from pathlib import Path
from provisioning import registry
registry.setup(sys.argv[1], extra_apps=("host_tools.ingest", "host_tools.rollout"))
from provisioning.registry import devices, services
from provisioning.registry.vault import Vault
vault = Vault(bytes(32))
"""


def start(url: str, program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM + program, url, *arguments]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True)


def ended(process: subprocess.Popen[str]) -> Any:
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return json.loads(out)


def test_two_journals_with_the_same_boards_at_once_on_postgresql_admit_each_board_once(url: str, tmp_path: Path):
    made = """
from provisioning import signers
services.init_registry(vault)
signer = signers.create_file_key(Path(sys.argv[2], "batches.pem"))
services.issue_batch(vault, signer, "virtual-wearable", 40, out=Path(sys.argv[2], "tickets"))
print("{}")
"""
    ended(start(url, made, str(tmp_path)))
    file = TicketFile.from_bytes((tmp_path / "tickets").read_bytes())
    boards = [SoftBoard() for _ in range(20)]
    for name, first in (("a", 0), ("b", 20)):
        for number, board in enumerate(boards):
            twin = SoftBoard(board.eui)
            add_record(tmp_path / name, twin, twin.enrol(file.tickets[first + number], os.urandom(16), 0))
    take = """
result = services.import_journal(Path(sys.argv[2]), vault)
print(json.dumps([len(result.admitted), sorted({refusal.reason for refusal in result.refused})]))
"""
    both = [start(url, take, str(tmp_path / name)) for name in ("a", "b")]
    results = [ended(process) for process in both]
    assert sorted(results) == [[0, ["eui_taken"]], [20, []]]
    second = "ab"[results.index([0, ["eui_taken"]])]
    again = """
eui = bytes.fromhex(sys.argv[2])
devices.write_off(eui, vault)
devices.allow_reenrol(eui, vault)
print(json.dumps([row["eui"] for row in services.devices(["retired"])]))
"""
    eui = boards[0].eui
    assert ended(start(url, again, eui.hex())) == [eui.hex()]
    # what is left of the journal that came second is the board's way back
    assert ended(start(url, take, str(tmp_path / second))) == [1, ["eui_taken"]]
