"""Parts that answer from a trace, in place of those on a simulated wearer.

A driver that has been changed since asks differently: other lengths, other settings, more or fewer questions. So
answers wait in a queue for each address and register, and are given in their order, whenever they are asked for:

- an answer that was what the driver had written there is what the driver has written now;
- a register that was read in pieces of different length is a FIFO: its bytes follow each other, whatever the pieces;
- a piece of what was read in one, from a register in the middle of it, is taken from the newest answer;
- a queue that is used up goes on with its last answer where that never changed, and else acknowledges nothing;
- a register of which the trace knows nothing is not acknowledged either, and is told once.

ADC pins and UARTs say what they said at that time.
"""

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from host_tools.device.trace import Entry, Trace
from host_tools.sim.outfit import Outfit
from host_tools.sim.parts import Nack

AFTER_S = 2.0  # virtual seconds behind the last entry, until the trace counts as played


@dataclass(frozen=True, slots=True)
class _Answer:
    data: bytes | None  # None: not acknowledged
    echo: bool = False


class Replay:
    """One trace, played from the application's start.

    Args:
        trace: what is played.
        now: virtual seconds.

    Attributes:
        unknown: (address, register) that were asked for and are not in the trace.
    """

    def __init__(self, trace: Trace, now: Callable[[], float]) -> None:
        self.unknown: set[tuple[int, int | None]] = set()
        self._trace = trace
        self._now = now
        self._begun: float | None = None
        self._parts: list[ReplayedPart] = []
        self._talkers: list[_Talker] = []

    def begin(self) -> None:
        """The application begins; later starts change nothing, until `rewind`."""
        if self._begun is None:
            self._begun = self._now()

    def rewind(self) -> None:
        """Play it from its beginning, at the next `begin`."""
        self._begun = None
        for part in self._parts:
            part.rewind()
        for talker in self._talkers:
            talker.rewind()

    @property
    def played(self) -> bool:
        """Whether it is over."""
        return self._begun is not None and self.at() > self._trace.duration_ms + AFTER_S * 1000

    def at(self) -> float:
        """Milliseconds since its beginning; -1 before that."""
        return -1 if self._begun is None else (self._now() - self._begun) * 1000

    def fit(self, outfit: Outfit) -> Outfit:
        """Parts, pins and UARTs of the trace; levels of inputs stay as they are."""
        by_address: dict[int, list[Entry]] = defaultdict(list)
        by_pin: dict[int, list[Entry]] = defaultdict(list)
        by_uart: dict[int, list[Entry]] = {number: [] for number in outfit.serial}
        for entry in self._trace.entries:
            if entry.kind == "a":
                by_pin[entry.place].append(entry)
            elif entry.kind == "u":
                by_uart.setdefault(entry.place, []).append(entry)
            else:
                by_address[entry.place].append(entry)
        self._parts = [ReplayedPart(address, entries, self) for address, entries in by_address.items()]
        rates = {number: talker.baudrate for number, talker in outfit.serial.items()}
        talkers = {number: _Talker(entries, rates.get(number, 9600), self) for number, entries in by_uart.items()}
        self._talkers = list(talkers.values())
        adc = {pin: self._adc(entries) for pin, entries in by_pin.items()}
        return Outfit(tuple(self._parts), adc, outfit.inputs, dict(talkers))

    def _adc(self, entries: list[Entry]) -> Callable[[], int]:
        times = [entry.ms for entry in entries]
        return lambda: entries[max(0, bisect_right(times, self.at()) - 1)].microvolts


