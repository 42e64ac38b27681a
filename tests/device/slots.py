# A board with slots, for tests on MicroPython: release 1 runs from slot a, slot b is idle.
import hashlib
import os

from support import images

import sealboot
from sealboot import record

ROOT = "/ram"
SLOTS = "/ram/slots"
RUNNING = "/ram/slots/a"
IDLE = "/ram/slots/b"
DOWNLOAD = "/ram/update/download"


class Manifest:
    # What sealband.update.manifest.verify answers, for an image.
    def __init__(self, image, sequence=2, component=b"app"):
        self.sequence = sequence
        self.component = component
        self.digest = hashlib.sha256(image).digest()
        self.size = len(image)
        self.uri = "full.deflate"
        self.manifest_digest = hashlib.sha256(b"manifest" + self.digest).digest()


# Write {name: contents} into a folder, which is made.
def put(folder, files):
    _make(folder)
    for name in files:
        at = name.find("/")
        while at >= 0:
            _make(folder + "/" + name[:at])
            at = name.find("/", at + 1)
        with open(folder + "/" + name, "wb") as file:
            file.write(files[name])


# {name: contents} of a folder.
def contents(folder, prefix=""):
    files = {}
    for name in os.listdir(folder + "/" + prefix if prefix else folder):
        path = folder + "/" + prefix + name
        if os.stat(path)[0] & 0x4000:
            files.update(contents(folder, prefix + name + "/"))
        else:
            with open(path, "rb") as file:
                files[prefix + name] = file.read()
    return files


# Release 1 with these files in slot a, and its record; the other slot holds `before` (sequence 1 too), or nothing.
def board(files, before=None):
    _make(SLOTS)
    _make(ROOT + "/update")
    put(RUNNING, files)
    state = record.Record()
    state.active = 0
    state.floor = 1
    state.slots[0] = (1, digest(files), 1)
    if before is not None:
        put(IDLE, before)
        state.slots[1] = (1, digest(before), 1)
    record.save(state, SLOTS)
    booted()


# What boot.py sets, for the confirmed slot.
def booted():
    state = record.load(SLOTS)
    sealboot.index = state.active
    sealboot.sequence, sealboot.digest, _ = state.slots[state.active]
    sealboot.trial = False


def digest(files):
    return hashlib.sha256(images.image(files)).digest()


# A download, where install looks for it.
def delivered(data):
    with open(DOWNLOAD, "wb") as file:
        file.write(data)


def _make(folder):
    try:
        os.mkdir(folder)
    except OSError:
        pass  # it is there
