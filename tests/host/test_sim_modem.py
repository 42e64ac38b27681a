"""The simulated modem: AT over the pty as a host's program (pyserial) speaks it, and everything that goes wrong."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import serial

from host_tools.sim.clock import SimClock
from host_tools.sim.hdlc import encode
from host_tools.sim.modem import ModemError, SimModem
from host_tools.sim.modem_network import Conditions, Registration, Sim
from host_tools.sim.modem_syntax import CommandError, MobileError, arguments, split_commands
from tests.support.micropython import ROOT

SPEED = 20.0
BOTH = pytest.mark.parametrize("kind", ["sim7080", "bg95"])
FINAL = re.compile(rb"\r\n(OK|ERROR|\+CM[ES] ERROR: [^\r]*|NO CARRIER|CONNECT[^\r]*|NORMAL POWER DOWN)\r\n")


# what a modem says by itself in its first seconds
AT_START = ("RDY", "APP RDY", "SMS Ready", "+QIND: SMS DONE", "+QUSIM: 1", "+CFUN: 1", "+CPIN: READY")


class Host:
    """A program at the other end of the modem's port."""

    def __init__(self, modem: SimModem, baud: int = 115200) -> None:
        self.modem = modem
        self.serial = serial.Serial(modem.port, baud, timeout=0.01)
        self.serial.reset_input_buffer()
        self.left = b""  # what came after the answer to a command

    def forget(self) -> None:
        self.serial.reset_input_buffer()
        self.left = b""

    def read(self, until: Callable[[bytes], Any], timeout_s: float = 3.0) -> bytes:
        data, self.left = self.left, b""
        limit = time.monotonic() + timeout_s
        while time.monotonic() < limit:
            data += self.serial.read(self.serial.in_waiting or 1)
            if until(data):
                return data
        raise AssertionError(f"only {data!r} came")

    def at(self, command: str) -> list[str]:
        """The lines that a command is answered with."""
        self.serial.write(command.encode() + b"\r")
        data = self.read(FINAL.search)
        found = FINAL.search(data)
        assert found is not None
        data, self.left = data[: found.end()], data[found.end() :]
        ignored = (command, *(text for text in AT_START if not command.startswith("AT" + text.split(":")[0])))
        lines = data.decode("latin-1").replace("\r", "\n").split("\n")
        return [line for line in lines if line and line not in ignored]

    def wait_line(self, text: str, timeout_s: float = 3.0) -> None:
        self.read(lambda data: text.encode() + b"\r\n" in data, timeout_s)

    def registered(self) -> "Host":
        limit = time.monotonic() + 3.0
        while not any("0,1" in line for line in self.at("AT+CEREG?")):
            assert time.monotonic() < limit
        return self


@pytest.fixture
def start() -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def start(kind: str = "sim7080", *, echo: bool = False, booted: bool = True, **settings: Any) -> Host:
        settings = {"clock": SimClock.start(SPEED), "attach_delay_s": 1.0} | settings
        host = Host(SimModem(kind, **settings))
        hosts.append(host)
        if booted:
            limit = time.monotonic() + 3.0
            while host.modem.power != "on":
                assert time.monotonic() < limit
                time.sleep(0.005)
            time.sleep(0.15)  # what it says by itself
            host.forget()
            if not echo:
                host.at("ATE0")
        return host

    yield start
    for host in hosts:
        host.serial.close()
        host.modem.stop()


# the line


def test_what_sim7080_says_at_its_start(start: Callable[..., Host]) -> None:
    host = start(booted=False)
    data = host.read(lambda data: b"SMS Ready\r\n" in data)
    assert data == b"\r\nRDY\r\n\r\n+CFUN: 1\r\n\r\n+CPIN: READY\r\n\r\nSMS Ready\r\n"


def test_what_bg95_says_at_its_start(start: Callable[..., Host]) -> None:
    host = start("bg95", booted=False, pin="0000")
    data = host.read(lambda data: b"+QUSIM: 1\r\n" in data)
    assert data == b"\r\nRDY\r\n\r\nAPP RDY\r\n\r\n+CPIN: SIM PIN\r\n\r\n+QUSIM: 1\r\n"


