# Attacks on a closed board's serial port: tokens that are forged, old, another device's or said again, lines that are
# malformed or never end, floods of either, unlocks in the middle of an update, and an application that lets go of main.
import os
import sys

from device.fakes import NOT_FOUND, World, sweep

import sealboot
from device import update_way as way
from sealband import service, store
from sealband.chain import Chain
from sealband.crypto import cbor, cose, p256
from sealband.errors import StoreError
from sealwire import service as wire

sys.modules["machine"] = way.Machine()
from sealband import ear, start  # noqa: E402

TIMEOUT_S = 120

EUI = b"\x70\xb3\xd5\xff\xfe\x00\x12\x34"
PRIVATE = bytes(31) + b"\x2a"
KEY = p256.public_key(PRIVATE)
NONCE = bytes(range(16))
NOW_S = 60000000
GOOD = [wire.TOKEN_LABEL, EUI, NONCE, NOW_S + 60, "ada"]


class Board:
    MODEL = "virtual-wearable"


sys.modules["board"] = Board


def token(row=None, private=PRIVATE, **settings):
    return cose.sign1(private, cbor.encode(row or GOOD), **settings)


def line(data):
    return wire.TOKEN.encode() + data.hex().encode()


def check(data, now_s=NOW_S):
    return service.check(line(data), KEY, EUI, NONCE, now_s)


def row(**changed):
    names = ("label", "eui", "nonce", "not_after", "operator")
    return [changed.get(names[i], GOOD[i]) for i in range(5)]


def closed(key=KEY):
    world = World()
    where = store.Store(world.nvs)
    Chain.create(where, EUI, bytes(32), 0)
    sealboot.index = 0
    try:
        service.close(where, key)
    finally:
        sealboot.index = 255
    where.save_number(store.CLOCK, NOW_S)
    return world, where


# A service start: whether it opens, and what it does with each line that comes.
def started(where, *lines):
    return service.run(where, lambda n: NONCE[:n], iter(lines))


def test_the_board_s_own_token_opens_it():
    assert check(token()) == 0
    _, where = closed()
    assert started(where, line(token()))
    assert where.load_number(store.TAMPER) is None


def test_forged_token_by_another_key():
    assert check(token(private=bytes(31) + b"\x2b")) == wire.SIGNATURE


def test_token_changed_after_it_was_signed():
    good = token(row(not_after=1))
    payload = cbor.encode(row(not_after=1))
    at = good.find(payload)
    changed = good[:at] + cbor.encode(row(not_after=2)) + good[at + len(payload) :]
    assert check(good) == wire.EXPIRED and check(changed) == wire.SIGNATURE
    for at in (len(good) - 1, len(good) - 40):
        broken = bytearray(good)
        broken[at] ^= 1
        assert check(bytes(broken)) == wire.SIGNATURE


def test_token_of_another_device():
    assert check(token(row(eui=bytes(8)))) == wire.DEVICE


def test_token_for_another_challenge_of_this_device_said_again():
    assert check(token(row(nonce=bytes(16)))) == wire.NONCE


def test_every_challenge_is_another_one():
    _, where = closed()
    nonces = []
    taken = service.check
    service.check = lambda line, key, eui, nonce, now_s: nonces.append(nonce) or wire.NONCE
    try:
        for _ in range(8):
            assert not service.run(where, lines=iter((line(token()),)))
    finally:
        service.check = taken
    assert len(set(nonces)) == 8 and all(len(nonce) == 16 for nonce in nonces)


def test_old_token():
    assert check(token(row(not_after=NOW_S - 1))) == wire.EXPIRED
    assert check(token(row(not_after=NOW_S))) == 0
    # a board that knows no time goes by its nonce
    assert check(token(row(not_after=0)), 0) == 0


def test_signed_records_of_other_kinds_are_no_tokens():
    for other in (
        row(label="sealband/1 record"),
        row(label=wire.CHALLENGE_LABEL),
        GOOD[:4],
        GOOD + [0],
        {0: 1},
        "text",
        row(eui=EUI[:7]),
        row(eui=EUI.hex()),
        row(nonce=NONCE[:15]),
        row(nonce=""),
        row(not_after=-1),
        row(not_after=1 << 32),
        row(not_after=True),
        row(not_after="never"),
        row(operator="x" * 65),
        row(operator=b"ada"),
    ):
        assert check(token(other)) == wire.MALFORMED, other


