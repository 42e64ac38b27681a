"""Movements that might be taken for a fall or for steps, made up, and the player that hands samples to the device.

Nothing here was measured. Heights, times and peaks are drawn from ranges that physics and the published recordings
give; a jump of 30 cm is half a second in the air, a band drops 40 cm in 0.29 s.
"""

import functools
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from host_tools.sim.movement import G_MS2, Gait, Vector
from host_tools.sim.wearer import Wearer
from tests.support.bus import HERE
from tests.support.micropython import Micropython

RATE_HZ: Final = 52.0
NOISE_G: Final = 0.003
HANGING: Final = (-0.97, 0.10, 0.20)
LAP: Final = (-0.20, 0.25, 0.95)
_LOOK = 104  # samples of two seconds


class Player(Micropython):
    """The device's own `motion()` on MicroPython, fed with samples; see tape_device.py."""

    def __init__(self, *, heap: str = "64wK") -> None:
        super().__init__(heap=heap, path=[HERE])
        self.run("import tape_device")
        self.reset()

    def reset(self) -> None:
        """A band that was just started, half a second ago."""
        self.run(f"player = tape_device.Player({words([(0.0, 0.0, 1.0)] * 26)!r})")

    def play(self, samples: Iterable[Vector], *, seed: int = 1) -> list[tuple[int, ...]]:
        """Readings of a minute each: (steps, activity, RMS)."""
        found = []
        draw = random.Random(seed)
        gauss = draw.gauss
        looks = 0
        source = iter(samples)
        while piece := list(itertools.islice(source, _LOOK)):
            noisy = [(x + gauss(0, NOISE_G), y + gauss(0, NOISE_G), z + gauss(0, NOISE_G)) for x, y, z in piece]
            self.run(f"player.look({words(noisy)!r})")
            looks += 1
            if looks % 30 == 0:
                found.append(self.call("player.reading()"))
        if looks % 30 > 1:
            found.append(self.call("player.reading()"))
        return found

    @property
    def steps(self) -> int:
        """All that were told."""
        return int(self.call("player.steps"))

    @property
    def falls(self) -> list[Any]:
        """The events 1."""
        return [event for event in self.call("player.node.events") if event[0] == 1]


def words(samples: Iterable[Vector]) -> bytes:
    """FIFO words of an LSM6DSOX at ±8 g: a tag and three little-endian numbers."""
    data = bytearray()
    for vector in samples:
        data.append(0x10)
        for value in vector:
            data += max(-32768, min(32767, round(value * 4096))).to_bytes(2, "little", signed=True)
    return bytes(data)


def worn(wearer: Wearer, begin_s: float, seconds: float, rate_hz: float = RATE_HZ) -> Iterator[Vector]:
    """What a band on this wearer feels, g."""
    for index in range(int(seconds * rate_hz)):
        x, y, z = wearer.acceleration_ms2(begin_s + index / rate_hz)
        yield x / G_MS2, y / G_MS2, z / G_MS2


# --- pieces


def _unit(vector: Vector) -> Vector:
    length = math.hypot(*vector)
    return vector[0] / length, vector[1] / length, vector[2] / length


def _about(draw: random.Random, up: Vector, spread: float = 0.08) -> Vector:
    return _unit((up[0] + draw.gauss(0, spread), up[1] + draw.gauss(0, spread), up[2] + draw.gauss(0, spread)))


def _hold(draw: random.Random, up: Vector, seconds: float, sway_g: float = 0.02) -> Iterator[Vector]:
    hertz = [draw.uniform(0.3, 3.0) for _ in range(4)]
    for index in range(int(seconds * RATE_HZ)):
        time_s = index / RATE_HZ
        push = sway_g * 0.7 * sum(math.sin(2 * math.pi * f * time_s + f) for f in hertz)
        yield up[0] + push, up[1] - 0.6 * push, up[2] + 0.4 * push


def _turn(old: Vector, new: Vector, seconds: float) -> Iterator[Vector]:
    for index in range(int(seconds * RATE_HZ)):
        done = index / (seconds * RATE_HZ)
        yield _unit(
            (
                old[0] + (new[0] - old[0]) * done,
                old[1] + (new[1] - old[1]) * done,
                old[2] + (new[2] - old[2]) * done,
            )
        )


