# ruff: noqa: E402
# links/ble.py on aioble's API, with a central that the test drives: who is let in, for how long, and when again.
import gc
import sys

# the interpreter's own time: its asyncio takes no other
sys.path[:] = [where for where in sys.path if "sim/micropython" not in where]
sys.modules.pop("time", None)
import asyncio
import time

sys.path.insert(0, "tests/support/ble")

import aioble
from aioble import air
from device.fakes import World
from device.phone import CLAIM, Phone
from device.wearable import EUI, Wearable

from sealband.links import courier
from sealband.links.ble import Ble
from sealband.store import CLAIM as CLAIM_NAME
from sealband.store import COURIER, Store

MTU = 185
TIMEOUT_S = 40


class Board:
    # pace: what the waits are in ms; claim None: it has none
    def __init__(self, claim=CLAIM, world=None, **pace):
        self.w = Wearable(world=world)
        if claim and self.w.store.load(CLAIM_NAME) is None:
            self.w.store.save(CLAIM_NAME, claim)
        self.w.node.outbox.put(2, 0, 7, bytes((0xE0,)) + bytes(20))
        options = {"name_ms": 60000, "handshake_ms": 200, "idle_ms": 200, "visit_ms": 1000}
        options.update(pace)
        self.ble = Ble(**options)
        self.pauses = []

    # let `story` happen while it serves
    def play(self, story):
        async def run():
            task = asyncio.create_task(self.ble.serve(self.w.node))
            try:
                return await story(self)
            finally:
                if air.connection:
                    air.connection.drop()
                air.active = None
                # a cancellation that meets the end of a connection is taken for that, as by aioble itself
                while not task.done():
                    task.cancel()
                    await asyncio.sleep_ms(1)

        return asyncio.run(asyncio.wait_for(run(), 30))

    async def connect(self, mtu=MTU):
        while air.active is None:
            await asyncio.sleep_ms(1)
        return air.connect(mtu)


# Pauses pass at once and are noted, other waits are real: asyncio.sleep is what ble.py pauses with.
class Pauses:
    def __enter__(self):
        self.taken = []
        self._real = asyncio.sleep

        async def sleep(seconds):
            if seconds:
                self.taken.append(seconds)
            await asyncio.sleep_ms(0)

        asyncio.sleep = sleep
        return self.taken

    def __exit__(self, *_):
        asyncio.sleep = self._real


# A phone over the air: what it writes goes through aioble, its answers come by notification.
class AirPhone(Phone):
    def __init__(self, connection, **options):
        super().__init__(None, EUI, **options)
        self.connection = connection

    async def say(self, message):
        for value in courier.fragments(message, self.value_max):
            air.write(value, self.connection)
            await asyncio.sleep_ms(0)
        parts = b""
        while True:
            while not self.connection.notified:
                if not self.connection.is_connected():
                    return None
                self.connection.told.clear()
                await self.connection.told.wait()
            value = self.connection.notified.pop(0)
            parts += value[1:]
            if value[0] & 0x80:
                return parts

    async def enter(self):
        challenge = await self.say(b"\x01" + self.nonce)
        return challenge and await self.say(self.proof(challenge))

    async def request(self, request):
        reply = await self.say(self.seal(request))
        return reply and self.open(reply)


def test_phone_with_the_secret_is_served_at_any_mtu():
    async def story(board):
        for mtu in (64, 185, 247, None):
            connection = await board.connect(mtu)
            phone = AirPhone(connection, value_max=min((mtu or 185) - 3, 182))
            assert await phone.enter()
            listed = (await phone.request(b"\x02\x00\x00"))[1:]
            fetched = []
            for at in range(0, len(listed), 7):
                fetched.append((await phone.request(b"\x03" + listed[at : at + 7]))[1:])
            assert bytes((0xE0,)) + bytes(20) in fetched
            assert len(await phone.request(b"\x01")) > 20
            connection.drop()
            await board.connect()
            air.connection.drop()

    board = Board()
    with Pauses():
        board.play(story)
    assert board.ble.visits == 4 and board.ble.errors == 0
    assert board.w.node.log.entries[-1][1:] == ("courier", 4)


def test_what_a_visit_takes_of_the_heap_is_given_back():
    async def visit(board):
        phone = AirPhone(await board.connect())
        assert await phone.enter()
        assert len(await phone.request(b"\x01")) > 20
        phone.connection.drop()
        await board.connect()
        air.connection.drop()
        while air.active is None:
            await asyncio.sleep_ms(1)
        air.history = []
        gc.collect()
        return gc.mem_alloc()

    board = Board()
    with Pauses():
        # until the log is full
        for _ in range(20):
            before = board.play(visit)
        for _ in range(10):
            after = board.play(visit)
    # the module alone is 3,400 bytes here, where a word has 8
    assert after - before < 1000, (before, after)


