# A slot's folder as the image that was signed: the ustar archive of its files, sorted by name, is made again from the
# files themselves, byte by byte. So its digest says that the slot holds this release, and nothing beside it.
# Writes nothing. Used by boot.py, and by sealband.update for the base of a patch.
import hashlib
import os

from micropython import const

BLOCK = const(512)
_RECORD = const(10240)
_DIRECTORY = const(0x4000)


# The header of a file: the only one that an image may hold for this name and length (POSIX.1-1988, "ustar").
def header(name, size):
    head = bytearray(BLOCK)
    head[: len(name)] = name.encode()
    head[100:156] = b"0000644\x000000000\x000000000\x00%011o\x0000000000000\x00        " % size
    head[156:157] = b"0"
    head[257:265] = b"ustar\x0000"
    head[148:156] = b"%06o\x00 " % sum(head)
    return head


# (name, size) of the files in a folder, in the order of the image.
def files(folder, prefix=""):
    entries = []
    for entry in os.ilistdir((folder + "/" + prefix).rstrip("/")):
        # a folder's files sort by its name with the slash
        entries.append(entry[0] + "/" if entry[1] == _DIRECTORY else entry[0])
    entries.sort()
    for name in entries:
        if name.endswith("/"):
            yield from files(folder, prefix + name)
        else:
            yield prefix + name, os.stat(folder + "/" + prefix + name)[6]


# SHA-256 of the image that a folder holds; OSError if it cannot be read. `feed` is called between files.
def digest(folder, feed=None):
    sha = hashlib.sha256()
    buffer = memoryview(bytearray(BLOCK))
    length = 0
    for name, size in files(folder):
        sha.update(header(name, size))
        length += BLOCK
        with open(folder + "/" + name, "rb") as file:
            while True:
                count = file.readinto(buffer)
                if not count:
                    break
                sha.update(buffer[:count])
                length += count
        if length % BLOCK:
            sha.update(bytes(BLOCK - length % BLOCK))
            length += BLOCK - length % BLOCK
        if feed:
            feed()
    length += 2 * BLOCK
    sha.update(bytes(2 * BLOCK))
    while length % _RECORD:
        sha.update(bytes(BLOCK))
        length += BLOCK
    return sha.digest()
