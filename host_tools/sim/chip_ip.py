"""The stand-in for the chip's lwIP: PPP on the UART, TCP, UDP and name look-up over it, for the board's sockets.

On the chip this is C, takes no MicroPython heap and runs beside the program; here it runs in a thread of the
supervisor. A socket of the board is one end of a loopback connection whose other end is here: what is written there
goes as TCP segments in PPP frames over the UART, and comes back so. When PPP ends, those connections are reset.
"""

import errno
import ipaddress
import os
import random
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from host_tools.sim import dns, ip
from host_tools.sim.clock import SimClock
from host_tools.sim.ip import Segment
from host_tools.sim.loop import Loop
from host_tools.sim.ppp import NONE, USER, Ppp, Side
from host_tools.sim.relay import Relay
from host_tools.sim.tcp import State, Tcp
from host_tools.sim.uart import Uart

CHUNK = 4096
SOCKETS_MAX = 16  # CONFIG_LWIP_MAX_SOCKETS in MicroPython's builds
TICK_S = 0.1
TICK_REAL_S = 0.02
RESTART_REAL_S = 0.3
PORTS = (49153, 65535)
DNS_TRIES = 4
# network.PPP.status() from MicroPython 1.26 on
_Result = TypeVar("_Result")
INACTIVE, ACTIVE, ERROR, CONNECTING, CONNECTED = range(5)


@dataclass
class _Stream:
    """A TCP socket of the board: `code` is EINPROGRESS, then 0 or why it failed."""

    tcp: Tcp
    listener: socket.socket | None
    code: int = errno.EINPROGRESS
    real: socket.socket | None = None
    relay: Relay | None = None


