# Attacks on the device through frames and resets, by name. The downlinks are sealed here as a server seals them.
import json

from device.fakes import TEARS, FakeNvs, FakeRtc, World, sweep

from sealband import keys, seal
from sealband.chain import Chain
from sealband.crypto import ccm
from sealband.errors import NotEnrolled, SealError
from sealband.store import Store
from sealwire import frame
from sealwire.keys import FAILED_OPENINGS_MAX

TIMEOUT_S = 300

with open("tests/vectors/wire-v1.json") as _file:
    V = json.load(_file)
EUI = bytes.fromhex(V["eui"])
OTHER = b"\x70\xb3\xd5\xff\xfe\x00\x56\x78"
ROOT = bytes.fromhex(V["ck0"])
DAY_S = 86400


def new_chain(nvs=None, eui=EUI, root=ROOT):
    return Chain.create(Store(nvs or FakeNvs()), eui, root, 0)


def next_epoch(chain):
    chain.acknowledged(0, chain.epoch)
    assert chain.advance((chain.epoch + 1) * DAY_S)


def downlink(epoch, counter, plaintext, eui=EUI, tag_len=8, kind=frame.KIND_DATA):
    ck = ROOT
    for _ in range(epoch):
        ck = keys.ratchet(ck)
    _, kd, _, iv, did = keys.epoch_keys(ck, eui)
    head = frame.header(kind, epoch, did, counter)
    aad = frame.associated_data(head[0], eui, epoch, counter)
    return head + ccm.encrypt(kd, frame.nonce(iv, counter), plaintext, aad, tag_len)


def reason(chain, data):
    try:
        seal.open_downlink(chain, data)
    except SealError as error:
        return error.reason
    raise AssertionError("accepted")


def test_replayed_frame_is_refused():
    chain = new_chain()
    first, second = downlink(0, 0, b"first"), downlink(0, 1, b"second")
    assert seal.open_downlink(chain, first) == (0, 0, b"first")
    assert seal.open_downlink(chain, second) == (0, 1, b"second")
    for data in (first, second):
        assert reason(chain, data) == seal.REPLAY


def test_frame_older_than_the_newest_accepted_is_refused():
    chain = new_chain()
    seal.open_downlink(chain, downlink(0, 9, b"newest"))
    for counter in range(10):
        assert reason(chain, downlink(0, counter, b"held back")) == seal.REPLAY
    assert seal.open_downlink(chain, downlink(0, 65535, b"last"))[1] == 65535
    assert reason(chain, downlink(0, 65535, b"last")) == seal.REPLAY


def test_replayed_frame_is_refused_after_a_reset_and_in_the_next_epoch():
    nvs = FakeNvs()
    chain = new_chain(nvs)
    data = downlink(0, 5, b"once")
    seal.open_downlink(chain, data)
    chain = Chain.load(Store(nvs))
    assert reason(chain, data) == seal.REPLAY
    next_epoch(chain)
    assert reason(chain, data) == seal.REPLAY
    assert reason(Chain.load(Store(nvs)), data) == seal.REPLAY
    next_epoch(chain)
    assert reason(chain, data) == seal.NOT_OURS


def test_replayed_frame_is_refused_after_a_power_cut_at_any_operation():
    world = World()
    new_chain(world.nvs)
    data = downlink(0, 5, b"once")

    def run(board):
        try:
            seal.open_downlink(Chain.load(Store(board.nvs)), data)
            board.send("acted")
        except SealError:
            pass

    def check(board):
        run(board)
        run(board)
        assert board.air.count("acted") <= 1

    cuts = sweep(world, run, check, depth=2)
    print("replayed downlink: %d cuts" % cuts)
    assert cuts >= 6


def test_reflected_frame_is_refused():
    # an uplink of the board comes back to it as if the server had sent it
    chain = new_chain()
    for _ in range(3):
        for make in (seal.seal, seal.hello):
            _, uplink = make(chain, b"my own reading")
            assert reason(chain, uplink) in (seal.BAD_TAG, seal.NOT_OURS)
    assert seal.open_downlink(chain, downlink(0, 0, b"genuine"))[2] == b"genuine"


def test_frame_of_another_device_is_refused():
    chain = new_chain()
    foreign = downlink(0, 0, b"for somebody else", eui=OTHER)
    assert reason(chain, foreign) == seal.NOT_OURS
    # the same under our pseudonym
    assert reason(chain, foreign[:1] + chain.keys()[4] + foreign[3:]) == seal.BAD_TAG


def test_frame_for_the_same_eui_under_another_root_is_refused():
    chain = new_chain(root=b"\x01" * 32)
    data = downlink(0, 0, b"of the chain before")
    assert reason(chain, data) == seal.NOT_OURS
    assert reason(chain, data[:1] + chain.keys()[4] + data[3:]) == seal.BAD_TAG


