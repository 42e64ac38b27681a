# The LoRa link on the simulated `lora` package itself, set up by the link's own modem(): what reaches the air in a
# simulated day, counted by the regulator's rule from what the driver hands over, and the receive window's settings.
# No board: the package's line to the supervisor ends in this test, and so does the clock that it tells times by.
import gc
import struct
import time

import lora
from device.fakes import FakeNvs, FakeRtc, finish

from sealband.clock import Clock
from sealband.config import Config
from sealband.links.lora import LoRa
from sealband.store import Store
from sealwire import radio

HEAP = "8M"
TIMEOUT_S = 300
HOUR_MS = 3600000
DAY_MS = 86400000
LIMIT_MS = 36000  # 1 % of an hour: ETSI EN 300 220-2, band M

_PARAMS = ">IBIBHBbH"


class Board:
    RADIO = {
        "chip": "SX1262",
        "region": "EU868",
        "spi": 1,
        "baudrate_hz": 2000000,
        "sck": 5,
        "mosi": 27,
        "miso": 19,
        "cs": 18,
        "busy": 32,
        "dio1": 33,
        "reset": 23,
        "dio2_rf_sw": True,
        "dio3_tcxo_mv": 1800,
    }

    @staticmethod
    def power():
        pass


# Semtech SX1261/2 datasheet 6.1.4, in floating point
def airtime_ms(sf, bw_hz, coding_rate, preamble_len, crc, length):
    symbol_ms = 1000 * (1 << sf) / bw_hz
    per_symbol = 4 * (sf - 2 if symbol_ms >= 16 else sf)
    bits = max(0, 8 * length + 16 * crc - 4 * sf + 28)
    whole = int(bits // per_symbol) + (bits % per_symbol > 0)
    return symbol_ms * (preamble_len + 4.25 + 8 + whole * coding_rate)


class Air:
    # virtual time, and what the driver's requests come to (their letters: host_tools/sim/peripherals.py)
    def __init__(self):
        self.ns = 0
        self.sent = []  # (begin, end) in ms
        self.channels = []  # kHz, of each of them
        self.busy_khz = ()  # where a neighbour speaks
        self.parts = {}  # of board.RADIO, other than Board's
        self.uplink = None  # the last one: kHz, SF, inverted IQ, dBm, sync word, frame
        self.window = None  # the last one: begin in ms, time-out, kHz, SF, inverted IQ
        self.answer = None  # (ms after the end of the uplink, frame)
        self.uptime_ms = 0
        self.nvs = FakeNvs()
        self.rtc = FakeRtc()
        self.boot(False)

    def __enter__(self):
        self.kept = lora._call, time._time_ns, time._sleep
        lora._call, time._time_ns, time._sleep = self.call, lambda: self.ns, self.pass_s
        return self

    def __exit__(self, *_):
        lora._call, time._time_ns, time._sleep = self.kept

    def pass_s(self, seconds):
        self.ns += int(seconds * 1000000000 + 0.5)

    def ms(self):
        return self.ns / 1000000

    def call(self, op, data=b"", size=64):
        if op == b"T":
            begin_ns = struct.unpack_from(">q", data)[0]
            hz, sf, bw_hz, coding_rate, preamble_len, flags, dbm, syncword = struct.unpack_from(_PARAMS, data, 8)
            frame = data[8 + struct.calcsize(_PARAMS) :]
            last = airtime_ms(sf, bw_hz, coding_rate, preamble_len, flags & 1, len(frame))
            self.sent.append((begin_ns / 1000000, begin_ns / 1000000 + last))
            self.channels.append(hz // 1000)
            assert (bw_hz, coding_rate, preamble_len, flags & 1) == (125000, 5, 8, 1)
            self.uplink = (hz // 1000, sf, flags >> 1 & 1, dbm, syncword, frame)
            return struct.pack(">q", begin_ns + int(last * 1000000))
        if op == b"L":
            begin_ns, timeout_ms, _ = struct.unpack_from(">qiB", data)
            hz, sf, self.window_bw_hz, _, _, flags, _, _ = struct.unpack_from(_PARAMS, data, 13)
            self.window = (begin_ns / 1000000, timeout_ms, hz // 1000, sf, flags >> 1 & 1)
            return b""
        if op == b"P":
            begin_ms, timeout_ms, khz, sf, inverted = self.window
            if self.answer and inverted:
                at_ms = self.sent[-1][1] + self.answer[0]
                # heard if the receiver is on for twelve of the preamble's symbols at least, with the header
                symbol_ms = (1 << sf) / 125
                if begin_ms <= at_ms and at_ms + (8 + 4.25 + 8) * symbol_ms <= begin_ms + timeout_ms:
                    end_ns = int(1000000 * (at_ms + airtime_ms(sf, 125000, 5, 8, 0, len(self.answer[1]))))
                    if self.ns < end_ns:
                        return b"\x01"
                    return struct.pack(">BqhhB", 2, end_ns, -101, 20, 1) + self.answer[1]
            return b"\x01" if self.ms() < begin_ms + timeout_ms else b"\x00"
        if op == b"V":
            hz = struct.unpack_from(">I", data, 8)[0]
            return struct.pack(">hB", -60 if hz // 1000 in self.busy_khz else -110, 0)
        assert op == b"Y", op
        return b""

    # a start of the board: what main.py and the node make of it
    def boot(self, from_deep_sleep, state=None, **settings):
        self.store = Store(self.nvs, self.rtc, from_deep_sleep)
        # the chip's own clock goes on in deep sleep, in whole seconds
        self.clock = Clock(self.store, time.ticks_ms, lambda: self.ns // 1000000000)
        if state:
            self.clock.restore(state)
        self.config = Config(self.store, settings)

        class Wired(Board):
            RADIO = dict(Board.RADIO)

        Wired.RADIO.update(self.parts)
        if Wired.RADIO["chip"] == "SX1276":
            for name in ("busy", "dio2_rf_sw", "dio3_tcxo_mv"):
                del Wired.RADIO[name]
        self.link = LoRa(Wired)

    def open(self):
        self.link.open(self.store, self.clock, self.config, self.random)

    def sleep(self, seconds, **settings):
        self.link.suspend()
        state = self.clock.state()
        self.store.rtc_flush()
        self.pass_s(seconds)
        self.boot(True, state, **settings)
        self.open()

    def cut(self, **settings):
        self.rtc = FakeRtc()
        self.boot(False, **settings)
        self.open()

    seed = 11

    def random(self, n):
        self.seed = (self.seed * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.seed >> 9) % n

    # one frame if the link takes it, and its window
    def exchange(self, frame):
        before = len(self.sent)
        wait_ms = self.link.wait_ms(len(frame))
        if not finish(self.link.send(frame), self.pass_ms):
            assert len(self.sent) == before, "refused and sent all the same"
            return None
        assert wait_ms == 0 and len(self.sent) == before + 1
        return finish(self.link.listen(), self.pass_ms)

    def pass_ms(self, ms):
        self.pass_s(ms / 1000)

    # the most that one channel was used in 20 s that end with one of its transmissions, ms
    def worst_occupancy_ms(self):
        worst = 0
        by_channel = {}
        for khz, span in zip(self.channels, self.sent):
            spans = [(b, e) for b, e in by_channel.get(khz, ()) if e > span[1] - 20000] + [span]
            by_channel[khz] = spans
            worst = max(worst, sum(e - max(b, span[1] - 20000) for b, e in spans))
        return worst

    # the most that was on the air in an hour, wherever the hour begins: where a transmission begins or ends
    def worst_hour_ms(self):
        worst = 0
        first = 0
        inside = 0
        for begin, end in self.sent:
            inside += end - begin
            # of the hour that ends with this transmission
            while self.sent[first][1] <= end - HOUR_MS:
                inside -= self.sent[first][1] - self.sent[first][0]
                first += 1
            cut = max(0, end - HOUR_MS - self.sent[first][0])
            worst = max(worst, inside - cut)
        return worst


def frame(i, length):
    return b"\xe0" + bytes(((i + k) & 0xFF for k in range(length - 1)))


def a_day(each, **settings):
    with Air() as air:
        air.boot(False, **settings)
        air.open()
        refused = 0
        i = 0
        while air.ms() < DAY_MS:
            i += 1
            if air.exchange(frame(i, 51)) is None:
                refused += 1
            assert air.link.errors == 0
            each(air, i)
            if i % 256 == 0:
                gc.collect()
        return air, refused


def test_a_day_of_too_many_frames_keeps_to_the_duty_cycle_and_uses_it():
    air, refused = a_day(lambda air, i: air.pass_s(1), spreading_factor=9)
    worst = air.worst_hour_ms()
    print("a day awake: %d frames, %d refused, worst hour %d ms" % (len(air.sent), refused, worst))
    assert refused > 1000 and LIMIT_MS * 9 // 10 < worst <= LIMIT_MS
    total = sum(end - begin for begin, end in air.sent)
    assert total > 24 * LIMIT_MS * 9 // 10


def test_a_day_of_deep_sleeps_keeps_to_the_duty_cycle_and_uses_it():
    air, refused = a_day(lambda air, i: air.sleep(11.7 + i % 7, spreading_factor=10), spreading_factor=10)
    worst = air.worst_hour_ms()
    print("a day of deep sleeps: %d frames, %d refused, worst hour %d ms" % (len(air.sent), refused, worst))
    assert refused > 1000 and LIMIT_MS * 9 // 10 < worst <= LIMIT_MS


def test_a_day_of_power_cuts_gains_no_airtime():
    def each(air, i):
        air.pass_s(2)
        if i % 11 == 0:
            air.cut(spreading_factor=9)
        elif i % 5 == 0:
            air.sleep(7, spreading_factor=9)
        if i % 400 == 0:
            air.pass_s(4000)  # off the shelf again

    air, refused = a_day(each, spreading_factor=9)
    worst = air.worst_hour_ms()
    print("a day of power cuts: %d frames, %d refused, worst hour %d ms" % (len(air.sent), refused, worst))
    assert refused > 100 and len(air.sent) > 100 and worst <= LIMIT_MS


def test_the_count_of_this_test_sees_a_link_that_forgets_what_it_sent():
    def each(air, i):
        air.pass_s(2)
        air.nvs = FakeNvs()
        air.cut(spreading_factor=9)

    with Air() as air:
        air.boot(False, spreading_factor=9)
        air.open()
        while air.ms() < 2 * HOUR_MS:
            air.exchange(frame(0, 51))
            each(air, 0)
        assert air.worst_hour_ms() > LIMIT_MS


def test_an_answer_is_heard_from_rx1_delay_on_with_inverted_iq_at_every_data_rate():
    for sf in range(7, 13):
        for late_ms in (-40, 0, 40):
            with Air() as air:
                air.boot(False, spreading_factor=sf)
                air.open()
                air.answer = (radio.RX1_DELAY_MS + late_ms, b"\xe0answer")
                assert air.exchange(frame(1, 51)) == [b"\xe0answer"], (sf, late_ms)
                khz, up_sf, inverted, dbm, syncword, sent = air.uplink
                assert (up_sf, inverted, dbm, syncword, sent) == (sf, 0, 14, 0x34, frame(1, 51))
                assert air.window[2:] == (khz, sf, 1)
                assert air.link.rssi == -101


def test_what_comes_too_early_or_much_too_late_is_not_waited_for():
    for sf in (7, 12):
        for late_ms in (-4000, -1000, 3000):
            with Air() as air:
                air.boot(False, spreading_factor=sf)
                air.open()
                air.answer = (radio.RX1_DELAY_MS + late_ms, b"\xe0answer")
                begun = air.ms()
                assert air.exchange(frame(1, 51)) == []
                assert air.ms() - begun < airtime_ms(sf, 125000, 5, 8, 1, 51) + radio.RX1_DELAY_MS + 1700


def test_hopping_keeps_400_ms_a_channel_in_20_s_over_deep_sleeps_and_power_cuts():
    # 47 CFR 15.247 (a)(1)(i)
    channels = tuple(range(903900, 905500, 200))
    with Air() as air:
        air.parts = {"region": "US915", "channels_khz": channels}
        air.boot(False)
        air.open()
        refused = 0
        for i in range(1500):
            if air.exchange(frame(i, 222)) is None:
                refused += 1
                air.pass_s(1)
            if i % 17 == 16:
                air.cut()
            elif i % 3 == 2:
                air.sleep(2)
            if i % 256 == 0:
                gc.collect()
        worst = air.worst_occupancy_ms()
        assert set(air.channels) == set(channels)
        assert air.window_bw_hz == 500000 and air.window[2] == 923300 + 600 * ((air.channels[-1] - 902300) // 200 % 8)
        print("hopping: %d frames, %d refused, at most %d ms on a channel in 20 s" % (len(air.sent), refused, worst))
        assert (
            len(air.sent) > 400 and refused > 50 and worst <= 400 and all(end - begin <= 400 for begin, end in air.sent)
        )


def test_the_count_of_this_test_sees_a_link_that_forgets_its_channels():
    channels = tuple(range(903900, 905500, 200))
    with Air() as air:
        air.parts = {"region": "US915", "channels_khz": channels}
        air.boot(False)
        air.open()
        air.pass_s(20)
        for i in range(200):
            air.exchange(frame(i, 222))
            air.link._order = bytearray(range(8))
        assert air.worst_occupancy_ms() > 400


def test_nothing_is_sent_on_a_channel_where_somebody_is_heard():
    with Air() as air:
        air.parts = {"region": "AS923", "lbt_dbm": -80}
        air.boot(False)
        air.open()
        assert air.exchange(frame(0, 50)) == [] and air.exchange(frame(0, 50)) == []
        assert sorted(air.channels) == [923200, 923400]
        used_ms = air.link.airtime_ms()
        air.busy_khz = (923200,)
        for i in range(6):
            assert air.exchange(frame(i, 50)) == []
        assert air.channels[2:] == 6 * [923400]
        used_ms += 6 * (air.link.airtime_ms() - used_ms) // 6
        assert air.link.airtime_ms() == used_ms
        # both: nothing is sent, and no airtime lost by it
        air.busy_khz = (923200, 923400)
        assert air.link.wait_ms(50) == 0 and not finish(air.link.send(frame(9, 50)), air.pass_ms)
        assert len(air.sent) == 8 and air.link.airtime_ms() == used_ms and air.link.errors == 0
        # free again
        air.busy_khz = ()
        assert air.exchange(frame(0, 50)) == [] and len(air.sent) == 9


def test_a_channel_where_somebody_is_heard_gives_no_airtime_to_the_other_sub_band():
    with Air() as air:
        air.parts = {"channels_khz": (867100, 867300, 868100, 868300), "lbt_dbm": -80}
        air.boot(False, spreading_factor=12)
        air.open()
        # a neighbour below 868 MHz, again and again: what was taken out for it there is not spent above
        air.busy_khz = (867100, 867300)
        while air.ms() < HOUR_MS:
            if air.exchange(frame(len(air.sent), 51)) is None:
                air.pass_s(5)
        above_ms = sum([end - begin for khz, (begin, end) in zip(air.channels, air.sent) if khz >= 868000])
        assert LIMIT_MS - 3000 < above_ms <= LIMIT_MS and air.link.errors == 0


def test_a_board_with_an_sx1276_sends_through_the_pin_that_its_module_has_connected():
    made = []

    class Sx1276(lora.SX1276):
        def __init__(self, *args, **more):
            made.append(more["lora_cfg"])
            super().__init__(*args, **more)

    kept, lora.SX1276 = lora.SX1276, Sx1276
    try:
        with Air() as air:
            air.parts = {"chip": "SX1276", "dio0": 26, "lbt_dbm": -80}
            air.boot(False)
            air.open()
            assert air.exchange(frame(0, 50)) == []
            assert made[0]["tx_ant"] == "PA_BOOST"
    finally:
        lora.SX1276 = kept


def test_what_sets_the_driver_up_leaves_the_heap():
    import sys

    sys.modules.pop("sealband.links.sense", None)
    with Air() as air:
        air.boot(False)
        air.open()
        assert air.exchange(frame(0, 50)) == []
        assert "sealband.links.transceiver" not in sys.modules and "sealband.links.sense" not in sys.modules


def test_a_look_at_the_wake_channel_hears_a_downlink_and_leaves_the_link_alone():
    from sealband.links.wake import Wake

    with Air() as air:
        air.boot(False)
        air.open()
        wake = Wake(air.link, 1000, 0, 9)
        # nobody there: no receiver is switched on, but for a moment the first time
        assert finish(wake.look(), air.pass_ms) is None
        air.window = None
        assert finish(wake.look(), air.pass_ms) is None and air.window is None
        heard = air.call

        def call(op, data=b"", size=64):
            return struct.pack(">hB", -100, 1) if op == b"V" else heard(op, data, size)

        lora._call = call
        air.sent.append((air.ms(), air.ms()))
        air.answer = (600, b"\xe0any time")
        assert finish(wake.look(), air.pass_ms) == b"\xe0any time"
        assert air.window[2:] == (868100, 9, 1) and not air.link.taken
        # while the link has something to do, it is not disturbed, and the other way round
        air.sent.pop()
        air.answer = None
        steps = air.link.send(frame(1, 50))
        next(steps)
        windows = air.window
        assert finish(wake.look(), air.pass_ms) is None and air.window == windows
        assert finish(steps, air.pass_ms) is True
        assert finish(wake.look(), air.pass_ms) is None and air.window == windows
        # nor while it waits for the answer and hears it
        steps = air.link.listen()
        next(steps)
        assert finish(wake.look(), air.pass_ms) is None and air.window == windows
        assert finish(steps, air.pass_ms) == [] and air.window[2:4] == air.uplink[:2]
        air.window = None
        steps = wake.look()
        next(steps)
        assert air.link.wait_ms(50) > 0 and not finish(air.link.send(frame(2, 50)), air.pass_ms)
        # given up half way: the long preamble of downlinks must not be an uplink's, which the driver hands over
        steps.close()
        assert air.link.wait_ms(50) == 0 and air.exchange(frame(2, 50)) == []
        assert air.link.errors == 1


def test_a_wake_channel_that_is_filled_with_noise_is_looked_at_less_and_less():
    from sealband.links.wake import Wake

    with Air() as air:
        air.boot(False)
        air.open()
        wake = Wake(air.link, 1000, 0, 9)
        other = air.call
        lora._call = lambda op, data=b"", size=64: struct.pack(">hB", -70, 1) if op == b"V" else other(op, data, size)
        air.sent.append((0, 0))
        for _ in range(20):
            data = finish(wake.look(), air.pass_ms)
            assert data == b""
            wake.heard(False, data)
        assert wake._idle == 6
        wake.heard(True, b"ours")
        assert wake._idle == 0
        wake.heard(False, None)
        assert wake._idle == 0
