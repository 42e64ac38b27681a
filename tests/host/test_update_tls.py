"""Fetching over TLS, on MicroPython: provisioned CA, server's name and time decide before anything is asked."""

import contextlib
import datetime
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sealwire import update as wire
from tests.support import hostile_http as http
from tests.support.authority import DAY, Authority, Names
from tests.support.fetcher import Fetcher
from tests.support.hostile_http import Peer, Request, Server, answer

DOCUMENT = bytes(range(256))
IMAGE = bytes(range(251)) * 160  # more than two TLS records


@pytest.fixture(scope="module")
def device() -> Iterator[Fetcher]:
    with Fetcher() as fetcher:
        yield fetcher


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


Present = Callable[..., ssl.SSLContext]


@pytest.fixture
def present(tmp_path: Path, authority: Authority) -> Present:
    """A server's context that shows a certificate of this authority, for these names."""

    def context(
        names: Names = ("127.0.0.1", "localhost"),
        by: Authority = authority,
        common_name: str = "server",
        chain: tuple[x509.Certificate, ...] = (),
        certificate: x509.Certificate | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        **terms: object,
    ) -> ssl.SSLContext:
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        if certificate is None:
            certificate = by.sign(key.public_key(), subject, names=names, **terms)  # type: ignore[arg-type]
        path = tmp_path / "server.pem"
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + b"".join(one.public_bytes(Encoding.PEM) for one in (certificate, *chain))
        )
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(path)
        return made

    return context


def refuses(device: Fetcher, context: ssl.SSLContext, ca: bytes | None, host: str = "127.0.0.1") -> bool:
    """Whether the device ends the handshake, and asks for nothing."""
    with Server(http.files({"/m": DOCUMENT}), tls=context) as server:
        outcome = device.get(f"https://{host}:{server.port}/m", ca=ca)
        assert outcome.took_ms < 3000
    assert server.requests == []
    assert outcome.value is None
    return outcome.code == wire.TLS_REFUSED


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_server_with_a_certificate_of_the_provisioned_ca_is_taken(
    device: Fetcher, authority: Authority, present: Present, host: str, tmp_path: Path
) -> None:
    with Server(http.files({"/m": DOCUMENT, "/f": IMAGE}), tls=present()) as server:
        origin = f"https://{host}:{server.port}"
        assert device.get(f"{origin}/m", ca=authority.der).value == DOCUMENT
        (tmp_path / "f").write_bytes(IMAGE[:5000])
        assert device.download(f"{origin}/f", tmp_path / "f", ca=authority.der).value == len(IMAGE)
    assert (tmp_path / "f").read_bytes() == IMAGE
    assert server.refusals == []


def test_certificate_through_an_intermediate_is_taken(device: Fetcher, authority: Authority, present: Present) -> None:
    between = Authority("between")
    link = authority.sign(between.key.public_key(), between.name, ca=True)
    with Server(http.files({"/m": DOCUMENT}), tls=present(by=between, chain=(link,))) as server:
        assert device.get(server.origin + "/m", ca=authority.der).value == DOCUMENT


def test_connection_is_tls_1_2_or_later(device: Fetcher, authority: Authority, present: Present) -> None:
    versions: list[str | None] = []

    def script(peer: Peer, request: Request) -> None:
        assert isinstance(peer.connection, ssl.SSLSocket)
        versions.append(peer.connection.version())
        peer.send(answer("200 OK", DOCUMENT))

    with Server(script, tls=present()) as server:
        assert device.get(server.origin + "/m", ca=authority.der).value == DOCUMENT
    assert versions[0] in ("TLSv1.2", "TLSv1.3")


def test_server_of_another_ca_is_refused(device: Fetcher, authority: Authority, present: Present) -> None:
    assert refuses(device, present(by=Authority("others")), authority.der)


def test_server_of_another_ca_of_the_same_name_is_refused(
    device: Fetcher, authority: Authority, present: Present
) -> None:
    assert refuses(device, present(by=Authority("updates")), authority.der)


@pytest.mark.parametrize(
    "names",
    [
        ("example.org",),
        ("127.0.0.2",),
        ("localhost",),
        ("127.0.0.1.example.org", "*.example.org", "*"),
    ],
)
def test_certificate_for_another_name_is_refused(
    device: Fetcher, authority: Authority, present: Present, names: Names
) -> None:
    assert refuses(device, present(names), authority.der)


