"""The virtual board's Wi-Fi: associations as the ESP32 makes them, and sockets that live only while there is one."""

import contextlib
import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from host_tools.sim import wifi
from host_tools.sim.board import BoardError, VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.wifi import AccessPoint, Station, WifiError
from tests.support.boards import BoardMaker, scripted

HOME = {"ssid": "home", "key": "a long key"}
CONNECT = """
import network, socket, time
wlan = network.WLAN(network.WLAN.IF_STA)
wlan.active(True)
wlan.connect("home", "a long key")
begin = time.ticks_ms()
while not wlan.isconnected():
    time.sleep_ms(50)
"""


class Now:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


class Rig:
    """A station, the only access point, and their time."""

    def __init__(self, key: str = "key", seed: int = 0) -> None:
        self.now = Now()
        self.point = AccessPoint("home", key)
        self.station = Station(self.now, self.point, seed)
        self.station.set_active(True)

    def after(self, seconds: float) -> int:
        self.now.s += seconds
        return self.station.status()


# the station


def test_association_takes_two_to_four_seconds() -> None:
    for seed in range(20):
        rig = Rig(seed=seed)
        rig.station.connect("home", "key")
        assert rig.after(1.99) == wifi.CONNECTING
        assert not rig.station.connected()
        assert rig.after(2.02) == wifi.GOT_IP
        assert rig.station.connected()


def test_wrong_key_and_missing_network_are_told_apart_and_tried_again() -> None:
    rig = Rig()
    rig.station.connect("home", "another key")
    assert rig.after(3.5) == wifi.CONNECTING
    assert rig.after(0.2) == wifi.AUTH_FAIL == 202
    with pytest.raises(WifiError, match="State"):
        rig.station.connect("home", "key")  # the next attempt is going on
    rig.station.disconnect()
    assert rig.after(60) == wifi.IDLE
    rig.station.connect("away", "key")
    assert rig.after(2.5) == wifi.NO_AP_FOUND == 201


def test_station_gives_up_after_its_reconnects() -> None:
    rig = Rig()
    rig.station.reconnects = 1
    rig.point.up = False
    rig.station.connect("home", "key")
    assert rig.after(2.5) == wifi.NO_AP_FOUND
    rig.after(2.5)
    rig.point.up = True
    assert rig.after(60) == wifi.NO_AP_FOUND
    assert not rig.station.connected()


def test_network_that_comes_back_is_joined_again_and_is_another_association() -> None:
    rig = Rig()
    rig.station.connect("home", "key")
    assert rig.after(4.0) == wifi.GOT_IP
    first = rig.station.association
    rig.station.set_range(False)
    assert not rig.station.connected()
    assert rig.station.status() == wifi.CONNECTING
    assert rig.after(3.0) == wifi.NO_AP_FOUND
    rig.station.set_range(True)
    assert rig.after(7.0) == wifi.GOT_IP
    assert rig.station.association == first + 1


def test_radio_that_is_off_does_nothing() -> None:
    rig = Rig()
    rig.station.set_active(False)
    for action in (lambda: rig.station.connect("home", "key"), rig.station.disconnect, rig.station.scan):
        with pytest.raises(WifiError):
            action()
    rig.station.set_active(True)
    rig.station.connect("home", "key")
    assert rig.after(4.0) == wifi.GOT_IP
    rig.station.set_active(False)
    assert not rig.station.connected()


def test_board_without_an_access_point_finds_none() -> None:
    now = Now()
    station = Station(now, None)
    station.set_active(True)
    assert station.scan() == []
    station.connect("home", "key")
    now.s += 3
    assert station.status() == wifi.NO_AP_FOUND


# on the board


@pytest.fixture
def make(tmp_path: Path) -> Iterator[BoardMaker]:
    made: list[VirtualBoard] = []

    def make(main: str = "", **settings: Any) -> VirtualBoard:
        arguments: dict[str, Any] = {"wifi": HOME, "clock": SimClock.start(10)} | settings
        made.append(scripted(tmp_path / f"b{len(made)}", main, **arguments))
        return made[-1]

    yield make
    for board in made:
        board.stop()


@pytest.fixture
def server() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Starts a server that treats each connection so; returns its port."""
    stops: list[Callable[[], None]] = []

    def start(treat: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.1)
        stopping = threading.Event()

        def run() -> None:
            while not stopping.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                connection.settimeout(10)
                with connection:
                    treat(connection)

        thread = threading.Thread(target=run)
        thread.start()

        def stop() -> None:
            stopping.set()
            thread.join()
            listener.close()

        stops.append(stop)
        return int(listener.getsockname()[1])

    yield start
    for stop in stops:
        stop()


class Certificate:
    """A self-signed one for localhost: PEM with its key in `file`, DER in `der`."""

    def __init__(self, file: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.der = certificate.public_bytes(Encoding.DER)
        self.file = file
        file.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + certificate.public_bytes(Encoding.PEM)
        )


def echo(connection: socket.socket) -> None:
    """Send back what comes, up to a line's end."""
    data = b""
    while not data.endswith(b"\n"):
        more = connection.recv(4096)
        if not more:
            return
        data += more
    connection.sendall(data)


