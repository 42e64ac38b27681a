"""Steps, activity, falls and deep sleep: the device's `motion()` on MicroPython against both accelerometers' models."""

import random
from collections.abc import Iterator

import pytest

from host_tools.sim import script
from host_tools.sim.movement import G_MS2, Vector
from host_tools.sim.parts import Fault, Nack
from host_tools.sim.parts.bma423 import Bma423
from host_tools.sim.parts.lsm6dsox import Lsm6dsox
from host_tools.sim.script import Script, Span
from host_tools.sim.wearer import Wearer
from tests.support.bus import Bus
from tests.support.micropython import MicropythonError

PARTS = {"LSM6DSOX": (Lsm6dsox, 0x6A), "BMA423": (Bma423, 0x19)}
BOTH = pytest.mark.parametrize("name", sorted(PARTS))


@pytest.fixture(scope="module")
def process() -> Iterator[Bus]:
    with Bus(heap="64wK") as bus:
        bus.run("import motion_device")
        yield bus


@pytest.fixture
def bus(process: Bus) -> Iterator[Bus]:
    process.late_s = lambda: 0.0
    yield process
    process.run("band = None")


def put_on(bus: Bus, name: str, *spans: Span, seed: int = 3, wearer: Wearer | None = None) -> Lsm6dsox | Bma423:
    """A band on somebody whose script begins now."""
    make, address = PARTS[name]
    part: Lsm6dsox | Bma423 = make(wearer or Wearer(seed, script=Script(spans, begins=bus.now)), bus.clock)
    bus.solder([part])
    bus.run(f"band = motion_device.Band({name!r}, {address})")
    return part


def live(bus: Bus, seconds: float) -> None:
    bus.run(f"band.live({seconds})")


def reading(bus: Bus) -> tuple[int, int, int]:
    steps, activity, rms = bus.call("band.reading()")
    return steps, activity, rms


class Pose(Wearer):
    """An arm that is held so; the part's noise is all that moves."""

    def __init__(self, up: Vector = (0.0, 0.0, 1.0)) -> None:
        super().__init__(1)
        self.up = up

    def acceleration_ms2(self, time_s: float) -> Vector:
        return self.up[0] * G_MS2, self.up[1] * G_MS2, self.up[2] * G_MS2


@BOTH
def test_a_walk_is_counted_and_named_and_so_is_a_run(bus: Bus, name: str) -> None:
    put_on(bus, name, script.walk(20, 200), script.run(260, 380))
    wearer = Wearer(3, script=Script((script.walk(20, 200), script.run(260, 380)), begins=bus.now))
    begun = bus.now
    live(bus, 18)
    assert reading(bus)[:2] == (0, 0)
    for until, activity in ((210, 1), (256, 0), (384, 2)):
        at = bus.now
        live(bus, begun + until - bus.now)
        steps, kind, rms = reading(bus)
        true = wearer.steps(at, bus.now)
        assert abs(steps - true) <= max(2, 0.02 * true), (steps, true)
        assert kind == activity
        assert (rms > 100) == bool(activity)
    # it moves, rests for a minute, and moves again
    assert bus.call("band.node.levels") == [1, 0, 1] or bus.call("band.node.levels") == [1]
    assert bus.call("band.node.events") == []


@BOTH
def test_a_minute_of_stillness_is_told_to_the_pace_once_and_movement_again(bus: Bus, name: str) -> None:
    put_on(bus, name, script.walk(10, 40), script.walk(140, 170))
    live(bus, 38)
    assert bus.call("band.node.levels") == [1]
    live(bus, 90)
    assert bus.call("band.node.levels") == [1, 0]
    live(bus, 30)
    assert bus.call("band.node.levels") == [1, 0, 1]


