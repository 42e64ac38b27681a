# The chain: counters, epochs, contact, rekey. Power cuts at every operation are in tests/powercut/test_chain.py.
import json

from device.fakes import FakeNvs, FakeRtc

from sealband.chain import Chain
from sealband.errors import AlreadyEnrolled, ChainStopped, NotEnrolled, StoreError
from sealband.store import Store

with open("tests/vectors/wire-v1.json") as _file:
    V = json.load(_file)
EUI = bytes.fromhex(V["eui"])
ROOT = bytes.fromhex(V["ck0"])
DAY_S = 86400


def refused(error, act, *arguments):
    try:
        act(*arguments)
    except error as raised:
        return str(raised)
    raise AssertionError("accepted")


# A board: what stays over a reset, and the chain on it.
class Board:
    def __init__(self, now_s=0):
        self.nvs = FakeNvs()
        self.rtc = FakeRtc()
        self.chain = Chain.create(self.store(False), EUI, ROOT, now_s)

    def store(self, from_deep_sleep):
        self.kept = Store(self.nvs, self.rtc, from_deep_sleep)
        return self.kept

    # Power off and on; RTC memory is lost.
    def cold(self):
        self.rtc = FakeRtc()
        self.chain = Chain.load(self.store(False))
        return self.chain

    # Deep sleep and wake; gives what was in RTC memory.
    def sleep(self):
        self.chain.suspend()
        self.kept.rtc_flush()
        set_aside = self.rtc.memory()
        self.chain = Chain.load(self.store(True))
        return set_aside

    # Reset with RTC memory kept and another cause than deep sleep.
    def watchdog(self):
        self.chain = Chain.load(self.store(False))
        return self.chain


def take(chain, count):
    return [chain.take_counter() for _ in range(count)]


def test_board_without_chain_is_not_enrolled():
    assert "no chain" in refused(NotEnrolled, Chain.load, Store(FakeNvs()))


def test_counters_begin_at_zero_and_rise_by_one():
    assert take(Board().chain, 600) == list(range(600))


def test_cold_start_goes_on_from_the_high_water_mark():
    board = Board()
    take(board.chain, 3)
    assert board.cold().take_counter() == 256
    assert board.cold().take_counter() == 512
    assert board.cold().take_counter() == 768


def test_cold_start_without_a_frame_in_between_costs_no_counters():
    board = Board()
    take(board.chain, 3)
    for _ in range(5):
        board.cold()
    assert board.chain.take_counter() == 256


def test_high_water_mark_is_written_before_the_counter_is_given_out():
    board = Board()
    for counter in range(600):
        assert board.chain.take_counter() == counter
        high = Chain.load(Store(board.nvs))._high
        assert high > counter and high % 256 == 0


def test_deep_sleep_goes_on_from_rtc_memory():
    board = Board()
    assert take(board.chain, 3) == [0, 1, 2]
    board.sleep()
    assert take(board.chain, 300) == list(range(3, 303))
    board.sleep()
    board.sleep()
    assert board.chain.take_counter() == 303


def test_deep_sleep_before_the_first_counter_loses_nothing():
    board = Board()
    board.sleep()
    board.sleep()
    assert board.chain.take_counter() == 0


def test_lost_rtc_memory_goes_on_from_the_high_water_mark():
    board = Board()
    take(board.chain, 3)
    board.chain.suspend()
    board.kept.rtc_flush()
    assert board.cold().take_counter() == 256


def test_rtc_section_of_any_shape_is_not_believed():
    board = Board()
    take(board.chain, 5)
    board.chain.suspend()
    good = board.kept._put["chain"]
    for bad in (b"", good[:-1], good + b"\x00", bytes(len(good)), b"\xff" * len(good)):
        rtc = FakeRtc()
        writer = Store(board.nvs, rtc, False)
        writer.rtc_put("chain", bad)
        writer.rtc_flush()
        assert Chain.load(Store(board.nvs, rtc, True)).take_counter() >= 256


def test_rtc_section_outside_its_own_marks_is_not_believed():
    board = Board()
    take(board.chain, 5)
    board.sleep()
    board.chain.take_counter()  # the mark is 5 now
    board.chain.suspend()
    good = board.kept._put["chain"]
    for next_counter in (0, 4, 257, 65535, 0xFFFFFFFF):
        rtc = FakeRtc()
        writer = Store(board.nvs, rtc, False)
        writer.rtc_put("chain", good[:16] + next_counter.to_bytes(4, "big") + good[20:])
        writer.rtc_flush()
        assert Chain.load(Store(board.nvs, rtc, True))._next == 256


def test_counters_set_aside_but_not_slept_on_are_void():
    board = Board()
    take(board.chain, 5)
    board.chain.suspend()
    board.kept.rtc_flush()
    stale = board.rtc.memory()
    assert board.chain.take_counter() == 5  # the sleep did not come about
    board.rtc = FakeRtc(stale)
    assert Chain.load(board.store(True)).take_counter() == 256


