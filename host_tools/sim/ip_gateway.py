"""What is behind the modem: a gateway from IP packets to the host's own sockets, in user space (NAT without a kernel).

The subscriber reaches what the host reaches. The gateway's own address stands for 127.0.0.1, and 127.0.0.0/8 means the
host too, since a virtual board has no network of its own. Port 53 of the gateway is a name server that asks the host's
resolver. Nothing comes in that was not asked for. The subscriber may send any packet: tables are bounded.
"""

import contextlib
import errno
import ipaddress
import socket
import threading
import time
from collections.abc import Callable

from host_tools.sim import dns, ip
from host_tools.sim.ip import Packet, Segment
from host_tools.sim.loop import Loop
from host_tools.sim.relay import Relay
from host_tools.sim.tcp import State, Tcp

FLOWS_MAX = 64
CONNECT_S = 20.0
UDP_IDLE_S = 60.0
WINDOW = 16384
DNS_PORT = 53

_TcpKey = tuple[int, bytes, int]  # the subscriber's port, destination and its port


class _TcpFlow:
    """One connection: refused, failed or carried on by a relay."""

    def __init__(self, gateway: "IpGateway", key: _TcpKey, subscriber: bytes, syn: Segment) -> None:
        self._gateway = gateway
        self._key = key
        self._subscriber = subscriber
        self._syn = syn
        self._relay: Relay | None = None
        self.tcp = Tcp((key[2], key[0]), self._send, self.changed, rto_s=gateway.rto_s, window=WINDOW)
        self._host = socket.socket()
        self._host.setblocking(False)
        self._limit = time.monotonic() + CONNECT_S

    def start(self) -> None:
        """Connect to the host's server."""
        try:
            self._host.connect((self._gateway.real_address(self._key[1]), self._key[2]))
        except BlockingIOError:
            self._gateway.loop.watch(self._host, on_write=self._connected)
        except OSError as error:
            self._refuse(error.errno or errno.EHOSTUNREACH)
        else:
            self._connected()

    def _send(self, segment: Segment) -> None:
        self._gateway.send(ip.build_segment(self._key[1], self._subscriber, segment))

    def _connected(self) -> None:
        self._gateway.loop.watch(self._host)
        code = self._host.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._refuse(code)
            return
        self.tcp.accept(self._syn, time.monotonic())
        self._relay = Relay(self._gateway.loop, self.tcp, self._host, self._forget)
        self._gateway.arm()

    def _refuse(self, code: int) -> None:
        if code == errno.ECONNREFUSED:
            ack = self._syn.seq + 1 & 0xFFFFFFFF
            self._send(Segment(self._key[2], self._key[0], 0, ack, ip.RST | ip.ACK, 0))
        else:
            original = ip.build_segment(self._subscriber, self._key[1], self._syn)
            rest = bytes(4) + original[:28]
            packet = ip.build_icmp(self._gateway.address, self._subscriber, ip.UNREACHABLE, ip.HOST_UNREACHABLE, rest)
            self._gateway.send(packet)
        self.drop()

    def changed(self) -> None:
        if self._relay is not None:
            self._relay.pump()

    def tick(self, now: float) -> None:
        if self._relay is None:
            if now >= self._limit:
                self._refuse(errno.EHOSTUNREACH)
        else:
            self.tcp.tick(now)

    def drop(self) -> None:
        """Without a word to the subscriber, as when the carrier goes; the host's server sees a reset."""
        if self._relay is not None:
            self._relay.end(reset=self.tcp.state is not State.TIME_WAIT)
        else:
            self._gateway.loop.watch(self._host)
            self._host.close()
            self._forget()

    def _forget(self) -> None:
        self._gateway.forget_tcp(self._key)


