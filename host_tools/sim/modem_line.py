"""The modem's side of the serial line: a pty, what waits to be sent, and the noise on the way.

A board or pyserial opens `port`. Bytes that nobody reads are dropped in the end, as on a UART with nothing connected.
"""

import os
import random
import termios
import time
import tty
from collections.abc import Callable

from host_tools.sim.loop import Loop
from host_tools.sim.modem_network import Conditions

CHUNK = 4096
UNREAD_KEPT = 4096
NOBODY_READS_S = 1.0
PIECE_S = 0.003
_SPEEDS = {getattr(termios, f"B{baud}"): baud for baud in (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)}


def power_key_address(port: str) -> str:
    """Where the presses of the power key of the modem at this port go: one byte each, 1 down, 0 up."""
    return f"\0sealband-modem{port}"


class Line:
    """The pty; used in its loop's thread, apart from `port`.

    Args:
        loop: its thread.
        conditions: how noisy it is.
        on_bytes: given what the host has sent.
        seed: makes the noise repeatable.

    Attributes:
        port: the path that a host opens.
        rate: of the modem, baud; 0: as the host has it.
    """

    def __init__(self, loop: Loop, conditions: Conditions, on_bytes: Callable[[bytes], None], seed: int) -> None:
        self._loop = loop
        self._conditions = conditions
        self._on_bytes = on_bytes
        self._random = random.Random(seed)  # noqa: S311 - noise, no secret
        self.rate = 0
        self._outer, self._slave = os.openpty()
        tty.setraw(self._slave)  # held open: a leaving host does not hang it up
        os.set_blocking(self._outer, False)
        self.port = os.ttyname(self._slave)
        self._waiting = bytearray()
        self._later: list[bytes] = []
        self._taken_at = time.monotonic()
        self._watching: bool | None = None

    def start(self) -> None:
        """Listen."""
        self._watch()

    def close(self) -> None:
        """Take the port away."""
        self._loop.watch(self._outer)
        os.close(self._outer)
        os.close(self._slave)

    @property
    def idle(self) -> bool:
        """Whether everything has been taken by the host."""
        return not self._waiting and not self._later

    def mismatched(self) -> bool:
        """Whether the host talks at another rate than the modem."""
        if not self.rate:
            return False
        speed = termios.tcgetattr(self._slave)[5]
        return _SPEEDS.get(speed, self.rate) != self.rate

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        if self._conditions.deaf:
            return
        if self.mismatched():
            data = bytes(byte ^ 0xA5 | 0x80 for byte in data)
        self._waiting += data
        self._flush()

    def send_line(self, data: bytes) -> None:
        """What the modem says in command mode, with the noise of the conditions."""
        conditions, chance = self._conditions, self._random
        if conditions.garbage and chance.random() < conditions.garbage:
            data = chance.randbytes(chance.randrange(1, 12)) + data
        if conditions.cut and chance.random() < conditions.cut:
            data = data[: chance.randrange(len(data) + 1)]
        if not conditions.pieces and not self._later:
            self.send(data)
            return
        begun = bool(self._later)
        while data:
            n = chance.randrange(1, 5) if conditions.pieces else len(data)
            self._later.append(data[:n])
            data = data[n:]
        if not begun:
            self._piece()

    def _piece(self) -> None:
        if self._later:
            self.send(self._later.pop(0))
            self._loop.at(time.monotonic() + PIECE_S, self._piece)

    def forget(self) -> None:
        """Drop what waits."""
        self._waiting.clear()
        self._later.clear()

    def _flush(self) -> None:
        now = time.monotonic()
        while self._waiting:
            try:
                written = os.write(self._outer, self._waiting[:CHUNK])
            except OSError:
                break
            del self._waiting[:written]
            self._taken_at = now
        if not self._waiting:
            self._taken_at = now
        elif now - self._taken_at > NOBODY_READS_S and len(self._waiting) > UNREAD_KEPT:
            del self._waiting[:-UNREAD_KEPT]
        self._watch()

    def _watch(self) -> None:
        writes = bool(self._waiting)
        if writes != self._watching:
            self._watching = writes
            self._loop.watch(self._outer, self._read, self._flush if writes else None)

    def _read(self) -> None:
        try:
            data = os.read(self._outer, CHUNK)
        except OSError:
            return
        if data and not self._conditions.deaf:
            self._on_bytes(bytes(byte ^ 0xA5 | 0x80 for byte in data) if self.mismatched() else data)
