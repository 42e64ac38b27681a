# The power fails at every operation of a firmware update: each erase and write of a partition, of the loader's own
# notes and of the file system with the boot record and the note on how far the delivery came; undone, half done and
# done; and again while it recovers.
#
# What must hold after each: the loader starts an image that was signed; it would take no other in any slot; nothing is
# made permanent that did not prove healthy; and the board comes to run the new firmware, confirmed, in the end.
import hashlib
import os

from device.fakes import DONE, HALF, TEARS, UNDONE, sweep, unmount
from device.otachip import BLOCK, NEW, PENDING, VALID, Delivery, OtaWorld, Partition, image, sections

from sealband.update import firmware
from sealband.update.body import Sections
from sealband.update.head import FetchError
from sealband.update.refused import UpdateRefused
from sealboot import record, switch
from sealwire import update

TIMEOUT_S = 600
FOLDER = "/ram/slots"
PATH = "/ram/0123456789abcdef.full"
SEQUENCE = 5
OLD = image(b"old")
FRESH = image(b"fresh" * 1700)  # three blocks
EVIL = image(b"evil!" * 1700)
EMPTY = b"\xff" * BLOCK


class Order:
    component = b"fw"
    sequence = SEQUENCE
    digest = hashlib.sha256(FRESH).digest()
    size = len(FRESH)


# Whoever delivers is not cut: one file, a section for each block.
delivery = Delivery(sections(FRESH))


def made(delivered=FRESH):
    global delivery
    delivery = Delivery(sections(delivered))
    world = OtaWorld(OLD)
    world.mount()
    os.mkdir(FOLDER)
    held = record.Record()
    held.active = 0
    held.slots[0] = (3, bytes(32), 1)
    record.save(held, FOLDER)
    record.save(held, FOLDER)  # both halves
    unmount()
    world.chip.on_valid = no_doubt
    return world


# What is marked valid is what was there before, or has proved healthy.
def no_doubt(chip):
    assert chip.held(chip.running) == OLD or chip.healthy, "made permanent without having proved healthy"


# One start of the board and what its code does then: confirm what is on trial, else install. Whether it is through.
def life(board, install=firmware.install, confirm=firmware.confirm):
    board.chip.healthy = False
    label = board.start()
    assert label is not None, "nothing starts"
    board.mount()
    try:
        if firmware.check_outcome(FOLDER, SEQUENCE) == update.OK:
            return True
        if firmware.on_trial(FOLDER):
            board.chip.healthy = True
            confirm(FOLDER)
            return True
        try:
            install(Order, delivery, PATH, folder=FOLDER)
        except UpdateRefused:
            if board.power.dead:
                raise
            firmware.discard(PATH)  # as the updater does it
        return False
    finally:
        unmount()


def lives(install=firmware.install, confirm=firmware.confirm):
    def run(board):
        for _ in range(4):
            if life(board, install, confirm):
                return

    return run


def only_signed_images(board):
    for index in (0, 1):
        assert board.chip.held(index) in (None, OLD, FRESH), "the loader would take what nobody signed"


def checked(run):
    def check(board):
        only_signed_images(board)
        started = board.copy()
        started.chip.healthy = False
        assert started.start() is not None, "nothing starts"
        running = started.chip.notes[started.chip.active()]
        if running[1] == PENDING:
            assert started.chip.held(1 - started.chip.running) is not None, "nothing to fall back to"
        started.mount()
        assert record.load(FOLDER), "no boot record"
        unmount()
        run(board)
        only_signed_images(board)
        board.mount()
        held = record.load(FOLDER)
        unmount()
        assert held.firmware == (0, b"") and held.firmware_floor == SEQUENCE, "not confirmed in the end"
        for _ in range(2):
            index = board.start()
            assert board.chip.held(index) == FRESH and board.chip.notes[board.chip.active()][1] == VALID
        return True

    return check


def caught(run, tears=TEARS, depth=1, check=None):
    try:
        sweep(made(), run, check or checked(lives()), tears, depth)
    except (AssertionError, UpdateRefused) as error:
        print("caught:", error)
        return True
    return False


def test_one_cut_at_every_operation_torn_in_every_way():
    cuts = sweep(made(), lives(), checked(lives()))
    print("firmware: %d cuts" % cuts)
    assert cuts > 90


def test_two_cuts_the_second_while_it_recovers():
    cuts = sweep(made(), lives(), checked(lives()), (HALF,), 2)
    print("firmware: %d pairs of cuts and single ones" % cuts)
    assert cuts > 700


def test_two_cuts_of_writes_that_are_lost_or_done():
    cuts = sweep(made(), lives(), checked(lives()), (UNDONE, DONE), 2)
    print("firmware: %d pairs of cuts and single ones" % cuts)
    assert cuts > 2500


