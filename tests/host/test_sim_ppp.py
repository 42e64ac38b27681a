"""The whole cellular path: the board's sockets over PPP, UART and modem to the host's servers, and what breaks it."""

import contextlib
import errno
import http.server
import os
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools.sim import ip
from host_tools.sim.board import VirtualBoard
from host_tools.sim.chip_ip import CONNECTED, CONNECTING, ERROR, INACTIVE, ChipIp
from host_tools.sim.clock import SimClock
from host_tools.sim.ip import Packet
from host_tools.sim.ip_gateway import FLOWS_MAX, IpGateway
from host_tools.sim.loop import Loop
from host_tools.sim.modem import SimModem
from host_tools.sim.uart import FIFO, Uart
from tests.host.test_sim_wifi import Certificate
from tests.support.boards import BoardMaker, scripted

MEGABYTE = 1 << 20
GATEWAY = bytes((10, 64, 64, 1))
HERE = bytes((10, 64, 64, 2))


def wait(condition: Callable[[], Any], timeout_s: float = 5.0) -> Any:
    limit = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < limit, "it does not come"
        time.sleep(0.002)
    return value


class Path_:
    """A chip's UART and stack, a modem, and what a board would ask of them."""

    def __init__(self, speed: float = 20.0, **conditions: Any) -> None:
        self.clock = SimClock.start(speed)
        self.modem = SimModem(clock=self.clock, **{"attach_delay_s": 0.0} | conditions)
        self.uart = Uart(self.modem.port, self.clock.now)
        self.stack = ChipIp(self.uart, self.clock)
        wait(lambda: self.modem.power == "on")
        time.sleep(0.15)
        self.uart.open(921600, 4096)
        assert b"CONNECT" in self.command("ATD*99#", b"\r\nCONNECT 150000000\r\n")

    def command(self, text: str, until: bytes = b"OK\r\n") -> bytes:
        self.uart.write(text.encode() + b"\r")
        data = b""
        limit = time.monotonic() + 3.0
        while until not in data:
            data += self.uart.read(1)
            assert time.monotonic() < limit, data
        return data

    def connect(self, user: str | None = None, key: str = "") -> "Path_":
        self.stack.connect(user, key)
        wait(lambda: self.stack.status()[0] != CONNECTING)
        return self

    def open(self, port: int, address: str = "10.64.64.1", timeout_s: float = 5.0) -> socket.socket:
        """A connected socket; OSError as the board would get it."""
        number, loopback = self.stack.tcp(socket.inet_aton(address), port)
        real = socket.create_connection(("127.0.0.1", loopback))
        real.settimeout(10)
        limit = time.monotonic() + timeout_s
        while (code := self.stack.code(number)) == errno.EINPROGRESS:
            assert time.monotonic() < limit
            time.sleep(0.002)
        if code:
            real.close()
            raise OSError(code, os.strerror(code))
        return real

    def close(self) -> None:
        self.stack.close()
        self.uart.close()
        self.modem.stop()


