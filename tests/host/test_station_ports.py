"""Ports of a station: never one of several by itself; and what a serial port says, read from a pty line by line."""

import csv
import io
import os
import pty
import re
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import cbor2
import pytest

from host_tools.cli import run
from provisioning import service_tokens, signers
from provisioning.station import journal as kinds
from provisioning.station import report, unlock
from provisioning.station.journal import Journal
from provisioning.station.link import LinkError
from provisioning.station.ports import Port, PortsUnclear, Watch, choose
from provisioning.station.unlock import State, UnlockRefused
from sealwire import service as wire

PORTS = [
    Port("/dev/ttyUSB0", "CP2104 USB to UART", "0211", "10c4:ea60"),
    Port("/dev/ttyUSB1", "USB Single Serial", "5435", "1a86:55d4"),
]
EUI = bytes.fromhex("70b3d5fffe001234")


def test_one_board_is_taken_and_of_several_none_by_itself():
    assert choose([], listed=lambda: PORTS[:1]) == ["/dev/ttyUSB0"]
    with pytest.raises(PortsUnclear, match=r"2 ports.*ttyUSB0.*ttyUSB1"):
        choose([], listed=lambda: PORTS)
    assert choose([], every=True, listed=lambda: PORTS) == ["/dev/ttyUSB0", "/dev/ttyUSB1"]
    assert choose(["/dev/ttyACM9"], listed=lambda: PORTS) == ["/dev/ttyACM9"]
    with pytest.raises(PortsUnclear, match="no board"):
        choose([], listed=list)


@pytest.mark.parametrize(("pattern", "path"), [("10c4:ea60", 0), ("5435", 1), ("single serial", 1), ("ttyUSB0", 0)])
def test_filter_finds_by_path_numbers_and_description(pattern: str, path: int):
    assert choose([], pattern, listed=lambda: PORTS) == [PORTS[path].path]


