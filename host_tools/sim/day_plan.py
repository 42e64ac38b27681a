"""What happens on the simulated day: the scripts of its two wearers, when there is no coverage, who withdraws consent.

A whole day by default. A shorter one has everything, too, by a timetable in which each thing lasts as long as it must
to be seen.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from host_tools.sim import script
from host_tools.sim.script import Script, Span
from sealwire.recordids import SKIN_TEMPERATURE

HOURS: Final = 24.0
SHORT_HOURS: Final = 1.0
_LONG_FROM: Final = 6.0  # hours; below, the other timetable is used
_HOUR_S: Final = 3600.0
# not on the minute, when everything is measured: drivers are loaded then, and in fast motion that takes seconds
_BESIDE_S: Final = 23.0
ADA, BEN = "ada", "ben"
# two towns, so that their places cannot be taken for one another's
_PLACES: Final = {ADA: (48.13720, 11.57560, 519.0), BEN: (60.16990, 24.93840, 12.0)}


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Somebody does not want one record to be taken any more, for a while: seconds from the day's beginning."""

    wearer: str
    record: int
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Plan:
    """The day.

    Attributes:
        length_s: of the day.
        scripts: by the wearer's name.
        recordings: of the pulse, by the wearer's name.
        uncovered: from when to when nobody is heard.
        withdrawal: of consent.
        send_every_s: what the boards are configured to; None: as the application has it.
    """

    length_s: float
    scripts: dict[str, Script]
    recordings: dict[str, str]
    uncovered: tuple[float, float]
    withdrawal: Withdrawal
    send_every_s: int | None


def plan(hours: float = HOURS) -> Plan:
    """A day of so many hours.

    Raises:
        ValueError: fewer than 1, in which there is no room for everything, or more than 24.
    """
    if not SHORT_HOURS <= hours <= HOURS:
        raise ValueError(f"{hours:g} hours: the day has {SHORT_HOURS:g} to {HOURS:g}")
    return _long(hours) if hours >= _LONG_FROM else _short(hours)


def _span(scale_s: float, kind: str, begin: float, end: float, **more: bool | float) -> Span:
    return Span(kind, begin * scale_s, end * scale_s, **more)  # type: ignore[arg-type]


def _long(hours: float) -> Plan:
    """Times in hours of the whole day."""
    scale_s = _HOUR_S * hours / HOURS
    span = partial(_span, scale_s)
    ada = (
        span("sleep", 0.0, 6.5),
        span("work", 8.0, 9.0),
        span("sky", 9.1, 10.1),
        span("walk", 9.25, 9.65),
        script.fall(10.8 * scale_s, lies_s=120.0),
        span("work", 11.4, 12.2),
        span("off", 12.6, 13.2),
        span("walk", 15.0, 15.35),
        span("run", 20.0, 20.25),
        span("sleep", 22.5, 24.0),
    )
    ben = (
        span("sleep", 0.0, 7.0),
        span("sky", 8.1, 9.0),
        span("walk", 8.2, 8.55),
        span("work", 9.6, 10.9),
        script.sos(11.5 * scale_s + _BESIDE_S, holds_s=8.0),
        span("walk", 12.1, 12.25, indoors=True),
        span("spo2", 13.0, 13.3, percent=89.0),
        span("off", 15.8, 16.3),
        span("sky", 17.6, 18.6),
        span("walk", 18.2, 18.6),
        span("work", 21.3, 21.8),
        span("sleep", 22.6, 24.0),
    )
    uncovered = 14.0 * scale_s, 17.0 * scale_s
    withdrawal = Withdrawal(BEN, SKIN_TEMPERATURE, 18.7 * scale_s, 20.5 * scale_s)
    return _made(hours, ada, ben, uncovered, withdrawal, None)


def _short(hours: float) -> Plan:
    """Times in minutes of the shortest day. It ends with events: they end the boards' waiting for coverage, too."""
    scale_s = 60.0 * hours / SHORT_HOURS
    span = partial(_span, scale_s)
    ada = (
        span("sky", 0.0, 17.0),
        span("sleep", 0.0, 3.0),
        span("work", 3.5, 5.0),
        span("walk", 6.0, 11.0),
        script.fall(14.0 * scale_s, lies_s=120.0),
        span("work", 18.0, 20.0),
        span("off", 22.0, 27.0),
        span("walk", 43.0, 47.0),
        span("run", 49.0, 52.0),
        span("off", 57.5, 60.0),
    )
    ben = (
        span("sky", 0.0, 17.0),
        span("walk", 8.0, 13.0),
        span("work", 14.0, 16.0),
        script.sos(17.0 * scale_s + _BESIDE_S, holds_s=8.0),
        span("spo2", 19.0, 23.0, percent=89.0),
        span("walk", 33.0, 36.0, indoors=True),
        span("off", 42.0, 47.0),
        span("sleep", 50.0, 57.0),
        script.sos(57.5 * scale_s + _BESIDE_S, holds_s=8.0),
    )
    uncovered = 37.0 * scale_s, 57.0 * scale_s
    withdrawal = Withdrawal(BEN, SKIN_TEMPERATURE, 20.0 * scale_s, 29.0 * scale_s)
    return _made(hours, ada, ben, uncovered, withdrawal, 120)


def _made(
    hours: float,
    ada: tuple[Span, ...],
    ben: tuple[Span, ...],
    uncovered: tuple[float, float],
    withdrawal: Withdrawal,
    send_every_s: int | None,
) -> Plan:
    return Plan(
        length_s=hours * _HOUR_S,
        scripts={ADA: Script(ada, 0.0, _PLACES[ADA]), BEN: Script(ben, 0.0, _PLACES[BEN])},
        recordings={ADA: "fast", BEN: "slow"},
        uncovered=uncovered,
        withdrawal=withdrawal,
        send_every_s=send_every_s,
    )