@pytest.fixture
def path() -> Iterator[Callable[..., Path_]]:
    made: list[Path_] = []

    def make(**conditions: Any) -> Path_:
        made.append(Path_(**conditions))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Starts a server that treats each connection so, in a thread each; returns its port."""
    listeners: list[socket.socket] = []

    def start(treat: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def one(connection: socket.socket) -> None:
            connection.settimeout(10)
            with contextlib.suppress(OSError), connection:
                treat(connection)

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=run, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def receive_all(connection: socket.socket) -> bytes:
    data = bytearray()
    while piece := connection.recv(65536):
        data += piece
    return bytes(data)


# through the path


def test_megabyte_each_way_at_once(path: Callable[..., Path_], serve: Callable[..., int]) -> None:
    up, down = random.Random(1).randbytes(MEGABYTE), random.Random(2).randbytes(MEGABYTE)
    heard: list[bytes] = []

    def treat(connection: socket.socket) -> None:
        sender = threading.Thread(target=connection.sendall, args=(down,))
        sender.start()
        heard.append(receive_all(connection))
        sender.join()
        connection.shutdown(socket.SHUT_WR)

    board = path().connect()
    began = time.monotonic()
    with board.open(serve(treat)) as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(up), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        got = receive_all(connection)
        sender.join()
    wait(lambda: heard)
    print(f"1 MiB each way in {time.monotonic() - began:.1f} s")
    assert got == down and heard == [up]


def test_half_closed_connection_still_answers(path: Callable[..., Path_], serve: Callable[..., int]) -> None:
    port = serve(lambda connection: connection.sendall(receive_all(connection)[::-1]))
    with path().connect().open(port) as connection:
        connection.sendall(b"forwards")
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection) == b"sdrawrof"


def test_reset_of_the_server_is_a_reset_at_the_board(path: Callable[..., Path_], serve: Callable[..., int]) -> None:
    def treat(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with path().connect().open(serve(treat)) as connection:
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_reset_of_the_board_is_a_reset_at_the_server(path: Callable[..., Path_], serve: Callable[..., int]) -> None:
    said: list[str] = []

    def treat(connection: socket.socket) -> None:
        try:
            said.append(repr(receive_all(connection)))
        except ConnectionResetError:
            said.append("reset")

    connection = path().connect().open(serve(treat))
    time.sleep(0.1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    assert wait(lambda: said) == ["reset"]


def test_refused_connection_and_unreachable_host_are_told_apart(path: Callable[..., Path_]) -> None:
    board = path().connect()
    with pytest.raises(ConnectionRefusedError):
        board.open(1)
    with pytest.raises(ConnectionRefusedError):
        board.open(1, "127.0.0.1")
    with pytest.raises(OSError, match=r"unreachable|No route") as told:
        board.open(80, "255.255.255.255")
    assert told.value.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)


@pytest.mark.parametrize("abruptly", [False, True])
def test_lost_carrier_breaks_connections(path: Callable[..., Path_], serve: Callable[..., int], abruptly: bool) -> None:
    ended = threading.Event()

    def treat(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            receive_all(connection)
        ended.set()

    board = path(drop_abruptly=abruptly).connect()
    connection = board.open(serve(treat))
    session = board.stack.session
    board.modem.lose_carrier()
    assert ended.wait(5)  # the server sees it
    if abruptly:
        # nobody has told the chip: it has to find out by its own means, as on a real one
        assert board.stack.status()[0] == CONNECTED
        connection.sendall(b"into the void")
        board.stack.close()
    wait(lambda: not board.stack.up)
    with pytest.raises(ConnectionResetError):
        connection.recv(1)
    connection.close()
    if not abruptly:
        assert board.stack.status()[:2] == (ERROR, 6)
        wait(lambda: not board.modem.in_call)
        wait(lambda: b"NO CARRIER" not in board.command("AT+CEREG?") and board.modem._registration.registered)
        board.command("ATD*99#", b"\r\nCONNECT 150000000\r\n")
        board.connect()
        assert board.stack.session == session + 1


def test_carrier_lost_in_the_middle_of_a_transfer(path: Callable[..., Path_], serve: Callable[..., int]) -> None:
    heard: list[int] = []

    def treat(connection: socket.socket) -> None:
        n = 0
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                n += len(piece)
        heard.append(n)

    board = path(drop_after_bytes=100_000).connect()
    connection = board.open(serve(treat))
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        connection.sendall(bytes(10 * MEGABYTE))
    connection.close()
    assert 30_000 < wait(lambda: heard)[0] < 110_000


def test_datagrams_and_names_pass(path: Callable[..., Path_]) -> None:
    board = path().connect()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        client.settimeout(5)
        head = GATEWAY + struct.pack(">H", server.getsockname()[1])
        client.sendto(head + b"question", ("127.0.0.1", board.stack.udp()))
        data, source = server.recvfrom(100)
        assert data == b"question"
        server.sendto(b"answer", source)
        assert client.recv(100) == head + b"answer"
    assert wait(lambda: board.stack.look_up("localhost")) == bytes((127, 0, 0, 1))
    while (answer := board.stack.look_up("no-such-host.invalid")) is None:
        time.sleep(0.01)
    assert answer == b""


def test_password_of_the_network(path: Callable[..., Path_]) -> None:
    board = path(user="iot", key="secret").connect("iot", "secret")
    assert board.stack.status()[0] == CONNECTED
    assert path(user="iot", key="secret").connect("iot", "guess").stack.status()[:2] == (ERROR, 7)


def test_end_in_good_order_gives_the_line_back(path: Callable[..., Path_]) -> None:
    board = path().connect()
    with pytest.raises(OSError, match="PPP") as told:
        board.stack.connect(None, "")
    assert told.value.errno == errno.EALREADY
    board.stack.disconnect()
    wait(lambda: board.stack.status()[0] == INACTIVE)
    wait(lambda: b"NO CARRIER" in board.uart.read(100))
    assert board.command("AT+CSQ").endswith(b"OK\r\n")


def test_board_reset_leaves_the_modem_in_data_mode(path: Callable[..., Path_]) -> None:
    board = path().connect()
    board.stack.close()
    board.uart.close()
    board.uart.open(115200, 1024)
    board.uart.write(b"AT\r")
    time.sleep(0.1)
    assert b"OK" not in board.uart.read(100) and board.modem.in_call
    time.sleep(0.1)
    board.uart.write(b"+++")
    wait(lambda: b"OK\r\n" in board.uart.read(1000))


# hostile packets


class Subscriber:
    """A gateway, and what it sends."""

    def __init__(self) -> None:
        self.loop = Loop("gateway")
        self.sent: list[bytes] = []
        self.gateway = IpGateway(self.loop, "10.64.64.1", self.sent.append)

    def give(self, data: bytes) -> None:
        self.loop.call(self.gateway.packet, data)

    def close(self) -> None:
        self.loop.stop(self.gateway.close)


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    one = Subscriber()
    yield one
    one.close()


def test_ping_is_answered(subscriber: Subscriber) -> None:
    rest = struct.pack(">HH", 7, 1) + b"abcdefgh"
    subscriber.give(ip.build_icmp(HERE, GATEWAY, ip.ECHO_REQUEST, 0, rest))
    packet = ip.parse(subscriber.sent[0])
    assert packet is not None
    assert (packet.source, packet.destination) == (GATEWAY, HERE)
    assert ip.parse_icmp(packet) == (ip.ECHO_REPLY, 0, rest)


def test_segment_of_no_connection_is_reset(subscriber: Subscriber) -> None:
    subscriber.give(ip.build_segment(HERE, GATEWAY, ip.Segment(5, 6, 100, 777, ip.ACK, 10, b"abc")))
    packet = ip.parse(subscriber.sent[0])
    assert packet is not None
    assert ip.parse_segment(packet) == ip.Segment(6, 5, 777, 0, ip.RST, 0)
    subscriber.give(ip.build_segment(HERE, GATEWAY, ip.Segment(5, 6, 100, 777, ip.RST, 10)))
    assert len(subscriber.sent) == 1  # a reset is not answered


def test_connections_and_datagrams_are_bounded(subscriber: Subscriber) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
        port = server.getsockname()[1]
        for own in range(1000, 1000 + 3 * FLOWS_MAX):
            subscriber.give(ip.build_segment(HERE, GATEWAY, ip.Segment(own, port, 1, 0, ip.SYN, 1000)))
            subscriber.give(ip.build_datagram((HERE, own), (GATEWAY, port), b"x"))
        assert subscriber.loop.call(lambda: len(subscriber.gateway._tcp)) == FLOWS_MAX
        assert subscriber.loop.call(lambda: len(subscriber.gateway._udp)) == FLOWS_MAX
    subscriber.loop.call(subscriber.gateway.close)
    assert not subscriber.gateway._tcp and not subscriber.gateway._udp


def test_noise_in_packets_neither_hangs_nor_crashes_the_gateway(subscriber: Subscriber) -> None:
    chance = random.Random(11)
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
        port = server.getsockname()[1]
        for _ in range(1500):
            protocol = chance.choice((1, 6, 17, 17, 6, 99))
            payload = chance.randbytes(chance.randrange(0, 60))
            if protocol == 6 and chance.random() < 0.8:
                segment = ip.Segment(
                    chance.randrange(1, 20),
                    port,
                    chance.randrange(1 << 32),
                    chance.randrange(1 << 32),
                    chance.randrange(32),
                    chance.randrange(65536),
                    payload,
                )
                data = ip.build_segment(HERE, GATEWAY, segment)
            elif protocol == 17 and chance.random() < 0.8:
                data = ip.build_datagram((HERE, 9), (GATEWAY, 53), payload)
            else:
                data = ip.build(Packet(HERE, GATEWAY, protocol, payload))
            subscriber.give(data if chance.random() < 0.7 else chance.randbytes(chance.randrange(0, 80)))
        subscriber.sent.clear()
        subscriber.give(ip.build_icmp(HERE, GATEWAY, ip.ECHO_REQUEST, 0, bytes(8)))
        assert subscriber.loop.call(lambda: len(subscriber.sent)) >= 1


# the UART


def test_receive_buffer_overflows_when_nobody_reads(path: Callable[..., Path_]) -> None:
    outer, inner = os.openpty()
    now = [0.0]
    uart = Uart(os.ttyname(inner), lambda: now[0])
    try:
        uart.open(115200, 256)
        os.write(outer, bytes(range(256)) * 4)
        now[0] += 1.0
        time.sleep(0.3)  # nobody is that late who still reads
        assert uart.any() == 256 + FIFO and uart.lost == 1024 - 256 - FIFO
        assert uart.read(2000) == (bytes(range(256)) * 4)[: 256 + FIFO]
    finally:
        uart.close()
        os.close(outer)
        os.close(inner)


def test_bytes_arrive_at_the_line_s_rate_and_wait_for_who_looks_often() -> None:
    outer, inner = os.openpty()
    now = [0.0]
    uart = Uart(os.ttyname(inner), lambda: now[0])
    try:
        with pytest.raises(OSError, match="install"):
            uart.open(115200, 128)
        uart.open(9600, 256)
        os.write(outer, bytes(1000))
        now[0] += 0.1
        assert 96 <= uart.any() <= 98  # 9,600 baud: 960 bytes a second
        taken = len(uart.read(4000))
        for _ in range(2000):
            now[0] += 0.001
            taken += len(uart.read(4000))
        assert (taken, uart.lost) == (1000, 0)
    finally:
        uart.close()
        os.close(outer)
        os.close(inner)


# on the board

DIAL = """
import machine, network, socket, sys, time
uart = machine.UART(1, 115200, tx=25, rx=26, rxbuf=1024, timeout=20)
ppp = None
def at(command, end="OK"):
    uart.write(command + "\\r")
    answer = b""
    begin = time.ticks_ms()
    while end not in answer and time.ticks_diff(time.ticks_ms(), begin) < 20000:
        answer += uart.read(1) or b""
    return answer
