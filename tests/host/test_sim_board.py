"""The virtual board: resets and what outlives them, clock, flash, NVS, buses, and that nothing of it stays behind."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools.sim.board import HEAP, BoardError, VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.interpreter import find_micropython
from host_tools.sim.parts import Fault, Nack, RegisterPart
from tests.support.boards import MAC, BoardMaker, interpreters, scripted
from tests.support.micropython import ROOT

# what every reset leaves, in one line
REPORT = """
import esp32, machine, time
rtc = machine.RTC()
nvs = esp32.NVS("t")
try:
    kept = nvs.get_i32("n")
except OSError:
    kept = None
memory, year = rtc.memory(), time.gmtime()[0]
print("cause", machine.reset_cause(), "memory", memory, "year", year, "nvs", kept, machine.wake_reason())
"""
SET_UP = """
if machine.reset_cause() == 1:
    rtc.datetime((2026, 5, 4, 0, 3, 2, 1, 0))
    rtc.memory(b"kept")
    nvs.set_i32("n", 7)
    nvs.commit()
    nvs.set_i32("n", 8)
    print("set", rtc.datetime()[:3])
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[BoardMaker]:
    made: list[VirtualBoard] = []

    def make(main: str = "", **settings: Any) -> VirtualBoard:
        made.append(scripted(tmp_path / f"b{len(made)}", main, **settings))
        return made[-1]

    yield make
    for board in made:
        board.stop()


class Echo:
    """A part that reads back what was written to it."""

    address = 0x10

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data = data or self.data

    def read(self, n: int) -> bytes:
        if self.data == b"\xff":
            raise Nack("asked to")
        return (self.data * n)[:n]


# starting


def test_cold_start_runs_boot_then_main_within_a_second(make: BoardMaker) -> None:
    board = make("print('main', boot_said)", boot="boot_said = 'yes'\nprint('boot')")
    begun = time.monotonic()
    with board:
        board.wait_for("main yes")
        assert time.monotonic() - begun < 1.0
        lines = list(board.log)
    assert lines.index("boot") < lines.index("main yes")


def test_main_is_skipped_when_boot_raises(make: BoardMaker) -> None:
    with make("print('main ran')", boot="1/0") as board:
        board.wait_for("ZeroDivisionError")
        board.type("print(6*7)\r")
        board.wait_for("42")
        assert not any("main ran" in line for line in board.log)


SLOT_BOOT = """
import os, sys
os.chdir("/slots/a")
sys.path[:] = ["/slots/a", "/slots/a/lib", ".frozen", "/lib"]
"""


def in_slots(board: VirtualBoard, folder: Path, files: dict[str, str]) -> VirtualBoard:
    """Add files to a board's flash."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    board.install(folder)
    return board


def test_main_is_the_one_in_the_folder_that_boot_changes_to(make: BoardMaker, tmp_path: Path) -> None:
    # pyexec_file_if_exists("main.py") in ports/esp32/main.c: a name, looked up in the current folder
    files = {
        "slots/a/main.py": "import os, part, sys\nprint('slot a', os.getcwd(), part.NAME, sys.path)",
        "slots/a/lib/part.py": "NAME = 'of the slot'",
        "lib/part.py": "NAME = 'of the root'",
    }
    board = in_slots(make("print('root')", boot=SLOT_BOOT), tmp_path / "more", files)
    with board:
        for _ in range(2):
            mark = board.line_count
            board.wait_for("slot a /slots/a of the slot ['/slots/a', '/slots/a/lib', '.frozen', '/lib']", after=0)
            board.reset()
            board.wait_for("slot a", after=mark)
        assert not any(line == "root" for line in board.log)


def test_folder_without_a_main_runs_none(make: BoardMaker, tmp_path: Path) -> None:
    boot = "import os\nos.chdir('/empty')\nprint('boot')"
    with in_slots(make("print('root')", boot=boot), tmp_path / "more", {"empty/other.py": ""}) as board:
        board.wait_for("boot")
        board.type("import os; print('in', os.getcwd())\r")
        board.wait_for("in /empty")
        assert not any(line == "root" for line in board.log)


def test_soft_reset_begins_in_the_root_with_a_fresh_path(make: BoardMaker) -> None:
    boot = "import os, sys\nprint('at', os.getcwd(), sys.path)"
    script = "import os, sys\nos.mkdir('/x') if 'x' not in os.listdir('/') else None\nos.chdir('/x')\nsys.path.clear()"
    with make(script, boot=boot) as board:
        fresh = "at / ['', '.frozen', '/lib']"
        board.wait_for(fresh)
        mark = board.line_count
        board.type("\x04")
        board.wait_for("soft reboot", after=mark)
        assert board.wait_for("at ", after=mark) == fresh


def test_cold_start_knows_nothing_but_its_identity(make: BoardMaker) -> None:
    script = "import machine, time; print(machine.unique_id().hex(), machine.reset_cause(), time.gmtime()[:3])"
    with make(script) as board:
        board.wait_for(f"{MAC.hex()} 1 (2000, 1, 1)")


def test_only_the_flash_can_be_reached(make: BoardMaker) -> None:
    script = """
