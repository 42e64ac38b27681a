"""The virtual chip's UARTs, as ESP-IDF's driver: the one towards a modem, which is the pty of `host_tools.sim.modem` or
of a real modem, and those towards something simulated that talks by itself.

What arrives waits in a receive buffer of the size that the program has chosen, behind which there is the hardware's
FIFO; what comes when both are full is lost. Bytes arrive at the line's rate in virtual time, and everything is worked
out when the program looks. Since a computer is not always on time, a program that looks often loses nothing: what then
has no room stays on the line.
"""

import contextlib
import os
import select
import socket
import termios
import time
import tty
from collections.abc import Callable
from typing import Protocol

from host_tools.sim.modem_line import power_key_address

FIFO = 128  # the ESP32's (Technical Reference Manual, UART), behind the driver's buffer
RX_MIN = 129  # ESP-IDF refuses a ring buffer that is no larger than the FIFO
READ_MAX = 4096
SLACK_REAL_S = 0.25
WRITE_S = 1.0
EPERM, ENODEV = 1, 19
# what bytes look like at another rate than that they were sent with
_OTHER_RATE = bytes((byte * 167 + 131) & 0xFF for byte in range(256))


class Line(Protocol):
    """What a program does with a UART."""

    def open(self, baud: int, rxbuf: int) -> None:
        """Set it up."""

    def close(self) -> None:
        """Switch it off."""

    def any(self) -> int:
        """How many bytes wait."""

    def read(self, n: int) -> bytes:
        """At most so many of them."""

    def write(self, data: bytes) -> None:
        """Send bytes."""


class Talker(Protocol):
    """Something on a UART that talks by itself."""

    baudrate: int

    def say(self, now: float) -> bytes:
        """What it has said since it was asked last, up to this Unix time."""

    def pin(self, number: int, level: int, now: float) -> None:
        """An output of the chip has this level; with level 0 also when nobody drives it any more."""


def check_settings(baud: int, rxbuf: int) -> None:
    """Whether ESP-IDF takes them.

    Raises:
        ValueError: no such rate.
        OSError: no such buffer.
    """
    if not 300 <= baud <= 5_000_000:
        raise ValueError("invalid baudrate")
    if rxbuf < RX_MIN:
        raise OSError(EPERM, "uart_driver_install")


