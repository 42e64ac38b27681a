"""The radio of this computer, by `bleak` (the extra `sealband[ble]`): BlueZ, CoreBluetooth, WinRT. No protocol here."""

import asyncio
from contextlib import suppress
from typing import Any

from host_tools.courier.air import Connection, Seen
from host_tools.courier.errors import CourierError, VisitEnded
from sealwire import ble, visits

CONNECT_S = 15.0


class Bluetooth:
    """An `Air`.

    Raises:
        CourierError: bleak is not installed.
    """

    def __init__(self) -> None:
        try:
            import bleak
        except ImportError:
            raise CourierError(
                "there is no Bluetooth library here", "install the extra: pip install 'sealband[ble]'"
            ) from None
        self._bleak: Any = bleak
        self._devices: dict[str, Any] = {}

    async def scan(self, seconds: float) -> list[Seen]:
        try:
            found = await self._bleak.BleakScanner.discover(
                timeout=seconds, return_adv=True, service_uuids=[visits.SERVICE_UUID]
            )
        except (self._bleak.BleakError, OSError) as error:
            raise CourierError(
                f"Bluetooth does not scan: {error}", "switch it on, and allow this program to use it"
            ) from None
        seen = []
        for address, (device, told) in found.items():
            name = told.service_data.get(visits.SERVICE_UUID)
            if name is not None:
                self._devices[address] = device
                seen.append(Seen(address, bytes(name), told.rssi))
        return seen

    async def connect(self, address: str) -> Connection:
        connection = _Connection(self._bleak, self._devices.get(address, address))
        await connection.open()
        return connection


class _Connection:
    def __init__(self, bleak: Any, device: Any) -> None:
        self._error = bleak.BleakError
        self._values: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._client = bleak.BleakClient(
            device, disconnected_callback=lambda _: self._values.put_nowait(None), timeout=CONNECT_S
        )
        self.value_max = visits.VALUE_MIN

    async def open(self) -> None:
        try:
            await self._client.connect()
            await self._client.start_notify(visits.DOWN_UUID, lambda _, data: self._values.put_nowait(bytes(data)))
        except (self._error, OSError, TimeoutError) as error:
            await self.close()
            raise VisitEnded(f"no connection: {error or 'no answer'}", "come closer and try again") from None
        up = self._client.services.get_characteristic(visits.UP_UUID)
        # not the client's mtu_size: by BlueZ that is always the least
        self.value_max = min(up.max_write_without_response_size if up else 0, ble.VALUE_MAX)
        if self.value_max < visits.VALUE_MIN:
            await self.close()
            raise VisitEnded(
                f"this radio carries values of {self.value_max} bytes only; {visits.VALUE_MIN} are needed",
                "use an adapter for Bluetooth 4.2 or later",
            )

    async def write(self, value: bytes) -> None:
        try:
            await self._client.write_gatt_char(visits.UP_UUID, value, response=True)
        except (self._error, OSError, TimeoutError) as error:
            raise VisitEnded(f"the device is gone: {error}", "come closer and try again") from None

    async def read(self) -> bytes:
        value = await self._values.get()
        if value is None:
            raise VisitEnded("the device has ended the visit", "come closer and try again")
        return value

    async def close(self) -> None:
        with suppress(self._error, OSError, TimeoutError):
            await self._client.disconnect()