def dial():
    global ppp
    while b"0,1" not in at("AT+CEREG?"):
        time.sleep_ms(200)
    at("ATD*99#", "150000000\\r\\n")
    if sys.implementation[1] < (1, 26):
        if ppp:
            ppp.active(False)  # otherwise EALREADY
        ppp = network.PPP(uart)
        ppp.active(True)
    else:
        ppp = network.PPP(uart)
    ppp.connect()
    while not ppp.isconnected():
        time.sleep_ms(20)
def said(function, *arguments, **named):
    try:
        return function(*arguments, **named)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return type(error).__name__, error.args
while b"OK" not in at("ATE0", "ATE0\\r\\r\\nOK"):
    pass
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[BoardMaker]:
    made: list[VirtualBoard | SimModem] = []

    def make(main: str = "", **settings: Any) -> VirtualBoard:
        clock = settings.pop("clock", SimClock.start(10))
        given = settings.pop("conditions", {})
        modem = SimModem(clock=clock, **{"attach_delay_s": 1.0} | given)
        made.append(modem)
        board = scripted(tmp_path / f"b{len(made)}", main, clock=clock, modem=modem.port, **settings)
        board.its_modem = modem  # type: ignore[attr-defined]
        made.append(board)
        return board

    yield make
    for one in reversed(made):
        one.stop()


