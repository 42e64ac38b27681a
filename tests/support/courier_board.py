"""A node on MicroPython with a courier's ear, over the loopback air; and airs that do to a courier what radio can."""

import ast
import os
import random
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from host_tools.courier.air import Connection, Seen
from host_tools.courier.loopback import Loopback
from host_tools.sim.interpreter import find_micropython
from provisioning.labels import Label
from tests.support.micropython import DEVICE_PATH, ROOT

PROGRAM = Path(__file__).with_name("ble") / "board.py"
START_S = 20.0


def label_of(eui: bytes, root: bytes) -> Label:
    """The label that a board with this root key has, from the text of the wire format."""
    return Label(eui, "test-band", HKDFExpand(hashes.SHA256(), 10, b"sealband/1 claim").derive(root))


class CourierBoard:
    """The board, as a context manager.

    Args:
        eui: 8 bytes.
        root: CK[0].
        handshake_ms: so long a stranger has.
    """

    def __init__(self, eui: bytes, root: bytes, handshake_ms: int = 5000) -> None:
        self.label = label_of(eui, root)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address: tuple[str, int] = probe.getsockname()
        where = ":".join(map(str, DEVICE_PATH)) + ":.frozen"
        arguments = [str(self.address[1]), eui.hex(), root.hex(), str(handshake_ms)]
        self._process = subprocess.Popen(
            [find_micropython(), str(PROGRAM), *arguments], cwd=ROOT, env={**os.environ, "MICROPYPATH": where}
        )

    @property
    def air(self) -> Loopback:
        """Where it is."""
        return Loopback([self.address])

    def __enter__(self) -> "CourierBoard":
        self.until_advertised()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def until_advertised(self) -> None:
        """Wait until it lets somebody in."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                with self._connect() as line:
                    if record(line)[0] == b"A":
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise TimeoutError("the board advertises nothing")

    def look(self, statement: str) -> Any:
        """Execute a statement on the board that sets `result`; what that is."""
        with self._connect() as line:
            record(line)
            line.sendall(b"X" + struct.pack(">H", len(statement)) + statement.encode())
            return ast.literal_eval(record(line)[1].decode())

    def stranger(self) -> socket.socket:
        """Somebody who connects and has said nothing yet."""
        line = self._connect()
        assert record(line)[0] == b"A"
        line.sendall(b"C\x00\x02\x00\xb6")
        return line

    def _connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=START_S)


def record(line: socket.socket) -> tuple[bytes, bytes]:
    """One record of the loopback air."""
    head = _exactly(line, 3)
    return head[:1], _exactly(line, struct.unpack(">H", head[1:])[0])


def _exactly(line: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = line.recv(length - len(data))
        if not piece:
            raise ConnectionError("closed")
        data += piece
    return data


class BadAir:
    """An air that does something to values: `change` gets a list of values, and says which come out in its place."""

    def __init__(self, air: Loopback, up: Callable[[bytes], list[bytes]], down: Callable[[bytes], list[bytes]]) -> None:
        self._air, self._up, self._down = air, up, down

    async def scan(self, seconds: float) -> list[Seen]:
        return await self._air.scan(seconds)

    async def connect(self, address: str) -> Connection:
        return _BadConnection(await self._air.connect(address), self._up, self._down)


class _BadConnection:
    def __init__(
        self, connection: Connection, up: Callable[[bytes], list[bytes]], down: Callable[[bytes], list[bytes]]
    ) -> None:
        self._connection, self._up, self._down = connection, up, down
        self._waiting: list[bytes] = []
        self.value_max = connection.value_max

    async def write(self, value: bytes) -> None:
        for each in self._up(value):
            await self._connection.write(each)

    async def read(self) -> bytes:
        while not self._waiting:
            self._waiting += self._down(await self._connection.read())
        return self._waiting.pop(0)

    async def close(self) -> None:
        await self._connection.close()


class Noise:
    """Changes the value of a certain number, in a way that the seed picks."""

    KINDS = ("flip", "cut", "longer", "drop", "double", "swap", "none")

    def __init__(self, seed: int, last: int) -> None:
        self._random = random.Random(seed)
        self.kind = self._random.choice(self.KINDS)
        self._at = self._random.randrange(last)
        self._count = 0
        self._held: bytes | None = None

    def __call__(self, value: bytes) -> list[bytes]:
        self._count += 1
        held, self._held = self._held, None
        if held is not None:
            return [value, held]
        if self._count - 1 != self._at:
            return [value]
        at = self._random.randrange(len(value))
        if self.kind == "swap":
            self._held = value
        return {
            "flip": [value[:at] + bytes((value[at] ^ 1 << self._random.randrange(8),)) + value[at + 1 :]],
            "cut": [value[:at]],
            "longer": [value + b"\0"],
            "drop": [],
            "double": [value, value],
            "swap": [],
            "none": [value],
        }[self.kind]