def _weight(up: Vector, grams: Callable[[float], float], seconds: float) -> Iterator[Vector]:
    for index in range(int(seconds * RATE_HZ)):
        share = grams(index / RATE_HZ)
        yield up[0] * share, up[1] * share, up[2] * share


def _same(share: float, _: float) -> float:
    return share


def _hit(up: Vector, peak_g: float, seconds: float = 0.06) -> Iterator[Vector]:
    count = max(2, int(seconds * RATE_HZ))
    for index in range(count):
        share = 1.0 + (peak_g - 1.0) * math.sin(math.pi * (index + 1) / (count + 1))
        yield up[0] * share, up[1] * share, up[2] * share
    for index in range(int(0.3 * RATE_HZ)):
        share = 1.0 + 0.3 * peak_g * math.exp(-index / 4) * math.sin(index * 1.9)
        yield up[0] * share, up[1] * share, up[2] * share


def sliding_off_a_chair(draw: random.Random) -> Iterator[Vector]:
    """A low fall: nothing falls freely, the arm strikes the floor and lies there."""
    yield from _hold(draw, LAP, 10, 0.01)
    after = _unit((-0.3, -0.9, 0.2))
    yield from _turn(LAP, after, 0.6)
    yield from _hit(after, draw.uniform(4.8, 6.0))
    yield from _hold(draw, after, 30, 0.004)


# --- what is no fall


def jumping(draw: random.Random) -> Iterator[Vector]:
    """Four jumps of 15 to 30 cm, then standing, the arm as before."""
    up = _about(draw, HANGING)
    yield from _hold(draw, up, 10)
    for _ in range(4):
        yield from _weight(up, lambda t: 1.0 - 1.2 * t, 0.25)
        yield from _weight(up, lambda t: 1.0 + 1.6 * math.sin(math.pi * t / 0.3), 0.3)
        yield from _weight(up, functools.partial(_same, draw.uniform(0.05, 0.35)), draw.uniform(0.35, 0.50))
        yield from _hit(up, draw.uniform(3.0, 6.0), 0.1)
        yield from _hold(draw, up, draw.uniform(0.4, 1.5), 0.1)
    yield from _hold(draw, _about(draw, up, 0.1), 40)


def clapping(draw: random.Random) -> Iterator[Vector]:
    """Applause of 15 s, then the hands in the lap."""
    up = _unit((0.5, 0.6, 0.6))
    yield from _hold(draw, LAP, 10, 0.01)
    yield from _turn(LAP, up, 0.8)
    for _ in range(int(15 * 3.2)):
        yield from _weight(up, lambda t: 1.0 + 0.7 * math.sin(2 * math.pi * t / 0.28), 0.28)
        yield from (tuple(v * s for v in up) for s in (draw.uniform(3.0, 7.0), 2.0))  # type: ignore[misc]
    yield from _turn(up, LAP, 0.8)
    yield from _hold(draw, LAP, 40, 0.01)


def sitting_down_hard(draw: random.Random) -> Iterator[Vector]:
    """Into the chair, the hands into the lap: a little lighter on the way down, then up to 3.5 g."""
    up = _about(draw, HANGING)
    yield from _hold(draw, up, 10)
    yield from _weight(up, functools.partial(_same, draw.uniform(0.60, 0.80)), draw.uniform(0.2, 0.35))
    yield from _hit(_about(draw, LAP), draw.uniform(1.8, 3.5))
    yield from _hold(draw, _about(draw, LAP), 40, 0.015)


def running_and_stopping(draw: random.Random) -> Iterator[Vector]:
    """A run of 40 s, three steps of braking, then the arm hangs and the chest heaves."""
    gait = Gait(draw.randrange(1 << 30), 0.0, draw.uniform(2.5, 3.0), running=True)
    for index in range(int(40 * RATE_HZ)):
        yield gait.at(index / RATE_HZ)
    for peak in (2.2, 1.8, 1.4):
        yield from _hit(_unit((-0.35, 0.90, 0.25)), peak)
    up = _about(draw, HANGING)
    yield from _turn(_unit((-0.35, 0.90, 0.25)), up, 0.6)
    yield from _hold(draw, up, 15, 0.08)
    yield from _hold(draw, up, 30, 0.015)


