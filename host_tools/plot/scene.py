"""What a picture shows of one device, gathered from its frames as they stream by. Draws nothing, opens nothing.

Memory is bounded whatever a device sends: tracks (`tracks`) by their bins, events, statuses and places by a number,
beyond which they are counted and not kept.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import numpy as np

from host_tools.ingest.carried_out import CarriedOut
from host_tools.ingest.decode import Event, Status, Telemetry
from host_tools.ingest.readings import Filter, Opened
from host_tools.ingest.vocabulary import Vocabulary
from host_tools.plot.tracks import Floats, Span, States, Track
from sealwire.messages import EPOCH_2025, STATUS_CONSENT, STATUS_UPTIME_S
from sealwire.names import MEANINGS
from sealwire.recordids import LATITUDE, LONGITUDE
from sealwire.settings import POSITION_CELL_M, lookup

SPAN_MIN_S = 60.0
EVENTS_MAX = 500
STATUSES_MAX = 500
CELLS_MAX = 2000
UNPAIRED_MAX = 1000
# no contact for so long, and for so many times the usual pause between two frames, is a time without coverage
OFFLINE_S = 900
OFFLINE_PAUSES = 4
_POSITION = frozenset(("latitude", "longitude"))
RESTART_S = 60  # a cold start is told by uptimes that disagree by more than this


@dataclass(frozen=True, slots=True)
class Happened:
    """An event, a restart, or a change of consent.

    Attributes:
        name: as the vocabulary has it.
        values: what the event carried.
    """

    unix_s: float
    name: str
    values: tuple[int, ...] = ()


@dataclass
class Scene:
    """One device.

    Attributes:
        tracks, states: by record id.
        events: kept ones, by time, and how many more there were.
        statuses: (time, fields) likewise.
        cells: number of fixes by (latitude, longitude), in the order in which they were first seen.
        consents: (time, records) whenever it changed.
        cell_m: how coarse the device makes its positions.
        arrivals: frames that arrived, by quality bin.
        delay_low, delay_high: seconds from measured to arrived, by quality bin of the measurement; nan: none.
    """

    device: str
    span: Span
    tracks: dict[int, Track] = field(default_factory=dict)
    states: dict[int, States] = field(default_factory=dict)
    events: list[Happened] = field(default_factory=list)
    events_left_out: int = 0
    statuses: list[tuple[float, Mapping[int, object]]] = field(default_factory=list)
    cells: dict[tuple[float, float], int] = field(default_factory=dict)
    cells_left_out: int = 0
    consents: list[tuple[float, frozenset[int]]] = field(default_factory=list)
    cell_m: int = 0
    arrivals: Floats = field(default_factory=lambda: np.zeros(0))
    delay_low: Floats = field(default_factory=lambda: np.zeros(0))
    delay_high: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def shows_anything(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self.tracks or self.states or self.events or self.statuses or self.cells)

    def offline(self) -> list[tuple[float, float]]:
        """Times in which no frame arrived, though some did before and after, longer than the device's own pauses."""
        bin_s = self.span.quality_bin_s
        heard = np.flatnonzero(self.arrivals)
        if len(heard) < 2:
            return []
        pauses = np.diff(heard)
        longest = max(OFFLINE_S / bin_s, OFFLINE_PAUSES * float(np.median(pauses)), 2.0)
        return [
            (self.span.since + (first + 1) * bin_s, self.span.since + second * bin_s)
            for first, second in pairwise(heard)
            if second - first > longest
        ]

    def wanted(self, record: int) -> list[tuple[float, float]] | None:
        """When the wearer agreed to this record, as far as it is known; None: all the time."""
        if not self.consents:
            return None
        spans = []
        begun: float | None = self.span.since  # before the first word of it, it is not known that it was refused
        for at, records in self.consents:
            if record in records and begun is None:
                begun = at
            elif record not in records and begun is not None:
                spans.append((begun, at))
                begun = None
        return spans if begun is None else [*spans, (begun, self.span.until)]

    def restarts(self) -> list[Happened]:
        """Cold starts, of which uptimes in statuses tell."""
        begun = [
            at - uptime
            for at, fields in self.statuses
            if isinstance(uptime := fields.get(STATUS_UPTIME_S), int) and at - uptime >= self.span.since
        ]
        found: list[Happened] = []
        for at in sorted(begun):
            if not found or at - found[-1].unix_s > RESTART_S:
                found.append(Happened(at, "restart"))
        return found


def span_of(wanted: Filter, extent: tuple[float, float] | None) -> Span | None:
    """What a picture covers: from and to as asked for, else where the readings begin and end; None: there are none."""
    if extent is None:
        return None
    since = extent[0] if wanted.since is None else wanted.since
    until = extent[1] + 1 if wanted.until is None else wanted.until
    return Span(since, max(until, since + SPAN_MIN_S))


def scenes(
    frames: Iterable[Opened],
    wanted: Filter,
    span: Span,
    vocabulary: Vocabulary,
    told: Sequence[CarriedOut] = (),
) -> Iterator[Scene]:
    """One scene a device, as their frames come; the one before can be let go of then.

    Args:
        frames: each device's together, by time.
        wanted: whose names say which records and events are shown.
        told: what devices were told to sample, and how coarse positions are to be.
    """
    for device, its in groupby(frames, lambda frame: frame.device):
        gathering = _Gathering(Scene(device, span), wanted, vocabulary)
        for frame in its:
            gathering.take(frame)
        yield gathering.end([one for one in told if one.device == device])


