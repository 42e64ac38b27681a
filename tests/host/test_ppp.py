"""PPP on a serial line: framing and negotiation against the RFCs' values, and against peers that mean harm."""

import random
import struct

import pytest

from host_tools.sim import ppp_automaton as automaton
from host_tools.sim.hdlc import GOOD_FCS, Deframer, encode, fcs16
from host_tools.sim.ppp import AUTH_FAILED, CONNECT, LOOPBACK, PROTOCOL, USER, Ppp, Side

SERVER = Side("10.64.64.1", "10.64.64.2", "10.64.64.1")
# RFC 1662 appendix C.2's table is of x^0 + x^5 + x^12 + x^16, sent least significant bit first; its first entries
FIRST_TABLE_ENTRIES = (0x0000, 0x1189, 0x2312, 0x329B, 0x4624, 0x57AD, 0x6536, 0x74BF)
# a Configure-Request (RFC 1661 section 5.1) with an empty map and a magic number
CONFIGURE_REQUEST = bytes.fromhex("ff03c021 01010010 020600000000 0506a1b2c3d4".replace(" ", ""))


class Pair:
    """Two ends and the line between them."""

    def __init__(self, client: Side, server: Side = SERVER) -> None:
        self.now = 0.0
        self.line: list[tuple[Ppp, bytes]] = []
        self.packets: list[bytes] = []
        self.changes: list[str] = []
        self.client = Ppp(
            client, lambda data: self.line.append((self.server, data)), self.packets.append, lambda: self.note("client")
        )
        self.server = Ppp(
            server, lambda data: self.line.append((self.client, data)), self.packets.append, lambda: self.note("server")
        )

    def note(self, who: str) -> None:
        self.changes.append(who)

    def run(self, seconds: float = 0.0) -> None:
        """Until nothing is under way, and for so long."""
        end = self.now + seconds
        while True:
            for _ in range(2000):
                if not self.line:
                    break
                end_of_line, data = self.line.pop(0)
                end_of_line.feed(data, self.now)
            assert not self.line, "they talk for ever"
            times = [at for at in (self.client.deadline, self.server.deadline) if at is not None and at <= end]
            if not times:
                self.now = end
                return
            self.now = min(times)
            self.client.tick(self.now)
            self.server.tick(self.now)

    def open(self) -> None:
        self.server.open(self.now)
        self.client.open(self.now)
        self.run()


# framing


def test_fcs_is_that_of_rfc_1662() -> None:
    # one step of the register from 0xFFFF is table[(0xFF ^ byte)] ^ 0x00FF
    for index, entry in enumerate(FIRST_TABLE_ENTRIES):
        assert fcs16(bytes((0xFF ^ index,))) == entry ^ 0x00FF
    # CRC-16/X-25's published check value is this FCS, complemented
    assert fcs16(b"123456789") ^ 0xFFFF == 0x906E


def test_good_fcs_value_is_that_of_rfc_1662() -> None:
    assert GOOD_FCS == 0xF0B8
    for data in (b"", b"\0", b"123456789", CONFIGURE_REQUEST):
        assert fcs16(data + (fcs16(data) ^ 0xFFFF).to_bytes(2, "little")) == 0xF0B8


def test_flags_escapes_and_controls_are_stuffed_as_rfc_1662_says() -> None:
    # section 4.2: 0x7e is 0x7d 0x5e, 0x7d is 0x7d 0x5d, 0x03 (ETX) is 0x7d 0x23; XON and XOFF as well
    line = encode(b"\x7e\x7d\x03\x11\x13\x41")
    assert line.startswith(b"\x7e\x7d\x5e\x7d\x5d\x7d\x23\x7d\x31\x7d\x33\x41") and line.endswith(b"\x7e")
    assert encode(b"\x7e\x7d\x03\x41", 0).startswith(b"\x7e\x7d\x5e\x7d\x5d\x03\x41")
    assert encode(b"\x11\x12", 1 << 17).startswith(b"\x7e\x7d\x31\x12")


def test_any_frame_survives_the_line_in_any_pieces() -> None:
    chance = random.Random(1)
    for control_map in (0, 0xFFFFFFFF, 0x000A0000):
        frames = [chance.randbytes(chance.randrange(2, 1600)) for _ in range(40)]
        line = b"".join(encode(frame, control_map) for frame in frames)
        deframer = Deframer()
        deframer.control_map = control_map
        found = []
        while line:
            n = chance.randrange(1, 700)
            found += list(deframer.feed(line[:n]))
            line = line[n:]
        assert found == frames
        assert deframer.damaged == 0


