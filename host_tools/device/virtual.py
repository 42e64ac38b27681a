"""A run on the virtual board: registry, ether, gateway, ingest and the board in this process, enrolled and ready.

Owns the board of the run and what is exchanged on it. What a site is, is in `host_tools.sim.site`; it is entered for
the whole run, so one process has one run at a time.
"""

import queue
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boards import Board
from host_tools.device import arrivals
from host_tools.device.application import Application, Compiled
from host_tools.device.console import STARTED, TAKE_MAX, Console
from host_tools.device.happening import Happening
from host_tools.device.recording import Recording
from host_tools.device.replay import Replay
from host_tools.device.trace import Trace, TraceWriter
from host_tools.sim.board import HEAP, VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.outfit import Outfit
from host_tools.sim.site import Site
from host_tools.sim.wearer import Wearer

if TYPE_CHECKING:
    from host_tools.ingest.intake import Stored
    from host_tools.ingest.vocabulary import Vocabulary

MAC = bytes.fromhex("70b3d500d001")
NAME = "band"
QUEUE_MAX = 20_000  # happenings that nobody has taken; what comes beyond is dropped
# what `devrun.py`, its wrappers while they work, and the line numbers of the application take beyond a release
HEAP_MORE_WK = 4
STUCK_S = 15.0  # real seconds for build() to come back
_KEPT = "update"  # of the release's tree: what the factory wrote down, links need it


