"""Steps and falls of the device on MicroPython, over recordings and over what might be taken for either.

Recordings: a walk at the lower back, against the steps that gaitpy finds in it, and 81 minutes of shoulder exercises at
the wrist, in which nobody walks or falls. Everything else is made up (tests/support/motions.py, host_tools.sim.wearer):
there is no public recording of falls, or of walks at the wrist with counted steps, in any package we may install.
"""

import itertools
import random
from collections.abc import Iterator

import pytest

from host_tools.sim import script
from host_tools.sim.script import Script
from host_tools.sim.wearer import Wearer
from tests.support import gait, motions
from tests.support.motions import Player


@pytest.fixture(scope="module")
def process() -> Iterator[Player]:
    with Player() as player:
        yield player


@pytest.fixture
def player(process: Player) -> Player:
    process.reset()
    return process


def test_steps_of_a_recorded_walk_are_those_that_gaitpy_finds(player: Player) -> None:
    samples = gait.walk()
    found = []
    at = 0
    # bout by bout, with the pause behind it, in which the last steps of a walk are told
    for (_, end_s, steps), until_s in zip(gait.BOUTS, (60.0, 110.0, 168.0), strict=True):
        before = player.steps
        player.play(samples[at : int(until_s * gait.RATE_HZ)])
        at = int(until_s * gait.RATE_HZ)
        found.append((end_s, player.steps - before, steps))
    print("\nuntil  device  gaitpy")
    for end_s, ours, theirs in found:
        print(f"{end_s:5.1f} s {ours:6} {theirs:7}")
        assert abs(ours - theirs) <= 0.15 * theirs
    total, theirs = sum(one[1] for one in found), sum(one[2] for one in found)
    assert abs(total - theirs) <= 0.05 * theirs
    assert player.falls == []


def test_recorded_exercises_at_the_wrist_are_no_falls_and_hardly_any_steps(player: Player) -> None:
    counts: dict[str, list[float]] = {}
    # every second recording; the figures of all stand in the benchmarks
    for kind, samples in itertools.islice(gait.exercises(), 0, None, 2):
        player.reset()
        player.play(samples)
        assert player.falls == [], kind
        count = counts.setdefault(kind, [0.0, 0.0])
        count[0] += player.steps
        count[1] += len(samples) / gait.RATE_HZ / 60
    print("\nexercise  false steps a minute")
    for kind, (steps, minutes) in counts.items():
        print(f"{kind:8} {steps / minutes:6.1f}")
    # sets of 20 repetitions without a pause: the most regular that an arm can do. A walk has 100 to 120 steps a minute.
    assert sum(steps for steps, _ in counts.values()) / sum(minutes for _, minutes in counts.values()) <= 8


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cadence_hz", [1.4, 1.9, 2.8])
def test_steps_of_made_up_walks_and_runs_are_counted_within_two_percent(
    player: Player, seed: int, cadence_hz: float
) -> None:
    kind = script.run if cadence_hz > 2.4 else script.walk
    wearer = Wearer(seed, script=Script((kind(10, 130, cadence_hz=cadence_hz),), begins=0.0))
    player.play(motions.worn(wearer, 0.0, 140.0))
    true = wearer.steps(0.0, 140.0)
    assert abs(player.steps - true) <= 0.02 * true
    assert player.falls == []


def test_nine_steps_are_not_counted_and_fifteen_are_with_the_first_ones(player: Player) -> None:
    for seconds, least, most in ((4.5, 0, 0), (9.0, 14, 18)):
        player.reset()
        wearer = Wearer(5, script=Script((script.walk(10, 10 + seconds, cadence_hz=1.9),), begins=0.0))
        player.play(motions.worn(wearer, 0.0, 30.0))
        assert least <= player.steps <= most, (seconds, player.steps, wearer.steps(0.0, 30.0))


@pytest.mark.parametrize(("name", "most"), [("shaking", 0), ("driving", 0), ("washing", 40)])
def test_hands_that_shake_wash_or_steer_make_hardly_any_steps(player: Player, name: str, most: int) -> None:
    for seed in range(4):
        player.reset()
        player.play(motions.NO_STEPS[name](random.Random(seed)))
        assert player.steps <= most
        assert player.falls == []


@pytest.mark.parametrize("name", sorted(motions.NO_FALLS))
def test_what_might_be_taken_for_a_fall_is_none(player: Player, name: str) -> None:
    for seed in range(5):
        player.reset()
        player.play(motions.NO_FALLS[name](random.Random(seed)))
        assert player.falls == [], seed


@pytest.mark.parametrize("before", ["sitting", "walking"])
def test_made_up_falls_are_told_whatever_the_arm_does_before_and_after(player: Player, before: str) -> None:
    told = 0
    for seed in range(8):
        spans = (script.fall(40.0, lies_s=40.0),)
        if before == "walking":
            spans = (script.walk(5.0, 40.0), *spans)
        player.reset()
        player.play(motions.worn(Wearer(seed, script=Script(spans, begins=0.0)), 0.0, 85.0))
        told += len(player.falls)
    assert told == 8


def test_a_low_fall_without_free_fall_is_told_after_a_longer_stillness(player: Player) -> None:
    player.play(motions.sliding_off_a_chair(random.Random(1)))
    ((_, peak_mg, still_s),) = player.falls
    assert peak_mg > 4000 and still_s >= 15


def test_somebody_who_gets_up_again_is_no_fall(player: Player) -> None:
    # stated as a limit: who moves again at once has the button
    wearer = Wearer(2, script=Script((script.fall(20.0, lies_s=5.0), script.walk(25.0, 60.0)), begins=0.0))
    player.play(motions.worn(wearer, 0.0, 60.0))
    assert player.falls == []


def test_small_work_a_walk_and_a_run_have_no_false_alarm_in_a_heap_of_64wk(player: Player) -> None:
    day = (script.work(0, 500), script.walk(500, 700), script.work(700, 1000), script.run(1000, 1150))
    wearer = Wearer(4, script=Script(day, begins=0.0))
    player.play(motions.worn(wearer, 0.0, 1200.0))
    true = wearer.steps(0.0, 1200.0)
    assert player.falls == []
    assert abs(player.steps - true) <= 0.05 * true
