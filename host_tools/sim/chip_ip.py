"""The stand-in for the chip's lwIP: PPP on the UART, and the board's sockets over it (`host_tools.sim.chip_sockets`).

On the chip this is C, takes no MicroPython heap and runs beside the program; here it runs in a thread of the
supervisor. What the board writes goes as TCP segments in PPP frames over the UART, and comes back so.
"""

import errno
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from host_tools.sim.chip_sockets import ChipSockets
from host_tools.sim.clock import SimClock
from host_tools.sim.loop import Loop
from host_tools.sim.ppp import NONE, USER, Ppp, Side
from host_tools.sim.uart import Uart

CHUNK = 4096
TICK_S = 0.1
TICK_REAL_S = 0.02
RESTART_REAL_S = 0.3
# network.PPP.status() from MicroPython 1.26 on
_Result = TypeVar("_Result")
INACTIVE, ACTIVE, ERROR, CONNECTING, CONNECTED = range(5)


class ChipIp:
    """One chip's. Its methods are called from the thread that answers the board.

    Args:
        uart: the line, lent while PPP uses it.
        clock: the simulation's.

    Attributes:
        session: counts connections; a socket of an earlier one is dead.
    """

    def __init__(self, uart: Uart, clock: SimClock) -> None:
        self._uart = uart
        self._clock = clock
        self._loop: Loop | None = None
        self._ppp: Ppp | None = None
        self._fd = -1
        self._waiting = bytearray()
        self._was_up = False
        self._sockets: ChipSockets | None = None
        self.session = 0

    # what the board asks

    def connect(self, user: str | None, key: str) -> None:
        """Begin PPP.

        Raises:
            OSError: it is going on already (EALREADY), or the UART is not open.
        """
        if self._ppp is not None and self._ppp.running:
            raise OSError(errno.EALREADY, "PPP")
        self.close()
        self._fd, waiting = self._uart.lend()
        self._loop = Loop("board-ppp")
        restart_s = max(RESTART_REAL_S, self._clock.real_delay(3.0))
        self._ppp = Ppp(Side(user=user, key=key), self._write, self._packet, self._changed, restart_s)
        self._loop.call(self._begin, waiting)

    def disconnect(self) -> None:
        """End it in good order; `status` shows when that is done."""
        if self._loop is not None and self._ppp is not None:
            self._loop.call(self._ppp.close, time.monotonic())

    def close(self) -> None:
        """Stop at once, without a word to the peer: the chip was reset, or the program has dropped it."""
        if self._loop is not None:
            self._loop.stop(self._end)
            self._loop = None
        self._ppp = None
        self._uart.take_back()

    def status(self) -> tuple[int, int, str, str, str]:
        """State, error, own address, peer's address, name server."""
        ppp = self._ppp
        if ppp is None:
            return INACTIVE, NONE, "0.0.0.0", "0.0.0.0", "0.0.0.0"  # noqa: S104
        if ppp.up:
            return CONNECTED, NONE, ppp.address, ppp.peer_address, ppp.dns
        nowhere = "0.0.0.0"  # noqa: S104
        if ppp.running:
            return CONNECTING, NONE, nowhere, nowhere, nowhere
        return INACTIVE if ppp.error == USER else ERROR, ppp.error, nowhere, nowhere, nowhere

    @property
    def up(self) -> bool:
        """Whether sockets go this way."""
        return self._ppp is not None and self._ppp.up

    def tcp(self, address: bytes, port: int) -> tuple[int, int]:
        """Begin a connection; returns its number and the loopback port that stands for it.

        Raises:
            OSError: PPP is down, or there are too many.
        """
        return self._call(ChipSockets.open_tcp, address, port)

    def udp(self) -> int:
        """The loopback port to which the board sends datagrams, and from which it gets them: each begins with the
        other end's address and port (big-endian).

        Raises:
            OSError: PPP is down, or there are too many.
        """
        return self._call(ChipSockets.open_udp)

    def code(self, number: int) -> int:
        """EINPROGRESS, 0 or why a connection failed."""
        sockets = self._sockets
        return sockets.code(number) if sockets else errno.ECONNABORTED

    def look_up(self, name: str) -> bytes | None:
        """Begin to look up a name, or go on: its four bytes, none when there is no such, None while it goes on.

        Raises:
            OSError: PPP is down.
        """
        return self._call(ChipSockets.look_up, name)

    def _call(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        if self._loop is None or not self.up:
            raise OSError(errno.EHOSTUNREACH, "no route")

        def do() -> _Result:
            if self._sockets is None:
                raise OSError(errno.EHOSTUNREACH, "no route")
            return function(self._sockets, *arguments)

        return self._loop.call(do)

    # in the loop's thread

    def _begin(self, waiting: bytes) -> None:
        assert self._loop is not None and self._ppp is not None
        self._was_up = False
        if self._fd >= 0:
            self._loop.watch(self._fd, self._read)
        self._ppp.open(time.monotonic())
        if waiting:
            self._ppp.feed(waiting, time.monotonic())
        self._tick()

    def _end(self) -> None:
        assert self._loop is not None
        self._drop()
        if self._fd >= 0:
            self._loop.watch(self._fd)
            self._fd = -1
        self._waiting.clear()

    def _read(self) -> None:
        assert self._ppp is not None
        try:
            data = os.read(self._fd, CHUNK)
        except OSError:
            data = b""
        if data:
            self._ppp.feed(data, time.monotonic())
        elif self._loop is not None:
            self._loop.watch(self._fd)  # the modem's side is gone for good
            self._ppp.lost()

    def _write(self, data: bytes) -> None:
        self._waiting += data
        self._flush()

    def _flush(self) -> None:
        if self._fd < 0 or self._loop is None:
            self._waiting.clear()
            return
        while self._waiting:
            try:
                del self._waiting[: os.write(self._fd, self._waiting[:CHUNK])]
            except OSError:
                break
        self._loop.watch(self._fd, self._read, self._flush if self._waiting else None)

    def _changed(self) -> None:
        assert self._ppp is not None and self._loop is not None
        if self._ppp.up and not self._was_up:
            self.session += 1
            rto_s = max(RESTART_REAL_S, self._clock.real_delay(1.5))
            dns_s = max(RESTART_REAL_S, self._clock.real_delay(1.0))
            self._sockets = ChipSockets(
                self._loop, self._send, self._ppp.address, self._ppp.dns, rto_s=rto_s, dns_s=dns_s
            )
        elif not self._ppp.up and self._was_up:
            self._drop()
        self._was_up = self._ppp.up
        if not self._ppp.running:
            self._loop.soon(self._let_go)

    def _let_go(self) -> None:
        # what was written last is on its way: the line is the program's again
        if self._loop is not None and self._fd >= 0 and self._ppp is not None and not self._ppp.running:
            self._flush()
            self._loop.watch(self._fd)
            self._fd = -1
            self._uart.take_back()

    def _tick(self) -> None:
        if self._ppp is None or self._loop is None:
            return
        now = time.monotonic()
        self._ppp.tick(now)
        if self._sockets is not None:
            self._sockets.tick(now)
        self._loop.at(now + max(TICK_REAL_S, self._clock.real_delay(TICK_S)), self._tick)

    def _drop(self) -> None:
        sockets, self._sockets = self._sockets, None
        if sockets is not None:
            sockets.drop()

    def _send(self, packet: bytes) -> None:
        if self._ppp is not None:
            self._ppp.send_ip(packet)

    def _packet(self, data: bytes) -> None:
        if self._sockets is not None:
            self._sockets.packet(data)
