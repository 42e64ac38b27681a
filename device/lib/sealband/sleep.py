# Deep sleep: what a node sets aside in RTC memory, and how it goes on from there. Loaded only where it is used.
from micropython import const

from sealband.crypto import cbor
from sealband.outbox import ENTRY_LEN

_VERSION = const(3)
_NODE_MAX = const(1650)  # leaves room for the chain's section, the ledger's and LoRa's
_DATED_MAX = const(128)  # frames whose time of queueing is kept
_SLEEP_MIN_MS = const(2000)  # a restart costs about as much
_ITEMS_MAX = const(8192)


# Work, then sleep deeply; `machine` restarts the board, so this returns only where it does not.
def run(node, machine):
    while True:
        pause_ms = node.cycle()
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
            node.sampler.state(),
            node.session.state(),
            _minutes(node.outbox.index),
            node.batch.state(),
            [node.refused, node.faults, node.batch.lost],
            node.send_at,
            node.status_at,
            [node.restart_s, node.sampler.answered, bool(node.trial and node.trial.acknowledged)],
        ]
    )


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
    _, clock, sampler, session, minutes, batch, counts, node.send_at, node.status_at, update = state
    node.clock.restore(clock)
    node.sampler.start(node.clock.now())
    node.sampler.restore(sampler)
    node.session.restore(session)
    _date(node.outbox.index, minutes)
    node.batch.restore(batch)
    node.refused, node.faults, node.batch.lost = counts
    node.restart_s, node.sampler.answered, acknowledged = update
    if node.trial:
        node.trial.acknowledged = acknowledged
    return True