def test_headers_beside_the_algorithm_are_refused():
    for settings in (
        {"unprotected": {4: b"kid"}},
        {"protected": cbor.encode({1: -9, 4: b"kid"})},
        {"protected": cbor.encode({1: -7})},
        {"detached": True},
    ):
        assert check(token(**settings)) == wire.MALFORMED, settings


def test_malformed_lines():
    good = line(token())
    for bad in (
        wire.TOKEN.encode(),
        good[:-1],
        good[:-2],
        good + b"00",
        good + b"x",
        good[: len(wire.TOKEN)] + b"zz" + good[len(wire.TOKEN) + 2 :],
        good[: len(wire.TOKEN)] + b"\xff\xfe" + good[len(wire.TOKEN) + 2 :],
        wire.TOKEN.encode() + b"d2" * wire.TOKEN_MAX,
        wire.TOKEN.encode() + b"80",
        wire.TOKEN.encode() + b"d28443a10128a0" + b"f6" + b"5840" + b"00" * 64,
    ):
        assert service.check(bad, KEY, EUI, NONCE, NOW_S) == wire.MALFORMED, bad
    for count in range(1, len(token())):
        assert check(token()[:count]) == wire.MALFORMED


def test_longest_token_fits_and_a_longer_line_is_refused_before_it_is_read():
    longest = line(token(row(operator="x" * 64, not_after=0xFFFFFFFF)))
    assert service.check(longest, KEY, EUI, NONCE, NOW_S) == 0 and len(longest) < wire.LINE_MAX
    parsed = cose.parse1

    def never(data):
        raise AssertionError("read")

    cose.parse1 = never
    try:
        assert service.check(line(bytes(wire.TOKEN_MAX + 4)), KEY, EUI, NONCE, NOW_S) == wire.MALFORMED
    finally:
        cose.parse1 = parsed


def test_one_try_for_a_challenge():
    _, where = closed()
    assert not started(where, b"noise", line(token(row(nonce=bytes(16)))), line(token()))
    assert where.load_number(store.TAMPER) == 256 + wire.NONCE


def test_noise_and_the_host_s_own_repetition_are_no_tries():
    _, where = closed()
    assert started(where, wire.UNLOCK.encode(), b"\xff" * 40, b"sealband/1 tok", line(token()))


def test_board_that_was_closed_without_a_key_is_opened_by_none():
    world, where = closed(b"")
    assert where.load_number(store.CLOSED) == 1
    assert not started(where, line(token()))
    assert where.load_number(store.TAMPER) is None


def test_service_key_cannot_be_replaced():
    from sealband import enrol

    world, where = closed()
    before = world.nvs.dump()
    for key in (p256.public_key(bytes(31) + b"\x2b"), b""):
        try:
            service.close(where, key)
            raise AssertionError("replaced")
        except enrol.EnrolError as error:
            assert error.code == enrol.OTHER_KEY
    for key in (KEY[:64], KEY + b"\x00", b"\x04" + bytes(64), bytes(65)):
        try:
            service.close(store.Store(closed_nothing().nvs), key)
            raise AssertionError("kept")
        except enrol.EnrolError as error:
            assert error.code == enrol.BAD_VALUE
    assert world.nvs.dump() == before


def closed_nothing():
    world = World()
    Chain.create(store.Store(world.nvs), EUI, bytes(32), 0)
    return world


def test_board_that_is_not_enrolled_is_not_closed():
    from sealband import enrol

    world = World()
    try:
        service.close(store.Store(world.nvs), KEY)
        raise AssertionError("closed")
    except enrol.EnrolError as error:
        assert error.code == enrol.NOT_ENROLLED
    assert world.nvs.dump() == {}


# --- the node's part


class Keyboard:
    # in place of sys and select: what was typed on the serial port
    POLLIN = 1

    def __init__(self):
        self.typed = bytearray()
        self.stdin = self.buffer = self

    def read(self, count):
        data = bytes(self.typed[:count])
        self.typed = self.typed[count:]
        return data

    def poll(self, limit_ms=-1):
        return _Poll(self)


class _Poll:
    def __init__(self, keyboard):
        self._keyboard = keyboard

    def register(self, stream, events):
        assert stream is self._keyboard and events == 1

    def poll(self, limit_ms):
        assert limit_ms == 0, "the node does not wait"
        return [1] if self._keyboard.typed else []


class Clock:
    uptime_s, now_s = 0, NOW_S

    def uptime(self):
        return self.uptime_s

    def now(self):
        return self.now_s + self.uptime_s


class Node:
    def __init__(self):
        self.trial = None
        self.clock = Clock()
        self.restarts = 0
        self.events = []

    def restart(self):
        self.restarts += 1

    def event(self, number, *values):
        self.events.append((number,) + values)
        return True


