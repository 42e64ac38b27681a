"""Restoring a backup: a new database, under a master key of the operator's choice; none that is there is touched.

Everything is checked before the database gets its name: the file's hash, that the key is the one of this registry, the
manifest's MAC and the audit trail. What fails leaves nothing behind. The registry is marked as restored, on which hangs
that no downlink nonce repeats (`restored.py`, `host_tools/ingest/dated.py`); the lost server must not run any more. All
operators' sessions and tokens end.
"""

import hmac
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.db import DatabaseError, connection, connections, transaction

from provisioning import registry
from provisioning.operators.models import Credential
from provisioning.registry import audit, keyring, masters, postgresql, restored, shares
from provisioning.registry.backup import BackupError, Manifest, extract, read
from provisioning.registry.backup import mac as backup_mac
from provisioning.registry.masters import Master
from provisioning.registry.vault import Vault
from provisioning.wholefile import sync_folder


@dataclass(frozen=True)
class Restored:
    """What was restored.

    Attributes:
        manifest: of the backup.
        trail: the audit trail as the restored registry has it now.
        master: short name of the master key that it is under.
    """

    manifest: Manifest
    trail: audit.Trail
    master: str


def restore(
    backup: Path,
    database: str,
    master: str,
    *,
    share_files: Sequence[Path] = (),
    old_master: str | None = None,
    extra_apps: Sequence[str] = (),
    anchor: str | None = None,
    actor: str = "system",
    clock: Callable[[], float] = time.time,
) -> Restored:
    """Make a new database of a backup, and connect to it.

    Args:
        backup: what `make` wrote.
        database: path or URL of a database that is not there yet (PostgreSQL: that is empty).
        master: URI of the master key that the new database is to be under; a file that is not there is made.
        share_files: recovery shares, enough of them; or
        old_master: URI of the master key that the backup is under.
        extra_apps: as for `registry.setup`.
        anchor: an anchor of the audit trail that was noted elsewhere; the backup must not be older.

    Raises:
        BackupError: the backup is damaged, of another registry, or older than the anchor; or a database is there.
        SharesRefused: the shares give no key.
        MasterKeyRefused, SignerError: one of the master keys can't be used.
        PostgresqlError: `pg_restore` is missing or failed.
        AuditBroken: the audit trail in the backup is not whole.
    """
    manifest, mac = read(backup)
    shared = shares.combine(shares.read(share_files)) if share_files else None
    old = masters.open_master(old_master) if old_master and shared is None else None
    into_postgresql = database.startswith(("postgresql://", "postgres://"))
    if (manifest.engine == "postgresql") != into_postgresql:
        raise BackupError(f"this is a backup of a {manifest.engine} database", "restore it into one of that kind")
    with ExitStack() as undo:
        place = _into_postgresql if into_postgresql else _into_sqlite
        finish = undo.enter_context(place(backup, manifest, database, extra_apps))
        key = keyring.data_key(old) if shared is None else shared
        vault = Vault(key)
        if keyring.fingerprint(vault) != manifest.key:
            raise BackupError(
                "that is not the key of this backup's registry", "give the shares, or the master key, that belong to it"
            )
        if not hmac.compare_digest(backup_mac(vault, manifest), mac):
            raise BackupError("the backup's manifest was changed", "keep it as evidence; take another backup")
        registry.migrate()
        audit.verify(vault, manifest.anchor)
        _check_anchor(vault, anchor)
        new = undo.enter_context(_master(master))
        with transaction.atomic():
            restored.mark(
                vault,
                actor=actor,
                clock=clock,
                backup_made_at=manifest.made_at,
                sha256=manifest.sha256,
                master=new.name,
            )
            keyring.wrap_anew(key, new, clock)
            # some may have been revoked since the backup
            Credential.objects.filter(ended=False).update(ended=True)
        trail = audit.verify(vault)
        finish()
    return Restored(manifest, trail, new.name)


@contextmanager
def _master(uri: str) -> Iterator[Master]:
    """The master key; a file that had to be made for it goes again if the restore fails."""
    path = masters.file_of(uri)
    made = path is not None and not path.exists()
    if made:
        masters.create_master(uri)
    try:
        yield masters.open_master(uri)
    except BaseException:
        if made and path is not None:
            path.unlink(missing_ok=True)
        raise


def _check_anchor(vault: Vault, anchor: str | None) -> None:
    if not anchor:
        return
    try:
        audit.verify(vault, anchor)
    except audit.AuditBroken as error:
        raise BackupError(
            f"the backup is not what the anchor says, or older: {error}",
            "take a newer backup; or leave out the anchor, and enter again what came after this backup",
        ) from None
    except ValueError:
        raise BackupError("that is no anchor of an audit trail", "give it as registry audit printed it") from None


@contextmanager
def _into_sqlite(
    backup: Path, manifest: Manifest, database: str, extra_apps: Sequence[str]
) -> Iterator[Callable[[], None]]:
    target = Path(database.removeprefix("sqlite:///"))
    if target.exists() or target.with_name(target.name + "-wal").exists():
        raise BackupError(f"{target} exists already", "name a new database; put the old one aside if it is lost")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".restore-") as folder:
        beside = Path(folder, "registry.db")
        with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            extract(backup, manifest, file)

        def finish() -> None:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connections.close_all()  # the last one takes the write-ahead log with it
            try:
                os.link(beside, target)
            except FileExistsError:
                raise BackupError(f"{target} exists already", "name a new database") from None
            try:
                sync_folder(target.parent)
            except BaseException:
                target.unlink()
                raise
            registry.setup(target, extra_apps)

        try:
            registry.setup(beside, extra_apps)
            yield finish
        except DatabaseError as error:
            connections.close_all()
            raise BackupError(f"the backup's database cannot be read: {error}", "take another backup") from None
        except BaseException:
            connections.close_all()
            raise


@contextmanager
def _into_postgresql(
    backup: Path, manifest: Manifest, database: str, extra_apps: Sequence[str]
) -> Iterator[Callable[[], None]]:
    registry.setup(database, extra_apps)
    if connection.introspection.table_names():
        raise BackupError("that database is not empty", "name an empty one: createdb")
    with tempfile.NamedTemporaryFile(prefix="sealband-restore-") as file:  # mode 600
        extract(backup, manifest, file)
        try:
            postgresql.load(Path(file.name))
            yield lambda: None
        except BaseException:
            postgresql.clear()  # it was empty before
            raise
