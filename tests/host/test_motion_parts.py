"""The register models of the accelerometers against the datasheets: LSM6DSOX (DS12814, AN5272), BMA423 (DS000)."""

import itertools

import pytest

import boards
from host_tools.sim.clock import SimClock
from host_tools.sim.movement import G_MS2, Vector
from host_tools.sim.outfit import outfit
from host_tools.sim.parts import Fault, Nack, RegisterPart
from host_tools.sim.parts.bma423 import Bma423
from host_tools.sim.parts.lsm6dsox import Lsm6dsox
from host_tools.sim.wearer import Wearer


class Clock:
    """Unix time that the test moves."""

    def __init__(self) -> None:
        self.now = 1_760_000_000.0

    def __call__(self) -> float:
        return self.now


class Arm(Wearer):
    """A wearer whose arm is where the test puts it; it moves from `moves_s` on."""

    def __init__(self) -> None:
        super().__init__(1)
        self.up: Vector = (0.0, 0.0, 1.0)
        self.then: Vector | None = None
        self.moves_s = 0.0
        self.walked = 0.0

    def acceleration_ms2(self, time_s: float) -> Vector:
        x, y, z = self.then if self.then and time_s >= self.moves_s else self.up
        return x * G_MS2, y * G_MS2, z * G_MS2

    def activity(self, time_s: float) -> str:  # type: ignore[override]
        return "falling"

    def steps(self, from_s: float, to_s: float) -> int:
        return int((to_s - from_s) * self.walked)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def arm() -> Arm:
    return Arm()


@pytest.fixture
def st(arm: Arm, clock: Clock) -> Lsm6dsox:
    return Lsm6dsox(arm, clock)


@pytest.fixture
def bosch(arm: Arm, clock: Clock) -> Bma423:
    return Bma423(arm, clock)


def peek(part: RegisterPart, register: int, count: int = 1) -> bytes:
    part.write(bytes([register]))
    return part.read(count)


def poke(part: RegisterPart, register: int, *values: int) -> None:
    part.write(bytes([register, *values]))


def measure(part: Lsm6dsox, mode: int = 6) -> None:
    poke(part, 0x10, 0x3C)  # 52 Hz, 8 g
    poke(part, 0x09, 0x03)
    poke(part, 0x0A, mode)


def unread(part: Lsm6dsox) -> int:
    low, high = peek(part, 0x3A, 2)
    return low | (high & 3) << 8


def test_lsm6dsox_powers_up_as_its_datasheet_has_it(st: Lsm6dsox, clock: Clock) -> None:
    assert peek(st, 0x0F) == b"\x6c"
    assert (peek(st, 0x02), peek(st, 0x12), peek(st, 0x18)) == (b"\x3f", b"\x04", b"\xe0")
    assert peek(st, 0x10) == b"\0"
    clock.now += 10
    assert unread(st) == 0 and peek(st, 0x1E) == b"\0"


def test_lsm6dsox_takes_nothing_where_it_is_read_only(st: Lsm6dsox) -> None:
    for register in (0x0F, 0x1A, 0x28, 0x3A, 0x78):
        before = peek(st, register)
        poke(st, register, 0x55)
        assert peek(st, register) == before


@pytest.mark.parametrize(("fs", "sensitivity_mg"), [(0, 0.061), (2, 0.122), (3, 0.244), (1, 0.488)])
def test_lsm6dsox_has_the_sensitivities_of_its_table_3(
    st: Lsm6dsox, arm: Arm, clock: Clock, fs: int, sensitivity_mg: float
) -> None:
    arm.up = (1.0, -0.5, 0.25)
    poke(st, 0x10, 0x30 | fs << 2)
    clock.now += 1
    data = peek(st, 0x28, 6)
    for index, g in enumerate(arm.up):
        raw = int.from_bytes(data[2 * index : 2 * index + 2], "little", signed=True)
        assert raw * sensitivity_mg / 1000 == pytest.approx(g, abs=0.015)


def test_lsm6dsox_fifo_has_tagged_words_of_even_parity_and_goes_round(st: Lsm6dsox, clock: Clock) -> None:
    measure(st)
    clock.now += 1.0
    assert unread(st) == 52
    data = peek(st, 0x78, 7 * 52)
    tags = [data[index] for index in range(0, len(data), 7)]
    assert {tag >> 3 for tag in tags} == {2}
    assert all(tag.bit_count() % 2 == 0 for tag in tags)
    assert all((other >> 1 & 3) - (one >> 1 & 3) in (1, -3) for one, other in itertools.pairwise(tags))
    assert unread(st) == 0
    # section 9.78: nothing is left to be told
    assert peek(st, 0x78, 7) == bytes(7)


