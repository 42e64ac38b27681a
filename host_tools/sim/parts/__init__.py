"""Parts on the simulated board's I2C bus, at register level: what a driver writes and reads, byte by byte."""

import enum
import random
from typing import Protocol


class Nack(Exception):
    """The part does not acknowledge; on the board an OSError."""


class Part(Protocol):
    """What the board's bus talks to."""

    address: int

    def write(self, data: bytes) -> None:
        """A write transaction; empty when the bus is only scanned."""

    def read(self, n: int) -> bytes:
        """A read transaction of `n` bytes."""


class Fault(enum.Enum):
    """What can be wrong with a part or its wires."""

    ABSENT = "does not acknowledge"
    LOW = "every byte reads 00"
    HIGH = "every byte reads ff"
    FROZEN = "registers answer, but nothing is measured any more"
    DEAF = "acknowledges writes and forgets them"
    RANDOM = "every byte reads as something else"
    FLAKY = "every third transaction is not acknowledged"


class RegisterPart:
    """A part with an address pointer that counts on, and faults that can be put in at any time.

    Subclasses give `_load` and `_store` for single bytes, and may override `_next`, which moves the pointer.
    """

    def __init__(self, address: int) -> None:
        self.address = address
        self.fault: Fault | None = None
        self._pointer = 0
        self._transactions = 0
        self._noise = random.Random(address)  # noqa: S311 - a simulation, no secret

    def write(self, data: bytes) -> None:
        self._begin()
        if not data:
            return
        self._pointer = data[0]
        if self.fault is Fault.DEAF:
            return
        for value in data[1:]:
            self._store(self._pointer, value)
            self._pointer = self._next(self._pointer)

    def read(self, n: int) -> bytes:
        self._begin()
        match self.fault:
            case Fault.LOW:
                return bytes(n)
            case Fault.HIGH:
                return b"\xff" * n
            case Fault.RANDOM:
                return self._noise.randbytes(n)
        data = bytearray()
        for _ in range(n):
            data.append(self._load(self._pointer))
            self._pointer = self._next(self._pointer)
        return bytes(data)

    def _begin(self) -> None:
        self._transactions += 1
        if self.fault is Fault.ABSENT or (self.fault is Fault.FLAKY and self._transactions % 3 == 0):
            raise Nack(f"0x{self.address:02x}")

    def _next(self, register: int) -> int:
        return (register + 1) & 0xFF

    def _load(self, register: int) -> int:
        raise NotImplementedError

    def _store(self, register: int, value: int) -> None:
        raise NotImplementedError
