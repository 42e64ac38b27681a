"""Writes a board's flash: the real esptool as a subprocess, its output bounded and strictly read.

Knows how esptool is called and what its words mean; what is written where comes from `provisioning.station.firmware`
and `provisioning.station.image`. Nothing is written before the chip has said that it is the right one and that its
flash is large enough; esptool compares the MD5 of what it wrote.

On a pty there are no modem lines and no chip that could run esptool's stub: there the loader in ROM is talked to, and
the program is started by its own command.
"""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sealwire.enrolment import eui_from_mac

ESPTOOL = (sys.executable, "-P", "-m", "esptool")  # -P: no module from the working folder
BAUD = 460_800
OUTPUT_MAX = 1 << 20  # bytes of one run, both streams together; a write prints a line of progress for each KiB
TEXT_MAX = 300
IDENTIFY_TIMEOUT_S = 60.0  # seven attempts to connect take half of it
WRITE_TIMEOUT_S = 60.0
WRITE_BYTES_PER_S = 8_000  # slower than any loader writes, with erasing and reading back
END_TIMEOUT_S = 5.0
POLL_S = 0.25
CHIPS = {"ESP32": "esp32", "ESP32-S3": "esp32s3"}
_REPORTED = re.compile(r"^Connected to (ESP[0-9A-Z-]{1,12}) on ", re.MULTILINE)
_MAC = re.compile(r"^MAC: +((?:[0-9a-f]{2}:){5}[0-9a-f]{2}) *$", re.MULTILINE)
_SIZE = re.compile(r"^Detected flash size: ([0-9]{1,3})MB *$", re.MULTILINE)
_OTHER_CHIP = re.compile(r"This chip is (ESP[0-9A-Za-z()-]{1,20}), not ")
_WRITES = re.compile(rb"Writing '[^\r\n]{0,200}' at 0x[0-9a-f]{8}\.\.\.")
_PERCENT = re.compile(rb"Writing at 0x[0-9a-f]{8} [^\r\n%]{0,200}?([0-9]{1,3})\.[0-9]%")
_VERIFIED = re.compile(r"^Hash of data verified\.", re.MULTILINE)

Reason = Literal["no_answer", "wrong_chip", "too_small", "write_failed", "verify_failed", "timeout", "esptool_missing"]
_REMEDIES: dict[Reason, str] = {
    "no_answer": "check the cable and that no other program has the port; hold BOOT, press RESET and try again",
    "wrong_chip": "this is not the board that the station is set up for: take it out",
    "too_small": "this is not the board that the station is set up for: take it out",
    "write_failed": "try again with another cable or a lower --baud; a board that fails twice is defective",
    "verify_failed": "try again with another cable or a lower --baud; a board that fails twice is defective",
    "timeout": "try again with another cable; a board that fails twice is defective",
    "esptool_missing": "install Sealband again with all that it needs",
}


class FlashError(Exception):
    """The board was not flashed, or not wholly.

    Attributes:
        reason: one of seven words.
        remedy: what to do.
    """

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(what)
        self.reason: Reason = reason
        self.remedy = _REMEDIES[reason]


@dataclass(frozen=True)
class Chip:
    """What a chip's loader says of it.

    Attributes:
        mac: six bytes.
        chip: as a board definition names it.
        flash_size: bytes.
    """

    mac: bytes
    chip: str
    flash_size: int

    @property
    def eui(self) -> bytes:
        """The EUI-64 of a board with this chip."""
        return bytes(eui_from_mac(self.mac))


