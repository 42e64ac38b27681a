"""`sealband readings define`: names, units and scales of an application's own records and events."""

from pathlib import Path

import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.connection import database_option, key_file_option
from host_tools.cli.ingest import enter_store
from host_tools.cli.output import json_option, print_json, print_table, remark

COLUMNS = ("kind", "id", "name", "unit", "scale")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@database_option
@key_file_option
@json_option
def define(file: Path, database: str, key_file: Path, as_json: bool) -> None:
    """Say what the records and events of an application are: its records.py, which is read and not run."""
    from host_tools.ingest import definitions

    try:
        with file.open("rb") as opened:
            source = opened.read(definitions.SOURCE_MAX + 1).decode()
    except UnicodeDecodeError:
        raise CommandFailed(f"{file} is no text in UTF-8", "name the application's records.py") from None
    definition = definitions.read(source, file.name)
    entered = enter_store(database, key_file, "meaning.define")
    from host_tools.ingest import meanings

    done = meanings.define(entered.vault, definition, actor=entered.actor)
    rows = [("record", one.number, one.name, one.unit, one.scale) for one in definition.records]
    rows += [("event", two.number, two.name, "", 0) for two in definition.events]
    if as_json:
        told = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        print_json({"added": len(done.added), "known": done.known, "defined": told})
        return
    print_table(COLUMNS, rows)
    remark(f"{len(done.added)} added, {done.known} known.")
