"""`sealband doctor`: what is missing on this machine, and what to do; the looks are in `host_tools.device.machine`."""

import dataclasses
from pathlib import Path

import rich_click as click
from rich.console import Console
from rich.text import Text

from host_tools.cli.output import json_option, print_json, shown
from host_tools.device import machine

STYLES = {"ok": "green", "missing": "bold red", "optional": "yellow"}


@click.command("doctor")
@click.option(
    "--database",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Look at this database's permissions, too; may be repeated.",
)
@click.option(
    "--key-file",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Look at this key file's permissions, too; may be repeated.",
)
@json_option
def group(files: tuple[Path, ...], keys: tuple[Path, ...], as_json: bool) -> int:
    """What is missing on this machine, and what to do about it. Exit status 1 when something required is missing."""
    if any(":/" in str(path) for path in (*files, *keys)):
        # a URL may bear a password, which is not to be repeated here
        raise click.UsageError("--database and --key-file are files; a server's database is looked at on the server")
    findings = list(machine.examine([*files, *keys]))
    missing = sum(one.state == "missing" for one in findings)
    if as_json:
        print_json({"missing": missing, "findings": [dataclasses.asdict(one) for one in findings]})
        return int(missing > 0)
    console = Console(soft_wrap=True)
    for one in findings:
        line = Text.assemble((f"{one.state:<9}", STYLES[one.state]), (f"{one.name:<13} ", "bold"), shown(one.found, ""))
        console.print(line, highlight=False)
        if one.remedy:
            console.print(Text(f"{'':<9}to do: {shown(one.remedy, '')}"), highlight=False)
    console.print(Text("all that is required is here" if not missing else f"{missing} missing"), highlight=False)
    return int(missing > 0)
