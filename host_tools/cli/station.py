"""`sealband station`: give boards their identity over the serial port. The flow is in provisioning.station.

sealband station run --tickets tickets.json --tree tree --ports /dev/ttyUSB0 --ports /dev/ttyUSB1 --labels labels
sealband station resume
sealband station report --format html --out report.html
sealband station unlock --port /dev/ttyUSB0 --key URI
"""

from pathlib import Path

import rich_click as click

from host_tools.cli import CommandFailed, station_firmware, station_secure
from host_tools.cli.output import json_option, print_json, print_json_line, print_table, remark
from host_tools.cli.station_display import Display
from host_tools.cli.station_setup import Settings, known, lanes, read_tickets, setup
from host_tools.cli.station_unlock import label_command, unlock_command
from host_tools.cli.stop import stoppable
from host_tools.release import files
from provisioning.station import bench
from provisioning.station import report as reporting
from provisioning.station.flash import BAUD
from provisioning.station.journal import Journal, parse
from provisioning.station.ledger import Ledger
from provisioning.station.link import Link
from provisioning.station.run import Station
from provisioning.station.steps import LABEL_FORMATS
from provisioning.tickets import check_public_key

JOURNAL = "station.journal"
_path = click.Path(path_type=Path)
_journal = click.option(
    "--journal",
    default=JOURNAL,
    show_default=True,
    type=_path,
    envvar="SEALBAND_JOURNAL",
    help="This station's journal.",
)
_count = click.option("--count", default=0, type=click.IntRange(0), help="End after so many boards; 0: all tickets.")


@click.group("station")
def group() -> None:
    """The factory's station: boards get their identity. It never sees a secret of theirs."""


group.add_command(station_firmware.group)
group.add_command(station_secure.group)


def _key(ctx: click.Context, parameter: click.Parameter, value: str | None) -> bytes | None:
    if value is None:
        return None
    try:
        return check_public_key(bytes.fromhex(value))
    except ValueError:
        raise click.BadParameter("not a P-256 public key of 130 hex digits") from None


group.add_command(unlock_command)
group.add_command(label_command)


@group.command("run")
@click.option("--tickets", required=True, type=_path, help="The registry's ticket file.")
@click.option("--tree", required=True, type=_path, help="What boards get: the folder of `sealband release tree`.")
@_journal
@click.option("--ports", multiple=True, metavar="PORT", help="A lane; again for each further one.")
@click.option("--port-filter", default="", metavar="REGEX", help="Of path, USB numbers, serial number, description.")
@click.option("--all-ports", is_flag=True, help="All ports that are found, if there are several.")
@click.option("--registry-key", callback=_key, envvar="SEALBAND_REGISTRY_KEY", help="As for enrol.")
@click.option("--board", default="", metavar="NAME", help="The definition in boards/; default: by the tickets' model.")
@click.option("--firmware", default="firmware", show_default=True, type=_path, help="The cache of firmware images.")
@click.option("--keep-firmware", is_flag=True, help="The boards have their MicroPython: write the file system only.")
@click.option("--labels", default="labels", show_default=True, type=_path, help="The folder for labels.")
@click.option(
    "--label-format", "formats", multiple=True, default=("png", "zpl"), type=click.Choice(LABEL_FORMATS), help="Again."
)
@click.option("--issuing-key", default="", metavar="URI", help="Signs the boards' certificates: file:PATH or pkcs11:…")
@click.option(
    "--known", "known_", multiple=True, type=_path, help="Another station's journal, whose boards are refused."
)
@click.option("--leave-open", is_flag=True, help="Do not close the boards' REPL; for development.")
@click.option("--baud", default=BAUD, show_default=True, type=click.IntRange(9600, 2_000_000), help="For flashing.")
@_count
@json_option
def run_command(
    tickets: Path,
    tree: Path,
    journal: Path,
    ports: tuple[str, ...],
    port_filter: str,
    all_ports: bool,
    registry_key: bytes | None,
    board: str,
    firmware: Path,
    keep_firmware: bool,
    labels: Path,
    formats: tuple[str, ...],
    issuing_key: str,
    known_: tuple[Path, ...],
    leave_open: bool,
    baud: int,
    count: int,
    as_json: bool,
) -> None:
    """Flash, test, enrol, certify, label and close the boards on these ports, one after the other on each.

    Control-C ends it after the boards in hand. Whatever ended it, `resume` goes on.
    """
    settings = Settings(
        tickets=str(tickets),
        tree=str(tree),
        ports=ports,
        port_filter=port_filter,
        all_ports=all_ports,
        registry_key=registry_key.hex() if registry_key else "",
        board=board,
        firmware=str(firmware),
        keep_firmware=keep_firmware,
        labels=str(labels),
        label_formats=formats,
        issuing_key=issuing_key,
        known=tuple(map(str, known_)),
        leave_open=leave_open,
        baud=baud,
    )
    _work(settings, journal, count, as_json=as_json, save=True)


