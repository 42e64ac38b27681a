# The node's part of an update: takes the order, reports each step, restarts into the updater, watches the trial and
# confirms it. Loaded only while there is an update to look after; fetches and installs nothing itself (agent.py).
from micropython import const

import sealboot
from sealband.outbox import REPLY, TELEMETRY
from sealband.update import job as jobs
from sealband.update.health import DEADLINE_S, Health
from sealwire import messages
from sealwire import update as wire

_UINT32_MAX = const(0xFFFFFFFF)
_DIGEST_LEN = const(32)
_QUIET_S = const(20)  # after an order: the receipt goes out first
_PATIENCE_S = const(180)  # so long at most
_AGAIN_S = const(300)  # after the first failed attempt; doubles with each
_SPREAD_S = const(60)  # a fleet does not fetch in one second


# What the node has to look after since this start, or None.
def begin(node):
    job = jobs.load()
    duty = Duty(node, job)
    return duty if duty.job else None


# Take the server's command: the result code.
def order(node, items):
    if len(items) != 4:
        return messages.RESULT_MALFORMED
    _, sequence, digest, url = items
    if type(sequence) is not int or not 0 <= sequence <= _UINT32_MAX or type(url) is not str:
        return messages.RESULT_MALFORMED
    if type(digest) is not bytes or len(digest) != (_DIGEST_LEN if sequence else 0):
        return messages.RESULT_MALFORMED
    if sealboot.index > 1:
        return messages.RESULT_UNSUPPORTED  # a developer's board has no slots
    from sealband.update import address, provision

    held = provision.load()
    if held is None:
        return messages.RESULT_UNSUPPORTED
    if not address.allowed(url, held.origins):
        return messages.RESULT_OUT_OF_RANGE
    del held
    present = jobs.load()
    if present and present.phase != jobs.ENDED:
        same = present.sequence == sequence and present.digest == digest
        if same:
            return messages.RESULT_DONE
        if present.phase in (jobs.TRIAL, jobs.RUNNING):
            return messages.RESULT_BUSY  # what comes of it is told first
    if sealboot.trial:
        return messages.RESULT_BUSY
    job = jobs.Job(sequence, digest, url)
    if _has(job):
        # the receipt of the first order was lost
        job.phase = jobs.ENDED
        job.note(wire.CONFIRMED)
    else:
        job.start_s = node.clock.uptime() + _QUIET_S
        job.note(wire.ACCEPTED)
    try:
        jobs.tidy()
        job.save()
    except OSError:
        return messages.RESULT_FAILED
    node.update = Duty(node, job)
    return messages.RESULT_DONE


# Whether this very release was confirmed here.
def _has(job):
    from sealboot import record

    last, held = jobs.load("last"), record.load(jobs.SLOTS)
    if not held or not last or not job.sequence or last.digest != job.digest:
        return False
    if last.firmware:
        return job.sequence <= held.firmware_floor
    # confirmed once, and not given up for damage since
    return job.sequence <= held.floor and sealboot.sequence == job.sequence


