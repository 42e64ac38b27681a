"""The device's cellular bearer against the simulated modem: each was written from the vendors' manuals, apart from the
other. PPP is not part of it: the device gets as far as CONNECT, and the modem is then in a call.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from host_tools.sim.clock import SimClock
from host_tools.sim.modem import SimModem
from tests.support.micropython import ROOT, Micropython

SPEED = 12
EPOCH = 1735689600  # 2025-01-01
FAMILIES = {"sim7080": "sim70xx", "bg95": "bg9x"}
# a UART on a pty, in the simulation's time; what else a board has is tests/device/fakemodem.py's
DEVICE = """
import time, select
import fakemodem
fakemodem.install()
class UART:
    def __init__(self, number, baudrate, tx, rx, rxbuf):
        self.file = open(PORT, "r+b", 0)
        self.poll = select.poll()
        self.poll.register(self.file, select.POLLIN)
    def init(self, baudrate):
        pass
    def irq(self, handler):
        pass
    def write(self, data):
        return self.file.write(data)
    def readline(self, most):
        got = b""
        while len(got) < most and got[-1:] != b"\\n" and self.poll.poll(0):
            got += self.file.read(1)
        return got or None
fakemodem.Machine.UART = UART
from sealband.links.lte import LteBearer
from sealband.links.base import LinkError
store = fakemodem.Store()
def ticks_ms():
    return time.ticks_ms() * SPEED & 0x3FFFFFFF
def attempt(steps):
    try:
        for pause in steps:
            time.sleep_ms(max(1, pause // SPEED))
    except LinkError as error:
        return error.args[0]
def bearer(family, pin, options):
    fakemodem.install()
    fakemodem.Provision.cellular = ["iot.1nce.net", pin, "", ""]
    board = fakemodem.Board(fakemodem.FakeModem(fakemodem.Clock()), family)
    return LteBearer(board, store=store, ticks_ms=ticks_ms, **options)
"""


class Board:
    """MicroPython with a UART on the modem's port."""

    def __init__(self, modem: SimModem) -> None:
        self.device = Micropython(path=[ROOT / "tests" / "device"])
        self.device.run(f"PORT = {str(modem.port)!r}")
        self.device.run(f"SPEED = {SPEED}")
        self.device.run(f"exec({DEVICE!r})")

    def up(self, kind: str, pin: str = "", **options: Any) -> str | None:
        """What the attempt raised, or None."""
        self.device.run(f"made = bearer({FAMILIES[kind]!r}, {pin!r}, {options!r})")
        error: str | None = self.device.call("attempt(made.up())", 60)
        assert self.device.call("made.ready()") is (error is None)
        return error


Boards = Callable[[SimModem], Board]


@pytest.fixture
def clock() -> SimClock:
    return SimClock.start(SPEED)


@pytest.fixture(params=sorted(FAMILIES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def board_on() -> Iterator[Boards]:
    made: list[Board] = []

    def make(modem: SimModem) -> Board:
        made.append(Board(modem))
        return made[-1]

    yield make
    for board in made:
        board.device.close()


def commands(modem: SimModem, start: str) -> list[str]:
    return [str(line) for line in modem.lines if str(line).startswith(start)]


def power_after(modem: SimModem) -> str:
    """Off, once it has taken its leave of the network; else what it is after ten seconds."""
    limit = time.monotonic() + 10
    while modem.power != "off" and time.monotonic() < limit:
        time.sleep(0.05)
    return modem.power


def test_modem_is_brought_into_a_call(kind: str, clock: SimClock, board_on: Boards) -> None:
    with SimModem(kind, clock=clock, attach_delay_s=1.0, offset_quarters=8) as modem:
        board = board_on(modem)
        assert board.up(kind) is None
        assert modem.power == "on"
        assert str(modem.lines[-1]) == "ATD*99#"
        # the network's zone is two hours ahead; what the device makes of it is UTC
        told = board.device.call("made.time()")
        assert abs(told + EPOCH - clock.now()) < 30
        assert -113 < board.device.call("made.signal_dbm") < -50
        assert board.device.call("attempt(made.down())", 60) is None
        assert power_after(modem) == "off"


def test_radio_bands_timers_and_pin_are_taken(kind: str, clock: SimClock, board_on: Boards) -> None:
    options: dict[str, Any] = {"rat": "nb-iot", "bands": (8, 20), "psm": (3600, 10), "edrx_s": 82}
    with SimModem(kind, clock=clock, pin="4321", rat="nb-iot", roaming=True, attach_delay_s=1.0) as modem:
        board = board_on(modem)
        assert board.up(kind, "4321", **options) is None
        assert len(commands(modem, "AT+CPIN=")) == 1
        written = len(commands(modem, "AT+CFUN="))
        assert written == 2
        # what the modem keeps is not written again
        assert board.device.call("attempt(made.down())", 60) is None
        assert modem.power != "off"
        assert board.up(kind, "4321", **options) is None
        assert len(commands(modem, "AT+CFUN=")) == written
        assert len(commands(modem, "AT+CPIN=")) == 1


def test_wrong_pin_is_tried_once(kind: str, clock: SimClock, board_on: Boards) -> None:
    with SimModem(kind, clock=clock, pin="1111") as modem:
        board = board_on(modem)
        assert "16" in (board.up(kind, "4321") or "")
        assert len(commands(modem, "AT+CPIN=")) == 1
    with SimModem(kind, clock=clock, pin="1111") as modem:
        board.device.run(f"PORT = {str(modem.port)!r}")
        assert board.up(kind, "4321") == "the PIN was refused before, and is not tried again"
        assert commands(modem, "AT+CPIN=") == []


@pytest.mark.parametrize(
    ("kind", "conditions", "complaint"),
    [
        ("sim7080", {"sim": False}, "AT+CPIN?: +CME ERROR: 10"),
        ("bg95", {"sim": False}, "AT+CPIN?: +CME ERROR: 10"),
        ("sim7080", {"denied": True}, "the network refuses the SIM"),
        ("bg95", {"no_service": True}, "no network"),
        ("sim7080", {"deaf": True}, "the modem does not answer"),
    ],
)
def test_what_does_not_come_up_says_why(
    kind: str, conditions: dict[str, Any], complaint: str, clock: SimClock, board_on: Boards
) -> None:
    with SimModem(kind, clock=clock, **conditions) as modem:
        assert board_on(modem).up(kind, wait_s=20) == complaint


def test_noise_is_got_over(kind: str, clock: SimClock, board_on: Boards) -> None:
    # noise before CONNECT costs an attempt; it cannot cost three
    for seed in range(1, 4):
        with SimModem(kind, clock=clock, garbage=0.1, seed=seed, attach_delay_s=1.0) as modem:
            if board_on(modem).up(kind) is None:
                assert str(modem.lines[-1]) == "ATD*99#"
                return
    pytest.fail("three attempts, and none came up")
