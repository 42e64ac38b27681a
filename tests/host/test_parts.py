"""The register models against the datasheets: MAX30102 (19-7740 Rev 1) and TMP117 (SNOSD82D)."""

import statistics

import pytest

from host_tools.sim.parts import Fault, Nack, RegisterPart
from host_tools.sim.parts.max30102 import Max30102
from host_tools.sim.parts.tmp117 import Tmp117
from host_tools.sim.wearer import Wearer


class Clock:
    """Unix time that the test moves."""

    def __init__(self) -> None:
        self.now = 1_760_000_000.0

    def __call__(self) -> float:
        return self.now


class Still(Wearer):
    """A wearer whose skin has one temperature and whose pulse stands still."""

    celsius = 33.0

    def ppg(self, time_s: float) -> float:
        return 0.0

    def skin_temperature_c(self, time_s: float) -> float:
        return self.celsius


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def optical(clock: Clock) -> Max30102:
    return Max30102(Still(1), clock)


@pytest.fixture
def thermometer(clock: Clock) -> Tmp117:
    return Tmp117(Still(1), clock)


def peek(part: RegisterPart, register: int, count: int = 1) -> bytes:
    part.write(bytes([register]))
    return part.read(count)


def poke(part: RegisterPart, register: int, *values: int) -> None:
    part.write(bytes([register, *values]))


def measure(part: Max30102, mode: int = 2, average: int = 0, rate: int = 1, rollover: int = 0) -> None:
    poke(part, 0x08, average << 5 | rollover << 4)
    poke(part, 0x0A, 1 << 5 | rate << 2 | 3)
    poke(part, 0x0C, 0x1F, 0x1F)
    poke(part, 0x04, 0, 0, 0)
    poke(part, 0x09, mode)


def pointers(part: Max30102) -> tuple[int, int, int]:
    write, overflow, read = peek(part, 0x04, 3)
    return write, overflow, read


def test_max30102_identifies_itself(optical: Max30102) -> None:
    assert peek(optical, 0xFF) == b"\x15"
    assert peek(optical, 0x00) == b"\x01"  # PWR_RDY, cleared by reading
    assert peek(optical, 0x00) == b"\x00"


def test_max30102_measures_nothing_until_a_mode_is_set(optical: Max30102, clock: Clock) -> None:
    clock.now += 10
    assert pointers(optical) == (0, 0, 0)


@pytest.mark.parametrize(
    ("rate", "average", "hertz"), [(0, 0, 50), (1, 0, 100), (1, 2, 25), (2, 3, 25), (3, 5, 12.5), (3, 7, 12.5)]
)
def test_max30102_fills_its_fifo_at_the_set_rate(
    optical: Max30102, clock: Clock, rate: int, average: int, hertz: float
) -> None:
    measure(optical, rate=rate, average=average)
    clock.now += 20.5 / hertz
    assert pointers(optical) == (20, 0, 0)


@pytest.mark.parametrize(("mode", "length"), [(2, 3), (3, 6), (7, 3)])
def test_max30102_sample_has_three_bytes_a_channel(optical: Max30102, clock: Clock, mode: int, length: int) -> None:
    poke(optical, 0x11, 0x02)  # slot 1: infrared
    measure(optical, mode)
    clock.now += 0.055
    assert pointers(optical) == (5, 0, 0)
    data = peek(optical, 0x07, 2 * length)  # the address stays at the FIFO
    assert pointers(optical)[2] == 2
    for begin in range(0, 2 * length, 3):
        value = int.from_bytes(data[begin : begin + 3], "big")
        assert 50_000 < value < 200_000  # 18 bits, skin before the window


def test_max30102_without_rollover_drops_new_samples_and_counts_them(optical: Max30102, clock: Clock) -> None:
    measure(optical)
    clock.now += 0.325
    assert pointers(optical) == (0, 0, 0)  # full: the pointers meet
    assert peek(optical, 0x00)[0] & 0x80  # A_FULL
    clock.now += 0.05
    assert pointers(optical) == (0, 5, 0)
    clock.now += 60
    assert pointers(optical) == (0, 31, 0)  # the counter saturates
    peek(optical, 0x07, 3)
    write, overflow, read = pointers(optical)
    assert (overflow, read) == (0, 1)  # reading a sample clears it
    assert write == 0


def test_max30102_with_rollover_drops_old_samples(optical: Max30102, clock: Clock) -> None:
    measure(optical, rollover=1)
    clock.now += 0.365
    assert pointers(optical) == (4, 4, 4)


def test_max30102_averages(clock: Clock) -> None:
    def spread(average: int) -> float:
        part = Max30102(Still(1), clock, seed=4)
        measure(part, average=average)
        clock.now += 31.5 * (1 << average) / 100
        data = peek(part, 0x07, 31 * 3)
        values = [int.from_bytes(data[begin : begin + 3], "big") for begin in range(0, len(data), 3)]
        mean = sum(values) / len(values)
        return sum((value - mean) ** 2 for value in values) ** 0.5

    # noise of four averaged conversions is half that of one
    assert spread(2) == pytest.approx(spread(0) / 2, rel=0.35)


