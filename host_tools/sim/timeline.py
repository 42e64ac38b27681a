"""A script made into stretches: which movement the arm makes when, how far the wearer has come, how fast the heart is.

Built once for a script; asking it costs a bisection at most. Times are seconds from the script's beginning. Owns what
wins where spans overlap: the band lying on a table, then a fall, then the rest in the order of the script's list.
"""

import bisect
import itertools
import math
import random
from dataclasses import dataclass
from typing import Final

from host_tools.sim.movement import Activity, Fall, Gait, Movement, Rest, Shaken, Stretch, Table, Vector, Work
from host_tools.sim.script import Script, Span

_RANK: Final = {"sleep": 0, "work": 1, "walk": 1, "run": 1, "fall": 2, "off": 3}
_STEP_M: Final = {"walk": 0.72, "run": 1.05}
_PACE: Final = {"walk": 1.15, "run": 1.35, "sleep": 0.92, "fall": 1.1}
_SETTLES_S: Final = 60.0  # the heart follows what the legs do
_GETS_UP_S: Final = 3.0
_AIR_SETTLES_S: Final = 300.0  # the band's case has the temperature of the air some minutes later
_LOOP_M: Final = 240.0  # radius of the way round


@dataclass(frozen=True, slots=True)
class _Leg:
    begin_s: float
    end_s: float
    before_m: float
    m_s: float


