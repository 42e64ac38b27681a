"""The virtual chip's serial loader: the part of its ROM that esptool talks to in place of the program.

Protocol: esptool documentation, "Serial Protocol". SLIP frames; a request has direction, operation, length, checksum
and data, an answer the same with a value in place of the checksum and the status behind its data. Answers what esptool
asks of the ROMs of ESP32 and ESP32-S3 (`--no-stub`). When esptool uploads its stub, the loader takes it for the real
one without running it, and from there on answers as the stub does.

A pty has no modem lines. So esptool's first synchronisation frame stands for the automatic reset circuit that pulls
GPIO0 and EN: `Sync` finds it in what the host sends. The loader is left when the host says so (FLASH_END), and with the
first byte that cannot begin a request, which stands for the reset button (`Requests`).

Decides nothing about the board: `host_tools.sim.processor` stops and starts it.
"""

import hashlib
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import xor

from host_tools.sim.chipflash import ChipFlash, OutOfRange

FLASH_BEGIN, FLASH_DATA, FLASH_END = 0x02, 0x03, 0x04
MEM_BEGIN, MEM_END, MEM_DATA = 0x05, 0x06, 0x07
SYNC, WRITE_REG, READ_REG = 0x08, 0x09, 0x0A
SPI_SET_PARAMS, SPI_ATTACH, READ_FLASH_SLOW, CHANGE_BAUDRATE = 0x0B, 0x0D, 0x0E, 0x0F
DEFL_BEGIN, DEFL_DATA, DEFL_END, FLASH_MD5, SECURITY_INFO = 0x10, 0x11, 0x12, 0x13, 0x14
ERASE_FLASH, ERASE_REGION = 0xD0, 0xD1  # of the stub only

INVALID, FAILED, BAD_CHECKSUM, INFLATE_FAILED = 0x05, 0x06, 0x07, 0x0B
CHECKSUM_START = 0xEF
SYNC_ANSWERS = 8
SYNC_VALUE = 0x20120707  # of the ROM: any but 0, which is the stub's
GREETING = b"OHAI"  # of the stub
FRAME_MAX = 0x10000
FRAME_S = 3.0  # a frame that takes longer was cut off
SLOW_READ_LEN = 64

_HEAD = struct.Struct("<BBHI")
_REQUEST, _ANSWER = 0, 1
_END, _ESCAPE = b"\xc0", b"\xdb"
SYNC_FRAME = _END + _HEAD.pack(_REQUEST, SYNC, 36, 0) + b"\x07\x07\x12\x20" + b"\x55" * 32 + _END

MAGIC_REGISTER = 0x40001000
_SPI_EXECUTE = 1 << 18
_READ_ID, _READ_SFDP = 0x9F, 0x5A
_SFDP = {0x00: 0x50444653, 0x10: 0xEF}  # its signature; the maker again
_MAKER, _KIND = 0xEF, 0x40  # Winbond W25Q


@dataclass(frozen=True)
class Rom:
    """What differs between the chips.

    Attributes:
        registers: what they read as after a reset.
        mac: the register with the address's last four bytes; the first two are in the low half of the one behind it.
        spi: the base of the flash's SPI controller.
        command, word: offsets from there of USER2 and W0.
        address_shift: how far an SPI address is shifted in its register.
        checked: what the address's check byte is multiplied by where it is kept behind it; 0: there is none.
        chip_id: what GET_SECURITY_INFO tells; None: the ROM does not know that request.
    """

    registers: dict[int, int]
    mac: int
    spi: int
    command: int
    word: int
    address_shift: int
    checked: int
    chip_id: int | None


ROMS = {
    # D0WD-V3: package 1 and three bits of revision 3.0; a crystal of 40 MHz as the ROM would have measured it
    "esp32": Rom(
        {
            MAGIC_REGISTER: 0x00F01D83,
            0x3FF5A00C: 1 << 9 | 1 << 15,
            0x3FF5A010: 128,
            0x3FF5A014: 1 << 20,
            0x3FF6607C: 1 << 31,
            0x3FF5F06C: 800 << 7,
            0x3FF40014: 347,
        },
        0x3FF5A004,
        0x3FF42000,
        0x24,
        0x80,
        8,
        1 << 16,
        None,
    ),
    "esp32s3": Rom({MAGIC_REGISTER: 9}, 0x60007044, 0x60002000, 0x20, 0x58, 0, 0, 9),
}


