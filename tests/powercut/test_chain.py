# The power fails at every NVS operation of the chain, each write torn in each way, and again while it recovers.
#
# What must hold: no (epoch, counter) leaves the board twice; a chain that was created is always there, and is one that
# the server can follow; a downlink is acted on at most once; a key that was given up does not come back.
# What has left the board (and been acted on) is noted in World.air, which no cut takes back.
import json

from device.fakes import TEARS, World, sweep

from sealband import keys, seal
from sealband.chain import Chain
from sealband.crypto import ccm
from sealband.errors import AlreadyEnrolled, NotEnrolled, SealError
from sealband.store import Store
from sealwire import frame

TIMEOUT_S = 300

with open("tests/vectors/wire-v1.json") as _file:
    V = json.load(_file)
EUI = bytes.fromhex(V["eui"])
ROOT = bytes.fromhex(V["ck0"])
R = bytes.fromhex(V["rekey"]["r"])
DAY_S = 86400


def ratcheted(ck, times):
    for _ in range(times):
        ck = keys.ratchet(ck)
    return ck


def downlink(ck, epoch, counter, plaintext):
    _, kd, _, iv, did = keys.epoch_keys(ck, EUI)
    head = frame.header(frame.KIND_DATA, epoch, did, counter)
    aad = frame.associated_data(head[0], EUI, epoch, counter)
    return head + ccm.encrypt(kd, frame.nonce(iv, counter), plaintext, aad, 8)


# Two downlinks in each epoch that the tests reach, made once.
CK = [ratcheted(ROOT, epoch) for epoch in range(8)]
DOWNLINKS = [[downlink(ck, epoch, counter, b"do it") for counter in (0, 3)] for epoch, ck in enumerate(CK)]


# What the chain must be able to say of itself after any cut.
def never_twice(board):
    sent = [entry for entry in board.air if entry[0] == "up"]
    assert len(set(sent)) == len(sent), "counter used twice: %s" % sent
    acted = [entry for entry in board.air if entry[0] == "down"]
    assert len(set(acted)) == len(acted), "downlink acted on twice: %s" % acted


def checker(make_chain=Chain, make_store=Store, lost_is_fine=False, chains=None):
    def check(board):
        never_twice(board)
        try:
            chain = make_chain.load(make_store(board.nvs))
        except NotEnrolled:
            assert lost_is_fine and not board.air, "the chain is lost"
            return
        # one that the server can compute
        assert chain._ck in (chains or CK[chain.epoch : chain.epoch + 1])
        # a key of an epoch that is over is nowhere
        kept = b"|".join(value for value in board.nvs.dump().values() if isinstance(value, bytes))
        for ck in CK[: chain.epoch]:
            assert ck not in kept, "an old key is still there"
        # and what the checked board sends next was not sent before
        newest = max([entry[1] for entry in board.air if entry[0] == "up"] or [0])
        assert chain.epoch >= newest, "fell back to an old epoch"
        for _ in range(3):
            counter = chain.take_counter()
            assert ("up", chain.epoch, counter) not in board.air, "would use a counter twice"
            board.send(("up", chain.epoch, counter))

    return check


# One wake after another: load what there is, then everything that writes.
def life(make_chain=Chain, make_store=Store, days=2, frames=3):
    def run(board):
        chain = make_chain.load(make_store(board.nvs))
        for _ in range(days):
            for _ in range(frames):
                counter = chain.take_counter()
                board.send(("up", chain.epoch, counter))
            for sealed in DOWNLINKS[chain.epoch]:
                try:
                    epoch, counter, _ = seal.open_downlink(chain, sealed)
                    board.send(("down", epoch, counter))
                except SealError:
                    pass
            chain.acknowledged(0, chain.epoch)
            chain.advance((chain.epoch + 1) * DAY_S)

    return run


def enrolled(make_store=Store):
    world = World()
    Chain.create(make_store(world.nvs), EUI, ROOT, 0)
    return world


def caught(sweeping):
    try:
        sweeping()
    except AssertionError as error:
        return str(error)
    raise AssertionError("the sweep did not see what is wrong")


