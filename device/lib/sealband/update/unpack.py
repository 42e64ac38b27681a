# An image, as it streams in, into the files of a slot. Takes only the bytes that sealboot.image makes of those files
# again, so there is no second way to write the same slot. Does not know the signed digest: install.py compares.
#
# Order of checks, entry by entry: kind, name, order, number of files, whole header; then contents, their padding, and
# after the last entry two blocks of zeros and zeros up to a full record, nothing behind them.
import os

from micropython import const

from sealband.update.refused import UpdateRefused
from sealboot import image
from sealwire import update

_BLOCK = const(512)
_NAME_FIELD = const(100)
_DIRECTORY = const(0x4000)
_FILE = b"0"[0]
_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/"
# what boots a slot lies outside of it, and no slot brings its own
_BOOT = ("boot.py", "boot.mpy")
_BOOT_PREFIXES = ("lib/sealboot/", "lib/sealboot.", "sealboot/", "sealboot.")


class Unpacker:
    # `folder` is made if it is not there, and holds nothing.
    def __init__(self, folder, feed=None):
        self._folder = folder
        self._feed = feed
        self._block = memoryview(bytearray(_BLOCK))  # the header that comes in
        self._zeros = memoryview(bytes(_BLOCK))
        self._filled = 0  # of that header
        self._left = 0  # of a file's contents
        self._padding = 0  # after them
        self._length = 0  # of the image so far
        self._end = 0  # where it ends, known from its first block of zeros on
        self._file = None
        self._files = 0
        self._name = ""
        self._parent = ""
        self._guard(self._make, folder)

    # The next bytes of the image, as many as there are.
    def write(self, chunk):
        view = memoryview(chunk)
        while len(view):
            taken = self._guard(self._take, view)
            self._length += taken
            view = view[taken:]

    # The image is complete, or BAD_STREAM.
    def close(self):
        self.abandon()
        if not self._end or self._length != self._end:
            raise UpdateRefused(update.BAD_STREAM)

    # Close what is open, whatever is in it.
    def abandon(self):
        if self._file:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError:
                pass  # it is given up

    def _guard(self, do, what):
        try:
            return do(what)
        except OSError:
            self.abandon()
            raise UpdateRefused(update.FLASH_FAILED)
        except UpdateRefused:
            self.abandon()
            raise

    # How many of these bytes are used up by what comes next in an image.
    def _take(self, view):
        if self._left:
            return self._contents(view)
        if self._padding:
            taken = min(len(view), self._padding)
            self._zero(view[:taken])
            self._padding -= taken
            return taken
        if self._end:
            taken = min(len(view), self._end - self._length, _BLOCK)
            if not taken:
                raise UpdateRefused(update.BAD_STREAM)
            self._zero(view[:taken])
            return taken
        taken = min(len(view), _BLOCK - self._filled)
        self._block[self._filled : self._filled + taken] = view[:taken]
        self._filled += taken
        if self._filled == _BLOCK:
            self._filled = 0
            self._header(self._length + taken)
        return taken

    def _zero(self, view):
        if view != self._zeros[: len(view)]:
            raise UpdateRefused(update.ENTRY_REFUSED)

    def _contents(self, view):
        taken = min(len(view), self._left)
        if self._file.write(view[:taken]) != taken:
            raise OSError(28)
        self._left -= taken
        if not self._left:
            self._close()
        return taken

    # A header block, which ends at this length of the image.
    def _header(self, length):
        block = self._block
        if block == self._zeros:
            if not self._files:
                raise UpdateRefused(update.ENTRY_REFUSED)  # a slot without a file runs nothing
            self._end = -(-(length + _BLOCK) // update.TAR_RECORD_LEN) * update.TAR_RECORD_LEN
            return
        if block[156] != _FILE:
            raise UpdateRefused(update.ENTRY_REFUSED)
        name = _name(bytes(block[:_NAME_FIELD]))
        if name <= self._name:
            raise UpdateRefused(update.ORDER_REFUSED)
        self._files += 1
        if self._files > update.FILES_MAX:
            raise UpdateRefused(update.TOO_MANY_FILES)
        try:
            size = int(bytes(block[124:135]), 8)
        except ValueError:
            size = -1
        # a negative size would be written as it was read
        if size < 0 or block != image.header(name, size):
            raise UpdateRefused(update.ENTRY_REFUSED)
        self._open(name, size)

    def _open(self, name, size):
        slash = name.rfind("/")
        parent = name[: max(slash, 0)]
        if parent != self._parent:
            at = name.find("/")
            while at >= 0:
                self._make(self._folder + "/" + name[:at])
                at = name.find("/", at + 1)
            self._parent = parent
        self._name = name
        self._left = size
        self._padding = -size % _BLOCK
        self._file = open(self._folder + "/" + name, "wb")
        if not size:
            self._close()

    # Contents are on flash when this returns.
    def _close(self):
        file, self._file = self._file, None
        file.close()
        if self._feed:
            self._feed()

    def _make(self, folder):
        try:
            os.mkdir(folder)
        except OSError:
            if not os.stat(folder)[0] & _DIRECTORY:
                raise UpdateRefused(update.ORDER_REFUSED)  # a file of this name came before


# The name in a header's field, or PATH_REFUSED.
def _name(field):
    raw = field[: field.find(b"\x00")] if b"\x00" in field else field
    if not 0 < len(raw) <= update.NAME_MAX:
        raise UpdateRefused(update.PATH_REFUSED)
    for byte in raw:
        if chr(byte) not in _CHARACTERS:
            raise UpdateRefused(update.PATH_REFUSED)
    name = raw.decode()
    parts = name.split("/")
    if len(parts) > update.DEPTH_MAX or "" in parts or "." in parts or ".." in parts or name in _BOOT:
        raise UpdateRefused(update.PATH_REFUSED)
    for prefix in _BOOT_PREFIXES:
        if name.startswith(prefix):
            raise UpdateRefused(update.PATH_REFUSED)
    return name
