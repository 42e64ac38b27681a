"""What the commands of `sealband readings` begin with: options that narrow down, who looks, what reads the store."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from host_tools.cli.ingest import enter_store
from host_tools.cli.output import remark
from provisioning import eui

if TYPE_CHECKING:
    from host_tools.ingest.readings import Filter, Readings

HOLD_S = 10.0  # between two looks whether who looks on still may
_Command = TypeVar("_Command", bound=Callable[..., Any])


def filter_options(command: _Command) -> _Command:
    """Adds what narrows down the readings."""
    for option in (
        click.option("--device", "devices", multiple=True, metavar="EUI", help="Only this device; may be repeated."),
        click.option("--record", "records", multiple=True, help="Only this record, such as heart_rate; repeatable."),
        click.option("--since", metavar="TIME", help="From this time on: 2026-03-01T12:00 (UTC), or 2h ago as 2h."),
        click.option("--until", metavar="TIME", help="Before this time."),
        click.option("--all", "faulty", is_flag=True, help="Also readings whose time lies in the future."),
    ):
        command = option(command)
    return command


def open_readings(database: str, key_file: Path, command: str, devices: tuple[str, ...]) -> "Readings":
    """Let in whoever may see readings, note in the trail what for, and give what reads them."""
    return open_followed(database, key_file, command, devices)[0]


def open_followed(
    database: str, key_file: Path, command: str, devices: tuple[str, ...]
) -> "tuple[Readings, Callable[[], None]]":
    """The same for a command that goes on showing; what it gets beside is called again and again, and raises soon
    after the session ended or the operator may not see readings any more.
    """
    entered = enter_store(database, key_file, "reading.export" if command == "export" else "reading.view")
    from host_tools.ingest.readings import Readings
    from host_tools.ingest.store import Payloads
    from provisioning.registry import audit

    # who looked at wearers' data is part of the trail
    audit.append(
        entered.vault,
        "sensitive_read",
        actor=entered.actor,
        command=f"readings {command}",
        devices=list(devices)[:64],
    )
    return Readings(Payloads(entered.vault)), _now_and_then(entered.hold)


def _now_and_then(hold: Callable[[], None]) -> Callable[[], None]:
    due = time.monotonic() + HOLD_S

    def held() -> None:
        nonlocal due
        if time.monotonic() >= due:
            hold()
            due = time.monotonic() + HOLD_S

    return held


def wanted_of(
    source: "Readings",
    devices: tuple[str, ...],
    records: tuple[str, ...],
    since: str | None,
    until: str | None,
    faulty: bool,
) -> "Filter":
    """What the options ask for."""
    from host_tools.ingest import readings

    now = time.time()
    return readings.Filter(
        devices=frozenset(eui.parse(device) for device in devices),
        names=frozenset(readings.record_filter(record, source.vocabulary) for record in records),
        since=readings.moment(since, now) if since else None,
        until=readings.moment(until, now) if until else None,
        faulty=faulty,
    )


def mention_damage(source: "Readings") -> None:
    """Say what was left out."""
    if source.damaged:
        remark(f"{source.damaged} frames do not open and are left out: the database was changed by somebody else.")
