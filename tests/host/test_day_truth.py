"""What the simulated day is held against: a perfect device passes, and each thing that it gets wrong is missed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest

from host_tools.ingest.decode import Telemetry
from host_tools.sim.day import Line, Seen, Told, sealed_keys
from host_tools.sim.day_plan import ADA, BEN, HOURS, SHORT_HOURS, plan
from host_tools.sim.day_truth import Row, compare
from host_tools.sim.wearer import Wearer
from sealwire import recordids as ids


@dataclass(frozen=True)
class Reading:
    """What is looked at of `host_tools.ingest.readings.Reading`, whose module wants a database."""

    device: str
    unix_s: int
    record: str
    record_id: int
    value: Decimal | None
    unit: str
    link: str
    gateway: str
    received_at: float


NOON = 1_795_219_200.0
PERIOD_S = 60


def perfect() -> Seen:
    """What a device without any fault would have told."""
    seen = Seen(plan(SHORT_HOURS), begins=NOON)
    told = seen.plan
    seen.uncovered = NOON + told.uncovered[0], NOON + told.uncovered[1]
    gone = told.withdrawal
    seen.withdrawn = [NOON + gone.begin_s, NOON + gone.begin_s + 60, NOON + gone.end_s, NOON + gone.end_s + 60]
    for number, (name, script) in enumerate(told.scripts.items()):
        wearer = Wearer(700 + number, told.recordings[name])
        wearer.follow(script.beginning(NOON))
        seen.wearers[name] = wearer
        seen.readings[name] = readings(seen, name, wearer)  # type: ignore[assignment]
        seen.lines[name] = [Line(NOON + at, f"[9] {what}") for at, what in LINES]
        seen.frames[name] = [
            Told(0, ctr, NOON + 100 * ctr, Telemetry(100 * ctr, ())) for ctr in range(36) if not 22 <= ctr <= 34
        ]
    return seen


LINES = [
    *((100.0 * ctr, f"sealed 2 40 {ctr}") for ctr in range(36) if not 22 <= ctr <= 34),
    *((at + wait, what) for at in (840.0, 1043.0, 3473.0) for wait, what in ((8.0, "sent 0 0 7"), (14.0, "acked 1"))),
]
LINES.sort()


def readings(seen: Seen, name: str, wearer: Wearer) -> list[Reading]:
    found: list[Reading] = []

    def tell(at: float, record: int, kind: str, value: float | None = None) -> None:
        number = None if value is None else Decimal(str(round(value, 5)))
        found.append(Reading(name, round(NOON + at), kind, record, number, "", "lora", "", NOON + at + 8))

    for at in range(0, int(seen.plan.length_s), PERIOD_S):
        now = NOON + at
        worn = wearer.worn(now)
        tell(at, ids.WEAR_STATE, "wear_state", worn)
        tell(at, ids.STEPS, "steps", wearer.steps(now - PERIOD_S, now))
        gone = seen.plan.withdrawal
        if name != gone.wearer or not gone.begin_s + 60 <= at < gone.end_s + 60:
            tell(at, ids.SKIN_TEMPERATURE, "skin_temperature", wearer.skin_temperature_c(now))
        if worn and wearer.activity(now) == "still":
            tell(at, ids.HEART_RATE, "heart_rate", wearer.heart_rate_bpm(now + 12, 8))
            tell(at, ids.SPO2, "spo2", wearer.spo2_percent(now))
        place = wearer.position(now)
        if place is not None:
            tell(at, ids.LATITUDE, "latitude", round(place[0], 3))
            tell(at, ids.LONGITUDE, "longitude", round(place[1], 3))
    script = wearer.script
    assert script is not None
    assert wearer.timeline is not None
    for fell in wearer.timeline.falls:
        tell(fell.impact_s + 5, 1, "event/fall", 5000)
    for press in script.of("sos"):
        tell(press.begin_s + 3, 2, "event/sos")
    for span in script.of("off"):
        tell(span.begin_s + 20, 5, "event/taken_off")
        tell(span.end_s + 20, 4, "event/worn")
    return found


def missed(rows: list[Row]) -> set[str]:
    return {f"{row.wearer}: {row.what}" for row in rows if not row.good}


def test_perfect_device_keeps_every_limit() -> None:
    assert missed(compare(perfect())) == set()


def shift(name: str, record: str, by: float) -> Callable[[Seen], None]:
    def change(seen: Seen) -> None:
        seen.readings[name] = [
            replace(one, value=one.value + Decimal(str(by))) if one.record == record and one.value is not None else one
            for one in seen.readings[name]
        ]

    return change


def drop(name: str, record: str) -> Callable[[Seen], None]:
    def change(seen: Seen) -> None:
        seen.readings[name] = [one for one in seen.readings[name] if one.record != record]

    return change


def add(name: str, record: str, number: int, at: float, value: int | None = None) -> Callable[[Seen], None]:
    def change(seen: Seen) -> None:
        number_told = None if value is None else Decimal(value)
        one = Reading(name, round(NOON + at), record, number, number_told, "", "lora", "", NOON + at + 5)
        seen.readings[name].append(one)  # type: ignore[arg-type]

    return change


def late(name: str, record: str, by_s: float) -> Callable[[Seen], None]:
    def change(seen: Seen) -> None:
        seen.readings[name] = [
            replace(one, received_at=one.received_at + by_s) if one.record == record else one
            for one in seen.readings[name]
        ]

    return change


def lose_frame(seen: Seen) -> None:
    del seen.frames[ADA][5]


def heard_without_coverage(seen: Seen) -> None:
    seen.frames[ADA].append(Told(0, 90, NOON + 3000, Telemetry(9000, ())))


def out_of_order(seen: Seen) -> None:
    seen.frames[BEN].append(Told(0, 91, NOON + 3570, Telemetry(60, ())))


def gap(seen: Seen) -> None:
    begin = seen.uncovered[0]
    seen.readings[BEN] = [one for one in seen.readings[BEN] if not begin + 690 < one.unix_s < begin + 1190]


def twice(seen: Seen) -> None:
    seen.readings[ADA].append(seen.readings[ADA][0])


def fault(seen: Seen) -> None:
    seen.lines[ADA].append(Line(NOON + 10, "[17] fault 1"))


def refuse(seen: Seen) -> None:
    seen.refused = {"replay": 9, "unknown_device": 2, "malformed_message": 1}


def never_said(seen: Seen) -> None:
    seen.withdrawn[1] = None


CHANGES: dict[str, tuple[Callable[[Seen], None], set[str]]] = {
    "pulse beside": (
        shift(ADA, "heart_rate", 14),
        {"heart rate, median error", "heart rate, numbers that are wrong by more than 10 bpm"},
    ),
    "no pulse": (
        drop(ADA, "heart_rate"),
        {
            "heart rate, median error",
            "heart rate, numbers that are wrong by more than 10 bpm",
            "heart rate, numbers in an hour",
        },
    ),
    "pulse of a table": (add(ADA, "heart_rate", 1, 1440, 70), {"heart rate, numbers while not worn"}),
    "oxygen beside": (
        shift(BEN, "spo2", -6),
        {"SpO2, median error", "SpO2, numbers that are wrong by more than 4"},
    ),
    "skin beside": (shift(BEN, "skin_temperature", 0.6), {"skin temperature, greatest error"}),
    "steps beside": (shift(ADA, "steps", 3), {"steps, error of the day's sum"}),
    "fall unseen": (
        drop(ADA, "event/fall"),
        {"fall, until it is an event", "fall, until it is in the store", "fall, until the board knows that"},
    ),
    "fall that was none": (add(BEN, "event/fall", 1, 300, 3000), {"falls that were none"}),
    "call unheard": (drop(BEN, "event/sos"), {"SOS, until it is in the store", "SOS, until the board knows that"}),
    "call late": (late(BEN, "event/sos", 400), {"SOS, until it is in the store"}),
    "call that was none": (add(ADA, "event/sos", 2, 300), {"calls for help that were none"}),
    "always worn": (add(ADA, "wear_state", 13, 1470, 1), {"wear state, wrong ones"}),
    "taking off untold": (drop(ADA, "event/taken_off"), {"taken off, until it is an event"}),
    "putting on untold": (drop(BEN, "event/worn"), {"worn, until it is an event"}),
    "elsewhere": (shift(ADA, "latitude", 0.004), {"positions outside their cell"}),
    "nowhere": (drop(BEN, "latitude"), {"positions outside their cell", "positions told"}),
    "against consent": (add(BEN, "skin_temperature", 3, 1400), {"samples after that"}),
    "consent ignored": (never_said, {"withdrawn consent, until the board says so", "samples after that"}),
    "frame lost": (lose_frame, {"frames sealed in the day and not stored"}),
    "frame out of nowhere": (heard_without_coverage, {"frames heard without coverage"}),
    "frame out of order": (out_of_order, {"frames out of order by more than 15 min"}),
    "gap": (gap, {"longest gap without coverage", "longest gap of the day"}),
    "twice": (twice, {"samples that are there twice"}),
    "refused": (refuse, {"frames refused that were no repetitions"}),
    "fault": (fault, {"times that the board's code failed"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_device_gets_wrong_is_missed(name: str) -> None:
    change, expected = CHANGES[name]
    seen = perfect()
    change(seen)
    assert {what.partition(": ")[2] for what in missed(compare(seen))} == expected


def test_epochs_of_sealed_frames_are_told_from_what_was_sent() -> None:
    texts = ["[1] sealed 2 40 7", "[2] sent 2 3 7", "[3] epoch 4", "[4] sealed 2 40 0", "[5] sealed oops"]
    assert sealed_keys([Line(float(at), text) for at, text in enumerate(texts)]) == [(3, 7), (4, 0)]


@pytest.mark.parametrize("hours", [SHORT_HOURS, 3.0, 6.0, HOURS])
def test_plan_has_everything_whatever_its_length(hours: float) -> None:
    told = plan(hours)
    kinds = {span.kind for script in told.scripts.values() for span in script.spans}
    assert kinds >= {"walk", "run", "work", "sleep", "off", "spo2", "fall", "sos"}
    gone = told.withdrawal
    assert not told.uncovered[0] - 300 < gone.begin_s < told.uncovered[1] + 300
    assert not told.uncovered[0] - 300 < gone.end_s < told.uncovered[1] + 300
    assert all(span.end_s <= told.length_s + 60 for script in told.scripts.values() for span in script.spans)


@pytest.mark.parametrize("hours", [0.9, 25.0])
def test_day_that_cannot_be_is_refused(hours: float) -> None:
    with pytest.raises(ValueError, match="hours: the day has"):
        plan(hours)
