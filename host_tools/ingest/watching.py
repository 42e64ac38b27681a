"""The newest values of each device and record, how they went, and what happened: what `readings watch` shows. Pure.

Memory is bounded: so many series, samples of each, and events; a series that is one too many takes the place of the
one that was silent for longest.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from statistics import median

from host_tools.ingest.readings import Reading

SERIES_MAX = 1000
SAMPLES_MAX = 4000
EVENTS_MAX = 50
ARRIVALS_MAX = 50
# nothing arrived for so many of a series' usual pauses, and for so long: it is late. Devices gather before they send,
# so the age of a value says little.
LATE_PAUSES = 3
LATE_S = 60
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.:-=+*#"


@dataclass(frozen=True, slots=True)
class Row:
    """One record of one device.

    Attributes:
        newest: the reading that was sampled last.
        trend: means of equal parts of the window, None where nothing came.
        low, high: of the window.
        share: how much of what its usual distance asks for came, 0 to 1; None: that is not known.
        late: another one should have arrived since.
    """

    newest: Reading
    trend: tuple[float | None, ...]
    low: Decimal
    high: Decimal
    share: float | None
    late: bool


@dataclass(slots=True)
class _Series:
    newest: Reading
    samples: deque[tuple[int, Decimal]] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=ARRIVALS_MAX))


class Watched:
    """Takes readings as they come and says how things stand.

    Args:
        window_s: so far back go trend, least, greatest and share; but no further than `SAMPLES_MAX` samples.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._series: dict[tuple[str, str], _Series] = {}
        self.events: deque[Reading] = deque(maxlen=EVENTS_MAX)

    def take(self, readings: Iterable[Reading]) -> None:
        """Note what arrived; what is older than the newest of its record counts for the trend only."""
        for reading in readings:
            if reading.record.startswith(("event/", "update/")):
                self._note_event(reading)
            elif reading.value is not None:
                key = (reading.device, reading.record)
                series = self._series.get(key)
                if series is None:
                    self._make_room()
                    series = self._series[key] = _Series(reading)
                if reading.unix_s >= series.newest.unix_s:
                    series.newest = reading
                series.samples.append((reading.unix_s, reading.value))
                if not series.arrivals or reading.received_at > series.arrivals[-1]:
                    series.arrivals.append(reading.received_at)

    def _note_event(self, reading: Reading) -> None:
        same = (reading.device, reading.record, reading.unix_s)
        # an event with several values comes as several readings
        if all((other.device, other.record, other.unix_s) != same for other in self.events):
            self.events.append(reading)

    def _make_room(self) -> None:
        if len(self._series) >= SERIES_MAX:
            oldest = min(self._series, key=lambda key: self._series[key].newest.received_at)
            del self._series[oldest]

    def rows(self, now: float, parts: int) -> list[Row]:
        """How things stand, by device and the record's id.

        Args:
            now: Unix seconds.
            parts: of the trend.
        """
        ordered = sorted(
            self._series.values(), key=lambda one: (one.newest.device, one.newest.record_id, one.newest.record)
        )
        return [self._row(series, now, parts) for series in ordered]

    def _row(self, series: _Series, now: float, parts: int) -> Row:
        begun = now - self._window_s
        while len(series.samples) > 1 and series.samples[0][0] < begun:
            series.samples.popleft()
        samples = sorted(set(series.samples))  # what came while the window was read comes twice
        values = [value for _, value in samples]
        distances = [after - before for (before, _), (after, _) in pairwise(samples) if after > before]
        usual = median(distances) if distances else 0
        share = min(1.0, len(distances) / round((samples[-1][0] - samples[0][0]) / usual)) if usual else None
        pauses = [after - before for before, after in pairwise(series.arrivals)]
        patience = max(LATE_S, LATE_PAUSES * median(pauses)) if pauses else self._window_s
        late = now - series.arrivals[-1] > patience
        return Row(series.newest, _trend(samples, begun, self._window_s, parts), min(values), max(values), share, late)


def _trend(
    samples: Sequence[tuple[int, Decimal]], begun: float, window_s: float, parts: int
) -> tuple[float | None, ...]:
    sums: list[list[float]] = [[0.0, 0] for _ in range(parts)]
    for at, value in samples:
        index = min(int((at - begun) / window_s * parts), parts - 1)
        if at >= begun:
            sums[index][0] += float(value)
            sums[index][1] += 1
    return tuple(total / count if count else None for total, count in sums)


def sparkline(trend: Sequence[float | None], blocks: str = BLOCKS) -> str:
    """A line of blocks, the higher the greater; a space where nothing came."""
    values = [value for value in trend if value is not None]
    if not values:
        return " " * len(trend)
    low, reach = min(values), max(values) - min(values)
    middle = blocks[len(blocks) // 2 - 1]

    def block(value: float) -> str:
        return blocks[min(len(blocks) - 1, int((value - low) / reach * len(blocks)))] if reach else middle

    return "".join(" " if value is None else block(value) for value in trend)
