# What a start makes of the files that an update leaves: start.py's own choice and duty.py behind it. Whatever lies in
# them (garbage, another version's job, what is left of an update before), the node must come to run, no code stays that
# nobody found healthy, and the server is told the truth.
import os
import sys

from device.fakes import unmount

import sealboot
from device import update_way as way
from sealband.crypto import cbor
from sealband.update import agent, duty, fetch, job
from sealboot import record, slots
from sealwire import update as wire

sys.modules["machine"] = way.Machine()
from sealband import start as begin  # noqa: E402

TIMEOUT_S = 300

RESETS_MAX = 8
ENVELOPE, ORDER = way.signed_release(way.NEW)
JOB = [1, 2, bytes(32), way.URL, 0, 0, False, [], 60000000, 0]
GARBAGE = (
    b"",
    b"\xff",
    b"\x80",
    b"\x82\x01\x02",
    b"\xa0",
    bytes(300),
    cbor.encode([1, 2, 3, 4, 5]),
    cbor.encode([2] + JOB[1:]),
    cbor.encode(JOB + [0]),
    cbor.encode([1, "2", 5, None, "x", "y", 0, 7, 1, 0]),
    cbor.encode(JOB[:5] + ["five"] + JOB[6:]),
    cbor.encode([1, "ota_0", 2]),
)


class Records:
    # nothing was set aside for a sleep
    def rtc_has(self, name):
        return False


# A start by start.py: "reset", or what it lets the node run with, (seconds until a restart or None, on trial).
def start(board, machine=None):
    machine = machine or way.Machine()
    board.mount(way.ROOT)
    sealboot.index, sealboot.sequence, sealboot.digest, sealboot.trial = 255, 0, b"", False
    sealboot.outcome, sealboot.watchdog_s = (0, 0), 0
    begin.machine, begin.FOLDER = machine, way.UPDATE
    try:
        assert slots.choose(machine, way.ROOT) is not None, "nothing boots"
        return begin.update(Records())
    except way.Reset:
        return "reset"
    finally:
        unmount(way.ROOT)


# Starts until the node runs: with what.
def settles(board, machine=None):
    for _ in range(RESETS_MAX):
        ran = start(board, machine)
        if ran != "reset":
            return ran
    raise AssertionError("it starts for ever")


def board(**settings):
    way.Server.files, way.Server.asked, way.Server.fails = way.delivery(ENVELOPE), [], {}
    return way.world(ORDER, **settings)


def put(board, name, value):
    board.mount(way.ROOT)
    with open(way.UPDATE + "/" + name, "wb") as file:
        file.write(value if isinstance(value, bytes) else cbor.encode(value))
    unmount(way.ROOT)


def drop(board, *names):
    board.mount(way.ROOT)
    for name in names:
        job.remove(name)
    unmount(way.ROOT)


def listed(board):
    board.mount(way.ROOT)
    try:
        return sorted(os.listdir(way.UPDATE))
    finally:
        unmount(way.ROOT)


def told(board):
    board.mount(way.ROOT)
    try:
        return [(state, code) for _, state, code in way.tell()]
    finally:
        unmount(way.ROOT)


def found_healthy(board):
    put(board, "healthy", 1)


def test_the_way_by_the_real_start():
    b = board()
    assert start(b) == "reset", "the update was not attempted"
    assert start(b) == (None, True), "the trial is not the node's"
    found_healthy(b)
    assert start(b) == "reset"
    assert start(b) == (None, False)
    assert told(b)[-1] == (wire.CONFIRMED, 0) and way.intact(b).floor == 2


def test_garbage_in_any_file_never_starts_the_board_for_ever():
    for name in ("order", "job", "last", "reports", "trial", "healthy", "wait"):
        for garbage in GARBAGE:
            b = board()
            drop(b, "order")
            put(b, name, garbage)
            assert settles(b) == (None, False), (name, garbage)
            way.intact(b)
            # and it takes the next order
            put(b, "order", [2, ORDER, way.URL, [], 60000000])
            assert settles(b) == (None, True), (name, garbage)


def test_a_job_of_another_version_is_put_away():
    b = board()
    drop(b, "order")
    put(b, "job", [9] + JOB[1:])
    assert settles(b) == (None, False)
    assert "job" not in listed(b)


def test_flash_that_removes_nothing_runs_the_node():
    b = board()
    safe, os_module = job.os, job.os

    class Stuck:
        def remove(self, path):
            raise OSError(28)

        def __getattr__(self, name):
            return getattr(os_module, name)

    job.os = Stuck()
    try:
        assert settles(b)[1] in (True, False)
    finally:
        job.os = safe


def test_code_of_ours_that_raises_before_an_attempt_is_counted_does_not_start_for_ever():
    # a release whose updater does not fit into the heap was confirmed: nothing but this start would notice
    b = board()

    def broken(*_):
        raise MemoryError("no heap")

    safe, agent.run = agent.run, broken
    try:
        assert settles(b) == (None, False)
        assert start(b) == (None, False)
    finally:
        agent.run = safe
    assert told(b) == [(wire.GAVE_UP, wire.INTERNAL)]


def test_a_wait_that_is_left_over_does_not_postpone_the_next_update():
    b = board()
    put(b, "wait", 5000)
    assert start(b) == "reset"
    assert start(b) == (None, True)
    found_healthy(b)
    assert start(b) == "reset"
    assert start(b) == (None, False)