def test_max30102_sees_less_light_while_the_vessels_are_fuller(clock: Clock) -> None:
    wearer = Wearer(2, "slow")
    part = Max30102(wearer, clock)
    measure(part, rate=0)
    pairs = []
    for _ in range(20):
        begun = clock.now
        clock.now += 0.5
        data = peek(part, 0x07, 3 * (pointers(part)[0] - pointers(part)[2]) % 96)
        for index in range(len(data) // 3):
            pairs.append((wearer.ppg(begun + index / 50), int.from_bytes(data[3 * index : 3 * index + 3], "big")))
    means = [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
    product = sum((volume - means[0]) * (light - means[1]) for volume, light in pairs)
    powers = [sum((pair[column] - means[column]) ** 2 for pair in pairs) for column in (0, 1)]
    assert product / (powers[0] * powers[1]) ** 0.5 < -0.95


def test_max30102_light_follows_the_led_current(optical: Max30102, clock: Clock) -> None:
    def light(current: int) -> int:
        measure(optical)
        poke(optical, 0x0C, current)
        clock.now += 0.015
        return int.from_bytes(peek(optical, 0x07, 3), "big")

    assert light(0x10) * 2 == pytest.approx(light(0x20), rel=0.01)
    assert light(0) < 20
    assert light(0xFF) == (1 << 18) - 1  # the converter's end


def test_max30102_without_skin_sees_only_its_window(clock: Clock) -> None:
    part = Max30102(Wearer(1, away=[(0, 1e12)]), clock)
    measure(part)
    clock.now += 0.015
    assert int.from_bytes(peek(part, 0x07, 3), "big") < 3000


@pytest.mark.parametrize(("percent", "ratio"), [(99.08, 0.4), (95.76, 0.5), (86.0, 0.7967), (79.63, 1.0)])
def test_max30102_red_follows_the_wearers_saturation(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, percent: float, ratio: float
) -> None:
    # application note 6845, worked out by hand
    wearer = Wearer(1, "fast")
    monkeypatch.setattr(wearer, "spo2_percent", lambda _: percent)
    part = Max30102(wearer, clock)
    measure(part, mode=3, average=2)
    lights: list[list[int]] = [[], []]
    for _ in range(20):
        clock.now += 1.0
        data = peek(part, 0x07, 25 * 6)
        for place in range(0, len(data), 3):
            lights[place // 3 % 2].append(int.from_bytes(data[place : place + 3], "big"))
    swing = [statistics.pstdev(light) / statistics.fmean(light) for light in lights]
    assert swing[0] / swing[1] == pytest.approx(ratio, rel=0.02)


def test_max30102_leaking_light_is_seen_with_the_led_dark(clock: Clock) -> None:
    part = Max30102(Wearer(1, "fast"), clock, leak_na=lambda _: 1000.0)
    measure(part, mode=3)
    poke(part, 0x0C, 0, 0x1F)
    clock.now += 0.1
    red, infrared = peek(part, 0x07, 6)[:3], peek(part, 0x07, 6)[3:]
    # 1000 nA of 4096
    assert int.from_bytes(red, "big") == pytest.approx(1000 / 4096 * 262143, rel=0.01)
    assert int.from_bytes(infrared, "big") > 1.5 * int.from_bytes(red, "big")


def test_max30102_scale_ends_where_it_is_full(clock: Clock) -> None:
    part = Max30102(Wearer(1, "fast"), clock, leak_na=lambda _: 5000.0)
    measure(part, mode=3)
    clock.now += 0.1
    assert peek(part, 0x07, 6) == b"\x03\xff\xff" * 2


def test_max30102_shutdown_keeps_registers_and_stops_converting(optical: Max30102, clock: Clock) -> None:
    measure(optical)
    poke(optical, 0x09, 0x82)
    clock.now += 1
    assert pointers(optical) == (0, 0, 0)
    assert peek(optical, 0x0C) == b"\x1f"
    poke(optical, 0x09, 0x02)
    clock.now += 0.055
    assert pointers(optical) == (5, 0, 0)


def test_max30102_reset_clears_every_register_and_itself(optical: Max30102, clock: Clock) -> None:
    measure(optical)
    clock.now += 0.1
    poke(optical, 0x09, 0x40)
    assert peek(optical, 0x09) == b"\x00"
    assert peek(optical, 0x0C) == b"\x00"
    assert pointers(optical) == (0, 0, 0)


def test_max30102_empty_fifo_gives_no_new_sample(optical: Max30102, clock: Clock) -> None:
    measure(optical)
    clock.now += 0.015
    peek(optical, 0x07, 3)
    peek(optical, 0x07, 9)
    assert pointers(optical) == (1, 0, 1)


def test_max30102_shorter_pulse_gives_fewer_bits(optical: Max30102, clock: Clock) -> None:
    measure(optical)
    poke(optical, 0x0A, 1 << 5 | 1 << 2 | 0)  # 69 us: 15 bits, left-justified
    clock.now += 0.1
    data = peek(optical, 0x07, 24)
    assert all(int.from_bytes(data[begin : begin + 3], "big") % 8 == 0 for begin in range(0, 24, 3))


def test_max30102_measures_its_own_temperature(optical: Max30102, clock: Clock) -> None:
    poke(optical, 0x21, 0x01)
    assert peek(optical, 0x21) == b"\x01"
    clock.now += 0.03
    assert peek(optical, 0x21) == b"\x00"
    whole, fraction = peek(optical, 0x1F, 2)
    assert whole + fraction / 16 == pytest.approx(34.5, abs=0.07)
    assert peek(optical, 0x01) == b"\x02"


# SNOSD82D table 7-1
@pytest.mark.parametrize(
    ("celsius", "raw"),
    [
        (-25, "f380"),
        (-0.125, "fff0"),
        (-0.0078125, "ffff"),
        (0, "0000"),
        (0.0078125, "0001"),
        (1, "0080"),
        (25, "0c80"),
    ],
)
def test_tmp117_gives_temperatures_as_the_datasheet_lists_them(
    thermometer: Tmp117, clock: Clock, monkeypatch: pytest.MonkeyPatch, celsius: float, raw: str
) -> None:
    monkeypatch.setattr(Still, "celsius", celsius)
    clock.now += 1.2
    assert peek(thermometer, 0x00, 2).hex() == raw


def test_tmp117_registers_after_power_up(thermometer: Tmp117) -> None:
    expected = {0x00: "8000", 0x01: "0220", 0x02: "6000", 0x03: "8000", 0x07: "0000", 0x0F: "0117"}
    assert {register: peek(thermometer, register, 2).hex() for register in expected} == expected


def test_tmp117_result_is_ready_after_its_conversion_and_reading_clears_that(thermometer: Tmp117, clock: Clock) -> None:
    poke(thermometer, 0x01, 0x0C, 0x20)  # one shot, eight averaged
    clock.now += 0.1
    assert not peek(thermometer, 0x01, 2)[0] & 0x20
    assert peek(thermometer, 0x00, 2) == b"\x80\x00"  # -256 °C: nothing converted yet
    clock.now += 0.03
    assert peek(thermometer, 0x01, 2) == b"\x24\x20"  # ready, and shut down again
    assert peek(thermometer, 0x01, 2) == b"\x04\x20"
    assert peek(thermometer, 0x00, 2).hex() == f"{33 * 128:04x}"


def test_tmp117_shut_down_converts_nothing(thermometer: Tmp117, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.now += 1.2
    peek(thermometer, 0x00, 2)
    poke(thermometer, 0x01, 0x04, 0x20)
    monkeypatch.setattr(Still, "celsius", 40.0)
    clock.now += 60
    assert peek(thermometer, 0x00, 2).hex() == f"{33 * 128:04x}"


def test_tmp117_converts_continuously_once_a_second(
    thermometer: Tmp117, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = 0
    for _ in range(50):
        clock.now += 0.1
        ready += bool(peek(thermometer, 0x01, 2)[0] & 0x20)
    assert ready == 5


def test_tmp117_read_only_registers_stay(thermometer: Tmp117) -> None:
    poke(thermometer, 0x0F, 0x12, 0x34)
    poke(thermometer, 0x00, 0x12, 0x34)
    assert peek(thermometer, 0x0F, 2) == b"\x01\x17"
    assert peek(thermometer, 0x00, 2) == b"\x80\x00"


def test_tmp117_soft_reset(thermometer: Tmp117) -> None:
    poke(thermometer, 0x02, 0x11, 0x11)
    poke(thermometer, 0x01, 0x00, 0x02)
    assert peek(thermometer, 0x02, 2) == b"\x60\x00"


@pytest.mark.parametrize("part", ["optical", "thermometer"])
def test_faults(part: str, request: pytest.FixtureRequest, clock: Clock) -> None:
    faulty: RegisterPart = request.getfixturevalue(part)
    faulty.fault = Fault.ABSENT
    with pytest.raises(Nack):
        faulty.write(b"\x00")
    with pytest.raises(Nack):
        faulty.write(b"")  # a scan
    faulty.fault = Fault.LOW
    assert peek(faulty, 0xFF, 2) == b"\x00\x00"
    faulty.fault = Fault.HIGH
    assert peek(faulty, 0xFF, 2) == b"\xff\xff"
    faulty.fault = Fault.RANDOM
    assert peek(faulty, 0x00, 32) != peek(faulty, 0x00, 32)
    faulty.fault = Fault.FLAKY
    refused = 0
    for _ in range(9):
        try:
            faulty.write(b"\x00")
        except Nack:
            refused += 1
    assert refused == 3
    faulty.fault = None
    faulty.write(b"\x00")