def test_wlan_has_the_interface_of_the_esp32(make: BoardMaker) -> None:
    script = """
import network, time
print("numbers", network.STAT_IDLE, network.STAT_CONNECTING, network.STAT_GOT_IP, network.STAT_NO_AP_FOUND,
    network.STAT_WRONG_PASSWORD, network.STAT_BEACON_TIMEOUT, network.STAT_ASSOC_FAIL, network.STAT_HANDSHAKE_TIMEOUT)
wlan = network.WLAN(network.STA_IF)
def said(function, *arguments, **named):
    try:
        return function(*arguments, **named)
    except (OSError, ValueError, RuntimeError) as error:
        return error.args
print("off", wlan.active(), wlan.status(), said(wlan.connect, "home", "x"), said(wlan.scan))
print("on", wlan.active(True), wlan.status(), wlan.isconnected(), wlan.ifconfig()[0])
print("scan", wlan.scan())
wlan.connect("home", "wrong")
print("began", wlan.status(), said(wlan.connect, "home", "a long key"))
time.sleep(4)
print("refused", wlan.status())
wlan.disconnect()
print("left", wlan.status())
wlan.config(reconnects=2)
print("config", wlan.config("reconnects"), wlan.config("mac").hex(), wlan.config("ssid"), said(wlan.config, "nothing"))
wlan.connect("home", "a long key")
time.sleep_ms(4100)
print("joined", wlan.status(), wlan.isconnected(), wlan.ifconfig()[0], wlan.status("rssi"))
print("fresh", network.WLAN().status())
wlan.active(False)
print("end", wlan.isconnected(), wlan.ifconfig()[0], wlan.active())
"""
    with make(script) as board:
        board.wait_for("numbers 1000 1001 1010 201 202 200 203 204")
        board.wait_for("off False 1000 ('Wifi Not Started',) ('STA must be active',)")
        board.wait_for("on True 1000 False 0.0.0.0")
        board.wait_for("scan [(b'home', b'\\x02\\x00\\x00\\x00\\x00\\x01', 6, -58, 3, False)]")
        board.wait_for("began 1001 ('Wifi Internal State Error',)")
        board.wait_for("refused 202")
        board.wait_for("left 1000")
        board.wait_for("config 2 aabbcc112233 home ('unknown config param',)")
        board.wait_for("joined 1010 True 192.168.4.2 -58")
        board.wait_for("fresh 1010")
        board.wait_for("end False 0.0.0.0 False")


def test_reset_ends_the_association(make: BoardMaker) -> None:
    script = CONNECT.replace(
        "wlan.active(True)", "print('at start', wlan.isconnected(), wlan.active())\nwlan.active(True)"
    )
    with make(script + "print('joined')\nimport machine\nif machine.reset_cause() == 1: machine.reset()") as board:
        board.wait_for("joined")
        board.wait_for("at start False False", after=2)


def test_without_an_address_nothing_is_reached(make: BoardMaker, server: Callable[..., int]) -> None:
    port = server(echo)
    script = f"""
import socket
def said(function, *arguments):
    try:
        return function(*arguments)
    except OSError as error:
        return error.args
print("number", said(socket.getaddrinfo, "127.0.0.1", {port}))
print("name", said(socket.getaddrinfo, "localhost", {port}))
s = socket.socket()
print("connect", said(s.connect, ("127.0.0.1", {port})))
print("sendto", said(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto, b"x", ("127.0.0.1", {port})))
"""
    with make(script) as board:
        board.wait_for(f"number [(2, 1, 0, '', ('127.0.0.1', {port}))]")
        board.wait_for("name (-202,)")
        board.wait_for("connect (113,)")
        board.wait_for("sendto (113,)")


