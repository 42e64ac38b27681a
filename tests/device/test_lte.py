# The cellular bearer: from a module without power to IP, and off again, by the transcripts of modem_corpus.py.
import sys

import fakemodem
from fakemodem import Board, Clock, FakeModem, Network, OldPpp, Ppp, Provision, Store, run
from modem_corpus import CORPUS, steps

from sealband.links.base import LinkError

fakemodem.install()

from sealband.links import attach, modemsetup, modemstart  # noqa: E402
from sealband.links import modem as engine  # noqa: E402
from sealband.links.lte import LteBearer  # noqa: E402

# what up() may take, in ms: finding the module (two presses of its key, two other rates), SIM, settings, 180 s for a
# network, dialling, PPP, and switching off what did not come up
WAKE_MS = 3500 + 2 * (1000 + 15300 + 1000) + 3500 + 3 * 1000 + 5000
SIM_MS = 10000 + 11 * 6000 + 5000 + 15000
SETTINGS_MS = 5000 + 5 * 15000 + 2 * 10000 + 2 * 5000
NETWORK_MS = 180000 + 2 * 5000 + 2000 + 2 * 5000
UP_MS = WAKE_MS + SIM_MS + SETTINGS_MS + NETWORK_MS + 60000 + 30000 + 20000


# what each transcript that does not come up is to end with
ENDS = {
    "SIM7080G finds no service": "no network",
    "SIM7080G is denied": "the network refuses the SIM",
    "SIM7080G goes off": "the modem goes off",
    "SIM7000G without a SIM": "AT+CPIN?: +CME ERROR: 10",
    "SIM7000G whose SIM is locked": "the SIM wants a key that was not provisioned",
    "SIM7000G takes its PIN, and the carrier drops": "ATD*99#: NO CARRIER",
    "BG96 is denied": "the network refuses the SIM",
    "BG95 refuses the PIN": "AT+CPIN: +CME ERROR: 16",
    "A7670E is only half registered": "no network",
}


def setup(name, store=None, **more):
    family, _, with_it, text = CORPUS[name]
    fakemodem.install()
    clock = Clock()
    modem = FakeModem(clock, steps(text))
    Ppp.comes = True
    Network.PPP = Ppp
    Provision.cellular = ["iot.1nce.net", "4321", "", ""]
    options = dict(with_it)
    options.update(more)
    bearer = LteBearer(
        Board(modem, family), store=Store() if store is None else store, ticks_ms=clock.ticks_ms, **options
    )
    return bearer, modem, clock


# up again, with the same stand-ins
def up(bearer, clock, limit_ms=UP_MS):
    fakemodem.install()
    return run(clock, bearer.up(), limit_ms)


def refused(bearer, clock, limit_ms=UP_MS):
    began = clock.now
    try:
        up(bearer, clock, limit_ms)
    except LinkError as error:
        assert not bearer.ready() and bearer.ppp is None
        return error.args[0], clock.now - began
    raise AssertionError("it came up")


def test_transcripts_end_as_they_should():
    for name in CORPUS:
        bearer, modem, clock = setup(name)
        if CORPUS[name][1]:
            up(bearer, clock)
            assert bearer.ready(), name
            # every command of the transcript was sent, in its order
            wanted = [command for command, _ in modem.steps]
            sent = [command for command in modem.commands if command in wanted]
            left = list(wanted)
            for command in sent:
                if left and command == left[0]:
                    left.pop(0)
            assert not left, (name, left)
            # "+++" to a modem that is in no call is the beginning of a line
            assert not set(modem.commands) - set(wanted) - {"+++AT"}, (name, modem.commands)
        else:
            text, took = refused(bearer, clock)
            assert text == ENDS[name], name
            assert not modem.on, name
            # a refusal is not waited out
            assert took < 60000 or text == "no network"


