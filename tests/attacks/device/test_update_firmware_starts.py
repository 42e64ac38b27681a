# What a start makes of a firmware on trial when the files beside it do not fit: a cut came before the job said so, or
# flash lost one. Only what the node found healthy stays; what stays is never called refused.
import os

from device.fakes import unmount
from device.otachip import PENDING, VALID, OtaWorld, Partition, image
from device.update_way import ROOT, SLOTS, UPDATE, Machine, Reset, tell

import sealboot
from sealband.update import duty, job
from sealboot import record, switch
from sealwire import update as wire

TIMEOUT_S = 60
OLD, FRESH = image(b"old"), image(b"fresh")
SEQUENCE = 5
TRIAL = [[], "ota_1", SEQUENCE]


# A board that an updater made try a firmware, and the start in which the loader does.
def board(phase=job.TRIAL, firmware=True, files=(("trial", TRIAL),), with_job=True):
    job.FOLDER, job.SLOTS = UPDATE, SLOTS
    world = OtaWorld(OLD)
    world.start()
    world.mount(ROOT)
    for folder in (SLOTS, UPDATE):
        os.mkdir(folder)
    held = record.Record()
    held.active, held.floor, held.slots[0] = 0, 3, (3, bytes(32), 1)
    record.save(held, SLOTS)
    switch.set_firmware(SEQUENCE, b"ota_1", SLOTS)
    world.chip.slots[1][: len(FRESH)] = FRESH
    world.chip.set_boot(1)
    work = job.Job(SEQUENCE, bytes(32), "http://10.0.0.1:8000/m")
    work.phase, work.firmware = phase, firmware
    if with_job:
        work.save()
    for name, value in files:
        job.write(name, value)
    unmount(ROOT)
    assert world.start() == 1 and world.chip.notes[1][1] == PENDING
    return world


# duty.py's part of a start: (whether it reset, what would be told, the boot record)
def settle(world, healthy=False):
    world.mount(ROOT)
    sealboot.index, sealboot.sequence, sealboot.trial, sealboot.outcome = 0, 3, False, (0, 0)
    if healthy:
        Partition.mark_app_valid_cancel_rollback()  # as the node does it
        job.write("healthy", 1)
    try:
        duty.run(Machine())
        reset = False
    except Reset:
        reset = True
    try:
        return reset, tell(), record.load(SLOTS)
    finally:
        unmount(ROOT)


def test_healthy_firmware_of_which_the_job_does_not_know_stays_and_is_told():
    # the power failed between the trial file and the job
    world = board(phase=job.ORDERED, firmware=False)
    reset, told, held = settle(world, healthy=True)
    assert reset and told == [(SEQUENCE, wire.CONFIRMED, 0)], told
    assert held.firmware == (0, b"") and held.firmware_floor == SEQUENCE
    assert world.start() == 1 and world.chip.notes[1][1] == VALID


def test_firmware_whose_job_was_lost_raises_the_floor_when_it_is_healthy():
    world = board(with_job=False)
    reset, told, held = settle(world, healthy=True)
    assert reset and told == [(SEQUENCE, wire.CONFIRMED, 0)], told
    assert held.firmware_floor == SEQUENCE


def test_firmware_that_nobody_found_healthy_is_not_made_permanent():
    for phase, firmware in ((job.TRIAL, True), (job.ORDERED, False)):
        world = board(phase, firmware, files=())
        reset, told, held = settle(world)
        assert not reset and told == [] and held.firmware_floor == 0
        assert world.chip.notes[1][1] == PENDING, "marked valid"
        # the node runs; the next reset, whatever its reason, ends the trial
        assert world.start() == 0
        if phase == job.TRIAL:
            reset, told, held = settle(world)
            assert reset and told == [(SEQUENCE, wire.ROLLED_BACK, wire.TRIAL_FAILED)], told
            assert held.firmware == (0, b"") and held.firmware_floor == 0