def test_damaged_aborted_short_and_endless_frames_are_dropped_and_counted() -> None:
    deframer = Deframer()
    good = encode(b"\xff\x03\xc0\x21abc")
    assert list(deframer.feed(good[:5] + b"\x40" + good[6:])) == []
    assert list(deframer.feed(b"abc\x7d\x7e")) == []  # section 4.3: an escape before the flag aborts
    assert list(deframer.feed(b"\x01\x02\x7e")) == []
    assert list(deframer.feed(b"A" * 100_000 + b"\x7e")) == []
    assert deframer.damaged == 4
    assert list(deframer.feed(good)) == [b"\xff\x03\xc0\x21abc"]


def test_controls_that_the_line_put_in_are_taken_out() -> None:
    line = encode(b"\xff\x03\xc0\x21abc")
    assert list(Deframer().feed(line[:4] + b"\x11" + line[4:8] + b"\x13\x00" + line[8:])) == [b"\xff\x03\xc0\x21abc"]


def test_frame_after_the_one_that_changes_the_map_is_read_by_the_new_one() -> None:
    # LCP's acknowledgement and the first IPCP request, unescaped, come in one piece
    pair = Pair(Side())
    pair.server.open(0.0)
    pair.client.open(0.0)
    while pair.line:
        for end in (pair.server, pair.client):
            together = b"".join(data for one, data in pair.line if one is end)
            pair.line = [(one, data) for one, data in pair.line if one is not end]
            end.feed(together, 0.0)
    assert pair.client.up and pair.server.up


# negotiation


def test_configure_request_is_acknowledged_with_the_same_bytes() -> None:
    sent: list[bytes] = []
    end = Ppp(SERVER, sent.append, lambda _: None, lambda: None)
    end.open(0.0)
    sent.clear()
    end.feed(encode(CONFIGURE_REQUEST), 0.0)
    # RFC 1661 section 5.2: code 2, the same identifier, length and options
    assert list(Deframer().feed(sent[0])) == [b"\xff\x03\xc0\x21\x02" + CONFIGURE_REQUEST[5:]]


def test_unknown_options_are_rejected_and_only_they() -> None:
    sent: list[bytes] = []
    end = Ppp(SERVER, sent.append, lambda _: None, lambda: None)
    end.open(0.0)
    sent.clear()
    end.feed(encode(bytes.fromhex("ff03c021 0107000e 110405f4 020600000000".replace(" ", ""))), 0.0)
    assert list(Deframer().feed(sent[0])) == [bytes.fromhex("ff03c021 04070008 110405f4".replace(" ", ""))]


def test_echo_is_answered_and_unknown_codes_are_rejected() -> None:
    pair = Pair(Side())
    pair.open()
    pair.client.send(0xC021, bytes.fromhex("0905000c") + b"\0\0\0\0data")
    ((_, echo), request) = pair.line.pop(0), None
    pair.server.feed(echo, 0.0)
    (answer,) = Deframer().feed(pair.line.pop(0)[1])
    assert (answer[:8], answer[12:]) == (bytes.fromhex("ff03c0210a05000c"), b"data")
    assert request is None
    pair.client.send(0xC021, bytes.fromhex("63010004"))
    pair.server.feed(pair.line.pop(0)[1], 0.0)
    (answer,) = Deframer().feed(pair.line.pop(0)[1])
    assert answer[4] == automaton.CODE_REJECT and answer.endswith(bytes.fromhex("63010004"))


def test_unknown_protocol_is_rejected_by_name() -> None:
    pair = Pair(Side())
    pair.open()
    pair.client.send(0x8057, b"\x01\x01\x00\x04")  # IPV6CP
    pair.server.feed(pair.line.pop(0)[1], 0.0)
    (answer,) = Deframer().feed(pair.line.pop(0)[1])
    assert answer[4] == automaton.PROTOCOL_REJECT and answer[8:] == bytes.fromhex("8057 01010004".replace(" ", ""))
    assert pair.server.up


def test_addresses_and_name_server_are_assigned() -> None:
    pair = Pair(Side())
    pair.open()
    assert pair.client.up and pair.server.up
    assert (pair.client.address, pair.client.peer_address, pair.client.dns) == (
        "10.64.64.2",
        "10.64.64.1",
        "10.64.64.1",
    )
    pair.client.send_ip(b"one")
    pair.server.send_ip(b"other")
    pair.run()
    assert pair.packets == [b"one", b"other"]


def test_password_is_asked_for_and_a_wrong_one_ends_the_link() -> None:
    closed = Side("10.64.64.1", "10.64.64.2", "10.64.64.1", "device", "secret")
    good = Pair(Side(user="device", key="secret"), closed)
    good.open()
    assert good.client.up and good.server.up
    for client in (Side(user="device", key="guess"), Side(user="other", key="secret"), Side()):
        bad = Pair(client, closed)
        bad.open()
        bad.run(60.0)
        assert not bad.client.up and not bad.server.up and not bad.server.running
        assert bad.server.error == AUTH_FAILED


