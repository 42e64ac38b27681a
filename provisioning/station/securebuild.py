"""A custom build for a closed chip: what it consists of, and the checks that it is one.

`build.toml` names every part with its SHA-256, and the public key that secure boot will trust. A part that the chip
starts must carry a signature by that key (espsecure checks it): MicroPython's own downloads carry none and are
refused. What cannot be seen from outside is whether the build was configured for flash encryption and NVS encryption;
that is for whoever builds it to answer for, and the digests say which build it was.

    format = "sealband/1 secure build"
    chip = "esp32s3"
    secure_boot_key = "secure-boot.pub.pem"

    [[parts]]
    file = "bootloader.bin"
    sha256 = "…"
    offset = 0x0
    signed = true
    encrypted = true
"""

import hashlib
import itertools
import os
import re
import stat
import struct
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioning.station.flash import FlashError, run
from provisioning.station.secure import KEY_LEN, SecureRefused

ESPSECURE = (sys.executable, "-P", "-m", "espsecure")
FORMAT = "sealband/1 secure build"
TIMEOUT_S = 60.0
PART_MAX = 16 << 20
BUILD_MAX = 64 << 10
BOOT_LOADER_AT = {"esp32": 0x1000, "esp32s3": 0}
CHIP_IDS = {"esp32": 0, "esp32s3": 9}
_IMAGE_MAGIC = 0xE9
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BUILD_KEYS = {"format", "chip", "secure_boot_key", "parts"}
_PART_KEYS = {"file", "sha256", "offset", "signed", "encrypted"}


@dataclass(frozen=True)
class Part:
    """One image.

    Attributes:
        file: its name beside `build.toml`.
        data: its bytes, checked.
        offset: where in the flash it belongs.
        signed: secure boot checks it.
        encrypted: it lies in the flash encrypted.
    """

    file: str
    data: bytes
    offset: int
    signed: bool
    encrypted: bool


@dataclass(frozen=True)
class Build:
    """A build that passed every check.

    Attributes:
        chip: what it is for.
        key: path of the public key that signed it.
        key_digest: what the chip is told of that key.
        parts: by their offset.
    """

    chip: str
    key: Path
    key_digest: bytes
    parts: tuple[Part, ...]


