# The power fails at every flash and NVS operation of a whole update: order carried out, trust list taken, image or
# patch fetched and installed, trial started, confirmed, or rolled back. Each write is torn in each way. After each cut
# the board boots a complete image that was signed, its chain and queue are there, and the update can still be brought
# to its end. Then again at every operation of the recovery, every so many.
import gc
import os

from device.fakes import HALF, PowerCut, sweep, unmount

from device import update_way as way
from sealband.crypto import p256
from sealband.update import job, trust
from sealboot import record, slots, switch
from sealwire import update as wire

TIMEOUT_S = 900
HEAP = "4M"

# Verifying one signature over and over would be most of the time: what was found is remembered.
_verify = p256.verify
_found = {}


def _remembered(public, digest, signature):
    key = bytes(public) + bytes(digest) + bytes(signature)
    if key not in _found:
        _found[key] = _verify(public, digest, signature)
    return _found[key]


p256.verify = _remembered


ENVELOPE, ORDER = way.signed_release(way.NEW)


def delivered(patch):
    envelope, digest = ENVELOPE, ORDER
    way.Server.files = way.delivery(envelope, patch=patch)
    way.Server.files[way.BASE + "/trust/2.cbor"] = way.signed_trust(way.trust_payload(2))
    way.Server.fails = {}
    _said.clear()
    return way.world(digest)


# What the node said, which it does before it forgets it.
_said = []


def _tell():
    steps = job.read("reports") or []
    _said.extend([state for _, state, _ in steps])
    job.remove("reports")
    return [tuple(step) for step in steps]


way.tell = _tell


# What runs is signed and whole, nothing is lost, the update comes to its end from here, and the server is told of that.
def check(board):
    way.intact(board)
    sequence, _ = way.start(board)
    assert sequence in (1, 2), "nothing boots"
    way.intact(board)
    way.play(board, 12)
    held = way.intact(board)
    assert held.slots[held.active][0] == 2 and held.floor == 2, "the update can't be brought to its end"
    assert wire.CONFIRMED in _said, "the server is not told"
    for state in (wire.REFUSED, wire.ROLLED_BACK, wire.GAVE_UP):
        assert state not in _said, "the server is told %d" % state
    _said.clear()
    board.mount()
    assert trust.load(way.UPDATE + "/trust").version == 2
    unmount()


def run(board):
    way.Server.asked = []
    way.play(board, 12)


def test_power_cut_at_every_operation_of_an_update_by_full_image():
    cuts = sweep(delivered(False), run, check)
    assert cuts > 300, cuts
    print("update by full image: %d cuts" % cuts)


def test_power_cut_at_every_operation_of_an_update_by_patch():
    cuts = sweep(delivered(True), run, check)
    assert cuts > 300, cuts
    print("update by patch: %d cuts" % cuts)


# A cut at every `first` operations, then a second one at every `second` operations of what follows, beginning
# elsewhere each time, so that in the end all are met. How many second cuts.
def twice(start, run, check, first, second):
    cuts = 0
    after = 0
    while True:
        board = start.copy()
        board.power.cut_after(after, HALF)
        if ended(board, run):
            return cuts
        said = list(_said)
        board = board.revived()
        later = after // first % second
        while True:
            again = board.copy()
            again.power.cut_after(later, HALF)
            _said[:] = said
            if ended(again, run):
                break
            cuts += 1
            check(again.revived())
            later += second
            gc.collect()
        after += first
        _said.clear()


def test_second_power_cut_while_an_update_recovers():
    cuts = twice(delivered(True), run, check, 1, 11)
    assert cuts > 500, cuts
    print("second cuts of an update: %d" % cuts)


# Run; whether it came to its end with the power on.
def ended(board, run):
    try:
        run(board)
    except PowerCut:
        pass
    except Exception:
        if not board.power.dead:
            raise
    return not board.power.dead