@pytest.mark.parametrize("names", [("127.0.0.1",), ("localhost.example.org",), ("*.localhost", "ocalhost")])
def test_certificate_for_another_name_is_refused_for_a_host_name(
    device: Fetcher, authority: Authority, present: Present, names: Names
) -> None:
    assert refuses(device, present(names), authority.der, "localhost")


def test_common_name_does_not_count_where_alternative_names_are(
    device: Fetcher, authority: Authority, present: Present
) -> None:
    assert refuses(device, present(("example.org",), common_name="localhost"), authority.der, "localhost")


def test_expired_certificate_is_refused(device: Fetcher, authority: Authority, present: Present) -> None:
    assert refuses(device, present(begins=-3 * DAY, ends=-2 * DAY), authority.der)
    assert refuses(device, present(begins=-DAY, ends=datetime.timedelta(seconds=-2)), authority.der)


def test_certificate_of_the_future_is_refused(device: Fetcher, authority: Authority, present: Present) -> None:
    assert refuses(device, present(begins=DAY, ends=3 * DAY), authority.der)


def test_self_signed_certificate_is_refused(device: Fetcher, authority: Authority, present: Present) -> None:
    lone = Authority("server")
    certificate = lone.sign(lone.key.public_key(), lone.name, names=("127.0.0.1", "localhost"))
    assert refuses(device, present(certificate=certificate, key=lone.key), authority.der)
    assert refuses(device, present(certificate=lone.certificate, key=lone.key), authority.der)


def test_certificate_signed_by_one_that_is_no_ca_is_refused(
    device: Fetcher, authority: Authority, present: Present
) -> None:
    """Whoever has any certificate of the CA could otherwise make one for our name."""
    middle = Authority("customer")
    link = authority.sign(middle.key.public_key(), middle.name, names=("customer.example",))
    assert refuses(device, present(by=middle, chain=(link,)), authority.der)


def test_certificate_for_clients_is_refused(device: Fetcher, authority: Authority, present: Present) -> None:
    assert refuses(device, present(usage=ExtendedKeyUsageOID.CLIENT_AUTH), authority.der)


def test_certificate_that_was_changed_is_refused(device: Fetcher, authority: Authority, present: Present) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    good = authority.sign(key.public_key(), subject, names=("example.org",)).public_bytes(Encoding.DER)
    forged = x509.load_der_x509_certificate(good.replace(b"example.org", b"localhost.."[:11]))
    assert refuses(device, present(certificate=forged, key=key), authority.der)


@pytest.mark.parametrize("ca", [None, b"", b"\x30\x03\x02\x01\x00", b"-----BEGIN CERTIFICATE-----\n"])
def test_https_without_a_ca_is_refused(device: Fetcher, present: Present, ca: bytes | None) -> None:
    assert refuses(device, present(), ca)


@pytest.mark.parametrize(
    "said",
    [
        answer("400 Bad Request", b"this is a TLS port"),
        answer("200 OK", DOCUMENT),
        b"\x00" * 100,
        b"\x15\x03\x03\x00\x02\x02\x28",  # an alert: handshake failure
        b"\x16\x03\x03\xff\xff" + b"x" * 70_000,  # a record longer than there is
    ],
)
def test_server_that_speaks_no_tls_is_refused(device: Fetcher, authority: Authority, said: bytes) -> None:
    with Server(http.say_and_stay(said), read=False) as server:
        outcome = device.get(f"https://127.0.0.1:{server.port}/m", ca=authority.der)
    assert outcome.code == wire.TLS_REFUSED


def test_plain_http_server_on_the_tls_port_is_refused(device: Fetcher, authority: Authority) -> None:
    def script(peer: Peer, request: Request) -> None:
        peer.connection.recv(4096)
        peer.send(answer("400 Bad Request"))
        time.sleep(0.2)

    with Server(script, read=False) as server:
        outcome = device.get(f"https://127.0.0.1:{server.port}/m", ca=authority.der)
    assert outcome.code == wire.TLS_REFUSED


def test_server_that_closes_within_the_handshake_is_refused(device: Fetcher, authority: Authority) -> None:
    def script(peer: Peer, request: Request) -> None:
        peer.connection.recv(4096)

    with Server(script, read=False) as server:
        outcome = device.get(f"https://127.0.0.1:{server.port}/m", ca=authority.der)
    assert outcome.code == wire.TLS_REFUSED