@pytest.fixture
def web() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode() * 500)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_board_dials_and_fetches_over_http(make: BoardMaker, web: int) -> None:
    script = f"""{DIAL}
print("before", said(socket.getaddrinfo, "localhost", 1), said(socket.socket().connect, ("127.0.0.1", {web})))
dial()
print("up", ppp.ifconfig(), ppp.ipconfig("addr4"), ppp.ipconfig("gw4"), said(ppp.connect)[0])
address = socket.getaddrinfo("localhost", {web})[0][-1]
s = socket.socket()
s.connect(("10.64.64.1", {web}))
s.write(b"GET /page HTTP/1.0\\r\\n\\r\\n")
print("got", len(s.read().split(b"\\r\\n\\r\\n")[1]), address)
s.close()
print("refused", said(socket.socket().connect, ("127.0.0.1", 1)))
print("no name", said(socket.getaddrinfo, "no-such-host.invalid", 1))
"""
    with make(script) as board:
        board.wait_for("before ('OSError', (-202,)) ('OSError', (113,))", 20)
        board.wait_for(
            "up ('10.64.64.2', '255.255.255.255', '10.64.64.1', '10.64.64.1') ('10.64.64.2', '255.255.255.255')"
        )
        board.wait_for(f"got 2500 ('127.0.0.1', {web})")
        board.wait_for("refused ('OSError', (111,))")
        board.wait_for("no name ('OSError', (-202,))")


