"""Steps and falls: the device's own algorithms on MicroPython, over recordings and over made-up movement.

Recorded: a walk at the lower back with the steps that gaitpy 1.6.1 finds in it, and 81 minutes of shoulder exercises
at the wrist (seglearn), in which nobody walks or falls. Made up: the simulated wearer and tests/support/motions.py. It
is no medical device: what is made up tells that the code does what it should, not how many real falls it would find.
"""

import math
import random
from collections.abc import Iterator

from host_tools.sim import script
from host_tools.sim.movement import Vector
from host_tools.sim.script import Script
from host_tools.sim.wearer import Wearer
from tests.bench.figure import Figure
from tests.support import gait, motions
from tests.support.motions import Player

SEEDS = 6
FALLS = 40
HOURS = 6


def figures() -> list[Figure]:
    """Steps against gaitpy's and the wearer's true ones; falls told and false alarms."""
    with Player() as player:
        return [*_steps(player), *_falls(player), *_day(player)]


def _steps(player: Player) -> list[Figure]:
    samples, errors, ours, at = gait.walk(), [], 0, 0
    for (_, _, steps), until_s in zip(gait.BOUTS, (60.0, 110.0, 168.0), strict=True):
        before = player.steps
        player.play(samples[at : int(until_s * gait.RATE_HZ)])
        at = int(until_s * gait.RATE_HZ)
        errors.append(player.steps - before - steps)
        ours += player.steps - before
    theirs = sum(bout[2] for bout in gait.BOUTS)
    bouts = ", ".join(f"{error:+}" for error in errors)
    note = f"{ours} and {theirs} in {len(errors)} bouts of a recording at the lower back: {bouts}"
    found = [Figure("steps, differing from gaitpy's", 100 * abs(ours - theirs) / theirs, 5, unit="%", note=note)]
    false = minutes = 0.0
    for _, samples in gait.exercises():
        player.reset()
        player.play(samples)
        false += player.steps
        minutes += len(samples) / gait.RATE_HZ / 60
    note = f"{minutes:.0f} min of shoulder exercises recorded at the wrist, repetition after repetition"
    found.append(Figure("false steps a minute of exercises", false / minutes, 8, note=note))
    differ = []
    for seed in range(SEEDS):
        for kind in (script.walk, script.run):
            wearer = Wearer(seed, script=Script((kind(10, 190),), begins=0.0))
            player.reset()
            player.play(motions.worn(wearer, 0.0, 200.0))
            true = wearer.steps(0.0, 200.0)
            differ.append(100 * (player.steps - true) / true)
    rms = math.sqrt(sum(one * one for one in differ) / len(differ))
    note = f"{len(differ)} made-up walks and runs of 3 min; from {min(differ):+.1f} to {max(differ):+.1f} %"
    return [*found, Figure("steps, differing from the true ones, RMS", rms, 2, unit="%", note=note)]


def _falls(player: Player) -> list[Figure]:
    told = 0
    for seed in range(FALLS):
        spans = (script.fall(40.0, lies_s=40.0),)
        if seed % 2:
            spans = (script.walk(5.0, 40.0), *spans)
        player.reset()
        player.play(motions.worn(Wearer(seed, script=Script(spans, begins=0.0)), 0.0, 85.0))
        told += bool(player.falls)
    false = {}
    for name, make in motions.NO_FALLS.items():
        for seed in range(10):
            player.reset()
            player.play(make(random.Random(1000 + seed)))
            false[name] = false.get(name, 0) + len(player.falls)
    note = f"{FALLS} made-up ones, half of them out of a walk, who lie still for 40 s"
    kinds = "10 each of " + ", ".join(false)
    return [
        Figure("falls told", 100 * told / FALLS, 95, at_least=True, unit="%", note=note),
        Figure("false falls in 70 look-alikes", sum(false.values()), 1, note=kinds),
    ]


def _day(player: Player) -> list[Figure]:
    """A waking day in short: work, walks, a run, and each look-alike once an hour."""
    player.reset()
    spans = []
    for hour in range(HOURS):
        at = 3600.0 * hour
        spans += [script.work(at, at + 2000), script.walk(at + 2000, at + 2600), script.run(at + 2900, at + 3100)]
    wearer = Wearer(7, script=Script(tuple(spans), begins=0.0))
    steps = 0
    for hour in range(HOURS):
        before = player.steps
        player.play(motions.worn(wearer, 3600.0 * hour, 3600.0), seed=hour)
        steps += player.steps - before
        player.play(_all(hour))
    false = len(player.falls)
    true = wearer.steps(0.0, 3600.0 * HOURS)
    note = f"{HOURS} made-up hours awake with every look-alike once an hour, as 16 h; none in 81 min of exercises"
    counted = f"{steps} told, {true} true; more than half of the time is small work, such as washing"
    return [
        Figure("false falls a day", false * 16 / HOURS, 3, note=note),
        Figure("steps in these hours, differing", 100 * abs(steps - true) / true, 10, unit="%", note=counted),
    ]


def _all(seed: int) -> Iterator[Vector]:
    for name, make in (*motions.NO_FALLS.items(), *motions.NO_STEPS.items()):
        yield from make(random.Random(f"{name} {seed}"))
