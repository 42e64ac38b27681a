"""How long a cell lasts: a day of an application on a board, minute by minute and part by part. Pure.

Currents are the board's (`boards.power`, the table that the device counts its own charge with), times and frames the
device's own code's (`host_tools.sim.energy_probe`). What neither knows is an assumption, and listed as one. Computed,
not measured: there is no board here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from boards import Board
from host_tools.sim.energy_probe import Cost, Probed, Sensor
from sealwire import charge, recordids
from sealwire.names import CHARGE_PARTS

DAY_S = 86_400
MINUTES = 1_440
REST, MOTION, ALARM = range(3)
PACES = ("rest", "motion", "alarm")
WAKE_S = 1.2
SESSION_LISTEN_S = 0.5
SPREAD_S = 30.0
LEAST_SLEEP_S = 2.0  # sleep.py: a restart costs about as much
EVENT_LEN = 22
STATUS_LEN = 120


@dataclass(frozen=True)
class Day:
    """What the wearer does: spans of (from, to, pace) in seconds of the day, the rest is rest; events at these times;
    quiet hours as the server may have set them, (from, to) in seconds.
    """

    spans: tuple[tuple[int, int, int], ...] = ((25_200, 27_900, 1), (43_200, 45_900, 1), (63_000, 66_600, 1))
    events: tuple[int, ...] = (54_000,)
    quiet: tuple[int, int] | None = None

    def pace(self, at: float) -> int:
        """The pace at that second of the day; an event makes ten minutes of alarm."""
        if any(0 <= at - event < 600 for event in self.events):
            return ALARM
        return next((pace for begin, end, pace in self.spans if begin <= at < end), REST)

    def is_quiet(self, at: int) -> bool:
        """Whether it is within quiet hours."""
        if self.quiet is None or self.quiet[0] == self.quiet[1]:
            return False
        begin, end = self.quiet
        return (at - begin) % DAY_S < (end - begin) % DAY_S


@dataclass(frozen=True)
class Estimate:
    """A day, and what follows of it.

    Attributes:
        board, link: names.
        mah: milliampere hours of the cell a day, by part.
        minutes: average current in each minute of the day, mA, by part.
        awake_s: how long the processor is awake.
        wakes, frames: how many.
        life_days: how long a full cell lasts at this.
        assumptions: what was assumed, and where figures are from.
    """

    board: str
    link: str
    mah: Mapping[str, float]
    minutes: Mapping[str, Sequence[float]]
    awake_s: float
    wakes: int
    frames: int
    life_days: float
    assumptions: tuple[str, ...] = field(default=())

    @property
    def total_mah(self) -> float:
        """Of all parts, a day."""
        return sum(self.mah.values())


class _Ledger:
    """Charge by part, spread over the minutes of a day."""

    def __init__(self, ua: Sequence[int]) -> None:
        self._ua = ua
        self.minutes = [[0.0] * MINUTES for _ in range(charge.PARTS)]

    def spend(self, part: int, begin_s: float, seconds: float, place: int | None = None) -> None:
        """A part works from a second of the day on for so long; what goes past midnight is the day before's."""
        ma = self._ua[part if place is None else place] / 1000.0
        while seconds > 0:
            minute = int(begin_s // 60)
            slice_s = min(seconds, (minute + 1) * 60 - begin_s)
            self.minutes[part][minute % MINUTES] += ma * slice_s / 60.0
            begin_s += slice_s
            seconds -= slice_s


def estimate(
    board: Board, probed: Probed, link: str, day: Day | None = None, *, wake_s: float = WAKE_S, title: str = ""
) -> Estimate:
    """Compute a day.

    Args:
        board: whose currents.
        probed: what the device's code says of the application, for this link.
        link: lora, wifi or lte.
        day: what the wearer does; default: two and a half hours of motion, one event.
        wake_s: from the end of deep sleep until the application works, and sealing.
        title: of the link, for people.
    """
    day = day or Day()
    ledger = _Ledger(board.ledger())
    ledger.spend(charge.BOARD, 0, DAY_S)
    awake: list[tuple[float, float]] = []
    wakes = frames = 0
    busy_until = 0.0
    for at, sensors, sending, status in _schedule(probed, day):
        begin = float(at)
        if probed.deep_sleep and begin >= busy_until:
            wakes += 1
            begin += wake_s
        measured = begin
        for sensor in sensors:
            seconds = sensor.seconds * sensor.burst
            # such sensors are measured one after the other, all others at the same time
            start = measured if sensor.alone else begin
            part = _part(sensor)
            if part is not None:
                ledger.spend(part, start, seconds)
            measured = max(measured, start + seconds)
        lengths = list(probed.frames[day.pace(at)]) if sending else []
        lengths += [EVENT_LEN] * (at in day.events) + [min(STATUS_LEN, probed.frame_max)] * status
        awake.append((float(at), measured))
        end = measured
        if lengths:
            # devices with the same period do not speak at the same moment: node.py waits up to 30 s, 15 on average
            begin = at if at in day.events else at + min(SPREAD_S, probed.send_every_s * 0.05) / 2
            if probed.deep_sleep and begin > measured + LEAST_SLEEP_S:
                wakes += 1
                awake.append((begin, begin + wake_s))
                begin += wake_s
            begin = max(begin, measured)
            end = _session(ledger, begin, lengths, probed, link)
            awake.append((begin, end))
            frames += len(lengths)
        busy_until = max(busy_until, end + LEAST_SLEEP_S)
    awake_s = _union(awake) if probed.deep_sleep else float(DAY_S)
    for begin, end in _merged(awake) if probed.deep_sleep else [(0.0, float(DAY_S))]:
        ledger.spend(charge.CHIP, begin, end - begin)
    if any(recordids.STEPS in records for records in probed.watched):
        ledger.spend(charge.MOTION, 0, DAY_S)
    minutes = {CHARGE_PARTS[part]: ledger.minutes[part] for part in range(charge.PARTS) if any(ledger.minutes[part])}
    mah = {name: sum(currents) / 60.0 for name, currents in minutes.items()}
    return Estimate(
        board=board.name,
        link=title or link,
        mah=mah,
        minutes=minutes,
        awake_s=awake_s,
        wakes=wakes,
        frames=frames,
        life_days=board.power.capacity_mah * board.power.usable / sum(mah.values()),
        assumptions=_assumptions(board, probed, link, day, wake_s),
    )


def _schedule(probed: Probed, day: Day) -> Iterator[tuple[int, list[Sensor], bool, bool]]:
    """What is due at each second of the day at which anything is: sensors, sending, a status."""
    due: dict[int, list[Sensor]] = {}
    for sensor in probed.sensors:
        for at in range(DAY_S):
            if at % sensor.periods_s[day.pace(at)] == 0 and (sensor.quiet or not day.is_quiet(at)):
                due.setdefault(at, []).append(sensor)
    sends = set(range(0, DAY_S, probed.send_every_s))
    statuses = set(range(0, DAY_S, probed.status_every_s))
    for at in sorted({*due, *sends, *statuses, *day.events}):
        yield at, due.get(at, []), at in sends, at in statuses


def _session(ledger: _Ledger, at: float, lengths: Sequence[int], probed: Probed, link: str) -> float:
    """Send these frames from that moment on; when it ends."""
    if link == "lora":
        for length in lengths:
            cost = _cost(probed, length)
            ledger.spend(charge.LORA, at, cost.sent)
            ledger.spend(charge.LORA, at + cost.awake - cost.heard, cost.heard, charge.LORA_RX)
            at += cost.awake
        return at
    seconds = _cost(probed, lengths[0]).first + sum(_cost(probed, length).more for length in lengths[1:])
    seconds += SESSION_LISTEN_S
    ledger.spend(charge.WIFI if link == "wifi" else charge.MODEM, at, seconds)
    return at + seconds


def _cost(probed: Probed, length: int) -> Cost:
    return probed.costs.get(length) or probed.costs[min(probed.costs, key=lambda known: abs(known - length))]


def _part(sensor: Sensor) -> int | None:
    """As the device has it (charge.py): an accelerometer counts for as long as it is watched."""
    if recordids.STEPS in sensor.records:
        return None
    if recordids.HEART_RATE in sensor.records:
        return charge.PULSE
    return charge.GNSS if recordids.LATITUDE in sensor.records else charge.SENSORS


def _merged(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        # a pause of less than two seconds is no sleep (sleep.py)
        if merged and begin < merged[-1][1] + LEAST_SLEEP_S:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _union(spans: Sequence[tuple[float, float]]) -> float:
    return min(float(DAY_S), sum(end - begin for begin, end in _merged(spans)))


def _assumptions(board: Board, probed: Probed, link: str, day: Day, wake_s: float) -> tuple[str, ...]:
    used = {board.chip} | {part.part for part in board.parts}
    used |= {board.radio.chip} if board.radio else set()
    used |= {board.modem.chip} if board.modem else set()
    used |= {board.gnss.chip} if board.gnss and any(recordids.LATITUDE in s.records for s in probed.sensors) else set()
    moving = sum(end - begin for begin, end, _ in day.spans)
    told = [
        f"{board.name}: {board.power.source}",
        *(f"{part}: {board.power.currents[part].source}" for part in sorted(used) if part in board.power.currents),
        *(f"{part}: nobody has figures of it, so it counts as nothing" for part in board.power.unknown),
        "currents: the cell at 3.7 V, the parts at 3.3 V; nothing was measured by us",
        f"the wearer: {moving / 3600:.1f} hours of motion, {len(day.events)} event(s) with ten minutes of alarm each",
        "each sensor takes as long as its driver says that it takes at most",
        f"each frame is heard at the first try; {link} sends with the region's power" * (link == "lora")
        or "each frame is heard at the first try, its link comes up in the usual time (`up_ms`)",
    ]
    if probed.deep_sleep:
        told.append(f"assumed: {wake_s} s awake for each wake, for the start of MicroPython and of the application")
    else:
        told.append("the application stays awake: there is no light sleep between its steps")
    return tuple(told)
