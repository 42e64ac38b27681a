"""Attacks on the way of an update's bytes, by whoever runs or poses as a server. The device's client on MicroPython."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwire import update as wire
from tests.support import hostile_http as http
from tests.support.fetcher import Fetcher
from tests.support.hostile_http import Peer, Request, Server, answer

DOCUMENT = b"from a server that nobody provisioned"
LIMIT = 20_000


@pytest.fixture(scope="module")
def device() -> Iterator[Fetcher]:
    with Fetcher() as fetcher:
        yield fetcher


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", wire.HTTP_MALFORMED),  # up to the end of the connection, which never comes
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", wire.HTTP_MALFORMED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20001\r\n\r\n", wire.TOO_LONG),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", wire.TOO_LONG),  # and more comes
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", wire.TOO_LONG),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n", wire.HTTP_MALFORMED),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 10-19/20\r\nContent-Length: 10\r\n\r\n", wire.TOO_LONG),
    ],
)
def test_endless_download_is_ended_and_leaves_nothing_over_the_limit(
    device: Fetcher, head: bytes, code: int, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    if b" 206 " in head:
        path.write_bytes(b"x" * 10)
    with Server(http.endless(head, b"x" * 1460)) as server:
        outcome = device.download(server.origin + "/f", path, LIMIT)
    assert outcome.code == code
    assert outcome.took_ms < 2000
    assert not path.exists()


def test_endless_download_in_instalments_is_ended(device: Fetcher, tmp_path: Path) -> None:
    """A server that drops every connection and always has a little more: the file never gets longer than the limit."""
    path = tmp_path / "f"
    longest = 0

    def script(peer: Peer, request: Request) -> None:
        start = request.start or 0
        more = answer("206 Partial Content" if start else "200 OK", b"", length=5000)
        if start:
            content_range = f"Content-Range: bytes {start}-{start + 4999}/{start + 5000}\r\n\r\n".encode()
            more = more[:-2] + content_range
        peer.send(more + b"x" * 4999)

    with Server(script) as server:
        for _ in range(10):
            outcome = device.download(server.origin + "/f", path, LIMIT)
            longest = max(longest, path.stat().st_size if path.exists() else 0)
            if outcome.code == wire.TOO_LONG:
                break
    assert outcome.code == wire.TOO_LONG
    assert 10_000 < longest <= LIMIT
    assert not path.exists()


def test_server_that_always_wants_to_start_anew_gets_one_restart(device: Fetcher, tmp_path: Path) -> None:
    for status in ("416 Range Not Satisfiable", "206 Partial Content"):
        path = tmp_path / "f"
        path.write_bytes(b"x" * 10)
        with Server(http.say(answer(status, b"abc", "Content-Range: bytes 1-3/4"))) as server:
            assert device.download(server.origin + "/f", path).code == wire.HTTP_STATUS
        assert server.connections == 2


@pytest.mark.parametrize("tail", [b"", b"HTTP/1.1 200 OK\r\n", answer("200 OK", b"", length=10_000)])
def test_slow_drip_server_does_not_hold_the_device(device: Fetcher, tail: bytes, tmp_path: Path) -> None:
    """Whatever stage it drips in, each byte just before the silence would be too long."""

    def script(peer: Peer, request: Request) -> None:
        if peer.send(tail):
            peer.drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000, 0.3)

    with Server(script) as server:
        outcome = device.download(server.origin + "/f", tmp_path / "f", silence_ms=500, window_ms=2000)
    assert outcome.code in (wire.TOO_SLOW, wire.HTTP_MALFORMED)
    assert outcome.took_ms < 4000
    assert outcome.longest_ms < 1000, "the watchdog has to be fed meanwhile"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_to_another_host_is_not_followed(device: Fetcher, status: int, tmp_path: Path) -> None:
    with Server(http.files({"/m": DOCUMENT})) as other:
        for location in (f"{other.origin}/m", f"//127.0.0.1:{other.port}/m", "/m", "http://localhost/m"):
            redirect = answer(f"{status} Moved", b"", f"Location: {location}", f"Refresh: 0; url={location}")
            with Server(http.say(redirect)) as server:
                for outcome in (
                    device.get(server.origin + "/m", origins=[server.origin, other.origin]),
                    device.download(server.origin + "/m", tmp_path / "f", origins=[server.origin]),
                ):
                    assert (outcome.code, outcome.status) == (wire.HTTP_STATUS, status)
            assert server.connections == 2
    assert other.connections == 0
    assert not (tmp_path / "f").exists()


def test_ssrf_bypass_list_reaches_no_other_server(device: Fetcher, tmp_path: Path) -> None:
    """Each URL has the provisioned origin in it, or the other server's address in another spelling."""
    with Server(http.files({"/m": DOCUMENT})) as good, Server(http.files({"/m": DOCUMENT})) as other:
        to, near = f"127.0.0.1:{good.port}", f"127.0.0.1:{other.port}"
        urls = [
            f"http://{near}/m",
            f"http://{to}@{near}/m",
            f"http://{near}@{to}/m",
            f"http://user:{good.port}@{near}/m",
            f"http://{to}\\@{near}/m",
            f"http://{near}\\@{to}/m",
            f"http://{near}#@{to}/m",
            f"http://{near}?@{to}/m",
            f"http://{near}/{to}/../m",
            f"http://{near}/m?http://{to}/",
            f"http://{near}/m#http://{to}/",
            f"http://{near};{to}/m",
            f"http://{near},{to}/m",
            f"http://{near} {to}/m",
            f"http://{near}\t{to}/m",
            f"http://{near}\r\nHost: {to}\r\n/m",
            f"http://{to}\r\nX: /m",
            f"http://{to}/m HTTP/1.1\r\nHost: {near}\r\n\r\nGET /m",
            f"http://{to}/m\r\n\r\nGET /m",
            f"http://{to}/m%0d%0aX:%20y",
            f"http://{to}%00@{near}/m",
            f"http://{to}\x00@{near}/m",
            f"http://[::ffff:127.0.0.1]:{other.port}/m",
            f"http://[::1]:{other.port}/m",
            f"http://[::ffff:7f00:1]:{good.port}/m",
            f"http://2130706433:{other.port}/m",
            f"http://2130706433:{good.port}/m",
            f"http://0x7f000001:{good.port}/m",
            f"http://0x7f.0.0.1:{good.port}/m",
            f"http://0177.0.0.1:{good.port}/m",
            f"http://017700000001:{good.port}/m",
            f"http://127.1:{good.port}/m",
            f"http://127.0.1:{good.port}/m",
            f"http://127.0.0.1.:{good.port}/m",
            f"http://127.0.0.001:{good.port}/m",
            f"http://127.000.000.1:{good.port}/m",
            f"http://127.0.0.2:{other.port}/m",
            f"http://0:{other.port}/m",
            f"http://0.0.0.0:{other.port}/m",
            f"http://localhost:{other.port}/m",
            f"http://localhost:{good.port}/m",
            f"http://LOCALHOST:{good.port}/m",
            f"http://localhost.:{good.port}/m",
            f"http://127.0.0.1.nip.io:{good.port}/m",
            f"http://①②⑦.⓪.⓪.①:{good.port}/m",
            f"http://127。0。0。1:{good.port}/m",
            f"http://١٢٧.0.0.1:{good.port}/m",
            f"http://127.0.0.1:{other.port + 65536}/m",
            f"http://127.0.0.1:0{good.port}/m",
            f"http://127.0.0.1:+{good.port}/m",
            f"http://127.0.0.1: {good.port}/m",
            f"http://127.0.0.1:{good.port}:{other.port}/m",
            "http://127.0.0.1/m",
            "http://127.0.0.1:/m",
            f"https://{to}/m",
            f"HTTP://{to}/m",
            f"ftp://{to}/m",
            f"gopher://{to}/_GET%20/m",
            "file:///etc/hostname",
            f"//{near}/m",
            f"http:///{near}/m",
            f"http:/{near}/m",
            f"http:{near}/m",
            f"http:\\\\{near}\\m",
            f"http://http://{to}/m",
            f"http://{to}/../m",
            f"http://{to}/./m",
            f"http://{to}//m",
            f"http://{to}/%2e%2e/m",
            f" http://{to}/m",
            f"http://{to}/m ",
            f"http://{to}/m\n",
            f"http://{to}",
            "",
        ]
        for url in urls:
            for outcome in (
                device.get(url, origins=[good.origin]),
                device.download(url, tmp_path / "f", origins=[good.origin]),
            ):
                assert outcome.code == wire.HOST_REFUSED, url
        assert other.connections == 0
        assert good.connections == 0
        assert device.get(f"http://{to}/m", origins=[good.origin]).value == DOCUMENT
    print(len(urls), "URLs refused before a name was resolved or a socket opened")
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    "reference",
    [
        "http://127.0.0.1:1/m",
        "//127.0.0.1:1/m",
        "/m",
        "../m",
        "a/../../m",
        "..%2fm",
        "\\\\127.0.0.1:1\\m",
        "@127.0.0.1:1/m",
        "m\r\nHost: evil.example",
        "m?x",
        "",
    ],
)
def test_reference_in_a_manifest_leads_out_of_its_folder_to_nowhere(device: Fetcher, reference: str) -> None:
    device.micropython.run("from sealband.update import address, refused")
    device.micropython.run("""
def joined(url, reference):
    try:
        return address.join(url, reference)
    except refused.UpdateRefused as error:
        return error.code
""")
    url = "http://10.0.0.1:8000/wearable/2/manifest.suit"
    assert device.micropython.call(f"joined({url!r}, {reference!r})") == wire.HOST_REFUSED
