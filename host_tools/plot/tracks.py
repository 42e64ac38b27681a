"""One record of one device over time, in bounded memory: samples as they are, or, of a long span, bins of them. Pure.

Up to `SAMPLES_MAX` samples are kept and drawn one by one. More are put into `BINS` bins of equal length, each of which
knows least, greatest, sum and count: what is drawn then is the range of each bin and its mean, and nothing falls out of
the picture because it was short. Sums over all (least, greatest, mean, count) are exact in both cases.

What is missing is told from the period: the device writes it into each series of several samples; of single samples it
is taken to be the usual distance between them.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SAMPLES_MAX = 4000
BINS = 1200
QUALITY_BINS = 240
RUNS_MAX = 1500
# a sample is missing when the next one comes later than so many periods
LATE = 1.9
STATE_HELD_MAX_S = 1800  # a state of which the period is not known
STATES_MAX = 16  # more are one, `UNKNOWN_STATE`
UNKNOWN_STATE = -1

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Span:
    """What the picture covers: Unix seconds, the end not included."""

    since: float
    until: float

    @property
    def bin_s(self) -> float:
        """Length of a bin of samples."""
        return max(1.0, (self.until - self.since) / BINS)

    @property
    def quality_bin_s(self) -> float:
        """Length of a bin of quality, contact and delay."""
        return max(1.0, (self.until - self.since) / QUALITY_BINS)

    def edges(self, bin_s: float) -> Floats:
        """Where bins of this length begin, and where the last one ends."""
        count = int(np.ceil((self.until - self.since) / bin_s))
        return np.array([self.since + bin_s * number for number in range(count + 1)], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Curve:
    """What is to be drawn of a record. Where nothing came the values are nan, so that a line breaks there.

    Attributes:
        x: Unix seconds; of bins, their middles.
        low, high: the range at each x; the same in both where samples are drawn one by one.
        mean: what a line goes through.
        bin_s: length of the bins; 0: there are none.
        nulls: when the device tried and had no value; of bins, their middles.
        share: of each quality bin, how much of what was wanted came, 0 to 1; nan where nothing was wanted.
        gaps: (from, to) where samples are missing, Unix seconds.
    """

    x: Floats
    low: Floats
    high: Floats
    mean: Floats
    bin_s: float
    nulls: Floats
    share: Floats
    gaps: list[tuple[float, float]]


@dataclass(slots=True)
class Sums:
    """All samples of a record together; `missing` includes the nulls."""

    count: int = 0
    nulls: int = 0
    missing: int = 0
    total: float = 0.0
    low: float = np.inf
    high: float = -np.inf

    @property
    def share(self) -> float | None:
        """How much of what was wanted came."""
        return self.count / (self.count + self.missing) if self.count else None


class Track:
    """Collects a record's series, in the order in which they begin.

    Args:
        span: samples outside of it are left out.
        scale: power of ten of the values.
    """

    def __init__(self, span: Span, scale: int = 0) -> None:
        self._span = span
        self._factor = 10.0**scale
        self._t = array("d")
        self._value = array("d")
        self._step = array("d")  # seconds, 0: not told
        self._nulls = array("d")
        self._usual = 0.0
        self._bins: dict[str, Floats] | None = None
        self.sums = Sums()

    def add(self, t0: float, interval_s: int, values: Sequence[int | None]) -> None:
        """Take a series; t0 in Unix seconds, values as they travelled."""
        since, until, factor = self._span.since, self._span.until, self._factor
        sums = self.sums
        t = t0 - interval_s
        for raw in values:
            t += interval_s
            if not since <= t < until:
                continue
            if raw is None:
                sums.nulls += 1
                if len(self._nulls) < SAMPLES_MAX:
                    self._nulls.append(t)
                continue
            value = raw * factor
            sums.count += 1
            sums.total += value
            if value < sums.low:
                sums.low = value
            if value > sums.high:
                sums.high = value
            self._t.append(t)
            self._value.append(value)
            self._step.append(interval_s)
        if len(self._t) > SAMPLES_MAX:
            self._into_bins()

    def _into_bins(self) -> None:
        bin_s = self._span.bin_s
        count = len(self._span.edges(bin_s)) - 1
        if self._bins is None:
            self._usual = _usual(_floats(self._t))
            empty = {"count": 0.0, "total": 0.0, "low": np.inf, "high": -np.inf, "step": 0.0}
            self._bins = {name: np.full(count, value) for name, value in empty.items()}
        t, value, step = _floats(self._t), _floats(self._value), _floats(self._step)
        at = np.minimum(((t - self._span.since) / bin_s).astype(int), count - 1)
        np.add.at(self._bins["count"], at, 1)
        np.add.at(self._bins["total"], at, value)
        np.minimum.at(self._bins["low"], at, value)
        np.maximum.at(self._bins["high"], at, value)
        np.maximum.at(self._bins["step"], at, step)
        del self._t[:], self._value[:], self._step[:]

    def curve(self, wanted: Sequence[tuple[float, float]] | None = None) -> Curve:
        """What is to be drawn; settles `sums.missing`.

        Args:
            wanted: spans in which the wearer agreed that it is sampled; None: all the time.
        """
        if self._bins is not None:
            self._into_bins()
            return self._binned(wanted)
        order = np.argsort(_floats(self._t), kind="stable")
        t, value, step = (_floats(one)[order] for one in (self._t, self._value, self._step))
        edges = self._span.edges(self._span.quality_bin_s)
        came = np.histogram(t, edges)[0].astype(float)
        missing = np.zeros(len(edges) - 1)
        distance = np.diff(t)
        period = np.maximum(step[:-1], step[1:]) if len(t) else distance
        period = np.where(period > 0, period, _usual(t))
        late = np.flatnonzero((distance > LATE * period) & (period > 0))
        gaps = []
        for index in late:
            lacking = (t[index] + period[index] / 2, t[index + 1] - period[index] / 2)
            for begun, ended in _common(lacking, wanted):
                missing += (
                    np.clip(np.minimum(edges[1:], ended) - np.maximum(edges[:-1], begun), 0, None) / period[index]
                )
            gaps.append((float(t[index]), float(t[index + 1])))
        self.sums.missing = max(round(float(missing.sum())), self.sums.nulls)
        x, drawn = np.insert(t, late + 1, np.nan), np.insert(value, late + 1, np.nan)
        held = LATE * (float(np.max(period)) if len(period) else 0.0)
        share = _held(_share(came, missing), held / self._span.quality_bin_s)
        return Curve(x, drawn, drawn, drawn, 0.0, _floats(self._nulls), share, gaps)

    def _binned(self, wanted: Sequence[tuple[float, float]] | None) -> Curve:
        bins, bin_s = self._bins or {}, self._span.bin_s
        count = bins["count"]
        there = count > 0
        edges = self._span.edges(bin_s)
        middle = (edges[:-1] + edges[1:]) / 2
        filled = np.flatnonzero(there)
        period = np.where(bins["step"] > 0, bins["step"], self._usual)
        # of a record that comes less than once a bin, the bins between two samples are no gap
        expected = np.zeros(len(count))
        gaps = []
        breaks = []
        for first, second in pairwise(filled):
            step = max(period[first], period[second])
            apart = (second - first) * bin_s
            if step and apart > LATE * step + bin_s:
                gaps.append((float(edges[first + 1]), float(edges[second])))
                breaks.append(second)
                expected[first + 1 : second] = bin_s / step
        # a bin that is not full lacks what its period would have filled it with
        inner = np.zeros(len(count), bool)
        if len(filled):
            inner[filled[0] + 1 : filled[-1]] = True
        full = np.where(there & inner & (period > 0), np.floor(bin_s / np.maximum(period, 1e-9)), 0)
        missing = np.where(_inside(middle, wanted), np.maximum(expected, np.maximum(full - count, 0)), 0)
        self.sums.missing = max(round(float(missing.sum())), self.sums.nulls)
        quality = self._span.edges(self._span.quality_bin_s)
        came, lacking = (np.histogram(middle, quality, weights=one)[0] for one in (count, missing))
        held = LATE * max(float(period.max()), self._usual)
        share = _held(_share(came, lacking), held / self._span.quality_bin_s)
        mean = np.divide(bins["total"], count, out=np.full(len(count), np.nan), where=there)
        nulls = np.unique(np.floor((_floats(self._nulls) - self._span.since) / bin_s)) * bin_s + self._span.since
        columns = [middle[filled], bins["low"][filled], bins["high"][filled], mean[filled]]
        at = np.searchsorted(filled, breaks)
        x, low, high, line = (np.insert(column, at, np.nan) for column in columns)
        return Curve(x, low, high, line, bin_s, nulls + bin_s / 2, share, gaps)


class States:
    """A record whose values are states: when which held. Of very many changes, the state that held longest in a bin."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._bin_s = span.bin_s
        self._count = len(span.edges(self._bin_s)) - 1
        self._held: dict[int, Floats] = {}
        self._runs: list[list[float]] = []  # from, to, state
        self._last: tuple[float, int, int] | None = None  # time, state, period
        self.sums = Sums()

    def add(self, t0: float, interval_s: int, values: Sequence[int | None]) -> None:
        """Take a series; as `Track.add`."""
        for index, value in enumerate(values):
            t = t0 + index * interval_s
            if not self._span.since <= t < self._span.until:
                continue
            if value is None:
                self.sums.nulls += 1
                continue
            self.sums.count += 1
            self._close(t, interval_s)
            known = value in self._held or len(self._held) < STATES_MAX
            self._last = (t, value if known else UNKNOWN_STATE, interval_s)

    def _close(self, t: float, interval_s: int) -> None:
        """The state before held until now, or as long as its period lets one believe."""
        if self._last is None:
            return
        begun, state, period = self._last
        believed = LATE * max(period, interval_s) if period or interval_s else STATE_HELD_MAX_S
        until = min(t, begun + (believed if t - begun <= believed else period or believed), self._span.until)
        if until <= begun:
            return
        held = self._held.get(state)
        if held is None:
            held = self._held[state] = np.zeros(self._count)
        first, last = (int((at - self._span.since) / self._bin_s) for at in (begun, until))
        if first == last:
            held[first] += until - begun
        else:
            held[first] += self._span.since + (first + 1) * self._bin_s - begun
            held[first + 1 : last] += self._bin_s
            if last < len(held):
                held[last] += until - (self._span.since + last * self._bin_s)
        if len(self._runs) > RUNS_MAX:
            return
        if self._runs and self._runs[-1][2] == state and begun <= self._runs[-1][1]:
            self._runs[-1][1] = until
        else:
            self._runs.append([begun, until, state])

    def runs(self) -> tuple[list[tuple[float, float, int]], float]:
        """(from, to, state) of each, and how long the bins are that they were made of, 0: none. Ends what held last."""
        if self._last is not None:
            self._close(self._last[0] + (self._last[2] or self._bin_s), self._last[2])
            self._last = None
        if len(self._runs) <= RUNS_MAX:
            return [(begun, until, int(state)) for begun, until, state in self._runs], 0.0
        states = sorted(self._held)
        table = np.array([self._held[state] for state in states])
        longest, any_ = table.argmax(axis=0), table.sum(axis=0) > 0
        runs = []
        for first, last in _equal(np.where(any_, longest, -1)):
            if any_[first]:
                begun, until = (self._span.since + at * self._bin_s for at in (first, last))
                runs.append((begun, min(until, self._span.until), states[int(longest[first])]))
        return runs, self._bin_s

    def seconds(self) -> dict[int, float]:
        """How long each state held."""
        return {state: float(held.sum()) for state, held in sorted(self._held.items())}