@dataclass
class _Lookup:
    name: str
    query: bytes
    identifier: int
    port: int
    address: bytes | None = None
    tries: int = 0
    again_at: float = 0.0


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
        self._error = NONE
        self._streams: dict[int, _Stream] = {}
        self._ports: dict[int, int] = {}  # a stream's own port → its number
        self._datagrams: dict[int, tuple[socket.socket, int]] = {}  # own port → socket, the board's
        self._lookup: _Lookup | None = None
        self._next = 0
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
        self._error = NONE
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
        return self._call(self._open_tcp, address, port)

    def udp(self) -> int:
        """The loopback port to which the board sends datagrams, and from which it gets them: each begins with the
        other end's address and port (big-endian).

        Raises:
            OSError: PPP is down, or there are too many.
        """
        return self._call(self._open_udp)

    def code(self, number: int) -> int:
        """EINPROGRESS, 0 or why a connection failed."""
        stream = self._streams.get(number)
        return stream.code if stream else errno.ECONNABORTED

    def look_up(self, name: str) -> bytes | None:
        """Begin to look up a name, or go on: its four bytes, none when there is no such, None while it goes on.

        Raises:
            OSError: PPP is down.
        """
        return self._call(self._look_up, name)

    def _call(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        if self._loop is None or not self.up:
            raise OSError(errno.EHOSTUNREACH, "no route")
        return self._loop.call(function, *arguments)

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
        self._drop_sockets()
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
        elif not self._ppp.up and self._was_up:
            self._drop_sockets()
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
        for stream in list(self._streams.values()):
            stream.tcp.tick(now)
        if self._lookup is not None and now >= self._lookup.again_at:
            self._ask(self._lookup)
        self._loop.at(now + max(TICK_REAL_S, self._clock.real_delay(TICK_S)), self._tick)

    def _drop_sockets(self) -> None:
        for stream in list(self._streams.values()):
            stream.tcp.fail(errno.ECONNABORTED)
            if stream.relay is not None:
                stream.relay.end(reset=True)
            elif stream.listener is not None:
                self._unlisten(stream)
        for real, _ in self._datagrams.values():
            if self._loop is not None:
                self._loop.watch(real)
            real.close()
        self._streams.clear()
        self._ports.clear()
        self._datagrams.clear()
        self._lookup = None

    def _send(self, packet: bytes) -> None:
        if self._ppp is not None:
            self._ppp.send_ip(packet)

    @property
    def _address(self) -> bytes:
        assert self._ppp is not None
        return ipaddress.IPv4Address(self._ppp.address).packed

    def _packet(self, data: bytes) -> None:
        packet = ip.parse(data)
        if packet is None or packet.destination != self._address:
            return
        if packet.protocol == ip.TCP:
            segment = ip.parse_segment(packet)
            number = self._ports.get(segment.destination) if segment else None
            if segment is not None and number is not None:
                self._streams[number].tcp.receive(segment, time.monotonic())
        elif packet.protocol == ip.UDP:
            datagram = ip.parse_datagram(packet)
            if datagram is not None:
                self._deliver(packet.source, *datagram)
        elif packet.protocol == ip.ICMP:
            self._unreachable(packet)

    def _unreachable(self, packet: ip.Packet) -> None:
        message = ip.parse_icmp(packet)
        if message is None or message[0] != ip.UNREACHABLE or len(message[2]) < 28:
            return
        number = self._ports.get(int.from_bytes(message[2][24:26], "big"))
        stream = self._streams.get(number) if number is not None else None
        if stream is not None and stream.tcp.state is State.SYN_SENT:
            stream.tcp.fail(errno.EHOSTUNREACH)

    # TCP

    def _own_port(self) -> int:
        while True:
            port = random.randint(*PORTS)  # noqa: S311 - a simulation
            if port not in self._ports and port not in self._datagrams:
                return port

    def _open_tcp(self, address: bytes, port: int) -> tuple[int, int]:
        for number, stream in list(self._streams.items()):
            if stream.code and stream.code != errno.EINPROGRESS and len(self._streams) >= SOCKETS_MAX:
                del self._streams[number]
        if sum(stream.code in (0, errno.EINPROGRESS) for stream in self._streams.values()) >= SOCKETS_MAX:
            raise OSError(errno.ENFILE, "too many sockets")
        assert self._loop is not None
        self._next = self._next % 0xFFFF + 1
        number, own = self._next, self._own_port()
        listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        listener.setblocking(False)

        def send(segment: Segment) -> None:
            self._send(ip.build_segment(self._address, address, segment))

        rto_s = max(RESTART_REAL_S, self._clock.real_delay(1.5))
        tcp = Tcp((own, port), send, partial(self._tcp_changed, number), rto_s=rto_s)
        self._streams[number] = stream = _Stream(tcp, listener)
        self._ports[own] = number
        self._loop.watch(listener, partial(self._accept, stream, own))
        tcp.connect(time.monotonic())
        return number, int(listener.getsockname()[1])

    def _accept(self, stream: _Stream, own: int) -> None:
        assert stream.listener is not None and self._loop is not None
        try:
            stream.real, _ = stream.listener.accept()
        except OSError:
            return
        self._unlisten(stream)
        stream.relay = Relay(self._loop, stream.tcp, stream.real, partial(self._forget, own))
        if stream.tcp.connected or stream.tcp.error:
            stream.relay.pump()

    def _unlisten(self, stream: _Stream) -> None:
        if stream.listener is not None and self._loop is not None:
            self._loop.watch(stream.listener)
            stream.listener.close()
            stream.listener = None

    def _tcp_changed(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.tcp.error:
            if stream.code == errno.EINPROGRESS:
                stream.code = stream.tcp.error
        elif stream.tcp.connected and stream.code == errno.EINPROGRESS:
            stream.code = 0
        if stream.relay is not None and (stream.tcp.connected or stream.tcp.state is State.CLOSED):
            stream.relay.pump()

    def _forget(self, own: int) -> None:
        number = self._ports.pop(own, None)
        if number is not None and self._streams[number].code == 0:
            del self._streams[number]

    # UDP

    def _open_udp(self) -> int:
        if len(self._datagrams) >= SOCKETS_MAX:
            own, (old, _) = next(iter(self._datagrams.items()))
            del self._datagrams[own]
            assert self._loop is not None
            self._loop.watch(old)
            old.close()
        real = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        real.bind(("127.0.0.1", 0))
        real.setblocking(False)
        own = self._own_port()
        self._datagrams[own] = (real, 0)
        assert self._loop is not None
        self._loop.watch(real, partial(self._datagram, real, own))
        return int(real.getsockname()[1])

    def _datagram(self, real: socket.socket, own: int) -> None:
        try:
            data, sender = real.recvfrom(65535)
        except OSError:
            return
        self._datagrams[own] = (real, sender[1])
        if 6 <= len(data) <= ip.MTU - 28 + 6:
            target = (data[:4], struct.unpack(">H", data[4:6])[0])
            self._send(ip.build_datagram((self._address, own), target, data[6:]))

    def _deliver(self, source: bytes, source_port: int, own: int, data: bytes) -> None:
        lookup = self._lookup
        if lookup is not None and own == lookup.port and source_port == 53:
            found = dns.address(data, lookup.identifier)
            if found is not None:
                lookup.address = found
                lookup.again_at = float("inf")
            return
        real, board_port = self._datagrams.get(own, (None, 0))
        if real is not None and board_port:
            real.sendto(source + struct.pack(">H", source_port) + data, ("127.0.0.1", board_port))

    # names

    def _look_up(self, name: str) -> bytes | None:
        if self._lookup is None or self._lookup.name != name:
            identifier = random.randrange(0x10000)  # noqa: S311
            self._lookup = _Lookup(name, dns.query(name, identifier), identifier, self._own_port())
            self._ask(self._lookup)
            return None
        address = self._lookup.address
        if address is not None:
            self._lookup = None
        return address

    def _ask(self, lookup: _Lookup) -> None:
        assert self._ppp is not None
        lookup.tries += 1
        if lookup.tries > DNS_TRIES:
            lookup.address = b""
            lookup.again_at = float("inf")
            return
        server = (ipaddress.IPv4Address(self._ppp.dns).packed, 53)
        self._send(ip.build_datagram((self._address, lookup.port), server, lookup.query))
        lookup.again_at = time.monotonic() + max(RESTART_REAL_S, self._clock.real_delay(1.0))
