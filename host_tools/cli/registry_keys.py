"""`sealband registry key …`, `backup` and `restore`: the master key, recovery shares, backups. Holds no logic."""

from datetime import UTC, datetime
from pathlib import Path

import rich_click as click

from host_tools.cli.connection import APPS, database_option, keep_audit_log, key_file_option
from host_tools.cli.guard import enter
from host_tools.cli.output import json_option, print_json, print_table, remark
from provisioning import registry as connection
from provisioning.registry import masters


@click.group("key")
def key() -> None:
    """The master key, and the shares that replace a lost one."""


@key.command()
@database_option
@key_file_option
@json_option
def show(database: str, key_file: Path, as_json: bool) -> None:
    """Say which master key the registry is under."""
    entered = enter(database, key_file, "backup.make")
    from provisioning.registry import keyring

    result = {"master": keyring.needed(), "data_key": keyring.fingerprint(entered.vault)}
    if as_json:
        print_json(result)
    else:
        print_table(("master key", "data key"), [(result["master"] or "is the data key", result["data_key"])])


@key.command()
@click.argument("uri")
@json_option
def create(uri: str, as_json: bool) -> None:
    """Make a master key: file:PATH, or pkcs11:token=NAME;object=NAME."""
    masters.create_master(uri)
    name = masters.open_master(uri).name
    if as_json:
        print_json({"master": name})
    else:
        remark(f"Made the master key {name!r}.")


@key.command()
@click.option("--to", "new", required=True, metavar="URI", help="The new master key; key create makes one.")
@database_option
@key_file_option
@json_option
def rotate(new: str, database: str, key_file: Path, as_json: bool) -> None:
    """Bring the registry under another master key. What runs goes on; what starts needs the new one."""
    entered = enter(database, key_file, "key.rotate")
    from provisioning.registry import keyring

    before, after = keyring.rotate(key_file, masters.open_master(new), actor=entered.actor)
    if as_json:
        print_json({"old": before, "new": after})
    else:
        remark(f"The registry is under {after!r} now. {before!r} opens only backups from before.")


@key.command()
@click.option("--shares", "count", default=5, show_default=True, help="How many are made.")
@click.option("--threshold", default=3, show_default=True, help="How many of them give the key back.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for one file a share.")
@database_option
@key_file_option
@json_option
def split(count: int, threshold: int, out: Path, database: str, key_file: Path, as_json: bool) -> None:
    """Split what opens the registry into shares for several people."""
    entered = enter(database, key_file, "key.rotate")
    from provisioning.registry import keyring, shares

    files = shares.issue(out, keyring.data_key(key_file), threshold, count, actor=entered.actor)
    if as_json:
        print_json({"files": [str(file) for file in files], "threshold": threshold})
    else:
        remark(f"{len(files)} shares in {out}; any {threshold} open the registry and its backups.")
        remark("Give each to another person, check that it can be read, then delete the files here.")


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new file.")
@database_option
@key_file_option
@json_option
def backup(out: Path, database: str, key_file: Path, as_json: bool) -> None:
    """Write a backup into one file, while everything goes on."""
    entered = enter(database, key_file, "backup.make")
    from provisioning.registry import backup as backups

    manifest = backups.make(out, entered.vault, actor=entered.actor)
    if as_json:
        print_json({"file": str(out), **vars(manifest)})
    else:
        remark(f"{manifest.devices} devices, {manifest.size} bytes in {out} (mode 600). Its audit anchor:")
        print(manifest.anchor)


@click.command()
@click.argument("file", metavar="BACKUP", type=click.Path(path_type=Path))
@click.option("--share", "share_files", multiple=True, type=click.Path(path_type=Path), help="One of the share files.")
@click.option("--database", required=True, help="The database to make; it must not be there (PostgreSQL: be empty).")
@click.option(
    "--master", required=True, metavar="URI", help="Master key of the new database; a file that is not there is made."
)
@click.option("--old-master", metavar="URI", help="In place of shares: the master key that the backup is under.")
@click.option("--anchor", help="Audit anchor noted elsewhere: the backup must not be older.")
@json_option
def restore(
    file: Path,
    share_files: tuple[Path, ...],
    database: str,
    master: str,
    old_master: str | None,
    anchor: str | None,
    as_json: bool,
) -> None:
    """Make a database of a backup. The lost server must not run any more.

    Whoever has the shares or the master key may do it: the operators are known only to what is to be restored.
    """
    from host_tools.cli.registry import actor

    if bool(share_files) == bool(old_master):
        raise click.UsageError("give the shares (--share, several times) or --old-master")
    connection.setup(database, extra_apps=APPS)
    keep_audit_log()
    from provisioning.registry import restore as restores

    done = restores.restore(
        file,
        database,
        master,
        share_files=share_files,
        old_master=old_master,
        anchor=anchor,
        extra_apps=APPS,
        actor=actor(),
    )
    made = datetime.fromtimestamp(done.manifest.made_at, UTC)
    if as_json:
        print_json(
            {
                "devices": done.manifest.devices,
                "made_at": done.manifest.made_at,
                "master": done.master,
                "anchor": done.trail.anchor,
            }
        )
        return
    remark(f"{done.manifest.devices} devices as of {made:%Y-%m-%d %H:%M} UTC are in {database}, under {done.master!r}.")
    remark("Import all journals from after that time again. Devices are answered again from half an hour from now on.")
    remark("The audit trail's anchor is now:")
    print(done.trail.anchor)
