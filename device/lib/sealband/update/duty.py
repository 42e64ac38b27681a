# What a start has to do about an update before the node may run: take up an order, attempt it, let a trial stay, or say
# how it ended. It has the heap to itself, and ends with a reset whenever it changed something, so that the node begins
# with a clean one. What the node has to tell is left in a file for it to seal.
import sealboot
from sealband.update import job as jobs
from sealboot import record, switch
from sealwire import update as wire


# True: there is nothing that could be done, so the node is to run.
def run(machine):
    try:
        _settle(machine)
        return False
    except OSError:
        return True  # flash refuses; the node says so, and the next start tries again


# Each branch removes its own reason, or raises OSError: else the board would start for ever.
def _settle(machine):
    jobs.tidy(_downloads())
    job = jobs.load()
    if sealboot.trial:
        _confirm(job)
    elif job and job.phase == jobs.TRIAL and job.firmware:
        _settle_firmware(job)
    elif job and job.phase == jobs.TRIAL:
        _settle_application(job)
    elif sealboot.outcome[0]:
        # a confirmed slot was damaged, and the one before it runs; or the job of a trial was lost
        jobs.note(sealboot.outcome[0], wire.ROLLED_BACK, sealboot.outcome[1])
        switch.clear_outcome(jobs.SLOTS)
    elif job and job.phase == jobs.ENDED:
        jobs.file_away()  # a cut came between
    else:
        _carry_out(job, machine)
    machine.reset()


def _downloads():
    # which of them is still wanted, the updater knows
    import os

    try:
        return [name for name in os.listdir(jobs.FOLDER) if name[-5:] in (".full", "patch")]
    except OSError:
        return []


# The node has found it healthy.
def _confirm(job):
    switch.confirm(jobs.SLOTS)
    sealboot.trial = False
    if job is None or job.sequence != sealboot.sequence:
        job = jobs.Job(sealboot.sequence, bytes(32), "")
    job.end(wire.CONFIRMED)


def _settle_application(job):
    held = record.load(jobs.SLOTS)
    if sealboot.sequence == job.sequence and held and held.floor >= job.sequence:
        job.end(wire.CONFIRMED)  # the power failed between the two
        return
    code = wire.TRIAL_FAILED
    if held and held.outcome[0] == job.sequence:
        code = held.outcome[1]
    job.end(wire.ROLLED_BACK, code)
    switch.clear_outcome(jobs.SLOTS)


def _settle_firmware(job):
    from sealband.update import firmware

    code = firmware.check_outcome(jobs.SLOTS, job.sequence)
    if code is None:
        # it runs, and the node has found it healthy
        firmware.confirm(jobs.SLOTS)
        code = 0
    job.end(wire.ROLLED_BACK if code else wire.CONFIRMED, code)
    if code:
        switch.clear_outcome(jobs.SLOTS)


# An order, or what is left to be attempted of one.
def _carry_out(job, machine):
    order = jobs.read("order")
    if type(order) is list and len(order) == 5:
        new = jobs.Job(order[0], order[1], order[2])
        new.records = order[3]
        if job is None or (job.sequence, job.digest) != (new.sequence, new.digest):
            job = new
            job.save()
    jobs.remove("order")
    if job is None:
        return
    if _has(job):
        job.end(wire.CONFIRMED)  # the receipt of the first order was lost
    elif job.attempts >= jobs.ATTEMPTS_MAX:
        job.end(wire.GAVE_UP)
    else:
        from sealband.update import agent

        # what is left of this start is the updater's
        agent.run(job, machine, order[4] if type(order) is list and len(order) == 5 else 0)


# Whether this very release was confirmed here, and not given up for damage since.
def _has(job):
    last, held = jobs.load("last"), record.load(jobs.SLOTS)
    if not held or not last or not job.sequence or last.digest != job.digest:
        return False
    if last.firmware:
        return job.sequence <= held.firmware_floor
    return job.sequence <= held.floor and sealboot.sequence == job.sequence
