"""How a wrist moves, in g and by Unix time: at rest, walking, running, falling, at small work; a band on a table.

Each movement is a pure function of time, made once for its span with everything random drawn then, so that a sample is
cheap: a whole day at 100 Hz is asked for. Vectors are specific force, as an accelerometer reads it: at rest the length
is 1 and the direction up. The band's axes: x along the forearm to the hand, y across it, z away from the arm.

Figures: 1.98 steps a second with a spread of 0.15 were measured at wrists (arXiv 2203.10563), 1.7 in daily life of the
elderly (PMC5875188). The arm swings once for two steps, as a pendulum that is held; what its hand feels follows.
Bounce, heel strike and falls are assumptions of ours, within what such recordings show; nothing here was measured.
"""

import math
import random
from dataclasses import dataclass
from typing import Final, Literal

Activity = Literal["still", "walking", "running", "falling", "lying", "other"]
Vector = tuple[float, float, float]

G_MS2: Final = 9.80665
_TAU = 2 * math.pi
_TABLE = 1024  # entries of tables of chance; a power of two

# Where the forearm lies: on a table, on the lap, hanging, across the chest, beside the head
_POSTURES: tuple[Vector, ...] = (
    (0.05, 0.10, 0.99),
    (-0.30, 0.20, 0.93),
    (-0.97, 0.10, 0.20),
    (0.30, 0.65, 0.70),
    (0.60, -0.20, 0.77),
    (-0.45, -0.60, 0.66),
)


class Movement:
    """What the arm does in a span; the kinds override what they do otherwise.

    Attributes:
        activity: its name.
    """

    activity: Activity = "still"

    def at(self, time_s: float) -> Vector:
        """Specific force in the band's axes, g."""
        raise NotImplementedError

    def sway(self, time_s: float) -> float:
        """How far the sensor slides on the skin, in heights of a pulse wave."""
        return 0.0

    def steps(self, time_s: float) -> int:
        """How many steps there were from the span's begin to that time."""
        return 0


class Rest(Movement):
    """Sitting or lying: breath and tremor, and now and then the arm is put elsewhere."""

    def __init__(self, seed: int, *, turns_every_s: float = 0.0, activity: Activity = "still") -> None:
        """`turns_every_s`: 0 for never."""
        draw = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self.activity = activity
        self._every_s = turns_every_s
        self._postures = [_tilted(draw, draw.choice(_POSTURES)) for _ in range(64)]
        self._breath_hz = draw.uniform(0.20, 0.30)
        self._tremor_hz = draw.uniform(8.0, 11.0)
        self._turn_s = draw.uniform(0.8, 1.6)

    def at(self, time_s: float) -> Vector:
        x, y, z = self._posture(time_s)
        breath = 0.003 * math.sin(_TAU * self._breath_hz * time_s)
        tremor = 0.0015 * math.sin(_TAU * self._tremor_hz * time_s)
        return x + tremor, y + breath, z + breath - tremor

    def _posture(self, time_s: float) -> Vector:
        every_s = self._every_s
        if not every_s:
            return self._postures[0]
        slot = int(time_s / every_s)
        new = self._postures[slot & 63]
        done = (time_s - slot * every_s) / self._turn_s
        if done >= 1.0:
            return new
        return _turned(self._postures[(slot - 1) & 63], new, done)

    def sway(self, time_s: float) -> float:
        if not self._every_s:
            return 0.0
        done = time_s % self._every_s / self._turn_s
        return 2.0 * math.sin(_TAU * done) if done < 1.0 else 0.0


