# Attacks on what runs first: sealboot's choice of a slot. The attacker of SECURITY.md can make a device fetch, crash,
# lose power and start as often as he likes. Who can write its flash by the serial port can do more than this defends
# against; what he can't do unseen is in the last three.
import os

from device.slot_board import (
    DEEPSLEEP,
    DIGESTS,
    FOLDER,
    PWRON,
    SOFT,
    WDT,
    WornFlash,
    board,
    done,
    held,
    on_trial,
    read,
    remove_tree,
    start,
    unpack,
    write,
)

import sealboot
from sealboot import record, switch
from sealboot.record import EMPTY, NONE
from sealwire import update as wire


def test_older_release_in_a_valid_record_is_not_tried():
    # rollback attack: what was signed long ago and has known holes lies in the slot, whole
    for sequence, floor in ((7, 8), (8, 8), (7, 0xFFFFFFFF)):
        board(a=(9, 1), b=(sequence, 0), trial=1, floor=floor)
        for cause in (DEEPSLEEP, PWRON):
            assert start(cause) == 9 and not sealboot.trial
        assert held().outcome == (sequence, wire.OLD_SEQUENCE) and held().slots[1] == EMPTY
        done()


def test_older_release_can_t_be_recorded_for_a_trial_nor_take_the_floor_down():
    board(a=(9, 1), floor=9)
    start()
    switch.forget(FOLDER)
    unpack(1, 8)
    try:
        switch.begin_trial(1, 8, DIGESTS[8], FOLDER)
        raise AssertionError("taken for a trial")
    except OSError:
        pass
    assert held().trial == NONE and held().floor == 9
    done()


def test_older_release_comes_back_only_when_the_newer_one_is_damaged_and_the_floor_stays():
    board(a=(9, 1), b=(8, 1), floor=9)
    for _ in range(5):
        assert start() == 9
    write(FOLDER + "/a/main.py", b"damaged")
    assert start() == 8 and held().floor == 9 and sealboot.outcome == (9, wire.SLOT_CORRUPT)
    done()


def test_image_swapped_after_checking_does_not_run():
    # the installer has read it back; until the first start of the trial something else was put there
    for name, data in (
        ("main.py", b"VERSION = 666\n"),
        ("lib/sealband/node.mpy", b"\x08" * 511 + b"\x09"),
        ("lib/sealband/more.mpy", b""),
        ("lib/os.py", b"print('shadow')"),
    ):
        on_trial()
        write(FOLDER + "/b/" + name, data)
        assert start() == 7 and sealboot.outcome == (8, wire.SLOT_CORRUPT), name
        done()


def test_image_swapped_during_the_trial_does_not_run_at_the_next_cold_start():
    on_trial()
    assert start() == 8
    write(FOLDER + "/b/main.py", b"VERSION = 666\n")
    assert start(WDT) == 7
    done()


def test_endless_crashing_power_cutting_or_sleeping_does_not_keep_a_trial_alive():
    for causes in ((PWRON,), (SOFT,), (WDT, SOFT), (PWRON, DEEPSLEEP, DEEPSLEEP), (DEEPSLEEP,)):
        on_trial()
        starts = 0
        while start(causes[starts % len(causes)]) == 8:
            starts += 1
            assert starts <= 4 + 255
        assert start() == 7 and held().slots[1] == EMPTY
        done()


def test_trial_of_a_board_whose_flash_takes_no_count_is_not_repeated():
    world = on_trial(flash=WornFlash)
    world.flash.worn = True
    for _ in range(20):
        assert start() == 7
    done()


def test_release_that_was_rolled_back_is_not_tried_again_without_an_installation():
    on_trial()
    start()
    switch.roll_back(wire.UNHEALTHY, FOLDER)
    for cause in (PWRON, SOFT, DEEPSLEEP):
        assert start(cause) == 7
    # its files are still there, and nothing vouches for them
    assert read(FOLDER + "/b/main.py") and held().slots[1] == EMPTY
    done()


def test_trial_can_t_overwrite_the_release_it_would_fall_back_to():
    on_trial()
    start()
    for change in (switch.forget, lambda folder: switch.begin_trial(0, 9, DIGESTS[9], folder)):
        try:
            change(FOLDER)
            raise AssertionError("it may")
        except OSError:
            pass
    assert held().slots[0] == (7, DIGESTS[7], 1)
    done()


def test_older_half_of_the_record_put_in_place_of_the_newer_one_wins_nothing_but_starts():
    # who can write files may bring back the state of one change before; the floor of a confirmation goes with its slot
    on_trial()
    start()
    before = read(FOLDER + "/0"), read(FOLDER + "/1")
    switch.confirm(FOLDER)
    for name, data in (("/0", before[0]), ("/1", before[1])):
        write(FOLDER + name, data)
    assert start() == 8 and sealboot.trial
    assert start() == 8 and start() == 8 and start() == 7
    done()


def test_record_that_was_destroyed_makes_no_developer_s_board():
    board()
    for name in ("/0", "/1"):
        write(FOLDER + name, b"")
    assert start() is None
    for name in ("/0", "/1"):
        os.remove(FOLDER + name)
    assert start() is None
    remove_tree(FOLDER)
    assert start() is None
    done()


def test_slot_of_the_record_is_one_of_two_whatever_it_says():
    for number in range(2, 256):
        board(active=number, trial=number)
        assert start() == 7 and sealboot.index == 0
        done()


def test_unsigned_files_beside_the_slots_are_no_part_of_them():
    board()
    write(FOLDER + "/main.py", b"VERSION = 666\n")
    write(FOLDER + "/c/main.py", b"VERSION = 666\n")
    assert start() == 7
    assert record.slot_path(sealboot.index, FOLDER) == FOLDER + "/a"
    done()
