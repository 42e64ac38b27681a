"""Flashing with the real esptool: the loader of the virtual board, and the station's Flasher over it."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import boards
from host_tools.sim import firmware
from host_tools.sim.board import VirtualBoard
from host_tools.sim.chipflash import TABLE_AT, download
from host_tools.sim.clock import SimClock
from host_tools.sim.flash import Flash
from host_tools.sim.outfit import outfit
from host_tools.sim.pipeline import Pipeline
from host_tools.sim.rom import SYNC_FRAME, Requests, Sync
from host_tools.sim.wearer import Wearer
from provisioning.station import flash as flashing
from provisioning.station.efuses import ESPEFUSE
from provisioning.station.firmware import FirmwareMissing, parts
from provisioning.station.flash import Flasher, FlashError
from provisioning.station.image import filesystem
from provisioning.station.link import MPREMOTE, Link
from provisioning.station.securebuild import ESPSECURE
from tests.support.boards import MAC, BoardMaker, scripted
from tests.support.micropython import ROOT

LAYOUT = boards.load("VIRTUAL").flash_layout()
FLASH = Flash(LAYOUT, Path())
VFS = next(row for row in LAYOUT if row.name == "vfs")
SAYS_FLASHED = "import esp32\nprint('flashed', esp32.NVS('t'))\n"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[BoardMaker]:
    made: list[VirtualBoard] = []

    def make(main: str = "print('delivered')", **settings: Any) -> VirtualBoard:
        made.append(scripted(tmp_path / f"b{len(made)}", main, **settings))
        made[-1].start()
        made[-1].wait_for("delivered")
        return made[-1]

    yield make
    for board in made:
        board.stop()


def esptool(
    board: VirtualBoard, *words: object, chip: str = "esp32", stub: bool = False, after: str = "no-reset"
) -> str:
    command = [sys.executable, "-m", "esptool", "--chip", chip, "--port", board.port, "--before", "no-reset"]
    command += [] if stub else ["--no-stub"]
    done = subprocess.run(
        [*command, "--after", after, *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def contents(tmp_path: Path, main: str = SAYS_FLASHED, chip: str = "esp32") -> dict[int, bytes]:
    """Everything that is flashed on a new virtual board."""
    tree = tmp_path / "new"
    tree.mkdir(exist_ok=True)
    (tree / "main.py").write_text(main)
    offset = 0x1000 if chip == "esp32" else 0
    return parts(download(chip, FLASH.areas), offset, LAYOUT, filesystem(tree, VFS))


# the loader


@pytest.mark.parametrize(("chip", "named"), [("esp32", "ESP32-D0WD-V3"), ("esp32s3", "ESP32-S3")])
def test_esptool_reads_chip_mac_and_flash_size(make: BoardMaker, chip: str, named: str) -> None:
    board = make(chip=chip)
    told = esptool(board, "flash-id", chip="auto")
    assert f"Chip type:          {named}" in told
    assert "MAC:                aa:bb:cc:11:22:33" in told
    assert "Detected flash size: 4MB" in told
    assert board.state == "loader"
    assert "MAC:                aa:bb:cc:11:22:33" in esptool(board, "read-mac", chip=chip, after="soft-reset")
    board.wait_for("delivered", after=board.line_count - 5)
    assert board.state == "running"


def test_what_is_written_is_what_is_read_and_what_is_in_the_partitions(make: BoardMaker, tmp_path: Path) -> None:
    board = make()
    data = bytes(i * 7 % 256 for i in range(5000))
    (tmp_path / "data").write_bytes(data)
    esptool(board, "write-flash", "0x18f000", tmp_path / "data")  # over the border of ota_0 and ota_1
    esptool(board, "read-flash", "0x18f000", "0x1400", tmp_path / "back")
    assert (tmp_path / "back").read_bytes()[:5000] == data
    folder = board.flash_file.parent
    assert (folder / "ota_0.img").read_bytes()[0x17F000:] == data[:4096]
    assert (folder / "ota_1.img").read_bytes()[: 5000 - 4096] == data[4096:]


def test_the_stub_is_stood_in_for(make: BoardMaker, tmp_path: Path) -> None:
    board = make()
    (tmp_path / "data").write_bytes(b"stub" * 4096)
    told = esptool(board, "write-flash", "0x190000", tmp_path / "data", stub=True)
    assert "Stub flasher running" in told and "Hash of data verified" in told
    esptool(board, "erase-flash", stub=True)
    assert set((board.flash_file.parent / "ota_1.img").read_bytes()) == {0xFF}


def test_text_makes_the_chip_start_its_program(make: BoardMaker) -> None:
    board = make()
    esptool(board, "read-mac")
    assert board.state == "loader"
    seen = board.line_count
    done = subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", f"port:{board.port}", "exec", "print(6 * 7)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["42"] and board.state == "running"
    board.wait_for("MicroPython", after=seen)


def test_a_sleeping_board_can_be_flashed(make: BoardMaker) -> None:
    board = make("import machine\nprint('delivered')\nmachine.deepsleep(1000000)")
    limit = time.monotonic() + 10
    while board.state != "asleep":
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert "aa:bb:cc:11:22:33" in esptool(board, "read-mac", after="soft-reset")
    board.wait_for("delivered", after=board.line_count - 3)


def test_erased_flash_starts_nothing_and_can_still_be_flashed(make: BoardMaker, tmp_path: Path) -> None:
    board = make()
    esptool(board, "erase-flash", stub=True)
    board.reset()
    board.wait_for("no boot loader at 0x1000")
    assert board.state == "off"
    Flasher(board.port, "esp32").write(contents(tmp_path))
    board.wait_for("flashed")
    assert board.running == "ota_0"


@pytest.mark.parametrize("at", [0x1000, TABLE_AT, 0x10000])
def test_a_boot_loader_a_table_or_firmware_that_is_damaged_does_not_start(
    make: BoardMaker, tmp_path: Path, at: int
) -> None:
    board = make()
    image = bytearray(download("esp32", FLASH.areas))
    image[at - 0x1000 + 5] ^= 1
    (tmp_path / "image").write_bytes(image)
    esptool(board, "write-flash", "--compress", "0x1000", tmp_path / "image", after="soft-reset")
    board.wait_for("switched off")
    assert board.state == "off"


def test_erasing_nvs_clears_it(make: BoardMaker, tmp_path: Path) -> None:
    board = make("import esp32\nnvs = esp32.NVS('t')\nnvs.set_i32('n', 7)\nnvs.commit()\nprint('delivered')")
    assert json.loads(board.nvs_file.read_text()) == {"t": {"n": 7}}
    esptool(board, "erase-region", "0x9000", "0x4000", stub=True)
    assert json.loads(board.nvs_file.read_text()) == {}


def test_a_sync_frame_is_found_however_it_is_split_and_nothing_else_is_held_back() -> None:
    sync = Sync()
    assert sync.feed(b"text\xc0more") == (b"text\xc0more", None)
    for at in range(1, len(SYNC_FRAME)):
        sync = Sync()
        assert sync.feed(b"x" + SYNC_FRAME[:at]) == (b"x", None)
        assert sync.feed(SYNC_FRAME[at:] + b"y") == (b"", SYNC_FRAME + b"y")
    sync = Sync()
    assert sync.feed(SYNC_FRAME[:20]) == (b"", None)
    assert sync.feed(b"no") == (SYNC_FRAME[:20] + b"no", None)


def test_a_request_that_was_cut_off_does_not_spoil_the_next_and_text_ends_the_loader() -> None:
    now = [0.0]
    requests = Requests(lambda: now[0])
    assert list(requests.feed(SYNC_FRAME[:20])) == []
    now[0] = 10.0
    assert list(requests.feed(SYNC_FRAME)) == [SYNC_FRAME[1:-1]]
    assert list(requests.feed(b"\xc0\x00\xdb\xdc\xdb\xdd\xc0")) == [b"\x00\xc0\xdb"]
    assert list(requests.feed(SYNC_FRAME + b"\r\x03")) == [SYNC_FRAME[1:-1], None]
    assert requests.left == b"\r\x03"


# the station's flasher


def test_flasher_identifies_writes_and_starts_what_it_wrote(make: BoardMaker, tmp_path: Path) -> None:
    board = make("import esp32\nnvs = esp32.NVS('t')\nnvs.set_i32('n', 7)\nnvs.commit()\nprint('delivered')")
    flasher = Flasher(board.port, "esp32", flash_size=0x400000)
    chip = flasher.identify()
    assert chip == flashing.Chip(MAC, "esp32", 0x400000)
    assert chip.eui == bytes.fromhex("aabbccfffe112233")
    seen: list[float] = []
    assert flasher.write(contents(tmp_path), seen.append) == chip
    assert seen == sorted(seen) and 0 < seen[0] < 1 and seen[-1] == 1.0
    board.wait_for("flashed")
    assert json.loads(board.nvs_file.read_text()) == {}
    assert board.running == "ota_0"


def test_a_board_runs_the_signed_release_that_was_flashed(tmp_path: Path) -> None:
    clock = SimClock.start(speed=20)
    definition = boards.load("VIRTUAL")
    with Pipeline(tmp_path / "release", definition, ROOT / "device", ROOT / "requirements.lock", clock.now) as pipeline:
        pipeline.flash_tree(pipeline.release(1, "1.0"), tmp_path / "tree", ("ward", "sealed-by-the-band"))
    fitted = outfit(definition, Wearer(7, "middle"), clock)
    board = VirtualBoard(tmp_path / "board", name="board", mac=MAC, clock=clock, **fitted.arguments)
    with board:
        image = download("esp32", FLASH.areas)
        Flasher(board.port, "esp32").write(parts(image, 0x1000, LAYOUT, filesystem(tmp_path / "tree", VFS)))
        status = Link(board.port).status()
        assert (status.eui.hex(), status.model, status.ticket) == ("aabbccfffe112233", "virtual-wearable", None)
        assert board.running == "ota_0"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"chip": "esp32s3"}, "wrong_chip"), ({"chip": "esp32", "flash_size": 0x800000}, "too_small")],
)
def test_nothing_is_written_on_a_chip_that_is_not_the_boards(
    make: BoardMaker, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    board = make()
    before = board.flash_file.read_bytes()
    with pytest.raises(FlashError) as caught:
        Flasher(board.port, **settings).write(contents(tmp_path))
    assert caught.value.reason == reason and caught.value.remedy
    assert board.flash_file.read_bytes() == before


def test_what_ends_behind_the_flash_is_not_begun(make: BoardMaker) -> None:
    board = make()
    with pytest.raises(FlashError) as caught:
        Flasher(board.port, "esp32").write({0x3FF000: bytes(0x2000)})
    assert caught.value.reason == "too_small"


def test_a_block_that_arrives_otherwise_is_found_by_its_md5(make: BoardMaker, tmp_path: Path) -> None:
    board = make()
    board.disturb_loader(corrupt_block=2)
    with pytest.raises(FlashError) as caught:
        Flasher(board.port, "esp32").write(contents(tmp_path))
    assert caught.value.reason == "verify_failed"


def test_a_board_that_stops_in_the_middle_is_given_up_and_flashed_again(
    make: BoardMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = make()
    board.disturb_loader(silent_after=3)
    monkeypatch.setattr(flashing, "WRITE_TIMEOUT_S", 2.0)
    monkeypatch.setattr(flashing, "WRITE_BYTES_PER_S", 1 << 30)
    with pytest.raises(FlashError) as caught:
        Flasher(board.port, "esp32").write(contents(tmp_path))
    assert caught.value.reason == "timeout"
    monkeypatch.undo()
    board.disturb_loader()
    board.power_cut()
    board.power_on()
    Flasher(board.port, "esp32").write(contents(tmp_path))
    board.wait_for("flashed")


def test_a_board_without_power_does_not_answer(make: BoardMaker) -> None:
    board = make()
    board.power_cut()
    with pytest.raises(FlashError) as caught:
        Flasher(board.port, "esp32").identify()
    assert caught.value.reason == "no_answer"


@dataclass
class Fake:
    """An esptool that prints this and ends so."""

    folder: Path
    text: str
    status: int = 0

    def command(self) -> list[str]:
        script = self.folder / "fake.py"
        script.write_text(f"import sys\nsys.stdout.write({self.text!r})\nsys.exit({self.status})\n")
        return [sys.executable, str(script)]


GOOD = "Connected to ESP32 on x:\nMAC:   aa:bb:cc:11:22:33\nDetected flash size: 4MB\n"


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("", 0, "wrong_chip"),
        (GOOD.replace("ESP32", "ESP32-C3"), 0, "wrong_chip"),
        (GOOD + GOOD, 0, "wrong_chip"),
        (GOOD.replace("MAC:   aa", "MAC:   zz"), 0, "no_answer"),
        (GOOD + "MAC:   aa:bb:cc:11:22:34\n", 0, "no_answer"),
        (GOOD.replace("4MB", "unknown"), 0, "no_answer"),
        (GOOD, 2, "no_answer"),
        ("x" * (flashing.OUTPUT_MAX + 1), 0, "no_answer"),
        ("No module named esptool", 1, "esptool_missing"),
    ],
)
def test_output_that_is_not_esptools_is_refused(tmp_path: Path, text: str, status: int, reason: str) -> None:
    with pytest.raises(FlashError) as caught:
        Flasher("/dev/ttyUSB0", "esp32", esptool=Fake(tmp_path, text, status).command()).identify()
    assert caught.value.reason == reason and caught.value.remedy


def test_a_message_shows_no_control_characters(tmp_path: Path) -> None:
    fake = Fake(tmp_path, "a fatal error: \x1b[2J\x07evil\n", 2)
    with pytest.raises(FlashError) as caught:
        Flasher("/dev/ttyUSB0", "esp32", esptool=fake.command()).identify()
    assert str(caught.value).isprintable() and "evil" in str(caught.value)


def test_esptool_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FlashError) as caught:
        Flasher("/dev/ttyUSB0", "esp32", esptool=[str(tmp_path / "none")]).identify()
    assert caught.value.reason == "esptool_missing"


def test_esptool_is_ended_with_its_children_when_it_takes_too_long(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(FlashError) as caught:
        flashing.run([sys.executable, str(script)], 2.0)
    assert caught.value.reason == "timeout"
    child = Path("/proc") / (tmp_path / "pid").read_text() / "stat"
    limit = time.monotonic() + 5
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize("port", ["", "-p", "--port=x", "a\nb"])
def test_a_port_that_could_be_an_option_is_refused(port: str) -> None:
    with pytest.raises(FlashError):
        Flasher(port, "esp32")


@pytest.mark.parametrize("wrong", [{0x1001: b"x"}, {0x1000: bytes(4097), 0x2000: b"x"}])
def test_places_that_overlap_or_are_no_sectors_are_refused(wrong: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="0x"):
        Flasher("/dev/ttyUSB0", "esp32").write(wrong)


# what is written where


def test_a_new_board_keeps_nothing_of_what_it_was() -> None:
    image = download("esp32", FLASH.areas)
    here = parts(image, 0x1000, LAYOUT, b"files")
    # the download covers NVS and otadata with erased flash
    assert here == {0x1000: image, VFS.offset: b"files"}
    assert set(image[0x8000 : 0x8000 + 0x6000]) == {0xFF}
    alone = parts(firmware.factory("esp32"), 0x10000, LAYOUT, b"files")
    assert alone[0x9000] == b"\xff" * 0x4000 and alone[0xD000] == b"\xff" * 0x2000


def test_a_download_with_another_partition_table_is_refused() -> None:
    rows = [row for row in LAYOUT if row.name != "ota_1"]
    other = download("esp32", Flash(rows, Path()).areas)
    with pytest.raises(FirmwareMissing, match="another partition table"):
        parts(other, 0x1000, LAYOUT, b"")


def test_a_download_that_leaves_the_file_system_to_the_first_start_is_taken() -> None:
    # MicroPython from 1.26 on: partitions-4MiB-ota.csv ends with ota_1
    image = download("esp32", Flash(LAYOUT[:-1], Path()).areas)
    assert parts(image, 0x1000, LAYOUT, b"files")[VFS.offset] == b"files"
    # but not where what it makes would begin elsewhere than the board's
    moved = [*LAYOUT[:-1], replace(VFS, offset=VFS.offset + 0x1000, size=VFS.size - 0x1000)]
    with pytest.raises(FirmwareMissing, match="another partition table"):
        parts(image, 0x1000, moved, b"")


@pytest.mark.parametrize(("size", "offset"), [(0x180001, 0x10000), (0x1000, 0x1000), (0x1000, 0x20000)])
def test_firmware_that_does_not_end_in_its_slot_is_refused(size: int, offset: int) -> None:
    with pytest.raises(FirmwareMissing, match="does not end"):
        parts(bytes(size), offset, LAYOUT, b"")


def test_the_table_is_what_espressifs_own_tool_reads(tmp_path: Path) -> None:
    # its MD5 row, from the published format: magic, 14 bytes of 0xFF, MD5 of the rows before
    image = download("esp32", FLASH.areas)[TABLE_AT - 0x1000 :]
    rows = 32 * len(LAYOUT)
    assert image[rows : rows + 16] == b"\xeb\xeb" + b"\xff" * 14
    assert image[rows + 16 : rows + 32] == hashlib.md5(image[:rows], usedforsecurity=False).digest()


def test_modules_in_the_working_folder_are_not_run_by_the_station_s_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "serial.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    for command in (flashing.ESPTOOL, ESPEFUSE, ESPSECURE, MPREMOTE):
        flashing.run([*command, "--help"], 60.0)
        assert not (tmp_path / "ran").exists(), command
