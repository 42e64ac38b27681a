"""`sealband readings`: show and export what wearers' devices sent. What it does is in `host_tools.ingest`."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from host_tools.cli import readings_define, readings_plot, readings_watch
from host_tools.cli.connection import database_option, key_file_option
from host_tools.cli.output import json_option, print_json_line, print_table, remark, write_private
from host_tools.cli.readings_source import filter_options, mention_damage, open_followed, open_readings, wanted_of

if TYPE_CHECKING:
    from host_tools.ingest.readings import Filter, Reading, Readings

FORMATS = ("table", "json", "csv", "senml")
COLUMNS = ("device", "time", "record", "value")
FOLLOW_S = 0.5


@click.group()
def group() -> None:
    """Show, draw, watch and export readings."""


@group.command()
@filter_options
@click.option("--last", type=click.IntRange(1, 100_000), default=50, show_default=True, help="So many, the newest.")
@click.option("--follow", is_flag=True, help="Go on with what arrives, until Ctrl-C.")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table", show_default=True)
@database_option
@key_file_option
@json_option
def show(
    devices: tuple[str, ...],
    records: tuple[str, ...],
    since: str | None,
    until: str | None,
    faulty: bool,
    last: int,
    follow: bool,
    format_: str,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Show the newest readings."""
    format_ = "json" if as_json else format_
    if follow and format_ not in ("table", "json"):
        raise click.UsageError("--follow prints a table or JSON lines")
    source, hold = open_followed(database, key_file, "show", devices)
    from host_tools.ingest.readings import newest_frame

    wanted = wanted_of(source, devices, records, since, until, faulty)
    seen = newest_frame()
    newest = source.last(wanted, last)
    if follow:
        _follow(source, wanted, newest, seen, format_, hold)
        return
    if not newest and format_ == "table":
        remark("No readings.")
    else:
        for piece in _pieces(newest, format_):
            sys.stdout.write(piece)
    mention_damage(source)


@group.command()
@filter_options
@click.option("--format", "format_", type=click.Choice(FORMATS), default="json", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="File to write; replaced only when all is written.")
@database_option
@key_file_option
@json_option
def export(
    devices: tuple[str, ...],
    records: tuple[str, ...],
    since: str | None,
    until: str | None,
    faulty: bool,
    format_: str,
    output: Path | None,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Write all readings, by time, for other programs."""
    format_ = "json" if as_json else format_
    if output and format_ == "table":
        raise click.UsageError("a table is for people to look at; write json, csv or senml to a file")
    source = open_readings(database, key_file, "export", devices)
    pieces = _pieces(source.in_order(wanted_of(source, devices, records, since, until, faulty)), format_)
    if output:
        write_private(output, pieces)
    else:
        for piece in pieces:
            sys.stdout.write(piece)
    mention_damage(source)


def _pieces(found: Iterable["Reading"], format_: str) -> Iterator[str]:
    from host_tools.ingest import export

    if format_ != "table":
        return export.FORMATS[format_](found)
    print_table(COLUMNS, [_cells(reading) for reading in found])
    return iter(())


def _cells(reading: "Reading") -> tuple[str, str, str, str]:
    from host_tools.ingest.export import timestamp

    value = "" if reading.value is None else reading.meaning or f"{reading.value:f}"
    return reading.device, timestamp(reading.unix_s), reading.record, f"{value} {reading.unit}".strip()


def _follow(
    source: "Readings", wanted: "Filter", found: list["Reading"], seen: int, format_: str, hold: Callable[[], None]
) -> None:
    from host_tools.ingest.export import plain
    from host_tools.ingest.readings import follow

    try:
        for arrived in chain([found], follow(source, wanted, seen, lambda: time.sleep(FOLLOW_S))):
            hold()
            for reading in arrived:
                if format_ == "json":
                    print_json_line(plain(reading))
                else:
                    print("{:16}  {:20}  {:20}  {}".format(*_cells(reading)), flush=True)
    except KeyboardInterrupt:
        return


for _command in (readings_define.define, readings_plot.plot, readings_watch.watch):
    group.add_command(_command)
