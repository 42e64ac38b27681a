# The node as a whole, in virtual time: sample, seal, queue, send, listen, act; lost servers, hostile downlinks.
from device.wearable import CountingSensor, T, Wearable

from sealband import once
from sealband.app import App, Every
from sealband.crypto import cbor
from sealband.errors import StoreError
from sealwire import frame, messages


def types(w):
    return [items[0] for items in w.server.messages()]


def test_an_hour_of_readings_arrives_complete_and_in_time():
    w = Wearable()
    w.run(3605)
    samples = w.server.samples()
    heart = [(t, v) for t, record, v in samples if record == 1]
    skin = [(t, v) for t, record, v in samples if record == 3]
    battery = [(t, v) for t, record, v in samples if record == 4]
    # the first minutes pass before the clock is right; from then on nothing is missing
    assert heart[-1][0] >= T + 3600 - 20 - 600 and len(heart) >= 290, len(heart)
    for series, period in ((heart[5:], 10), (skin[2:], 60), (battery[1:], 600)):
        assert all(b[0] - a[0] == period for a, b in zip(series, series[1:])), series
        assert all(t % period == 0 for t, _ in series)
    # each value bears the time at which it was measured
    taken = {t // 10 * 10: v for t, v in w.heart.log}
    assert all(taken[t] == v for t, v in heart[5:])
    assert types(w)[0] == messages.STATUS
    assert w.node.faults == 0 and w.node.refused == 0
    assert len(w.queue()) <= 1


def test_measuring_goes_on_while_the_receive_window_is_awaited():
    w = Wearable(send_every_s=60)
    w.run(1200)
    heart = [t for t, record, _ in w.server.samples() if record == 1]
    assert len(w.link.sent) >= 18
    assert all(b - a == 10 for a, b in zip(heart[5:], heart[6:]))


def test_first_frame_after_a_cold_start_is_a_status_and_telemetry_waits_for_the_time():
    w = Wearable(send_every_s=60)
    w.link.deaf = True
    w.run(300)
    assert not [name for name in w.files() if name[0] == "2"]
    assert len(w.node.batch) > 20
    w.link.deaf = False
    w.run(900)
    samples = w.server.samples()
    assert samples[0][0] < T + 60, "what was measured before the first sync is stamped right"
    times = [t for t, record, _ in samples if record == 1]
    assert all(t >= T for t in times)
    # also what was measured before the clock was right bears the time at which it was measured
    truth = dict(w.heart.log)
    early = [(t, value) for t, record, value in samples if record == 1 and t in truth and t < T + 300]
    assert len(early) >= 20 and all(truth[t] == value for t, value in early), early
    assert w.node.batch.lost == 0


def test_a_retried_frame_is_the_same_bytes():
    w = Wearable(send_every_s=60)
    w.run(200)
    w.link.mute = True
    before = len(w.link.sent)
    w.run(300)
    w.link.mute = False
    w.run(3000)
    seen = {}
    for _, data in w.link.sent[before:]:
        parsed = frame.parse(data)
        key = (parsed.kind, parsed.epoch_bits, parsed.ctr)
        assert seen.setdefault(key, data) == data
    assert w.server.copies > 0
    assert w.queue() == [] or w.queue()[0][2] >= max(c for _, c in w.server.stored)


def test_events_go_before_telemetry_and_do_not_wait_for_the_schedule():
    w = Wearable(send_every_s=60)
    w.run(100)
    w.link.deaf = True
    w.run(200)
    assert [key[0] for key in w.queue()].count(2) >= 1
    assert w.node.event(2, 1)
    assert w.queue()[0][0] == 0
    w.link.deaf = False
    w.node.session.backoffs[0].failures = 0
    before = w.time.ms
    w.run(30)
    event = [items for items in w.server.messages() if items[0] == messages.EVENT]
    assert event == [[messages.EVENT, event[0][1], 2, 1]]
    first = [ms for ms, data in w.link.sent if ms > before][0]
    assert first - before < 16000
    parsed = frame.parse([data for ms, data in w.link.sent if ms == first][0])
    assert w.server.stored[(0, parsed.ctr)][0] == messages.EVENT


def test_lost_server_leads_to_hello_frames_with_growing_pauses_never_to_a_flood():
    w = Wearable(send_every_s=60)
    w.run(200)
    w.link.deaf = True
    begin = w.time.ms
    w.run(24 * 3600)
    kinds = [(ms - begin, frame.parse(data).kind) for ms, data in w.link.sent if ms > begin]
    hellos = [ms for ms, kind in kinds if kind == frame.KIND_HELLO]
    assert len(kinds) < 70, len(kinds)
    assert len(hellos) > 15
    # after the server counts as lost nothing but hellos
    assert all(kind == frame.KIND_HELLO for _, kind in kinds[8:])
    assert max(b - a for a, b in zip(hellos, hellos[1:])) <= 5401000
    w.link.deaf = False
    w.run(2 * 5400 + 600)
    assert w.server.hellos == 1
    assert not w.node.session.backoffs[0].lost
    w.node.report()
    w.run(120)
    assert w.node.outbox.drops == w.server.status()[messages.STATUS_DROPS] > 0


def test_an_event_is_tried_too_while_the_server_is_lost():
    w = Wearable(send_every_s=600)
    w.run(100)
    w.link.deaf = True
    w.run(4 * 3600)
    assert w.node.session.backoffs[0].lost
    before = len(w.link.sent)
    w.node.event(2)
    w.run(20)
    kinds = [frame.parse(data).kind for _, data in w.link.sent[before:]]
    assert kinds == [frame.KIND_HELLO, frame.KIND_DATA], kinds


def test_hostile_downlinks_are_counted_and_never_end_the_loop():
    w = Wearable(send_every_s=60)
    w.run(100)
    good = w.server.sync(0, w.time.server_t())
    hostile = [
        b"",
        b"\x00" * 40,
        bytes(range(256)),
        good[:-1],
        good[:-1] + bytes((good[-1] ^ 1,)),
        w.link.sent[-1][1],  # our own uplink, reflected
        w.server.seal(0, b""),
        w.server.seal(0, b"\xff\xff"),
        w.server.seal(0, b"\x10"),
        w.server.message(0, messages.SYNC, -1, 0, 0, 0),
        w.server.message(0, messages.SYNC, w.time.server_t(), 70000, 0, 0),
        w.server.message(0, messages.SYNC, w.time.server_t(), True, 0, 0),
        w.server.message(0, messages.SYNC, w.time.server_t(), 0, 1 << 40, 0),
        w.server.message(0, messages.SYNC, None, None, None, None),
        w.server.message(0, b"sync"),
        w.server.message(0, [messages.SYNC]),
        w.server.message(0, messages.CONFIGURE, {1: "x"}),
        w.server.message(0, messages.CONFIGURE, {1: 5, 2: 3600}),
        w.server.message(0, messages.CONFIGURE, {1: 60, 99: 1}),
        w.server.message(0, messages.CONFIGURE, 7),
        w.server.message(0, messages.REKEY, b"short"),
        w.server.message(0, messages.REPORT, 1),
    ]
    sent = len(w.server.stored)
    for data in hostile:
        w.node.session._receive(data)
    foreign = 2  # not a frame of this device: someone else's, not counted
    assert w.node.faults == 0
    assert w.node.refused >= len(hostile) - foreign - 1, w.node.refused
    assert w.node.config.send_every_s == 60 and w.node.config.status_every_s == 86400
    w.run(600)
    assert len(w.server.stored) > sent
    w.node.report()
    w.run(60)
    assert w.server.status()[messages.STATUS_REFUSED] == w.node.refused


def test_a_replayed_downlink_is_refused_and_counted():
    w = Wearable(send_every_s=60)
    recorded = []
    answer = w.link.answer
    w.link.answer = lambda data: recorded.extend(answer(data)) or recorded[-1:]
    w.run(130)
    refused = w.node.refused
    assert recorded and not w.node.session._receive(recorded[0])
    assert w.node.refused == refused + 1


def test_commands_get_receipts_and_settings_are_taken_as_a_whole():
    w = Wearable()
    w.run(60)
    downlinks = [
        w.server.message(0, messages.CONFIGURE, {1: 120, 2: 7200}),
        w.server.message(0, messages.CONFIGURE, {1: 60, 2: 1}),
        w.server.message(0, messages.UPDATE, 3, bytes(32), "x"),
        w.server.message(0, 99),
        w.server.message(0, messages.REPORT),
    ]
    for data in downlinks:
        assert w.node.session._receive(data)
    assert (w.node.config.send_every_s, w.node.config.status_every_s) == (120, 7200)
    w.run(120)
    receipts = [items[2] for items in w.server.messages() if items[0] == messages.RECEIPT]
    assert receipts == [
        messages.RESULT_DONE,
        messages.RESULT_OUT_OF_RANGE,
        messages.RESULT_UNSUPPORTED,
        messages.RESULT_UNSUPPORTED,
    ]
    assert types(w).count(messages.STATUS) == 2
    w.power_cut()
    assert (w.node.config.send_every_s, w.node.config.status_every_s) == (120, 7200)


def test_rekey_begins_an_epoch_and_old_frames_are_still_acknowledged():
    w = Wearable(send_every_s=60)
    w.run(130)
    w.link.deaf = True
    w.run(70)
    queued = [key for key in w.queue() if key[1] == 0]
    assert queued
    r = bytes(range(16))
    from sealband import keys

    assert w.node.session._receive(w.server.message(0, messages.REKEY, r))
    w.server.chain_keys[1:] = [keys.rekey(w.server.chain_keys[0], r)]
    assert w.node.chain.epoch == 1
    w.link.deaf = False
    w.run(300)
    assert any(epoch == 1 for epoch, _ in w.server.stored)
    assert not [key for key in w.queue() if key in queued]
    assert w.node.outbox.drops == 0


def test_a_new_epoch_begins_each_day():
    w = Wearable(sensors=[], status_every_s=3600)
    w.run(86400 * 2 + 7200)
    epochs = sorted({epoch for epoch, _ in w.server.stored})
    assert epochs == [0, 1, 2] or epochs == [0, 1, 2, 3], epochs
    assert w.node.outbox.drops == 0


def test_a_broken_sensor_is_counted_and_the_others_go_on():
    w = Wearable(send_every_s=60)
    w.run(100)
    w.skin.fails = True
    w.run(600)
    assert w.node.sampler.errors >= 9
    assert not w.skin.running
    heart = [t for t, record, _ in w.server.samples() if record == 1]
    assert heart[-1] > T + 500
    w.skin.fails = False
    w.node.report()
    w.run(60)
    assert w.server.status()[messages.STATUS_SENSOR_ERRORS] == w.node.sampler.errors


class Crazy(CountingSensor):
    def measure(self):
        self.reads += 1
        if self.reads % 3 == 0:
            raise KeyError("driver bug")
        return ("x",) if self.reads % 3 == 1 else (1, 2)
        yield 0


def test_a_driver_that_raises_or_returns_nonsense_is_counted():
    w = Wearable(sensors=[Every(10, Crazy(1, 0)), Every(10, CountingSensor(4, 3000))], send_every_s=60)
    w.run(300)
    assert w.node.sampler.errors >= 25 and w.node.faults == 0
    assert len([1 for _, record, _ in w.server.samples() if record == 4]) > 15


class Endless(CountingSensor):
    pause_ms = 500

    def measure(self):
        while True:
            yield self.pause_ms


def test_a_measurement_that_never_ends_is_given_up_and_holds_nothing_back():
    for pause_ms in (500, 0, "x"):
        endless = Endless(1, 0)
        endless.pause_ms = pause_ms
        w = Wearable(sensors=[Every(10, endless), Every(10, CountingSensor(4, 3000))], send_every_s=60)
        w.run(400)
        assert w.node.sampler.errors >= 3 and w.node.faults == 0
        assert not endless.running or pause_ms == 500
        assert len([1 for _, record, _ in w.server.samples() if record == 4]) > 15


def test_a_server_that_is_lost_and_a_flash_that_refuses_do_not_make_it_spin():
    w = Wearable(send_every_s=60)
    w.link.deaf = True
    w.run(1200)
    assert w.node.session.backoffs[0].lost
    attempts = []

    def refuse():
        attempts.append(w.time.ms)
        raise StoreError("flash")

    w.node.chain.take_counter = refuse
    w.run(3600)
    assert w.node.faults == 0
    assert len(attempts) < 200, len(attempts)


def test_a_full_outbox_drops_the_oldest_telemetry_and_reports_how_many():
    w = Wearable(send_every_s=60)
    w.node.outbox._frames_max = 12
    w.run(100)
    w.link.deaf = True
    w.run(1800)
    drops = w.node.outbox.drops
    assert drops > 10
    assert w.node.event(1)
    assert w.queue()[0][0] == 0 and len(w.queue()) == 12
    w.power_cut()
    w.node.outbox._frames_max = 12
    assert w.node.outbox.drops == drops + 1
    w.link.deaf = False
    w.run(1200)
    assert w.server.status()[messages.STATUS_DROPS] == drops + 1


def test_a_frame_that_the_server_answers_but_does_not_take_is_given_up():
    w = Wearable(send_every_s=60)
    w.run(130)
    answer = w.link.answer
    poison = []

    def but_one(data):
        parsed = frame.parse(data)
        if not poison:
            poison.append(parsed.ctr)
        if parsed.ctr == poison[0]:
            return [w.server.message(0, messages.SYNC, w.time.server_t(), 0, 0, 0)]
        return answer(data)

    w.link.answer = but_one
    w.run(900)
    assert w.node.outbox.drops == 1
    assert poison[0] not in [key[2] for key in w.queue()]
    assert len(w.server.stored) > 10


def test_a_link_that_fails_does_not_lose_frames():
    w = Wearable(send_every_s=60)
    w.run(100)
    w.link.broken = True
    w.run(300)
    assert w.node.faults == 0 and len(w.queue()) >= 4
    w.link.broken = False
    w.run(1200)
    assert len(w.queue()) <= 1 and w.node.outbox.drops == 0


def test_an_exception_in_our_own_code_is_counted_and_the_loop_goes_on_slowly():
    w = Wearable(send_every_s=60)
    w.run(100)

    def bug(*args):
        raise ZeroDivisionError("bug")

    commands = once("sealband.commands")
    act, commands.act = commands.act, bug
    w.run(300)
    assert 0 < w.node.faults < 100
    commands.act = act
    sent = len(w.server.stored)
    w.run(600)
    assert len(w.server.stored) > sent


def test_a_fault_that_comes_with_every_frame_does_not_make_a_flood():
    w = Wearable(send_every_s=60)
    w.run(100)
    sent = len(w.link.sent)

    def bug(*args):
        raise MemoryError("bug")

    w.node.outbox.acknowledge = bug
    w.node.session._receive = bug
    w.run(2 * 3600)
    assert 0 < len(w.link.sent) - sent < 20, len(w.link.sent) - sent
    del w.node.outbox.acknowledge
    del w.node.session._receive
    w.run(2 * 3600)
    assert len(w.queue()) <= 1


def test_a_fault_that_does_not_end_starts_the_board_anew():
    w = Wearable(send_every_s=60)
    w.run(100)
    resets = []
    w.node._reset = lambda: resets.append(w.time.ms)

    def bug(*args):
        raise MemoryError("bug")

    keep_house, w.node._keep_house = w.node._keep_house, bug
    began = w.time.ms
    w.run(600)
    assert resets and 170000 < resets[0] - began < 200000, resets[:1]
    w.node._keep_house = keep_house
    resets.clear()
    w.run(600)
    assert not resets


def test_a_sensor_is_not_busy_for_ever_after_a_fault_in_the_loop():
    w = Wearable(send_every_s=60)
    w.run(100)
    due = w.node.sampler.due
    calls = []

    def sometimes(now):
        calls.append(now)
        if len(calls) % 40 == 39:
            raise MemoryError("bug")
        return due(now)

    w.node.sampler.due = sometimes
    w.run(900)
    assert w.node.faults > 3
    heart = w.heart.reads
    w.node.sampler.due = due
    w.run(300)
    assert w.heart.reads - heart >= 28


def test_asking_for_the_same_record_twice_is_refused_at_declaration():
    try:
        App([Every(10, CountingSensor(1, 0)), Every(60, CountingSensor(1, 0))], [])
    except ValueError:
        return
    raise AssertionError("accepted")


def test_status_fits_the_smallest_frames():
    w = Wearable(frame_max=51)
    w.run(700)
    assert max(len(data) for _, data in w.link.sent) <= 51
    fields = w.server.status()
    for key in (messages.STATUS_DROPS, messages.STATUS_SENSOR_ERRORS, messages.STATUS_REFUSED):
        assert key in fields
    w.link.deaf = True
    w.run(3600)
    assert max(len(data) for _, data in w.link.sent) <= 51
    assert cbor.decode_sequence(w.node.status(28))[0] == messages.STATUS
