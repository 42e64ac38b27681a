# Deep sleep: what a node sets aside in RTC memory, and how it goes on from there. Loaded only where it is used.
from micropython import const

from sealband.batch import Series
from sealband.crypto import cbor
from sealband.outbox import ENTRY_LEN

_VERSION = const(4)
_NODE_MAX = const(1650)  # leaves room for the chain's section, the ledger's and LoRa's
_DATED_MAX = const(128)  # frames whose time of queueing is kept
_SLEEP_MIN_MS = const(2000)  # a restart costs about as much
_ITEMS_MAX = const(8192)
_NONE = const(-0x80000000)  # as in batch.py


# Work, then sleep deeply; `machine` restarts the board, so this returns only where it does not.
def run(node, machine):
    while True:
        pause_ms = node.cycle(False)
        if pause_ms >= _SLEEP_MIN_MS:
            break
        node.idle(pause_ms)
    suspend(node)
    machine.deepsleep(pause_ms)


# Set everything aside. What does not fit is sealed first; what can't be sealed, since the time is not known, is lost.
def suspend(node):
    data = _state(node)
    if len(data) > _NODE_MAX and node.clock.valid:
        node.seal_batch(None)
        data = _state(node)
    while len(data) > _NODE_MAX:
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
            [node.level, node.alarm_s, node.worn, node.low],
        ]
    )


def sampled(sampler):
    return [sampler.errors, [every.last for every in sampler.sensors], sampler.bad, sampler.failing]


def resample(sampler, state):
    sampler.errors, lasts, sampler.bad, sampler.failing = state
    if len(lasts) == len(sampler.sensors):
        for i, every in enumerate(sampler.sensors):
            every.last = lasts[i]


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
        items = series.item(len(series.values))
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
    node.clock.restore(clock)
    node.sampler.start(node.clock.now())
    resample(node.sampler, sampler)
    retry(node.session, session)
    _date(node.outbox.index, minutes)
    regather(node.batch, batch)
    node.refused, node.faults, node.batch.lost = counts
    node.restart_s, node.sampler.answered, acknowledged = update
    node.level, node.alarm_s, node.worn, node.low = felt
    if node.trial:
        node.trial.acknowledged = acknowledged
    return True
