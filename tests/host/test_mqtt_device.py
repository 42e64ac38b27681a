"""The device's MQTT link on MicroPython over TLS, at a real mosquitto: what it is for, and whom it refuses."""

import contextlib
import datetime
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from host_tools.gateway.broker import mosquitto_path
from sealwire.messages import EPOCH_2025
from tests.support.authority import DAY, Authority, common_name, pem, pem_key
from tests.support.mosquitto import NAMES, Mosquitto, Server
from tests.support.mqtt_board import EUI, MqttBoard
from tests.support.mqtt_peer import wait

pytestmark = pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")
UP, DOWN = f"sb/v1/d/{EUI}/up", f"sb/v1/d/{EUI}/down"
FRAMES = [bytes([0xE0, length]) + os.urandom(length - 2) for length in (13, 115, 222, 255)]
SECOND = datetime.timedelta(seconds=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("devices")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MqttBoard]:
    with MqttBoard(tmp_path_factory.mktemp("board")) as board:
        yield board


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker"), authority) as broker:
        yield broker


@pytest.fixture(scope="module")
def server(broker: Mosquitto) -> Iterator[Server]:
    with Server(broker) as server:
        yield server


def test_frames_are_published_and_downlinks_come(board: MqttBoard, broker: Mosquitto, server: Server) -> None:
    board.begin(broker.authority, broker.port)
    assert board.call("(link.wait_ms(255), link.wait_ms(256), link.name, link.grade)") == (0, None, "wifi", 0)
    assert board.connect() is None
    for data in FRAMES:
        assert board.drive(f"link.send({data!r})") is True
    # each send has waited for the broker's word
    assert wait(lambda: len(server.came) == len(FRAMES))
    assert server.came == [(UP, data, 1) for data in FRAMES]
    for data in FRAMES:
        server.publish(DOWN, data)
    assert board.drive("link.listen()") == FRAMES
    assert board.drive("link.listen()") == []
    assert board.call("1000 < took_ms < 2500")
    board.drive("link.disconnect()")
    assert board.call("(bearer.calls, link.client, link.errors)") == (["up", "down"], None, 0)
    assert wait(lambda: f"Received DISCONNECT from {EUI}" in broker.log())


# --- the session


