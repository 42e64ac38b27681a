"""`sealband audit`: show, check and export the audit trail. What it does is in `provisioning.registry`."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.connection import database_option, key_file_option
from host_tools.cli.guard import enter
from host_tools.cli.output import json_option, print_json, print_table, remark, write_private

if TYPE_CHECKING:
    from provisioning.registry.audit_lines import Wanted

_Command = TypeVar("_Command", bound=Callable[..., Any])


def filter_options(command: _Command) -> _Command:
    """Adds what narrows down the events."""
    for option in (
        click.option("--event", "events", multiple=True, help="Only this event, or those that begin so: 'authn_*'."),
        click.option("--actor", "actors", multiple=True, help="Only what this one did: 'operator:anna', 'operator:*'."),
        click.option("--subject", "subjects", multiple=True, help="Only what concerns this one: a device, a batch …"),
        click.option("--since", metavar="TIME", help="From this time on: 2026-03-01T12:00 (UTC), or 2h ago as 2h."),
        click.option("--until", metavar="TIME", help="Before this time."),
    ):
        command = option(command)
    return command


@click.group("audit")
def group() -> None:
    """The audit trail: what operators, stations and the system did."""


@group.command()
@filter_options
@click.option("--last", type=click.IntRange(1, 100_000), default=50, show_default=True, help="So many, the newest.")
@database_option
@key_file_option
@json_option
def show(
    events: tuple[str, ...],
    actors: tuple[str, ...],
    subjects: tuple[str, ...],
    since: str | None,
    until: str | None,
    last: int,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Show events, the newest last."""
    enter(database, key_file, "audit.view")
    from provisioning.registry import audit_lines

    rows = [audit_lines.plain(row) for row in audit_lines.select(_wanted(events, actors, subjects, since, until), last)]
    if as_json:
        print_json(rows)
        return
    columns = ("sequence", "at", "event", "actor", "subject", "details")
    shown = [{**row, "details": " ".join(f"{k}={_short(v)}" for k, v in row["details"].items())} for row in rows]
    print_table(columns, [[row[column] for column in columns] for row in shown])


@group.command()
@click.option("--anchor", help="What an earlier check printed; finds a trail that was put back to before that.")
@click.option(
    "--log", type=click.Path(path_type=Path), metavar="FILE", help="Check this copy too: what $SEALBAND_AUDIT_LOG made."
)
@database_option
@key_file_option
@json_option
def verify(anchor: str | None, log: Path | None, database: str, key_file: Path, as_json: bool) -> None:
    """Check the trail from its first event to its last."""
    entered = enter(database, key_file, "audit.view")
    from provisioning.registry import audit

    try:
        trail = audit.verify(entered.vault, anchor)
    except ValueError:
        raise CommandFailed("this is not an anchor", "give one as `audit verify` prints it") from None
    copied = audit.verify_log(entered.vault, log) if log else None
    if as_json:
        print_json({"events": trail.events, "anchor": trail.anchor, "log": copied})
        return
    remark(f"{trail.events} events, none changed, none missing. Note this anchor elsewhere:")
    print(trail.anchor)
    if copied is not None:
        remark(f"The copy has the first {copied} of them.")


@group.command()
@filter_options
@click.option("--format", "format_", type=click.Choice(("jsonl", "csv")), default="jsonl", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="File to write; replaced only when all is written.")
@database_option
@key_file_option
@json_option
def export(
    events: tuple[str, ...],
    actors: tuple[str, ...],
    subjects: tuple[str, ...],
    since: str | None,
    until: str | None,
    format_: str,
    output: Path | None,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Write events for other programs: JSON lines or CSV."""
    enter(database, key_file, "audit.export")
    from provisioning.registry import audit_lines

    write = audit_lines.FORMATS["jsonl" if as_json else format_]
    pieces = write(audit_lines.select(_wanted(events, actors, subjects, since, until)))
    if output:
        write_private(output, pieces)
    else:
        sys.stdout.writelines(pieces)


def _wanted(
    events: tuple[str, ...], actors: tuple[str, ...], subjects: tuple[str, ...], since: str | None, until: str | None
) -> "Wanted":
    from host_tools.ingest.readings import moment
    from provisioning.registry.audit import EVENTS
    from provisioning.registry.audit_lines import Wanted

    for name in events:
        if not any(event == name or (name.endswith("*") and event.startswith(name[:-1])) for event in EVENTS):
            raise CommandFailed(f"there is no event {name!r}", "see the README of provisioning, or use 'authn_*'")
    now = time.time()
    since_s, until_s = (moment(text, now) if text else None for text in (since, until))
    return Wanted(
        events,
        actors,
        subjects,
        None if since_s is None else int(since_s * 1000),
        None if until_s is None else int(until_s * 1000),
    )


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
