"""IPv4, ICMP, UDP and TCP packets: bytes to dataclasses and back (RFC 791, 792, 768, 9293). No state, no IO.

What is damaged, cut short, fragmented or of another version is None: whoever sent it gets no answer.
"""

import struct
from dataclasses import dataclass

ICMP, TCP, UDP = 1, 6, 17
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
ECHO_REPLY, UNREACHABLE, ECHO_REQUEST = 0, 3, 8
NET_UNREACHABLE, HOST_UNREACHABLE, PORT_UNREACHABLE = 0, 1, 3
MTU = 1500
MSS = MTU - 40
_MSS_OPTION = 2


@dataclass(frozen=True)
class Packet:
    """An IPv4 packet: addresses as four bytes."""

    source: bytes
    destination: bytes
    protocol: int
    payload: bytes


@dataclass(frozen=True)
class Segment:
    """A TCP segment; `mss` is what its sender takes, in a SYN."""

    source: int
    destination: int
    seq: int
    ack: int
    flags: int
    window: int
    payload: bytes = b""
    mss: int | None = None


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    # ones' complement is arithmetic modulo 2^16 - 1, in which the whole is one number
    rest = int.from_bytes(data, "big") % 0xFFFF
    return ~(rest or (0xFFFF if any(data) else 0)) & 0xFFFF


def parse(data: bytes) -> Packet | None:
    """A packet out of bytes."""
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    head_len, total_len = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
    if not 20 <= head_len <= total_len <= len(data) or checksum(data[:head_len]):
        return None
    if int.from_bytes(data[6:8], "big") & 0x3FFF:
        return None  # a fragment: nobody here sends more than the MTU
    return Packet(data[12:16], data[16:20], data[9], data[head_len:total_len])


def build(packet: Packet, identifier: int = 0) -> bytes:
    """Bytes of a packet."""
    head = struct.pack(
        ">BBHHHBBH", 0x45, 0, 20 + len(packet.payload), identifier & 0xFFFF, 0x4000, 64, packet.protocol, 0
    )
    head += packet.source + packet.destination
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + packet.payload


def _pseudo(packet: Packet) -> bytes:
    return packet.source + packet.destination + struct.pack(">HH", packet.protocol, len(packet.payload))


def parse_segment(packet: Packet) -> Segment | None:
    """The segment of a TCP packet."""
    data = packet.payload
    if len(data) < 20 or checksum(_pseudo(packet) + data):
        return None
    source, destination, seq, ack, offset, flags, window = struct.unpack(">HHIIBBH", data[:16])
    head_len = (offset >> 4) * 4
    if not 20 <= head_len <= len(data):
        return None
    mss = _mss(data[20:head_len]) if flags & SYN else None
    return Segment(source, destination, seq, ack, flags & 0x1F, window, data[head_len:], mss)


def _mss(options: bytes) -> int | None:
    while options and options[0]:
        if options[0] == 1:
            options = options[1:]
            continue
        if len(options) < 2 or not 2 <= options[1] <= len(options):
            return None
        if options[0] == _MSS_OPTION and options[1] == 4:
            return int.from_bytes(options[2:4], "big")
        options = options[options[1] :]
    return None


def build_segment(source: bytes, destination: bytes, segment: Segment) -> bytes:
    """A packet of a segment."""
    options = b"" if segment.mss is None else struct.pack(">BBH", _MSS_OPTION, 4, segment.mss)
    head = struct.pack(
        ">HHIIBBHHH",
        segment.source,
        segment.destination,
        segment.seq,
        segment.ack,
        (20 + len(options)) // 4 << 4,
        segment.flags,
        segment.window,
        0,
        0,
    )
    return build(_summed(Packet(source, destination, TCP, head + options + segment.payload), 16), segment.seq)


def parse_datagram(packet: Packet) -> tuple[int, int, bytes] | None:
    """Source port, destination port and data of a UDP packet."""
    data = packet.payload
    if len(data) < 8:
        return None
    source, destination, length, check = struct.unpack(">HHHH", data[:8])
    if not 8 <= length <= len(data) or (check and checksum(_pseudo(packet) + data)):
        return None
    return source, destination, data[8:length]


def build_datagram(source: tuple[bytes, int], destination: tuple[bytes, int], data: bytes) -> bytes:
    """A packet of a UDP datagram."""
    head = struct.pack(">HHHH", source[1], destination[1], 8 + len(data), 0)
    return build(_summed(Packet(source[0], destination[0], UDP, head + data), 6))


def _summed(packet: Packet, at: int) -> Packet:
    check = checksum(_pseudo(packet) + packet.payload)
    if not check and packet.protocol == UDP:
        check = 0xFFFF  # RFC 768: 0 means none
    payload = packet.payload[:at] + check.to_bytes(2, "big") + packet.payload[at + 2 :]
    return Packet(packet.source, packet.destination, packet.protocol, payload)


def build_icmp(source: bytes, destination: bytes, kind: int, code: int, rest: bytes) -> bytes:
    """A packet of an ICMP message: its type, its code and what follows its checksum."""
    body = bytes((kind, code, 0, 0)) + rest
    body = body[:2] + checksum(body).to_bytes(2, "big") + body[4:]
    return build(Packet(source, destination, ICMP, body))


def parse_icmp(packet: Packet) -> tuple[int, int, bytes] | None:
    """Type, code and what follows the checksum of an ICMP packet."""
    data = packet.payload
    if len(data) < 8 or checksum(data):
        return None
    return data[0], data[1], data[4:]
