"""`sealband sim energy`: how long a cell lasts. What it computes is in `host_tools.sim.energy`."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import rich_click as click

import boards
from host_tools.cli import CommandFailed
from host_tools.cli.output import json_option, print_json, print_table, remark
from host_tools.sim import energy_profile
from host_tools.sim.energy import Estimate, estimate
from host_tools.sim.energy_probe import LINKS, ProbeError, probe

TITLES = {"wifi": "Wi-Fi", "lte": "LTE"}


@click.command("energy")
@click.option("--board", "named", multiple=True, default=("VIRTUAL",), show_default=True, help="Definition, or all.")
@click.option("--link", "links", multiple=True, type=click.Choice(LINKS), help="Default: the application's own.")
@click.option("--sf", type=click.IntRange(7, 12), default=7, show_default=True, help="LoRa's spreading factor.")
@click.option(
    "--app",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An application (.py), or a profile (.toml); default: the example.",
)
@click.option(
    "--day", "day_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A profile with the day."
)
@click.option("--deep-sleep/--awake", default=None, help="Between wakes, whatever the application says.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Draw the day: a .png or .svg file.")
@json_option
def group(
    named: tuple[str, ...],
    links: tuple[str, ...],
    sf: int,
    app: Path | None,
    day_file: Path | None,
    deep_sleep: bool | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """A day of a cell, part by part, and how long it lasts: computed, with its assumptions."""
    if out and out.suffix.lower() not in (".png", ".svg"):
        raise click.UsageError("--out: a picture's name ends with .png or .svg")
    if out and importlib.util.find_spec("matplotlib") is None:
        raise CommandFailed("pictures need matplotlib, which is not installed", "pip install 'sealband[plot]'")
    found = _estimates(named, links, sf, app, day_file, deep_sleep)
    if out:
        from host_tools.plot.energy import draw

        try:
            draw(out, found)
        except OSError as error:
            raise CommandFailed(f"{out}: {error.strerror}", "name another file: --out") from error
    if as_json:
        print_json([_plain(each) for each in found])
        return
    for each in found if len(found) == 1 else ():
        rows = [(name, f"{mah:.3f}", f"{100 * mah / each.total_mah:.1f} %") for name, mah in each.mah.items()]
        rows.append(("together", f"{each.total_mah:.3f}", ""))
        print_table(("part", "mAh a day", "share"), rows, title=f"{each.board}, {each.link}")
    lives = [
        (
            each.board,
            each.link,
            f"{each.total_mah:.1f}",
            f"{each.awake_s / 864:.1f} %",
            each.frames,
            f"{each.life_days:.1f}",
        )
        for each in found
    ]
    print_table(("board", "link", "mAh a day", "awake", "frames a day", "days of battery"), lives)
    for line in dict.fromkeys(line for each in found for line in each.assumptions):
        print(f"- {line}")
    if out:
        remark(f"drawn: {out}")


def _estimates(
    named: tuple[str, ...],
    links: tuple[str, ...],
    sf: int,
    app: Path | None,
    day_file: Path | None,
    deep_sleep: bool | None,
) -> list[Estimate]:
    every = "all" in named
    found: list[Estimate] = []
    profile = energy_profile.load(app) if app and app.suffix == ".toml" else None
    day = energy_profile.load(day_file).day if day_file else (profile.day if profile else None)
    more: dict[str, Any] = {"spreading_factor": sf}
    if profile and profile.sensors is not None:
        more |= {"sensors": profile.sensors, "settings": profile.settings}
    elif app and not profile:
        more["app"] = app
    for name in boards.names() if every else named:
        board = boards.load(name)
        for link in links or _own(board, more):
            try:
                probed = probe(board, link, **more)
            except ProbeError as error:
                if every:
                    remark(f"{name}: {error}")
                    continue
                raise
            if deep_sleep is not None:
                probed = replace(probed, deep_sleep=deep_sleep)
            found.append(estimate(board, probed, link, day, title=f"LoRa SF{sf}" if link == "lora" else TITLES[link]))
    if not found:
        raise CommandFailed("no board can run this", "name boards and links that fit: --board, --link")
    return found


def _own(board: boards.Board, more: dict[str, Any]) -> list[str]:
    """The links of the application itself; of a profile, what the board has."""
    natural = "lora" if board.radio else "lte"
    if "sensors" in more:
        return [natural]
    try:
        own = [link for link in probe(board, natural, **more).links if link in LINKS]
    except ProbeError:
        return [natural]
    return own or [natural]


def _plain(each: Estimate) -> dict[str, Any]:
    return {
        "board": each.board,
        "link": each.link,
        "mah_a_day": each.total_mah,
        "mah_by_part": dict(each.mah),
        "battery_days": each.life_days,
        "awake_s": each.awake_s,
        "wakes": each.wakes,
        "frames": each.frames,
        "ma_by_minute": {name: [round(value, 4) for value in minutes] for name, minutes in each.minutes.items()},
        "assumptions": list(each.assumptions),
    }
