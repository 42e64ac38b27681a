# A device that is told to retire says so, and then keeps nothing of what it was, whenever the power fails.
from device.fakes import World, sweep, unmount
from device.wearable import EUI, ROOT, T, Wearable

from sealband import retire, store
from sealband.chain import Chain
from sealband.crypto import cbor
from sealband.outbox import REPLY, Outbox
from sealband.store import Store
from sealwire import messages

TIMEOUT_S = 300

RECORDS = (store.CHAIN, store.TLS, store.CLAIM, store.IDENTITY, store.CONFIG, store.CONSENT, store.SERVICE)


def enrolled(**settings):
    w = Wearable(send_every_s=60, **settings)
    w.resets = []
    w.node_settings["reset"] = lambda: w.resets.append(w.time.ms)
    w.start()
    provision(w.store)
    return w


def provision(where):
    for name in RECORDS[1:]:
        where.save(name, b"a secret of " + name.encode())
    where.save_number(store.CLOSED, 1)


def tell(w, *items):
    return w.node.session._receive(w.server.message(w.node.chain.epoch, messages.RETIRE, *items))


def receipts(w):
    return [items[2] for items in w.server.messages() if items[0] == messages.RECEIPT]


def is_blank(where):
    assert [name for name in RECORDS + (store.RETIRE, store.OUTBOX) if where.load(name) is not None] == []
    assert not where.load_number(store.CLOSED)


def test_retired_device_says_so_and_keeps_nothing():
    w = enrolled()
    w.run(130)
    w.link.deaf = True
    w.run(70)
    assert w.queue()
    w.link.deaf = False
    assert tell(w)
    assert [key[0] for key in w.queue()] == [REPLY]
    frames = len(w.server.stored)
    w.run(120)
    assert receipts(w) == [messages.RESULT_DONE]
    assert len(w.server.stored) == frames + 1
    assert w.resets and not w.node.running
    is_blank(w.store)
    assert w.files() == []
    dump = b"".join(value for value in w.world.nvs.dump().values() if isinstance(value, bytes))
    assert ROOT not in dump and b"a secret of " not in dump
    # and it may be enrolled again
    Chain.create(Store(w.world.nvs), EUI, bytes(32), T)


def test_a_receipt_that_nobody_acknowledges_has_its_time():
    w = enrolled()
    w.run(130)
    w.link.mute = True
    assert tell(w)
    w.run(3000)
    assert receipts(w) == [messages.RESULT_DONE]
    assert not w.resets and w.store.load(store.CHAIN)
    w.run(900)
    assert w.resets
    is_blank(w.store)


def test_a_device_that_starts_anew_while_it_retires_still_says_so_and_then_ends():
    w = enrolled()
    w.run(130)
    w.link.deaf = True
    assert tell(w)
    starts = 0
    while not retire.resume(Store(w.world.nvs)):
        starts += 1
        w.power_cut()
        w.node.retiring = retire.Retiring(w.node)
        w.link.deaf = starts < 3
        w.run(120)
        if w.resets:
            break
    assert starts == 3 and receipts(w) == [messages.RESULT_DONE]
    is_blank(Store(w.world.nvs))


def test_a_device_that_nobody_hears_ends_after_so_many_starts():
    w = enrolled()
    assert tell(w)
    starts = 0
    while not retire.resume(Store(w.world.nvs)):
        starts += 1
    assert starts == 7
    is_blank(Store(w.world.nvs))


def test_a_second_command_gets_its_own_receipt():
    w = enrolled()
    w.run(130)
    w.link.deaf = True
    assert tell(w) and tell(w)
    assert len(w.queue()) == 1
    w.link.deaf = False
    w.run(120)
    first, second = [cbor.decode_sequence(w.server.stored[key])[1:] for key in sorted(w.server.stored)][-1:], 1
    assert first[0][1] == messages.RESULT_DONE and first[0][0] >= second
    is_blank(w.store)


def test_retire_with_surplus_items_is_refused():
    w = enrolled()
    w.run(130)
    assert tell(w, 1)
    w.run(120)
    assert receipts(w) == [messages.RESULT_MALFORMED]
    assert w.store.load(store.CHAIN) is not None and w.store.load(store.RETIRE) is None


def test_a_retirement_that_has_begun_is_ended_after_any_power_cut():
    world = World(flash=True)
    world.mount()
    where = Store(world.nvs)
    Chain.create(where, EUI, ROOT, T)
    provision(where)
    where.save(store.RETIRE, b"\1")
    Outbox(where, "/ram/outbox").put(REPLY, 0, 0, bytes(40))
    unmount()

    def run(board):
        board.mount()
        where = Store(board.nvs)
        if where.load(store.RETIRE) is not None:
            retire.erase(where, Outbox(where, "/ram/outbox"))
        unmount()

    def check(board):
        where = Store(board.nvs)
        if where.load(store.RETIRE) is None:
            is_blank(where)  # it is not forgotten before all is done

    cuts = sweep(world, run, check)
    print("retire: %d cuts" % cuts)
    assert cuts > 60


def test_what_is_being_measured_and_what_was_not_sealed_end_with_the_identity():
    w = Wearable(send_every_s=600)
    w.run(700)
    w.time.ms += 10000
    pauses = w.node.work()
    while not w.heart.running:
        w.time.sleep_ms(next(pauses))
    reads = w.heart.reads
    assert len(w.node.batch)
    retire.begin(w.node)
    for pause_ms in pauses:
        w.time.sleep_ms(pause_ms)
    assert w.heart.reads == reads and not w.heart.running
    assert not len(w.node.batch) and w.node.faults == 0
