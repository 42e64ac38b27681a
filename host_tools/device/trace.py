"""The file of a sensor trace: what a board's buses carried, and when. Format only; reads and writes, plays nothing.

    sealband-trace 1 {"board": "VIRTUAL", "source": "virtual", "begun": 1763752000}
    3f1c9a02 1203 i r 48 01 0c20        I2C address 48: read from register 01 ("--": from where it stood)
    90ab11e7 1204 i w 48 010c20         written, the register first
    0182f3aa 1300 i n 57 04             not acknowledged ("w" behind it: what was not taken was data)
    77a1b2c3 1350 a 35 1853000          microvolts at ADC pin 35
    5d02e1f0 2000 u 2 24474e...         bytes that came on UART 2
    ab8801c2 9000 end 5

Each line begins with the CRC-32 of itself behind that of the line before (the first behind the header), so that no
line can be changed, missing or in another place unseen. Then ms since the application began. A file without its end
is one whose recording was cut off: what there is of it is whole.

**A trace is personal data**: pulse, movement and places of whoever wore the board. The file is its owner's (mode 600).
"""

import contextlib
import json
import os
import re
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

HEAD = "sealband-trace 1 "
FILE_MAX = 64 << 20  # bytes; a day of everything is some 40 MB
LINE_MAX = 20_000  # characters
TIME_MAX_MS = 7 * 86_400_000
_REST = 64  # characters of a line beside its entry, and of the end
_BOARD = re.compile(r"[A-Z0-9_]{1,64}")
_LINE = re.compile(r"([0-9a-f]{8}) (\d{1,9}) (.+)", re.ASCII)
_ENTRIES = {
    "r": re.compile(r"i r ([0-7][0-9a-f]) ([0-9a-f]{2}|--) ((?:[0-9a-f]{2}){1,8192})"),
    "w": re.compile(r"i w ([0-7][0-9a-f]) ((?:[0-9a-f]{2}){1,8192})"),
    "n": re.compile(r"i n ([0-7][0-9a-f]) ([0-9a-f]{2}|--)( w)?"),
    "a": re.compile(r"a (\d{1,3}) (\d{1,9})"),
    "u": re.compile(r"u (\d) ((?:[0-9a-f]{2}){1,8192})"),
}
_END = re.compile(r"end (\d{1,9})")


class TraceError(Exception):
    """A trace cannot be read or written; `remedy` says what to do."""

    def __init__(self, what: str, remedy: str = "record it again") -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a bus carried.

    Attributes:
        ms: since the application began.
        kind: r read, w written, n not acknowledged, a ADC, u UART.
        place: I2C address, ADC pin or number of the UART.
        register: of r, w and n; None: where the part stood.
        data: bytes; of "n": b"w" when data was refused.
        microvolts: of an ADC pin.
    """

    ms: int
    kind: str
    place: int
    register: int | None = None
    data: bytes = b""
    microvolts: int = 0

    def body(self) -> str:
        """As it stands in a file, without time and check."""
        register = "--" if self.register is None else f"{self.register:02x}"
        if self.kind == "r":
            return f"i r {self.place:02x} {register} {self.data.hex()}"
        if self.kind == "w":
            return f"i w {self.place:02x} {register if self.register is not None else ''}{self.data.hex()}"
        if self.kind == "n":
            return f"i n {self.place:02x} {register}" + (" w" if self.data else "")
        return f"a {self.place} {self.microvolts}" if self.kind == "a" else f"u {self.place} {self.data.hex()}"


def parse(ms: int, body: str) -> Entry | None:
    """An entry from a file or from a board; None: it is none."""
    for kind, pattern in _ENTRIES.items():
        found = pattern.fullmatch(body)
        if not found:
            continue
        if kind == "a":
            return Entry(ms, kind, int(found[1]), microvolts=int(found[2]))
        if kind == "u":
            return Entry(ms, kind, int(found[1]), data=bytes.fromhex(found[2]))
        address = int(found[1], 16)
        if kind == "w":
            data = bytes.fromhex(found[2])
            return Entry(ms, kind, address, data[0], data[1:])
        register = None if found[2] == "--" else int(found[2], 16)
        data = bytes.fromhex(found[3]) if kind == "r" else b"w" if found[3] else b""
        return Entry(ms, kind, address, register, data)
    return None


class TraceWriter:
    """Writes one trace; a context manager. May be used from several threads. Of what failed before the first entry
    no file stays.

    Args:
        path: a new file; it is its owner's alone.
        board: name of the board definition.
        source: "virtual" or "board".
        begun: Unix seconds, virtual ones on a virtual board.

    Attributes:
        stopped: why it ended before it was closed; "": it did not.

    Raises:
        TraceError: there is such a file.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, board: str, source: str, begun: float) -> None:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise TraceError(f"{path} is there already and was not changed", "name a new file") from error
        self.count = 0
        self.stopped = ""
        self._path = path
        self._file = os.fdopen(descriptor, "w", encoding="ascii", buffering=1)
        self._lock = threading.Lock()
        head = HEAD + json.dumps({"board": board, "source": source, "begun": int(begun)})
        self._check = zlib.crc32(head.encode())
        self._last_ms = 0
        self._len = len(head) + 1
        self._file.write(head + "\n")

    def write(self, entry: Entry) -> None:
        """Add one; nothing happens after the end, which comes by itself where `Trace.read` would take no more."""
        with self._lock:
            if self._file.closed:
                return
            ms = max(self._last_ms, entry.ms)
            body = entry.body()
            if ms > TIME_MAX_MS or self._len + len(body) + _REST > FILE_MAX:
                self.stopped = f"a trace has {FILE_MAX >> 20} MiB and {TIME_MAX_MS // 86_400_000} days at most"
                self._end()
                return
            self._last_ms = ms
            try:
                self._line(f"{ms} {body}")
                self.count += 1
            except OSError as error:
                # the board goes on; what there is of the file is whole
                self.stopped = error.strerror or "it cannot be written"
                with contextlib.suppress(OSError):
                    self._file.close()

    def close(self) -> None:
        """Write the end."""
        with self._lock:
            if not self._file.closed:
                self._end()

    def __enter__(self) -> "TraceWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
        if error is not None and not self.count:
            self._path.unlink(missing_ok=True)

    def _end(self) -> None:
        self._line(f"{self._last_ms} end {self.count}")
        self._file.close()

    def _line(self, body: str) -> None:
        self._check = zlib.crc32(body.encode(), self._check)
        self._len += self._file.write(f"{self._check:08x} {body}\n")


