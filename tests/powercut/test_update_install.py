# The power fails at every flash operation of an install, each write and erase torn in each way, and again at every
# operation of the recovery: a start, and the install anew. Full images and patches, over an idle slot that is empty,
# left behind half written, or holds the release before.
#
# What must hold after any cut: what the record names is whole and signed; what boot.py's code chooses is, and it gives
# no trial up; the running slot, queue and NVS are as they were; the install can be brought to its end.
import os

import vfs
from device.fakes import HALF, TEARS, RamFlash, World, sweep, unmount
from support import images, patches

import sealboot
from device import slots
from sealband.update import install as module
from sealband.update import stream
from sealband.update.install import install, remove
from sealband.update.refused import UpdateRefused
from sealband.update.unpack import Unpacker
from sealboot import image, record, switch
from sealboot import slots as boot
from sealwire import update

TIMEOUT_S = 600

# more than a block, less than one that littlefs keeps within the folder, and in a folder of its own
BEFORE = {"lib/m.mpy": b"0" * 300, "main.py": b"0\n"}
OLD = {"lib/m.mpy": b"1" * 600, "main.py": b"1\n"}
NEW = {"lib/m.mpy": b"1" * 300 + b"2" * 300, "main.py": b"2\n"}
SIGNED = {slots.digest(files): files for files in (BEFORE, OLD, NEW)}
NEW_IMAGE = images.image(NEW)
FULL = images.squeezed(NEW_IMAGE)
PATCH = images.squeezed(patches.encode(images.image(OLD), NEW_IMAGE, slots.digest(OLD)))
QUEUE = {"000000000": b"\xe0" * 60, "200000001": b"\xe1" * 200}
PAIRS = {"chaina": b"chain" * 20, "mark": 512}


# A board that runs OLD, has the download on its flash, frames in its queue and a chain.
def world(patched, before=None, left_behind=None):
    board = World()
    board.nvs.set_blob("chaina", PAIRS["chaina"])
    board.nvs.set_i32("mark", PAIRS["mark"])
    board.nvs.commit()
    board.flash = RamFlash(board.power, blocks=80)
    vfs.VfsLfs2.mkfs(board.flash)
    board.mount()
    slots.board(OLD, before)
    if left_behind:
        slots.put(slots.IDLE, left_behind)
    slots.put("/ram/outbox", QUEUE)
    slots.delivered(PATCH if patched else FULL)
    unmount()
    return board.copy()


class Machine:
    # after a power cut
    DEEPSLEEP_RESET = 4

    def reset_cause(self):
        return 1

    def WDT(self, timeout):
        pass


# A start, and the install anew if what was to be installed is not on trial yet. The slot that the start chose.
def starts(board, install, patched):
    board.mount()
    chosen = boot.choose(Machine(), slots.ROOT)
    if chosen and not sealboot.trial:
        install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, patched, slots.SLOTS)
    unmount()
    return chosen


def runs(install, patched):
    return lambda board: starts(board, install, patched)


def contents(folder):
    try:
        return slots.contents(folder)
    except OSError:
        return None


# What the record names is signed, and there to the last byte, with nothing beside it.
def whole(board):
    board.mount()
    state = record.load(slots.SLOTS)
    assert state is not None and state.active == 0, "the record"
    for index in (0, 1):
        held = state.slots[index]
        if held != record.EMPTY:
            assert held[1] in SIGNED, "not signed"
            files = contents(record.slot_path(index, slots.SLOTS))
            assert files == SIGNED[held[1]], "slot %d is not whole" % index
    unmount()
    return state


def check(board):
    state = whole(board)
    assert state.floor == 1 and state.slots[0] == (1, slots.digest(OLD), 1), "the record"
    if state.trial != record.NONE:
        assert state.trial == 1 and state.slots[1] == (2, slots.digest(NEW), 0), "the trial"
    board.mount()
    assert slots.contents("/ram/outbox") == QUEUE and board.nvs.dump() == PAIRS, "queue or chain"
    unmount()
    return state


# The same, then starts and the install anew, until one tries it.
def ends(patched):
    def checked(board):
        check(board)
        path = starts(board, install, patched)
        if path == slots.RUNNING:
            path = starts(board, install, patched)
        assert path == slots.IDLE, "the choice"
        state = check(board)
        assert state.trial == 1 and state.outcome == (0, 0), "no way forward"

    return checked


def swept(board, patched, tears=TEARS, depth=1):
    return sweep(board, runs(install, patched), ends(patched), tears, depth)


EMPTY, HELD, LEFT_BEHIND = (None, None), (BEFORE, None), (None, {"lib/m.mpy": b"2" * 200, "x": b""})


def test_one_cut_at_every_operation_of_a_full_install_torn_in_every_way():
    cuts = sum([swept(world(False, *idle), False) for idle in (EMPTY, HELD, LEFT_BEHIND)])
    print("full install: %d cuts" % cuts)
    assert cuts > 200


