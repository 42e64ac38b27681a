"""The gateway bridge between real sockets and a real broker."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import cbor2
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.gateway import bridge as bridge_module
from host_tools.gateway.bridge import Bridge, BridgeError
from host_tools.gateway.broker import EmbeddedBroker
from host_tools.gateway.envelope import SHARED_UPLINK_FILTER, Downlink, Route, Uplink, downlink_topic, uplink_topic
from host_tools.sim.clock import SimClock
from host_tools.sim.ether import Ether, EtherClient, RadioParams
from host_tools.sim.forwarder import Forwarder

EUI = "aa555a0000000101"
FRAME = b"\xe3" + bytes(range(30))
LORAWAN = b"\x40" + bytes(30)
RECEIVED_AT = 1_735_700_000.25
ROUTE = Route(EUI, b"\0" + (2**32 - 4_876_544).to_bytes(4, "big"), 868_300_000, "SF9BW125", 14, "EU868")
DOWNLINK = Downlink(b"\xe1" + bytes(40), RECEIVED_AT + 4.5, 5000, (ROUTE,))


def wait_for(true: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


class Server:
    """What stands behind the broker: collects uplinks, publishes what it is told."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.got: list[tuple[str, bytes]] = []
        ready = threading.Event()
        self.mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="server")
        self.mqtt.on_message = lambda _client, _data, message: self.got.append((message.topic, bytes(message.payload)))
        self.mqtt.on_subscribe = lambda *_: ready.set()
        self.mqtt.connect(broker.host, broker.port)
        self.mqtt.subscribe(SHARED_UPLINK_FILTER, qos=1)
        self.mqtt.loop_start()
        assert ready.wait(5)

    def close(self) -> None:
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


class Gateway:
    """A packet forwarder of bare sockets: one up and one down, as the reference has."""

    def __init__(self, bridge: Bridge, host: str = "127.0.0.1") -> None:
        self.up = self._open(bridge, host)
        self.down = self._open(bridge, host)

    @staticmethod
    def _open(bridge: Bridge, host: str) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((host, 0))
        opened.connect(("127.0.0.1", bridge.udp_port))
        opened.settimeout(5)
        return opened

    def pull(self, eui: str = EUI, version: int = 2) -> bytes:
        self.down.send(bytes([version]) + b"\xca\xfe\x02" + bytes.fromhex(eui))
        return self.down.recv(2000)

    def push(self, *frames: bytes, eui: str = EUI, version: int = 2, **values: Any) -> bytes:
        rxpk = [
            {
                "tmst": 4_000_000_000,
                "freq": 868.1,
                "stat": 1,
                "modu": "LORA",
                "datr": "SF7BW125",
                "codr": "4/5",
                "rssi": -90,
                "lsnr": 7.5,
                "size": len(frame),
                "data": base64.b64encode(frame).decode(),
            }
            | values
            for frame in frames
        ]
        self.up.send(bytes([version]) + b"\xbe\xef\x00" + bytes.fromhex(eui) + json.dumps({"rxpk": rxpk}).encode())
        return self.up.recv(2000)

    def close(self) -> None:
        self.up.close()
        self.down.close()


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def bridge(broker: EmbeddedBroker) -> Iterator[Bridge]:
    with Bridge(mqtt_port=broker.port, clock=lambda: RECEIVED_AT) as running:
        yield running


@pytest.fixture
def server(broker: EmbeddedBroker) -> Iterator[Server]:
    server = Server(broker)
    yield server
    server.close()


@pytest.fixture
def gateway(bridge: Bridge) -> Iterator[Gateway]:
    gateway = Gateway(bridge)
    yield gateway
    gateway.close()


def refused(bridge: Bridge) -> dict[str, int]:
    counts: dict[str, int] = bridge.statistics()["refused"]
    return counts


def test_a_frame_goes_from_udp_to_mqtt_unchanged(bridge: Bridge, server: Server, gateway: Gateway) -> None:
    assert gateway.push(FRAME) == b"\x02\xbe\xef\x01"
    wait_for(lambda: server.got)
    ((topic, payload),) = server.got
    assert topic == f"sb/v1/gw/{EUI}/up"
    assert cbor2.loads(payload) == {
        "frame": FRAME,
        "gateway": EUI,
        "rssi": -90,
        "snr": 7.5,
        "frequency_hz": 868_100_000,
        "data_rate": "SF7BW125",
        "region": "EU868",
        "context": bytes.fromhex("00ee6b2800"),
        "received_at": RECEIVED_AT,
    }
    assert bridge.statistics()["gateways"][EUI]["uplinks"] == 1