def test_what_a_bearer_knows_of_its_network():
    # 26/08/27,18:21:45+32 is 10:21:45 UTC; +19: TS 27.007 8.5: -113 + 2 * 19
    bearer, _, clock = setup("SIM7080G attaches")
    assert bearer.time() is None
    up(bearer, clock)
    # seconds from 2025-01-01 to 2026-08-27T10:21:45Z, as date(1) has it
    assert bearer.time() - 52136505 in (0, 1, 2)
    assert bearer.signal_dbm == -75
    clock.now += 3600000
    assert bearer.time() - 52140105 in (0, 1, 2)
    # QLTS=1 is GMT whatever zone stands behind it
    bearer, _, clock = setup("BG96 attaches")
    up(bearer, clock)
    assert bearer.time() - 55483822 in (0, 1, 2)
    # a clock that was never set is none, and 99 is no level
    bearer, _, clock = setup("SIM7000G with echo and garbage")
    up(bearer, clock)
    assert bearer.time() is None and bearer.signal_dbm is None
    bearer, _, clock = setup("BG95 takes its PIN")
    up(bearer, clock)
    assert bearer.time() is None


def test_time_of_clocks():
    # date -u -d "…" +%s, less 1735689600
    for text, seconds in (
        ("25/01/01,00:00:00+00", 0),
        ("25/01/01,01:00:00+04", 0),
        ("24/12/31,23:00:00-04", None),
        ("28/02/29,12:00:00+00", 99748800),
        ("28/03/01,00:00:00+22", 99772200),
        ("28/12/31,23:59:59-20", 126248399),
        ("29/01/01,00:00:00+00", 126230400),
        ("26/11/21,16:10:00+00", 59587800),
        ("2026/11/21,16:10:00+00,0", 59587800),
        ("69/12/31,23:59:59+00", 1420070399),
        ("25/01/01,00:00:00+56", 0),
        ("26/11/21,16:10:00", 59587800),
        ("80/01/06,00:00:39+00", None),
        ("70/01/01,00:00:07+00", None),
        ("04/01/01,00:00:00+00", None),
        ("26/13/21,16:10:00+00", None),
        ("26/00/21,16:10:00+00", None),
        ("26/11/32,16:10:00+00", None),
        ("26/11/00,16:10:00+00", None),
        ("26/11/21,24:10:00+00", None),
        ("26/11/21,16:60:00+00", None),
        ("26/11/21,16:10:61+00", None),
        ("26/11/21,16:10:00+57", None),
        ("26/11/21,16:10:00-99", None),
        ("26/11/21,-1:10:00+00", None),
        ("-26/11/21,16:10:00+00", None),
        ("26/11/21", None),
        ("26/11,16:10:00+00", None),
        ("26/11/21,16:10+00", None),
        (",,", None),
        ("", None),
        ("999999999999999999999999/1/1,00:00:00+00", None),
    ):
        assert attach.network_time('"' + text + '"', False) == seconds, text
    assert attach.network_time('"2026/11/21,16:10:00+32,0"', True) == 59587800


def test_timers_are_coded_as_ts_24_008_says():
    # 10.5.7.4a, T3412 extended: unit in bits 8 to 6: 000 ten minutes, 001 an hour, 010 ten hours, 011 two seconds,
    # 100 thirty seconds, 101 a minute, 110 320 hours. 10.5.7.3, T3324: 000 two seconds, 001 a minute, 010 six minutes
    for seconds, tau in (
        (0, "01100000"),
        (2, "01100001"),
        (62, "01111111"),
        (63, "10000011"),  # 3 x 30 s
        (930, "10011111"),
        (931, "10110000"),  # 16 min
        (1860, "10111111"),
        (1861, "00000100"),  # 4 x 10 min
        (3600, "00000110"),
        (18600, "00011111"),
        (18601, "00100110"),  # 6 h
        (86400, "00111000"),  # 24 h
        (111600, "00111111"),
        (111601, "01000100"),  # 4 x 10 h
        (1116000, "01011111"),
        (1116001, "11000001"),
        (35712000, "11011111"),
        (99999999, "11011111"),
    ):
        assert modemsetup.timer(seconds, modemsetup._TAU) == tau, seconds
    for seconds, active in (
        (0, "00000000"),
        (2, "00000001"),
        (10, "00000101"),
        (11, "00000110"),
        (62, "00011111"),
        (63, "00100010"),
        (60, "00011110"),
        (1860, "00111111"),
        (1861, "01000110"),
        (11160, "01011111"),
        (99999, "01011111"),
    ):
        assert modemsetup.timer(seconds, modemsetup._ACTIVE) == active, seconds


