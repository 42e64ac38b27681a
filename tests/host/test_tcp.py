"""TCP of the simulated cellular path: packets against the RFCs, the state machine on lines that lose, and attackers."""

import errno
import random
import struct

import pytest

from host_tools.sim import ip
from host_tools.sim.ip import ACK, FIN, RST, SYN, Packet, Segment
from host_tools.sim.tcp import SYN_TRIES_MAX, TRIES_MAX, State, Tcp

HERE, THERE = bytes((10, 64, 64, 2)), bytes((10, 64, 64, 1))


class Pair:
    """A client and a server, what is under way, and how much of it is lost."""

    def __init__(self, loss: float = 0.0, seed: int = 0) -> None:
        self.now = 0.0
        self.loss = loss
        self.chance = random.Random(seed)
        self.line: list[tuple[str, bytes]] = []
        self.client = Tcp((50000, 80), lambda segment: self.send("server", segment), lambda: None)
        self.server = Tcp((80, 50000), lambda segment: self.send("client", segment), lambda: None, window=16384)
        self.taken = {"client": bytearray(), "server": bytearray()}
        self.reading = True

    def send(self, to: str, segment: Segment) -> None:
        if self.chance.random() >= self.loss:
            addresses = (HERE, THERE) if to == "server" else (THERE, HERE)
            self.line.append((to, ip.build_segment(*addresses, segment)))

    def step(self) -> None:
        """Deliver what is under way; when nothing is, let time pass."""
        if not self.line:
            times = [end.deadline for end in (self.client, self.server) if end.deadline is not None]
            self.now = max(self.now, min(times, default=self.now))
            self.client.tick(self.now)
            self.server.tick(self.now)
        for to, data in self.line[:]:
            self.line.pop(0)
            packet = ip.parse(data)
            assert packet is not None
            segment = ip.parse_segment(packet)
            assert segment is not None
            end = self.client if to == "client" else self.server
            if end is self.server and end.state is State.CLOSED and not end.error and segment.flags == SYN:
                end.accept(segment, self.now)
            else:
                end.receive(segment, self.now)
            if self.reading:
                self.read()

    def read(self) -> None:
        for name, end in (("client", self.client), ("server", self.server)):
            data = end.peek(700)
            self.taken[name] += data
            end.take(len(data), self.now)

    def connect(self) -> None:
        self.client.connect(self.now)
        for _ in range(40):
            if self.client.connected and self.server.connected:
                return
            self.step()


# packets


def test_checksum_is_that_of_rfc_1071() -> None:
    # section 3's example: the sum of these words is 0xddf2, and the checksum its complement
    assert ip.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF ^ 0xDDF2
    assert ip.checksum(b"") == 0xFFFF and ip.checksum(b"\xff\xff") == 0 and ip.checksum(bytes(4)) == 0xFFFF
    # an IPv4 header whose checksum is known, and comes to 0 with it
    header = bytes.fromhex("45000073000040004011b861c0a80001c0a800c7")
    assert ip.checksum(header) == 0


def test_checksum_agrees_with_the_sum_written_out() -> None:
    chance = random.Random(4)
    for _ in range(200):
        data = chance.randbytes(chance.randrange(0, 200))
        padded = data + b"\0" * (len(data) % 2)
        total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        assert ip.checksum(data) == total ^ 0xFFFF


@pytest.mark.parametrize("change", [0, 3, 8, 10, 14, 20, 33, 45])
def test_packet_with_a_changed_byte_is_dropped(change: int) -> None:
    data = bytearray(ip.build_segment(HERE, THERE, Segment(1, 2, 3, 4, ACK, 5, b"payload")))
    whole = ip.parse(bytes(data))
    assert whole is not None and ip.parse_segment(whole) == Segment(1, 2, 3, 4, ACK, 5, b"payload")
    data[change] ^= 0x10
    packet = ip.parse(bytes(data))
    assert packet is None or ip.parse_segment(packet) is None


def test_fragments_and_other_versions_are_dropped() -> None:
    packet = ip.build(Packet(HERE, THERE, ip.UDP, bytes(20)))
    for at, value in ((0, 0x65), (6, 0x20), (7, 0x01), (0, 0x44), (0, 0x4F)):
        changed = bytearray(packet)
        changed[at] = value
        changed[10:12] = bytes(2)
        changed[10:12] = ip.checksum(bytes(changed[:20])).to_bytes(2, "big")
        assert ip.parse(bytes(changed)) is None, (at, value)