import os, sys
print(os.listdir("/"), sys.path)
for path in ("/etc/passwd", "/proc/self/environ", "../etc/passwd"):
    try:
        open(path)
        print("REACHED", path)
    except OSError as error:
        print("refused", error.errno)
print("done")
"""
    with make(script, boot="") as board:
        board.wait_for("['boot.py', 'main.py'] ['', '.frozen', '/lib']")
        board.wait_for("done")
        assert sum(line.startswith("refused") for line in board.log) == 3
        assert not any("REACHED" in line for line in board.log)


# resets


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("machine.reset()", "cause 2 memory b'kept' year 2026 nvs 7 0"),
        ("machine.WDT(timeout=1000)\n    while True: pass", "cause 3 memory b'kept' year 2026 nvs 7 0"),
        ("machine.deepsleep(1000)", "cause 4 memory b'kept' year 2026 nvs 7 4"),
        ("machine.soft_reset()", "cause 5 memory b'kept' year 2026 nvs 7 0"),
        ("raise SystemExit", "cause 5 memory b'kept' year 2026 nvs 7 0"),
    ],
    ids=["reset", "watchdog", "deepsleep", "soft_reset", "exit"],
)
def test_reset_keeps_what_the_chip_keeps(make: BoardMaker, action: str, expected: str) -> None:
    with make(f"{REPORT}{SET_UP}    {action}\n", clock=SimClock.start(20)) as board:
        board.wait_for("set (2026, 5, 4)")
        board.wait_for(expected)


def test_power_cut_keeps_flash_and_committed_nvs_only(make: BoardMaker) -> None:
    with make(REPORT + SET_UP) as board:
        board.wait_for("set (2026, 5, 4)")
        board.power_cut()
        assert board.state == "off"
        mark = board.line_count
        board.power_on()
        assert board.wait_for("cause", after=mark) == "cause 1 memory b'' year 2000 nvs 7 0"


def test_power_cut_stops_code_that_cannot_be_interrupted(make: BoardMaker, tmp_path: Path) -> None:
    script = """
print("deaf")
while True:
    try:
        while True: pass
    except KeyboardInterrupt:
        pass
"""
    with make(script) as board:
        board.wait_for("deaf")
        board.type("\x03")
        board.power_cut()
        assert interpreters(tmp_path) == []


def test_deep_sleep_lasts_virtual_time_and_starts_over(make: BoardMaker) -> None:
    script = """
import machine, time
print("awake", machine.reset_cause(), time.ticks_ms() < 20000, time.time())
machine.deepsleep(60000)
"""
    with make(script, clock=SimClock.start(60)) as board:
        first = int(board.wait_for("awake 1 True").split()[-1])
        begun = time.monotonic()
        assert board.state in ("running", "asleep")
        second = int(board.wait_for("awake 4 True").split()[-1])
        assert 0.9 < time.monotonic() - begun < 3.0
        assert 60 <= second - first < 180


def test_pin_ends_deep_sleep(make: BoardMaker) -> None:
    script = """
import esp32, machine
print("awake", machine.reset_cause(), machine.wake_reason())
if machine.reset_cause() == machine.PWRON_RESET:
    esp32.wake_on_ext0(machine.Pin(4), 1)
    machine.deepsleep()