class VirtualRun:
    """One run; a context manager.

    Args:
        application: what is run.
        board: the board definition.
        directory: an empty or new folder, which gets everything.
        speed: virtual seconds a real second.
        wearer: who wears the board.
        online: there is a gateway in reach; else the board is alone, and only its own log tells of it.
        record: gets what the board's buses carry.
        replay: answers in the place of the wearer's parts.
        settings: of `VirtualBoard`, `heap` for instance.
    """

    def __init__(
        self,
        application: Application,
        board: Board,
        directory: Path,
        *,
        speed: float,
        wearer: Wearer,
        online: bool = True,
        record: TraceWriter | None = None,
        replay: Trace | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self._application = application
        self._definition = board
        self._directory = directory
        self._wearer = wearer
        self._online = online
        self._settings = settings or {}
        self.clock = SimClock.start(speed)
        self._recording = Recording(record, self.clock.now) if record else None
        self._replay = Replay(replay, self.clock.now) if replay else None
        self._untold: set[tuple[int, int | None]] = set()
        self._vocabulary: Vocabulary | None = None
        self._queue: queue.Queue[Happening | str] = queue.Queue(QUEUE_MAX)
        self._console = Console()
        self._undo = ExitStack()
        self._library: frozenset[Path] = frozenset()
        self._builds = 0
        self._interrupt_at: float | None = None
        self.board: VirtualBoard

    def __enter__(self) -> "VirtualRun":
        try:
            self._start()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _start(self) -> None:
        # 700: it gets keys, what a device's flash holds, and what the wearer's readings are
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            compiled = self._compile()
        except BaseException:
            shutil.rmtree(self._directory / "builds", ignore_errors=True)  # the folder is as empty as it was
            raise
        self.site = self._undo.enter_context(
            Site(
                self._directory,
                self.clock,
                on_frame=self._stored,
                on_refused=lambda refusal: self._put(arrivals.refused(refusal)),
                app=self._application.path,
                model=self._definition.name,
                loss=0.0 if self._online else 1.0,
            )
        )
        self._name()
        tickets = self.site.issue(1)
        tree = self._tree(compiled)
        given = self._directory / "firmware" / _KEPT
        if given.is_dir():
            shutil.copytree(given, tree / _KEPT)
        settings = {"heap": f"{int(HEAP.removesuffix('wK')) + HEAP_MORE_WK}wK", **self._settings}
        settings |= {"layout": self._definition.flash_layout(), "chip": self._definition.chip}
        board = self.site.board(NAME, MAC, self._wearer, fit=self._fit, on_line=self._line, **settings)
        self.board = board
        board.power_cut()
        board.install(tree, clean=True)
        board.power_on()
        self.site.enrol(board, tickets)
        self.site.take()
        self._interrupt_at = time.monotonic() + STUCK_S

    @property
    def device(self) -> str:
        """The device's EUI."""
        return self.site.enrolled[NAME]

    def reload(self) -> None:
        """Compile the application and put it in the place of the one that runs, which stays if that fails.

        Raises:
            CompileFailed, ApplicationRefused, DefinitionError, MeaningRefused: it cannot be; the old one runs on.
            BoardError: it does not fit.
        """
        compiled = self._compile()
        self._name()
        tree = compiled.folder if compiled.library <= self._library else self._tree(compiled)
        if self._replay:
            self._replay.rewind()
        self.board.exchange(tree)
        self._console.restarted()
        self._interrupt_at = time.monotonic() + STUCK_S

    def take(self, timeout_s: float) -> list[Happening]:
        """What has happened since, waiting so long for the first; raises what the worker failed with."""
        self.site.worker.check()
        self._mind()
        for address, register in sorted((self._replay.unknown if self._replay else set()) - self._untold, key=str):
            self._untold.add((address, register))
            named = "where it stands" if register is None else f"register 0x{register:02x}"
            self._put(Happening("remark", f"the trace has nothing of {named} of 0x{address:02x}: not acknowledged"))
        found: list[Happening] = []
        try:
            for _ in range(TAKE_MAX):
                one = self._queue.get_nowait() if found else self._queue.get(timeout=timeout_s)
                found += self._console.feed(one, time.monotonic()) if isinstance(one, str) else [one]
        except queue.Empty:
            pass
        return found

    @property
    def ended(self) -> bool:
        """Whether the application has ended by itself."""
        return self._console.ended

    @property
    def finished(self) -> bool:
        """Whether the trace that is replayed is over."""
        return self._replay is not None and self._replay.played

    def _mind(self) -> None:
        """An application that does not come back from build() is interrupted, which shows where it is."""
        if self._interrupt_at is None or self._console.running or self._console.ended:
            self._interrupt_at = None
        elif time.monotonic() > self._interrupt_at:
            self._interrupt_at = None
            self._put(Happening("remark", f"the application has not started within {STUCK_S:.0f} s: interrupted"))
            self.board.type("\x03")

    def _compile(self) -> Compiled:
        self._builds += 1
        compiled = self._application.compile(self._directory / "builds" / str(self._builds))
        self._console.names = compiled.names
        return compiled

    def _tree(self, compiled: Compiled) -> Path:
        tree = self._directory / "builds" / f"{self._builds}-tree"
        self._application.tree(tree, compiled)
        self._library = compiled.library
        return tree

    def _name(self) -> None:
        """What the application's own records and events are called, of the `records.py` beside it."""
        from host_tools.ingest import definitions, meanings

        path = self._application.path.with_name(definitions.FILE)
        if path.is_file():
            read = definitions.read(path.read_text(encoding="utf-8", errors="replace"), path.name)
            meanings.define(self.site.vault, read, self.clock.now, NAME)
        self._vocabulary = meanings.load()

    def _stored(self, stored: "Stored") -> None:
        assert self._vocabulary is not None  # nothing can arrive before there is a board
        for one in arrivals.arrived(stored, self._vocabulary):
            self._put(one)

    def _fit(self, outfit: Outfit) -> Outfit:
        fitted = self._replay.fit(outfit) if self._replay else outfit
        return self._recording.fit(fitted) if self._recording else fitted

    def _line(self, line: str) -> None:
        if line == STARTED:
            for one in (self._recording, self._replay):
                if one:
                    one.begin()
        self._put(line)

    def _put(self, one: Happening | str) -> None:
        try:
            self._queue.put_nowait(one)
        except queue.Full:
            return
