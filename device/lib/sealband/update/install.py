# A delivered file becomes a slot on trial. The manifest is verified already; nothing else of the delivery is believed.
#
# Order: (1) the record says that the idle slot is empty, (2) its files go, (3) the stream is unpacked into it, (4) the
# slot is read back, and its digest is the signed one, (5) the record says what it holds and tries it at the next start.
# So the record never names a slot that is not whole, wherever the power fails, and the running slot is only read.
# A refusal empties the idle slot again. What is read back is what was written: a download that is swapped after it
# was checked gains nothing, since it is not checked at all.
import os

from micropython import const

import sealboot
from sealband.update import stream
from sealband.update.refused import UpdateRefused
from sealband.update.unpack import Unpacker
from sealboot import image, record, switch
from sealwire import update
from sealwire.manifest import COMPONENT_APP

_ENOENT = const(2)
_DIRECTORY = const(0x4000)


# Install what a verified manifest names from the file at `path`, a patch or an image. UpdateRefused: nothing changed
# but the idle slot, which is empty.
def install(manifest, path, patched, record_folder=record.FOLDER, feed=None):
    running = sealboot.index
    state = record.load(record_folder)
    if state is None or running > 1 or sealboot.trial or state.slots[running][1] != sealboot.digest:
        raise UpdateRefused(update.INTERNAL)  # what runs is no confirmed release, so the other slot may be the last one
    if manifest.component != COMPONENT_APP:
        raise UpdateRefused(update.WRONG_COMPONENT)
    if manifest.sequence <= state.floor:
        raise UpdateRefused(update.OLD_SEQUENCE)
    idle = 1 - running
    slot = record.slot_path(idle, record_folder)
    try:
        switch.forget(record_folder)
    except OSError:
        raise UpdateRefused(update.FLASH_FAILED)  # the record may name that slot still: its files stay
    try:
        remove(slot)
        _unpack(manifest, path, patched, record.slot_path(running, record_folder), slot, feed)
        if image.digest(slot, feed) != manifest.digest:
            raise UpdateRefused(update.IMAGE_DIGEST)
    except Exception as error:
        try:
            remove(slot)
        except OSError:
            pass  # the record says that nothing is there
        if isinstance(error, OSError):
            raise UpdateRefused(update.FLASH_FAILED)
        raise
    try:
        switch.begin_trial(idle, manifest.sequence, manifest.digest, record_folder)
    except OSError:
        # the files stay: should the record be written after all, the next start tries them
        raise UpdateRefused(update.FLASH_FAILED)


def _unpack(manifest, path, patched, base, slot, feed):
    out = Unpacker(slot, feed)
    try:
        with open(path, "rb") as file:
            if patched:
                from sealband.update import patch

                # every step costs time, and at least three bytes: a patch of many empty ones ends here
                reader = stream.Reader(file, manifest.size + manifest.size // 4 + 1024)
                patch.apply(reader, base, sealboot.digest, manifest.size, out, feed)
            else:
                reader = stream.Reader(file, manifest.size)
                stream.copy(reader, manifest.size, out, feed)
            reader.finish()
        out.close()
    finally:
        out.abandon()


# Remove a folder with all that is in it; one that is not there is no error.
def remove(folder):
    try:
        names = os.listdir(folder)
    except OSError as error:
        if error.errno == _ENOENT:
            return
        raise
    for name in names:
        path = folder + "/" + name
        if os.stat(path)[0] & _DIRECTORY:
            remove(path)
        else:
            os.remove(path)
    os.rmdir(folder)
