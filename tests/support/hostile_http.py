"""HTTP servers on a loopback port for tests of the device's client: an honest one with ranges, and ones that misbehave.

Every server runs in threads of its own, notes each request, and ends with its `with` block. Not used by the product.
"""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

RANGE = re.compile(r"bytes=(\d+)-")
GRACE_S = 10.0  # no thread outlives its test by more


@dataclass
class Request:
    """What came before the empty line; `headers` by their lower-case names."""

    line: str
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, head: bytes) -> "Request":
        """From the bytes of a request's head."""
        line, *rest = head.decode("latin-1").split("\r\n")
        headers = dict(entry.split(": ", 1) for entry in rest if entry)
        return cls(line, {name.lower(): value for name, value in headers.items()})

    @property
    def path(self) -> str:
        """The target of the request."""
        return self.line.split(" ")[1]

    @property
    def start(self) -> int | None:
        """The N of `Range: bytes=N-`, or None."""
        found = RANGE.fullmatch(self.headers.get("range", ""))
        return int(found[1]) if found else None


class Peer:
    """One connection, from the server's side; `send` says whether the client still listens."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self.connection = connection
        self.stopping = stopping

    def send(self, data: bytes) -> bool:
        try:
            self.connection.sendall(data)
        except OSError:
            return False
        return not self.stopping.is_set()

    def drip(self, data: bytes, pause_s: float, step: int = 1) -> bool:
        """Send `step` bytes at a time."""
        for at in range(0, len(data), step):
            if not self.send(data[at : at + step]) or self.stopping.wait(pause_s):
                return False
        return True

    def silence(self) -> None:
        """Hold the connection and say nothing, until the client goes or the test ends."""
        self.connection.settimeout(0.05)
        until = time.monotonic() + GRACE_S
        while not self.stopping.is_set() and time.monotonic() < until:
            try:
                if not self.connection.recv(4096):
                    return
            except TimeoutError:
                continue
            except OSError:
                return


Script = Callable[[Peer, Request], None]


class Server:
    """Answers each connection by a script.

    Args:
        script: called in a thread a connection, with the request that was read.
        tls: wraps each connection first; a client that refuses the handshake is counted in `refusals`.
        read: whether to read a request before the script is called; otherwise it gets an empty one.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None, read: bool = True) -> None:
        self._script = script
        self._tls = tls
        self._read = read
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.refusals: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @property
    def origin(self) -> str:
        """scheme://host:port."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        # close() alone does not wake a thread that is in accept()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(GRACE_S)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(GRACE_S)
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                self._answer(connection)
        except ssl.SSLError as error:
            self.refusals.append(error.reason or str(error))
            connection.close()
        except OSError:
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        request = Request("")
        if self._read:
            head = b""
            while b"\r\n\r\n" not in head:
                more = connection.recv(4096)
                if not more:
                    return
                head += more
            request = Request.parse(head.split(b"\r\n\r\n")[0])
            self.requests.append(request)
        self._script(Peer(connection, self._stopping), request)
        # a client that still sends must not turn what we said into a reset
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)


def answer(status: str, body: bytes = b"", *headers: str, length: int | str | None = None) -> bytes:
    """A response; `length` in place of the true Content-Length, "" for none."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if length != "":
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def files(served: dict[str, bytes], *, ranges: bool = True, drop_after: int | None = None) -> Script:
    """An honest server of these files by path, which may drop each connection after so many bytes of a body."""

    def script(peer: Peer, request: Request) -> None:
        data = served.get(request.path)
        if data is None:
            peer.send(answer("404 Not Found", b"there is no such file\n"))
            return
        start = request.start if ranges else None
        if start is None:
            response = answer("200 OK", data, "Content-Type: application/octet-stream")
        elif start >= len(data):
            peer.send(answer("416 Range Not Satisfiable", b"", f"Content-Range: bytes */{len(data)}"))
            return
        else:
            response = answer(
                "206 Partial Content", data[start:], f"Content-Range: bytes {start}-{len(data) - 1}/{len(data)}"
            )
        if drop_after is not None:
            response = response[: response.index(b"\r\n\r\n") + 4 + drop_after]
        peer.send(response)

    return script


def say(data: bytes) -> Script:
    """Whatever is asked, these bytes."""

    def script(peer: Peer, request: Request) -> None:
        peer.send(data)

    return script


def say_and_stay(data: bytes) -> Script:
    """These bytes, and then silence on an open connection."""

    def script(peer: Peer, request: Request) -> None:
        if peer.send(data):
            peer.silence()

    return script


def endless(head: bytes, block: bytes) -> Script:
    """These bytes, and then the block again and again."""

    def script(peer: Peer, request: Request) -> None:
        listening = peer.send(head)
        while listening:
            listening = peer.send(block)

    return script


def dripping(head: bytes, body: bytes, pause_s: float, step: int = 1) -> Script:
    """The head at once, and then the body a few bytes at a time."""

    def script(peer: Peer, request: Request) -> None:
        if peer.send(head):
            peer.drip(body, pause_s, step)

    return script
