"""The MQTT link on a virtual board over its Wi-Fi: real TLS, a real mosquitto, an access point that comes and goes."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from host_tools.gateway.broker import mosquitto_path
from host_tools.ingest import sync
from host_tools.ingest.unseal import Candidate, open_uplink, seal_downlink
from host_tools.release.bundle import compile_file
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from provisioning.keys import epoch_keys
from sealwire import update as wire
from sealwire.messages import EPOCH_2025
from tests.support.authority import Authority, common_name
from tests.support.boards import scripted
from tests.support.micropython import ROOT
from tests.support.mosquitto import Mosquitto, Server
from tests.support.mqtt_board import EUI
from tests.support.mqtt_peer import wait

pytestmark = pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")
LIB = ROOT / "device" / "lib"
FRAME, DOWNLINK = bytes([0xE0]) + bytes(range(40)), bytes([0xE0]) + bytes(range(20))
KEY = bytes(range(32))
WIFI = {"ssid": "ward", "key": "sealed-by-the-band"}
SCRIPT = """
import machine, network, sys, time
from sealband import store
from sealband.clock import Clock
from sealband.links.base import LinkError
from sealband.links.mqtt import Mqtt
from sealband.links.wifi import WifiBearer

def drive(steps):
    while True:
        try:
            time.sleep_ms(next(steps))
        except StopIteration as end:
            return end.value

records = store.open_board()
records.save(store.CHAIN, b"\\x01" + bytes.fromhex("{eui}") + bytes(40))
records.save(store.TLS, {tls!r})
clock = Clock(records)
clock.sync({now_s})
link = Mqtt(None, WifiBearer(), ntp=None)
link.open(records, clock, None, lambda n: 0)
while True:
    print("begins", link.wait_ms(255))
    try:
        drive(link.connect())
        print("is up, the clock", abs(time.time() - {to_2000} - clock.now()) < 61)
        if sys.stdin.readline():
            print("sent", drive(link.send({frame!r})))
        for data in drive(link.listen()):
            print("came", data.hex())
    except LinkError as error:
        print("refused", error)
    drive(link.disconnect())
    print("ended, radio", network.WLAN(network.STA_IF).active(), "holds", link.wait_ms(255) > 0)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("devices")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The device's modules, compiled as releases have them."""
    folder = tmp_path_factory.mktemp("library")
    for path in LIB.rglob("*.py"):
        name = path.relative_to(LIB).with_suffix("")
        if "update" not in name.parts[:-1]:
            compile_file(path, folder / "lib" / name.with_suffix(".mpy"), name.as_posix(), optimise=3)
    return folder


class Site:
    """A board, not started, and what was provisioned on it."""

    def __init__(
        self,
        folder: Path,
        library: Path,
        authority: Authority,
        port: int,
        key: str = WIFI["key"],
        script: str = SCRIPT,
        **settings: Any,
    ) -> None:
        private = ec.generate_private_key(ec.SECP256R1())
        certificate = authority.sign(private.public_key(), common_name(EUI)).public_bytes(Encoding.DER)
        tls = b"\x01" + private.private_numbers().private_value.to_bytes(32, "big") + certificate
        now_s = int(time.time()) - EPOCH_2025
        given = {"eui": EUI, "tls": tls, "now_s": now_s, "frame": FRAME, "to_2000": EPOCH_2025 - 946684800}
        # ten times as fast: the time that an access point is waited for is no time of a test's
        self.clock = SimClock.start(10)
        script = script.format(key=list(KEY), **given)
        self.board: VirtualBoard = scripted(folder, script, clock=self.clock, wifi=WIFI, **settings)
        self.board.install(library)
        (folder / "more" / "update").mkdir(parents=True)
        table = {
            wire.PROVISION_VENDOR: bytes(16),
            wire.PROVISION_CLASS: bytes(16),
            wire.PROVISION_ORIGINS: [],
            wire.PROVISION_WIFI: [WIFI["ssid"], key],
            wire.PROVISION_CA: authority.der,
            wire.PROVISION_BROKER: ["127.0.0.1", port],
        }
        (folder / "more" / "update" / "provision").write_bytes(cbor2.dumps(table, canonical=True))
        self.board.install(folder / "more")
        self._mark = 0

    def until(self, text: str) -> str:
        """Wait for a line behind the last one that was waited for."""
        line = self.board.wait_for(text, 20, after=self._mark)
        self._mark += list(self.board.log)[self._mark :].index(line) + 1
        return line

    def go(self) -> None:
        """It waits for a word at two places."""
        self.board.type("\n")


