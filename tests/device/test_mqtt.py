# MQTT packets by the examples of the standard (MQTT 3.1.1, OASIS, 29 October 2014; its figures and tables), the link's
# own rules with a connection that is made up, and what heap they take.
import time

from sealband.links import mqtt, publisher
from sealband.links.base import LinkError

UP, DOWN = b"\x00\x03a/b", b"c/d"
CONNACK, SUBACK, PINGRESP = b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x01", b"\xd0\x00"


def refused(function, *arguments):
    try:
        function(*arguments)
    except LinkError:
        return True
    return False


# --- packets


# Table 2.4 and the examples above it
LENGTHS = (
    (0, "00"),
    (64, "40"),
    (127, "7f"),
    (128, "8001"),
    (321, "c102"),
    (16383, "ff7f"),
    (16384, "808001"),
    (65536, "808004"),
)


def test_remaining_length_is_written_and_read():
    for length, encoded in LENGTHS:
        encoded = bytes.fromhex(encoded)
        built = publisher.build(0x30, bytes(length))
        assert built[: 1 + len(encoded)] == b"\x30" + encoded and len(built) == 1 + len(encoded) + length
        head = 1 + len(encoded)
        assert publisher.extent(built, len(built)) == (head, head + length)
        assert publisher.extent(built, head) == (head, head + length)


def test_head_is_read_a_byte_at_a_time():
    head = b"\x30\x80\x80\x01"
    for have in range(4):
        least = max(2, have + 1)
        assert publisher.extent(head, have) == (least, least)
    assert publisher.extent(head, 4) == (4, 4 + 16384)


def test_length_that_no_packet_for_us_has_is_refused():
    # table 2.4: 65537 up to the most that there is, and a fifth digit
    for digits in ("818004", "ffff7f", "80808001", "ffffff7f", "ffffffff01"):
        assert refused(publisher.extent, b"\x32" + bytes.fromhex(digits), 4)
    for head in ("2000", "2003", "4001", "4003", "9002", "9004", "d001"):
        assert refused(publisher.extent, bytes.fromhex(head), 2)


def test_only_what_a_broker_sends_is_read():
    for first in range(256):
        # table 2.1 and 2.2: CONNACK, PUBLISH with any flags, PUBACK, SUBACK, PINGRESP
        known = first in (0x20, 0x40, 0x90, 0xD0) or 0x30 <= first < 0x40
        assert refused(publisher.extent, bytes((first, 2 if first != 0x90 else 3)), 1) is not known


def test_message_is_read():
    # figure 3.11: topic a/b, packet identifier 10
    assert publisher.message(0x32, bytes.fromhex("0003612f62000a") + b"hello") == (10, b"a/b", b"hello")
    assert publisher.message(0x3B, bytes.fromhex("0003612f62000a")) == (10, b"a/b", b"")
    assert publisher.message(0x30, bytes.fromhex("0003612f62000a")) == (0, b"a/b", b"\x00\x0a")


def test_malformed_message_is_refused():
    good = bytes.fromhex("0003612f62000a")
    for first in (0x34, 0x36, 0x38, 0x3C, 0x3E):
        assert refused(publisher.message, first, good)
    for end in range(len(good)):
        assert refused(publisher.message, 0x32, good[:end])
    assert refused(publisher.message, 0x32, good[:-2] + b"\x00\x00")
    assert refused(publisher.message, 0x32, b"\xff\xff" + good)


# --- a connection


class FakeStream:
    # gives what it was given in pieces of so many bytes; takes so many bytes of each write
    def __init__(self, said=b"", piece=1000, takes=1000):
        self.said = said
        self.heard = b""
        self._piece = piece
        self._takes = takes

    def readinto(self, view):
        if not self.said:
            return None
        part = self.said[: min(self._piece, len(view))]
        self.said = self.said[len(part) :]
        view[: len(part)] = part
        return len(part)

    def write(self, data):
        part = data[: self._takes]
        self.heard += part
        return len(part) or None


def connected(*given):
    client = publisher.Publisher(UP, DOWN)
    client.ip.stream = FakeStream(*given)
    client._wrote_at = time.ticks_ms()
    return client


def result(steps):
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def test_frame_is_published_with_qos_1_and_the_next_number():
    client = connected(b"\x40\x02\x00\x02\x40\x02\x00\x03")
    assert result(client.publish(b"frame")) is True
    assert result(client.publish(b"again")) is True
    assert client.ip.stream.heard == b"\x32\x0c\x00\x03a/b\x00\x02frame\x32\x0c\x00\x03a/b\x00\x03again"


