# A patch, as it streams in, and the running slot: together the new image. Format: sealwire.update PATCH_*. The base is
# the slot's folder seen as its image (headers made again, files read where they lie), so nothing is kept twice.
# Refused before anything is given out: another base, another length. Refused where it happens: a read outside the
# base, a move outside of it, more than the image.
import struct

from micropython import const

from sealband.update.refused import UpdateRefused
from sealboot import image
from sealwire import update

_BLOCK = const(512)
_XOR = const(128)  # bytes at once: each costs four numbers on the heap
_ENTRY = ">IIB"  # where a file's header lies in the image, the file's length, its name's length; then its name
_ENTRY_LEN = const(9)
_NUMBER_MAX = const(5)  # bytes
_HEAD_LEN = const(40)


class Base:
    # A folder as its image, read forwards from any place.
    def __init__(self, folder):
        self._folder = folder
        self._zeros = bytes(_BLOCK)
        # its length is found first: a block that grows leaves holes in a heap that is nearly full
        length = 0
        for name, _ in image.files(folder):
            length += _ENTRY_LEN + len(name)
        self._index = bytearray(length)
        self._file = None
        self._start = self._size = self._stop = 0  # of the file that was read last
        self._name = ""
        self._next = 0  # where the index goes on after it
        self._head = None
        self.position = 0
        at = self._last = 0
        for name, size in image.files(folder):
            struct.pack_into(_ENTRY, self._index, at, self._last, size, len(name))
            at += _ENTRY_LEN + len(name)
            self._index[at - len(name) : at] = name.encode()
            self._last += _BLOCK + size + -size % _BLOCK
        self.length = -(-(self._last + 2 * _BLOCK) // update.TAR_RECORD_LEN) * update.TAR_RECORD_LEN

    # Fill a view with what comes next; the caller keeps within `length`.
    def readinto(self, view):
        at, length = 0, len(view)
        while at < length:
            at += self._some(view[at:] if at else view)

    def close(self):
        if self._file:
            self._file.close()
            self._file = None

    def _some(self, view):
        if self.position >= self._last:
            return self._given(view, self._zeros, 0, len(view))
        if not self._start <= self.position < self._stop:
            self._find()
        at = self.position - self._start
        if at < _BLOCK:
            if self._head is None:
                self._head = image.header(self._name, self._size)
            return self._given(view, self._head, at, _BLOCK - at)
        at -= _BLOCK
        if at >= self._size:
            return self._given(view, self._zeros, 0, self._stop - self.position)
        if self._file is None:
            self._file = open(self._folder + "/" + self._name, "rb")
        if self._file.tell() != at:
            self._file.seek(at)
        if len(view) > self._size - at:
            view = view[: self._size - at]
        if self._file.readinto(view) != len(view):
            raise UpdateRefused(update.FLASH_FAILED)
        self.position += len(view)
        return len(view)

    # At most `count` bytes of a block.
    def _given(self, view, block, at, count):
        count = min(len(view), count, _BLOCK - at)
        view[:count] = memoryview(block)[at : at + count]
        self.position += count
        return count

    # The file that the position lies in: as a rule the next one.
    def _find(self):
        self.close()
        self._head = None
        at = self._next if self.position >= self._stop else 0
        while True:
            self._start, self._size, name_len = struct.unpack_from(_ENTRY, self._index, at)
            at += _ENTRY_LEN + name_len
            self._stop = self._start + _BLOCK + self._size + -self._size % _BLOCK
            if self.position < self._stop:
                self._name = bytes(self._index[at - name_len : at]).decode()
                self._next = at
                return


# Write the image that the patch in `reader` makes of a folder. `reader.readinto(view)` fills the view or raises,
# `out.write(view)` takes it; `base_digest` is the running image's, `size` the new one's.
def apply(reader, base_folder, base_digest, size, out, feed=None):
    head = bytearray(_HEAD_LEN)
    reader.readinto(head)
    magic, digest, length = struct.unpack(update.PATCH_HEAD, head)
    if magic != update.PATCH_MAGIC:
        raise UpdateRefused(update.BAD_STREAM)
    if digest != base_digest:
        raise UpdateRefused(update.WRONG_BASE)
    if length != size:
        raise UpdateRefused(update.PATCH_OUTSIDE)
    try:
        base = Base(base_folder)
    except OSError:
        raise UpdateRefused(update.FLASH_FAILED)
    try:
        _Work(reader, base, out, feed).run(size)
    except OSError:
        raise UpdateRefused(update.FLASH_FAILED)
    finally:
        base.close()


class _Work:
    def __init__(self, reader, base, out, feed):
        self._reader = reader
        self._base = base
        self._out = out
        self._feed = feed
        self._delta = memoryview(bytearray(_BLOCK))
        self._old = memoryview(bytearray(_BLOCK))
        self._zeros = bytes(_BLOCK)
        self._byte = bytearray(1)

    def run(self, left):
        base = self._base
        while left:
            copied, added, seek = self._number(), self._number(), self._number()
            if copied > base.length - base.position or copied + added > left:
                raise UpdateRefused(update.PATCH_OUTSIDE)
            self._copy(copied)
            self._add(added)
            left -= copied + added
            position = base.position + (seek >> 1 ^ -(seek & 1))
            if not 0 <= position <= base.length:
                raise UpdateRefused(update.PATCH_OUTSIDE)
            base.position = position
            if self._feed:
                self._feed()

    # LEB128
    def _number(self):
        value = shift = 0
        while shift < 7 * _NUMBER_MAX:
            self._reader.readinto(self._byte)
            value |= (self._byte[0] & 127) << shift
            if self._byte[0] < 128:
                return value
            shift += 7
        raise UpdateRefused(update.PATCH_OUTSIDE)  # no image is as long as that

    # The next bytes of the base XOR the next of the patch, which are zeros for the most part.
    def _copy(self, count):
        delta, old = self._delta, self._old
        while count:
            if count < _BLOCK:
                delta, old = delta[:count], old[:count]
            self._reader.readinto(delta)
            self._base.readinto(old)
            count -= len(delta)
            if delta == self._zeros or (len(delta) < _BLOCK and not any(delta)):
                self._out.write(old)
            else:
                for at in range(0, len(delta), _XOR):
                    piece = delta[at : at + _XOR]
                    number = int.from_bytes(piece, "little") ^ int.from_bytes(old[at : at + _XOR], "little")
                    old[at : at + _XOR] = number.to_bytes(len(piece), "little")
                self._out.write(old)
            if self._feed:
                self._feed()

    def _add(self, count):
        delta = self._delta
        while count:
            if count < _BLOCK:
                delta = delta[:count]
            self._reader.readinto(delta)
            self._out.write(delta)
            count -= len(delta)
            if self._feed:
                self._feed()
