"""Installing an update: the heap that it needs, and the time that a patch takes beside a plain copy.

The heap is that of a process that holds what the updater holds (its modules, the verified manifest) and nothing else:
the smallest in which the signed manifest is verified and the image installed. Times are the least of several rounds in
one process, in turn: the running slot's files copied one by one into another folder, 512 bytes at a time, and the patch
applied into such a folder, which writes as many files of the same length. Once over files of this machine, once over
littlefs in RAM; what neither has is the time that a chip's flash takes for erasing and programming, the same for both.
"""

import tempfile
from pathlib import Path

from tests.bench.figure import Figure
from tests.support import slot_board
from tests.support.micropython import Micropython

LIMIT_WK = 64
ROUNDS = 7

TIMES = """
import gc, io, os, time, vfs
from sealband.update import patch, stream, unpack
from sealband.update.install import remove
from sealboot import image

class Ram:
    def __init__(self, blocks):
        self.blocks = blocks
        self.bytes = io.BytesIO(b"\\xff" * (blocks * 4096))

    def readblocks(self, block, buffer, offset=0):
        self.bytes.seek(block * 4096 + offset)
        self.bytes.readinto(buffer)

    def writeblocks(self, block, buffer, offset=0):
        self.bytes.seek(block * 4096 + offset)
        self.bytes.write(buffer)

    def ioctl(self, request, argument):
        return {4: self.blocks, 5: 4096}.get(request, 0)

def copy(source, target):
    block = memoryview(bytearray(512))
    with open(source, "rb") as file, open(target, "wb") as out:
        while True:
            count = file.readinto(block)
            if not count:
                break
            out.write(block[:count])

def apply(delivery, base, digest, size, target):
    out = unpack.Unpacker(target)
    with open(delivery, "rb") as file:
        reader = stream.Reader(file, 2 * size + 4096)
        patch.apply(reader, base, digest, size, out)
        reader.finish()
    out.close()

def take(source, target):
    if os.stat(source)[0] & 0x4000:
        os.mkdir(target)
        for name in os.listdir(source):
            take(source + "/" + name, target + "/" + name)
    else:
        copy(source, target)

def ratio(root, digest, size, rounds):
    times = [1 << 30, 1 << 30]
    for _ in range(rounds):
        for i in range(2):
            remove(root + "/out")
            gc.collect()
            begun = time.ticks_us()
            if i:
                apply(root + "/patch", root + "/a", digest, size, root + "/out")
            else:
                take(root + "/a", root + "/out")
            times[i] = min(times[i], time.ticks_diff(time.ticks_us(), begun))
    return times

def in_ram(root):
    flash = Ram(320)
    vfs.VfsLfs2.mkfs(flash)
    vfs.mount(vfs.VfsLfs2(flash), "/ram")
    for name in ("a", "patch"):
        take(root + "/" + name, "/ram/" + name)
"""


def smallest_wk(board: slot_board.SlotBoard, patched: bool) -> int:
    """Kilowords of heap below which the install fails."""
    high = LIMIT_WK
    board.install(f"{high}wK", patched)
    low = 8  # MicroPython itself does not start with less
    while high - low > 1:
        middle = (low + high) // 2
        try:
            board.install(f"{middle}wK", patched)
            high = middle
        except slot_board.InstallFailed:
            low = middle
    return high


def figures() -> list[Figure]:
    """The heap for verification and install; patching over copying."""
    with tempfile.TemporaryDirectory() as folder:
        board = slot_board.make(Path(folder))
        note = f"image of {len(board.image)} bytes, the device's own tree; manifest of 2 of 3 verified"
        made = [
            Figure(
                f"heap to verify and install {what}, -X heapsize=",
                smallest_wk(board, patched),
                LIMIT_WK,
                unit="wK",
                note=note,
            )
            for what, patched in (("a full image", False), ("a patch", True))
        ]
        return made + _times(board, Path(folder))


def _times(board: slot_board.SlotBoard, folder: Path) -> list[Figure]:
    root = folder / "times"
    root.mkdir()
    (root / "a").symlink_to(board.root / "slots" / "a")
    (root / "patch").write_bytes(board.patch)
    share = f"patch of {len(board.patch)} bytes in place of {len(board.full)}"
    made = []
    with Micropython(heap="4096wK") as device:
        device.run(TIMES)
        device.run(f"in_ram({str(root)!r})")
        digest = slot_board.digest(board.base)
        for where, path in (("littlefs in RAM", "/ram"), ("files", str(root))):
            copied, patched = device.call(f"ratio({path!r}, {digest!r}, {len(board.image)}, {ROUNDS})", timeout_s=240)
            assert device.call(f"image.digest({path + '/out'!r})") == slot_board.digest(board.image)
            note = f"{patched / 1000:.1f} ms ÷ {copied / 1000:.1f} ms for {len(board.image)} bytes; {share}"
            made.append(Figure(f"patch applied ÷ files copied, {where}", patched / copied, note=note))
    return made
