"""One end of a PPP link: LCP, PAP and IPCP over HDLC-like frames (RFC 1661, 1662, 1334, 1332, 1877).

The modem's end and the stand-in for the chip's lwIP are both this class; they differ in what they ask for. No clock,
thread or line of its own: bytes go in by `feed`, bytes and IP packets come out through functions. The peer may send
anything.
"""

import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from host_tools.sim import ppp_automaton as automaton
from host_tools.sim.hdlc import Deframer, encode
from host_tools.sim.ppp_automaton import Automaton, Options

LCP, PAP, CHAP, IPCP, IP = 0xC021, 0xC023, 0xC223, 0x8021, 0x0021
MRU_OPTION, MAP_OPTION, AUTH_OPTION, MAGIC_OPTION, PFC_OPTION, ACFC_OPTION = 1, 2, 3, 5, 7, 8
ADDRESS_OPTION, DNS_OPTION, DNS2_OPTION = 3, 129, 131
MRU = 1500
LOOPBACKS_MAX = automaton.MAX_FAILURE  # from then on the magic number would be rejected
PAP_TRIES = 10

# lwIP's ppp.h: why a link is down
NONE, USER, CONNECT, AUTH_FAILED, PROTOCOL, LOOPBACK = 0, 5, 6, 7, 8, 12
_NOWHERE = bytes(4)


@dataclass(frozen=True)
class Side:
    """What an end of the link asks for and gives.

    Attributes:
        address: its own; 0.0.0.0: it wants one.
        peer: what it gives a peer that wants one; None: it has none to give.
        dns: what it gives a peer that asks; None: it asks for one itself.
        user, key: a client's name and password for PAP, or what a server expects (None: it does not ask).
    """

    address: str = "0.0.0.0"  # noqa: S104 - the address of one that has none yet
    peer: str | None = None
    dns: str | None = None
    user: str | None = None
    key: str = ""


class _Lcp(Automaton):
    """Link control: how frames look, and who the peer has to be."""

    def __init__(self, link: "Ppp", demands_pap: bool) -> None:
        super().__init__(lambda packet: link.send(LCP, packet), link.restart_s)
        self._link = link
        self._demands_pap = demands_pap
        self.loopbacks = 0
        self.peer_wants_pap = False
        self.reset()

    def reset(self) -> None:
        self.wanted = {MAP_OPTION: bytes(4), MAGIC_OPTION: secrets.token_bytes(4), PFC_OPTION: b"", ACFC_OPTION: b""}
        if self._demands_pap:
            self.wanted[AUTH_OPTION] = PAP.to_bytes(2, "big")

    def judge(self, option: int, value: bytes) -> bytes | None:
        if option == MRU_OPTION and len(value) == 2:
            return value if int.from_bytes(value, "big") >= 128 else (128).to_bytes(2, "big")
        if option == MAP_OPTION and len(value) == 4:
            return value
        if option == MAGIC_OPTION and len(value) == 4:
            if value == self.wanted.get(MAGIC_OPTION):
                self.loopbacks += 1
                return secrets.token_bytes(4)
            return value
        if option in (PFC_OPTION, ACFC_OPTION) and not value:
            return value
        if option == AUTH_OPTION and self._link.side.user is not None and not self._demands_pap:
            return PAP.to_bytes(2, "big")
        return None

    def accepted(self, options: Options) -> None:
        self.peer_wants_pap = AUTH_OPTION in options
        self._link.peer_map = int.from_bytes(options.get(MAP_OPTION, b"\xff\xff\xff\xff"), "big")

    def suggested(self, option: int, value: bytes) -> None:
        if option == MAGIC_OPTION:
            self.wanted[option] = secrets.token_bytes(4)
            if self.loopbacks >= LOOPBACKS_MAX:
                self._link.error = LOOPBACK
                self.give_up()
        elif option == MAP_OPTION and len(value) == 4:
            self.wanted[option] = value
        elif option == AUTH_OPTION:
            self._link.error = AUTH_FAILED  # it wants another way to say who it is
            self.give_up()

    def refused(self, option: int) -> None:
        super().refused(option)
        if option == AUTH_OPTION:
            self._link.error = AUTH_FAILED
            self.give_up()

    def other(self, code: int, identifier: int, data: bytes) -> bool:
        if code == automaton.ECHO_REQUEST:
            if self.state == automaton.OPENED and len(data) >= 4:
                magic = self.wanted.get(MAGIC_OPTION, _NOWHERE)
                self._packet(automaton.ECHO_REPLY, identifier, magic + data[4:])
        elif code == automaton.PROTOCOL_REJECT:
            if int.from_bytes(data[:2], "big") == IPCP:
                self._link.give_up(PROTOCOL)
        elif code not in (automaton.ECHO_REPLY, automaton.DISCARD):
            return False
        return True

    def up(self) -> None:
        self._link.established()

    def down(self) -> None:
        self._link.disestablished()

    def finished(self) -> None:
        self._link.ended(failed=self.failed)

    def reject_protocol(self, protocol: int, data: bytes) -> None:
        if self.state == automaton.OPENED:
            self._packet(automaton.PROTOCOL_REJECT, self._next(), protocol.to_bytes(2, "big") + data)


