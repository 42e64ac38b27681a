# What an application declares beside plain periods: paces, bursts, quiet hours, watchers, drivers that are loaded for
# the occasion, and what becomes of them when consent is withdrawn.
import sys

from device.wearable import CountingSensor, Wearable

from sealband import once
from sealband.app import App, Every, part
from sealband.sensors.base import Sensor, SensorError
from sealwire import messages


class Watch:
    # a watcher that counts; goes wrong at `fails_at`
    def __init__(self, records=(), fails_at=None, pace_at=None, event_at=None):
        self.records = records
        self.fails_at = fails_at
        self.pace_at = pace_at
        self.event_at = event_at
        self.steps = self.begun = self.closed = 0

    def watch(self, node):
        self.begun += 1
        while True:
            self.steps += 1
            if self.steps == self.fails_at:
                raise OSError(5)
            if self.steps == self.pace_at:
                node.pace(2)
            if self.steps == self.event_at:
                node.event(2)
            yield 2000

    def close(self):
        self.closed += 1


def events(w):
    return [items[2:] for items in w.server.messages() if items[0] == messages.EVENT]


def test_a_watcher_works_all_the_time_beside_sensors_and_sessions():
    watch = Watch(event_at=50)
    w = Wearable([Every(10, CountingSensor(1, 70))], watchers=[watch, None])
    w.run(600)
    assert 295 <= watch.steps <= 301 and watch.begun == 1, watch.steps
    assert events(w) == [[2]]


def test_a_watcher_that_raises_is_counted_and_begun_anew_a_minute_later():
    watch = Watch(fails_at=10)
    w = Wearable([], watchers=[watch])
    w.run(70)
    # at the start too: a reset may have left it on
    assert watch.closed == 2 and watch.begun == 1 and w.node.sampler.errors == 1
    w.run(60)
    assert watch.begun == 2 and watch.steps > 20 and w.node.faults == 0


def test_a_watcher_whose_close_raises_ends_nothing():
    class Bad(Watch):
        def close(self):
            raise OSError(5)

    watch = Bad(fails_at=10)
    w = Wearable([], watchers=[watch])
    w.run(200)
    assert watch.begun == 2 and w.node.faults == 0


def test_a_watcher_without_consent_is_closed_and_begun_again_with_it():
    watch, button = Watch((5, 6)), Watch()
    w = Wearable([], watchers=[watch, button])
    w.run(60)
    once("sealband.consent").change(w.node, [1])
    steps = watch.steps
    w.run(60)
    assert watch.steps == steps and watch.closed == 2 and watch.begun == 1
    once("sealband.consent").change(w.node, [6])
    w.run(10)
    assert watch.begun == 2 and watch.steps > steps
    assert button.begun == 1 and button.closed == 1, "a button needs no consent"


def test_an_alarm_holds_ten_minutes_and_motion_until_the_wearer_rests():
    sensor = CountingSensor(1, 70, (0,), 0, None)
    w = Wearable([Every(60, sensor, motion=20, alarm=5)])
    w.run(600)
    for level, seconds, least, most in ((1, 600, 29, 31), (0, 600, 9, 11), (2, 600, 119, 121), (None, 600, 9, 11)):
        if level is not None:
            w.node.pace(level)
        before = sensor.reads
        w.run(seconds)
        assert least <= sensor.reads - before <= most, (level, sensor.reads - before)
    times = {t for t, record, _ in w.server.samples()}
    assert all(t % 5 == 0 for t in times), "on the grid of the period that held"


def test_paces_and_the_alarm_survive_deep_sleep():
    sensor = CountingSensor(1, 70)
    w = Wearable([Every(60, sensor, alarm=5)])
    w.run(300)
    w.node.pace(2)
    w.node.worn = 1
    from sealband import sleep

    sleep.suspend(w.node)
    w.start(True)
    assert w.node.worn == 1
    before = sensor.reads
    w.run(300)
    assert sensor.reads - before >= 59


