"""The real mpremote drives the virtual board through its pty, as it drives a chip through a UART."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from tests.support.boards import has_raw_repl, scripted

pytestmark = pytest.mark.skipif(not has_raw_repl(), reason="this MicroPython has no raw REPL on unix (before 1.27)")
MPREMOTE = str(Path(sys.executable).with_name("mpremote"))
BUSY = "import time\nprint('busy')\nwhile True: time.sleep(1)"


class Mpremote:
    """`mpremote connect PORT …`."""

    def __init__(self, port: str) -> None:
        self.port = port

    def __call__(self, *arguments: str, timeout_s: float = 30.0) -> str:
        done = self.attempt(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout.replace("\r\n", "\n")

    def attempt(self, *arguments: str, timeout_s: float = 30.0) -> "subprocess.CompletedProcess[str]":
        command = [MPREMOTE, "connect", self.port, *arguments]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[VirtualBoard]:
    """A board whose main.py runs."""
    with scripted(tmp_path / "board", BUSY) as board:
        board.wait_for("busy")
        yield board


@pytest.fixture
def mpremote(busy: VirtualBoard) -> Mpremote:
    return Mpremote(busy.port)


def test_exec_again_and_again_while_main_runs(busy: VirtualBoard, mpremote: Mpremote) -> None:
    for number in range(5):
        assert mpremote("resume", "exec", f"print({number} * 111)") == f"{number * 111}\n"
    busy.reset()
    for number in range(3):
        # main.py runs again each time that mpremote comes
        mark = busy.line_count
        busy.reset()
        busy.wait_for("busy", after=mark)
        assert mpremote("resume", "exec", f"print({number} * 111)") == f"{number * 111}\n"


def test_exec_without_resume_is_a_soft_reset_that_skips_main(busy: VirtualBoard, mpremote: Mpremote) -> None:
    mark = busy.line_count
    assert mpremote("exec", "import machine; print(machine.reset_cause())") == "5\n"
    assert mpremote("eval", "6*7") == "42\n"
    assert not any(line == "busy" for line in list(busy.log)[mark:])


def test_state_is_kept_between_two_connections(mpremote: Mpremote) -> None:
    mpremote("resume", "exec", "kept = 12345")
    assert mpremote("resume", "exec", "print(kept)") == "12345\n"


def test_exception_on_the_board_is_mpremote_s_failure(mpremote: Mpremote) -> None:
    done = mpremote.attempt("resume", "exec", "1/0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout + done.stderr
    assert mpremote("resume", "exec", "print('on')") == "on\n"


def test_files_go_both_ways_unchanged(mpremote: Mpremote, tmp_path: Path) -> None:
    source = tmp_path / "data.bin"
    source.write_bytes(random.Random(3).randbytes(20_000) + bytes(range(256)) * 4)
    mpremote("resume", "fs", "cp", str(source), ":data.bin")
    mpremote("resume", "fs", "mkdir", ":folder")
    listed = mpremote("resume", "fs", "ls")
    assert "21024 data.bin" in listed
    assert "folder/" in listed
    mpremote("resume", "fs", "cp", ":data.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()


def test_file_that_mpremote_wrote_outlives_a_power_cut(busy: VirtualBoard, mpremote: Mpremote, tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("kept\n")
    mpremote("resume", "fs", "cp", str(tmp_path / "f.txt"), ":f.txt")
    busy.power_cut()
    busy.power_on()
    assert mpremote("resume", "fs", "cat", ":f.txt") == "kept\n"


def test_script_with_much_output_arrives_whole(mpremote: Mpremote, tmp_path: Path) -> None:
    script = tmp_path / "much.py"
    script.write_text("for i in range(4000): print(i, '0123456789' * 5)\n")
    expected = "".join(f"{i} {'0123456789' * 5}\n" for i in range(4000))
    assert mpremote("resume", "run", str(script)) == expected


def test_long_script_arrives_whole(mpremote: Mpremote, tmp_path: Path) -> None:
    script = tmp_path / "long.py"
    script.write_text("total = 0\n" + "".join(f"total += {i}  # {'x' * 60}\n" for i in range(300)) + "print(total)\n")
    assert mpremote("resume", "run", str(script)) == f"{sum(range(300))}\n"


@pytest.mark.parametrize(
    "code", ["while True: pass", "import time\nwhile True: time.sleep(1)", "while True: print('.' * 200)"]
)
def test_code_left_running_by_a_killed_mpremote_is_interrupted(mpremote: Mpremote, code: str) -> None:
    running = subprocess.Popen(
        [MPREMOTE, "connect", mpremote.port, "resume", "exec", code],
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    time.sleep(0.5)
    running.kill()
    running.wait()
    assert mpremote("resume", "exec", "print('free')") == "free\n"


def test_board_that_runs_in_a_slot_takes_files_and_code(tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    (slot / "slots" / "a").mkdir(parents=True)
    (slot / "slots" / "a" / "main.py").write_text("import os\n" + BUSY.replace("'busy'", "'busy', os.getcwd()"))
    (tmp_path / "f.txt").write_text("kept\n")
    board = scripted(tmp_path / "board", "print('root')", boot="import os\nos.chdir('/slots/a')")
    board.install(slot)
    with board:
        board.wait_for("busy /slots/a")
        mpremote = Mpremote(board.port)
        assert mpremote("resume", "exec", "import os; print(os.getcwd())") == "/slots/a\n"
        mpremote("resume", "fs", "cp", str(tmp_path / "f.txt"), ":/f.txt")
        assert mpremote("resume", "fs", "cat", ":/f.txt") == "kept\n"
        assert "main.py" in mpremote("resume", "fs", "ls", ":/slots/a")
        assert "f.txt" in mpremote("resume", "fs", "ls", ":/")
        # without resume: a soft reset, boot.py, no main.py
        assert mpremote("exec", "import os, sys; print(os.getcwd(), 'main' in sys.modules)") == "/slots/a False\n"
        mark = board.line_count
        board.type("\x04")
        board.wait_for("busy /slots/a", after=mark)
        assert not any(line == "root" for line in board.log)


def test_reset_by_mpremote_is_one_on_the_board(busy: VirtualBoard, mpremote: Mpremote) -> None:
    starts, mark = busy.starts, busy.line_count
    mpremote("resume", "reset")
    busy.wait_for("busy", after=mark)
    assert busy.starts == starts + 1
    assert mpremote("resume", "exec", "import machine; print(machine.reset_cause())") == "2\n"


def test_clock_is_set_by_mpremote(busy: VirtualBoard, mpremote: Mpremote) -> None:
    mpremote("resume", "rtc", "--set")
    assert mpremote("resume", "exec", "import time; print(time.gmtime()[0])") == f"{time.localtime().tm_year}\n"


def test_sleeping_board_does_not_answer_and_wakes(tmp_path: Path) -> None:
    script = "import machine, time\nprint('awake', machine.reset_cause())\nif machine.reset_cause() == 1:"
    script += "\n    machine.deepsleep(120000)\n"
    with scripted(tmp_path / "board", script, clock=SimClock.start(60)) as board:
        board.wait_for("awake 1")
        while board.state != "asleep":
            time.sleep(0.01)
        with pytest.raises(subprocess.TimeoutExpired):
            Mpremote(board.port).attempt("resume", "exec", "print(1)", timeout_s=1.0)
        board.wait_for("awake 4")
        assert Mpremote(board.port)("resume", "exec", "print('up')") == "up\n"


def test_two_boards_are_driven_at_the_same_time(tmp_path: Path) -> None:
    with (
        scripted(tmp_path / "one", BUSY, mac=bytes(5) + b"\1") as one,
        scripted(tmp_path / "two", BUSY, mac=bytes(5) + b"\2") as two,
    ):
        code = "import machine, time\nfor i in range(20): time.sleep_ms(10)\nprint(machine.unique_id()[5])"
        running = [
            subprocess.Popen(
                [MPREMOTE, "connect", board.port, "resume", "exec", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
            )
            for board in (one, two)
        ]
        assert [process.communicate(timeout=30)[0].strip() for process in running] == ["1", "2"]


def test_port_through_a_link_works_too(busy: VirtualBoard, tmp_path: Path) -> None:
    link = tmp_path / "port"
    os.symlink(busy.port, link)
    assert Mpremote(str(link))("resume", "exec", "print('linked')") == "linked\n"


def test_command_line_runs_a_board_until_interrupted(tmp_path: Path) -> None:
    sealband = str(Path(sys.executable).with_name("sealband"))
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "main.py").write_text("import app, board\nprint('app', app.VALUE, board.NAME)\n")
    (tmp_path / "device" / "app.py").write_text("VALUE = 17\n")
    link = tmp_path / "port"
    command = [sealband, "sim", "board", str(tmp_path / "band"), "--install", str(tmp_path / "device")]
    process = subprocess.Popen(
        [*command, "--link", str(link)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "app 17 VIRTUAL\n"
        mpremote = Mpremote(str(link))
        assert mpremote("resume", "exec", "import machine; print(machine.I2C(0).scan())") == "[72, 87, 106, 118]\n"
        process.send_signal(2)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    assert not link.is_symlink()


def test_command_line_puts_a_tree_into_the_flash_and_switches_wifi(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "main.py").write_text("""
import network, time
wlan = network.WLAN()
wlan.active(True)
wlan.connect("home", "key")
for wanted in (True, False):
    while wlan.isconnected() != wanted:
        time.sleep_ms(50)
    print("connected", wanted)
""")
    sealband = str(Path(sys.executable).with_name("sealband"))
    command = [sealband, "sim", "board", str(tmp_path / "band"), "--tree", str(tmp_path / "tree"), "--speed", "10"]
    process = subprocess.Popen(
        [*command, "--wifi", "home", "key", "--control"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "connected True\n"
        process.stdin.write("wifi-down\n")
        process.stdin.flush()
        assert process.stdout.readline() == "connected False\n"
        _, errors = process.communicate("stop\n", timeout=10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
