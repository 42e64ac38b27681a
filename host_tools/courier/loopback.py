"""An air without radio: virtual devices at TCP addresses of this computer, for tests and for trying things out.

A device listens; whoever connects sees what it advertises, and may then become its courier. Records in both
directions: kind (1), length (2, big-endian), content.

    A  what it advertises: the pseudonym         device
    C  connect, value_max (2)                    courier
    W  a value that is written                   courier
    w  it was taken                              device
    N  a value that is notified                  device
    D  the end                                   both
"""

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress

from host_tools.courier.air import Connection, Seen
from host_tools.courier.errors import VisitEnded
from sealwire import ble

CONNECT_S = 10.0
_HEAD = struct.Struct(">cH")


class Loopback:
    """An `Air`.

    Args:
        addresses: host and port of each device.
        value_max: bytes that a value may have.
    """

    def __init__(self, addresses: Sequence[tuple[str, int]], value_max: int = ble.VALUE_MAX) -> None:
        self._addresses = {f"{host}:{port}": (host, port) for host, port in addresses}
        self._value_max = value_max

    async def scan(self, seconds: float) -> list[Seen]:
        seen = []
        for name, address in self._addresses.items():
            with suppress(OSError, TimeoutError, EOFError):
                async with asyncio.timeout(seconds):
                    reader, writer = await asyncio.open_connection(*address)
                    try:
                        kind, pseudonym = await receive(reader)
                        if kind == b"A":
                            seen.append(Seen(name, pseudonym))
                    finally:
                        writer.close()
        return seen

    async def connect(self, address: str) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(*self._addresses[address])
                kind, _ = await receive(reader)
                if kind != b"A":
                    raise EOFError
        except (OSError, TimeoutError, EOFError):
            raise VisitEnded("no connection", "come closer and try again") from None
        connection = _Connection(reader, writer, self._value_max)
        await connection.send(b"C", struct.pack(">H", self._value_max))
        return connection


async def receive(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One record; EOFError at the end."""
    kind, length = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    return kind, await reader.readexactly(length)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, value_max: int) -> None:
        self.value_max = value_max
        self._reader = reader
        self._writer = writer
        self._notified: list[bytes] = []

    async def send(self, kind: bytes, content: bytes = b"") -> None:
        try:
            self._writer.write(_HEAD.pack(kind, len(content)) + content)
            await self._writer.drain()
        except OSError:
            raise _gone() from None

    async def write(self, value: bytes) -> None:
        await self.send(b"W", value)
        while True:
            kind, content = await self._next()
            if kind == b"w":
                return
            self._notified.append(content)

    async def read(self) -> bytes:
        while not self._notified:
            kind, content = await self._next()
            if kind == b"N":
                self._notified.append(content)
        return self._notified.pop(0)

    async def _next(self) -> tuple[bytes, bytes]:
        try:
            kind, content = await receive(self._reader)
        except (OSError, EOFError):
            raise _gone() from None
        if kind == b"D":
            raise _gone()
        return kind, content

    async def close(self) -> None:
        with suppress(VisitEnded, OSError):
            await self.send(b"D")
            self._writer.close()


def _gone() -> VisitEnded:
    return VisitEnded("the device has ended the visit", "come closer and try again")
