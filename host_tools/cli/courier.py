"""`sealband courier`: read a device's status with its label, carry its frames to the server and the answers back."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click
from platformdirs import user_data_path

from host_tools.cli import CommandFailed
from host_tools.cli.addresses import HostPort
from host_tools.cli.brokers import Broker, broker_options
from host_tools.cli.output import json_option, print_json, print_table, progress_bar, remark
from provisioning import labels

if TYPE_CHECKING:
    from host_tools.courier.air import Air
    from host_tools.courier.store import CourierStore

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Result = TypeVar("_Result")
LABELS_MAX = 256

_folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="SEALBAND_COURIER",
    default=user_data_path("sealband") / "courier",
    help="Where carried frames lie.",
)


def _visit_options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--label-file",
            type=click.File("r"),
            default="-",
            help="Texts of labels' QR codes, one a line; standard input, as a scanner types, if not given.",
        ),
        click.option(
            "--seconds", default=10.0, show_default=True, type=click.FloatRange(1, 600), help="To look around."
        ),
        click.option(
            "--virtual",
            type=HostPort(),
            multiple=True,
            help="A virtual device's address, in place of Bluetooth. May be repeated.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def group() -> None:
    """Carry frames of devices whose labels you hold, over Bluetooth."""


@group.command()
@_visit_options
@json_option
def scan(label_file: Any, seconds: float, virtual: tuple[tuple[str, int], ...], as_json: bool) -> None:
    """Say which of the labels' devices are in reach."""
    known = _labels(label_file)
    from host_tools.courier.session import recognises

    seen = _run(_air(virtual).scan(seconds))
    found = [
        {"device": label.eui.hex(), "model": label.model, "rssi": one.rssi}
        for label in known
        for one in seen
        if recognises(label, one.pseudonym)
    ]
    strangers = len(seen) - len({row["device"] for row in found})
    if as_json:
        print_json({"devices": found, "others": strangers})
        return
    print_table(("device", "model", "rssi"), [tuple(row.values()) for row in found])
    remark(f"{strangers} other devices of this kind, which none of the labels belongs to.")


@group.command()
@_visit_options
@json_option
def status(label_file: Any, seconds: float, virtual: tuple[tuple[str, int], ...], as_json: bool) -> None:
    """Read one device's status."""
    known = _labels(label_file)
    if len(known) != 1:
        raise CommandFailed(f"there are {len(known)} labels", "give the one of the device to be read")
    from host_tools.courier.visit import read_status
    from sealwire.messages import EPOCH_2025
    from sealwire.names import STATUS_NAMES

    told, queued = _run(read_status(_air(virtual), known[0], seconds))
    fields = {STATUS_NAMES.get(key, str(key)): value for key, value in told.fields.items()}
    if as_json:
        print_json({"device": known[0].eui.hex(), "at": told.t + EPOCH_2025, "queued": queued, "status": fields})
    else:
        rows = [("at", told.t + EPOCH_2025), ("queued", queued), *fields.items()]
        print_table(("", known[0].eui.hex()), rows)


@group.command()
@_visit_options
@_folder_option
@json_option
def fetch(label_file: Any, seconds: float, virtual: tuple[tuple[str, int], ...], folder: Path, as_json: bool) -> None:
    """Visit devices: hand over what the server answered, then take along what they have queued."""
    known = _labels(label_file)
    store = _store(folder)
    from host_tools.courier.errors import CourierError
    from host_tools.courier.visit import carry

    air = _air(virtual)
    done: list[dict[str, Any]] = []
    failed: CourierError | None = None
    for label in known:
        try:
            with progress_bar(label.eui.hex()) as progress:
                fetched = _run(carry(air, label, seconds, store, progress))
        except CourierError as error:
            failed = error
            if len(known) > 1:
                remark(f"{label.eui.hex()}: {error}")
            continue
        done.append(
            {
                "device": label.eui.hex(),
                "queued": fetched.queued,
                "fetched": fetched.fetched,
                "opened": fetched.opened,
                "refused": fetched.refused,
            }
        )
    if as_json and (done or not failed):
        print_json({"visited": done, "missed": len(known) - len(done)})
    elif done:
        print_table(tuple(done[0]), [tuple(row.values()) for row in done])
    if failed:
        raise failed


@group.command()
@_folder_option
@broker_options
@json_option
def deliver(folder: Path, broker: Broker, as_json: bool) -> None:
    """Publish what is carried, and keep the server's answers for the way back."""
    store = _store(folder)
    from host_tools.courier.delivery import Delivery

    options = {"username": broker.username, "password": broker.password, "tls": broker.tls}
    with Delivery(store, broker.host, broker.port, **options) as delivery, progress_bar("frames") as progress:  # type: ignore[arg-type]
        done = delivery.run(progress)
    if as_json:
        print_json({"delivered": done.delivered, "answers": done.answers, "unanswered": done.unanswered})
    else:
        remark(
            f"{done.delivered} frames delivered, {done.answers} answers to carry back; "
            f"{done.unanswered} groups of frames were not answered in time."
        )


@group.command("id")
@_folder_option
@json_option
def id_(folder: Path, as_json: bool) -> None:
    """Say this courier's number, for the broker's rules."""
    number = _store(folder).name
    if as_json:
        print_json({"courier": number})
    else:
        print(number)


def _labels(file: Any) -> list[labels.Label]:
    """The labels of a file or of standard input; asked for, unseen, where a person sits."""
    if file is sys.stdin and sys.stdin.isatty():
        return [labels.parse(click.prompt("Text of the label's QR code", hide_input=True, err=True).strip())]
    lines = [line.strip() for _, line in zip(range(LABELS_MAX), file, strict=False)]
    known = [labels.parse(line) for line in lines if line]
    if not known:
        raise CommandFailed("there is no label", "give the text of the label's QR code on standard input")
    return known


def _air(virtual: tuple[tuple[str, int], ...]) -> "Air":
    if virtual:
        from host_tools.courier.loopback import Loopback

        return Loopback(virtual)
    from host_tools.courier.radio import Bluetooth

    return Bluetooth()


def _store(folder: Path) -> "CourierStore":
    from host_tools.courier.store import CourierStore

    return CourierStore(folder)


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    return asyncio.run(work)
