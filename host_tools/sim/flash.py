"""The virtual chip's partitions: the board's table, and a file for each that has one.

A file ends with the last byte that was written; what lies behind is erased flash. Writing clears bits and only erasing
sets them, as NOR flash does. Offsets, sizes and their errors are those of esp-idf's `esp_partition_read`, `_write` and
`_erase_range`. Knows nothing of what a partition holds (`host_tools.sim.bootloader`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from boards.partitions import Partition
from host_tools.sim import esp
from host_tools.sim.esp import EspError

SECTOR = 4096
FILE_SYSTEM = "vfs"
TYPES = {"app": 0, "data": 1}
# esp-idf components/esp_partition/include/esp_partition.h
SUBTYPES = {
    "app": {"factory": 0x00, "test": 0x20} | {f"ota_{number}": 0x10 + number for number in range(16)},
    "data": {"ota": 0, "phy": 1, "nvs": 2, "coredump": 3, "nvs_keys": 4, "fat": 0x81, "spiffs": 0x82, "littlefs": 0x83},
}
ANY = 0xFF


@dataclass(frozen=True)
class Area:
    """A partition by ESP-IDF's numbers."""

    type: int
    subtype: int
    address: int
    size: int
    label: str


class Flash:
    """All partitions of one chip.

    Args:
        layout: the board's table.
        folder: keeps the files.
    """

    def __init__(self, layout: Sequence[Partition], folder: Path) -> None:
        self.areas = tuple(_area(row) for row in layout)
        self._folder = folder

    def find(self, type_: int, subtype: int = ANY, label: str | None = None) -> list[Area]:
        """The partitions that match, in the order of the table."""
        return [
            area
            for area in self.areas
            if area.type == type_ and subtype in (ANY, area.subtype) and label in (None, area.label)
        ]

    def by_label(self, label: str) -> Area | None:
        """The partition of that name, applications first."""
        return next((area for kind in TYPES.values() for area in self.find(kind, label=label)), None)

    def path(self, area: Area) -> Path:
        """The file that keeps it."""
        return self._folder / ("flash.img" if area.label == FILE_SYSTEM else f"{area.label}.img")

    def read(self, area: Area, offset: int, length: int) -> bytes:
        """Bytes of it.

        Raises:
            EspError: they do not all lie in it.
        """
        _check(area, offset, length)
        try:
            with self.path(area).open("rb") as file:
                file.seek(offset)
                data = file.read(length)
        except FileNotFoundError:
            data = b""
        return data.ljust(length, b"\xff")

    def write(self, area: Area, offset: int, data: bytes) -> None:
        """Clear the bits that are 0 in these bytes.

        Raises:
            EspError: they do not all lie in it.
        """
        _check(area, offset, len(data))
        held = self.read(area, offset, len(data))
        self._put(area, offset, bytes(old & new for old, new in zip(held, data, strict=True)))

    def erase(self, area: Area, offset: int, length: int) -> None:
        """Set all bits of these sectors.

        Raises:
            EspError: they are not whole sectors of it.
        """
        _check(area, offset, length)
        if length % SECTOR:
            raise EspError(esp.INVALID_SIZE)
        if offset % SECTOR:
            raise EspError(esp.INVALID_ARG)
        self._put(area, offset, b"\xff" * length)

    def program(self, area: Area, data: bytes) -> None:
        """What a flashing tool does: this and nothing else is in the partition afterwards."""
        _check(area, 0, len(data))
        self.path(area).write_bytes(data)

    def _put(self, area: Area, offset: int, data: bytes) -> None:
        path = self.path(area)
        path.touch()
        with path.open("r+b") as file:
            end = file.seek(0, 2)
            if offset > end:
                file.write(b"\xff" * (offset - end))
            file.seek(offset)
            file.write(data)


def _area(row: Partition) -> Area:
    subtypes = SUBTYPES[row.type]
    number = subtypes[row.subtype] if row.subtype in subtypes else int(row.subtype, 0)
    return Area(TYPES[row.type], number, row.offset, row.size, row.name)


def _check(area: Area, offset: int, length: int) -> None:
    if offset < 0 or offset > area.size:
        raise EspError(esp.INVALID_ARG)
    if offset + length > area.size:
        raise EspError(esp.INVALID_SIZE)
