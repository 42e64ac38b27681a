"""The LoRa link on a virtual board in every region: its frames are heard, its answers come where LoRaWAN's first window
is, and the ether, which knows the regulations by itself, finds nothing to object to.
"""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from host_tools.sim.airtime import RadioParams
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.ether import Ether, EtherClient
from host_tools.sim.medium import Medium, Reception
from host_tools.sim.rules import Rules
from sealwire import radio
from tests.support.boards import MAC

DEVICE = Path(__file__).resolve().parents[2] / "device/lib"
SPEED = 10
FILES = ("__init__.py", "errors.py", "store.py", "links/__init__.py", "links/base.py", "links/lora.py")
MORE = ("links/airtime.py", "links/onair.py", "links/rate.py", "links/transceiver.py", "links/sense.py")
SCRIPT = """
import time
import esp32
from sealband.links.lora import LoRa
from sealband.store import Store

class Board:
    RADIO = {parts!r}

    @staticmethod
    def power():
        pass

class Settings:
    spreading_factor, power_dbm, adaptive_rate = {sf}, 30, 1

class Clock:
    begun = time.ticks_ms()

    def uptime(self):
        return time.ticks_diff(time.ticks_ms(), self.begun) // 1000

seed = 5
def random(n):
    global seed
    seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
    return (seed >> 9) % n

def drive(steps):
    try:
        while True:
            time.sleep_ms(next(steps))
    except StopIteration as end:
        return end.value

link = LoRa(Board)
link.open(Store(esp32.NVS("sealband")), Clock(), Settings, random)
count = heard = 0
while count < {frames}:
    wait_ms = link.wait_ms(40)
    if wait_ms:
        time.sleep_ms(wait_ms)
        continue
    if drive(link.send(bytes((0xE0, count)) + bytes(38))):
        count += 1
        heard += len(drive(link.listen()))
print("answers", heard, "of", count, "faults", link.errors)
"""
PARTS: dict[str, Any] = {
    "chip": "SX1262",
    "spi": 1,
    "baudrate_hz": 2000000,
    "sck": 5,
    "mosi": 27,
    "miso": 19,
    "cs": 18,
    "busy": 32,
    "dio1": 33,
    "reset": 23,
    "dio2_rf_sw": True,
    "rx_margin_ms": 1000,
}


class Gateway:
    """Hears a region's channels and answers each frame where and when the answer is to come."""

    def __init__(self, region: str, channels_khz: list[int], client: EtherClient) -> None:
        self.heard: list[Reception] = []
        self._region = region
        self._client = client
        client.listen([1000 * khz for khz in channels_khz], self._take)

    def _take(self, heard: Reception) -> None:
        if heard.packet[0] != 0xE0:
            return
        self.heard.append(heard)
        khz, sf, bw_khz = radio.downlink(self._region, heard.params.frequency_hz // 1000, heard.params.sf, 125)
        power_dbm = min(14, radio.region(self._region)[3])
        params = RadioParams(khz * 1000, sf, bw_khz * 1000, crc=False, invert_iq=True, power_dbm=power_dbm)
        # from another thread: this one reads the answer
        at = heard.at + radio.RX1_DELAY_MS / 1000

        threading.Thread(target=self._client.transmit, args=(b"\xe0" + heard.packet[1:2], params, at)).start()


def _board(folder: Path, parts: dict[str, Any], sf: int, frames: int, **settings: Any) -> VirtualBoard:
    tree = folder / "tree"
    (tree / "lib/sealband/links").mkdir(parents=True)
    for name in (*FILES, *MORE):
        shutil.copy(DEVICE / "sealband" / name, tree / "lib/sealband" / name)
    (tree / "lib/sealwire").mkdir()
    for name in ("__init__.py", "radio.py"):
        shutil.copy(DEVICE / "sealwire" / name, tree / "lib/sealwire" / name)
    (tree / "main.py").write_text(SCRIPT.format(parts=PARTS | parts, sf=sf, frames=frames))
    board = VirtualBoard(folder / "board", name="band", mac=MAC, **settings)
    board.install(tree)
    return board


@pytest.mark.parametrize(
    ("parts", "sf"),
    [
        ({"region": "EU868"}, 9),
        ({"region": "EU868", "channels_khz": (867_100, 867_300, 868_100, 868_300, 868_500)}, 7),
        ({"region": "IN865"}, 10),
        ({"region": "AS923"}, 9),
        ({"region": "US915", "channels_khz": tuple(range(903_900, 905_500, 200))}, 10),
        ({"region": "AU915", "channels_khz": tuple(range(916_800, 918_400, 200))}, 9),
    ],
)
def test_frames_are_answered_and_no_rule_is_broken(tmp_path: Path, parts: dict[str, Any], sf: int) -> None:
    clock = SimClock.start(SPEED)
    region = parts["region"]
    with Ether(clock, region=region) as ether:
        assert ether.address
        with EtherClient(ether.address, "gateway", clock) as client:
            gateway = Gateway(region, list(parts.get("channels_khz", radio.region(region)[0])), client)
            with _board(tmp_path, parts, sf, 5, clock=clock, ether=ether.address) as board:
                assert board.wait_for("answers", 40.0) == "answers 5 of 5 faults 0"
            clock.sleep(5)
            rules = ether.statistics()["rules"]
    assert rules["broken"] == {}, rules
    assert len({heard.params.frequency_hz for heard in gateway.heard}) >= 2
    assert all(heard.params.power_dbm <= radio.region(region)[3] for heard in gateway.heard)


def test_a_jammed_channel_is_left_alone_where_boards_listen_before_they_talk(tmp_path: Path) -> None:
    clock = SimClock.start(SPEED)
    rules = Rules("AS923", lbt_dbm=-80.0)
    medium = Medium(path_loss_db={("jammer", "band"): 60.0}, rules=rules)
    with Ether(clock, medium=medium) as ether:
        assert ether.address
        gateway, jammer = (EtherClient(ether.address, name, clock) for name in ("gateway", "jammer"))
        with gateway, jammer:
            station = Gateway("AS923", [923_200, 923_400], gateway)
            # on the air without a gap for four minutes
            at = clock.now()
            for _ in range(24):
                at = jammer.transmit(bytes(255), RadioParams(923_200_000, 12, power_dbm=13), at + 0.001).end
            parts = {"region": "AS923", "lbt_dbm": -80}
            with _board(tmp_path, parts, 9, 4, clock=clock, ether=ether.address) as board:
                assert board.wait_for("answers", 40.0) == "answers 4 of 4 faults 0"
            assert clock.now() < at, "the jammer was through before the board"
            ether.statistics()
    assert {heard.params.frequency_hz for heard in station.heard} == {923_400_000}
    assert [one for one in rules.violations if one.sender == "band"] == []
