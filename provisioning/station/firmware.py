"""MicroPython's images at the station: a folder of files, taken only with the SHA-256 that a board definition names.

Never downloads. The one who sets up a station downloads the file that the definition names, by its source, and adds it
with its digest checked; from then on the folder works offline.
"""

import hashlib
import os
import re
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from provisioning import wholefile

IMAGE_MAX = 32 << 20
CHUNK = 1 << 20
FILES = "vfs"  # the partition that MicroPython mounts
TABLE_AT = 0x8000  # ESP-IDF's default, which MicroPython keeps
TABLE_LEN = 0xC00
_ROW = struct.Struct("<2sBBII16sI")
_ROW_MAGIC = b"\xaa\x50"
_TYPES = {"app": 0, "data": 1}
_ERASED = {("data", "nvs"), ("data", "ota")}  # a new board has no keys and no choice of slot
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class FirmwareMissing(Exception):
    """There is no file that a board could be flashed with."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class Image(Protocol):
    """What a board definition names; `[firmware_image]` in `board.toml`."""

    @property
    def file(self) -> str:
        """Its name in the cache."""

    @property
    def sha256(self) -> str:
        """64 hex digits."""

    @property
    def offset(self) -> int:
        """Where in the flash it begins."""


class Board(Protocol):
    """A board definition, as far as it is needed here."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def firmware_image(self) -> Image | None:
        """What it is flashed with; None: nothing is named."""


class Partition(Protocol):
    """A row of the board's partition table."""

    @property
    def name(self) -> str:
        """Its label."""

    @property
    def type(self) -> str:
        """app or data."""

    @property
    def subtype(self) -> str:
        """ESP-IDF's word."""

    @property
    def offset(self) -> int:
        """Where it begins."""

    @property
    def size(self) -> int:
        """Bytes."""


@dataclass(frozen=True)
class Entry:
    """A file of the cache.

    Attributes:
        file: its name.
        size: bytes.
        sha256: what its bytes are, 64 hex digits.
    """

    file: str
    size: int
    sha256: str


