# One wake of the device: sample, seal, queue, send, listen, act, and when to wake next. All that it works on is passed
# in; it owns the order of things and the counts that the status reports.
#
# The work is a generator of pauses, so that a measurement of nine seconds and a receive window of the same time do not
# wait for each other, and so that three drivers can pace it: run_forever() sleeps, run() is a coroutine (loop.py),
# run_deep_sleep() restarts the board for each wake (sleep.py). Nothing that comes from a sensor, a link or the server
# ends it.
import gc
import os
import time

from micropython import const

from sealband import once
from sealband.batch import Batch
from sealband.clock import Clock
from sealband.config import Config
from sealband.crypto import cbor
from sealband.errors import ChainStopped, SealError, StoreError
from sealband.log import Log
from sealband.outbox import EVENT, REPLY, TELEMETRY
from sealband.sampler import Sampler
from sealband.session import Session
from sealwire import messages
from sealwire.recordids import BATTERY_VOLTAGE, WEAR_STATE

_LONGEST_MS = const(3600000)
_SLICE_MS = const(1000)
_FAULT_PAUSE_MS = const(5000)
_FAULTS_APART_MS = const(60000)  # more apart, they are two incidents
_FAULTY_MAX_MS = const(180000)
_ADVANCE_EVERY_S = const(10)
_PATIENCE_S = const(180)  # so long a restart waits for what is not telemetry to be sent
_BATCH_MAX = const(600)  # samples; more are sealed before their time
_ALARM_S = const(600)
_OVERHEAD = const(13)  # sealwire.frame
_FRAME_MAX = const(51)  # what every LoRa rate carries (sealwire.radio)
_LOW_SHIFT = const(2)  # with a low cell it is sent four times as rarely
# sealwire.names.EVENTS
_WORN = const(4)
_TAKEN_OFF = const(5)
_SENSOR_FAILED = const(7)


# an unpredictable integer below n
def _random(n):
    return int.from_bytes(os.urandom(4), "big") % n