def test_ppp_has_the_interface_of_its_generation(make: BoardMaker) -> None:
    script = f"""{DIAL}
new = sys.implementation[1] >= (1, 26)
p = network.PPP(uart)
print("names", [hasattr(p, name) == new for name in ("SEC_PAP", "poll", "disconnect", "config")],
    [hasattr(p, name) != new for name in ("active", "AUTH_PAP")])
if new:
    print("first", p.status(), p.poll(), said(p.connect, authmode=0)[0], p.config("stream") is uart)
else:
    print("first", p.status(), p.active(), said(p.connect)[1], said(p.connect, security=0)[0])
print("stream", said(network.PPP, 7)[0])
dial()
print("second", ppp.isconnected(), ppp.status() == (4 if new else None))
if new:
    ppp.disconnect()
    while ppp.status():
        time.sleep_ms(20)
else:
    ppp.active(False)
print("down", ppp.isconnected(), ppp.ifconfig()[0])
time.sleep(1)  # the modem takes its time to hang up
print("line", b"OK" in at("AT"))
"""
    with make(script) as board:
        board.wait_for("names [True, True, True, True] [True, True]", 20)
        first = board.wait_for("first")
        assert first in ("first 0 -1 TypeError True", "first None False ('must be active',) TypeError")
        board.wait_for("stream OSError")
        board.wait_for("second True True")
        board.wait_for("down False 0.0.0.0")
        board.wait_for("line True")


def test_uart_reads_as_on_the_chip(make: BoardMaker) -> None:
    script = f"""{DIAL}
time.sleep(3)
uart.read()
print("none", uart.any(), uart.read(), uart.read(3), uart.readline(), uart.readinto(bytearray(2)))
uart.write("AT+CSQ\\r")
time.sleep(1)
buffer = bytearray(4)
print("some", uart.any(), uart.readline(), uart.readinto(buffer), buffer, uart.readline(), uart.read(2), uart.read())
print("ids", said(machine.UART, 0)[0], said(machine.UART, 3)[0], machine.UART(2).any(), machine.UART(2).read(1))
slow = machine.UART(1, 115200, rxbuf=256, timeout=500)
begin = time.ticks_ms()
print("late", slow.read(1), 500 <= time.ticks_diff(time.ticks_ms(), begin) < 1500)
slow.write("AT\\r")
print("whole", slow.read(6))
import asyncio
async def main():
    stream = asyncio.StreamReader(uart)
    uart.write("ATI\\r")
    print("stream", await stream.readline(), await stream.readline())
asyncio.run(main())
"""
    with make(script) as board:
        board.wait_for("none 0 None None None None", 20)
        board.wait_for("some 20 b'\\r\\n' 4 bytearray(b'+CSQ') b': 20,0\\r\\n' b'\\r\\n' b'OK\\r\\n'")
        board.wait_for("ids ValueError ValueError 0 None")
        board.wait_for("late None True")
        board.wait_for("whole b'\\r\\nOK\\r\\n'")
        board.wait_for("stream b'\\r\\n' b'SIM7080 R1951.03\\r\\n'")


