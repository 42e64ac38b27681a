# Message time: right by the server only, monotonic through deep sleep, not turned back by a delayed sync.
from device.fakes import FakeNvs

from sealband.clock import Clock
from sealband.crypto import cbor
from sealband.store import Store

T = 60_000_000


class Chip:
    # the chip's ticks and its own clock, which may be set by anyone
    def __init__(self, epoch=946684800):
        self.ms = 0
        self.base_s = epoch
        self.nvs = FakeNvs()

    def clock(self):
        self.clock_now = Clock(Store(self.nvs), lambda: self.ms & 0x3FFFFFFF, lambda: self.base_s + self.ms / 1000)
        return self.clock_now

    # in steps that no wrap of the ticks escapes
    def wait(self, seconds):
        while seconds > 0:
            step = min(seconds, 86400)
            self.ms += step * 1000
            self.clock_now.uptime_ms()
            seconds -= step


def test_not_valid_until_the_server_said_the_time():
    chip = Chip()
    clock = chip.clock()
    assert not clock.valid and clock.now() == 0
    chip.wait(100)
    assert clock.now() == 100
    assert clock.sync(T) == T - 100
    assert clock.valid and clock.now() == T
    chip.wait(50)
    assert clock.now() == T + 50 and clock.uptime() == 150


def test_the_chips_epoch_and_whoever_sets_its_clock_do_not_matter():
    for epoch in (0, 946684800, 1735689600, 4102444800):
        chip = Chip(epoch)
        clock = chip.clock()
        clock.sync(T)
        chip.base_s += 123456
        chip.wait(10)
        assert clock.now() == T + 10


def test_after_a_cold_start_time_goes_on_from_what_is_surely_past():
    chip = Chip()
    clock = chip.clock()
    clock.sync(T)
    chip.wait(4000)
    clock.sync(T + 4000)
    clock = chip.clock()
    assert not clock.valid and clock.now() == T + 4000
    assert clock.sync(T + 9000) == 5000


def test_a_sync_before_the_lower_bound_is_not_believed():
    chip = Chip()
    chip.clock().sync(T)
    clock = chip.clock()
    assert clock.sync(T - 10) is None and not clock.valid
    assert clock.sync(0) is None
    assert clock.sync(-5) is None
    assert clock.sync(1 << 40) is None
    assert clock.sync(T + 1) is not None


def test_a_delayed_sync_does_not_turn_time_back_but_two_that_agree_do():
    chip = Chip()
    clock = chip.clock()
    clock.sync(T)
    chip.wait(3600)
    assert clock.sync(T + 600) is None
    assert clock.now() == T + 3600
    # the same delayed message again proves nothing
    assert clock.sync(T + 600) is None
    # the server's clock was wrong and is right now: it goes on saying so
    assert clock.sync(T - 90000) is None
    chip.wait(600)
    assert clock.sync(T - 90000 + 601) == -90000 + 601 - 4200
    assert clock.now() == T - 90000 + 601


def test_drift_of_a_sleeping_chip_is_put_right_in_both_directions():
    chip = Chip()
    clock = chip.clock()
    clock.sync(T)
    chip.wait(3600)
    assert clock.sync(T + 3600 - 170) == -170
    chip.wait(3600)
    assert clock.sync(T + 7200) == 170


def test_ticks_that_wrap_do_not_stop_uptime():
    chip = Chip()
    clock = chip.clock()
    clock.sync(T)
    chip.wait(30 * 86400)
    assert clock.uptime() == 30 * 86400 and clock.now() == T + 30 * 86400


def test_time_goes_on_through_deep_sleep():
    chip = Chip()
    clock = chip.clock()
    clock.sync(T)
    chip.wait(10)
    state = clock.state()
    # asleep for 600 s; ticks begin anew
    chip.base_s += 610
    chip.ms = 0
    clock = chip.clock()
    clock.restore(state)
    assert clock.valid and clock.now() == T + 610 and clock.uptime() == 610
    chip.wait(5)
    assert clock.now() == T + 615


def test_a_server_that_corrects_its_clock_is_believed_by_a_board_that_sleeps_after_each_frame():
    chip = Chip()
    clock = chip.clock()
    clock.sync(T + 90000)  # a day too late
    answers = []
    for i in range(1, 4):
        state = cbor.decode(cbor.encode(clock.state()))
        chip.base_s += 600
        clock = chip.clock()
        clock.restore(state)
        answers.append(clock.sync(T + 600 * i))
    assert answers == [None, -90000, 0] and clock.now() == T + 1800


def test_flash_is_written_once_an_hour_at_most():
    chip = Chip()
    clock = chip.clock()
    clock.sync(T)
    before = chip.nvs._power.operations
    for i in range(59):
        chip.wait(60)
        assert clock.sync(T + 60 * (i + 1)) is not None
    assert chip.nvs._power.operations == before
    chip.wait(60)
    clock.sync(T + 3600)
    assert chip.nvs._power.operations > before


def test_a_lower_bound_that_flash_does_not_keep_is_no_error():
    chip = Chip()
    clock = chip.clock()

    def refuse(key, value):
        raise OSError(-0x1105)

    chip.nvs.set_i32 = refuse
    assert clock.sync(T) == T
    assert clock.valid
