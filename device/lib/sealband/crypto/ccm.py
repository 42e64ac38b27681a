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

from sealband import once

_ECB = const(1)
_CBC = const(2)
_ZERO = bytes(16)
_BUFFERS = (bytes, bytearray, memoryview)
_TAG_LENS = (4, 6, 8, 10, 12, 14, 16)
# what is done in one call, more than a frame needs; longer input goes in pieces, for the heap's sake
_PIECE_LEN = const(288)


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
        return _long().mac(aes(key, _CBC, _ZERO), nonce, aad, text)
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


# for what no frame needs
def _long():
    return once("sealband.crypto.ccmlong")


# `text` xor the key stream, which begins with the block for the MAC (SP 800-38C appendix A.3)
def _counter_mode(key, nonce, text):
    if len(text) > _PIECE_LEN or len(nonce) < 13:
        return _long().counter_mode(aes(key, _ECB), nonce, text)
    nonce = _counters(nonce, (len(text) + 15) >> 4)
    return _xor(text, aes(key, _ECB).encrypt(nonce))


# the first counter blocks of a 13-byte nonce
def _counters(nonce, count):
    nonce = bytearray((b"\x01" + nonce + b"\0\0") * count)
    for i in range(count):
        nonce[16 * i + 15] = i
    return nonce


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
