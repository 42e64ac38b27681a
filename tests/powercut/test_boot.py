# The power fails at every flash operation of what changes the boot record: counting a trial, its end, a confirmation,
# a rollback, the fallback from a damaged slot, and a whole switch with the files of the slot; each write torn in each
# way, and again while the board starts anew.
#
# What must hold: every start runs a complete image that was signed (start() compares its files); a trial is started
# four times at most; floor and active slot change together; a second start comes to the same end.
# Starts of a trial are noted in World.air, which no cut takes back: ("tried", sequence).
import os

from device.fakes import HALF, TEARS, sweep
from device.slot_board import DIGESTS, FOLDER, ROOT, board, done, held, on_trial, remove_tree, start, unpack, write

import sealboot
from sealboot import image, record, slots, switch
from sealboot.record import EMPTY, NONE
from sealwire import update as wire

TIMEOUT_S = 400


# One start of this board, up to and into the jump.
def boot(world):
    sequence = start()
    assert sequence is not None, "nothing runs"
    if sealboot.trial:
        world.send(("tried", sequence))
    return sequence


# Mounted for the time of one call.
def mounted(function):
    def call(world):
        world.mount(ROOT)
        try:
            function(world)
        finally:
            done()

    return call


def swept(name, world, run, check, tears=TEARS, depth=1):
    done()
    cuts = sweep(world, mounted(run), mounted(check), tears, depth)
    print("%s: %d cuts" % (name, cuts))
    return cuts


# --- a trial that is never confirmed


def crash_loop(world):
    for _ in range(5):
        boot(world)


def check_crash_loop(world):
    for _ in range(4):
        assert boot(world) in (7, 8)
    assert len(world.air) <= 4, "%d starts of a trial" % len(world.air)
    for _ in range(2):
        assert boot(world) == 7
    now = held()
    assert (now.active, now.trial, now.outcome) == (0, NONE, (8, wire.TRIAL_FAILED))
    assert now.slots == [(7, DIGESTS[7], 1), EMPTY] and now.floor == 7


def test_trial_that_crashes_ends_in_the_release_before_it_at_any_cut():
    cuts = swept("crash loop", on_trial(), crash_loop, check_crash_loop, depth=2)
    assert cuts > 200


def test_trial_that_is_damaged_never_runs_at_any_cut():
    def check(world):
        for _ in range(2):
            assert boot(world) == 7
        assert held().outcome == (8, wire.SLOT_CORRUPT) and not world.air

    world = on_trial()
    write(FOLDER + "/b/app.mpy", b"damaged")
    assert swept("damaged trial", world, boot, check, depth=2) > 30


# --- what the node does


def confirm(world):
    boot(world)
    if sealboot.trial:
        switch.confirm(FOLDER)


def check_confirmed(world):
    now = held()
    assert now is not None, "nothing runs"
    # one step: the release is confirmed if and only if nothing older may follow
    assert (now.active, now.floor, now.slots[1][2], now.trial) in ((0, 7, 0, 1), (1, 8, 1, NONE)), "half confirmed"
    confirm(world)
    for _ in range(2):
        assert boot(world) == 8 and not sealboot.trial
    now = held()
    assert (now.active, now.trial, now.floor, now.trials) == (1, NONE, 8, 0)
    assert now.slots == [(7, DIGESTS[7], 1), (8, DIGESTS[8], 1)]


def test_confirmation_raises_the_floor_with_it_at_any_cut():
    assert swept("confirmation", on_trial(), confirm, check_confirmed, depth=2) > 80


def roll_back(world):
    boot(world)
    if sealboot.trial:
        switch.roll_back(wire.UNHEALTHY, FOLDER)


def test_rollback_by_the_node_at_any_cut():
    def check(world):
        roll_back(world)
        for _ in range(2):
            assert boot(world) == 7 and sealboot.outcome == (8, wire.UNHEALTHY)
        assert held().slots[1] == EMPTY and held().floor == 7

    assert swept("rollback", on_trial(), roll_back, check, depth=2) > 80


def test_fallback_from_a_damaged_slot_at_any_cut():
    def check(world):
        for _ in range(2):
            assert boot(world) == 7 and sealboot.outcome == (8, wire.SLOT_CORRUPT)
        assert (held().active, held().slots[0], held().floor) == (1, EMPTY, 8)

    world = board(a=(8, 1), b=(7, 1), floor=8)
    write(FOLDER + "/a/app.mpy", b"damaged")
    assert swept("fallback", world, boot, check, depth=2) > 40


# Every change of the record: what is read is the state before or after it.
CHANGES = (
    ("forget", {"b": (9, 1)}, lambda: switch.forget(FOLDER)),
    ("begin_trial", {}, lambda: switch.begin_trial(1, 8, DIGESTS[8], FOLDER)),
    ("confirm", {"b": (8, 0), "trial": 1}, lambda: switch.confirm(FOLDER)),
    ("roll_back", {"b": (8, 0), "trial": 1}, lambda: switch.roll_back(66, FOLDER)),
    ("clear_outcome", {"outcome": (8, 64)}, lambda: switch.clear_outcome(FOLDER)),
    ("set_firmware", {}, lambda: switch.set_firmware(3, b"ota_1", FOLDER)),
    ("confirm_firmware", {"firmware": (3, b"ota_1")}, lambda: switch.confirm_firmware(FOLDER)),
    ("end_firmware", {"firmware": (3, b"ota_1")}, lambda: switch.end_firmware(64, FOLDER)),
)


