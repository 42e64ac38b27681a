"""Partitions and boot loader of the virtual chip: which slot is started after what, and what is taken for an image.

The image format is checked by images that `tests/support/firmware_image.py` makes on its own, and by esptool where it
is installed; the rules of otadata by ESP-IDF's documentation ("Over The Air Updates", "App Rollback").
"""

import random
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import boards
from boards.partitions import Partition
from host_tools.sim import bootloader, esp, firmware
from host_tools.sim.board import BoardError, VirtualBoard
from host_tools.sim.bootloader import Bootloader
from host_tools.sim.esp import EspError
from host_tools.sim.flash import Area, Flash
from tests.support import firmware_image
from tests.support.boards import BoardMaker, scripted

LAYOUT = boards.load("VIRTUAL").flash_layout()
# as ESP32_GENERIC has it: one application, no slots
GENERIC = (
    Partition("nvs", "data", "nvs", 0x9000, 0x6000),
    Partition("phy_init", "data", "phy", 0xF000, 0x1000),
    Partition("factory", "app", "factory", 0x10000, 0x1F0000),
    Partition("vfs", "data", "fat", 0x200000, 0x200000),
)
ONE, TWO = firmware_image.make(b"one"), firmware_image.make(b"two, which is longer" * 500)
DEAD = firmware_image.make(firmware.DEAD)


class Chip:
    """Flash and boot loader without a processor."""

    def __init__(self, folder: Path, layout: tuple[Partition, ...] = LAYOUT) -> None:
        self.said: list[str] = []
        self.flash = Flash(layout, folder)
        self.loader = Bootloader(self.flash, "esp32", self.said.append)

    def area(self, label: str) -> Area:
        found = self.flash.by_label(label)
        assert found
        return found

    def put(self, label: str, image: bytes) -> None:
        self.flash.program(self.area(label), image)

    def set_boot(self, label: str) -> None:
        self.loader.set_boot(self.area(label))

    def start(self) -> str | None:
        area = self.loader.start()
        return area.label if area else None

    def boot(self) -> str | None:
        area = self.loader.boot_partition()
        return area.label if area else None


@pytest.fixture
def chip(tmp_path: Path) -> Chip:
    """With an image in ota_0, started once."""
    chip = Chip(tmp_path)
    chip.put("ota_0", ONE)
    assert chip.start() == "ota_0"
    return chip


# which slot


def test_new_chip_starts_its_first_slot_and_notes_it_as_valid(chip: Chip) -> None:
    assert chip.loader.state(0) == bootloader.VALID
    sequence, _, _, crc = struct.unpack("<I20sII", chip.flash.read(chip.area("otadata"), 0, 32))
    # as esp-idf's otatool.py computes it
    assert (sequence, crc) == (1, zlib.crc32(struct.pack("<I", 1), 0xFFFFFFFF))


def test_new_image_that_is_marked_valid_stays(chip: Chip) -> None:
    chip.put("ota_1", TWO)
    chip.set_boot("ota_1")
    assert (chip.boot(), chip.loader.state(1)) == ("ota_1", bootloader.NEW)
    assert (chip.start(), chip.loader.state(1)) == ("ota_1", bootloader.PENDING)
    chip.loader.mark_valid()
    assert chip.loader.state(1) == bootloader.VALID
    for _ in range(3):
        assert chip.start() == "ota_1"


def test_new_image_that_is_not_marked_valid_gives_way_at_the_next_start(chip: Chip) -> None:
    chip.put("ota_1", TWO)
    chip.set_boot("ota_1")
    assert chip.start() == "ota_1"
    assert chip.start() == "ota_0"
    assert (chip.boot(), chip.loader.state(1)) == ("ota_0", bootloader.ABORTED)
    # and it can be tried once more
    chip.set_boot("ota_1")
    assert [chip.start(), chip.start()] == ["ota_1", "ota_0"]


def test_slots_take_turns_over_many_updates(chip: Chip) -> None:
    for turn in range(7):
        label = ("ota_1", "ota_0")[turn % 2]
        chip.put(label, (TWO, ONE)[turn % 2])
        chip.set_boot(label)
        assert chip.start() == label
        chip.loader.mark_valid()
        assert [chip.start(), chip.boot()] == [label, label]


def test_damaged_slot_is_passed_over(chip: Chip) -> None:
    chip.put("ota_1", TWO)
    chip.set_boot("ota_1")
    chip.put("ota_1", TWO[:-1] + b"\0")
    assert chip.start() == "ota_0"
    assert chip.said == ["virtual board: ota_1 is not bootable: SHA-256"]
    chip.put("ota_0", b"")
    assert chip.start() is None