def load(path: Path, espsecure: Sequence[str] = ESPSECURE) -> Build:
    """Read `build.toml` and check everything that it names.

    Raises:
        SecureRefused: it is malformed, a file is another than it names, or what the chip starts is not signed.
        OSError: a file cannot be read.
    """
    try:
        table = tomllib.loads(_read(path, BUILD_MAX).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _malformed(path, str(error)) from None
    if set(table) != _BUILD_KEYS or table["format"] != FORMAT:
        raise _malformed(path, f"it has not the keys {', '.join(sorted(_BUILD_KEYS))}, or another format")
    chip = table["chip"]
    if chip not in CHIP_IDS:
        raise _malformed(path, "chip is neither esp32 nor esp32s3")
    if not isinstance(table["parts"], list) or not table["parts"]:
        raise _malformed(path, "it has no parts")
    parts = tuple(sorted((_part(path, row) for row in table["parts"]), key=lambda part: part.offset))
    for before, after in itertools.pairwise(parts):
        if before.offset + len(before.data) > after.offset:
            raise _malformed(path, f"{before.file} and {after.file} overlap")
    key = path.parent / _name(path, table["secure_boot_key"])
    signed = [part for part in parts if part.signed]
    if len(signed) < 2 or signed[0].offset != BOOT_LOADER_AT[chip]:
        raise SecureRefused(
            f"{path}: neither is a boot loader at {BOOT_LOADER_AT[chip]:#x} signed, nor an application behind it",
            "sign both: espsecure sign-data --version 2",
        )
    for part in signed:
        _check_image(part, chip)
        if not part.encrypted:
            raise SecureRefused(f"{part.file} is started and not encrypted", "set encrypted = true")
    with tempfile.TemporaryDirectory(prefix="sealband-secure-") as scratch:
        for part in signed:
            _check_signature(part, key, Path(scratch), espsecure)
        out = Path(scratch) / "digest"
        words = ["digest-sbv2-public-key", "--keyfile", str(key), "--output", str(out)]
        status, text = run([*espsecure, *words], TIMEOUT_S)
        if status or not out.exists() or out.stat().st_size != KEY_LEN:
            raise SecureRefused(f"{key} is no key for secure boot: {_last(text)}", "espsecure extract-public-key")
        digest = out.read_bytes()
    return Build(chip, key, digest, parts)


def encrypted(part: Part, chip: str, key_file: Path, espsecure: Sequence[str] = ESPSECURE) -> bytes:
    """A part as it lies in the flash of the chip that has this key; raises SecureRefused."""
    if not part.encrypted:
        return part.data
    with tempfile.TemporaryDirectory(prefix="sealband-secure-") as scratch:
        plain, out = Path(scratch) / "plain", Path(scratch) / "encrypted"
        plain.write_bytes(part.data + b"\xff" * (-len(part.data) % 32))
        words = ["encrypt-flash-data", "--keyfile", str(key_file), "--address", f"{part.offset:#x}"]
        words += ["--aes-xts"] if chip != "esp32" else ["--flash-crypt-conf", "0xf"]
        status, text = run([*espsecure, *words, "--output", str(out), str(plain)], TIMEOUT_S)
        if status or not out.exists():
            raise SecureRefused(f"{part.file} cannot be encrypted: {_last(text)}", "see espsecure")
        return out.read_bytes()


def create_flash_key(path: Path) -> None:
    """Make a key for one chip, in a file that nobody else can read; raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(os.urandom(KEY_LEN))
        file.flush()
        os.fsync(file.fileno())


def read_flash_key(path: Path) -> bytes:
    """The key for one chip's flash.

    Raises:
        SecureRefused: others can read the file, or it holds no key.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SecureRefused(f"{path} is no file", "make a key: --new-flash-key")
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise SecureRefused(f"{path} can be read by others", "make a new key: what others can read is no secret")
        data = file.read(KEY_LEN + 1)
    if len(data) != KEY_LEN or len(set(data)) < 8:
        raise SecureRefused(f"{path} holds no key of {KEY_LEN} random bytes", "make one: --new-flash-key")
    return data


def fingerprint(flash_key: bytes) -> str:
    """What a protocol says of a key, by which it is known again and not found."""
    return hashlib.sha256(b"sealband/1 flash key" + flash_key).hexdigest()[:32]


def _part(path: Path, row: Any) -> Part:
    if not isinstance(row, dict) or set(row) != _PART_KEYS:
        raise _malformed(path, f"a part has not the keys {', '.join(sorted(_PART_KEYS))}")
    name, offset = _name(path, row["file"]), row["offset"]
    if type(offset) is not int or not 0 <= offset < 1 << 28 or offset % 4096:
        raise _malformed(path, f"{name}: offset is no multiple of 4096")
    if type(row["signed"]) is not bool or type(row["encrypted"]) is not bool:
        raise _malformed(path, f"{name}: signed and encrypted are true or false")
    if not isinstance(row["sha256"], str) or not _DIGEST.fullmatch(row["sha256"]):
        raise _malformed(path, f"{name}: sha256 is not 64 hex digits")
    data = _read(path.parent / name, PART_MAX)
    if (found := hashlib.sha256(data).hexdigest()) != row["sha256"]:
        raise SecureRefused(f"{name} has SHA-256 {found}, not {row['sha256']}", "take the file that was built")
    return Part(name, data, offset, row["signed"], row["encrypted"])


def _name(path: Path, value: Any) -> str:
    if not isinstance(value, str) or not _FILE.fullmatch(value):
        raise _malformed(path, f"{value!r} is no name of a file beside it")
    return value


def _check_image(part: Part, chip: str) -> None:
    # esptool documentation, "Firmware Image Format": the chip's number is in bytes 12 and 13
    if len(part.data) < 24 or part.data[0] != _IMAGE_MAGIC:
        raise SecureRefused(f"{part.file} is no image that an ESP32 starts", "take the signed image")
    if struct.unpack_from("<H", part.data, 12)[0] != CHIP_IDS[chip]:
        raise SecureRefused(f"{part.file} is not for the {chip}", "take the build for this chip")


def _check_signature(part: Part, key: Path, scratch: Path, espsecure: Sequence[str]) -> None:
    image = scratch / part.file
    image.write_bytes(part.data)
    words = ["verify-signature", "--version", "2", "--keyfile", str(key), str(image)]
    try:
        status, text = run([*espsecure, *words], TIMEOUT_S)
    except FlashError as error:
        raise SecureRefused(str(error), error.remedy) from error
    if status:
        raise SecureRefused(
            f"{part.file} is not signed by {key.name}: {_last(text)}",
            "sign it: espsecure sign-data --version 2. MicroPython's own downloads are not signed and cannot be used",
        )


def _malformed(path: Path, what: str) -> SecureRefused:
    return SecureRefused(f"{path}: {what}", "see provisioning/README.md for its form")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "".join(c if c.isprintable() else " " for c in lines[-1][:200]) if lines else "it says nothing"


def _read(path: Path, limit: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise SecureRefused(f"{path} is no file", "name a file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise SecureRefused(f"{path} has more than {limit} bytes", "name the right file")
    return data
