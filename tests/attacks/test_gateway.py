"""Floods and hostile datagrams at the gateway's door: good frames pass, memory stays flat. Loopback only, bounded."""

import base64
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.gateway.bridge import Bridge
from host_tools.gateway.broker import EmbeddedBroker
from host_tools.gateway.envelope import UPLINK_FILTER, Downlink, Route, Uplink, downlink_topic
from host_tools.gateway.gateways import GATEWAYS_MAX

EUI = "aa555a0000000101"
GOOD = 40


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


class Server:
    def __init__(self, broker: EmbeddedBroker) -> None:
        self.frames: list[bytes] = []
        ready = threading.Event()
        self.mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="server")
        self.mqtt.on_message = lambda _client, _data, message: self.frames.append(
            Uplink.from_message(message.topic, bytes(message.payload)).frame
        )
        self.mqtt.on_subscribe = lambda *_: ready.set()
        self.mqtt.connect(broker.host, broker.port)
        self.mqtt.subscribe(UPLINK_FILTER, qos=1)
        self.mqtt.loop_start()
        assert ready.wait(5)


@pytest.fixture
def server(broker: EmbeddedBroker) -> Iterator[Server]:
    server = Server(broker)
    yield server
    server.mqtt.disconnect()
    server.mqtt.loop_stop()


def resident_kib() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc: resident memory cannot be read")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


def open_socket(bridge: Bridge, host: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((host, 0))
    opened.connect(("127.0.0.1", bridge.udp_port))
    opened.settimeout(2)
    return opened


def push_data(eui: str, frame: bytes) -> bytes:
    rxpk = {
        "tmst": 1,
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
    return b"\x02\xbe\xef\x00" + bytes.fromhex(eui) + json.dumps({"rxpk": [rxpk]}).encode()


def good_frame(number: int) -> bytes:
    return b"\xe0\xaa" + number.to_bytes(2, "big") + bytes(20)


def flood(
    bridge: Bridge, server: Server, hostile: Callable[[random.Random], bytes], count: int, seconds: float
) -> None:
    """Send `count` hostile datagrams from an address of their own, and meanwhile a gateway's good frames."""
    gateway = open_socket(bridge, "127.0.0.1")
    attacker = open_socket(bridge, "127.0.0.66")
    gateway.send(push_data(EUI, good_frame(0)))
    assert gateway.recv(100)[3] == 1
    rng = random.Random(count)

    def attack() -> None:
        for batch in range(100):
            for _ in range(count // 100):
                attacker.send(hostile(rng))
            time.sleep(max(0.0, began + (batch + 1) * seconds / 100 - time.monotonic()))

    began = time.monotonic()
    attacking = threading.Thread(target=attack)
    attacking.start()
    resent = 0
    for number in range(1, GOOD):
        while True:  # each one is acknowledged while the flood goes on
            gateway.send(push_data(EUI, good_frame(number)))
            try:
                assert gateway.recv(100) == b"\x02\xbe\xef\x01"
                break
            except TimeoutError:  # the kernel's buffer overflowed while this machine did something else
                resent += 1
        time.sleep(seconds / GOOD)
    attacking.join()
    assert resent <= 2
    deadline = time.monotonic() + 10
    while len(set(server.frames)) < GOOD and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(server.frames) >= {good_frame(number) for number in range(GOOD)}
    gateway.close()
    attacker.close()


def garbage(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(0, 200))


def almost_good(rng: random.Random) -> bytes:
    datagram = bytearray(push_data(EUI, rng.randbytes(30)))
    for _ in range(rng.randrange(1, 10)):
        datagram[rng.randrange(len(datagram))] = rng.randrange(256)
    return bytes(datagram)


def nested(_: random.Random) -> bytes:
    return b"\x02\0\0\x00" + bytes.fromhex(EUI) + b'{"rxpk":' + b"[" * 20_000


def new_gateway_each_time(rng: random.Random) -> bytes:
    return push_data(rng.randbytes(8).hex(), b"\xe0" + rng.randbytes(30))


def pull_as_the_gateway(_: random.Random) -> bytes:
    return b"\x02\0\0\x02" + bytes.fromhex(EUI)


@pytest.mark.parametrize(
    ("hostile", "count"),
    [
        (garbage, 20_000),
        (almost_good, 10_000),
        (nested, 2_000),
        (new_gateway_each_time, 10_000),
        (pull_as_the_gateway, 10_000),
    ],
)
def test_a_flood_of_bad_datagrams_loses_no_good_frame_and_memory_stays_flat(
    broker: EmbeddedBroker, server: Server, hostile: Callable[[random.Random], bytes], count: int
) -> None:
    with Bridge(mqtt_port=broker.port) as bridge:
        flood(bridge, server, hostile, count // 4, 0.5)  # caches, buffers and the allocator's pools fill
        before = resident_kib()
        flood(bridge, server, hostile, count, 2.0)
        grown = resident_kib() - before
        statistics = bridge.statistics()
        assert grown < 8 * 1024
        assert sum(statistics["refused"].values()) > count // 2
        assert "defect" not in statistics["refused"]
        assert len(statistics["gateways"]) <= GATEWAYS_MAX
        assert len(json.dumps(statistics)) < 50_000


def test_a_forged_acknowledgement_changes_nothing(broker: EmbeddedBroker) -> None:
    with Bridge(mqtt_port=broker.port) as bridge, open_socket(bridge, "127.0.0.1") as gateway:
        gateway.send(b"\x02\0\0\x02" + bytes.fromhex(EUI))
        assert gateway.recv(100)[3] == 4
        with open_socket(bridge, "127.0.0.66") as forger:
            for _ in range(50):
                forger.send(b"\x02" + os.urandom(2) + b"\x05" + bytes.fromhex(EUI))
        gateway.send(b"\x02\0\0\x02" + bytes.fromhex(EUI))
        assert gateway.recv(100)[3] == 4
        assert bridge.statistics()["transmit_results"] == {}
        assert bridge.statistics()["refused"] == {"token": 50}


def test_a_flood_of_hostile_payloads_stops_no_downlink(broker: EmbeddedBroker, server: Server) -> None:
    route = Route(EUI, bytes(5), 868_100_000, "SF7BW125", 14, "EU868")
    good = Downlink(b"\xe1" + bytes(30), 1, 5000, (route,)).to_bytes()
    rng = random.Random(1)
    with Bridge(mqtt_port=broker.port) as bridge, open_socket(bridge, "127.0.0.1") as gateway:
        gateway.send(b"\x02\0\0\x02" + bytes.fromhex(EUI))
        assert gateway.recv(100)[3] == 4
        for _ in range(1000):
            mutated = bytearray(good)
            mutated[good.index(b"frame") + rng.randrange(5)] ^= rng.randrange(1, 256)  # in the word "frame"
            server.mqtt.publish(downlink_topic(EUI), bytes(mutated), qos=1)
            other = rng.randbytes(8).hex()
            elsewhere = Downlink(b"\xe1" + bytes(30), 1, 5000, (replace(route, gateway=other),))
            server.mqtt.publish(downlink_topic(other), elsewhere.to_bytes(), qos=1)
        server.mqtt.publish(downlink_topic(EUI), good, qos=1)
        gateway.settimeout(30)
        assert gateway.recv(1000)[3] == 3
        refused = bridge.statistics()["refused"]
        assert refused["unreachable"] == 1000
        assert sum(refused.values()) == 2000
        assert "defect" not in refused