class Sync:
    """Finds esptool's synchronisation frame in what the host sends to the program."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Take input.

        Returns:
            What is the program's, and from the frame on what is the loader's, or None if there is none. What may yet
            become the frame is held back.
        """
        data = self._held + data
        self._held = b""
        at = data.find(SYNC_FRAME)
        if at >= 0:
            return data[:at], data[at:]
        at = data.find(_END)
        while at >= 0 and not SYNC_FRAME.startswith(data[at:]):
            at = data.find(_END, at + 1)
        if at >= 0:
            self._held = data[at:]
            return data[:at], None
        return data, None


class Requests:
    """Takes the requests out of what the host sends to the loader."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._frame: bytearray | None = None
        self._clock = clock
        self._begun = 0.0

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """Each request's bytes; None in the end if what follows is for the program. `left` has that."""
        if self._frame and self._clock() - self._begun > FRAME_S:
            self._frame = None
        for at in range(len(data)):
            byte = data[at : at + 1]
            if byte == _END:
                if self._frame:
                    yield _unescaped(bytes(self._frame))
                self._frame = None
            elif self._frame is None:
                if byte[0] != _REQUEST:
                    self.left = data[at:]
                    yield None
                    return
                self._frame = bytearray(byte)
                self._begun = self._clock()
            elif len(self._frame) < FRAME_MAX:
                self._frame += byte

    left = b""


