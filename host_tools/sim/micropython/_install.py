# Copies a folder of the host into the virtual board's file system. argv: image, folder, and "clean" to empty it first.
import os
import sys

import vfs

_BLOCK = 4096


class _Image:
    def __init__(self, path):
        self._file = open(path, "r+b")
        self._count = self._file.seek(0, 2) // _BLOCK

    def readblocks(self, block, buffer, offset=0):
        self._file.seek(block * _BLOCK + offset)
        self._file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=0):
        self._file.seek(block * _BLOCK + offset)
        self._file.write(buffer)

    def ioctl(self, op, arg):
        return self._count if op == 4 else _BLOCK if op == 5 else 0


def copy(source, target):
    for entry in os.ilistdir(source):
        name, kind = entry[0], entry[1]
        inner, outer = target + "/" + name, source + "/" + name
        if kind == 0x4000:
            try:
                os.mkdir(inner)
            except OSError:
                pass
            copy(outer, inner)
        else:
            with open(outer, "rb") as data, open(inner, "wb") as file:
                while True:
                    chunk = data.read(4096)
                    if not chunk:
                        break
                    file.write(chunk)


def remove(folder):
    for entry in list(os.ilistdir(folder)):
        path = folder + "/" + entry[0]
        if entry[1] == 0x4000:
            remove(path)
            os.rmdir(path)
        else:
            os.remove(path)


image = _Image(sys.argv[1])
head = bytearray(64)
image.readblocks(0, head)
if not any(head) or head == b"\xff" * 64:
    vfs.VfsLfs2.mkfs(image)
vfs.mount(vfs.VfsLfs2(image), "/flash")
if "clean" in sys.argv[3:]:
    remove("/flash")
copy(sys.argv[2], "/flash")
vfs.umount("/flash")
