# The LoRa link against a modem with the driver's interface: settings, channels, the receive window, the duty cycle.
from device.fakes import FakeNvs, finish

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
    def __init__(self, **settings):
        self.ms = 0x3FFFFFFF - 2000  # ticks wrap during the first receive window
        self.begun = self.ms
        self.store = Store(FakeNvs())
        self.config = Config(self.store, settings)
        self.modem = Modem(self)
        self.seed = 5
        self.link = LoRa(Board, lambda board: self.modem, lambda: self.ms & 0x3FFFFFFF)
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