class Node:
    # app: app.App; clock, log, sleep_ms and random are the board's own when not given; reset: starts the board anew;
    # restart_s: in so long that is to be done, for an update; on_trial: this code or firmware is not confirmed yet;
    # board: what it has (board.py)
    def __init__(
        self,
        app,
        store,
        chain,
        outbox,
        clock=None,
        log=None,
        sleep_ms=time.sleep_ms,
        random=_random,
        watchdog=None,
        reset_cause=0,
        reset=None,
        restart_s=None,
        on_trial=False,
        update_folder="/update",
        board=None,
    ):
        self.app = app
        self.chain = chain
        self.outbox = outbox
        self.clock = clock or Clock(store)
        self.log = log or Log(self.clock.uptime, app.echo)
        self.config = Config(store, app.defaults)
        self.batch = Batch()
        self.session = Session(self, random)
        self.sampler = Sampler(app.sensors, self.batch, self._sampled, self._sensor_failed, self.config)
        self.sampler.consent = once("sealband.consent").load(store, app.ask_first)
        self.board = board
        self.level = 0  # the wearer rests or moves: pace()
        self.alarm_s = 0  # until this uptime it is an alarm
        self.worn = None  # the last wear state
        self.low = 0  # what the cell allows: cell.py
        self.spent = None  # times that cost charge: charge.py
        self.armed = None  # by what each watcher may have ended the deep sleep: sleep.py
        self.watching = once("sealband.watching").Watching(app.watchers) if app.watchers else None
        self._watch_ms = 0  # uptime at which a watcher goes on
        self.refused = 0  # downlinks since the cold start
        self.faults = 0  # exceptions in our own code
        self.store = store
        self._sleep_ms = sleep_ms
        self.random = random
        self._watchdog = watchdog
        self.reset_cause = reset_cause
        self._reset = reset
        self._faulty_since_ms = 0
        self.links = []  # those that work
        self._closed = list(app.links)
        self.pause_until_ms = -_FAULTS_APART_MS
        self._advance_at = 0
        self._looked = 0  # samples in the batch when it was last asked whether they fill a frame
        self.running = False
        self.ear = None  # looked at whenever the watchdog is fed: start.ear
        self.update_folder = update_folder
        self.restart_s = restart_s  # uptime at which the board starts anew for an update
        self.retiring = None  # the end of this identity: retire.Retiring
        self.trial = None  # what new code has to show: update.trial.Trial
        if on_trial:
            from sealband.update import trial

            trial.begin(self)
        self.resumed = self._resume()  # from deep sleep
        if not self.resumed:
            once("sealband.report").begin(self)
        self.open_links()

    # --- start

    def _resume(self):
        state = self.store.rtc_take("node")
        if state is None:
            return False
        from sealband import sleep

        return sleep.resume(self, state)

    # open those that do not work yet
    def open_links(self):
        if not self._closed:
            return
        for link in list(self._closed):
            try:
                link.open(self.store, self.clock, self.config, self.random)
            except Exception:
                # LinkError as a rule; whatever a link raises, the others go on
                self.log.note("link", self.app.links.index(link))
                continue
            self._closed.remove(link)
        self.links = []
        for link in self.app.links:
            if link not in self._closed:
                self.links.append(link)

    # What a method returns, None when it raised: whatever a link does, it ends nothing.
    def ask(self, link, name, *more):
        try:
            return getattr(link, name)(*more)
        except Exception:
            return None

    # --- the drivers

    # One wake: do all that is due, then say how many ms nothing is. Whatever our own code raises, it returns.
    # awake=False: it is not to stay awake for watchers
    def cycle(self, awake=True):
        try:
            for pause_ms in self.work():
                self._sleep_ms(pause_ms)
            return self.next_ms(True, awake)
        except Exception as error:
            return self.fault(error)

    # Stay awake. Returns when stop() was called.
    def run_forever(self):
        self.running = True
        while self.running:
            self.idle(self.cycle())

    # The same as a coroutine beside others.
    def run(self):
        from sealband import loop

        return loop.run(self)

    # Sleep deeply after each wake; `machine` restarts the board, so this returns only where it does not.
    def run_deep_sleep(self, machine):
        from sealband import sleep

        sleep.run(self, machine)

    def stop(self):
        self.running = False

    # wait, awake
    def idle(self, left_ms):
        while left_ms > 0:
            self.feed()
            self._sleep_ms(min(left_ms, _SLICE_MS))
            left_ms -= _SLICE_MS

    def feed(self):
        if self._watchdog:
            self._watchdog.feed()
        if self.ear:
            next(self.ear)

    # --- the work

    # What is due now: a generator of pauses in ms that ends when nothing is left to do.
    def work(self):
        gc.collect()
        tasks = []  # [uptime at which it goes on, generator]
        try:
            yield from self._steps(tasks)
        finally:
            self.sampler.held = False
            # a sensor whose task just went would be busy for ever
            for entry in tasks:
                entry[1].close()

    def _steps(self, tasks):
        session = None
        sampler = self.sampler
        next_ms = 1
        while True:
            self.feed()
            if next_ms > 0:  # else a task only goes on at once
                try:
                    self._keep_house()
                except Exception as error:
                    self.fault(error)
                due = session is None and self.session.due()
                if due and self.session.urgent:
                    sampler.give_way()
                sampler.held = due or session is not None
                self._sense(tasks)
                if due and not sampler.alone:
                    session = self.session.run()
                    tasks.append([0, session])
            next_ms = _LONGEST_MS
            for entry in list(tasks):
                left_ms = entry[0] - self.clock.uptime_ms()
                if left_ms <= 0:
                    left_ms = self._step(entry[1])
                    if left_ms is None:
                        tasks.remove(entry)
                        if entry[1] is session:
                            session = None
                            sampler.held = False
                        continue
                    entry[0] = left_ms + self.clock.uptime_ms()
                next_ms = min(next_ms, left_ms)
            if not tasks:
                return
            if next_ms > 0:
                # something else may be due before that
                yield min(next_ms, self.next_ms(session is None and not sampler.alone))

    # What is to be measured now, and what is watched.
    def _sense(self, tasks):
        if self.retiring:
            if self.watching:
                self.watching.close()
            return
        sampler = self.sampler
        sampler.low = self.low
        sampler.pace(2 if self.clock.uptime() < self.alarm_s else self.level)
        sampler.dated = self.clock.valid
        for task in sampler.due(self.clock.now()):
            tasks.append([0, task])
        if self.watching:
            self._watch_ms = self.clock.uptime_ms() + self.watching.work(self)

    # One step of a task: the pause that it asks for, None when it ended.
    def _step(self, task):
        try:
            return next(task)
        except StopIteration:
            pass
        except Exception as error:
            self.fault(error)

    # How often is sampled from now on. 0: the wearer rests; 1: moves; 2: an alarm, for ten minutes.
    def pace(self, level):
        if level > 1:
            self.alarm_s = self.clock.uptime() + _ALARM_S
        else:
            self.level = level

    # ms until something is due; sessions, awake: a session and watchers count too
    def next_ms(self, sessions=True, awake=True):
        if self.retiring:
            return self.retiring.next_ms(self)
        now_ms = self.clock.uptime_ms()
        now = self.clock.now()
        waits = [_LONGEST_MS]
        if not self.sampler.alone:
            waits.append(max(0, self.status_at - now) * 1000)
            if self.clock.valid and len(self.batch) and not self.sampler.pending(self.send_at):
                waits.append(max(0, self.send_at - now) * 1000)
        sample_s = self.sampler.wait(now)
        if sample_s is not None:
            # to the full second, so that a wake is not a moment too early
            waits.append(max(0, sample_s * 1000 - now_ms % 1000))
        if sessions and len(self.outbox):
            waits.append(self.session.wait_ms())
        if self.watching and awake:
            waits.append(self._watch_ms - now_ms)
        if self.restart_s is not None:
            waits.append(max(1, self.restart_s - now_ms // 1000) * 1000)
        return max(1, self.pause_until_ms - now_ms, min(waits))

    # Our own code raised: count it, and do not spin. When it does not end, the board starts anew. Returns the pause.
    def fault(self, error):
        gc.collect()
        self.faults += 1
        self.log.note("fault", self.faults)
        if self.app.echo:
            import sys

            sys.print_exception(error)
        now_ms = self.clock.uptime_ms()
        if now_ms - self.pause_until_ms > _FAULTS_APART_MS:
            self._faulty_since_ms = now_ms
        self.pause_until_ms = now_ms + _FAULT_PAUSE_MS
        if self._reset and now_ms - self._faulty_since_ms > _FAULTY_MAX_MS:
            self._reset()
        return _FAULT_PAUSE_MS

    # the next multiple of a period
    def after(self, now, period_s):
        return now // period_s * period_s + period_s

    # What does not take time: seal when it is time, report, begin an epoch.
    def _keep_house(self):
        if self.retiring:
            self.retiring.work(self)
            return
        now = self.clock.now()
        if self.clock.valid and now >= self._advance_at:
            self._advance_at = now + _ADVANCE_EVERY_S
            try:
                if self.chain.advance(now):
                    self.log.note("epoch", self.chain.epoch)
            except StoreError:
                self.log.note("store")
        # sealing takes heap too: all but events waits until nobody measures alone
        if not self.sampler.alone:
            self._seal_due(now)
        if self.trial:
            self.trial.work(self)
        elif self.restart_s is not None:
            late_s = self.clock.uptime() - self.restart_s
            if late_s >= _PATIENCE_S or (late_s >= 0 and self._quiet()):
                self.restart()

    def _seal_due(self, now):
        if now >= self.status_at:
            self.status_at = now + self.config.status_every_s
            self.report()
        # what was due before the boundary still belongs to this batch
        if now >= self.send_at and not self.sampler.pending(self.send_at):
            period_s = self.config.send_every_s << (_LOW_SHIFT if self.low else 0)
            self.send_at = self.after(now, period_s)
            if self.clock.valid and self.seal_batch(self.send_at - period_s):
                # devices with the same schedule do not speak at the same moment
                self.session.spread(min(30000, self.config.send_every_s * 50))
        elif self.clock.valid and len(self.batch) != self._looked:
            self._looked = len(self.batch)
            limit = self.batch.full(self.frame_max() - _OVERHEAD)
            if limit is not None and not self.sampler.pending(limit) and self.seal_batch(limit, 1):
                self.session.spread(min(30000, self.config.send_every_s * 50))
            elif len(self.batch) >= _BATCH_MAX:
                self.seal_batch(None)

    # Nothing but telemetry is left to be sent.
    def _quiet(self):
        for key in self.outbox.keys():
            if key[0] != TELEMETRY:
                return False
        return True

    # Start the board anew, for an update: what RAM holds is sealed before.
    def restart(self):
        self.sampler.give_way()  # its driver leaves no heap to seal in
        if self.clock.valid and not self.retiring:
            self.seal_batch(None)
        self.log.note("restart")
        if self._reset:
            self._reset()

    # --- sealing

    # the longest frame that every link carries
    def frame_max(self):
        shortest = 0
        for link in self.links or self.app.links:
            if not shortest or link.frame_max < shortest:
                shortest = link.frame_max
        return shortest or _FRAME_MAX

    # Seal the batch's samples before this time (None: all) into the outbox, so many frames at most; how many.
    def seal_batch(self, limit, most=_BATCH_MAX):
        count = 0
        while count < most:
            plaintext = self.batch.take(self.frame_max() - _OVERHEAD, limit)
            if plaintext is None or not self._queue(TELEMETRY, plaintext):
                return count
            self.batch.drop_taken()
            count += 1
        return count

    # Seal and queue. True: it is sealed, so it must never be sealed again, whatever became of it in the outbox.
    def _queue(self, priority, plaintext):
        if priority == EVENT:
            # for the heap that sealing takes; the session would ask for it in a moment
            try:
                self.sampler.give_way()
            except ValueError:
                pass  # it is the measurement itself that tells of this
        try:
            ctr, data = once("sealband.seal").seal(self.chain, plaintext)
        except ChainStopped:
            self.log.note("stopped", self.chain.epoch)
            return False
        except StoreError:
            self.log.note("store")
            return False
        except SealError:
            return False  # too long for any frame
        drops = self.outbox.drops
        self.outbox.put(priority, self.chain.epoch, ctr, data, self.clock.uptime())
        self.session.queued(priority)
        self.log.note("sealed", priority, len(data), ctr)
        if self.outbox.drops > drops:
            self.log.note("dropped", self.outbox.drops)
        return True

    # Seal and queue a message of these items.
    def say(self, priority, *items):
        plaintext = b""
        for item in items:
            plaintext += cbor.encode(item)
        return self._queue(priority, plaintext)

    # Something happened that must not wait: sealed at once, sent before all telemetry. False: it could not be sealed.
    def event(self, event, *values):
        try:
            return self.say(EVENT, messages.EVENT, self.clock.now(), event, *values)
        except Exception as error:
            self.fault(error)  # no memory, for instance: whoever watches goes on, and tries again
        return False

    # Queue a status.
    def report(self):
        return self._queue(REPLY, self.status(self.frame_max() - _OVERHEAD))

    # A status of at most so many bytes.
    def status(self, plaintext_max):
        return once("sealband.report").status(self, plaintext_max)

    def _sampled(self, record, t, value):
        if record == WEAR_STATE:
            if self.worn is not None and value != self.worn:
                self.event(_WORN if value else _TAKEN_OFF)
            self.worn = value
        elif record == BATTERY_VOLTAGE and self.board and self.board.BATTERY:
            if self.low or value < self.board.BATTERY["low_mv"]:
                once("sealband.cell").judge(self, value)
        if self.app.on_sample:
            self.app.on_sample(self, record, t, value)

    # A sensor failed for the first time, or so often that it is told.
    def _sensor_failed(self, index, told):
        self.log.note("sensor", index)
        if told:
            self.event(_SENSOR_FAILED, index)

    # --- what the server said

    # Count a downlink that was not followed.
    def refuse(self):
        self.refused += 1
        self.log.note("refused", self.refused)

    # The clock was put right by so many seconds. What is not sealed yet is stamped anew if it was stamped wrong.
    def clock_moved(self, seconds):
        now = self.clock.now()
        self.batch.shift(seconds)
        self.sampler.shift(seconds, now)
        self.send_at = self.after(now, self.config.send_every_s)
        self.status_at += seconds
        self._advance_at = 0
