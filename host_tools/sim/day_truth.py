"""What arrived of the simulated day, held against what the wearers really did: rows of a figure, a limit, a verdict.

Pure: works on what `host_tools.sim.day` has seen. The limits are what this simulation must keep on a busy computer,
where seconds of the simulation pass while a process waits for its turn; they say nothing of people or of real parts.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from host_tools.sim.day import Line, Seen, sealed_keys
from host_tools.sim.script import Span
from host_tools.sim.wearer import Wearer
from sealwire.recordids import (
    HEART_RATE,
    LATITUDE,
    LONGITUDE,
    SKIN_TEMPERATURE,
    SPO2,
    STEPS,
    WEAR_STATE,
)

if TYPE_CHECKING:
    from host_tools.ingest.readings import Reading

CELL_M = 100.0  # the setting's default
_FIX_M = 30.0  # what a receiver may be beside the truth, at the worst
_EDGE_S = 120.0  # around taking off and putting on nothing is judged
# an answer that does not get through brings a frame again; before the journal is imported nobody is known
_EXPECTED = ("replay", "unknown_device")
# until it is told that the band is off or on: it is looked at once a minute, after a position (55 s) or a session
_EVENT_S = 300.0
_M_A_DEGREE = 111_195.0


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        what: that was compared.
        wearer: whose.
        value: the figure, None where there is none to be had, which is never good.
        limit: the most that it may be; with `at_least` the least.
        unit: of both.
        note: what else there is to say.
    """

    what: str
    wearer: str
    value: float | None
    limit: float
    unit: str = ""
    at_least: bool = False
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether the limit is kept."""
        if self.value is None or math.isnan(self.value):
            return False
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def to_json(self) -> dict[str, object]:
        """As `--json` prints it."""
        return {
            "what": self.what,
            "wearer": self.wearer,
            "value": self.value,
            "limit": self.limit,
            "at_least": self.at_least,
            "unit": self.unit,
            "good": self.good,
            "note": self.note,
        }


def compare(seen: Seen) -> list[Row]:
    """All comparisons, in the order in which they are shown."""
    rows: list[Row] = []
    for name, wearer in seen.wearers.items():
        one = _One(seen, name, wearer)
        rows += one.pulse()
        rows += one.skin()
        rows += one.steps()
        rows += one.falls()
        rows += one.calls()
        rows += one.wear()
        rows += one.places()
        rows += one.consent()
        rows += one.flow()
    rows.append(Row("frames in the store that do not open", "", seen.damaged, 0))
    strange = {reason: count for reason, count in seen.refused.items() if reason not in _EXPECTED}
    note = ", ".join(f"{count} {reason}" for reason, count in sorted(strange.items()))
    rows.append(Row("frames refused that were no repetitions", "", sum(strange.values()), 0, note=note))
    return rows


def summary(seen: Seen) -> dict[str, object]:
    """What the rows do not say, for JSON and titles."""
    return {
        "hours": seen.plan.length_s / 3600,
        "speed": seen.speed,
        "real_s": round(seen.real_s, 1),
        "stalls": seen.stalls,
        "longest_stall_s": round(seen.longest_stall_s, 1),
        "begins": seen.begins,
        "devices": seen.enrolled,
        "frames": {name: len(frames) for name, frames in seen.frames.items()},
        "samples": {name: len(readings) for name, readings in seen.readings.items()},
        "records": {
            name: dict(sorted(Counter(one.record for one in readings).items()))
            for name, readings in seen.readings.items()
        },
        "uncovered_s": [round(at - seen.begins, 1) for at in seen.uncovered],
        "withdrawn_s": [at if at is None else round(at - seen.begins, 1) for at in seen.withdrawn],
        "refused": seen.refused,
    }


class _One:
    """What is known of one wearer."""

    def __init__(self, seen: Seen, name: str, wearer: Wearer) -> None:
        self._seen = seen
        self._name = name
        self._wearer = wearer
        self._begins = seen.begins
        self._ends = seen.begins + seen.plan.length_s
        self._readings = [one for one in seen.readings.get(name, []) if self._begins <= one.unix_s < self._ends]
        self._lines = seen.lines.get(name, [])
        assert wearer.timeline is not None
        self._timeline = wearer.timeline

    def _row(self, what: str, value: float | None, limit: float, unit: str = "", **more: object) -> Row:
        return Row(what, self._name, value if value is None else round(value, 3), limit, unit, **more)  # type: ignore[arg-type]

    def _of(self, record: int) -> "list[Reading]":
        return [one for one in self._readings if one.record_id == record and "/" not in one.record]

    def _events(self, name: str) -> "list[Reading]":
        return [one for one in self._readings if one.record == f"event/{name}"]

    # the body

    def pulse(self) -> list[Row]:
        wearer = self._wearer
        beats = [
            self._beside(float(one.value), one.unix_s)
            for one in self._of(HEART_RATE)
            if one.value is not None and wearer.worn(one.unix_s)
        ]
        off = [one for one in self._of(HEART_RATE) if not self._near_edge(one.unix_s) and not wearer.worn(one.unix_s)]
        oxygen = [
            abs(float(one.value) - wearer.spo2_percent(one.unix_s + 8.0))
            for one in self._of(SPO2)
            if one.value is not None and wearer.worn(one.unix_s)
        ]
        return [
            self._row("heart rate, median error", _median(beats), 3.0, "bpm", note=f"{len(beats)} numbers"),
            self._row("heart rate, numbers that are wrong by more than 10 bpm", _share(beats, 10.0), 5.0, "%"),
            self._row(
                "heart rate, numbers in an hour", 3600 * len(beats) / (self._ends - self._begins), 1, at_least=True
            ),
            self._row("heart rate, numbers while not worn", len(off), 0),
            self._row("SpO2, median error", _median(oxygen), 2.0, "%", note=f"{len(oxygen)} numbers"),
            self._row("SpO2, numbers that are wrong by more than 4", _share(oxygen, 4.0), 5.0, "%"),
        ]

    def _beside(self, bpm: float, unix_s: float) -> float:
        """How far a number lies from the truth: it bears the time at which it was due, and waves of some later eight
        seconds went into it, which later ones being a matter of how fast the part settled and the computer was."""
        near = [self._wearer.heart_rate_bpm(unix_s + late_s, 8.0) for late_s in (9.0, 12.0, 15.0, 18.0, 21.0)]
        return max(0.0, min(near) - bpm, bpm - max(near))

    def skin(self) -> list[Row]:
        errors = [
            abs(float(one.value) - self._wearer.skin_temperature_c(one.unix_s))
            for one in self._of(SKIN_TEMPERATURE)
            if one.value is not None and not self._near_edge(one.unix_s)
        ]
        return [self._row("skin temperature, greatest error", max(errors, default=None), 0.3, "°C")]

    def steps(self) -> list[Row]:
        told = sum(int(one.value) for one in self._of(STEPS) if one.value is not None)
        true = self._wearer.steps(self._begins, self._ends)
        error = 100.0 * abs(told - true) / max(1, true)
        return [self._row("steps, error of the day's sum", error, 10.0, "%", note=f"{told} told, {true} taken")]

    # what happens

    def falls(self) -> list[Row]:
        found = self._events("fall")
        used: set[int] = set()
        rows = []
        for fell in self._timeline.falls:
            impact = self._begins + fell.impact_s
            near = [index for index, one in enumerate(found) if impact - 10 <= one.unix_s <= impact + 100]
            used.update(near)
            first = found[near[0]] if near else None
            rows.append(self._row("fall, until it is an event", first.unix_s - impact if first else None, 75.0, "s"))
            rows += self._arrival("fall", impact, first)
        rows.append(self._row("falls that were none", len(found) - len(used), 0))
        return rows

    def calls(self) -> list[Row]:
        assert self._wearer.script is not None
        found = self._events("sos")
        used: set[int] = set()
        rows: list[Row] = []
        for press in self._wearer.script.of("sos"):
            pressed = self._begins + press.begin_s
            near = [index for index, one in enumerate(found) if pressed <= one.unix_s <= pressed + 30]
            used.update(near)
            rows += self._arrival("SOS", pressed, found[near[0]] if near else None)
        rows.append(self._row("calls for help that were none", len(found) - len(used), 0))
        return rows

    def _arrival(self, what: str, begin: float, event: "Reading | None") -> list[Row]:
        stored = event.received_at - begin if event else None
        return [
            self._row(f"{what}, until it is in the store", stored, 180.0, "s"),
            self._row(f"{what}, until the board knows that", self._acknowledged(begin, event), 300.0, "s"),
        ]

    def _acknowledged(self, begin: float, event: "Reading | None") -> float | None:
        """Until the board has heard that this event was stored: the first acknowledgement after it was sent."""
        if event is None:
            return None
        sent = False
        for line in self._lines:
            words = line.text.split()
            if line.at < begin or len(words) < 3:
                continue
            sent = sent or words[1:3] == ["sent", "0"]
            if sent and words[1] == "acked":
                return line.at - begin
        return None

    def wear(self) -> list[Row]:
        states = [one for one in self._of(WEAR_STATE) if not self._near_edge(one.unix_s)]
        wrong = [one for one in states if bool(one.value) is not self._wearer.worn(one.unix_s)]
        rows = [
            self._row(
                "wear state, wrong ones",
                100.0 * len(wrong) / len(states) if states else None,
                1.0,
                "%",
                note=f"{len(states)} judged, none within {_EDGE_S:g} s of a change",
            )
        ]
        for span in self._offs():
            for kind, edge_s in (("taken_off", span.begin_s), ("worn", span.end_s)):
                if edge_s + _EVENT_S > self._seen.plan.length_s:
                    continue
                edge = self._begins + edge_s
                near = [one.unix_s - edge for one in self._events(kind) if -5 <= one.unix_s - edge <= 300]
                rows.append(
                    self._row(f"{kind.replace('_', ' ')}, until it is an event", min(near, default=None), _EVENT_S, "s")
                )
        return rows

    def places(self) -> list[Row]:
        if not any(one.record_id == LATITUDE for told in self._seen.readings.values() for one in told):
            return []  # an application without a receiver
        longitudes = {one.unix_s: float(one.value) for one in self._of(LONGITUDE) if one.value is not None}
        most_m = CELL_M / math.sqrt(2) + _FIX_M
        beyond, count, cells = 0, 0, set()
        for one in self._of(LATITUDE):
            if one.value is None or one.unix_s not in longitudes:
                continue
            told = float(one.value), longitudes[one.unix_s]
            cells.add(told)
            count += 1
            # a receiver looks for up to a minute from the time that its fix bears
            near = min(
                _metres(told, self._timeline.position(one.unix_s - self._begins + late)) for late in range(-20, 81, 20)
            )
            beyond += near > most_m
        walked = any(self._timeline.outdoors(t) for t in range(0, int(self._seen.plan.length_s), 30))
        rows = [self._row("positions outside their cell", beyond if count else None, 0, note=f"{count} positions")]
        if not walked:
            return []
        rows.append(self._row("positions told", count, 1, at_least=True, note=f"{len(cells)} different ones"))
        return rows

    # the way

    def consent(self) -> list[Row]:
        gone = self._seen.plan.withdrawal
        if gone.wearer != self._name:
            return []
        asked, done, again, had = self._seen.withdrawn
        times = [one.unix_s for one in self._of(gone.record)]
        took = done - asked if done is not None and asked is not None else None
        sampled = sum(done <= t < again for t in times) if done is not None and again is not None else None
        after = sum(t >= had for t in times) if had is not None else None
        return [
            self._row("withdrawn consent, until the board says so", took, 900, "s"),
            self._row("samples after that", sampled, 0),
            self._row("samples after consent is given again", after, 1, at_least=True),
        ]

    def flow(self) -> list[Row]:
        frames = self._seen.frames.get(self._name, [])
        stored = {(one.epoch, one.ctr) for one in frames}
        sealed = set(sealed_keys(self._lines, self._ends))
        lost = len(sealed - stored)
        begin, end = self._seen.uncovered
        during = sum(begin + 30 < one.received_at < end - 30 for one in frames)
        meanwhile = [t for t in self._times() if begin <= t < end]
        starts = [
            getattr(one.message, "t0", 0)
            for one in sorted(frames, key=lambda one: (one.epoch, one.ctr))
            if _is_telemetry(one.message)
        ]
        highest = list(itertools.accumulate(starts, max))
        back = sum(top - t0 > 900 for top, t0 in zip(highest, starts, strict=True))
        twice = [
            key for key, count in Counter((one.record, one.unix_s) for one in self._samples()).items() if count > 1
        ]
        return [
            self._row("frames sealed in the day and not stored", lost, 0, note=f"{len(sealed)} sealed"),
            self._row("frames heard without coverage", during, 0),
            self._row("times sampled without coverage, now in the store", len(meanwhile), 1, at_least=True),
            self._row("longest gap without coverage", _gap(meanwhile, begin, end), 400, "s"),
            self._row("longest gap of the day", _gap(self._times(), self._begins, self._ends), 400, "s"),
            self._row("frames out of order by more than 15 min", back, 0),
            self._row("samples that are there twice", len(twice), 0),
            self._row("times that the board's code failed", _faults(self._lines), 0),
        ]

    def _samples(self) -> "list[Reading]":
        return [one for one in self._readings if "/" not in one.record]

    def _times(self) -> list[int]:
        return sorted({one.unix_s for one in self._samples()})

    def _near_edge(self, unix_s: float) -> bool:
        at_s = unix_s - self._begins
        return any(abs(at_s - edge) < _EDGE_S for span in self._offs() for edge in (span.begin_s, span.end_s))

    def _offs(self) -> tuple[Span, ...]:
        assert self._wearer.script is not None
        return self._wearer.script.of("off")


def _median(values: list[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return median(known) if known else None


def _share(values: list[float], above: float) -> float | None:
    return 100.0 * sum(value > above for value in values) / len(values) if values else None


def _gap(times: list[int], begin: float, end: float) -> float:
    return max(other - one for one, other in itertools.pairwise([begin, *times, end]))


def _faults(lines: "list[Line]") -> int:
    return sum(line.text.split()[1:2] == ["fault"] for line in lines)


def _is_telemetry(message: object) -> bool:
    return hasattr(message, "t0")


def _metres(one: tuple[float, float], other: tuple[float, float, float]) -> float:
    north_m = (one[0] - other[0]) * _M_A_DEGREE
    east_m = (one[1] - other[1]) * _M_A_DEGREE * math.cos(math.radians(other[0]))
    return math.hypot(north_m, east_m)