class _Ipcp(Automaton):
    """Addresses (RFC 1332) and name servers (RFC 1877)."""

    def __init__(self, link: "Ppp") -> None:
        super().__init__(lambda packet: link.send(IPCP, packet), link.restart_s)
        self._link = link
        self.reset()

    def reset(self) -> None:
        side = self._link.side
        self.wanted = {ADDRESS_OPTION: _packed(side.address)}
        if side.dns is None:
            self.wanted |= {DNS_OPTION: _NOWHERE, DNS2_OPTION: _NOWHERE}

    def judge(self, option: int, value: bytes) -> bytes | None:
        side = self._link.side
        if option == ADDRESS_OPTION and len(value) == 4:
            if side.peer is not None:
                return _packed(side.peer)
            return value if value != _NOWHERE else None
        if option in (DNS_OPTION, DNS2_OPTION) and len(value) == 4 and side.dns is not None:
            return _packed(side.dns)
        return None

    def accepted(self, options: Options) -> None:
        self._link.peer_address = str(ipaddress.IPv4Address(options.get(ADDRESS_OPTION, _NOWHERE)))

    def suggested(self, option: int, value: bytes) -> None:
        if len(value) == 4 and option in self.wanted:
            self.wanted[option] = value

    def up(self) -> None:
        self._link.address = str(ipaddress.IPv4Address(self.wanted.get(ADDRESS_OPTION, _NOWHERE)))
        self._link.dns = str(ipaddress.IPv4Address(self.wanted.get(DNS_OPTION, _NOWHERE)))
        self._link.network_up()

    def down(self) -> None:
        self._link.network_down()

    def finished(self) -> None:
        self._link.give_up(PROTOCOL if self.failed else CONNECT)