def test_cycles_are_coded_as_ts_24_008_says():
    # 10.5.5.32: 0010 20.48 s, 0011 40.96 s, 0101 81.92 s, 1001 163.84 s, 1010 327.68 s ... 1111 10485.76 s
    for seconds, code in (
        (1, "0010"),
        (21, "0010"),
        (40, "0010"),
        (41, "0011"),
        (82, "0101"),
        (163, "0101"),
        (164, "1001"),
        (328, "1010"),
        (656, "1011"),
        (1311, "1100"),
        (2622, "1101"),
        (5243, "1110"),
        (10486, "1111"),
        (99999, "1111"),
    ):
        assert modemsetup.cycle(seconds) == code, seconds


def test_registration_is_read_with_and_without_its_first_number():
    # TS 27.007 10.1.22: "+CEREG: <n>,<stat>" when asked, "+CEREG: <stat>" by itself
    for text, stat in (
        ("0,1", 1),
        ('2,5,"1A2B","01C3",7', 5),
        ("1", 1),
        ('5,"1A2B","01C3",7', 5),
        ("0,11", 11),
        ("", 0),
        ("a,b", 0),
        ("0,-1", 0),
        ("4,3,,", 3),
    ):
        assert attach.status(text) == stat, text


def test_ppp_of_either_generation_gets_user_and_password():
    bearer, _, clock = setup("SIM7080G attaches")
    Provision.cellular = ["iot.1nce.net", "", "me", "secret"]
    up(bearer, clock)
    assert Ppp.last.calls == [("connect", Ppp.SEC_PAP, "me", "secret")]
    run(clock, bearer.down(), 30000)
    assert Ppp.last.calls[-1] == ("disconnect",) and not bearer.ready()
    bearer, _, clock = setup("SIM7080G attaches")
    Provision.cellular = ["iot.1nce.net", "", "me", "secret"]
    Network.PPP = OldPpp
    up(bearer, clock)
    assert Ppp.last.calls == [("active", True), ("connect", OldPpp.AUTH_PAP, "me", "secret")]
    run(clock, bearer.down(), 30000)
    assert Ppp.last.calls[-1] == ("active", False) and not bearer.ready()
    for ppp, calls in ((Ppp, [("connect", 0, None, None)]), (OldPpp, [("active", True), ("connect", 0, None, None)])):
        bearer, _, clock = setup("SIM7080G attaches")
        Network.PPP = ppp
        up(bearer, clock)
        assert Ppp.last.calls == calls


def test_ppp_that_does_not_come_is_an_error_and_the_module_is_off():
    bearer, modem, clock = setup("SIM7080G attaches")
    Ppp.comes = False
    text, took = refused(bearer, clock)
    assert text == "PPP does not come up" and 30000 <= took < 60000
    assert Ppp.last.calls[-1] == ("disconnect",) and not modem.on


def test_driver_that_raises_is_a_link_error():
    class Broken:
        def __init__(self, uart):
            raise self.error

    for error in (OSError(12), RuntimeError("init failed"), MemoryError(), ValueError("invalid auth")):
        bearer, modem, clock = setup("SIM7080G attaches")
        Broken.error = error
        Network.PPP = Broken
        refused(bearer, clock)
        assert not modem.on


def test_carrier_that_is_lost_is_noticed_and_found_again():
    bearer, modem, clock = setup("SIM7080G attaches")
    up(bearer, clock)
    first = bearer.ppp
    first.up = False
    modem.data = False
    assert not bearer.ready()
    _, took = up(bearer, clock)
    assert bearer.ready() and bearer.ppp is not first
    assert took < 30000  # the module was on, and in the network
    up(bearer, clock, 1)  # nothing to do


def test_module_is_switched_on_by_its_key_and_off_by_its_word():
    bearer, modem, clock = setup("SIM7080G attaches")
    modem.on = False
    up(bearer, clock)
    assert bearer.ready() and bearer.board.power == [True]
    run(clock, bearer.down(), 30000)
    assert modem.commands[-1] == "AT+CPOWD=1" and not modem.on
    assert bearer.board.power == [True, False]
    count = len(modem.commands)
    run(clock, bearer.down(), 30000)  # it is down
    assert len(modem.commands) == count


