"""`sealband registry …` for one device: show, suspend, resume, revoke, rekey, retire, reenrol, claim, release-claim."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.connection import database_option, key_file_option
from host_tools.cli.guard import Entered, enter
from host_tools.cli.output import json_option, print_json, print_table, remark
from provisioning import eui as eui_names

if TYPE_CHECKING:
    from host_tools.ingest.lifecycle import Lifecycle

_Command = TypeVar("_Command", bound=Callable[..., Any])
LABEL_MAX = 1024  # characters


def present_eui(text: str) -> bytes:
    """The EUI of 16 hex digits; raises CommandFailed."""
    eui, former = eui_names.parse(text)
    if former is not None:
        raise CommandFailed(f"{text} is an identity of before: it is over", "leave what stands behind the dot out")
    return eui


def _device_options(command: _Command) -> _Command:
    for option in (click.argument("eui"), database_option, key_file_option, json_option):
        command = option(command)
    return command


def _reason_option(command: _Command) -> _Command:
    return click.option("--reason", default="", help="Why, for the audit trail.")(command)


def _lifecycle(entered: Entered) -> "Lifecycle":
    from host_tools.ingest.lifecycle import Lifecycle

    return Lifecycle(entered.vault, actor=entered.actor)


def _told(eui: str, state: str, text: str, as_json: bool, **more: Any) -> None:
    if as_json:
        print_json({"eui": eui, "state": state, **more})
    else:
        remark(text)


@click.command()
@_device_options
def show(eui: str, database: str, key_file: Path, as_json: bool) -> None:
    """Show one device: batch, ticket, states with their times and actors, certificates, claim."""
    number, former = eui_names.parse(eui)
    enter(database, key_file, "device.list")
    from provisioning.registry import devices

    told = devices.show(number, former)
    if as_json:
        print_json(told)
        return
    history, certificates, claim = told.pop("history"), told.pop("certificates"), told.pop("claim")
    told.pop("identities")
    print_table(("", told["eui"]), [(name, value) for name, value in told.items() if name != "eui"])
    if claim and claim["account"]:
        remark(f"Claimed by {claim['account']} at {claim['claimed_at']}.")
    for one in certificates:
        remark(f"Certificate {one['serial']}, valid until {one['ends_at']}, revoked: {one['revoked_at'] or 'no'}.")
    rows = [(event["at"], event["event"], event["actor"], _details(event["details"])) for event in history]
    print_table(("at", "event", "actor", "details"), rows, title="History")


def _details(details: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in details.items())


@click.command()
@_device_options
@_reason_option
def suspend(eui: str, reason: str, database: str, key_file: Path, as_json: bool) -> None:
    """Refuse a device's frames until it is resumed."""
    number = present_eui(eui)
    entered = enter(database, key_file, "device.suspend")
    from provisioning.registry import devices

    devices.suspend(number, entered.vault, reason=reason, actor=entered.actor)
    _told(number.hex(), "suspended", f"{eui} is suspended. Next: sealband broker reload DIR.", as_json)


@click.command()
@_device_options
@_reason_option
def resume(eui: str, reason: str, database: str, key_file: Path, as_json: bool) -> None:
    """Take a suspended device's frames again."""
    number = present_eui(eui)
    entered = enter(database, key_file, "device.resume")
    from provisioning.registry import devices

    devices.resume(number, entered.vault, reason=reason, actor=entered.actor)
    state = devices.find(number, lock=False).state
    _told(number.hex(), state, f"{eui} is {state} again. Next: sealband broker reload DIR.", as_json)


@click.command()
@_device_options
@_reason_option
def revoke(eui: str, reason: str, database: str, key_file: Path, as_json: bool) -> None:
    """Refuse a device for good; its keys here are destroyed. `suspend` can be undone."""
    number = present_eui(eui)
    entered = enter(database, key_file, "device.revoke")
    _lifecycle(entered).revoke(number, reason)
    _told(number.hex(), "revoked", f"{eui} is revoked. Next: sealband broker reload DIR.", as_json)


@click.command()
@_device_options
def rekey(eui: str, database: str, key_file: Path, as_json: bool) -> None:
    """Have a device begin its next epoch with new random bytes."""
    number = present_eui(eui)
    entered = enter(database, key_file, "device.rekey")
    command = _lifecycle(entered).rekey(number)
    _told(number.hex(), "ordered", f"{eui} is told with its next answer but one.", as_json, command=command)


@click.command()
@_device_options
@_reason_option
@click.option("--lost", is_flag=True, help="It cannot answer any more: retire it without its receipt.")
def retire(eui: str, reason: str, lost: bool, database: str, key_file: Path, as_json: bool) -> None:
    """Have a device erase itself; it is retired when its receipt has come."""
    number = present_eui(eui)
    entered = enter(database, key_file, "device.retire")
    if lost:
        _lifecycle(entered).write_off(number, reason)
        _told(number.hex(), "retired", f"{eui} is retired. What it holds, if it still does, it keeps.", as_json)
        return
    command = _lifecycle(entered).retire(number, reason)
    text = f"{eui} is told with its next answer but one, and retired when its receipt has come."
    _told(number.hex(), "retiring", text, as_json, command=command)


@click.command()
@_device_options
@_reason_option
def reenrol(eui: str, reason: str, database: str, key_file: Path, as_json: bool) -> None:
    """Let a retired device's board in again, by the record of a new ticket."""
    number = present_eui(eui)
    entered = enter(database, key_file, "device.reenrol")
    from provisioning.registry import devices

    devices.allow_reenrol(number, entered.vault, reason=reason, actor=entered.actor)
    _told(number.hex(), "retired", f"{eui} may be enrolled again.", as_json, may_be_enrolled_again=True)


@click.command()
@click.option("--account", "--wearer", required=True, metavar="NAME", help="Whose it is from now on.")
@click.option(
    "--label-file",
    type=click.File("r"),
    default="-",
    help="The text of the label's QR code, on the first line; standard input, as a scanner types, if not given.",
)
@database_option
@key_file_option
@json_option
def claim(account: str, label_file: Any, database: str, key_file: Path, as_json: bool) -> None:
    """Give a device to whoever shows its label. The label is never an argument: other processes can see those."""
    entered = enter(database, key_file, "device.claim")
    from provisioning.registry import claims

    device = claims.claim(label_file.readline(LABEL_MAX).strip(), account, entered.vault, actor=entered.actor)
    _told(device.eui_hex, device.state, f"{device.eui_hex} is {account}'s.", as_json, account=account)


@click.command("release-claim")
@_device_options
def release_claim(eui: str, database: str, key_file: Path, as_json: bool) -> None:
    """Take a device from whoever claimed it, and lift a lock."""
    number = present_eui(eui)
    entered = enter(database, key_file, "device.claim")
    from provisioning.registry import claims

    account = claims.release(number, entered.vault, actor=entered.actor)
    text = f"{eui} was {account}'s and is nobody's now." if account else f"{eui} was nobody's."
    _told(number.hex(), "released", text, as_json, account=account)


COMMANDS = (show, suspend, resume, revoke, rekey, retire, reenrol, claim, release_claim)
