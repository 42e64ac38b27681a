"""Position and air on the virtual board: UART 2 with a receiver behind its supply pin, a barometer on the bus."""

import ast
import math
from pathlib import Path

import pytest

import boards
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.gnss import COLD_S
from host_tools.sim.outfit import outfit
from host_tools.sim.script import Script, sky
from host_tools.sim.wearer import Wearer
from tests.support.boards import MAC, drivers

MAIN = """
import board, time
from sealband.sensors.part import part
def read(sensor):
    begun = time.ticks_ms()
    try:
        sensor.start()
        steps = sensor.measure()
        while True:
            time.sleep_ms(next(steps))
    except StopIteration as end:
        return end.value, time.ticks_diff(time.ticks_ms(), begun)
    finally:
        sensor.stop()
position, air = part("gnss", board), part("bme280", board)
print("parts", part("max30205", board))
for turn in range(2):
    print("read", repr((turn, read(position), read(air))))
print("done")
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drivers(tmp_path_factory.mktemp("drivers"), MAIN)


def test_board_under_the_sky_knows_where_it_is_to_a_cell_and_how_the_air_is(tree: Path, tmp_path: Path) -> None:
    clock = SimClock.start(20.0)
    place = (47.28523, 8.56527, 500.0)
    wearer = Wearer(11, "fast", script=Script((sky(0.0, 7200.0),), begins=math.floor(clock.now()), place=place))
    worn = outfit(boards.load("VIRTUAL"), wearer, clock)
    board = VirtualBoard(tmp_path / "board", name="b", mac=MAC, clock=clock, **worn.arguments)
    board.install(tree)
    with board:
        board.wait_for("done", timeout_s=60)
        rows = [ast.literal_eval(line.removeprefix("read ")) for line in board.log if line.startswith("read ")]
        assert "parts None" in board.log
    assert len(rows) == 2
    for turn, ((latitude, longitude, altitude), took_ms), ((deci, deci_hpa), _) in rows:
        north_m = (latitude / 1e5 - place[0]) * 111_319.5
        east_m = (longitude / 1e5 - place[1]) * 111_319.5 * math.cos(math.radians(place[0]))
        assert math.hypot(north_m, east_m) < 100
        assert altitude % 100 == 50 and abs(altitude - 500) < 120
        assert (took_ms < 15_000) if turn else (COLD_S * 1000 <= took_ms <= 45_000), "cold, then hot"
        assert deci / 10 == pytest.approx(wearer.ambient_c(clock.now()), abs=1.0)
        assert deci_hpa / 10 == pytest.approx(wearer.pressure_hpa(clock.now()), abs=1.0)
