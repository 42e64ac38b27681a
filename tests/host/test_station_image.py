"""The file system of a new board as an image: MicroPython mounts it and finds every file; and what is refused."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from host_tools.sim.interpreter import find_micropython
from provisioning.station.image import NAME_MAX, TreeRefused, filesystem

# prints every file with its content, then writes one and reads it back
LIST = """
import binascii, os, sys, vfs
class Image:
    def __init__(self, path):
        self.file = open(path, "r+b")
        self.count = self.file.seek(0, 2) // 4096
    def readblocks(self, block, buffer, offset=0):
        self.file.seek(block * 4096 + offset)
        self.file.readinto(buffer)
    def writeblocks(self, block, buffer, offset=0):
        self.file.seek(block * 4096 + offset)
        self.file.write(buffer)
    def ioctl(self, op, arg):
        return self.count if op == 4 else 4096 if op == 5 else 0
vfs.mount(vfs.VfsLfs2(Image(sys.argv[1]), mtime=False), "/f")
def walk(folder):
    for name, kind, *_ in os.ilistdir(folder):
        path = folder + "/" + name
        if kind == 0x4000:
            print("folder", path[3:])
            walk(path)
        else:
            with open(path, "rb") as file:
                print("file", path[3:], str(binascii.hexlify(file.read()), "ascii"))
walk("/f")
with open("/f/new", "wb") as file:
    file.write(b"x" * 9000)
with open("/f/new", "rb") as file:
    print("wrote", len(file.read()), os.statvfs("/f")[2])
"""


@dataclass(frozen=True)
class Partition:
    size: int = 0x40000


def tree(folder: Path) -> dict[str, bytes]:
    """Files of every way in which littlefs keeps them: empty, inline, one block, many; and folders."""
    files = {
        "boot.py": b"print('boot')\n",
        "empty": b"",
        "lib/sealboot/__init__.mpy": bytes(range(256)),
        "slots/a/big.mpy": bytes(i * i % 251 for i in range(30_000)),
        "slots/a/block": b"b" * 4096,
        "slots/a/inline": b"i" * 127,
        "slots/a/edge": b"e" * 128,
        "slots/a/ä": b"name",
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "update").mkdir()
    return files


def test_micropython_finds_every_file_and_can_write(tmp_path: Path) -> None:
    files = tree(tmp_path / "tree")
    image = tmp_path / "image"
    image.write_bytes(filesystem(tmp_path / "tree", Partition()))
    script = tmp_path / "list.py"
    script.write_text(LIST)
    done = subprocess.run([find_micropython(), script, image], capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.splitlines()
    found = {line.split(" ")[1]: bytes.fromhex(line.split(" ")[2]) for line in lines if line.startswith("file ")}
    assert found == files
    assert {line.split(" ")[1] for line in lines if line.startswith("folder ")} == {
        "lib",
        "lib/sealboot",
        "slots",
        "slots/a",
        "update",
    }
    assert lines[-1] == "wrote 9000 64"


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    tree(tmp_path / "one")
    first = filesystem(tmp_path / "one", Partition())
    # made in another order, at another time, by another owner's mask
    for path in sorted((tmp_path / "one").rglob("*"), reverse=True):
        target = tmp_path / "two" / path.relative_to(tmp_path / "one")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(path.read_bytes())
            target.chmod(0o600)
            os.utime(target, (0, 0))
    assert filesystem(tmp_path / "two", Partition()) == first
    assert len(first) == Partition().size
    (tmp_path / "two" / "boot.py").write_bytes(b"print('boot!')\n")
    assert filesystem(tmp_path / "two", Partition()) != first


def test_a_link_is_refused(tmp_path: Path) -> None:
    tree(tmp_path / "tree")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "tree" / "lib" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(TreeRefused, match="lib/link is neither"):
        filesystem(tmp_path / "tree", Partition())


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    tree(tmp_path / "tree")
    (tmp_path / "tree" / "up").symlink_to(tmp_path)
    with pytest.raises(TreeRefused, match="up is neither"):
        filesystem(tmp_path / "tree", Partition())


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    tree(tmp_path / "tree")
    os.mkfifo(tmp_path / "tree" / "pipe")
    with pytest.raises(TreeRefused, match="pipe is neither"):
        filesystem(tmp_path / "tree", Partition())


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "\x1b[2J", "ä" * (NAME_MAX // 2 + 1)])
def test_a_name_that_is_none_on_a_board_is_refused(tmp_path: Path, name: str) -> None:
    try:
        (tmp_path / name).write_bytes(b"")
    except OSError:
        # this computer's file system takes no longer names than littlefs does
        assert len(os.fsencode(name)) > NAME_MAX
        return
    with pytest.raises(TreeRefused, match="no name"):
        filesystem(tmp_path, Partition())


def test_folders_in_folders_without_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "/".join("abcdefghijkl")).mkdir(parents=True)
    with pytest.raises(TreeRefused, match="deeper"):
        filesystem(tmp_path, Partition())


def test_what_does_not_fit_is_refused_and_room_is_left_to_write(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(Partition.size))
    with pytest.raises(TreeRefused, match="does not fit"):
        filesystem(tmp_path, Partition())
    # two blocks are the root, so this many would just fit
    (tmp_path / "big").write_bytes(bytes(4080) * (Partition.size // 4096 - 3))
    with pytest.raises(TreeRefused, match="does not fit"):
        filesystem(tmp_path, Partition())


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TreeRefused, match="does not fit"):
        filesystem(tmp_path, Partition())


def test_an_empty_folder_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(TreeRefused, match="is empty"):
        filesystem(tmp_path, Partition())


@pytest.mark.parametrize("size", [0, 4096, 0x40001])
def test_a_partition_that_littlefs_cannot_use_is_refused(tmp_path: Path, size: int) -> None:
    tree(tmp_path)
    with pytest.raises(TreeRefused, match="holds no littlefs"):
        filesystem(tmp_path, Partition(size))
