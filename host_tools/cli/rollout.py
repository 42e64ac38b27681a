"""`sealband rollout`: send a published release to devices, and watch it. What it does is in `host_tools.rollout`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from host_tools.cli import CommandFailed
from host_tools.cli.connection import database_option, key_file_option
from host_tools.cli.ingest import enter_store
from host_tools.cli.output import json_option, print_json, print_json_line, print_table, remark
from host_tools.cli.registry_devices import present_eui

if TYPE_CHECKING:
    from host_tools.rollout.service import Rollouts

WATCH_S = 2.0
BAR_WIDTH = 24
COLUMNS = ("rollout", "model", "component", "sequence", "version", "state", "target", "created")
DEVICE_COLUMNS = ("device", "state", "reason", "orders", "sent", "release", "heard_at", "changed_at")


@click.group()
def group() -> None:
    """Roll a published release out to devices."""


@group.command()
@click.option("--model", required=True, help="Model of board, as in board.toml.")
@click.option("--repository", type=click.Path(path_type=Path), help="Folder that `release publish` made.")
@click.option("--base-url", help="Where that folder is served; devices fetch from there.")
@click.option("--sequence", type=click.IntRange(1), help="Which release of the repository; by default the newest.")
@click.option("--manifest", type=click.Path(path_type=Path), help="In place of a repository: a signed manifest …")
@click.option("--url", help="… and where it is served.")
@click.option("--trust", type=click.Path(path_type=Path), help="Refuse what this trust list does not allow.")
@click.option("--device", "devices", multiple=True, metavar="EUI", help="Only this device; may be repeated.")
@click.option("--replace", is_flag=True, help="End what is under way for the model.")
@database_option
@key_file_option
@json_option
def create(
    model: str,
    repository: Path | None,
    base_url: str | None,
    sequence: int | None,
    manifest: Path | None,
    url: str | None,
    trust: Path | None,
    devices: tuple[str, ...],
    replace: bool,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Begin to roll a release out, to all devices of its model or to those that are named."""
    if (repository is None) == (manifest is None):
        raise click.UsageError("name either --repository with --base-url, or --manifest with --url")
    rollouts = _rollouts(database, key_file, "rollout.manage")
    from host_tools.rollout import published
    from sealwire.messages import EPOCH_2025

    now_s = int(time.time()) - EPOCH_2025
    if repository is not None:
        if base_url is None or url is not None:
            raise click.UsageError("--repository goes with --base-url")
        found = published.find(repository, base_url, model, sequence, trust, now_s)
    else:
        if url is None or base_url is not None or sequence is not None:
            raise click.UsageError("--manifest goes with --url")
        assert manifest is not None
        found = published.read(manifest, url, model, trust, now_s)
    named = [present_eui(device) for device in devices] or None
    number = rollouts.create(found, named, replace=replace)
    told = _overview(number)[0]
    if trust is None:
        remark("The signatures were not checked; --trust FILE does. Devices do in any case.")
    if as_json:
        print_json(told)
        return
    what = f"release {found.sequence} ({found.version})" if found.version else f"release {found.sequence}"
    remark(f"Rollout {number}: {what} to {told['total']} devices of {model}. See: sealband rollout status {number}")


@group.command()
@click.argument("rollout", type=click.IntRange(1), required=False)
@click.option("--devices", "with_devices", is_flag=True, help="Each device; by default when one rollout is named.")
@click.option("--watch", is_flag=True, help="Show it anew every two seconds, until Ctrl-C or until it is done.")
@database_option
@key_file_option
@json_option
def status(rollout: int | None, with_devices: bool, watch: bool, database: str, key_file: Path, as_json: bool) -> None:
    """How far rollouts are: all of them, or one with its devices."""
    _rollouts(database, key_file, "rollout.view")
    with_devices = with_devices or rollout is not None
    if watch:
        _watch(rollout, with_devices, as_json)
    elif as_json:
        print_json(_told(rollout, with_devices))
    else:
        told = _told(rollout, with_devices)
        if not told:
            remark("There is no rollout.")
            return
        Console().print(_shown(told))
        if with_devices:
            for one in told:
                rows = [[device[column] for column in DEVICE_COLUMNS] for device in one["each"]]
                print_table(DEVICE_COLUMNS, rows, title=f"Devices of rollout {one['rollout']}")