"""
    with make(script) as board:
        board.wait_for("awake 1 0")
        while board.state != "asleep":
            time.sleep(0.01)
        board.set_pin(5, 1)
        time.sleep(0.1)
        assert board.state == "asleep"
        board.set_pin(4, 1)
        board.wait_for("awake 4 2")


WAKE = """
import esp32, machine, time
print("awake", machine.reset_cause(), machine.wake_reason(), time.time())
if machine.reset_cause() == machine.PWRON_RESET:
    %s
    machine.deepsleep(%d)
"""


@pytest.mark.parametrize(
    ("armed", "reason"),
    [
        ("esp32.wake_on_ext0(machine.Pin(36), 0)", 2),
        ("esp32.wake_on_ext1((machine.Pin(36),), esp32.WAKEUP_ALL_LOW)", 3),
        ("esp32.wake_on_ext1((machine.Pin(34), machine.Pin(39)), esp32.WAKEUP_ANY_HIGH)", 3),
        # both at once; the timer is there beside them
        ("esp32.wake_on_ext1((machine.Pin(33),), 1); esp32.wake_on_ext0(machine.Pin(36), 0)", 2),
    ],
)
def test_what_drives_a_pin_wakes_a_sleeping_board_at_its_moment_also_in_fast_motion(
    make: BoardMaker, armed: str, reason: int
) -> None:
    clock = SimClock.start(200)
    pressed = clock.now() + 400
    inputs = {36: lambda at: int(not pressed <= at < pressed + 5), 39: lambda at: int(pressed <= at < pressed + 5)}
    with make(WAKE % (armed, 3_600_000), clock=clock, inputs=inputs) as board:
        first = int(board.wait_for("awake 1 0").split()[-1])
        began = clock.now()
        second = int(board.wait_for(f"awake 4 {reason}").split()[-1])
    # the start of the interpreter takes real time: 0.1 s are 20 here
    assert pressed - began - 200 < second - first < pressed - began + 200


@pytest.mark.parametrize(
    ("chip", "armed", "low", "reason"),
    [
        # ESP-IDF, "Sleep Modes": with level 0 the ESP32 wakes when all are low, the ESP32-S3 when any is
        ("esp32", "esp32.wake_on_ext1((machine.Pin(4), machine.Pin(2)), 0)", (4,), 4),
        ("esp32", "esp32.wake_on_ext1((machine.Pin(4), machine.Pin(2)), 0)", (4, 2), 3),
        ("esp32s3", "esp32.wake_on_ext1((machine.Pin(4), machine.Pin(2)), 0)", (4,), 3),
        # a second call takes the first one's place, and None or nothing takes it back
        ("esp32", "esp32.wake_on_ext0(machine.Pin(4), 0); esp32.wake_on_ext0(machine.Pin(2), 0)", (4,), 4),
        ("esp32", "esp32.wake_on_ext0(machine.Pin(4), 0); esp32.wake_on_ext0(None)", (4,), 4),
        ("esp32", "esp32.wake_on_ext1((machine.Pin(4),), 0); esp32.wake_on_ext1((), 0)", (4,), 4),
    ],
)
def test_pins_wake_as_the_chip_has_it(
    make: BoardMaker, chip: str, armed: str, low: tuple[int, ...], reason: int
) -> None:
    clock = SimClock.start(100)
    when = clock.now() + 60
    inputs = {pin: (lambda at, falls=pin in low: int(not (falls and at >= when))) for pin in (2, 4)}
    with make(WAKE % (armed, 120_000), clock=clock, inputs=inputs, chip=chip) as board:
        board.wait_for(f"awake 4 {reason}", timeout_s=15)


def test_a_pin_that_is_no_rtc_pin_wakes_nothing_and_is_refused(make: BoardMaker) -> None:
    script = """
import esp32, machine
inner, other = machine.Pin(4), machine.Pin(18)
for wake in (lambda: esp32.wake_on_ext0(other, 1), lambda: esp32.wake_on_ext1((inner, other), 1)):
    try:
        wake()
    except ValueError as error:
        print("refused", error)
"""
    with make(script) as board:
        board.wait_for("refused invalid pin")
        board.wait_for("refused invalid pin", after=1)


def test_a_pin_that_is_at_its_level_already_ends_the_sleep_at_once(make: BoardMaker) -> None:
    armed = "esp32.wake_on_ext0(machine.Pin(36), 0)"
    with make(WAKE % (armed, 3_600_000), inputs={36: lambda at: 0}) as board:
        board.wait_for("awake 4 2", timeout_s=5)


def test_watchdog_that_is_fed_does_not_bite(make: BoardMaker) -> None:
    script = """
