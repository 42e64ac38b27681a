# Where a release's modules lie: all in one file, since each file takes 4 KiB of flash. Imported by main.py, and by
# whoever wants a module without it. Beside no such file (a developer's board) it does nothing.
#
#     modules    "SBM1", number of entries (2 B), entries, the .mpy files one after the other, their names
#     entry      CRC-32 of the path ("/sealband/node.mpy"), where it begins or 0 for a folder; big-endian, 4 B each
import sys
from binascii import crc32

import vfs

_AT = "/m"  # stands in the name of every module, on the heap


# A read-only file system for imports. A file that is opened goes on to the end of the pack: a .mpy says itself where
# it ends. What is in it was checked with the slot.
class Pack:
    def __init__(self, path):
        self._path = path
        with open(path, "rb") as file:
            head = file.read(6)
            if head[:4] != b"SBM1":
                raise OSError(19)  # ENODEV
            self._index = file.read(8 * int.from_bytes(head[4:], "big"))

    def _begin(self, path):
        key = crc32(path.encode()).to_bytes(4, "big")
        at = self._index.find(key)
        while at & 7:  # not where an entry begins; neither is -1
            if at < 0:
                raise OSError(2)  # ENOENT
            at = self._index.find(key, at + 1)
        return int.from_bytes(self._index[at + 4 : at + 8], "big")

    def mount(self, readonly, mkfs):
        pass

    def umount(self):
        pass

    def stat(self, path):
        return (0x8000 if self._begin(path) else 0x4000, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def open(self, path, mode):
        begin = self._begin(path)
        file = open(self._path, "rb")
        file.seek(begin)
        return file


def _mount(path):
    try:
        pack = Pack(path)
    except OSError as error:
        if error.errno == 2:
            return  # not packed
        raise
    vfs.mount(pack, _AT, readonly=True)
    sys.path.insert(0, _AT)


_mount(__file__[: __file__.rfind("/") + 1] + "modules")
del _mount
