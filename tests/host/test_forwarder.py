"""The simulated gateway, against a server of bare sockets and PROTOCOL.TXT."""

import base64
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from host_tools.gateway.semtech_udp import PullResp, Txpk
from host_tools.sim import forwarder as forwarder_module
from host_tools.sim.clock import SimClock
from host_tools.sim.ether import Ether, EtherClient, RadioParams
from host_tools.sim.forwarder import WRAP_US, Forwarder

SPEED = 20.0
EUI = "aa555a0000000101"
UP = RadioParams(868_100_000, 7)
DOWN = replace(UP, invert_iq=True)
PACKET = b"\xe0" + bytes(range(19))


class Server:
    """The server's end of the protocol: PULL_DATA is answered, everything else is kept."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.address = self.socket.getsockname()
        self.gateway: Any = None

    def next(self, kind: int) -> bytes:
        """The next datagram of this identifier."""
        while True:
            datagram, sender = self.socket.recvfrom(65_536)
            assert datagram[0] == 2
            assert datagram[4:12].hex() == EUI
            if datagram[3] == 2:
                self.gateway = sender
                self.send(b"\x02" + datagram[1:3] + b"\x04")
            if datagram[3] == kind:
                return datagram

    def send(self, datagram: bytes) -> None:
        self.socket.sendto(datagram, self.gateway)

    def order(self, **values: Any) -> str:
        """Send a PULL_RESP with these fields of txpk, and return TX_ACK's error."""
        txpk = {
            "imme": False,
            "freq": 868.1,
            "rfch": 0,
            "powe": 14,
            "modu": "LORA",
            "datr": "SF7BW125",
            "codr": "4/5",
            "ipol": True,
            "size": len(PACKET),
            "data": base64.b64encode(PACKET).decode(),
        }
        body = {key: value for key, value in (txpk | values).items() if value is not None}
        self.send(bytes.fromhex("02abcd03") + json.dumps({"txpk": body}).encode())
        answer = self.next(5)
        assert answer[1:3].hex() == "abcd"
        error: str = json.loads(answer[12:])["txpk_ack"]["error"]
        return error


@pytest.fixture
def clock() -> SimClock:
    return SimClock.start(SPEED)


@pytest.fixture
def ether(clock: SimClock) -> Iterator[Ether]:
    with Ether(clock) as running:
        yield running


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.socket.close()


@pytest.fixture
def gateway(ether: Ether, server: Server, clock: SimClock) -> Iterator[Forwarder]:
    assert ether.address is not None
    with Forwarder(EUI, server.address, ether.address, clock) as running:
        server.next(2)
        assert running.wait_connected()
        yield running


@pytest.fixture
def band(ether: Ether, clock: SimClock) -> Iterator[EtherClient]:
    assert ether.address is not None
    with EtherClient(ether.address, "band", clock) as client:
        yield client


def wait_for(true: Callable[[], bool], clock: SimClock) -> None:
    for _ in range(500):
        if true():
            return
        clock.sleep(0.2)
    raise AssertionError("it did not happen")


def test_what_is_heard_is_pushed(gateway: Forwarder, server: Server, band: EtherClient, clock: SimClock) -> None:
    report = band.transmit(PACKET, replace(UP, frequency_hz=868_300_000, sf=9, coding_rate=6))
    datagram = server.next(0)
    (rxpk,) = json.loads(datagram[12:])["rxpk"]
    assert base64.b64decode(rxpk.pop("data")) == PACKET
    assert rxpk.pop("tmst") == gateway.tmst_us(report.end)
    assert -110 < rxpk.pop("rssi") < -80
    assert 0 < rxpk.pop("lsnr") < 15
    assert rxpk == {
        "chan": 0,
        "rfch": 0,
        "freq": 868.3,
        "stat": 1,
        "modu": "LORA",
        "datr": "SF9BW125",
        "codr": "4/6",
        "size": 20,
    }
    server.send(b"\x02" + datagram[1:3] + b"\x01")
    wait_for(lambda: gateway.statistics().get("push_acks") == 1, clock)


def test_a_downlink_goes_on_the_air_when_its_timestamp_says(
    gateway: Forwarder, server: Server, band: EtherClient, clock: SimClock
) -> None:
    report = band.transmit(PACKET, UP)
    (rxpk,) = json.loads(server.next(0)[12:])["rxpk"]
    assert server.order(tmst=(rxpk["tmst"] + 5_000_000) % WRAP_US) == "NONE"
    heard = band.receive(DOWN, 6.0)
    assert heard is not None
    assert heard.packet == PACKET
    assert heard.at - 0.056576 == pytest.approx(report.end + 5.0, abs=2e-6)
    assert heard.params == DOWN


def test_a_timestamp_beyond_the_counters_end_is_ahead(
    gateway: Forwarder, server: Server, ether: Ether, clock: SimClock
) -> None:
    gateway._origin -= (WRAP_US / 1e6) - (clock.now() - gateway._origin) - 3.0  # the counter wraps in 3 s
    due = gateway.tmst_us(clock.now() + 10)
    assert due < 10_000_000
    now = clock.now()
    assert server.order(tmst=due) == "NONE"
    assert ether.transmissions[-1].start == pytest.approx(now + 10, abs=2)


