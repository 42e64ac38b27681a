"""What heap MQTT over TLS takes on the chip: half of what it takes here; mbedtls has memory of its own."""

from pathlib import Path

import pytest

from host_tools.gateway.broker import mosquitto_path
from host_tools.release.bundle import compile_file
from tests.support.authority import Authority
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_board import MqttBoard

pytestmark = pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")
# bytes: the link; with the code of a connection; with its buffers and mbedtls's objects; while one is made, at most,
# certificates and all
IDLE_MAX, LOADED_MAX, CONNECTED_MAX, CONNECTING_MAX = 2400, 4500, 7000, 9500
# what is loaded anyway, so that what it shares with the link is not the link's
FIRST = """
import select, socket, tls
from sealband import app, batch, chain, clock, commands, config, log, node, outbox, sampler, seal, session, store
from sealband.links import backoff, base, policy

def used():
    gc.collect()
    gc.collect()
    return gc.mem_alloc() // 2

def watched(steps):
    global peak
    peak = 0
    for pause_ms in steps:
        peak = max(peak, used())
        yield pause_ms

before = 0
"""


def test_heap_of_mqtt_over_tls_stays_within_bounds(tmp_path: Path) -> None:
    authority = Authority("devices")
    with MqttBoard(tmp_path, compiled=compile_file) as board, Mosquitto(tmp_path / "broker", authority) as broker:
        board.begin(authority, broker.port, first=(FIRST, "before = used()"))
        idle = board.call("used() - before")
        assert board.drive("watched(link.connect())") is None
        connected, peak = board.call("used() - before"), board.call("peak - before")
        assert board.drive("link.send(bytes(255))") is True
        board.micropython.run(
            "code = type(link.client), type(link.client.ip)\nlink.client.ip.close()\nlink.client = None"
        )
        loaded = board.call("used() - before")
        board.drive("link.disconnect()")
        board.micropython.run("code = None")
        left = board.call("used() - before")
        print(f"{idle} bytes idle, {peak} while it connects, {connected} connected, {loaded} of it code, {left} later")
        assert 0 < idle < IDLE_MAX and left < IDLE_MAX
        assert idle < loaded < LOADED_MAX
        assert loaded < connected < CONNECTED_MAX
        assert connected < peak < CONNECTING_MAX
