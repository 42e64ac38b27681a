"""Just enough of DNS (RFC 1035) to look up an IPv4 address: queries and answers as bytes, both ends."""

import socket
import struct

A, IN = 1, 1
TTL_S = 60
NAME_ERROR, NOT_IMPLEMENTED = 3, 4


def query(name: str, identifier: int) -> bytes:
    """A question for the address of a name.

    Raises:
        ValueError: it is no name.
    """
    labels = name.rstrip(".").encode("ascii").split(b".")
    if not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        raise ValueError("no host name")
    question = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return struct.pack(">HHHHHH", identifier, 0x0100, 1, 0, 0, 0) + question + struct.pack(">HH", A, IN)


def answer(message: bytes) -> bytes | None:
    """What a name server says to a question, asking the host's resolver; None: it is no question. May block."""
    if len(message) < 17 or message[2] & 0xF8 or message[4:6] != b"\0\1":
        return None
    end, name = _name(message)
    if name is None or len(message) < end + 4:
        return None
    kind, family = struct.unpack(">HH", message[end : end + 4])
    question = message[12 : end + 4]
    if (kind, family) != (A, IN):
        return message[:2] + struct.pack(">HHHHH", 0x8180 | NOT_IMPLEMENTED, 1, 0, 0, 0) + question
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[:1]
    except (OSError, UnicodeError):
        found = []
    head = struct.pack(">HHHHH", 0x8180 | (0 if found else NAME_ERROR), 1, len(found), 0, 0)
    records = b"".join(
        struct.pack(">HHHIH", 0xC00C, A, IN, TTL_S, 4) + socket.inet_aton(str(one[4][0])) for one in found
    )
    return message[:2] + head + question + records


def _name(message: bytes) -> tuple[int, str | None]:
    labels: list[bytes] = []
    at = 12
    while at < len(message):
        length = message[at]
        if length == 0:
            return at + 1, b".".join(labels).decode("ascii", "replace")
        if length > 63 or len(labels) > 63:
            return at, None
        labels.append(message[at + 1 : at + 1 + length])
        at += 1 + length
    return at, None


def address(message: bytes, identifier: int) -> bytes | None:
    """The address in an answer: four bytes, empty when there is no such name; None: it is no answer to this."""
    if len(message) < 12 or message[:2] != identifier.to_bytes(2, "big") or not message[2] & 0x80:
        return None
    count = int.from_bytes(message[6:8], "big")
    end, name = _name(message)
    at = end + 4
    if name is None or message[3] & 15 or not count:
        return b""
    while count and at + 12 <= len(message):
        count -= 1
        if message[at] < 0xC0:
            return b""  # a name server that does not compress is not ours
        kind, family, _, length = struct.unpack(">HHIH", message[at + 2 : at + 12])
        if (kind, family, length) == (A, IN, 4) and at + 16 <= len(message):
            return message[at + 12 : at + 16]
        at += 12 + length
    return b""