def test_asyncio_streams_and_polls_work_over_ppp(make: BoardMaker, web: int) -> None:
    script = f"""{DIAL}
dial()
import asyncio, select
async def fetch(path):
    reader, writer = await asyncio.open_connection("10.64.64.1", {web})
    writer.write(b"GET /" + path + b" HTTP/1.0\\r\\n\\r\\n")
    await writer.drain()
    data = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return len(data.split(b"\\r\\n\\r\\n")[1])
async def refused():
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", 1)
        writer.write(b"x")
        await writer.drain()
        await reader.read(1)
    except OSError as error:
        return error.errno
async def main():
    print("streams", await asyncio.gather(fetch(b"a"), fetch(b"bcd"), fetch(b"ef")), await refused())
asyncio.run(main())
s = socket.socket()
s.setblocking(False)
print("begun", said(s.connect, ("10.64.64.1", {web})))
poller = select.poll()
poller.register(s, select.POLLOUT)
print("out", poller.poll(5000)[0][1] == select.POLLOUT)
poller.modify(s, select.POLLIN)
print("nothing", poller.poll(100), s.read(1))
s.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
print("in", poller.poll(5000)[0][1] & select.POLLIN)
s = socket.socket()
s.setblocking(False)
said(s.connect, ("127.0.0.1", 1))
poller = select.poll()
poller.register(s, select.POLLOUT)
print("error", poller.poll(5000)[0][1] & select.POLLERR, said(s.write, b"x"))
"""
    with make(script) as board:
        board.wait_for("streams [1000, 2000, 1500] 111", 20)
        board.wait_for("begun ('OSError', (115,))")
        board.wait_for("out True")
        board.wait_for("nothing [] None")
        board.wait_for("in 1")
        board.wait_for("error 8 ('OSError', (111,))")