def test_lorawan_neighbours_are_not_passed_on(bridge: Bridge, server: Server, gateway: Gateway) -> None:
    gateway.push(LORAWAN, b"\xe0" * 12, FRAME, LORAWAN)
    wait_for(lambda: server.got)
    assert [Uplink.from_message(*message).frame for message in server.got] == [FRAME]
    assert refused(bridge) == {"foreign": 3}


def test_packets_with_a_bad_checksum_are_not_passed_on(bridge: Bridge, server: Server, gateway: Gateway) -> None:
    assert gateway.push(FRAME, stat=-1) == b"\x02\xbe\xef\x01"
    gateway.push(FRAME)
    wait_for(lambda: server.got)
    assert len(server.got) == 1
    assert refused(bridge) == {"rxpk_crc": 1}


@pytest.mark.parametrize("version", [1, 2])
def test_a_downlink_goes_from_mqtt_to_where_the_gateway_pulls(
    bridge: Bridge, server: Server, gateway: Gateway, version: int
) -> None:
    assert gateway.pull(version=version) == bytes([version]) + b"\xca\xfe\x04"
    server.mqtt.publish(downlink_topic(EUI), DOWNLINK.to_bytes(), qos=1)
    datagram = gateway.down.recv(2000)
    assert (datagram[0], datagram[3]) == (version, 3)
    txpk = json.loads(datagram[4:])["txpk"]
    assert base64.b64decode(txpk.pop("data")) == DOWNLINK.frame
    assert txpk == {
        "imme": False,
        "tmst": 123_456,
        "freq": 868.3,
        "rfch": 0,
        "powe": 14,
        "modu": "LORA",
        "datr": "SF9BW125",
        "codr": "4/5",
        "ipol": True,
        "prea": 8,
        "ncrc": False,
        "size": 41,
    }
    gateway.down.send(bytes([2]) + datagram[1:3] + b"\x05" + bytes.fromhex(EUI) + b'{"txpk_ack":{"error":"TOO_LATE"}}')
    wait_for(lambda: bridge.statistics()["transmit_results"] == {"TOO_LATE": 1})


def test_a_downlink_for_a_gateway_that_does_not_pull_is_refused(bridge: Bridge, server: Server) -> None:
    server.mqtt.publish(downlink_topic(EUI), DOWNLINK.to_bytes(), qos=1)
    wait_for(lambda: refused(bridge) == {"unreachable": 1})


def test_pull_data_from_a_strangers_address_does_not_move_the_downlinks(
    bridge: Bridge, server: Server, gateway: Gateway
) -> None:
    gateway.pull()
    for host in ("127.0.0.1", "127.0.0.66"):  # beside the gateway, and from elsewhere
        thief = Gateway(bridge, host)
        thief.down.settimeout(0.2)
        with pytest.raises(TimeoutError):
            thief.pull()
        server.mqtt.publish(downlink_topic(EUI), DOWNLINK.to_bytes(), qos=1)
        assert gateway.down.recv(2000)[3] == 3
        with pytest.raises(TimeoutError):
            thief.down.recv(2000)
        thief.close()
    assert refused(bridge) == {"other_address": 2}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "downlink_cbor"),
        (b"\x9f" * 600, "downlink_cbor"),
        (b"\xbb" + b"\xff" * 8, "downlink_cbor"),
        (b"x" * 100_000, "downlink_size"),
        (cbor2.dumps({"frame": FRAME}), "downlink_keys"),
        (cbor2.dumps(cbor2.loads(DOWNLINK.to_bytes()) | {"frame": LORAWAN}, canonical=True), "downlink_frame"),
        (cbor2.dumps(cbor2.loads(DOWNLINK.to_bytes()) | {"delay_ms": "1"}, canonical=True), "downlink_type"),
        (cbor2.dumps(cbor2.loads(DOWNLINK.to_bytes()) | {"delay_ms": 60_000}, canonical=True), "downlink_range"),
    ],
)
def test_hostile_payloads_are_refused_and_the_bridge_goes_on(
    bridge: Bridge, server: Server, gateway: Gateway, payload: bytes, reason: str
) -> None:
    gateway.pull()
    server.mqtt.publish(downlink_topic(EUI), payload, qos=1)
    server.mqtt.publish(downlink_topic(EUI), DOWNLINK.to_bytes(), qos=1)
    assert gateway.down.recv(2000)[3] == 3
    assert refused(bridge) == {reason: 1}


