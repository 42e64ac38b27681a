"""The other end of an MQTT connection, scripted: it delivers what a test tells it to and keeps what it is sent.

Real brokers do not let a test decide when a message is delivered again or when a connection breaks. Speaks the few
packets of MQTT 3.1.1 that a subscriber and publisher of QoS 1 needs (OASIS, sections 3.1 to 3.14), and no more.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import BinaryIO

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14


class MqttPeer:
    """Serves one client at a time on a loopback port.

    Attributes:
        acked: packet identifiers that the client acknowledged, with the number of the connection: [(connection, mid)].
        published: (topic, payload) that the client published.
        connections: how many clients have connected.
        grant: what is answered to each subscription; 0x80 refuses.
    """

    def __init__(self) -> None:
        self.acked: list[tuple[int, int]] = []
        self.published: list[tuple[str, bytes]] = []
        self.subscribed: list[str] = []
        self.connections = 0
        self.grant = 1
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._client: socket.socket | None = None
        self._ready = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> "MqttPeer":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # close alone leaves it open until its thread's accept returns
        self._listener.close()
        self.cut()

    def deliver(self, topic: str, payload: bytes, mid: int, *, again: bool = False, qos: int = 1) -> None:
        """Send a message to the client, once it has subscribed."""
        assert self._ready.wait(10), "no client has subscribed"
        name = topic.encode()
        body = len(name).to_bytes(2, "big") + name + (mid.to_bytes(2, "big") if qos else b"") + payload
        self._send(PUBLISH << 4 | again << 3 | qos << 1, body)

    def cut(self) -> None:
        """Break the connection without a word."""
        self._ready.clear()
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._client = client
            with contextlib.suppress(OSError, EOFError), client:
                self._converse(client)
            self._ready.clear()

    def _converse(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        while True:
            first, body = _packet(stream)
            kind = first >> 4
            if kind == CONNECT:
                self._send(CONNACK << 4, b"\x00\x00")
            elif kind == SUBSCRIBE:
                count = self._note_filters(body[2:])
                self._send(SUBACK << 4, body[:2] + bytes([self.grant]) * count)
                self._ready.set()
            elif kind == PUBACK:
                self.acked.append((self.connections, int.from_bytes(body, "big")))
            elif kind == PUBLISH:
                end = 2 + int.from_bytes(body[:2], "big")
                self.published.append((body[2:end].decode(), body[end + 2 :]))
                self._send(PUBACK << 4, body[end : end + 2])
            elif kind == PINGREQ:
                self._send(PINGRESP << 4, b"")
            elif kind == DISCONNECT:
                return

    def _note_filters(self, rest: bytes) -> int:
        count = 0
        while rest:
            length = int.from_bytes(rest[:2], "big")
            self.subscribed.append(rest[2 : 2 + length].decode())
            rest = rest[3 + length :]
            count += 1
        return count

    def _send(self, first: int, body: bytes) -> None:
        assert self._client is not None
        length, digits = len(body), b""
        while True:
            length, digit = divmod(length, 128)
            digits += bytes([digit | (0x80 if length else 0)])
            if not length:
                break
        self._client.sendall(bytes([first]) + digits + body)


def wait(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _packet(stream: BinaryIO) -> tuple[int, bytes]:
    """First byte and what follows the length (section 2.2)."""
    first = _exactly(stream, 1)[0]
    length, shift = 0, 0
    while True:
        digit = _exactly(stream, 1)[0]
        length |= (digit & 127) << shift
        shift += 7
        if not digit & 128:
            return first, _exactly(stream, length)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
