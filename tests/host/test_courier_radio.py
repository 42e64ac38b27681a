"""The courier's radio by bleak: its API as bleak 2 and 3 have it, bridged to a board on the loopback air."""

import asyncio
import inspect
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from host_tools.courier import visit as visits
from host_tools.courier.air import Seen
from host_tools.courier.errors import CourierError, VisitEnded
from host_tools.courier.radio import Bluetooth
from host_tools.courier.store import CourierStore
from tests.support.courier_board import CourierBoard

EUI, ROOT = bytes.fromhex("70b3d5fffe001234"), bytes(range(32))
SERVICE = "8e7dc8bd-c5b7-418f-a36d-72c04b8cb3e5"
UP, DOWN = SERVICE.replace("bd-", "be-"), SERVICE.replace("bd-", "bf-")


class BleakError(Exception):
    pass


class FakeBleak:
    """As much of bleak as is used; every name and argument is checked against the real one below."""

    BleakError = BleakError

    def __init__(self, board: CourierBoard, write_max: int = 182) -> None:
        fake = self
        self.failing: list[Exception] = []

        class BleakScanner:
            @staticmethod
            async def discover(timeout: float, *, return_adv: bool, service_uuids: list[str]) -> dict[str, Any]:
                if fake.failing:
                    raise fake.failing.pop()
                assert return_adv and service_uuids == [SERVICE]
                seen = await board.air.scan(timeout)
                others = {"66:55:44:33:22:11": ("other", SimpleNamespace(service_data={}, rssi=-99))}
                told = [SimpleNamespace(service_data={SERVICE: one.pseudonym}, rssi=-51) for one in seen]
                return others | {f"device {n}": (f"handle {n}", one) for n, one in enumerate(told)}

        class BleakClient:
            def __init__(self, device: str, disconnected_callback: Any, timeout: float) -> None:
                assert device == "handle 0"
                self._gone = disconnected_callback
                limit = SimpleNamespace(max_write_without_response_size=write_max)
                self.services = SimpleNamespace(get_characteristic=lambda uuid: limit if uuid == UP else None)

            async def connect(self) -> None:
                if fake.failing:
                    raise fake.failing.pop()
                (seen,) = await board.air.scan(5)
                self._connection = await board.air.connect(seen.address)

            async def start_notify(self, uuid: str, callback: Any) -> None:
                assert uuid == DOWN
                self._task = asyncio.create_task(self._listen(callback))

            async def _listen(self, callback: Any) -> None:
                try:
                    while True:
                        callback(None, bytearray(await self._connection.read()))
                except VisitEnded:
                    self._gone(self)

            async def write_gatt_char(self, uuid: str, value: bytes, response: bool) -> None:
                assert uuid == UP and response and len(value) <= write_max
                if fake.failing:
                    raise fake.failing.pop()
                # the notifications' reader takes what comes back
                await self._connection.send(b"W", value)

            async def disconnect(self) -> None:
                if hasattr(self, "_task"):
                    self._task.cancel()
                if hasattr(self, "_connection"):
                    await self._connection.close()

        self.BleakScanner, self.BleakClient = BleakScanner, BleakClient


@pytest.fixture
def board():
    with CourierBoard(EUI, ROOT) as board:
        yield board


def bluetooth(monkeypatch: pytest.MonkeyPatch, board: CourierBoard, **options: Any) -> tuple[Bluetooth, FakeBleak]:
    fake = FakeBleak(board, **options)
    monkeypatch.setitem(sys.modules, "bleak", fake)
    return Bluetooth(), fake


def test_visit_by_bleak(board: CourierBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    air, _ = bluetooth(monkeypatch, board)
    board.look("result = board.events(10)")
    seen = asyncio.run(air.scan(5))
    assert [one.rssi for one in seen] == [-51] and isinstance(seen[0], Seen)
    assert asyncio.run(visits.carry(air, board.label, 5, CourierStore(tmp_path))).fetched == 11


def test_radio_that_fails_is_said_in_one_line(board: CourierBoard, monkeypatch: pytest.MonkeyPatch):
    air, fake = bluetooth(monkeypatch, board)
    for error in (BleakError("no adapter"), FileNotFoundError("dbus")):
        fake.failing = [error]
        with pytest.raises(CourierError, match="does not scan"):
            asyncio.run(air.scan(1))
    asyncio.run(air.scan(5))
    fake.failing = [BleakError("busy")]
    with pytest.raises(VisitEnded, match="no connection"):
        asyncio.run(air.connect("device 0"))


def test_link_whose_values_are_too_short_for_a_message_is_refused(board: CourierBoard, monkeypatch: pytest.MonkeyPatch):
    air, _ = bluetooth(monkeypatch, board, write_max=20)

    async def visit() -> None:
        await air.scan(5)
        await air.connect("device 0")

    with pytest.raises(VisitEnded, match="20 bytes only"):
        asyncio.run(visit())


def test_library_that_is_missing_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "bleak", None)
    with pytest.raises(CourierError) as error:
        Bluetooth()
    assert "sealband[ble]" in error.value.remedy


def test_bleak_has_what_is_used_of_it():
    bleak = pytest.importorskip("bleak", reason="the extra sealband[ble] is not installed")
    from bleak.backends.characteristic import BleakGATTCharacteristic
    from bleak.backends.scanner import AdvertisementData

    assert {"return_adv", "timeout"} <= inspect.signature(bleak.BleakScanner.discover).parameters.keys()
    assert "service_uuids" in inspect.signature(bleak.BleakScanner.__init__).parameters
    assert {"disconnected_callback", "timeout"} <= inspect.signature(bleak.BleakClient.__init__).parameters.keys()
    assert "response" in inspect.signature(bleak.BleakClient.write_gatt_char).parameters
    assert {"connect", "disconnect", "start_notify", "services"} <= set(dir(bleak.BleakClient))
    assert "max_write_without_response_size" in dir(BleakGATTCharacteristic)
    assert {"service_data", "rssi"} <= set(AdvertisementData._fields)
    assert issubclass(bleak.BleakError, Exception)
