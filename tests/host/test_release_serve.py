"""The server for trying out: files and ranges of them as RFC 9110 has it, and nothing beside what its folder holds."""

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host_tools.release.serve import RepositoryServer

BODY = bytes(range(256)) * 300
SECRET = b"secret"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RepositoryServer]:
    root = tmp_path_factory.mktemp("served")
    www = root / "www"
    (www / "m" / "1").mkdir(parents=True)
    (www / "m" / "1" / "file.bin").write_bytes(BODY)
    (www / "m" / "1" / "empty").write_bytes(b"")
    (www / ".hidden").write_bytes(SECRET)
    (www / "m" / ".half-written").mkdir()
    (www / "m" / ".half-written" / "file").write_bytes(SECRET)
    (root / "secret").write_bytes(SECRET)
    (www / "link").symlink_to(root / "secret")
    (www / "folder").symlink_to(root)
    os.mkfifo(www / "pipe")
    with RepositoryServer(www) as server:
        yield server


def ask(
    server: RepositoryServer, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def raw(server: RepositoryServer, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_file_is_sent_whole(served: RepositoryServer) -> None:
    status, headers, body = ask(served, "/m/1/file.bin")
    assert (status, body) == (200, BODY)
    assert (headers["content-length"], headers["accept-ranges"]) == (str(len(BODY)), "bytes")
    assert ask(served, "/m/1/empty")[::2] == (200, b"")


def test_head_sends_what_get_would_without_the_file(served: RepositoryServer) -> None:
    status, headers, body = ask(served, "/m/1/file.bin", "HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(BODY)), b"")
    status, headers, body = ask(served, "/m/1/file.bin", "HEAD", {"Range": "bytes=5-"})
    assert (status, headers["content-length"], body) == (206, str(len(BODY) - 5), b"")


@pytest.mark.parametrize(
    ("header", "first", "end"),
    [
        ("bytes=0-", 0, len(BODY)),
        ("bytes=100-", 100, len(BODY)),
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=76799-", 76799, 76800),
        ("bytes=10-999999", 10, len(BODY)),
        ("bytes=-5", len(BODY) - 5, len(BODY)),
        ("bytes=-999999", 0, len(BODY)),
    ],
)
def test_range_is_sent_as_rfc_9110_has_it(served: RepositoryServer, header: str, first: int, end: int) -> None:
    status, headers, body = ask(served, "/m/1/file.bin", headers={"Range": header})
    assert (status, body) == (206, BODY[first:end])
    assert headers["content-range"] == f"bytes {first}-{end - 1}/{len(BODY)}"
    assert headers["content-length"] == str(end - first)


@pytest.mark.parametrize("header", ["bytes=76800-", "bytes=999999-", "bytes=-0"])
def test_range_without_a_byte_in_the_file_is_416(served: RepositoryServer, header: str) -> None:
    status, headers, body = ask(served, "/m/1/file.bin", headers={"Range": header})
    assert (status, headers["content-range"], body) == (416, f"bytes */{len(BODY)}", b"")
    assert ask(served, "/m/1/empty", headers={"Range": "bytes=0-"})[0] == 416


@pytest.mark.parametrize(
    "header", ["bytes=-", "bytes=9-5", "bytes=1-2,4-5", "lines=1-2", "bytes=a-b", "bytes=" + "9" * 40]
)
def test_header_that_is_no_range_does_not_count(served: RepositoryServer, header: str) -> None:
    assert ask(served, "/m/1/file.bin", headers={"Range": header})[::2] == (200, BODY)


OUT = [
    "/../secret",
    "/m/../../secret",
    "/%2e%2e/secret",
    "/%2E%2E%2Fsecret",
    "/m/1/..%2f..%2f..%2fsecret",
    "/..\\secret",
    "/%5c..%5csecret",
    "/....//secret",
    "//secret",
    "/./secret",
    "/m/./1/file.bin",
    "/m//1/file.bin",
    "/link",
    "/folder/secret",
    "/.hidden",
    "/m/.half-written/file",
    "/pipe",
    "/",
    "",
    "/m",
    "/m/1/",
    "/m/1/file.bin/",
    "/m/1/file.bin%00",
    "/m/1/file.bin%0a",
    "/nothing",
    "/%ff%fe",
    "/etc/passwd",
    "http://other.example/../secret",
]


@pytest.mark.parametrize("path", OUT)
def test_nothing_leads_out_of_the_folder_nor_lists_it(served: RepositoryServer, path: str) -> None:
    answer = raw(served, b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
    assert SECRET not in answer
    assert b"file.bin" not in answer
    assert not answer.startswith(b"HTTP/1.1 2")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    parts=st.lists(st.sampled_from(["..", ".", "", "m", "1", "%2e%2e", "link", "folder", "secret", "%2f"]), max_size=6)
)
def test_no_path_leads_to_the_secret(served: RepositoryServer, parts: list[str]) -> None:
    assert SECRET not in raw(served, f"GET /{'/'.join(parts)} HTTP/1.0\r\n\r\n".encode())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_other_methods_are_refused(served: RepositoryServer, method: str) -> None:
    answer = raw(served, f"{method} /m/1/file.bin HTTP/1.0\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 501")
    assert BODY[:50] not in answer


def test_query_does_not_matter(served: RepositoryServer) -> None:
    assert ask(served, "/m/1/file.bin?x=../../secret")[::2] == (200, BODY)


def test_connection_can_be_used_again_and_ends_when_asked(served: RepositoryServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    for path, status in (("/m/1/file.bin", 200), ("/nothing", 404), ("/m/1/file.bin", 200)):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()
    answer = raw(served, b"GET /m/1/empty HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


def test_requests_are_told_without_what_a_terminal_would_obey(tmp_path: Path) -> None:
    told: list[str] = []
    with RepositoryServer(tmp_path, log=told.append) as server:
        raw(server, b"GET /\x1b[2Jx HTTP/1.0\r\n\r\n")
    assert told and all(line.isprintable() for line in told)


def test_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RepositoryServer(tmp_path / "nothing")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        RepositoryServer(tmp_path / "file")


def test_port_is_free_again_afterwards(tmp_path: Path) -> None:
    with RepositoryServer(tmp_path) as server:
        port = server.port
    with RepositoryServer(tmp_path, port) as server:
        assert server.url == f"http://127.0.0.1:{port}"
