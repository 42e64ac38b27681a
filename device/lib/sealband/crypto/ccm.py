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
_PIECE_LEN = const(512)
# 0, 1, 2 … in two bytes, behind an empty one: `join` with a prefix makes the counter blocks of a 13-byte nonce
_COUNTERS = [b""] + [bytes((0, i)) for i in range(_PIECE_LEN // 16)]


class AuthError(Exception):
    pass


# ciphertext, then the tag
def encrypt(key, nonce, plaintext, aad, tag_len=8):
    _check(key, nonce, aad, tag_len)
    nonce = bytes(nonce)
    plaintext = _bytes(plaintext)
    mac = _mac(key, nonce, plaintext, aad, tag_len)
    aad = _counter_mode(key, nonce, mac + plaintext)
    return aad[16:] + aad[:tag_len]


# the plaintext, or AuthError; nothing of it leaves before the tag was checked
def decrypt(key, nonce, sealed, aad, tag_len=8):
    _check(key, nonce, aad, tag_len)
    nonce = bytes(nonce)
    sealed = _bytes(sealed)
    if len(sealed) < tag_len:
        raise AuthError("shorter than its tag")
    sealed = _counter_mode(key, nonce, sealed[-tag_len:] + _ZERO[tag_len:] + sealed[:-tag_len])
    key = _mac(key, nonce, sealed[16:], aad, tag_len)
    if int.from_bytes(key[:tag_len], "big") ^ int.from_bytes(sealed[:tag_len], "big"):
        raise AuthError("tag does not match")
    return sealed[16:]


def _check(key, nonce, aad, tag_len):
    if not isinstance(key, _BUFFERS) or len(key) not in (16, 32):
        raise ValueError("key is not 16 or 32 bytes")
    if not isinstance(nonce, _BUFFERS) or not 7 <= len(nonce) <= 13:
        raise ValueError("nonce is not 7 to 13 bytes")
    if not isinstance(aad, _BUFFERS):
        raise ValueError("associated data is not bytes")
    if tag_len not in _TAG_LENS:
        raise ValueError("tag length is not 4, 6, 8, 10, 12, 14 or 16")


def _bytes(text):
    if isinstance(text, bytes):
        return text
    if isinstance(text, _BUFFERS):
        return bytes(text)
    raise ValueError("text is not bytes")


# the 16 bytes that the tag is cut from (SP 800-38C section 6.1)
def _mac(key, nonce, text, aad, tag_len):
    text = _block0(nonce, len(text), aad, tag_len) + _header(aad) + text
    text += _ZERO[: -len(text) & 15]
    if len(text) > _PIECE_LEN:
        return _long_mac(aes(key, _CBC, _ZERO), memoryview(text))
    return aes(key, _CBC, _ZERO).encrypt(text)[-16:]


# SP 800-38C appendix A.2.1
def _block0(nonce, text_len, aad, tag_len):
    size_len = 15 - len(nonce)
    if text_len >> (8 * size_len):
        raise ValueError("text is too long for this nonce")
    return bytes(((64 if aad else 0) + tag_len * 4 + size_len - 9,)) + nonce + text_len.to_bytes(size_len, "big")


# SP 800-38C appendix A.2.2: the associated data behind its length, padded
def _header(aad):
    n = len(aad)
    if n == 0:
        return b""
    aad = (n.to_bytes(2, "big") if n < 0xFF00 else b"\xff\xfe" + n.to_bytes(4, "big")) + aad
    return aad + _ZERO[: -len(aad) & 15]


def _long_mac(cbc, text):
    for begin in range(0, len(text), _PIECE_LEN):
        last = cbc.encrypt(text[begin : begin + _PIECE_LEN])
    return last[-16:]


# `text` xor the key stream, which begins with the block for the MAC (SP 800-38C appendix A.3)
def _counter_mode(key, nonce, text):
    n = len(text)
    if n > _PIECE_LEN:
        return _long_counter_mode(aes(key, _ECB), nonce, text)
    return _xor(text, aes(key, _ECB).encrypt(_counters(nonce, 0, (n + 15) >> 4))[:n], n)


def _long_counter_mode(ecb, nonce, text):
    out = bytearray(len(text))
    for begin in range(0, len(text), _PIECE_LEN):
        piece = text[begin : begin + _PIECE_LEN]
        n = len(piece)
        first = begin >> 4
        out[begin : begin + n] = _xor(piece, ecb.encrypt(_counters(nonce, first, first + ((n + 15) >> 4)))[:n], n)
    return bytes(out)


# the counter blocks from `first` up to, not with, `end`
def _counters(nonce, first, end):
    size_len = 15 - len(nonce)
    prefix = bytes((size_len - 1,)) + nonce
    if size_len == 2 and first == 0:
        return prefix.join(_COUNTERS[: end + 1])
    return b"".join([prefix + i.to_bytes(size_len, "big") for i in range(first, end)])


def _xor(a, b, n):
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(n, "big")