def test_no_counter_is_used_twice_and_no_chain_lost_at_any_cut():
    world = enrolled()
    cuts = sweep(world, life(), checker())
    print("chain, two days: %d cuts" % cuts)
    assert cuts > 40


def test_no_counter_is_used_twice_at_a_cut_while_recovering_from_a_cut():
    cuts = sweep(enrolled(), life(days=1, frames=2), checker(), depth=2)
    print("chain, cut again: %d cuts" % cuts)
    assert cuts > 400


def test_counters_that_run_out_alone_go_on_after_any_cut():
    world = enrolled()
    chain = Chain.load(Store(world.nvs))
    chain._next = 65530
    chain._commit(_high=65530)

    def run(board):
        chain = Chain.load(Store(board.nvs))
        for _ in range(10):
            counter = chain.take_counter()
            board.send(("up", chain.epoch, counter))

    cuts = sweep(world, run, checker(), depth=2)
    print("chain, counters run out: %d cuts" % cuts)
    assert cuts > 100


def test_creation_is_whole_or_not_there_at_any_cut():
    def run(board):
        chain = Chain.create(Store(board.nvs), EUI, ROOT, 0)
        board.send(("up", 0, chain.take_counter()))

    def again(board):
        try:
            run(board)
        except AlreadyEnrolled:
            chain = Chain.load(Store(board.nvs))
            board.send(("up", chain.epoch, chain.take_counter()))

    cuts = sweep(World(), again, checker(lost_is_fine=True), depth=2)
    print("chain, creation: %d cuts" % cuts)
    assert cuts > 30


def test_rekey_leaves_the_old_chain_or_the_new_one_at_any_cut():
    def run(board):
        chain = Chain.load(Store(board.nvs))
        if chain.epoch == 0:
            chain.rekey(R, 5, 0)
        board.send(("up", chain.epoch, chain.take_counter()))

    cuts = sweep(enrolled(), run, checker(chains=(ROOT, keys.rekey(ROOT, R))), depth=2)
    print("chain, rekey: %d cuts" % cuts)
    assert cuts > 100


def test_deep_sleep_between_frames_uses_no_counter_twice_at_any_cut():
    def run(board):
        chain = Chain.load(Store(board.nvs, board.rtc, False))
        for _ in range(3):
            board.send(("up", chain.epoch, chain.take_counter()))
            chain.suspend()
            chain._store.rtc_flush()
            chain = Chain.load(Store(board.nvs, board.rtc, True))

    cuts = sweep(enrolled(), run, checker(), depth=2)
    print("chain, deep sleep: %d cuts" % cuts)
    assert cuts > 100


def test_rtc_memory_from_any_earlier_sleep_uses_no_counter_twice_at_any_cut():
    # worse than a power cut: RTC memory comes back as it was at any sleep before, under the cause "deep sleep"
    images = []

    def run(board):
        chain = Chain.load(Store(board.nvs, board.rtc, True))
        for _ in range(2):
            board.send(("up", chain.epoch, chain.take_counter()))
            chain.suspend()
            chain._store.rtc_flush()
            images.append(board.rtc.memory())
            chain = Chain.load(Store(board.nvs, board.rtc, True))

    def check(board):
        never_twice(board)
        for image in set(images):
            other = board.copy()
            other.rtc.memory(image)
            chain = Chain.load(Store(other.nvs, other.rtc, True))
            other.send(("up", chain.epoch, chain.take_counter()))
            never_twice(other)

    cuts = sweep(enrolled(), run, check, depth=2)
    print("chain, RTC memory rolled back: %d cuts, %d images" % (cuts, len(set(images))))
    assert cuts > 100 and len(set(images)) >= 4


def test_retired_chain_is_gone_or_as_it_was_at_any_cut():
    world = enrolled()
    chain = Chain.load(Store(world.nvs))
    for _ in range(257):
        world.send(("up", chain.epoch, chain.take_counter()))

    def check(board):
        try:
            chain = Chain.load(Store(board.nvs))
        except NotEnrolled:
            return
        assert chain.take_counter() >= 512

    def run(board):
        try:
            Chain.load(Store(board.nvs)).erase()
        except NotEnrolled:
            pass

    cuts = sweep(world, run, check, depth=2)
    print("chain, retired: %d cuts" % cuts)
    assert cuts > 20


