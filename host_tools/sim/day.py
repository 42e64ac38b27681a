"""A day of two wearers on virtual boards: everything real from the registers to the store, and what was seen of it.

Owns the course of the day: enrolment, the wearers' scripts, three hours without coverage, a withdrawal of consent and
its taking back, and the end, when all that waits has come in. What is judged is in `host_tools.sim.day_truth`.
"""

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.day_plan import Plan
from host_tools.sim.script import Script, sky
from host_tools.sim.site import Site
from host_tools.sim.wearer import Wearer
from provisioning.station.link import LinkError
from provisioning.tickets import TicketFile
from sealwire import records
from sealwire.messages import CONSENT

if TYPE_CHECKING:
    from host_tools.ingest.intake import Stored
    from host_tools.ingest.readings import Reading

SPEED: Final = 40.0
# the whole wearable takes 65 to 69 of the chip's KiB, the simulated modules 30; the rest is in hand, as with PSRAM
HEAP: Final = "128wK"
_DAY_S: Final = 86400
_MAC: Final = bytes.fromhex("70b3d5004000")
_BEFORE_S: Final = 1200.0  # virtual, for enrolment: a real half minute
_STEP_S: Final = 0.25  # real
_DRAIN_S: Final = 1800.0  # virtual, and no less than so many real seconds:
_DRAIN_REAL_S: Final = 30.0
_LOOK_S: Final = 0.01  # real
_SWITCH_S: Final = 0.0005  # real; Python's 5 ms from thread to thread are a third of a virtual second