@group.command()
@_journal
@_count
@json_option
def resume(journal: Path, count: int, as_json: bool) -> None:
    """Go on with the run that this journal is of, by the same words: every board is either done or begun again."""
    _work(Settings.load(journal), journal, count, as_json=as_json, save=False)


def _work(settings: Settings, path: Path, count: int, *, as_json: bool, save: bool) -> None:
    chosen, made = lanes(settings), setup(settings)
    with Journal.open(path) as book:
        if book.recovered:
            remark(book.recovered)
        ledger = Ledger(book, known(settings))
        if save:
            settings.save(path)
        standings = ledger.standings()
        done = sum(standing.done for standing in standings)
        if not as_json and len(standings) > done:
            remark(
                f"{len(standings) - done} boards have a ticket and are not done: plug them in, they are begun again."
            )
        with stoppable() as stopping, Display(chosen, len(made.tickets.tickets), done, as_json=as_json) as display:
            station = Station(chosen, made, ledger, display.show, count=count)
            station.run(stopping.is_set)
        left = bench.tickets_left(book, made.tickets)
    if station.broken:
        raise CommandFailed(station.broken.text, station.broken.remedy)
    if as_json:
        print_json_line({"kind": "summary", "done": station.done, "failed": station.failed, "tickets_left": left})
    else:
        remark(f"{station.done} boards done, {station.failed} failures; {left} tickets left.")


@group.command("report")
@_journal
@click.option(
    "--format",
    "form",
    default="text",
    show_default=True,
    type=click.Choice(("text", "csv", "html")),
    help="Of the output.",
)
@click.option("--out", type=_path, help="The file that gets it; default: standard output.")
@json_option
def report_command(journal: Path, form: str, out: Path | None, as_json: bool) -> None:
    """Counts, times and failures by cause, of a journal that is checked from its first entry to its last."""
    content = parse(journal.read_bytes())
    if not content.entries:
        raise CommandFailed(f"{journal} has no entry", "name the station's journal")
    found = reporting.make(content.entries)
    if as_json:
        print_json(found.as_dict())
        return
    if form != "text":
        text = reporting.to_csv(found) if form == "csv" else reporting.to_html(found)
        if out is None:
            print(text, end="")
        else:
            files.replace(out, text.encode())
            remark(f"Report of {found.done} boards in {out}.")
        return
    rows = [(name, times.count, f"{times.median_s:.1f}", f"{times.max_s:.1f}") for name, times in found.steps.items()]
    total = found.total
    rows.append(("whole board", total.count, f"{total.median_s:.1f}", f"{total.max_s:.1f}"))
    print_table(("step", "boards", "median s", "longest s"), rows)
    if found.failures:
        print_table(
            ("failed at", "because", "times"), [(step, why, count) for (step, why), count in found.failures.items()]
        )
    remark(
        f"{found.done} boards done, {found.open} to be begun again, {sum(found.failures.values())} failures; "
        f"{found.entries} entries, the last one {found.head}."
    )


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
    file = read_tickets(tickets, registry_key)
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
    file = read_tickets(tickets, registry_key)
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
