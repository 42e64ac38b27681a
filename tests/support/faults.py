"""Random register faults between a driver on MicroPython and its model: one a measurement, by the real sampler."""

import ast
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from host_tools.sim.gnss import GnssFault, Receiver, sentence
from host_tools.sim.parts import Fault, Nack, Part, RegisterPart
from host_tools.sim.uart import TalkerUart
from tests.support.bus import HERE
from tests.support.micropython import Micropython

ENODEV, ETIMEDOUT, EIO = 19, 110, 5
NOW = 1_760_000_000.0
# how bus and driver may fail beside what OSError(ENODEV) says: (which of fault_device's errors, its arguments)
ERRORS: tuple[tuple[int, tuple[Any, ...]], ...] = (
    (0, (ETIMEDOUT,)),
    (0, (EIO,)),
    (0, ()),
    (1, ("bus",)),
    (2, ("bus",)),
    (3, ()),
    (4, ("bus",)),
    (5, ("bus",)),
    (6, ("bus",)),
)
KINDS = (
    *Fault,
    "flip",
    "stuck bit",
    "wrong byte",
    "nack",
    "gone",
    "frozen",
    "error",
    "lost write",
    "reset",
    "off by one",
)
# what may be wrong between a receiver and its UART, beside its own faults
LINE_KINDS = (*GnssFault, "bytes flip", "bytes are lost", "chunk is lost", "error", "sentences lie")
# what the records may say, in their own scale; nothing else is told, whatever the bus does
SANE: Mapping[int, tuple[int, int]] = {
    1: (25, 250),  # beats a minute
    2: (50, 100),  # %
    3: (-4000, 8500),  # hundredths of a degree Celsius
    4: (1000, 20000),  # mV
    5: (0, 100_000),  # steps since the last reading
    6: (0, 3),
    7: (-9_000_000, 9_000_000),
    8: (-18_000_000, 18_000_000),
    9: (-1000, 20_000),
    10: (-400, 850),  # tenths of a degree Celsius
    11: (3000, 11_000),  # tenths of a hPa
    12: (1, 2000),  # ms
    13: (0, 1),
    15: (0, 28_000),  # hundredths of m/s2: 16 g in three axes
}


@dataclass
class Outcome:
    """What became of one measurement: what was wrong (None: nothing), what was told, how many errors were counted."""

    kind: Fault | GnssFault | str | None
    detail: str
    told: list[tuple[int, int]]
    errors: int
    escaped: str
    took_ms: int


@dataclass
class _Wrong:
    """One fault: from transaction `first` on, for so many, and what is drawn for it."""

    kind: Fault | GnssFault | str
    first: int
    count: int
    bit: int
    error: tuple[int, tuple[Any, ...]]
    seen: dict[tuple[int, int], bytes] = field(default_factory=dict)


