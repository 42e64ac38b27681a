"""`sealband readings plot`: a picture of readings. What it shows and how is in `host_tools.plot`."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.connection import database_option, key_file_option
from host_tools.cli.output import json_option, print_json, progress_bar, remark
from host_tools.cli.readings_source import filter_options, mention_damage, open_readings, wanted_of

if TYPE_CHECKING:
    from host_tools.ingest.readings import Opened
    from host_tools.plot.scene import Scene

DEVICES_MAX = 8  # in one picture


@click.command()
@filter_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File (.svg, .png); or a folder: one each.")
@click.option("--format", "format_", type=click.Choice(("svg", "png")), help="Of files in a folder; svg by default.")
@click.option("--timezone", default="UTC", show_default=True, help="Whose times to write, as Europe/Berlin.")
@click.option("--force", is_flag=True, help="Replace files that are no pictures of readings.")
@database_option
@key_file_option
@json_option
def plot(
    devices: tuple[str, ...],
    records: tuple[str, ...],
    since: str | None,
    until: str | None,
    faulty: bool,
    out: Path,
    format_: str | None,
    timezone: str,
    force: bool,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Draw readings, gaps, events and quality over time."""
    if importlib.util.find_spec("matplotlib") is None:
        raise CommandFailed("pictures need matplotlib, which is not installed", "pip install 'sealband[plot]'")
    from host_tools.plot import picture

    folder = out.is_dir() or not out.suffix
    kind = format_ or ("svg" if folder else out.suffix[1:].lower())
    if kind not in picture.FORMATS or (not folder and format_ and format_ != out.suffix[1:].lower()):
        raise click.UsageError("a picture's name ends with .svg or .png; without an ending it is a folder")
    zone = _zone(timezone)
    if not folder:
        picture.refuse_others(out, force=force)
    source = open_readings(database, key_file, "plot", devices)
    wanted = wanted_of(source, devices, records, since, until, faulty)

    from host_tools.plot import scene, sheet
    from sealwire.messages import EVENT, STATUS, TELEMETRY

    types = (TELEMETRY, EVENT, STATUS)
    span = scene.span_of(wanted, source.extent(wanted, types))
    if span is None:
        raise CommandFailed("there are no readings to draw", "look what there is: sealband readings show")
    with progress_bar("frames opened") as progress:
        frames = _counted(source.opened(wanted, types), source.count(wanted, types), progress)
        found = (
            one
            for one in scene.scenes(frames, wanted, span, source.vocabulary, source.carried_out())
            if one.shows_anything
        )
        if folder:
            out.mkdir(mode=0o700, parents=True, exist_ok=True)
            targets = ((out / f"{one.device}.{kind}", [one]) for one in found)
        else:
            targets = (each for each in [(out, _few(found))])
        written: list[dict[str, Any]] = []
        for path, several in targets:
            picture.refuse_others(path, force=force)
            drawn = sheet.draw(several, span, source.vocabulary, zone)
            content = picture.render(drawn, kind)
            picture.write(path, content)
            written.append({"path": str(path), "format": kind, "bytes": len(content), "devices": drawn.told})
    if not written:
        raise CommandFailed("there are no readings to draw", "look what there is: sealband readings show")
    if as_json:
        print_json({"since": round(span.since), "until": round(span.until), "timezone": str(zone), "files": written})
    else:
        for one in written:
            remark(f"{one['path']}: {len(one['devices'])} devices, {one['bytes']:,} B")
    mention_damage(source)


def _zone(name: str) -> tzinfo:
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise CommandFailed(f"there is no time zone {name!r}", "name one as UTC or Europe/Berlin") from None


def _few(found: "Iterable[Scene]") -> "list[Scene]":
    several: list[Scene] = []
    for one in found:
        several.append(one)
        if len(several) > DEVICES_MAX:
            raise CommandFailed(
                f"a picture of more than {DEVICES_MAX} devices shows nothing", "name some with --device, or a folder"
            )
    if not several:
        raise CommandFailed("there are no readings to draw", "look what there is: sealband readings show")
    return several


def _counted(frames: "Iterable[Opened]", total: int, progress: Callable[[int, int], None]) -> "Iterator[Opened]":
    for number, frame in enumerate(frames):
        if not number % 200:
            progress(number, total)
        yield frame
    progress(total, total)
