"""`sealband station`: give boards their identity over the serial port. The flow is in provisioning.station."""

from pathlib import Path

import rich_click as click

from host_tools.cli.output import json_option, print_json, remark
from provisioning.station import bench
from provisioning.station.journal import Journal
from provisioning.station.link import Link
from provisioning.tickets import FILE_MAX, TicketFile, check_public_key


@click.group("station")
def group() -> None:
    """The factory's station: boards get their identity. It never sees a secret of theirs."""


def _key(ctx: click.Context, parameter: click.Parameter, value: str | None) -> bytes | None:
    if value is None:
        return None
    try:
        return check_public_key(bytes.fromhex(value))
    except ValueError:
        raise click.BadParameter("not a P-256 public key of 130 hex digits") from None


def _read(path: Path, trusted: bytes | None) -> TicketFile:
    with open(path, "rb") as file:
        return TicketFile.from_bytes(file.read(FILE_MAX + 1), trusted)


@group.command()
@click.option("--tickets", required=True, type=click.Path(path_type=Path), help="The registry's ticket file.")
@click.option("--journal", required=True, type=click.Path(path_type=Path), help="This station's journal.")
@click.option("--port", required=True, help="The board's serial port.")
@click.option(
    "--registry-key",
    callback=_key,
    envvar="SEALBAND_REGISTRY_KEY",
    help="The key that must have signed the tickets, hex.",
)
@click.option(
    "--restart/--no-restart", default=True, help="Restart the board before it is asked and after it is enrolled."
)
@json_option
def enrol(tickets: Path, journal: Path, port: str, registry_key: bytes | None, restart: bool, as_json: bool) -> None:
    """Enrol the board on a port, or finish what was begun with it."""
    file = _read(tickets, registry_key)
    with Journal.open(journal) as book:
        if book.recovered:
            remark(book.recovered)
        done = bench.enrol(Link(port, resume=not restart), file, book, restart=restart)
        left = bench.tickets_left(book, file)
    eui, ticket = done.record.eui.hex(), done.record.ticket_id.hex()
    if as_json:
        print_json({"eui": eui, "ticket": ticket, "repeated": done.repeated, "tickets_left": left})
    else:
        remark(
            f"Board {eui} {'was enrolled before' if done.repeated else 'is enrolled'} with ticket {ticket}; "
            f"{left} of {len(file.tickets)} tickets left."
        )


@group.command()
@click.option("--tickets", required=True, type=click.Path(path_type=Path), help="The registry's ticket file.")
@click.option("--journal", required=True, type=click.Path(path_type=Path), help="This station's journal.")
@click.option("--registry-key", callback=_key, envvar="SEALBAND_REGISTRY_KEY", help="As for enrol.")
@json_option
def check(tickets: Path, journal: Path, registry_key: bytes | None, as_json: bool) -> None:
    """Check the ticket file and the journal, and say what is left."""
    file = _read(tickets, registry_key)
    with Journal.open(journal) as book:
        kinds = [entry.kind for entry in book.entries]
        left = bench.tickets_left(book, file)
        recovered = book.recovered
    result = {
        "batch": file.batch,
        "model": file.model,
        "tickets": len(file.tickets),
        "tickets_left": left,
        "enrolled": kinds.count("enrolled"),
        "failed": kinds.count("failed"),
        "recovered": recovered,
    }
    if as_json:
        print_json(result)
        return
    if recovered:
        remark(recovered)
    remark(
        f"Batch {file.batch} for {file.model}: {left} of {len(file.tickets)} tickets left; "
        f"{result['enrolled']} boards enrolled, {result['failed']} failures in the journal."
    )