class Listening:
    # a node whose ear is on a keyboard
    def __init__(self, where=None):
        self.where = where or closed()[1]
        self.node, self.keyboard = Node(), Keyboard()
        self.kept = (ear.sys, ear.select)
        ear.sys = ear.select = self.keyboard
        self.ear = ear.ear(self.node, self.where)

    def hear(self, data=b"", looks=40):
        self.keyboard.typed += data
        for _ in range(looks):
            next(self.ear)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        ear.sys, ear.select = self.kept


def test_node_hears_the_line_however_it_comes():
    asked = wire.UNLOCK.encode()
    for data in (
        asked + b"\n",
        asked + b"\r\n",
        b"\x03\x03\x01" + asked + b"\n",
        asked[:9] + asked + b"\n",
        b"s" + asked + b"\n",
        b"\xff" * 300 + asked + b"\n",
    ):
        with Listening() as board:
            board.hear(data)
            assert board.node.restarts == 1, data
            assert board.where.load_number(store.UNLOCK) == 1
    with Listening() as board:
        for at in range(len(asked)):
            board.hear(asked[at : at + 1], 1)
        assert board.node.restarts == 0
        board.hear(b"\n", 1)
        assert board.node.restarts == 1


def test_other_lines_do_nothing():
    for data in (
        b"sealband/1 unlocked\n",
        b"sealband/1 unlock \n",
        b"seal\nband/1 unlock\n",
        b"import os\n",
        b"\x04\n",
    ):
        with Listening() as board:
            board.hear(data)
            assert board.node.restarts == 0 and board.where.load_number(store.UNLOCK) is None, data


def test_flood_on_the_port_holds_no_look_up():
    with Listening() as board:
        board.keyboard.typed += bytes(5000)
        next(board.ear)
        assert len(board.keyboard.typed) >= 5000 - 256, "one look took all of it"


def test_end_of_the_port_is_no_line():
    with Listening() as board:
        board.keyboard.read = lambda count: b""
        board.keyboard.typed += b"x"
        board.hear()
        assert board.node.restarts == 0


def test_unlock_on_trial_is_refused_and_restarts_nothing():
    with Listening() as board:
        board.node.trial = object()
        board.hear(wire.UNLOCK.encode() + b"\n")
        board.node.trial, sealboot.watchdog_s = None, 120
        try:
            board.hear(wire.UNLOCK.encode() + b"\n")
        finally:
            sealboot.watchdog_s = 0
        assert board.node.restarts == 0 and board.where.load_number(store.UNLOCK) is None


def test_flash_that_keeps_no_mark_restarts_nothing():
    with Listening() as board:

        def refuse(name, value):
            raise StoreError("worn")

        board.where.save_number = refuse
        board.hear(wire.UNLOCK.encode() + b"\n")
        assert board.node.restarts == 0


def test_start_asks_once_and_not_on_trial():
    _, where = closed()
    assert not start.wanted(where)
    where.save_number(store.UNLOCK, 1)
    for attribute, value in (("trial", True), ("watchdog_s", 120)):
        before = getattr(sealboot, attribute)
        setattr(sealboot, attribute, value)
        try:
            assert not start.wanted(where)
        finally:
            setattr(sealboot, attribute, before)
    assert start.wanted(where) and not start.wanted(where)

    def refuse(name, value):
        raise StoreError("worn")

    where.save_number(store.UNLOCK, 1)
    where.save_number = refuse
    assert not start.wanted(where), "each start would ask for a token, and the node would never run"


def test_power_cut_around_an_unlock_leaves_a_board_that_works():
    def asks(world):
        where = store.Store(world.nvs)
        where.save_number(store.UNLOCK, 1)
        if start.wanted(where):
            assert not started(where, line(token(row(nonce=bytes(16)))))

    def checked(world):
        where = store.Store(world.nvs)
        start.wanted(where)
        assert not start.wanted(where)
        assert (where.load_number(store.TAMPER) or 0) >> 8 <= 2  # the first try, and the one after the cut
        assert where.load(store.SERVICE) == KEY and where.load_number(store.CLOSED) == 1

    kept, service.check = service.check, lambda *_: wire.NONCE
    try:
        assert sweep(closed()[0], asks, checked, depth=2) >= 10
    finally:
        service.check = kept


# --- what is told


def refuse(where, times, code=wire.SIGNATURE):
    for _ in range(times):
        service._count(where, code)


