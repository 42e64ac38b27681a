# The boot record: which slot runs, which is on trial, what each holds, and the sequences that nothing may fall below.
# Two files with a checksum each; a write goes to the older one, so a cut costs at most that. Decides nothing.
# What boot.py loads; the node's and the installer's changes are in switch.py.
import hashlib
import struct

FOLDER = "/slots"
NONE = 255  # no slot

# version, counter, active, trial, cold starts of the trial, its wakes, floor of the application, of the firmware
_HEAD = ">BIBBBBII"
_SLOT = ">I32sB"  # sequence, image digest, confirmed once
# how the last trial ended: sequence, code; firmware on trial: sequence, its partition
_TAIL = ">IBI16s"
_VERSION = 1
_CHECK_LEN = 8
EMPTY = (0, bytes(32), 0)


def _check(body):
    return hashlib.sha256(b"sealboot\x00" + body).digest()[:_CHECK_LEN]


class Record:
    def __init__(self):
        self.counter = 0
        self.active = NONE
        self.trial = NONE
        self.trials = 0  # cold starts so far
        self.wakes = 0  # from deep sleep, on trial
        self.floor = 0  # highest confirmed sequence of the application
        self.firmware_floor = 0
        self.slots = [EMPTY, EMPTY]  # (sequence, digest, confirmed once)
        self.outcome = (0, 0)  # (sequence, code) of the trial that ended without a confirmation
        self.firmware = (0, b"")  # (sequence, label) of a firmware on trial

    # The release on trial is given up, and why is kept until it was reported.
    def end_trial(self, code):
        self.outcome = (self.slots[self.trial][0], code)
        self.slots[self.trial] = EMPTY
        self.trial, self.trials, self.wakes = NONE, 0, 0

    def pack(self):
        label = self.firmware[1]
        body = struct.pack(
            _HEAD,
            _VERSION,
            self.counter,
            self.active,
            self.trial,
            self.trials,
            self.wakes,
            self.floor,
            self.firmware_floor,
        )
        for slot in self.slots:
            body += struct.pack(_SLOT, *slot)
        body += struct.pack(_TAIL, self.outcome[0], self.outcome[1], self.firmware[0], label)
        return body + _check(body)


# What these bytes hold, or None.
def unpack(data):
    body = data[:-_CHECK_LEN]
    head, slot = struct.calcsize(_HEAD), struct.calcsize(_SLOT)
    if len(body) != head + 2 * slot + struct.calcsize(_TAIL) or _check(body) != data[-_CHECK_LEN:]:
        return None
    record = Record()
    (
        version,
        record.counter,
        record.active,
        record.trial,
        record.trials,
        record.wakes,
        record.floor,
        record.firmware_floor,
    ) = struct.unpack(_HEAD, body[:head])
    if version != _VERSION:
        return None
    for index in (0, 1):
        at = head + index * slot
        record.slots[index] = struct.unpack(_SLOT, body[at : at + slot])
    sequence, code, firmware, label = struct.unpack(_TAIL, body[head + 2 * slot :])
    record.outcome = (sequence, code)
    record.firmware = (firmware, label.rstrip(b"\x00"))
    return record


def _read(path):
    try:
        with open(path, "rb") as file:
            return unpack(file.read(256))
    except OSError:
        return None


# (newest record, its file's number), (None, 1) if there is none.
def _newest(folder):
    newest, number = None, 1
    for index in (0, 1):
        record = _read("%s/%d" % (folder, index))
        if record and (newest is None or record.counter > newest.counter):
            newest, number = record, index
    return newest, number


# The newest record that can be read, or None: this board was never given a release.
def load(folder=FOLDER):
    return _newest(folder)[0]


# Write it over the older one and read it back; OSError: what held before still holds.
def save(record, folder=FOLDER):
    newest, number = _newest(folder)
    record.counter = newest.counter + 1 if newest else 1
    path = "%s/%d" % (folder, 1 - number)
    data = record.pack()
    with open(path, "wb") as file:
        file.write(data)
    with open(path, "rb") as file:
        if file.read(256) != data:
            raise OSError(5)
    if _newest(folder)[1] == number:
        raise OSError(5)  # its counter is at its end: it would never be read


# The folder of a slot.
def slot_path(index, folder=FOLDER):
    return folder + ("/a", "/b")[index]
