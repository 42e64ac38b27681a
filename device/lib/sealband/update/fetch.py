# Fetches documents and files from provisioned servers by HTTP/1.1 over TCP or TLS, and nothing from anywhere else.
# What is fetched is not believed: manifest.py and install.py check signatures and digests.
#
# One request a connection, no redirects, no encodings, no body of unknown length (head.py); limits on length here, on
# time and speed in connection.py. For https the chip's clock must be right, since certificates are judged by it; the
# caller sets it.
#
# A file grows by blocks of 4 KiB, each flushed. Its length is all that is remembered of a download: the next one asks
# for what follows it. What has no room as a file is read as it comes (body.py), and whoever reads it remembers.
import os
import time

from micropython import const

from sealband.links import secure
from sealband.store import discard
from sealband.update import address, head
from sealband.update.connection import Connection, Limits, Pace
from sealband.update.head import FetchError
from sealwire import update as wire

_BLOCK_LEN = const(4096)
_HEAD_STEP = const(256)  # a head is read in such steps, so that little of the body comes with it


def _length(path):
    try:
        return os.stat(path)[6]
    except OSError:
        return 0


# Whether a download of this file was begun.
def begun(path):
    try:
        os.stat(path)
        return True
    except OSError:
        return False


# Where the body begins that answers a request from `at` on. None: the server does not go on from there.
def first_byte(answer, at, have, limit):
    if answer.status == 200:
        at = 0
    elif answer.first != at or answer.total != at + answer.length:
        return None
    if at + answer.length > limit or have > answer.length:
        raise FetchError(wire.TOO_LONG)
    return at


class Source:
    # origins: scheme://host:port of each provisioned server; ca: DER of the certificate that theirs must be signed by;
    # now_ms: ticks; feed: called at least once a second, but for the time that a name takes to resolve
    def __init__(self, origins, ca=None, now_ms=time.ticks_ms, feed=None, limits=None):
        self._origins = origins
        self._ca = ca
        self._now_ms = now_ms
        self._feed = feed
        self._limits = limits or Limits()
        self._context = None
        self._view = None  # until it is needed

    # A document of at most `limit` bytes (and one block), or FetchError.
    def get(self, url, limit):
        connection = Connection(self._pace(self._limits.get_ms))
        try:
            answer, have = self.request(connection, url, 0)
            length = answer.length
            if length > min(limit, _BLOCK_LEN) or have > length:
                raise FetchError(wire.TOO_LONG)
            while have < length:
                have += self._read(connection, have, length)
            if not connection.ended():
                raise FetchError(wire.TOO_LONG)
            return bytes(self._view[:length])
        finally:
            connection.close()

    # Fetch a file, going on where an earlier download of it ended; its length, or FetchError. What has come stays for
    # the next time, unless it is too long or does not fit the flash.
    def download(self, url, path, limit):
        pace = self._pace(self._limits.download_ms)
        try:
            length = None
            at = _length(path)
            if 0 < at <= limit:
                length = self._receive(pace, url, path, at, limit)
            if length is None:
                length = self._receive(pace, url, path, 0, limit)
            return length
        except FetchError as error:
            # the queue of readings needs the room more than a download does
            if error.code in (wire.TOO_LONG, wire.FLASH_FAILED):
                discard(path)
            raise
        finally:
            self._view = None  # its memory is for who installs; the next request takes some anew

    # A file of at most `limit` bytes from `at` on, or from its beginning if the server won't go on there; FetchError.
    def open(self, url, at, limit):
        from sealband.update import body

        pace = self._pace(self._limits.download_ms)
        found = body.open_at(self, pace, url, at, limit) if at else None
        return found or body.open_at(self, pace, url, 0, limit)

    # Ask for the file from `at` on. None: the server does not go on from there, so ask for all of it.
    def _receive(self, pace, url, path, at, limit):
        connection = Connection(pace)
        try:
            answer, have = self.request(connection, url, at)
            if answer.status == 416:
                # complete, as far as the server knows; else what is there is not the beginning of this file
                return at if answer.total == at else None
            at = first_byte(answer, at, have, limit)
            if at is None:
                return None
            try:
                self._store(connection, path, at, at + answer.length, have)
            except OSError:
                raise FetchError(wire.FLASH_FAILED)
            if not connection.ended():
                raise FetchError(wire.TOO_LONG)
            return at + answer.length
        finally:
            connection.close()

    # The body into the file, up to `total`; `have` bytes of it are in the buffer. An OSError is the flash's.
    def _store(self, connection, path, at, total, have):
        with open(path, "ab" if at else "wb") as file:
            while at < total:
                # up to the end of a block of the file, so that flash is written in whole ones
                want = max(have, min(_BLOCK_LEN - at % _BLOCK_LEN, total - at))
                broken = None
                try:
                    while have < want:
                        have += self._read(connection, have, want)
                except FetchError as error:
                    broken = error  # what came is kept first, or a bad link would never get to the end
                file.write(self._view[:have])
                file.flush()
                at += have
                have = 0
                if broken:
                    raise broken

    # The buffer, while there is a request.
    def view(self):
        return self._view

    # Bytes of a body that has not ended, into the buffer.
    def _read(self, connection, start, end):
        count = connection.read(self._view[start:end])
        if not count:
            raise FetchError(wire.UNREACHABLE)
        return count

    # Send the request, read the head of the answer. (head, bytes of the body that are in the buffer)
    def request(self, connection, url, at):
        if not address.allowed(url, self._origins, address.JOINED_MAX):
            raise FetchError(wire.HOST_REFUSED)
        scheme, host, port, path = address.parse(url, address.JOINED_MAX)
        secure = scheme == "https"
        connection.open(host, port, self._tls() if secure else None)
        if port != (443 if secure else 80):
            host = "%s:%d" % (host, port)
        if self._view is None:
            self._view = memoryview(bytearray(_BLOCK_LEN))
        lines = "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: sealband\r\n" % (path, host)
        if at:
            lines += "Range: bytes=%d-\r\n" % at
        connection.send((lines + "Accept-Encoding: identity\r\nConnection: close\r\n\r\n").encode())
        answer, have = self._head(connection)
        # what was not asked for
        if answer.status != 200 and not at:
            raise FetchError(wire.HTTP_STATUS, answer.status)
        return answer, have

    def _head(self, connection):
        view = self._view
        have = 0
        while have < head.HEAD_MAX:
            have += self._read(connection, have, min(have + _HEAD_STEP, head.HEAD_MAX))
            text = bytes(view[:have])
            end = text.find(head.END)
            if end >= 0:
                end += len(head.END)
                have -= end
                view[:have] = text[end:]
                return head.parse(text[:end]), have
            if not text.startswith(b"HTTP/"[:have]):
                break
        raise FetchError(wire.HTTP_MALFORMED)

    def _pace(self, total_ms):
        return Pace(self._limits, total_ms, self._now_ms, self._feed)

    # Made once; every server must show a certificate for its name, in its time, signed by the provisioned CA.
    def _tls(self):
        if self._context is None:
            try:
                self._context = secure.pinned(self._ca)
            except (TypeError, ValueError):
                raise FetchError(wire.TLS_REFUSED)  # there is no CA, or it is no certificate
        return self._context