def test_swapped_download_is_never_startable_at_any_cut():
    def run(board):
        board.start()
        board.mount()
        try:
            firmware.install(Order, delivery, PATH, folder=FOLDER)
            raise AssertionError("taken")
        except UpdateRefused as error:
            assert error.code in (update.IMAGE_DIGEST, update.FLASH_FAILED)
        finally:
            unmount()

    def check(board):
        for index in (0, 1):
            assert board.chip.held(index) in (None, OLD), "the loader would take what nobody signed"
        assert board.start() == 0

    def swept():
        return sweep(made(EVIL), run, check, depth=2)

    cuts = swept()
    print("firmware, swapped: %d cuts" % cuts)
    assert cuts > 2000

    # what the order of the blocks is for: written from the first to the last, then looked at
    def in_order(target, manifest, open_at, path, feed):
        block = memoryview(bytearray(BLOCK))
        reader = Sections(open_at(0))
        for at in range(0, manifest.size, BLOCK):
            count = min(manifest.size - at, BLOCK)
            reader.readinto(block[:count])
            firmware._put(target, at // BLOCK, block, count)
        target.readblocks(0, block)
        if firmware._digest(target, manifest.size, block, memoryview(bytearray(512)), feed) != manifest.digest:
            target.ioctl(6, 0)
            raise UpdateRefused(update.IMAGE_DIGEST)

    kept = firmware._write
    firmware._write = in_order
    try:
        swept()
        raise RuntimeError("not caught")
    except AssertionError as error:
        print("caught:", error)
    finally:
        firmware._write = kept


def test_set_boot_before_the_record_would_be_caught():
    def install(manifest, open_at, path, folder):
        running = Partition(Partition.RUNNING)
        target = firmware._other(running)
        firmware._anchor(running)
        firmware._write(target, manifest, open_at, path, None)
        target.set_boot()
        switch.set_firmware(manifest.sequence, firmware._label(target), folder)

    assert caught(lives(install))


def test_floor_raised_before_the_firmware_is_marked_valid_would_be_caught():
    def confirm(folder):
        switch.confirm_firmware(folder)
        Partition.mark_app_valid_cancel_rollback()

    assert caught(lives(confirm=confirm))


def test_writing_while_another_firmware_is_on_trial_would_be_caught():
    # the agent's own mistake: it installs where it should have confirmed
    def run(board):
        board.chip.healthy = False
        board.start()
        board.mount()
        try:
            firmware.install(Order, delivery, PATH, folder=FOLDER)
            board.start()
            firmware.install(Order, delivery, PATH, folder=FOLDER)
        finally:
            unmount()

    def check(board):
        assert board.start() is not None, "nothing starts"

    def guarded(board):
        try:
            run(board)
        except UpdateRefused:
            pass

    assert sweep(made(), guarded, check) > 25
    kept, firmware.on_trial = firmware.on_trial, lambda folder: 0
    try:
        # without the guard the anchor makes the unproved one permanent, and what it falls back to is written over
        assert caught(run, check=check)
    finally:
        firmware.on_trial = kept


def test_notes_of_the_loader_alone_never_leave_it_without_a_choice():
    # set_boot and confirmation only, from both slots, at depth two: erased or half written notes
    world = made()
    world.chip.slots[1][: len(FRESH)] = FRESH
    world.chip.notes = [(1, VALID), (2, NEW)]

    def run(board):
        board.chip.healthy = True
        board.start()
        Partition.mark_app_valid_cancel_rollback()

    def check(board):
        assert board.start() is not None and board.chip.held(board.chip.running) in (OLD, FRESH)

    assert sweep(world, run, check, depth=2) > 20


# Starts whose connections break off in the second section, until one has it all: what is delivered again is little.
def broken_off(board):
    for drops in (len(delivery.data) // 2, None, None, None):
        delivery.drops = drops
        try:
            if life(board):
                return
        except FetchError:
            assert not board.power.dead, "broken off by the cut"


def test_cuts_in_a_delivery_that_breaks_off_and_goes_on():
    world = made()
    cuts = sweep(world, broken_off, checked(broken_off))
    print("firmware that breaks off: %d cuts" % cuts)
    assert cuts > 90
    cuts = sweep(world, broken_off, checked(broken_off), (HALF,), 2)
    print("firmware that breaks off: %d pairs of cuts and single ones" % cuts)
    assert cuts > 700


# The most bytes that a recovery fetches beyond what was not written yet when the power failed.
def _fetched_again(progress):
    most = 0

    def check(board):
        nonlocal most
        written = 1
        while written < 3 and board.chip.slots[1][written * BLOCK : written * BLOCK + BLOCK] != EMPTY:
            written += 1
        delivery.sent = 0
        lives()(board)
        most = max(most, delivery.sent - max(0, len(delivery.data) - written * (BLOCK + 5)))

    kept, firmware._progress = firmware._progress, progress
    try:
        sweep(made(), lives(), check, (HALF,))
    finally:
        firmware._progress = kept
    return most


def test_little_is_fetched_again_after_a_cut():
    # the first block, which is needed in the end, and what was written of the section in work
    assert 0 < _fetched_again(firmware._progress) < 2 * BLOCK + 2000
    assert _fetched_again(lambda path, digest: (0, 0)) > 3 * BLOCK


# Whether an attempt was lost to a note that was not true, at any cut.
def _misled(put):
    misled = []

    def install(*arguments, **named):
        try:
            firmware.install(*arguments, **named)
        except UpdateRefused as error:
            if error.code == update.IMAGE_DIGEST:
                misled.append(error)
            raise

    kept, firmware._put = firmware._put, put
    try:
        sweep(made(), lives(install), lives(install), (UNDONE, HALF))
    finally:
        firmware._put = kept
    return len(misled)


def test_no_cut_leaves_a_note_of_blocks_that_are_not_there():
    assert _misled(firmware._put) == 0
    put = firmware._put

    def noted_first(target, number, block, count):
        if number:
            firmware._remember(PATH, Order.digest, number + 1, (number + 1) * (BLOCK + 5))
        put(target, number, block, count)

    assert _misled(noted_first) > 0
