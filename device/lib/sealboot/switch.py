# What node and installer do to the boot record. Each is one write: a power cut leaves the state before it or after it.
# OSError: flash refused, or the record does not allow it; what held before still holds. boot.py does not load this.
from micropython import const

import sealboot
from sealboot import record
from sealboot.record import EMPTY, FOLDER, NONE

_EINVAL = const(22)
_DIGEST_LEN = const(32)
_LABEL_LEN = const(16)
_UINT32_MAX = const(0xFFFFFFFF)


def _load(folder):
    held = record.load(folder)
    if held is None:
        raise OSError(_EINVAL)
    return held


# The slot that runs, which is not the recorded one if flash refused to write down what boot.py chose.
def _running(held):
    return sealboot.index if sealboot.index <= 1 else held.active


# The idle slot is given up, so that its files may go: its index. No trial is left afterwards.
def forget(folder=FOLDER):
    held = _load(folder)
    running = _running(held)
    if running > 1 or sealboot.trial:
        raise OSError(_EINVAL)  # a trial has no idle slot: the other one is what it falls back to
    idle = 1 - running
    if (held.active, held.trial, held.slots[idle]) != (running, NONE, EMPTY):
        held.active = running
        held.trial, held.trials, held.wakes = NONE, 0, 0
        held.slots[idle] = EMPTY
        record.save(held, folder)
    return idle


# What lies in the idle slot, read back and found to have this digest, is tried by the next start.
def begin_trial(index, sequence, digest, folder=FOLDER):
    held = _load(folder)
    if index != 1 - _running(held) or sealboot.trial or held.slots[index] != EMPTY:
        raise OSError(_EINVAL)
    if not held.floor < sequence <= _UINT32_MAX or len(digest) != _DIGEST_LEN:
        raise OSError(_EINVAL)
    held.slots[index] = (sequence, bytes(digest), 0)
    held.trial, held.trials, held.wakes = index, 0, 0
    record.save(held, folder)


# The release on trial stays, and none older than it is tried from now on. Nothing happens if there is no trial.
def confirm(folder=FOLDER):
    held = _load(folder)
    index = held.trial
    if index == NONE:
        return
    if index > 1 or sealboot.index not in (index, NONE):
        raise OSError(_EINVAL)  # what runs is not what is on trial
    sequence, digest, _ = held.slots[index]
    held.slots[index] = (sequence, digest, 1)
    held.active = index
    held.trial, held.trials, held.wakes = NONE, 0, 0
    held.floor = max(held.floor, sequence)
    record.save(held, folder)


# The release on trial is given up: the next start runs the one before it. Nothing happens if there is no trial.
def roll_back(code, folder=FOLDER):
    held = _load(folder)
    if held.trial > 1 or held.trial == held.active:
        return
    held.end_trial(code)
    record.save(held, folder)


# How the last trial ended was reported.
def clear_outcome(folder=FOLDER):
    held = _load(folder)
    if held.outcome != (0, 0):
        held.outcome = (0, 0)
        record.save(held, folder)


# The next start tries this firmware, from the partition of this label (bytes).
def set_firmware(sequence, label, folder=FOLDER):
    held = _load(folder)
    if not held.firmware_floor < sequence <= _UINT32_MAX or not 0 < len(label) <= _LABEL_LEN:
        raise OSError(_EINVAL)
    held.firmware = (sequence, bytes(label))
    record.save(held, folder)


# The firmware on trial stays, and none older than it is tried from now on.
def confirm_firmware(folder=FOLDER):
    held = _load(folder)
    if held.firmware[0]:
        held.firmware_floor = max(held.firmware_floor, held.firmware[0])
        held.firmware = (0, b"")
        record.save(held, folder)


# The firmware on trial is given up; the chip's own loader runs the one before it. The code is kept as an outcome.
def end_firmware(code, folder=FOLDER):
    held = _load(folder)
    if held.firmware[0]:
        held.outcome = (held.firmware[0], code)
        held.firmware = (0, b"")
        record.save(held, folder)
