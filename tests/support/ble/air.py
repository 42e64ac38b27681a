# ruff: noqa: SIM105, RUF006
# The fake aioble's air as a TCP port, for couriers of the host (host_tools/courier/loopback.py has the records).
# Beside them: X, MicroPython to execute, whose `result` is answered as X: that is how a test looks at the board.
import asyncio
import struct

from aioble import air

_CHUNK = 512


async def serve(port, scope):
    async def visited(reader, writer):
        try:
            await _Visitor(reader, writer, scope).run()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                pass

    await asyncio.start_server(visited, "127.0.0.1", port)


class _Visitor:
    def __init__(self, reader, writer, scope):
        self._reader = reader
        self._writer = writer
        self._scope = scope
        self._connection = None

    async def _send(self, kind, content=b""):
        self._writer.write(kind + struct.pack(">H", len(content)) + content)
        await self._writer.drain()

    async def run(self):
        if air.active:
            await self._send(b"A", air.active[1][18:])
        else:
            await self._send(b"-")
        try:
            while True:
                head = await self._reader.readexactly(3)
                content = await self._reader.readexactly(struct.unpack(">H", head[1:])[0])
                if not await self._take(head[:1], content):
                    return
        finally:
            if self._connection:
                self._connection.drop()

    async def _take(self, kind, content):
        if kind == b"X":
            exec(content.decode(), self._scope)
            await self._send(b"X", repr(self._scope.get("result")).encode())
        elif kind == b"C":
            self._connection = air.connect(struct.unpack(">H", content)[0] + 3)
            if self._connection is None:
                return False
            asyncio.create_task(self._notify(self._connection))
        elif kind == b"W":
            if not self._connection.is_connected():
                return False
            air.write(content, self._connection)
            await self._send(b"w")
        else:
            return False
        return True

    async def _notify(self, connection):
        try:
            while connection.is_connected() or connection.notified:
                while connection.notified:
                    await self._send(b"N", connection.notified.pop(0))
                connection.told.clear()
                if connection.is_connected():
                    await connection.told.wait()
            await self._send(b"D")
        except OSError:
            connection.drop()
