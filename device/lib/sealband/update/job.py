# The update in work, in small files that are replaced whole: what was ordered, how far it got, what the server has not
# been told. Beside them lies what the factory wrote down (provision.py). Decides nothing.
#
#   order     what the node was told: [sequence, manifest digest, URL, records that had values, time]; taken up by the
#             next start
#   job       the update in work; last: the one before, which has ended
#   reports   [[sequence, state, code] …] that the node is to seal and queue
#   trial     [records that had values before the switch, label of a firmware's partition or "", sequence]
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
_FIELDS = const(10)
_STEPS_MAX = const(12)
_ITEMS_MAX = const(128)
_ENOENT = const(2)


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


# OSError: it is still there. What stays after it was done would be done again, or believed of another update.
def remove(name):
    try:
        os.remove(path(name))
    except OSError as error:
        if error.errno != _ENOENT:
            raise


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
        self.now_s = 0  # a time that was past when it was ordered: an attempt after a reset has no other
        self.result = 0  # the state that it ended with

    # OSError: flash refused, and what it held still holds.
    def save(self):
        row = [_VERSION, self.sequence, self.digest, self.url, self.phase, self.attempts, self.firmware]
        write("job", row + [self.records, self.now_s, self.result])

    # It has ended: how is noted first, then what it was is filed away, so that neither is lost to a cut.
    def end(self, state, code=0):
        note(self.sequence, state, code)
        self.phase = ENDED
        self.result = state
        self.save()
        file_away()


# The job that was written down, or None. "last": the one before.
def load(name="job"):
    row = read(name)
    # of another version: the server orders again
    if type(row) is not list or len(row) != _FIELDS or row[0] != _VERSION:
        return None
    job = make(row[1], row[2], row[3], row[7], row[8])
    if job is None or type(row[4]) is not int or type(row[5]) is not int:
        return None
    job.phase, job.attempts, job.firmware, job.result = row[4], row[5], row[6], row[9]
    return job


# The job that an order asks for; None: these are not what the node wrote down.
def make(sequence, digest, url, records, now_s):
    kinds = (type(sequence), type(digest), type(url), type(records), type(now_s))
    if kinds != (int, bytes, str, list, int):
        return None
    job = Job(sequence, digest, url)
    job.records, job.now_s = records, now_s
    return job


# What ended a job is over with it: the flash of its downloads is the queue's again.
def file_away():
    tidy()
    clear()
    os.rename(path("job"), path("last"))


# Nothing that was said of one trial, or of when to try again, may count for the next.
def clear():
    for name in ("healthy", "trial", "wait"):
        remove(name)


# Make the folder, remove what a cut left behind, and every download but these; None: all of them stay.
def tidy(keep=()):
    try:
        os.mkdir(FOLDER)
    except OSError:
        pass  # it is there
    for name in os.listdir(FOLDER):
        download = keep is not None and name[-5:] in (".full", "patch") and name not in keep
        if download or name.endswith(TEMPORARY):
            remove(name)
