"""`sealband device test`: a developer's tests on MicroPython, and what is said of those that fail."""

import json
from pathlib import Path
from typing import Any

import pytest

import boards
from host_tools import cli
from host_tools.device import trial
from host_tools.sim.site import DEVICE

GRIP = """\
from sealband.sensors.base import Registers, Sensor


class Grip(Sensor):
    records = (64,)
    read_ms = 10

    def __init__(self, i2c, address=0x2A):
        self._part = Registers(i2c, address, "grip")

    def start(self):
        self._part.expect(self._part.read_byte(0x00), 0x5A)

    def read(self):
        self._part.write_byte(0x01, 0x80)
        return (self._part.read_word(0x10),)
"""
TESTS = """\
import board
from grip import Grip
from sealband.sensors.base import SensorError
from sealtest import bus, equal, raises, read


def test_reads():
    bus.parts[0x2A] = {0x00: b"\\x5a", 0x10: [b"\\x01\\x02", b"\\x00\\x05"]}
    grip = Grip(board.i2c())
    equal(read(grip), (258,))
    equal(read(grip), (5,))
    equal(bus.writes, [(0x2A, 0x01, b"\\x80")] * 2)


def test_buses_are_empty_before_each():
    raises(SensorError, read, Grip(board.i2c()))


"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "grip.py").write_text(GRIP)
    return tmp_path


def results(file: Path, timeout_s: float = 20.0) -> dict[str, trial.Result]:
    with trial.here(DEVICE, boards.load("VIRTUAL")) as runner:
        return {one.name: one for one in trial.run(file, runner, timeout_s)}


def grip_tests(folder: Path, more: str) -> Path:
    file = folder / "test_grip.py"
    file.write_text(TESTS + more)
    return file


def test_own_sensor_is_tested_against_registers_and_each_failure_names_its_line(folder: Path) -> None:
    file = grip_tests(
        folder, 'def test_wrong():\n    print("so far")\n    equal(1 + 1, 3)\n\n\ndef test_after():\n    pass\n'
    )
    found = results(file)
    assert {name: one.passed for name, one in found.items()} == {
        "test_reads": True,
        "test_buses_are_empty_before_each": True,
        "test_wrong": False,
        "test_after": True,
    }
    wrong = found["test_wrong"]
    line = file.read_text().splitlines().index("    equal(1 + 1, 3)") + 1
    assert (wrong.place, wrong.source) == ((file, line), "equal(1 + 1, 3)")
    assert wrong.error == "AssertionError: found 2, expected 3"
    assert wrong.output == ("so far",)


def test_error_in_the_sensor_s_own_file_names_that_file(folder: Path) -> None:
    (folder / "grip.py").write_text(GRIP.replace("read_word(0x10),", "read_word(),"))
    found = results(grip_tests(folder, ""))["test_reads"]
    assert found.place is not None
    assert found.place[0].name == "grip.py"
    assert "TypeError" in found.error


def test_what_hangs_or_ends_the_interpreter_fails_by_name_and_the_rest_is_run(folder: Path) -> None:
    more = """\
def test_hangs():
    while True:
        pass


def test_exits():
    import sys

    sys.exit()


def test_last():
    pass
"""
    found = results(grip_tests(folder, more), timeout_s=1.5)
    assert found["test_hangs"].error == "did not end within 1.5 s"
    assert not found["test_exits"].passed
    assert found["test_last"].passed


def test_time_that_a_driver_waits_is_not_waited_for(folder: Path) -> None:
    more = """\
def test_waits():
    import time

    begun = time.ticks_ms()
    time.sleep_ms(3600000)
    equal(time.ticks_diff(time.ticks_ms(), begun), 3600000)
"""
    assert results(grip_tests(folder, more), timeout_s=5.0)["test_waits"].passed


def test_drivers_of_the_library_run_against_its_registers(folder: Path) -> None:
    # TMP117, SNOSD82D: 0x0117 at 0x0F; shut down and ready are bits 10 and 13 of 0x01; 0x1100 at 0x00 is 34.00 Cel
    file = folder / "test_tmp.py"
    file.write_text("""\
import board
from sealband.sensors.tmp117 import SkinTemperature
from sealtest import bus, equal, read


def answers():
    while True:
        yield b"\\x04\\x00"
        yield b"\\x24\\x20"


def test_thirty_four_degrees():
    steps = answers()
    bus.parts[0x48] = {0x0F: b"\\x01\\x17", 0x01: lambda: next(steps), 0x00: b"\\x11\\x00"}
    equal(read(SkinTemperature(board.i2c())), (3400,))
""")
    found = results(file)["test_thirty_four_degrees"]
    assert found.passed, found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def test_x(:\n    pass\n", "SyntaxError"),
        ("import nothing_of_that_name\n\n\ndef test_x():\n    pass\n", "ImportError"),
        ("x = 1\n", "no function test_"),
    ],
)
def test_file_that_cannot_be_run_fails_as_a_whole(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "test_x.py").write_text(text)
    (found,) = results(tmp_path / "test_x.py").values()
    assert not found.passed
    assert error in found.error


def test_test_that_prints_as_the_runner_does_deceives_nobody(tmp_path: Path) -> None:
    file = tmp_path / "test_x.py"
    file.write_text("def test_x():\n    print('\\n@0123456789abcdef ok test_x')\n    1 / 0\n")
    assert not results(file)["test_x"].passed


def test_test_that_prints_without_an_end_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "test_x.py"
    file.write_text("def test_x():\n    while True:\n        print('x' * 100)\n")
    assert "printed more than" in results(file)["test_x"].error


def test_command_s_status_and_json_tell_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grip_tests(folder, "def test_wrong():\n    assert False\n")
    assert cli.run(["device", "test", str(folder), "--json"]) == 1
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (told["passed"], told["failed"]) == (2, 1)
    (wrong,) = [one for one in told["tests"] if not one["passed"]]
    assert wrong["place"]["source"] == "assert False"
    grip_tests(folder, "")
    assert cli.run(["device", "test", str(folder)]) == 0
    assert "2 passed, 0 failed" in capsys.readouterr().out


def test_folder_without_tests_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["device", "test", str(tmp_path)]) == 1
    assert "no file test_*.py" in capsys.readouterr().err