def test_every_family_has_its_word_for_off():
    for name, word in (
        ("SIM7080G attaches", "AT+CPOWD=1"),
        ("BG95 takes its PIN", "AT+QPOWD=1"),
        ("A7670E attaches", "AT+CPOF"),
    ):
        bearer, modem, clock = setup(name)
        up(bearer, clock)
        run(clock, bearer.down(), 30000)
        assert modem.commands[-1] == word and not modem.on


def test_module_that_sleeps_in_psm_stays_on_and_is_woken():
    bearer, modem, clock = setup("SIM7080G attaches", psm=(3600, 10))
    modem.steps.append(('AT+CPSMS=1,,,"00000110","00000101"', ["OK"]))
    up(bearer, clock)
    run(clock, bearer.down(), 30000)
    assert modem.on and not bearer.ready()
    modem.on = False  # deaf until its key is pressed
    up(bearer, clock)
    assert bearer.ready() and 'AT+CPSMS=1,,,"00000110","00000101"' in modem.commands


def test_module_in_a_call_of_before_a_reset_is_found():
    bearer, modem, clock = setup("SIM7080G attaches")
    modem.data = True
    modem.key = lambda: None  # pressed too short to switch it off
    _, took = up(bearer, clock)
    assert bearer.ready() and took < 25000
    # and one of ours, whose other end is gone, at once
    bearer.ppp.up = False
    assert modem.data
    _, took = up(bearer, clock)
    assert bearer.ready() and took < 12000


def test_module_that_found_no_network_is_off_also_with_psm():
    bearer, modem, clock = setup("SIM7080G finds no service", psm=(3600, 10))
    refused(bearer, clock)
    assert not modem.on


def test_module_that_is_left_while_it_looks_for_a_network_is_off_also_with_psm():
    # the session's patience ends before the bearer's, or an event does not wait for it
    bearer, modem, clock = setup("SIM7080G finds no service", psm=(3600, 10), wait_s=600)
    fakemodem.install()
    steps = bearer.up()
    while clock.now < 300000:
        clock.now += max(1, next(steps))
    steps.close()
    assert modem.on
    run(clock, bearer.down(), 30000)
    assert not modem.on


def test_time_of_before_is_not_told_again():
    bearer, modem, clock = setup("SIM7080G attaches")
    up(bearer, clock)
    assert bearer.time()
    run(clock, bearer.down(), 30000)
    modem.steps = [(c, ["ERROR"] if c == "AT+CCLK?" else a) for c, a in modem.steps]
    up(bearer, clock)
    assert bearer.time() is None


def test_deaf_module_loses_its_supply_or_is_pressed_again():
    for cut in (False, True):
        bearer, modem, clock = setup("SIM7080G attaches")
        bearer.board.cut = cut
        deaf, modem.rate = modem.rate, 1
        key, presses = modem.key, []

        def pressed(modem=modem, key=key, presses=presses, deaf=deaf):
            presses.append(1)
            key()
            if len(presses) == 2:
                modem.rate, modem.on = deaf, True

        modem.key = pressed
        up(bearer, clock)
        assert bearer.ready() and len(presses) == 2
        assert bearer.board.power[:3] == [True, False, True]


def test_module_at_another_rate_is_told_ours():
    bearer, modem, clock = setup("SIM7080G attaches")
    modem.rate = 9600
    told = modem.told

    def hears(command):
        if command == "AT+IPR=115200;&W":
            modem.answer(["OK"])
            modem.commands.append(command)
            modem.later = 115200
            return
        if getattr(modem, "later", None) and command == "AT":
            pass
        told(command)

    hear = modem.hear

    def heard(data, rate):
        hear(data, rate)
        if getattr(modem, "later", None):
            modem.rate = modem.later

    modem.told, modem.hear = hears, heard
    up(bearer, clock)
    assert bearer.ready() and "AT+IPR=115200;&W" in modem.commands


def test_module_that_is_not_there_is_an_error_within_its_time():
    bearer, modem, clock = setup("SIM7080G attaches")
    modem.on = False
    modem.key = lambda: None
    text, took = refused(bearer, clock, WAKE_MS + 20000)
    assert text == "the modem does not answer"


