# The node's part of an update, in virtual time: orders, reports, the restart into the updater, trials and their end.
import os

from device.wearable import CountingSensor, Wearable

import sealboot
from sealband.app import Every
from sealband.crypto import cbor
from sealband.update import duty, job
from sealboot import record
from sealwire import messages
from sealwire import update as wire

TIMEOUT_S = 120
URL = "http://10.0.0.1:8000/virtual-wearable/2/manifest.suit"
DIGEST = bytes(range(32))
IMAGE = bytes(range(100, 132))


def board(sequence=1, trial=False, provisioned=True, **settings):
    job.FOLDER, job.SLOTS = "/ram/update", "/ram/slots"
    sealboot.index, sealboot.sequence, sealboot.digest = 0, sequence, IMAGE
    sealboot.trial, sealboot.outcome = trial, (0, 0)
    w = Wearable(**settings)
    w.resets = []  # samples that RAM held at each
    w.node._reset = lambda: w.resets.append(len(w.node.batch))
    for folder in (job.FOLDER, job.SLOTS):
        os.mkdir(folder)
    if provisioned:
        table = {
            wire.PROVISION_VENDOR: bytes(16),
            wire.PROVISION_CLASS: bytes(16),
            wire.PROVISION_ORIGINS: ["http://10.0.0.1:8000"],
        }
        with open(job.path("provision"), "wb") as file:
            file.write(cbor.encode(table))
    return w


# the boot record of a board on which `sequence` is on trial in slot b, and 1 was confirmed in slot a
def on_trial(sequence=2):
    held = record.Record()
    held.active, held.trial, held.trials = 0, 1, 1
    held.floor = 1
    held.slots = [(1, bytes(32), 1), (sequence, IMAGE, 0)]
    record.save(held, job.SLOTS)


def tell(w, *items):
    assert w.node.session._receive(w.server.message(0, *items))


def order(w, sequence=2, digest=DIGEST, url=URL):
    tell(w, messages.UPDATE, sequence, digest, url)


def receipts(w):
    return [items[2] for items in w.server.messages() if items[0] == messages.RECEIPT]


def reports(w):
    return [tuple(items[1:]) for items in w.server.messages() if items[0] == messages.UPDATE_REPORT]


# begin anew, as after a reset, with what the start has found
def restart(w):
    w.start()
    w.node._reset = lambda: w.resets.append(len(w.node.batch))
    w.node.update = duty.begin(w.node)


def test_an_order_is_acknowledged_reported_and_leads_to_the_updater():
    w = board()
    w.run(700)
    order(w)
    w.run(300)
    assert receipts(w) == [messages.RESULT_DONE]
    assert reports(w) == [(2, wire.ACCEPTED, 0)]
    assert w.resets[0] == 0, "what RAM held was not sealed before"
    held = job.load()
    assert (held.phase, held.sequence, held.digest, held.url) == (job.GO, 2, DIGEST, URL)
    assert held.records == [1, 3, 4]


def test_malformed_orders_are_refused_and_change_nothing():
    w = board()
    w.run(60)
    for items in (
        (2, DIGEST),
        (2, DIGEST, URL, 1),
        (-1, DIGEST, URL),
        (1 << 32, DIGEST, URL),
        ("2", DIGEST, URL),
        (2, DIGEST[:31], URL),
        (2, None, URL),
        (2, DIGEST, b"http://10.0.0.1:8000/m"),
        (0, DIGEST, URL),
    ):
        tell(w, messages.UPDATE, *items)
    w.run(300)
    assert set(receipts(w)) == {messages.RESULT_MALFORMED}
    assert w.node.update is None and job.load() is None and not w.resets


def test_an_order_from_a_host_that_is_not_provisioned_is_refused():
    w = board()
    w.run(60)
    for url in ("http://10.0.0.2:8000/m", "http://10.0.0.1:8000@evil/m", "http://10.0.0.1/m", "x" * 200, ""):
        order(w, url=url)
    w.run(300)
    assert set(receipts(w)) == {messages.RESULT_OUT_OF_RANGE}
    assert job.load() is None