def test_lsm6dsox_fifo_of_512_words_overruns_in_continuous_mode_and_stops_in_fifo_mode(
    st: Lsm6dsox, arm: Arm, clock: Clock
) -> None:
    for mode, newest in ((6, 4.0), (1, 1.0)):
        measure(st, 0)
        measure(st, mode)
        arm.up = (0.0, 0.0, 1.0)
        clock.now += 10.0
        assert unread(st) == 512
        arm.up = (0.0, 0.0, 4.0)
        clock.now += 1.0
        flags = peek(st, 0x3B)[0]
        assert flags & 0x60 == 0x60  # FIFO_OVR_IA, FIFO_FULL_IA
        last = peek(st, 0x78, 7 * 512)[-2:]
        assert int.from_bytes(last, "little", signed=True) / 4096 == pytest.approx(newest, abs=0.02)


def test_lsm6dsox_software_reset_forgets_everything(st: Lsm6dsox, clock: Clock) -> None:
    measure(st)
    clock.now += 1
    poke(st, 0x12, 0x01)
    assert peek(st, 0x10) == b"\0" and peek(st, 0x12) == b"\x04" and unread(st) == 0


def arm_for_falls(part: Lsm6dsox, latched: int = 1) -> None:
    measure(part)
    poke(part, 0x5B, 0x0C)
    poke(part, 0x5D, 0x2F)
    poke(part, 0x56, 0x40 | latched)
    poke(part, 0x58, 0x80)
    poke(part, 0x5E, 0x30)


def test_lsm6dsox_free_fall_raises_int1_after_its_duration_and_stays_latched_until_it_is_read(
    st: Lsm6dsox, arm: Arm, clock: Clock
) -> None:
    arm_for_falls(st)
    clock.now += 2
    assert not st.interrupt(clock.now)
    arm.then, arm.moves_s = (0.1, 0.1, 0.2), clock.now + 1.0
    # five samples, and one more to be longer than FF_DUR
    assert not st.interrupt(clock.now + 1.0 + 5 / 52)
    assert st.interrupt(clock.now + 1.0 + 8 / 52)
    clock.now += 2
    assert st.interrupt(clock.now)
    arm.then = None
    clock.now += 1
    assert st.interrupt(clock.now)
    assert peek(st, 0x1A)[0] & 1
    assert not st.interrupt(clock.now) and not peek(st, 0x1A)[0]


def test_lsm6dsox_free_fall_asks_for_all_three_axes(st: Lsm6dsox, arm: Arm, clock: Clock) -> None:
    arm_for_falls(st)
    arm.up = (0.1, 0.1, 0.6)
    clock.now += 2
    assert not st.interrupt(clock.now)


def test_lsm6dsox_impact_raises_int1_by_the_slope_and_only_where_it_is_routed(
    st: Lsm6dsox, arm: Arm, clock: Clock
) -> None:
    arm_for_falls(st)
    clock.now += 1
    # half the difference of two samples: 1.3 g is below 12/64 of 8 g, 1.7 g above
    for peak, raised in ((3.6, False), (4.4, True)):
        peek(st, 0x1A)
        arm.up = (0.0, 0.0, peak)
        clock.now += 1 / 52
        assert st.interrupt(clock.now) is raised, peak
        arm.up = (0.0, 0.0, 1.0)
        clock.now += 1 / 52
        assert st.interrupt(clock.now) is raised, peak
    poke(st, 0x5E, 0x10)
    assert not st.interrupt(clock.now)


def test_looking_ahead_at_int1_changes_nothing(st: Lsm6dsox, arm: Arm, clock: Clock) -> None:
    arm_for_falls(st)
    clock.now += 2
    arm.then, arm.moves_s = (0.0, 0.0, 0.0), clock.now + 5
    left = unread(st)
    for _ in range(2):
        ahead = [st.interrupt(clock.now + 0.1 * step) for step in range(80)]
        assert ahead.index(True) == pytest.approx(51, abs=1) and all(ahead[ahead.index(True) :])
    assert unread(st) == left and not st.interrupt(clock.now)
    clock.now += 8
    assert st.interrupt(clock.now)


def test_lsm6dsox_pedometer_counts_in_its_own_bank_after_a_debounce_of_ten(
    st: Lsm6dsox, arm: Arm, clock: Clock
) -> None:
    measure(st)
    arm.walked = 2.0
    poke(st, 0x01, 0x80)
    poke(st, 0x04, 0x08)
    clock.now += 4
    assert peek(st, 0x62, 2) == b"\0\0"
    clock.now += 146
    assert int.from_bytes(peek(st, 0x62, 2), "little") == 300
    poke(st, 0x64, 0x80)
    assert peek(st, 0x62, 2) == b"\0\0"
    poke(st, 0x01, 0x00)
    assert peek(st, 0x62, 2) == b"\0\0", "the user bank has no such register"


