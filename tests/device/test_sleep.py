# Deep sleep with the whole application: what wakes it, who is told, how long it stays, what is kept, and the charge
# that is counted through it. In virtual time on fake flash.
import sys

from device.fakes import DONE, UNDONE, sweep
from device.wearable import CountingSensor, ServerLink, Time, Wearable

from sealband import once, sleep
from sealband.app import Every
from sealwire import charge, messages

TIMEOUT_S = 60


# what deepsleep() does on the chip: it does not come back
class Slept(BaseException):
    pass


class Esp32:
    ext0 = None
    ext1 = None

    def wake_on_ext0(pin, level):
        Esp32.ext0 = (pin.id, level)

    def wake_on_ext1(pins, level):
        Esp32.ext1 = ([pin.id for pin in pins], level)


sys.modules["esp32"] = Esp32


class Machine:
    class Pin:
        def __init__(self, id):
            self.id = id

    def __init__(self):
        self.reason = 0
        self.slept = []

    def wake_reason(self):
        return self.reason

    def deepsleep(self, ms):
        self.slept.append(ms)
        raise Slept


class Board:
    CHIP = "esp32"
    BATTERY = None
    POWER = (69, 41961, 94436, 77647, 80000, 49000, 1165, 157, 142, 4827)


class Watcher:
    def __init__(self, line, records=()):
        self.line = line
        self.records = records
        self.calls = []
        self.occupied = 0
        self.breaks = False
        self.looks = 0

    def watch(self, node):
        while True:
            self.looks += 1
            self.seen(node)
            yield 250

    def seen(self, node):
        pass

    def close(self):
        self.calls.append("close")

    def arm(self):
        self.calls.append("arm")
        if self.breaks:
            raise ValueError
        return self.line

    def woken(self):
        self.calls.append("woken")
        if self.breaks:
            raise ValueError

    def busy(self):
        self.occupied -= 1
        return self.occupied >= 0


class Asleep(Wearable):
    def __init__(self, watchers=(), **settings):
        self.board = Board()
        self.machine = Machine()
        self.node_settings = {}
        super().__init__(watchers=watchers, **settings)

    def app(self):
        self.node_settings = {"board": self.board}
        if self.sensors is None:
            self.sensors = [Every(30, self.heart), Every(60, self.skin), Every(600, self.battery)]
        return super().app()

    # one wake, from its start to the sleep after it; for how many ms it was awake
    def wake(self, reason=4):
        Esp32.ext0 = Esp32.ext1 = None
        self.machine.reason = reason
        began = self.time.ms
        try:
            self.node.run_deep_sleep(self.machine)
        except Slept:
            pass
        return self.time.ms - began

    # sleep as long as it wanted to, or so long, and start
    def sleep(self, ms=None):
        self.time.ms += self.machine.slept[-1] if ms is None else ms
        self.start(from_deep_sleep=True)
        assert self.node.resumed

    def hours(self, hours):
        end = self.time.ms + hours * 3600000
        while self.time.ms < end:
            self.wake()
            self.sleep()


class Board3(Board):
    CHIP = "esp32s3"


def armed(lines, board=Board):
    w = Asleep([Watcher(line) for line in lines], sensors=[])
    w.node.board = board()
    w.wake()
    return Esp32.ext0, Esp32.ext1, w.node.armed


def test_pins_are_shared_out_among_ext0_and_ext1_as_the_chips_allow():
    # the IMU's line goes high, the button's low
    assert armed([(34, 1), (36, 0)]) == ((36, 0), ([34], 1), [3, 2])
    assert armed([(34, 1)]) == (None, ([34], 1), [3])
    assert armed([(34, 1), (35, 1)]) == (None, ([34, 35], 1), [3, 3])
    assert armed([(36, 0)]) == ((36, 0), None, [2])
    assert armed([(36, 0), (39, 0)]) == ((36, 0), ([39], 0), [2, 3])
    # level 0 of ext1 means all of them on the ESP32, so a third one finds no place there
    assert armed([(36, 0), (39, 0), (38, 0)]) == ((36, 0), ([39], 0), [2, 3, 0])
    assert armed([(6, 0), (7, 0), (8, 0)], Board3) == ((6, 0), ([7, 8], 0), [2, 3, 3])
    assert armed([None, (36, 0)]) == ((36, 0), None, [0, 2])
    assert armed([None]) == (None, None, [0])
    assert armed([]) == (None, None, None)


