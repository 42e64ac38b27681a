"""The flash layout of a board: reads ESP-IDF's partition table as CSV and checks that it can hold Sealband.

Format: ESP-IDF programming guide, "Partition Tables". Knows no board.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

APP_ALIGNMENT = 0x10000
DATA_ALIGNMENT = 0x1000
FIRST_OFFSET = 0x9000  # behind the boot loader and the table itself
NAME_MAX = 16

_NUMBER = re.compile(r"(0x[0-9a-fA-F]+|[0-9]+)([KM]?)")
_UNIT = {"": 1, "K": 1024, "M": 1024 * 1024}


class PartitionError(Exception):
    """A partition table is missing or wrong; the message names the file, the line and what was expected."""


@dataclass(frozen=True)
class Partition:
    """One row; offset and size in bytes."""

    name: str
    type: str
    subtype: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size


def read(path: Path, flash_size: int) -> tuple[Partition, ...]:
    """The rows of a partition table, in the order of the file.

    Args:
        path: the CSV file: name, type, subtype, offset, size.
        flash_size: bytes of flash that the table must fit into.

    Raises:
        PartitionError: the file is missing, or a row is malformed, misaligned, overlaps another or leaves the flash.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise PartitionError(f"{path}: {error.strerror}") from error
    rows: list[Partition] = []
    end = FIRST_OFFSET
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        row = _row(next(csv.reader([line])), f"{path.name} line {number}")
        if row.offset < end:
            raise PartitionError(f"{path.name} line {number}: {row.name} begins at {row.offset:#x}, before {end:#x}")
        if row.end > flash_size:
            raise PartitionError(f"{path.name} line {number}: {row.name} ends at {row.end:#x}, behind the flash")
        if row.name in {other.name for other in rows}:
            raise PartitionError(f"{path.name} line {number}: {row.name} is there twice")
        rows.append(row)
        end = row.end
    return tuple(rows)


def _row(cells: list[str], where: str) -> Partition:
    cells = [cell.strip() for cell in cells]
    if len(cells) not in (5, 6):
        raise PartitionError(f"{where}: {len(cells)} cells, expected name, type, subtype, offset, size")
    name, kind, subtype = cells[:3]
    if not name or len(name) > NAME_MAX:
        raise PartitionError(f"{where}: a name has 1 to {NAME_MAX} characters")
    if kind not in ("app", "data"):
        raise PartitionError(f"{where}: type {kind!r} is neither app nor data")
    offset, size = (_number(cell, where) for cell in cells[3:5])
    alignment = APP_ALIGNMENT if kind == "app" else DATA_ALIGNMENT
    if offset % alignment or size % DATA_ALIGNMENT or not size:
        raise PartitionError(f"{where}: {name} is not aligned to {alignment:#x}")
    return Partition(name, kind, subtype, offset, size)


def _number(cell: str, where: str) -> int:
    match = _NUMBER.fullmatch(cell)
    if not match:
        raise PartitionError(f"{where}: {cell!r} is no number")
    return int(match[1], 0) * _UNIT[match[2]]
