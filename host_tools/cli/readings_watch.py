"""`sealband readings watch`: how things stand, on a terminal, until Ctrl-C. What is shown is in `ingest/watching`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from host_tools.cli.connection import database_option, key_file_option
from host_tools.cli.output import json_option, print_json_line, shown
from host_tools.cli.readings_source import mention_damage, open_followed, wanted_of
from host_tools.cli.stop import stoppable

if TYPE_CHECKING:
    from host_tools.ingest.readings import Reading
    from host_tools.ingest.watching import Row, Watched

POLL_S = 0.5
EVENTS_SHOWN = 4
HEAD_LINES = 6  # of the table and what is below it, beside rows and events
SHORT = 6  # of a device's number, on a narrow terminal
WIDE, NARROW = 112, 94  # columns of the terminal from which on, and below which, there is more or less to see


@click.command()
@click.option("--device", "devices", multiple=True, metavar="EUI", help="Only this device; may be repeated.")
@click.option("--record", "records", multiple=True, help="Only this record, such as heart_rate; repeatable.")
@click.option("--since", default="1h", show_default=True, metavar="TIME", help="How far back trend and extremes go.")
@click.option("--every", type=click.FloatRange(0.2, 3600), help="Seconds between two looks; 1 on a terminal, else 10.")
@click.option("--looks", type=click.IntRange(1), help="Stop after so many.")
@database_option
@key_file_option
@json_option
def watch(
    devices: tuple[str, ...],
    records: tuple[str, ...],
    since: str,
    every: float | None,
    looks: int | None,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Show the newest value of each record, its trend and what happened, until Ctrl-C."""
    source, hold = open_followed(database, key_file, "watch", devices)
    from host_tools.ingest.readings import follow, newest_frame
    from host_tools.ingest.watching import Watched

    wanted = wanted_of(source, devices, records, since, None, False)
    watched = Watched(max(60.0, time.time() - (wanted.since or 0.0)))
    seen = newest_frame()
    console = Console()
    on_terminal = console.is_terminal and not console.is_dumb_terminal and not as_json
    pause_s = every or (1.0 if on_terminal else 10.0)
    with stoppable() as stopping:
        for reading in source.in_order(wanted):
            watched.take([reading])
            if stopping.is_set():
                return
        with _screen(console, on_terminal) as live:
            due = time.monotonic()
            for arrived in follow(source, wanted, seen, lambda: stopping.wait(min(POLL_S, pause_s))):
                hold()
                watched.take(arrived)
                if stopping.is_set() or looks == 0:
                    break
                if time.monotonic() < due:
                    continue
                due = time.monotonic() + pause_s
                looks = looks and looks - 1
                if live is not None:
                    live.update(_picture(watched, console), refresh=True)
                else:
                    _lines(watched, as_json)
    mention_damage(source)


def _screen(console: Console, on_terminal: bool) -> Any:
    """rich's live display on the terminal's other screen, which is gone afterwards; elsewhere nothing."""
    from contextlib import nullcontext

    if not on_terminal:
        return nullcontext()
    return Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop")


def _picture(watched: "Watched", console: Console) -> Group:
    width, height = console.size
    now = time.time()
    rows = watched.rows(now, 24 if width >= WIDE else 12)
    events = list(watched.events)[-EVENTS_SHOWN:]
    room = max(1, height - HEAD_LINES - len(events))
    table = Table(expand=False, pad_edge=False, box=SIMPLE_HEAD)
    for name, side in _columns(width):
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    ascii_only = not (console.encoding or "").lower().startswith("utf")
    device = ""
    for row in rows[:room]:
        cells = _cells(row, now, ascii_only)
        style = "yellow" if row.late else ""
        if cells["device"] == device:
            cells["device"] = ""  # once for all of its records
        else:
            device = cells["device"]
            # the end of a number tells devices apart, not its beginning
            cells["device"] = device if width >= NARROW else device[-SHORT:]
        table.add_row(*(Text(shown(cells[name], keep=""), style=style) for name, _ in _columns(width)))
    below = [Text(_said(event, now), style="bold", no_wrap=True, overflow="ellipsis") for event in events]
    left = len(rows) - room
    if left > 0:
        below.insert(0, Text(f"{left} more; narrow down with --device or --record", style="dim"))
    if not rows:
        below.insert(0, Text("No readings yet."))
    return Group(table, *below, Text("Ctrl-C ends.", style="dim"))


def _columns(width: int) -> list[tuple[str, str]]:
    columns = [("device", "left"), ("record", "left"), ("newest", "right"), ("age", "right"), ("trend", "left")]
    if width >= NARROW:
        columns += [("least", "right"), ("most", "right")]
    return columns if width < WIDE else [*columns, ("came", "right")]


def _cells(row: "Row", now: float, ascii_only: bool) -> dict[str, str]:
    from host_tools.ingest.export import duration
    from host_tools.ingest.watching import ASCII, BLOCKS, sparkline

    newest = row.newest
    age = " ".join(duration(max(0.0, now - newest.unix_s)).split()[:2])
    return {
        "device": newest.device,
        "record": newest.record,
        "newest": f"{newest.meaning or f'{newest.value:f}'} {newest.unit}".strip(),
        "age": f"{age} late" if row.late else age,
        "trend": sparkline(row.trend, ASCII if ascii_only else BLOCKS),
        "least": "" if newest.meaning else f"{row.low:f}",
        "most": "" if newest.meaning else f"{row.high:f}",
        "came": "" if row.share is None else f"{int(100 * row.share)} %",
    }


def _said(event: "Reading", now: float) -> str:
    from host_tools.ingest.export import duration, timestamp

    value = "" if event.value is None else f" {event.value:f}"
    ago = duration(max(0.0, now - event.unix_s))
    return shown(f"{timestamp(event.unix_s)}  {event.device}  {event.record}{value}, {ago} ago", keep="")


def _lines(watched: "Watched", as_json: bool) -> None:
    from host_tools.ingest.export import plain, timestamp

    now = time.time()
    rows = watched.rows(now, 12)
    if as_json:
        told = [
            {
                **plain(row.newest),
                "age_s": round(now - row.newest.unix_s),
                "least": float(row.low),
                "greatest": float(row.high),
                "share": row.share,
                "late": row.late,
                "trend": row.trend,
            }
            for row in rows
        ]
        print_json_line({"time": timestamp(now), "rows": told, "events": [plain(event) for event in watched.events]})
        return
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    for row in rows:
        cells = {name: shown(text, keep="") for name, text in _cells(row, now, ascii_only).items()}
        reach = f"{cells['least']} to {cells['most']}" if cells["least"] else ""
        print(
            f"{timestamp(now)}  {cells['device']:16}  {cells['record']:20}  {cells['newest']:>16}  {cells['age']:>11}  "
            f"{cells['trend']}  {reach}".rstrip()
        )
    for event in list(watched.events)[-EVENTS_SHOWN:]:
        print(f"{timestamp(now)}  {_said(event, now)}")
    sys.stdout.flush()
