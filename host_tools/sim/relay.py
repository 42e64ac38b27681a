"""Carries bytes between a simulated TCP connection and a real socket, both ways, with half-closes and resets.

Used at both ends of the cellular path: by the gateway towards the host's servers, and by the chip's stack towards the
board's process.
"""

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable

from host_tools.sim.loop import Loop
from host_tools.sim.tcp import State, Tcp

PIECE = 16384


class Relay:
    """Between the two, once both are connected.

    Args:
        loop: in whose thread this is used.
        tcp: the simulated end; its `on_change` has to call `pump`.
        real: the socket; the relay owns it.
        on_end: called once, when both are done with.
    """

    def __init__(self, loop: Loop, tcp: Tcp, real: socket.socket, on_end: Callable[[], None]) -> None:
        real.setblocking(False)
        with contextlib.suppress(OSError):
            real.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = loop
        self._tcp = tcp
        self._real = real
        self._on_end = on_end
        self._real_done = False
        self._told_real = False
        self._ended = False
        self._pumping = False

    def pump(self) -> None:
        """Move what can be moved."""
        if self._ended or self._pumping:
            return
        self._pumping = True
        try:
            self._to_real()
            if not self._ended:
                self._from_real()
        finally:
            self._pumping = False
        if not self._ended:
            self._finish()
        if not self._ended:
            reads = not self._real_done and self._tcp.room > 0
            self._loop.watch(self._real, self.pump if reads else None, self.pump if self._tcp.waiting else None)

    def end(self, *, reset: bool) -> None:
        """Close the socket; with a reset, so that its other side sees that something went wrong."""
        if self._ended:
            return
        self._ended = True
        self._loop.watch(self._real)
        if reset:
            with contextlib.suppress(OSError):
                self._real.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._real.close()
        self._on_end()

    def _to_real(self) -> None:
        while self._tcp.waiting:
            try:
                n = self._real.send(self._tcp.peek(PIECE))
            except BlockingIOError:
                return
            except OSError as error:
                self._broken(error)
                return
            self._tcp.take(n, time.monotonic())
        if self._tcp.peer_done and not self._told_real:
            self._told_real = True
            with contextlib.suppress(OSError):
                self._real.shutdown(socket.SHUT_WR)

    def _from_real(self) -> None:
        while self._tcp.room and not self._real_done:
            try:
                data = self._real.recv(min(self._tcp.room, PIECE))
            except BlockingIOError:
                return
            except OSError as error:
                self._broken(error)
                return
            if data:
                self._tcp.write(data, time.monotonic())
            else:
                self._real_done = True
                self._tcp.shutdown(time.monotonic())

    def _broken(self, error: OSError) -> None:
        self._tcp.abort(time.monotonic(), error.errno or errno.ECONNRESET)
        self.end(reset=True)

    def _finish(self) -> None:
        if self._tcp.state is State.CLOSED and not (self._tcp.waiting and not self._tcp.error):
            self.end(reset=bool(self._tcp.error))
        elif self._tcp.state is State.TIME_WAIT and self._told_real and self._real_done and not self._tcp.waiting:
            self.end(reset=False)