def test_network_before_the_password_is_refused() -> None:
    pair = Pair(Side(user="device", key="x"), Side("10.64.64.1", "10.64.64.2", None, "device", "secret"))
    pair.server.open(0.0)
    pair.client.open(0.0)
    while pair.server._lcp.state != automaton.OPENED:
        end, data = pair.line.pop(0)
        end.feed(data, 0.0)
    pair.line.clear()
    pair.server.feed(encode(bytes.fromhex("ff038021 01010010 0306c0a80001 81060a404001".replace(" ", ""))), 0.0)
    pair.server.feed(encode(b"\xff\x03\x00\x21" + bytes(20)), 0.0)
    assert pair.line == [] and pair.packets == [] and not pair.server.up


def test_silent_peer_is_given_up_after_ten_requests() -> None:
    sent: list[bytes] = []
    end = Ppp(Side(), sent.append, lambda _: None, lambda: None)
    end.open(0.0)
    for second in range(60):
        end.tick(float(second))
    assert len(sent) == 10 and not end.running and end.error == PROTOCOL


def test_own_echo_is_a_loopback_and_ends() -> None:
    # what a modem in command mode with its echo on does
    sent: list[bytes] = []
    end = Ppp(Side(), sent.append, lambda _: None, lambda: None)
    end.open(0.0)
    for _ in range(200):
        if not sent:
            break
        end.feed(sent.pop(0), 0.0)
    assert not end.running and end.error == LOOPBACK


def test_end_in_good_order_is_told_apart_from_a_lost_line() -> None:
    pair = Pair(Side())
    pair.open()
    pair.client.close(pair.now)
    pair.run(20.0)
    assert (pair.client.running, pair.client.error) == (False, USER)
    assert (pair.server.running, pair.server.error) == (False, CONNECT)
    pair = Pair(Side())
    pair.open()
    pair.client.lost()
    assert (pair.client.running, pair.client.up, pair.client.error) == (False, False, CONNECT)


def test_close_ends_though_nobody_answers() -> None:
    pair = Pair(Side())
    pair.open()
    pair.client.close(pair.now)
    pair.line.clear()
    for _ in range(5):
        pair.now += 3.0
        pair.client.tick(pair.now)
        pair.line.clear()
    assert not pair.client.running


def test_lost_frames_only_delay_the_link() -> None:
    chance = random.Random(3)
    for _ in range(20):
        pair = Pair(Side())
        pair.server.open(0.0)
        pair.client.open(0.0)
        for _ in range(200):
            pair.line = [one for one in pair.line if chance.random() > 0.3]
            pair.run()
            pair.now += 1.0
            pair.client.tick(pair.now)
            pair.server.tick(pair.now)
            if pair.client.up and pair.server.up:
                break
        assert pair.client.up and pair.server.up


# peers that mean harm


@pytest.mark.parametrize("seed", range(6))
def test_noise_neither_hangs_nor_crashes_an_end(seed: int) -> None:
    chance = random.Random(seed)
    pair = Pair(Side(user="u", key="k") if seed % 2 else Side())
    pair.open()
    sent: list[int] = []
    pair.client._write = lambda data: sent.append(len(data))
    taken = 0
    for _ in range(3000):
        kind = chance.randrange(4)
        if kind == 0:
            data = chance.randbytes(chance.randrange(1, 60))
        else:
            protocol = chance.choice((0xC021, 0x8021, 0xC023, 0x0021, 0xC223, 0x8057))
            data = chance.randbytes(chance.randrange(0, 40))
            if kind > 1:
                body = chance.randbytes(chance.randrange(0, 20))
                length = len(body) + 4 if chance.random() < 0.8 else chance.randrange(65536)
                data = struct.pack(">BBH", chance.randrange(0, 14), chance.randrange(256), length) + body
            data = encode(b"\xff\x03" + protocol.to_bytes(2, "big") + data)
        taken += len(data)
        pair.now += 0.01
        pair.client.feed(data, pair.now)
        pair.client.tick(pair.now)
        if not pair.client.running:
            pair.client.open(pair.now)
    # an answer is not much longer than its question
    assert sum(sent) < 20 * taken


def test_peer_that_agrees_to_nothing_is_given_up() -> None:
    sent: list[bytes] = []
    end = Ppp(Side(), sent.append, lambda _: None, lambda: None)
    end.open(0.0)
    rounds = 0
    now = 0.0
    for _ in range(500):
        if not end.running:
            break
        if not sent:
            now += 3.0
            end.tick(now)
            continue
        for frame in list(Deframer().feed(sent.pop(0))):
            if frame[4] == automaton.REQUEST:
                rounds += 1
                options = frame[8:]
                end.feed(encode(frame[:4] + b"\x03" + frame[5:8] + options), now)
    assert not end.running and rounds < 100