def test_otadata_that_a_cut_left_half_written_names_nothing(chip: Chip) -> None:
    chip.put("ota_1", TWO)
    chip.set_boot("ota_1")
    data = bytearray(chip.flash.read(chip.area("otadata"), 0, 2 * 4096))
    data[4096 + 28 : 4096 + 32] = b"\xff" * 4  # the CRC was not written
    chip.put("otadata", bytes(data))
    assert chip.start() == "ota_0"


def test_both_slots_given_up_leave_the_first(chip: Chip) -> None:
    # what an application must not let happen: set_boot of the slot that otadata names already
    chip.put("ota_1", TWO)
    chip.set_boot("ota_1")
    chip.set_boot("ota_1")
    assert [chip.start(), chip.start(), chip.start()] == ["ota_1", "ota_1", "ota_0"]
    with pytest.raises(EspError, match="ESP_FAIL"):
        chip.loader.mark_valid()


def test_set_boot_refuses_what_is_no_image(chip: Chip) -> None:
    with pytest.raises(EspError) as caught:
        chip.set_boot("ota_1")
    assert caught.value.code == 5379
    assert chip.boot() == "ota_0"
    with pytest.raises(EspError):
        chip.set_boot("vfs")


def test_chip_without_slots_starts_its_factory_image(tmp_path: Path) -> None:
    chip = Chip(tmp_path, GENERIC)
    chip.put("factory", ONE)
    assert chip.start() == "factory"
    assert chip.boot() is None
    assert chip.loader.next_update(chip.area("factory")) is None
    with pytest.raises(EspError):
        chip.set_boot("factory")


# what is an image


def verdict(image: bytes, size: int = 0x180000) -> str:
    try:
        length = firmware.check(lambda at, n: image[at : at + n].ljust(n, b"\xff"), size, "esp32")
    except firmware.ImageInvalid as error:
        return str(error)
    assert length == len(image)
    return "valid"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (ONE, "valid"),
        (firmware_image.make(b"x" * 3000, segments=16), "valid"),
        (firmware_image.make(hashed=False), "valid"),
        (firmware_image.make(segments=0), "valid"),
        (firmware.factory("esp32"), "valid"),
        (b"", "no magic byte"),
        (b"\xe8" + ONE[1:], "no magic byte"),
        (firmware_image.make(chip=firmware_image.ESP32_S3), "chip id 9, this is 0"),
        (firmware_image.make(revision_min=301), "for another revision of the chip"),
        (firmware_image.make(segments=17), "17 segments"),
        (firmware_image.make(address=0x3F400000), "segment for 0x3f400000 lies at 0x20"),
        (firmware_image.make(address=0x3F400020), "valid"),
        (ONE[:-32] + bytes(32), "SHA-256"),
        (ONE[:33] + b"\0" + ONE[34:], "checksum"),
        (ONE[:28] + struct.pack("<I", 6) + ONE[32:], "segment of 6 bytes"),
        (ONE[:28] + struct.pack("<I", 0xFFFFFC) + ONE[32:], "longer than its partition"),
    ],
)
def test_image_is_judged_as_the_chip_judges_it(image: bytes, expected: str) -> None:
    assert verdict(image) == expected


def test_no_byte_of_an_image_can_be_changed_unseen() -> None:
    image = firmware_image.make(random.Random(1).randbytes(100))
    for at in range(len(image)):
        changed = image[:at] + bytes([image[at] ^ 0x10]) + image[at + 1 :]
        # without its last header byte nobody looks at the hash; the checksum still counts
        assert verdict(changed) != "valid", at


def test_image_must_fit_its_partition() -> None:
    assert verdict(ONE, len(ONE)) == "valid"
    assert verdict(ONE, len(ONE) - 1) == "longer than its partition"


def test_esptool_takes_these_images_for_images(tmp_path: Path) -> None:
    for number, image in enumerate((ONE, TWO, firmware.factory("esp32"))):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(image)
        said = firmware_image.esptool_says(str(path))
        if said is None:
            pytest.skip("esptool is not installed")
        assert "(valid)" in said


# flash


