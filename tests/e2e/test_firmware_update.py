"""A firmware from build to confirmation: published, ordered over the air, fetched over Wi-Fi, interrupted, and tried.

A virtual board of a whole site; its updater asks the real repository server. The interpreter is always the same: what
runs is told by the partition's label.
"""

import random
import time
from pathlib import Path

import pytest

import boards
from host_tools.release import build, sign
from host_tools.release.patch import SECTION
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.site import LOCK, Site
from host_tools.sim.wearer import Wearer
from tests.support import firmware_image
from tests.support.boards import has_raw_repl

pytestmark = pytest.mark.skipif(not has_raw_repl(), reason="MicroPython's unix port has a raw REPL from 1.27 on")

SPEED = 20.0
STEP_S = 60.0
MAC = bytes.fromhex("70b3d5003000")
# random, so that it is no smaller when it is delivered: larger than the flash's free room
IMAGE = firmware_image.make(random.Random(8).randbytes(1_300_000))
OPERATIONS = 5 * SECTION // 4096  # an erase and four writes for each block of a section
APP = """
from sealband.app import App, Every
from sealband.links.lora import LoRa
from sealband.sensors.tmp117 import SkinTemperature


def build(board):
    board.power()
    return App(sensors=[Every(20, SkinTemperature(board.i2c()))], links=[LoRa(board)], send_every_s=60)
"""


def firmware_release(site: Site, folder: Path) -> Path:
    """Built and signed as an application is."""
    source = folder / "micropython.bin"
    source.write_bytes(IMAGE)
    out = folder / "fw"
    build.build_firmware(build.Order(boards.load("VIRTUAL"), 2, "2.0", out, LOCK), source)
    for key in site.pipeline.keys[:2]:
        signed = sign.sign(sign.open_release(out), key)
        (out / build.MANIFEST).write_bytes(signed)
    return out


def wait_off(board: VirtualBoard) -> None:
    limit = time.monotonic() + STEP_S
    while board.state != "off":
        assert time.monotonic() < limit, "\n".join([*board.log][-80:])
        time.sleep(0.01)


def fetches(board: VirtualBoard) -> list[int]:
    """Where in the delivery the updater began, each time."""
    return [int(line.rsplit(" ", 1)[1]) for line in board.log if line.startswith("update: fetches from")]


def test_firmware_that_does_not_fit_the_file_system_is_fetched_with_interruptions_and_stays(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    with Site(tmp_path / "site", SimClock.start(SPEED), seed=5, app=app) as site:
        tickets = site.issue(1)
        board = site.board("b0", MAC, Wearer(20, "slow"))
        site.enrol(board, tickets)
        site.take()
        published = site.pipeline.publish(firmware_release(site, tmp_path))
        room = next(row.size for row in boards.load("VIRTUAL").flash_layout() if row.name == "vfs")
        assert site.pipeline.delivered(published)["full"] > room
        # the power fails in the middle of the second section, and in the second after that
        board.cut_power_after(partition_operations=OPERATIONS * 3 // 2)
        site.rollouts.create(published)
        wait_off(board)
        assert fetches(board) == [0]
        mark = board.line_count
        board.power_on()
        board.cut_power_after(partition_operations=OPERATIONS * 3 // 2)
        wait_off(board)
        begun = fetches(board)
        assert len(begun) == 2 and SECTION <= begun[1] < 2 * SECTION
        board.power_on()
        board.wait_for("update: installed 2", STEP_S, after=mark)
        begun = fetches(board)
        assert len(begun) == 4 and 2 * SECTION <= begun[2] < 3 * SECTION and begun[3] == 0
        board.wait_for("sealband: running as", STEP_S, after=mark)
        limit = time.monotonic() + STEP_S
        while not _confirmed(site):
            assert time.monotonic() < limit, list(board.log)[-10:]
            time.sleep(0.2)
        assert board.running == "ota_1"
        mark = board.line_count
        board.reset()
        board.wait_for("sealband: running as", STEP_S, after=mark)
        assert board.running == "ota_1"


def _confirmed(site: Site) -> bool:
    from host_tools.rollout.models import RolloutDevice

    site.worker.check()
    return [row.state for row in RolloutDevice.objects.all()] == ["confirmed"]