class DayFailed(Exception):
    """The day could not be played; what it came to otherwise is a result."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a board's console, and when it came, virtual Unix seconds."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """A frame that the server opened: what, and when it came."""

    epoch: int
    ctr: int
    received_at: float
    message: object


@dataclass
class Seen:
    """All of the day. Times are virtual Unix seconds.

    Attributes:
        begins: second 0 of the scripts.
        wearers: by name.
        frames, lines: by the wearer's name, as they came.
        readings: by the wearer's name, by time.
        uncovered: when nobody was heard.
        withdrawn: when the server queued the withdrawal, when the board had carried it out, when it was taken back, and
            when that was carried out; None where it did not come to that.
        refused: what ingest refused, by reason.
        damaged: frames in the store that do not open.
        waiting: frames that boards had sealed and that had not come in the end, by name.
        real_s: how long the day took.
        stalls, longest_stall_s: how often the computer was late by more than a virtual second, and the most, likewise:
            what is missed then may be the computer's fault.
    """

    plan: Plan
    begins: float = 0.0
    wearers: dict[str, Wearer] = field(default_factory=dict)
    frames: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    lines: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))
    readings: "dict[str, list[Reading]]" = field(default_factory=lambda: defaultdict(list))
    uncovered: tuple[float, float] = (0.0, 0.0)
    withdrawn: list[float | None] = field(default_factory=lambda: [None, None, None, None])
    refused: dict[str, int] = field(default_factory=dict)
    damaged: int = 0
    waiting: dict[str, int] = field(default_factory=dict)
    enrolled: dict[str, str] = field(default_factory=dict)
    real_s: float = 0.0
    speed: float = SPEED
    stalls: int = 0
    longest_stall_s: float = 0.0


class Day:
    """One run. Use `run`, once; the process can have no other site meanwhile.

    Args:
        folder: gets the site: `registry.db`, keys, boards.
        plan: what happens.
        speed: virtual seconds a real second.
        seed: of wearers, fading and loss.
        app: an application in place of the example.
        heap: of the boards, as `VirtualBoard` has it.
        tell: told where the day is, (done, of) in minutes.
        after: called while the site is still there, with what was seen: for plots.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        *,
        speed: float = SPEED,
        seed: int = 1,
        app: Path | None = None,
        heap: str = HEAP,
        tell: Callable[[int, int], None] = lambda done, of: None,
        after: "Callable[[Seen, Site], None]" = lambda seen, site: None,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._seed = seed
        self._app = app
        self._heap = heap
        self._tell = tell
        self._after = after
        # the day's own midnight: quiet hours and days' ends are where they belong
        now = time.time()
        self._clock = SimClock(now, now // _DAY_S * _DAY_S - _BEFORE_S, speed)
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self.seen = Seen(plan, speed=speed)

    def run(self) -> Seen:
        """Play it.

        Raises:
            DayFailed: a board was not admitted.
        """
        began = time.monotonic()
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        try:
            return self._run(began)
        finally:
            sys.setswitchinterval(interval_s)

    def _run(self, began: float) -> Seen:
        site = Site(self._folder, self._clock, on_frame=self._on_frame, seed=self._seed, app=self._app)
        with site:
            self._enrol(site)
            over = threading.Event()
            watch = threading.Thread(target=self._watch_time, args=(over,), name="day-time", daemon=True)
            watch.start()
            try:
                self._play(site)
                self._drain(site)
            finally:
                over.set()
                watch.join()
            self._collect(site)
            self._keep_consoles()
            self.seen.real_s = time.monotonic() - began
            self._after(self.seen, site)
        return self.seen

    def _watch_time(self, over: threading.Event) -> None:
        """Whether a thread that sleeps for 10 ms wakes in time."""
        while not over.is_set():
            begun = time.monotonic()
            time.sleep(_LOOK_S)
            late_s = (time.monotonic() - begun - _LOOK_S) * self._clock.speed
            if late_s > 1.0:
                self.seen.stalls += 1
                self.seen.longest_stall_s = max(self.seen.longest_stall_s, late_s)

    # the beginning

    def _enrol(self, site: Site) -> None:
        names = list(self._plan.scripts)
        tickets = site.issue(len(names))
        for number, name in enumerate(names):
            wearer = Wearer(self._seed * 100 + number, self._plan.recordings[name])
            # until the day begins everybody is under the sky, so that receivers have their first fix behind them
            place = self._plan.scripts[name].place
            wearer.follow(Script((sky(0.0, 7 * _DAY_S),), self._clock.now() - 60.0, place))
            self.seen.wearers[name] = wearer
            board = site.board(
                name,
                _MAC[:5] + bytes((number + 1,)),
                wearer,
                heap=self._heap,
                on_line=lambda line, name=name: self._on_line(name, line),
            )
            self._enrol_one(site, board, tickets)
        if len(site.take().admitted) != len(names):
            raise DayFailed("the registry did not admit the boards", "try again; on a busy computer with a lower speed")
        self.seen.enrolled = dict(site.enrolled)
        with self._lock:
            self._names.update({eui: name for name, eui in site.enrolled.items()})

    def _enrol_one(self, site: Site, board: VirtualBoard, tickets: TicketFile) -> None:
        # on a busy computer a board answers late; what was begun is gone on with
        for left in (2, 1, 0):
            try:
                site.enrol(board, tickets)
                return
            except LinkError:
                if not left:
                    raise

    # the day

    def _play(self, site: Site) -> None:
        from host_tools.ingest.instructions import Instructions

        seen, plan = self.seen, self._plan
        instructions = Instructions(site.vault, self._clock.now, "day")
        if plan.send_every_s is not None:
            for text in site.enrolled.values():
                instructions.configure(bytes.fromhex(text), {"send_every_s": plan.send_every_s})
        seen.begins = max(self._clock.now() + 30.0, self._clock.virtual_origin + _BEFORE_S)
        for name, wearer in seen.wearers.items():
            wearer.follow(plan.scripts[name].beginning(seen.begins))
        gone = plan.withdrawal
        eui = bytes.fromhex(site.enrolled[gone.wearer])
        every = [row[0] for row in records.RECORDS]
        acts: list[tuple[float, Callable[[], None]]] = [
            (plan.uncovered[0], lambda: self._cover(site, False)),
            (plan.uncovered[1], lambda: self._cover(site, True)),
            (gone.begin_s, lambda: self._consent(instructions, eui, [one for one in every if one != gone.record], 0)),
            (gone.end_s, lambda: self._consent(instructions, eui, every, 2)),
            (plan.length_s, lambda: None),
        ]
        for at_s, act in sorted(acts, key=lambda one: one[0]):
            self._until(site, seen.begins + at_s)
            act()

    def _until(self, site: Site, unix_s: float) -> None:
        minutes = round(self._plan.length_s / 60)
        while (left_s := unix_s - self._clock.now()) > 0:
            time.sleep(min(_STEP_S, self._clock.real_delay(left_s)))
            site.worker.check()
            self._watch_commands()
            self._tell(min(minutes, int((self._clock.now() - self.seen.begins) / 60)), minutes)

    def _cover(self, site: Site, covered: bool) -> None:
        for name in self.seen.wearers:
            site.cover(name, covered)
        begin_s, end_s = self.seen.uncovered
        now = self._clock.now()
        self.seen.uncovered = (begin_s, now) if covered else (now, end_s)

    def _consent(self, instructions: object, eui: bytes, wanted: list[int], place: int) -> None:
        from host_tools.ingest.instructions import Instructions

        assert isinstance(instructions, Instructions)
        self.seen.withdrawn[place] = self._clock.now()
        instructions.consent(eui, wanted)

    def _watch_commands(self) -> None:
        """When the board said that it had carried out what consent says."""
        from host_tools.ingest.models import Command

        place = 1 if self.seen.withdrawn[2] is None else 3
        if self.seen.withdrawn[place - 1] is None or self.seen.withdrawn[place] is not None:
            return
        done = Command.objects.filter(kind=CONSENT, state=Command.State.DONE).order_by("-pk").first()
        queued_ms = (self.seen.withdrawn[place - 1] or 0.0) * 1000
        if done is not None and done.created_at_ms >= queued_ms - 1000 and done.ended_at_ms is not None:
            self.seen.withdrawn[place] = done.ended_at_ms / 1000

    # the end

    def _drain(self, site: Site) -> None:
        """Until everything that was sealed in the day is stored."""
        ends = self.seen.begins + self._plan.length_s
        sealed = self.sealed(ends)
        limit = time.monotonic() + max(_DRAIN_REAL_S, self._clock.real_delay(_DRAIN_S))
        while time.monotonic() < limit:
            self.seen.waiting = {name: len(keys - self._stored(name)) for name, keys in sealed.items()}
            if not any(self.seen.waiting.values()):
                return
            time.sleep(_STEP_S)
            site.worker.check()
            self._watch_commands()

    def sealed(self, until: float) -> dict[str, set[tuple[int, int]]]:
        """(epoch, counter) of what the boards said they had sealed until then, by name."""
        with self._lock:
            return {name: set(sealed_keys(lines, until)) for name, lines in self.seen.lines.items()}

    def _stored(self, name: str) -> set[tuple[int, int]]:
        with self._lock:
            return {(told.epoch, told.ctr) for told in self.seen.frames[name]}

    def _collect(self, site: Site) -> None:
        from host_tools.ingest.readings import Filter, Readings
        from host_tools.ingest.store import Payloads

        reader = Readings(Payloads(site.vault))
        for reading in reader.in_order(Filter(faulty=True)):
            name = self._names.get(reading.device)
            if name is not None:
                self.seen.readings[name].append(reading)
        self.seen.damaged = reader.damaged
        self.seen.refused = dict(site.worker.statistics().refused)

    def _keep_consoles(self) -> None:
        for name, lines in self.seen.lines.items():
            text = "".join(f"{line.at - self.seen.begins:.1f} {line.text}\n" for line in lines)
            (self._folder / f"{name}.log").write_text(text, encoding="utf-8")

    # what is seen

    def _on_frame(self, stored: "Stored") -> None:
        with self._lock:
            name = self._names.get(stored.eui)
            if name is not None:
                self.seen.frames[name].append(Told(stored.epoch, stored.ctr, stored.received_at, stored.message))

    def _on_line(self, name: str, line: str) -> None:
        with self._lock:
            self.seen.lines[name].append(Line(self._clock.now(), line))


def sealed_keys(lines: "list[Line]", until: float = float("inf")) -> list[tuple[int, int]]:
    """(epoch, counter) of the frames that a board's console says were sealed until then, in that order.

    The line of a sealed frame names no epoch: it is the one that began last, or that of the first frame that is sent.
    """
    found: list[tuple[int | None, int]] = []
    epoch: int | None = None
    first: int | None = None
    for line in lines:
        words = line.text.split()
        if len(words) < 3 or not all(word.isdigit() for word in words[2:]):
            continue
        if words[1] == "epoch":
            epoch = int(words[2])
        elif words[1] == "sent" and len(words) == 5:
            first = int(words[3]) if first is None else first
        elif words[1] == "sealed" and len(words) == 5 and line.at <= until:
            found.append((epoch, int(words[4])))
    return [((first or 0) if one is None else one, ctr) for one, ctr in found]