def test_number_is_never_0():
    client = connected(b"\x40\x02\x00\x01")
    client._number = 0xFFFF
    assert result(client.publish(b"")) is True
    assert client.ip.stream.heard == b"\x32\x07\x00\x03a/b\x00\x01"


def test_packets_in_any_pieces_are_read():
    said = b"\x32\x0a\x00\x03c/d\x00\x07one" + PINGRESP + b"\x30\x08\x00\x03c/dtwo" + b"\x40\x02\x00\x02"
    for piece in (1, 2, 3, 7, 50):
        client = connected(said, piece, 3)
        assert result(client.publish(b"x")) is True
        assert result(client.receive(0)) == [b"one", b"two"]
        assert result(client.disconnect()) is None
        # the acknowledgement of the first, when it was handed out
        assert client.ip.stream.heard == b"\x32\x08\x00\x03a/b\x00\x02x\x40\x02\x00\x07\xe0\x00"


# --- the link


class Bearer:
    name = "wifi"

    def __init__(self):
        self.downs = 0

    def down(self):
        self.downs += 1
        yield 1


class Clock:
    now_ms = 0

    def uptime_ms(self):
        return self.now_ms


class Client:
    def __init__(self, fault=None):
        self.ip = self
        self.closed = False
        self._fault = fault

    def _do(self, value):
        yield 1
        if self._fault:
            raise self._fault
        return value

    def publish(self, frame):
        return self._do(True)

    def receive(self):
        return self._do([b"down"])

    def disconnect(self):
        return self._do(None)

    def close(self):
        self.closed = True


def link(client=None, chance=0):
    made = mqtt.Mqtt(None, Bearer())
    made.clock = Clock()
    made.random = lambda n: min(chance, n - 1)
    made._free_at_ms = 0
    made.client = client
    return made


def test_what_a_connection_raises_ends_it_and_never_the_session():
    for fault in (LinkError("x"), OSError(104), ValueError("x"), MemoryError(), TypeError("x")):
        for act, nothing in ((lambda one: one.send(b"x"), False), (lambda one: one.listen(), [])):
            client = Client(fault)
            one = link(client)
            assert result(act(one)) == nothing
            assert client.closed and one.client is None and one.errors == 1 and one.wait_ms(9) == 5000
            assert result(act(one)) == nothing and one.errors == 1
            result(one.disconnect())
            assert one.bearer.downs == 1


def test_connection_that_is_left_in_the_middle_is_closed_and_no_failure():
    for act in (lambda one: one.send(b"x"), lambda one: one.listen(), lambda one: one.disconnect()):
        client = Client()
        one = link(client)
        steps = act(one)
        next(steps)
        steps.close()
        assert client.closed and one.client is None and one.errors == 0 and one.wait_ms(9) == 0


def test_good_connection_is_kept_until_it_is_left():
    client = Client()
    one = link(client)
    assert result(one.send(b"x")) is True and result(one.listen()) == [b"down"]
    assert result(one.send(bytes(256))) is False
    assert one.client is client and one.wait_ms(255) == 0 and not client.closed
    result(one.disconnect())
    assert client.closed and one.client is None and one.errors == 0 and one.wait_ms(255) == 0


def test_pauses_double_with_jitter_and_end_with_a_frame_that_went_out():
    for chance, share in ((0, 0.5), (1 << 30, 1.5)):
        one = link(None, chance)
        for count in range(20):
            one._failed()
            longest_ms = min(3600000, 10000 << count)
            assert abs(one.wait_ms(13) - share * longest_ms) <= 1
        one.clock.now_ms = 1 << 29
        assert one.wait_ms(13) == 0 and one.wait_ms(256) is None
        one.client = Client()
        assert result(one.send(b"x"))
        one._failed()
        assert one.wait_ms(13) <= 15000


def test_devices_that_lost_the_same_broker_do_not_come_back_together():
    waits = []
    for chance in range(0, 10000, 100):
        one = link(None, chance)
        one._failed()
        waits.append(one.wait_ms(13))
    assert len(set(waits)) == 100 and max(waits) - min(waits) > 9000


def test_board_that_is_not_provisioned_waits_for_ever():
    one = link()
    one._free_at_ms = None
    assert one.wait_ms(13) is None


def test_grade_is_the_bearer_s_unless_the_application_says_another():
    assert mqtt.Mqtt(None, Bearer()).grade == 3
    assert mqtt.Mqtt(None, Bearer(), grade=5).grade == 5
    assert link().energy_mj(9) > link(Client()).energy_mj(9) > 0