@pytest.fixture
def broker(tmp_path: Path, authority: Authority) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", authority) as broker:
        yield broker


def test_frame_is_published_over_wifi_and_a_downlink_comes(
    tmp_path: Path, library: Path, authority: Authority, broker: Mosquitto
) -> None:
    site = Site(tmp_path / "b", library, authority, broker.port)
    with Server(broker) as server, site.board:
        for count in range(1, 3):
            site.until("begins 0")
            assert site.until("is up").endswith("True")
            site.go()
            site.until("sent True")
            assert wait(lambda count=count: len(server.came) == count)  # type: ignore[misc]
            server.publish(f"sb/v1/d/{EUI}/down", DOWNLINK)
            site.until(f"came {DOWNLINK.hex()}")
            site.until("ended, radio False holds False")
            site.go()
        assert {(topic, data) for topic, data, _ in server.came} == {(f"sb/v1/d/{EUI}/up", FRAME)}


def test_access_point_that_goes_is_an_error_in_time_and_one_that_comes_back_is_taken(
    tmp_path: Path, library: Path, authority: Authority, broker: Mosquitto
) -> None:
    site = Site(tmp_path / "b", library, authority, broker.port)
    with site.board:
        site.until("is up")
        site.board.wifi_up = False
        time.sleep(1)
        site.go()
        site.until("sent False")
        site.until("ended, radio False holds True")
        site.go()
        site.until("refused wifi: LinkError")  # nobody there
        site.until("ended, radio False holds True")
        site.board.wifi_up = True
        site.go()
        site.until("is up")
        site.go()
        site.until("sent True")
        site.until("ended, radio False holds False")


def test_wrong_passphrase_is_an_error_in_time(
    tmp_path: Path, library: Path, authority: Authority, broker: Mosquitto
) -> None:
    site = Site(tmp_path / "b", library, authority, broker.port, key="not-the-passphrase")
    with site.board:
        assert "not-the" not in site.until("refused wifi: LinkError")
        site.until("ended, radio False holds True")
    assert "CONNECT" not in broker.log()


NODE = """
from sealband import store
from sealband.app import App, Every
from sealband.chain import Chain
from sealband.links.mqtt import Mqtt
from sealband.links.wifi import WifiBearer
from sealband.node import Node
from sealband.outbox import Outbox
from sealband.sensors.base import Sensor

class Still(Sensor):
    records = (3,)

    def read(self):
        return (3650,)

records = store.open_board()
Chain.create(records, bytes.fromhex("{eui}"), bytes({key}), 60000000)
records.save(store.TLS, {tls!r})
app = App(sensors=[Every(10, Still())], links=[Mqtt(None, WifiBearer(), ntp=None)], send_every_s=60)
Node(app, records, Chain.load(records), Outbox(records)).run_forever()
"""


def test_node_seals_sends_and_is_synced_over_wifi_and_survives_a_restart_of_the_broker(
    tmp_path: Path, library: Path, authority: Authority, broker: Mosquitto
) -> None:
    """The same frames as over LoRa, opened by the server's own code, and its answers taken."""
    site = Site(tmp_path / "b", library, authority, broker.port, script=NODE, heap="128wK")
    eui = bytes.fromhex(EUI)
    candidate = Candidate(eui, 0, epoch_keys(KEY, eui))
    stored: set[int] = set()

    counters = iter(range(1000))

    def answered(server: Server, most: int) -> bool:
        """Answer what came since; whether there are so many frames by now."""
        while answers[0] < len(server.came):
            stored.add(open_uplink(server.came[answers[0]][1], [candidate]).ctr)
            told = sync.Sync(int(site.clock.now()) - EPOCH_2025, max(stored), sync.bitmap(max(stored), stored), 0)
            downlink = seal_downlink(candidate.keys, eui, 0, next(counters), told.to_bytes())
            server.publish(f"sb/v1/d/{EUI}/down", downlink)
            answers[0] += 1
        return len(stored) >= most

    with site.board:
        for most in (2, 3):
            answers = [0]
            with Server(broker) as server:
                assert wait(lambda server=server, most=most: answered(server, most), 20), (stored, list(site.board.log))  # type: ignore[misc]
            broker.stop()
            broker.start()
        assert sorted(stored) == list(range(len(stored)))
        assert any("synced" in line for line in site.board.log)