def test_filter_that_is_no_pattern_and_a_port_named_twice_are_refused(tmp_path: Path):
    with pytest.raises(PortsUnclear, match="regular expression"):
        choose([], "(", listed=lambda: PORTS)
    (tmp_path / "a").touch()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(PortsUnclear, match="the same"):
        choose([str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(PortsUnclear, match="no port"):
        choose(["--help"])


def test_board_that_is_exchanged_between_two_looks_is_seen(tmp_path: Path):
    port = tmp_path / "port"
    (tmp_path / "one").touch()
    (tmp_path / "two").touch()
    port.symlink_to(tmp_path / "one")
    watch = Watch(str(port))
    assert watch.wait_for_board(lambda: False) and watch.present()
    port.unlink()
    assert not watch.present()
    port.symlink_to(tmp_path / "two")
    assert not watch.present()
    assert watch.wait_for_board(lambda: False) and watch.present()


class Pty:
    """A board's port, and a thread that plays the board."""

    def __init__(self, play: Callable[[bytes, Callable[[str], None]], None]) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._play = play
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        os.write(self._master, text.encode())

    def _run(self) -> None:
        data = b""
        while True:
            try:
                data += os.read(self._master, 4096)
            except OSError:
                return
            *lines, data = data.split(b"\n")
            for line in lines:
                self._play(line.strip(), self.say)

    def close(self) -> None:
        os.close(self._slave)
        self._thread.join(5)
        os.close(self._master)


@pytest.fixture
def closed_board(tmp_path: Path) -> Iterator[tuple[Pty, signers.Signer]]:
    """A board that judges tokens by the host's own check, which has tests against the device's."""
    key = signers.create_file_key(tmp_path / "service.pem")
    row = [wire.CHALLENGE_LABEL, EUI, bytes(range(16)), "virtual-wearable", 7]
    challenge = cbor2.dumps(row, canonical=True)
    asked = 0

    def play(line: bytes, say: Callable[[str], None]) -> None:
        nonlocal asked
        if line == wire.UNLOCK.encode():
            asked += 1
            if asked == 2:  # it looks once a second, so the first is lost
                say(f"\x1b[2Jnoise\r\n{wire.CHALLENGE}{challenge.hex()}\r\n")
        elif line.startswith(wire.TOKEN.encode()):
            try:
                token = bytes.fromhex(line[len(wire.TOKEN) :].decode())
                service_tokens.check(token, service_tokens.parse_challenge(challenge), key.public_key, 100)
                say(f"{wire.UNLOCKED}\r\n")
            except service_tokens.ServiceTokenError as error:
                say(f"{wire.REFUSED}{error.reason} the token does not unlock this board\r\n")

    port = Pty(play)
    yield port, key
    port.close()


def test_closed_board_opens_for_its_key_s_token(closed_board: tuple[Pty, signers.Signer]):
    port, key = closed_board
    seen = []
    opened = unlock.unlock(
        port.port, lambda challenge, text: service_tokens.make(challenge, key, 200, "ada"), on_challenge=seen.append
    )
    assert opened.eui == EUI and seen == [opened]


@pytest.mark.parametrize(
    ("said", "eui"),
    [
        (f"sealband: running as {EUI.hex()}\r\n{wire.REFUSED}no_key no key unlocks this board", EUI),
        (f"{wire.REFUSED}busy an update is on trial\r\nsealband: running as {EUI.hex()}", EUI),
        (f"sealband: running as {EUI.hex()}", b""),
        (f"{wire.REFUSED}no_key no key unlocks this board", b""),
    ],
)
def test_closed_board_that_gives_no_challenge_is_not_taken_for_a_silent_one(
    monkeypatch: pytest.MonkeyPatch, said: str, eui: bytes
):
    monkeypatch.setattr(unlock, "LOOK_CLOSED_S", 4.0)
    port = Pty(lambda line, say: say(said + "\r\n") if line == wire.UNLOCK.encode() else None)
    seen = unlock.look(port.port, 4.0)
    port.close()
    assert (seen.state, seen.closed_eui) == (State.CLOSED, eui)


def test_challenge_of_another_board_that_is_passed_on_gets_no_token(
    closed_board: tuple[Pty, signers.Signer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["station", "unlock", "--port", closed_board[0].port, "--key", f"file:{tmp_path / 'service.pem'}", "--eui"]
    assert run([*words, "70b3d5fffe999999"]) == 1
    assert f"asks for {EUI.hex()}" in capsys.readouterr().err


@pytest.mark.parametrize("why", ["signature", "expired", "malformed"])
def test_token_that_is_refused_is_said_with_the_board_s_reason(
    closed_board: tuple[Pty, signers.Signer], tmp_path: Path, why: str
):
    port, key = closed_board
    other = signers.create_file_key(tmp_path / "other.pem")
    makers = {
        "signature": lambda challenge, text: service_tokens.make(challenge, other, 200, "eve"),
        "expired": lambda challenge, text: service_tokens.make(challenge, key, 99, "ada"),
        "malformed": lambda challenge, text: b"\xff",
    }
    with pytest.raises(UnlockRefused) as refused:
        unlock.unlock(port.port, makers[why])
    assert refused.value.code == why


def test_board_that_gives_no_challenge_is_given_up():
    port = Pty(lambda line, say: say("something\x07 else\r\n"))
    with pytest.raises(LinkError, match="no challenge"):
        unlock.unlock(port.port, lambda challenge, text: b"", limit_s=1.5)
    port.close()


def test_look_tells_a_prompt_from_silence_and_a_closed_board(closed_board: tuple[Pty, signers.Signer]):
    assert unlock.look(closed_board[0].port, 5.0).state is State.CLOSED
    silent = Pty(lambda line, say: None)
    assert unlock.look(silent.port, 1.2).state is State.SILENT
    silent.close()
    repl = Pty(lambda line, say: None)
    threading.Timer(0.3, repl.say, ["MicroPython\r\n>>> "]).start()
    assert unlock.look(repl.port, 3.0).state is State.REPL
    repl.close()


def test_port_that_a_killed_station_s_program_still_has_is_waited_for():
    port = Pty(lambda line, say: None)
    program = (
        f"import serial, time; s = serial.Serial({port.port!r}, exclusive=True); print(1, flush=True); time.sleep(1)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.read(1)
        with pytest.raises(LinkError, match="another program"):
            unlock.wait_until_free(port.port, lambda: True, limit_s=0.2)
        unlock.wait_until_free(port.port, lambda: True, limit_s=10)
    port.close()
    with pytest.raises(LinkError) as gone:
        unlock.wait_until_free("/dev/no-such-port", lambda: True)
    assert gone.value.gone


# --- the report


@pytest.fixture
def entries(tmp_path: Path):
    now = iter(range(1_000_000, 1_100_000, 10))
    with Journal.open(tmp_path / "journal", clock=lambda: next(now)) as journal:
        for number in range(3):
            eui, ticket = f"{number:016x}", f"{number + 9:016x}"
            journal.append(kinds.BEGUN, lane="1", port="<script>alert(1)</script>")
            journal.append(kinds.RESERVED, eui=eui, ticket=ticket, station_nonce="00" * 16)
            journal.append(kinds.ENROLLED, eui=eui, ticket=ticket, record="ab")
            if number < 2:
                journal.append(kinds.DONE, eui=eui, ticket=ticket, ms=str(1000 * (number + 1)))
        journal.append(kinds.FAILED, eui="", ticket="", step="<b>", reason='"><img src=x onerror=1>')
        journal.append(kinds.FAILED, eui=eui, ticket=ticket, step="flash", reason="bad_flash")
        return journal.entries


def test_report_counts_what_is_done_open_and_failed(entries):
    found = report.make(entries)
    assert (found.done, found.open, found.begun, len(found.boards)) == (2, 1, 3, 3)
    assert found.failures == {("<b>", '"><img src=x onerror=1>'): 1, ("flash", "bad_flash"): 1}
    assert (found.total.median_s, found.total.max_s) == (1.5, 2.0)
    assert found.steps["enrol"].median_s == 10 and found.steps["seal"].count == 0
    assert found.boards[2].state == "enrolled" and found.boards[2].failures == 1
    assert sum(count for _, count in found.per_hour) == 2
    assert found.as_dict()["failed"] == 2


def test_html_report_escapes_what_a_journal_holds_and_loads_nothing(entries):
    page = report.to_html(report.make(entries))
    assert "<img" not in page and "<b>" not in page and "&lt;b&gt;" in page
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?:", page.replace("src=x onerror", ""))
    chart = page[page.index("<svg") : page.index("</svg>") + 6]
    assert len(ElementTree.fromstring(chart).findall("rect")) == 1
    page.encode("utf-8")


def test_csv_report_has_a_line_for_each_board(entries):
    rows = list(csv.DictReader(io.StringIO(report.to_csv(report.make(entries)))))
    assert [row["state"] for row in rows] == ["done", "done", "enrolled"]
    assert rows[0]["eui"] == "0" * 16 and rows[1]["ms"] == "2000"


def test_the_whole_station_needs_no_django_and_no_registry():
    program = (
        "import sys, host_tools.cli.station, host_tools.cli.station_unlock, provisioning.station.run\n"
        "sys.exit(any(n == 'django' or n.startswith(('provisioning.registry', 'provisioning.operators')) "
        "for n in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