class _Gathering:
    def __init__(self, scene: Scene, wanted: Filter, vocabulary: Vocabulary) -> None:
        self._scene = scene
        self._wanted = wanted
        self._vocabulary = vocabulary
        self._unpaired: dict[int, tuple[int, float]] = {}  # by time: which half of a position, and its value
        self._seen: set[Happened] = set()
        bins = len(scene.span.edges(scene.span.quality_bin_s)) - 1
        scene.arrivals = np.zeros(bins)
        scene.delay_low, scene.delay_high = np.full(bins, np.inf), np.full(bins, -np.inf)

    def take(self, frame: Opened) -> None:
        message = frame.message
        if isinstance(message, Telemetry):
            self._telemetry(message)
        elif isinstance(message, Event):
            self._event(message)
        elif isinstance(message, Status):
            self._status(message)
        else:
            return
        first, last = message.span()
        self._note_arrival(first + EPOCH_2025, last + EPOCH_2025, frame.received_at)

    def _telemetry(self, message: Telemetry) -> None:
        scene = self._scene
        t0 = message.t0 + EPOCH_2025
        for one in message.series:
            name, _, scale = self._vocabulary.record(one.record)
            if one.record in (LATITUDE, LONGITUDE):
                if not self._wanted.names or self._wanted.names & _POSITION:
                    self._half(t0, one.record, one.interval_s, one.values, scale)
            elif not self._shows(name):
                continue
            elif one.record in MEANINGS:
                state = scene.states.get(one.record)
                if state is None:
                    state = scene.states[one.record] = States(scene.span)
                state.add(t0, one.interval_s, one.values)
            else:
                track = scene.tracks.get(one.record)
                if track is None:
                    track = scene.tracks[one.record] = Track(scene.span, scale)
                track.add(t0, one.interval_s, one.values)

    def _shows(self, name: str) -> bool:
        return not self._wanted.names or name in self._wanted.names

    def _half(self, t0: int, record: int, interval_s: int, values: Sequence[int | None], scale: int) -> None:
        """Latitude and longitude of one moment are one place; they may lie in two frames."""
        cells = self._scene.cells
        for index, value in enumerate(values):
            t = t0 + index * interval_s
            if value is None or not self._scene.span.since <= t < self._scene.span.until:
                continue
            degrees = round(value * 10.0**scale, 6)
            other = self._unpaired.get(t)
            if other is None or other[0] == record:
                if len(self._unpaired) >= UNPAIRED_MAX:
                    del self._unpaired[next(iter(self._unpaired))]
                self._unpaired[t] = (record, degrees)
                continue
            del self._unpaired[t]
            place = (degrees, other[1]) if record == LATITUDE else (other[1], degrees)
            if not (-90 <= place[0] <= 90 and -180 <= place[1] <= 180):
                continue
            if place in cells or len(cells) < CELLS_MAX:
                cells[place] = cells.get(place, 0) + 1
            else:
                self._scene.cells_left_out += 1

    def _event(self, message: Event) -> None:
        name = self._vocabulary.event(message.event)
        names = self._wanted.names
        if names and not names & {"event", f"event/{name}"}:
            return
        values = tuple(value for value in message.values if value is not None)
        happened = Happened(message.t + EPOCH_2025, name, values)
        if not self._within(happened.unix_s) or happened in self._seen:
            return
        if len(self._scene.events) < EVENTS_MAX:
            self._seen.add(happened)
            self._scene.events.append(happened)
        else:
            self._scene.events_left_out += 1

    def _status(self, message: Status) -> None:
        at = float(message.t + EPOCH_2025)
        if not self._within(at):
            return
        if len(self._scene.statuses) < STATUSES_MAX:
            self._scene.statuses.append((at, message.fields))
        else:  # the newest matters most
            self._scene.statuses[-1] = (at, message.fields)

    def _within(self, at: float) -> bool:
        return self._scene.span.since <= at < self._scene.span.until

    def _note_arrival(self, first: float, last: float, received: float) -> None:
        scene, bin_s = self._scene, self._scene.span.quality_bin_s
        count = len(scene.arrivals)
        at = int((received - scene.span.since) // bin_s)
        if 0 <= at < count:
            scene.arrivals[at] += 1
        low, high = (int((t - scene.span.since) // bin_s) for t in (first, last))
        for number in range(max(0, low), min(count - 1, high) + 1):
            begun = scene.span.since + number * bin_s
            newest = max(0.0, received - min(last, begun + bin_s))
            oldest = max(0.0, received - max(first, begun))
            scene.delay_low[number] = min(scene.delay_low[number], newest)
            scene.delay_high[number] = max(scene.delay_high[number], oldest)

    def end(self, told: Sequence[CarriedOut]) -> Scene:
        scene = self._scene
        scene.events.sort(key=lambda one: (one.unix_s, one.name, one.values))
        for delays in (scene.delay_low, scene.delay_high):
            delays[~np.isfinite(delays)] = np.nan
        changes = [(one.unix_s, one.consent) for one in told if one.consent is not None]
        changes += [
            (at, frozenset(said))
            for at, fields in scene.statuses
            if isinstance(said := fields.get(STATUS_CONSENT), bytes)
        ]
        for at, records in sorted(changes, key=lambda one: one[0]):
            if not scene.consents or scene.consents[-1][1] != records:
                scene.consents.append((at, records))
        sizes = [one.settings[POSITION_CELL_M] for one in told if POSITION_CELL_M in one.settings]
        usual = lookup(POSITION_CELL_M)
        scene.cell_m = sizes[-1] if sizes else int(usual[4]) if usual else 0
        return scene
