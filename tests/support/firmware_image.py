"""Makes small firmware images in ESP-IDF's format, written from its documentation apart from `host_tools.sim.firmware`.

"Firmware Image Format" (esptool documentation): common header (8 bytes: magic, segments, flash mode, size and
frequency, entry), extended header (16 bytes: WP pin, three of drive settings, chip id, revisions, four reserved, hash
appended), segments (address, length, data), zeros up to the last byte of a block of 16, the XOR of 0xEF and all data
there, and SHA-256 of everything before.
"""

import hashlib
import struct
import subprocess
import sys

ESP32, ESP32_S3 = 0, 9
RAM = 0x3FFB0000  # data memory: loaded, no alignment to pages
ESPTOOL_S = 60.0


def make(
    data: bytes = b"firmware",
    *,
    chip: int = ESP32,
    segments: int = 1,
    address: int = RAM,
    hashed: bool = True,
    revision_min: int = 0,
) -> bytes:
    """An image whose segments are so many copies of the data, padded to words."""
    data += bytes(-len(data) % 4)
    out = bytearray(struct.pack("<4BI", 0xE9, segments, 2, 0x20, 0x40080000))
    out += bytes([0xEE, 0, 0, 0]) + struct.pack("<HBHH", chip, 0, revision_min, 0xFFFF) + bytes(4) + bytes([hashed])
    checksum = 0xEF
    for _ in range(segments):
        out += struct.pack("<II", address, len(data)) + data
        for byte in data:
            checksum ^= byte
    while len(out) % 16 != 15:
        out.append(0)
    out.append(checksum)
    return bytes(out + hashlib.sha256(out).digest()) if hashed else bytes(out)


def esptool_says(path: str) -> str | None:
    """What esptool reports of an image file, or None if it is not installed."""
    command = [sys.executable, "-m", "esptool", "image-info", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ESPTOOL_S, check=False)
    return None if "No module named" in done.stderr else done.stdout + done.stderr