class Duty:
    def __init__(self, node, job):
        self.job = job
        self._health = None
        self._begun_s = node.clock.uptime()
        if job and job.phase == jobs.GO:
            job.phase = jobs.ORDERED  # the updater was never reached
        if job and not node.resumed and job.phase == jobs.ORDERED:
            # a new uptime; after an attempt that failed, not again at once
            pause_s = _AGAIN_S << (job.attempts - 1) if job.attempts else _QUIET_S
            job.start_s = self._begun_s + pause_s + node.random(_SPREAD_S)
        self._settle(node)

    # What the start has shown: new code on trial, old code after one, or what a cut kept from being written down.
    def _settle(self, node):
        job = self.job
        if sealboot.trial:
            if job is None or job.sequence != sealboot.sequence or job.firmware:
                job = self.job = jobs.Job(sealboot.sequence, bytes(_DIGEST_LEN), "")
            self._watch(node)
        elif job and job.phase in (jobs.TRIAL, jobs.RUNNING) and job.firmware:
            from sealband.update import firmware

            code = firmware.check_outcome(jobs.SLOTS)
            if code is None:
                self._watch(node)
            else:
                self._end(wire.ROLLED_BACK, code)
        elif job and job.phase in (jobs.TRIAL, jobs.RUNNING):
            from sealboot import record

            held = record.load(jobs.SLOTS)
            if sealboot.sequence == job.sequence and held and held.floor >= job.sequence:
                self._end(wire.CONFIRMED)  # the power failed between the two
            else:
                code = wire.TRIAL_FAILED
                if held and held.outcome[0] == job.sequence:
                    code = held.outcome[1]
                self._end(wire.ROLLED_BACK, code)
        if sealboot.outcome[0]:
            if job is None:
                # a confirmed slot was damaged, and the one before it runs
                job = self.job = jobs.Job(sealboot.outcome[0], bytes(_DIGEST_LEN), "")
                self._end(wire.ROLLED_BACK, sealboot.outcome[1])
            from sealboot import switch

            try:
                switch.clear_outcome(jobs.SLOTS)
                sealboot.outcome = (0, 0)
            except OSError:
                pass  # told once more after the next start

    # This start runs what is on trial; it is said once.
    def _watch(self, node):
        if self.job.phase != jobs.RUNNING:
            self.job.phase = jobs.RUNNING
            self.job.note(wire.STARTED)
            self._save()
        self._health = Health(node.app.sensors, self.job.records)

    def _end(self, state, code=0):
        self.job.phase = jobs.ENDED
        self.job.note(state, code)
        self._save()

    def _save(self):
        try:
            self.job.save()
        except OSError:
            pass  # then a step is told twice, or an attempt is not counted; nothing is believed that is not so

    # The server acknowledged something.
    def acknowledged(self):
        if self._health:
            self._health.acknowledged = True

    # What the node's loop runs beside its own work.
    def tasks(self, now_s):
        return self._health.probes(now_s) if self._health else []

    # One look at what is to be done.
    def work(self, node):
        self._report(node)
        now_s = node.clock.uptime()
        if self.job.phase == jobs.ENDED:
            if not self.job.steps:
                self._file_away(node)
        elif self.job.phase == jobs.ORDERED:
            if self.job.attempts >= jobs.ATTEMPTS_MAX:
                self._end(wire.GAVE_UP)
            elif now_s >= self.job.start_s:
                late = now_s >= self.job.start_s + _PATIENCE_S
                if late or (self._quiet(node) and node.clock.valid):
                    self._go(node)
        elif self._health:
            if self._health.healthy():
                self._confirm(node)
            elif now_s - self._begun_s > DEADLINE_S:
                self._give_up(node)

    def _report(self, node):
        if not self.job.steps:
            return
        while self.job.steps:
            if not node.say(REPLY, messages.UPDATE_REPORT, *self.job.steps[0]):
                return
            node.log.note("update", *self.job.steps[0])
            self.job.steps.pop(0)
        self._save()

    def _file_away(self, node):
        try:
            jobs.file_away()
        except OSError:
            pass  # looked at again after the next start
        node.update = None

    # how long until there is something to do, or None
    def wait_ms(self, now_s):
        if self.job.phase == jobs.ORDERED:
            return max(1, self.job.start_s - now_s) * 1000

    # Nothing but telemetry is left to be sent.
    def _quiet(self, node):
        for key in node.outbox.keys():
            if key[0] != TELEMETRY:
                return False
        return True

    # Leave the heap to the updater: all that is in RAM is sealed first.
    def _go(self, node):
        job = self.job
        job.phase = jobs.GO
        job.now_s = node.clock.now()
        job.records = sorted(node.sampler.newest)
        try:
            job.save()
        except OSError:
            job.phase = jobs.ORDERED
            return
        node.restart()

    def _confirm(self, node):
        try:
            if self.job.firmware:
                from sealband.update import firmware

                firmware.confirm(jobs.SLOTS)
            else:
                from sealboot import switch

                switch.confirm(jobs.SLOTS)
        except OSError:
            return  # flash refused: tried again with the next look
        sealboot.trial = False
        self._health = None
        self._end(wire.CONFIRMED)

    # A day without a sensor or a server: the code before may do better.
    def _give_up(self, node):
        if not self.job.firmware:
            from sealboot import switch

            try:
                switch.roll_back(wire.UNHEALTHY, jobs.SLOTS)
            except OSError:
                pass  # this start counts as one that failed
        node.restart()