class Gait(Movement):
    """Walking or running."""

    def __init__(self, seed: int, begin_s: float, cadence_hz: float, *, running: bool = False) -> None:
        """A gait that begins at `begin_s`, with `cadence_hz` steps a second on the average."""
        draw = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self.activity = "running" if running else "walking"
        self._begin_s = begin_s
        self._cadence_hz = cadence_hz
        self._drift_s = draw.uniform(11.0, 29.0)
        self._drift = draw.uniform(0.5, 1.5)
        self._swing = draw.uniform(0.45, 0.65) if running else draw.uniform(0.30, 0.48)  # rad
        self._arm_m = draw.uniform(0.28, 0.34) if running else draw.uniform(0.55, 0.65)
        self._bounce = draw.uniform(0.90, 1.20) if running else draw.uniform(0.20, 0.34)
        self._second = draw.uniform(0.15, 0.30)
        self._third = draw.uniform(0.05, 0.15)
        self._strike = draw.uniform(0.5, 0.9) if running else draw.uniform(0.10, 0.25)
        self._strike_hz = draw.uniform(11.0, 15.0)
        self._chance = [draw.uniform(0.86, 1.14) for _ in range(_TABLE)]
        self._phase = math.pi / 2 + draw.uniform(-0.4, 0.4)  # the heel strikes near the end of a swing
        self._loose = draw.uniform(1.2, 2.2)
        # the elbow of a runner is bent, a walker's arm hangs
        self._down = _tilted(draw, (-0.35, 0.90, 0.25) if running else (-0.97, 0.10, 0.20))
        self._across = _across(self._down, _tilted(draw, (0.0, 0.95, 0.30) if not running else (0.95, 0.30, 0.0)))

    def _turns(self, time_s: float) -> float:
        """Steps as a real number; its whole part counts them."""
        past_s = time_s - self._begin_s
        return self._cadence_hz * past_s + 0.12 * self._drift * math.sin(_TAU * past_s / self._drift_s)

    def steps(self, time_s: float) -> int:
        return max(0, int(self._turns(time_s)))

    def at(self, time_s: float) -> Vector:
        turns = self._turns(time_s)
        step = int(turns)
        phase = _TAU * turns
        size = self._chance[step & 1023]
        half = 0.5 * phase + self._phase
        omega = math.pi * self._cadence_hz
        angle = self._swing * math.sin(half)
        rate = self._swing * omega * math.cos(half)
        arm = self._arm_m / G_MS2
        wave = math.sin(phase)
        up = self._bounce * size * (wave + (2 * self._second + 4 * self._third * wave) * wave * math.cos(phase))
        past_s = (turns - step) / self._cadence_hz
        if past_s < 0.2:
            up += self._strike * size * math.exp(past_s * -18.0) * math.sin(_TAU * self._strike_hz * past_s)
        # a pendulum's end: its pull outwards, and across what of gravity its acceleration leaves
        along = 1.0 + up + arm * rate * rate - 0.5 * angle * angle
        over = angle * (1.0 - arm * omega * omega) + up * angle
        down, across = self._down, self._across
        return (
            along * down[0] + over * across[0],
            along * down[1] + over * across[1],
            along * down[2] + over * across[2],
        )

    def sway(self, time_s: float) -> float:
        turns = self._turns(time_s)
        phase = _TAU * turns
        size = self._loose * self._chance[int(turns) & 1023]
        return size * (0.6 * math.sin(0.5 * phase + self._phase) + 0.5 * math.sin(phase) + 0.2 * math.sin(2 * phase))


class Fall(Movement):
    """Balance lost, nearly weightless, the impact with its ringing, a roll, and then another attitude."""

    activity: Activity = "falling"

    def __init__(self, seed: int, begin_s: float, before: Vector, after: Vector) -> None:
        """A fall that begins at `begin_s` in one attitude and ends in another."""
        draw = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self._begin_s = begin_s
        self._before, self._after = before, after
        self._stumble_s = draw.uniform(0.25, 0.40)
        self._air_s = draw.uniform(0.32, 0.50)
        self._left = draw.uniform(0.10, 0.25)  # of gravity, while falling
        self.peak_g = draw.uniform(3.6, 7.0)
        self._pulse_s = draw.uniform(0.05, 0.10)
        self._ring_hz = draw.uniform(12.0, 20.0)
        self._axis = _tilted(draw, (0.5, 0.5, 0.7))
        self.impact_s = begin_s + self._stumble_s + self._air_s
        self.end_s = self.impact_s + 1.5

    def at(self, time_s: float) -> Vector:
        past_s = time_s - self.impact_s
        if past_s < 0.0:
            falling_s = past_s + self._air_s
            if falling_s < 0.0:
                flail = 0.25 * math.sin(_TAU * 3.0 * (time_s - self._begin_s))
                x, y, z = self._before
                return x + flail * z, y + flail * x, z - flail * y
            weight = max(self._left, 1.0 - falling_s / 0.08)
            x, y, z = _turned(self._before, self._after, falling_s / self._air_s)
            return x * weight, y * weight, z * weight
        x, y, z = self._after
        if past_s < self._pulse_s:
            hit = self.peak_g * math.sin(math.pi * past_s / self._pulse_s)
            weight = past_s / self._pulse_s
        else:
            rest_s = past_s - self._pulse_s
            hit = 0.3 * self.peak_g * math.exp(-rest_s / 0.08) * math.sin(_TAU * self._ring_hz * rest_s)
            rolled = (rest_s - 0.30) / 0.18
            if 0.0 < rolled < 1.0:
                hit += 0.8 * math.sin(math.pi * rolled)
            weight = 1.0
        axis = self._axis
        return x * weight + hit * axis[0], y * weight + hit * axis[1], z * weight + hit * axis[2]

    def sway(self, time_s: float) -> float:
        return 4.0 * math.sin(_TAU * 2.3 * (time_s - self._begin_s))


