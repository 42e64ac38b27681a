# The update in work, in small files that are replaced whole: what was ordered, how far it got, what the server has not
# been told. Decides nothing.
#
#   order     what the node was told: [sequence, manifest digest, URL]; taken up by the next start
#   job       the update in work; last: the one before, which has ended
#   reports   [[sequence, state, code] …] that the node is to seal and queue
#   trial     [records that had values before the switch, label of a firmware's partition or ""]
#   healthy   the node's word that what is on trial stays
#   wait      seconds until the next attempt
import os

from micropython import const

from sealband.crypto import cbor
from sealband.store import TEMPORARY, write_file

FOLDER = "/update"
SLOTS = "/slots"

# phases
ORDERED = 0  # to be attempted
TRIAL = 1  # installed: the boot record knows the rest
ENDED = 2

ATTEMPTS_MAX = const(5)
_VERSION = const(1)
_FIELDS = const(8)
_STEPS_MAX = const(12)
_ITEMS_MAX = const(128)


def path(name):
    return FOLDER + "/" + name


# What a file holds, or None if it is not there or can't be read.
def read(name):
    try:
        with open(path(name), "rb") as file:
            return cbor.decode(file.read(), max_items=_ITEMS_MAX)
    except (OSError, cbor.CborError):
        return None


def write(name, value):
    write_file(path(name), cbor.encode(value))


def remove(name):
    try:
        os.remove(path(name))
    except OSError:
        pass  # it was not there


# One more step for the node to tell; the oldest gives way. OSError: it will not be told.
def note(sequence, state, code=0):
    steps = read("reports")
    if type(steps) is not list:
        steps = []
    while len(steps) >= _STEPS_MAX:
        steps.pop(0)
    write("reports", steps + [[sequence, state, code]])


class Job:
    # sequence 0: only newer trust lists are asked for
    def __init__(self, sequence, digest, url):
        self.sequence = sequence
        self.digest = digest  # of the manifest
        self.url = url  # of the manifest
        self.phase = ORDERED
        self.attempts = 0
        self.firmware = False
        self.records = []  # records that had values when it was ordered

    # OSError: flash refused, and what it held still holds.
    def save(self):
        row = [_VERSION, self.sequence, self.digest, self.url, self.phase, self.attempts, self.firmware]
        write("job", row + [self.records])

    # It has ended: how is noted first, then what it was is filed away, so that neither is lost to a cut.
    def end(self, state, code=0):
        note(self.sequence, state, code)
        self.phase = ENDED
        self.save()
        file_away()


# The job that was written down, or None. "last": the one before.
def load(name="job"):
    row = read(name)
    # of another version: the server orders again
    if type(row) is not list or len(row) != _FIELDS or row[0] != _VERSION:
        return None
    job = Job(row[1], row[2], row[3])
    job.phase, job.attempts, job.firmware, job.records = row[4:]
    return job


# What ended a job is over with it.
def file_away():
    for name in ("healthy", "trial", "wait"):
        remove(name)
    os.rename(path("job"), path("last"))


# Make the folder, remove what a cut left behind, and every download but these.
def tidy(keep=()):
    try:
        os.mkdir(FOLDER)
    except OSError:
        pass  # it is there
    for name in os.listdir(FOLDER):
        if name.endswith(TEMPORARY) or (name[-5:] in (".full", "patch") and name not in keep):
            remove(name)
