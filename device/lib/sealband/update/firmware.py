# The firmware component: an image for the chip itself, in the partition that does not run, for the chip's own loader to
# try once. Any reset but the end of a deep sleep ends that trial, unless the running firmware has confirmed itself.
#
#   1  what runs now is made what the loader comes back to; else a trial that fails might leave nothing to start
#   2  the first block of the other partition is erased: nothing there can be started
#   3  the other blocks are written, and the digest of the stream is the signed one
#   4  then the first block, and all is read back: the loader, which takes any whole image, never sees an unsigned one
#   5  the boot record says that this firmware is on trial
#   6  set_boot; before 5, a cut would leave a trial that nobody knows of, and no confirmation, or one too many
#   7  when healthy: marked valid, then the floor is raised; the other way round, a cut would leave the old firmware
#      below the floor, and this one could not be installed again
import hashlib

from esp32 import Partition
from micropython import const

from sealband.update import stream
from sealband.update.refused import UpdateRefused
from sealboot import record, switch
from sealwire import update
from sealwire.manifest import COMPONENT_FW

_BLOCK = const(4096)
_ERASE = const(6)
_LABEL = const(4)
_SIZE = const(3)
_EINVAL = const(22)
_ENOENT = const(2)
_VALIDATE_FAILED = const(-5379)


# The partition that runs, as the boot record writes it.
def running_label():
    return _label(Partition(Partition.RUNNING))


def _label(partition):
    return partition.info()[_LABEL].encode()


# The sequence of the firmware that runs on trial, or 0.
def on_trial(folder=record.FOLDER):
    held = record.load(folder)
    return held.firmware[0] if held and held.firmware[0] and held.firmware[1] == running_label() else 0


# Install what a verified manifest names from the deflated image at `path`; the next start tries it. UpdateRefused: what
# runs is untouched, and the other partition holds nothing that could be started, or what was signed.
def install(manifest, path, patched=False, feed=None, folder=record.FOLDER):
    held = record.load(folder)
    if held is None:
        raise UpdateRefused(update.INTERNAL)
    if manifest.component != COMPONENT_FW or patched:
        raise UpdateRefused(update.WRONG_COMPONENT)
    if manifest.sequence <= held.firmware_floor:
        raise UpdateRefused(update.OLD_SEQUENCE)
    if on_trial(folder):
        raise UpdateRefused(update.FIRMWARE_REFUSED)  # the other partition is the one that it falls back to
    running = Partition(Partition.RUNNING)
    target = _other(running)
    if manifest.size > target.info()[_SIZE]:
        raise UpdateRefused(update.TOO_LARGE)
    try:
        _anchor(running)
        _write(target, manifest, path, feed)
        switch.set_firmware(manifest.sequence, _label(target), folder)
        _set_boot(target, folder)
    except OSError:
        raise UpdateRefused(update.FLASH_FAILED)


# The partition to write to; a firmware without slots for updates has none.
def _other(running):
    try:
        other = running.get_next_update()
    except OSError as error:
        raise UpdateRefused(update.WRONG_COMPONENT if error.errno == _ENOENT else update.FLASH_FAILED)
    if _label(other) == _label(running):
        raise UpdateRefused(update.WRONG_COMPONENT)
    return other


# The loader's own notes may name another partition: of a trial that was never started, or of one that can't be.
def _anchor(running):
    try:
        if _label(Partition(Partition.BOOT)) == _label(running):
            Partition.mark_app_valid_cancel_rollback()
            return
    except OSError:
        pass  # they name none
    running.set_boot()
    Partition.mark_app_valid_cancel_rollback()


def _write(target, manifest, path, feed):
    block = memoryview(bytearray(_BLOCK))
    target.ioctl(_ERASE, 0)
    if _copy(target, manifest.size, path, block, feed) != manifest.digest:
        raise UpdateRefused(update.IMAGE_DIGEST)
    count = min(manifest.size, _BLOCK)
    with open(path, "rb") as file:
        stream.Reader(file, count).readinto(block[:count])
    _put(target, 0, block, count)
    if _digest(target, manifest.size, block, feed) != manifest.digest:
        target.ioctl(_ERASE, 0)
        raise UpdateRefused(update.IMAGE_DIGEST)


# Write all blocks but the first; the digest of all.
def _copy(target, size, path, block, feed):
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        reader = stream.Reader(file, size)
        for at in range(0, size, _BLOCK):
            count = min(size - at, _BLOCK)
            reader.readinto(block[:count])
            sha.update(block[:count])
            if at:
                _put(target, at // _BLOCK, block, count)
            if feed:
                feed()
        reader.finish()
    return sha.digest()


# A whole block, which erases it first.
def _put(target, number, block, count):
    for index in range(count, _BLOCK):
        block[index] = 0xFF
    target.writeblocks(number, block)


def _digest(target, size, block, feed):
    sha = hashlib.sha256()
    for at in range(0, size, _BLOCK):
        part = block[: min(size - at, _BLOCK)]
        target.readblocks(at // _BLOCK, part)
        sha.update(part)
        if feed:
            feed()
    return sha.digest()


def _set_boot(target, folder):
    try:
        target.set_boot()
    except OSError as error:
        # whatever becomes of this write, the other partition is no trial: check_outcome would find that out too
        held = record.load(folder)
        held.firmware = (0, b"")
        record.save(held, folder)
        if error.errno == _VALIDATE_FAILED:
            raise UpdateRefused(update.FIRMWARE_REFUSED)
        raise


# The firmware that runs is healthy: it stays. OSError: it is not the one on trial, or flash refused; call it again.
def confirm(folder=record.FOLDER):
    if not on_trial(folder):
        raise OSError(_EINVAL)
    Partition.mark_app_valid_cancel_rollback()
    switch.confirm_firmware(folder)


# What became of the firmware with this sequence: None while it runs on trial, OK when it was confirmed, or why it is
# gone. The boot record forgets a trial that the loader has ended; asked again, it answers the same.
def check_outcome(folder=record.FOLDER, sequence=None):
    held = record.load(folder)
    if held is None:
        return None
    if held.firmware[0]:
        if held.firmware[1] == running_label():
            return None
        switch.end_firmware(update.TRIAL_FAILED, folder)
        return update.TRIAL_FAILED
    if sequence is None:
        return held.outcome[1]
    return update.OK if held.firmware_floor >= sequence else update.TRIAL_FAILED
