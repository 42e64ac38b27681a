# The AT engine: lines, time limits, what a command may hold, and a modem that means harm.
import gc

from fakemodem import UART, Clock, Endless, FakeModem, run

from sealband.links.base import LinkError
from sealband.links.modem import Modem, checked, entry

LINE_MAX = 160


def engine(*steps, urc=None):
    clock = Clock()
    UART.modem = FakeModem(clock, steps)
    return Modem(UART(1, 115200, 25, 26, 2048), urc, clock.ticks_ms), UART.modem, clock


# what it raised: (text, code, milliseconds that it took)
def refused(modem, clock, *args, **more):
    began = clock.now
    try:
        run(clock, modem.ask(*args, **more), 100000)
    except LinkError as error:
        return error.args[0], error.args[1], clock.now - began
    raise AssertionError("it was done")


def test_answer_is_the_wanted_line_and_the_others_are_told():
    told = []
    modem, fake, clock = engine(
        ("AT+CSQ", ["+CREG: 1", "+CSQ: 14,99", "+CSQ: 1,1", "", "+CMTI: 1", "OK"]), urc=told.append
    )
    assert run(clock, modem.ask("+CSQ", 1000, "+CSQ:"), 1000)[0] == "14,99"
    assert fake.commands == ["AT+CSQ"]
    assert told == ["+CREG: 1", "+CSQ: 1,1", "+CMTI: 1"]


def test_echo_is_no_answer():
    told = []
    modem, _, clock = engine(("AT+CSQ", ["AT+CSQ\r", "+CSQ: 14,99", "OK"]), urc=told.append)
    assert run(clock, modem.ask("+CSQ", 1000, "+CSQ:"), 1000)[0] == "14,99"
    assert told == []


def test_answer_without_its_line_is_no_answer():
    modem, _, clock = engine(("AT+CPIN?", ["OK"]))
    assert refused(modem, clock, "+CPIN?", 1000, "+CPIN:")[:2] == ("AT+CPIN?: no answer", -1)


def test_command_ends_within_its_time_when_nothing_comes():
    for limit in (300, 5000, 60000):
        modem, _, clock = engine(("AT+CSQ", []))
        text, code, took = refused(modem, clock, "+CSQ", limit)
        assert (text, code) == ("AT+CSQ: no answer in time", None)
        assert limit <= took <= limit + 20


def test_command_ends_within_its_time_when_it_never_stops():
    for flood in (b"x" * 64, b"+CSQ: 1,1\r\n", b"\r\n", b"\xff" * 64, b"OK ", b"\n", b"\x00\n"):
        modem, fake, clock = engine()
        fake.flood = flood
        text, code, took = refused(modem, clock, "+CSQ", 5000, "+CEREG:")
        assert code is None and 5000 <= took <= 5020


def test_flood_takes_no_memory():
    modem, fake, clock = engine()
    fake.flood = b"x" * 64
    gc.collect()
    before = gc.mem_alloc()
    refused(modem, clock, "+CSQ", 20000)
    assert len(modem._held) <= LINE_MAX + 64
    gc.collect()
    assert gc.mem_alloc() - before < 2048


def test_line_that_is_too_long_is_nothing():
    for long in ("+CSQ: 14," + "9" * 200, "OK" + " " * 300):
        modem, _, clock = engine(("AT+CSQ", [long, "OK"]))
        assert refused(modem, clock, "+CSQ", 1000, "+CSQ:")[1] == -1
        assert modem.garbled == 1


def test_line_that_is_no_text_is_nothing():
    modem, _, clock = engine(("AT+CSQ", ["+CSQ: 14\x00,9", "+CSQ: 1\x804", "\xffOK", "OK"]))
    assert refused(modem, clock, "+CSQ", 1000, "+CSQ:")[:2] == ("AT+CSQ: no answer", -1)
    assert modem.garbled == 3


def test_errors_carry_their_number():
    # TS 27.007 9.2: 10 SIM not inserted, 16 incorrect password; CMEE=2 has words
    for line, code in (
        ("ERROR", -1),
        ("+CME ERROR: 10", 10),
        ("+CME ERROR:16", 16),
        ("+CME ERROR: SIM not inserted", -1),
        ("+CMS ERROR: 500", 500),
        ("+CME ERROR: 99999999999999999999", -1),
        ("+CME ERROR: -3", -1),
    ):
        modem, _, clock = engine(("AT+CPIN?", [line, "OK"]))
        assert refused(modem, clock, "+CPIN?", 1000, "+CPIN:")[1] == code