def test_echo_is_on_until_it_is_switched_off(start: Callable[..., Host]) -> None:
    host = start(echo=True)
    host.serial.write(b"AT\r")
    assert host.read(FINAL.search) == b"AT\r\r\nOK\r\n"
    host.serial.write(b"ate0\r")
    assert host.read(FINAL.search) == b"ate0\r\r\nOK\r\n"
    host.serial.write(b"AT\r")
    assert host.read(FINAL.search) == b"\r\nOK\r\n"
    host.at("ATE1")
    host.serial.write(b"AT\r")
    assert host.read(FINAL.search) == b"AT\r\r\nOK\r\n"


def test_numbers_in_place_of_words(start: Callable[..., Host]) -> None:
    # V.250 section 6.2.6
    host = start()
    host.serial.write(b"ATV0\rAT\rAT+NOPE\rATV1\r")
    assert host.read(lambda data: b"OK" in data) == b"0\r0\r4\r\r\nOK\r\n"


def test_line_feeds_backspaces_and_noise_before_a_command(start: Callable[..., Host]) -> None:
    host = start()
    host.serial.write(b"\xff\x80xAT+CSX\x08Q\r\n")
    assert b"+CSQ: 20,0" in host.read(FINAL.search)
    host.serial.write(b"hello\r\r\rAT\r")
    assert host.read(FINAL.search) == b"\r\nOK\r\n"


def test_several_commands_on_a_line_end_at_the_first_error() -> None:
    assert split_commands("E0V1+CMEE=1;+CSQ") == ["E0", "V1", "+CMEE=1", "+CSQ"]
    assert split_commands('+CGDCONT=1,"IP","a;b";+CSQ;') == ['+CGDCONT=1,"IP","a;b"', "+CSQ"]
    assert split_commands("&F&D2X4S0=0D*99#") == ["&F", "&D2", "X4", "S0=0", "D*99#"]
    with pytest.raises(CommandError):
        split_commands('"')


def test_values_of_a_command() -> None:
    assert arguments('1,"IP","inter,net",,7') == ["1", "IP", "inter,net", "", "7"]
    for text in ('"open', 'a"b"', '"a"b'):
        with pytest.raises(MobileError):
            arguments(text)


@BOTH
def test_overlong_line_is_an_error_and_not_kept(start: Callable[..., Host], kind: str) -> None:
    host = start(kind)
    host.serial.write(b"AT+CPIN=" + b"9" * 5000 + b"\r")
    assert host.read(FINAL.search) == b"\r\nERROR\r\n"
    assert host.at("AT") == ["OK"]


@BOTH
def test_any_bytes_leave_it_answering(start: Callable[..., Host], kind: str) -> None:
    import random

    host = start(kind)
    chance = random.Random(7)
    words = [b"AT", b"+CPIN", b"=", b"?", b'"', b",", b";", b"+COPS", b"D*99", b"+CFUN=1", b"+CGDCONT", b"E1", b"0"]
    words += [b"+CNACT", b"+QCFG", b"+CBANDCFG", b"+CPSMS", b"+CEDRXS", b"+CCLK", b"+CGACT", b"99999999999", b"\\"]
    for _ in range(60):
        line = b"AT" + b"".join(chance.choice(words) for _ in range(chance.randrange(1, 7)))
        host.serial.write(line + (chance.randbytes(3) if chance.random() < 0.2 else b"") + b"\r")
        host.serial.write(b"\rAT\r")
        host.read(FINAL.search)
    host.serial.write(b"\rATE0\r")
    time.sleep(0.3)
    host.forget()
    assert host.at("AT") == ["OK"]


