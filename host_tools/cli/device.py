"""`sealband device`: run and test an application while it is being written; see `host_tools.device`."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import rich_click as click
from rich.console import Console
from rich.text import Text

import boards
from host_tools.cli import CommandFailed
from host_tools.cli.output import json_option, print_json_line, remark
from host_tools.cli.stop import stoppable
from host_tools.device.application import Application
from host_tools.device.happening import Happening
from host_tools.device.session import Outcome, follow, uncompiled
from host_tools.release.bundle import CompileFailed
from host_tools.sim.site import DEVICE

VIRTUAL = "VIRTUAL"
SPEED = 10.0
STYLES = {
    "line": "dim",
    "error": "bold red",
    "ended": "bold red",
    "reading": "green",
    "event": "bold yellow",
    "refused": "red",
    "reload": "cyan",
    "remark": "cyan",
    "running": "cyan",
}
SOURCES = {"line": "device", "running": "device", "ended": "device", "error": "error", "remark": "run", "reload": "run"}


@click.group()
def group() -> None:
    """Run and test an application while it is being written."""


@group.command()
@click.argument("app", type=click.Path(path_type=Path, dir_okay=False), default="app.py")
@click.option("--board", "definition", default=VIRTUAL, show_default=True, help="The board definition to compile for.")
@click.option("--reload", is_flag=True, help="Exchange the application whenever one of its files changes.")
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 100),
    default=SPEED,
    show_default=True,
    help="Virtual seconds a real second; virtual board only.",
)
@click.option("--seconds", type=click.FloatRange(min=0.1), help="End after so many real seconds; default: Ctrl-C.")
@click.option("--wearer", type=int, default=1, show_default=True, help="Another body with another number.")
@click.option("--offline", is_flag=True, help="No gateway in reach: the device's log only.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="A new folder to leave everything in.")
@json_option
def run(
    app: Path,
    definition: str,
    reload: bool,
    speed: float,
    seconds: float | None,
    wearer: int,
    offline: bool,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Run APP on a board, with its log, and what arrives in a store beside it."""
    board = boards.load(definition)
    application = Application(app, DEVICE, board)
    show = _Show(as_json)
    if keep and keep.exists() and any(keep.iterdir()):
        raise CommandFailed(f"{keep} is not empty", "name a new folder")
    with stoppable() as stopping, ExitStack() as stack:
        from host_tools.device.virtual import VirtualRun
        from host_tools.sim.wearer import Wearer

        directory = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealband-run-")))
        try:
            virtual = stack.enter_context(
                VirtualRun(application, board, directory, speed=speed, wearer=Wearer(wearer), online=not offline)
            )
        except CompileFailed as error:
            raise CommandFailed(uncompiled(error).text, "correct the line") from error
        outcome = follow(virtual, application, show.happening, stopping, seconds=seconds, reload=reload)
    _close(outcome, as_json, keep)


def _close(outcome: Outcome, as_json: bool, keep: Path | None) -> None:
    counts = outcome.counts
    if as_json:
        print_json_line({"event": "end", "counts": dict(counts), "failed": outcome.failed})
    else:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing happened"
        remark(f"{told}" + (f"; {keep} has the rest" if keep else ""))
    if outcome.failed:
        raise CommandFailed("the application ended by itself", "see the error above; --reload waits for your change")


class _Show:
    """Happenings as lines: with colours for a terminal, plain elsewhere, or JSON."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(soft_wrap=True)

    def happening(self, one: Happening) -> None:
        if self._as_json:
            print_json_line(one.to_json())
            return
        source = SOURCES.get(one.kind, "store")
        style = STYLES.get(one.kind, "")
        self._console.print(Text.assemble((f"{source:<7}", "bold"), (one.text, style)), highlight=False)
        for place in one.data.get("trace", [])[:-1] if one.kind == "error" else []:
            self._console.print(Text(f"         {place}", "dim"), highlight=False)
