"""`sealband registry`: create, issue, quotas, import, list; more in `registry_*`. What it does is in provisioning."""

import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from host_tools.cli import registry_access, registry_devices, registry_instructions, registry_keys
from host_tools.cli.connection import APPS, database_option, keep_audit_log, key_file_option
from host_tools.cli.guard import enter
from host_tools.cli.operator_secrets import make_first_admin, password_option, totp_option
from host_tools.cli.output import json_option, print_json, print_table, progress_bar, remark
from provisioning import registry as connection
from provisioning import signers
from provisioning.registry import masters

_Command = TypeVar("_Command", bound=Callable[..., Any])
STATES = ("enrolled", "active", "suspended", "retiring", "revoked", "retired")
DEFAULT_SIGNER = "file:sealband-batches.pem"


def signer_option(command: _Command) -> _Command:
    """Adds `--signing-key`, which signs batches."""
    return click.option(
        "--signing-key",
        envvar="SEALBAND_BATCH_KEY",
        default=DEFAULT_SIGNER,
        show_default=True,
        help="The key that signs ticket files, by URI.",
    )(command)


def actor() -> str:
    """Who gives the command, for the audit trail."""
    try:
        return f"cli:{getpass.getuser()}"[:64]
    except (KeyError, OSError):
        return f"cli:{os.getuid()}"


@click.group("registry")
def group() -> None:
    """The registry of tickets and devices."""


for _command in (
    registry_keys.key,
    registry_keys.backup,
    registry_keys.restore,
    *registry_devices.COMMANDS,
    *registry_instructions.COMMANDS,
    *registry_access.COMMANDS,
):
    group.add_command(_command)


@group.command()
@database_option
@key_file_option
@signer_option
@click.option("--admin", metavar="NAME", help="The first operator, an admin; else asked for.")
@password_option(text="The first line is the admin's password; mode 600, or a pipe. Else asked for.")
@totp_option
@json_option
def init(
    database: str,
    key_file: Path,
    signing_key: str,
    admin: str | None,
    password_file: Path | None,
    totp_file: Path | None,
    as_json: bool,
) -> None:
    """Create the registry: database, master key, batch-signing key and the first operator. Keeps what is there."""
    created = []
    path_of_key = masters.file_of(key_file)
    if path_of_key and not path_of_key.exists():
        masters.create_master(key_file)
        created.append(str(path_of_key))
    master = masters.open_master(key_file)
    scheme, _, path = signing_key.partition(":")
    if scheme == "file" and not Path(path).exists():
        signers.create_file_key(Path(path))
        created.append(path)
    signer = signers.open_signer(signing_key)
    if "://" not in database and not Path(database).exists():
        # what SQLite keeps beside it takes over the mode
        os.close(os.open(database, os.O_CREAT | os.O_WRONLY, 0o600))
    connection.setup(database, extra_apps=APPS)
    from provisioning.registry import keyring, services

    vault = keyring.create_vault(master)
    keep_audit_log()
    new = services.init_registry(vault, actor=actor())
    operator = make_first_admin(vault, admin, password_file, totp_file)
    result = {"new": new, "created": created, "batch_key": signer.public_key.hex(), "operator": operator}
    if as_json:
        print_json(result)
        return
    remark("The registry is ready." if new else "The registry was there already; nothing in it was changed.")
    for name in created:
        remark(f"Created {name} (mode 600): keep a copy in a safe place.")
    if operator:
        remark(f"{operator} is admin. Log in with: sealband operator login {operator}")
    remark("Stations check ticket files with --registry-key:")
    print(signer.public_key.hex())


@group.command()
@click.option("--model", required=True, help="Model of board, as in board.toml.")
@click.option("--count", required=True, type=click.IntRange(1, 10_000), help="How many boards.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The ticket file to write.")
@click.option("--service-key", metavar="URI|HEX", help="Its tokens open these boards' local port.")
@database_option
@key_file_option
@signer_option
@json_option
def issue(
    model: str,
    count: int,
    out: Path,
    service_key: str | None,
    database: str,
    key_file: Path,
    signing_key: str,
    as_json: bool,
) -> None:
    """Issue a batch of tickets into a file for a station."""
    entered = enter(database, key_file, "batch.issue")
    signer = signers.open_signer(signing_key)
    from provisioning.registry import services

    service = registry_access.public_key(service_key) if service_key else b""
    file = services.issue_batch(entered.vault, signer, model, count, out=out, service_key=service, actor=entered.actor)
    if as_json:
        print_json({"batch": file.batch, "model": model, "tickets": count, "file": str(out)})
    else:
        remark(f"Batch {file.batch}: {count} tickets for {model} in {out}.")