class Timeline:
    """What a script comes to for one wearer.

    Args:
        script: what happens.
        seed: of everything that the script leaves open.

    Attributes:
        cadence_hz: steps a second, of walks that say nothing else.
        falls: the falls, with the moments of their impacts.
    """

    def __init__(self, script: Script, seed: int) -> None:
        draw = random.Random(f"timeline {seed}")  # noqa: S311 - a simulation, no secret
        self.cadence_hz = min(2.2, max(1.6, draw.gauss(1.9, 0.12)))
        self.falls: list[Fall] = []
        self._seed = draw.randrange(1 << 30)
        self._rest = Rest(self._seed, turns_every_s=97.0)
        self._heading = draw.uniform(0.0, 2 * math.pi)
        self._script = script
        self._away = [(span.begin_s, span.end_s) for span in script.of("off")]
        self._outdoors = [
            (span.begin_s, span.end_s)
            for span in script.spans
            if span.kind == "sky" or (span.kind in ("walk", "run") and not span.indoors)
        ]
        self._pressed = [(span.begin_s, span.end_s) for span in script.of("sos")]
        self._low = script.of("spo2")
        self._stretches: list[Stretch] = []
        self._legs: list[_Leg] = []
        self._build()
        self._begins = [stretch.begin_s for stretch in self._stretches]
        self._now = Stretch(math.inf, math.inf, self._rest)
        self._paces = self._pace_points()

    # building

    def _build(self) -> None:
        spans = [span for span in self._script.spans if span.kind in _RANK]
        edges = sorted({edge for span in spans for edge in (span.begin_s, span.end_s)})
        pieces: list[tuple[float, float, Span | None]] = []
        for begin_s, end_s in itertools.pairwise(edges):
            over = [span for span in spans if span.begin_s <= begin_s and end_s <= span.end_s]
            top = max(enumerate(over), key=lambda item: (_RANK[item[1].kind], item[0]))[1] if over else None
            if pieces and pieces[-1][2] is top:
                pieces[-1] = (pieces[-1][0], end_s, top)
            else:
                pieces.append((begin_s, end_s, top))
        for number, (begin_s, end_s, top) in enumerate(pieces):
            if top is not None:
                self._add(begin_s, end_s, top, self._seed + 7 * number + 1)

    def _add(self, begin_s: float, end_s: float, span: Span, seed: int) -> None:
        movement: Movement
        if span.kind in _STEP_M:
            cadence_hz = span.cadence_hz or (self.cadence_hz if span.kind == "walk" else self.cadence_hz * 1.4)
            movement = Gait(seed, begin_s, cadence_hz, running=span.kind == "run")
            if not span.indoors:
                before_m = self._metres(begin_s)
                self._legs.append(_Leg(begin_s, end_s, before_m, cadence_hz * _STEP_M[span.kind]))
        elif span.kind == "work":
            movement = Work(seed)
        elif span.kind == "sleep":
            movement = Rest(seed, turns_every_s=1800.0, activity="lying")
        elif span.kind == "off":
            movement = Table(seed, begin_s, end_s)
        else:
            self._fall(begin_s, end_s, seed, begin_s == span.begin_s)
            return
        self._stretches.append(Stretch(begin_s, end_s, movement))

    def _fall(self, begin_s: float, end_s: float, seed: int, whole: bool) -> None:
        lying = Rest(seed + 1, activity="lying")
        if whole:
            fell = Fall(seed, begin_s, self._attitude(begin_s), lying.at(begin_s))
            self.falls.append(fell)
            self._stretches.append(Stretch(begin_s, fell.end_s, fell))
            begin_s = fell.end_s
        rises_s = max(begin_s, end_s - _GETS_UP_S)
        self._stretches.append(Stretch(begin_s, rises_s, lying))
        up = Shaken(seed + 2, [(0.7, 0.0), (1.3, 1.0), (2.1, 2.0)])
        self._stretches.append(Stretch(rises_s, end_s, up))

    def _attitude(self, time_s: float) -> Vector:
        last = self._stretches[-1] if self._stretches else None
        movement = last.movement if last and last.end_s >= time_s else self._rest
        x, y, z = movement.at(time_s)
        length = math.hypot(x, y, z) or 1.0
        return x / length, y / length, z / length

    def _pace_points(self) -> list[tuple[float, float, float]]:
        """(time, pace of the heart, seconds of the recording played until then), straight lines of pace between."""
        points = [(0.0, 1.0)]
        for span in sorted(self._script.spans, key=lambda span: span.begin_s):
            pace = _PACE.get(span.kind)
            if pace is None:
                continue
            begin_s = max(span.begin_s, points[-1][0])
            if begin_s >= span.end_s:
                continue
            ramp_s = min(_SETTLES_S, (span.end_s - begin_s) / 2)
            points += [(begin_s, points[-1][1]), (begin_s + ramp_s, pace), (span.end_s, pace)]
            points.append((span.end_s + _SETTLES_S, 1.0))
        played: list[tuple[float, float, float]] = []
        total = 0.0
        for time_s, pace in points:
            if played:
                total += (time_s - played[-1][0]) * (pace + played[-1][1]) / 2
            played.append((time_s, pace, total))
        return played

    # asking

    def movement(self, time_s: float) -> Movement:
        """What the arm does at that time."""
        now = self._now
        if now.begin_s <= time_s < now.end_s:
            return now.movement
        index = bisect.bisect_right(self._begins, time_s) - 1
        if index >= 0 and time_s < self._stretches[index].end_s:
            self._now = now = self._stretches[index]
        else:
            begin_s = self._stretches[index].end_s if index >= 0 else -math.inf
            end_s = self._begins[index + 1] if index + 1 < len(self._begins) else math.inf
            self._now = now = Stretch(begin_s, end_s, self._rest)
        return now.movement

    def steps(self, from_s: float, to_s: float) -> int:
        """Steps from one time to the other."""
        total = 0
        for stretch in self._stretches:
            begin_s, end_s = max(from_s, stretch.begin_s), min(to_s, stretch.end_s)
            if begin_s < end_s:
                total += stretch.movement.steps(end_s) - stretch.movement.steps(begin_s)
        return total

    def spans(self, *activities: Activity) -> list[tuple[float, float]]:
        """When the wearer does one of these."""
        return [(one.begin_s, one.end_s) for one in self._stretches if one.movement.activity in activities]

    def worn(self, time_s: float) -> bool:
        """Whether the band is on the arm."""
        return not within(self._away, time_s)

    def pressed(self, time_s: float) -> bool:
        """Whether the button is pressed."""
        return within(self._pressed, time_s)

    def outdoors(self, time_s: float) -> bool:
        """Whether the band is under the sky."""
        return within(self._outdoors, time_s) and self.worn(time_s)

    def airing(self, time_s: float) -> float:
        """How far the band has taken the temperature outdoors, 0 to 1."""
        part = 0.0
        for begin_s, end_s in self._outdoors:
            if begin_s <= time_s:
                reached = min(1.0, (min(time_s, end_s) - begin_s) / _AIR_SETTLES_S)
                left = reached - max(0.0, time_s - end_s) / _AIR_SETTLES_S
                part = max(part, left)
        return part

    def lowered(self, time_s: float, percent: float) -> float:
        """Blood oxygen, where a span says less than these percent; it falls and rises within a minute."""
        for span in self._low:
            if span.begin_s <= time_s < span.end_s:
                reached = min(1.0, (time_s - span.begin_s) / _SETTLES_S, (span.end_s - time_s) / _SETTLES_S)
                return percent + (min(percent, span.percent) - percent) * reached
        return percent

    def pace(self, time_s: float) -> float:
        """How much faster than recorded the heart beats."""
        return self._played(time_s)[0]

    def played(self, time_s: float) -> float:
        """Where in the recording the heart is, seconds."""
        return self._played(time_s)[1]

    def _played(self, time_s: float) -> tuple[float, float]:
        points = self._paces
        index = bisect.bisect_right(points, (time_s, math.inf, math.inf)) - 1
        if index < 0:
            return 1.0, time_s
        begin_s, pace, total = points[index]
        past_s = time_s - begin_s
        if index + 1 == len(points):
            return pace, total + pace * past_s
        end_s, other, _ = points[index + 1]
        now = pace + (other - pace) * past_s / (end_s - begin_s) if end_s > begin_s else pace
        return now, total + past_s * (pace + now) / 2

    def position(self, time_s: float) -> tuple[float, float, float]:
        """Latitude, longitude, metres above the sea: where the way round has led so far."""
        latitude, longitude, altitude_m = self._script.place
        metres = self._metres(time_s)
        turn = metres / _LOOP_M
        east_m = _LOOP_M * (math.cos(self._heading) - math.cos(self._heading + turn))
        north_m = _LOOP_M * (math.sin(self._heading + turn) - math.sin(self._heading))
        latitude += north_m / 111_195.0
        longitude += east_m / (111_195.0 * math.cos(math.radians(latitude)))
        return latitude, longitude, altitude_m + 8.0 * math.sin(metres / 300.0)

    def _metres(self, time_s: float) -> float:
        metres = 0.0
        for leg in self._legs:
            if leg.begin_s > time_s:
                break
            metres = leg.before_m + (min(time_s, leg.end_s) - leg.begin_s) * leg.m_s
        return metres


def within(spans: list[tuple[float, float]], time_s: float) -> bool:
    """Whether the time lies in one of the spans."""
    return any(begin_s <= time_s < end_s for begin_s, end_s in spans)
