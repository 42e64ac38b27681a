"""Shows what happens on a station's lanes: a table that moves on a terminal, lines elsewhere, JSON for machines."""

import threading
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from host_tools.cli.output import print_json_line, remark, shown
from provisioning.station.lane import Event
from provisioning.station.steps import Step

_WIDTH = 18
_STEPS = list(Step)


class Display:
    """One run. A context manager; `show` takes events from any thread, one at a time.

    Args:
        ports: of the lanes, in their order.
        total: how many tickets the batch has.
        done: how many boards were done before this run.
        as_json: one JSON object a line on standard output, and nothing else.
    """

    def __init__(self, ports: Sequence[str], total: int, done: int, *, as_json: bool) -> None:
        self._as_json = as_json
        self._total = total
        self._done = done
        self._failed = 0
        self._last: dict[int, Event] = {}
        self._results: dict[int, Text] = {}
        self._ports = list(ports)
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "Display":
        if not self._as_json and self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, refresh_per_second=4)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self._table())
            self._live.__exit__(kind, error, trace)

    def show(self, event: Event) -> None:
        """Take an event."""
        with self._lock:
            new = self._last.get(event.lane)
            self._last[event.lane] = event
            self._done += event.kind == "done"
            self._failed += event.kind == "failed"
            if line := _line(event):
                self._results[event.lane] = line
            if self._as_json:
                if event.kind != "step" or not new or (new.kind, new.step) != (event.kind, event.step):
                    print_json_line({name: value for name, value in vars(event).items() if value or name == "kind"})
            elif self._live:
                self._live.update(self._table())
            elif line:
                remark(f"lane {event.lane}  {line.plain}  ({self._done} of {self._total} done)")

    def _table(self) -> Table:
        table = Table(title=f"{self._done} of {self._total} done, {self._failed} failures")
        for name in ("lane", "port", "board", "step", "", "last result"):
            table.add_column(name)
        for number, port in enumerate(self._ports, 1):
            event = self._last.get(number)
            bar: ProgressBar | str = ""
            step: str = event.kind if event else ""
            if event and event.kind == "step":
                step = event.step
                share = (_STEPS.index(Step(event.step)) + event.fraction) / len(_STEPS)
                bar = ProgressBar(total=1.0, completed=share, width=_WIDTH)
            table.add_row(str(number), Text(port), event.eui if event else "", step, bar, self._results.get(number, ""))
        return table


def _line(event: Event) -> Text | None:
    if event.kind == "done":
        return Text(f"{event.eui} done in {event.ms / 1000:.1f} s, ticket {event.ticket}", "green")
    if event.kind == "repeated":
        return Text(f"{event.eui} was done before, ticket {event.ticket}")
    if event.kind == "failed":
        return Text(f"{event.eui or 'a board'} failed at {event.step} ({event.reason}): {shown(event.text)}", "red")
    if event.kind == "broken":
        return Text(f"the lane cannot go on: {shown(event.text)}", "red")
    return None
