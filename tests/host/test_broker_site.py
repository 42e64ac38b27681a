"""The broker of a simulated site: bridge and ingest, as they are shipped, reach each other through its inner door."""

import base64
import json
import os
import socket
import ssl
import time
from pathlib import Path

import pytest

from host_tools.gateway.bridge import Bridge, BridgeError
from host_tools.gateway.broker import MosquittoBroker
from host_tools.sim.site_broker import BRIDGE, INGEST, SiteBroker
from tests.support.registries import TemporaryRegistry

GATEWAY, OTHER = "00005e1000000001", "00005e1000000002"


def push(bridge: Bridge, gateway: str) -> None:
    """PUSH_DATA with one frame (PROTOCOL.TXT of Semtech's packet forwarder, version 2)."""
    frame = b"\xe0" + os.urandom(30)
    packet = {
        "tmst": 1_000_000,
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
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as up:
        up.settimeout(5)
        up.connect(("127.0.0.1", bridge.udp_port))
        up.send(b"\x02\xbe\xef\x00" + bytes.fromhex(gateway) + json.dumps({"rxpk": [packet]}).encode())
        assert up.recv(100) == b"\x02\xbe\xef\x01"


@pytest.mark.parametrize("mosquitto", [False, True])
def test_bridge_and_ingest_work_with_certificates_and_only_for_their_gateways(tmp_path: Path, mosquitto: bool):
    if mosquitto and not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed")
    registry = TemporaryRegistry(tmp_path)
    from host_tools.ingest.worker import IngestWorker

    with SiteBroker(tmp_path, registry.vault, (GATEWAY,), mosquitto=mosquitto) as broker:
        worker = IngestWorker(broker.host, broker.port, registry.vault, shared=broker.shared, tls=broker.tls(INGEST))
        bridge = Bridge(
            mqtt_host=broker.host,
            mqtt_port=broker.port,
            prepare=lambda client: client.tls_set_context(broker.tls(BRIDGE)),
        )
        with worker, bridge:
            push(bridge, OTHER)  # not one of this bridge's: the broker does not pass it on
            push(bridge, GATEWAY)
            limit = time.monotonic() + 10
            while not worker.statistics().received:
                assert time.monotonic() < limit, "the frame did not come"
                time.sleep(0.02)
            assert bridge.statistics()["uplinks"] == 2 and worker.statistics().received == 1


def test_bridge_without_a_certificate_says_that_the_broker_does_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("host_tools.gateway.bridge.CONNECT_S", 2.0)
    registry = TemporaryRegistry(tmp_path)
    with SiteBroker(tmp_path, registry.vault, (GATEWAY,), mosquitto=MosquittoBroker.available()) as broker:
        context = ssl.create_default_context(cafile=str(broker.authority))
        bridge = Bridge(
            mqtt_host=broker.host, mqtt_port=broker.port, prepare=lambda client: client.tls_set_context(context)
        )
        with pytest.raises(BridgeError, match="does not take us") as error:
            bridge.start()
        assert "access rules" in error.value.remedy