# --- the sweep must see what is wrong: each of these is the chain with one safeguard taken out


class InPlace(Store):
    # one half only
    def save(self, name, data, scrub=False):
        self._write_half(name, "a", self._halves(name)[0][0] + 1, 0, data)


def test_sweep_catches_a_store_that_overwrites_in_place():
    message = caught(lambda: sweep(enrolled(InPlace), life(make_store=InPlace), checker(make_store=InPlace)))
    assert "lost" in message


class NoScrub(Store):
    def save(self, name, data, scrub=False):
        super().save(name, data)


def test_sweep_catches_a_store_that_leaves_the_old_key():
    message = caught(lambda: sweep(enrolled(NoScrub), life(make_store=NoScrub), checker(make_store=NoScrub)))
    assert "old key" in message


class NewerFirst(Store):
    def erase(self, name):
        newest, other = self._halves(name)
        self._remove(name + newest[1])
        self._remove(name + other[1])


def test_sweep_catches_an_erase_that_brings_back_an_old_mark():
    world = enrolled()
    chain = Chain.load(Store(world.nvs))
    for _ in range(257):
        chain.take_counter()

    def check(board):
        # the older half alone: the store can't know, the chain steps over it. Without that it would be used again.
        half = NewerFirst(board.nvs).load("chain")
        assert half is None or Chain.load(Store(board.nvs))._high >= 512
        if half is not None:
            assert int.from_bytes(half[45:49], "big") >= 512, "an old mark is back"

    message = caught(lambda: sweep(world, lambda board: NewerFirst(board.nvs).erase("chain"), check))
    assert "old mark" in message


class LateMark(Chain):
    # raises the high-water mark after the counter was given out
    def take_counter(self):
        counter = self._next
        self._next += 1
        if counter >= self._high:
            self._unwritten = min(counter + 256, 65536)
        return counter

    def sent(self):
        if self._next > self._high:
            self._commit(_high=self._unwritten)


def test_sweep_catches_a_mark_that_is_written_after_sending():
    def run(board):
        chain = LateMark.load(Store(board.nvs))
        for _ in range(2):
            board.send(("up", chain.epoch, chain.take_counter()))
            chain.sent()

    message = caught(lambda: sweep(enrolled(), run, checker(), depth=2))
    assert "twice" in message


class Trusting(Chain):
    # believes RTC memory without asking whether it is that of the last session
    def _resume(self, section):
        self._store.save_number("mark", int.from_bytes(section[12:16], "big"))
        super()._resume(section)


def test_sweep_catches_a_chain_that_believes_any_rtc_memory():
    images = []

    def run(board):
        chain = Trusting.load(Store(board.nvs, board.rtc, True))
        for _ in range(2):
            board.send(("up", chain.epoch, chain.take_counter()))
            chain.suspend()
            chain._store.rtc_flush()
            images.append(board.rtc.memory())
            chain = Trusting.load(Store(board.nvs, board.rtc, True))

    def check(board):
        for image in images:
            other = board.copy()
            other.rtc.memory(image)
            chain = Trusting.load(Store(other.nvs, other.rtc, True))
            other.send(("up", chain.epoch, chain.take_counter()))
            never_twice(other)

    message = caught(lambda: sweep(enrolled(), run, check, depth=2))
    assert "twice" in message


class LateDownlink(Chain):
    # lets the caller act first and writes the counter down afterwards
    def downlink_accepted(self, downlink, counter):
        downlink.next = counter + 1

    def acknowledged(self, now_s, epoch):
        self._commit()
        super().acknowledged(now_s, epoch)


def test_sweep_catches_a_downlink_counter_that_is_written_after_acting():
    run = life(make_chain=LateDownlink, days=1)
    message = caught(lambda: sweep(enrolled(), run, checker(), depth=2))
    assert "acted on twice" in message and len(TEARS) == 3
