"""The station: its flow with boards that fail half-way, its link with boards that lie, and the real mpremote."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.cli import run
from provisioning.enrolment import EnrolmentRefused
from provisioning.station import bench
from provisioning.station.journal import ENROLLED, FAILED, RESERVED, Journal, JournalError
from provisioning.station.link import BoardRefused, Link, LinkError, Status
from provisioning.tickets import Ticket, TicketFile
from tests.support.boards import has_raw_repl
from tests.support.operators import log_in_at
from tests.support.plain_board import PlainBoard
from tests.support.registries import MODEL, TemporaryRegistry
from tests.support.soft_board import SoftBoard

needs_raw_repl = pytest.mark.skipif(
    not has_raw_repl(), reason="the unix port of this MicroPython has no raw REPL (1.27)"
)


@pytest.fixture
def registry(tmp_path: Path) -> TemporaryRegistry:
    return TemporaryRegistry(tmp_path)


@pytest.fixture
def file(registry: TemporaryRegistry) -> TicketFile:
    return registry.issue(3)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal") as journal:
        yield journal


def kinds(journal: Journal) -> list[str]:
    return [entry.kind for entry in journal.entries[1:]]


# --- the flow


def test_board_is_enrolled_journaled_and_restarted_once(file: TicketFile, journal: Journal):
    board = SoftBoard()
    done = bench.enrol(board, file, journal)
    assert (done.record.eui, done.repeated, board.restarts) == (board.eui, False, 1)
    assert kinds(journal) == [RESERVED, ENROLLED]
    assert bench.enrol(board, file, journal).repeated
    assert kinds(journal) == [RESERVED, ENROLLED]
    assert bench.tickets_left(journal, file) == 2


@pytest.mark.parametrize("dies", ["before the board is asked", "before the answer arrives", "before it is journaled"])
def test_station_that_dies_goes_on_with_the_same_ticket_nonce_and_record(
    file: TicketFile, journal: Journal, dies: str, monkeypatch: pytest.MonkeyPatch
):
    board = SoftBoard()
    real = board.enrol
    asked: list[tuple[bytes, bytes]] = []

    def enrol(ticket: Ticket, nonce: bytes, now_s: int) -> bytes:
        asked.append((ticket.ticket_id, nonce))
        if len(asked) == 1 and dies == "before the board is asked":
            raise KeyboardInterrupt
        record = real(ticket, nonce, now_s)
        if len(asked) == 1 and dies == "before the answer arrives":
            raise KeyboardInterrupt
        return record

    def die(kind: str, **_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(board, "enrol", enrol)
    append = Journal.append
    if dies == "before it is journaled":
        monkeypatch.setattr(Journal, "append", lambda j, k, **b: die(k) if k == ENROLLED else append(j, k, **b))
    with pytest.raises(KeyboardInterrupt):
        bench.enrol(board, file, journal)
    monkeypatch.setattr(Journal, "append", append)
    first = board.record
    other = SoftBoard()
    bench.enrol(other, file, journal)  # another board in between takes another ticket
    done = bench.enrol(board, file, journal)
    assert asked[0] == asked[1] and other.ticket != board.ticket
    assert first in (None, board.record) and done.record.ticket_id == board.ticket
    assert kinds(journal) == [RESERVED, RESERVED, ENROLLED, ENROLLED]


def test_power_cut_of_the_board_is_retried_without_another_ticket(file: TicketFile, journal: Journal):
    class Flaky(SoftBoard):
        def __init__(self) -> None:
            super().__init__()
            self.failures = 2

        def enrol(self, ticket: Ticket, station_nonce: bytes, now_s: int) -> bytes:
            if self.failures:
                self.failures -= 1
                raise LinkError("gone", "")
            return super().enrol(ticket, station_nonce, now_s)

    bench.enrol(Flaky(), file, journal)
    board = Flaky()
    board.failures = 4
    with pytest.raises(LinkError):
        bench.enrol(board, file, journal)
    bench.enrol(board, file, journal)
    assert kinds(journal) == [RESERVED, ENROLLED, RESERVED, ENROLLED]


def test_board_that_refuses_is_journaled_with_its_reason(file: TicketFile, journal: Journal):
    class Refusing(SoftBoard):
        def enrol(self, ticket: Ticket, station_nonce: bytes, now_s: int) -> bytes:
            raise BoardRefused("random", "the generator is stuck")

    with pytest.raises(BoardRefused, match="stuck"):
        bench.enrol(Refusing(), file, journal)
    assert journal.entries[-1].kind == FAILED and journal.entries[-1].body["reason"] == "random"


def test_board_that_answers_garbage_is_journaled_and_the_next_goes_on(file: TicketFile, journal: Journal):
    class Broken(SoftBoard):
        def enrol(self, ticket: Ticket, station_nonce: bytes, now_s: int) -> bytes:
            return b"garbage"

    with pytest.raises(EnrolmentRefused):
        bench.enrol(Broken(), file, journal)
    assert journal.entries[-1].body["reason"] == "malformed"
    assert not bench.enrol(SoftBoard(), file, journal).repeated


def test_journal_that_cannot_be_written_spends_no_ticket(
    file: TicketFile, journal: Journal, monkeypatch: pytest.MonkeyPatch
):
    board = SoftBoard()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_: 0)
        with pytest.raises(JournalError):
            bench.enrol(board, file, journal)
    assert board.record is None and kinds(journal) == []
    bench.enrol(board, file, journal)


# --- the link


@pytest.fixture
def fake(tmp_path: Path):
    """A link whose mpremote is a Python program."""

    def make(program: str, **options: float) -> Link:
        path = tmp_path / "mpremote.py"
        path.write_text("import sys, os, time\n" + program)
        return Link("/dev/ttyX", [sys.executable, str(path)])

    return make


STATUS = cbor2.dumps({"eui": bytes(8), "model": "m", "ticket": None, "chain": False}, canonical=True)


def test_status_is_read_between_other_lines(fake):
    link = fake(f"print('boot'); print('sealband/1 ok {STATUS.hex()}'); print('rest')")
    assert link.status() == Status(bytes(8), "m", None, False)


def test_mpremote_is_given_arguments_and_never_a_shell(fake):
    link = fake("import json; sys.stderr.write(json.dumps(sys.argv[1:])); sys.exit(1)")
    with pytest.raises(LinkError) as failed:
        link.status()
    assert '"connect", "port:/dev/ttyX", "exec"' in str(failed.value)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("pass", "0 answers"),
        ("print('sealband/1 ok zz')", "something else"),
        ("print('sealband/1 ok 0')", "something else"),
        ("print('sealband/1 ok abc')", "something else"),
        ("print('sealband/1 ok ' + '00' * 5000)", "something else"),
        ("print('sealband/1 maybe 00')", "something else"),
        ("print('sealband/1 ok 00'); print('sealband/1 ok 00')", "2 answers"),
        ("print('sealband/1 ok 00')", "fields"),
        ("print('sealband/1 ok ff')", "not CBOR"),
        ("print('x' * 100_000)", "more than"),
        ("os.write(1, bytes(range(256)) * 4)", "0 answers"),
        ("sys.exit(1)", "mpremote failed"),
        ("print('ImportError: no module named x', file=sys.stderr); sys.exit(1)", "no Sealband"),
        ("print('Traceback\\nValueError: x', file=sys.stderr); sys.exit(1)", "ValueError: x"),
        ("os.kill(os.getpid(), 9)", "mpremote failed"),
    ],
)
def test_board_that_answers_something_else_is_refused(fake, program: str, message: str):
    with pytest.raises(LinkError, match=message):
        fake(program).status()


def test_message_of_a_board_cannot_move_the_cursor(fake):
    with pytest.raises(BoardRefused) as refused:
        fake(r"print('sealband/1 refused random \x1b[2J\x07bad')").status()
    assert refused.value.code == "random"
    assert str(refused.value).isprintable() and "bad" in str(refused.value)


def test_board_that_never_answers_is_given_up_and_nothing_stays_behind(fake, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr("provisioning.station.link.STATUS_TIMEOUT_S", 0.5)
    pid = tmp_path / "pid"
    program = f"""
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(pid)!r}, "w").write(str(child.pid))
time.sleep(60)
"""
    begun = time.monotonic()
    with pytest.raises(LinkError, match="did not answer"):
        fake(program).status()
    assert time.monotonic() - begun < 10
    for _ in range(100):
        try:
            state = Path(f"/proc/{int(pid.read_text())}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return  # killed; whoever adopted it has not looked yet
        time.sleep(0.05)
    raise AssertionError("a child of mpremote was left running")


@pytest.mark.parametrize("port", ["", "-h", "--help", "a\nb"])
def test_port_that_is_an_option_is_refused(port: str):
    with pytest.raises(LinkError, match="not a serial port"):
        Link(port)


def test_port_that_does_not_exist_is_a_clear_error():
    with pytest.raises(LinkError, match="mpremote failed"):
        Link("/dev/no-such-port").status()


status_values = st.none() | st.booleans() | st.integers() | st.binary(max_size=10) | st.text(max_size=40)


@given(st.dictionaries(st.sampled_from(["eui", "model", "ticket", "chain", "more"]), status_values) | status_values)
def test_status_of_any_other_form_is_refused(value: object):
    try:
        status = Status.from_bytes(cbor2.dumps(value))
    except LinkError:
        return
    assert len(status.eui) == 8 and (status.ticket is None or len(status.ticket) == 8)


@given(st.binary(max_size=80))
def test_status_of_any_bytes_is_refused(data: bytes):
    with pytest.raises(LinkError):
        Status.from_bytes(data)


# --- the real mpremote


@needs_raw_repl
def test_plain_micropython_is_enrolled_through_the_real_mpremote(
    registry: TemporaryRegistry, file: TicketFile, journal
):
    folder = registry.folder
    with PlainBoard(folder, bytes.fromhex("70b3d5001234")) as board:
        assert Link(board.port, resume=True).status() == Status(bytes.fromhex("70b3d5fffe001234"), MODEL, None, False)
        done = bench.enrol(Link(board.port, resume=True), file, journal, restart=False)
        assert done.record.eui.hex() == "70b3d5fffe001234"
        board.boot()
        again = bench.enrol(Link(board.port, resume=True), file, journal, restart=False)
        assert again.repeated and again.record == done.record
        # asked directly, the board itself gives the very same bytes, and refuses another ticket
        data = Link(board.port, resume=True).enrol(Ticket(done.record.ticket_id, done.record.ticket_pub), bytes(16), 0)
        assert data.hex() == journal.entries[-1].body["record"]
        with pytest.raises(BoardRefused) as refused:
            Link(board.port, resume=True).enrol(file.tickets[2], bytes(16), 0)
        assert refused.value.code == "other_ticket"
    result = registry.take(journal.path)
    assert result.admitted == ["70b3d5fffe001234"] and result.refused == []


@needs_raw_repl
def test_command_line_from_registry_to_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("SEALBAND_MASTER_KEY", "SEALBAND_DATABASE", "SEALBAND_KEY_FILE", "SEALBAND_BATCH_KEY"):
        monkeypatch.delenv(name, raising=False)

    def sealband(*words: str, status: int = 0) -> object:
        assert run([*words, "--json"]) == status
        printed = capsys.readouterr()
        return json.loads(printed.err if status else printed.out)

    assert "no registry" in sealband("registry", "devices", status=1)["error"]
    made = sealband("registry", "init")
    assert made["new"] and sorted(made["created"]) == ["sealband-batches.pem", "sealband.key"]
    for name in ("sealband.key", "sealband-batches.pem", "sealband.db"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    assert not sealband("registry", "init")["new"]
    assert "no operator" in sealband("registry", "devices", status=1)["error"]
    at_registry = ("sealband.db", tmp_path / "sealband.key", tmp_path)
    audit_session = log_in_at(*at_registry, "audit")
    monkeypatch.setenv("SEALBAND_SESSION", str(log_in_at(*at_registry, "factory")))
    batch = sealband("registry", "issue", "--model", MODEL, "--count", "2", "--out", "tickets.json")
    assert "exists already" in str(
        sealband("registry", "issue", "--model", MODEL, "--count", "2", "--out", "tickets.json", status=1)
    )
    station = ("--tickets", "tickets.json", "--journal", "journal", "--registry-key", made["batch_key"])
    with PlainBoard(tmp_path, bytes.fromhex("70b3d5005678")) as board:
        done = sealband("station", "enrol", *station, "--port", board.port, "--no-restart")
    assert done["eui"] == "70b3d5fffe005678" and done["tickets_left"] == 1
    assert sealband("station", "check", *station)["enrolled"] == 1
    assert sealband("registry", "import", "journal")["admitted"] == ["70b3d5fffe005678"]
    again = sealband("registry", "import", "journal")
    assert again == {"admitted": [], "repeated": 1, "refused": [], "torn": 0, "certified": 0, "proven": 0}
    assert [row["eui"] for row in sealband("registry", "devices")] == ["70b3d5fffe005678"]
    assert sealband("registry", "revoke-batch", batch["batch"])["revoked"] == 1
    with monkeypatch.context() as auditing:
        auditing.setenv("SEALBAND_SESSION", str(audit_session))
        events = [row["event"] for row in sealband("audit", "show")]
        assert sealband("audit", "verify")["events"] == len(events) + 1
    assert [event for event in events if event not in ("operator_action", "session_created")] == [
        "registry_created",
        "batch_issued",
        "device_enrolled",
        "journal_imported",
        "batch_revoked",
    ]
    (tmp_path / "sealband.key").chmod(0o644)
    assert "others can read" in sealband("registry", "import", "journal", status=1)["error"]


def test_the_station_needs_no_django(tmp_path: Path):
    program = "import sys, provisioning.station.bench, host_tools.cli.station; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
