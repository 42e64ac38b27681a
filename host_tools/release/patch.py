"""What is delivered in place of an image: raw deflate of the image, or of a patch to it from an image that runs.

Firmware is delivered in sections, each a deflate stream of its own, since a device writes it as it comes: after an
interruption it goes on where a section begins.

Format of a patch: sealwire.update PATCH_* (magic, SHA-256 of the base, length of the image; then steps of three numbers
and two runs). The steps come from `bsdiff4`; what it gives as differences becomes XOR here, which a small chip undoes
in blocks. Delivery is not signed: the image's digest decides. Pure, and written apart from the device's code.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator

import bsdiff4.core

from sealwire.update import BLOCK_LEN, PATCH_HEAD, PATCH_MAGIC, WINDOW_BITS

SECTION = 1 << 16  # bytes of a firmware image; any multiple of BLOCK_LEN
PLAIN_MAX = 16 << 20  # bytes that a patch may inflate to here; devices allow less
_LEVEL = 9
_MEMORY = 9
_TRIPLE = 24  # bytes of bsdiff4's control data a step
_NUMBER_MAX = 5  # bytes of a LEB128 number that devices read
_HEAD_LEN = struct.calcsize(PATCH_HEAD)


class PatchError(Exception):
    """A patch is none, is for another base, or leads outside of base or image."""

    remedy = "make it anew from the images themselves"


def deflate(data: bytes) -> bytes:
    """Raw deflate (RFC 1951) with a window that devices have the memory for."""
    squeezer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -WINDOW_BITS, _MEMORY)
    return squeezer.compress(data) + squeezer.flush()


def inflate(data: bytes, limit: int) -> bytes:
    """Undo `deflate`.

    Args:
        data: one complete deflate stream and nothing else.
        limit: how many bytes may come out.

    Raises:
        PatchError: it is no such stream, or more comes out.
    """
    out, rest = _inflate_one(data, limit)
    if rest:
        raise PatchError("something follows it")
    return out


def deflate_sections(data: bytes) -> bytes:
    """A firmware image as it is delivered: a deflate stream for each `SECTION`, one behind the other."""
    return b"".join(deflate(data[at : at + SECTION]) for at in range(0, len(data), SECTION))


def inflate_sections(data: bytes, limit: int) -> bytes:
    """Undo `deflate_sections`, also with sections of other lengths: as devices do, one of them may be the whole image.

    Args:
        data: deflate streams and nothing else.
        limit: how many bytes may come out.

    Raises:
        PatchError: there is something else, more comes out, or a section begins in the middle of a block.
    """
    out = bytearray()
    while data:
        if len(out) % BLOCK_LEN:
            raise PatchError(f"a section begins in the middle of a block of {BLOCK_LEN} bytes")
        section, data = _inflate_one(data, limit - len(out))
        if not section:
            raise PatchError("a section is empty")
        out += section
    return bytes(out)


def _inflate_one(data: bytes, limit: int) -> tuple[bytes, bytes]:
    # what the first stream inflates to, and what follows it
    unsqueezer = zlib.decompressobj(-WINDOW_BITS)
    try:
        out = unsqueezer.decompress(data, limit + 1)
    except zlib.error as error:
        raise PatchError(f"it is no deflate stream: {error}") from None
    if len(out) > limit:
        raise PatchError(f"it inflates to more than {limit} bytes")
    if not unsqueezer.eof:
        raise PatchError("it is cut short")
    return out, unsqueezer.unused_data


def make(base: bytes, image: bytes) -> bytes:
    """The patch that makes `image` of `base`, deflated; applied once before it is given out.

    Raises:
        PatchError: it does not lead to the image, which is a defect.
    """
    head = struct.pack(PATCH_HEAD, PATCH_MAGIC, hashlib.sha256(base).digest(), len(image))
    patch = deflate(head + b"".join(_step(*step) for step in _steps(base, image)))
    if apply(base, patch) != image:
        raise PatchError("the patch that was made does not lead to the image")
    return patch


def apply(base: bytes, patch: bytes) -> bytes:
    """The image that a deflated patch makes of a base.

    Raises:
        PatchError: it is no patch, is for another base, or reads or writes outside of base or image.
    """
    plain = inflate(patch, PLAIN_MAX)
    if len(plain) < _HEAD_LEN:
        raise PatchError("it is too short for a patch")
    magic, digest, length = struct.unpack_from(PATCH_HEAD, plain)
    if magic != PATCH_MAGIC:
        raise PatchError("it is no patch")
    if digest != hashlib.sha256(base).digest():
        raise PatchError("it is for another base")
    image = bytearray()
    at, position = _HEAD_LEN, 0
    while len(image) < length:
        (copied, added, seek), at = _numbers(plain, at)
        if position + copied > len(base) or len(image) + copied + added > length:
            raise PatchError("it reads outside the base or writes outside the image")
        if at + copied + added > len(plain):
            raise PatchError("it is cut short")
        image += _xor(plain[at : at + copied], base[position : position + copied])
        image += plain[at + copied : at + copied + added]
        at += copied + added
        position += copied + (seek >> 1 ^ -(seek & 1))
        if not 0 <= position <= len(base):
            raise PatchError("it moves outside the base")
    if at != len(plain):
        raise PatchError("something follows the last step")
    return bytes(image)


def _steps(base: bytes, image: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    # (differences from the base, bytes of its own, move in the base) as bsdiff4 finds them
    control, _, _ = bsdiff4.core.diff(base, image)
    position = done = 0
    for at in range(0, len(control), _TRIPLE):
        copied, added, seek = (
            bsdiff4.core.decode_int64(control[at + offset : at + offset + 8]) for offset in (0, 8, 16)
        )
        middle = done + copied
        delta = _xor(image[done:middle], base[position : position + copied])
        done = middle + added
        position += copied + seek
        # where the base is left after the last step is of no use to anybody
        yield delta, image[middle:done], seek if done < len(image) else 0


def _step(delta: bytes, extra: bytes, seek: int) -> bytes:
    zigzag = 2 * seek if seek >= 0 else -2 * seek - 1
    return _number(len(delta)) + _number(len(extra)) + _number(zigzag) + delta + extra


def _number(value: int) -> bytes:
    # LEB128: seven bits a byte, the lowest first
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _numbers(data: bytes, at: int) -> tuple[list[int], int]:
    values = []
    for _ in range(3):
        value = 0
        for index, byte in enumerate(data[at : at + _NUMBER_MAX]):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                at += index + 1
                break
        else:
            raise PatchError("it has a number that does not end")
        values.append(value)
    return values, at


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "little") ^ int.from_bytes(other, "little")).to_bytes(len(one), "little")