def _equal(values: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """(first, one after the last) of each stretch of equal values."""
    changes = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    yield from pairwise(changes)


def _floats(values: "array[float]") -> Floats:
    # a copy: an array that numpy looks into cannot grow
    return np.array(values, dtype=float)


def _usual(t: Floats) -> float:
    distances = np.diff(np.sort(t))
    distances = distances[distances > 0]
    return float(np.median(distances)) if len(distances) else 0.0


def _common(span: tuple[float, float], wanted: Sequence[tuple[float, float]] | None) -> Iterator[tuple[float, float]]:
    """The parts of a span in which something was wanted."""
    for begun, ended in [span] if wanted is None else wanted:
        if max(begun, span[0]) < min(ended, span[1]):
            yield max(begun, span[0]), min(ended, span[1])


def _inside(times: Floats, spans: Sequence[tuple[float, float]] | None) -> NDArray[np.bool_]:
    if spans is None:
        return np.ones(len(times), bool)
    inside = np.zeros(len(times), bool)
    for begun, ended in spans:
        inside |= (times >= begun) & (times < ended)
    return inside


def _share(came: Floats, missing: Floats) -> Floats:
    wanted = came + missing
    share: Floats = np.divide(came, wanted, out=np.full(len(wanted), np.nan), where=wanted > 0)
    return share


def _held(share: Floats, bins: float) -> Floats:
    """A record that comes less than once a bin: what holds for a sample holds until the next."""
    filled = share.copy()
    there = np.flatnonzero(np.isfinite(share))
    for first, second in pairwise(there):
        if 1 < second - first <= bins + 1:
            filled[first + 1 : second] = share[first]
    return filled