class _Receiver:
    """What has come in and waits to be read."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def any(self) -> int:
        """How many bytes wait."""
        self._arrive()
        return len(self._waiting)

    def read(self, n: int) -> bytes:
        """At most so many of the bytes that wait."""
        self._arrive()
        data = bytes(self._waiting[: min(n, READ_MAX)])
        del self._waiting[: len(data)]
        return data

    def _arrive(self) -> None:
        raise NotImplementedError


class TalkerUart(_Receiver):
    """A UART towards something that talks; what is written to it goes nowhere.

    Args:
        talker: what is at the other end.
        now: virtual time in seconds.

    Attributes:
        lost: how many bytes came when there was no room.
    """

    def __init__(self, talker: Talker, now: Callable[[], float]) -> None:
        super().__init__()
        self._talker = talker
        self._now = now
        self._baud = 0  # 0: it is off
        self._capacity = 0
        self._coming = bytearray()
        self._looked_at = 0.0
        self._looked_real = 0.0
        self.lost = 0

    def open(self, baud: int, rxbuf: int) -> None:
        """Set it up; what was said before is not heard.

        Raises:
            ValueError: no such rate.
            OSError: no such buffer.
        """
        check_settings(baud, rxbuf)
        self._talker.say(self._now())
        self._baud, self._capacity = baud, rxbuf + FIFO
        self._coming.clear()
        self._waiting.clear()
        self._looked_at, self._looked_real = self._now(), time.monotonic()

    def close(self) -> None:
        """Switch it off."""
        self._baud = 0

    def write(self, data: bytes) -> None:
        """Send bytes, to which nobody listens."""

    def _arrive(self) -> None:
        if not self._baud:
            return
        now, real = self._now(), time.monotonic()
        said = self._talker.say(now)
        if self._baud != self._talker.baudrate:
            said = said.translate(_OTHER_RATE)
        self._coming += said
        count = int((now - self._looked_at) * self._baud / 10) + 1
        late = real - self._looked_real > SLACK_REAL_S
        self._looked_at, self._looked_real = now, real
        arrived = self._coming[:count]
        del self._coming[:count]
        room = len(arrived) if late else max(0, self._capacity - len(self._waiting))
        self._waiting += arrived[:room]
        self.lost += len(arrived[room:])


class Uart(_Receiver):
    """The one that a modem may be connected to.

    Args:
        path: of the modem's pty; None: the pins are open.
        now: virtual time in seconds.

    Attributes:
        lost: how many bytes came when there was no room.
    """

    def __init__(self, path: str | None, now: Callable[[], float]) -> None:
        super().__init__()
        self._path = path
        self._now = now
        self._fd = -1
        self._baud = 115200
        self._capacity = 256 + FIFO
        self._looked_at = 0.0
        self._looked_real = 0.0
        self.lost = 0
        self.lent = False

    def open(self, baud: int, rxbuf: int) -> None:
        """Set it up; what has arrived before is gone.

        Raises:
            ValueError: no such rate or buffer.
            OSError: there is no modem any more.
        """
        check_settings(baud, rxbuf)
        self._baud, self._capacity = baud, rxbuf + FIFO
        if self._path is None:
            return
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._fd)
        modes = termios.tcgetattr(self._fd)
        modes[4] = modes[5] = getattr(termios, f"B{baud}", termios.B115200)
        termios.tcsetattr(self._fd, termios.TCSANOW, modes)
        termios.tcflush(self._fd, termios.TCIFLUSH)
        self._waiting.clear()
        self._mark()

    def close(self) -> None:
        """Switch it off."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._waiting.clear()
        self.lent = False

    def lend(self) -> tuple[int, bytes]:
        """Give the line to PPP, which reads it from here on: the file descriptor, and what waits.

        Raises:
            OSError: it is not open.
        """
        if self._path is not None and self._fd < 0:
            raise OSError(ENODEV, "the UART is not open")
        waiting = bytes(self._waiting)
        self._waiting.clear()
        self.lent = True
        return self._fd, waiting

    def take_back(self) -> None:
        """PPP reads it no more."""
        self.lent = False
        self._mark()

    def write(self, data: bytes) -> None:
        """Send bytes; blocks while the line is full."""
        if self._fd < 0 or self.lent:
            return
        limit = time.monotonic() + WRITE_S
        while data and time.monotonic() < limit:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                select.select([], [self._fd], [], WRITE_S)
            except OSError:
                return  # the modem is gone: nobody hears it

    def _mark(self) -> None:
        self._looked_at, self._looked_real = self._now(), time.monotonic()

    def _arrive(self) -> None:
        if self._fd < 0 or self.lent:
            return
        arrived = int((self._now() - self._looked_at) * self._baud / 10) + 1
        late = time.monotonic() - self._looked_real > SLACK_REAL_S
        self._mark()
        while arrived > 0:
            room = self._capacity - len(self._waiting)
            if room <= 0 and not late:
                return
            try:
                data = os.read(self._fd, min(arrived, READ_MAX if late else room))
            except OSError:
                return
            if not data:
                return
            arrived -= len(data)
            self._waiting += data[:room]
            self.lost += max(0, len(data) - room)


class PowerKey:
    """The output that presses the modem's power key.

    Args:
        path: of the modem's pty; None: nothing is connected.
        pin: the output's number.
    """

    def __init__(self, path: str | None, pin: int | None) -> None:
        self.pin = pin if path is not None else None
        self._address = power_key_address(path or "")
        self._down = False

    def set(self, level: int) -> None:
        """The output has this level: 1 presses the key."""
        if bool(level) == self._down:
            return
        self._down = bool(level)
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as key:
            key.sendto(bytes((self._down,)), self._address)
