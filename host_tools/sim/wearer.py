"""Whoever wears the simulated device: pulse, temperature, movement, place, button, battery. Knows no part and no bus.

Everything is a function of Unix time, the seed and the script, so two parts that ask for the same moment see the same
body. The pulse is a real recording; how an arm moves is in `host_tools.sim.movement`, what a script comes to in
`host_tools.sim.timeline`. Without a script somebody sits indoors, does nothing, and lays the arm nowhere else.
"""

import bisect
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from host_tools.sim.movement import G_MS2, Activity, Movement, Rest, Shaken, Table
from host_tools.sim.script import DAY_S, HOME, Script
from host_tools.sim.timeline import Timeline

_RECORDINGS = files("host_tools.sim") / "recordings"
_CHARGED_EVERY_S = 8 * 86400.0


@dataclass(frozen=True)
class Recording:
    """A photoplethysmogram that is played in a loop.

    Attributes:
        name: the file's name without `.csv`.
        rate_hz: samples a second.
        samples: raw readings, higher while the vessels are fuller.
    """

    name: str
    rate_hz: float
    samples: tuple[float, ...]

    @classmethod
    def load(cls, name: str) -> "Recording":
        """One of `recordings()`; origin and licence stand in the README beside the files.

        Raises:
            ValueError: there is no recording of that name.
        """
        if name not in recordings():
            raise ValueError(f"no recording {name!r}; there are: {', '.join(recordings())}")
        head, *lines = (_RECORDINGS / f"{name}.csv").read_text(encoding="utf-8").splitlines()
        return cls(name, float(head.split(";")[0].removeprefix("# rate_hz")), tuple(float(line) for line in lines))

    @property
    def duration_s(self) -> float:
        """Length of one loop."""
        return len(self.samples) / self.rate_hz

    def at(self, time_s: float) -> float:
        """The reading at that time, between samples by a straight line; the end joins the beginning."""
        place = time_s * self.rate_hz % len(self.samples)
        index = int(place)
        one = self.samples[index % len(self.samples)]
        other = self.samples[(index + 1) % len(self.samples)]
        return one + (other - one) * (place - index)

    @cached_property
    def beats_s(self) -> tuple[float, ...]:
        """When in the loop the vessels are fullest: the tops of what stands out above the mean of 0.75 s around it."""
        count, half = len(self.samples), int(0.375 * self.rate_hz)
        total = [0.0]
        for value in self.samples[-half:] + self.samples + self.samples[: half + 1]:
            total.append(total[-1] + value)
        middle = [(total[index + 2 * half + 1] - total[index]) / (2 * half + 1) for index in range(count)]
        high = sorted(self.samples)[-1 - count // 50] - sorted(self.samples)[count // 50]
        tops: list[int] = []
        best = -1
        for index, value in enumerate(self.samples):
            if value > middle[index] + 0.2 * high:
                best = index if best < 0 or value > self.samples[best] else best
            elif best >= 0:
                # a second wave on the same beat is the lower one of the two
                if tops and best - tops[-1] < 0.4 * self.rate_hz:
                    if self.samples[best] > self.samples[tops[-1]]:
                        tops[-1] = best
                else:
                    tops.append(best)
                best = -1
        return tuple(top / self.rate_hz for top in tops)


def recordings() -> list[str]:
    """The names of the recordings that come with the package, sorted."""
    return sorted(entry.name.removesuffix(".csv") for entry in _RECORDINGS.iterdir() if entry.name.endswith(".csv"))


class Wearer:
    """A body and the device's battery, by Unix time."""

    def __init__(
        self,
        seed: int = 0,
        recording: Recording | str | None = None,
        *,
        moving: Sequence[tuple[float, float]] = (),
        away: Sequence[tuple[float, float]] = (),
        script: Script | None = None,
    ) -> None:
        """A wearer.

        Args:
            seed: makes everything that is not in the recording, and where in it time 0 lies.
            recording: what the pulse is; by default one of `recordings()` by the seed.
            moving: spans of Unix time (from, to) in which the wearer moves, so that the pulse drowns.
            away: spans in which the device is not worn.
            script: what happens; see `follow`.
        """
        source = random.Random(seed)  # noqa: S311 - a simulation, no secret
        names = recordings()
        if recording is None:
            recording = names[seed % len(names)]
        self.recording = Recording.load(recording) if isinstance(recording, str) else recording
        ordered = sorted(self.recording.samples)
        low, high = ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]
        self._middle = (low + high) / 2
        self._span = max(high - low, 1.0)
        self.offset_s = source.uniform(0.0, self.recording.duration_s)
        self._skin_c = source.uniform(32.5, 34.5)
        self._phase = source.uniform(0.0, 2 * math.pi)
        self._moves = [(source.uniform(0.3, 3.5), source.uniform(0.0, 2 * math.pi)) for _ in range(9)]
        self._moving = tuple(moving)
        self._away = tuple(away)
        self._age_s = source.uniform(0.0, _CHARGED_EVERY_S)
        self._seed = seed
        source = random.Random(f"body {seed}")  # noqa: S311 - a simulation, no secret
        self._spo2 = source.uniform(96.5, 98.5)
        self._slow = source.uniform(0.0, 2 * math.pi)
        self._indoors_c = source.uniform(20.5, 22.5)
        self._outdoors_c = source.uniform(8.0, 16.0)
        self._sea_hpa = source.uniform(1005.0, 1022.0)
        self._rest = Rest(source.randrange(1 << 30))
        self._shaken = Shaken(source.randrange(1 << 30), self._moves)
        self._table = Table(source.randrange(1 << 30), -math.inf, math.inf)
        self.script: Script | None = None
        self.timeline: Timeline | None = None
        if script is not None:
            self.follow(script)

    def follow(self, script: Script) -> None:
        """Live by this script: also before it begins and after it ends, at home with nothing to do."""
        self.timeline = Timeline(script, self._seed)
        self.script = script

    def _of_day(self, time_s: float) -> float:
        """Seconds from the script's beginning."""
        assert self.script is not None
        return time_s % DAY_S if self.script.begins is None else time_s - self.script.begins

    # the arm

    def _movement(self, time_s: float) -> tuple[Movement, float]:
        """What the arm does, and the time to ask it for."""
        if self._away and _within(self._away, time_s):
            return self._table, time_s
        if self._moving and _within(self._moving, time_s):
            return self._shaken, time_s
        if self.timeline is None:
            return self._rest, time_s
        of_day = self._of_day(time_s)
        return self.timeline.movement(of_day), of_day

    def acceleration_ms2(self, time_s: float) -> tuple[float, float, float]:
        """Specific force in the band's axes, m/s²: 9.81 upwards at rest. x points to the hand, z away from the arm."""
        movement, time_s = self._movement(time_s)
        x, y, z = movement.at(time_s)
        return x * G_MS2, y * G_MS2, z * G_MS2

    def activity(self, time_s: float) -> Activity:
        """What the wearer does; small work of the hands is "other"."""
        return self._movement(time_s)[0].activity

    def steps(self, from_s: float, to_s: float) -> int:
        """How many steps there are between two times, while the band is worn."""
        if self.timeline is None or self.script is None:
            return 0
        if self.script.begins is not None:
            return self.timeline.steps(from_s - self.script.begins, to_s - self.script.begins)
        total = 0
        for day in range(int(from_s // DAY_S), int(to_s // DAY_S) + 1):
            total += self.timeline.steps(max(0.0, from_s - day * DAY_S), min(DAY_S, to_s - day * DAY_S))
        return total

    def button(self, time_s: float) -> bool:
        """Whether the button is pressed."""
        return self.timeline is not None and self.timeline.pressed(self._of_day(time_s))

    # the body

    def worn(self, time_s: float) -> bool:
        """Whether there is skin before the sensors."""
        if self._away and _within(self._away, time_s):
            return False
        return self.timeline is None or self.timeline.worn(self._of_day(time_s))

    def ppg(self, time_s: float) -> float:
        """Blood volume: about -0.5 to 0.5, higher while the vessels are fuller; more, or far more, while the arm moves.

        Of a device that is not worn it means nothing: ask `worn`.
        """
        pulse = (self.recorded(time_s) - self._middle) / self._span
        # the sensor slides on the skin: incommensurable with the pulse, and no less than it
        movement, time_s = self._movement(time_s)
        return pulse + movement.sway(time_s)

    def recorded(self, time_s: float) -> float:
        """The recording's own reading at that moment, without movement: for a reference to compute from."""
        return self.recording.at(self._played(time_s))

    def _played(self, time_s: float) -> float:
        if self.timeline is None:
            return time_s + self.offset_s
        return self.timeline.played(self._of_day(time_s)) + self.offset_s

    def heart_rate_bpm(self, time_s: float, window_s: float = 10.0) -> float:
        """Beats a minute over the seconds before that time, from the tops of the recording's own waves."""
        pace = self.timeline.pace(self._of_day(time_s)) if self.timeline else 1.0
        loop_s, beats = self.recording.duration_s, self.recording.beats_s
        end_s = self._played(time_s)
        first = (end_s - window_s * pace) % loop_s
        last = first + window_s * pace
        found = [beat + lap * loop_s for lap in range(int(last // loop_s) + 1) for beat in beats]
        found = found[bisect.bisect_left(found, first) : bisect.bisect_right(found, last)]
        return 60.0 * pace * (len(found) - 1) / (found[-1] - found[0]) if len(found) > 1 else math.nan

    def spo2_percent(self, time_s: float) -> float:
        """Oxygen saturation of the blood, %."""
        percent = self._spo2 + 0.4 * math.sin(time_s / 700.0 + self._slow)
        return self.timeline.lowered(self._of_day(time_s), percent) if self.timeline else percent

    def perfusion(self, time_s: float) -> float:
        """What part of the light the pulse moves, in the infrared channel; 0 where there is no skin."""
        if not self.worn(time_s):
            return 0.0
        return 0.02 * (1.0 + 0.15 * math.sin(time_s / 900.0 + self._slow))

    def skin_temperature_c(self, time_s: float) -> float:
        """Temperature where the sensor lies, °C; room temperature while it is not worn."""
        if not self.worn(time_s):
            return 22.0
        minutes = time_s / 60.0
        return self._skin_c + 0.3 * math.sin(minutes / 9.0 + self._phase) + 0.05 * math.sin(minutes / 1.3)

    # around it

    def outdoors(self, time_s: float) -> bool:
        """Whether there is sky above the band."""
        return self.timeline is not None and self.timeline.outdoors(self._of_day(time_s))

    def position(self, time_s: float) -> tuple[float, float, float] | None:
        """Latitude and longitude in degrees, metres above the sea; None without sky."""
        return self._place(time_s) if self.outdoors(time_s) else None

    def _place(self, time_s: float) -> tuple[float, float, float]:
        return self.timeline.position(self._of_day(time_s)) if self.timeline else HOME

    def ambient_c(self, time_s: float) -> float:
        """Temperature of the air around the band, °C."""
        indoors = self._indoors_c + 0.4 * math.sin(time_s / 2600.0 + self._slow)
        if self.timeline is None:
            return indoors
        outdoors = self._outdoors_c - 4.0 * math.cos(2 * math.pi * time_s / DAY_S)
        return indoors + (outdoors - indoors) * self.timeline.airing(self._of_day(time_s))

    def pressure_hpa(self, time_s: float) -> float:
        """Pressure of the air, hPa: of the weather, and by the height (international barometric formula)."""
        weather = self._sea_hpa + 3.0 * math.sin(time_s / 30000.0 + self._slow)
        return weather * float((1.0 - self._place(time_s)[2] / 44330.0) ** 5.255)

    def battery_mv(self, time_s: float) -> float:
        """Voltage of a lithium cell that is charged every eight days, before it is low, mV: 4,150 to 3,780."""
        return self.cell_mv(1.0 - 0.7 * ((time_s + self._age_s) % _CHARGED_EVERY_S / _CHARGED_EVERY_S))

    @staticmethod
    def cell_mv(level: float) -> float:
        """Voltage of a lithium cell by the share of its charge that is left, mV: 4,150 to 3,300."""
        # a slope with a steep end, as the discharge curve of a lithium cell has
        if level >= 0.15:
            return 3700.0 + 450.0 * (level - 0.15) / 0.85
        return 3700.0 - 400.0 * (1.0 - level / 0.15) ** 2


def _within(spans: Sequence[tuple[float, float]], time_s: float) -> bool:
    return any(begin <= time_s < end for begin, end in spans)