def test_one_cut_at_every_operation_of_a_patch_install_torn_in_every_way():
    cuts = sum([swept(world(True, *idle), True) for idle in (EMPTY, HELD, LEFT_BEHIND)])
    print("patch install: %d cuts" % cuts)
    assert cuts > 200


def test_two_cuts_of_a_full_install_the_second_while_it_recovers_each_torn_in_every_way():
    cuts = swept(world(False, *HELD), False, TEARS, 2)
    print("full install: %d pairs of cuts and single ones" % cuts)
    assert cuts > 3000


def test_two_cuts_of_a_patch_install_the_second_while_it_recovers_each_torn_in_every_way():
    cuts = swept(world(True, *HELD), True, TEARS, 2)
    print("patch install: %d pairs of cuts and single ones" % cuts)
    assert cuts > 3000


def test_one_cut_at_every_operation_of_an_install_that_is_refused_torn_in_every_way():
    # a delivery that leads to another image than the signed one, which shows only when the slot is read back
    def refused(manifest, path, patched, folder):
        slots.delivered(images.squeezed(images.image({"lib/m.mpy": b"2" * 600, "main.py": b"3\n"})))
        try:
            install(manifest, path, patched, folder)
        except UpdateRefused as error:
            assert error.code in (update.IMAGE_DIGEST, update.FLASH_FAILED), error.code

    def goes_on(board):
        assert check(board).trial == record.NONE, "on trial"
        board.mount()
        slots.delivered(FULL)
        unmount()
        ends(False)(board)

    cuts = sum([sweep(world(False, *idle), runs(refused, False), goes_on) for idle in (EMPTY, HELD)])
    print("refused install: %d cuts" % cuts)
    assert cuts > 150


def test_two_cuts_over_an_idle_slot_that_is_empty_or_was_left_behind():
    cuts = 0
    for idle in (EMPTY, LEFT_BEHIND):
        for patched in (False, True):
            cuts += swept(world(patched, *idle), patched, (HALF,), 2)
    print("install over another slot: %d pairs of cuts and single ones" % cuts)
    assert cuts > 2000


# --- unsafe variants, each of which installs well as long as the power stays


# Unsafe: the running slot is brought up to date file by file, the old one removed and the new one renamed.
def in_place(manifest, path, patched, folder, feed=None):
    fresh = "/ram/update/fresh"
    remove(fresh)
    module._unpack(manifest, path, patched, slots.RUNNING, fresh, feed)
    for name in NEW:
        os.remove(slots.RUNNING + "/" + name)
        os.rename(fresh + "/" + name, slots.RUNNING + "/" + name)
    state = record.load(folder)
    state.slots[0] = (manifest.sequence, manifest.digest, 1)
    record.save(state, folder)


# Unsafe: on trial before it was written and read back.
def switches_first(manifest, path, patched, folder, feed=None):
    idle = switch.forget(folder)
    switch.begin_trial(idle, manifest.sequence, manifest.digest, folder)
    remove(slots.IDLE)
    module._unpack(manifest, path, patched, slots.RUNNING, slots.IDLE, feed)
    assert image.digest(slots.IDLE) == manifest.digest


# Unsafe: the old files go while the record still names them.
def removes_first(manifest, path, patched, folder, feed=None):
    remove(slots.IDLE)
    install(manifest, path, patched, folder, feed)


class Unclosed(Unpacker):
    held = None

    def _close(self):
        if self.held:
            self.held.close()
        self.held = self._file
        self._file = None


# Unsafe: the last file is not committed to flash yet when the record says that it is there.
def closes_last(manifest, path, patched, folder, feed=None):
    idle = switch.forget(folder)
    remove(slots.IDLE)
    out = Unclosed(slots.IDLE)
    with open(path, "rb") as file:
        stream.copy(stream.Reader(file, manifest.size), manifest.size, out)
    switch.begin_trial(idle, manifest.sequence, manifest.digest, folder)
    out.held.close()


def caught(unsafe, idle, word, patched=False):
    run = runs(unsafe, patched)
    board = world(patched, *idle)
    run(board)
    whole(board)
    try:
        sweep(world(patched, *idle), run, whole, TEARS, 1)
    except AssertionError as error:
        assert word in str(error), error
        return
    raise AssertionError("the sweep saw nothing")


def test_sweep_catches_a_running_slot_that_is_changed_file_by_file():
    caught(in_place, EMPTY, "slot 0 is not whole")
    caught(in_place, EMPTY, "slot 0 is not whole", True)


def test_sweep_catches_a_record_that_is_switched_before_the_slot_was_read_back():
    caught(switches_first, EMPTY, "slot 1 is not whole")
    caught(switches_first, EMPTY, "slot 1 is not whole", True)


def test_sweep_catches_an_idle_slot_that_is_removed_before_the_record_says_so():
    caught(removes_first, HELD, "slot 1 is not whole")


def test_sweep_catches_a_record_that_is_switched_before_the_last_file_is_on_flash():
    caught(closes_last, EMPTY, "slot 1 is not whole")