def test_noise_is_no_packet_and_no_crash() -> None:
    chance = random.Random(5)
    for _ in range(5000):
        data = chance.randbytes(chance.randrange(0, 80))
        packet = Packet(HERE, THERE, 6, data)
        ip.parse(data)
        ip.parse_segment(packet)
        ip.parse_datagram(packet)
        ip.parse_icmp(packet)


# the state machine


def test_handshake_data_and_both_halves_close() -> None:
    pair = Pair()
    pair.connect()
    assert (pair.client.state, pair.server.state) == (State.ESTABLISHED, State.ESTABLISHED)
    pair.client.write(b"question", pair.now)
    pair.client.shutdown(pair.now)
    for _ in range(4):
        pair.step()
    assert bytes(pair.taken["server"]) == b"question" and pair.server.peer_done
    # the other half is still open
    assert (pair.client.state, pair.server.state) == (State.FIN_WAIT_2, State.CLOSE_WAIT)
    pair.server.write(b"answer", pair.now)
    pair.server.shutdown(pair.now)
    for _ in range(4):
        pair.step()
    assert bytes(pair.taken["client"]) == b"answer" and pair.client.peer_done
    assert pair.server.state is State.CLOSED and not pair.server.error
    for _ in range(2):
        pair.step()
    assert pair.client.state is State.CLOSED and not pair.client.error


def test_both_close_at_once() -> None:
    pair = Pair()
    pair.connect()
    pair.client.shutdown(pair.now)
    pair.server.shutdown(pair.now)
    for _ in range(6):
        pair.step()
    assert (pair.client.state, pair.server.state, pair.client.error) == (State.CLOSED, State.CLOSED, 0)


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_bytes_arrive_once_and_in_order_though_segments_are_lost(loss: float, seed: int) -> None:
    pair = Pair(loss, seed)
    pair.connect()
    chance = random.Random(seed)
    sent = {"client": chance.randbytes(60_000), "server": chance.randbytes(60_000)}
    left = dict(sent)
    for _ in range(20_000):
        for name, end in (("client", pair.client), ("server", pair.server)):
            n = end.write(left[name][: chance.randrange(1, 4000)], pair.now)
            left[name] = left[name][n:]
            if not left[name]:
                end.shutdown(pair.now)
        pair.step()
        if pair.client.state is State.CLOSED and pair.server.state is State.CLOSED:
            break
    assert bytes(pair.taken["server"]) == sent["client"]
    assert bytes(pair.taken["client"]) == sent["server"]


def test_slow_reader_closes_the_window_and_nothing_is_lost() -> None:
    pair = Pair()
    pair.connect()
    pair.reading = False
    data = bytes(range(256)) * 200
    left = data
    for _ in range(60):
        left = left[pair.client.write(left, pair.now) :]
        pair.step()
    assert pair.server.waiting == 16384 and pair.client.state is State.ESTABLISHED
    pair.reading = True
    for _ in range(400):
        left = left[pair.client.write(left, pair.now) :]
        pair.read()
        pair.step()
    assert bytes(pair.taken["server"]) == data


def test_window_stays_closed_for_an_hour_without_an_end() -> None:
    pair = Pair()
    pair.connect()
    pair.reading = False
    pair.client.write(bytes(5760), pair.now)
    for _ in range(20):
        pair.step()
        pair.client.write(bytes(5760), pair.now)
    while pair.now < 3600:
        pair.step()
    assert pair.client.state is State.ESTABLISHED


def test_refusal_is_a_reset_that_acknowledges_the_syn_and_no_other() -> None:
    client = Tcp((50000, 80), lambda _: None, lambda: None)
    client.connect(0.0)
    isn = client._una
    for segment in (
        Segment(80, 50000, 0, 0, RST, 0),
        Segment(80, 50000, 0, isn + 2 & 0xFFFFFFFF, RST | ACK, 0),
        Segment(80, 50000, 7, isn + 5 & 0xFFFFFFFF, SYN | ACK, 1000),
    ):
        client.receive(segment, 0.0)
        assert client.state is State.SYN_SENT
    client.receive(Segment(80, 50000, 0, isn + 1 & 0xFFFFFFFF, RST | ACK, 0), 0.0)
    assert (client.state, client.error) == (State.CLOSED, errno.ECONNREFUSED)