def test_frame_of_an_old_epoch_is_refused():
    chain = new_chain()
    never_sent = [downlink(epoch, 7, b"held back") for epoch in range(3)]
    for _ in range(2):
        next_epoch(chain)
    assert reason(chain, never_sent[0]) == seal.NOT_OURS
    # of the epoch before, acknowledgements may still come; the caller sees which it is
    assert seal.open_downlink(chain, never_sent[1])[0] == 1
    assert seal.open_downlink(chain, never_sent[2])[0] == 2


def test_frame_eight_epochs_old_under_todays_pseudonym_is_refused():
    chain = new_chain()
    data = downlink(0, 7, b"held back")
    for _ in range(8):
        next_epoch(chain)
    assert data[0] & 7 == chain.epoch & 7
    assert reason(chain, data) == seal.NOT_OURS
    assert reason(chain, data[:1] + chain.keys()[4] + data[3:]) == seal.BAD_TAG


def test_rekey_command_of_an_old_epoch_moves_nothing():
    chain = new_chain()
    next_epoch(chain)
    epoch, _, r = seal.open_downlink(chain, downlink(0, 3, bytes(16)))
    before = chain.keys()
    assert not chain.rekey(r, 5, epoch)
    assert chain.epoch == 1 and chain.keys() == before


def test_truncated_tag_is_refused():
    chain = new_chain()
    data = downlink(0, 0, b"genuine")
    for length in range(len(data)):
        assert reason(chain, data[:length]) in (seal.MALFORMED, seal.BAD_TAG)
    for tag_len in (4, 6, 10, 12, 14, 16):
        assert reason(chain, downlink(0, 0, b"genuine", tag_len=tag_len)) == seal.BAD_TAG
    assert seal.open_downlink(chain, data)[2] == b"genuine"


def test_lengthened_frame_is_refused():
    chain = new_chain()
    data = downlink(0, 0, b"genuine")
    for more in (b"\x00", b"\xff", bytes(8), bytes(255)):
        assert reason(chain, data + more) in (seal.MALFORMED, seal.BAD_TAG)


def test_frame_with_any_bit_flipped_is_refused():
    chain = new_chain()
    data = downlink(0, 300, b"genuine")
    flipped = 0
    for bit in range(len(data) * 8):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        # first byte: three bits of the epoch, two of the kind (one of the flips makes a hello), three of the type
        expected = [seal.NOT_OURS] * 3 + [seal.NOT_OURS, seal.MALFORMED] + [seal.MALFORMED] * 3
        expected += [seal.NOT_OURS] * 16  # the pseudonym
        assert reason(chain, bytes(bad)) == (expected[bit] if bit < 24 else seal.BAD_TAG)
        flipped += 1
    assert flipped == 160
    assert seal.open_downlink(chain, data)[2] == b"genuine"


def test_ciphertext_under_the_counter_of_another_frame_is_refused():
    chain = new_chain()
    one, two = downlink(0, 1, b"one"), downlink(0, 2, b"two")
    assert reason(chain, one[:5] + two[5:]) == seal.BAD_TAG
    assert reason(chain, two[:5] + one[5:]) == seal.BAD_TAG


def test_hello_and_fragment_sent_to_a_device_are_refused():
    chain = new_chain()
    _, hello = seal.hello(chain, b"x")
    assert reason(chain, hello) == seal.NOT_OURS
    assert reason(chain, downlink(0, 0, b"x", kind=frame.KIND_FRAGMENT)) == seal.NOT_OURS


def test_noise_is_refused():
    chain = new_chain()
    for length in range(0, 300, 7):
        for first in (0x00, 0x40, 0xE0, 0xE8, 0xF0, 0xF8, 0xFF):
            data = (bytes((first,)) + bytes(range(256)) * 2)[:length]
            assert reason(chain, data) in (seal.MALFORMED, seal.NOT_OURS)


def test_refused_frame_changes_nothing_that_is_kept():
    nvs = FakeNvs()
    chain = new_chain(nvs)
    before = nvs.dump()
    data = downlink(0, 9, b"genuine")
    for bit in range(len(data) * 8):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        reason(chain, bytes(bad))
    assert nvs.dump() == before


