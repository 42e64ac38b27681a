"""A small web server for a repository, for trying updates out; in earnest any web server or CDN does it.

Read-only: GET and HEAD of plain files below one folder, whole or one range of bytes. No listing, nothing whose name
begins with a dot, no link, no way out of the folder.
"""

import os
import re
import stat
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

LOOPBACK = "127.0.0.1"
IDLE_S = 15.0
_CHUNK = 1 << 16
# RFC 9110 section 14.1.2, one range
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
# what no name in a repository has; a slash within a name would be a way out
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_TYPES = {".json": "application/json", ".cbor": "application/cbor", ".suit": "application/suit-envelope+cose"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "sealband"
    sys_version = ""
    timeout = IDLE_S
    server: "_Server"

    def do_GET(self) -> None:
        """Send a file, or what was asked of it."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Send what `do_GET` would, without the file."""
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Tell whoever asked for it; a client's text is not repeated as it stands."""
        line = " ".join(str(arg) for arg in args)
        self.server.log("".join(c if c.isprintable() else "�" for c in line))

    def _answer(self, body: bool) -> None:
        opened = _open(self.server.root, self.path)
        if opened is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        file, name = opened
        with file:
            size = os.fstat(file.fileno()).st_size
            span = _span(self.headers.get("Range"), size)
            if span is None:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, ("Content-Range", f"bytes */{size}"))
                return
            first, end, partial = span
            self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
            if partial:
                self.send_header("Content-Range", f"bytes {first}-{end - 1}/{size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Type", _TYPES.get(Path(name).suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(end - first))
            self.end_headers()
            if body:
                self._send(file, first, end)

    def _send(self, file: BinaryIO, first: int, end: int) -> None:
        file.seek(first)
        left = end - first
        while left and (chunk := file.read(min(_CHUNK, left))):
            self.wfile.write(chunk)
            left -= len(chunk)
        if left:
            # it became shorter meanwhile: the client must not take what comes next for the rest
            self.close_connection = True

    def _refuse(self, status: HTTPStatus, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], root: Path, log: Callable[[str], None]) -> None:
        self.root = root
        self.log = log
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is no error of ours."""


class RepositoryServer:
    """Serves a folder while it is entered.

    Args:
        directory: the repository.
        port: 0 for any that is free.
        host: on which address; by default only this computer reaches it.
        log: called with a line for each request.

    Raises:
        OSError: the folder is none, or the address cannot be had.
    """

    def __init__(
        self, directory: Path, port: int = 0, *, host: str = LOOPBACK, log: Callable[[str], None] = lambda line: None
    ) -> None:
        root = directory.resolve(strict=True)
        list(root.iterdir())  # a file would be noticed at the first request only
        self._host = host
        self._server = _Server((host, port), root, log)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The repository's address, without a slash at its end."""
        return f"http://{self._host}:{self.port}"

    def __enter__(self) -> "RepositoryServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _open(root: Path, target: str) -> tuple[BinaryIO, str] | None:
    # the plain file that a request names, and its name; None: without saying why, so that nothing is learnt of the rest
    path = urlsplit(target).path
    parts = unquote(path, errors="replace").split("/")
    if parts[0] or not all(_PART.fullmatch(part) for part in parts[1:]):
        return None
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for index, part in enumerate(parts[1:], 1):
            # step by step and without following links: a link made meanwhile leads nowhere either
            kind = os.O_DIRECTORY if index < len(parts) - 1 else os.O_NONBLOCK
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | kind, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            file = os.fdopen(descriptor, "rb")
            descriptor = -1
            return file, parts[-1]
    except OSError:
        return None
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return None


def _span(header: str | None, size: int) -> tuple[int, int, bool] | None:
    # first byte, end, whether it is a part; None: no byte of the file is in the range
    match = _RANGE.fullmatch(header.strip()) if header else None
    if not match or match[0] == "bytes=-":
        return 0, size, False
    first, last = match[1], match[2]
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    if first and last and int(last) < int(first):
        # no range at all, so the header does not count
        return 0, size, False
    return (start, end, True) if start < end else None
