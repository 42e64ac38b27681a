"""What a release may take of the flash: held against littlefs itself, on a disk of the board's size in RAM."""

from collections.abc import Iterator

import pytest

import boards
from boards.partitions import Partition
from host_tools.release.bundle import compile_tree, is_fixed
from host_tools.release.pack import pack
from host_tools.release.room import BLOCK, file_blocks, room, tree_blocks
from tests.support.micropython import ROOT, Micropython, MicropythonError

DISK = """
import os, vfs
class Disk:
    def __init__(self, count):
        self.data = bytearray(count * 4096)
        self.count = count
    def readblocks(self, block, buffer, offset=0):
        at = block * 4096 + offset
        buffer[:] = memoryview(self.data)[at : at + len(buffer)]
    def writeblocks(self, block, buffer, offset=0):
        at = block * 4096 + offset
        self.data[at : at + len(buffer)] = buffer
    def ioctl(self, op, arg):
        return self.count if op == 4 else 4096 if op == 5 else 0
def mount(count):
    global disk
    try:
        vfs.umount('/f')
    except OSError:
        pass
    disk = Disk(count)
    vfs.VfsLfs2.mkfs(disk)
    vfs.mount(vfs.VfsLfs2(disk), '/f')
def used():
    state = os.statvfs('/f')
    return state[2] - state[3]
def put(name, size):
    at = name.find('/')
    while at >= 0:
        try:
            os.mkdir('/f/' + name[:at])
        except OSError:
            pass
        at = name.find('/', at + 1)
    with open('/f/' + name, 'wb') as file:
        file.write(bytes(size))
def queue(count, size):
    os.mkdir('/f/outbox')
    for number in range(count):
        with open('/f/outbox/new', 'wb') as file:
            file.write(bytes(size))
        os.rename('/f/outbox/new', '/f/outbox/2%08x%04x' % (1, number))
"""


@pytest.fixture
def littlefs() -> Iterator[Micropython]:
    with Micropython(heap="16m") as device:
        device.run(DISK)
        yield device


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """The device's own application: names and sizes."""
    out = tmp_path_factory.mktemp("tree")
    compile_tree(ROOT / "device", out, boards.load("LILYGO_T_BEAM"))
    pack(out)
    names = [path.relative_to(out).as_posix() for path in sorted(out.rglob("*")) if path.is_file()]
    return [(name, (out / name).stat().st_size) for name in names if not is_fixed(name)]


def file_system(blocks: int) -> Partition:
    return Partition("vfs", "data", "fat", 0, blocks * BLOCK)


@pytest.mark.parametrize("size", [0, 128, 129, 4095, 4096, 4097, 8188, 8192, 12000, 40000, 100000])
def test_file_takes_no_more_blocks_than_counted(littlefs: Micropython, size: int) -> None:
    littlefs.run("mount(240)")
    before = littlefs.call("used()")
    littlefs.run(f"put('x', {size})")
    taken = littlefs.call("used()") - before
    assert taken <= file_blocks(size) <= taken + 1


def test_two_slots_download_and_queue_fit_if_the_release_keeps_to_its_room(
    littlefs: Micropython, files: list[tuple[str, int]]
) -> None:
    layout = boards.load("LILYGO_T_BEAM").flash_layout()
    partition = next(row for row in layout if row.name == "vfs")
    space = room(partition)
    # filled up to the last block that is allowed
    spare = space.slot - tree_blocks(files)
    assert spare >= 0, "the device's own application does not fit any more"
    full = [*files, ("filler", spare * (BLOCK - 8))]
    assert tree_blocks(full) == space.slot
    littlefs.run(f"mount({partition.size // BLOCK})")
    for name, size in [("boot.py", 2000), ("update/trust", 600), ("update/provision", 900), ("update/job", 300)]:
        littlefs.run(f"put({name!r}, {size})")
    for number in range(6):
        littlefs.run(f"put('lib/sealboot/part{number}.mpy', 1300)")
    littlefs.run("queue(100, 51)")
    for slot in "ab":
        littlefs.run(f"put('slots/{0 if slot == 'a' else 1}', 158)")
        for name, size in full:
            littlefs.run(f"put('slots/{slot}/{name}', {size})")
    littlefs.run(f"put('update/download', {space.download * (BLOCK - 8)})")
    # each small file is still replaced by way of a copy
    for _ in range(20):
        littlefs.run("put('update/job.tmp', 300)")
        littlefs.run("os.rename('/f/update/job.tmp', '/f/update/job')")


def test_release_beyond_its_room_would_not_have_fitted_for_long(littlefs: Micropython) -> None:
    # the safeguard taken out: two releases of half the flash each
    files = [(f"lib/{number}.mpy", BLOCK) for number in range(118)]
    assert tree_blocks(files) > room(file_system(240)).slot
    littlefs.run("mount(240)")
    for name, size in files:
        littlefs.run(f"put('slots/a/{name}', {size})")
    littlefs.run(f"sizes = {files!r}")
    littlefs.run("def copy():\n for name, size in sizes:\n  put('slots/b/' + name, size)")
    with pytest.raises(MicropythonError, match="28"):
        littlefs.run("copy()")


def test_folders_are_counted_once_and_by_their_entries() -> None:
    assert tree_blocks([("a", 1)]) == 2
    assert tree_blocks([("lib/x/a", 200), ("lib/x/b", 200), ("lib/c", 5000)]) == 2 + 2 + 2 + 1 + 1 + 2
    assert tree_blocks([(f"f{number}", 1) for number in range(33)]) == 4


def test_room_of_a_tiny_file_system_is_none() -> None:
    assert room(file_system(10)).slot == 0


def test_application_of_every_board_has_room(files: list[tuple[str, int]]) -> None:
    for name in boards.names():
        partition = next(row for row in boards.load(name).flash_layout() if row.name == "vfs")
        assert tree_blocks(files) <= room(partition).slot