def state():
    now = held()
    assert now is not None, "nothing runs"
    now.counter = 0
    return now.pack()


def changes_swept():
    cuts = 0
    for name, fields, change in CHANGES:
        world = board(**fields)
        before = state()
        twin = world.copy()
        twin.mount(ROOT)
        change()
        after = state()
        assert before != after

        def run(world, change=change, before=before):
            if state() == before:
                change()

        def check(world, name=name, run=run, before=before, after=after):
            assert state() in (before, after), "%s: neither before nor after" % name
            run(world)
            assert state() == after, "%s: not done by the second try" % name

        cuts += swept(name, world, run, check, depth=2)
    return cuts


def test_every_change_of_the_record_is_all_or_nothing_at_any_cut():
    assert changes_swept() > 300


# --- a whole switch


# As the installer does it: given up, files removed, files written, read back, on trial; then confirmed.
def change_over(world, order=("forget", "files", "begin")):
    if boot(world) == 8:
        if sealboot.trial:
            switch.confirm(FOLDER)
        return
    if held().trial == NONE:
        for step in order:
            if step == "forget":
                switch.forget(FOLDER)
            elif step == "files":
                remove_tree(FOLDER + "/b")
                unpack(1, 8)
            else:
                switch.begin_trial(1, 8, DIGESTS[8], FOLDER)
    change_over(world)


def check_change_over(world):
    for _ in range(2):
        assert boot(world) in (7, 8)
    change_over(world)
    for _ in range(2):
        assert boot(world) == 8 and not sealboot.trial
    assert held().floor == 8


def test_switch_to_another_release_at_any_cut():
    cuts = swept("switch", board(b=(9, 1)), change_over, check_change_over)
    cuts += swept("switch, two cuts", board(b=(9, 1)), change_over, check_change_over, (HALF,), 2)
    assert cuts > 1000


def test_switch_whose_cut_damages_the_running_slot_too_is_survived_before_the_old_one_is_given_up():
    # not a power cut's doing, but what the second confirmed slot is kept for
    world = board(a=(8, 1), b=(7, 1), floor=8)
    remove_tree(FOLDER + "/a")
    assert boot(world) == 7
    done()


# --- safeguards taken out: the same sweeps must see it


def caught(word, function, *arguments):
    try:
        function(*arguments)
    except (AssertionError, OSError) as error:
        assert word in str(error), error
        return
    finally:
        done()
    raise AssertionError("the sweep saw nothing")


# Put this in place of a module's function for the time of one call.
def replaced(module, name, unsafe, function, *arguments):
    safe = getattr(module, name)
    setattr(module, name, unsafe)
    try:
        function(*arguments)
    finally:
        setattr(module, name, safe)


# unsafe: one file, removed before its successor gets its name
def _save_by_remove_and_rename(now, folder):
    now.counter += 1
    with open(folder + "/new", "wb") as file:
        file.write(now.pack())
    for name in ("/0", "/1"):
        try:
            os.remove(folder + name)
        except OSError:
            pass
    os.rename(folder + "/new", folder + "/0")


def test_sweeps_catch_a_record_that_is_removed_before_the_new_one_has_its_name():
    for run, check in ((crash_loop, check_crash_loop), (confirm, check_confirmed), (change_over, check_change_over)):
        world = on_trial() if run is not change_over else board(b=(9, 1))
        caught(
            "nothing runs",
            replaced,
            record,
            "save",
            _save_by_remove_and_rename,
            swept,
            "",
            world,
            run,
            check,
        )
    caught("nothing runs", replaced, record, "save", _save_by_remove_and_rename, changes_swept)


def test_sweep_catches_a_trial_that_is_counted_after_the_jump():
    later = []

    def jump_first(now, folder):
        later.append(now)
        return True

    def run(world):
        for _ in range(5):
            later.clear()
            boot(world)
            for now in later:
                record.save(now, FOLDER)

    def check(world):
        run(world)
        assert len(world.air) <= 4, "%d starts of a trial" % len(world.air)

    caught("starts of a trial", replaced, slots, "_save", jump_first, swept, "", on_trial(), run, check)


def test_sweep_catches_a_floor_that_is_raised_after_the_confirmation():
    def in_two_writes(folder):
        now = record.load(folder)
        floor, now.floor = now.slots[now.trial][0], now.floor
        now.active, now.trial, now.trials = now.trial, NONE, 0
        now.slots[now.active] = now.slots[now.active][:2] + (1,)
        record.save(now, folder)
        now.floor = floor
        record.save(now, folder)

    caught(
        "half confirmed", replaced, switch, "confirm", in_two_writes, swept, "", on_trial(), confirm, check_confirmed
    )


def test_sweep_catches_a_slot_that_is_recorded_before_its_files_are_there_and_not_checked():
    def hasty(world):
        change_over(world, ("forget", "begin", "files"))

    def believe(path, feed=None):
        return DIGESTS[8 if path.endswith("b") else 7]

    caught(
        "is not what was signed",
        replaced,
        image,
        "digest",
        believe,
        swept,
        "",
        board(b=(9, 1)),
        hasty,
        check_change_over,
    )