def test_who_armed_the_pin_is_told_and_the_board_stays_awake_for_a_while():
    motion, button = Watcher((34, 1), (5,)), Watcher((36, 0))
    w = Asleep([motion, button], sensors=[])
    w.wake()
    assert motion.calls == button.calls == ["close", "arm"], "a reset other than deep sleep may have left it on"
    motion.calls.remove("close")
    button.calls.remove("close")
    w.sleep()
    assert w.wake(reason=4) < 1000 and motion.calls == button.calls == ["arm", "arm"]
    w.sleep()
    looks = button.looks
    assert 8000 <= w.wake(reason=2) < 11000
    assert button.calls == ["arm", "arm", "woken", "arm"] and motion.calls == ["arm", "arm", "arm"]
    assert button.looks - looks > 12
    w.sleep()
    w.wake(reason=3)
    assert motion.calls[-2:] == ["woken", "arm"] and button.calls[-2:] == ["arm", "arm"]


def test_sos_that_was_held_while_it_slept_is_sent_within_the_wake():
    class Button(Watcher):
        held = 0

        def woken(self):
            super().woken()
            self.held = 0

        def seen(self, node):
            self.held += 1
            if "woken" in self.calls and self.held == 12:
                node.event(2)

    w = Asleep([Button((36, 0))])
    w.hours(1)
    button = w.node.app.watchers[0]
    button.calls.clear()
    w.wake()
    w.sleep(10000)
    before = len(w.link.sent)
    awake_ms = w.wake(reason=2)
    assert awake_ms < 30000
    assert [items[2] for items in w.server.messages() if items[0] == messages.EVENT] == [2]
    assert len(w.link.sent) > before and not [key for key in w.queue() if key[0] == 0]


def test_it_does_not_sleep_while_a_fall_may_be_under_way_and_not_for_ever():
    motion = Watcher((34, 1))
    w = Asleep([motion], sensors=[])
    w.wake()
    w.sleep()
    motion.occupied = 3
    assert 3 * 2000 <= w.wake() < 20000
    w.sleep()
    motion.occupied = 1 << 30
    assert w.wake() < 80000


def test_a_watcher_that_may_not_be_is_not_armed_and_one_that_raises_keeps_nothing_from_sleeping():
    motion, button = Watcher((34, 1), (5,)), Watcher((36, 0))
    button.breaks = True
    w = Asleep([motion, button], sensors=[])
    w.node.sampler.consent = b"\x01"
    w.wake()
    assert motion.calls == ["close"] and button.calls == ["close", "arm"] and Esp32.ext0 is None and Esp32.ext1 is None
    w.sleep()
    w.node.armed = [0, 2]
    w.wake(reason=2)
    assert len(w.machine.slept) == 2 and w.node.sampler.errors >= 2


def test_what_a_driver_left_behind_is_there_after_deep_sleep_if_it_is_small():
    w = Asleep()
    sensors = w.node.sampler.sensors
    sensors[0].sensor.kept = (31, 28, None, 7)
    sensors[1].sensor.kept = bytes(500)
    sensors[2].sensor.kept = 3.5
    w.wake()
    for every in sensors:
        every.sensor.kept = None
    w.sleep()
    assert [every.sensor.kept for every in w.node.sampler.sensors] == [[31, 28, None, 7], None, None]


def test_more_than_rtc_memory_holds_keeps_no_board_from_sleeping_and_going_on():
    w = Asleep(sensors=None)
    w.sensors = [Every(60, CountingSensor(64 + i, i)) for i in range(16)]
    w.start()
    w.run(300)
    for every in w.sensors:
        every.sensor.kept = bytes(150)  # each of them small enough
    w.node.event(64)
    counter = w.node.chain._next
    w.wake()
    assert len(w.machine.slept) == 1
    w.sleep()
    assert w.node.clock.valid and w.node.chain._next >= counter
    # a year later, and with all that is counted
    w.node.spent = [400 * 86400000] * 10
    w.node.sampler.bad = dict.fromkeys(range(16), 12)
    w.wake()
    w.sleep()
    assert w.node.spent[charge.LORA] == 400 * 86400000


def test_pace_alarm_wear_and_the_cell_go_on_after_deep_sleep():
    w = Asleep()
    w.node.pace(1)
    w.node.pace(2)
    w.node.worn, w.node.low = 1, 1
    before = (w.node.level, w.node.alarm_s, w.node.worn, w.node.low)
    w.wake()
    w.sleep()
    assert (w.node.level, w.node.alarm_s, w.node.worn, w.node.low) == before


# µAh by part of the newest status
def charged(w):
    return dict(tuple(pair) for pair in w.server.status()[messages.STATUS_CHARGE])