class Flasher:
    """One chip on a serial port.

    Args:
        port: the port's path.
        chip: which it must be, as a board definition names it.
        baud: for writing.
        flash_size: bytes that it must have at least.
        esptool: the command, as an argument list.
    """

    def __init__(
        self, port: str, chip: str, *, baud: int = BAUD, flash_size: int = 0, esptool: Sequence[str] = ESPTOOL
    ) -> None:
        if not port or port.startswith("-") or not port.isprintable():
            raise FlashError("no_answer", f"{_shown(port)!r} is not a serial port")
        if chip not in CHIPS.values():
            raise FlashError("wrong_chip", f"{_shown(chip)!r} is no chip that is flashed here")
        self.port = port
        self._chip = chip
        self._baud = baud
        self._flash_size = flash_size
        self._esptool = list(esptool)
        self._pty = _is_pty(port)
        self._found: Chip | None = None

    def identify(self) -> Chip:
        """Ask the chip who it is; it stays in its loader.

        Raises:
            FlashError: no_answer, wrong_chip, too_small, timeout or esptool_missing.
        """
        text = self._run(["flash-id"], IDENTIFY_TIMEOUT_S, after="no-reset")
        found = self._read_chip(text)
        if found.flash_size < self._flash_size:
            raise FlashError(
                "too_small", f"the flash has {found.flash_size:#x} bytes, the board should have {self._flash_size:#x}"
            )
        self._found = found
        return found

    def write(
        self, parts: Mapping[int, bytes | Path], progress: Callable[[float], object] = lambda fraction: None
    ) -> Chip:
        """Write these bytes at these addresses, have them verified, and start the program.

        Everything else in the sectors that they touch is erased. The chip is asked first who it is, if it was not.

        Args:
            parts: address, a multiple of 4096 → what belongs there.
            progress: called with how much of all bytes is written, 0 to 1.

        Returns:
            The chip that was written.

        Raises:
            FlashError: any reason.
            ValueError: two parts overlap, or an address is no multiple of 4096.
        """
        contents = {
            address: part if isinstance(part, bytes) else part.read_bytes() for address, part in sorted(parts.items())
        }
        _check_places(contents)
        chip = self._found or self.identify()
        self._found = None  # the next board on this port may be another
        end = max((address + len(part) for address, part in contents.items()), default=0)
        if end > chip.flash_size:
            raise FlashError("too_small", f"{end:#x} bytes are needed, the flash has {chip.flash_size:#x}")
        total = sum(map(len, contents.values()))
        with tempfile.TemporaryDirectory(prefix="sealband-flash-") as scratch:
            words = ["write-flash", "--compress"]
            for address, part in contents.items():
                path = Path(scratch) / f"{address:08x}.bin"
                path.touch(mode=0o600)  # a file system holds the Wi-Fi's passphrase
                path.write_bytes(part)
                words += [f"{address:#x}", str(path)]
            follow = _Progress([len(part) for part in contents.values()], progress)
            limit = WRITE_TIMEOUT_S + total / WRITE_BYTES_PER_S
            text = self._run(words, limit, after="soft-reset" if self._pty else "hard-reset", follow=follow)
        if len(_VERIFIED.findall(text)) != len(contents):
            raise FlashError("verify_failed", "esptool did not verify all that it wrote")
        if (written := self._mac(text)) != chip.mac:
            raise FlashError("wrong_chip", f"board {chip.mac.hex(':')} was exchanged for {written.hex(':')}")
        progress(1.0)
        return chip

    def restart(self) -> None:
        """Leave the loader and start the program, as after `identify` alone; raises FlashError."""
        self._run(["run"] if self._pty else ["read-mac"], IDENTIFY_TIMEOUT_S, after="no-reset" if self._pty else "")

    def _read_chip(self, text: str) -> Chip:
        named, sizes = _REPORTED.findall(text), _SIZE.findall(text)
        if len(named) != 1 or CHIPS.get(named[0]) != self._chip:
            raise FlashError("wrong_chip", f"it is {', '.join(named) or 'no chip that esptool names'}")
        if len(sizes) != 1:
            raise FlashError("no_answer", "the chip does not say how large its flash is")
        return Chip(self._mac(text), self._chip, int(sizes[0]) << 20)

    def _mac(self, text: str) -> bytes:
        found = set(_MAC.findall(text))
        if len(found) != 1:
            raise FlashError("no_answer", "the chip does not say its MAC address")
        return bytes.fromhex(found.pop().replace(":", ""))

    def _run(
        self, words: Sequence[str], timeout_s: float, *, after: str = "", follow: "_Progress | None" = None
    ) -> str:
        options = ["--chip", self._chip, "--port", self.port, "--baud", str(self._baud)]
        options += ["--before", "no-reset", "--no-stub"] if self._pty else ["--before", "default-reset"]
        options += ["--after", after or "hard-reset"]
        status, text = run([*self._esptool, *options, *words], timeout_s, follow.take if follow else None)
        if status:
            raise _failed(text)
        return text