def start(part: Bma423, header: int = 0x40) -> None:
    poke(part, 0x7C, 0)
    poke(part, 0x40, 0xA7)
    poke(part, 0x41, 0x02)
    poke(part, 0x48, 0x00)
    poke(part, 0x49, header)
    poke(part, 0x7D, 0x04)


def length(part: Bma423) -> int:
    low, high = peek(part, 0x24, 2)
    return low | (high & 0x3F) << 8


def test_bma423_powers_up_suspended_as_its_datasheet_has_it(bosch: Bma423, clock: Clock) -> None:
    assert peek(bosch, 0x00) == b"\x13"
    assert peek(bosch, 0x40, 2) == b"\xa8\x01" and peek(bosch, 0x48, 2) == b"\x02\x10"
    assert peek(bosch, 0x7C, 2) == b"\x03\x00"
    clock.now += 10
    assert length(bosch) == 0


@pytest.mark.parametrize(("setting", "lsb_per_g"), [(0, 1024), (1, 512), (2, 256), (3, 128)])
def test_bma423_has_the_sensitivities_of_its_table(
    bosch: Bma423, arm: Arm, clock: Clock, setting: int, lsb_per_g: int
) -> None:
    start(bosch)
    poke(bosch, 0x41, setting)
    arm.up = (1.0, -0.5, 0.25)
    clock.now += 1
    data = peek(bosch, 0x12, 6)
    for index, g in enumerate(arm.up):
        raw = int.from_bytes(data[2 * index : 2 * index + 2], "little", signed=True)
        assert raw % 16 == 0
        assert raw / 16 / lsb_per_g == pytest.approx(g, abs=0.02)


def test_bma423_fifo_without_headers_keeps_the_newest_170_samples(bosch: Bma423, arm: Arm, clock: Clock) -> None:
    start(bosch)
    clock.now += 1
    assert length(bosch) == 300
    arm.up = (0.0, 0.0, 2.0)
    clock.now += 60
    assert length(bosch) == 170 * 6
    data = peek(bosch, 0x26, 170 * 6 + 6)
    assert length(bosch) == 0
    assert int.from_bytes(data[4:6], "little", signed=True) / 4096 == pytest.approx(2.0, abs=0.02)
    # "FIFO overreads"
    assert data[-6:] == b"\x00\x80" * 3


def test_bma423_fifo_with_headers_tells_what_it_skipped_and_the_time(bosch: Bma423, clock: Clock) -> None:
    start(bosch, 0x50)
    poke(bosch, 0x48, 0x02)
    clock.now += 4
    data = peek(bosch, 0x26, 2 + 7 * 146 + 5)
    assert data[0] == 0x40 and data[1] == 200 - 146
    assert data[2] == 0x84 and data[2 + 7 * 146] == 0x44


def test_bma423_tells_a_word_that_was_read_in_part_once_more(bosch: Bma423, clock: Clock) -> None:
    start(bosch)
    clock.now += 0.1
    assert length(bosch) == 30
    assert peek(bosch, 0x26, 4) == peek(bosch, 0x26, 6)[:4]
    assert length(bosch) == 24


def test_bma423_fifo_is_not_read_with_advanced_power_saving(bosch: Bma423, clock: Clock) -> None:
    start(bosch)
    clock.now += 1
    poke(bosch, 0x7C, 0x03)
    assert peek(bosch, 0x26, 6) == bytes(6)


@pytest.mark.parametrize("name", ["LSM6DSOX", "BMA423"])
def test_faults_of_an_accelerometer_are_those_of_the_other_parts(name: str, arm: Arm, clock: Clock) -> None:
    part: RegisterPart = Lsm6dsox(arm, clock) if name == "LSM6DSOX" else Bma423(arm, clock)
    part.fault = Fault.ABSENT
    with pytest.raises(Nack):
        peek(part, 0x0F)
    part.fault = Fault.HIGH
    assert peek(part, 0x00, 2) == b"\xff\xff"
    part.fault = None
    if isinstance(part, Lsm6dsox):
        measure(part)
    else:
        start(part)
    part.fault = Fault.FROZEN
    clock.now += 5
    assert (unread(part) if isinstance(part, Lsm6dsox) else length(part)) == 0


def test_virtual_board_has_an_accelerometer_and_its_line() -> None:
    clock = SimClock.start()
    found = outfit(boards.load("VIRTUAL"), Wearer(1), clock)
    assert 0x6A in {part.address for part in found.parts}
    assert found.inputs[34](clock.now()) == 0
