# What ccm.py needs for more than 288 bytes, or for a nonce of another length than a frame's. Loaded for it; it goes
# piece by piece, for the heap's sake.
from micropython import const

_PIECE_LEN = const(288)  # as ccm.py
_ZERO = bytes(16)


# what CBC makes of the last block
def mac(cbc, head, aad, text):
    last = _absorb(cbc, head, memoryview(aad))
    return _absorb(cbc, b"", memoryview(text)) or last


# the last block that came out, or nothing if nothing went in
def _absorb(cbc, head, data):
    begin = (-len(head) & 15) + _PIECE_LEN
    piece = head + data[:begin]
    last = b""
    while piece:
        last = cbc.encrypt(piece + _ZERO[: -len(piece) & 15])
        piece = bytes(data[begin : begin + _PIECE_LEN])
        begin += _PIECE_LEN
    return last[-16:]


# `text` xor the key stream
def counter_mode(ecb, nonce, text):
    prefix = bytes((14 - len(nonce),)) + nonce
    out = bytearray(len(text))
    for begin in range(0, len(text), _PIECE_LEN):
        piece = text[begin : begin + _PIECE_LEN]
        n = len(piece)
        stream = ecb.encrypt(_counters(prefix, begin >> 4, (n + 15) >> 4))
        both = int.from_bytes(piece, "big") ^ int.from_bytes(stream[:n], "big")
        out[begin : begin + n] = both.to_bytes(n, "big")
    return bytes(out)


# so many counter blocks, from number `first` on
def _counters(prefix, first, count):
    size_len = 16 - len(prefix)
    return b"".join([prefix + i.to_bytes(size_len, "big") for i in range(first, first + count)])
