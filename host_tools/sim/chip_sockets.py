"""The sockets of the stand-in for the chip's lwIP: TCP, UDP and name look-up over one PPP session.

A socket of the board is one end of a loopback connection whose other end is here. When the session ends, those
connections are reset. Used in its loop's thread only.
"""

import errno
import ipaddress
import random
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from host_tools.sim import dns, ip
from host_tools.sim.ip import Segment
from host_tools.sim.loop import Loop
from host_tools.sim.relay import Relay
from host_tools.sim.tcp import State, Tcp

SOCKETS_MAX = 16  # CONFIG_LWIP_MAX_SOCKETS in MicroPython's builds
PORTS = (49153, 65535)
DNS_TRIES = 4


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


class ChipSockets:
    """Those of one session.

    Args:
        loop: in whose thread this is used.
        send: takes an IP packet for the peer.
        address: the chip's.
        name_server: the peer's.
        rto_s: TCP's time-out in real seconds.
        dns_s: a question's, in real seconds.
    """

    def __init__(
        self,
        loop: Loop,
        send: Callable[[bytes], None],
        address: str,
        name_server: str,
        *,
        rto_s: float,
        dns_s: float,
    ) -> None:
        self._loop = loop
        self._send = send
        self._address = ipaddress.IPv4Address(address).packed
        self._name_server = ipaddress.IPv4Address(name_server).packed
        self._rto_s = rto_s
        self._dns_s = dns_s
        self._streams: dict[int, _Stream] = {}
        self._ports: dict[int, int] = {}  # a stream's own port → its number
        self._datagrams: dict[int, tuple[socket.socket, int]] = {}  # own port → socket, the board's
        self._lookup: _Lookup | None = None
        self._next = 0

    def tick(self, now: float) -> None:
        """Do what is due."""
        for stream in list(self._streams.values()):
            stream.tcp.tick(now)
        if self._lookup is not None and now >= self._lookup.again_at:
            self._ask(self._lookup)

    def drop(self) -> None:
        """The session is over."""
        for stream in list(self._streams.values()):
            stream.tcp.fail(errno.ECONNABORTED)
            if stream.relay is not None:
                stream.relay.end(reset=True)
            elif stream.listener is not None:
                self._unlisten(stream)
        for real, _ in self._datagrams.values():
            self._loop.watch(real)
            real.close()
        self._streams.clear()
        self._ports.clear()
        self._datagrams.clear()
        self._lookup = None

    def packet(self, data: bytes) -> None:
        """Take one from the peer."""
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

    def code(self, number: int) -> int:
        """As `ChipIp.code`."""
        stream = self._streams.get(number)
        return stream.code if stream else errno.ECONNABORTED

    def _own_port(self) -> int:
        while True:
            port = random.randint(*PORTS)  # noqa: S311 - a simulation
            if port not in self._ports and port not in self._datagrams:
                return port

    def open_tcp(self, address: bytes, port: int) -> tuple[int, int]:
        """As `ChipIp.tcp`."""
        for number, stream in list(self._streams.items()):
            if stream.code and stream.code != errno.EINPROGRESS and len(self._streams) >= SOCKETS_MAX:
                del self._streams[number]
        if sum(stream.code in (0, errno.EINPROGRESS) for stream in self._streams.values()) >= SOCKETS_MAX:
            raise OSError(errno.ENFILE, "too many sockets")
        self._next = self._next % 0xFFFF + 1
        number, own = self._next, self._own_port()
        listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        listener.setblocking(False)

        def send(segment: Segment) -> None:
            self._send(ip.build_segment(self._address, address, segment))

        tcp = Tcp((own, port), send, partial(self._tcp_changed, number), rto_s=self._rto_s)
        self._streams[number] = stream = _Stream(tcp, listener)
        self._ports[own] = number
        self._loop.watch(listener, partial(self._accept, stream, own))
        tcp.connect(time.monotonic())
        return number, int(listener.getsockname()[1])

    def _accept(self, stream: _Stream, own: int) -> None:
        assert stream.listener is not None
        try:
            stream.real, _ = stream.listener.accept()
        except OSError:
            return
        self._unlisten(stream)
        stream.relay = Relay(self._loop, stream.tcp, stream.real, partial(self._forget, own))
        if stream.tcp.connected or stream.tcp.error:
            stream.relay.pump()

    def _unlisten(self, stream: _Stream) -> None:
        if stream.listener is not None:
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

    def open_udp(self) -> int:
        """As `ChipIp.udp`."""
        if len(self._datagrams) >= SOCKETS_MAX:
            own, (old, _) = next(iter(self._datagrams.items()))
            del self._datagrams[own]
            self._loop.watch(old)
            old.close()
        real = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        real.bind(("127.0.0.1", 0))
        real.setblocking(False)
        own = self._own_port()
        self._datagrams[own] = (real, 0)
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

    def look_up(self, name: str) -> bytes | None:
        """As `ChipIp.look_up`."""
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
        lookup.tries += 1
        if lookup.tries > DNS_TRIES:
            lookup.address = b""
            lookup.again_at = float("inf")
            return
        server = (self._name_server, 53)
        self._send(ip.build_datagram((self._address, lookup.port), server, lookup.query))
        lookup.again_at = time.monotonic() + self._dns_s
