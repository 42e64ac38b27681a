"""The production profile: which eFuses close a chip for good, in which order, and what of it is there already. Pure.

Names and order follow ESP-IDF's "Host-Based Security Workflows" and "Security Features Enablement Workflows" for ESP32
and ESP32-S3 and espefuse's own summary: keys first, then what limits the loader and the debug ports, then secure boot
and flash encryption, then what keeps the rest from being changed, and last the loader itself, after which nothing can
be read back any more. An eFuse is a bit that goes from 0 to 1 and never back: no step can be undone.

Which firmware such a chip starts is checked in `provisioning.station.securebuild`, the burning is done in
`provisioning.station.efuses`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

PROFILES = ("production",)
KEY_LEN = 32
DIGEST_KEY, FLASH_KEY = "{secure-boot-key}", "{flash-key}"  # stand for files in a step's command
State = Literal["open", "done", "conflict"]
Loader = Literal["closed", "secure"]
_RAW = re.compile(r"0x([0-9a-fA-F]{1,64})")
_MAC = re.compile(r"((?:[0-9a-f]{2}:){5}[0-9a-f]{2}) \(.{0,20}OK\)")

# what no eFuse and no Sealband makes good while the firmware is MicroPython's own download
STOCK_LACKS = (
    "Secure boot: MicroPython's downloads are not signed. Whoever has the board and a cable can flash other firmware.",
    "Flash encryption: they are built without it. The flash chip, and the keys in NVS, can be read out.",
    "NVS encryption: it needs a build with CONFIG_NVS_ENCRYPTION and a key partition. Without it NVS is plain text.",
    "The HMAC and DS peripherals: no module gives them to Python. Keys lie in NVS and in RAM, not in hardware.",
    "Debug ports: JTAG and the loader are open until eFuses close them, and that is only worth doing with both above.",
)


class SecureRefused(Exception):
    """The chip is not changed, or not changed any further."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Fuse:
    """A field of eFuses.

    Attributes:
        data: its value, most significant byte first; of a key block the bytes in their order.
        readable, writeable: as the chip's protection bits have it.
    """

    data: bytes
    readable: bool
    writeable: bool

    @property
    def value(self) -> int:
        """As a number."""
        return int.from_bytes(self.data, "big")


@dataclass(frozen=True)
class Want:
    """What a field is to be; None: no matter.

    Attributes:
        fuse: its name in espefuse's summary.
        data: its value.
        secret: the value is a key that is hidden in the end.
        readable, writeable: its protection.
    """

    fuse: str
    data: bytes | None = None
    secret: bool = False
    readable: bool | None = None
    writeable: bool | None = None

    def state(self, fuses: Mapping[str, Fuse], key_known: bool) -> State:
        """Whether it is so already, can still be made so, or never can.

        Args:
            fuses: the chip's.
            key_known: the hidden key is known to be the right one.
        """
        fuse = fuses.get(self.fuse)
        if fuse is None:
            return "conflict"
        if self.readable is False and fuse.readable:
            return "open"
        if self.readable is True and not fuse.readable:
            return "conflict"
        if self.data is not None:
            if self.secret and not fuse.readable:
                return "done" if key_known else "conflict"
            if fuse.value != int.from_bytes(self.data, "big"):
                blocked = fuse.value & ~int.from_bytes(self.data, "big") or not fuse.writeable
                # a key block is written once: it has check bits beside it
                partly = len(self.data) == KEY_LEN and fuse.value
                return "conflict" if blocked or partly else "open"
        if self.writeable is False and fuse.writeable:
            return "open"
        return "done"


@dataclass(frozen=True)
class Step:
    """One call of espefuse.

    Attributes:
        name: of the step, also in the protocol.
        command: espefuse's arguments; `DIGEST_KEY` and `FLASH_KEY` stand for files.
        wants: what is read back afterwards.
        why: for people.
        state: what of it is there already.
    """

    name: str
    command: tuple[str, ...]
    wants: tuple[Want, ...]
    why: str
    state: State = "open"

    @property
    def fuses(self) -> frozenset[str]:
        """The fields that it may change."""
        return frozenset(want.fuse for want in self.wants)


@dataclass(frozen=True)
class Plan:
    """What is to be done with one chip.

    Attributes:
        chip: as a board definition names it.
        mac: six bytes.
        steps: in their order, all of them.
    """

    chip: str
    mac: bytes
    steps: tuple[Step, ...]

    @property
    def open(self) -> tuple[Step, ...]:
        """Those that are still to be done."""
        return tuple(step for step in self.steps if step.state == "open")

    @property
    def starts_encrypted(self) -> bool:
        """Whether the chip decrypts or checks what it starts already, so that its flash must not be written plainly."""
        return any(step.state == "done" for step in self.steps if step.name in _ENABLING)