@BOTH
@pytest.mark.parametrize("seed", [1, 2, 6, 9])
def test_a_fall_is_an_event_with_its_peak_and_the_stillness_and_an_alarm(bus: Bus, name: str, seed: int) -> None:
    put_on(bus, name, script.fall(30.0, lies_s=60.0), seed=seed)
    live(bus, 90)
    ((event, peak_mg, still_s),) = bus.call("band.node.events")
    assert event == 1
    assert 2500 <= peak_mg <= 14000
    assert 8 <= still_s <= 30
    assert 2 in bus.call("band.node.levels")


def test_a_fall_that_cannot_be_sealed_at_once_is_told_when_it_can_be(bus: Bus) -> None:
    put_on(bus, "LSM6DSOX", script.fall(30.0, lies_s=60.0), seed=1)
    bus.run("band.node.refuses = 12")
    live(bus, 120)
    ((event, peak_mg, _),) = bus.call("band.node.events")
    assert event == 1 and peak_mg > 2500
    # another one, where flash refuses for good: given up, and what is watched goes on
    put_on(bus, "LSM6DSOX", script.fall(30.0, lies_s=60.0), seed=1)
    bus.run("band.node.refuses = 1000")
    live(bus, 180)
    assert bus.call("band.node.refuses") == 970
    assert bus.call("band.node.events") == []


@BOTH
def test_level_is_what_the_arm_does_in_this_second(bus: Bus, name: str) -> None:
    put_on(bus, name, script.walk(20, 40))
    assert bus.call("band.motion.level()") is None, "nothing is known before it runs"
    live(bus, 10)
    assert bus.call("band.motion.level()") < 15
    live(bus, 16)
    # a wearer who walks, by the model's own figures: 0.1 to 0.6 g
    assert 100 < bus.call("band.motion.level()") < 700
    bus.now += 16.0
    # asked without a look in between: the FIFO is read now, not what was there two seconds ago
    assert bus.call("band.motion.level()") < 15


@BOTH
def test_without_a_watcher_it_is_a_plain_sensor(bus: Bus, name: str) -> None:
    part = put_on(bus, name, script.walk(0, 100))
    bus.now += 10
    bus.run("band.motion.start()")
    _, _, rms = reading(bus)
    bus.run("band.motion.stop()")
    assert rms > 100
    part.write(b"\x10" if name == "LSM6DSOX" else b"\x7d")
    assert part.read(1) == b"\0", "it is off"


@BOTH
def test_closed_it_is_off_and_may_be_watched_anew(bus: Bus, name: str) -> None:
    part = put_on(bus, name)
    live(bus, 4)
    bus.run("band.motion.close()")
    register = b"\x10" if name == "LSM6DSOX" else b"\x7d"
    part.write(register)
    assert part.read(1) == b"\0"
    bus.now += 600
    bus.run("band.begin()")
    live(bus, 4)
    assert reading(bus)[0] == 0


@BOTH
@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_is_a_sensor_error_and_a_part_that_is_well_again_works(bus: Bus, name: str, fault: Fault) -> None:
    part = put_on(bus, name)
    for first in (True, False):
        if not first:
            live(bus, 6)
        part.fault = fault
        if fault is Fault.DEAF and not first:
            # it goes on as it was set up, and no harm is done
            live(bus, 12)
        else:
            with pytest.raises(MicropythonError, match=r"^SensorError: "):
                live(bus, 12)
        part.fault = None
        bus.run("band.begin()")
        bus.run("band.motion.close()")
        bus.run("band.begin()")
        live(bus, 6)
        assert reading(bus)[:2] == (0, 0)


@BOTH
def test_another_part_at_the_address_is_refused(bus: Bus, name: str) -> None:
    make, address = PARTS[name]
    other = (
        Lsm6dsox(Wearer(1), bus.clock, who_am_i=0x69)
        if make is Lsm6dsox
        else Bma423(Wearer(1), bus.clock, chip_id=0x12)
    )
    bus.solder([other])
    bus.run(f"band = motion_device.Band({name!r}, {address})")
    with pytest.raises(MicropythonError, match=r"SensorError: .* part id is (69, not 6c|12, not 13)"):
        live(bus, 2)


