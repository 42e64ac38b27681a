"""How much of a board's flash a release may take, so that any two that keep to it lie side by side, with the download
of the second and the queue.

littlefs on blocks of 4 KiB, as MicroPython formats the partition `vfs`: a file takes whole blocks, of which all but the
first lose some bytes to the list that joins them; one of up to 128 bytes lies in its folder; a folder takes two blocks
for every few dozen entries. `tests/host/test_release_room.py` holds this against littlefs itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from boards.partitions import Partition

BLOCK = 4096
# of each block, on average: the pointers of its CTZ list (littlefs DESIGN.md, "CTZ skip-lists")
_BLOCK_NET = BLOCK - 8
_INLINE_MAX = 128  # cache size, four times the 32 bytes that MicroPython reads and programs at once
_FOLDER = 2
_FOLDER_ENTRIES = 32

# superblock and root 4; the folders slots, update, outbox, lib, lib/sealboot 10; what boots 7; the boot record's halves
# 2; trust list, provisioned file 2; the job, its copy while it is written, the last one 3; copies on write 3
_FIXED = 31
# about a hundred LoRa frames; a board that has more of them queued drops telemetry, or takes the update later
_OUTBOX = 14


@dataclass(frozen=True)
class Room:
    """What there is.

    Attributes:
        slot: blocks that the files of one release may take.
        download: blocks that its delivery may take.
        image: bytes that devices take an image of.
    """

    slot: int
    download: int
    image: int


def room(file_system: Partition) -> Room:
    """The room in a partition: of five parts of what is free, a slot has two, and the download one."""
    fifth = max(0, file_system.size // BLOCK - _FIXED - _OUTBOX) // 5
    return Room(slot=2 * fifth, download=fifth, image=file_system.size // 3)


def file_blocks(size: int) -> int:
    """Blocks that a file of so many bytes takes."""
    if size <= _INLINE_MAX:
        return 0
    return 1 if size <= BLOCK else -(-size // _BLOCK_NET)


def tree_blocks(files: Iterable[tuple[str, int]]) -> int:
    """Blocks that files (name, size) take, with their folders and the one that they all lie in."""
    entries = {"": 0}
    total = 0
    for name, size in files:
        total += file_blocks(size)
        parts = name.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder not in entries:
                entries[folder] = 0
                entries["/".join(parts[: depth - 1])] += 1
        entries["/".join(parts[:-1])] += 1
    return total + sum(_FOLDER * max(1, -(-count // _FOLDER_ENTRIES)) for count in entries.values())
