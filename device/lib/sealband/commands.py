# What the server said: one authenticated plaintext in, its effect and a receipt out (orders.py). A message that is
# not exactly as the wire format has it is refused whole, and counted. Opens, seals and sends nothing itself.
from micropython import const

from sealband import once
from sealband.crypto import cbor
from sealband.errors import StoreError
from sealwire import messages

_ITEMS_MAX = const(64)
_DEPTH_MAX = const(3)
_MOVED_MIN_S = const(60)  # less is drift, and spread over the samples since the last sync
_UINT32_MAX = const(0xFFFFFFFF)
_CTR_MAX = const(65535)  # sealwire.frame


def _is_uint(value, most):
    return type(value) is int and 0 <= value <= most


# Do what a plaintext asks for; it came in this epoch, with this downlink counter. carried: by a courier, so it may be
# old, and whoever carried it chose when it came. link: that it came over. Returns what is to be said now: items of
# messages, none: a status. The caller seals them, when what this took of the heap is free again.
def act(node, epoch, ctr, plaintext, carried=False, link=None):
    try:
        items = cbor.decode_sequence(plaintext, _DEPTH_MAX, _ITEMS_MAX)
    except cbor.CborError:
        items = []
    if not items or not _is_uint(items[0], 255):
        node.refuse()
        return ()
    kind = items[0]
    if kind == messages.SYNC:
        # a sync that is refused gets no receipt: the receipt would be answered with a sync
        if not _sync(node, epoch, items, carried, link):
            node.refuse()
        return ()
    if carried:
        node.refuse()  # no server gives a courier one: it was caught on the air, and held back
        return ()
    if epoch != node.chain.epoch and node.chain.downlinks()[0][1].next and kind != messages.REKEY:
        # the server speaks in the present epoch already: this was held back, and may undo what it ordered since
        node.refuse()
        return ()
    says = []
    code = once("sealband.orders").follow(node, epoch, kind, items, says)
    node.log.note("command", kind, code)
    if code != messages.RESULT_DONE:
        node.refuse()
    if kind != messages.REPORT or code != messages.RESULT_DONE:
        says.append((messages.RECEIPT, ctr, code))
    return says


def _sync(node, epoch, items, carried, link):
    told = len(items) == 6
    margin_db = items.pop() if told else 0
    if len(items) != 5 or type(margin_db) is not int or not -64 <= margin_db < 64:
        return False
    _, t, newest, bitmap, release = items
    if not _is_uint(newest, _CTR_MAX) or not _is_uint(bitmap, _UINT32_MAX) or not _is_uint(release, _UINT32_MAX):
        return False
    if not _is_uint(t, _UINT32_MAX):
        return False
    if link and told:
        node.ask(link, "margin", margin_db)
    was_valid = node.clock.valid
    links = node.app.links
    if carried:
        moved = node.clock.past(t, not links)
    else:
        moved = node.clock.sync(t, epoch << 16 | newest, node.chain.epoch << 16 | node.chain._next)
    if moved is None:
        node.log.note("time")
    else:
        if not was_valid or abs(moved) >= _MOVED_MIN_S:
            node.clock_moved(moved)
        if moved:
            node.log.note("synced", moved)
    count = node.outbox.acknowledge(epoch, newest, bitmap)
    if count:
        node.log.note("acked", count)
        # what an older code had sealed says nothing of this one, and what was carried nothing of its links
        if node.trial and node.chain.is_new(epoch, newest) and not (carried and links):
            node.trial.acknowledged = True
    try:
        node.chain.acknowledged(node.clock.now() if node.clock.valid else None, epoch)
    except StoreError:
        node.log.note("store")
    if epoch == node.chain.epoch and epoch:
        # the server has this epoch's keys, so it has none older than the one before
        if node.outbox.expire(epoch - 1):
            node.log.note("dropped", node.outbox.drops)
    return True