def test_a_board_without_slots_or_provision_takes_no_order():
    w = board(provisioned=False)
    w.run(60)
    order(w)
    sealboot.index = 255
    order(w)
    w.run(300)
    assert set(receipts(w)) == {messages.RESULT_UNSUPPORTED}


def test_a_repeated_order_is_one_order():
    w = board()
    w.run(60)
    order(w)
    order(w)
    order(w)
    w.run(300)
    assert receipts(w) == [messages.RESULT_DONE] * 3
    assert reports(w) == [(2, wire.ACCEPTED, 0)]


def test_a_newer_order_takes_the_place_of_one_that_waits():
    w = board()
    w.run(60)
    order(w)
    order(w, 3, IMAGE)
    w.run(300)
    assert job.load().sequence == 3


def test_a_failed_attempt_is_reported_and_another_waits():
    w = board()
    held = job.Job(2, DIGEST, URL)
    held.attempts = 1
    held.note(wire.FAILED, wire.UNREACHABLE)
    held.save()
    restart(w)
    w.run(290)
    assert reports(w) == [(2, wire.FAILED, wire.UNREACHABLE)]
    assert not w.resets
    w.run(300)
    assert w.resets and job.load().phase == job.GO


def test_after_too_many_attempts_the_update_is_given_up():
    w = board()
    held = job.Job(2, DIGEST, URL)
    held.attempts = job.ATTEMPTS_MAX
    held.save()
    restart(w)
    w.run(600)
    assert reports(w) == [(2, wire.GAVE_UP, 0)]
    assert not w.resets and w.node.update is None and job.load() is None
    assert job.load("last").sequence == 2


def trial(w):
    on_trial()
    held = job.Job(2, DIGEST, URL)
    held.phase = job.TRIAL
    held.records = [1, 3]
    held.note(wire.INSTALLED)
    held.save()
    sealboot.index, sealboot.sequence, sealboot.trial = 1, 2, True
    restart(w)


def test_healthy_code_confirms_itself_and_the_floor_rises():
    w = board()
    trial(w)
    w.run(120)
    assert reports(w) == [(2, wire.INSTALLED, 0), (2, wire.STARTED, 0), (2, wire.CONFIRMED, 0)]
    held = record.load(job.SLOTS)
    assert (held.active, held.trial, held.floor) == (1, record.NONE, 2)
    assert not sealboot.trial
    w.run(60)
    assert w.node.update is None and job.load() is None
    assert not w.resets


def test_without_an_acknowledged_uplink_nothing_is_confirmed():
    w = board()
    w.link.mute = True
    trial(w)
    w.run(3600)
    assert record.load(job.SLOTS).trial == 1
    w.link.mute = False
    w.run(7200)
    assert record.load(job.SLOTS).active == 1


def test_a_sensor_that_worked_before_must_answer():
    w = board()
    w.skin.fails = True
    trial(w)
    w.run(1000)
    assert record.load(job.SLOTS).trial == 1
    w.skin.fails = False
    w.run(200)
    assert record.load(job.SLOTS).active == 1


def test_a_sensor_that_was_broken_before_holds_nothing_up():
    w = board()
    w.battery.fails = True
    trial(w)
    w.run(200)
    assert record.load(job.SLOTS).active == 1


def test_one_sensor_at_least_must_answer():
    w = board()
    for sensor in (w.heart, w.skin, w.battery):
        sensor.fails = True
    on_trial()
    sealboot.index, sealboot.sequence, sealboot.trial = 1, 2, True
    restart(w)
    w.run(1000)
    assert record.load(job.SLOTS).trial == 1


def test_a_day_without_health_rolls_back():
    w = board(sensors=None, send_every_s=3600)
    w.link.mute = True
    trial(w)
    w.run(86000)
    assert record.load(job.SLOTS).trial == 1
    w.run(1000)
    held = record.load(job.SLOTS)
    assert held.trial == record.NONE and held.active == 0 and held.outcome == (2, wire.UNHEALTHY)
    assert w.resets


