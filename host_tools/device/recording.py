"""Writes down what the virtual board's buses carry, from outside: the program on it notices nothing.

What a real board's buses carry is told by the tap on the board (`micropython/devtap.py`), line by line.
"""

import re
from collections.abc import Callable

from host_tools.device.trace import Entry, TraceWriter, parse
from host_tools.sim.outfit import Outfit
from host_tools.sim.parts import Nack, Part
from host_tools.sim.uart import Talker

_TICKS = 1 << 30  # where the board's milliseconds wrap
_TOLD = re.compile(r"sealband-tap (\d{1,10}) (.{1,20000})", re.ASCII)


class Recording:
    """Fits recorders between a board and its parts.

    Args:
        writer: of the trace.
        now: virtual seconds.
    """

    def __init__(self, writer: TraceWriter, now: Callable[[], float]) -> None:
        self._writer = writer
        self._now = now
        self._begun: float | None = None

    def begin(self) -> None:
        """The application begins; nothing before it is recorded, and its later starts change nothing."""
        if self._begun is None:
            self._begun = self._now()

    def fit(self, outfit: Outfit) -> Outfit:
        """The same parts, recorded."""
        return Outfit(
            tuple(_Part(part, self.note) for part in outfit.parts),
            {pin: self._adc(pin, source) for pin, source in outfit.adc.items()},
            outfit.inputs,
            {number: _Talker(number, talker, self.note) for number, talker in outfit.serial.items()},
        )

    def note(self, kind: str, place: int, register: int | None = None, data: bytes = b"", microvolts: int = 0) -> None:
        """One thing was carried now."""
        if self._begun is not None:
            ms = int((self._now() - self._begun) * 1000)
            self._writer.write(Entry(ms, kind, place, register, data, microvolts))

    def _adc(self, pin: int, source: Callable[[], int]) -> Callable[[], int]:
        def read() -> int:
            microvolts = max(0, source())
            self.note("a", pin, microvolts=microvolts)
            return microvolts

        return read


class _Part:
    def __init__(self, part: Part, note: Callable[..., None]) -> None:
        self.address = part.address
        self._part = part
        self._note = note
        self._register: int | None = None

    def write(self, data: bytes) -> None:
        if not data:
            self._part.write(data)  # a scan
            return
        try:
            self._part.write(data)
        except Nack:
            self._note("n", self.address, data[0], b"w" if len(data) > 1 else b"")
            raise
        self._register = data[0]
        if len(data) > 1:
            self._note("w", self.address, data[0], data[1:])

    def read(self, n: int) -> bytes:
        try:
            data = self._part.read(n)
        except Nack:
            self._note("n", self.address, self._register)
            raise
        if data:
            self._note("r", self.address, self._register, data)
        return data


class _Talker:
    def __init__(self, number: int, talker: Talker, note: Callable[..., None]) -> None:
        self.baudrate = talker.baudrate
        self._number = number
        self._talker = talker
        self._note = note

    def say(self, now: float) -> bytes:
        data = self._talker.say(now)
        for begin in range(0, len(data), 4096):
            self._note("u", self._number, data=data[begin : begin + 4096])
        return data

    def pin(self, number: int, level: int, now: float) -> None:
        self._talker.pin(number, level, now)


class Told:
    """Takes what a real board's tap prints.

    Args:
        writer: of the trace.
    """

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer
        self._ticks: int | None = None
        self._ms = 0

    def take(self, line: str) -> bool:
        """Whether the line was the tap's; one that only looks so is dropped."""
        if not line.startswith("sealband-tap "):
            return False
        found = _TOLD.fullmatch(line)
        if found and int(found[1]) < _TICKS:
            ticks = int(found[1])
            passed = 0 if self._ticks is None else (ticks - self._ticks) % _TICKS
            ms = self._ms + (passed if passed < _TICKS // 2 else 0)
            entry = parse(ms, found[2])
            if entry is not None:
                self._ticks, self._ms = ticks, ms
                self._writer.write(entry)
        return True
