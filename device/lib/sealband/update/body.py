# A delivered file that has no room on flash, read as it comes: a firmware's. Loaded only for one; keeps nothing.
import io

import deflate
from micropython import const

from sealband.update import stream
from sealband.update.connection import Connection
from sealband.update.fetch import first_byte
from sealband.update.head import FetchError
from sealband.update.refused import UpdateRefused
from sealwire import update as wire

_STEP = const(1024)  # whoever reads it needs memory too


# The file from `at` on, or None: the server does not go on from there. FetchError.
def open_at(source, pace, url, at, limit):
    connection = Connection(pace)
    try:
        answer, have = source.request(connection, url, at)
        first = first_byte(answer, at, have, limit)
        if first is None:
            connection.close()
            return None
        return Body(connection, source.view(), have, first, first + answer.length)
    except FetchError:
        connection.close()
        raise


# A file as it comes, for deflate to read from. Close it before the source is asked for anything else.
class Body(io.IOBase):
    # view: the source's buffer, which holds `have` bytes; first: where in the file they begin
    def __init__(self, connection, view, have, first, total):
        self._connection = connection
        self._view = view
        self._have = have
        self._next = 0
        self._first = first
        self._total = total

    # The place in the file of the byte that comes next.
    def tell(self):
        return self._first + self._next

    # One byte, as deflate asks for them, or 0 at the end of the file; FetchError.
    def readinto(self, buffer):
        if self._next == self._have and not self._fill():
            return 0
        buffer[0] = self._view[self._next]
        self._next += 1
        return 1

    def _fill(self):
        self._first += self._have
        self._have = self._next = 0
        want = min(self._total - self._first, _STEP)
        if want:
            self._connection.back()
            self._have = self._connection.read(self._view[:want])
            if not self._have:
                raise FetchError(wire.UNREACHABLE)
        return want

    # Whether all of it was read. FetchError: the server goes on.
    def ended(self):
        if self.tell() != self._total:
            return False
        if not self._connection.ended():
            raise FetchError(wire.TOO_LONG)
        return True

    def close(self):
        self._connection.close()


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
            self._inflated = deflate.DeflateIO(self._file, deflate.RAW, wire.WINDOW_BITS)
        rest = len(buffer) - begun
        if rest and stream.read(self._inflated, buffer[begun:]) != rest:
            raise UpdateRefused(wire.BAD_STREAM)
        if stream.read(self._inflated, self._ahead):
            return False
        self._inflated = None
        return True
