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
        return read(self._inflated, buffer)


# As much of a buffer as there is data for.
def read(inflated, buffer):
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
