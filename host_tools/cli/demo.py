"""`sealband demo`: two virtual wearables, from the factory to their readings and an update; see `host_tools.demo`."""

import dataclasses
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import rich_click as click
from rich.console import Console

from host_tools.cli import CommandFailed
from host_tools.cli.output import json_option, print_json
from host_tools.demo import SPEED, Demo, print_summary
from host_tools.gateway.broker import INSTALL, MosquittoBroker


@click.command("demo")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="A new folder to leave the data in.")
@click.option("--boards", type=click.IntRange(1, 8), default=2, show_default=True, help="How many wearables.")
@click.option(
    "--speed", type=click.FloatRange(1, 40), default=SPEED, show_default=True, help="Virtual time ÷ real time."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another story with another number.")
@click.option(
    "--broker",
    type=click.Choice(["amqtt", "mosquitto"]),
    default="amqtt",
    show_default=True,
    help="mosquitto: with TLS, certificates and rules, as `sealband broker config` writes them.",
)
@click.option("--app", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Your app.py for the boards.")
@json_option
def group(
    keep: Path | None, boards: int, speed: float, seed: int, broker: str, app: Path | None, as_json: bool
) -> None:
    """Two virtual wearables, from the factory to their readings and an update, and six attacks that are refused."""
    if keep and keep.exists() and any(keep.iterdir()):
        raise CommandFailed(f"{keep} is not empty", "name a new folder")
    if broker == "mosquitto" and not MosquittoBroker.available():
        raise CommandFailed("mosquitto is not installed", INSTALL)
    # a service manager's stop ends it like Ctrl-C does: by unwinding, so that no process is left
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=as_json)
    with ExitStack() as stack:
        directory = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealband-demo-")))
        summary = Demo(
            directory,
            console,
            boards=boards,
            speed=speed,
            seed=seed,
            app=app,
            people=keep is not None,
            mosquitto=broker == "mosquitto",
        ).run()
    if as_json:
        print_json(dataclasses.asdict(summary))
    else:
        print_summary(summary, console)
        if keep:
            left = "registry.db, keys, journal, boards; viewer.token and auditor.token let you look"
            console.print(f"   {keep} has everything: {left}", highlight=False, markup=False)
    sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
