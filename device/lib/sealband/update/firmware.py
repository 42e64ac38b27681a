# The firmware component: an image for the chip itself, in the partition that does not run, for the chip's own loader to
# try once. Any reset but the end of a deep sleep ends that trial, unless the running firmware has confirmed itself.
#
# It is written as it comes: the file system of a small board has no room for it beside two slots.
#
#   1  what runs now is made what the loader comes back to; else a trial that fails might leave nothing to start
#   2  the first block of the other partition is erased: nothing there can be started
#   3  the other blocks are written and read back; after each section of the delivery it is noted how far that was, and
#      the next attempt goes on from there
#   4  the first block is fetched last, by a request of its own. With what is read back of the others its digest is the
#      signed one, or it is not written: the loader, which takes any whole image, never sees an unsigned one
#   5  the boot record says that this firmware is on trial
#   6  set_boot; before 5, a cut would leave a trial that nobody knows of, and no confirmation, or one too many
#   7  when healthy: marked valid, then the floor is raised; the other way round, a cut would leave the old firmware
#      below the floor, and this one could not be installed again
import hashlib
import struct

from esp32 import Partition
from micropython import const

from sealband.store import discard, write_file
from sealband.update import body as delivery
from sealband.update.refused import UpdateRefused
from sealboot import record, switch
from sealwire import update
from sealwire.manifest import COMPONENT_FW

_BLOCK = const(4096)  # update.BLOCK_LEN
_PIECE = const(512)  # of what is read back
_PROGRESS = ">32sII"  # digest of the image, blocks that are written, bytes of the delivery that they took
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


# Install what a verified manifest names; the next start tries it. open_at: asked for the delivery from a byte on, gives
# fetch.Body. path: of the note on how far it came; whoever is refused for the image removes it. UpdateRefused, or what
# the delivery raises: what runs is untouched, and the other partition holds nothing that could be started, or what was
# signed.
def install(manifest, open_at, path, feed=None, folder=record.FOLDER):
    held = record.load(folder)
    if held is None:
        raise UpdateRefused(update.INTERNAL)
    if manifest.component != COMPONENT_FW:
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
        _write(target, manifest, open_at, path, feed)
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


def _write(target, manifest, open_at, path, feed):
    block = memoryview(bytearray(_BLOCK))
    piece = memoryview(bytearray(_PIECE))
    target.ioctl(_ERASE, 0)
    _stream(target, manifest, open_at, path, block, piece, feed)
    count = min(manifest.size, _BLOCK)
    body = open_at(0)
    try:
        delivery.Sections(body).readinto(block[:count])
    finally:
        body.close()
    if _digest(target, manifest.size, block[:count], piece, feed) != manifest.digest:
        raise UpdateRefused(update.IMAGE_DIGEST)
    _put(target, 0, block, count)
    if not _holds(target, 0, block[:count], piece):
        target.ioctl(_ERASE, 0)
        raise UpdateRefused(update.FLASH_FAILED)


# Write all blocks but the first, from where an attempt before this one ended.
def _stream(target, manifest, open_at, path, block, piece, feed):
    blocks = (manifest.size + _BLOCK - 1) // _BLOCK
    number, at = _progress(path, manifest.digest)
    if number >= blocks:
        return
    body = open_at(at)
    try:
        if body.tell() != at:
            number = 0  # the server has it from the beginning only
        if not number:
            discard(path)
        reader = delivery.Sections(body)
        while number < blocks:
            count = min(manifest.size - number * _BLOCK, _BLOCK)
            ends = reader.readinto(block[:count])
            if number:
                _put(target, number, block, count)
                if not _holds(target, number, block[:count], piece):
                    raise UpdateRefused(update.FLASH_FAILED)
            number += 1
            if number == blocks and not (ends and body.ended()):
                raise UpdateRefused(update.BAD_STREAM)
            if ends:
                _remember(path, manifest.digest, number, body.tell())
            if feed:
                feed()
    finally:
        body.close()


# (blocks, bytes of the delivery) that were noted for this image. A note that is wrong costs an attempt: its blocks do
# not lead to the digest.
def _progress(path, digest):
    try:
        with open(path, "rb") as file:
            noted = struct.unpack(_PROGRESS, file.read(40))
    except (OSError, ValueError):
        return 0, 0
    return noted[1:] if noted[0] == digest and noted[1] else (0, 0)


def _remember(path, digest, blocks, at):
    try:
        write_file(path, struct.pack(_PROGRESS, digest, blocks, at))
    except OSError:
        pass  # the note before this one holds as well, or there is none


# A whole block, which erases it first.
def _put(target, number, block, count):
    for index in range(count, _BLOCK):
        block[index] = 0xFF
    target.writeblocks(number, block)


# Whether a block reads back as it was written.
def _holds(target, number, block, piece):
    for at in range(0, len(block), _PIECE):
        part = piece[: min(len(block) - at, _PIECE)]
        target.readblocks(number, part, at)
        if part != block[at : at + len(part)]:
            return False
    return True


# Of the first block, which is not written yet, and all that is read back of the others.
def _digest(target, size, first, piece, feed):
    sha = hashlib.sha256(first)
    for at in range(_BLOCK, size, _PIECE):
        part = piece[: min(size - at, _PIECE)]
        target.readblocks(at // _BLOCK, part, at % _BLOCK)
        sha.update(part)
        if feed and at % _BLOCK == 0:
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