@group.command("import")
@click.argument("journal", type=click.Path(path_type=Path))
@database_option
@key_file_option
@json_option
def import_(journal: Path, database: str, key_file: Path, as_json: bool) -> int:
    """Take a station's journal: boards, certificates, first frames. Exit status 1 when an entry is refused."""
    entered = enter(database, key_file, "journal.import")
    from provisioning.registry import services

    with progress_bar("importing") as advance:
        result = services.import_journal(journal, entered.vault, actor=entered.actor, progress=advance)
    if as_json:
        print_json(
            {
                "admitted": result.admitted,
                "repeated": result.repeated,
                "refused": [vars(refusal) for refusal in result.refused],
                "torn": result.torn,
                "certified": result.certified,
                "proven": result.proven,
            }
        )
    else:
        remark(
            f"{len(result.admitted)} admitted, {result.repeated} admitted before, {len(result.refused)} refused."
            + ("" if result.admitted or result.refused else " Nothing was changed.")
        )
        if result.torn:
            remark(f"The last {result.torn} bytes of the journal are half-written and were not read.")
        if result.refused:
            rows = [(r.line, r.eui, r.ticket, r.reason, r.text) for r in result.refused]
            print_table(("line", "board", "ticket", "reason", "in words"), rows, title="Refused")
    return 1 if result.refused else 0


@group.command("revoke-batch")
@click.argument("batch")
@database_option
@key_file_option
@json_option
def revoke_batch(batch: str, database: str, key_file: Path, as_json: bool) -> None:
    """Revoke the unused tickets of a batch; their keys are destroyed."""
    entered = enter(database, key_file, "batch.revoke")
    from provisioning.registry import services

    revoked = services.revoke_batch(batch, entered.vault, actor=entered.actor)
    if as_json:
        print_json({"batch": batch, "revoked": revoked})
    else:
        remark(f"{revoked} tickets of batch {batch} revoked.")


@group.command()
@click.argument("model")
@click.argument("open_max", type=click.IntRange(0), required=False)
@click.option("--a-day", type=click.IntRange(0), help="So many may be issued in 24 hours.")
@click.option("--none", "no_quota", is_flag=True, help="Take the quota away.")
@database_option
@key_file_option
@json_option
def quota(
    model: str,
    open_max: int | None,
    a_day: int | None,
    no_quota: bool,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Say how many tickets for a model may be open (issued and unused) at once."""
    if no_quota == (open_max is not None):
        raise click.UsageError("give a number, or --none")
    entered = enter(database, key_file, "batch.quota")
    from provisioning.registry import services

    services.set_quota(model, open_max, entered.vault, a_day_max=a_day, actor=entered.actor)
    rows = services.quotas()
    if as_json:
        print_json(rows)
    else:
        columns = ("model", "open_max", "open", "a_day_max", "last_day")
        print_table(columns, [[row[column] for column in columns] for row in rows])


@group.command()
@database_option
@key_file_option
@json_option
def batches(database: str, key_file: Path, as_json: bool) -> None:
    """List the batches, and what became of their tickets."""
    enter(database, key_file, "device.list")
    from provisioning.registry import services

    rows = services.batches()
    if as_json:
        print_json(rows)
    else:
        columns = ("batch", "model", "created_at", "tickets", "issued", "used", "revoked", "issuers", "service")
        print_table(columns, [[row[column] for column in columns] for row in rows])


@group.command()
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these; may be repeated.")
@click.option("--model", "models", multiple=True, help="Only these; may be repeated.")
@click.option("--batch", "batches", multiple=True, help="Only these; may be repeated.")
@database_option
@key_file_option
@json_option
def devices(
    states: tuple[str, ...],
    models: tuple[str, ...],
    batches: tuple[str, ...],
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """List devices. Of a board that was enrolled again, the identities of before have `.1`, `.2` … behind the EUI."""
    enter(database, key_file, "device.list")
    from provisioning.registry import services

    rows = services.devices(states, models, batches)
    if as_json:
        print_json(rows)
    else:
        columns = ("eui", "model", "state", "batch", "enrolled_at", "epoch", "key")
        print_table(columns, [[row[column] for column in columns] for row in rows])
