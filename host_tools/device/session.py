"""A run from its start to its end: tells what happens, exchanges the application when its files change.

Knows neither the virtual board nor a real one, only what `Running` says; shows nothing.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from host_tools.device.application import Application, ApplicationRefused
from host_tools.device.happening import Happening
from host_tools.ingest.definitions import DefinitionError, MeaningRefused
from host_tools.release.bundle import CompileFailed
from host_tools.release.pack import PackRefused

TAKE_S = 0.1
LOOK_S = 0.2  # how often the files are looked at
SETTLE_S = 0.1  # an editor may write a file in several pieces
APART_S = 1.0  # between two exchanges


class Running(Protocol):
    """A board that runs an application."""

    def take(self, timeout_s: float) -> list[Happening]:
        """What has happened since, waiting so long for the first."""

    def reload(self) -> None:
        """Exchange the application; raises CompileFailed or ApplicationRefused when the old one runs on."""

    @property
    def ended(self) -> bool:
        """Whether the application has ended by itself."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to come, as of a trace that was played."""


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        counts: happenings by kind.
        failed: the application ended by itself.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failed: bool = False


def follow(
    run: Running,
    application: Application,
    report: Callable[[Happening], None],
    stopping: threading.Event,
    *,
    seconds: float | None = None,
    reload: bool = False,
) -> Outcome:
    """Until somebody stops it, the time is over, or the application has ended and nothing would begin it anew.

    Args:
        run: the board.
        application: whose files are looked at.
        report: told everything.
        stopping: set when it is to end.
        seconds: real seconds, None: without an end.
        reload: exchange the application when a file of it changes.
    """
    outcome = Outcome()

    def tell(one: Happening) -> None:
        outcome.counts[one.kind] += 1
        report(one)

    limit = None if seconds is None else time.monotonic() + seconds
    changes = Changes(application) if reload else None
    waits = False
    while not stopping.is_set() and (limit is None or time.monotonic() < limit):
        for one in run.take(TAKE_S):
            tell(one)
        if changes and changes.due():
            waits = False
            _exchange(run, tell)
        elif run.ended and not reload:
            outcome.failed = True
            break
        elif run.finished and not reload:
            tell(Happening("remark", "the trace has been played"))
            break
        elif run.ended and not waits:
            waits = True
            tell(Happening("remark", "waiting for a change of the application's files"))
    outcome.failed = outcome.failed or run.ended
    return outcome


def _exchange(run: Running, tell: Callable[[Happening], None]) -> None:
    begun = time.monotonic()
    error: Exception
    try:
        run.reload()
    except (CompileFailed, PackRefused, ApplicationRefused, DefinitionError, MeaningRefused) as refused:
        error = refused
    except OSError as unread:  # moved away by an editor, or by the developer
        error = ApplicationRefused(f"{unread.filename}: {unread.strerror}", "put the file back")
    else:
        took_s = round(time.monotonic() - begun, 2)
        tell(Happening("reload", f"exchanged in {took_s:.2f} s", {"took_s": took_s}))
        return
    tell(uncompiled(error))
    tell(Happening("remark", "not exchanged; what ran before goes on"))


def uncompiled(error: Exception) -> Happening:
    """The error of an application that does not compile."""
    if isinstance(error, CompileFailed):
        data = {"file": error.name, "line": error.line, "error": error.reason, "trace": [], "times": 1}
        return Happening("error", f"{error.name}:{error.line}: {error.reason}", data)
    return Happening("error", str(error), {"file": None, "line": None, "error": str(error), "trace": [], "times": 1})


class Changes:
    """Looks whether the application's files are others than they were.

    Each state is told once, however it ends: a file that crashes the application is not begun again and again.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._known = self._stamp()
        self._seen = self._known
        self._seen_at = self._looked_at = time.monotonic()
        self._told_at = -APART_S

    def due(self) -> bool:
        """Whether there is a new state that has settled."""
        now = time.monotonic()
        if now - self._looked_at < (LOOK_S if self._seen == self._known else SETTLE_S):
            return False
        self._looked_at = now
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen, self._seen_at = stamp, now
            return False
        if stamp == self._known or now - self._seen_at < SETTLE_S or now - self._told_at < APART_S:
            return False
        self._known, self._told_at = stamp, now
        return True

    def _stamp(self) -> bytes:
        try:
            return self._application.stamp()
        except (OSError, ApplicationRefused):
            return b""  # an editor has moved it away for a moment