def test_what_one_trial_was_found_does_not_confirm_the_next():
    # found healthy by the last start that it had, then rolled back; the job was lost with that flash
    b = board()
    start(b)
    for _ in range(4):
        assert start(b) == (None, True)
    found_healthy(b)
    drop(b, "job")
    assert settles(b) == (None, False)
    assert way.intact(b).slots[1] == record.EMPTY
    put(b, "order", [2, ORDER, way.URL, [], 60000000])
    assert settles(b) == (None, True), "confirmed without having run"
    assert way.intact(b).floor == 1


def test_healthy_without_a_trial_confirms_nothing():
    b = board()
    found_healthy(b)
    assert settles(b) == (None, True)
    assert way.intact(b).floor == 1


def test_expired_trust_list_is_refused_in_a_later_attempt_too():
    # whoever delivers lets the first attempt fail: the time that came with the order must outlive it
    b = board(trusted=way.trust_payload(expires=59999999))
    way.Server.fails = {way.BASE + "/trust/2.cbor": fetch.FetchError(wire.UNREACHABLE)}
    assert start(b) == "reset"
    way.Server.fails = {}
    drop(b, "wait")
    settles(b)
    assert told(b) == [(wire.FAILED, wire.UNREACHABLE), (wire.REFUSED, wire.TRUST_EXPIRED)]
    assert way.intact(b).trial == record.NONE


def test_what_was_refused_is_never_called_confirmed():
    # another manifest with the number of what runs, ordered twice
    envelope, digest = way.signed_release(way.NEW, sequence=1)
    b = board()
    way.Server.files = way.delivery(envelope)
    for _ in range(2):
        put(b, "order", [1, digest, way.URL, [], 60000000])
        assert settles(b) == (None, False)
        assert told(b) == [(wire.REFUSED, wire.OLD_SEQUENCE)]


def test_an_order_anew_moves_the_update_elsewhere():
    b = board()
    put(b, "order", [2, ORDER, way.ORIGIN + "/elsewhere/manifest.suit", [], 60000000])
    assert start(b) == "reset"
    assert told(b) == [(wire.FAILED, wire.HTTP_STATUS)]
    put(b, "order", [2, ORDER, way.URL, [], 60000000])
    assert settles(b) == (None, True)
    b.mount(way.ROOT)
    attempts = job.load().attempts
    unmount(way.ROOT)
    assert attempts == 2, "attempts are not given anew"


# The power failed before the job said that it is on trial.
def forget_the_trial(b):
    b.mount(way.ROOT)
    work = job.load()
    work.phase = job.ORDERED
    work.save()
    way.tell()
    unmount(way.ROOT)


def test_a_confirmation_that_was_cut_twice_is_not_called_refused():
    # once before the job said that it is on trial, once before it said that it has ended
    b = board()
    start(b)
    forget_the_trial(b)
    assert start(b) == (None, True)
    found_healthy(b)
    end = job.Job.end

    def cut(*_):
        raise way.Reset()

    job.Job.end = cut
    try:
        assert start(b) == "reset"
    finally:
        job.Job.end = end
    assert settles(b) == (None, False)
    assert told(b) == [(wire.CONFIRMED, 0)]


def test_a_trial_that_ends_before_its_job_knew_of_it_is_told_and_over():
    b = board()
    start(b)
    forget_the_trial(b)
    for _ in range(4):
        assert start(b) == (None, True)
    assert settles(b) == (None, False)
    assert told(b) == [(wire.ROLLED_BACK, wire.TRIAL_FAILED)]
    assert "job" not in listed(b)


def test_a_trial_that_flash_did_not_count_is_not_called_over():
    b = board()
    start(b)
    told(b)
    safe, slots._save = slots._save, lambda held, folder: False
    try:
        assert settles(b) == (None, False)
    finally:
        slots._save = safe
    assert told(b) == []
    assert start(b) == (None, True)
    found_healthy(b)
    settles(b)
    assert told(b) == [(wire.CONFIRMED, 0)]


def test_an_update_that_is_over_leaves_no_download():
    # the rest of what cannot be fetched would take the queue's flash for good
    b = board()
    put(b, "0123456789abcdef.full", bytes(2000))
    put(b, "0123456789abcdef.patch", bytes(2000))
    way.Server.fails = {way.URL: fetch.FetchError(wire.UNREACHABLE)}
    for _ in range(12):
        if start(b) == (None, False):
            break
        drop(b, "wait")
    assert told(b)[-1] == (wire.GAVE_UP, 0)
    assert listed(b) == ["last", "provision", "trust"]


def test_a_slot_that_is_damaged_while_a_job_waits_is_told():
    b = board()
    start(b), start(b)
    found_healthy(b)
    settles(b)
    told(b)
    put(b, "job", [1, 3, bytes(32), way.URL, 0, 1, False, [], 60000000, 0])
    b.mount(way.ROOT)
    with open(way.SLOTS + "/b/main.py", "wb") as file:
        file.write(b"3\n")
    unmount(way.ROOT)
    assert start(b) == "reset"
    assert told(b) == [(wire.ROLLED_BACK, wire.SLOT_CORRUPT)]


def test_nothing_of_start_confirms_a_trial_without_duty():
    b = board()
    start(b)
    safe, duty.run = duty.run, lambda machine: True
    try:
        assert start(b) == (None, True)
        found_healthy(b)
        assert start(b)[1] is False
    finally:
        duty.run = safe
    assert way.intact(b).floor == 1


def test_a_wait_that_is_garbage_or_endless_holds_nothing_up():
    for garbage, wait_s in ((b"\xff", None), (b"", None), ("soon", None), (1 << 40, 86400), (-5, 0)):
        b = board()
        way.Server.fails = {way.URL: fetch.FetchError(wire.UNREACHABLE)}
        start(b)
        put(b, "wait", garbage)
        ran = start(b)
        assert ran == ("reset" if wait_s is None else (wait_s, False)), (garbage, ran)
