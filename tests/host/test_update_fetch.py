"""The device's HTTP client on MicroPython, against servers on this machine: honest, broken and hostile ones."""

import hashlib
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.release import patch
from sealwire import update as wire
from tests.support import hostile_http as http
from tests.support.fetcher import Fetcher, Outcome
from tests.support.hostile_http import Peer, Request, Server, answer

IMAGE = random.Random(3).randbytes(50_000)  # not a multiple of a block
SMALL = bytes(range(256)) * 2
LOST = [wire.UNREACHABLE, wire.HTTP_MALFORMED]


@pytest.fixture(scope="module")
def device() -> Iterator[Fetcher]:
    with Fetcher() as fetcher:
        yield fetcher


def get(device: Fetcher, script: http.Script, limit: int = 4096, **limits: int) -> Outcome:
    with Server(script) as server:
        return device.get(server.origin + "/m", limit, **limits)


def download(device: Fetcher, script: http.Script, path: Path, limit: int = 1 << 20, **limits: int) -> Outcome:
    with Server(script) as server:
        return device.download(server.origin + "/f", path, limit, **limits)


# --- honest servers


@pytest.mark.parametrize("length", [0, 1, 255, 2047, 2048, 2049, 4095, 4096])
def test_document_of_any_length_comes_whole(device: Fetcher, length: int) -> None:
    document = random.Random(length).randbytes(length)
    assert get(device, http.files({"/m": document})).value == document


@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 8192, 50_000])
def test_file_of_any_length_comes_whole(device: Fetcher, length: int, tmp_path: Path) -> None:
    outcome = download(device, http.files({"/f": IMAGE[:length]}), tmp_path / "f")
    assert outcome.value == length
    assert (tmp_path / "f").read_bytes() == IMAGE[:length]


def test_request_says_what_it_must_and_no_more(device: Fetcher) -> None:
    with Server(http.files({"/w/2/manifest.suit": SMALL})) as server:
        assert device.get(server.origin + "/w/2/manifest.suit").value == SMALL
    (request,) = server.requests
    assert request.line == "GET /w/2/manifest.suit HTTP/1.1"
    assert request.headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "sealband",
        "accept-encoding": "identity",
        "connection": "close",
    }


