# The three drivers of the node's work: sleeping, as a coroutine beside others, and deep sleep with a restart each time.
import asyncio

from device.wearable import CountingSensor, T, Wearable

from sealband.app import Every
from sealwire import frame, messages


def complete(series, period):
    return all(b - a == period for a, b in zip(series, series[1:]))


def times(w, record):
    return [t for t, r, _ in w.server.samples() if r == record]


# --- run_forever


class Dog:
    def __init__(self, time):
        self.time = time
        self.fed = 0
        self.longest_ms = 0

    def feed(self):
        self.longest_ms = max(self.longest_ms, self.time.ms - self.fed)
        self.fed = self.time.ms


def test_run_forever_works_until_it_is_stopped_and_feeds_the_watchdog():
    w = Wearable(send_every_s=60)
    dog = Dog(w.time)
    w.node._watchdog = dog
    sleep_ms = w.time.sleep_ms

    def sleep(ms):
        sleep_ms(ms)
        if w.time.ms > 900000:
            w.node.stop()

    w.node._sleep_ms = sleep
    w.node.run_forever()
    assert complete(times(w, 1)[6:], 10) and len(times(w, 1)) > 70
    assert 0 < dog.longest_ms <= 6000, dog.longest_ms


# --- asyncio: time passes only while every coroutine waits


class Loop:
    def __init__(self, time):
        self.time = time

    async def sleep_ms(self, ms):
        # virtual time moves when all sleep: each wakes in its turn
        until = self.time.ms + ms
        self.waiting.append(until)
        while self.time.ms < until:
            if self.time.ms < min(self.waiting):
                self.time.ms = min(self.waiting)
            await asyncio.sleep(0)
        self.waiting.remove(until)

    waiting = []


def test_coroutine_lets_others_run_and_an_event_of_theirs_goes_out_at_once():
    w = Wearable(send_every_s=600)
    loop = Loop(w.time)
    other = []

    async def button():
        for _ in range(30):
            await loop.sleep_ms(10000)
            other.append(w.time.ms)
        w.node.event(2, 7)
        pressed = w.time.ms
        while not [items for items in w.server.messages() if items[0] == messages.EVENT]:
            await loop.sleep_ms(500)
            assert w.time.ms - pressed < 20000
        w.node.stop()

    async def main():
        real = asyncio.sleep_ms
        asyncio.sleep_ms = loop.sleep_ms
        try:
            task = asyncio.create_task(w.node.run())
            await button()
            await asyncio.wait_for(task, 20)
        finally:
            asyncio.sleep_ms = real

    asyncio.run(main())
    # a measurement of nine seconds and a receive window of five do not hold the others up
    assert all(9000 < b - a < 10600 for a, b in zip(other, other[1:])), other
    assert w.heart.reads >= 25 and w.node.faults == 0


# --- deep sleep


class Machine:
    # the chip: deepsleep() ends the program; the test starts it again after the sleep
    def __init__(self):
        self.slept = []

    def deepsleep(self, ms):
        self.slept.append(ms)


# so long of waking, working and sleeping deeply
def dream(w, seconds, machine=None, each=None):
    machine = machine or Machine()
    end = w.time.ms + seconds * 1000
    while w.time.ms < end:
        w.node.run_deep_sleep(machine)
        if each:
            each()
        assert len(w.world.rtc.memory()) <= 2048
        w.time.ms += machine.slept[-1]
        # the board restarts: a second passes until main.py runs
        w.time.ms += 400
        w.start(from_deep_sleep=True)
    return machine


def sleepy(**settings):
    w = Wearable(sensors=[], **settings)
    w.sensors = [Every(30, w.heart), Every(60, w.skin), Every(600, w.battery)]
    w.start()
    return w