def dropping_the_band(draw: random.Random) -> Iterator[Vector]:
    """Taken off and dropped on a table from 20 to 80 cm: weightless, a hard blow, two bounces, and it lies."""
    held = _about(draw, (0.6, 0.5, 0.6))
    yield from _hold(draw, held, 8, 0.04)
    light = functools.partial(_same, draw.uniform(0.01, 0.06))
    yield from _weight(held, light, math.sqrt(2 * draw.uniform(0.2, 0.8) / G_MS2))
    flat = _about(draw, (0.02, 0.05, 1.0), 0.03)
    for peak in (draw.uniform(6.0, 12.0), 4.0, 2.0):
        yield from (tuple(v * s for v in flat) for s in (peak, 0.3 * peak))  # type: ignore[misc]
        yield from _weight(flat, light, 0.08 * peak / 8)
    for _ in range(int(40 * RATE_HZ)):
        yield flat


def hammering(draw: random.Random) -> Iterator[Vector]:
    """Twenty blows, then the hand rests."""
    up = _unit((0.3, 0.2, 0.9))
    yield from _hold(draw, LAP, 5)
    for _ in range(20):
        yield from _weight(up, lambda t: 1.0 + 0.5 * math.sin(2 * math.pi * t / 0.8), draw.uniform(0.7, 0.9))
        yield from _hit(up, draw.uniform(3.5, 5.5), 0.04)
    yield from _turn(up, LAP, 1.0)
    yield from _hold(draw, LAP, 40, 0.01)


def slapping_the_table(draw: random.Random) -> Iterator[Vector]:
    """Once with the flat hand, which stays there."""
    yield from _hold(draw, HANGING, 10)
    yield from _turn(HANGING, LAP, 0.5)
    yield from _hit(LAP, draw.uniform(2.0, 3.8), 0.04)
    yield from _hold(draw, LAP, 40, 0.01)


NO_FALLS: Final[Mapping[str, Callable[[random.Random], Iterator[Vector]]]] = {
    one.__name__.replace("_", " "): one
    for one in (
        jumping,
        clapping,
        sitting_down_hard,
        running_and_stopping,
        dropping_the_band,
        hammering,
        slapping_the_table,
    )
}


# --- what is no step


def shaking(draw: random.Random) -> Iterator[Vector]:
    """The hand is shaken, 4.5 to 6.5 times a second, for half a minute."""
    hertz, size = draw.uniform(4.5, 6.5), draw.uniform(0.6, 2.5)
    for index in range(int(30 * RATE_HZ)):
        push = size * math.sin(2 * math.pi * hertz * index / RATE_HZ)
        yield push, 0.4 * push, 1.0 + 0.6 * push


def washing(draw: random.Random) -> Iterator[Vector]:
    """Hands are washed: rubbing that changes its pace and its strength all the time."""
    phase = 0.0
    hertz, size = 2.0, 0.3
    for index in range(int(60 * RATE_HZ)):
        if index % 20 == 0:
            hertz, size = draw.uniform(0.8, 4.0), draw.uniform(0.05, 0.6)
        phase += 2 * math.pi * hertz / RATE_HZ
        push = size * math.sin(phase)
        yield 0.5 + push, 0.3 + 0.5 * push, 0.8 - 0.4 * push


def driving(draw: random.Random) -> Iterator[Vector]:
    """Hands at the wheel: the road's noise, a curve or a pothole now and then."""
    push = 0.0
    for index in range(int(120 * RATE_HZ)):
        push = 0.7 * push + draw.gauss(0.0, 0.03)
        if draw.random() < 1 / (9 * RATE_HZ):
            push += draw.uniform(0.2, 0.8)
        lean = 0.15 * math.sin(index / RATE_HZ / 7.0)
        yield 0.6 + lean, 0.2 - lean, 0.77 + push


NO_STEPS: Final[Mapping[str, Callable[[random.Random], Iterator[Vector]]]] = {
    "shaking": shaking,
    "washing": washing,
    "driving": driving,
}
