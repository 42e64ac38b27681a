"""The heart rate that the driver gives on MicroPython, against heartpy over the same seconds of the same recording."""

import random
from collections.abc import Iterator

import pytest

from host_tools.sim.parts.max30102 import Max30102
from host_tools.sim.wearer import Recording, Wearer, recordings
from tests.support.bus import Bus
from tests.support.heart_reference import beat_times_s, example, heart_rate

LIMIT_BPM = 3.0
LOOK_S = 0.25  # whether the band is worn
SETTLE_S = 1.2  # sealband.sensors.heart.SETTLE
WINDOW_S = 8.0


@pytest.fixture(scope="module")
def bus() -> Iterator[Bus]:
    with Bus(heap="64wK") as bus:
        bus.run("from sealband.sensors.max30102 import HeartRate")
        yield bus


def readings(bus: Bus, wearer: Wearer, count: int, every_s: float) -> list[tuple[float, int | None]]:
    """(when the window began, beats a minute) of so many reads, one every so many seconds."""
    bus.solder([Max30102(wearer, bus.clock)])
    bus.run("sensor = HeartRate(bus.I2C(), sleep_ms=bus.sleep_ms, ticks_ms=bus.ticks_ms, rmssd_every=0)")
    result: list[tuple[float, int | None]] = []
    for _ in range(count):
        bus.run("sensor.start()")
        begun = bus.now
        bpm = bus.call("sensor.read()")[0]
        bus.run("sensor.stop()")
        assert bus.now - begun <= 10.1
        result.append((begun + LOOK_S + SETTLE_S, bpm))
        bus.now = begun + every_s
    return result


def recorded(wearer: Wearer, begin_s: float) -> list[float]:
    rate_hz = wearer.recording.rate_hz
    return [wearer.recorded(begin_s + index / rate_hz) for index in range(int(WINDOW_S * rate_hz))]


@pytest.mark.parametrize(("name", "least"), [("slow", 20), ("middle", 14), ("fast", 20)])
def test_driver_agrees_with_heartpy_on_recording(bus: Bus, name: str, least: int) -> None:
    # 20 windows that begin everywhere in the loop, over its seam too
    wearer = Wearer(seed=5, recording=name)
    print(f"\n{name}: window  device  heartpy  difference")
    differences = []
    for begin_s, bpm in readings(bus, wearer, 20, 9.8 + wearer.recording.duration_s / 20):
        reference = heart_rate(recorded(wearer, begin_s), wearer.recording.rate_hz)
        difference = None if bpm is None else bpm - reference.bpm
        if difference is not None:
            differences.append(difference)
        place = (begin_s + wearer.offset_s) % wearer.recording.duration_s
        print(
            f"{place:12.1f} s {bpm!s:>7} {reference.bpm:8.1f} {'-' if difference is None else f'{difference:+11.1f}'}"
        )
    assert len(differences) >= least
    assert max(map(abs, differences)) <= LIMIT_BPM


@pytest.mark.parametrize("factor", [0.65, 0.8, 1.3, 1.6, 2.0, 2.3])
@pytest.mark.parametrize("name", ["slow", "fast"])
def test_driver_agrees_with_heartpys_beats_when_the_recording_is_played_at_another_speed(
    bus: Bus, name: str, factor: float
) -> None:
    # the same waves from 36 to 220 beats/min; heartpy judges them at the speed that they had, where its defaults fit
    recording = Recording.load(name)
    beats = beat_times_s(recording.samples * 3, recording.rate_hz)
    wearer = Wearer(seed=5, recording=Recording(name, recording.rate_hz * factor, recording.samples))
    numbers = 0
    for begin_s, bpm in readings(bus, wearer, 12, 9.8 + wearer.recording.duration_s / 12):
        begin = (begin_s + wearer.offset_s) % wearer.recording.duration_s * factor
        seen = [beat for beat in beats if begin <= beat <= begin + WINDOW_S * factor]
        if bpm is not None:
            numbers += 1
            assert abs(bpm - 60 * factor * (len(seen) - 1) / (seen[-1] - seen[0])) <= LIMIT_BPM
    print(f"{name} x {factor}: {numbers} of 12 windows with a number")
    assert numbers >= (1 if factor >= 2 else 8)


