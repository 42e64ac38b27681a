"""The sensors on the virtual board: I2C and ADC through the supervisor, real time that is faster than the wearer's."""

import ast
from pathlib import Path

import pytest

import boards
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.outfit import outfit
from host_tools.sim.wearer import Wearer
from tests.support.boards import MAC, drivers
from tests.support.heart_reference import beat_times_s

MAIN = """
import board, time
board.power()
from sealband.sensors.max30102 import HeartRate
from sealband.sensors.tmp117 import SkinTemperature
from sealband.sensors.battery import BatteryVoltage
heart, skin = HeartRate(board.i2c()), SkinTemperature(board.i2c())
battery = BatteryVoltage(board.battery_adc(), board.BATTERY["divider"])
values = []
for turn in range(8):
    begun = time.ticks_ms()
    for sensor in (skin, battery, heart):
        sensor.start()
        values.append((sensor.read()[0], time.ticks_diff(time.ticks_ms(), begun)))
        sensor.stop()
    print("read", repr((values, heart.reason, heart.gaps)))
    values.clear()
print("done")
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drivers(tmp_path_factory.mktemp("drivers"), MAIN)


@pytest.mark.parametrize("speed", [10.0, 20.0])
def test_readings_on_the_board_are_the_wearers_also_in_fast_motion(tree: Path, tmp_path: Path, speed: float) -> None:
    clock = SimClock.start(speed)
    wearer = Wearer(11, "fast")
    worn = outfit(boards.load("VIRTUAL"), wearer, clock)
    board = VirtualBoard(tmp_path / "board", name="b", mac=MAC, clock=clock, parts=worn.parts, adc=worn.adc)
    board.install(tree)
    with board:
        board.wait_for("done", timeout_s=60)
        rows = [ast.literal_eval(line.removeprefix("read ")) for line in board.log if line.startswith("read ")]
    beats = beat_times_s(wearer.recording.samples, wearer.recording.rate_hz)
    rates = [60 / (after - before) for before, after in zip(beats, beats[8:], strict=False)]
    lowest, highest = 8 * min(rates), 8 * max(rates)
    assert len(rows) == 8
    numbers = 0
    for ((skin, _), (battery, _), (bpm, spent_ms)), reason, gaps in rows:
        print(f"{speed:.0f}x: {skin / 100} °C, {battery} mV, {bpm} beats/min ({reason}, {gaps} gaps, {spent_ms} ms)")
        assert skin / 100 == pytest.approx(wearer.skin_temperature_c(clock.now()), abs=0.75)
        assert battery == pytest.approx(wearer.battery_mv(clock.now()), abs=30)
        if bpm is not None:
            numbers += 1
            assert lowest - 3 <= bpm <= highest + 3
    # the host may be too busy to empty the FIFO in time: then there is no number, but not always
    assert numbers >= 4