@dataclass(frozen=True)
class Trace:
    """A trace that was read.

    Attributes:
        board: name of the board definition.
        source: "virtual" or "board".
        begun: Unix seconds.
        entries: in their order.
        whole: it has its end.
    """

    board: str
    source: str
    begun: int
    entries: tuple[Entry, ...]
    whole: bool

    @property
    def duration_ms(self) -> int:
        """Until the last entry."""
        return self.entries[-1].ms if self.entries else 0

    @classmethod
    def read(cls, path: Path) -> "Trace":
        """Read a file.

        Raises:
            TraceError: it is no trace, of another version, damaged, or too long.
            OSError: it cannot be read.
        """
        with open(path, "rb") as file:
            data = file.read(FILE_MAX + 1)
        if len(data) > FILE_MAX:
            raise TraceError(f"{path} is longer than {FILE_MAX >> 20} MiB", "record a shorter piece")
        text, newline, _ = data.decode("ascii", errors="replace").partition("\n")
        header = _header(path, text)
        rest = data[len(text) + 1 :] if newline else b""
        entries, whole = _entries(path, zlib.crc32(text.encode()), rest)
        return cls(header["board"], header["source"], header["begun"], tuple(entries), whole)


def _header(path: Path, line: str) -> dict[str, Any]:
    foreign = TraceError(f"{path} is no sensor trace", "name a file that `sealband device run --record` wrote")
    if not line.startswith("sealband-trace ") or len(line) > LINE_MAX:
        raise foreign
    if not line.startswith(HEAD):
        raise TraceError(f"{path} has another version than this program reads", "take the Sealband that recorded it")
    try:
        header = json.loads(line.removeprefix(HEAD))
    except (ValueError, RecursionError):
        raise foreign from None
    if not isinstance(header, dict) or set(header) != {"board", "source", "begun"}:
        raise foreign
    board, source, begun = header["board"], header["source"], header["begun"]
    if not isinstance(board, str) or not _BOARD.fullmatch(board) or source not in ("virtual", "board"):
        raise foreign
    if type(begun) is not int or not 0 <= begun < 1 << 40:
        raise foreign
    return header


def _entries(path: Path, check: int, data: bytes) -> tuple[list[Entry], bool]:
    entries: list[Entry] = []
    last_ms = 0
    lines = _lines(data)
    for number, line, complete in lines:
        if not complete:
            return entries, False  # the recording was cut off within this line
        damaged = TraceError(f"{path}, line {number}: damaged", "take a copy that is not, or record it again")
        found = _LINE.fullmatch(line)
        if not found:
            raise damaged
        check = zlib.crc32(line[9:].encode(), check)
        ms = int(found[2])
        if f"{check:08x}" != found[1] or not last_ms <= ms <= TIME_MAX_MS:
            raise damaged
        last_ms = ms
        if end := _END.fullmatch(found[3]):
            if int(end[1]) != len(entries) or next(lines, None) is not None:
                raise damaged
            return entries, True
        entry = parse(ms, found[3])
        if entry is None:
            raise damaged
        entries.append(entry)
    return entries, False


def _lines(data: bytes) -> Iterator[tuple[int, str, bool]]:
    """(number in the file, text, whether it has its end) of each line."""
    begin, number = 0, 2
    while begin < len(data):
        end = data.find(b"\n", begin, begin + LINE_MAX)
        if end < 0:
            yield number, data[begin : begin + LINE_MAX].decode("ascii", errors="replace"), len(data) - begin > LINE_MAX
            return
        yield number, data[begin:end].decode("ascii", errors="replace"), True
        begin, number = end + 1, number + 1
