"""The file system of a new board as one image: littlefs as MicroPython mounts it, made of a folder.

The same folder gives the same bytes: names in order, no times, no owner. The parameters are MicroPython's
(extmod/vfs_lfs.c, ports/esp32/esp32_partition.c): blocks of 4096 bytes, reads and writes of 32, a lookahead of 32, and
littlefs 2.1 on disk, as MicroPython 1.25 and newer make it themselves.
"""

import os
import stat
from pathlib import Path
from typing import Protocol

from littlefs import LittleFS, LittleFSError

BLOCK_LEN = 4096
PROGRAM_LEN = 32
LOOKAHEAD_LEN = 32
NAME_MAX = 255
DEPTH_MAX = 8
FILES_MAX = 2000
DISK_VERSION = 0x00020001
SPARE_BLOCKS = 4  # a board that boots must be able to write


class TreeRefused(Exception):
    """No image is made of this folder."""

    def __init__(self, what: str, remedy: str = "make the folder again: sealband release tree") -> None:
        super().__init__(what)
        self.remedy = remedy


class Partition(Protocol):
    """A partition of the board's flash."""

    @property
    def size(self) -> int:
        """Bytes."""


def filesystem(tree: Path, partition: Partition) -> bytes:
    """The image of a partition that holds the files of a folder.

    Args:
        tree: the folder; what is in it is in `/` on the board.
        partition: the board's partition for its file system.

    Raises:
        TreeRefused: it holds anything but files and folders, a name that littlefs does not take, or too much.
        OSError: it cannot be read.
    """
    if partition.size % BLOCK_LEN or partition.size < 2 * BLOCK_LEN:
        raise TreeRefused(f"a partition of {partition.size:#x} bytes holds no littlefs", "correct partitions.csv")
    contents = _collect(tree, partition.size)
    disk = LittleFS(
        block_size=BLOCK_LEN,
        block_count=partition.size // BLOCK_LEN,
        read_size=PROGRAM_LEN,
        prog_size=PROGRAM_LEN,
        cache_size=4 * PROGRAM_LEN,
        lookahead_size=LOOKAHEAD_LEN,
        block_cycles=100,
        name_max=NAME_MAX,
        disk_version=DISK_VERSION,
    )
    try:
        for name, data in contents:
            if data is None:
                disk.mkdir(f"/{name}")
                continue
            with disk.open(f"/{name}", "wb") as file:
                file.write(data)
    except LittleFSError as error:
        if error.code == LittleFSError.Error.LFS_ERR_NOSPC:
            raise _too_large(tree, partition) from None
        raise TreeRefused(f"{tree}: littlefs says {error}") from error
    if disk.used_block_count + SPARE_BLOCKS > partition.size // BLOCK_LEN:
        raise _too_large(tree, partition)
    return bytes(disk.context.buffer)


def _collect(tree: Path, most: int) -> list[tuple[str, bytes | None]]:
    """Name and content of everything in the folder, folders before what is in them; the content of a folder is None."""
    found: list[tuple[str, bytes | None]] = []
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _walk(root, "", found, most)
    finally:
        os.close(root)
    if not found:
        raise TreeRefused(f"{tree} is empty")
    return found


def _walk(folder: int, prefix: str, found: list[tuple[str, bytes | None]], most: int) -> None:
    # by descriptors, so that nothing outside the tree is read whatever is done to it meanwhile
    if prefix.count("/") > DEPTH_MAX:
        raise TreeRefused(f"{prefix} lies deeper than {DEPTH_MAX} folders")
    for name in sorted(os.listdir(folder)):
        shown = prefix + name
        if len(os.fsencode(name)) > NAME_MAX or not name.isprintable() or "\\" in name:
            raise TreeRefused(f"{shown!r} is no name for a file on a board")
        if len(found) >= FILES_MAX:
            raise TreeRefused(f"there are more than {FILES_MAX} files")
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            found.append((shown, None))
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                _walk(inner, f"{shown}/", found, most)
            finally:
                os.close(inner)
        elif stat.S_ISREG(mode):
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            with open(descriptor, "rb") as file:
                left = most - sum(len(content or b"") for _, content in found)
                data = file.read(left + 1)
            if len(data) > left:
                raise TreeRefused(
                    f"{shown} does not fit into a file system of {most // 1024} KiB, with what is before it",
                    "make the application smaller, or the partition larger",
                )
            found.append((shown, data))
        else:
            raise TreeRefused(f"{shown} is neither a file nor a folder")


def _too_large(tree: Path, partition: Partition) -> TreeRefused:
    return TreeRefused(
        f"{tree} does not fit into a file system of {partition.size // 1024} KiB",
        "make the application smaller, or the partition larger",
    )
