"""A MicroPython process whose I2C bus and ADC are the simulation's parts, in a time that only moves while it sleeps."""

import ast
import errno
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from host_tools.sim.parts import Nack, Part
from tests.support.micropython import Micropython, MicropythonError

HERE = Path(__file__).parent
# how long the board takes for one bus transaction
TRANSACTION_S = 0.0005


class Bus(Micropython):
    """`bus_device` on the device side; drivers get `bus_device.I2C()`, `bus_device.sleep_ms`, `bus_device.ticks_ms`."""

    def __init__(self, now: float = 1_760_000_000.0, *, heap: str | None = None) -> None:
        super().__init__(heap=heap, path=[HERE])
        self.now = now
        self.parts: dict[int, Part] = {}
        self.adc: Mapping[int, Callable[[], int]] = {}
        self.late_s: Callable[[], float] = lambda: 0.0
        self.run("import bus_device as bus")

    def clock(self) -> float:
        """The bus's Unix time, for the parts."""
        return self.now

    def solder(self, parts: Iterable[Part], adc: Mapping[int, Callable[[], int]] | None = None) -> None:
        """Put these parts on the bus, in place of what was there."""
        self.parts = {part.address: part for part in parts}
        self.adc = adc or {}

    def _ask(self, verb: str, text: str, timeout_s: float) -> str:
        assert self._process.stdin
        self._process.stdin.write(f"{verb}{text!r}\n".encode())
        self._process.stdin.flush()
        while True:
            line = self._readline(timeout_s)
            if line.startswith("!"):
                raise MicropythonError(*ast.literal_eval(line[1:]))
            if not line.startswith("?"):
                return line[1:]
            answer = self._answer(*ast.literal_eval(line[1:]))
            self._process.stdin.write(f"{answer!r}\n".encode())
            self._process.stdin.flush()

    def _answer(self, what: str, *arguments: Any) -> int | bytes:
        match what, arguments:
            case "sleep", (milliseconds,):
                self.now += milliseconds / 1000 + self.late_s()
                return 0
            case "ticks", ():
                return int(self.now * 1000) & 0x3FFFFFFF
            case "adc", (pin,):
                return self.adc[pin]() if pin in self.adc else -errno.EIO
        self.now += TRANSACTION_S
        address = arguments[0]
        if address not in self.parts:
            return -errno.ENODEV
        try:
            if what == "write":
                self.parts[address].write(arguments[1])
                return 0
            self.parts[address].write(bytes([arguments[1]]))
            return self.parts[address].read(arguments[2])
        except Nack:
            return -errno.ENODEV
