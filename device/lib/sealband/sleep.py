# Deep sleep: what a node sets aside in RTC memory, and how it goes on from there. Loaded only where it is used.
from micropython import const

from sealband.crypto import cbor

_VERSION = const(2)
_NODE_MAX = const(1750)  # leaves room for the chain's section and the ledger's
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
            node.session.backoff.state(),
            node.batch.state(),
            [node.refused, node.faults, node.batch.lost],
            node.send_at,
            node.status_at,
            [node.restart_s, node.sampler.answered, bool(node.trial and node.trial.acknowledged)],
        ]
    )


# Go on from what suspend() set aside; False: another version of this code did. The store has checked the bytes.
def resume(node, data):
    state = cbor.decode(data, max_items=_ITEMS_MAX)
    if state[0] != _VERSION:
        return False
    _, clock, sampler, backoff, batch, counts, node.send_at, node.status_at, update = state
    node.clock.restore(clock)
    node.sampler.start(node.clock.now())
    node.sampler.restore(sampler)
    node.session.backoff.restore(backoff)
    node.batch.restore(batch)
    node.refused, node.faults, node.batch.lost = counts
    node.restart_s, node.sampler.answered, acknowledged = update
    if node.trial:
        node.trial.acknowledged = acknowledged
    return True
