"""`sealband device run` from a folder to the readings: exchanged, broken, recorded, replayed, over a serial port."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import boards
from host_tools.device import trial
from host_tools.device.application import Application
from host_tools.device.happening import Happening
from host_tools.device.real import BoardRefused, Port, RealRun, there
from host_tools.device.trace import Trace, TraceWriter
from host_tools.device.virtual import VirtualRun
from host_tools.release.bundle import CompileFailed
from host_tools.sim.site import DEVICE
from host_tools.sim.wearer import Wearer
from tests.support.boards import has_raw_repl

pytestmark = pytest.mark.skipif(not has_raw_repl(), reason="this MicroPython has no raw REPL on unix (before 1.27)")
LIMIT_S = 60.0
APP = """\
from sealband.app import App, Every
from sealband.links.lora import LoRa
from sealband.sensors.battery import BatteryVoltage
from sealband.sensors.tmp117 import SkinTemperature
from told import tell


def build(board):
    return App(
        sensors=[
            Every(20, SkinTemperature(board.i2c())),
            Every(20, BatteryVoltage(board.battery_adc(), board.BATTERY["divider"])),
        ],
        links=[LoRa(board)],
        send_every_s=60,
        on_sample=tell,
    )
"""
TOLD = """\
def tell(node, record, t, value):
    print("value", record, value)
"""


def folder(path: Path, told: str = TOLD, app: str = APP) -> Application:
    path.mkdir(exist_ok=True)
    (path / "app.py").write_text(app)
    (path / "told.py").write_text(told)
    return Application(path / "app.py", DEVICE, boards.load("VIRTUAL"))


def started(application: Application, directory: Path, **more: Any) -> VirtualRun:
    return VirtualRun(application, boards.load("VIRTUAL"), directory, speed=20, wearer=Wearer(1), **more)


def slowdown() -> float:
    """How many times as long as on a machine of its own a computation takes here now; 1 at least."""
    begun, cpu = time.monotonic(), time.thread_time()
    while time.thread_time() - cpu < 0.1:
        pass
    return max(1.0, (time.monotonic() - begun) / 0.1)


def until(run: VirtualRun | RealRun, wanted: Callable[[Happening], bool]) -> list[Happening]:
    """Everything up to the first that is wanted."""
    found: list[Happening] = []
    limit = time.monotonic() + LIMIT_S
    while time.monotonic() < limit:
        for one in run.take(0.1):
            found.append(one)
            if wanted(one):
                return found
    raise AssertionError(f"not within {LIMIT_S} s: {[one.text for one in found[-12:]]}")


def values(found: list[Happening]) -> list[str]:
    return [one.text for one in found if one.kind == "line" and one.text.startswith("value ")]


class Kept:
    """The run of this file, and what it recorded in its first moments."""

    def __init__(self, run: VirtualRun, folder: Path, told: list[str], trace: Trace) -> None:
        self.run = run
        self.folder = folder
        self.told = told
        self.trace = trace

    def write(self, text: str) -> None:
        (self.folder / "told.py").write_text(text)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    base = tmp_path_factory.mktemp("run")
    application = folder(base / "app")
    with (
        TraceWriter(base / "a.trace", "VIRTUAL", "virtual", time.time()) as writer,
        started(application, base / "site", settings={"heap": "130wK"}, record=writer) as run,
    ):
        told: list[str] = []
        while len(told) < 10:
            told += values(until(run, lambda one: one.text.startswith("value")))
        yield Kept(run, base / "app", told, Trace.read(base / "a.trace"))


@pytest.fixture
def run(kept: Kept) -> VirtualRun:
    return kept.run


def test_readings_arrive_in_the_store_beside_the_device_s_log(run: VirtualRun) -> None:
    found = until(run, lambda one: one.kind == "reading" and one.data["name"] == "skin_temperature")
    assert 25 < found[-1].data["value"] < 40
    assert values(found) or until(run, lambda one: one.text.startswith("value"))  # which of both is first may vary


def test_exchange_takes_less_than_two_seconds_and_keeps_identity_chain_and_queue(run: VirtualRun, kept: Kept) -> None:
    until(run, lambda one: one.kind == "line" and " acked " in one.text)
    kept.write(TOLD.replace('"value"', '"value anew"'))
    took_s = []
    for _ in range(3):  # a busy machine is no defect
        slower = slowdown()
        begun = time.monotonic()
        run.reload()
        found = until(run, lambda one: one.kind == "running")
        took_s.append((time.monotonic() - begun) / max(slower, slowdown()))
    assert min(took_s) < 2.0
    assert found[-1].data["device"] == run.device
    found = until(run, lambda one: one.text.startswith("value anew"))
    assert not [one for one in found if one.kind in ("refused", "error")]


def test_syntax_error_keeps_what_runs_and_names_its_line(run: VirtualRun, kept: Kept) -> None:
    kept.write("x = 1\n\ndef tell(:\n")
    starts = run.board.starts
    with pytest.raises(CompileFailed) as refused:
        run.reload()
    assert (Path(refused.value.name).name, refused.value.line) == ("told.py", 3)
    until(run, lambda one: one.text.startswith("value anew"))
    assert run.board.starts == starts


def test_error_while_it_runs_names_file_and_line_and_the_board_goes_on(run: VirtualRun, kept: Kept) -> None:
    kept.write("def tell(node, record, t, value):\n    print('at')\n    value / 0\n")
    run.reload()
    error = until(run, lambda one: one.kind == "error")[-1]
    assert (Path(error.data["file"]).name, error.data["line"]) == ("told.py", 3)
    assert "ZeroDivisionError" in error.text
    assert not run.ended


def test_build_that_raises_ends_the_application_once_and_no_storm_follows(run: VirtualRun, kept: Kept) -> None:
    kept.write("1 / 0\n")
    run.reload()
    found = until(run, lambda one: one.kind == "ended")
    assert [Path(one.data["file"]).name for one in found if one.kind == "error"] == ["told.py"]
    starts = run.board.starts
    limit = time.monotonic() + 2.0
    while time.monotonic() < limit:
        assert not run.take(0.1)
    assert run.board.starts == starts
    kept.write(TOLD)
    run.reload()
    until(run, lambda one: one.kind == "running")


def test_build_that_never_comes_back_is_interrupted_at_its_line(
    run: VirtualRun, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host_tools.device.virtual.STUCK_S", 2.0)
    kept.write("while True:\n    pass\n")
    run.reload()
    found = until(run, lambda one: one.kind == "ended")
    error = next(one for one in found if one.kind == "error")
    assert Path(error.data["file"]).name == "told.py"
    assert "KeyboardInterrupt" in error.text
    kept.write(TOLD)
    run.reload()
    until(run, lambda one: one.kind == "running")


def test_application_runs_over_a_serial_port_and_leaves_nothing_in_its_flash(run: VirtualRun, tmp_path: Path) -> None:
    application = folder(tmp_path / "other", TOLD.replace('"value"', '"copied"'))
    trace = tmp_path / "a.trace"
    with (
        TraceWriter(trace, "VIRTUAL", "board", 0) as writer,
        RealRun(application, Port(run.board.port), record=writer) as real,
    ):
        until(real, lambda one: one.kind == "running")
        until(real, lambda one: one.text.startswith("copied 4 "))
        (tmp_path / "other" / "told.py").write_text(TOLD.replace('"value"', '"again"'))
        real.reload()
        until(real, lambda one: one.text.startswith("again"))
    until(run, lambda one: one.kind == "running")
    listed = subprocess.run(
        Port(run.board.port).command("resume", "ls"), check=True, timeout=30, capture_output=True, text=True
    )
    assert "develop" not in listed.stdout
    recorded = Trace.read(trace)
    assert {(entry.kind, entry.place) for entry in recorded.entries} >= {("r", 0x48), ("w", 0x48), ("a", 35)}


def test_own_tests_run_on_the_board_over_its_port(run: VirtualRun, tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("""\
import board
from sealband.sensors.base import SensorError
from sealband.sensors.tmp117 import SkinTemperature
from sealtest import bus, raises, read


