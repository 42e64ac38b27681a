"""What a board prints, line by line: tracebacks become errors in the developer's own files, the rest stays lines.

A board's text is a stranger's: lines are bounded, a traceback has so many lines at most, and nothing of it is
evaluated. An error that comes again and again is told once in `AGAIN_S`, with how often it came.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from host_tools.device.happening import Happening, harmless

STARTED = "sealband-run started"
ENDED = "sealband-run ended"
NOT_ENROLLED = "sealband: not enrolled"
RUNNING = "sealband: running as "
TRACE_MAX = 40  # lines
AGAIN_S = 5.0
TAKE_MAX = 200  # lines in one go, so that a board that never stops printing leaves room for what else there is to do
_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'  File "([^"]{1,200})"(?:, line (\d{1,6}))?(?:, in (.{1,100}))?')
_EUI = re.compile(r"[0-9a-f]{16}")
_ERROR = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(:.*)?", re.ASCII)


class Console:
    """Reads one board's console.

    Args:
        names: name in tracebacks → the developer's file.

    Attributes:
        started: the application was begun; what the board printed before is not part of the run.
        running: the application runs.
        ended: it has ended; what the REPL says afterwards is no part of the run either.
    """

    def __init__(self, names: Mapping[str, Path] | None = None) -> None:
        self.names: Mapping[str, Path] = names or {}
        self.started = False
        self.running = False
        self.ended = False
        self._trace: list[str] | None = None
        self._told: dict[str, tuple[float, int]] = {}

    def restarted(self) -> None:
        """The board starts anew: what was under way is over."""
        self.started = self.running = self.ended = False
        self._trace = None

    def feed(self, line: str, now_s: float) -> Iterator[Happening]:
        """Take one line.

        Args:
            line: without its end.
            now_s: real seconds, for what comes again and again.
        """
        line = harmless(line)
        if line == STARTED:
            self.restarted()
            self.started = True
            return
        if not self.started or self.ended:
            return
        if self._trace is not None:
            if line.startswith("  ") and len(self._trace) < TRACE_MAX:
                self._trace.append(line)
                return
            trace, self._trace = self._trace, None
            if _ERROR.fullmatch(line):
                yield from self._error(trace, line, now_s)
                return
            yield from (Happening("line", one, {"line": one}) for one in [_HEAD, *trace])
        if line == _HEAD or line.endswith(_HEAD):
            self._trace = []
        elif line.endswith(ENDED):
            self.ended, self.running = True, False
            yield Happening("ended", "the application has ended")
        elif line.startswith(RUNNING) and _EUI.fullmatch(line.removeprefix(RUNNING)):
            self.running = True
            device = line.removeprefix(RUNNING)
            yield Happening("running", f"running as {device}", {"device": device})
        elif line:
            yield Happening("line", line, {"line": line})
            if line == NOT_ENROLLED:
                yield Happening("remark", "a board without an identity runs nothing: enrol it with `sealband station`")

    def _error(self, trace: list[str], said: str, now_s: float) -> Iterator[Happening]:
        key = "\n".join([*trace, said])
        at, times = self._told.get(key, (-AGAIN_S, 0))
        times += 1
        if now_s - at < AGAIN_S:
            self._told[key] = at, times
            return
        if len(self._told) > TRACE_MAX:
            self._told.clear()
        self._told[key] = now_s, times
        yield located(trace, said, self.names, times)


def located(trace: list[str], said: str, names: Mapping[str, Path], times: int = 1) -> Happening:
    """The error of a traceback, at the innermost line that is in one of these files.

    Args:
        trace: its lines between the first and the last.
        said: the last one.
        names: name in tracebacks → the developer's file.
        times: how often it has come.
    """
    shown: list[str] = []
    place: tuple[Path, int] | None = None
    for one in trace:
        match = _FRAME.fullmatch(one)
        if match and match[1] in names:
            place = names[match[1]], int(match[2] or 0)
            shown.append(f"{place[0]}:{place[1]}" + (f" in {match[3]}" if match[3] else ""))
        elif match:
            shown.append(f"{match[1]}" + (f" in {match[3]}" if match[3] else ""))
    where = f"{place[0]}:{place[1]}: " if place else f"{shown[-1]}: " if shown else ""
    again = f" ({times} times)" if times > 1 else ""
    data = {"file": str(place[0]) if place else None, "line": place[1] if place else None}
    return Happening("error", f"{where}{said}{again}", {**data, "error": said, "trace": shown, "times": times})
