"""Firmware images of the virtual chip: what the boot loader takes for one, and what a new board has in its first slot.

The format is ESP-IDF's (esptool documentation, "Firmware Image Format"; esp-idf `esp_image_format.c`):
a header of 24 bytes, segments with their lengths, a checksum byte at the end of a block of 16, SHA-256 of all of it.
Nothing in an image is ever run: the interpreter is the same one whatever the running slot holds. So that a firmware
which crashes can be seen too, an image that contains `DEAD` anywhere does not start.
"""

import hashlib
import struct
from collections.abc import Callable
from functools import reduce
from operator import xor

MAGIC = 0xE9
HEADER = struct.Struct("<BBBBIB3sHBHH4sB")
SEGMENT = struct.Struct("<II")
SEGMENTS_MAX = 16
SEGMENT_LEN_MAX = 16 << 20
CHECKSUM_START = 0xEF
HASH_LEN = 32
MMU_PAGE = 0x10000
CHIP_IDS = {"esp32": 0, "esp32s3": 9}
REVISION = 300  # of the virtual chip, v3.0
# where segments are mapped in place of being loaded (ESP32 technical reference manual, 1.3.3; S3: 4.3)
MAPPED = {
    "esp32": ((0x3F400000, 0x3F800000), (0x400D0000, 0x40400000)),
    "esp32s3": ((0x3C000000, 0x3E000000), (0x42000000, 0x44000000)),
}
DEAD = b"virtual board: this firmware does not start"

Read = Callable[[int, int], bytes]


class ImageInvalid(Exception):
    """The boot loader does not take it; the text says why."""


def check(read: Read, size: int, chip: str) -> int:
    """Check the image in a partition as the boot loader does.

    Args:
        read: (offset, length) → bytes of the partition.
        size: of the partition.
        chip: a key of `CHIP_IDS`.

    Returns:
        The image's length.

    Raises:
        ImageInvalid: it is not one for this chip, or not whole.
    """
    head = read(0, HEADER.size)
    magic, count, _, _, _, _, _, chip_id, _, revision_min, revision_max, _, hashed = HEADER.unpack(head)
    if magic != MAGIC:
        raise ImageInvalid("no magic byte")
    if chip_id != CHIP_IDS[chip]:
        raise ImageInvalid(f"chip id {chip_id}, this is {CHIP_IDS[chip]}")
    if revision_min > REVISION or (revision_max not in (0, 0xFFFF) and revision_max < REVISION):
        raise ImageInvalid("for another revision of the chip")
    if count > SEGMENTS_MAX:
        raise ImageInvalid(f"{count} segments")
    digest = hashlib.sha256(head)
    checksum = CHECKSUM_START
    at = HEADER.size
    for _ in range(count):
        head = _read(read, at, SEGMENT.size, size)
        address, length = SEGMENT.unpack(head)
        at += SEGMENT.size
        if length % 4 or length >= SEGMENT_LEN_MAX:
            raise ImageInvalid(f"segment of {length} bytes")
        if any(low <= address < high for low, high in MAPPED[chip]) and at % MMU_PAGE != address % MMU_PAGE:
            raise ImageInvalid(f"segment for {address:#x} lies at {at:#x}")
        data = _read(read, at, length, size)
        digest.update(head + data)
        checksum = reduce(xor, data, checksum)
        at += length
    tail = _read(read, at, 16 - at % 16, size)
    if tail[-1] != checksum:
        raise ImageInvalid("checksum")
    digest.update(tail)
    at += len(tail)
    if hashed:
        if _read(read, at, HASH_LEN, size) != digest.digest():
            raise ImageInvalid("SHA-256")
        at += HASH_LEN
    return at


def factory(chip: str) -> bytes:
    """The image that a new virtual board has in its first slot: one small segment."""
    data = b"virtual board: as flashed at the factory".ljust(44, b"\0")
    head = HEADER.pack(MAGIC, 1, 2, 0x20, 0x40080000, 0xEE, bytes(3), CHIP_IDS[chip], 0, 0, 0xFFFF, bytes(4), 1)
    image = head + SEGMENT.pack(0x3FFB0000, len(data)) + data
    image += bytes(15 - len(image) % 16) + bytes((reduce(xor, data, CHECKSUM_START),))
    return image + hashlib.sha256(image).digest()


def _read(read: Read, at: int, length: int, size: int) -> bytes:
    if at + length > size:
        raise ImageInvalid("longer than its partition")
    return read(at, length)
