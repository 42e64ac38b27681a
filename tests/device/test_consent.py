# Consent: nothing that the wearer did not agree to is sampled, from the message on, over resets, until the next one.
from device.wearable import CountingSensor, Wearable

from sealband import consent, store
from sealband.app import Every
from sealband.errors import StoreError
from sealwire import messages


class Pair(CountingSensor):
    # one sensor for two records
    def measure(self):
        value = (yield from super().measure())[0]
        return (value, value + 1)


def wearable(**settings):
    w = Wearable(send_every_s=60, **settings)
    w.run(130)
    return w


def tell(w, *items):
    return w.node.session._receive(w.server.message(w.node.chain.epoch, messages.CONSENT, *items))


def records(w, since_ms):
    t = 60_000_000 + since_ms // 1000
    return sorted({record for at, record, _ in w.server.samples() if at > t + 10})


def test_from_the_message_on_only_what_was_agreed_to_is_sampled():
    w = wearable()
    assert tell(w, [4, 3])
    reads, at = w.heart.reads, w.time.ms
    w.run(700)
    # the one that was under way ends, and is not kept; no sensor is started for what may not be sampled
    assert w.heart.reads <= reads + 1 and not w.heart.running
    assert records(w, at) == [3, 4] and w.node.sampler.newest.get(1) is None
    assert tell(w, [1])
    at = w.time.ms
    w.run(300)
    assert records(w, at) == [1]
    assert w.node.faults == 0


def test_it_takes_effect_within_one_cycle_also_for_what_is_being_measured():
    w = wearable()
    seen = []
    w.node.sampler._on_sample = lambda record, t, value: seen.append((record, w.time.ms))
    pauses = w.node.work()
    while not w.node.sampler.sensors[0].busy:
        w.time.sleep_ms(next(pauses, 1000))
    assert tell(w, [])
    at = w.time.ms
    for pause_ms in pauses:
        w.time.sleep_ms(pause_ms)
    w.run(900)
    assert [entry for entry in seen if entry[1] > at] == []


def test_of_a_sensor_with_two_records_the_one_that_was_agreed_to_is_kept():
    w = wearable(sensors=[Every(10, Pair(5, 100)), Every(10, CountingSensor(4, 3900))])
    w.sensors[0].sensor.records = (5, 6)
    assert tell(w, [6])
    at = w.time.ms
    w.run(200)
    assert records(w, at) == [6]


def test_it_holds_after_a_power_cut_and_after_deep_sleep():
    w = wearable()
    assert tell(w, [3])
    w.power_cut()
    at = w.time.ms
    w.run(300)
    assert records(w, at) == [3]
    assert w.node.sampler.consent == b"\x03"


def test_before_the_first_message_the_applications_word_holds():
    w = wearable(ask_first=True)
    w.run(300)
    assert w.server.samples() == [] and w.heart.reads == 0 and w.node.sampler.consent == b""
    assert tell(w, [1])
    at = w.time.ms
    w.run(200)
    assert records(w, at) == [1]
    w.power_cut()
    assert w.node.sampler.consent == b"\x01"


def test_it_is_told_in_the_status_and_by_a_receipt():
    w = wearable()
    assert messages.STATUS_CONSENT not in w.server.status()
    assert tell(w, [3, 1, 3]) and tell(w, [3, 1])
    w.node.report()
    w.run(60)
    assert w.server.status()[messages.STATUS_CONSENT] == b"\x01\x03"
    assert [items[2] for items in w.server.messages() if items[0] == messages.RECEIPT] == [messages.RESULT_DONE] * 2


def test_a_message_that_is_not_right_changes_nothing():
    w = wearable()
    assert tell(w, [1, 4])
    for items, code in (
        ([], messages.RESULT_MALFORMED),
        ([None], messages.RESULT_MALFORMED),
        ([b"\x01"], messages.RESULT_MALFORMED),
        ([{1: 1}], messages.RESULT_MALFORMED),
        ([[1, "3"]], messages.RESULT_MALFORMED),
        ([[1, True]], messages.RESULT_MALFORMED),
        ([[0]], messages.RESULT_OUT_OF_RANGE),
        ([[1, 256]], messages.RESULT_OUT_OF_RANGE),
        ([[-1]], messages.RESULT_OUT_OF_RANGE),
        ([[1], [3]], messages.RESULT_MALFORMED),
    ):
        before = len(w.queue())
        assert tell(w, *items)
        assert w.node.sampler.consent == b"\x01\x04", items
        w.run(30)
        last = [message for message in w.server.messages() if message[0] == messages.RECEIPT][-1]
        assert last[2] == code, (items, last, before)


def test_flash_that_refuses_leaves_what_was_agreed_to_before():
    w = wearable()
    assert tell(w, [4])
    save = w.store.save

    def refuse(name, data, scrub=False):
        if name == store.CONSENT:
            raise StoreError("flash")
        save(name, data, scrub)

    w.store.save = refuse
    assert tell(w, [1, 3, 4])
    assert w.node.sampler.consent == b"\x04"
    w.run(60)
    codes = [items[2] for items in w.server.messages() if items[0] == messages.RECEIPT]
    assert codes == [messages.RESULT_DONE, messages.RESULT_FAILED]


def test_the_same_consent_again_is_not_written_again():
    w = wearable()
    saved = []
    save = w.store.save
    w.store.save = lambda name, data, scrub=False: (saved.append(name), save(name, data, scrub))
    for _ in range(5):
        assert tell(w, [4, 3])
    assert saved.count(store.CONSENT) == 1
    assert consent.load(w.store, True) == consent.load(w.store, False) == b"\x03\x04"


def test_a_change_is_told_in_the_shortest_frames_too_and_one_that_is_too_long_hides_nothing_else():
    for many in (15, 16, 40):
        w = Wearable(frame_max=51)
        w.run(130)
        assert tell(w, list(range(1, many)))
        w.run(400)
        told = [items[2].get(messages.STATUS_CONSENT) for items in w.server.messages() if items[0] == messages.STATUS]
        assert told[-1:] == ([bytes(range(1, many))] if many < 40 else [None]), (many, told)
        assert messages.STATUS_DROPS in w.server.status()
        # the next one has room for what the change took it from
        w.node.report()
        w.run(200)
        assert messages.STATUS_UPTIME_S in w.server.status()