class Cache:
    """A folder of firmware images.

    Args:
        folder: made when something is added.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, board: Board) -> bytes:
        """The image that a board is flashed with, checked.

        Raises:
            FirmwareMissing: the definition names none, it is not in the cache, or is another.
            OSError: it cannot be read.
        """
        image = _named(board)
        path = self._folder / image.file
        remedy = f"{_source(image)}, then: sealband station firmware add --board {board.name} {image.file}"
        try:
            data = _read(path)
        except FileNotFoundError:
            raise FirmwareMissing(f"{board.name}: {image.file} is not in {self._folder}", remedy) from None
        found = hashlib.sha256(data).hexdigest()
        if found != image.sha256:
            raise FirmwareMissing(f"{path} has SHA-256 {found}, not {image.sha256}: it is another file", remedy)
        return data

    def find(self, board: Board) -> Path:
        """The path of that image, which was checked as `read` does.

        What lies at the path later is not checked again: to flash, use `read`.
        """
        self.read(board)
        return self._folder / _named(board).file

    def add(self, board: Board, source: Path) -> Path:
        """Copy a file into the cache, if it is the one that the definition names; returns where it is now.

        Raises:
            FirmwareMissing: it is another file.
            OSError: it cannot be read, or the cache not be written.
        """
        image = _named(board)
        data = _read(source)
        found = hashlib.sha256(data).hexdigest()
        if found != image.sha256:
            raise FirmwareMissing(
                f"{source} has SHA-256 {found}; {board.name} is flashed with {image.sha256}", f"{_source(image)} again"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        wholefile.replace(self._folder / image.file, data, 0o644)
        return self._folder / image.file

    def entries(self) -> list[Entry]:
        """What is in the cache, by name."""
        if not self._folder.is_dir():
            return []
        found = []
        for path in sorted(self._folder.iterdir()):
            if _FILE.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                data = _read(path)
                found.append(Entry(path.name, len(data), hashlib.sha256(data).hexdigest()))
        return found


def parts(image: bytes, offset: int, layout: Sequence[Partition], files: bytes) -> dict[int, bytes]:
    """What is written where on a new board, so that afterwards nothing is left of what it was.

    Args:
        image: the firmware: one application, or MicroPython's download with boot loader and partition table.
        offset: where it begins.
        layout: the board's partitions.
        files: the image of its file system.

    Returns:
        Address → bytes: the firmware, the file system, and erased flash for NVS and otadata.

    Raises:
        FirmwareMissing: the firmware does not end in its slot, or brings another partition table.
    """
    slot = min((row for row in layout if row.type == "app"), key=lambda row: row.offset, default=None)
    if slot is None or not offset <= slot.offset < offset + len(image) <= slot.offset + slot.size:
        raise FirmwareMissing(
            "the firmware image does not end in the first application partition",
            "check [firmware_image] and partitions.csv of the board",
        )
    if offset <= TABLE_AT:
        found = _table(image[TABLE_AT - offset :][:TABLE_LEN])
        rows = [(_TYPES[row.type], row.offset, row.size, row.name) for row in layout]
        if found != rows and not (found == rows[:-1] and _made_at_start(layout)):
            raise FirmwareMissing(
                "the firmware image has another partition table than the board's partitions.csv",
                "take the variant that the board's definition names",
            )
    here = {offset: image}
    for row in layout:
        inside = offset <= row.offset < offset + len(image)
        if row.name == FILES:
            here[row.offset] = files
        elif (row.type, row.subtype) in _ERASED and not inside:
            here[row.offset] = b"\xff" * row.size
        elif (row.type, row.subtype) in _ERASED and image[row.offset - offset :][: row.size].strip(b"\xff"):
            raise FirmwareMissing(
                f"the firmware image writes into {row.name}", "take an image that leaves NVS and otadata erased"
            )
    return here


def _made_at_start(layout: Sequence[Partition]) -> bool:
    """Whether MicroPython makes the last partition itself: from 1.26 on its tables leave the file system out, and what
    is behind the last slot becomes it (ports/esp32/main.c, pull request 17337).
    """
    *_, slot, files = layout
    return files.name == FILES and slot.type == "app" and files.offset == slot.offset + slot.size


def _table(data: bytes) -> list[tuple[int, int, int, str]]:
    rows = []
    for at in range(0, len(data) - _ROW.size + 1, _ROW.size):
        magic, kind, _, offset, size, label, _ = _ROW.unpack_from(data, at)
        if magic != _ROW_MAGIC:
            break
        rows.append((kind, offset, size, label.rstrip(b"\0").decode("ascii", "replace")))
    return rows


def _named(board: Board) -> Image:
    image = board.firmware_image
    if image is None:
        raise FirmwareMissing(
            f"{board.name} names no firmware image", "add [firmware_image] to its board.toml: file, sha256, offset"
        )
    # checked where it is read, too: here it becomes a path
    if not _FILE.fullmatch(image.file) or not _DIGEST.fullmatch(image.sha256):
        raise FirmwareMissing(f"{board.name}: [firmware_image] is malformed", "correct its board.toml")
    return image


def _source(image: Image) -> str:
    url = str(getattr(image, "source", "") or "")
    return f"download {url}" if url else f"get {image.file}"


def _read(path: Path) -> bytes:
    """A regular file's bytes, from one opened descriptor, so that what was checked is what is used."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise FirmwareMissing(f"{path} is no file", "name the downloaded file")
        if status.st_size > IMAGE_MAX:
            raise FirmwareMissing(
                f"{path} has {status.st_size} bytes; no image has more than {IMAGE_MAX}", "look again"
            )
        data = file.read(IMAGE_MAX + 1)
    if len(data) > IMAGE_MAX:
        raise FirmwareMissing(f"{path} grows while it is read", "look again")
    return data
