# The power fails at every flash operation of a download, each write torn in each way, and again while it goes on.
#
# What must hold: what lies there is the beginning of the file; at most the block of 4 KiB in work is lost; the next
# download goes on from there and ends with the whole file.
# ("given", n) in World.air: the server has given out the file's first n bytes.
import os

from device.fakes import HALF, TEARS, World, sweep, unmount

from sealband.update import fetch
from sealband.update.fetch import FetchError, Source

TIMEOUT_S = 300

URL = "http://10.0.0.1:8000/f"
PATH = "/ram/f"
BLOCK_LEN = 4096
board_now = None
data_now = b""


def image(length):
    return bytes((i * 7 + (i >> 8) * 13) & 0xFF for i in range(length))


# A server in RAM in place of the connection, with ranges.
class FakeConnection:
    def __init__(self, pace):
        pass

    def open(self, host, port, context=None):
        pass

    def send(self, request):
        start = 0
        at = request.find(b"Range: bytes=")
        if at >= 0:
            start = int(request[at + 13 : request.find(b"-", at)])
        length = len(data_now)
        if start >= length:
            head = "HTTP/1.1 416 No\r\nContent-Range: bytes */%d\r\n" % length
        elif start:
            head = "HTTP/1.1 206 Partial\r\nContent-Range: bytes %d-%d/%d\r\n" % (start, length - 1, length)
        else:
            head = "HTTP/1.1 200 OK\r\n"
        self._head = head.encode() + b"Content-Length: %d\r\n\r\n" % max(0, length - start)
        self._at = start

    def read(self, view):
        if self._head:
            count = min(len(view), len(self._head))
            view[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        # in small pieces, as a network gives them
        count = min(len(view), 1000, len(data_now) - self._at)
        view[:count] = data_now[self._at : self._at + count]
        self._at += count
        board_now.air.append(("given", self._at))
        return count

    def ended(self):
        return True

    def close(self):
        pass


# Leaves it to the end of the download to commit.
class Unflushed(Source):
    def _store(self, connection, path, at, total, have):
        with open(path, "ab" if at else "wb") as file:
            while at < total:
                have += self._read(connection, have, min(BLOCK_LEN, have + total - at))
                at += file.write(self._view[:have])
                have = 0


# Goes on one byte further than it should.
class Skipping(Source):
    def _store(self, connection, path, at, total, have):
        if at:
            with open(path, "ab") as file:
                file.write(bytes(1))
        super()._store(connection, path, at, total, have)


def script(make, data):
    def run(board):
        global board_now, data_now
        board_now, data_now = board, data
        board.mount()
        try:
            make(["http://10.0.0.1:8000"]).download(URL, PATH, 1 << 20)
        except FetchError:
            assert board.power.dead
        unmount()

    return run


def there():
    try:
        with open(PATH, "rb") as file:
            return file.read()
    except OSError:
        return b""


def checking(data):
    def check(board):
        global board_now, data_now
        board.mount()
        kept = there()
        assert data.startswith(kept), "not the beginning of the file"
        given = max([entry[1] for entry in board.air] or [0])
        assert len(kept) >= (given - 1) // BLOCK_LEN * BLOCK_LEN, "%d given, %d kept" % (given, len(kept))
        board_now, data_now = board, data
        assert Source(["http://10.0.0.1:8000"]).download(URL, PATH, 1 << 20) == len(data)
        assert there() == data
        assert os.listdir("/ram") == ["f"]
        unmount()

    return check


# there: how much of the file lies there before
def swept(make, length, depth, tears=TEARS, there=0):
    fetch.Connection = FakeConnection
    data = image(length)
    world = World(flash=True)
    if there:
        world.mount()
        with open(PATH, "wb") as file:
            file.write(data[:there])
        unmount()
    return sweep(world, script(make, data), checking(data), tears, depth)


def test_power_cut_in_a_download_loses_the_block_in_work_at_most():
    print(swept(Source, 14000, 1), "cuts")


def test_power_cut_in_a_download_that_goes_on_loses_the_block_in_work_at_most():
    print(swept(Source, 14000, 1, TEARS, 5000), "cuts")


def test_power_cut_in_a_download_and_in_the_one_that_goes_on_loses_the_block_in_work_at_most():
    print(swept(Source, 5000, 2, (HALF,)), "cuts")


def caught(make, length, there):
    try:
        swept(make, length, 1, TEARS, there)
    except AssertionError:
        return True
    return False


def test_download_that_is_not_flushed_is_caught_by_this_sweep():
    assert not caught(Source, 14000, 0)
    assert caught(Unflushed, 14000, 0)


def test_download_that_goes_on_from_the_wrong_place_is_caught_by_this_sweep():
    assert not caught(Source, 14000, 5000)
    assert caught(Skipping, 14000, 5000)