def test_pin_that_was_refused_is_not_tried_again():
    store = Store()
    tries = 0
    for _ in range(5):
        bearer, modem, clock = setup("BG95 refuses the PIN", store)
        refused(bearer, clock)
        tries += modem.commands.count('AT+CPIN="4321"')
    assert tries == 1
    # another one was provisioned
    bearer, modem, clock = setup("BG95 refuses the PIN", store)
    Provision.cellular = ["iot.1nce.net", "1234", "", ""]
    refused(bearer, clock)
    assert modem.commands.count('AT+CPIN="1234"') == 1


def test_pin_whose_answer_never_comes_is_tried_twice_at_most():
    store = Store()
    tries = 0
    for _ in range(5):
        bearer, modem, clock = setup("BG95 refuses the PIN", store)
        modem.steps[-1] = (modem.steps[-1][0], [])
        refused(bearer, clock)
        tries += modem.commands.count('AT+CPIN="4321"')
    assert tries == 2


def test_pin_that_met_a_busy_sim_may_be_tried_once_more():
    for line, most in (("+CME ERROR: 14", 2), ("+CME ERROR: 16", 1), ("+CME ERROR: 12", 1), ("ERROR", 1)):
        store = Store()
        tries = 0
        for _ in range(4):
            bearer, modem, clock = setup("BG95 refuses the PIN", store)
            modem.steps[-1] = (modem.steps[-1][0], [line])
            refused(bearer, clock)
            tries += modem.commands.count('AT+CPIN="4321"')
        assert tries == most, line


def test_pin_is_not_tried_when_flash_does_not_take_the_mark():
    class Full(Store):
        def save_number(self, name, value):
            raise OSError(28)

    bearer, modem, clock = setup("BG95 refuses the PIN", Full())
    refused(bearer, clock)
    assert 'AT+CPIN="4321"' not in modem.commands


def test_last_try_of_a_sim_is_left_to_people():
    for line, tried in (('+QPINC: "SC",1,10', 0), ('+QPINC: "SC",0,10', 0), ('+QPINC: "SC",2,10', 1), ("ERROR", 1)):
        bearer, modem, clock = setup("BG95 refuses the PIN")
        modem.steps = [(c, [line, "OK"] if c == 'AT+QPINC="SC"' else a) for c, a in modem.steps]
        refused(bearer, clock)
        assert modem.commands.count('AT+CPIN="4321"') == tried, line


def test_pin_that_was_right_can_be_used_every_time():
    store = Store()
    for _ in range(4):
        bearer, modem, clock = setup("BG95 takes its PIN", store)
        up(bearer, clock)
        assert modem.commands.count('AT+CPIN="4321"') == 1
        assert store.held & 3 == 0


def test_pin_is_no_pin():
    for pin in ("", "123", "123456789", "12a4", '12"4', "1234\r", "１２３４"):
        bearer, modem, clock = setup("BG95 refuses the PIN")
        Provision.cellular = ["iot.1nce.net", pin, "", ""]
        refused(bearer, clock)
        assert not [command for command in modem.commands if command.startswith("AT+CPIN=")], pin


def test_sim_that_wants_another_key_gets_none():
    for state in ("SIM PUK", "PH-SIM PIN", "SIM PIN2", ""):
        bearer, modem, clock = setup("SIM7000G whose SIM is locked")
        modem.steps[-1] = ("AT+CPIN?", ["+CPIN: " + state, "OK"])
        _, took = refused(bearer, clock)
        assert not [command for command in modem.commands if command.startswith("AT+CPIN=")]
        assert took < 30000


def test_provisioned_values_cannot_leave_their_command():
    for apn in ('iot"', "iot\r", "iot\nAT+CPOF", "iot;+CPOF", "iot,1", "iot net", "ïot", "a" * 101):
        bearer, modem, clock = setup("SIM7080G attaches")
        Provision.cellular = [apn, "", "", ""]
        refused(bearer, clock)
        for command in modem.commands:
            assert "iot" not in command and "aaa" not in command, apn