def test_the_ledger_counts_what_the_board_did_through_deep_sleep():
    w = Asleep(sensors=None, status_every_s=3600)
    w.hours(6)
    told = charged(w)
    uptime_s = w.server.status()[messages.STATUS_UPTIME_S]
    spent = w.node.spent
    # always: 69 uA; the heart's sensor measures for 9.5 s of each thirty, the processor is awake for that
    assert abs(told[charge.BOARD] - 69 * uptime_s // 3600) <= 2
    assert 0.93 < spent[charge.PULSE] / (w.heart.reads * 9500) < 1.05
    # the status is an hour old at most, in which it measures for a third
    assert 0 <= 1165 * spent[charge.PULSE] // 3600000 - told[charge.PULSE] <= 1165 // 3 + 20
    assert 0.31 < spent[charge.CHIP] / spent[charge.BOARD] < 0.4
    # one that measures for a moment each minute is asleep nearly always: 300 ms a wake for the boot loader
    rare = Asleep(status_every_s=3600)
    rare.sensors = [Every(60, rare.skin)]
    rare.start()
    rare.hours(6)
    awake_s = rare.node.spent[charge.CHIP] // 1000
    sends = len(rare.link.sent)
    assert 360 * 0.3 + sends * 5 < awake_s < 360 * 0.3 + sends * 10 + 300
    assert charged(rare)[charge.CHIP] < charged(w)[charge.CHIP] // 5


def test_links_tell_how_long_they_were_at_work_and_it_is_counted_once():
    w = Asleep(status_every_s=3600)
    w.link.sent_ms, w.link.heard_ms = 3600, 36000
    w.wake()
    w.sleep()
    w.wake()
    spent = w.node.spent
    assert spent[charge.LORA] == 3600 and spent[charge.LORA_RX] == 36000
    assert w.link.sent_ms == w.link.heard_ms == 0
    pairs = dict(tuple(pair) for pair in once("sealband.charge").used(w.node))
    assert pairs[charge.LORA] == (3600 * 94436 + 36000 * 4827) // 3600000
    w.link.name = "lte"
    w.link.on_ms = 45000
    assert dict(tuple(pair) for pair in once("sealband.charge").used(w.node))[charge.MODEM] == 1000
    w.node.board = None
    assert once("sealband.charge").used(w.node) is None


def test_a_month_is_counted_without_a_large_number_going_wrong():
    w = Asleep(sensors=[])
    for _ in range(31):
        w.time.ms += 86400000
        once("sealband.charge").gather(w.node, 86000000)
    spent = w.node.spent
    assert spent[charge.BOARD] == 31 * 86400000 and spent[charge.CHIP] == 31 * 400000
    assert dict(tuple(pair) for pair in once("sealband.charge").used(w.node))[charge.BOARD] == 69 * 31 * 24


# Nothing that was sealed is lost, and no counter comes twice, wherever the power fails on the way into deep sleep or
# out of it. Server.open() raises where a counter is used twice.
class Cut(Asleep):
    def __init__(self, world, server, now_ms):
        self.machine = Machine()
        self.board = Board()
        self.time = Time()
        self.time.ms = now_ms
        self.world, self.server, self.more, self.sensors = world, server, [], []
        self.settings = {"send_every_s": 3600}
        self.link = ServerLink(self.time, server)
        self.link.deaf = True
        world.mount()
        self.start(world.rtc.memory() != b"")


def test_a_cut_on_the_way_to_sleep_or_in_it_loses_nothing_sealed_and_repeats_no_counter():
    first = Asleep(sensors=[], send_every_s=3600)
    first.run(60)
    stored = first.server.stored
    now = first.time.ms

    def begin(world):
        return Cut(world, first.server, now)

    def run(world):
        w = begin(world)
        for turn in range(2):
            w.node.event(64, turn)
            world.send(("sealed", w.queue()[-1][1:] if w.queue() else None))
            sleep.suspend(w.node)
            w.time.ms += 60000
            w.start(from_deep_sleep=True)
            if not w.node.resumed:
                raise AssertionError("not resumed")
        for key in w.queue():
            world.send(("frame", bytes(w.node.outbox.read(key))))

    def check(world):
        w = begin(world)
        queued = [key[1:] for key in w.queue()]
        for what in world.air:
            if what[0] == "sealed" and what[1]:
                assert what[1] in queued, what
        w.node.event(65)
        seen = dict(stored)
        first.server.stored = seen
        for what in world.air:
            if what[0] == "frame":
                w.server.open(what[1])
        for key in w.queue():
            w.server.open(bytes(w.node.outbox.read(key)))
        first.server.stored = stored

    world = first.world
    cuts = sweep(world, run, check, (UNDONE, DONE))
    assert cuts > 20, cuts
