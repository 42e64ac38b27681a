"""What happens to a wearer: walks, falls, a call for help, the band taken off, as a list and as a small TOML file.

    place = [48.1372, 11.5756, 519.0]        # where home is: latitude, longitude, metres above the sea
    walk = [{ from = "09:15", to = "09:40" }, { from = "11:00", to = "11:02", indoors = true }]
    run = [{ from = "17:00", to = "17:20" }]
    fall = [{ at = "15:02:30", lies_s = 180 }]
    sos = [{ at = "15:06", holds_s = 5 }]
    off = [{ from = "12:30", to = "13:10" }]
    sleep = [{ from = 0, to = "06:50" }]

Times are "08:30" or "08:30:15" of the script's day, or seconds from its beginning. Owns what a script may say and its
file; what it does to the body is in `host_tools.sim.wearer`.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

SPANS: Final = ("walk", "run", "work", "sleep", "off", "sky", "spo2")
MOMENTS: Final = ("fall", "sos")
DAY_S: Final = 86400.0
HOME: Final = (48.13720, 11.57560, 519.0)
_OPTIONS: Final[Mapping[str, Mapping[str, type]]] = {
    "walk": {"indoors": bool, "cadence_hz": float},
    "run": {"indoors": bool, "cadence_hz": float},
    "spo2": {"percent": float},
    "fall": {"lies_s": float},
    "sos": {"holds_s": float},
}
_RANGES: Final = {
    "cadence_hz": (0.5, 4.0),
    "percent": (50.0, 100.0),
    "lies_s": (5.0, 3600.0),
    "holds_s": (0.1, 60.0),
}


class ScriptError(Exception):
    """A script says something that cannot be; `remedy` says how it is written."""

    def __init__(self, what: str, remedy: str = "the head of host_tools/sim/script.py shows a whole script") -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasts, or happens at `begin_s`.

    Attributes:
        kind: one of `SPANS` or `MOMENTS`.
        begin_s, end_s: seconds from the script's beginning.
        indoors: of a walk or run: no sky, and it leads nowhere.
        cadence_hz: steps a second; None: the wearer's own.
        percent: of `spo2`: what the saturation falls to.
    """

    kind: str
    begin_s: float
    end_s: float
    indoors: bool = False
    cadence_hz: float | None = None
    percent: float = 90.0

    def __post_init__(self) -> None:
        if self.kind not in SPANS + MOMENTS:
            raise ScriptError(f"there is no {self.kind!r} in a script; there are: {', '.join(SPANS + MOMENTS)}")
        if not 0.0 <= self.begin_s < self.end_s:
            raise ScriptError(f"{self.kind}: {self.begin_s:g} s to {self.end_s:g} s is no time that lasts")


def walk(begin_s: float, end_s: float, *, indoors: bool = False, cadence_hz: float | None = None) -> Span:
    """A walk, along the wearer's path under the sky unless it is indoors."""
    return Span("walk", begin_s, end_s, indoors, cadence_hz)


def run(begin_s: float, end_s: float, *, indoors: bool = False, cadence_hz: float | None = None) -> Span:
    """A run."""
    return Span("run", begin_s, end_s, indoors, cadence_hz)


def work(begin_s: float, end_s: float) -> Span:
    """Hands at small work: typing, washing, a knock on the table."""
    return Span("work", begin_s, end_s)


def sleep(begin_s: float, end_s: float) -> Span:
    """Asleep: lying, a turn every half hour."""
    return Span("sleep", begin_s, end_s)


def off(begin_s: float, end_s: float) -> Span:
    """The band lies on a table."""
    return Span("off", begin_s, end_s)


def sky(begin_s: float, end_s: float) -> Span:
    """Outdoors without walking."""
    return Span("sky", begin_s, end_s)


def saturation(begin_s: float, end_s: float, percent: float) -> Span:
    """Blood oxygen falls to so many percent."""
    return Span("spo2", begin_s, end_s, percent=percent)


def fall(at_s: float, *, lies_s: float = 120.0) -> Span:
    """A fall, after which the wearer lies still for so long."""
    return Span("fall", at_s, at_s + lies_s)


def sos(at_s: float, *, holds_s: float = 4.0) -> Span:
    """The button is pressed for so long."""
    return Span("sos", at_s, at_s + holds_s)