def test_session_is_kept_over_a_restart_of_the_broker(board: MqttBoard, authority: Authority, tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker", authority)
    with broker:
        board.begin(authority, broker.port)
        assert board.connect() is None
        board.drive("link.disconnect()")
        with Server(broker) as server:
            server.publish(DOWN, FRAMES[0])
    board.drive("link.connect()")
    assert board.call("link.wait_ms(13) > 0")  # there is no broker
    with broker:
        assert board.connect() is None
        assert board.drive("link.listen()") == [FRAMES[0]]
        assert board.drive(f"link.send({FRAMES[1]!r})") is True
        board.drive("link.disconnect()")
        assert board.connect() is None
        assert board.drive("link.listen()") == []
        board.drive("link.disconnect()")


def test_downlink_that_was_not_acted_on_comes_again(board: MqttBoard, broker: Mosquitto, server: Server) -> None:
    """It is acknowledged with the next call after the one that handed it out; a power cut in between loses nothing."""
    board.begin(broker.authority, broker.port)
    assert board.connect() is None
    for data in FRAMES[:2]:
        server.publish(DOWN, data)
    assert board.drive("link.listen()") == FRAMES[:2]
    board.micropython.run("link.client.ip.close()")  # the power fails
    board.begin(broker.authority, broker.port)
    assert board.connect() is None
    assert board.drive("link.listen()") == FRAMES[:2]
    board.drive("link.disconnect()")
    assert board.connect() is None
    assert board.drive("link.listen()") == []
    board.drive("link.disconnect()")


def test_downlink_that_comes_while_a_frame_is_sent_is_kept(board: MqttBoard, broker: Mosquitto, server: Server) -> None:
    board.begin(broker.authority, broker.port)
    assert board.connect() is None
    for number in range(3):
        server.publish(DOWN, FRAMES[0] + bytes([number]))
        assert board.drive(f"link.send({FRAMES[1]!r})") is True
    assert board.drive("link.listen()") == [FRAMES[0] + bytes([number]) for number in range(3)]
    board.drive("link.disconnect()")


def test_what_is_no_downlink_is_gone_for_good(board: MqttBoard, broker: Mosquitto, server: Server) -> None:
    """Too long for a frame, empty, retained: none may come back for ever and stand in the way of those that are."""
    board.begin(broker.authority, broker.port)
    assert board.connect() is None
    server.publish(DOWN, FRAMES[0], retain=True)
    assert board.drive("link.listen()") == [FRAMES[0]]  # not retained for who was there
    board.drive("link.disconnect()")
    for wrong in (bytes(256), bytes(5000), bytes(60_000), b""):
        server.publish(DOWN, wrong)
    server.publish(DOWN, FRAMES[1])
    assert board.connect() is None
    assert board.drive("link.listen()") == [FRAMES[1]]
    board.drive("link.disconnect()")
    assert board.connect() is None
    assert board.drive("link.listen()") == []
    board.drive("link.disconnect()")
    server.publish(DOWN, b"", retain=True)


def test_many_downlinks_come_in_several_listenings(board: MqttBoard, broker: Mosquitto, server: Server) -> None:
    board.begin(broker.authority, broker.port)
    assert board.connect() is None
    board.drive("link.disconnect()")
    sent = [FRAMES[3][:-1] + bytes([number]) for number in range(30)]
    for data in sent:
        server.publish(DOWN, data)
    assert board.connect() is None
    came = board.drive("link.listen()")
    assert len(came) == 8  # no more than that are kept
    board.drive("link.disconnect()")
    for _ in sent:
        if len(set(came)) == len(sent):
            break
        # those that there was no room for come with the next session
        assert board.connect() is None
        came += board.drive("link.listen()")
        board.drive("link.disconnect()")
    assert sorted(set(came)) == sent


def test_broker_that_dies_is_left_and_the_pauses_double(board: MqttBoard, authority: Authority, tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker", authority)
    with broker:
        board.begin(authority, broker.port)
        assert board.connect() is None
        broker.kill()
        assert board.drive(f"link.send({FRAMES[0]!r})") is False
        assert board.call("link.client") is None
        # half of the pause and a part of it that chance decides, here half of it: all of it
        waits = [board.call("link.wait_ms(13)")]
        assert board.drive(f"link.send({FRAMES[0]!r})") is False
        assert board.drive("link.listen()") == []
        board.drive("link.disconnect()")
        for _ in range(10):
            assert board.connect() is not None
            waits.append(board.call("link.wait_ms(13)"))
    assert [round(wait, -3) for wait in waits] == [min(3600, 10 << n) * 1000 for n in range(10)] + [3600000]
    with broker:
        assert board.connect() is None
        assert board.drive(f"link.send({FRAMES[0]!r})") is True
        broker.kill()
        assert board.drive(f"link.send({FRAMES[0]!r})") is False
        assert 9000 < board.call("link.wait_ms(13)") <= 10000


def test_bearer_that_does_not_come_up_is_an_error_and_taken_down(board: MqttBoard, broker: Mosquitto) -> None:
    board.begin(broker.authority, broker.port)
    for error in ("LinkError('no network')", "OSError(5)", "MemoryError()"):
        board.micropython.run(f"def refuse():\n yield 1\n raise {error}\nbearer.up = refuse\nbearer.calls = []")
        assert "wifi: " in (board.connect() or "")
        assert board.call("bearer.calls") == ["down"]


def test_session_that_is_left_half_way_leaves_nothing_behind(board: MqttBoard, broker: Mosquitto) -> None:
    """The node closes what it drives when its own work ends."""
    board.begin(broker.authority, broker.port)
    before = len(board.call("[e[0] for e in __import__('os').ilistdir('/proc/self/fd')]"))
    for count in range(1, 12):
        board.micropython.run(f"steps = link.connect()\nfor _ in range({count}): time.sleep_ms(next(steps, 0))")
        board.micropython.run("steps.close()")
        if board.call("link.client is not None"):
            board.micropython.run(f"steps = link.send({FRAMES[0]!r}); next(steps); steps.close()")
        assert board.call("link.client") is None
    board.micropython.run("gc.collect()")
    assert len(board.call("[e[0] for e in __import__('os').ilistdir('/proc/self/fd')]")) <= before
    assert board.connect() is None
    board.drive("link.disconnect()")


# --- whom the device refuses, and who refuses it


def refused_by_device(
    board: MqttBoard, folder: Path, authority: Authority, host: str = "localhost", **terms: object
) -> str:
    """Connect to a broker with such a certificate, which must see no MQTT packet; how the device puts it."""
    by = terms.pop("by", authority)
    assert isinstance(by, Authority)
    key = ec.generate_private_key(ec.SECP256R1())
    names = terms.pop("names", NAMES)
    certificate = by.sign(key.public_key(), common_name("broker"), names=names, **terms)  # type: ignore[arg-type]
    with Mosquitto(folder, authority, (certificate, key)) as broker:
        board.begin(authority, broker.port, host=host)
        refusal = board.connect()
        assert refusal is not None
        assert board.call("(bearer.calls, took_ms < 3000)") == (["up", "down"], True)
        assert board.call("link.wait_ms(13) > 0")
        assert "CONNECT" not in broker.log() and EUI not in broker.log()
    return refusal


def test_broker_of_another_ca_is_refused(board: MqttBoard, authority: Authority, tmp_path: Path) -> None:
    refused_by_device(board, tmp_path / "a", authority, by=Authority("others"))
    refused_by_device(board, tmp_path / "b", authority, by=Authority("devices"))  # of the same name


@pytest.mark.parametrize("names", [("example.org",), ("127.0.0.1",), ("localhost.example.org",), ("*.localhost",)])
def test_broker_of_another_name_is_refused(
    board: MqttBoard, authority: Authority, names: tuple[str, ...], tmp_path: Path
) -> None:
    refused_by_device(board, tmp_path, authority, names=names)


def test_broker_of_another_address_is_refused(board: MqttBoard, authority: Authority, tmp_path: Path) -> None:
    refused_by_device(board, tmp_path, authority, "127.0.0.1", names=("127.0.0.2", "localhost"))


def test_expired_broker_is_refused(board: MqttBoard, authority: Authority, tmp_path: Path) -> None:
    refused_by_device(board, tmp_path / "a", authority, begins=-3 * DAY, ends=-2 * DAY)
    refused_by_device(board, tmp_path / "b", authority, begins=-DAY, ends=-2 * SECOND)


def test_broker_of_the_future_is_refused(board: MqttBoard, authority: Authority, tmp_path: Path) -> None:
    refused_by_device(board, tmp_path, authority, begins=DAY, ends=2 * DAY)


def test_device_that_poses_as_the_broker_is_refused(board: MqttBoard, authority: Authority, tmp_path: Path) -> None:
    """Whoever takes a device apart has a certificate of the same CA, but for a client."""
    refused_by_device(board, tmp_path, authority, usage=ExtendedKeyUsageOID.CLIENT_AUTH)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_is_refused(board: MqttBoard, authority: Authority, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "pem").write_bytes(
        pem_key(key) + pem(authority.sign(key.public_key(), common_name("broker"), names=NAMES))
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_server(("127.0.0.1", 0)) as listener:
        board.begin(authority, listener.getsockname()[1])
        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(_handshake, listener, context)
            assert board.connect() is not None
            assert "PROTOCOL" in outcome.result(20)  # unsupported, or the alert that says so


def _handshake(listener: socket.socket, context: ssl.SSLContext) -> str:
    connection, _ = listener.accept()
    try:
        with context.wrap_socket(connection, server_side=True) as secure:
            return str(secure.version())
    except ssl.SSLError as error:
        return str(error)


@pytest.mark.parametrize(
    "said", [b"\x20\x02\x00\x00\x90\x03\x00\x01\x01", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(100)]
)
def test_broker_without_tls_is_refused(board: MqttBoard, authority: Authority, said: bytes) -> None:
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(said)
                heard.append(connection.recv(4096))

        with ThreadPoolExecutor(1) as pool:
            pool.submit(serve)
            board.begin(authority, listener.getsockname()[1])
            assert board.connect() is not None
    assert EUI.encode() not in heard[0] and b"MQTT" not in heard[0]


def test_device_of_another_ca_is_refused_by_the_broker(board: MqttBoard, broker: Mosquitto) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    forged = Authority("devices").sign(key.public_key(), common_name(EUI))
    board.begin(broker.authority, broker.port, key=key, certificate=forged)
    assert board.connect() is not None
    assert board.call("link.wait_ms(13) > 0")


@pytest.mark.parametrize("lacks", ["ca", "certificate", "broker", "network", "all"])
def test_board_that_was_not_provisioned_never_tries(board: MqttBoard, authority: Authority, lacks: str) -> None:
    board.begin(authority, 1)
    table = cbor2.loads(board.provisioned.read_bytes())
    for key in {"ca": [5], "broker": [6], "network": [4], "certificate": [], "all": [4, 5, 6]}[lacks]:
        del table[key]
    board.provisioned.write_bytes(cbor2.dumps(table, canonical=True))
    board.micropython.run("records = link.store.records")
    if lacks == "certificate":
        board.micropython.run("records['tls'] = records['tls'][:33]")
    board.micropython.run("make(records)")
    assert board.call("link.wait_ms(13)") is None
    board.micropython.run("del records['tls']\nmake(records)")
    assert board.call("link.wait_ms(13)") is None


def test_certificate_that_is_none_is_an_error(board: MqttBoard, broker: Mosquitto) -> None:
    board.begin(broker.authority, broker.port, ca=b"\x30\x03\x02\x01\x00")
    assert board.connect() is not None
    board.begin(broker.authority, broker.port)
    board.micropython.run("link.store.records['tls'] = link.store.records['tls'][:40]")
    assert board.connect() is not None


# --- the time that certificates are judged by


def clock_after_connecting(board: MqttBoard, expression: str = "None") -> tuple[int, ...] | None:
    """What the chip's clock was set to when it connected (None: it was left as it is); connects to nothing."""
    board.micropython.run("Machine.set_to.clear()\nlink._free_at_ms = 0")
    board.micropython.run(expression)
    board.drive("link.connect()")
    found: list[tuple[int, ...]] = board.call("Machine.set_to")
    return found[0] if found else None


def begin_long_ago(board: MqttBoard, authority: Authority, days: int = 90, ntp: tuple[str, int] | None = None) -> None:
    """A start of a board whose certificate is so old."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.sign(key.public_key(), common_name(EUI), begins=-days * DAY)
    board.begin(authority, 1, key=key, certificate=certificate, ntp=ntp)


def near(parts: tuple[int, ...] | None, seconds: float) -> bool:
    """Whether machine.RTC().datetime was given this Unix time: year, month, day, weekday, hour, minute, second, 0."""
    assert parts and len(parts) == 8
    year, month, day, weekday, hour, minute, second, _ = parts
    given = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
    assert weekday == given.weekday()
    return abs(given.timestamp() - seconds) < 10


def test_clock_that_is_right_is_left_and_a_wrong_one_set(board: MqttBoard, authority: Authority) -> None:
    begin_long_ago(board, authority)
    assert clock_after_connecting(board) is None
    assert clock_after_connecting(board, "clock.skew_s = -30") is None  # the chip's is half a minute ahead
    assert near(clock_after_connecting(board, "clock.skew_s = -90"), time.time() - 90)
    assert near(clock_after_connecting(board, "clock.skew_s = 86400"), time.time() + 86400)


def test_network_s_time_is_a_hint_and_never_turns_it_back(board: MqttBoard, authority: Authority) -> None:
    """Who sets it back could use certificates whose key was stolen, and which have expired since."""
    begin_long_ago(board, authority)
    board.micropython.run("clock.valid = False\nclock.skew_s = -1000000")
    said = "bearer.says = clock.now() + "
    # between what is surely past and ...
    assert near(clock_after_connecting(board, said + "5000"), time.time() - 995_000)
    assert near(clock_after_connecting(board, said + "-5000"), time.time() - 1_000_000)
    assert near(clock_after_connecting(board, said + "-2**30"), time.time() - 1_000_000)
    # nobody says anything: what is surely past, unless the chip's clock goes on from that
    assert near(clock_after_connecting(board, "bearer.says = None"), time.time() - 1_000_000)
    assert clock_after_connecting(board, "clock.skew_s = -600000") is None


def test_what_is_surely_past_is_not_before_the_board_s_own_certificate(board: MqttBoard, authority: Authority) -> None:
    """A board that has had no contact yet would take the time of 2025, and certificates that have expired since."""
    for days in (10, 200):
        begin_long_ago(board, authority, days)
        made = time.time() - days * 86400
        assert near(clock_after_connecting(board, "clock.valid = False\nclock.now = lambda: 0"), made)
        assert near(clock_after_connecting(board, "bearer.says = 5"), made)
        assert near(clock_after_connecting(board, f"bearer.says = {int(made) - EPOCH_2025 + 100}"), made + 100)


class Ntp(threading.Thread):
    """A time server; `answer` makes what it sends of a request, in a list."""

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.socket.getsockname()
        self.answer = answer
        self.asked: list[bytes] = []
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, source = self.socket.recvfrom(1024)
                self.asked.append(data)
                for said in self.answer(data):
                    self.socket.sendto(said, source)


def ntp_answer(
    request: bytes, seconds: int, *, first: int = 0x24, stratum: int = 2, mark: bytes | None = None
) -> bytes:
    """RFC 5905 figure 8; seconds since 1900."""
    head = bytes([first, stratum, 6, 0xEC]) + bytes(20)
    return head + (request[40:48] if mark is None else mark) + bytes(8) + struct.pack(">II", seconds & 0xFFFFFFFF, 0)


Y1900 = 2208988800  # RFC 868: from 1900 to 1970


def test_time_server_is_asked_while_nobody_else_says_the_time(board: MqttBoard, authority: Authority) -> None:
    ntp = Ntp(lambda request: [ntp_answer(request, int(time.time()) + Y1900)])
    begin_long_ago(board, authority, ntp=ntp.address)
    board.micropython.run("clock.skew_s = -1000000")
    assert near(clock_after_connecting(board), time.time() - 1_000_000)
    assert ntp.asked == []
    assert clock_after_connecting(board, "clock.valid = False") is None  # the chip's agrees with the server's
    (request,) = ntp.asked
    assert request[:40] == b"\x23" + bytes(39) and len(set(request[40:])) > 2
    assert near(clock_after_connecting(board, "bearer.says = clock.now() + 7"), time.time() - 1_000_000 + 7)
    assert len(ntp.asked) == 1


def test_time_after_2036_is_understood(board: MqttBoard, authority: Authority) -> None:
    """NTP's seconds begin anew on 7 February 2036."""
    later = 2**32 - Y1900 + 1000
    ntp = Ntp(lambda request: [ntp_answer(request, 1000)])
    begin_long_ago(board, authority, ntp=ntp.address)
    assert near(clock_after_connecting(board, "clock.valid = False"), later)


@pytest.mark.parametrize(
    "forged",
    [
        lambda request: ntp_answer(request, 4_000_000_000, mark=os.urandom(8)),  # who did not see the request
        lambda request: ntp_answer(request, 4_000_000_000, first=0x23),  # no server
        lambda request: ntp_answer(request, 4_000_000_000, first=0xE4),  # one whose clock is not set
        lambda request: ntp_answer(request, 4_000_000_000, stratum=0),  # kiss of death
        lambda request: ntp_answer(request, 4_000_000_000, stratum=16),
        lambda request: ntp_answer(request, 0),
        lambda request: ntp_answer(request, 3_900_000_000),  # before 2025
        lambda request: ntp_answer(request, 4_000_000_000)[:47],
        lambda request: b"",
        lambda request: request,
    ],
)
def test_forged_time_is_ignored_and_the_right_one_taken(
    board: MqttBoard, authority: Authority, forged: Callable[[bytes], bytes]
) -> None:
    ntp = Ntp(lambda request: [forged(request), ntp_answer(request, int(time.time()) + 1_000_000 + Y1900)])
    begin_long_ago(board, authority, ntp=ntp.address)
    assert near(clock_after_connecting(board, "clock.valid = False"), time.time() + 1_000_000)


def test_time_server_that_floods_or_is_silent_holds_nobody_up(board: MqttBoard, authority: Authority) -> None:
    for answer in (lambda request: [], lambda request: [bytes(48)] * 500):
        ntp = Ntp(answer)
        begin_long_ago(board, authority, ntp=ntp.address)
        assert clock_after_connecting(board, "clock.valid = False") is None
        assert board.call("took_ms < 3000 and longest_ms < 500")
        assert len(ntp.asked) == 2


# --- asyncio

ASYNCIO = """
import asyncio
import sealband.links
from sealband.links import dial, publisher, secure
async def main(name, port, ca, certificate, key, frame, keepalive_s, listen_ms):
    publisher.KEEPALIVE_S = keepalive_s
    sys.modules["sealband.links.publisher"] = sealband.links.publisher = publisher
    context = secure.pinned(ca, certificate, key)
    ticks = []
    async def beside():
        while True:
            ticks.append(time.ticks_ms())
            await asyncio.sleep_ms(20)
    other = asyncio.create_task(beside())
    client = await dial.connect(name, "localhost", port, context, asyncio.sleep_ms)
    sent = await client.publish(frame)
    came = await client.receive(listen_ms)
    await client.disconnect()
    client.ip.close()
    other.cancel()
    return sent, came, len(ticks)
"""


def test_client_runs_under_asyncio_beside_others(board: MqttBoard, broker: Mosquitto, server: Server) -> None:
    board.begin(broker.authority, broker.port)
    board.micropython.run(ASYNCIO)
    board.micropython.run("tls = link.store.records['tls']")
    before = len(server.came)
    server.publish(DOWN, FRAMES[2])
    call = f"asyncio.run(main({EUI.encode()!r}, {broker.port}, {broker.authority.der!r}, tls[33:], tls[1:33], "
    sent, came, ticks = board.call(f"{call}{FRAMES[0]!r}, 2, 3000))")
    assert sent is True and came == [FRAMES[2]] and ticks > 5
    assert wait(lambda: len(server.came) == before + 1)
    # alone for longer than the broker puts up with
    logged = len(broker.log())
    sent, came, ticks = board.call(f"{call}{FRAMES[1]!r}, 2, 3600))")
    assert sent is True and came == [] and ticks > 80
    assert broker.log()[logged:].count(f"Received PINGREQ from {EUI}") >= 2
    assert f"{EUI} has exceeded timeout" not in broker.log()