# New code that never finds itself healthy: three starts, then the old code, which says so; the floor stays.
def rolled_back(board):
    way.Server.asked = []
    way.play(board, 12, dies=True)


def check_rolled_back(board):
    way.intact(board)
    rolled_back(board)
    held = way.intact(board)
    assert held.slots[held.active][0] == 1 and held.floor == 1 and held.trial == record.NONE, "not rolled back"
    assert not way.waits(board), "the trial never ended"
    # and the board can still be updated
    board.mount()
    job.write("order", [2, ORDER, way.URL, [], 0])
    unmount()
    run(board)
    held = way.intact(board)
    assert held.slots[held.active][0] == 2 and held.floor == 2, "can't be updated any more"


def test_power_cut_at_every_operation_of_a_trial_that_fails():
    board = delivered(True)
    way.start(board)  # installed
    assert way.intact(board).trial == 1
    cuts = sweep(board, rolled_back, check_rolled_back)
    assert cuts > 20, cuts
    cuts += twice(board, rolled_back, check_rolled_back, 1, 1)
    print("rollback: %d cuts" % cuts)


def test_power_cut_at_every_operation_of_a_trust_rotation():
    for version in (2, 3):
        way.Server.files[way.BASE + "/trust/%d.cbor" % version] = way.signed_trust(way.trust_payload(version))
    way.Server.fails = {}
    board = way.world(b"", sequence=0)
    cuts = sweep(board, run, check_trust) + twice(board, run, check_trust, 1, 1)
    del way.Server.files[way.BASE + "/trust/3.cbor"]
    assert cuts > 300, cuts
    print("trust rotation: %d cuts" % cuts)


def check_trust(board):
    board.mount()
    assert trust.load(way.UPDATE + "/trust").version in (1, 2, 3), "the trust list"
    unmount()
    run(board)
    board.mount()
    # an order that was given up is given again by the server; the list is one that was signed
    assert trust.load(way.UPDATE + "/trust").version == 3, "not taken"
    unmount()


# Each takes one safeguard out; the same sweep must see it.


def caught(board, run, check):
    try:
        sweep(board, run, check)
    except (AssertionError, OSError, AttributeError, PowerCut) as error:
        print("caught:", repr(error))
        return True
    return False


def test_removing_the_trust_list_before_renaming_the_new_one_is_caught():
    def unsafe(path, data):
        with open(path + ".new", "wb") as file:
            file.write(data)
        try:
            os.remove(path)
        except OSError:
            pass
        os.rename(path + ".new", path)

    board = delivered(True)
    safe, job.write_file = job.write_file, unsafe
    try:
        assert caught(board, run, check)
    finally:
        job.write_file = safe


def test_one_boot_record_in_place_of_two_is_caught():
    # littlefs itself replaces a file whole; a file system without that, or a worn block, is what two files are for
    def unsafe(held, folder=record.FOLDER):
        for name in ("0", "1"):
            try:
                os.remove(folder + "/" + name)
            except OSError:
                pass
        held.counter += 1
        with open(folder + "/0", "wb") as file:
            file.write(held.pack())

    board = delivered(True)
    safe = record.save
    record.save = unsafe
    try:
        assert caught(board, run, check)
    finally:
        record.save = safe


def test_a_trial_that_is_not_counted_before_the_jump_is_caught():
    board = delivered(True)
    way.start(board)
    safe = slots._save
    slots._save = lambda held, folder: True
    try:
        assert caught(board, rolled_back, check_rolled_back)
    finally:
        slots._save = safe


def test_a_record_that_is_switched_before_the_slot_is_read_back_is_caught():
    from sealband.update import install

    board = delivered(True)
    unpack = install._unpack

    def unsafe(manifest, path, patched, base, slot, feed):
        switch.begin_trial(1, manifest.sequence, manifest.digest, way.SLOTS)
        unpack(manifest, path, patched, base, slot, feed)

    install._unpack = unsafe
    try:
        assert caught(board, run, check)
    finally:
        install._unpack = unpack
