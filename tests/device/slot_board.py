# A board with slots, for tests of boot.py and the boot record: three small releases, the chip's part of a start, and
# what must hold after each. From any device test folder: `from device.slot_board import …`.
import os

from device.fakes import EIO, RamFlash, World, unmount

import sealboot
from sealboot import record, slots

ROOT = "/ram"
FOLDER = ROOT + "/slots"
PWRON, HARD, WDT, DEEPSLEEP, SOFT = 1, 2, 3, 4, 5

# SHA-256 of the archive that CPython's tarfile makes of files(n) (USTAR_FORMAT, mode 0644, sorted)
DIGESTS = {
    7: bytes.fromhex("2aa8de15260f5c4d220ec8bb5afd6c265959226d4e3bd53d9c010a2aca7b4c0d"),
    8: bytes.fromhex("3d19c360f36d45d30094bbb7956da79ac25510310df8b08f3e62eb4caeb939ec"),
    9: bytes.fromhex("8dcabc2e51ebfeb39a836f81281465bad87f746e2d7281b182d84be4e6e97c9a"),
}


# The files of a release.
def files(sequence):
    return {
        "app.mpy": bytes(((sequence * 7 + i) & 0xFF for i in range(700))),
        "lib/sealband/__init__.mpy": b"",
        "lib/sealband/node.mpy": bytes((sequence,)) * 512,
        "main.py": b"VERSION = %d\n" % sequence,
    }


class Machine:
    PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = PWRON, HARD, WDT, DEEPSLEEP, SOFT

    def __init__(self, cause=PWRON, watchdog=True):
        self._cause = cause
        self._has_watchdog = watchdog
        self.timeout_ms = 0

    def reset_cause(self):
        return self._cause

    def WDT(self, id=0, timeout=5000):
        if not self._has_watchdog:
            raise OSError(-258)
        self.timeout_ms = timeout


class WornFlash(RamFlash):
    # once worn, it can be read only
    worn = False

    def writeblocks(self, block, buffer, offset=0):
        return -EIO if self.worn else RamFlash.writeblocks(self, block, buffer, offset)

    def ioctl(self, request, argument):
        return -EIO if self.worn and request == 6 else RamFlash.ioctl(self, request, argument)


def make_folder(path):
    try:
        os.mkdir(path)
    except OSError:
        pass  # it is there


def write(path, data):
    parts = path.split("/")
    for count in range(2, len(parts)):
        make_folder("/".join(parts[:count]))
    with open(path, "wb") as file:
        file.write(data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def remove_tree(path):
    for entry in list(os.ilistdir(path)):
        if entry[1] == 0x4000:
            remove_tree(path + "/" + entry[0])
            os.rmdir(path + "/" + entry[0])
        else:
            os.remove(path + "/" + entry[0])


# The files of a release into a slot, in the order of the image.
def unpack(index, sequence, folder=FOLDER):
    content = files(sequence)
    for name in sorted(content):
        write(record.slot_path(index, folder) + "/" + name, content[name])


# A mounted board with these slots, (sequence, confirmed) or None each, and this record.
def board(a=(7, 1), b=None, active=0, trial=record.NONE, floor=7, flash=None, **fields):
    world = World(flash=True)
    if flash:
        import vfs

        world.flash = flash(world.power)
        vfs.VfsLfs2.mkfs(world.flash)
    world.mount(ROOT)
    make_folder(FOLDER)
    held = record.Record()
    held.active, held.trial, held.floor = active, trial, floor
    for name in fields:
        setattr(held, name, fields[name])
    for index, slot in ((0, a), (1, b)):
        make_folder(record.slot_path(index, FOLDER))
        if slot:
            unpack(index, slot[0])
            held.slots[index] = (slot[0], DIGESTS[slot[0]], slot[1])
    record.save(held, FOLDER)
    return world


# The board with release 8 on trial beside 7.
def on_trial(**fields):
    return board(b=(8, 0), trial=1, **fields)


# What the package holds when the interpreter has just started.
def forget_start():
    sealboot.index, sealboot.sequence, sealboot.digest, sealboot.trial = 255, 0, b"", False
    sealboot.outcome, sealboot.watchdog_s = (0, 0), 0


# One start up to the jump: the sequence of the release that runs, None if nothing does. After a cold start what runs
# must be a whole release; a trial must be watched.
def start(cause=PWRON, machine=None):
    forget_start()
    machine = machine or Machine(cause)
    path = slots.choose(machine, ROOT)
    if path is None:
        assert sealboot.index == 255 and not sealboot.trial
        return None
    assert path == record.slot_path(sealboot.index, FOLDER), path
    sequence = sealboot.sequence
    assert sealboot.digest == DIGESTS[sequence], "not the digest of what was signed"
    if machine.reset_cause() != DEEPSLEEP:
        content = files(sequence)
        for name in content:
            try:
                found = read(path + "/" + name)
            except OSError:
                found = None
            assert found == content[name], "%s is not what was signed" % name
    assert machine.timeout_ms == sealboot.watchdog_s * 1000
    if sealboot.trial:
        assert machine.timeout_ms == 120000, "nothing watches the trial"
    return sequence


def held():
    return record.load(FOLDER)


def done():
    forget_start()
    unmount(ROOT)