def test_silence_within_the_handshake_is_left(device: Fetcher, authority: Authority) -> None:
    def script(peer: Peer, request: Request) -> None:
        peer.silence()

    with Server(script, read=False) as server:
        outcome = device.get(f"https://127.0.0.1:{server.port}/m", ca=authority.der)
    assert outcome.code == wire.TIME_OUT
    assert 800 <= outcome.took_ms < 2500
    assert outcome.longest_ms < 1000


def test_handshake_a_byte_at_a_time_is_left(device: Fetcher, authority: Authority) -> None:
    def script(peer: Peer, request: Request) -> None:
        peer.drip(b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc" * 1000, 0.02)

    with Server(script, read=False) as server:
        outcome = device.get(f"https://127.0.0.1:{server.port}/m", ca=authority.der)
    assert outcome.code == wire.TIME_OUT
    assert outcome.took_ms < 2500
    assert outcome.longest_ms < 1000


def test_silence_and_slowness_after_the_handshake_are_left(
    device: Fetcher, authority: Authority, present: Present, tmp_path: Path
) -> None:
    def silent(peer: Peer, request: Request) -> None:
        peer.silence()

    for script, code in (
        (silent, wire.TIME_OUT),
        (http.dripping(answer("200 OK", b"", length=5000), IMAGE, 0.05), wire.TOO_SLOW),
        (http.endless(answer("200 OK", b"", length=5000), b"x" * 100), wire.TOO_LONG),
        (http.endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), wire.HTTP_MALFORMED),
    ):
        with Server(script, tls=present()) as server:
            assert device.download(server.origin + "/f", tmp_path / "f", ca=authority.der).code == code


@pytest.mark.parametrize("farewell", [True, False])
def test_connection_dropped_with_and_without_a_farewell_is_resumed(
    device: Fetcher, authority: Authority, present: Present, farewell: bool, tmp_path: Path
) -> None:
    """Cutting a TLS connection short is no way to a short file: the length was said before."""

    def script(peer: Peer, request: Request) -> None:
        http.files({"/f": IMAGE}, drop_after=15_000)(peer, request)
        if farewell:
            assert isinstance(peer.connection, ssl.SSLSocket)
            peer.connection.settimeout(0.05)  # the answer to it need not come
            with contextlib.suppress(OSError):
                peer.connection.unwrap()

    codes: list[int] = []
    with Server(script, tls=present()) as server:
        while 0 not in codes and len(codes) < 5:
            codes.append(device.download(server.origin + "/f", tmp_path / "f", ca=authority.der).code)
    assert codes == [wire.UNREACHABLE, wire.UNREACHABLE, 0]
    assert (tmp_path / "f").read_bytes() == IMAGE


def test_many_refused_handshakes_leave_no_socket_open(device: Fetcher, authority: Authority, present: Present) -> None:
    other = Authority("others")
    with Server(http.files({"/m": DOCUMENT}), tls=present()) as server:
        url = server.origin + "/m"
        device.micropython.run("import os")
        before = len(device.micropython.call("[e[0] for e in os.ilistdir('/proc/self/fd')]"))
        for _ in range(10):
            assert device.get(url, ca=other.der).code == wire.TLS_REFUSED
            assert device.get(url, ca=authority.der).value == DOCUMENT
        assert len(device.micropython.call("[e[0] for e in os.ilistdir('/proc/self/fd')]")) <= before


def test_fetch_over_tls_fits_a_small_heap(authority: Authority, present: Present, tmp_path: Path) -> None:
    with Fetcher(heap="64wK") as device, Server(http.files({"/f": IMAGE}), tls=present()) as server:
        device.micropython.run(f"""
gc.collect()
base = gc.mem_alloc()
peak = 0
def feed():
    global peak
    gc.collect()
    peak = max(peak, gc.mem_alloc() - base)
source = Source([{server.origin!r}], {authority.der!r}, feed=feed)
""")
        path = str(tmp_path / "f")
        assert device.micropython.call(f"source.download({server.origin + '/f'!r}, {path!r}, 1 << 20)") == len(IMAGE)
        print("download over TLS:", device.micropython.call("peak"), "bytes at most, the buffer of 4096 included")
    assert (tmp_path / "f").read_bytes() == IMAGE