@group.command()
@click.argument("rollout", type=click.IntRange(1))
@database_option
@key_file_option
@json_option
def pause(rollout: int, database: str, key_file: Path, as_json: bool) -> None:
    """Send no more orders. Devices that have theirs carry it out."""
    _rollouts(database, key_file, "rollout.manage").pause(rollout)
    _say(rollout, "is paused: no more orders leave, and those that did are carried out", as_json)


@group.command()
@click.argument("rollout", type=click.IntRange(1))
@database_option
@key_file_option
@json_option
def resume(rollout: int, database: str, key_file: Path, as_json: bool) -> None:
    """Go on with a paused rollout."""
    _rollouts(database, key_file, "rollout.manage").resume(rollout)
    _say(rollout, "goes on", as_json)


@group.command()
@click.argument("rollout", type=click.IntRange(1))
@database_option
@key_file_option
@json_option
def abort(rollout: int, database: str, key_file: Path, as_json: bool) -> None:
    """End a rollout for good. Devices that have their order carry it out; none goes back by itself."""
    _rollouts(database, key_file, "rollout.manage").abort(rollout)
    _say(rollout, "is over", as_json)


def _rollouts(database: str, key_file: Path, action: str) -> "Rollouts":
    entered = enter_store(database, key_file, action)
    from host_tools.rollout.service import Rollouts

    return Rollouts(entered.vault, entered.actor)


def _overview(rollout: int | None) -> list[dict[str, Any]]:
    from host_tools.ingest.export import timestamp
    from host_tools.rollout import overview

    found = overview.rollouts(rollout)
    if rollout is not None and not found:
        raise CommandFailed(f"there is no rollout {rollout}", "see: sealband rollout status")
    return [
        {**one, "created_at": timestamp(one["created_at"]), "changed_at": timestamp(one["changed_at"])} for one in found
    ]


def _told(rollout: int | None, with_devices: bool) -> list[dict[str, Any]]:
    """Rollouts, each with its devices as `each` if they are wanted."""
    from host_tools.ingest.export import timestamp
    from host_tools.rollout import overview

    told = _overview(rollout)
    for one in told if with_devices else ():
        one["each"] = [
            {
                **device,
                "heard_at": device["heard_at"] and timestamp(device["heard_at"]),
                "changed_at": timestamp(device["changed_at"]),
            }
            for device in overview.devices(one["rollout"])
        ]
    return told


def _say(rollout: int, what: str, as_json: bool) -> None:
    if as_json:
        print_json(_overview(rollout)[0])
    else:
        remark(f"Rollout {rollout} {what}.")


def _shown(told: list[dict[str, Any]]) -> RenderableType:
    """A table of rollouts, and below it how far each is."""
    table = Table(title="Rollouts")
    for column in COLUMNS:
        table.add_column(column)
    bars = Table.grid(padding=(0, 1))
    for one in told:
        cells = {**one, "created": f"{one['created_at']} by {one['created_by']}"}
        # a version is what somebody wrote into a manifest: shown as text, never as markup
        table.add_row(*(Text(str(cells[column])) for column in COLUMNS))
        counts = [f"{count} {state}" for state, count in one["devices"].items()]
        if one["too_long"]:
            counts.append(f"{one['too_long']} with an order that is too long for the link so far")
        bar = ProgressBar(total=max(1, one["total"]), completed=one["succeeded"], width=BAR_WIDTH)
        bars.add_row(
            Text(f"rollout {one['rollout']}"), bar, Text(f"{one['succeeded']} of {one['total']}: {', '.join(counts)}")
        )
    return Group(table, bars)


def _watch(rollout: int | None, with_devices: bool, as_json: bool) -> None:
    """Until it is stopped, or until nothing that is shown is under way."""
    try:
        if as_json:
            before = None
            while True:
                told = _told(rollout, with_devices)
                if told != before:
                    print_json_line(told)
                before = told
                if _is_over(told):
                    return
                time.sleep(WATCH_S)
        with Live(_shown(_overview(rollout)), console=Console(), auto_refresh=False) as live:
            while True:
                told = _overview(rollout)
                live.update(_shown(told), refresh=True)
                if _is_over(told):
                    return
                time.sleep(WATCH_S)
    except KeyboardInterrupt:
        return


def _is_over(told: list[dict[str, Any]]) -> bool:
    return not any(one["state"] in ("active", "paused") for one in told)
