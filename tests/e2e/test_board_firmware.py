"""A firmware update on the virtual board: the device's own code over `esp32.Partition`, images in ESP-IDF's format.

The power fails at each operation too. What runs is told by the partition's label; the interpreter is always the same.
Delivered from a file here; over Wi-Fi, by the updater itself, in test_firmware_update.py.
"""

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools.release import patch
from host_tools.release.bundle import compile_file
from host_tools.sim import firmware
from host_tools.sim.board import VirtualBoard
from sealwire.update import BLOCK_LEN
from tests.support import firmware_image
from tests.support.boards import BoardMaker, scripted
from tests.support.micropython import ROOT

LIB = ROOT / "device" / "lib"
MODULES = (
    "sealband/__init__",
    "sealband/errors",
    "sealband/links/__init__",
    "sealband/links/base",
    "sealband/links/ip",
    "sealband/links/secure",
    "sealband/store",
    "sealband/update/__init__",
    "sealband/update/address",
    "sealband/update/body",
    "sealband/update/connection",
    "sealband/update/fetch",
    "sealband/update/firmware",
    "sealband/update/head",
    "sealband/update/refused",
    "sealband/update/stream",
    "sealboot/__init__",
    "sealboot/record",
    "sealboot/switch",
    "sealwire/__init__",
    "sealwire/manifest",
    "sealwire/messages",
    "sealwire/update",
)
GOOD = firmware_image.make(random.Random(5).randbytes(9000))
DEAD = firmware_image.make(firmware.DEAD + bytes(5000))
# what the node and the updater do, in short: confirm what is on trial, else install and start anew
SCRIPT = """
import gc, io, machine, os
from sealband.update import firmware
from sealband.update.refused import UpdateRefused
from sealboot import record
class Order:
    component, sequence, size = b"fw", 7, {size}
    digest = bytes.fromhex("{digest}")
class Body(io.IOBase):
    def __init__(self, at):
        self.file = open("/image", "rb")
        self.file.seek(at)
    def readinto(self, buffer):
        return self.file.readinto(buffer)
    def tell(self):
        return self.file.tell()
    def ended(self):
        return not self.file.read(1)
    def close(self):
        self.file.close()
if record.load() is None:
    os.mkdir("/slots")
    held = record.Record()
    held.active = 0
    record.save(held)
    record.save(held)
label = firmware.running_label().decode()
print("runs", label, "trial", firmware.on_trial(), "outcome", firmware.check_outcome(sequence=7))
held = record.load()
if held.firmware[0]:
    if {healthy}:
        firmware.confirm()
        print("confirmed")
    else:
        machine.reset()
elif held.firmware_floor >= 7:
    print("through", label)
elif held.outcome[0]:
    print("gave up", held.outcome)
else:
    gc.collect()
    before = gc.mem_alloc()
    gc.threshold(512)
    try:
        firmware.install(Order, Body, "/note")
    except UpdateRefused as error:
        firmware.discard("/note")
        print("refused", error.code)
    else:
        print("installed", gc.mem_alloc() - before < 12000)
        machine.reset()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The device's modules, compiled."""
    folder = tmp_path_factory.mktemp("library")
    for module in MODULES:
        compile_file(LIB / f"{module}.py", folder / "lib" / f"{module}.mpy", module, optimise=3)
    return folder


@pytest.fixture
def make(tmp_path: Path, library: Path) -> Iterator[BoardMaker]:
    made: list[VirtualBoard] = []

    def make(image: bytes, *, signed: bytes = b"", healthy: bool = True, **settings: Any) -> VirtualBoard:
        signed = signed or image
        script = SCRIPT.format(size=len(signed), digest=hashlib.sha256(signed).hexdigest(), healthy=healthy)
        board = scripted(tmp_path / f"b{len(made)}", script, **settings)
        board.install(library)
        folder = tmp_path / "image"
        folder.mkdir(exist_ok=True)
        # a section a block, so that most cuts fall between two of them
        blocks = [image[at : at + BLOCK_LEN] for at in range(0, len(image), BLOCK_LEN)]
        (folder / "image").write_bytes(b"".join(patch.deflate(block) for block in blocks))
        board.install(folder)
        made.append(board)
        return board

    yield make
    for board in made:
        board.stop()


def test_firmware_is_installed_tried_confirmed_and_stays(make: BoardMaker) -> None:
    with make(GOOD) as board:
        board.wait_for("runs ota_0 trial 0 outcome 64")
        board.wait_for("installed True")
        board.wait_for("runs ota_1 trial 7 outcome None")
        board.wait_for("confirmed")
        for _ in range(2):
            mark = board.line_count
            board.reset()
            board.wait_for("through ota_1", after=mark)
        assert board.running == "ota_1"


@pytest.mark.parametrize(("image", "healthy"), [(DEAD, True), (GOOD, False)], ids=["crashes", "unhealthy"])
def test_firmware_that_is_no_good_gives_way(make: BoardMaker, image: bytes, healthy: bool) -> None:
    with make(image, healthy=healthy) as board:
        board.wait_for("runs ota_0 trial 0 outcome 64")
        board.wait_for("gave up (7, 64)")
        assert board.running == "ota_0"
        tried = [line for line in board.log if "ota_1" in line]
        expected = (
            "runs ota_1 trial 7 outcome None" if not healthy else "virtual board: the firmware in ota_1 does not start"
        )
        assert tried == [expected]


@pytest.mark.parametrize(
    ("image", "signed", "code"),
    [
        (firmware_image.make(random.Random(6).randbytes(9000)), GOOD, 55),
        (GOOD[:-1], GOOD, 48),
        (GOOD[:-1] + b"\0", b"", 57),
        (firmware_image.make(chip=firmware_image.ESP32_S3), b"", 57),
    ],
    ids=["swapped", "short", "damaged", "another chip"],
)
def test_firmware_that_is_not_what_was_signed_or_no_image_is_refused(
    make: BoardMaker, image: bytes, signed: bytes, code: int
) -> None:
    with make(image, signed=signed) as board:
        board.wait_for(f"refused {code}")
        mark = board.line_count
        board.reset()
        board.wait_for("runs ota_0 trial 0", after=mark)


def test_power_cut_at_any_operation_ends_with_the_new_firmware(make: BoardMaker) -> None:
    cuts = 0
    while True:
        cuts += 1
        with make(GOOD, flash_size=0x40000) as board:
            board.cut_power_after(partition_operations=cuts)
            assert _until(board, "confirmed") is False or board.running == "ota_1"
            cut = board.state == "off"
            mark = board.line_count
            if cut:
                board.power_on()
                # a cut of the confirmation itself costs the trial: the former firmware runs, and says so
                if _until(board, "gave up", "confirmed", after=mark) == "gave up":
                    assert board.running == "ota_0"
                else:
                    assert board.running == "ota_1"
        if not cut:
            break
    print(f"firmware on the virtual board: {cuts - 1} cuts")
    assert cuts > 15


def _until(board: VirtualBoard, *texts: str, after: int = 0) -> str | bool:
    # which of these lines came, or False if the power failed before
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        lines = list(board.log)[after:]
        for text in texts:
            if any(line.startswith(text) for line in lines):
                return text
        if board.state == "off":
            return False
        time.sleep(0.005)
    raise AssertionError(list(board.log)[-5:])