def test_forger_who_tries_too_often_is_not_heard_any_more_and_the_device_goes_on():
    nvs = FakeNvs()
    chain = new_chain(nvs)
    operations = nvs._power.operations
    present = chain.downlinks()[0][1]
    for _ in range(FAILED_OPENINGS_MAX):
        chain.downlink_failed(present)
    # wears the flash out by no more than one write in 256
    assert nvs._power.operations - operations <= 2 * (FAILED_OPENINGS_MAX // 256)
    genuine = downlink(0, 0, b"genuine")
    assert reason(chain, genuine) == seal.WORN_OUT
    chain = Chain.load(Store(nvs))
    assert reason(chain, genuine) == seal.WORN_OUT
    # a forger must not be able to hold the device in this epoch for ever
    assert chain.advance(None) and chain.epoch == 1
    assert seal.open_downlink(chain, downlink(1, 0, b"heard again"))[2] == b"heard again"
    assert reason(chain, genuine) == seal.WORN_OUT


def test_bad_frames_are_counted_towards_the_limit():
    chain = new_chain()
    bad = downlink(0, 0, b"x")[:-1] + b"\x00"
    for _ in range(5):
        assert reason(chain, bad) == seal.BAD_TAG
    assert chain.downlinks()[0][1].failures == 5


# --- resets


# (epoch mod 8, counter) of everything that was on the air: with the epoch's key, each is one nonce.
def no_nonce_twice(board):
    seen = [(sealed[0] & 7, sealed[3:5]) for sealed in board.air]
    assert len(set(seen)) == len(seen), "nonce used twice"


def test_nonce_reuse_after_power_cut():
    world = World()
    new_chain(world.nvs)

    def run(board):
        chain = Chain.load(Store(board.nvs))
        for number in range(2):
            board.send(seal.seal(chain, b"reading %d" % number)[1])
        next_epoch(chain)
        board.send(seal.seal(chain, b"reading")[1])

    def check(board):
        chain = Chain.load(Store(board.nvs))
        for _ in range(2):
            board.send(seal.seal(chain, b"after the cut")[1])
        no_nonce_twice(board)

    cuts = sweep(world, run, check, TEARS, depth=2)
    print("nonce reuse: %d cuts" % cuts)
    assert cuts > 400


def asleep(chain, store, rtc):
    chain.suspend()
    store.rtc_flush()
    return rtc.memory()


def test_rolled_back_rtc_memory_is_not_believed():
    # RTC memory of any sleep before the last one, put back under the cause "deep sleep"
    nvs, rtc = FakeNvs(), FakeRtc()
    new_chain(nvs)
    used, images = [], []
    for _ in range(8):
        store = Store(nvs, rtc, True)
        chain = Chain.load(store)
        used += [chain.take_counter() for _ in range(3)]
        images.append(asleep(chain, store, rtc))
    assert used == list(range(24))
    for image in images[:-1]:
        chain = Chain.load(Store(nvs, FakeRtc(image), True))
        assert chain.take_counter() not in used


def test_rtc_memory_used_a_second_time_is_not_believed():
    nvs, rtc = FakeNvs(), FakeRtc()
    new_chain(nvs)
    store = Store(nvs, rtc, True)
    chain = Chain.load(store)
    chain.take_counter()
    image = asleep(chain, store, rtc)
    used = [0, Chain.load(Store(nvs, FakeRtc(image), True)).take_counter()]
    assert used == [0, 1]
    assert Chain.load(Store(nvs, FakeRtc(image), True)).take_counter() not in used


def test_watchdog_reset_after_stale_rtc_memory():
    # wake, seal, then the watchdog bites: RTC memory still holds what was set aside before the frames
    for cause_is_right in (True, False):
        nvs, rtc = FakeNvs(), FakeRtc()
        new_chain(nvs)
        store = Store(nvs, rtc, False)
        chain = Chain.load(store)
        used = [chain.take_counter()]
        asleep(chain, store, rtc)
        chain = Chain.load(Store(nvs, rtc, True))
        used += [chain.take_counter() for _ in range(5)]
        assert used == list(range(6))
        # no suspend: the reset comes here; should it be reported as a wake, nothing is there to be believed
        chain = Chain.load(Store(nvs, rtc, not cause_is_right))
        assert chain.take_counter() == 256


def test_rtc_memory_of_an_earlier_epoch_or_chain_is_not_believed():
    nvs, rtc = FakeNvs(), FakeRtc()
    store = Store(nvs, rtc, False)
    chain = new_chain(nvs)
    chain = Chain.load(store)
    chain.take_counter()
    image = asleep(chain, store, rtc)
    next_epoch(chain)
    used = [chain.take_counter() for _ in range(5)]
    assert used == [0, 1, 2, 3, 4]
    assert Chain.load(Store(nvs, FakeRtc(image), True)).take_counter() == 256
    # retired and enrolled again
    chain.erase()
    try:
        Chain.load(Store(nvs))
        raise AssertionError("still there")
    except NotEnrolled:
        pass
    chain = Chain.create(Store(nvs), EUI, b"\x01" * 32, 0)
    assert [chain.take_counter() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert Chain.load(Store(nvs, FakeRtc(image), True)).take_counter() == 256


def test_rtc_memory_of_another_board_is_not_believed():
    nvs, rtc = FakeNvs(), FakeRtc()
    new_chain(nvs, eui=OTHER, root=b"\x01" * 32)
    store = Store(nvs, rtc, False)
    chain = Chain.load(store)
    chain.take_counter()
    image = asleep(chain, store, rtc)
    mine = FakeNvs()
    chain = new_chain(mine)
    assert [chain.take_counter() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert Chain.load(Store(mine, FakeRtc(image), True)).take_counter() == 256