import machine, time
wdt = machine.WDT(timeout=2000)
for _ in range(30):
    time.sleep_ms(200)
    wdt.feed()
print("cause", machine.reset_cause())
"""
    with make(script, clock=SimClock.start(4)) as board:
        board.wait_for("cause 1")
        assert board.starts == 1


def test_control_d_is_a_soft_reset(make: BoardMaker) -> None:
    with make("import machine; print('cause', machine.reset_cause())") as board:
        board.wait_for("cause 1")
        board.type("\x04")
        board.wait_for("MPY: soft reboot")
        board.wait_for("cause 5")


def test_control_c_ends_main_and_gives_the_prompt(make: BoardMaker) -> None:
    with make("import time\nprint('busy')\nwhile True: time.sleep(1)") as board:
        board.wait_for("busy")
        board.type("\x03\x03\x03")
        board.wait_for("KeyboardInterrupt")
        board.type("print('prompt', 6*7)\r")
        board.wait_for("prompt 42")
        assert board.starts == 1


def test_many_control_c_at_any_time_never_lose_the_board(make: BoardMaker) -> None:
    source = random.Random(7)
    with make("print('up')\nfor i in range(300): print(i)") as board:
        board.wait_for("up")
        for _ in range(60):
            board.type(source.choice(["\x03", "\r\x03", "for i in range(9): print(i)\r\r", "\x03\x03"]))
            time.sleep(source.random() * 0.01)
        board.type("\x03")
        time.sleep(0.1)
        board.type("\rprint('alive', 6*7)\r")
        board.wait_for("alive 42")


def test_interpreter_that_dies_at_once_is_switched_off_and_said(make: BoardMaker, tmp_path: Path) -> None:
    false = tmp_path / "false"
    false.write_text("#!/bin/sh\necho no heap today\nexit 1\n")
    false.chmod(0o755)
    board = VirtualBoard(tmp_path / "dead", name="dead", mac=MAC, interpreter=str(false))
    with board:
        board.wait_for("keeps ending")
        assert any("no heap today" in line for line in board.log)
        while board.state != "off":
            time.sleep(0.01)


def test_missing_interpreter_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    board = VirtualBoard(tmp_path / "none", name="none", mac=MAC, interpreter="/nowhere/micropython")
    with pytest.raises(BoardError, match="/nowhere/micropython") as caught:
        board.start()
    assert caught.value.remedy
    assert board.state == "off"


# time


def test_time_runs_at_the_simulation_s_speed(make: BoardMaker) -> None:
    script = """
import time
begin, seconds = time.ticks_ms(), time.time()
time.sleep(6)
time.sleep_ms(3000)
time.sleep_us(1000000)
print("took", time.ticks_diff(time.ticks_ms(), begin), time.time() - seconds)
"""
    begun = time.monotonic()
    with make(script, clock=SimClock.start(20)) as board:
        _, ms, seconds = board.wait_for("took").split()
    assert time.monotonic() - begun < 5.0
    assert 10_000 <= int(ms) < 14_000
    assert 9 <= int(seconds) <= 14


def test_asyncio_sleeps_in_virtual_time(make: BoardMaker) -> None:
    script = """
import asyncio, time
async def main():
    begin = time.ticks_ms()
    await asyncio.sleep(10)
    print("slept", time.ticks_diff(time.ticks_ms(), begin))
asyncio.run(main())
"""
    with make(script, clock=SimClock.start(20)) as board:
        assert 10_000 <= int(board.wait_for("slept", 5.0).split()[1]) < 13_000


def test_ticks_wrap_at_30_bits_as_on_the_chip(make: BoardMaker) -> None:
    script = """
import time
print(time.ticks_add(0x3fffffff, 1), time.ticks_diff(5, 0x3ffffffb), time.ticks_diff(0x3ffffffb, 5))
print(time.gmtime(0)[:6], time.mktime((2025, 1, 1, 0, 0, 0, 0, 0)), len(time.localtime()))
"""
    with make(script) as board:
        board.wait_for("0 10 -10")
        # 25 years and 7 leap days after 2000-01-01
        board.wait_for(f"(2000, 1, 1, 0, 0, 0) {(25 * 365 + 7) * 86400} 8")


# flash and NVS


def test_files_outlive_a_power_cut(make: BoardMaker) -> None:
    script = """
