"""`sealband ingest`: open frames from the broker and store them. What it does is in `host_tools.ingest`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.brokers import Broker, broker_options
from host_tools.cli.connection import database_option, key_file_option, open_registry
from host_tools.cli.guard import Entered, admit
from host_tools.cli.output import json_option, print_json, print_json_line, print_table, remark
from host_tools.cli.stop import stoppable
from provisioning import eui
from provisioning.registry.vault import Vault, VaultError

if TYPE_CHECKING:
    from host_tools.ingest.intake import Refusal, Stored
    from host_tools.ingest.worker import Statistics


def open_store(database: str, key_file: Path) -> Vault:
    """Connect to the registry and the store beside it, and open the vault."""
    vault = open_registry(database, key_file)
    from host_tools.ingest.chains import Chains

    try:
        Chains(vault, lambda: 0.0).check()
    except VaultError:
        raise CommandFailed(
            "the master key does not open this registry", "name the key file that was made with it"
        ) from None
    return vault


def enter_store(database: str, key_file: Path, action: str) -> Entered:
    """The same for an operator who may do this."""
    return admit(open_store(database, key_file), database, action)


@click.group()
def group() -> None:
    """Open frames and store readings."""


@group.command()
@database_option
@key_file_option
@broker_options
@click.option("--name", help="Client id at the broker: another one for each worker, the same after a restart.")
@click.option("--shared", default="ingest", show_default=True, help="Group of workers that share the frames; '': none.")
@click.option("--verbose", is_flag=True, help="A line for every frame.")
@json_option
def run(
    database: str,
    key_file: Path,
    broker: Broker,
    name: str | None,
    shared: str,
    verbose: bool,
    as_json: bool,
) -> None:
    """Store what devices send, and answer them, until stopped."""
    vault = open_store(database, key_file)
    from django.apps import apps

    from host_tools.ingest.worker import IngestWorker

    options: dict[str, Any] = {}
    if apps.is_installed("host_tools.rollout"):
        from host_tools.rollout.tracker import Tracker

        tracker = Tracker(vault)
        options = {"newest_release": tracker.newest_release, "observers": [tracker]}
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    tell = as_json or verbose
    worker = IngestWorker(
        broker.host,
        broker.port,
        vault,
        on_frame=(lambda stored: _tell_stored(stored, as_json)) if tell else None,
        on_refused=(lambda refusal: _tell_refused(refusal, as_json)) if tell else None,
        shared=shared or None,
        client_id=name,
        username=broker.username,
        password=broker.password,
        tls=broker.tls,
        **options,
    )
    with stoppable() as stopping, worker, _told(vault):
        if as_json:
            print_json_line({"event": "serving", "mqtt": [broker.host, broker.port]})
        else:
            remark(f"storing what {broker.host}:{broker.port} delivers; Ctrl-C stops")
        while not stopping.wait(0.2):
            worker.check()
    _summary(worker.statistics(), as_json)


@group.command()
@database_option
@key_file_option
@json_option
def status(database: str, key_file: Path, as_json: bool) -> None:
    """When each device was last heard, what waits for it, and what was refused so far."""
    enter_store(database, key_file, "device.list")
    from host_tools.ingest.commands import waiting
    from host_tools.ingest.export import timestamp
    from host_tools.ingest.store import contacts, refusals

    commands = waiting()
    heard = []
    for contact in contacts():
        waits, too_long = commands.get(contact.pop("number"), (0, 0))
        times = {"heard_at": timestamp(contact["heard_at"]), "answered_at": timestamp(contact["answered_at"])}
        heard.append({**contact, **times, "commands": waits, "too_long": too_long})
    if as_json:
        print_json({"devices": heard, "refusals": refusals()})
        return
    columns = (
        "device",
        "heard_at",
        "answered_at",
        "link",
        "gateway",
        "rssi",
        "snr",
        "epoch",
        "frames",
        "release",
        "commands",
    )
    print_table(columns, [[contact[column] for column in columns] for contact in heard], title="Devices")
    print_table(("reason", "count"), refusals().items(), title="Refused")


@group.command()
@click.option("--device", "devices", multiple=True, metavar="EUI", help="Only this device; may be repeated.")
@click.option(
    "--last", type=click.IntRange(1, 10_000), default=20, show_default=True, help="So many frames, the newest."
)
@database_option
@key_file_option
@json_option
def receptions(devices: tuple[str, ...], last: int, database: str, key_file: Path, as_json: bool) -> None:
    """By which gateways frames were heard, and how well; * is the one that was asked to answer."""
    wanted = [eui.parse(device) for device in devices]
    enter_store(database, key_file, "device.list")
    from host_tools.ingest.export import timestamp
    from host_tools.ingest.receptions import newest

    frames = newest(wanted, last)
    if as_json:
        print_json({"frames": frames})
        return
    print_table(
        ("device", "epoch", "frame", "heard_at", "gateway", "rssi", "snr", "MHz", "data rate"),
        [
            (
                frame["device"],
                frame["epoch"],
                frame["ctr"],
                timestamp(one["received_at"]),
                one["gateway"] + "*" * one["answered"],
                f"{one['rssi']:g}",
                f"{one['snr']:g}",
                f"{one['frequency_hz'] / 1e6:g}",
                one["data_rate"],
            )
            for frame in frames
            for one in frame["receptions"]
        ],
    )


@contextmanager
def _told(vault: Vault) -> Iterator[None]:
    """Beginning and end of a worker in the audit trail; one that somebody damaged must not cost anybody's readings."""
    from provisioning.registry import audit

    with suppress(audit.AuditBroken):
        audit.append(vault, "sys_startup", subject="ingest", actor="ingest")
    yield
    with suppress(audit.AuditBroken):
        audit.append(vault, "sys_shutdown", subject="ingest", actor="ingest")


def _tell_stored(stored: "Stored", as_json: bool) -> None:
    # never what a message says: this ends up in logs
    kind = type(stored.message).__name__.lower() if stored.message else stored.fault
    if as_json:
        event = {"event": "frame", "device": stored.eui, "epoch": stored.epoch, "ctr": stored.ctr, "message": kind}
        print_json_line({**event, "link": stored.link, "gateway": stored.gateway, "fault": stored.fault})
    else:
        remark(f"{stored.eui} epoch {stored.epoch} frame {stored.ctr}: {kind}, {stored.frame_len} B by {stored.link}")


def _tell_refused(refusal: "Refusal", as_json: bool) -> None:
    if as_json:
        print_json_line({"event": "refused", "reason": refusal.reason, "topic": refusal.topic, "device": refusal.eui})
    else:
        remark(f"refused: {refusal.reason.value} {refusal.eui or ascii(refusal.topic[:64])}")


def _summary(done: "Statistics", as_json: bool) -> None:
    figures = {
        "received": done.received,
        "opened": done.opened,
        "stored": done.stored,
        "answered": done.synced,
        "commands": done.commanded,
        "commands_too_long": done.too_long,
        "answers_late": done.late,
        "answers_unsent": done.unsent,
        "receptions_left_out": done.receptions_left_out,
        "refused": dict(done.refused),
    }
    if as_json:
        print_json_line({"event": "stopped", **figures})
        return
    refused = ", ".join(f"{count} {reason}" for reason, count in sorted(done.refused.items())) or "none"
    remark(f"{done.received} messages, {done.stored} frames stored, {done.synced} answered; refused: {refused}.")