def test_blind_reset_and_acknowledgements_of_nothing_do_not_end_a_connection() -> None:
    pair = Pair()
    pair.connect()
    expected = pair.client._rcv_nxt
    for segment in (
        Segment(80, 50000, expected + 1 & 0xFFFFFFFF, 0, RST, 0),
        Segment(80, 50000, expected - 1 & 0xFFFFFFFF, 0, RST, 0),
        Segment(80, 50000, expected, pair.client._nxt + 1000 & 0xFFFFFFFF, ACK, 9, b"forged"),
        Segment(80, 50000, expected, 0, SYN, 0),
        Segment(80, 50000, expected, 0, 0, 0, b"no ack"),
    ):
        pair.client.receive(segment, pair.now)
        assert pair.client.state is State.ESTABLISHED and not pair.client.waiting
    pair.client.receive(Segment(80, 50000, expected, 0, RST, 0), pair.now)
    assert pair.client.error == errno.ECONNRESET


def test_bytes_beyond_the_window_are_not_kept() -> None:
    pair = Pair()
    pair.connect()
    pair.reading = False
    server_nxt, expected = pair.client._nxt, pair.client._rcv_nxt
    pair.client.receive(Segment(80, 50000, expected, server_nxt, ACK, 9, bytes(60_000)), pair.now)
    assert pair.client.waiting == 5760
    pair.client.receive(Segment(80, 50000, expected + 9000 & 0xFFFFFFFF, server_nxt, ACK, 9, b"later"), pair.now)
    assert pair.client.waiting == 5760


def test_repeated_and_overlapping_bytes_are_taken_once() -> None:
    pair = Pair()
    pair.connect()
    pair.reading = False
    ack, at = pair.client._nxt, pair.client._rcv_nxt
    for offset, payload in ((0, b"abc"), (0, b"abc"), (1, b"bcdef"), (6, b"g"), (0, b"abcdefg"), (8, b"gap")):
        pair.client.receive(Segment(80, 50000, at + offset & 0xFFFFFFFF, ack, ACK, 9, payload), pair.now)
    assert pair.client.peek(100) == b"abcdefg"


def test_nobody_there_is_a_timeout() -> None:
    for established in (False, True):
        pair = Pair()
        if established:
            pair.connect()
            pair.loss = 1.0
            pair.client.write(b"x", pair.now)
        else:
            pair.loss = 1.0
            pair.client.connect(pair.now)
        tries = 0
        while pair.client.state is not State.CLOSED:
            pair.step()
            tries += 1
            assert tries < 30
        assert pair.client.error == errno.ETIMEDOUT
        assert tries >= (TRIES_MAX if established else SYN_TRIES_MAX)


@pytest.mark.parametrize("seed", range(5))
def test_hostile_segments_neither_hang_nor_crash_an_end(seed: int) -> None:
    chance = random.Random(seed)
    pair = Pair()
    pair.connect()
    pair.reading = False
    for _ in range(4000):
        seq, ack = (
            (number + chance.choice((0, 0, 0, 1, -1, 1460, 1 << 31, chance.randrange(1 << 32)))) & 0xFFFFFFFF
            for number in (pair.client._rcv_nxt, pair.client._nxt)
        )
        flags = chance.choice((ACK, ACK, ACK | FIN, SYN, SYN | ACK, RST, 0, 31))
        payload = bytes(chance.choice((0, 0, 1, 100, 1460)))
        pair.client.receive(Segment(80, 50000, seq, ack, flags, chance.randrange(65536), payload), pair.now)
        pair.now += 0.1
        pair.client.tick(pair.now)
        pair.client.write(b"some", pair.now)
        assert pair.client.waiting <= 5760 and len(pair.client._out) <= 5760
        pair.line.clear()
        if pair.client.state is State.CLOSED:
            pair = Pair()
            pair.connect()
            pair.reading = False