import os
if "data" in os.listdir():
    print("read", open("data").read())
else:
    with open("data", "w") as file: file.write("still here")
    print("written")
"""
    with make(script) as board:
        board.wait_for("written")
        board.power_cut()
        board.power_on()
        board.wait_for("read still here")


def test_power_cut_at_any_flash_operation_leaves_old_or_new(make: BoardMaker) -> None:
    script = """
import os
try:
    print("state", open("data").read())
except OSError:
    print("state none")
with open("new", "w") as file: file.write("b" * 700)
os.rename("new", "data")
print("finished")
"""
    cut_at = 0
    with make(script) as board:
        board.wait_for("finished")
        while True:
            cut_at += 1
            board.power_cut()
            board.cut_power_after(flash_operations=cut_at)
            mark = board.line_count
            board.power_on()
            state = board.wait_for("state", after=mark)
            assert state == "state " + "b" * 700
            while board.state == "running" and not any("finished" in line for line in list(board.log)[mark:]):
                time.sleep(0.002)
            if board.state == "running":
                break
    assert cut_at > 5


def test_nvs_answers_as_esp_idf_does(make: BoardMaker) -> None:
    script = """
import esp32
nvs = esp32.NVS("test")
def code(function, *arguments):
    try:
        return function(*arguments)
    except OSError as error:
        return error.args
nvs.set_i32("int", -5)
nvs.set_blob("blob", bytearray(b"12345"))
buffer = bytearray(8)
print("read", nvs.get_i32("int"), nvs.get_blob("blob", buffer), buffer[:5])
print("missing", code(nvs.get_i32, "none"))
print("short", code(nvs.get_blob, "blob", bytearray(4)))
def sized(size):
    value = bytes(k & 0xFF for k in range(size))
    nvs.set_blob("sized", value)
    buffer = bytearray(1039)
    return nvs.get_blob("sized", buffer) == size and buffer[:size] == value
print("sized", *[sized(size) for size in (253, 254, 255, 1039)])
print("type", code(nvs.get_i32, "blob"))
print("long", code(nvs.set_i32, "a" * 16, 1))
print("big", code(nvs.set_blob, "x", bytes(5000)))
print("erase", code(nvs.erase_key, "none"))
print("space", [code(esp32.NVS("f").set_blob, "k%d" % i, bytes(3900)) for i in range(6)][-1])
print("name", code(esp32.NVS, "n" * 16))
"""
    with make(script) as board:
        board.wait_for("read -5 5 bytearray(b'12345')")
        board.wait_for("missing (-4354, 'ESP_ERR_NVS_NOT_FOUND')")
        board.wait_for("short (-4364, 'ESP_ERR_NVS_INVALID_LENGTH')")
        board.wait_for("sized True True True True")
        board.wait_for("type (-4355, 'ESP_ERR_NVS_TYPE_MISMATCH')")
        board.wait_for("long (-4361, 'ESP_ERR_NVS_KEY_TOO_LONG')")
        board.wait_for("big (-4366, 'ESP_ERR_NVS_VALUE_TOO_LONG')")
        board.wait_for("erase (-4354, 'ESP_ERR_NVS_NOT_FOUND')")
        board.wait_for("space (-4357, 'ESP_ERR_NVS_NOT_ENOUGH_SPACE')")
        board.wait_for("name (-4361, 'ESP_ERR_NVS_KEY_TOO_LONG')")
        assert board.nvs_file.exists() is False


def test_power_cut_at_any_nvs_operation_leaves_old_or_new(make: BoardMaker) -> None:
    # it writes when pin 4 goes high, so that nothing is written before the test is ready
    script = """
import esp32, machine, time
nvs = esp32.NVS("t")
buffer = bytearray(40)
try:
    print("state", bytes(buffer[:nvs.get_blob("a", buffer)]), nvs.get_i32("b"))
except OSError:
    print("state none")
while not machine.Pin(4).value():
    time.sleep_ms(2)