def test_last_counter_is_65535_and_then_a_new_epoch_begins():
    board = Board()
    chain = board.chain
    chain._next = chain._high = 65535
    assert (chain.take_counter(), chain.epoch) == (65535, 0)
    assert (chain.take_counter(), chain.epoch) == (0, 1)
    assert board.cold().epoch == 1


def test_device_without_contact_goes_three_epochs_on_and_stops():
    board = Board()
    for epoch in (1, 2, 3):
        board.chain._next = 65536
        assert (board.chain.take_counter(), board.chain.epoch) == (0, epoch)
        board.cold()
    board.chain._next = 65536
    assert "epoch 0" in refused(ChainStopped, board.chain.take_counter)
    assert "epoch 0" in refused(ChainStopped, board.chain.take_counter)
    assert board.chain.epoch == 3
    board.chain.acknowledged(5, 3)
    assert (board.chain.take_counter(), board.chain.epoch) == (0, 4)


def test_stopped_chain_stays_stopped_after_a_reset():
    board = Board()
    for _ in range(3):
        board.chain._next = 65536
        board.chain.take_counter()
    board.chain._next = board.chain._high = 65536
    board.chain._commit()
    refused(ChainStopped, board.cold().take_counter)


def test_new_epoch_waits_for_its_period_and_for_contact():
    board = Board(now_s=1000)
    chain = board.chain
    assert not chain.advance(1000 + DAY_S)  # due, but no contact
    chain.acknowledged(1000 + DAY_S, 0)
    assert not chain.advance(1000 + DAY_S - 1)  # not due
    assert not chain.advance(None)  # no clock
    assert chain.advance(1000 + DAY_S) and chain.epoch == 1
    assert not chain.advance(1000 + 2 * DAY_S)  # no contact in this epoch
    chain.acknowledged(1000 + 2 * DAY_S, 1)
    assert chain.advance(1000 + 2 * DAY_S) and chain.epoch == 2


def test_acknowledgement_of_an_old_frame_is_no_contact_in_this_epoch():
    board = Board()
    board.chain.acknowledged(5, 0)
    board.chain.advance(DAY_S)
    board.chain.acknowledged(DAY_S + 5, 0)
    assert not board.chain.advance(3 * DAY_S) and board.chain.epoch == 1


def test_contact_and_beginning_of_the_epoch_outlive_a_reset():
    board = Board(now_s=1000)
    board.chain.acknowledged(1000, 0)
    board.cold()
    assert not board.chain.advance(1000 + DAY_S - 1)
    assert board.chain.advance(1000 + DAY_S)


def test_epoch_that_seems_to_begin_in_the_future_is_put_right_by_the_servers_time():
    board = Board(now_s=10**9)  # the station's clock was wrong
    board.chain.acknowledged(1000, 0)
    assert not board.chain.advance(1000 + DAY_S - 1)
    assert board.chain.advance(1000 + DAY_S)


def test_acknowledgements_wear_no_flash_out():
    board = Board()
    board.chain.acknowledged(5, 0)
    before = board.nvs._power.operations
    for second in range(100):
        board.chain.acknowledged(second + 6, 0)
    assert board.nvs._power.operations == before


def test_times_that_no_record_can_hold_are_bent_into_range():
    board = Board(now_s=-5)
    assert board.chain._began_s == 0
    board.chain.acknowledged(-7, 0)
    assert board.chain.advance(1 << 40)
    assert board.cold()._began_s == 0xFFFFFFFF


def test_new_epoch_begins_at_counter_zero_also_after_a_cold_start():
    board = Board()
    take(board.chain, 300)
    board.chain.acknowledged(0, 0)
    board.chain.advance(DAY_S)
    assert board.cold().take_counter() == 0


def test_keys_of_every_epoch_are_those_of_the_wire_format():
    board = Board()
    for expected in V["epochs"]:
        ku, kd, iu, iv, did = board.chain.keys()
        assert board.chain.epoch == expected["epoch"]
        for value, name in ((ku, "ku"), (kd, "kd"), (iu, "iu"), (iv, "id"), (did, "did")):
            assert value.hex() == expected[name], name
        board.chain.acknowledged(0, board.chain.epoch)
        board.chain.advance(1 << 31)
        board.chain._began_s = 0
        board.cold()


def test_rekey_gives_the_chain_of_the_wire_format():
    board = Board()
    for _ in range(V["rekey"]["from_epoch"]):
        board.chain.acknowledged(0, board.chain.epoch)
        board.chain._began_s = 0
        board.chain.advance(DAY_S)
    r = bytes.fromhex(V["rekey"]["r"])
    assert board.chain.rekey(r, 5, board.chain.epoch)
    assert board.chain.epoch == V["rekey"]["from_epoch"] + 1
    assert board.chain._ck.hex() == V["rekey"]["ck"]
    assert board.cold()._ck.hex() == V["rekey"]["ck"]


def test_rekey_of_another_epoch_or_length_is_refused():
    board = Board()
    board.chain.acknowledged(0, 0)
    board.chain.advance(DAY_S)
    for r, epoch in ((bytes(16), 0), (bytes(16), 2), (bytes(15), 1), (b"", 1)):
        assert not board.chain.rekey(r, 5, epoch)
    assert board.chain.epoch == 1


