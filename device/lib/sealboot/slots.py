# Which slot this start runs. A trial is counted in the boot record before anything of it runs, and is watched; after
# too many starts, or if its files are not what was installed, the release before it runs again. What ended a trial is
# kept in the record until it was reported. Whatever lies in flash, this finds nothing to raise for.
#
#   no record                   nothing
#   on trial, may be tried      counted → watchdog → it runs; flash does not take the count: as if there were no trial
#   on trial, may not           given up, and why is written down
#   confirmed, and whole        it runs
#   damaged                     the other one, if it was confirmed once and is whole; else nothing
#
# "Whole": the digest of its files is the recorded one. After deep sleep that is not looked at again: a cold start did.
import os

from micropython import const

import sealboot
from sealboot import record
from sealboot.record import EMPTY, NONE

_TRIALS_MAX = const(4)  # cold starts: one makes it stay, and a power cut or two may take others
_WAKES_MAX = const(255)  # from deep sleep
_WATCHDOG_S = const(120)
# as in sealwire.update, which lies in the slots
OLD_SEQUENCE = 6
TRIAL_FAILED = 64
SLOT_CORRUPT = 65


# The folder of the slot to be run, with sealboot's attributes set, or None: there is nothing that may be run.
def choose(machine, root=""):
    folder = root + record.FOLDER
    held = record.load(folder)
    if held is None:
        return None
    cold = machine.reset_cause() != machine.DEEPSLEEP_RESET
    index = _on_trial(held, folder, cold)
    sealboot.trial = index != NONE and _watched(machine)
    if not sealboot.trial:
        index = _confirmed(held, folder, cold)
        if index != NONE and held.firmware[0]:
            _watched(machine)
    sealboot.outcome = held.outcome
    if index == NONE:
        return None
    sealboot.index = index
    sealboot.sequence, sealboot.digest = held.slots[index][:2]
    return record.slot_path(index, folder)


# The slot on trial, if this start tries it; the start has been counted then.
def _on_trial(held, folder, cold):
    index = held.trial
    if index > 1 or index == held.active:
        return NONE
    # without a cold start before it, a wake is none
    cold = cold or not held.trials
    code = 0
    if held.slots[index][0] <= held.floor:
        code = OLD_SEQUENCE
    elif (held.trials if cold else held.wakes) >= (_TRIALS_MAX if cold else _WAKES_MAX):
        code = TRIAL_FAILED
    elif not _whole(held, index, folder, cold):
        code = SLOT_CORRUPT
    if code:
        held.end_trial(code)
        _save(held, folder)
        return NONE
    if cold:
        held.trials += 1
    else:
        held.wakes += 1
    # a start that can't be counted could be repeated for ever
    return index if _save(held, folder) else NONE


# The confirmed slot, or the one before it in place of one that is damaged.
def _confirmed(held, folder, cold):
    active = held.active
    if active > 1:
        active = NONE
    elif _whole(held, active, folder, cold):
        return active
    for index in (0, 1):
        if index != active and held.slots[index][2] and _whole(held, index, folder, True):
            if active != NONE:
                held.outcome = (held.slots[active][0], SLOT_CORRUPT)
                held.slots[active] = EMPTY
            held.active = index
            _save(held, folder)  # if flash refuses, the next start comes to the same
            return index
    return NONE


def _whole(held, index, folder, hashed):
    slot, path = held.slots[index], record.slot_path(index, folder)
    try:
        os.stat(path + "/main.py")
        if not hashed or slot == EMPTY:
            return slot != EMPTY
        from sealboot import image

        return image.digest(path) == slot[1]
    except Exception:
        return False  # it can't be read, or holds what no image has


# Nothing but the watchdog ends code that hangs. It can't be stopped again.
def _watched(machine):
    try:
        machine.WDT(timeout=_WATCHDOG_S * 1000)
        sealboot.watchdog_s = _WATCHDOG_S
        return True
    except Exception:
        return False


def _save(held, folder):
    try:
        record.save(held, folder)
        return True
    except OSError:
        return False