nvs.set_blob("a", b"new")
nvs.set_i32("b", 1)
nvs.commit()
print("finished")
"""
    for cut_at, survived in ((1, "state none"), (2, "state none"), (3, "state none"), (4, "state b'new' 1")):
        with make(script) as board:
            board.wait_for("state none")
            board.cut_power_after(nvs_operations=cut_at)
            mark = board.line_count
            board.set_pin(4, 1)
            if cut_at < 4:
                while board.state == "running":
                    time.sleep(0.002)
                assert not any("finished" in line for line in list(board.log)[mark:])
            else:
                board.wait_for("finished", after=mark)
                board.power_cut()
            mark = board.line_count
            board.power_on()
            assert board.wait_for("state", after=mark) == survived


def test_install_needs_the_board_off_and_room(make: BoardMaker, tmp_path: Path) -> None:
    board = make("")
    with board, pytest.raises(BoardError, match="is on"):
        board.install(tmp_path)
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "file").write_bytes(os.urandom(3 << 20))
    with pytest.raises(BoardError, match=r"ENOSPC|28"):
        board.install(tmp_path / "big")


def test_exchanged_files_are_run_and_the_time_goes_on_as_after_any_reset(make: BoardMaker, tmp_path: Path) -> None:
    with make("import machine\nmachine.RTC().memory(b'kept')\nprint('first')") as board:
        board.wait_for("first")
        tree = tmp_path / "exchanged"
        tree.mkdir()
        (tree / "main.py").write_text("import machine\nprint('second', machine.reset_cause(), machine.RTC().memory())")
        board.exchange(tree)
        assert board.wait_for("second") == "second 2 b'kept'"


def test_clean_install_leaves_nothing_of_what_was_there(make: BoardMaker, tmp_path: Path) -> None:
    board = make("import os\nprint('has', sorted(os.listdir('/')))", boot="")
    in_slots(board, tmp_path / "more", {"a/b/c.py": "", "d.py": ""})
    with board:
        board.wait_for("has ['a', 'boot.py', 'd.py', 'main.py']")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "main.py").write_text("import os\nprint('now', os.listdir('/'))")
    board.install(tmp_path / "new", clean=True)
    with board:
        board.wait_for("now ['main.py']")


def test_file_system_has_the_size_of_the_board_definition(make: BoardMaker) -> None:
    with make("import os\nstate = os.statvfs('/')\nprint('size', state[0] * state[2])") as board:
        board.wait_for(f"size {0xF0000}")


def test_damaged_file_system_is_not_formatted_over(make: BoardMaker) -> None:
    board = make("print('main')")
    image = bytearray(board.flash_file.read_bytes())
    image[0:64] = b"\xa5" * 64
    image[4096:4160] = b"\xa5" * 64
    board.flash_file.write_bytes(image)
    with board:
        board.wait_for("Error")
        assert not any(line == "main" for line in board.log)
    assert board.flash_file.read_bytes()[:64] == b"\xa5" * 64


# buses


def test_i2c_reaches_its_parts(make: BoardMaker) -> None:
    script = """
import machine
bus = machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21), freq=400000)
print("scan", bus.scan())
print("mem", bus.readfrom_mem(0x10, 0x42, 3))
buffer = bytearray(2)
bus.writeto_mem(0x10, 7, b"xy")
bus.readfrom_mem_into(0x10, 9, buffer)
print("into", buffer, bus.writeto(0x10, b"abc"), bus.readfrom(0x10, 4))
for address, data in ((0x10, 0xff), (0x11, 0)):
    try:
        bus.readfrom_mem(address, data, 1)
    except OSError as error:
        print("refused", error.errno)
print("after", bus.readfrom_mem(0x10, 0x42, 1))
"""
    with make(script, parts=[Echo()]) as board:
        board.wait_for("scan [16]")
        board.wait_for("mem b'BBB'")
        board.wait_for("into bytearray(b'\\t\\t') 3 b'abca'")
        board.wait_for("after b'B'")
        assert sum(line == "refused 19" for line in board.log) == 2


def test_part_that_is_absent_is_not_found(make: BoardMaker) -> None:
    part = RegisterPart(0x20)
    part.fault = Fault.ABSENT
    with make("import machine; print('scan', machine.I2C(0).scan())", parts=[part]) as board:
        board.wait_for("scan []")


def test_adc_reads_its_pin_up_to_full_scale(make: BoardMaker) -> None:
    script = """