def test_a_topic_of_no_gateway_is_refused(bridge: Bridge, server: Server) -> None:
    server.mqtt.publish("sb/v1/gw/%s%n/down", DOWNLINK.to_bytes(), qos=1)
    wait_for(lambda: refused(bridge) == {"downlink_topic": 1})


def test_only_gateways_of_the_list_are_served(broker: EmbeddedBroker, server: Server) -> None:
    with Bridge(mqtt_port=broker.port, allowed={EUI: None}) as bridge:
        gateway = Gateway(bridge)
        gateway.up.settimeout(0.2)
        with pytest.raises(TimeoutError):
            gateway.push(FRAME, eui="aa555a0000000102")
        gateway.up.settimeout(5)
        gateway.push(FRAME)
        wait_for(lambda: server.got)
        assert [topic for topic, _ in server.got] == [uplink_topic(EUI)]
        assert refused(bridge) == {"not_allowed": 1}
        gateway.close()


def test_frames_wait_while_the_broker_is_away_and_no_more_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bridge_module, "QUEUED_MAX", 10)
    first = EmbeddedBroker()
    first.start()
    second = EmbeddedBroker(port=first.port)
    bridge = Bridge(mqtt_port=first.port)
    try:
        bridge.start()
        gateway = Gateway(bridge)
        gateway.pull()
        first.stop()
        wait_for(lambda: not bridge.statistics()["broker"])
        for number in range(15):
            assert gateway.push(FRAME + bytes([number])) == b"\x02\xbe\xef\x01"
        assert refused(bridge) == {"queue_full": 5}
        second.start()
        server = Server(second)
        wait_for(lambda: len(server.got) == 10, 20)
        frames = [Uplink.from_message(*message).frame for message in server.got]
        assert sorted(frames) == [FRAME + bytes([number]) for number in range(10)]
        # and the way down is open again
        server.mqtt.publish(downlink_topic(EUI), DOWNLINK.to_bytes(), qos=1)
        assert gateway.down.recv(2000)[3] == 3
        server.close()
        gateway.close()
    finally:
        bridge.stop()
        first.stop()
        second.stop()


OTHER = "aa555a0000000102"


def ack(gateway: Gateway, datagram: bytes, error: str, eui: str = EUI) -> None:
    body = json.dumps({"txpk_ack": {"error": error}}).encode()
    gateway.down.send(b"\x02" + datagram[1:3] + b"\x05" + bytes.fromhex(eui) + body)


@pytest.mark.parametrize("error", ["TOO_LATE", "TOO_EARLY", "COLLISION_PACKET", "COLLISION_BEACON", "GPS_UNLOCKED"])
def test_a_gateway_that_refuses_leads_to_the_next(bridge: Bridge, server: Server, gateway: Gateway, error: str) -> None:
    other = Gateway(bridge)
    gateway.pull()
    other.pull(OTHER)
    routes = (ROUTE, replace(ROUTE, gateway=OTHER, context=b"\0" + (1_000_000).to_bytes(4, "big")))
    server.mqtt.publish(downlink_topic(EUI), replace(DOWNLINK, routes=routes).to_bytes(), qos=1)
    ack(gateway, gateway.down.recv(2000), error)
    txpk = json.loads(other.down.recv(2000)[4:])["txpk"]
    assert (base64.b64decode(txpk["data"]), txpk["tmst"]) == (DOWNLINK.frame, 6_000_000)
    statistics = bridge.statistics()
    assert (statistics["transmit_results"], statistics["downlinks"]) == ({error: 1}, 2)
    assert statistics["gateways"][EUI]["airtime_s"] == 0
    assert statistics["gateways"][OTHER]["airtime_s"] > 0
    other.close()


