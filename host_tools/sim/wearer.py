"""Whoever wears the simulated device: pulse from a real recording, skin temperature, battery. Knows no part and no bus.

Everything is a function of time and the seed, so two parts that ask for the same moment see the same body.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

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
    ) -> None:
        """A wearer.

        Args:
            seed: makes everything that is not in the recording, and where in it time 0 lies.
            recording: what the pulse is; by default one of `recordings()` by the seed.
            moving: spans of Unix time (from, to) in which the wearer moves, so that the pulse drowns.
            away: spans in which the device is not worn.
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

    def worn(self, time_s: float) -> bool:
        """Whether there is skin before the sensors."""
        return not _within(self._away, time_s)

    def ppg(self, time_s: float) -> float:
        """Blood volume: about -0.5 to 0.5, higher while the vessels are fuller; far more while the wearer moves."""
        pulse = (self.recorded(time_s) - self._middle) / self._span
        if _within(self._moving, time_s):
            # sway of the sensor on the skin: incommensurable, and faster than the low-pass of any algorithm forgives
            pulse += sum(math.sin(2 * math.pi * hertz * time_s + phase) for hertz, phase in self._moves)
        return pulse

    def recorded(self, time_s: float) -> float:
        """The recording's own reading at that moment, without movement: for a reference to compute from."""
        return self.recording.at(time_s + self.offset_s)

    def skin_temperature_c(self, time_s: float) -> float:
        """Temperature where the sensor lies, °C; room temperature while it is not worn."""
        if not self.worn(time_s):
            return 22.0
        minutes = time_s / 60.0
        return self._skin_c + 0.3 * math.sin(minutes / 9.0 + self._phase) + 0.05 * math.sin(minutes / 1.3)

    def battery_mv(self, time_s: float) -> float:
        """Voltage of a lithium cell that lasts eight days and is charged when it is empty, mV: 4,150 to 3,300."""
        level = 1.0 - (time_s + self._age_s) % _CHARGED_EVERY_S / _CHARGED_EVERY_S
        # a slope with a steep end, as the discharge curve of a lithium cell has
        if level >= 0.15:
            return 3700.0 + 450.0 * (level - 0.15) / 0.85
        return 3700.0 - 400.0 * (1.0 - level / 0.15) ** 2


def _within(spans: Sequence[tuple[float, float]], time_s: float) -> bool:
    return any(begin <= time_s < end for begin, end in spans)
