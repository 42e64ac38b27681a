"""Deep sleep of the whole node on the virtual board: the button and a fall end it, and are told within the wake; an
empty cell makes it sleep on.
"""

import shutil
import time
from pathlib import Path

import boards
from host_tools.release.bundle import compile_tree
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.outfit import outfit
from host_tools.sim.script import Script, fall, sos
from host_tools.sim.wearer import Wearer
from tests.support.boards import MAC
from tests.support.micropython import ROOT

SPEED = 8.0
SOS_S, FALL_S = 70.0, 150.0

MAIN = """
import board, machine, sys, time
from sealband import store
from sealband.app import App, Every
from sealband.chain import Chain
from sealband.links.base import Link
from sealband.node import Node
from sealband.outbox import Outbox
from sealband.sensors.button import Button
from sealband.sensors.motion import motion
from sealband.sensors.tmp117 import SkinTemperature

class Said(Link):
    name = "said"
    frame_max = 222
    def open(self, *given): pass
    def wait_ms(self, length): return 0
    def send(self, frame):
        yield 50
        print("out", len(frame))
        return True
    def listen(self):
        yield 100
        return []

print("woken", machine.reset_cause(), machine.wake_reason())
records = store.open_board()
if records.load(store.CHAIN) is None:
    Chain.create(records, bytes(8), bytes(range(32)), 60000000)
watchers = [Button(board), motion(board)]
sensors = [Every(3600, SkinTemperature(board.i2c()))]
app = App(sensors, [Said()], watchers=watchers, deep_sleep=True, echo=True, status_every_s=86400)
node = Node(app, records, Chain.load(records), Outbox(records), reset_cause=machine.reset_cause(), board=board)
event = node.event
def told(number, *values):
    print("event", number, machine.wake_reason())
    return event(number, *values)
node.event = told
node.run_deep_sleep(machine)
"""


def test_button_and_fall_end_the_deep_sleep_and_are_told_within_the_wake(tmp_path: Path) -> None:
    device = tmp_path / "device"
    shutil.copytree(ROOT / "device" / "lib", device / "lib")
    (device / "main.py").write_text(MAIN)
    described = boards.load("VIRTUAL")
    compile_tree(device, tmp_path / "tree", described)
    clock = SimClock.start(SPEED)
    wearer = Wearer(5)
    began = clock.now()
    wearer.follow(Script((sos(SOS_S, holds_s=20.0), fall(FALL_S)), begins=began))
    fitted = outfit(described, wearer, clock)
    board = VirtualBoard(tmp_path / "board", name="b", mac=MAC, clock=clock, **fitted.arguments)
    board.install(tmp_path / "tree")
    with board:
        board.wait_for("woken 1 0", timeout_s=30)
        limit = time.monotonic() + 30
        while board.state != "asleep" and time.monotonic() < limit:
            time.sleep(0.02)
        assert board.state == "asleep"
        board.wait_for("woken 4 2", timeout_s=30)
        # it would have slept for an hour
        assert SOS_S <= clock.now() - began < SOS_S + 20.0
        board.wait_for("event 2 2", timeout_s=30)
        asleep_again = board.line_count
        board.wait_for("out", timeout_s=30, after=asleep_again - 1)
        board.wait_for("woken 4 3", timeout_s=40)
        assert FALL_S - 5 <= clock.now() - began < FALL_S + 15.0
        board.wait_for("event 1 3", timeout_s=40)


CELL = """
import board, machine
from sealband import once, store
from sealband.app import App, Every
from sealband.chain import Chain
from sealband.node import Node
from sealband.outbox import Outbox
from sealband.sensors.battery import sensor

print("woken", machine.reset_cause(), machine.wake_reason())
records = store.open_board()
if records.load(store.CHAIN) is None:
    Chain.create(records, bytes(8), bytes(range(32)), 60000000)
low = None
if records.load_number(store.CELL) or machine.reset_cause() in (0, 1, 3):
    low = once("sealband.cell").begin(records, board)
print("works", low)
app = App([Every(60, sensor(board))], [], deep_sleep=True, echo=True, status_every_s=86400)
node = Node(app, records, Chain.load(records), Outbox(records), reset_cause=machine.reset_cause(), board=board)
if low is not None:
    node.low = low
print("queued", len(node.outbox), node.resumed)
node.run_deep_sleep(machine)
"""


def test_a_board_whose_cell_is_empty_sleeps_on_with_its_queue_until_there_is_charge_or_power_again(
    tmp_path: Path,
) -> None:
    device = tmp_path / "device"
    shutil.copytree(ROOT / "device" / "lib", device / "lib")
    (device / "main.py").write_text(CELL)
    compile_tree(device, tmp_path / "tree", boards.load("VIRTUAL"))
    cell = {"mv": 3900}
    clock = SimClock.start(400.0)
    adc = {35: lambda: cell["mv"] * 500}
    board = VirtualBoard(tmp_path / "board", name="b", mac=MAC, clock=clock, adc=adc)
    board.install(tmp_path / "tree")
    with board:
        board.wait_for("works 0", timeout_s=30)
        cell["mv"] = 3250
        board.wait_for("empty", timeout_s=30)
        fell = board.line_count
        # the event and the first status wait in flash; a power cut, and a start by brown-out, change nothing
        board.power_cut()
        board.power_on()
        board.wait_for("woken 1", timeout_s=30, after=fell)
        limit = time.monotonic() + 20
        while board.state != "asleep" and time.monotonic() < limit:
            time.sleep(0.02)
        assert board.state == "asleep"
        assert not [line for line in list(board.log)[fell - board.line_count :] if line.startswith("works")]
        # an hour is nine seconds here: it looks, and there is charge
        cell["mv"] = 3950
        board.wait_for("woken 4", timeout_s=40, after=fell)
        board.wait_for("works 0", timeout_s=30, after=fell)
        queued = board.wait_for("queued", timeout_s=30, after=fell)
        assert int(queued.split()[1]) >= 2