class Ppp:
    """One end.

    Args:
        side: what it asks for and gives.
        write: takes bytes for the line.
        on_packet: given each IP packet, while the network is up.
        on_change: called when `up` or `error` has changed.
        restart_s: seconds until a request is repeated.

    Attributes:
        up: IP packets pass.
        running: it is open or being opened, or closed in good order just now.
        error: why it is down, as lwIP numbers it.
        address, peer_address, dns: what was agreed on.
    """

    def __init__(
        self,
        side: Side,
        write: Callable[[bytes], None],
        on_packet: Callable[[bytes], None],
        on_change: Callable[[], None],
        restart_s: float = automaton.RESTART_S,
    ) -> None:
        self.side = side
        self.restart_s = restart_s
        self.up = False
        self.running = False
        self.error = NONE
        self.address = self.peer_address = self.dns = "0.0.0.0"  # noqa: S104
        self.peer_map = 0xFFFFFFFF
        self._write = write
        self._on_packet = on_packet
        self._on_change = on_change
        self._now = 0.0
        self._deframer = Deframer()
        self._is_server = side.peer is not None
        self._lcp = _Lcp(self, demands_pap=self._is_server and side.user is not None)
        self._ipcp = _Ipcp(self)
        self._pap_at: float | None = None
        self._pap_left = 0
        self._passed = False

    @property
    def damaged(self) -> int:
        """How many frames came damaged."""
        return self._deframer.damaged

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called, or None."""
        times = (self._lcp.deadline, self._ipcp.deadline, self._pap_at)
        return min((at for at in times if at is not None), default=None)

    def open(self, now: float) -> None:
        """The line is there: begin."""
        self._now = now
        self.running, self.error = True, NONE
        self._deframer = Deframer()
        self.peer_map = 0xFFFFFFFF
        self._lcp.loopbacks = 0
        self._lcp.reset()
        self._lcp.open(now)

    def close(self, now: float) -> None:
        """End it in good order; `running` is False when the peer has agreed, or did not answer."""
        self._now = now
        if self.running:
            self.error = USER
            self._lcp.close(now)

    def lost(self) -> None:
        """The line is gone."""
        if self.running:
            self.error = self.error or CONNECT
            self._lcp.lost()
            self.ended(failed=False)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        self._lcp.tick(now)
        self._ipcp.tick(now)
        if self._pap_at is not None and now >= self._pap_at:
            self._ask_to_pass()

    def feed(self, data: bytes, now: float) -> None:
        """Bytes from the line."""
        self._now = now
        for frame in self._deframer.feed(data):
            if not self.running:
                return
            self._receive(frame)

    def send_ip(self, packet: bytes) -> None:
        """An IP packet to the peer; dropped while the network is down."""
        if self.up:
            self.send(IP, packet)

    def send(self, protocol: int, data: bytes) -> None:
        """A frame to the peer. LCP always goes out in its plain form (RFC 1662 section 7)."""
        plain = protocol == LCP
        head = b"\xff\x03" + protocol.to_bytes(2, "big")
        self._write(encode(head + data, 0xFFFFFFFF if plain else self.peer_map))

    def _receive(self, frame: bytes) -> None:
        if frame[:2] == b"\xff\x03":
            frame = frame[2:]
        if frame and frame[0] & 1:
            frame = b"\0" + frame  # a compressed protocol field
        if len(frame) < 2:
            return
        protocol, data = int.from_bytes(frame[:2], "big"), frame[2:]
        if protocol == LCP:
            self._lcp.receive(data, self._now)
        elif self._lcp.state != automaton.OPENED:
            return
        elif protocol == PAP:
            self._pap(data)
        elif not self._passed:
            return
        elif protocol == IPCP:
            self._ipcp.receive(data, self._now)
        elif protocol == IP:
            if self.up:
                self._on_packet(data)
        else:
            self._lcp.reject_protocol(protocol, data)

    # what the layers tell

    def established(self) -> None:
        """LCP is open."""
        self._deframer.control_map = int.from_bytes(self._lcp.wanted.get(MAP_OPTION, b"\xff" * 4), "big")
        self._passed = False
        if self._is_server:
            if self._lcp.wanted.get(AUTH_OPTION) is None:
                self._network()
        elif self._lcp.peer_wants_pap:
            self._pap_left = PAP_TRIES
            self._ask_to_pass()
        else:
            self._network()

    def _network(self) -> None:
        self._passed = True
        self._pap_at = None
        self._ipcp.reset()
        self._ipcp.open(self._now)

    def disestablished(self) -> None:
        """LCP is open no more."""
        self._pap_at = None
        self._passed = False
        self._ipcp.lost()

    def network_up(self) -> None:
        """IPCP is open."""
        self.up = True
        self._on_change()

    def network_down(self) -> None:
        """IPCP is open no more."""
        self.up = False

    def give_up(self, error: int) -> None:
        """Without this there is no use in the link."""
        if self.running:
            self.error = self.error or error
            self._lcp.close(self._now)

    def ended(self, *, failed: bool) -> None:
        """LCP is done."""
        if self.running:
            self.running = self.up = False
            self.error = self.error or (PROTOCOL if failed else CONNECT)
            self._ipcp.lost()
            self._on_change()

    # PAP (RFC 1334 section 2)

    def _ask_to_pass(self) -> None:
        if not self._pap_left:
            self._pap_at = None
            self.give_up(AUTH_FAILED)
            return
        self._pap_left -= 1
        user, key = (text.encode()[:255] for text in (self.side.user or "", self.side.key))
        body = bytes((len(user),)) + user + bytes((len(key),)) + key
        self._pap_at = self._now + self.restart_s
        self.send(PAP, bytes((1, PAP_TRIES - self._pap_left)) + (len(body) + 4).to_bytes(2, "big") + body)

    def _pap(self, packet: bytes) -> None:
        if len(packet) < 4 or not 4 <= int.from_bytes(packet[2:4], "big") <= len(packet):
            return
        code, identifier, body = packet[0], packet[1], packet[4 : int.from_bytes(packet[2:4], "big")]
        if self._is_server and code == 1 and self.side.user is not None and body:
            user, rest = body[1 : 1 + body[0]], body[1 + body[0] :]
            key = rest[1 : 1 + rest[0]] if rest else b""
            good = secrets.compare_digest(user + b"\0" + key, f"{self.side.user}\0{self.side.key}".encode())
            self.send(PAP, bytes((2 if good else 3, identifier, 0, 5, 0)))
            if good and not self._passed:
                self._network()
            elif not good:
                self.give_up(AUTH_FAILED)
        elif not self._is_server and self._pap_at is not None and code == 2:
            self._network()
        elif not self._is_server and self._pap_at is not None and code == 3:
            self._pap_at = None
            self.give_up(AUTH_FAILED)


def _packed(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed
