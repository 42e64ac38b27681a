# Deep sleep: what a node sets aside in RTC memory, what wakes it, and how it goes on from there. Loaded only where it
# is used.
#
# Besides the timer, watchers' pins wake it. The chip takes one pin by ext0, at either level, and several by ext1: any
# of them high, or, where none is to be high, low: on the ESP32 that would be all of them at once, so there it is one.
from micropython import const

from sealband import once
from sealband.batch import Series
from sealband.crypto import cbor
from sealband.outbox import ENTRY_LEN
from sealwire import recordids

_VERSION = const(5)
_NODE_MAX = const(1650)  # leaves room for the chain's section, the ledger's and LoRa's
_DATED_MAX = const(128)  # frames whose time of queueing is kept
_SLEEP_MIN_MS = const(2000)  # a restart costs about as much
_STAY_MS = const(8000)  # awake after a pin: a button has to be held for three seconds
_STAY_MAX_MS = const(60000)
_EXT0 = const(2)  # machine.wake_reason()
_EXT1 = const(3)
_ITEMS_MAX = const(8192)
_KEPT_MAX = const(200)
_KEPT_ROOM = const(600)  # of all of them
_LOADER_MS = const(300)  # assumed: of the boot loader, before the ticks begin
_NONE = const(-0x80000000)  # as in batch.py


# Work, then sleep deeply; `machine` restarts the board, so this returns only where it does not.
def run(node, machine):
    began_ms = node.clock.uptime_ms()
    stay_ms = _woken(node, machine)
    while True:
        pause_ms = node.cycle(stay_ms > 0)
        awake_ms = node.clock.uptime_ms() - began_ms
        if awake_ms >= stay_ms:
            # something that takes longer may be under way, and must end some time
            stay_ms = awake_ms + _SLEEP_MIN_MS if awake_ms < _STAY_MAX_MS and _busy(node) else 0
            if not stay_ms and pause_ms >= _SLEEP_MIN_MS:
                break
        node.idle(min(pause_ms, _SLEEP_MIN_MS))
    lines = _arm(node)
    suspend(node)
    _wake_on(lines, machine)
    machine.deepsleep(pause_ms)


# --- what wakes it


# Who armed the pin that ended the sleep is told. So long the node is to stay awake.
def _woken(node, machine):
    reason = machine.wake_reason() if node.watching else 0
    if reason not in (_EXT0, _EXT1):
        return 0
    for i, watcher in enumerate(node.watching.watchers):
        if node.armed is None or node.armed[i] == reason:
            _ask(node, i, watcher, "woken")
    return _STAY_MS


# what a watcher answers; whatever it raises, it keeps nothing from sleeping
def _ask(node, i, watcher, name):
    try:
        return getattr(watcher, name)()
    except Exception:
        node.sampler.fail(len(node.sampler.sensors) + i)


def _busy(node):
    for i, watcher in enumerate(node.watching.watchers if node.watching else ()):
        if hasattr(watcher, "busy") and _ask(node, i, watcher, "busy"):
            return True
    return False


# Have the watchers set their parts to interrupt: the pins for ext0 and those for ext1, and the level of these.
def _arm(node):
    node.armed = None
    if not node.watching:
        return (), (), 0
    found = []  # (level, pin, index)
    for i, watcher in enumerate(node.watching.watchers):
        if not watcher.records or node.sampler.any(watcher.records):
            line = _ask(node, i, watcher, "arm")
            if line:
                found.append((line[1], line[0], i))
        else:
            node.watching.end(i)  # consent may have gone since the last look
    high = [line for line in found if line[0]]
    low = [line for line in found if not line[0]]
    several = high or low[1:]
    if not high and node.board.CHIP == "esp32":
        several = several[:1]
    node.armed = [0] * len(node.watching.watchers)
    for lines, reason in ((low[:1], _EXT0), (several, _EXT1)):
        for line in lines:
            node.armed[line[2]] = reason
    return [line[1] for line in low[:1]], [line[1] for line in several], 1 if high else 0


def _wake_on(lines, machine):
    one, several, level = lines
    if one or several:
        import esp32

        if one:
            esp32.wake_on_ext0(machine.Pin(one[0]), 0)
        if several:
            esp32.wake_on_ext1([machine.Pin(pin) for pin in several], level)


# --- what is set aside