def test_flash_clears_bits_and_only_erasing_sets_them(chip: Chip) -> None:
    area = chip.area("ota_1")
    chip.flash.write(area, 5000, b"\xf0\x0f")
    chip.flash.write(area, 5000, b"\x3c\xff")
    assert chip.flash.read(area, 4999, 4) == b"\xff\x30\x0f\xff"
    chip.flash.erase(area, 4096, 4096)
    assert chip.flash.read(area, 4999, 4) == b"\xff" * 4


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (lambda flash, area: flash.read(area, area.size + 1, 0), esp.INVALID_ARG),
        (lambda flash, area: flash.read(area, -1, 1), esp.INVALID_ARG),
        (lambda flash, area: flash.write(area, area.size - 1, b"12"), esp.INVALID_SIZE),
        (lambda flash, area: flash.erase(area, 0, 100), esp.INVALID_SIZE),
        (lambda flash, area: flash.erase(area, 100, 4096), esp.INVALID_ARG),
        (lambda flash, area: flash.erase(area, 0, area.size + 4096), esp.INVALID_SIZE),
    ],
)
def test_flash_outside_a_partition_is_refused(
    chip: Chip, action: Callable[[Flash, Area], Any], error: tuple[int, str]
) -> None:
    with pytest.raises(EspError) as caught:
        action(chip.flash, chip.area("ota_1"))
    assert caught.value.code == error[0]


# on the board


@pytest.fixture
def make(tmp_path: Path) -> Iterator[BoardMaker]:
    made: list[VirtualBoard] = []

    def make(main: str = "", **settings: Any) -> VirtualBoard:
        made.append(scripted(tmp_path / f"b{len(made)}", main, **settings))
        return made[-1]

    yield make
    for board in made:
        board.stop()


def test_partition_has_the_interface_of_the_esp32(make: BoardMaker) -> None:
    script = """
from esp32 import Partition
running = Partition(Partition.RUNNING)
print("running", running.info())
print("boot", Partition(Partition.BOOT).info()[4], Partition("ota_1").info()[1])
print("apps", [p.info()[4] for p in Partition.find()], [p.info()[4] for p in Partition.find(Partition.TYPE_DATA)])
print("one", [p.info() for p in Partition.find(Partition.TYPE_DATA, label="vfs")])
other = running.get_next_update()
print("next", other.info()[4], other.get_next_update().info()[4], other.ioctl(4, 0), other.ioctl(5, 0))
def code(function, *arguments):
    try:
        return function(*arguments)
    except (OSError, ValueError) as error:
        return type(error).__name__, error.args
print("missing", code(Partition, "nothing"), code(Partition, 7))
buffer = bytearray(4096)
for i in range(4096): buffer[i] = i % 251
other.writeblocks(3, buffer)
back = bytearray(4096)
other.readblocks(3, back)
print("same", back == buffer)
other.writeblocks(3, b"\\x00\\xf0", 1)
other.readblocks(3, memoryview(back)[:5])
print("bits", bytes(back[:5]))
print("part", bytes((other.readblocks(3, memoryview(back)[:2], 4094), back)[1][:2]))
other.ioctl(6, 3)
other.readblocks(3, back)
print("erased", back == b"\\xff" * 4096)
print("odd", code(other.writeblocks, 0, bytes(100)), code(other.writeblocks, 384, bytes(4096)))
print("bad", code(other.set_boot))
print("data", code(Partition("otadata").set_boot))
print("nvs", code(Partition("nvs").readblocks, 0, bytearray(1)))
print("mark", Partition.mark_app_valid_cancel_rollback())
"""
    with make(script) as board:
        board.wait_for("running (0, 16, 65536, 1572864, 'ota_0', False)")
        board.wait_for("boot ota_0 17")
        board.wait_for("apps ['ota_0', 'ota_1'] ['nvs', 'otadata', 'phy_init', 'vfs']")
        board.wait_for("one [(1, 129, 3211264, 983040, 'vfs', False)]")
        board.wait_for("next ota_1 ota_0 384 4096")
        board.wait_for("missing ('OSError', (2,)) ('ValueError', ())")
        board.wait_for("same True")
        board.wait_for("bits b'\\x00\\x00\\x00\\x03\\x04'")
        board.wait_for("part b'NO'")
        board.wait_for("erased True")
        board.wait_for("odd ('OSError', (-260, 'ESP_ERR_INVALID_SIZE')) ('OSError', (-260, 'ESP_ERR_INVALID_SIZE'))")
        board.wait_for("bad ('OSError', (-5379, 'ESP_ERR_OTA_VALIDATE_FAILED'))")
        board.wait_for("data ('OSError', (-5379, 'ESP_ERR_OTA_VALIDATE_FAILED'))")
        board.wait_for("nvs ('OSError', (19,")
        board.wait_for("mark None")
        assert board.running == "ota_0"


SWITCH = """
import machine
from esp32 import Partition
label = Partition(Partition.RUNNING).info()[4]
print("runs", label, machine.reset_cause())
if machine.Pin(4).value():
    Partition.mark_app_valid_cancel_rollback()
    print("marked")
if machine.Pin(5).value():
    Partition("ota_1").set_boot()
    machine.reset()
"""