class ReplayedPart:
    """One address of an I2C bus.

    Args:
        address: 7 bits.
        entries: of it, in their order.
        replay: whose time it has.
    """

    def __init__(self, address: int, entries: list[Entry], replay: Replay) -> None:
        self.address = address
        self._entries = entries
        self._replay = replay
        lengths: dict[int | None, set[int]] = defaultdict(set)
        for entry in entries:
            if entry.kind == "r":
                lengths[entry.register].add(len(entry.data))
        self._streams = {register for register, found in lengths.items() if len(found) > 1}
        self.rewind()

    def rewind(self) -> None:
        """From the beginning."""
        self._pointer: int | None = None
        self._written: dict[int, bytes] = {}
        self._newest: dict[int | None, bytes] = {}
        self._answers: dict[int | None, deque[_Answer]] = defaultdict(deque)
        self._refusals: dict[int | None, deque[bool]] = defaultdict(deque)
        written: dict[int | None, bytes] = {}
        for entry in self._entries:
            if entry.kind == "w":
                written[entry.register] = entry.data
                self._refusals[entry.register].append(False)
            elif entry.kind == "n" and entry.data:
                self._refusals[entry.register].append(True)
            elif entry.kind == "n":
                self._answers[entry.register].append(_Answer(None))
            else:
                echo = written.get(entry.register) == entry.data and entry.register not in self._streams
                self._answers[entry.register].append(_Answer(entry.data, echo))
        self._constant = {
            register: len({one.data for one in queue}) == 1 and queue[0].data is not None
            for register, queue in self._answers.items()
        }

    def write(self, data: bytes) -> None:
        if self._replay.at() < 0:
            raise Nack(f"0x{self.address:02x}")
        if not data:
            return
        self._pointer = data[0]
        if len(data) == 1:
            return
        refusals = self._refusals.get(data[0])
        if refusals and refusals.popleft():
            raise Nack(f"0x{self.address:02x}")
        self._written[data[0]] = data[1:]

    def read(self, n: int) -> bytes:
        if self._replay.at() < 0:
            raise Nack(f"0x{self.address:02x}")
        register = self._pointer
        queue = self._answers.get(register)
        if queue is None:
            return self._pad(self._elsewhere(register, n), n)
        if not queue:
            if not self._constant[register]:
                raise Nack(f"0x{self.address:02x}")
            return self._pad(self._newest[register], n)
        return self._stream(register, queue, n) if register in self._streams else self._one(register, queue, n)

    def _one(self, register: int | None, queue: deque[_Answer], n: int) -> bytes:
        answer = queue.popleft()
        if answer.data is None:
            raise Nack(f"0x{self.address:02x}")
        data = answer.data
        if answer.echo and register is not None and register in self._written:
            data = self._written[register]
        while len(data) < n and n % len(answer.data) == 0 and queue and queue[0].data is not None:
            data += queue.popleft().data or b""
        self._newest[register] = data
        return self._pad(data, n)

    def _stream(self, register: int | None, queue: deque[_Answer], n: int) -> bytes:
        data = b""
        while queue and len(data) < n:
            answer = queue.popleft()
            if answer.data is None:
                raise Nack(f"0x{self.address:02x}")
            data += answer.data
        if len(data) > n:
            queue.appendleft(_Answer(data[n:]))
        self._newest[register] = data[:n]
        return self._pad(data, n)

    def _elsewhere(self, register: int | None, n: int) -> bytes:
        """What is known of a register that the trace never reads from."""
        if register is not None and register in self._written:
            return self._written[register]
        for start, queue in self._answers.items():
            data = self._newest.get(start) or (queue[0].data if queue else None)
            if register is not None and start is not None and data and start < register < start + len(data):
                return data[register - start :]
        self._replay.unknown.add((self.address, register))
        raise Nack(f"0x{self.address:02x}")

    def _pad(self, data: bytes, n: int) -> bytes:
        return data[:n] + bytes(n - len(data[:n]))


class _Talker:
    def __init__(self, entries: list[Entry], baudrate: int, replay: Replay) -> None:
        self.baudrate = baudrate
        self._entries = entries
        self._replay = replay
        self._said = 0

    def rewind(self) -> None:
        self._said = 0

    def say(self, now: float) -> bytes:
        at = self._replay.at()
        begin = self._said
        while self._said < len(self._entries) and self._entries[self._said].ms <= at:
            self._said += 1
        return b"".join(entry.data for entry in self._entries[begin : self._said])

    def pin(self, number: int, level: int, now: float) -> None:
        pass