def test_deep_sleep_loses_no_sample_and_uses_no_counter_twice():
    w = sleepy(send_every_s=600)
    machine = dream(w, 4 * 3600)
    assert len(machine.slept) > 300
    assert complete(times(w, 1)[2:], 30) and complete(times(w, 3)[2:], 60)
    assert len(times(w, 1)) > 440
    seen = {}
    for _, data in w.link.sent:
        parsed = frame.parse(data)
        assert seen.setdefault((parsed.epoch_bits, parsed.ctr), data) == data, "a counter sealed two plaintexts"
    # going on from RTC memory, not from the high-water mark
    assert max(ctr for _, ctr in w.server.stored) < 100
    assert w.node.clock.valid and abs(w.node.clock.now() - w.time.server_t()) <= 2
    assert w.node.clock.uptime() > 4 * 3600 - 60
    statuses = [items for items in w.server.messages() if items[0] == messages.STATUS]
    assert len(statuses) == 1, "a wake is no cold start"


def test_a_batch_that_does_not_fit_rtc_memory_is_sealed_before_sleeping():
    w = Wearable(sensors=[], send_every_s=86400)
    wide = [CountingSensor(64 + i, 0, (1000000007, -1000000007)) for i in range(6)]
    w.sensors = [Every(10, sensor) for sensor in wide]
    w.start()
    dream(w, 1500)
    w.run(60)
    got = {record: len(times(w, record)) for record in range(64, 70)}
    # 150 wakes of six five-byte values are several times what RTC memory holds
    assert all(count >= 50 for count in got.values()), got
    assert w.node.batch.lost == 0 and w.node.outbox.drops == 0
    for sensor, record in zip(wide, sorted(got)):
        assert complete(times(w, record)[1:], 10)


def test_what_cannot_be_sealed_yet_is_given_up_and_counted_when_rtc_memory_is_full():
    w = Wearable(sensors=[], send_every_s=86400)
    w.sensors = [Every(10, CountingSensor(64, 0, (1000000007, -1000000007)))]
    w.start()
    w.link.deaf = True  # no sync, so no time to stamp with
    dream(w, 6000)
    assert w.node.batch.lost > 0 and len(w.node.batch) > 100
    assert w.node.batch.lost + len(w.node.batch) >= 590


def test_deep_sleep_keeps_the_back_off_so_that_a_lost_server_is_not_flooded():
    w = sleepy(send_every_s=60)
    dream(w, 300)
    w.link.deaf = True
    sent = len(w.link.sent)
    dream(w, 6 * 3600)
    kinds = [frame.parse(data).kind for _, data in w.link.sent[sent:]]
    assert len(kinds) < 30 and kinds.count(frame.KIND_HELLO) > 5, kinds


def test_a_watchdog_reset_or_power_cut_while_asleep_is_a_cold_start():
    w = sleepy(send_every_s=120)
    dream(w, 600)
    for rtc_is_kept in (True, False):
        stored = len(w.server.stored)
        if rtc_is_kept:
            w.start(from_deep_sleep=False)
        else:
            w.power_cut()
        assert not w.node.clock.valid and w.node.clock.uptime() == 0
        assert w.node.clock.now() >= T
        dream(w, 600)
        assert len(w.server.stored) > stored
        assert complete(times(w, 1)[-8:], 30)
    assert [items[0] for items in w.server.messages()].count(messages.STATUS) == 3


def test_rtc_memory_that_was_tampered_with_is_a_cold_start():
    w = sleepy(send_every_s=120)
    dream(w, 300)

    def flip():
        memory = bytearray(w.world.rtc.memory())
        memory[40] ^= 1
        w.world.rtc.memory(memory)

    before = w.node.clock.uptime()
    dream(w, 1, each=flip)
    assert w.node.clock.uptime() < before and not w.node.clock.valid
    dream(w, 400)
    assert w.node.clock.valid and w.node.faults == 0


class Enough(BaseException):
    # not an Exception: the node catches those
    pass


def test_short_pauses_are_not_worth_a_restart():
    w = Wearable(send_every_s=60)
    machine = Machine()
    sleep_ms = w.time.sleep_ms

    def sleep(ms):
        sleep_ms(ms)
        if w.time.ms > 600000:
            raise Enough

    w.time.sleep_ms = sleep
    # a heart rate of nine seconds every ten leaves no pause that is worth it, once it has begun
    try:
        dream(w, 700, machine)
    except Enough:
        pass
    assert len(machine.slept) <= 2, machine.slept
    assert complete(times(w, 1)[6:], 10) and len(times(w, 1)) > 40
