# The LoRa link against a modem with the driver's interface: settings, channels, the receive window, the duty cycle.
from device.fakes import FakeNvs, FakeRtc, finish

from sealband.config import Config
from sealband.links.base import LinkError
from sealband.links.lora import LoRa
from sealband.store import Store
from sealwire import radio

FRAME = b"\xe0" + bytes(50)


class Board:
    RADIO = {"chip": "SX1262", "region": "EU868"}

    @staticmethod
    def power():
        pass


# The part of micropython-lib's modem that the link uses. Time passes where the driver blocks.
class Modem:
    def __init__(self, bench):
        self.bench = bench
        self.settings = {}
        self.sent = []
        self.windows = []
        self.answer = None
        self.fails = None
        self.asleep = False

    def configure(self, settings):
        self.asleep = False
        self.settings.update(settings)

    def get_time_on_air_us(self, length):
        # as the driver computes it
        symbol_us = 1000 * (1 << self.settings["sf"]) // 125
        ldr = symbol_us >= 16000
        bits = max(0, 8 * length + 16 - 4 * self.settings["sf"] + 28)
        symbols = -(-bits // (4 * (self.settings["sf"] - 2 * ldr))) * 5
        return symbol_us * (17 + 4 * (8 + 8 + symbols)) // 4

    def prepare_send(self, packet):
        if self.fails:
            raise self.fails
        self.packet = bytes(packet)

    def start_send(self):
        self.sent.append((self.settings["freq_khz"], self.settings["sf"], self.packet))
        self.until = self.bench.ms + self.get_time_on_air_us(len(self.packet)) // 1000

    def poll_send(self):
        return True if self.bench.ms < self.until else self.until & 0x3FFFFFFF

    def start_recv(self, timeout_ms):
        self.windows.append((self.bench.ms, self.settings["freq_khz"], self.settings["sf"], timeout_ms))
        self.until = self.bench.ms + timeout_ms
        if self.fails:
            raise self.fails

    def poll_recv(self):
        return True if self.bench.ms < self.until else self.answer or False

    def sleep(self):
        self.asleep = True


class Packet(bytearray):
    rssi = -97
    snr = 20


class Bench:
    def __init__(self, parts=None, **settings):
        class Wired(Board):
            RADIO = dict(Board.RADIO)

        Wired.RADIO.update(parts or {})
        self.ms = 0x3FFFFFFF - 2000  # ticks wrap during the first receive window
        self.begun = self.ms
        self.store = Store(FakeNvs())
        self.config = Config(self.store, settings)
        self.modem = Modem(self)
        self.seed = 5
        self.link = LoRa(Wired, lambda board: self.modem, lambda: self.ms & 0x3FFFFFFF)
        self.link.open(self.store, self, self.config, self.random)

    def uptime(self):
        return (self.ms - self.begun) // 1000

    def random(self, n):
        self.seed = (self.seed * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.seed >> 9) % n

    # send and listen as the node does
    def exchange(self, frame=FRAME):
        return self.listen() if self.send(frame) else None

    def send(self, frame=FRAME):
        return finish(self.link.send(frame), self.sleep_ms)

    def listen(self):
        return finish(self.link.listen(), self.sleep_ms)

    def sleep_ms(self, ms):
        self.ms += ms


def test_settings_are_those_of_the_server():
    # the rest are transceiver.py's, and seen on the air in test_lora_driver.py
    bench = Bench(spreading_factor=10, power_dbm=8)
    assert bench.exchange() == []
    assert bench.modem.settings["sf"] == 10 and bench.modem.settings["output_power"] == 8
    assert bench.link.frame_max == 51


def test_window_opens_five_seconds_after_the_end_on_the_same_channel_and_rate():
    bench = Bench(spreading_factor=9)
    bench.modem.answer = Packet(b"\xe0answer")
    for _ in range(4):
        begun = bench.ms
        assert bench.exchange() == [b"\xe0answer"]
        ended = begun + bench.modem.get_time_on_air_us(51) // 1000
        at, freq_khz, sf, timeout_ms = bench.modem.windows[-1]
        assert (freq_khz, sf) == bench.modem.sent[-1][:2]
        assert -150 <= at - (ended + radio.RX1_DELAY_MS) < 0
        # at least twelve symbols of the preamble, the header and our margin: the hardware stops the time-out there
        assert at + timeout_ms - (ended + radio.RX1_DELAY_MS) >= 100 + (8 + 12 + 17) * 4.096
        assert timeout_ms < 600
    assert bench.link.rssi == -97
    assert bench.modem.asleep


def test_channels_change_with_every_frame_and_all_three_are_used():
    bench = Bench()
    for _ in range(60):
        assert bench.exchange() == []
    channels = [freq_khz for freq_khz, _, _ in bench.modem.sent]
    assert set(channels) == {868100, 868300, 868500}
    assert all(a != b for a, b in zip(channels, channels[1:]))
    assert min(channels.count(khz) for khz in set(channels)) >= 10


def test_duty_cycle_refuses_before_the_driver_is_asked():
    bench = Bench(spreading_factor=12)
    airtime_ms = 2466
    count = 0
    while bench.exchange() is not None:
        count += 1
        assert count < 20
    assert len(bench.modem.sent) == count == 36000 // airtime_ms
    wait_ms = bench.link.wait_ms(51)
    assert 0 < wait_ms <= 3840000
    assert not bench.send(FRAME) and len(bench.modem.sent) == count
    assert bench.link.airtime_ms() == count * airtime_ms
    bench.ms += wait_ms
    assert bench.link.wait_ms(51) == 0 and bench.exchange() == []


def test_airtime_that_is_asked_for_is_what_the_driver_computes():
    for sf in range(7, 13):
        bench = Bench(spreading_factor=sf)
        assert bench.exchange() == []
        for length in (13, 14, 37, 51):
            driver_ms = bench.modem.get_time_on_air_us(length) / 1000
            assert driver_ms <= bench.link._plan(length)[1] < driver_ms + 1.01


def test_a_frame_for_a_faster_rate_goes_out_at_the_slowest_that_carries_it():
    bench = Bench(spreading_factor=12)
    for length, sf in ((51, 12), (52, 9), (115, 9), (116, 8), (222, 8)):
        assert bench.exchange(bytes(length)) == []
        assert bench.modem.sent[-1][1] == sf == bench.modem.windows[-1][2]
    assert bench.link.wait_ms(223) is None and not bench.send(bytes(223))
    assert bench.exchange() == [] and bench.modem.sent[-1][1] == 12


def test_a_driver_that_fails_costs_airtime_but_not_the_loop():
    bench = Bench()
    for fails in (OSError(5), RuntimeError("Internal radio Status"), ValueError("Invalid lora_cfg")):
        bench.modem.fails = fails
        assert not bench.send(FRAME)
        assert bench.listen() == []
    assert bench.link.airtime_ms() == 3 * 103
    bench.modem.fails = None
    assert bench.send(FRAME)
    bench.modem.fails = RuntimeError("x")
    assert bench.listen() == []
    assert bench.link.errors == 4


METHODS = (
    "configure",
    "prepare_send",
    "start_send",
    "poll_send",
    "start_recv",
    "poll_recv",
    "sleep",
)


class Faulty(Modem):
    # Fails at one of its methods in one way; a receive that failed leaves it receiving, as the driver does.
    def __init__(self, bench, where, how):
        super().__init__(bench)
        self.receiving = False
        for name in METHODS:
            setattr(self, name, self.guarded(name, getattr(super(), name), where, how))

    def guarded(self, name, method, where, how):
        def call(*args, **more):
            if self.receiving and name == "configure":
                raise RuntimeError("Receiving")
            if name == where:
                self.receiving = name in ("start_recv", "poll_recv")
                raise how
            self.receiving = False
            return method(*args, **more)

        return call


def test_no_exception_of_the_driver_gets_out_and_the_next_frame_finds_a_modem_set_up_anew():
    for where in ("make",) + METHODS:
        for how in (
            OSError(5),
            RuntimeError("BUSY timeout"),
            ValueError("x"),
            AssertionError(),
            KeyError(1),
            MemoryError(),
        ):
            bench = Bench()
            made = []

            def make(board):
                made.append(board)
                if where == "make" and len(made) == 1:
                    raise how
                return bench.modem

            bench.link._make = make
            good, bench.modem = bench.modem, Faulty(bench, where, how)
            if where == "make":
                bench.link._modem = None  # as after a fault
                bench.modem = good
            else:
                bench.link._modem = bench.modem
            for _ in range(2):
                bench.exchange()
                assert bench.listen() == []
            errors = bench.link.errors
            assert 1 <= errors <= 3, (where, how, errors)
            bench.link.configure(bench.config)
            # what was broken is whole again
            bench.modem = good
            bench.exchange()
            good.answer = Packet(b"\xe0answer")
            assert bench.exchange() == [b"\xe0answer"], (where, how)
            assert bench.link.errors <= errors + 1 and made


def test_a_transmission_that_the_driver_lost_opens_no_window():
    # poll_send() says False when the chip was reset while it sent
    bench = Bench()
    bench.modem.poll_send = lambda: False
    assert not bench.send(FRAME)
    assert bench.link.errors == 1 and bench.link.airtime_ms() == 103
    assert bench.listen() == [] and bench.modem.windows == []


def test_listening_without_having_sent_hears_nothing():
    bench = Bench()
    assert bench.listen() == [] and bench.modem.windows == []


def test_a_board_without_radio_or_with_a_dead_one_says_so():
    class NoRadio(Board):
        RADIO = None

    def dead(board):
        raise RuntimeError("Invalid initial status")

    for board, make in ((NoRadio, None), (Board, dead)):
        try:
            LoRa(board, make).open(Store(FakeNvs()), Bench(), Config(Store(FakeNvs())), lambda n: 0)
        except LinkError:
            continue
        raise AssertionError("no LinkError")


def test_settings_that_change_are_applied_to_the_modem():
    bench = Bench()
    assert bench.link.frame_max == 222
    bench.config.change({3: 11, 4: 5})
    bench.link.configure(bench.config)
    assert bench.link.frame_max == 51
    assert bench.exchange() == []
    assert (bench.modem.settings["sf"], bench.modem.settings["output_power"]) == (11, 5)
    assert bench.modem.sent[-1][1] == 11


def test_sensors_are_not_kept_waiting_longer_than_50_ms_by_any_step():
    # each pause is the node's to use; what lies between two pauses is calls that start or ask
    bench = Bench(spreading_factor=12)
    assert finish(bench.link.send(FRAME), bench.sleep_ms)
    began = bench.ms
    assert bench.listen() == []
    assert bench.ms - began > 5000
    for name in ("send", "recv"):
        assert not hasattr(bench.modem, name), "the blocking calls are not there to be used"


def test_a_window_that_the_node_comes_late_to_ends_when_it_should():
    bench = Bench()
    bench.send()
    ended = bench.ms
    steps = iter(bench.link.listen())
    bench.ms += next(steps) + 60  # another task took 60 ms
    next(steps)
    at, _, _, timeout_ms = bench.modem.windows[-1]
    on_time = ended + 4900
    assert 0 < at - on_time <= 80 and abs(at + timeout_ms - (on_time + 200 + 37 * 1.024 + 1)) <= 20
    # and one that is over is not opened
    bench.send()
    count = len(bench.modem.windows)
    steps = iter(bench.link.listen())
    bench.ms += next(steps) + 3000
    for pause in steps:
        bench.ms += pause
    assert len(bench.modem.windows) == count and bench.modem.asleep


def test_a_chip_that_says_for_ever_that_it_sends_or_receives_does_not_hang():
    for name in ("poll_send", "poll_recv"):
        bench = Bench()
        setattr(bench.modem, name, lambda: True)
        began = bench.ms
        bench.exchange()
        assert bench.ms - began < 12000
        assert bench.link.errors == (name == "poll_send")


def test_us915_answers_are_awaited_on_500_khz_channels():
    bench = Bench({"region": "US915"}, spreading_factor=9)
    bench.ms += 30000
    bench.modem.answer = Packet(b"\xe0answer")
    for _ in range(20):
        assert bench.exchange(bytes(60)) == [b"\xe0answer"]
        khz = bench.modem.sent[-1][0]
        channel = (khz - 902300) // 200
        assert (khz - 902300) % 200 == 0 and 0 <= channel < 64
        # LoRaWAN's RX1: channel modulo 8
        assert bench.modem.windows[-1][1:3] == (923300 + 600 * (channel % 8), 9)
        assert bench.modem.settings["bw"] == "500"
        assert bench.modem.windows[-1][3] < 400
    assert bench.modem.sent[-1][1] == 9


def test_slow_rates_are_left_to_short_frames_where_dwell_time_is_limited():
    for region in ("US915", "AU915", "AS923"):
        bench = Bench({"region": region}, spreading_factor=12)
        bench.ms += 30000
        # RP002: DR0 of US915 and DR2 of the others carry 19 bytes of MACPayload, which is 24 with MHDR and MIC
        for length, sf in ((13, 10), (24, 10), (25, 9), (66, 9), (67, 8), (138, 8), (139, 7), (222, 7)):
            assert bench.exchange(bytes(length)) is not None
            assert bench.modem.sent[-1][1] == sf, (region, length)
            bench.ms += 200000
        assert bench.link.wait_ms(223) is None
        assert bench.link.frame_max == 51


def test_every_frame_that_is_taken_keeps_the_dwell_time():
    for region in ("US915", "AU915", "AS923"):
        bench = Bench({"region": region})
        for sf in range(7, 13):
            bench.config.change({3: sf})
            bench.link.configure(bench.config)
            for length in range(13, 223):
                now_sf, airtime_ms = bench.link._plan(length)
                assert airtime_ms <= 400 and now_sf <= 10


def test_nothing_is_sent_on_hopping_channels_within_20_s_of_a_start():
    bench = Bench({"region": "US915", "channels_khz": tuple(range(903900, 905500, 200))})
    assert 19000 <= bench.link.wait_ms(51) <= 20000
    bench.ms += 20000
    assert bench.link.wait_ms(51) == 0


def test_eight_channels_are_used_alike_never_within_20_s_and_none_can_say_which_comes_next():
    channels = tuple(range(903900, 905500, 200))
    bench = Bench({"region": "US915", "channels_khz": channels})
    bench.ms += 20000
    last = {}
    after = {}
    for _ in range(800):
        before = bench.modem.sent[-1][0] if bench.modem.sent else None
        assert bench.exchange(bytes(222)) == []
        khz = bench.modem.sent[-1][0]
        assert bench.ms - last.get(khz, -20000) >= 20000
        last[khz] = bench.ms
        after.setdefault(before, set()).add(khz)
    counts = [sum(1 for sent in bench.modem.sent if sent[0] == khz) for khz in channels]
    assert min(counts) >= 80 and max(counts) <= 120, counts
    assert all(len(after[khz]) >= 6 for khz in channels)


def test_sixty_four_channels_are_all_used():
    bench = Bench({"region": "AU915"})
    bench.ms += 20000
    for _ in range(400):
        assert bench.exchange(bytes(40)) == []
    assert {khz for khz, _, _ in bench.modem.sent} == set(range(915200, 928000, 200))


def test_two_sub_bands_have_twice_the_airtime_and_each_its_own():
    channels = (867100, 867300, 867500, 867700, 867900, 868100, 868300, 868500)
    bench = Bench({"channels_khz": channels}, spreading_factor=12)
    while bench.exchange() is not None:
        assert len(bench.modem.sent) < 40
    low = sum(1 for khz, _, _ in bench.modem.sent if khz < 868000)
    assert low == len(bench.modem.sent) - low == 36000 // 2466
    assert bench.link.spare(51) == 0 and bench.link.airtime_ms() == 2 * low * 2466
    assert 0 < bench.link.wait_ms(51) <= 3840000


def test_what_is_left_of_the_airtime_is_told():
    bench = Bench(spreading_factor=12)
    before = bench.link.spare(51)
    assert before == 1000 - 1000 * 2466 // 36000
    assert bench.exchange() == []
    assert bench.link.spare(51) == 1000 - 1000 * 2 * 2466 // 36000
    assert Bench({"region": "AU915"}).link.spare(51) == 1000


def test_power_is_the_lesser_of_the_server_s_and_the_region_s():
    for region, power_dbm, used in (("EU868", 14, 14), ("AS923", 14, 13), ("AS923", 8, 8)):
        bench = Bench({"region": region}, power_dbm=power_dbm)
        assert bench.exchange() == []
        assert bench.modem.settings["output_power"] == used


def test_margin_reports_and_silence_change_rate_and_power_unless_that_is_switched_off():
    bench = Bench(spreading_factor=11)
    for _ in range(3):
        assert bench.exchange() == []
        bench.link.margin(22)
    assert bench.exchange() == [] and bench.modem.sent[-1][1] == 7
    assert bench.link.frame_max == 222
    for _ in range(30):
        bench.link.silent()
    assert bench.exchange() == [] and bench.modem.sent[-1][1] == 12 and bench.link.frame_max == 51
    # what the server sets is where it begins again
    bench.config.change({3: 9})
    bench.link.configure(bench.config)
    assert bench.exchange() == [] and bench.modem.sent[-1][1] == 9
    # another setting leaves it alone
    for _ in range(3):
        bench.link.margin(13)
    bench.config.change({1: 60})
    bench.link.configure(bench.config)
    assert bench.exchange() == [] and bench.modem.sent[-1][1] == 8
    bench.config.change({3: 10, 5: 0})
    bench.link.configure(bench.config)
    for db in (30, 30, 30, 30):
        bench.link.margin(db)
        bench.link.silent()
        bench.link.silent()
    assert bench.exchange() == [] and bench.modem.sent[-1][1] == 10
    assert bench.modem.settings["output_power"] == 14


def test_a_report_for_a_frame_that_went_out_faster_is_taken_for_the_rate_that_is_adapted():
    # 222 bytes go at SF8 with SF12 set: 4 dB there are 14 dB at SF12
    bench = Bench(spreading_factor=12)
    for _ in range(3):
        assert bench.exchange(bytes(222)) == []
        assert bench.modem.sent[-1][1] == 8
        bench.link.margin(4)
    assert bench.exchange() == [] and bench.modem.sent[-1][1] == 11


def test_rate_and_channels_go_on_after_deep_sleep_and_begin_anew_after_a_power_cut():
    rtc = FakeRtc()
    nvs = FakeNvs()
    bench = Bench(spreading_factor=12)
    bench.store = Store(nvs, rtc, False)
    bench.link = LoRa(Board, lambda board: bench.modem, lambda: bench.ms & 0x3FFFFFFF)
    bench.link.open(bench.store, bench, bench.config, bench.random)
    for _ in range(3):
        assert bench.exchange() == []
        bench.link.margin(22)
    order = bytes(bench.link._order)
    bench.link.suspend()
    bench.store.rtc_flush()
    for from_deep_sleep, sf in ((True, 8), (False, 12)):
        bench.link = LoRa(Board, lambda board: bench.modem, lambda: bench.ms & 0x3FFFFFFF)
        bench.link.open(Store(nvs, rtc, from_deep_sleep), bench, bench.config, bench.random)
        assert (bytes(bench.link._order) == order) == from_deep_sleep or order == bytes(range(3))
        assert bench.link._rate[0] == sf
        assert bench.link._plan(51)[0] == sf


def test_a_board_of_an_unknown_region_says_so():
    for region in ("MARS", "", None):
        try:
            Bench({"region": region})
        except LinkError:
            continue
        raise AssertionError(region)


def test_energy_is_that_of_airtime_and_window():
    bench = Bench({"tx_mw": 300, "rx_mw": 16})
    # SF7, 51 bytes: 102.7 ms at 300 mW are 31 mJ
    assert 31 <= bench.link.energy_mj(51) <= 36
    slow = Bench({"tx_mw": 300, "rx_mw": 16}, spreading_factor=12)
    assert 740 <= slow.link.energy_mj(51) <= 770


def test_what_is_kept_over_deep_sleep_has_room_beside_the_node_and_the_chain():
    for parts in ({"channels_khz": (867100, 867300, 867500, 868100, 868300, 868500)}, {"region": "US915"}):
        bench = Bench(parts)
        bench.store = bench.link._store = bench.link._ledger._store = Store(FakeNvs(), FakeRtc(), True)
        # sleep.py's and chain.py's, at their longest
        bench.store.rtc_put("node", bytes(1650))
        bench.store.rtc_put("chain", bytes(40))
        bench.link.suspend()
        bench.store.rtc_flush()