class _Progress:
    """Makes one fraction of what esptool prints for each of several files."""

    def __init__(self, sizes: Sequence[int], report: Callable[[float], object]) -> None:
        self._sizes = sizes
        self._report = report
        self._tail = b""
        self._file = -1 if len(sizes) > 1 else 0
        self._last = 0.0

    def take(self, chunk: bytes) -> None:
        data = self._tail + chunk
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        data, self._tail = data[:end], data[end:][-1000:]
        for line in data.replace(b"\r", b"\n").split(b"\n"):
            if _WRITES.search(line):
                self._file += 1
            elif (found := _PERCENT.search(line)) and 0 <= self._file < len(self._sizes):
                done = sum(self._sizes[: self._file]) + self._sizes[self._file] * min(100, int(found[1])) / 100
                fraction = done / (sum(self._sizes) or 1)
                if fraction > self._last:
                    self._last = fraction
                    self._report(fraction)


def run(command: Sequence[str], timeout_s: float, follow: Callable[[bytes], object] | None = None) -> tuple[int, str]:
    """Run one of Espressif's tools: its exit status and what it printed on both streams.

    Args:
        command: an argument list; no shell sees it.
        follow: given what is printed, as it is printed.

    Raises:
        FlashError: timeout, esptool_missing, or no_answer for more output than any run has.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ESPTOOL", "ESPEFUSE"))}
    environment |= {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    except OSError as error:
        raise FlashError("esptool_missing", f"{command[0]}: {error.strerror}") from error
    with process:
        try:
            out = _read(process, timeout_s, follow)
            status = process.wait(timeout=END_TIMEOUT_S)
        except BaseException as stopped:
            # the whole group, also when it is we who are stopped
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(stopped, subprocess.TimeoutExpired):
                raise FlashError("timeout", f"{command[-1]} does not end") from None
            raise
    text = out.decode("utf-8", errors="replace").replace("\r", "\n")
    if status and re.search(r"No module named '?(esptool|espefuse|espsecure)", text):
        raise FlashError("esptool_missing", "esptool is not installed")
    return status, text


def _read(process: subprocess.Popen[bytes], timeout_s: float, follow: Callable[[bytes], object] | None) -> bytes:
    assert process.stdout
    limit = time.monotonic() + timeout_s
    out = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = limit - time.monotonic()
            if left <= 0:
                raise FlashError("timeout", f"it was not done within {timeout_s:.0f} s")
            if not selector.select(min(left, POLL_S)):
                continue
            chunk = os.read(process.stdout.fileno(), 4096)
            if not chunk:
                return bytes(out)
            out += chunk
            if len(out) > OUTPUT_MAX:
                raise FlashError("no_answer", f"the tool printed more than {OUTPUT_MAX} bytes")
            if follow:
                follow(chunk)


def _failed(text: str) -> FlashError:
    """The reason behind what esptool said last."""
    lines = [line.strip() for line in text.splitlines() if "rror" in line or "ailed" in line]
    last = _shown(lines[-1]) if lines else "it said nothing"
    if other := _OTHER_CHIP.search(text):
        return FlashError("wrong_chip", f"it is an {other[1]}")
    if "will not fit in" in text:
        return FlashError("too_small", last)
    if "MD5 of file does not match" in text or "Verification failed" in text:
        return FlashError("verify_failed", "what is in the flash is not what was written")
    if "Writing at" in text or "Flash will be erased" in text:
        return FlashError("write_failed", f"esptool: {last}")
    return FlashError("no_answer", f"esptool: {last}")


def _check_places(contents: Mapping[int, bytes]) -> None:
    end = 0
    for address, part in contents.items():
        if address % 4096:
            raise ValueError(f"{address:#x} is no multiple of 4096")
        if address < end:
            raise ValueError(f"what is at {address:#x} overlaps what is before it")
        end = address + len(part) + -len(part) % 4096


def _is_pty(port: str) -> bool:
    # Linux and macOS name the other side of a pseudo terminal so
    return re.fullmatch(r"/dev/(pts/[0-9]+|ttys[0-9]+)", os.path.realpath(port)) is not None


def _shown(text: str) -> str:
    """A stranger's text for a message: short, on one line, nothing that moves a terminal's cursor."""
    return "".join(c if c.isprintable() else " " for c in text[:TEXT_MAX]).strip()