def test_each_refusal_is_counted_and_told_with_its_code():
    for code in sorted(wire.CODES):
        with Listening() as board:
            refuse(board.where, 1, code)
            board.hear(looks=1)
            assert board.node.events == [(wire.TAMPER_EVENT, code, 1)]
            assert board.where.load_number(store.TAMPER) == 0


def test_flood_of_wrong_tokens_makes_one_event_an_hour():
    _, where = closed()
    told = []
    for second in range(0, 3 * 3600, 60):
        # each is a restart, after which the clock begins at the last hour that was noted
        with Listening(where) as board:
            board.node.clock.now_s = NOW_S + second // 3600 * 3600
            refuse(where, 5)
            board.hear(looks=2)
            told += board.node.events
    assert 1 <= len(told) <= 3, len(told)
    assert sum(count for _, _, count in told) + (where.load_number(store.TAMPER) >> 8) == 180 * 5


def test_power_switched_off_and_on_makes_no_more_events():
    _, where = closed()
    told = []
    for _ in range(50):
        with Listening(where) as board:
            refuse(where, 1)
            board.hear(looks=2)
            told += board.node.events
    assert len(told) == 1


def test_rest_is_told_an_hour_later_without_a_restart():
    with Listening() as board:
        refuse(board.where, 1)
        board.hear(looks=1)
        refuse(board.where, 3, wire.DEVICE)
        for _ in range(3700):
            board.node.clock.uptime_s += 1
            board.hear(looks=1)
        assert board.node.events == [(wire.TAMPER_EVENT, wire.SIGNATURE, 1), (wire.TAMPER_EVENT, wire.DEVICE, 3)]


def test_clock_that_was_put_right_by_years_does_not_silence_the_board():
    _, where = closed()
    where.save_number(store.TOLD, NOW_S + (1 << 28))
    with Listening(where) as board:
        refuse(where, 1)
        board.hear(looks=1)
        assert len(board.node.events) == 1


def test_count_of_refusals_ends_somewhere_and_keeps_the_last_code():
    _, where = closed()
    where.save_number(store.TAMPER, 9999 * 256 + 1)
    refuse(where, 3, wire.EXPIRED)
    assert where.load_number(store.TAMPER) == 9999 * 256 + wire.EXPIRED


def test_event_that_could_not_be_sealed_is_told_later():
    with Listening() as board:
        board.node.event = lambda *_: False
        refuse(board.where, 2)
        board.hear(looks=1)
        assert board.where.load_number(store.TAMPER) >> 8 == 2


def test_line_of_the_start_is_the_shared_one():
    assert ear._UNLOCK == wire.UNLOCK.encode() + b"\n"


# --- lines, as the service start reads them


def test_lines_end_in_either_way_and_are_cut_off():
    keyboard = Keyboard()

    class Port(_Poll):
        def poll(self, limit_ms):
            Time.now += 1 if keyboard.typed else limit_ms
            return [1] if keyboard.typed else []

    class Time:
        now = 0

        def ticks_ms(self):
            return self.now

        def ticks_diff(self, end, begin):
            return end - begin

    Time.ticks_ms = staticmethod(lambda: Time.now)
    Time.ticks_diff = staticmethod(lambda end, begin: end - begin)
    keyboard.poll = lambda: Port(keyboard)
    keyboard.typed += b"\r\n\none\r\ntwo\n" + b"x" * 3000 + b"\nthree\nunfinished"
    kept = (service.sys, service.time, sys.modules.get("select"))
    service.sys, service.time, sys.modules["select"] = keyboard, Time, keyboard
    try:
        lines = list(service._lines())
    finally:
        service.sys, service.time = kept[:2]
        if kept[2]:
            sys.modules["select"] = kept[2]
        else:
            del sys.modules["select"]
    assert lines == [b"one", b"two", b"x" * wire.LINE_MAX, b"three"]
    assert 120000 <= Time.now < 121000, "it waits for ever, or not long enough"


def test_fuzzed_lines_open_nothing():
    good = line(token())
    for number in range(300):
        data = bytearray(good)
        for _ in range(1 + number % 3):
            at = int.from_bytes(os.urandom(2), "big") % (len(data) - len(wire.TOKEN))
            data[len(wire.TOKEN) + at] = os.urandom(1)[0]
        if bytes(data).lower() != good:
            assert service.check(bytes(data), KEY, EUI, NONCE, NOW_S) in wire.CODES, bytes(data)


def test_not_found_is_the_code_by_which_boot_knows_an_open_board():
    with open("device/boot.py") as source:
        assert "-0x%x" % -NOT_FOUND in source.read()