class FaultyBus(Micropython):
    """`fault_device` on the device side (as `dev`); `spoilt` is the address of the part that is not well.

    Args:
        seed: of the faults.
        heap: MicroPython's, as `-X heapsize=` takes it.
    """

    def __init__(self, seed: int, *, heap: str = "128wK") -> None:
        super().__init__(heap=heap, path=[HERE])
        self.us = 0
        self.outcomes: list[Outcome] = []
        self.spoilt = -1
        self.parts: dict[int, Part] = {}
        self.adc: Callable[[], int] = lambda: 2_000_000
        self.make: Callable[[], Part] | None = None
        self.receiver: Receiver | None = None
        self._uart: TalkerUart | None = None
        self._random = random.Random(seed)
        self._wrong: _Wrong | None = None
        self._transactions = 0
        self._well_every = 12
        self._usual = 12  # transactions of a measurement that is well
        self.run("import fault_device as dev")

    def clock(self) -> float:
        """The device's Unix time, for the parts."""
        return NOW + self.us / 1e6

    def trials(self, count: int, *, well_every: int = 12) -> list[Outcome]:
        """So many measurements by `trials` on the device; each has a fault, but for every `well_every`th."""
        self.outcomes = []
        self._well_every = well_every
        self.run(f"trials.run({count})", 300)
        return self.outcomes

    def _ask(self, verb: str, text: str, timeout_s: float) -> str:
        assert self._process.stdin
        pipe = self._process.stdin
        pipe.write(f"{verb}{text!r}\n".encode())
        pipe.flush()
        while True:
            line = self._readline(timeout_s)
            if not line.startswith("?"):
                if line.startswith("!"):
                    raise AssertionError(line[1:])
                return line[1:]
            what, *arguments, self.us = ast.literal_eval(line[1:])
            pipe.write(b"%r\n" % (self._answer(what, arguments),))
            pipe.flush()

    def _answer(self, what: str, arguments: list[Any]) -> Any:
        if what == "trial":
            self._begin(arguments[0])
            return 0
        if what == "end":
            self._end(*arguments)
            return 0
        match what:
            case "adc":
                return self._convert()
            case "pin":
                if self.receiver:
                    self.receiver.pin(1, arguments[0], self.clock())
                return 0
            case "uart":
                return self._serial(*arguments)
        address = arguments[0]
        part = self.parts.get(address)
        if part is None:
            return (0, (ENODEV,))
        spoilt = address == self.spoilt
        if spoilt:
            self._transactions += 1
        wrong = self._wrong if spoilt and self._due() else None
        try:
            if what == "write":
                return self._write(part, address, arguments[1], wrong)
            return self._read(part, address, arguments[1], arguments[2], wrong)
        except Nack:
            return (0, (ENODEV,))

    def _begin(self, number: int) -> None:
        part = self.parts.get(self.spoilt)
        if isinstance(part, RegisterPart):
            part.fault = None
        if self.receiver:
            self.receiver.fault = None
        self._wrong = None
        self._transactions = 0
        if number % self._well_every == 0:
            return
        source = self._random
        lasts = source.random() < 0.5
        self._wrong = _Wrong(
            kind=source.choice(LINE_KINDS if self.receiver else KINDS),
            first=0 if source.random() < 0.15 else source.randrange(self._usual + 1),
            count=1_000_000 if lasts else 1,
            bit=source.randrange(64),
            error=source.choice(ERRORS),
        )

    def _end(self, number: int, told: list[tuple[int, int]], errors: int, escaped: str, took_ms: int) -> None:
        wrong = self._wrong
        if wrong is None:
            self._usual = max(1, self._transactions)
        kind = wrong.kind if wrong else None
        self.outcomes.append(Outcome(kind, f"{number}: {wrong}", told, errors, escaped, took_ms))

    def _due(self) -> bool:
        wrong = self._wrong
        return wrong is not None and wrong.first <= self._transactions - 1 < wrong.first + wrong.count

    def _write(self, part: Part, address: int, data: bytes, wrong: _Wrong | None) -> Any:
        match wrong.kind if wrong else None:
            case "lost write":
                return 0
            case "wrong byte" | "flip" if len(data) > 1:
                data = _flip(data, wrong.bit) if wrong else data
        spoilt = self._spoil(part, address, wrong)
        if isinstance(spoilt, tuple):
            return spoilt
        spoilt.write(data)
        return 0

    def _read(self, part: Part, address: int, register: int, count: int, wrong: _Wrong | None) -> Any:
        spoilt = self._spoil(part, address, wrong)
        if isinstance(spoilt, tuple):
            return spoilt
        spoilt.write(bytes([register + 1 & 0xFF if wrong and wrong.kind == "off by one" else register]))
        data = spoilt.read(count)
        if wrong is None or not data:
            return data
        match wrong.kind:
            case "flip":
                return _flip(data, wrong.bit)
            case "stuck bit":
                place, bit = wrong.bit // 8 % len(data), 1 << wrong.bit % 8
                value = data[place] | bit if wrong.error[0] & 1 else data[place] & ~bit
                return data[:place] + bytes([value]) + data[place + 1 :]
            case "wrong byte":
                place = wrong.bit % len(data)
                return data[:place] + self._random.randbytes(1) + data[place + 1 :]
            case "frozen":
                return wrong.seen.setdefault((register, count), data)
        return data

    def _spoil(self, part: Part, address: int, wrong: _Wrong | None) -> Part | tuple[int, tuple[Any, ...]]:
        """The part as the fault leaves it, or how the bus fails."""
        if wrong is None:
            return part
        match wrong.kind:
            case Fault():
                assert isinstance(part, RegisterPart)
                part.fault = wrong.kind
            case "nack" | "gone":
                return (0, (ENODEV,))
            case "error":
                return wrong.error
            case "reset" if self.make is not None:
                part = self.parts[address] = self.make()
                part.address = address
                wrong.count = 1
        return part

    def _convert(self) -> Any:
        self._transactions += 1
        wrong = self._wrong if self._due() else None
        if wrong is None:
            return self.adc()
        match wrong.kind:
            case "error" | "nack" | "gone" | Fault.ABSENT | Fault.FLAKY:
                return wrong.error
            case "flip" | "stuck bit":
                return self.adc() ^ 1 << wrong.bit % 24
            case "wrong byte" | Fault.RANDOM:
                return self._random.randrange(1 << 24)
            case Fault.HIGH:
                return 3_300_000
        return 0

    def _serial(self, verb: str, *arguments: int) -> Any:
        assert self.receiver
        if verb == "open":
            self._uart = TalkerUart(self.receiver, self.clock)
            self._uart.open(*arguments)
            return 0
        assert self._uart
        if verb == "close":
            self._uart.close()
            return 0
        data = self._uart.read(*arguments)
        if data:
            self._transactions += 1
        wrong = self._wrong if self._due() else None
        if wrong is None:
            return data
        source = self._random
        match wrong.kind:
            case GnssFault():
                self.receiver.fault = wrong.kind
            case "error":
                return wrong.error
            case "bytes flip":
                return bytes(byte ^ (source.random() < 0.05) << wrong.bit % 8 for byte in data)
            case "bytes are lost":
                return bytes(byte for byte in data if source.random() > 0.05)
            case "chunk is lost":
                return b""
            case "sentences lie" if data:
                return self._lie(arguments[0])
        return data

    def _lie(self, most: int) -> bytes:
        """A sentence with its checksum right and something else wrong, as far as the program's buffer takes it."""
        assert self.receiver
        source = self._random
        whole = self.receiver._second(int(self.clock()) + source.randrange(2)).decode("ascii", "replace").splitlines()
        fields = source.choice(whole)[1:-3].split(",")
        for _ in range(source.randrange(1, 4)):
            place = source.randrange(len(fields))
            odd = ("", "-", "9" * 9, "99999.99999", "-0.0", ".", "N", "1e9", "+5", "0", "\x7f")
            fields[place] = source.choice((*odd, source.choice(fields)))
        if source.random() < 0.2:
            fields = fields[: source.randrange(len(fields))]
        return sentence(",".join(fields))[:most]


def _flip(data: bytes, bit: int) -> bytes:
    place = bit // 8 % len(data)
    return data[:place] + bytes([data[place] ^ 1 << bit % 8]) + data[place + 1 :]