def fuses(summary: str) -> dict[str, Fuse]:
    """The fields in what `espefuse summary --format json` prints.

    Raises:
        SecureRefused: it is not that.
    """
    start = summary.find("\n{\n")
    try:
        rows, _ = json.JSONDecoder().raw_decode(summary[start + 1 :])
        return {str(name): _mac(row) if name == "MAC" else _fuse(row) for name, row in rows.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SecureRefused("espefuse printed no summary", "check the port and the version of esptool") from None


def mac(found: Mapping[str, Fuse]) -> bytes:
    """The chip's address."""
    if "MAC" not in found or len(found["MAC"].data) != 6:
        raise SecureRefused("the chip does not say its MAC address", "check the port and --chip")
    return found["MAC"].data


def plan(
    chip: str,
    found: Mapping[str, Fuse],
    *,
    digest: bytes,
    flash_key: bytes,
    key_known: bool = False,
    loader: Loader = "closed",
) -> Plan:
    """What makes a production chip of this one.

    Args:
        chip: esp32 or esp32s3.
        found: its eFuses as they are.
        digest: SHA-256 of the public key that secure boot trusts, as espsecure computes it.
        flash_key: the chip's own key for its flash, 32 bytes.
        key_known: the protocol says that this very key was burnt into this chip.
        loader: what becomes of the serial loader: closed, or secure (ESP32-S3: it can still write, and not read).

    Raises:
        SecureRefused: this chip can never be made one; the message says which eFuse is in the way.
    """
    if len(digest) != KEY_LEN or len(flash_key) != KEY_LEN:
        raise SecureRefused("a key or a digest does not have 32 bytes", "see espsecure")
    if chip == "esp32":
        _check_esp32(found, loader)
        steps = _esp32(digest, flash_key)
    elif chip == "esp32s3":
        steps = _esp32s3(digest, flash_key, loader)
    else:
        raise SecureRefused(f"there is no production profile for {chip!r}", "there is one for esp32 and esp32s3")
    judged = []
    for step in steps:
        states = {want.state(found, key_known) for want in step.wants}
        if "conflict" in states:
            names = ", ".join(want.fuse for want in step.wants if want.state(found, key_known) == "conflict")
            raise SecureRefused(
                f"step {step.name}: {names} is burnt already, to something else",
                "take another chip; if an earlier attempt was broken off, name its protocol and its flash key",
            )
        judged.append(Step(step.name, _left(step, found), step.wants, step.why, "open" if "open" in states else "done"))
    return Plan(chip, mac(found), tuple(judged))


_ENABLING = ("secure boot on", "flash encryption on")


def _fuse(row: Mapping[str, Any]) -> Fuse:
    match = _RAW.fullmatch(row["raw_value"])
    if not match or not isinstance(row["readable"], bool) or not isinstance(row["writeable"], bool):
        raise ValueError("raw_value")
    digits = match[1]
    return Fuse(bytes.fromhex("0" * (len(digits) % 2) + digits), row["readable"], row["writeable"])


def _mac(row: Mapping[str, Any]) -> Fuse:
    # its raw value is the other way round; and its text says whether the chip's check byte fits
    match = _MAC.fullmatch(row["value"])
    if not match:
        raise ValueError("MAC")
    return Fuse(bytes.fromhex(match[1].replace(":", "")), bool(row["readable"]), bool(row["writeable"]))


def _left(step: Step, found: Mapping[str, Fuse]) -> tuple[str, ...]:
    """The command without the bits that are burnt already."""
    if step.command[0] != "burn-efuse":
        return step.command
    pairs = zip(step.command[1::2], step.command[2::2], strict=True)
    left = [word for name, value in pairs if found[name].value != int(value, 0) for word in (name, value)]
    return ("burn-efuse", *left) if left else step.command


def _bits(name: str, why: str, **values: int) -> Step:
    command = [word for fuse, value in values.items() for word in (fuse, f"{value:#x}")]
    wants = tuple(Want(fuse, bytes((value,))) for fuse, value in values.items())
    return Step(name, ("burn-efuse", *command), wants, why)


def _locked(name: str, fuse: str, why: str) -> Step:
    return Step(name, ("write-protect-efuse", fuse), (Want(fuse, writeable=False),), why)


def _check_esp32(found: Mapping[str, Fuse], loader: Loader) -> None:
    # secure boot v2 and the bit that closes the loader came with this revision (ESP-IDF, "Secure Boot V2")
    if found["WAFER_VERSION_MAJOR"].value < 3:
        raise SecureRefused(
            f"the chip has revision {found['WAFER_VERSION_MAJOR'].value}; secure boot v2 needs 3", "take a newer board"
        )
    if found["CODING_SCHEME"].value:
        raise SecureRefused("the chip's eFuses have a coding scheme: a key of 256 bits does not fit", "take another")
    if loader != "closed":
        raise SecureRefused("the ESP32's loader can only be closed", "leave --loader out")


def _esp32(digest: bytes, flash_key: bytes) -> Sequence[Step]:
    key = flash_key[::-1]  # the AES unit takes it in this order; espefuse turns it round
    return (
        Step(
            "secure boot key",
            ("burn-key-digest", DIGEST_KEY),
            (Want("BLOCK2", digest, readable=True, writeable=False),),
            "whose signature the chip will want",
        ),
        Step(
            "flash key",
            ("burn-key", "--no-protect-key", "flash_encryption", FLASH_KEY),
            (Want("BLOCK1", key, secret=True),),
            "the chip's own key for its flash; read back while that is possible",
        ),
        Step(
            "flash key hidden",
            ("read-protect-efuse", "BLOCK1"),
            (Want("BLOCK1", readable=False),),
            "no software can read it from here on",
        ),
        _locked("flash key locked", "BLOCK1", "nobody can add bits to it"),
        _bits("flash key's use", "the address goes into every block's key", FLASH_CRYPT_CONFIG=0xF),
        _bits("JTAG off", "no debugger", JTAG_DISABLE=1),
        _bits(
            "loader without keys",
            "the loader neither encrypts nor decrypts, nor reads through the cache",
            DISABLE_DL_ENCRYPT=1,
            DISABLE_DL_DECRYPT=1,
            DISABLE_DL_CACHE=1,
        ),
        _bits("ROM console off", "no BASIC when nothing starts", CONSOLE_DEBUG_DISABLE=1),
        _bits("secure boot on", "unsigned firmware does not start", ABS_DONE_1=1),
        _bits("flash encryption on", "all seven bits: it cannot be switched off again", FLASH_CRYPT_CNT=0x7F),
        _locked("read protection locked", "RD_DIS", "nobody can hide the secure boot key from the chip itself"),
        _locked("cache locked", "DIS_CACHE", "nobody can switch the cache off, through which decryption goes"),
        _bits("loader closed", "no more flashing or reading over the serial port", UART_DOWNLOAD_DIS=1),
    )


def _esp32s3(digest: bytes, flash_key: bytes, loader: Loader) -> Sequence[Step]:
    key = flash_key[::-1]
    last = (
        _bits("loader closed", "no more flashing or reading over any port", DIS_DOWNLOAD_MODE=1)
        if loader == "closed"
        else _bits("loader restricted", "it can still write the flash, and read nothing", ENABLE_SECURITY_DOWNLOAD=1)
    )
    return (
        Step(
            "secure boot key",
            ("burn-key-digest", "BLOCK_KEY0", DIGEST_KEY, "SECURE_BOOT_DIGEST0"),
            (
                Want("BLOCK_KEY0", digest, readable=True, writeable=False),
                Want("KEY_PURPOSE_0", b"\x09", writeable=False),
            ),
            "whose signature the chip will want",
        ),
        Step(
            "flash key",
            ("burn-key", "--no-read-protect", "BLOCK_KEY1", FLASH_KEY, "XTS_AES_128_KEY"),
            (
                Want("BLOCK_KEY1", key, secret=True, writeable=False),
                Want("KEY_PURPOSE_1", b"\x04", writeable=False),
            ),
            "the chip's own key for its flash; read back while that is possible",
        ),
        Step(
            "flash key hidden",
            ("read-protect-efuse", "BLOCK_KEY1"),
            (Want("BLOCK_KEY1", readable=False),),
            "no software can read it from here on",
        ),
        _bits(
            "other boot keys revoked",
            "nobody can add a key of their own",
            SECURE_BOOT_KEY_REVOKE1=1,
            SECURE_BOOT_KEY_REVOKE2=1,
        ),
        _bits("JTAG off", "no debugger, by pins or by USB", DIS_PAD_JTAG=1, DIS_USB_JTAG=1, SOFT_DIS_JTAG=7),
        _bits(
            "loader without keys",
            "the loader does not encrypt, nor read through the caches",
            DIS_DOWNLOAD_MANUAL_ENCRYPT=1,
            DIS_DOWNLOAD_ICACHE=1,
            DIS_DOWNLOAD_DCACHE=1,
        ),
        _bits("direct boot off", "nothing starts past the boot loader", DIS_DIRECT_BOOT=1),
        _bits("secure boot on", "unsigned firmware does not start", SECURE_BOOT_EN=1),
        _bits("flash encryption on", "all three bits: it cannot be switched off again", SPI_BOOT_CRYPT_CNT=7),
        _locked("read protection locked", "RD_DIS", "nobody can hide the secure boot key from the chip itself"),
        _locked("caches locked", "DIS_ICACHE", "nobody can switch the cache off, through which decryption goes"),
        last,
    )