def test_with_an_address_the_host_is_reached(make: BoardMaker, server: Callable[..., int]) -> None:
    port = server(echo)
    script = f"""{CONNECT}
print("joined", 1900 < time.ticks_diff(time.ticks_ms(), begin) < 6000)
address = socket.getaddrinfo("localhost", {port}, 0, socket.SOCK_STREAM)[0][-1]
print("address", address)
s = socket.socket()
s.settimeout(30)
s.connect(address)
print("wrote", s.write(b"x" * 20000 + b"\\n"))
buffer = bytearray(5)
print("some", s.readinto(buffer), buffer, len(s.read(19995)), s.readline(), s.read(1), s.recv(1))
s.close()
s = socket.socket()
s.connect(("127.0.0.1", {port}))
s.setblocking(False)
print("none", s.read(5), s.readinto(buffer))
s.send(b"ab\\n")
time.sleep(3)
print("now", s.read(5))
try:
    socket.socket().connect(("127.0.0.1", 1))
except OSError as error:
    print("refused", error.errno)
"""
    with make(script) as board:
        board.wait_for("joined True")
        board.wait_for(f"address ('127.0.0.1', {port})")
        board.wait_for("wrote 20001")
        board.wait_for("some 5 bytearray(b'xxxxx') 19995 b'\\n' b'' b''")
        board.wait_for("none None None")
        board.wait_for("now b'ab\\n'")
        board.wait_for("refused 111")


def test_time_limits_of_sockets_are_virtual(make: BoardMaker, server: Callable[..., int]) -> None:
    port = server(lambda connection: connection.recv(1) and None)
    script = f"""{CONNECT}
s = socket.socket()
s.settimeout(20)
s.connect(("127.0.0.1", {port}))
begin = time.ticks_ms()
try:
    s.read(1)
except OSError as error:
    print("limit", error.errno, time.ticks_diff(time.ticks_ms(), begin))
"""
    with make(script, clock=SimClock.start(20)) as board:
        _, errno, ms = board.wait_for("limit").split()
        # twenty seconds and a quarter of a real one
        assert (int(errno), 24_000 <= int(ms) < 35_000) == (110, True)


@pytest.mark.parametrize("wait", ["s.read(1)", "while True: s.write(b'x'); time.sleep(1)"])
def test_connection_breaks_when_the_access_point_goes(make: BoardMaker, server: Callable[..., int], wait: str) -> None:
    port = server(lambda connection: time.sleep(1))
    script = f"""{CONNECT}
s = socket.socket()
s.connect(("127.0.0.1", {port}))
print("waiting")
try:
    {wait}
except OSError as error:
    print("broken", error.errno, wlan.isconnected())
while not wlan.isconnected():
    time.sleep_ms(50)
try:
    s.write(b"x")
except OSError as error:
    print("still", error.errno)
socket.socket().connect(("127.0.0.1", {port}))
print("anew")
"""
    with make(script) as board:
        board.wait_for("waiting")
        board.wifi_up = False
        assert not board.wifi_up
        board.wait_for("broken 103 False")
        board.wifi_up = True
        board.wait_for("still 103")
        board.wait_for("anew")


def test_access_point_out_of_range_from_the_start(make: BoardMaker) -> None:
    board = make("""
import network, time
wlan = network.WLAN()
wlan.active(True)
print("scan", wlan.scan())
wlan.connect("home", "a long key")
time.sleep(3)
print("status", wlan.status())
""")
    board.wifi_up = False
    with board:
        board.wait_for("scan []")
        board.wait_for("status 201")


def test_asyncio_streams_work_over_it(make: BoardMaker, server: Callable[..., int]) -> None:
    port = server(echo)
    script = f"""{CONNECT}
import asyncio
async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", {port})
    writer.write(b"over asyncio\\n")
    await writer.drain()
    print("read", await reader.readline())
    writer.close()
    await writer.wait_closed()
asyncio.run(main())
"""
    with make(script) as board:
        board.wait_for("read b'over asyncio\\n'")


def test_tls_works_over_it_and_checks_the_certificate(
    make: BoardMaker, server: Callable[..., int], tmp_path: Path
) -> None:
    one, other = (Certificate(tmp_path / name) for name in ("one", "other"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(one.file)

    def treat(connection: socket.socket) -> None:
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),
            context.wrap_socket(connection, server_side=True) as tls,
        ):
            echo(tls)

    port = server(treat)
    script = f"""{CONNECT}
import tls
def talk(ca):
    s = socket.socket()
    s.settimeout(60)
    s.connect(("127.0.0.1", {port}))
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    secure = context.wrap_socket(s, server_hostname="localhost")
    secure.write(b"y" * 3000 + b"\\n")
    buffer = bytearray(3001)
    print("read", secure.readinto(buffer), buffer == b"y" * 3000 + b"\\n")
    secure.close()
talk(bytes.fromhex("{one.der.hex()}"))
try:
    talk(bytes.fromhex("{other.der.hex()}"))
    print("TAKEN")
except ValueError as error:
    print("refused", str(error).strip())
"""
    with make(script) as board:
        board.wait_for("read 3001 True")
        board.wait_for("refused The certificate is not correctly signed by the trusted CA")


def test_board_that_has_no_access_point_says_so(make: BoardMaker) -> None:
    board = make("", wifi=None)
    assert board.wifi_up is False
    with pytest.raises(BoardError, match="no access point"):
        board.wifi_up = True