def test_tls_passes_ppp_byte_for_byte(make: BoardMaker, serve: Callable[..., int], tmp_path: Path) -> None:
    certificate = Certificate(tmp_path / "one")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file)

    def treat(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.sendall(tls.recv(100)[::-1] * 1000)

    script = f"""{DIAL}
dial()
import tls
s = socket.socket()
s.settimeout(60)
s.connect(("10.64.64.1", {serve(treat)}))
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(bytes.fromhex("{certificate.der.hex()}"))
secure = context.wrap_socket(s, server_hostname="localhost")
secure.write(b"secret")
buffer = bytearray(6000)
print("read", secure.readinto(buffer), buffer == b"terces" * 1000)
secure.close()
"""
    with make(script) as board:
        board.wait_for("read 6000 True", 30)
        assert board.its_modem.calls == 1  # type: ignore[attr-defined]


def test_tls_in_asyncio_passes_ppp_and_sees_the_lost_carrier(
    make: BoardMaker, serve: Callable[..., int], tmp_path: Path
) -> None:
    certificate = Certificate(tmp_path / "one")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file)

    def treat(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            while line := tls.recv(1000):
                tls.sendall(line.upper())

    script = f"""{DIAL}
dial()
import asyncio, tls
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(bytes.fromhex("{certificate.der.hex()}"))
async def main():
    reader, writer = await asyncio.open_connection(
        "10.64.64.1", {serve(treat)}, ssl=context, server_hostname="localhost")
    for n in (1, 300, 3000):
        writer.write(b"a" * n + b"\\n")
        await writer.drain()
        print("line", n, await reader.readline() == b"A" * n + b"\\n")
    try:
        await asyncio.wait_for(reader.read(1), 1)
    except asyncio.TimeoutError:
        print("waiting")
    try:
        print("read", await reader.read(1))
    except OSError as error:
        print("broken", error.errno)
asyncio.run(main())
"""
    with make(script) as board:
        for n in (1, 300, 3000):
            board.wait_for(f"line {n} True", 30)
        board.wait_for("waiting")
        board.its_modem.lose_carrier()  # type: ignore[attr-defined]
        board.wait_for("broken 103")


def test_lost_carrier_breaks_the_board_s_sockets(make: BoardMaker, serve: Callable[..., int]) -> None:
    port = serve(lambda connection: time.sleep(5))
    script = f"""{DIAL}
dial()
s = socket.socket()
s.connect(("10.64.64.1", {port}))
print("waiting")
print("broken", said(s.read, 1), ppp.isconnected())
print("none", said(socket.socket().connect, ("10.64.64.1", {port})), said(socket.getaddrinfo, "localhost", 1)[1])
time.sleep(1)
print("said", uart.read())
dial()
print("old", said(s.write, b"x"))
s = socket.socket()
s.connect(("10.64.64.1", {port}))
print("anew")
"""
    with make(script) as board:
        board.wait_for("waiting", 20)
        board.its_modem.lose_carrier()  # type: ignore[attr-defined]
        board.wait_for("broken ('OSError', (103,)) False")
        board.wait_for("none ('OSError', (113,)) (-202,)")
        assert "NO CARRIER" in board.wait_for("said")
        board.wait_for("old ('OSError', (103,))", 20)
        board.wait_for("anew")


def test_asyncio_reader_that_waits_sees_the_lost_carrier(make: BoardMaker, serve: Callable[..., int]) -> None:
    port = serve(lambda connection: time.sleep(5))
    script = f"""{DIAL}
dial()
import asyncio
async def main():
    reader, writer = await asyncio.open_connection("10.64.64.1", {port})
    print("waiting")
    try:
        print("read", await reader.read(1))
    except OSError as error:
        print("broken", error.errno)
asyncio.run(main())
"""
    with make(script) as board:
        board.wait_for("waiting", 20)
        board.its_modem.lose_carrier()  # type: ignore[attr-defined]
        board.wait_for("broken 103")


def test_datagrams_of_the_board_pass(make: BoardMaker) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        script = f"""{DIAL}
dial()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(30)
print("sent", s.sendto(b"question", ("10.64.64.1", {server.getsockname()[1]})))
print("got", s.recvfrom(100))
"""
        with make(script) as board:
            data, source = server.recvfrom(100)
            server.sendto(data.upper(), source)
            board.wait_for("sent 8")
            board.wait_for(f"got (b'QUESTION', ('10.64.64.1', {server.getsockname()[1]}))")


def test_power_key_s_pin_switches_the_modem(make: BoardMaker) -> None:
    script = """
import machine, time
uart = machine.UART(1, 115200, timeout=100)
uart.write("AT\\r")
print("silent", uart.read(10))
key = machine.Pin(4, machine.Pin.OUT, value=1)
time.sleep_ms(1000)
key.value(0)
time.sleep(4)
print("said", uart.read())
"""
    with make(script, conditions={"on": False}) as board:
        board.wait_for("silent None")
        assert "RDY" in board.wait_for("said", 10)


def test_reset_of_the_board_ends_its_stack_and_leaves_no_thread(make: BoardMaker, web: int) -> None:
    script = f"""{DIAL}
if machine.reset_cause() == 1:
    dial()
    print("up")
    machine.reset()
print("again", network.PPP(uart).isconnected(), said(socket.socket().connect, ("10.64.64.1", {web})))
"""
    board = make(
        script.replace('while b"OK" not in at("ATE0"', 'while machine.reset_cause() == 1 and b"OK" not in at("ATE0"')
    )
    before = set(threading.enumerate())
    with board:
        board.wait_for("up", 20)
        board.wait_for("again False ('OSError', (113,))")
        assert board.its_modem.in_call  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before


def test_board_without_a_modem_has_a_silent_uart(tmp_path: Path) -> None:
    script = """
import machine, network
uart = machine.UART(1, 9600)
print("alone", uart.write(b"AT"), uart.any(), uart.read(1), network.PPP(uart).isconnected())
"""
    with scripted(tmp_path / "b", script) as board:
        board.wait_for("alone 2 0 None False")