def test_options_that_the_module_has_not_are_errors():
    for name, options in (
        ("A7670E attaches", {"rat": "nb-iot"}),
        ("A7670E attaches", {"bands": (3,)}),
        ("SIM7080G attaches", {"rat": "off"}),
        ("SIM7080G attaches", {"rat": "cat-m|+CNMP"}),
        ("SIM7080G attaches", {"bands": ('8"',)}),
        ("SIM7080G attaches", {"bands": tuple(range(1, 60))}),
        ("BG96 attaches", {"bands": ("8",)}),
    ):
        bearer, modem, clock = setup(name, **options)
        refused(bearer, clock)
        for command in modem.commands:
            assert not command.startswith(("AT+CBANDCFG=", 'AT+QCFG="band",')), command


def test_setting_that_only_begins_alike_is_written():
    for held, written in (("3", 0), ("3,1", 0), ("38", 1), ("13", 1), ("", 1)):
        clock = Clock()
        modem = FakeModem(clock, [("AT+X?", ["+X: " + held, "OK"]), ("AT+X=3", ["OK"])])
        Board(modem)
        asked = engine.Modem(fakemodem.UART(1, 115200, 25, 26, 2048), None, clock.ticks_ms)
        changed, _ = run(clock, modemsetup._set(asked, "+X?", "+X:", "3", "+X=3"), 20000)
        assert changed is bool(written) and modem.commands.count("AT+X=3") == written, held


def test_deaf_module_without_a_switch_is_pressed_off():
    bearer, modem, clock = setup("SIM7080G attaches")
    up(bearer, clock)
    modem.rate = 1  # it hears nothing any more
    _, took = run(clock, bearer.down(), 30000)
    assert not modem.on and took > 1500


def test_bands_are_written_only_where_they_differ():
    for held, writes in (
        (["3,8,20", "3,8,20"], 0),
        (["3,8,20", "8,20"], 1),
        (["1,2,3,4,5,8,12,13,18,19,20,26,28,39", "1,2,3,5,8,12,13,17,18,19,20,26,28"], 2),
    ):
        bearer, modem, clock = setup("SIM7080G attaches", bands=(3, 8, 20))
        modem.steps += [
            ("AT+CBANDCFG?", ['+CBANDCFG: "CAT-M",' + held[0], '+CBANDCFG: "NB-IOT",' + held[1], "OK"]),
            ('AT+CBANDCFG="CAT-M",3,8,20', ["OK"]),
            ('AT+CBANDCFG="NB-IOT",3,8,20', ["OK"]),
        ]
        up(bearer, clock)
        assert len([command for command in modem.commands if command.startswith("AT+CBANDCFG=")]) == writes


def test_board_that_is_not_provisioned_is_left_alone():
    for cellular in (None, []):
        bearer, modem, clock = setup("SIM7080G attaches")
        Provision.cellular = cellular
        refused(bearer, clock)
        assert modem.commands == [] and bearer.board.power == []


def test_board_without_a_modem_is_refused():
    class Bare:
        MODEM = None

    try:
        LteBearer(Bare)
    except LinkError:
        return
    raise AssertionError()


def test_nothing_that_attaching_needs_stays_loaded():
    names = ("modemstart", "modemsetup", "attach", "modem", "sim70xx")
    for fails in (False, True):
        bearer, modem, clock = setup("SIM7080G attaches")
        Ppp.comes = not fails
        if fails:
            refused(bearer, clock)
        else:
            up(bearer, clock)
        for name in names:
            assert "sealband.links." + name not in sys.modules
            assert not hasattr(sys.modules["sealband.links"], name)
        assert "sealband.provision" not in sys.modules
        run(clock, bearer.down(), 30000)
        for name in names:
            assert "sealband.links." + name not in sys.modules
    assert attach and modemsetup and modemstart  # this file's own hold on them


def test_going_down_never_raises():
    class Broken(Ppp):
        def disconnect(self):
            raise OSError(5)

    bearer, modem, clock = setup("SIM7080G attaches")
    run(clock, bearer.down(), 1)
    Network.PPP = Broken
    up(bearer, clock)
    modem.flood = b"x" * 64

    def fails(on):
        raise OSError(19)

    bearer.board.modem_power = fails
    run(clock, bearer.down(), 60000)
    assert not bearer.ready()


def test_unsolicited_lines_are_told():
    told = []
    bearer, _, clock = setup("SIM7080G attaches", urc=told.append)
    up(bearer, clock)
    assert "SMS Ready" in told and "DST: 0" in told