@BOTH
@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, 0.0, 0.0), (3.0, 0.0, 0.0)])
def test_a_part_that_says_the_same_for_seconds_is_stuck(
    bus: Bus, name: str, up: Vector, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = put_on(bus, name, wearer=Pose(up))
    monkeypatch.setattr(part, "_noise", type("Silent", (), {"gauss": staticmethod(lambda mean, _: mean)})())
    if name == "BMA423" and up[2]:
        # 12 bits of an arm on a table may well be the same for minutes
        live(bus, 60)
        return
    with pytest.raises(MicropythonError, match=f"SensorError: {name} is stuck"):
        live(bus, 12)


@BOTH
def test_a_session_that_keeps_the_node_busy_loses_samples_and_nothing_else(bus: Bus, name: str) -> None:
    put_on(bus, name, script.walk(0, 300))
    live(bus, 20)
    reading(bus)
    bus.now += 30.0
    live(bus, 20)
    steps, activity, _ = reading(bus)
    assert activity == 1
    # 20 s and what the FIFO kept: 3.4 s or 9.8 s
    assert 20 <= steps <= 80
    assert bus.call("band.node.events") == []


def test_lsm6dsox_ends_deep_sleep_by_its_pin_when_the_wearer_falls_and_the_fall_is_told(bus: Bus) -> None:
    part = put_on(bus, "LSM6DSOX", script.fall(100.0, lies_s=60.0), seed=2)
    assert isinstance(part, Lsm6dsox)
    begun = bus.now
    live(bus, 20)
    assert bus.call("band.asleep()") == (34, 1)
    raised = next(step for step in range(2000) if part.interrupt(bus.now + 0.1 * step))
    assert 100.0 <= bus.now + 0.1 * raised - begun <= 102.0
    # boot loader and imports
    bus.now += 0.1 * raised + 2.5
    bus.run("band = motion_device.Band('LSM6DSOX', 0x6a)")
    bus.run("band.motion.woken()")
    live(bus, 2)
    assert not part.interrupt(bus.now)
    assert bus.call("band.motion.busy()") is True
    live(bus, 40)
    ((event, peak_mg, _),) = bus.call("band.node.events")
    assert event == 1 and peak_mg > 2500
    assert bus.call("band.motion.busy()") is False


def test_lsm6dsox_is_not_woken_by_a_walk_and_its_pedometer_loses_no_step_of_it(bus: Bus) -> None:
    spans = (script.walk(60, 360),)
    wearer = Wearer(3, script=Script(spans, begins=bus.now))
    part = put_on(bus, "LSM6DSOX", wearer=wearer)
    assert isinstance(part, Lsm6dsox)
    live(bus, 10)
    reading(bus)
    begun = bus.now
    bus.call("band.asleep()")
    told = 0
    for nap in range(14):
        assert not part.interrupt(bus.now)
        bus.now += 30.0
        assert not part.interrupt(bus.now)
        bus.run("band = motion_device.Band('LSM6DSOX', 0x6a)")
        live(bus, 2)
        if nap % 2:
            # a reading a minute, asleep and awake every half minute
            told += reading(bus)[0]
        bus.call("band.asleep()")
    assert told == wearer.steps(begun, bus.now)


def test_after_deep_sleep_the_pace_follows_what_the_fifo_kept(bus: Bus) -> None:
    put_on(bus, "LSM6DSOX", script.walk(60, 120))
    begun = bus.now
    live(bus, 4)
    for at_s, levels in ((50, [0]), (90, [1]), (100, [1]), (150, [0])):
        bus.call("band.asleep()")
        bus.now = begun + at_s
        bus.run("band = motion_device.Band('LSM6DSOX', 0x6a)")
        live(bus, 2)
        assert bus.call("band.node.levels") == levels, at_s


def test_lsm6dsox_that_nobody_consented_to_is_not_armed(bus: Bus) -> None:
    part = put_on(bus, "LSM6DSOX", script.fall(20.0))
    assert isinstance(part, Lsm6dsox)
    assert bus.call("band.motion.arm()") is None
    bus.now += 60
    assert not part.interrupt(bus.now)


def test_a_bus_that_fails_at_any_one_moment_hides_no_register_for_good(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = put_on(bus, "LSM6DSOX")
    begin = part._begin
    live(bus, 4)
    bus.call("band.asleep()")
    fails_at, failed = 0, True
    while failed:
        # a wake: what the pedometer counted is read, and the part armed anew; one of the transactions fails
        bus.now += 1
        bus.run("band = motion_device.Band('LSM6DSOX', 0x6a)")
        live(bus, 2)
        counted, failed = 0, False
        fails_at += 1

        def once(fails_at: int = fails_at) -> None:
            nonlocal counted, failed
            counted += 1
            if counted == fails_at:
                failed = True
                raise Nack
            begin()

        monkeypatch.setattr(part, "_begin", once)
        bus.run("motion_device.bus.attempt(lambda: next(band.motion.measure()))")
        bus.call("band.asleep()")
        monkeypatch.setattr(part, "_begin", begin)
        # and the next wake is as any
        bus.now += 1
        bus.run("band = motion_device.Band('LSM6DSOX', 0x6a)")
        live(bus, 2)
        assert bus.call("band.asleep()") == (34, 1), fails_at
    assert fails_at > 20


def test_bma423_wakes_nobody_and_says_so(bus: Bus) -> None:
    put_on(bus, "BMA423", script.fall(20.0))
    live(bus, 10)
    assert bus.call("band.motion.arm()") is None


@pytest.mark.parametrize("fault", [Fault.ABSENT, Fault.LOW, Fault.HIGH, Fault.RANDOM])
@BOTH
def test_a_part_that_fails_before_deep_sleep_arms_nothing(bus: Bus, name: str, fault: Fault) -> None:
    part = put_on(bus, name)
    live(bus, 4)
    part.fault = fault
    assert bus.call("band.motion.arm()") is None


def test_a_board_without_accelerometer_has_no_motion(bus: Bus) -> None:
    assert bus.call("motion_device.motion(motion_device.Board('TMP117', 0x48))") is None


@BOTH
def test_hundreds_of_spoilt_looks_raise_nothing_but_sensor_errors_and_alarm_nobody(bus: Bus, name: str) -> None:
    source = random.Random(11)
    part = put_on(bus, name, script.walk(300, 900))
    errors = 0
    for _ in range(400):
        part.fault = source.choice([None, None, None, *Fault])
        bus.late_s = lambda: source.choice((0.0, 0.0, 0.0, 5.0))
        level = bus.call("band.motion.level()")
        assert level is None or 0 <= level <= 14000
        error = bus.call("bus.attempt(band.live, 2)")
        if error is not None:
            assert error.startswith("SensorError: "), error
            errors += 1
            part.fault = None
            bus.run("band.motion.close()")
            bus.run("band.begin()")
        else:
            values = bus.call("bus.attempt(band.reading)")
            if isinstance(values, tuple):
                steps, activity, rms = values
                assert 0 <= steps <= 400 and 0 <= activity <= 3 and 0 <= rms <= 14000
            else:
                assert values.startswith("SensorError: "), values
    assert 80 < errors < 320
    assert bus.call("band.node.events") == []


@BOTH
def test_one_flipped_bit_in_a_quiet_hour_is_no_fall(bus: Bus, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part = put_on(bus, name)
    live(bus, 20)
    read = part.read
    spoilt = []

    def flipped(count: int) -> bytes:
        data = bytearray(read(count))
        if len(data) > 5 and len(spoilt) < 3:
            spoilt.append(bus.now)
            data[2 if name == "LSM6DSOX" else 1] ^= 0x40
        return bytes(data)

    monkeypatch.setattr(part, "read", flipped)
    live(bus, 60)
    assert spoilt and bus.call("band.node.events") == []
