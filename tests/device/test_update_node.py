# The node's part of an update, in virtual time: it takes orders, tells what came of them, watches a trial, restarts.
import os

from device.wearable import CountingSensor, Wearable

import sealboot
from sealband.app import Every
from sealband.crypto import cbor
from sealwire import messages, recordids
from sealwire import update as wire

TIMEOUT_S = 120
URL = "http://10.0.0.1:8000/virtual-wearable/2/manifest.suit"
DIGEST = bytes(range(32))
IMAGE = bytes(range(100, 132))
FOLDER = "/ram/update"


# A board that runs release `sequence` from a slot; `steps`: what the start left to be told.
def board(sequence=1, trial=False, needed=(), steps=None, restart_s=None, **settings):
    sealboot.index, sealboot.sequence, sealboot.digest, sealboot.trial = 0, sequence, IMAGE, trial
    w = Wearable(**settings)
    w.resets = []  # samples that RAM held at each
    os.mkdir(FOLDER)
    if trial:
        write("trial", [list(needed), "", sequence])
    if steps is not None:
        write("reports", steps)
    return restart(w, on_trial=trial, restart_s=restart_s)


# Begin anew, as after a reset.
def restart(w, **settings):
    w.node_settings = settings
    w.node_settings["update_folder"] = FOLDER
    w.start()
    # it does not end here, so it comes again and again
    w.node._reset = lambda: len(w.resets) < 100 and w.resets.append(len(w.node.batch))
    return w


def write(name, value):
    with open(FOLDER + "/" + name, "wb") as file:
        file.write(value if isinstance(value, bytes) else cbor.encode(value))


def read(name):
    try:
        with open(FOLDER + "/" + name, "rb") as file:
            return cbor.decode(file.read())
    except OSError:
        return None


def order(w, sequence=2, digest=DIGEST, url=URL):
    assert w.node.session._receive(w.server.message(0, messages.UPDATE, sequence, digest, url))


def receipts(w):
    return [items[2] for items in w.server.messages() if items[0] == messages.RECEIPT]


def reports(w):
    return [tuple(items[1:]) for items in w.server.messages() if items[0] == messages.UPDATE_REPORT]


def test_an_order_is_acknowledged_written_down_and_the_board_starts_anew():
    w = board()
    w.run(700)
    order(w)
    w.run(300)
    assert receipts(w) == [messages.RESULT_DONE]
    assert reports(w) == [(2, wire.ACCEPTED, 0)]
    assert w.resets[0] == 0, "what RAM held was not sealed before"
    sequence, digest, url, records, now_s = read("order")
    assert (sequence, digest, url, records) == (2, DIGEST, URL, [1, 3, 4])
    assert now_s > 60_000_000


def test_malformed_orders_are_refused_and_change_nothing():
    w = board()
    w.run(60)
    bad = (
        (2, DIGEST),
        (2, DIGEST, URL, 1),
        (-1, DIGEST, URL),
        (1 << 32, DIGEST, URL),
        ("2", DIGEST, URL),
        (2, DIGEST[:31], URL),
        (2, None, URL),
        (2, DIGEST, b"http://10.0.0.1:8000/m"),
        (0, DIGEST, URL),
    )
    for items in bad:
        assert w.node.session._receive(w.server.message(0, messages.UPDATE, *items))
    order(w, url="http://10.0.0.1:8000/" + "x" * 160)
    w.run(600)
    assert set(receipts(w)) == {messages.RESULT_MALFORMED, messages.RESULT_OUT_OF_RANGE}
    assert read("order") is None and not w.resets and w.node.restart_s is None


def test_a_developers_board_takes_no_order():
    w = board()
    w.run(60)
    sealboot.index = 255
    order(w)
    w.run(300)
    assert receipts(w) == [messages.RESULT_UNSUPPORTED] and read("order") is None


def test_flash_that_refuses_the_order_is_said():
    w = board()
    w.run(60)
    w.node.update_folder = "/ram/nowhere"
    order(w)
    w.run(300)
    assert receipts(w) == [messages.RESULT_FAILED] and not w.resets


def test_a_repeated_order_is_one_order():
    w = board()
    w.run(60)
    for _ in range(3):
        order(w)
    w.run(300)
    assert receipts(w) == [messages.RESULT_DONE] * 3
    assert reports(w) == [(2, wire.ACCEPTED, 0)]


def test_an_order_during_a_trial_has_to_wait():
    w = board(2, trial=True, needed=[3])
    w.skin.fails = True
    restart(w, on_trial=True)
    w.run(60)
    order(w, 3)
    w.run(300)
    assert receipts(w) == [messages.RESULT_BUSY] and read("order") is None


def test_what_the_start_left_is_told_once():
    w = board(steps=[[2, wire.VERIFIED, 0], [2, wire.FAILED, wire.TOO_SLOW]])
    w.run(60)
    assert reports(w) == [(2, wire.VERIFIED, 0), (2, wire.FAILED, wire.TOO_SLOW)]
    assert read("reports") is None
    restart(w)
    w.run(60)
    assert len(reports(w)) == 2


def test_reports_that_are_garbage_are_removed():
    for garbage in (b"", b"\xff", b"\x01", b"\x81\x01", b"\x81\xa0"):
        w = board(steps=garbage)
        w.run(60)
        assert reports(w) == [] and read("reports") is None
        assert w.node.faults == 0


def test_the_next_attempt_begins_in_its_time():
    w = board(restart_s=300)
    w.run(290)
    assert not w.resets
    w.run(60)
    assert w.resets


def test_a_restart_waits_for_replies_but_not_for_ever():
    w = board(restart_s=100)
    w.link.deaf = True
    w.run(270)
    assert not w.resets, "the status is still in the queue"
    w.run(60)
    assert w.resets