def test_name_and_address_change_together_and_nothing_else_tells_devices_apart():
    air.history = []

    async def story(board):
        while len(air.history) < 4:
            await asyncio.sleep_ms(1)

    ble = Ble(name_ms=20)
    board = Board()
    board.ble = ble
    board.play(story)
    assert air.mode == 3
    addresses = [number for number, _, _ in air.history]
    assert len(set(addresses)) == len(addresses)
    assert len({adv for _, adv, _ in air.history}) == 1
    assert len({resp for _, _, resp in air.history}) == len(air.history)
    assert len({resp[:18] for _, _, resp in air.history}) == 1
    for _, adv, resp in air.history:
        # flags, then the service; service data: UUID and name (core specification supplement, part A)
        assert adv[:5] == b"\x02\x01\x06\x11\x07" and adv[5:] == resp[2:18] and resp[:2] == b"\x1b\x21"
        assert len(resp) == 28


def test_stranger_who_holds_the_connection_open_is_dropped_and_waits_longer_each_time():
    async def story(board):
        for _ in range(8):
            connection = await board.connect()
            while connection.is_connected():
                await asyncio.sleep_ms(5)
        # and who holds the secret is served all the same
        phone = AirPhone(await board.connect())
        assert await phone.enter()
        phone.connection.drop()
        await board.connect()

    board = Board(handshake_ms=20)
    with Pauses() as taken:
        board.play(story)
    assert taken == [2, 4, 8, 16, 32, 60, 60, 60]
    assert board.w.store.load_number(COURIER) in (None, 0), "silence is no guess"


def test_stranger_who_writes_byte_by_byte_has_no_more_time():
    async def story(board):
        connection = await board.connect()
        index = 0
        while connection.is_connected():
            air.write(bytes((index & 0x7F, 1)), connection)
            index += 1
            await asyncio.sleep_ms(20)
        return index

    board = Board(handshake_ms=150, idle_ms=100)
    with Pauses():
        assert board.play(story) <= 12


def test_courier_that_falls_silent_or_stays_for_ever_is_dropped():
    async def story(board):
        phone = AirPhone(await board.connect())
        assert await phone.enter()
        while phone.connection.is_connected():
            await asyncio.sleep_ms(5)
        phone = AirPhone(await board.connect())
        assert await phone.enter()
        asked = 0
        while await phone.request(b"\x01"):
            asked += 1
            await asyncio.sleep_ms(20)
        return asked

    with Pauses():
        assert 2 < Board(idle_ms=100, visit_ms=300).play(story) <= 20


def test_guesses_are_locked_out_ever_longer_and_also_over_a_reset():
    async def guess(board):
        for _ in range(3):
            phone = AirPhone(await board.connect(), claim=bytes(10))
            assert await phone.enter() is None
        await board.connect()

    board = Board()
    with Pauses() as taken:
        board.play(guess)
    assert taken == [2, 4, 8]
    # a reset, the power gone: it waits before it lets anybody in, and counts on
    for first, then in ((8, [16, 32, 64]), (64, [128, 256, 512]), (512, [900, 900, 900])):
        board = Board(world=board.w.world.revived())
        with Pauses() as taken:
            board.play(guess)
        assert taken == [first] + then, taken
    assert board.w.store.load_number(COURIER) == 12

    async def enter(board):
        phone = AirPhone(await board.connect())
        assert await phone.enter()
        phone.connection.drop()
        await board.connect()

    with Pauses() as taken:
        board = Board(world=board.w.world.revived())
        board.play(enter)
    assert taken == [900] and board.w.store.load_number(COURIER) == 0


def test_guess_counts_when_the_power_fails_while_it_is_judged():
    world = World(flash=True)
    board = Board(world=world)
    board.ble._store = board.w.store

    class Off(BaseException):
        pass

    phone = Phone(courier.Visit(CLAIM, EUI, lambda n: bytes(n), None, board.ble._attempt), EUI, claim=bytes(10))
    proof = phone.proof(phone.begin())
    counted = []

    # dies at the first thing that is done with the proof
    def once(name):
        counted.append(Store(world.nvs.revived(world.power)).load_number(COURIER))
        raise Off

    real = courier.once
    courier.once = once
    try:
        phone.tell(proof)
    except Off:
        pass
    finally:
        courier.once = real
    assert counted == [1]


def test_flash_that_keeps_no_count_lets_nobody_in():
    async def story(board):
        def refuse(name, value):
            from sealband.errors import StoreError

            raise StoreError("flash")

        board.w.store.save_number = refuse
        phone = AirPhone(await board.connect())
        assert await phone.enter() is None
        await board.connect()

    with Pauses():
        Board().play(story)


def test_forged_downlink_ends_the_visit_and_counts_as_a_guess():
    from sealwire import frame

    async def story(board):
        phone = AirPhone(await board.connect())
        assert await phone.enter()
        forged = frame.header(0, 0, board.w.node.chain.keys()[4], 9) + bytes(18)
        assert await phone.request(b"\x04" + forged) is None
        await board.connect()

    board = Board()
    with Pauses() as taken:
        board.play(story)
    assert taken == [2] and board.w.store.load_number(COURIER) == 1