def test_words_of_a_dial_end_only_a_dial():
    for line in ("NO CARRIER", "BUSY", "NO ANSWER", "NO DIALTONE", "ERROR"):
        modem, _, clock = engine(("ATD*99#", [line]))
        _, code, took = refused(modem, clock, "D*99#", 60000, done="CONNECT")
        assert code == -1 and took < 100
    for line in ("NO CARRIER", "BUSY", "CONNECT"):
        modem, _, clock = engine(("AT+CSQ", [line, "+CSQ: 14,99", "OK"]))
        assert run(clock, modem.ask("+CSQ", 1000, "+CSQ:"), 1000)[0] == "14,99"
    modem, _, clock = engine(("ATD*99#", ["OK", "+CGEV: 1"]))
    assert refused(modem, clock, "D*99#", 3000, done="CONNECT")[1] is None


def test_what_comes_after_connect_is_left_for_ppp():
    modem, fake, clock = engine(("ATD*99#", ["CONNECT 115200"]))
    fake.steps[0][1].append(0)
    run(clock, modem.ask("D*99#", 1000, done="CONNECT"), 1000)
    fake.out.append((0, b"~\xff\x7d\x23"))
    assert UART.modem.take(64) == b"~\xff\x7d\x23"


def test_old_lines_answer_nothing():
    modem, fake, clock = engine(("AT+CEREG?", ["+CEREG: 0,2", "OK"]))
    fake.answer(["+CEREG: 0,1", "OK"])
    fake.out.append((0, b"+CEREG: 0,1"))  # and one that is not whole
    assert run(clock, modem.ask("+CEREG?", 1000, "+CEREG:"), 1000)[0] == "0,2"


def test_partial_lines_are_put_together():
    modem, fake, clock = engine(("AT+CSQ", []))
    asked = modem.ask("+CSQ", 2000, "+CSQ:")
    for part in (b"\r", b"\n+CS", b"Q: 1", b"4,99\r", b"\n\r\nO", b"K\r\n"):
        clock.now += next(asked)
        fake.out.append((0, part))
    assert run(clock, asked, 2000)[0] == "14,99"


def test_modem_that_goes_off_is_not_waited_for():
    # SIM7080: NORMAL POWER DOWN, UNDER-VOLTAGE POWER DOWN; SIM7000: OVER-VOLTAGE POWER DOWN
    for line in ("NORMAL POWER DOWN", "UNDER-VOLTAGE POWER DOWN"):
        modem, _, clock = engine(("AT+CSQ", [line]))
        assert refused(modem, clock, "+CSQ", 60000)[2] < 100
    modem, _, clock = engine(("AT+CPOWD=1", ["NORMAL POWER DOWN"]))
    run(clock, modem.ask("+CPOWD=1", 1000, done="NORMAL POWER DOWN"), 100)


def test_nothing_that_ends_a_line_gets_into_a_command():
    for text in ("+CSQ\r", "+CSQ\n+CPOF", "+C\x00", "+C\x1a", "+C\x7f", "+C\xe9", "+" + "C" * 200):
        modem, fake, clock = engine()
        assert refused(modem, clock, text)[1] == -1
        assert fake.commands == [] and fake.out == []


def test_value_with_a_character_that_could_end_it_is_refused():
    for text in ('iot"', "iot\r", "iot\nAT+CPOF", "iot;+CPOF", "iot,1", "iot net", "iot\\22", "ïot", "", "a" * 101):
        try:
            checked(text, "-._", 1, 100)
        except LinkError as error:
            assert not text or text not in str(error)
            continue
        raise AssertionError(text)
    assert checked("iot.1nce.net", "-._", 1, 100) == "iot.1nce.net"
    assert checked("", "", 0, 8) == ""


def test_secret_of_a_command_is_not_in_its_error():
    for lines in ([], ["ERROR"], ["OK"]):
        modem, _, clock = engine(('AT+CPIN="4321"', lines))
        assert "4321" not in refused(modem, clock, '+CPIN="4321"', 1000, "+CPIN:")[0]


def test_sync_takes_a_modem_out_of_a_call():
    modem, fake, clock = engine()
    fake.data = True
    assert run(clock, modem.sync(3), 2000)[0] is False
    found, took = run(clock, modem.sync(3, True), 10000)
    assert found is True and not fake.data
    assert took >= 2 * 1000  # V.250 S12: a second before and after
    assert fake.commands[-1] == "ATH"


def test_sync_with_nobody_ends():
    modem, fake, clock = engine()
    fake.on = False
    found, took = run(clock, modem.sync(3, True), 10000)
    assert found is False and took < 3 * 320 + 2200 + 2 * 320 + 1


def test_table_has_its_entries():
    table = "off|+CPOWD=1|NORMAL POWER DOWN\nrat any|+CNMP|2\nempty"
    assert entry(table, "off") == ["+CPOWD=1", "NORMAL POWER DOWN"]
    assert entry(table, "rat any") == ["+CNMP", "2"]
    for name in ("of", "rat", "rat any|+CNMP", "", "empty"):
        assert not entry(table, name)


def test_fake_notices_a_generator_that_does_not_end():
    def endless():
        while True:
            yield 10

    for steps in (endless(), iter([0]), iter([None])):
        try:
            run(Clock(), steps, 1000)
        except Endless:
            continue
        raise AssertionError()