def test_new_firmware_that_nobody_confirms_is_rolled_back_by_the_next_reset(make: BoardMaker) -> None:
    board = make(SWITCH.replace("machine.Pin(5).value()", "label == 'ota_0' and machine.reset_cause() == 1"))
    board.program("ota_1", TWO)
    with board:
        board.wait_for("runs ota_0 1")
        board.wait_for("runs ota_1 2")
        assert board.running == "ota_1"
        board.type("\x04")
        board.wait_for("runs ota_1 5")  # a soft reset asks no boot loader
        board.type("machine.deepsleep(10)\r")
        board.wait_for("runs ota_1 4")  # nor does the end of a deep sleep
        board.type("machine.reset()\r")
        board.wait_for("runs ota_0 2")


def test_power_cut_before_the_confirmation_rolls_back_too(make: BoardMaker) -> None:
    board = make(SWITCH.replace("machine.Pin(5).value()", "label == 'ota_0' and machine.reset_cause() == 1"))
    board.program("ota_1", TWO)
    with board:
        board.wait_for("runs ota_1 2")
        board.power_cut()
        mark = board.line_count
        board.power_on()
        board.wait_for("runs ota_0 1", after=mark)


def test_firmware_that_does_not_start_is_rolled_back_at_once(make: BoardMaker) -> None:
    board = make("""
import machine
from esp32 import Partition
print("runs", Partition(Partition.RUNNING).info()[4], machine.reset_cause())
if machine.reset_cause() == 1:
    Partition("ota_1").set_boot()
    machine.reset()
""")
    board.program("ota_1", DEAD)
    with board:
        board.wait_for("runs ota_0 1")
        board.wait_for("the firmware in ota_1 does not start")
        board.wait_for("runs ota_0 2")
        assert board.starts == 2


def test_board_without_bootable_firmware_says_so_and_is_off(make: BoardMaker) -> None:
    board = make("print('runs')")
    board.program("ota_0", DEAD)
    with board:
        board.wait_for("no firmware starts")
        assert board.state == "off"
    board.program("ota_0", b"")
    with board:
        board.wait_for("no bootable app partition")
        assert board.state == "off"
        assert not any(line == "runs" for line in board.log)


def test_power_cut_at_any_operation_of_set_boot_and_confirmation_leaves_something_to_start(make: BoardMaker) -> None:
    board = make("""
import machine, time
from esp32 import Partition
label = Partition(Partition.RUNNING).info()[4]
print("state", label)
while not machine.Pin(4).value():
    time.sleep_ms(2)
other = Partition(label).get_next_update()
other.set_boot()
print("finished")
""")
    board.program("ota_1", TWO)
    seen = set()
    mark = 0
    with board:
        for cut_at in (1, 2, 3):
            state = board.wait_for("state", after=mark).split()[-1]
            board.cut_power_after(partition_operations=cut_at)
            board.set_pin(4, 1)
            if cut_at < 3:
                while board.state == "running":
                    time.sleep(0.002)
            else:
                board.wait_for("finished")
                board.power_cut()
            mark = board.line_count
            board.power_on()
            seen.add((cut_at, board.wait_for("state", after=mark).split()[-1] == state))
    assert seen == {(1, True), (2, True), (3, False)}


def test_new_layout_of_an_old_folder_keeps_its_file_system(make: BoardMaker) -> None:
    board = make("print('old', len(open('/main.py').read()) > 0)", flash_size=0x200000)
    assert board.flash_file.stat().st_size == 0x200000
    with board:
        board.wait_for("old True")


def test_program_needs_the_board_off_and_a_partition(make: BoardMaker) -> None:
    board = make()
    with pytest.raises(BoardError, match="no partition 'ota_9'"):
        board.program("ota_9", b"")
    with pytest.raises(EspError, match="INVALID_SIZE"):
        board.program("ota_1", bytes(0x180001))
    with board, pytest.raises(BoardError, match="is on"):
        board.program("ota_1", b"")


def test_board_without_slots_has_no_next_update(make: BoardMaker) -> None:
    script = """
from esp32 import Partition
running = Partition(Partition.RUNNING)
print("running", running.info()[4])
for action in (running.get_next_update, running.set_boot, Partition.mark_app_valid_cancel_rollback):
    try:
        action()
    except OSError as error:
        print("refused", error.errno)
"""
    with make(script, layout=GENERIC) as board:
        board.wait_for("running factory")
        board.wait_for("refused 2")
        board.wait_for("refused -261")
        board.wait_for("refused -261")
