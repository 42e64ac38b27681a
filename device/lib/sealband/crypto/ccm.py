# AES-CCM (NIST SP 800-38C, RFC 3610) over cryptolib, which has ECB and CBC only. Knows no frame and keeps no nonce:
# never using one twice is sealband.chain's.
# One CBC call with a zero IV over the whole MAC input (its last block is the MAC), one ECB call over all counter
# blocks, one XOR of big numbers; no loop over bytes.
# Timing: AES is the platform's (hardware on the ESP32). The time depends on lengths, not on key or data; the tag is
# compared as one number, after the XOR of all of it, so it does not tell how many bytes of a forgery were right.
# The functions are small on purpose: one that needs more than 11 words of locals and stack gets them from the heap,
# and giving them back makes the next allocation search the heap from there. That cost more than all the rest.
from cryptolib import aes
from micropython import const

_ECB = const(1)
_CBC = const(2)
_ZERO = bytes(16)
_BUFFERS = (bytes, bytearray, memoryview)
_TAG_LENS = (4, 6, 8, 10, 12, 14, 16)
# what is done in one call, more than a frame needs; longer input goes in pieces, for the heap's sake
_PIECE_LEN = const(288)
# 0, 1, 2 … in two bytes, behind an empty one: `join` with a prefix makes the counter blocks of a 13-byte nonce
_COUNTERS = [b""] + [bytes((0, i)) for i in range(_PIECE_LEN // 16)]


class AuthError(Exception):
    pass


# ciphertext, then the tag
def encrypt(key, nonce, plaintext, aad, tag_len=8):
    nonce = _checked_nonce(key, nonce, tag_len)
    plaintext = _bytes(plaintext)
    # from here `aad` is the MAC, then both encrypted: another local would be one too many
    aad = _mac(key, nonce, plaintext, _bytes(aad), tag_len)
    aad = _counter_mode(key, nonce, aad + plaintext)
    return aad[16:] + aad[:tag_len]


# the plaintext, or AuthError; nothing of it leaves before the tag was checked
def decrypt(key, nonce, sealed, aad, tag_len=8):
    nonce = _checked_nonce(key, nonce, tag_len)
    sealed = _bytes(sealed)
    aad = _bytes(aad)
    sealed = _tag_first(sealed, tag_len, nonce)
    sealed = _counter_mode(key, nonce, sealed)
    aad = _mac(key, nonce, sealed[16:], aad, tag_len)
    if _differ(aad[:tag_len], sealed[:tag_len]):
        raise AuthError("tag does not match")
    return sealed[16:]


def _checked_nonce(key, nonce, tag_len):
    if not isinstance(key, _BUFFERS) or len(key) not in (16, 32):
        raise ValueError("key is not 16 or 32 bytes")
    nonce = _bytes(nonce)
    if not 7 <= len(nonce) <= 13:
        raise ValueError("nonce is not 7 to 13 bytes")
    if tag_len not in _TAG_LENS or isinstance(tag_len, float):
        raise ValueError("tag length is not 4, 6, 8, 10, 12, 14 or 16")
    return nonce


# str, too, has the buffer protocol on MicroPython, and a view may be of items that are wider than a byte
def _bytes(data):
    if isinstance(data, bytes):
        return data
    if isinstance(data, _BUFFERS):
        return bytes(data)
    raise ValueError("%s instead of bytes" % type(data).__name__)


# the 16 bytes that the tag is cut from (SP 800-38C section 6.1)
def _mac(key, nonce, text, aad, tag_len):
    nonce = _head(nonce, len(text), len(aad), tag_len)
    if len(aad) + len(text) > _PIECE_LEN:
        return _long_mac(aes(key, _CBC, _ZERO), nonce, aad, text)
    aad = nonce + aad
    aad += _ZERO[: -len(aad) & 15]
    aad += text
    aad += _ZERO[: -len(aad) & 15]
    return aes(key, _CBC, _ZERO).encrypt(aad)[-16:]


# block 0, then the length of the associated data (SP 800-38C appendix A.2)
def _head(nonce, text_len, aad_len, tag_len):
    size_len = 15 - len(nonce)
    if text_len >> (8 * size_len):
        raise ValueError("text is too long for this nonce")
    tag_len = tag_len * 4 + size_len - 9
    if aad_len:
        tag_len += 64
    nonce = bytes((tag_len,)) + nonce + text_len.to_bytes(size_len, "big")
    return nonce + _length(aad_len) if aad_len else nonce


def _length(aad_len):
    return aad_len.to_bytes(2, "big") if aad_len < 0xFF00 else b"\xff\xfe" + aad_len.to_bytes(4, "big")


def _long_mac(cbc, head, aad, text):
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


# `text` xor the key stream, which begins with the block for the MAC (SP 800-38C appendix A.3)
def _counter_mode(key, nonce, text):
    if len(text) > _PIECE_LEN:
        return _long_counter_mode(aes(key, _ECB), nonce, text)
    nonce = _counters(nonce, 0, len(text))
    return _xor(text, aes(key, _ECB).encrypt(nonce))


def _long_counter_mode(ecb, nonce, text):
    out = bytearray(len(text))
    for begin in range(0, len(text), _PIECE_LEN):
        piece = text[begin : begin + _PIECE_LEN]
        out[begin : begin + len(piece)] = _xor(piece, ecb.encrypt(_counters(nonce, begin >> 4, len(piece))))
    return bytes(out)


# the counter blocks for `text_len` bytes, from number `first` on
def _counters(nonce, first, text_len):
    prefix = bytes((14 - len(nonce),)) + nonce
    text_len = (text_len + 15) >> 4
    if first == 0 and len(nonce) == 13:
        return prefix.join(_COUNTERS[: text_len + 1])
    return _any_counters(prefix, first, first + text_len)


def _any_counters(prefix, first, end):
    size_len = 16 - len(prefix)
    return b"".join([prefix + i.to_bytes(size_len, "big") for i in range(first, end)])


def _xor(text, stream):
    n = len(text)
    return (int.from_bytes(text, "big") ^ int.from_bytes(stream[:n], "big")).to_bytes(n, "big")


# as the key stream has it: 16 bytes for the tag, then the text
def _tag_first(sealed, tag_len, nonce):
    if len(sealed) < tag_len:
        raise AuthError("shorter than its tag")
    if (len(sealed) - tag_len) >> (8 * (15 - len(nonce))):
        raise AuthError("longer than its nonce allows")
    return sealed[-tag_len:] + _ZERO[tag_len:] + sealed[:-tag_len]


# not 0 if so; which bytes they are does not change the time
def _differ(a, b):
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")
