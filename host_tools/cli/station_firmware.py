"""`sealband station firmware`: the images that boards are flashed with. What is checked is in the station's package."""

from pathlib import Path

import rich_click as click

import boards
from host_tools.cli.output import json_option, print_json, print_table, remark
from provisioning.station.firmware import Cache

_path = click.Path(path_type=Path)
_cache = click.option(
    "--firmware", "cache", default="firmware", show_default=True, type=_path, help="The cache of firmware images."
)


@click.group("firmware")
def group() -> None:
    """The images of MicroPython that boards are flashed with. Nothing is ever downloaded."""


@group.command()
@click.argument("file", type=_path)
@click.option("--board", "name", required=True, metavar="NAME", help="For which board: a folder of boards/.")
@_cache
@json_option
def add(file: Path, name: str, cache: Path, as_json: bool) -> None:
    """Put a downloaded file into the cache, if it is the one that the board's definition names."""
    path = Cache(cache).add(boards.load(name), file)
    if as_json:
        print_json({"board": name, "path": path})
    else:
        remark(f"{name} is flashed with {path}.")


@group.command("list")
@_cache
@json_option
def list_(cache: Path, as_json: bool) -> None:
    """What is in the cache, and which boards are flashed with it."""
    named = {name: boards.load(name).firmware_image for name in boards.names()}
    entries = Cache(cache).entries()
    rows = []
    for name, image in named.items():
        if image is None:
            continue
        entry = next((entry for entry in entries if entry.file == image.file), None)
        state = "missing" if entry is None else "ready" if entry.sha256 == image.sha256 else "another file"
        rows.append({"board": name, "file": image.file, "state": state, "sha256": image.sha256})
    others = {entry.file for entry in entries} - {row["file"] for row in rows}
    rows += [
        {"board": "", "file": entry.file, "state": "not used", "sha256": entry.sha256}
        for entry in entries
        if entry.file in others
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(("board", "file", "state", "SHA-256"), [list(row.values()) for row in rows])
