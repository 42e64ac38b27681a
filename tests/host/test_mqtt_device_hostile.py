"""The device's MQTT client on MicroPython, at brokers that say whatever they like: it ends, in time and memory."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.authority import Authority
from tests.support.mqtt_board import EUI, QUICK, MqttBoard

# as the standard has them: sections 3.2, 3.9, 3.4, 3.3, 3.13
CONNACK, SUBACK, PUBACK, PINGRESP = b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x01", b"\x40\x02\x00\x02", b"\xd0\x00"
DOWN = f"sb/v1/d/{EUI}/down".encode()
FRAME = bytes(range(1, 14))
WAITS = dict(zip(QUICK, (1500, 500, 700, 200), strict=True))
# the longest that they allow together: connection, two answers, one frame, listening; and a busy computer
LONGEST_MS = 1500 + 2 * 500 + 1500 + 500 + 700 + 200 + 2000
SETUP = """
from sealband.links import dial
def attempt(port):
    try:
        link.client = yield from dial.connect(b"EUI", "127.0.0.1", port, None)
    except (LinkError, OSError, ValueError) as error:
        return None
    sent = yield from link.send(b"\\xe0" + bytes(12))
    came = yield from link.listen()
    yield from link.disconnect()
    return sent, came
""".replace("EUI", EUI)


def publish(
    payload: bytes = FRAME, topic: bytes = DOWN, number: int = 7, flags: int = 2, length: bytes | None = None
) -> bytes:
    """A PUBLISH (section 3.3) of QoS 1, or of whatever the flags say."""
    rest = len(topic).to_bytes(2, "big") + topic + (number.to_bytes(2, "big") if flags & 6 else b"") + payload
    return bytes([0x30 | flags]) + (remaining(len(rest)) if length is None else length) + rest


def remaining(length: int) -> bytes:
    """Remaining length, section 2.2.3."""
    digits = b""
    while True:
        length, digit = divmod(length, 128)
        digits += bytes([digit | (0x80 if length else 0)])
        if not length:
            return digits


GOOD = CONNACK + SUBACK + PUBACK + publish()
Script = Callable[[socket.socket], object]


class Broker:
    """Plays a script to each that connects, once it has said CONNECT and SUBSCRIBE; then it hangs up, or, if the script
    says so, hears until the other end does."""

    def __init__(self) -> None:
        self.script: Script = lambda peer: None
        self.heard = b""
        self.ended = threading.Event()  # the other end is gone, and all that it said is in `heard`
        self.ended.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with self._told(), contextlib.suppress(OSError), peer:
                peer.settimeout(10)
                self.heard = peer.recv(4096)
                if not self.script(peer):
                    with contextlib.suppress(OSError):
                        peer.shutdown(socket.SHUT_WR)
                while more := peer.recv(4096):
                    self.heard += more

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.ended.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[MqttBoard]:
    with MqttBoard(tmp_path_factory.mktemp("board"), heap="256wK", quick=WAITS) as board:
        board.begin(Authority("devices"), broker.port)
        board.micropython.run(SETUP)
        yield board


Outcome = tuple[bool, list[bytes]] | None


def meet(board: MqttBoard, broker: Broker, script: Script | bytes) -> Outcome:
    """What comes of connecting, sending a frame and listening; it ends in time, whatever it is."""
    broker.script = script if callable(script) else lambda peer: peer.sendall(script)
    assert broker.ended.wait(10)  # one after the other
    broker.ended.clear()
    outcome: Outcome = board.drive(f"attempt({broker.port})")
    took_ms, longest_ms = board.call("(took_ms, longest_ms)")
    assert took_ms < LONGEST_MS and longest_ms < 400, (took_ms, longest_ms)
    assert board.call("link.client") is None
    if outcome is not None:
        sent, came = outcome
        assert sent in (True, False) and len(came) <= 8 and all(0 < len(one) <= 255 for one in came)
    return outcome


def and_stay(*said: bytes) -> Script:
    """Say this and stay."""

    def script(peer: socket.socket) -> bool:
        for one in said:
            peer.sendall(one)
            time.sleep(0.001)
        return True

    return script


def for_ever(said: bytes, before: bytes = b"", pause_s: float = 0.0) -> Script:
    """Say this again and again, until the other end has had enough."""

    def script(peer: socket.socket) -> None:
        peer.sendall(before)
        with contextlib.suppress(OSError):
            while True:
                peer.sendall(said)
                time.sleep(pause_s)

    return script


def test_good_broker_is_taken_also_a_byte_at_a_time(board: MqttBoard, broker: Broker) -> None:
    assert meet(board, broker, and_stay(GOOD)) == (True, [FRAME])
    assert broker.ended.wait(10)
    assert broker.heard.endswith(b"\x40\x02\x00\x07\xe0\x00")  # it owed an acknowledgement, and takes its leave
    assert meet(board, broker, and_stay(*(GOOD[at : at + 1] for at in range(len(GOOD))))) == (True, [FRAME])


def test_every_packet_cut_short_is_no_packet(board: MqttBoard, broker: Broker) -> None:
    for end in range(len(GOOD)):
        outcome = meet(board, broker, GOOD[:end])
        # who hangs up has said nothing that was not complete
        assert outcome == ((end >= len(CONNACK + SUBACK + PUBACK), []) if end >= len(CONNACK + SUBACK) else None)


def test_every_changed_byte_ends_well(board: MqttBoard, broker: Broker) -> None:
    chance = random.Random(11)
    for at in range(len(GOOD)):
        for value in {GOOD[at] ^ 1, GOOD[at] ^ 0x80, 0, 0xFF, chance.randrange(256)}:
            meet(board, broker, GOOD[:at] + bytes([value]) + GOOD[at + 1 :])
    # a changed frame is the seal's to refuse
    assert meet(board, broker, and_stay(GOOD[:-1] + b"\xff")) == (True, [FRAME[:-1] + b"\xff"])


def test_bytes_and_packets_lost_doubled_and_swapped_end_well(board: MqttBoard, broker: Broker) -> None:
    chance = random.Random(12)
    packets = [CONNACK, SUBACK, PUBACK, publish(), PINGRESP, publish(flags=0), publish(flags=10)]
    for at in range(len(GOOD)):
        meet(board, broker, GOOD[:at] + GOOD[at + 1 :])
        meet(board, broker, GOOD[:at] + GOOD[at : at + 1] * 2 + GOOD[at + 1 :])
    for _ in range(40):
        meet(board, broker, b"".join(chance.choices(packets, k=chance.randrange(1, 9))))
    for _ in range(40):
        meet(board, broker, chance.randbytes(chance.randrange(1, 400)))


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"\x20\x02\x00\x05" + SUBACK, "not authorised, section 3.2.2.3"),
        (b"\x20\x02\x00\x01", "another version"),
        (b"\x20\x02\x00\xff", "a reserved code"),
        (CONNACK + b"\x90\x03\x00\x01\x80", "the subscription fails, section 3.9.3"),
        (CONNACK + b"\x90\x03\x00\x01\x02", "QoS 2 was not asked for"),
        (CONNACK + publish(flags=4), "QoS 2, which was not granted"),
        (CONNACK + publish(flags=6), "QoS 3, section 3.3.1.2"),
        (CONNACK + publish(flags=8), "DUP with QoS 0, section 3.3.1.1"),
        (CONNACK + publish(number=0), "number 0, section 2.3.1"),
        (CONNACK + publish(length=b"\x10"), "a topic that is longer than its packet"),
        (CONNACK + b"\x32\x00", "no topic"),
        (CONNACK + b"\x32\xff\xff\xff\x7f", "256 MiB"),
        (CONNACK + b"\x32\xff\xff\xff\xff\x01", "a length of five digits, section 2.2.3"),
        (CONNACK + b"\x32\xff\xff\x04", "64 KiB and more"),
        (CONNACK + b"\x90\x04\x00\x01\x01\x01", "two answers for one filter"),
        (CONNACK + b"\x40\x03\x00\x01\x01", "a PUBACK that is too long"),
        (CONNACK + b"\x50\x02\x00\x02", "PUBREC, which is for QoS 2"),
        (CONNACK + b"\x62\x02\x00\x02", "PUBREL"),
        (b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "a client"),
        (CONNACK + b"\xe0\x00", "DISCONNECT, which brokers of 3.1.1 do not say"),
        (CONNACK + b"\xf0\x00", "a reserved type"),
        (CONNACK + b"\x21\x02\x00\x00", "reserved flags, section 2.2.2"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no broker"),
    ],
)
def test_what_breaks_the_standard_is_refused_at_once(board: MqttBoard, broker: Broker, said: bytes, what: str) -> None:
    assert meet(board, broker, and_stay(said)) is None, what
    assert board.call("took_ms < 700")


def test_silence_at_any_step_is_left(board: MqttBoard, broker: Broker) -> None:
    assert meet(board, broker, and_stay()) is None
    assert meet(board, broker, and_stay(CONNACK)) is None
    assert meet(board, broker, and_stay(CONNACK, b"\x90")) is None
    assert meet(board, broker, and_stay(SUBACK)) is None
    # not acknowledged, so it is not known whether it went out
    assert meet(board, broker, and_stay(CONNACK, SUBACK)) == (False, [])
    assert meet(board, broker, and_stay(CONNACK, SUBACK, b"\x40\x02\x00\x03", b"\x40\x02\x02\x00")) == (False, [])
    assert meet(board, broker, and_stay(CONNACK, SUBACK, PUBACK, publish()[:-1])) == (True, [])


@pytest.mark.parametrize(
    "said",
    [
        PINGRESP * 100,
        b"\x40\x02\x00\x09" * 100,
        SUBACK * 100,
        CONNACK * 100,
        publish(),
        publish(bytes(255), flags=0) * 10,
        publish(bytes(60_000)),
        publish(topic=b"sb/v1/d/0000000000000000/down"),
        publish(topic=b"x" * 5000),
    ],
)
def test_flood_is_left_in_time_and_kept_within_bounds(board: MqttBoard, broker: Broker, said: bytes) -> None:
    meet(board, broker, for_ever(said))
    board.micropython.run("gc.collect()")
    free = board.call("gc.mem_alloc()")
    meet(board, broker, for_ever(said, CONNACK + SUBACK + PUBACK))
    board.micropython.run("gc.collect()")
    assert board.call("gc.mem_alloc()") < free + 4000


def test_packet_that_drips_for_ever_is_left(board: MqttBoard, broker: Broker) -> None:
    assert meet(board, broker, for_ever(b"\x00", CONNACK + b"\x32\xff\x7f", 0.02)) is None
    meet(board, broker, for_ever(b"\x00", CONNACK + SUBACK + PUBACK + b"\x32\xff\x7f", 0.02))


def test_broker_that_reads_nothing_is_left(board: MqttBoard, broker: Broker) -> None:
    """Its window closes; what is to be written waits for a time, and no longer."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        # nobody accepts: the system takes the connection, and what fits its buffers
        assert board.drive(f"attempt({listener.getsockname()[1]})") is None
        assert board.call("took_ms < 3000")


def test_frames_of_others_and_retained_ones_are_not_handed_out(board: MqttBoard, broker: Broker) -> None:
    for wrong in (
        publish(topic=b"sb/v1/d/24a160fffe123457/down"),
        publish(topic=DOWN + b"/x"),
        publish(topic=DOWN[:-1]),
        publish(topic=b""),
        publish(topic=b"sb/v1/d/+/down"),
        publish(flags=3),
        publish(flags=1),
        publish(b""),
        publish(bytes(256)),
        publish(bytes(65_000)),
    ):
        assert meet(board, broker, and_stay(CONNACK, SUBACK, PUBACK, wrong, publish(number=9))) == (True, [FRAME])
        assert broker.ended.wait(10)
        # acknowledged where that is asked for, so that it does not come back
        assert (b"\x40\x02\x00\x07" in broker.heard) is bool(wrong[0] & 2)
        assert b"\x40\x02\x00\x09" in broker.heard
