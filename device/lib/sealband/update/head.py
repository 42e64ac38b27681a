# The head of an HTTP/1.x response: what is believed of it. Pure: reads bytes that have come.
#
# Status 200, 206 and 416 are read on, every other one ends the request. One Content-Length of decimal digits decides
# where a body ends; with two, or with a Transfer-Encoding, two readers could disagree about it.
from micropython import const

from sealwire import update as wire

HEAD_MAX = const(2048)  # bytes, the empty line included
END = b"\r\n\r\n"
_DIGITS_MAX = const(9)
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"


# Why nothing came: a code of sealwire.update, and the HTTP status, or 0.
class FetchError(Exception):
    def __init__(self, code, status=0):
        super().__init__(code, status)
        self.code = code
        self.status = status


class Head:
    def __init__(self, status):
        self.status = status
        self.length = None  # of the body that follows
        self.first = None  # where in the file it begins; None: the range is not given, or malformed
        self.total = None  # of the file


def _malformed(status=0):
    return FetchError(wire.HTTP_MALFORMED, status)


# None: no decimal number
def _number(text):
    if not 0 < len(text) <= _DIGITS_MAX or not text.isdigit():
        return None
    return int(text)


# `bytes first-last/total` to the end of the file, or `bytes */total`
def _range(head, value):
    if not value.startswith(b"bytes "):
        return
    reach, mark, total = value[6:].partition(b"/")
    total = _number(total)
    if not mark or total is None:
        return
    if reach == b"*":
        head.total = total
        return
    first, _, last = reach.partition(b"-")
    first, last = _number(first), _number(last)
    if first is not None and last is not None and first <= last == total - 1:
        head.first, head.total = first, total


# The head of a response, from its first byte up to the empty line, or FetchError.
def parse(data):
    at = data.find(b"\r\n")
    line = data[:at]
    status = _number(line[9:12])
    if line[:9] not in (b"HTTP/1.1 ", b"HTTP/1.0 ") or status is None or status < 100 or line[12:13] not in (b"", b" "):
        raise _malformed()
    if status not in (200, 206, 416):
        raise FetchError(wire.HTTP_STATUS, status)
    head = Head(status)
    seen = []
    while True:
        start = at + 2
        at = data.find(b"\r\n", start)
        line = data[start:at]
        if not line:
            break
        name, mark, value = line.partition(b":")
        name = name.lower()
        # a bare CR or LF is a line's end to some; a space before the colon, or in front, a continuation
        if not mark or not name or b"\r" in line or b"\n" in line:
            raise _malformed(status)
        for character in name:
            if character not in _TOKEN:
                raise _malformed(status)
        _take(head, seen, name, value.strip())
    if status != 416 and head.length is None:
        raise _malformed(status)
    return head


def _take(head, seen, name, value):
    if name == b"content-range":
        if name in seen:
            raise _malformed(head.status)
        seen.append(name)
        _range(head, value)
    elif head.status == 416:
        pass  # its body is not read
    elif name == b"content-length":
        head.length = _number(value)
        if name in seen or head.length is None:
            raise _malformed(head.status)
        seen.append(name)
    elif name == b"transfer-encoding" or (name == b"content-encoding" and value != b"identity"):
        raise _malformed(head.status)