def test_rekey_counts_as_contact_in_the_epoch_that_it_ends():
    board = Board()
    for epoch in (1, 2, 3):
        board.chain._next = 65536
        board.chain.take_counter()
    assert board.chain.rekey(bytes(16), None, 3)
    for epoch in (5, 6):
        board.chain._next = 65536
        assert board.chain.take_counter() == 0 and board.chain.epoch == epoch
    board.chain._next = 65536
    refused(ChainStopped, board.chain.take_counter)


def secrets_in(nvs):
    return b"|".join(value for value in nvs.dump().values() if isinstance(value, bytes))


def test_keys_that_open_what_was_sent_before_are_erased():
    for begin in (
        lambda chain: chain.advance(DAY_S),
        lambda chain: chain.rekey(bytes(16), 5, 0),
    ):
        board = Board()
        take(board.chain, 300)
        board.chain.acknowledged(0, 0)
        assert ROOT in secrets_in(board.nvs)
        ku = board.chain.keys()[0]
        begin(board.chain)
        assert ROOT not in secrets_in(board.nvs) and ku not in secrets_in(board.nvs)
        assert all(ROOT != value and ku != value for value in board.chain.__dict__.values())


def test_chain_that_exists_is_not_begun_anew():
    board = Board()
    take(board.chain, 1)
    refused(AlreadyEnrolled, Chain.create, board.store(False), EUI, ROOT, 0)
    refused(AlreadyEnrolled, Chain.create, board.store(False), EUI, bytes(32), 0)
    assert board.cold().take_counter() == 256


def test_creation_that_is_repeated_before_the_first_frame_gives_the_same_chain():
    board = Board()
    again = Chain.create(board.store(False), EUI, ROOT, 77)
    assert again.take_counter() == 0 and again.keys() == board.chain.keys()


def test_creation_that_is_repeated_after_flash_lost_the_newer_half_uses_no_counter_again():
    for half in ("chaina", "chainb"):
        board = Board()
        used = take(board.chain, 3)
        board.nvs.erase_key(half)
        board.nvs.commit()
        try:
            chain = Chain.create(board.store(False), EUI, ROOT, 0)
        except AlreadyEnrolled:
            chain = board.cold()
        assert chain.take_counter() not in used


def test_record_of_another_version_is_neither_read_nor_overwritten():
    board = Board()
    record = bytearray(board.kept.load("chain"))
    record[0] = 9
    board.kept.save("chain", record)
    refused(NotEnrolled, Chain.load, board.store(False))
    refused(AlreadyEnrolled, Chain.create, board.store(False), EUI, ROOT, 0)


def test_half_that_flash_lost_is_stepped_over():
    # not by a power cut: the newer half itself is gone, and with it a high-water mark
    for half in ("chaina", "chainb"):
        board = Board()
        used = take(board.chain, 300)
        board.nvs.erase_key(half)
        board.nvs.commit()
        assert board.cold().take_counter() not in used
        assert board.kept.whole("chain")


def test_half_that_flash_lost_after_a_new_epoch_is_stepped_over():
    for half in ("chaina", "chainb"):
        board = Board()
        board.chain.acknowledged(0, 0)
        board.chain.advance(DAY_S)
        used = take(board.chain, 200)
        board.nvs.erase_key(half)
        board.nvs.commit()
        assert board.cold().epoch == 1
        assert board.chain.take_counter() not in used


class Refusing(FakeNvs):
    full = False

    def set_blob(self, key, value):
        if self.full:
            raise OSError(-0x1105, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")
        super().set_blob(key, value)


def test_flash_that_refuses_stops_the_counter_and_not_the_chain():
    nvs = Refusing()
    chain = Chain.create(Store(nvs), EUI, ROOT, 0)
    take(chain, 256)
    nvs.full = True
    for _ in range(3):
        refused(StoreError, chain.take_counter)
    refused(StoreError, chain.acknowledged, 5, 0)
    nvs.full = False
    assert chain.take_counter() == 256
    chain.acknowledged(5, 0)
    nvs.full = True
    keys = chain.keys()
    refused(StoreError, chain.advance, DAY_S * 2)
    assert chain.epoch == 0 and chain.keys() == keys and chain.take_counter() == 257
    nvs.full = False
    assert chain.advance(DAY_S * 2) and chain.take_counter() == 0 and chain.epoch == 1


def test_mark_that_flash_refuses_stops_the_counter():
    class NoNumbers(FakeNvs):
        def set_i32(self, key, value):
            raise OSError(-0x1105, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")

    refused(StoreError, Chain.create(Store(NoNumbers()), EUI, ROOT, 0).take_counter)


def test_erased_chain_gives_no_counter_and_leaves_no_key():
    board = Board()
    take(board.chain, 300)
    board.chain.erase()
    refused(NotEnrolled, board.chain.take_counter)
    refused(NotEnrolled, board.chain.acknowledged, 5, 0)
    refused(NotEnrolled, Chain.load, board.store(False))
    assert ROOT not in secrets_in(board.nvs)