@pytest.mark.parametrize(("number", "every_s", "least"), [(0, 1.5, 7), (1, 2.0, 25), (2, 4.0, 100)])
def test_driver_agrees_with_heartpy_on_its_whole_examples(bus: Bus, number: int, every_s: float, least: int) -> None:
    samples, rate_hz = example(number)
    wearer = Wearer(recording=Recording("example", rate_hz, tuple(samples)))
    start = bus.now - (bus.now + wearer.offset_s) % wearer.recording.duration_s
    count = int((wearer.recording.duration_s - 10.0) / every_s)
    agreed = unsteady = nothing = 0
    print(f"\nexample {number}: window  device  heartpy  difference")
    for step in range(count):
        bus.now = start + wearer.recording.duration_s + step * every_s
        ((begin_s, bpm),) = readings(bus, wearer, 1, 0.0)
        reference = heart_rate(recorded(wearer, begin_s), rate_hz)
        if bpm is None:
            nothing += 1
            continue
        note = "" if reference.steady else "  (heartpy lost or invented beats)"
        print(f"{step * every_s:12.1f} s {bpm:7} {reference.bpm:8.1f} {bpm - reference.bpm:+11.1f}{note}")
        if reference.steady:
            assert abs(bpm - reference.bpm) <= LIMIT_BPM
            agreed += 1
        else:
            unsteady += 1
    print(f"{count} windows: {agreed} agree, {nothing} without a number, {unsteady} that heartpy is not sure of")
    assert agreed >= least


def test_moving_wearer_of_the_example_gets_no_number(bus: Bus) -> None:
    # example 1: the sensor is moved about for the first half minute, and heartpy itself finds 190 beats/min there
    samples, rate_hz = example(1)
    wearer = Wearer(recording=Recording("example", rate_hz, tuple(samples)))
    start = bus.now - (bus.now + wearer.offset_s) % wearer.recording.duration_s + wearer.recording.duration_s
    found = []
    for step in range(12):
        bus.now = start + 2 * step
        found += [bpm for _, bpm in readings(bus, wearer, 1, 0.0)]
    assert found == [None] * 12


@pytest.mark.parametrize("name", recordings())
def test_moving_wearer_gets_no_number(bus: Bus, name: str) -> None:
    for seed in range(6):
        wearer = Wearer(seed, name, moving=[(0.0, 1e12)])
        assert [bpm for _, bpm in readings(bus, wearer, 2, 15.0)] == [None, None]
        assert bus.call("sensor.reason") != "good"


def test_late_polls_lose_samples_but_give_no_wrong_number(bus: Bus) -> None:
    late = random.Random(3)
    bus.late_s = lambda: late.choice((0.0, 0.0, 0.02, 0.3, 1.4) if late.random() < 0.5 else (0.0,))
    try:
        wearer = Wearer(seed=2, recording="fast")
        bus.solder([Max30102(wearer, bus.clock)])
        bus.run("sensor = HeartRate(bus.I2C(), sleep_ms=bus.sleep_ms, ticks_ms=bus.ticks_ms, rmssd_every=0)")
        numbers = 0
        for _ in range(15):
            bus.run("sensor.start()")
            begun = bus.now
            bpm = bus.call("sensor.read()")[0]
            span = recorded(wearer, begun + LOOK_S + SETTLE_S)
            if bpm is not None:
                numbers += 1
                # samples are missing inside, so the two do not see the same beats
                assert abs(bpm - heart_rate(span, wearer.recording.rate_hz).bpm) <= 2 * LIMIT_BPM
        assert bus.call("sensor.gaps") > 10
        print(f"{numbers} of 15 windows with a number, {bus.call('sensor.gaps')} gaps")
    finally:
        bus.late_s = lambda: 0.0
