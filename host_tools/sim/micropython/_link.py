# The board's line to its supervisor: one request, one answer. Not part of the chip's API; the simulated modules use it.
#
# A request is one letter, a sequence number and the arguments; an answer is the sequence number, a status and the
# result (the letters are listed in host_tools/sim/peripherals.py). Both are datagrams of a SEQPACKET socket, so that a
# Control-C between sending and receiving loses nothing but that answer: the next caller drops it by its number.
import os
import struct

import usocket as socket

_path = os.getenv("SEALBAND_SIM_LINK")
_socket = None
if _path:
    _address = b"\0" + _path[1:].encode() if _path[0] == "@" else _path.encode()
    _socket = socket.socket(socket.AF_UNIX, 5)  # SOCK_SEQPACKET
    _socket.connect(struct.pack("H", socket.AF_UNIX) + _address)
_sequence = 0


def call(op, data=b"", size=64):
    # op: a letter as bytes, or two; size: the longest result that is expected
    global _sequence
    if _socket is None:
        raise OSError(19)  # ENODEV
    _sequence = (_sequence + 1) & 0xFF
    _socket.send(op[:1] + bytes((_sequence,)) + op[1:] + data)
    return _answer(size)


# The same for a request in a buffer of the caller's, where its second byte is free: nothing long is allocated.
def post(view):
    global _sequence
    if _socket is None:
        raise OSError(19)  # ENODEV
    _sequence = (_sequence + 1) & 0xFF
    view[1] = _sequence
    _socket.send(view)
    return _answer(64)


def _answer(size):
    while True:
        answer = _socket.recv(max(size, 64) + 2)
        if not answer:
            raise SystemExit(1)  # no supervisor, no board
        if answer[0] == _sequence:
            break
    if answer[1] == 0:
        return answer[2:]
    text = str(answer[4:], "utf-8")
    if answer[1] == 1:
        code = struct.unpack(">h", answer[2:4])[0]
        raise OSError(code, text) if text else OSError(code)
    raise ValueError(text)


# what the supervisor says at start: the clock's line, the RTC, why the board starts, who it is, what to run
if _socket:
    _hello = call(b"h")
else:
    # no board: device tests import these modules too; real time, and no hardware
    _hello = struct.pack(">qqIIqBB6sBI", 0, 0, 1, 1, 946684800000000000, 1, 0, bytes(6), 1, 0)
real0, virtual0, num, den, rtc0, cause, wake, mac, run_main, flash_left = struct.unpack(">qqIIqBB6sBI", _hello)
