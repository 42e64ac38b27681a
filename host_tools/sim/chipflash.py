"""The virtual chip's flash as a flashing tool sees it: one range of addresses over partitions and what lies between.

Before the first partition lie the boot loader and the partition table; they are a file of their own, which a new
virtual board does not have: it starts without. Once something was flashed there, both must be as the chip wants them.

NVS is kept as values, not as flash pages (`host_tools.sim.nvs`). Erasing or writing any of it through here clears all
of it: nothing that a tool writes there is a value afterwards. It reads as what was last written here, erased at first.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator

from host_tools.sim import firmware
from host_tools.sim.flash import SECTOR, SUBTYPES, TYPES, Area, Flash

SIZE_MIN = 0x400000
BOOT_LOADER_AT = {"esp32": 0x1000, "esp32s3": 0}
TABLE_AT = 0x8000  # ESP-IDF's default, which MicroPython keeps
TABLE_LEN = 0xC00
_ENTRY = struct.Struct("<2sBBII16sI")
_ENTRY_MAGIC = b"\xaa\x50"
_DIGEST_MAGIC = b"\xeb\xeb" + b"\xff" * 14
_OUTSIDE = -1  # a type that no partition has


class OutOfRange(Exception):
    """The chip has no such address."""


class ChipFlash:
    """The whole flash chip.

    Args:
        flash: the partitions.
        chip: a key of `firmware.CHIP_IDS`.
        clear_nvs: called when NVS was erased or written over.

    Attributes:
        size: bytes; the next size of a flash chip that holds all partitions.
    """

    def __init__(self, flash: Flash, chip: str, clear_nvs: Callable[[], None]) -> None:
        self._flash = flash
        self._chip = chip
        self._clear_nvs = clear_nvs
        end = max((area.address + area.size for area in flash.areas), default=0)
        self.size = max(SIZE_MIN, 1 << (end - 1).bit_length()) if end else SIZE_MIN
        self._parts = tuple(self._cover())

    def read(self, address: int, length: int) -> bytes:
        """Bytes of it; raises OutOfRange."""
        return b"".join(self._flash.read(area, at, count) for area, at, count in self._pieces(address, length))

    def write(self, address: int, data: bytes) -> None:
        """Clear the bits that are 0 in these bytes; raises OutOfRange."""
        done = 0
        for area, at, count in self._pieces(address, len(data)):
            piece = data[done : done + count]
            self._flash.write(area, at, piece)
            if _is_nvs(area) and piece.strip(b"\xff"):
                self._clear_nvs()
            done += count

    def erase(self, address: int, length: int) -> None:
        """Erase every sector that this touches; raises OutOfRange."""
        start = address - address % SECTOR
        end = address + length
        end += -end % SECTOR
        for area, at, count in self._pieces(start, end - start):
            self._flash.erase(area, at, count)
            if _is_nvs(area):
                self._clear_nvs()

    def unbootable(self) -> str:
        """Why the chip does not get as far as to choose a partition; empty: it does."""
        head = self._parts[0]
        if head.type != _OUTSIDE or not self._flash.path(head).exists():
            return ""
        start = BOOT_LOADER_AT[self._chip]
        try:
            firmware.check(lambda at, length: self.read(start + at, length), TABLE_AT - start, self._chip)
        except firmware.ImageInvalid as error:
            return f"no boot loader at {start:#x}: {error}"
        if self.read(TABLE_AT, TABLE_LEN) != table(self._flash.areas):
            return f"the partition table at {TABLE_AT:#x} is not this board's"
        return ""

    def _cover(self) -> Iterator[Area]:
        at = 0
        for area in sorted(self._flash.areas, key=lambda area: area.address):
            if area.address > at:
                yield Area(_OUTSIDE, 0, at, area.address - at, f"outside-{at:x}")
            yield area
            at = area.address + area.size
        if at < self.size:
            yield Area(_OUTSIDE, 0, at, self.size - at, f"outside-{at:x}")

    def _pieces(self, address: int, length: int) -> Iterator[tuple[Area, int, int]]:
        if address < 0 or length < 0 or address + length > self.size:
            raise OutOfRange(f"{length} bytes at {address:#x} of {self.size:#x}")
        for area in self._parts:
            start, end = max(address, area.address), min(address + length, area.address + area.size)
            if start < end:
                yield area, start - area.address, end - start


def table(areas: tuple[Area, ...]) -> bytes:
    """The partition table as ESP-IDF's gen_esp32part.py makes it: 32 bytes a row, then their MD5."""
    rows = b"".join(
        _ENTRY.pack(_ENTRY_MAGIC, area.type, area.subtype, area.address, area.size, area.label.encode(), 0)
        for area in areas
    )
    return (rows + _DIGEST_MAGIC + hashlib.md5(rows, usedforsecurity=False).digest()).ljust(TABLE_LEN, b"\xff")


def download(chip: str, areas: tuple[Area, ...]) -> bytes:
    """What is flashed on an empty virtual board, from the boot loader to the end of its first firmware.

    It is built as MicroPython's downloads for the ESP32 are: boot loader, partition table and application in one file
    with erased flash between them, for the offset `BOOT_LOADER_AT`.
    """
    start = BOOT_LOADER_AT[chip]
    slot = next(area for area in areas if area.type == TYPES["app"])
    image = firmware.factory(chip)
    image = image.ljust(TABLE_AT - start, b"\xff") + table(areas)
    return image.ljust(slot.address - start, b"\xff") + firmware.factory(chip)


def _is_nvs(area: Area) -> bool:
    return area.type == TYPES["data"] and area.subtype == SUBTYPES["data"]["nvs"]