class IpGateway:
    """Serves one subscriber.

    Args:
        loop: in whose thread this is used.
        address: its own, which stands for 127.0.0.1.
        send: takes an IP packet for the subscriber.
        rto_s: TCP's time-out in real seconds.
    """

    def __init__(self, loop: Loop, address: str, send: Callable[[bytes], None], rto_s: float = 1.0) -> None:
        self.loop = loop
        self.address = ipaddress.IPv4Address(address).packed
        self.send = send
        self.rto_s = rto_s
        self._tcp: dict[_TcpKey, _TcpFlow] = {}
        self._udp: dict[tuple[bytes, int], tuple[socket.socket, list[float], dict[tuple[str, int], bytes]]] = {}
        self._armed = False
        self._closed = False

    def close(self) -> None:
        """The subscriber is gone."""
        self._closed = True
        self.send = _nowhere
        for flow in list(self._tcp.values()):
            flow.drop()
        self._tcp.clear()
        for key in list(self._udp):
            self._end_udp(key)

    def packet(self, data: bytes) -> None:
        """Take one from the subscriber."""
        packet = ip.parse(data)
        if packet is None:
            return
        if packet.protocol == ip.TCP:
            segment = ip.parse_segment(packet)
            if segment is not None:
                self._take_segment(packet, segment)
        elif packet.protocol == ip.UDP:
            datagram = ip.parse_datagram(packet)
            if datagram is not None:
                self._take_datagram(packet, *datagram)
        elif packet.protocol == ip.ICMP:
            self._take_icmp(packet)

    def real_address(self, destination: bytes) -> str:
        """Where on the host's side this is."""
        return "127.0.0.1" if destination == self.address else str(ipaddress.IPv4Address(destination))

    def forget_tcp(self, key: _TcpKey) -> None:
        """The connection is done with on the host's side; what is left of it is the subscriber's."""
        flow = self._tcp.get(key)
        if flow is not None and flow.tcp.state in (State.CLOSED, State.SYN_SENT, State.TIME_WAIT):
            del self._tcp[key]

    def _take_segment(self, packet: Packet, segment: Segment) -> None:
        key = (segment.source, packet.destination, segment.destination)
        flow = self._tcp.get(key)
        if flow is not None:
            flow.tcp.receive(segment, time.monotonic())
            if flow.tcp.state is State.CLOSED and flow.tcp.error:
                flow.drop()
        elif segment.flags & (ip.SYN | ip.RST) == ip.SYN and not segment.flags & ip.ACK and len(self._tcp) < FLOWS_MAX:
            self._tcp[key] = _TcpFlow(self, key, packet.source, segment)
            self._tcp[key].start()
        elif not segment.flags & ip.RST:
            # no such connection (RFC 9293 section 3.10.7.1)
            length = len(segment.payload) + bool(segment.flags & ip.SYN) + bool(segment.flags & ip.FIN)
            ack = segment.seq + length & 0xFFFFFFFF
            flags, seq = (ip.RST, segment.ack) if segment.flags & ip.ACK else (ip.RST | ip.ACK, 0)
            answer = Segment(segment.destination, segment.source, seq, ack if flags & ip.ACK else 0, flags, 0)
            self.send(ip.build_segment(packet.destination, packet.source, answer))
        self.arm()

    def arm(self) -> None:
        """Look at the time again soon."""
        if not self._armed and not self._closed and (self._tcp or self._udp):
            self._armed = True
            self.loop.at(time.monotonic() + min(0.1, self.rto_s / 2), self._tick)

    def _tick(self) -> None:
        self._armed = False
        now = time.monotonic()
        for key, flow in list(self._tcp.items()):
            flow.tick(now)
            if flow.tcp.state is State.CLOSED and flow.tcp.error:
                flow.drop()
                self._tcp.pop(key, None)
        for udp_key, (_, used, _) in list(self._udp.items()):
            if now - used[0] > UDP_IDLE_S:
                self._end_udp(udp_key)
        self.arm()

    # datagrams

    def _take_datagram(self, packet: Packet, source: int, destination: int, data: bytes) -> None:
        if packet.destination == self.address and destination == DNS_PORT:
            threading.Thread(target=self._resolve, args=(packet, source, data), daemon=True).start()
            return
        key = (packet.source, source)
        if key not in self._udp:
            if len(self._udp) >= FLOWS_MAX:
                return
            host = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            host.setblocking(False)
            self._udp[key] = (host, [0.0], {})
            self.loop.watch(host, lambda: self._from_host(key))
        host, used, asked = self._udp[key]
        used[0] = time.monotonic()
        real = (self.real_address(packet.destination), destination)
        if len(asked) < FLOWS_MAX:
            asked[real] = packet.destination
        with contextlib.suppress(OSError):
            host.sendto(data, real)
        self.arm()

    def _from_host(self, key: tuple[bytes, int]) -> None:
        host, used, asked = self._udp[key]
        try:
            data, sender = host.recvfrom(65535)
        except OSError:
            return
        shown = asked.get(sender)
        if shown is not None and len(data) <= ip.MTU - 28:
            used[0] = time.monotonic()
            self.send(ip.build_datagram((shown, sender[1]), key, data))

    def _end_udp(self, key: tuple[bytes, int]) -> None:
        host, _, _ = self._udp.pop(key)
        self.loop.watch(host)
        host.close()

    def _resolve(self, packet: Packet, port: int, query: bytes) -> None:
        answer = dns.answer(query)
        if answer is not None:
            whole = ip.build_datagram((self.address, DNS_PORT), (packet.source, port), answer)
            self.loop.soon(lambda: self.send(whole))

    def _take_icmp(self, packet: Packet) -> None:
        message = ip.parse_icmp(packet)
        if message is None or message[0] != ip.ECHO_REQUEST:
            return
        if self.real_address(packet.destination).startswith("127."):
            self.send(ip.build_icmp(packet.destination, packet.source, ip.ECHO_REPLY, 0, message[2]))


def _nowhere(_: bytes) -> None:
    """There is no subscriber any more."""