# Set everything aside. What does not fit is sealed first; what can't be sealed, since the time is not known, is lost.
def suspend(node):
    once("sealband.charge").gather(node)
    data = _state(node)
    if len(data) > _NODE_MAX and node.clock.valid:
        node.seal_batch(None)
        data = _state(node)
    while len(data) > _NODE_MAX and len(node.batch):
        node.batch.lose()
        data = _state(node)
    node.store.rtc_put("node", data)
    node.chain.suspend()
    for link in node.links:
        link.suspend()
    node.store.rtc_flush()


def _state(node):
    return cbor.encode(
        [
            _VERSION,
            node.clock.state(),
            sampled(node.sampler),
            tried(node.session),
            _minutes(node.outbox.index),
            gathered(node.batch),
            [node.refused, node.faults, node.batch.lost],
            node.send_at,
            node.status_at,
            [node.restart_s, node.sampler.answered, bool(node.trial and node.trial.acknowledged)],
            [node.level, node.alarm_s, node.worn, node.low, node.armed, node.spent],
        ]
    )


def sampled(sampler):
    lasts = [every.last for every in sampler.sensors]
    kept = []
    left = _KEPT_ROOM
    for every in sampler.sensors:
        value, length = _plain(getattr(every.sensor, "kept", None), left)
        kept.append(value)
        left -= length
    battery_mv = sampler.newest.get(recordids.BATTERY_VOLTAGE)
    return [sampler.errors, lasts, sampler.bad, sampler.failing, kept, battery_mv]


# What a driver left for the one after it, if it is small, of a kind that can be kept, and there is so much room; and
# how much it takes.
def _plain(value, left):
    try:
        length = len(cbor.encode(value))
        if length <= min(_KEPT_MAX, left):
            return value, length
    except cbor.CborError:
        pass
    return None, 1


def resample(sampler, state):
    sampler.errors, lasts, sampler.bad, sampler.failing, kept, battery_mv = state
    if battery_mv is not None:
        sampler.newest[recordids.BATTERY_VOLTAGE] = battery_mv
    if len(lasts) == len(sampler.sensors):
        for i, every in enumerate(sampler.sensors):
            every.last = lasts[i]
            if kept[i] is not None:
                every.sensor.kept = kept[i]


def tried(session):
    backoffs = [[one.failures, one.tries, one.not_before_ms, one.event_ms] for one in session.backoffs]
    return [session.hold_ms, session.next_ms, session.attempted_ms, backoffs]


def retry(session, state):
    session.hold_ms, session.next_ms, session.attempted_ms, backoffs = state
    if len(backoffs) == len(session.backoffs):
        for i, one in enumerate(session.backoffs):
            one.failures, one.tries, one.not_before_ms, one.event_ms = backoffs[i]


def gathered(batch):
    state = []
    for series in batch.series:
        items = once("sealband.packing").item(series, len(series.values))
        items[1] = series.dt
        items.insert(2, series.t)
        state.append(items)
    return state


def regather(batch, state):
    for items in state:
        series = Series(items[0], items[1], items[2], items[3])
        last = items[3]
        for difference in items[4:]:
            if difference is None:
                series.values.append(_NONE)
            else:
                last += difference
                series.values.append(last)
        batch.series.append(series)


# When the newest frames in the outbox were queued.
def _minutes(index):
    ends = range(ENTRY_LEN, len(index) + 1, ENTRY_LEN)
    return b"".join([bytes(index[end - 2 : end]) for end in ends[-_DATED_MAX:]])


def _date(index, minutes):
    for at in range(0, min(len(minutes), len(index) // ENTRY_LEN * 2), 2):
        end = len(index) - len(minutes) // 2 * ENTRY_LEN + (at // 2 + 1) * ENTRY_LEN
        index[end - 2 : end] = minutes[at : at + 2]


# Go on from what suspend() set aside; False: another version of this code did. The store has checked the bytes.
def resume(node, data):
    state = cbor.decode(data, max_items=_ITEMS_MAX)
    if state[0] != _VERSION:
        return False
    _, clock, sampler, session, minutes, batch, counts, node.send_at, node.status_at, update, felt = state
    slept_ms = node.clock.restore(clock)
    node.sampler.start(node.clock.now())
    resample(node.sampler, sampler)
    retry(node.session, session)
    _date(node.outbox.index, minutes)
    regather(node.batch, batch)
    node.refused, node.faults, node.batch.lost = counts
    node.restart_s, node.sampler.answered, acknowledged = update
    node.level, node.alarm_s, node.worn, node.low, node.armed, node.spent = felt
    once("sealband.charge").gather(node, max(0, slept_ms - _LOADER_MS))
    if node.trial:
        node.trial.acknowledged = acknowledged
    return True