def test_answer_in_http_1_0_is_taken(device: Fetcher) -> None:
    assert get(device, http.say(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab")).value == b"ab"


def test_answer_in_many_small_pieces_is_taken(device: Fetcher) -> None:
    def script(peer: Peer, request: Request) -> None:
        peer.drip(answer("200 OK", SMALL, "X: y"), 0.0005)

    assert get(device, script).value == SMALL


def test_status_line_without_a_reason_is_taken(device: Fetcher) -> None:
    assert get(device, http.say(b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na")).value == b"a"


def test_connection_left_open_after_the_body_does_not_hold_the_device(device: Fetcher) -> None:
    outcome = get(device, http.say_and_stay(answer("200 OK", SMALL)), silence_ms=5000)
    assert outcome.value == SMALL
    assert outcome.took_ms < 2000


def test_python_s_own_web_server_serves_the_device(device: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(IMAGE)
    (tmp_path / "got").write_bytes(b"other bytes, since it knows no ranges")
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            port = process.stdout.readline().split("port ")[1].split()[0]
            assert device.download(f"http://127.0.0.1:{port}/f", tmp_path / "got").value == len(IMAGE)
            assert device.get(f"http://127.0.0.1:{port}/g").status == 404
        finally:
            process.kill()
    assert (tmp_path / "got").read_bytes() == IMAGE


# --- resuming


@pytest.mark.parametrize("there", [1, 4095, 4096, 4097, 8191, 8192, 49_152, 49_999])
def test_download_goes_on_where_it_was_cut(device: Fetcher, there: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(IMAGE[:there])
    with Server(http.files({"/f": IMAGE})) as server:
        assert device.download(server.origin + "/f", tmp_path / "f").value == len(IMAGE)
    assert [request.headers["range"] for request in server.requests] == [f"bytes={there}-"]
    assert (tmp_path / "f").read_bytes() == IMAGE


@pytest.mark.parametrize("every", [1, 700, 4095, 4096, 4097, 30_000])
def test_connection_dropped_at_every_so_many_bytes_ends_with_the_right_file(
    device: Fetcher, every: int, tmp_path: Path
) -> None:
    data = IMAGE if every > 1 else IMAGE[:40]
    before = 0
    with Server(http.files({"/f": data}, drop_after=every)) as server:
        while True:
            outcome = device.download(server.origin + "/f", tmp_path / "f")
            if outcome.code == 0:
                break
            assert outcome.code == wire.UNREACHABLE
            now = (tmp_path / "f").stat().st_size
            assert now == before + every, "what came was not kept"
            before = now
    assert (tmp_path / "f").read_bytes() == data
    assert server.connections == -(-len(data) // every)


def test_complete_file_is_not_fetched_again(device: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(IMAGE)
    with Server(http.files({"/f": IMAGE})) as server:
        assert device.download(server.origin + "/f", tmp_path / "f").value == len(IMAGE)
    assert len(server.requests) == 1


def test_file_longer_than_what_is_served_is_fetched_anew(device: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(IMAGE + b"?")
    with Server(http.files({"/f": IMAGE})) as server:
        assert device.download(server.origin + "/f", tmp_path / "f").value == len(IMAGE)
    assert [request.start for request in server.requests] == [len(IMAGE) + 1, None]
    assert (tmp_path / "f").read_bytes() == IMAGE


def test_server_without_ranges_is_read_from_the_beginning(device: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10_000)
    outcome = download(device, http.files({"/f": IMAGE}, ranges=False), tmp_path / "f")
    assert outcome.value == len(IMAGE)
    assert (tmp_path / "f").read_bytes() == IMAGE


def test_416_that_does_not_say_the_length_starts_anew(device: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)

    def script(peer: Peer, request: Request) -> None:
        peer.send(answer("200 OK", IMAGE) if request.start is None else answer("416 Range Not Satisfiable"))

    assert download(device, script, tmp_path / "f").value == len(IMAGE)
    assert (tmp_path / "f").read_bytes() == IMAGE


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-49999/50000",  # from the beginning
        "bytes 99-49999/50000",
        "bytes 101-49999/50000",
        "bytes 100-49998/50000",  # not up to the end
        "bytes 100-50000/50000",
        "bytes 100-49999/50001",
        "bytes 100-49999/49999",
        "bytes 100-49999/*",
        "bytes */50000",
        "bytes 49999-100/50000",
        "bytes -100-49999/50000",
        "bytes 100-/50000",
        "bytes 100/50000",
        "bytes=100-49999/50000",
        "items 100-49999/50000",
        "bytes 0100-0x99/50000",
        "bytes ١٠٠-49999/50000".encode().decode("latin-1"),
        "",
        "bytes 100-99999999999999999999/100000000000000000000",
        None,
    ],
)
def test_206_for_another_range_starts_anew(device: Fetcher, content_range: str | None, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)

    def script(peer: Peer, request: Request) -> None:
        if request.start is None:
            peer.send(answer("200 OK", IMAGE))
        else:
            header = [] if content_range is None else [f"Content-Range: {content_range}"]
            peer.send(answer("206 Partial Content", IMAGE[100:], *header))

    assert download(device, script, tmp_path / "f").value == len(IMAGE)
    assert (tmp_path / "f").read_bytes() == IMAGE


@pytest.mark.parametrize("length", [0, 49_899, 49_901, 50_000])
def test_206_whose_length_is_not_its_range_s_starts_anew(device: Fetcher, length: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)

    def script(peer: Peer, request: Request) -> None:
        if request.start is None:
            peer.send(answer("200 OK", IMAGE))
        else:
            peer.send(answer("206 Partial Content", bytes(length), "Content-Range: bytes 100-49999/50000"))

    assert download(device, script, tmp_path / "f").value == len(IMAGE)
    assert (tmp_path / "f").read_bytes() == IMAGE


def test_206_with_two_ranges_is_refused(device: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(IMAGE[:100])
    good = "Content-Range: bytes 100-49999/50000"
    outcome = download(device, http.say(answer("206 Partial Content", IMAGE[100:], good, good)), tmp_path / "f")
    assert outcome.code == wire.HTTP_MALFORMED
    assert (tmp_path / "f").read_bytes() == IMAGE[:100]


@pytest.mark.parametrize("status", ["206 Partial Content", "416 Range Not Satisfiable"])
def test_answer_to_a_range_that_was_not_asked_for_is_refused(device: Fetcher, status: str, tmp_path: Path) -> None:
    script = http.say(answer(status, SMALL, "Content-Range: bytes 0-511/512"))
    assert get(device, script).code == wire.HTTP_STATUS
    outcome = download(device, script, tmp_path / "f")
    assert (outcome.code, outcome.status) == (wire.HTTP_STATUS, int(status[:3]))
    assert not (tmp_path / "f").exists()


# --- length


def test_document_longer_than_its_limit_is_refused(device: Fetcher) -> None:
    assert get(device, http.files({"/m": SMALL}), len(SMALL)).value == SMALL
    assert get(device, http.files({"/m": SMALL}), len(SMALL) - 1).code == wire.TOO_LONG


def test_document_longer_than_a_block_is_refused_whatever_the_limit(device: Fetcher) -> None:
    assert get(device, http.files({"/m": IMAGE[:4097]}), 10_000).code == wire.TOO_LONG


def test_file_longer_than_its_limit_is_refused_before_a_byte_is_written(device: Fetcher, tmp_path: Path) -> None:
    assert download(device, http.files({"/f": IMAGE}), tmp_path / "f", len(IMAGE) - 1).code == wire.TOO_LONG
    assert not (tmp_path / "f").exists()
    assert download(device, http.files({"/f": IMAGE}), tmp_path / "f", len(IMAGE)).value == len(IMAGE)


def test_file_that_grew_over_its_limit_meanwhile_is_removed(device: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(IMAGE[:40_000])
    assert download(device, http.files({"/f": IMAGE}), tmp_path / "f", 45_000).code == wire.TOO_LONG
    assert not (tmp_path / "f").exists()


def test_what_lies_there_longer_than_the_limit_is_not_resumed(device: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(2000))
    with Server(http.files({"/f": IMAGE[:1000]})) as server:
        assert device.download(server.origin + "/f", tmp_path / "f", 1500).value == 1000
    assert [request.start for request in server.requests] == [None]


@pytest.mark.parametrize("more", [b"x", b"x" * 5000])
def test_server_that_sends_more_than_it_said_is_refused(device: Fetcher, more: bytes, tmp_path: Path) -> None:
    script = http.say(answer("200 OK", IMAGE[:3000]) + more)
    assert get(device, script).code == wire.TOO_LONG
    assert download(device, script, tmp_path / "f").code == wire.TOO_LONG
    assert not (tmp_path / "f").exists()


def test_server_that_sends_more_than_it_said_within_the_first_read_is_refused(device: Fetcher, tmp_path: Path) -> None:
    script = http.say(answer("200 OK", b"ab", length=1))
    assert get(device, script).code == wire.TOO_LONG
    assert download(device, script, tmp_path / "f").code == wire.TOO_LONG


@pytest.mark.parametrize("length", [513, 4096])
def test_server_that_sends_less_than_it_said_is_refused(device: Fetcher, length: int, tmp_path: Path) -> None:
    assert get(device, http.say(answer("200 OK", SMALL, length=length))).code == wire.UNREACHABLE
    outcome = download(device, http.say(answer("200 OK", SMALL, length=length)), tmp_path / "f")
    assert outcome.code == wire.UNREACHABLE
    assert (tmp_path / "f").read_bytes() == SMALL, "what came is kept for the next attempt"


@pytest.mark.parametrize(
    "length",
    ["-1", "-0", "+5", "5 ", "0x5", "5e0", "5.0", "5,5", "5, 5", "٥", "five", "NaN", "", " ", "1_0", "5;5", '"5"'],
)
def test_content_length_that_is_no_plain_number_is_refused(device: Fetcher, length: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()
    outcome = get(device, http.say(head + b"abcde"))
    if length.strip() == "5":
        assert outcome.value == b"abcde"  # white space around a value is HTTP's own
    else:
        assert outcome.code == wire.HTTP_MALFORMED


@pytest.mark.parametrize("length", ["4097", "999999999", "9999999999", str(1 << 32), str(1 << 64), "9" * 1000])
def test_huge_content_length_is_refused_before_a_byte_of_the_body(device: Fetcher, length: str, tmp_path: Path) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()
    outcome = get(device, http.endless(head, b"x" * 1000))
    assert outcome.code in (wire.TOO_LONG, wire.HTTP_MALFORMED)
    assert outcome.took_ms < 1000
    if int(length) > 1 << 20:
        assert download(device, http.endless(head, b"x" * 1000), tmp_path / "f").code == outcome.code
        assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("second", ["512", "511", "0"])
def test_two_content_lengths_are_refused(device: Fetcher, second: str) -> None:
    response = answer("200 OK", SMALL, f"content-length: {second}")
    assert get(device, http.say(response)).code == wire.HTTP_MALFORMED


def test_no_content_length_is_refused(device: Fetcher) -> None:
    assert get(device, http.say(answer("200 OK", SMALL, length=""))).code == wire.HTTP_MALFORMED


@pytest.mark.parametrize("coding", ["chunked", "gzip, chunked", "identity", "Chunked", "xchunked"])
def test_transfer_encoding_is_refused_with_and_without_a_length(device: Fetcher, coding: str) -> None:
    body = b"3\r\nabc\r\n0\r\n\r\n"
    for length in ("", None):
        response = answer("200 OK", body, f"Transfer-Encoding: {coding}", length=length)
        assert get(device, http.say(response)).code == wire.HTTP_MALFORMED


def test_encoded_content_is_refused(device: Fetcher) -> None:
    assert get(device, http.say(answer("200 OK", SMALL, "Content-Encoding: gzip"))).code == wire.HTTP_MALFORMED
    assert get(device, http.say(answer("200 OK", SMALL, "Content-Encoding: identity"))).value == SMALL


# --- heads


def padded(length: int) -> bytes:
    """A response without a body whose head is so long."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: "
    return head + b"y" * (length - len(head) - 4) + b"\r\n\r\n"


def test_head_of_two_kilobytes_is_taken_and_a_longer_one_refused(device: Fetcher) -> None:
    assert get(device, http.say(padded(2048))).value == b""
    assert get(device, http.say(padded(2049))).code == wire.HTTP_MALFORMED


@pytest.mark.parametrize(
    "script",
    [
        http.endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        http.endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 100),
        http.endless(b"HTTP/1.1 200 ", b"O" * 100),
        http.endless(b"", b"HTTP/1.1 "),
        http.endless(b"HTTP/1.1 200 OK\r\n", b"\n"),
    ],
)
def test_endless_head_is_refused(device: Fetcher, script: http.Script) -> None:
    outcome = get(device, script)
    assert outcome.code == wire.HTTP_MALFORMED
    assert outcome.took_ms < 1000


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 5000,
        b"hello\r\n\r\n",
        b"HTTP\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 \r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 -20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n",
        b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n" + b"x" * 3000,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
    ],
)
def test_garbage_in_place_of_http_is_refused(device: Fetcher, garbage: bytes) -> None:
    assert get(device, http.say(garbage)).code == wire.HTTP_MALFORMED


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length : 5",  # some read it, some skip it
        b" Content-Length: 5",  # a continuation of the line before
        b"X: y\r\n folded: z\r\nContent-Length: 5",
        b"X: y\r\n\tfolded\r\nContent-Length: 5",
        b"X: y\nContent-Length: 7\r\nContent-Length: 5",  # one header to some, two to others
        b"X: y\rContent-Length: 7\r\nContent-Length: 5",
        b"X: y\n\nContent-Length: 5",
        b"Content-Length: 5\nX: y",
        b"no colon\r\nContent-Length: 5",
        b": no name\r\nContent-Length: 5",
        b"Content-Length: 5\r\nX(y): z",
        b"Content-Length: 5\r\n\x00X: y",
        b"Content-Length: 5\r\nX\xff: y",
        b"Content\x00-Length: 5",
        b"Content-Length: 5\x00",
        b"Content-Length: 5\r\nX: y\r\nContent-Length: 7",
    ],
)
def test_header_that_is_read_in_two_ways_is_refused(device: Fetcher, lines: bytes) -> None:
    assert get(device, http.say(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\nabcde")).code == wire.HTTP_MALFORMED


@pytest.mark.parametrize("status", [100, 101, 204, 300, 301, 302, 303, 304, 307, 308, 401, 403, 404, 410, 500, 503])
def test_other_statuses_end_the_request_and_are_told(device: Fetcher, status: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(IMAGE[:10])
    for body, length in ((b"x" * 10, None), (b"5\r\nhello\r\n0\r\n\r\n", "")):
        script = http.say(answer(f"{status} Whatever", body, "Transfer-Encoding: chunked", length=length))
        for outcome in (get(device, script), download(device, script, tmp_path / "f")):
            assert (outcome.code, outcome.status) == (wire.HTTP_STATUS, status)
    assert (tmp_path / "f").read_bytes() == IMAGE[:10]


@pytest.mark.parametrize("at", [0, 1, 5, 12, 20])
def test_connection_that_ends_within_the_head_is_refused(device: Fetcher, at: int) -> None:
    assert get(device, http.say(answer("200 OK", SMALL)[:at])).code == wire.UNREACHABLE


# --- reaching a server


def test_port_without_a_server_is_unreachable(device: Fetcher, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/m"
        assert device.get(url).code == wire.UNREACHABLE
        (tmp_path / "f").write_bytes(b"x")
        assert device.download(url, tmp_path / "f").code == wire.UNREACHABLE
        assert (tmp_path / "f").read_bytes() == b"x"


def test_name_that_does_not_resolve_is_unreachable(device: Fetcher) -> None:
    assert device.get("http://no-such-host.invalid:8000/m").code == wire.UNREACHABLE


def test_name_is_resolved(device: Fetcher) -> None:
    with Server(http.files({"/m": SMALL})) as server:
        assert device.get(f"http://localhost:{server.port}/m").value == SMALL
    assert server.requests[0].headers["host"] == f"localhost:{server.port}"


def test_reset_in_the_middle_of_a_file_keeps_what_came(device: Fetcher, tmp_path: Path) -> None:
    def script(peer: Peer, request: Request) -> None:
        peer.send(answer("200 OK", IMAGE)[:30_000])
        time.sleep(0.3)
        peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        peer.connection.close()

    assert download(device, script, tmp_path / "f").code == wire.UNREACHABLE
    kept = (tmp_path / "f").read_bytes()
    assert len(kept) > 20_000
    assert IMAGE.startswith(kept)
    assert download(device, http.files({"/f": IMAGE}), tmp_path / "f").value == len(IMAGE)
    assert (tmp_path / "f").read_bytes() == IMAGE


def test_url_that_may_not_be_fetched_opens_no_connection(device: Fetcher, tmp_path: Path) -> None:
    with Server(http.files({"/m": SMALL})) as server:
        for url in (f"{server.origin}/../m", f"{server.origin}/m?x", f"http://localhost:{server.port}/m", "m", ""):
            for outcome in (
                device.get(url, origins=[server.origin]),
                device.download(url, tmp_path / "f", origins=[server.origin]),
            ):
                assert outcome.code == wire.HOST_REFUSED
    assert server.connections == 0


# --- time


def test_server_that_is_silent_after_accept_is_left(device: Fetcher) -> None:
    def script(peer: Peer, request: Request) -> None:
        peer.silence()

    with Server(script, read=False) as server:
        outcome = device.get(server.origin + "/m")
    assert outcome.code == wire.TIME_OUT
    assert 800 <= outcome.took_ms < 2500


def test_server_that_never_accepts_is_left(device: Fetcher) -> None:
    # the kernel accepts for it: a full backlog then answers nothing
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        taken = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            taken.append(client)
        time.sleep(0.1)
        outcome = device.get(f"http://127.0.0.1:{listener.getsockname()[1]}/m")
        for client in taken:
            client.close()
    assert outcome.code == wire.TIME_OUT
    assert outcome.took_ms < 2500


@pytest.mark.parametrize("after", [0, 9, 30, 45])
def test_server_that_falls_silent_is_left(device: Fetcher, after: int, tmp_path: Path) -> None:
    response = answer("200 OK", SMALL)
    outcome = get(device, http.say_and_stay(response[: max(after, len(response) - 10) if after == 45 else after]))
    assert outcome.code == wire.TIME_OUT
    assert 800 <= outcome.took_ms < 2500


def test_file_of_a_server_that_falls_silent_goes_on_later(device: Fetcher, tmp_path: Path) -> None:
    outcome = download(device, http.say_and_stay(answer("200 OK", IMAGE)[:25_000]), tmp_path / "f")
    assert outcome.code == wire.TIME_OUT
    kept = (tmp_path / "f").stat().st_size
    assert 24_000 < kept < 25_000
    assert download(device, http.files({"/f": IMAGE}), tmp_path / "f").value == len(IMAGE)
    assert hashlib.sha256((tmp_path / "f").read_bytes()).digest() == hashlib.sha256(IMAGE).digest()


def test_slow_body_is_refused_although_it_never_pauses(device: Fetcher, tmp_path: Path) -> None:
    script = http.dripping(answer("200 OK", b"", length=len(IMAGE)), IMAGE, 0.05)  # 20 bytes a second
    outcome = download(device, script, tmp_path / "f")
    assert outcome.code == wire.TOO_SLOW
    assert 1200 <= outcome.took_ms < 3000
    kept = (tmp_path / "f").read_bytes()
    assert len(kept) >= 10
    assert IMAGE.startswith(kept)


def test_slow_head_is_refused(device: Fetcher) -> None:
    assert get(device, http.dripping(b"", padded(2000), 0.05)).code == wire.TOO_SLOW


def test_server_that_is_fast_at_first_and_slow_then_is_refused(device: Fetcher, tmp_path: Path) -> None:
    head = answer("200 OK", IMAGE)[:40_000]
    outcome = download(device, http.dripping(head, b"x" * 10_000, 0.05), tmp_path / "f")
    assert outcome.code == wire.TOO_SLOW


def test_speed_above_the_floor_is_fast_enough(device: Fetcher, tmp_path: Path) -> None:
    body = IMAGE[:300]
    script = http.dripping(answer("200 OK", b"", length=300), body, 0.1, 10)  # 100 bytes a second
    outcome = download(device, script, tmp_path / "f")
    assert outcome.value == 300
    assert outcome.took_ms > 2500


@pytest.mark.parametrize("kind", ["get", "download"])
def test_whole_fetch_has_a_limit_on_time(device: Fetcher, kind: str, tmp_path: Path) -> None:
    limits = {"get_ms": 1000, "download_ms": 1000, "window_ms": 60_000, "silence_ms": 60_000}
    script = http.dripping(answer("200 OK", b"", length=4000), IMAGE[:4000], 0.02)
    outcome = get(device, script, **limits) if kind == "get" else download(device, script, tmp_path / "f", **limits)
    assert outcome.code == wire.TIME_OUT
    assert 1000 <= outcome.took_ms < 2000


def test_limit_on_time_covers_starting_anew(device: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10)

    def script(peer: Peer, request: Request) -> None:
        if peer.stopping.wait(0.7):
            return
        peer.send(answer("416 No") if request.start else answer("200 OK", SMALL))

    assert download(device, script, tmp_path / "f", download_ms=1100).code == wire.TIME_OUT


def test_watchdog_is_fed_while_nothing_comes(device: Fetcher, tmp_path: Path) -> None:
    def silent(peer: Peer, request: Request) -> None:
        peer.silence()

    slow = http.dripping(answer("200 OK", b"", length=len(IMAGE)), IMAGE, 0.05)
    fast = http.files({"/f": IMAGE})
    for script in (silent, slow, fast):
        outcome = download(device, script, tmp_path / "f", silence_ms=2000)
        assert outcome.longest_ms < 1000


def test_ticks_may_wrap_in_the_middle_of_a_fetch(device: Fetcher) -> None:
    # the ESP32's ticks have 30 bits; here they jump from the last to the first after each reading
    device.micropython.run("""
period = time.ticks_add(0, -1) + 1
class Clock:
    def __init__(self, start, step):
        self.now, self.step = start, step
    def __call__(self):
        self.now = (self.now + self.step) % period
        return self.now
def paced(start, step, **limits):
    clock = Clock(start, step)
    source = Source([origin], now_ms=clock, limits=Limits(**limits))
    try:
        return source.get(origin + '/m', 4096)
    except FetchError as error:
        return error.code
""")
    with Server(http.files({"/m": SMALL})) as server:
        device.micropython.run(f"origin = {server.origin!r}")
        for before in range(1, 12):
            assert device.micropython.call(f"paced(period - {before}, 1)") == SMALL
    with Server(http.say_and_stay(b"HTTP/1.1")) as server:
        device.micropython.run(f"origin = {server.origin!r}")
        for steps in (2, 7, 8):  # while it connects, and while it waits
            outcome = device.micropython.call(f"paced(period - {400 * steps - 200}, 400, silence_ms=2000)")
            assert outcome == wire.TIME_OUT


# --- a file that is read as it comes


def come(device: Fetcher, script: http.Script, at: int = 0, limit: int = 1 << 20, **options: int) -> Outcome:
    with Server(script) as server:
        return device.come(server.origin + "/f", at, limit, **options)


@pytest.mark.parametrize("at", [0, 1, 1023, 1024, 1025, 49_999])
def test_file_is_read_from_any_byte_on(device: Fetcher, at: int) -> None:
    with Server(http.files({"/f": IMAGE})) as server:
        outcome = device.come(server.origin + "/f", at)
    assert outcome.value == (at, len(IMAGE), IMAGE[at:], True)
    assert [request.headers.get("range") for request in server.requests] == [f"bytes={at}-" if at else None]


def test_empty_file_ends_at_once(device: Fetcher) -> None:
    assert come(device, http.files({"/f": b""})).value == (0, 0, b"", True)


def test_server_that_does_not_go_on_is_read_from_the_beginning(device: Fetcher) -> None:
    assert come(device, http.files({"/f": IMAGE}, ranges=False), 4000).value == (0, len(IMAGE), IMAGE, True)
    assert come(device, http.files({"/f": IMAGE}), len(IMAGE)).value == (0, len(IMAGE), IMAGE, True)  # 416

    def elsewhere(peer: Peer, request: Request) -> None:
        if request.start is None:
            peer.send(answer("200 OK", SMALL))
        else:
            peer.send(answer("206 Partial Content", SMALL, "Content-Range: bytes 0-511/512"))

    assert come(device, elsewhere, 400).value == (0, 512, SMALL, True)


def test_server_that_always_answers_another_range_gets_one_restart(device: Fetcher) -> None:
    script = http.say(answer("206 Partial Content", b"abc", "Content-Range: bytes 1-3/4"))
    with Server(script) as server:
        assert device.come(server.origin + "/f", 10).code == wire.HTTP_STATUS
    assert server.connections == 2


def test_part_of_a_file_is_not_all_of_it(device: Fetcher) -> None:
    assert come(device, http.files({"/f": IMAGE}), count=5000).value == (0, 5000, IMAGE[:5000], False)


def test_connection_that_breaks_off_while_it_is_read_is_told(device: Fetcher) -> None:
    assert come(device, http.files({"/f": IMAGE}, drop_after=30_000)).code == wire.UNREACHABLE


@pytest.mark.parametrize(("at", "limit"), [(0, 49_999), (100, 49_999)])
def test_file_over_the_limit_is_not_begun(device: Fetcher, at: int, limit: int) -> None:
    assert come(device, http.files({"/f": IMAGE}), at, limit).code == wire.TOO_LONG
    assert come(device, http.files({"/f": IMAGE}), at, limit + 1).code == 0


def test_more_than_was_announced_is_refused(device: Fetcher) -> None:
    for body in (SMALL, IMAGE):
        head = answer("200 OK", b"", length=len(body))
        assert come(device, http.say(head + body + b"more")).code == wire.TOO_LONG


def test_sections_come_inflated_with_the_place_behind_each(device: Fetcher) -> None:
    plain = (IMAGE[:3000] + bytes(3000)) * 4
    pieces = [patch.deflate(plain[at : at + 6144]) for at in range(0, len(plain), 6144)]
    whole = b"".join(pieces)
    with Server(http.files({"/f": whole})) as server:
        url = server.origin + "/f"
        for number in range(len(pieces)):
            at = sum(map(len, pieces[:number]))
            rest = plain[6144 * number :]
            assert device.come(url, at, inflated=len(rest)).value == (at, len(whole), rest, True)
            # read to the end of a section, it stands right behind it
            outcome = device.come(url, at, inflated=min(6144, len(rest)))
            assert outcome.value[1] == at + len(pieces[number])


def test_bytes_that_are_no_sections_are_refused(device: Fetcher) -> None:
    for served in (b"\xff" * 40, patch.deflate(b"x" * 600)[:-1], patch.deflate(b"x" * 600) + b"\xff" * 40):
        assert come(device, http.files({"/f": served}), inflated=1200).code == wire.BAD_STREAM


def test_silence_and_slowness_end_it_as_they_end_a_download(device: Fetcher) -> None:
    def silent(peer: Peer, request: Request) -> None:
        peer.send(answer("200 OK", b"", length=50_000) + IMAGE[:5000])
        peer.silence()

    outcome = come(device, silent)
    assert outcome.code == wire.TIME_OUT and outcome.longest_ms < 1000
    outcome = come(device, http.dripping(answer("200 OK", b"", length=50_000), IMAGE, 0.05))
    assert outcome.code == wire.TOO_SLOW and outcome.longest_ms < 1000
    script = http.dripping(answer("200 OK", b"", length=4000), IMAGE[:4000], 0.02)
    outcome = come(device, script, download_ms=1000, window_ms=60_000, silence_ms=60_000)
    assert outcome.code == wire.TIME_OUT and 1000 <= outcome.took_ms < 2000


def test_time_that_the_device_spends_on_what_came_is_no_slowness_of_the_server(device: Fetcher) -> None:
    # 20 pieces of 512 zeros are very few bytes on the way; each takes the device 0.1 s
    served = b"".join(patch.deflate(bytes(512)) for _ in range(20)) + patch.deflate(IMAGE[:3000])
    outcome = come(device, http.files({"/f": served}), inflated=20 * 512 + 3000, busy_ms=100, window_ms=500, rate=2000)
    assert outcome.value[3] and outcome.took_ms > 2000
    # but it counts for the whole
    outcome = come(device, http.files({"/f": served}), inflated=20 * 512 + 3000, busy_ms=100, download_ms=1000)
    assert outcome.code == wire.TIME_OUT


# --- flash and RAM

FULL_FLASH = """
import os, vfs
class Ram:
    def __init__(self, blocks):
        self.data = bytearray(blocks * 512)
    def readblocks(self, n, buffer, offset=0):
        at = n * 512 + offset
        buffer[:] = memoryview(self.data)[at : at + len(buffer)]
    def writeblocks(self, n, buffer, offset=None):
        at = n * 512 + (offset or 0)
        self.data[at : at + len(buffer)] = buffer
    def ioctl(self, op, arg):
        if op == 4:
            return len(self.data) // 512
        if op == 5:
            return 512
        if op == 6:
            return 0
def mount(blocks):
    ram = Ram(blocks)
    vfs.VfsLfs2.mkfs(ram)
    vfs.mount(vfs.VfsLfs2(ram), '/flash')
"""


def test_full_flash_is_told_and_given_back(device: Fetcher) -> None:
    device.micropython.run(FULL_FLASH + "mount(64)")
    try:
        device.micropython.run("before = os.statvfs('/flash')[3]")
        with Server(http.files({"/f": IMAGE})) as server:
            assert device.download(server.origin + "/f", "/flash/f").code == wire.FLASH_FAILED
        assert device.micropython.call("os.listdir('/flash')") == []
        assert device.micropython.call("os.statvfs('/flash')[3] >= before - 1")
    finally:
        device.micropython.run("vfs.umount('/flash')")


def test_folder_that_is_not_there_is_told(device: Fetcher, tmp_path: Path) -> None:
    assert download(device, http.files({"/f": IMAGE}), tmp_path / "none" / "f").code == wire.FLASH_FAILED


def test_each_block_is_on_flash_before_the_next_is_asked_for(device: Fetcher, tmp_path: Path) -> None:
    """What a power cut leaves: all but the block in work."""
    seen: list[int] = []

    def script(peer: Peer, request: Request) -> None:
        peer.send(answer("200 OK", b"", length=len(IMAGE)))
        for at in range(0, len(IMAGE), 4096):
            peer.send(IMAGE[at : at + 4096])
            time.sleep(0.05)
            seen.append((tmp_path / "f").stat().st_size)

    assert download(device, script, tmp_path / "f").value == len(IMAGE)
    assert seen == [min(at + 4096, len(IMAGE)) for at in range(0, len(IMAGE), 4096)]


@pytest.mark.parametrize("kind", ["get", "download", "open"])
def test_fetch_fits_a_small_heap(kind: str, tmp_path: Path) -> None:
    """Peak of what a fetch takes beside its buffer of 4 KiB, the modules loaded; on a 64-bit interpreter."""
    with Fetcher(heap="64wK") as device, Server(http.files({"/f": IMAGE, "/m": IMAGE[:4096]})) as server:
        device.micropython.run(f"""
gc.collect()
base = gc.mem_alloc()
peak = 0
def feed():
    global peak
    gc.collect()
    peak = max(peak, gc.mem_alloc() - base)
source = Source([{server.origin!r}], feed=feed)
""")
        if kind == "get":
            assert device.micropython.call(f"source.get({server.origin + '/m'!r}, 4096)") == IMAGE[:4096]
        elif kind == "download":
            path = str(tmp_path / "f")
            assert device.micropython.call(f"source.download({server.origin + '/f'!r}, {path!r}, 1 << 20)") == 50_000
        else:
            device.micropython.run(f"body = source.open({server.origin + '/f'!r}, 0, 1 << 20)\nbyte = bytearray(1)")
            device.micropython.run("while body.readinto(byte): pass")
            assert device.micropython.call("body.tell()") == 50_000
        peak = device.micropython.call("peak")
    print(f"{kind}: {peak} bytes at most, the buffer of 4096 included")
    assert peak < 4096 + 4096
