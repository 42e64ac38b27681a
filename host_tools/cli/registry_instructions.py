"""`sealband registry …`: configure, consent and report, which a device is told with one of its next answers."""

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from host_tools.cli.connection import database_option, key_file_option
from host_tools.cli.guard import Entered, enter
from host_tools.cli.output import json_option, print_json, remark
from host_tools.cli.registry_devices import present_eui

if TYPE_CHECKING:
    from host_tools.ingest.instructions import Instructions


def _instructions(entered: Entered) -> "Instructions":
    from host_tools.ingest.instructions import Instructions

    return Instructions(entered.vault, actor=entered.actor)


def _told(eui: bytes, command: int, as_json: bool) -> None:
    if as_json:
        print_json({"eui": eui.hex(), "state": "ordered", "command": command})
    else:
        remark(f"{eui.hex()} is told with one of its next answers.")


def _setting(text: str) -> tuple[str, int]:
    name, sign, number = text.partition("=")
    if not sign or not number.isascii() or not number.isdigit() or len(number) > len("4294967295"):
        raise click.UsageError(f"{text!r} is not a name, =, and a whole number")
    return name, int(number)


@click.command()
@click.argument("eui")
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE …")
@database_option
@key_file_option
@json_option
def configure(eui: str, settings: tuple[str, ...], database: str, key_file: Path, as_json: bool) -> None:
    """Change settings of a device, as send_every_s=300: all of these or none."""
    number = present_eui(eui)
    values = dict(_setting(text) for text in settings)
    if len(values) != len(settings):
        raise click.UsageError("a setting is named twice")
    entered = enter(database, key_file, "device.configure")
    _told(number, _instructions(entered).configure(number, values), as_json)


@click.command()
@click.argument("eui")
@click.argument("records", nargs=-1)
@click.option("--nothing", is_flag=True, help="The wearer agrees to nothing any more.")
@database_option
@key_file_option
@json_option
def consent(eui: str, records: tuple[str, ...], nothing: bool, database: str, key_file: Path, as_json: bool) -> None:
    """Say which records a device may sample from now on, by name or number; it samples no other."""
    if bool(records) == nothing:
        raise click.UsageError("name the records that may be sampled, or say --nothing")
    number = present_eui(eui)
    entered = enter(database, key_file, "device.consent")
    from host_tools.ingest import meanings
    from host_tools.ingest.instructions import record_id

    vocabulary = meanings.load()
    ids = [record_id(text, vocabulary) for text in records]
    _told(number, _instructions(entered).consent(number, ids), as_json)


@click.command()
@click.argument("eui")
@database_option
@key_file_option
@json_option
def report(eui: str, database: str, key_file: Path, as_json: bool) -> None:
    """Ask a device for a status."""
    number = present_eui(eui)
    entered = enter(database, key_file, "device.report")
    _told(number, _instructions(entered).report(number), as_json)


COMMANDS = (configure, consent, report)
