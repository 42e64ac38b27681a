# The end of this device's identity: told by the server, said in a receipt, then everything that made it this device is
# erased, and the board is as one that was never enrolled. Loaded only when it is told, and by the starts after that.
#
# store.RETIRE, one byte: how many starts the receipt still has; 0: erasing has begun. It is written before the receipt
# is sealed, so a power cut never leaves a device that the server believes to be retired and that goes on.
from micropython import const

from sealband import store
from sealband.errors import StoreError

_STARTS_MAX = const(8)
_AWAKE_S = const(3600)  # so long a start waits for the receipt to be acknowledged
_PAUSE_MAX_MS = const(60000)


# Told to: from now on nothing is measured, and nothing is sent but the receipt that the caller queues.
def begin(node):
    node.store.save(store.RETIRE, bytes((_STARTS_MAX,)))
    try:
        node.outbox.erase()
    except StoreError:
        pass  # it is erased again in the end
    # what is being measured ends, and is kept no more than what was not sealed yet
    node.sampler.consent = b""
    node.batch.series.clear()
    node.retiring = Retiring(node)


# At a start: ends what power loss cut, and counts the starts; True: this board has no identity any more.
def resume(where):
    left = where.load(store.RETIRE)[0]
    if left > 1:
        where.save(store.RETIRE, bytes((left - 1,)))
        return False
    from sealband.outbox import Outbox

    erase(where, Outbox(where))
    return True


# Keys first. The board opens, and may be enrolled again, when nothing is left.
def erase(where, outbox):
    where.save(store.RETIRE, b"\0", scrub=True)
    for name in (store.CHAIN, store.TLS, store.CLAIM, store.IDENTITY, store.CONFIG, store.CONSENT, store.SERVICE):
        where.erase(name)
    outbox.erase()
    for name in (store.UNLOCK, store.TAMPER, store.CLOSED, store.REKEYED, store.COURIER, store.PIN):
        where.save_number(name, 0)
    where.erase(store.RETIRE)


class Retiring:
    def __init__(self, node):
        self._until_s = node.clock.uptime() + _AWAKE_S
        self._done = False

    # In place of the node's own housekeeping: erase when the receipt is gone or had its time.
    def work(self, node):
        if self._done or (len(node.outbox) and node.clock.uptime() < self._until_s):
            return
        node.chain.erase()
        erase(node.store, node.outbox)
        self._done = True
        node.stop()
        node.restart()

    # ms until there is something to do
    def next_ms(self, node):
        if self._done:
            return _PAUSE_MAX_MS
        return max(1, min(_PAUSE_MAX_MS, node.session.wait_ms())) if len(node.outbox) else 1