def test_absent():
    raises(SensorError, read, SkinTemperature(board.i2c()))


def test_wrong():
    assert bus.parts == {1: 2}
""")
    with there(Port(run.board.port)) as runner:
        found = {one.name: one for one in trial.run(tmp_path / "test_x.py", runner)}
    assert found["test_absent"].passed, found
    assert found["test_wrong"].place == (tmp_path / "test_x.py", 12)


def test_unsigned_code_is_not_pushed_to_a_board_that_a_station_has_closed(
    run: VirtualRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = Port(run.board.port)
    mark = "from esp32 import NVS; n = NVS('sealband'); n.{}; n.commit()"

    def on_board(call: str) -> None:
        subprocess.run(port.command("resume", "exec", mark.format(call)), check=True, timeout=30, capture_output=True)

    on_board("set_i32('closed', 1)")
    with pytest.raises(BoardRefused, match="closed by a station") as refused, RealRun(folder(tmp_path / "x"), port):
        pass
    assert "sign" in refused.value.remedy
    # from its next start on it lets nobody in
    run.board.reset()
    time.sleep(0.5)
    monkeypatch.setattr("host_tools.device.real.PROBE_S", 3.0)
    with pytest.raises(BoardRefused, match="does not let anybody in") as refused:
        port.facts()
    assert "signed releases only" in refused.value.remedy


def test_what_was_recorded_is_measured_again_when_it_is_replayed(kept: Kept, tmp_path: Path) -> None:
    kept.run.__exit__()  # the last of this file: one site at a time
    with started(folder(tmp_path / "app"), tmp_path / "site", online=False, replay=kept.trace) as run:
        again: list[str] = []
        while len(again) < 10:
            again += values(until(run, lambda one: one.text.startswith("value")))
        until(run, lambda one: run.finished)
    # the bus goes by order, the ADC by time
    told = [[one for one in found if one.startswith("value 3 ")] for found in (kept.told, again)]
    count = min(map(len, told))
    assert count > 3
    assert told[0][:count] == told[1][:count]
    assert {one.split()[1] for one in again} == {"3", "4"}
