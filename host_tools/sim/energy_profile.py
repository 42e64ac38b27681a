"""A profile for `sealband sim energy`: periods without an application, and a wearer's day, from a small TOML file.

deep_sleep = true              # default
send_every_s = 600             # status_every_s = 86400
[[sensors]]
records = ["heart_rate"]       # names of `sealwire.records`
every_s = [600, 60, 30]        # at rest, in motion, in alarm; or one number for all
takes_s = 9.7                  # of a reading
[day]                          # also with an application: the file then has no sensors
motion = ["07:00-07:45", "17:30-18:30"]
events = ["15:00"]             # each an event and ten minutes of alarm
quiet = "22:00-06:00"
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_tools.sim.energy import MOTION, Day
from sealwire import records

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_KEYS = {"deep_sleep": bool, "send_every_s": int, "status_every_s": int, "sensors": list, "day": dict}
_BY_NAME = {records.lookup(number)[0]: number for number in range(1, 64)}


class ProfileError(Exception):
    """The file is no profile; `remedy` says what to do."""

    remedy = "see `sealband sim energy` in host_tools/README.md for what a profile holds"


@dataclass(frozen=True)
class Profile:
    """What the file says: sensors as `energy_probe.probe` takes them (None: the application's), App's settings, a day
    (None: the usual one).
    """

    sensors: list[tuple[list[int], list[int], int]] | None
    settings: dict[str, Any]
    day: Day | None


def load(path: Path) -> Profile:
    """Read it.

    Raises:
        ProfileError: it cannot be read, or says what no profile says.
    """
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProfileError(f"{path}: {error}") from error
    try:
        return _profile(read)
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from error


def _profile(read: Mapping[str, Any]) -> Profile:
    for key, value in read.items():
        if key not in _KEYS or type(value) is not _KEYS[key]:
            raise ProfileError(f"{key}: not understood")
    settings = {"deep_sleep": True}
    for key in ("deep_sleep", "send_every_s", "status_every_s"):
        if key in read:
            settings[key] = read[key]
    for key in ("send_every_s", "status_every_s"):
        if not 10 <= settings.get(key, 600) <= 86_400:
            raise ProfileError(f"{key}: 10 to 86400 seconds")
    sensors = [_sensor(sensor) for sensor in read["sensors"]] if "sensors" in read else None
    return Profile(sensors, settings, _day(read["day"]) if "day" in read else None)


def _sensor(read: Any) -> tuple[list[int], list[int], int]:
    if not isinstance(read, dict) or set(read) - {"records", "every_s", "takes_s"}:
        raise ProfileError("sensors: records, every_s and takes_s are understood")
    names = read.get("records")
    if (
        not isinstance(names, list)
        or not names
        or any(not isinstance(name, str) or name not in _BY_NAME for name in names)
    ):
        raise ProfileError(f"sensors: records: {names!r} are no names of records")
    every = read.get("every_s")
    periods: list[Any] = every if isinstance(every, list) else [every]
    if not 1 <= len(periods) <= 3 or any(type(period) is not int or not 1 <= period <= 86_400 for period in periods):
        raise ProfileError(f"sensors: every_s: {every!r} are not one to three periods of 1 to 86400 whole seconds")
    takes = read.get("takes_s", 0.1)
    if isinstance(takes, bool) or not isinstance(takes, int | float) or not 0 <= takes <= 600:
        raise ProfileError(f"sensors: takes_s: {takes!r} is no number from 0 to 600")
    return [_BY_NAME[name] for name in names], periods, round(takes * 1000)


def _day(read: Mapping[str, Any]) -> Day:
    if set(read) - {"motion", "events", "quiet"}:
        raise ProfileError("day: motion, events and quiet are understood")
    spans = tuple((*_span(text), MOTION) for text in _texts(read, "motion"))
    if any(begin >= end for begin, end, _ in spans):
        raise ProfileError("day: motion: a span ends before it begins; write one that passes midnight as two")
    events = tuple(_time(text) for text in _texts(read, "events"))
    return Day(spans, events, _span(read["quiet"]) if "quiet" in read else None)


def _texts(read: Mapping[str, Any], key: str) -> list[str]:
    value = read.get(key, [])
    if not isinstance(value, list):
        raise ProfileError(f"day: {key}: must be an array")
    return value


def _span(text: Any) -> tuple[int, int]:
    begin, dash, end = text.partition("-") if isinstance(text, str) else ("", "", "")
    if not dash:
        raise ProfileError(f"day: {text!r} is no span as 07:00-07:45")
    return _time(begin), 86_400 if end == "24:00" else _time(end)


def _time(text: Any) -> int:
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise ProfileError(f"day: {text!r} is no time as 07:45")
    return 3600 * int(found[1]) + 60 * int(found[2])