class Loader:
    """One chip in its loader.

    Args:
        chip: a key of `ROMS`.
        mac: six bytes.
        flash: the chip's flash.

    Attributes:
        ended: the host has let the program start.
        silent_after: from the n-th block of data on it answers nothing any more, for tests; 0: never.
        corrupt_block: the n-th block of data arrives whole and is written with a bit changed, for tests; 0: none.
    """

    def __init__(self, chip: str, mac: bytes, flash: ChipFlash) -> None:
        self.ended = False
        self.silent_after = 0
        self.corrupt_block = 0
        self._rom = ROMS[chip]
        self._mac = mac
        self._flash = flash
        self.reset()

    def reset(self) -> None:
        """As the chip is when the loader begins."""
        self.ended = False
        self._registers = dict(self._rom.registers)
        self._registers[self._rom.mac] = int.from_bytes(self._mac[2:], "big")
        self._registers[self._rom.mac + 4] = int.from_bytes(self._mac[:2], "big") | self._rom.checked * _crc(self._mac)
        self._stub = False
        self._attached = False
        self._silent = False
        self._blocks = 0
        self._at = 0
        self._inflate = zlib.decompressobj()

    def answer(self, request: bytes) -> bytes:
        """The frames that answer a request; empty: it is none, or the loader has gone silent."""
        if len(request) < _HEAD.size:
            return b""
        _, operation, length, checksum = _HEAD.unpack_from(request)
        data = request[_HEAD.size :]
        if operation in (FLASH_DATA, DEFL_DATA):
            self._blocks += 1
            self._silent |= self._blocks == self.silent_after
        if self._silent:
            return b""
        if len(data) != length:
            return self._frame(operation, error=INVALID)
        try:
            return self._do(operation, data, checksum)
        except OutOfRange:
            return self._frame(operation, error=FAILED)
        except struct.error:
            return self._frame(operation, error=INVALID)

    def _do(self, operation: int, data: bytes, checksum: int) -> bytes:
        if operation == SYNC:
            return self._frame(SYNC, value=0 if self._stub else SYNC_VALUE) * SYNC_ANSWERS
        if operation == READ_REG:
            return self._frame(READ_REG, value=self._registers.get(struct.unpack("<I", data)[0], 0))
        if operation == WRITE_REG:
            for at in range(0, len(data), 16):
                self._write_register(*struct.unpack_from("<III", data, at))
            return self._frame(WRITE_REG)
        if operation == SECURITY_INFO and self._rom.chip_id is not None:
            return self._frame(SECURITY_INFO, data=struct.pack("<I8xII", 0, self._rom.chip_id, 0))
        if operation in (SPI_SET_PARAMS, CHANGE_BAUDRATE, MEM_BEGIN, MEM_DATA):
            return self._frame(operation)
        if operation == SPI_ATTACH:
            self._attached = True
            return self._frame(SPI_ATTACH)
        if operation == MEM_END:
            runs = struct.unpack_from("<II", data)[1] != 0
            answer = self._frame(MEM_END)
            self._stub |= runs
            return answer + _escaped(GREETING) if runs else answer
        return self._do_flash(operation, data, checksum)

    def _do_flash(self, operation: int, data: bytes, checksum: int) -> bytes:
        error = 0
        answer = b""
        if operation in (FLASH_BEGIN, DEFL_BEGIN):
            length, _, _, self._at = struct.unpack_from("<IIII", data)
            if length and not (self._attached or self._stub):  # the stub does it by itself
                return self._frame(operation, error=FAILED)
            self._inflate = zlib.decompressobj()
            self._flash.erase(self._at, length)
        elif operation in (FLASH_DATA, DEFL_DATA):
            error = self._take(operation, data, checksum)
        elif operation in (FLASH_END, DEFL_END):
            stays = self._stub and struct.unpack_from("<I", data)[0]
            self.ended = not self._stub
            self._stub = bool(stays)
        elif operation == FLASH_MD5:
            address, length = struct.unpack_from("<II", data)
            digest = hashlib.md5(self._flash.read(address, length), usedforsecurity=False)
            answer = digest.digest() if self._stub else digest.hexdigest().encode()
        elif operation == READ_FLASH_SLOW and not self._stub:
            address, length = struct.unpack_from("<II", data)
            answer = self._flash.read(address, min(length, SLOW_READ_LEN)).ljust(SLOW_READ_LEN, b"\xff")
        elif operation == ERASE_FLASH and self._stub:
            self._flash.erase(0, self._flash.size)
        elif operation == ERASE_REGION and self._stub:
            self._flash.erase(*struct.unpack_from("<II", data))
        else:
            error = INVALID
        return self._frame(operation, data=answer, error=error)

    def _take(self, operation: int, data: bytes, checksum: int) -> int:
        length = struct.unpack_from("<I", data)[0]
        block = data[16 : 16 + length]
        if len(block) != length:
            return INVALID
        if reduce(xor, block, CHECKSUM_START) != checksum:
            return BAD_CHECKSUM
        if operation == DEFL_DATA:
            try:
                block = self._inflate.decompress(block)
            except zlib.error:
                return INFLATE_FAILED
        if self._blocks == self.corrupt_block and block:
            block = bytes((block[0] ^ 0x10,)) + block[1:]
        # the last block of an uncompressed image is filled up with 0xFF, which may reach beyond the chip
        self._flash.write(self._at, block[: max(0, self._flash.size - self._at)])
        self._at += len(block)
        return 0

    def _write_register(self, address: int, value: int, mask: int) -> None:
        self._registers[address] = (self._registers.get(address, 0) & ~mask) | (value & mask)
        if address != self._rom.spi or not value & _SPI_EXECUTE:
            return
        self._registers[address] &= ~_SPI_EXECUTE
        command = self._registers.get(self._rom.spi + self._rom.command, 0) & 0xFFFF
        answer = 0
        if command == _READ_ID:
            answer = _MAKER | _KIND << 8 | (self._flash.size.bit_length() - 1) << 16
        elif command == _READ_SFDP:
            answer = _SFDP.get(self._registers.get(self._rom.spi + 4, 0) >> self._rom.address_shift, 0)
        self._registers[self._rom.spi + self._rom.word] = answer

    def _frame(self, operation: int, *, value: int = 0, data: bytes = b"", error: int = 0) -> bytes:
        body = (b"" if error else data) + bytes((bool(error), error)) + (b"" if self._stub else bytes(2))
        return _escaped(_HEAD.pack(_ANSWER, operation, len(body), value) + body)


def _crc(mac: bytes) -> int:
    # as esp_crc8 in the ESP32's ROM: CRC-8 of the polynomial 0x31, least significant bit first
    crc = 0
    for byte in mac:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc


def _escaped(frame: bytes) -> bytes:
    return _END + frame.replace(_ESCAPE, b"\xdb\xdd").replace(_END, b"\xdb\xdc") + _END


def _unescaped(frame: bytes) -> bytes:
    return frame.replace(b"\xdb\xdc", _END).replace(b"\xdb\xdd", _ESCAPE)