import machine
adc = machine.ADC(machine.Pin(35), atten=machine.ADC.ATTN_11DB)
print("uv", adc.read_uv(), adc.read_u16(), machine.ADC(machine.Pin(35)).read_uv(), machine.ADC(34).read_uv())
"""
    with make(script, adc={35: lambda: 1_900_000}) as board:
        board.wait_for(f"uv 1900000 {1_900_000 * 65535 // 3_100_000} 950000 0")


def test_nonsense_on_the_line_to_the_chip_is_refused_and_the_board_lives(make: BoardMaker) -> None:
    script = """
import _link
refused = 0
for request in (b"?", b"i", b"G", b"S", b"T", b"L", b"t", b"w", b"d", b"v", b"q", b"y", b"n" + bytes(3000), b"o",
    b"N", b"N!", b"Nc", b"Nr", b"Ns", b"Z", b"Zl", b"Zf", b"Zr", b"Zw", b"Ze", b"Zs", b"Zn", b"Zrota_1\\0\\0\\0\\0\\0",
    b"Zwota_1\\0\\xff\\xff\\xff\\xff", b"Zeota_1\\0\\0\\0\\0\\1\\0\\0\\1\\0",
    b"U", b"Ui", b"Ur", b"Uz", b"K", b"Kc", b"Kt", b"Ku", b"Kq", b"Kh", b"Kz"):
    for body in (b"", b"\\0", b"\\xff" * 9):
        if request[:1] == b"y" and body or request in (b"v", b"q") and len(body) > 1:
            continue
        if request == b"d" and len(body) == 8:
            continue
        try:
            _link.call(request[:1], request[1:] + body)
        except (OSError, ValueError):
            refused += 1
print("refused", refused)
"""
    with make(script) as board:
        assert int(board.wait_for("refused").split()[1]) > 65
        board.type("print('alive', 6*7)\r")
        board.wait_for("alive 42")


# nothing stays behind


def test_stop_leaves_no_process_no_thread_and_no_descriptor(make: BoardMaker, tmp_path: Path) -> None:
    board = make("print('on')\nwhile True: pass")
    threads = set(threading.enumerate())
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        mark = board.line_count
        board.start()
        board.wait_for("on", after=mark)  # while it is being started, the kernel shows no environment
        assert len(interpreters(tmp_path)) == 1
        board.stop()
        board.stop()
        assert interpreters(tmp_path) == []
        assert set(threading.enumerate()) == threads
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_exception_leaves_no_process(make: BoardMaker, tmp_path: Path) -> None:
    def work() -> None:
        with make("while True: pass"):
            assert len(interpreters(tmp_path)) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert interpreters(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_end_of_the_parent_leaves_no_process(make: BoardMaker, tmp_path: Path, number: signal.Signals) -> None:
    make("print('spinning')\nwhile True: pass")  # fills the flash
    parent = """