@dataclass(frozen=True)
class Script:
    """A day of a wearer.

    Attributes:
        spans: everything that happens; what overlaps is decided by the wearer: off before fall before the rest, and
            among those what stands later in the list.
        begins: Unix time of second 0; None: every day (UTC) is like this.
        place: home: latitude, longitude (degrees), metres above the sea.
    """

    spans: tuple[Span, ...] = ()
    begins: float | None = None
    place: tuple[float, float, float] = HOME

    def __post_init__(self) -> None:
        latitude, longitude, altitude_m = self.place
        if not (-85 <= latitude <= 85 and -180 <= longitude <= 180 and -500 <= altitude_m <= 9000):
            raise ScriptError(f"place {self.place} is nowhere", "latitude, longitude in degrees, metres above the sea")
        if self.begins is None and any(span.end_s > DAY_S for span in self.spans):
            raise ScriptError("something ends after the day", "a script whose days are alike ends at 24:00")

    def of(self, kind: str) -> tuple[Span, ...]:
        """The spans of this kind, by time."""
        return tuple(sorted((span for span in self.spans if span.kind == kind), key=lambda span: span.begin_s))

    def beginning(self, unix_s: float) -> "Script":
        """The same, once, from this Unix time on."""
        return replace(self, begins=unix_s)

    def squeezed(self, factor: float) -> "Script":
        """The same with all beginnings `factor` times as early, and spans as short; falls and presses last as long."""
        spans = []
        for span in self.spans:
            begin_s = span.begin_s * factor
            length_s = span.end_s - span.begin_s
            spans.append(
                replace(span, begin_s=begin_s, end_s=begin_s + length_s * (1.0 if span.kind in MOMENTS else factor))
            )
        return replace(self, spans=tuple(spans))


def load(path: Path) -> Script:
    """Read a script's file.

    Raises:
        ScriptError: it is no TOML, or says what a script cannot.
        OSError: it cannot be read.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise ScriptError(f"{path} is no text in UTF-8") from None


def parse(text: str, name: str = "script") -> Script:
    """A script from its text; `name` stands in errors.

    Raises:
        ScriptError: see `load`.
    """
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ScriptError(f"{name} is not TOML: {error}") from None
    spans: list[Span] = []
    more: dict[str, Any] = {}
    for key, value in table.items():
        if key == "place":
            more["place"] = _place(value, name)
        elif key == "begins":
            more["begins"] = _number(value, f"{name}: begins", 0.0, 1e11)
        elif key in SPANS + MOMENTS:
            if not isinstance(value, list):
                raise ScriptError(f"{name}: {key} is not a list", f"write {key} = [{{ … }}, {{ … }}]")
            spans += [_span(key, item, f"{name}: {key} {number + 1}") for number, item in enumerate(value)]
        else:
            raise ScriptError(f"{name}: there is no {key!r}; there are: place, {', '.join(SPANS + MOMENTS)}")
    return Script(tuple(spans), **more)


def clock_time(value: object, where: str = "time") -> float:
    """Seconds from "08:30", "08:30:15" or a number.

    Raises:
        ScriptError: it is neither.
    """
    if isinstance(value, str):
        found = re.fullmatch(r"(\d{1,2}):(\d\d)(?::(\d\d))?", value, re.ASCII)
        if found:
            hour, minute, second = (int(part or 0) for part in found.groups())
            if hour * 60 + minute <= 1440 and minute < 60 and second < 60:
                return float(hour * 3600 + minute * 60 + second)
        raise ScriptError(f"{where}: {value!r} is no time", 'write "08:30", "08:30:15" or seconds from the beginning')
    return _number(value, where, 0.0, 1e9)


def _span(kind: str, item: object, where: str) -> Span:
    if not isinstance(item, dict):
        raise ScriptError(f"{where} is not a table", '{ from = "09:00", to = "09:20" }')
    times = ("at",) if kind in MOMENTS else ("from", "to")
    allowed = _OPTIONS.get(kind, {})
    for key in times:
        if key not in item:
            raise ScriptError(f"{where} has no {key!r}", f"it has: {', '.join((*times, *allowed))}")
    options: dict[str, Any] = {}
    for key, value in item.items():
        if key in times:
            continue
        if key not in allowed:
            raise ScriptError(f"{where} has no use for {key!r}", f"it may have: {', '.join((*times, *allowed))}")
        if allowed[key] is bool:
            if not isinstance(value, bool):
                raise ScriptError(f"{where}: {key} is neither true nor false")
            options[key] = value
        else:
            options[key] = _number(value, f"{where}: {key}", *_RANGES[key])
    begin_s = clock_time(item[times[0]], f"{where}: {times[0]}")
    if kind == "fall":
        return fall(begin_s, **options)
    if kind == "sos":
        return sos(begin_s, **options)
    end_s = clock_time(item["to"], f"{where}: to")
    if end_s <= begin_s:
        raise ScriptError(f"{where} ends before it begins")
    return Span(kind, begin_s, end_s, **options)


def _place(value: object, name: str) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != 3:
        raise ScriptError(f"{name}: place is not [latitude, longitude, metres]")
    latitude, longitude, altitude_m = (_number(one, f"{name}: place", -1e4, 1e4) for one in value)
    return latitude, longitude, altitude_m


def _number(value: object, where: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScriptError(f"{where} is {value!r}, not a number")
    if not low <= value <= high:
        raise ScriptError(f"{where}: it is not in {low:g} to {high:g}")
    return float(value)