def test_the_old_code_reports_that_the_new_was_rolled_back():
    w = board()
    held = record.Record()
    held.active, held.floor, held.outcome = 0, 1, (2, wire.TRIAL_FAILED)
    held.slots[0] = (1, IMAGE, 1)
    record.save(held, job.SLOTS)
    work = job.Job(2, DIGEST, URL)
    work.phase = job.RUNNING
    work.save()
    sealboot.outcome = (2, wire.TRIAL_FAILED)
    restart(w)
    w.run(120)
    assert reports(w) == [(2, wire.ROLLED_BACK, wire.TRIAL_FAILED)]
    assert record.load(job.SLOTS).outcome == (0, 0) and sealboot.outcome == (0, 0)
    assert w.node.update is None


def test_a_damaged_slot_is_reported_without_a_job():
    w = board()
    held = record.Record()
    held.active, held.outcome = 0, (2, wire.SLOT_CORRUPT)
    held.slots[0] = (1, IMAGE, 1)
    record.save(held, job.SLOTS)
    sealboot.outcome = (2, wire.SLOT_CORRUPT)
    restart(w)
    w.run(120)
    assert reports(w) == [(2, wire.ROLLED_BACK, wire.SLOT_CORRUPT)]


def test_a_cut_between_confirming_and_noting_it_is_made_good():
    w = board(sequence=2)
    held = record.Record()
    held.active, held.floor = 1, 2
    held.slots[1] = (2, IMAGE, 1)
    record.save(held, job.SLOTS)
    work = job.Job(2, DIGEST, URL)
    work.phase = job.RUNNING
    work.save()
    restart(w)
    w.run(120)
    assert reports(w) == [(2, wire.CONFIRMED, 0)]


def test_an_order_for_what_is_confirmed_is_answered_and_not_done_again():
    w = board()
    trial(w)
    w.run(300)
    order(w)
    w.run(300)
    assert reports(w)[-1] == (2, wire.CONFIRMED, 0)
    assert not w.resets and job.load() is None


def test_another_order_during_a_trial_has_to_wait():
    w = board()
    w.link.mute = True
    trial(w)
    w.run(100)
    order(w, 3, IMAGE)
    order(w)
    w.link.mute = False
    w.run(7200)
    assert receipts(w) == [messages.RESULT_BUSY, messages.RESULT_DONE]


def test_status_says_what_runs():
    w = board(sequence=7)
    w.run(60)
    assert w.server.status()[messages.STATUS_RELEASE] == 7
    assert w.server.status()[messages.STATUS_RUNNING] == IMAGE[:8]


def test_a_job_of_another_version_or_of_garbage_is_no_job():
    w = board()
    good = job.Job(2, DIGEST, URL)
    good.save()
    with open(job.path("job"), "rb") as file:
        data = file.read()
    for bad in (b"", b"\xff", data[:-1], data + b"\x00", cbor.encode([9]), cbor.encode({}), bytes(2000)):
        with open(job.path("job"), "wb") as file:
            file.write(bad)
        assert job.load() is None, bad
        restart(w)
        assert w.node.update is None


def test_trials_of_an_application_without_sensors_need_the_server_only():
    w = board(sensors=[])
    trial(w)
    w.run(60)
    assert record.load(job.SLOTS).active == 1


def test_deep_sleep_wakes_say_that_they_started_once():
    w = board(sensors=[Every(60, CountingSensor(3, 3300))])
    w.link.mute = True
    trial(w)
    w.run(30)
    steps = [entry[2:] for entry in w.node.log.entries if entry[1] == "update"]
    assert steps == [(2, wire.INSTALLED, 0), (2, wire.STARTED, 0)]
    restart(w)
    w.run(30)
    assert [entry for entry in w.node.log.entries if entry[1] == "update"] == []
