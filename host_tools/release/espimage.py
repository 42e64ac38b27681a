"""An ESP32 application image, checked before it is made a release: whole, for the right chip, and nothing behind it.

Format: esptool documentation, "Firmware Image Format". A header of 24 bytes, segments with address and length, a
checksum as the last byte of a block of 16, SHA-256 of all before it. What the chip's own loader refuses would cost each
device a download. Pure.
"""

import hashlib
import struct
from functools import reduce
from operator import xor

MAGIC = 0xE9
# boards.chips.CHIPS has the same names
CHIP_IDS = {"esp32": 0, "esp32s3": 9}
SEGMENTS_MAX = 16
_HEADER = struct.Struct("<BBBBIB3sHBHH4sB")
_SEGMENT = struct.Struct("<II")
_CHECKSUM_START = 0xEF
_HASH_LEN = 32


class FirmwareRefused(Exception):
    """No board would start these bytes as firmware."""

    remedy = "take the application image alone: MicroPython's build calls it micropython.bin, its downloads .app-bin"


def check(image: bytes, chip: str, partition_len: int) -> None:
    """Check an image for a chip and the size of the partition that it goes into.

    Raises:
        FirmwareRefused: it is none, is for another chip, is not whole, does not fit, or has something behind its end.
    """
    if image[:1] != bytes([MAGIC]):
        raise FirmwareRefused("the file is no ESP32 image: it does not begin with E9")
    if len(image) > partition_len:
        raise FirmwareRefused(f"the image has {len(image)} bytes, its partition {partition_len}")
    if len(image) < _HEADER.size:
        raise FirmwareRefused("the image is cut short")
    _, count, *_, chip_id, _, _, _, _, hashed = _HEADER.unpack_from(image)
    if chip_id != CHIP_IDS[chip]:
        raise FirmwareRefused(f"the image is for chip {chip_id}; {chip} is {CHIP_IDS[chip]}")
    if not 1 <= count <= SEGMENTS_MAX:
        raise FirmwareRefused(f"the image has {count} segments; there are 1 to {SEGMENTS_MAX}")
    at, checksum = _HEADER.size, _CHECKSUM_START
    for _ in range(count):
        if at + _SEGMENT.size > len(image):
            raise FirmwareRefused("the image is cut short")
        _, length = _SEGMENT.unpack_from(image, at)
        at += _SEGMENT.size
        checksum = reduce(xor, image[at : at + length], checksum)
        at += length
    at += 16 - at % 16
    end = at + (_HASH_LEN if hashed else 0)
    if end > len(image):
        raise FirmwareRefused("the image is cut short")
    if image[at - 1] != checksum:
        raise FirmwareRefused("the image's checksum is wrong")
    if hashed and image[at:end] != hashlib.sha256(image[:at]).digest():
        raise FirmwareRefused("the image's SHA-256 is wrong")
    if end != len(image):
        raise FirmwareRefused(f"{len(image) - end} bytes follow the image: it may be the one for the whole flash")
