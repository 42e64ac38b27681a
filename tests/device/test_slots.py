# Which slot a start runs: sealboot.slots and sealboot.switch, on littlefs in RAM.
import os

from device.fakes import World, unmount
from device.slot_board import (
    DEEPSLEEP,
    DIGESTS,
    FOLDER,
    HARD,
    PWRON,
    ROOT,
    SOFT,
    WDT,
    Machine,
    WornFlash,
    board,
    done,
    files,
    forget_start,
    held,
    make_folder,
    on_trial,
    read,
    remove_tree,
    start,
    unpack,
    write,
)

import sealboot
from sealboot import image, record, slots, switch
from sealboot.record import EMPTY, NONE
from sealwire import update as wire


def refused(function, *arguments):
    try:
        function(*arguments)
    except OSError:
        return True
    return False


# Overwrite one byte of a file of a slot, its length unchanged.
def damage(index, name="app.mpy"):
    path = record.slot_path(index, FOLDER) + "/" + name
    data = bytearray(read(path))
    data[len(data) // 2] ^= 1
    write(path, data)


def test_codes_are_those_of_the_wire():
    assert slots.OLD_SEQUENCE == wire.OLD_SEQUENCE
    assert slots.TRIAL_FAILED == wire.TRIAL_FAILED
    assert slots.SLOT_CORRUPT == wire.SLOT_CORRUPT


def test_image_of_a_slot_is_the_archive_that_cpython_makes():
    board(b=(8, 0))
    assert image.digest(FOLDER + "/a") == DIGESTS[7] and image.digest(FOLDER + "/b") == DIGESTS[8]
    done()


def test_confirmed_release_runs_unwatched_and_nothing_is_written():
    world = board()
    spent = world.power.operations
    for cause in (PWRON, HARD, WDT, SOFT, DEEPSLEEP):
        assert start(cause) == 7
        assert sealboot.index == 0 and not sealboot.trial and not sealboot.watchdog_s
    assert world.power.operations == spent
    done()


def test_trial_is_counted_before_the_jump_and_rolled_back_after_four_starts():
    for causes in ((PWRON,) * 4, (HARD, WDT, SOFT, PWRON), (SOFT,) * 4):
        on_trial()
        for count, cause in enumerate(causes):
            assert start(cause) == 8 and sealboot.trial
            assert held().trials == count + 1
        assert start() == 7 and not sealboot.trial
        assert sealboot.outcome == held().outcome == (8, wire.TRIAL_FAILED)
        assert held().trial == NONE and held().slots[1] == EMPTY and held().floor == 7
        assert held().trials == held().wakes == 0
        assert start() == 7 and start(DEEPSLEEP) == 7
        done()


def test_wakes_of_a_trial_have_a_count_of_their_own():
    on_trial()
    assert start() == 8
    for count in range(255):
        assert start(DEEPSLEEP) == 8 and sealboot.trial
        assert (held().trials, held().wakes) == (1, count + 1)
    assert start(DEEPSLEEP) == 7
    assert held().outcome == (8, wire.TRIAL_FAILED)
    done()


def test_wakes_do_not_win_cold_starts():
    on_trial()
    for _ in range(4):
        assert start() == 8 and start(DEEPSLEEP) == 8 and start(DEEPSLEEP) == 8
    assert start() == 7
    done()


def test_wake_without_a_cold_start_before_it_counts_as_one_and_is_checked():
    on_trial()
    assert start(DEEPSLEEP) == 8
    assert (held().trials, held().wakes) == (1, 0)
    done()
    on_trial()
    damage(1)
    assert start(DEEPSLEEP) == 7
    done()


def test_wake_reads_no_file_of_the_slot():
    on_trial()
    assert start() == 8
    digest = image.digest
    image.digest = None
    try:
        assert start(DEEPSLEEP) == 8
        switch.confirm(FOLDER)
        assert start(DEEPSLEEP) == 8
    finally:
        image.digest = digest
    done()


def test_wake_into_a_slot_without_its_main_runs_another():
    board(a=(8, 1), b=(7, 1), floor=8)
    os.remove(FOLDER + "/a/main.py")
    assert start(DEEPSLEEP) == 7
    done()
    on_trial(trials=1)
    os.remove(FOLDER + "/b/main.py")
    assert start(DEEPSLEEP) == 7 and held().outcome == (8, wire.SLOT_CORRUPT)
    done()


def test_damaged_trial_never_runs():
    for name in files(8):
        if len(files(8)[name]):
            on_trial()
            damage(1, name)
            assert start() == 7 and sealboot.outcome == (8, wire.SLOT_CORRUPT), name
            assert held().trials == 0 and held().slots[1] == EMPTY
            done()


def test_trial_that_lost_or_gained_a_file_never_runs():
    on_trial()
    os.remove(FOLDER + "/b/lib/sealband/__init__.mpy")
    assert start() == 7
    done()
    on_trial()
    write(FOLDER + "/b/lib/more.mpy", b"")
    assert start() == 7
    done()
    on_trial()
    remove_tree(FOLDER + "/b")
    os.rmdir(FOLDER + "/b")
    assert start() == 7
    done()
    on_trial()
    remove_tree(FOLDER + "/b")
    os.rmdir(FOLDER + "/b")
    write(FOLDER + "/b", b"a file in place of the slot")
    assert start() == 7
    done()


def test_slot_with_a_name_that_is_no_text_does_not_run():
    on_trial()
    with open(FOLDER.encode() + b"/b/\xff\xfe", "wb") as file:
        file.write(b"x")
    assert start() == 7
    done()


def test_fault_while_a_slot_is_read_is_that_slot_s():
    def fails(path, feed=None):
        if path.endswith("b"):
            raise MemoryError
        return DIGESTS[7]

    on_trial()
    digest, image.digest = image.digest, fails
    try:
        assert start() == 7 and sealboot.outcome == (8, wire.SLOT_CORRUPT)
    finally:
        image.digest = digest
    done()


def test_damaged_confirmed_slot_gives_way_to_the_one_before_it():
    board(a=(8, 1), b=(7, 1), floor=8)
    damage(0)
    assert start() == 7 and sealboot.index == 1
    assert sealboot.outcome == (8, wire.SLOT_CORRUPT)
    assert (held().active, held().slots[0], held().floor) == (1, EMPTY, 8)
    assert start() == 7 and start(DEEPSLEEP) == 7
    done()


def test_nothing_runs_in_place_of_a_damaged_slot_if_the_other_is_unconfirmed_damaged_or_empty():
    board(b=(8, 0))
    damage(0)
    assert start() is None and sealboot.outcome == (0, 0)
    done()
    board(b=(8, 1))
    damage(0)
    damage(1)
    assert start() is None and start(HARD) is None
    assert held().active == 0, "what can't be run is not given up"
    done()
    board()
    damage(0)
    assert start() is None
    done()


def test_active_slot_that_the_record_has_as_empty_does_not_run_after_deep_sleep_either():
    board(slots=[EMPTY, EMPTY], a=None)
    unpack(0, 7)
    assert start() is None and start(DEEPSLEEP) is None
    done()


def test_record_that_nobody_writes_ends_in_what_was_confirmed():
    # trial == active; slots that do not exist; both
    for fields in ({"trial": 0}, {"trial": 2}, {"trial": 254}):
        board(b=(8, 0), **fields)
        assert start() == 7 and not sealboot.trial
        done()
    board(active=9)
    assert start() == 7 and held().active == 0
    done()
    board(a=(7, 0), active=9)
    assert start() is None
    done()
    board(a=(7, 0), b=(8, 1), active=NONE, trial=200)
    assert start() == 8
    done()


def test_trial_without_an_active_slot_runs_and_ends_with_nothing():
    board(a=None, b=(8, 0), active=NONE, trial=1, floor=0)
    for _ in range(4):
        assert start() == 8
    assert start() is None and held().outcome == (8, wire.TRIAL_FAILED)
    done()


def test_two_halves_that_can_t_be_read_run_nothing():
    def garbage(name, content):
        write(FOLDER + "/" + name, content)

    for content in (b"", b"\xff" * 128, bytes(300), b"x"):
        board()
        garbage("0", content)
        garbage("1", content)
        assert start() is None
        done()
    board()
    good = read(FOLDER + "/0")
    for cut in range(len(good)):
        garbage("0", good[:cut])
        assert start() is None
    for at in range(len(good)):
        flipped = bytearray(good)
        flipped[at] ^= 0x40
        garbage("0", flipped)
        assert start() is None
    garbage("0", good + b"\x00")
    assert start() is None
    os.remove(FOLDER + "/0")
    os.mkdir(FOLDER + "/0")
    os.mkdir(FOLDER + "/1")
    assert start() is None
    done()


def test_one_half_that_can_t_be_read_leaves_the_other():
    on_trial()
    for name in ("0", "1"):
        assert start() == 8
        write(FOLDER + "/" + name, b"torn")
        assert start() in (7, 8)
    assert start() == 7 or start() == 7
    done()


def test_slots_that_are_no_folder_or_not_there_run_nothing():
    world = World(flash=True)
    world.mount(ROOT)
    assert start() is None
    write(FOLDER, b"a file")
    assert start() is None
    os.remove(FOLDER)
    make_folder(FOLDER)
    assert start() is None
    done()


def test_trial_without_a_watchdog_does_not_run_but_ends():
    on_trial()
    for count in range(4):
        assert start(machine=Machine(watchdog=False)) == 7 and not sealboot.trial
        assert held().trials == count + 1
    assert start() == 7 and held().outcome == (8, wire.TRIAL_FAILED)
    done()


def test_firmware_on_trial_is_watched():
    board(firmware=(3, b"ota_1"))
    assert start() == 7 and sealboot.watchdog_s == 120 and not sealboot.trial
    assert start(DEEPSLEEP) == 7 and sealboot.watchdog_s == 120
    assert start(machine=Machine(watchdog=False)) == 7
    done()


def test_outcome_is_told_by_every_start_until_it_was_reported():
    on_trial()
    start()
    switch.roll_back(wire.UNHEALTHY, FOLDER)
    for cause in (SOFT, DEEPSLEEP, PWRON):
        assert start(cause) == 7 and sealboot.outcome == (8, wire.UNHEALTHY)
    switch.clear_outcome(FOLDER)
    assert start() == 7 and sealboot.outcome == (0, 0)
    done()


# --- flash that takes no writes any more


def test_worn_flash_runs_what_is_confirmed_and_never_an_uncounted_trial():
    world = on_trial(flash=WornFlash)
    world.flash.worn = True
    for cause in (PWRON, WDT, SOFT, DEEPSLEEP, PWRON, PWRON):
        assert start(cause) == 7 and not sealboot.trial and not sealboot.watchdog_s
    world.flash.worn = False
    assert start() == 8, "the trial has waited"
    done()


def test_worn_flash_at_the_end_of_a_trial_runs_what_is_confirmed():
    world = on_trial(flash=WornFlash, trials=4)
    world.flash.worn = True
    for _ in range(4):
        assert start() == 7 and sealboot.outcome == (8, wire.TRIAL_FAILED)
    done()


def test_worn_flash_does_not_keep_the_slot_before_a_damaged_one_from_running():
    world = board(a=(8, 1), b=(7, 1), floor=8, flash=WornFlash)
    damage(0)
    world.flash.worn = True
    for _ in range(4):
        assert start() == 7 and sealboot.outcome == (8, wire.SLOT_CORRUPT)
    # the recorded active slot is the damaged one: what runs must not be taken for the idle slot
    assert refused(switch.forget, FOLDER)
    world.flash.worn = False
    assert switch.forget(FOLDER) == 0
    assert (held().active, held().slots[0]) == (1, EMPTY)
    done()


# --- what node and installer do


def test_install_trial_and_confirmation():
    board(b=(9, 1), floor=7)
    start()
    assert switch.forget(FOLDER) == 1 and held().slots[1] == EMPTY
    counter = held().counter
    assert switch.forget(FOLDER) == 1 and held().counter == counter, "nothing changes, nothing is written"
    remove_tree(FOLDER + "/b")
    unpack(1, 8)
    switch.begin_trial(1, 8, DIGESTS[8], FOLDER)
    assert start() == 8 and sealboot.trial
    switch.confirm(FOLDER)
    now = held()
    assert (now.active, now.trial, now.trials, now.wakes, now.floor) == (1, NONE, 0, 0, 8)
    assert now.slots == [(7, DIGESTS[7], 1), (8, DIGESTS[8], 1)]
    switch.confirm(FOLDER)
    assert held().counter == now.counter
    assert start() == 8 and not sealboot.trial and not sealboot.watchdog_s
    assert switch.forget(FOLDER) == 0
    done()


def test_changes_that_would_lose_the_running_slot_or_go_back_are_refused():
    board()
    start()
    for index, sequence, digest in (
        (0, 8, DIGESTS[8]),  # the running slot
        (2, 8, DIGESTS[8]),
        (1, 7, DIGESTS[7]),  # not above the floor
        (1, 0, DIGESTS[7]),
        (1, 1 << 32, DIGESTS[8]),
        (1, 8, DIGESTS[8][:31]),
    ):
        assert refused(switch.begin_trial, index, sequence, digest, FOLDER), (index, sequence)
    switch.begin_trial(1, 8, DIGESTS[8], FOLDER)
    assert refused(switch.begin_trial, 1, 9, DIGESTS[9], FOLDER), "its slot was not given up before"
    unpack(1, 8)
    assert start() == 8 and sealboot.trial
    assert refused(switch.forget, FOLDER), "a trial has no idle slot"
    assert refused(switch.begin_trial, 0, 9, DIGESTS[9], FOLDER)
    done()


def test_trial_is_begun_only_in_a_slot_that_was_given_up():
    board(b=(9, 1))
    start()
    assert refused(switch.begin_trial, 1, 10, DIGESTS[9], FOLDER)
    done()
    # a first release on trial, with nothing to fall back to yet, keeps its trial
    board(a=None, b=(8, 0), active=NONE, trial=1, floor=0)
    assert start() == 8
    assert refused(switch.begin_trial, 0, 9, DIGESTS[9], FOLDER)
    done()


def test_confirmation_is_refused_to_a_release_that_is_not_the_one_on_trial():
    world = on_trial(flash=WornFlash)
    world.flash.worn = True
    assert start() == 7
    world.flash.worn = False
    assert refused(switch.confirm, FOLDER)
    assert held().trial == 1 and held().active == 0
    done()


def test_roll_back_without_a_trial_changes_nothing():
    board()
    counter = held().counter
    switch.roll_back(wire.UNHEALTHY, FOLDER)
    assert held().counter == counter and held().outcome == (0, 0)
    done()
    board(trial=0)
    switch.roll_back(wire.UNHEALTHY, FOLDER)
    assert held().slots[0] == (7, DIGESTS[7], 1), "the active slot is none that is on trial"
    done()


def test_floor_never_sinks():
    board(b=(8, 1), floor=20)
    start()
    switch.forget(FOLDER)
    assert refused(switch.begin_trial, 1, 20, DIGESTS[8], FOLDER)
    switch.begin_trial(1, 21, DIGESTS[8], FOLDER)
    forget_start()
    switch.confirm(FOLDER)
    assert held().floor == 21
    done()
    board(b=(8, 0), trial=1, floor=20)
    switch.confirm(FOLDER)
    assert held().floor == 20
    done()


def test_firmware_is_noted_confirmed_and_given_up():
    board()
    assert refused(switch.set_firmware, 0, b"ota_1", FOLDER)
    assert refused(switch.set_firmware, 4, b"x" * 17, FOLDER)
    switch.set_firmware(4, b"ota_1", FOLDER)
    assert held().firmware == (4, b"ota_1")
    switch.confirm_firmware(FOLDER)
    assert held().firmware == (0, b"") and held().firmware_floor == 4
    assert refused(switch.set_firmware, 4, b"ota_0", FOLDER)
    switch.set_firmware(5, b"ota_0", FOLDER)
    switch.end_firmware(wire.TRIAL_FAILED, FOLDER)
    assert held().firmware == (0, b"") and held().firmware_floor == 4 and held().outcome == (5, wire.TRIAL_FAILED)
    done()


def test_board_without_a_record_takes_no_change():
    world = World(flash=True)
    world.mount(ROOT)
    make_folder(FOLDER)
    for change in (switch.forget, switch.confirm, switch.clear_outcome, switch.confirm_firmware):
        assert refused(change, FOLDER)
    assert refused(switch.roll_back, 1, FOLDER) and refused(switch.end_firmware, 1, FOLDER)
    assert os.listdir(FOLDER) == []
    unmount(ROOT)


def test_record_whose_counter_is_at_its_end_is_not_taken_for_written():
    world = World(flash=True)
    world.mount(ROOT)
    make_folder(FOLDER)
    last = record.Record()
    last.counter, last.active = 0xFFFFFFFF, 0
    write(FOLDER + "/0", last.pack())
    assert refused(record.save, record.Record(), FOLDER)
    assert held().active == 0
    done()
