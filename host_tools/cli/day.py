"""`sealband sim day`: a day of two wearers on virtual boards, and what arrived of it; see `host_tools.sim.day`."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.output import json_option, print_json, print_table, progress_bar, remark
from host_tools.sim import day_pictures as pictures
from host_tools.sim.day import SPEED, Day, Seen
from host_tools.sim.day_plan import HOURS, SHORT_HOURS, plan
from host_tools.sim.day_truth import Row, compare, summary
from host_tools.sim.site import Site

SPEED_MAX = 200


@click.command("day")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="A new folder for plots and everything.")
@click.option(
    "--hours", type=click.FloatRange(SHORT_HOURS, HOURS), default=HOURS, show_default=True, help="Length of the day."
)
@click.option(
    "--speed", type=click.FloatRange(1, SPEED_MAX), default=SPEED, show_default=True, help="Virtual time ÷ real time."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Other wearers with another number.")
@click.option("--app", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Your app.py for the boards.")
@json_option
def group(out: Path | None, hours: float, speed: float, seed: int, app: Path | None, as_json: bool) -> None:
    """Two wearers' day: walks, a fall, an SOS, the band taken off, no coverage, consent withdrawn; held against truth.

    A whole day takes about 40 minutes at the default speed. Exit 1 when a limit is missed.
    """
    if out and out.exists() and any(out.iterdir()):
        raise CommandFailed(f"{out} is not empty", "name a new folder")
    signal.signal(signal.SIGTERM, _interrupt)
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealband-day-")))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        progress = stack.enter_context(progress_bar("minutes of the day"))
        drawn: list[Path] = []

        def draw(seen: Seen, site: Site) -> None:
            if out and pictures.available():
                drawn.extend(pictures.draw(seen, site, out))

        seen = Day(folder, plan(hours), speed=speed, seed=seed, app=app, tell=progress, after=draw).run()
    rows = compare(seen)
    told = summary(seen)
    if as_json:
        print_json({**told, "pictures": [str(path) for path in drawn], "rows": [row.to_json() for row in rows]})
    else:
        names = list(seen.wearers)
        print_table(
            ("what", *names, "limit"),
            _lines(rows, names),
            title=f"A day of {hours:g} h in {seen.real_s:.0f} s, {speed:g} times real time",
        )
    if seen.stalls:
        remark(
            f"The computer was {seen.stalls} times late by more than a second of the day, at most by"
            f" {seen.longest_stall_s:.1f} s: what is missed may be its fault."
        )
    if out:
        shown = ", ".join(path.name for path in drawn) or "no pictures: pip install 'sealband[plot]'"
        remark(f"{out} has registry.db, keys, boards, their consoles; {shown}")
    missed = [row for row in rows if not row.good]
    if missed:
        raise CommandFailed(
            f"{len(missed)} of {len(rows)} limits are missed, the first: {missed[0].what}",
            "on a busy computer a lower --speed helps; the boards' consoles are in the folder of --out",
        )
    sys.stdout.flush()


def _lines(rows: list[Row], names: list[str]) -> Iterator[list[str]]:
    """One line for each thing that is compared, with a column for each wearer."""
    for what in dict.fromkeys(row.what for row in rows):
        its = {row.wearer: row for row in rows if row.what == what}
        one = next(iter(its.values()))
        limit = f"{'at least' if one.at_least else 'at most'} {one.limit:g} {one.unit}".rstrip()
        yield [what, *(_cell(its.get(name) or its.get("")) for name in names), limit]


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    value = "none" if row.value is None else f"{row.value:g}"
    return ("" if row.good else "MISSED: ") + value + (f" ({row.note})" if row.note else "")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
