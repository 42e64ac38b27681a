# The update in work: what was ordered, how far it got, and which steps the server has not been told. One file that is
# replaced whole. Decides nothing.
import os

from micropython import const

from sealband.crypto import cbor
from sealband.store import TEMPORARY, write_file

FOLDER = "/update"
SLOTS = "/slots"

# phases
ORDERED = 0  # to be begun when the node finds time
GO = 1  # to be worked on by the next start
TRIAL = 2  # installed: the boot record knows the rest
RUNNING = 3  # the new code has said that it runs
ENDED = 4

ATTEMPTS_MAX = const(5)
_VERSION = const(1)
_FIELDS = const(11)
_STEPS_MAX = const(12)
_LENGTH_MAX = const(1024)
_ITEMS_MAX = const(128)


def path(name):
    return FOLDER + "/" + name


class Job:
    # sequence 0: only newer trust lists are asked for
    def __init__(self, sequence, digest, url):
        self.sequence = sequence
        self.digest = digest  # of the manifest
        self.url = url  # of the manifest
        self.phase = ORDERED
        self.attempts = 0
        self.firmware = False
        self.start_s = 0  # uptime at which the next attempt may begin
        self.now_s = 0  # a time that is surely past
        self.records = []  # records that had values before the switch
        self.steps = []  # [sequence, state, code], not yet queued as reports

    # One more step to tell; the oldest gives way.
    def note(self, state, code=0, sequence=None):
        if len(self.steps) >= _STEPS_MAX:
            self.steps.pop(0)
        self.steps.append([self.sequence if sequence is None else sequence, state, code])

    # OSError: flash refused, and what it held still holds.
    def save(self):
        row = [_VERSION, self.sequence, self.digest, self.url, self.phase, self.attempts, self.firmware]
        write_file(path("job"), cbor.encode(row + [self.start_s, self.now_s, self.records, self.steps]))


# The job that was written down, or None. "last": the one before, which has ended and was reported.
def load(name="job"):
    try:
        with open(path(name), "rb") as file:
            row = cbor.decode(file.read(_LENGTH_MAX), max_items=_ITEMS_MAX)
        if type(row) is not list or len(row) != _FIELDS or row[0] != _VERSION:
            return None
        job = Job(row[1], row[2], row[3])
        job.phase, job.attempts, job.firmware, job.start_s, job.now_s, job.records, job.steps = row[4:]
        return job
    except (OSError, cbor.CborError):
        return None  # there is none, or it is another version's: the server orders again


# It has ended and all was told: nothing is left to look after, but what it was stays known.
def file_away():
    os.rename(path("job"), path("last"))


# Make the folder, remove what a cut left behind, and every download but this one.
def tidy(keep=()):
    try:
        os.mkdir(FOLDER)
    except OSError:
        pass  # it is there
    for name in os.listdir(FOLDER):
        if name.endswith(TEMPORARY) or (name[-5:] in (".full", "patch") and name not in keep):
            try:
                os.remove(path(name))
            except OSError:
                pass