def test_garbage_of_any_kind_and_at_any_moment_faults_nothing():
    import os

    async def story(board):
        for number in range(60):
            phone = AirPhone(await board.connect())
            if number % 2:
                assert await phone.enter()
            for _ in range(number % 5):
                air.write(os.urandom(1 + os.urandom(1)[0] % 182), phone.connection)
                await asyncio.sleep_ms(0)
            if number % 3:
                air.write(bytes((0x80,)) + os.urandom(30), phone.connection)
                while phone.connection.is_connected():
                    await asyncio.sleep_ms(1)
            phone.connection.drop()
        phone = AirPhone(await board.connect())
        assert await phone.enter() and await phone.request(b"\x01")
        phone.connection.drop()

    board = Board(handshake_ms=100, idle_ms=50)
    queued = board.w.queue()
    with Pauses():
        board.play(story)
    assert board.ble.errors == 0 and board.w.node.faults == 0 and board.w.queue() == queued


def test_value_left_over_from_the_visit_before_is_not_taken_for_this_one_s():
    async def story(board):
        before = await board.connect()
        before.drop()
        phone = AirPhone(await board.connect())
        air.write(b"\x80garbage", before)
        assert await phone.enter()
        phone.connection.drop()

    with Pauses():
        Board().play(story)


def test_stack_without_buffers_delays_a_reply_and_loses_none():
    async def story(board):
        phone = AirPhone(await board.connect(64), value_max=61)
        assert await phone.enter()
        air.full = 3
        assert len(await phone.request(b"\x01")) > 20
        phone.connection.drop()

    with Pauses():
        Board().play(story)


def test_courier_that_takes_no_notification_is_dropped():
    async def story(board):
        phone = AirPhone(await board.connect(64), value_max=61)
        assert await phone.enter()
        air.full = 1 << 30
        began = time.ticks_ms()
        assert await phone.request(b"\x01") is None
        assert time.ticks_diff(time.ticks_ms(), began) < 2000
        air.full = 0
        # and the next one is let in
        phone = AirPhone(await board.connect())
        assert await phone.enter()
        phone.connection.drop()

    try:
        with Pauses():
            Board(visit_ms=300).play(story)
    finally:
        air.full = 0


def test_stack_that_fails_is_tried_again_and_ends_nothing():
    real = aioble.advertise
    failures = [OSError(5), MemoryError()]

    async def advertise(*arguments, **options):
        if failures:
            raise failures.pop()
        return await real(*arguments, **options)

    async def story(board):
        phone = AirPhone(await board.connect())
        assert await phone.enter()
        phone.connection.drop()

    aioble.advertise = advertise
    board = Board()
    try:
        with Pauses() as taken:
            board.play(story)
    finally:
        aioble.advertise = real
    assert taken == [60, 60] and board.ble.errors == 2


def test_board_without_a_secret_or_at_the_end_of_its_identity_serves_nobody():
    air.history = []

    async def story(board):
        await board.ble.serve(board.w.node)

    Board(claim=None).play(story)
    board = Board()
    board.w.node.retiring = object()
    board.play(story)
    assert air.history == []


def test_listeners_run_beside_the_node_s_work_and_not_in_deep_sleep():
    from sealband.app import App

    heard = []

    class Listener:
        async def serve(self, node):
            heard.append(node)
            await asyncio.sleep_ms(5)
            node.stop()

    w = Wearable()
    w.node.app.listeners = [Listener()]
    real = asyncio.sleep_ms

    async def quick(ms):
        await real(min(ms, 1))

    asyncio.sleep_ms = quick
    try:
        asyncio.run(asyncio.wait_for(w.node.run(), 20))
    finally:
        asyncio.sleep_ms = real
    assert heard == [w.node]
    try:
        App([], [], deep_sleep=True, listeners=[Ble()])
    except ValueError:
        pass
    else:
        raise AssertionError("it was taken")


def test_board_whose_application_listens_is_started_as_coroutines():
    class Machine:
        SOFT_RESET = 5
        BATTERY = None
        reset_cause = staticmethod(lambda: 1)
        reset = staticmethod(lambda: None)

    class Application:
        @staticmethod
        def build(board):
            return App([], [], echo=False, listeners=[Listener()])

    class Listener:
        async def serve(self, node):
            heard.append(node.chain.eui)
            node.stop()

    from sealband import outbox
    from sealband.app import App

    heard = []
    w = Wearable()
    real = outbox.Outbox
    outbox.Outbox = lambda records: real(records, "/ram/outbox")
    sys.modules["machine"], sys.modules["app"], sys.modules["board"] = Machine, Application, Machine
    try:
        from sealband import start

        start.work(w.store, None, False)
    finally:
        outbox.Outbox = real
        for name in ("machine", "app", "board", "sealband.start"):
            sys.modules.pop(name, None)
    assert heard == [EUI]
