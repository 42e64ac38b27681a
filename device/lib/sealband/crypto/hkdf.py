# HMAC-SHA256 (RFC 2104) and HKDF-SHA256 (RFC 5869). Holds no key and knows no label: those are sealwire.keys.
from hashlib import sha256

from micropython import const

_BLOCK_LEN = const(64)
_HASH_LEN = const(32)
_BUFFERS = (bytes, bytearray, memoryview)

# x ^ 0x36 and x ^ 0x5c over a whole block, as big numbers: no loop over bytes
_INNER = int.from_bytes(b"\x36" * 64, "big")
_OUTER = int.from_bytes(b"\x5c" * 64, "big")


# 32 bytes
def hmac_sha256(key, message):
    key = _bytes(key)
    message = _bytes(message)
    if len(key) > _BLOCK_LEN:
        key = sha256(key).digest()
    block = int.from_bytes(key + bytes(_BLOCK_LEN - len(key)), "big")
    digest = sha256((block ^ _INNER).to_bytes(_BLOCK_LEN, "big"))
    digest.update(message)
    message = digest.digest()
    digest = sha256((block ^ _OUTER).to_bytes(_BLOCK_LEN, "big"))
    digest.update(message)
    return digest.digest()


# the pseudorandom key, 32 bytes; no salt is b""
def extract(salt, ikm):
    return hmac_sha256(salt, ikm)


# `length` bytes, 1 to 8160
def expand(prk, info, length):
    info = _bytes(info)
    if isinstance(length, bool) or not isinstance(length, int) or not 0 < length <= 255 * _HASH_LEN:
        raise ValueError("length is not 1 to 8160")
    block = b""
    out = b""
    counter = 0
    while len(out) < length:
        counter += 1
        block = hmac_sha256(prk, block + info + bytes((counter,)))
        out += block
    return out[:length]


# str has the buffer protocol on MicroPython and would pass as a key; a view of wider items would lie about its length
def _bytes(data):
    if isinstance(data, bytes):
        return data
    if isinstance(data, _BUFFERS):
        return bytes(data)
    raise ValueError("%s instead of bytes" % type(data).__name__)
