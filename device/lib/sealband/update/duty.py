# What a start has to do about an update before the node may run: take up an order, attempt it, let a trial stay, or say
# how it ended. It has the heap to itself, and ends with a reset whenever it changed something, so that the node begins
# with a clean one. What the node has to tell is left in a file for it to seal.
import sys

from micropython import const

import sealboot
from sealband.update import job as jobs
from sealboot import record, switch
from sealwire import update as wire

_EAGAIN = const(11)


# True: there is nothing that could be done, so the node is to run.
def run(machine):
    try:
        _settle(machine)
        return False
    except OSError:
        return True  # flash refuses; the node says so, and the next start tries again
    except Exception as error:
        if sealboot.trial:
            raise  # boot.py counts
        # our own code: what it stumbled over is put away, or every start would
        sys.print_exception(error)
        _give_up()
        return True


# Each branch removes its own reason, or raises: else the board would start for ever.
def _settle(machine):
    jobs.tidy(None)
    job, held = jobs.load(), record.load(jobs.SLOTS)
    if held is None:
        raise OSError(_EAGAIN)
    if sealboot.trial:
        _confirm(job)
    elif job and job.phase == jobs.ENDED:
        jobs.file_away()  # a cut came between
    elif (job and job.phase == jobs.TRIAL and job.firmware) or _firmware_on_trial(held):
        _settle_firmware(job)
    elif job and (job.phase == jobs.TRIAL or job.sequence == sealboot.outcome[0] != 0):
        _settle_application(job, held)
    elif sealboot.outcome[0]:
        # a confirmed slot was damaged, and the one before it runs; or the job of a trial was lost
        jobs.clear()
        jobs.note(sealboot.outcome[0], wire.ROLLED_BACK, sealboot.outcome[1])
        switch.clear_outcome(jobs.SLOTS)
    else:
        _carry_out(job, machine)
    machine.reset()


def _give_up():
    try:
        jobs.remove("order")
        job = jobs.load()
        if job:
            job.end(wire.GAVE_UP, wire.INTERNAL)
        else:
            jobs.remove("job")
    except OSError:
        pass  # the next start tries again


# The node has found it healthy.
def _confirm(job):
    if job is None or job.sequence != sealboot.sequence:
        job = jobs.Job(sealboot.sequence, bytes(32), "")
    elif job.phase != jobs.TRIAL:
        # the power failed before the job said so; should it fail again now, it is not to be attempted once more
        job.phase = jobs.TRIAL
        job.save()
    switch.confirm(jobs.SLOTS)
    sealboot.trial = False
    job.end(wire.CONFIRMED)


def _settle_application(job, held):
    if sealboot.sequence == job.sequence and held.floor >= job.sequence:
        job.end(wire.CONFIRMED)  # the power failed between the two
        return
    if held.trial != record.NONE and held.trial != held.active:
        raise OSError(_EAGAIN)  # it has not ended: flash did not take the count of this start
    code = wire.TRIAL_FAILED
    if held.outcome[0] == job.sequence:
        code = held.outcome[1]
    job.end(wire.ROLLED_BACK, code)
    switch.clear_outcome(jobs.SLOTS)


# Whether the firmware that runs is on trial, whatever the job says: the power may have failed before it could.
def _firmware_on_trial(held):
    if not held.firmware[0]:
        return False
    from sealband.update import firmware

    return firmware.on_trial(jobs.SLOTS) != 0


def _settle_firmware(job):
    from sealband.update import firmware

    sequence = firmware.on_trial(jobs.SLOTS)
    if job is None or (sequence and job.sequence != sequence):
        job = jobs.Job(sequence, bytes(32), "")
    job.firmware = True
    code = firmware.check_outcome(jobs.SLOTS, job.sequence)
    if code is None:
        if jobs.read("healthy") is None:
            raise OSError(_EAGAIN)  # nobody has found it healthy: the next reset ends its trial
        firmware.confirm(jobs.SLOTS)
        code = 0
    job.end(wire.ROLLED_BACK if code else wire.CONFIRMED, code)
    if code:
        switch.clear_outcome(jobs.SLOTS)


# An order, or what is left to be attempted of one.
def _carry_out(job, machine):
    jobs.clear()
    job = _ordered(job)
    jobs.remove("order")
    if job is None:
        jobs.remove("job")  # it can't be read
        jobs.tidy()
    elif _has(job):
        job.end(wire.CONFIRMED)  # the receipt of the first order was lost
    elif job.attempts >= jobs.ATTEMPTS_MAX:
        job.end(wire.GAVE_UP)
    else:
        from sealband.update import agent

        # what is left of this start is the updater's
        agent.run(job, machine, job.now_s)


# What the newest order asks for, written down as the job; without one, the job that there is.
def _ordered(job):
    order = jobs.read("order")
    new = jobs.make(*order) if type(order) is list and len(order) == 5 else None
    if new is None:
        return job
    if job and (job.sequence, job.digest) == (new.sequence, new.digest):
        # ordered anew: it may lie elsewhere now
        new.attempts = job.attempts
    new.save()
    return new


# Whether this very release was confirmed here, and not given up for damage since.
def _has(job):
    last, held = jobs.load("last"), record.load(jobs.SLOTS)
    if not held or not last or not job.sequence or last.digest != job.digest or last.result != wire.CONFIRMED:
        return False
    if last.firmware:
        return job.sequence <= held.firmware_floor
    return job.sequence <= held.floor and sealboot.sequence == job.sequence