def test_a_gateway_that_takes_it_is_the_only_one(bridge: Bridge, server: Server, gateway: Gateway) -> None:
    other = Gateway(bridge)
    gateway.pull()
    other.pull(OTHER)
    routes = (ROUTE, replace(ROUTE, gateway=OTHER))
    server.mqtt.publish(downlink_topic(EUI), replace(DOWNLINK, routes=routes).to_bytes(), qos=1)
    datagram = gateway.down.recv(2000)
    # another gateway's word, and one that answers nothing, move nothing
    ack(other, datagram, "TOO_LATE", OTHER)
    ack(gateway, b"\x02" + bytes(byte ^ 1 for byte in datagram[1:3]), "TOO_LATE")
    ack(gateway, datagram, "NONE")
    ack(gateway, datagram, "TOO_LATE")  # once more, of what is settled
    wait_for(lambda: refused(bridge) == {"token": 3})
    other.down.settimeout(0.2)
    with pytest.raises(TimeoutError):
        other.down.recv(2000)
    other.close()


def test_a_second_bridge_goes_on_where_the_first_ones_gateway_refuses(
    broker: EmbeddedBroker, bridge: Bridge, server: Server, gateway: Gateway
) -> None:
    with Bridge(mqtt_port=broker.port, clock=lambda: RECEIVED_AT) as second:
        other = Gateway(second)
        gateway.pull()
        other.pull(OTHER)
        routes = (ROUTE, replace(ROUTE, gateway=OTHER))
        server.mqtt.publish(downlink_topic(EUI), replace(DOWNLINK, routes=routes).to_bytes(), qos=1)
        ack(gateway, gateway.down.recv(2000), "COLLISION_PACKET")
        assert other.down.recv(2000)[3] == 3
        assert bridge.statistics()["passed_on"] == 1
        other.close()


def test_a_context_of_another_kind_of_gateway_is_refused(bridge: Bridge, server: Server, gateway: Gateway) -> None:
    gateway.pull()
    for context in (b"\1\0\0\0\0", b"\0" * 4, b"\0" * 6):
        changed = replace(DOWNLINK, routes=(replace(ROUTE, context=context),))
        server.mqtt.publish(downlink_topic(EUI), changed.to_bytes(), qos=1)
    wait_for(lambda: refused(bridge) == {"unreachable": 3})


def test_it_says_what_is_wrong_when_it_cannot_start(broker: EmbeddedBroker, bridge: Bridge) -> None:
    with pytest.raises(BridgeError, match="in use") as refusal:
        Bridge(udp_port=bridge.udp_port, mqtt_port=broker.port).start()
    assert "port" in refusal.value.remedy
    with pytest.raises(BridgeError, match="refused"):
        Bridge(mqtt_port=1).start()
    with pytest.raises(BridgeError):
        Bridge(udp_host="192.0.2.1", mqtt_port=broker.port).start()


def test_it_leaves_no_thread_behind(broker: EmbeddedBroker) -> None:
    before = set(threading.enumerate())
    bridge = Bridge(mqtt_port=broker.port)
    for _ in range(2):
        bridge.start()
        bridge.stop()
    bridge.stop()
    assert set(threading.enumerate()) == before


def test_a_band_is_answered_in_its_window_at_ten_times_speed(broker: EmbeddedBroker) -> None:
    """All real: ether, simulated gateway, UDP, bridge, broker, a server that answers with a downlink after 5 s."""
    clock = SimClock.start(10.0)
    up = RadioParams(868_300_000, 9)
    with Ether(clock) as ether, Bridge(mqtt_port=broker.port, clock=clock.now) as bridge:
        assert ether.address is not None
        server = Server(broker)

        def answer(client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
            heard = Uplink.from_message(message.topic, bytes(message.payload))
            route = Route(heard.gateway, heard.context, heard.frequency_hz, heard.data_rate, 14, heard.region)
            downlink = Downlink(b"\xe1" + heard.frame[1:], heard.received_at + 5, 5000, (route,))
            client.publish(downlink_topic(heard.gateway), downlink.to_bytes(), qos=1)

        server.mqtt.on_message = answer
        with (
            Forwarder(EUI, ("127.0.0.1", bridge.udp_port), ether.address, clock) as gateway,
            EtherClient(ether.address, "band", clock) as band,
        ):
            assert gateway.wait_connected()
            for number in range(5):
                report = band.transmit(FRAME + bytes([number]), up)
                clock.sleep_until(report.end + 4.5)
                heard = band.receive(replace(up, invert_iq=True), 1.0)
                assert heard is not None
                assert heard.packet == b"\xe1" + FRAME[1:] + bytes([number])
            wait_for(lambda: bridge.statistics()["transmit_results"] == {"NONE": 5})
        server.close()