def test_a_burst_is_readings_a_second_apart_and_stamped_so():
    w = Wearable([Every(60, CountingSensor(1, 70), burst=3)])
    w.run(1500)
    times = sorted({t for t, record, _ in w.server.samples()})[3:12]
    begin = times[0]
    assert begin % 60 == 0
    assert times == [begin + 60 * (i // 3) + i % 3 for i in range(9)], times


def test_quiet_hours_silence_what_may_be_silent_and_nothing_else():
    loud, still, watch = CountingSensor(1, 70), CountingSensor(4, 3900), Watch(event_at=450)
    w = Wearable([Every(60, loud), Every(60, still, quiet=False)], watchers=[watch])
    w.run(600)
    minute = w.time.server_t() // 60 % 1440
    w.node.config.quiet_from_min = (minute - 1) % 1440
    w.node.config.quiet_to_min = (minute + 30) % 1440
    before, all_before = still.reads, loud.reads
    w.run(29 * 60)
    assert still.reads == before and loud.reads - all_before == 29
    assert events(w) == [[2]]
    w.run(5 * 60)
    assert still.reads - before >= 4


def test_quiet_hours_wait_for_the_time_to_be_known():
    still = CountingSensor(4, 3900)
    w = Wearable([Every(60, still, quiet=False)])
    w.node.config.quiet_from_min, w.node.config.quiet_to_min = 0, 1439
    w.link.deaf = True
    w.run(310)
    assert still.reads >= 4, "before the first sync nobody knows what hour it is"


def test_a_declaration_that_makes_no_sense_is_refused():
    for more in ({"motion": 0}, {"alarm": 0.5}, {"burst": 0}, {"burst": 61}, {"burst": True}, {"motion": True}):
        try:
            Every(60, CountingSensor(1, 70), **more)
        except ValueError:
            continue
        raise AssertionError("accepted %r" % more)


def test_what_the_board_does_not_have_is_left_out():
    app = App([Every(60, None), Every(60, CountingSensor(1, 70))], [], watchers=[None])
    assert len(app.sensors) == 1 and app.watchers == []


# a driver that part() loads: how often its module was run, and what it was handed
class Source:
    def __init__(self):
        self.loads = 0
        self.kept = []
        self.missing = False


class Driver(Sensor):
    records = (1,)
    settings = None

    def __init__(self, source):
        self.source = source
        self.kept = len(source.kept)

    def read(self):
        self.source.told = self.settings
        return (70,)


def offer(source):
    import sealband.sensors

    class Module:
        def sensor(self, board, kept=None):
            source.loads += 1
            source.kept.append(kept)
            if source.missing:
                raise SensorError("none")
            driver = Driver(source)
            return driver

    sys.modules["sealband.sensors.fake"] = sealband.sensors.fake = Module()


def test_a_part_that_the_board_lacks_is_none():
    source = Source()
    source.missing = True
    offer(source)
    assert part("fake", None) is None


def test_a_driver_is_loaded_for_each_measurement_and_let_go_of():
    source = Source()
    offer(source)
    one = part("fake", None)
    assert one.records == (1,) and "sealband.sensors.fake" not in sys.modules
    for _ in range(3):
        offer(source)
        one.settings = 7
        one.start()
        try:
            next(one.measure())
        except StopIteration as end:
            assert end.value == (70,)
        assert source.told == 7
        one.stop()
        one.stop()
    # the driver object does not survive, what it has kept does
    assert source.kept == [None, None, 2, 3]


class Alone(CountingSensor):
    # calls at_step(self) in each quarter of a second of its measurement
    alone = True
    at_step = None

    def measure(self):
        steps = CountingSensor.measure(self)
        while True:
            try:
                pause_ms = next(steps)
            except StopIteration as end:
                return end.value
            if self.at_step:
                self.at_step(self)
            yield pause_ms


def test_big_sensors_measure_one_at_a_time_and_not_beside_a_session():
    heart, other = Alone(1, 70, (0,), 9500), Alone(2, 97, (0,), 9500)
    w = Wearable([Every(30, heart), Every(30, other)], send_every_s=60)
    beside = []
    heart.at_step = lambda _: beside.append(other.running)
    other.at_step = lambda _: beside.append(heart.running)
    send = w.link.send

    def sends(frame):
        beside.append(heart.running or other.running)
        return send(frame)

    w.link.send = sends
    w.run(1200)
    assert len(beside) > 2000 and not any(beside), (len(beside), sum(beside))
    assert len(w.link.sent) >= 18
    assert heart.reads >= 38 and other.reads >= 36, (heart.reads, other.reads)
    assert heart.log[-1][0] % 30 < 25


def test_an_event_does_not_wait_for_a_big_sensor():
    heart = Alone(1, 70, (0,), 50000)
    w = Wearable([Every(600, heart)])
    w.run(1100)
    reads, steps = heart.reads, []

    def fall(sensor):
        steps.append(w.time.ms)
        if len(steps) == 20:
            w.node.event(1)

    heart.at_step = fall
    w.run(300)
    # sent at once; what gave way is measured when the session is over
    fell_ms = steps[19]
    sent_ms = [ms for ms, _ in w.link.sent if ms > fell_ms][0]
    assert sent_ms - fell_ms < 1000, sent_ms - fell_ms
    assert steps[20] - fell_ms > 5000 and len(steps) > 200
    assert heart.reads == reads + 1 and w.node.sampler.errors == 0


class Told(CountingSensor):
    # tells these values one after the other
    values = ()

    def measure(self):
        self.reads += 1
        return (self.values[min(self.reads, len(self.values)) - 1],)
        yield 0


def test_taking_the_band_off_and_putting_it_on_are_events_once_each():
    wear = Told(13, 0)
    wear.values = (1, 1, 0, 0, None, 0, 1, 1)
    w = Wearable([Every(60, wear)])
    w.run(700)
    assert events(w) == [[5], [4]]


def test_a_sensor_that_fails_is_told_once_and_again_only_after_it_was_well():
    bad, good = CountingSensor(1, 70), CountingSensor(4, 3900)
    bad.fails = True
    w = Wearable([Every(60, good), Every(10, bad)])
    w.run(600)
    assert events(w) == [[7, 1]]
    bad.fails = False
    w.run(300)
    bad.fails = True
    w.run(300)
    assert events(w) == [[7, 1], [7, 1]]
    assert good.reads >= 18, "the rest goes on"


def test_consent_that_changes_is_receipted_and_told_in_a_status():
    w = Wearable()
    w.run(130)
    statuses = len([items for items in w.server.messages() if items[0] == messages.STATUS])
    assert w.node.session._receive(w.server.message(0, messages.CONSENT, [4]))
    w.run(60)
    told = [items for items in w.server.messages() if items[0] == messages.STATUS][statuses:]
    assert [items[2][messages.STATUS_CONSENT] for items in told] == [b"\x04"]
    assert any(items[0] == messages.RECEIPT for items in w.server.messages())


def test_consent_withdrawn_in_the_middle_of_a_measurement_switches_the_part_off():
    heart = Alone(1, 70, (0,), 20000)
    w = Wearable([Every(60, heart)])
    w.run(50)
    seen = []

    def withdraw(sensor):
        seen.append(w.time.ms)
        if len(seen) == 10:
            once("sealband.consent").change(w.node, [4])

    heart.at_step = withdraw
    w.run(60)
    assert len(seen) == 10 and not heart.running and not heart.reads
    assert w.node.sampler.errors == 0 and len(w.node.batch) == 0


def test_a_batch_is_sealed_when_it_fills_a_frame_and_when_it_is_old():
    w = Wearable(
        [Every(10, CountingSensor(1, 70)), Every(60, CountingSensor(3, 3300))], frame_max=51, send_every_s=3600
    )
    w.run(3600)
    frames = [items for items in w.server.messages() if items[0] == messages.TELEMETRY]
    sizes = [len(data) for _, data in w.link.sent][1:]
    assert len(frames) >= 10 and sorted(sizes)[len(sizes) // 2] >= 40, sizes
    # once both series have begun at one time they go on together, so that no frame holds one alone
    assert all(len(items) == 4 for items in frames[6:]), frames
    samples = w.server.samples()
    times = [t for t, record, _ in samples if record == 1]
    assert all(b - a == 10 for a, b in zip(times[2:], times[3:]))


def test_an_event_for_which_memory_is_short_ends_nobody_who_watches():
    class Urgent(Watch):
        told = False

        def watch(self, node):
            while not self.told:
                self.told = node.event(2)
                yield 2000
            yield from super().watch(node)

    watch = Urgent()
    w = Wearable([], watchers=[watch])
    say, refused = w.node.say, []

    def short(priority, *items):
        if priority == 0 and len(refused) < 3:
            refused.append(items)
            raise MemoryError
        return say(priority, *items)

    w.node.say = short
    w.run(60)
    assert len(refused) == 3 and events(w) == [[2]]
    assert watch.begun == 1 and w.node.sampler.errors == 0 and w.node.faults == 3


def test_a_driver_that_asks_for_days_of_patience_blocks_no_session_and_no_other_sensor():
    class Patient(Sensor):
        records = (64,)
        alone = True
        read_ms = 1000

        def measure(self):
            while True:
                yield 10**9

    w = Wearable([], send_every_s=120)
    w.sensors = [Every(300, Patient()), Every(60, w.heart)]
    w.start()
    w.run(1500)
    assert w.heart.reads >= 24 and w.node.sampler.errors >= 4 and w.node.faults == 0
    assert len(w.server.samples()) >= 20


def test_a_measurement_that_goes_on_past_the_time_of_sending_keeps_no_processor_spinning():
    w = Wearable([], send_every_s=60)
    w.sensors = [Every(60, CountingSensor(7, 1, (1,), 45000, w.time)), Every(20, w.skin)]
    w.sensors[0].periods = (50, 50, 50)
    w.start()
    w.run(120)
    looks = []
    keep = w.node._keep_house
    w.node._keep_house = lambda: (looks.append(1), keep())
    w.run(300)
    assert len(looks) < 5 * 300, "%d looks in 300 s" % len(looks)
    assert len(w.server.samples()) > 20