import sys, time
from pathlib import Path
from host_tools.sim.board import VirtualBoard
board = VirtualBoard(Path(sys.argv[1]), name="b", mac=bytes(6))
board.start()
board.wait_for("spinning")
print("up", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", parent, str(tmp_path / "b0" / "board")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "up\n"
        assert len(interpreters(tmp_path)) == 1
        process.send_signal(number)
        process.wait(10)
    limit = time.monotonic() + 5.0
    while interpreters(tmp_path) and time.monotonic() < limit:
        time.sleep(0.01)
    assert interpreters(tmp_path) == []


def test_two_boards_run_side_by_side(make: BoardMaker) -> None:
    script = "import machine; print('I am', machine.unique_id().hex())"
    with make(script, mac=bytes(6)) as one, make(script, mac=b"\1" * 6) as other:
        one.wait_for("I am 000000000000")
        other.wait_for("I am 010101010101")
        assert one.port != other.port
        one.power_cut()
        other.type("print('still', 6*7)\r")
        other.wait_for("still 42")


def test_one_directory_is_one_board(make: BoardMaker, tmp_path: Path) -> None:
    with make("") as board:
        board.wait_for(">>>") if any(">>>" in line for line in board.log) else None
        with pytest.raises(BoardError, match="another board"):
            VirtualBoard(tmp_path / "b0" / "board", name="second", mac=MAC).start()
        assert board.state == "running"


def test_output_that_nobody_reads_does_not_stop_the_board(make: BoardMaker) -> None:
    script = "for i in range(3000): print('line', i, '.' * 100)\nprint('through')"
    with make(script) as board:
        board.wait_for("through", 30.0)


ASYNCIO = """
import asyncio, time
log = []
async def work(n, ms):
    try:
        await asyncio.sleep_ms(ms)
        log.append(n)
        return n
    except asyncio.CancelledError:
        log.append(-n)
        raise
async def fails():
    await asyncio.sleep_ms(1)
    raise ValueError("x")
async def waits(event):
    await event.wait()
    return "set"
async def caught(awaitable):
    try:
        return await awaitable
    except (ValueError, asyncio.CancelledError, asyncio.TimeoutError) as error:
        return type(error).__name__
async def main():
    tasks = [asyncio.create_task(work(n, ms)) for n, ms in ((1, 600), (2, 200), (3, 200), (4, 400))]
    await asyncio.sleep_ms(300)
    tasks[3].cancel()
    await tasks[0]
    print("order", log, all(task.done() for task in tasks))
    print("gather", await asyncio.gather(work(5, 50), work(6, 20)), await caught(asyncio.gather(work(7, 50), fails())))
    print("limit", await caught(asyncio.wait_for_ms(work(8, 5000), 100)), log[-1])
    print("within", await asyncio.wait_for(work(9, 100), 5))
    event = asyncio.Event()
    one, other = asyncio.create_task(waits(event)), asyncio.create_task(waits(event))
    await asyncio.sleep_ms(10)
    other.cancel()
    event.set()
    print("event", await one, await caught(other), other.cancel())
    outer = asyncio.create_task(asyncio.wait_for(work(10, 10000), 100))
    await asyncio.sleep_ms(10)
    outer.cancel()
    print("nested", await caught(outer), log[-1])
    begin = time.ticks_ms()
    await asyncio.sleep(2)
    print("slept", 2000 <= time.ticks_diff(time.ticks_ms(), begin) < 3000)
asyncio.run(main())
"""


def test_asyncio_s_tasks_are_cancelled_and_waited_for_in_virtual_time(make: BoardMaker) -> None:
    with make(ASYNCIO, clock=SimClock.start(5)) as board:
        board.wait_for("order [2, 3, -4, 1] True")
        board.wait_for("gather [5, 6] ValueError")
        board.wait_for("limit TimeoutError -8")
        board.wait_for("within 9")
        board.wait_for("event set CancelledError False")
        board.wait_for("nested CancelledError -10")
        board.wait_for("slept True")


LOAD = """
import gc, sys, time, machine
machine.Pin(1); machine.unique_id(); machine.RTC().memory(); machine.I2C; machine.ADC; machine.SPI; machine.WDT
time.sleep_ms(1)
def used():
    gc.collect()
    return gc.mem_alloc()
before = used()
print("share", before)
for name, attribute in (
    ("network", "STA_IF"), ("_wlan", "WLAN"), ("esp32", "NVS"), ("lora", "SX1262"), ("socket", "socket"),
    ("select", "poll"), ("_partition", "Partition"), ("_uart", "UART"), ("_ppp", "PPP"), ("esp", "flash_size"),
):
    begin, held = used(), len(sys.modules[name]._held)
    getattr(sys.modules[name], attribute)
    print("module", name, held, used() - begin + held)
print("all", used() - before)
"""


def test_heap_of_a_board_is_73_kib_and_the_share_of_the_simulated_modules_whatever_is_loaded(make: BoardMaker) -> None:
    bare = subprocess.run(
        [find_micropython(), "-X", "heapsize=64wK", "-c", "import gc; gc.collect(); print(gc.mem_alloc())"],
        capture_output=True,
        text=True,
        check=True,
    )
    with make(LOAD) as board:
        grown = int(board.wait_for("all").split()[1])
        share_wk = (int(board.wait_for("share").split()[1]) - int(bare.stdout)) / 2048  # 1wK has 2 KiB at 64 bits
        modules = [line.split()[1:] for line in board.log if line.startswith("module")]
    print(f"simulated modules: {share_wk:.1f}wK")
    # neither less than they take nor a gift to the application
    assert share_wk <= int(HEAP.removesuffix("wK")) - 73 <= share_wk + 1
    assert len(modules) == 10
    for name, held, taken in modules:
        assert abs(int(taken) - int(held)) < 1024, name
    assert abs(grown) < 2048