def test_a_restart_lets_go_of_what_measures_alone_before_it_seals():
    class Big(CountingSensor):
        alone = True

    w = board()
    big = Big(1, 72, takes_ms=50000, time=w.time)
    w.sensors = [Every(60, big), Every(10, w.skin)]
    restart(w, restart_s=135)
    sealed, resets = [], []
    seal_batch = w.node.seal_batch
    w.node.seal_batch = lambda limit, most=9: sealed.append(big.running) or seal_batch(limit, most)
    w.node._reset = lambda: resets.append((w.time.ms, sealed[-1]))
    w.run(200)
    # it measures from 120 s to 170 s
    assert 135000 <= resets[0][0] < 165000 and not resets[0][1], resets


def test_healthy_code_says_so_and_starts_anew():
    w = board(2, trial=True, needed=[1, 3])
    w.run(60)
    assert reports(w) == [(2, wire.STARTED, 0)]
    assert read("healthy") is not None and w.resets


def test_without_an_acknowledged_uplink_nothing_is_healthy():
    w = board(2, trial=True, needed=[1, 3])
    w.link.mute = True
    w.run(3600)
    assert read("healthy") is None and not w.resets
    w.link.mute = False
    w.run(7200)
    assert read("healthy") is not None


def test_a_sensor_that_worked_before_must_answer():
    w = board(2, trial=True, needed=[1, 3])
    w.skin.fails = True
    restart(w, on_trial=True)
    w.run(1000)
    assert read("healthy") is None
    w.skin.fails = False
    w.run(120)
    assert read("healthy") is not None


def test_a_sensor_that_was_broken_before_holds_nothing_up():
    w = board(2, trial=True, needed=[1, 3])
    w.battery.fails = True
    restart(w, on_trial=True)
    w.run(120)
    assert read("healthy") is not None


def test_a_receiver_that_a_low_cell_keeps_off_holds_nothing_up():
    w = board(2, trial=True, needed=[3, recordids.LATITUDE])
    place = CountingSensor(recordids.LATITUDE, 4736500)
    w.sensors = [Every(60, place), Every(10, w.skin)]
    restart(w, on_trial=True)
    w.node.low = 1
    w.run(120)
    assert read("healthy") is not None and not place.reads


def test_a_receiver_without_sky_has_answered():
    class Roofed(CountingSensor):
        alone = True

        def measure(self):
            yield 20000
            return (None,)

    w = board(2, trial=True, needed=[3, recordids.LATITUDE])
    w.sensors = [Every(600, Roofed(recordids.LATITUDE, 0)), Every(10, w.skin)]
    restart(w, on_trial=True)
    w.run(60)
    assert read("healthy") is not None and w.resets


def test_one_sensor_at_least_must_answer():
    w = board(2, trial=True)
    for sensor in (w.heart, w.skin, w.battery):
        sensor.fails = True
    restart(w, on_trial=True)
    w.run(1000)
    assert read("healthy") is None


def test_an_application_without_sensors_needs_the_server_only():
    w = board(2, trial=True, sensors=[])
    w.run(60)
    assert read("healthy") is not None


def test_what_a_probe_measures_is_not_kept():
    w = board(2, trial=True, needed=[3], sensors=[Every(600, CountingSensor(3, 3300))])
    w.run(60)
    assert len(w.node.batch) == 0 and w.node.sampler.newest == {}


def test_eight_hours_without_health_are_one_failed_start():
    w = board(2, trial=True, needed=[1], send_every_s=3600)
    w.link.mute = True
    w.run(28700)
    assert not w.resets
    w.run(300)
    assert w.resets and read("healthy") is None


def test_a_trial_file_that_is_lost_asks_for_one_sensor():
    w = board(2, trial=True, needed=[1, 3])
    os.remove(FOLDER + "/trial")
    w.skin.fails = True
    restart(w, on_trial=True)
    w.run(120)
    assert read("healthy") is not None and reports(w)[0] == (2, wire.STARTED, 0)


def test_status_says_what_runs():
    w = board(7)
    w.run(60)
    assert w.server.status()[messages.STATUS_RELEASE] == 7
    assert w.server.status()[messages.STATUS_RUNNING] == IMAGE[:8]


class Sleeps:
    def __init__(self, w):
        self._w = w

    def deepsleep(self, ms):
        self._w.time.ms += ms


def test_deep_sleep_keeps_what_a_trial_has_seen_and_when_to_start_anew():
    w = board(2, trial=True, needed=[3], sensors=[Every(60, CountingSensor(3, 3300))])
    w.link.deaf = True
    w.run(20)
    w.node.restart_s = 12345
    w.node.trial.acknowledged = True
    from sealband import sleep

    sleep.suspend(w.node)
    w.node_settings = {"on_trial": True, "update_folder": FOLDER}
    w.start(from_deep_sleep=True)
    assert w.node.resumed and w.node.restart_s == 12345
    assert w.node.trial.acknowledged and w.node.sampler.answered == 1


def test_what_the_old_code_sealed_makes_no_new_code_healthy():
    # the server knows nothing of what is on trial: it answers, and acknowledges only what it was sent before
    w = board()
    w.link.mute = True
    w.run(900)
    old = [w.server.open(frame)[1] for _, frame in w.link.sent]
    assert len(w.node.outbox), "nothing of the old code is queued"
    write("trial", [[1, 3], "", 2])
    sealboot.trial = True
    restart(w, on_trial=True)
    w.link.mute = False
    w.link.answer = lambda frame: [w.server.sync(0, w.time.server_t(), max(old))]
    w.run(3600)
    assert read("healthy") is None
    w.link.answer = w.link._sync
    w.run(7200)
    assert read("healthy") is not None
