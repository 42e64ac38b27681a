# What a delivered file inflates to, never more than a limit: a small file that inflates without end stops there.
# Reads, and knows nothing of what it reads.
import deflate
from micropython import const

from sealband.update.refused import UpdateRefused
from sealwire import update

_EINVAL = const(22)  # what deflate raises for data that is none
_BLOCK = const(512)


class Reader:
    def __init__(self, file, limit):
        self._file = file
        self._inflated = deflate.DeflateIO(file, deflate.RAW, update.WINDOW_BITS)
        self._left = limit

    # Fill a buffer; BAD_STREAM if the data ends before that, is no deflate, or goes beyond the limit.
    def readinto(self, buffer):
        self._left -= len(buffer)
        if self._left < 0 or self._read(buffer) != len(buffer):
            raise UpdateRefused(update.BAD_STREAM)

    # The data ends here, and the file with it.
    def finish(self):
        if self._read(bytearray(1)) or self._file.read(1):
            raise UpdateRefused(update.BAD_STREAM)

    def _read(self, buffer):
        return _read(self._inflated, buffer)


# Sections: one deflate stream after the other, each of which knows nothing of those before, so that reading can begin
# anew where one begins. `file` gives a byte at a time, so that it stands right behind a section that has ended.
class Sections:
    def __init__(self, file):
        self._file = file
        self._inflated = None
        self._ahead = bytearray(1)

    # Fill a buffer with bytes of one section; BAD_STREAM if that ends before. Whether it ends here.
    def readinto(self, buffer):
        begun = 0
        if self._inflated:
            buffer[0] = self._ahead[0]
            begun = 1
        else:
            self._inflated = deflate.DeflateIO(self._file, deflate.RAW, update.WINDOW_BITS)
        rest = len(buffer) - begun
        if rest and _read(self._inflated, buffer[begun:]) != rest:
            raise UpdateRefused(update.BAD_STREAM)
        if _read(self._inflated, self._ahead):
            return False
        self._inflated = None
        return True


def _read(inflated, buffer):
    try:
        return inflated.readinto(buffer)
    except EOFError:
        raise UpdateRefused(update.BAD_STREAM)
    except OSError as error:
        raise UpdateRefused(update.BAD_STREAM if error.errno == _EINVAL else update.FLASH_FAILED)


# The next `count` bytes, a block at a time.
def copy(reader, count, out, feed=None):
    block = memoryview(bytearray(_BLOCK))
    while count:
        if count < _BLOCK:
            block = block[:count]
        reader.readinto(block)
        out.write(block)
        count -= len(block)
        if feed:
            feed()