class Work(Movement):
    """Hands at small work: typing, washing, reaching for something, a knock on the table, by chance every 15 s."""

    activity: Activity = "other"
    _SLOT_S = 15.0

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self._kinds = [draw.choices("twrk", (60, 12, 16, 12))[0] for _ in range(_TABLE)]
        self._chance = [draw.random() for _ in range(_TABLE)]
        self._postures = [_tilted(draw, draw.choice(_POSTURES[:2])) for _ in range(_TABLE)]
        self._loose = draw.uniform(0.8, 1.4)

    def _slot(self, time_s: float) -> tuple[str, float, float, int]:
        slot = int(time_s / self._SLOT_S)
        return self._kinds[slot & 1023], time_s - slot * self._SLOT_S, self._chance[slot & 1023], slot

    def at(self, time_s: float) -> Vector:
        kind, past_s, chance, slot = self._slot(time_s)
        x, y, z = self._postures[slot & 1023]
        if past_s < 1.0:
            x, y, z = _turned(self._postures[(slot - 1) & 1023], (x, y, z), past_s)
        push = self._push(kind, past_s, chance)
        if kind == "w":
            return x + push, y + 0.4 * push, z + 0.3 * push
        if kind == "r":
            return x + 0.5 * push, y - 0.3 * push, z - 0.4 * push
        return x + 0.2 * push, y + 0.1 * push, z + push

    def _push(self, kind: str, past_s: float, chance: float) -> float:
        if kind == "t":
            # keys are hit irregularly; three sines that share no period look like it
            return (0.02 + 0.02 * chance) * (
                math.sin(_TAU * (6.1 + chance) * past_s)
                + math.sin(_TAU * (7.9 - chance) * past_s)
                + math.sin(_TAU * 12.7 * past_s)
            )
        if kind == "w":
            # hands rub each other, in and out of step
            rub = math.sin(_TAU * (3.1 + chance) * past_s + 1.5 * math.sin(1.7 * past_s))
            return (0.25 + 0.35 * chance) * rub * (0.6 + 0.4 * math.sin(2.3 * past_s))
        if kind == "r":
            done = (past_s - 3.0) / (1.0 + chance)
            return 0.5 * math.sin(_TAU * done) if 0.0 < done < 1.0 else 0.0
        knock_s = past_s - 4.0 - 4.0 * chance
        if 0.0 < knock_s < 0.2:
            return (1.2 + chance) * math.exp(-knock_s / 0.025) * math.cos(_TAU * 34.0 * knock_s)
        return 0.0

    def sway(self, time_s: float) -> float:
        kind, past_s, chance, _ = self._slot(time_s)
        size = {"t": 8.0, "w": 3.0, "r": 3.0, "k": 0.8}[kind] * self._loose
        return size * self._push(kind, past_s, chance) + (2.0 * math.sin(_TAU * past_s) if past_s < 1.0 else 0.0)


class Table(Movement):
    """Nobody wears it: it lies there, and the table hardly trembles. Putting it down or taking it up takes 2 s."""

    def __init__(self, seed: int, begin_s: float, end_s: float) -> None:
        draw = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self._begin_s, self._end_s = begin_s, end_s
        self._up = _tilted(draw, (0.0, 0.0, 1.0), 0.02)
        self._held = _tilted(draw, (0.6, 0.5, 0.6))

    def at(self, time_s: float) -> Vector:
        x, y, z = self._up
        handled = max(2.0 - (time_s - self._begin_s), 2.0 - (self._end_s - time_s))
        if handled > 0.0:
            jolt = 0.3 * math.sin(_TAU * 2.1 * handled) * handled / 2.0
            x, y, z = _turned(self._up, self._held, handled / 2.0)
            return x + jolt, y - jolt, z + 0.5 * jolt
        return x, y, z + 0.0004 * math.sin(_TAU * 23.0 * time_s)


class Shaken(Movement):
    """Movement without a pattern, by the sines that it is given: (Hz, phase)."""

    activity: Activity = "other"

    def __init__(self, seed: int, sines: list[tuple[float, float]]) -> None:
        self._up = _tilted(random.Random(seed), _POSTURES[3])  # noqa: S311 - a simulation, no secret
        self._sines = sines

    def at(self, time_s: float) -> Vector:
        x, y, z = self._up
        push = 0.08 * self.sway(time_s)
        return x + push, y - 0.7 * push, z + 0.5 * push

    def sway(self, time_s: float) -> float:
        return sum(math.sin(_TAU * hertz * time_s + phase) for hertz, phase in self._sines)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A movement from one time to another, Unix seconds."""

    begin_s: float
    end_s: float
    movement: Movement


def _tilted(draw: random.Random, up: Vector, spread: float = 0.12) -> Vector:
    return _unit((up[0] + draw.gauss(0, spread), up[1] + draw.gauss(0, spread), up[2] + draw.gauss(0, spread)))


def _unit(vector: Vector) -> Vector:
    length = math.hypot(*vector) or 1.0
    return vector[0] / length, vector[1] / length, vector[2] / length


def _across(down: Vector, other: Vector) -> Vector:
    """The part of `other` that stands square on `down`, of length 1."""
    along = sum(one * two for one, two in zip(down, other, strict=True))
    return _unit((other[0] - along * down[0], other[1] - along * down[1], other[2] - along * down[2]))


def _turned(old: Vector, new: Vector, done: float) -> Vector:
    """An attitude on the way from one to another; `done` from 0 to 1."""
    part = max(0.0, min(1.0, done))
    part = part * part * (3.0 - 2.0 * part)
    left = 1.0 - part
    return _unit((old[0] * left + new[0] * part, old[1] * left + new[1] * part, old[2] * left + new[2] * part))