def test_immediately_is_now(gateway: Forwarder, server: Server, ether: Ether, clock: SimClock) -> None:
    before = clock.now()
    assert server.order(imme=True) == "NONE"
    assert before <= ether.transmissions[-1].start <= clock.now()


@pytest.mark.parametrize(
    ("offset_s", "values", "error"),
    [
        (-30.0, {}, "TOO_LATE"),
        (600.0, {}, "TOO_EARLY"),
        (10.0, {"freq": 915.0}, "TX_FREQ"),
        (10.0, {"powe": 30}, "TX_POWER"),
        (None, {"time": "2025-01-01T00:00:00Z"}, "GPS_UNLOCKED"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_protocols_word(
    gateway: Forwarder,
    server: Server,
    ether: Ether,
    clock: SimClock,
    offset_s: float | None,
    values: dict[str, Any],
    error: str,
) -> None:
    tmst = None if offset_s is None else gateway.tmst_us(clock.now() + offset_s)
    assert server.order(tmst=tmst, **values) == error
    assert not ether.transmissions
    assert gateway.statistics()[error] == 1


def test_two_downlinks_at_one_time_collide(gateway: Forwarder, server: Server, ether: Ether, clock: SimClock) -> None:
    tmst = gateway.tmst_us(clock.now() + 20)
    assert server.order(tmst=tmst) == "NONE"
    assert server.order(tmst=(tmst + 50_000) % WRAP_US) == "COLLISION_PACKET"
    assert server.order(tmst=(tmst + 60_000) % WRAP_US) == "NONE"
    assert len(ether.transmissions) == 2


def test_a_full_queue_refuses(gateway: Forwarder, server: Server, clock: SimClock) -> None:
    base = clock.now() + 100
    errors = [server.order(tmst=gateway.tmst_us(base + n)) for n in range(forwarder_module.QUEUE_MAX + 1)]
    assert errors == ["NONE"] * forwarder_module.QUEUE_MAX + ["COLLISION_PACKET"]


def test_a_downlink_late_by_less_than_the_slack_goes_out_in_time(
    gateway: Forwarder, server: Server, ether: Ether, clock: SimClock
) -> None:
    gateway.slack_s = 2.0  # 40 s of virtual time
    due = clock.now() - 1
    assert server.order(tmst=gateway.tmst_us(due)) == "NONE"
    assert ether.transmissions[-1].start == pytest.approx(due, abs=1e-5)


def test_hostile_datagrams_are_counted_and_the_gateway_goes_on(
    gateway: Forwarder, server: Server, clock: SimClock
) -> None:
    hostile = [
        b"",
        b"\x02",
        b"\x07" * 20,
        b"\x02\0\0\x03" + b"[" * 900,
        b"\x02\0\0\x03{}",
        b"\x02\0\0\x03" + b"x" * 5000,
    ]
    for datagram in hostile:
        server.send(datagram)
    server.send(b"\x02\xff\xff\x01")  # acknowledges nothing
    assert server.order(tmst=gateway.tmst_us(clock.now() + 10)) == "NONE"
    statistics = gateway.statistics()
    assert sum(count for name, count in statistics.items() if name.startswith("refused_")) == len(hostile) + 1


def test_status_is_sent(
    monkeypatch: pytest.MonkeyPatch, ether: Ether, server: Server, clock: SimClock, band: EtherClient
) -> None:
    monkeypatch.setattr(forwarder_module, "STAT_S", 0.2)
    monkeypatch.setattr(forwarder_module, "KEEPALIVE_S", 0.05)
    assert ether.address is not None
    with Forwarder(EUI, server.address, ether.address, clock) as gateway:
        server.next(2)
        assert gateway.wait_connected()
        band.transmit(PACKET, UP)
        server.next(0)
        stat = json.loads(server.next(0)[12:])["stat"]
    assert {**stat, "ackr": 0} == {"rxnb": 1, "rxok": 1, "rxfw": 1, "ackr": 0, "dwnb": 0, "txnb": 0}


def test_a_gateway_keeps_asking_for_a_server_that_comes_later(ether: Ether, clock: SimClock) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = reserved.getsockname()
    assert ether.address is not None
    with Forwarder(EUI, address, ether.address, clock) as gateway:
        assert not gateway.wait_connected(0.4)
        server = Server()
        server.socket.close()
        server.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.socket.bind(address)
        server.socket.settimeout(5)
        server.next(2)
        assert gateway.wait_connected()
        server.socket.close()


def test_our_bridges_pull_resp_is_understood() -> None:
    params = forwarder_module.transmit_params(Txpk(PACKET, 868_300_000, "SF12BW125", 5))
    assert params == RadioParams(868_300_000, 12, invert_iq=True)
    assert PullResp(1, 2, Txpk(PACKET, 868_300_000, "SF12BW125", 5)).to_bytes()[:4] == b"\x02\x00\x01\x03"