def test_wrong_rate_is_noise_both_ways(start: Callable[..., Host]) -> None:
    host = start()
    assert host.at("AT+IPR=57600") == ["OK"]
    host.serial.write(b"AT\r")
    with pytest.raises(AssertionError):
        host.read(FINAL.search, 0.3)
    host.serial.baudrate = 57600
    host.serial.write(b"\r")
    assert host.at("AT") == ["OK"]
    assert host.at("AT+IPR?") == ["+IPR: 57600", "OK"]


# identity, errors, SIM


@pytest.mark.parametrize(
    ("kind", "lines"),
    [("sim7080", ["SIM7080 R1951.03", "OK"]), ("bg95", ["Quectel", "BG95-M3", "Revision: BG95M3LAR02A03", "OK"])],
)
def test_it_says_what_it_is(start: Callable[..., Host], kind: str, lines: list[str]) -> None:
    host = start(kind)
    assert host.at("ATI") == lines
    assert host.at("AT+CGMM")[0] == {"sim7080": "SIM7080", "bg95": "BG95-M3"}[kind]
    imei = host.at("AT+GSN")[0]
    digits = [int(digit) * (1 + at % 2) for at, digit in enumerate(imei)]
    assert len(imei) == 15 and sum(n // 10 + n % 10 for n in digits) % 10 == 0  # Luhn, as 3GPP TS 23.003 annex B has it
    assert re.fullmatch(r"00101\d{10}", host.at("AT+CIMI")[0])


@BOTH
def test_unknown_command_is_an_error_in_every_mode(start: Callable[..., Host], kind: str) -> None:
    host = start(kind)
    for mode in range(3):
        assert host.at(f"AT+CMEE={mode}") == ["OK"]
        assert host.at("AT+NOPE=1") == ["ERROR"]
    other = {"sim7080": "AT+QNWINFO", "bg95": "AT+CNACT?"}[kind]
    assert host.at(other) == ["ERROR"]


def test_errors_as_27_007_numbers_them(start: Callable[..., Host]) -> None:
    host = start(pin="1234")
    for mode, text in ((0, "ERROR"), (1, "+CME ERROR: 11"), (2, "+CME ERROR: SIM PIN required")):
        host.at(f"AT+CMEE={mode}")
        assert host.at("AT+CIMI") == [text]


def test_bg95_numbers_its_errors_from_the_start(start: Callable[..., Host]) -> None:
    assert start("bg95", sim=False).at("AT+CPIN?") == ["+CME ERROR: 10"]
    assert start("sim7080", sim=False).at("AT+CPIN?") == ["ERROR"]


@BOTH
def test_pin_is_asked_for_and_opens(start: Callable[..., Host], kind: str) -> None:
    host = start(kind, pin="4711")
    assert host.at("AT+CPIN?") == ["+CPIN: SIM PIN", "OK"]
    assert host.at("AT+CEREG?") == ["+CEREG: 0,0", "OK"]
    assert host.at('AT+CPIN="4711"')[0] == "OK"
    assert host.at("AT+CPIN?")[-2:] == ["+CPIN: READY", "OK"]
    host.registered()


def test_three_wrong_pins_ask_for_the_puk_and_ten_wrong_puks_end_the_card(start: Callable[..., Host]) -> None:
    host = start(pin="4711", puk="87654321")
    host.at("AT+CMEE=1")
    assert host.at("AT+CPIN=0000") == ["+CME ERROR: 16"]
    assert host.at("AT+CPIN=0000") == ["+CME ERROR: 16"]
    assert host.at("AT+CPIN=0000") == ["+CME ERROR: 12"]
    assert host.at("AT+CPIN?") == ["+CPIN: SIM PUK", "OK"]
    assert host.at("AT+CPIN=4711") == ["+CME ERROR: 12"]
    host.modem.power_cut()
    host.modem.press_power_key()
    time.sleep(0.3)
    host.forget()
    host.at("ATE0")
    assert host.at("AT+CPIN?") == ["+CPIN: SIM PUK", "OK"]  # the card remembers
    assert host.at('AT+CPIN="87654321","1111"') == ["OK"]
    assert host.at("AT+CPIN?")[-2:] == ["+CPIN: READY", "OK"]
    card = Sim("1111", "2222")
    for _ in range(3):
        card.enter_pin("0")
    assert not any(card.enter_puk("0", "1") for _ in range(10))
    assert card.asks == "SIM FAILURE" and not card.enter_puk("2222", "1")


def test_right_pin_gives_the_three_tries_back() -> None:
    card = Sim("1111")
    for _ in range(5):
        assert not card.enter_pin("0") and not card.enter_pin("1")
        assert card.enter_pin("1111")
    assert card.asks == "READY"


# the network


class Now:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


def test_registration_takes_its_time_and_starts_anew_after_a_loss() -> None:
    now, conditions = Now(), Conditions(attach_delay_s=5)
    registration = Registration(conditions, Sim(), now)
    assert registration.stat == 2
    now.s += 4.9
    assert registration.stat == 2
    now.s += 0.2
    assert registration.stat == 1
    conditions.no_service = True
    assert registration.stat == 2 and registration.signal == 99
    now.s += 100
    assert registration.stat == 2
    conditions.no_service = False
    assert registration.stat == 2
    now.s += 5.1
    assert registration.stat == 1 and registration.signal == 20
    registration.radio = False
    assert registration.stat == 0
    registration.radio = True
    assert registration.stat == 2


@pytest.mark.parametrize(
    ("condition", "stat"), [({"denied": True}, 3), ({"roaming": True}, 5), ({"no_service": True}, 2)]
)
def test_registration_as_27_007_numbers_it(condition: dict[str, bool], stat: int) -> None:
    now = Now()
    registration = Registration(Conditions(attach_delay_s=1, **condition), Sim(), now)
    assert registration.stat == 2
    now.s += 2
    assert registration.stat == stat
    assert registration.registered is (stat == 5)


def test_registration_needs_an_allowed_access_and_band() -> None:
    now = Now()
    registration = Registration(Conditions(attach_delay_s=0, rat="nb-iot", band=8), Sim(), now)
    assert registration.stat == 1
    registration.rats = ("cat-m",)
    assert registration.stat == 2
    registration.rats = ("nb-iot",)
    registration.bands = {"nb-iot": (20, 3)}
    assert registration.stat == 2
    registration.bands = {"nb-iot": (20, 8), "cat-m": (1,)}
    assert registration.stat == 1


@BOTH
def test_registration_is_reported_when_asked_to(start: Callable[..., Host], kind: str) -> None:
    access = {"sim7080": 7, "bg95": 8}[kind]
    host = start(kind, pin="1234", attach_delay_s=4.0)
    host.at("AT+CEREG=2")
    host.at("AT+CREG=1")
    host.at("AT+CPIN=1234")
    data = host.read(lambda data: b"+CREG: 1\r\n" in data and b"+CEREG: 1," in data)
    assert b"\r\n+CEREG: 2\r\n" in data and b"\r\n+CREG: 2\r\n" in data
    assert f'\r\n+CEREG: 1,"1A2B","01A2D001",{access}\r\n'.encode() in data
    host.modem.conditions.no_service = True
    host.wait_line("+CEREG: 2")
    assert host.at("AT+CEREG?")[-2:] == ["+CEREG: 2,2", "OK"]


@BOTH
def test_signal_operator_and_attachment(start: Callable[..., Host], kind: str) -> None:
    host = start(kind).registered()
    assert host.at("AT+CSQ") == ["+CSQ: 20,0", "OK"]
    assert host.at("AT+CESQ")[0].startswith("+CESQ: 99,99,255,255,")
    assert host.at("AT+COPS?")[0] == f'+COPS: 0,0,"Test PLMN 1-1",{7 if kind == "sim7080" else 8}'
    host.at("AT+COPS=3,2")
    assert host.at("AT+COPS?")[0].startswith('+COPS: 0,2,"00101"')
    assert host.at("AT+CGATT?") == ["+CGATT: 1", "OK"]
    assert host.at("AT+COPS=2") == ["OK"]
    assert host.at("AT+COPS?") == ["+COPS: 2", "OK"]
    assert host.at("AT+CGATT?") == ["+CGATT: 0", "OK"]
    host.modem.conditions.no_service = True
    host.at("AT+COPS=0")
    assert host.at("AT+CSQ") == ["+CSQ: 99,99", "OK"]


@BOTH
def test_airplane_mode_ends_the_registration(start: Callable[..., Host], kind: str) -> None:
    host = start(kind).registered()
    assert host.at("AT+CFUN=4") == ["OK"]
    assert host.at("AT+CFUN?") == ["+CFUN: 4", "OK"]
    assert host.at("AT+CEREG?") == ["+CEREG: 0,0", "OK"]
    host.at("AT+CFUN=1")
    host.registered()


def test_sim7080_s_choice_of_access_and_bands(start: Callable[..., Host]) -> None:
    host = start(rat="cat-m", band=20).registered()
    assert host.at("AT+CNMP=38") == ["OK"] and host.at("AT+CNMP?") == ["+CNMP: 38", "OK"]
    assert host.at("AT+CMNB=2") == ["OK"] and host.at("AT+CMNB?") == ["+CMNB: 2", "OK"]
    assert host.at("AT+CEREG?") == ["+CEREG: 0,2", "OK"]
    assert host.at("AT+CPSI?")[0] == "+CPSI: NO SERVICE,Online"
    host.at("AT+CMNB=1")
    assert host.at('AT+CBANDCFG="CAT-M",3,8') == ["OK"]
    assert host.at("AT+CBANDCFG?")[0] == '+CBANDCFG: "CAT-M",3,8'
    assert host.at("AT+CEREG?") == ["+CEREG: 0,2", "OK"]
    assert host.at('AT+CBANDCFG="CAT-M",20,99')[-1] == "ERROR"
    host.at('AT+CBANDCFG="CAT-M",20')
    host.registered()
    assert host.at("AT+CPSI?")[0].startswith("+CPSI: LTE CAT-M1,Online,001-01,0x1A2B,27448321,447,EUTRAN-BAND20,")


def test_bg95_s_choice_of_access_and_bands(start: Callable[..., Host]) -> None:
    host = start("bg95", rat="nb-iot", band=8).registered()
    assert host.at("AT+QNWINFO") == ['+QNWINFO: "NBIoT","00101","LTE BAND 8",6300', "OK"]
    assert host.at('AT+QCFG="nwscanmode",3,1') == ["OK"]
    assert host.at('AT+QCFG="iotopmode",0,1') == ["OK"]
    assert host.at('AT+QCFG="iotopmode"') == ['+QCFG: "iotopmode",0', "OK"]
    assert host.at("AT+QNWINFO") == ["+QNWINFO: No Service", "OK"]
    host.at('AT+QCFG="iotopmode",1,1')
    assert host.at('AT+QCFG="band",0,80,80000,1') == ["OK"]  # NB-IoT on band 20 only
    assert host.at('AT+QCFG="band"') == ['+QCFG: "band",0xf,0x80,0x80000', "OK"]
    assert host.at("AT+CEREG?") == ["+CEREG: 0,2", "OK"]
    assert host.at('AT+QCFG="band",0,80,xyz,1') == ["ERROR"]
    host.at('AT+QCFG="band",0,80,80080,1')
    host.registered()
    assert host.at("AT+QCSQ")[0].startswith('+QCSQ: "NBIoT",')


@BOTH
def test_contexts_are_defined_and_activated(start: Callable[..., Host], kind: str) -> None:
    host = start(kind, apn="iot.example").registered()
    host.at("AT+CMEE=1")
    quote = '"' if kind == "sim7080" else ""
    assert host.at('AT+CGDCONT=1,"IP","wrong"') == ["OK"]
    assert host.at("AT+CGACT=1,1") == ["+CME ERROR: 148"]
    assert host.at("ATD*99#") == ["NO CARRIER"]
    assert host.at('AT+CGDCONT=1,"IP","iot.example"') == ["OK"]
    assert host.at("AT+CGDCONT?")[0].startswith('+CGDCONT: 1,"IP","iot.example","0.0.0.0",0,0')
    assert host.at("AT+CGACT=1,1") == ["OK"]
    assert host.at("AT+CGACT?") == ["+CGACT: 1,1", "OK"]
    assert host.at("AT+CGPADDR=1") == [f"+CGPADDR: 1,{quote}10.64.64.2{quote}", "OK"]
    assert host.at("AT+CGDCONT=99") == ["+CME ERROR: 50"]


def test_sim7080_s_own_network(start: Callable[..., Host]) -> None:
    host = start().registered()
    assert host.at("AT+CNACT=0,1") == ["OK"]
    host.wait_line("+APP PDP: 0,ACTIVE")
    assert host.at("AT+CNACT?")[:2] == ['+CNACT: 0,1,"10.64.64.2"', '+CNACT: 1,0,"0.0.0.0"']
    assert host.at("AT+CNACT=0,0") == ["OK"]
    host.wait_line("+APP PDP: 0,DEACTIVE")


# time, power


def test_network_s_time_is_local_with_quarters_of_an_hour(start: Callable[..., Host]) -> None:
    clock = SimClock(time.time(), 1_788_000_000.0, SPEED)  # 2026-08-29 10:40 UTC
    host = start(clock=clock, offset_quarters=22).registered()
    assert host.at("AT+CCLK?")[0].startswith('+CCLK: "80/01/06,')
    assert host.at("AT+CLTS=1") == ["OK"]
    assert re.fullmatch(r'\+CCLK: "26/08/29,16:1\d:\d\d\+22"', host.at("AT+CCLK?")[0])
    quectel = start("bg95", clock=clock, offset_quarters=-16).registered()
    assert quectel.at("AT+QLTS")[0].startswith('+QLTS: "2026/08/29,10:')
    assert quectel.at("AT+QLTS=1")[0].endswith('-16,0"')
    assert quectel.at("AT+QLTS=2")[0].startswith('+QLTS: "2026/08/29,06:')
    assert quectel.at("AT+CCLK?")[0].startswith('+CCLK: "80/01/06,')
    quectel.at("AT+CTZU=1")
    assert quectel.at("AT+CCLK?")[0].startswith('+CCLK: "26/08/29,06:')


def test_time_is_not_known_without_a_network(start: Callable[..., Host]) -> None:
    host = start("bg95", no_service=True)
    host.at("AT+CTZU=1")
    assert host.at("AT+QLTS=1") == ['+QLTS: ""', "OK"]
    assert host.at("AT+CCLK?")[0].startswith('+CCLK: "80/01/06,')
    assert host.at('AT+CCLK="26/01/02,03:04:05+04"') == ["OK"]
    assert host.at("AT+CCLK?")[0].startswith('+CCLK: "26/01/02,03:0')
    assert host.at('AT+CCLK="26/13/02,03:04:05+04"') != ["OK"]


@BOTH
def test_power_saving_and_edrx_are_kept(start: Callable[..., Host], kind: str) -> None:
    host = start(kind)
    assert host.at('AT+CPSMS=1,,,"00100100","00100001"') == ["OK"]
    assert host.at("AT+CPSMS?") == ['+CPSMS: 1,,,"00100100","00100001"', "OK"]
    assert host.at('AT+CPSMS=1,,,"2","00000001"') != ["OK"]
    assert host.at('AT+CEDRXS=1,4,"0101"') == ["OK"]
    assert host.at("AT+CEDRXS?") == ['+CEDRXS: 4,"0101"', "OK"]
    assert host.at("AT+CEDRXS=0") == ["OK"] and host.at("AT+CEDRXS?") == ["OK"]


def test_power_saving_mode_is_silence_until_the_power_key(start: Callable[..., Host]) -> None:
    host = start().registered()
    host.at('AT+CPSMS=1,,,"00100100","00000001"')  # T3324: 2 s
    limit = time.monotonic() + 3
    while host.modem.power != "asleep":
        assert time.monotonic() < limit
        time.sleep(0.01)
    host.serial.write(b"AT\r")
    time.sleep(0.1)
    assert host.serial.read(100) == b""
    host.modem.press_power_key()
    host.wait_line("SMS Ready")


@pytest.mark.parametrize(
    ("kind", "command", "said"),
    [
        ("sim7080", "AT+CPOWD=1", b"\r\nNORMAL POWER DOWN\r\n"),
        ("bg95", "AT+QPOWD=1", b"\r\nOK\r\n\r\nPOWERED DOWN\r\n"),
        ("bg95", "AT+QPOWD", b"\r\nOK\r\n\r\nPOWERED DOWN\r\n"),
    ],
)
def test_power_down_by_command(start: Callable[..., Host], kind: str, command: str, said: bytes) -> None:
    host = start(kind)
    host.serial.write(command.encode() + b"\r")
    assert host.read(lambda data: b"POWER" in data and data.endswith(b"\r\n")) == said
    time.sleep(0.2)
    assert host.modem.power == "off"
    host.serial.write(b"AT\r")
    time.sleep(0.1)
    assert host.serial.read(100) == b""


def test_power_key_switches_on_and_off_and_a_short_press_does_nothing(start: Callable[..., Host]) -> None:
    host = start(on=False, booted=False)
    host.modem.press_power_key(0.2)
    time.sleep(0.2)
    assert host.modem.power == "off"
    host.modem.press_power_key(1.2)
    host.wait_line("RDY")
    host.modem.press_power_key(4.0)
    host.wait_line("NORMAL POWER DOWN")
    time.sleep(0.2)
    assert host.modem.power == "off"


def test_restart_by_command_forgets_settings(start: Callable[..., Host]) -> None:
    host = start(pin="1234")
    host.at("AT+CPIN=1234")
    assert host.at("AT+CFUN=1,1") == ["OK"]
    host.wait_line("RDY")
    time.sleep(0.2)
    host.forget()
    host.serial.write(b"AT+CPIN?\r")
    assert host.read(FINAL.search) == b"AT+CPIN?\r\r\n+CPIN: SIM PIN\r\n\r\nOK\r\n"


# data mode


@BOTH
def test_dialling_needs_a_network(start: Callable[..., Host], kind: str) -> None:
    host = start(kind, no_service=True)
    for command in ("ATD*99#", "ATD*99***1#", 'AT+CGDATA="PPP",1', "ATO", "ATD+4912345;"):
        assert host.at(command) == ["NO CARRIER"], command
    assert host.at("ATH") == ["OK"]


@BOTH
@pytest.mark.parametrize("command", ["ATD*99#", "ATD*99***1#", "ATDT*99#", 'AT+CGDATA="PPP",1'])
def test_dialling_begins_ppp_and_escape_ends_it(start: Callable[..., Host], kind: str, command: str) -> None:
    host = start(kind).registered()
    host.serial.write(command.encode() + b"\r")
    data = host.read(lambda data: b"CONNECT" in data and data.count(b"\x7e") >= 2)
    assert re.match(rb"\r\nCONNECT( 150000000)?\r\n\x7e\xff\x7d\x23\xc0\x21\x7d\x21", data)
    time.sleep(0.15)
    host.serial.write(b"+++")
    host.read(lambda data: data.endswith(b"\r\nOK\r\n"))
    assert host.at("AT+CSQ")[-1] == "OK"
    assert host.at("ATO")[0].startswith("CONNECT")
    time.sleep(0.15)
    host.serial.write(b"+++")
    host.read(lambda data: data.endswith(b"\r\nOK\r\n"))
    assert host.at("ATH") == ["OK"]
    assert host.at("ATO") == ["NO CARRIER"]


def test_pluses_among_data_are_data(start: Callable[..., Host]) -> None:
    host = start().registered()
    host.at("ATD*99#")
    for text in (b"+++x", b"x+++", b"++++"):
        time.sleep(0.15)
        host.serial.write(text)
        time.sleep(0.15)
        assert b"OK" not in host.serial.read(1000)


def test_lost_carrier_ends_ppp_and_says_so(start: Callable[..., Host]) -> None:
    host = start(drop_after_s=2.0).registered()
    host.modem.conditions.attach_delay_s = 60.0
    host.at("ATD*99#")
    host.wait_line("NO CARRIER")
    assert host.at("AT+CEREG?") == ["+CEREG: 0,2", "OK"]  # it has to register anew
    host.modem.conditions.attach_delay_s = 0.0
    host.registered()
    host.modem.conditions.drop_after_s = None
    host.modem.conditions.drop_abruptly = True
    host.at("ATD*99#")
    host.modem.lose_carrier()
    host.wait_line("NO CARRIER")
    assert host.modem.calls == 2


def test_carrier_is_lost_after_so_many_bytes(start: Callable[..., Host]) -> None:
    host = start(drop_after_bytes=500, drop_abruptly=True).registered()
    host.at("ATD*99#")
    for _ in range(30):
        host.serial.write(encode(b"\xff\x03\xc0\x21\x09\x01\x00\x08\0\0\0\0"))
    host.wait_line("NO CARRIER")


def test_terminated_ppp_ends_the_call(start: Callable[..., Host]) -> None:
    host = start().registered()
    host.at("ATD*99#")
    host.serial.write(encode(b"\xff\x03\xc0\x21\x05\x09\x00\x04"))
    host.read(lambda data: b"\x7d\x26\x7d\x29" in data)  # Terminate-Ack with the same identifier
    host.modem.lose_carrier()
    host.wait_line("NO CARRIER")


# faults of the line


def test_deaf_modem_answers_nothing(start: Callable[..., Host]) -> None:
    host = start()
    host.modem.conditions.deaf = True
    host.serial.write(b"AT\r")
    time.sleep(0.2)
    assert host.serial.read(100) == b""
    host.modem.conditions.deaf = False
    assert host.at("AT") == ["OK"]


def test_lines_in_pieces_are_whole_in_the_end(start: Callable[..., Host]) -> None:
    host = start(pieces=True)
    for _ in range(5):
        assert host.at("AT+CSQ;+CEREG?")[-1] == "OK"


def test_noise_comes_as_often_as_asked_and_the_same_each_time() -> None:
    said = []
    for _ in range(2):
        with SimModem(clock=SimClock.start(SPEED), garbage=0.5, cut=0.5, seed=9) as modem:
            host = Host(modem)
            time.sleep(0.3)
            host.forget()
            answers = []
            for _ in range(20):
                host.serial.write(b"ATE0\r")
                time.sleep(0.02)
                answers.append(host.serial.read(200))
            said.append(answers)
            host.serial.close()
    clean = sum(answer == b"\r\nOK\r\n" for answer in said[0])
    assert 0 < clean < 20


# what there is of it


def test_nonsense_is_refused() -> None:
    for settings in ({"type": "nokia"}, {"pin": "12"}, {"pin": "abcd"}):
        with pytest.raises(ModemError) as told:
            SimModem(**settings)
        assert told.value.remedy


def test_command_prints_its_port_and_ends_on_a_signal() -> None:
    command = [
        sys.executable,
        "-m",
        "host_tools.cli",
        "sim",
        "modem",
        "--type",
        "bg95",
        "--pin",
        "1234",
        "--speed",
        "20",
    ]
    command += ["--attach-delay", "1", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        with serial.Serial(told["port"], 115200, timeout=1) as line:
            time.sleep(0.3)
            line.reset_input_buffer()
            line.write(b"AT+CPIN?\r")
            assert b"+CPIN: SIM PIN" in line.read_until(b"OK\r\n")
        process.send_signal(signal.SIGINT)
        assert json.loads(process.stdout.readline()) == {"event": "statistics", "calls": 0, "power": "on"}
        assert process.wait(10) == 0
