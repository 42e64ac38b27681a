"""Backups of the connected registry: their format, and making one. One file, whole or not there at all.

It is an uncompressed ZIP of `manifest.json`, `manifest.mac` and `database`: an SQLite file, or what `pg_dump` wrote.
Secrets are in it as they are in the database, wrapped; names, numbers and times are readable. The manifest says which
bytes the database has (SHA-256) and where the audit trail ended; its MAC, under a key that follows from the data key,
says that a server of this registry wrote it. `restore.py` makes a database of it again.
"""

import hashlib
import hmac
import json
import os
import sqlite3
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from django.db import connection, transaction

from provisioning.registry import audit, keyring, postgresql
from provisioning.registry.vault import Vault
from provisioning.wholefile import sync_folder

FORMAT = "sealband/1 backup"
MANIFEST, MAC, DATABASE = "manifest.json", "manifest.mac", "database"
MANIFEST_MAX = 65536
CHUNK = 1 << 20


class BackupError(Exception):
    """A backup cannot be made or restored; nothing was left behind."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself.

    Attributes:
        format: this format's name.
        engine: `sqlite` or `postgresql`.
        made_at: Unix seconds.
        size: bytes of the database.
        sha256: of them, hex.
        key: fingerprint of the data key.
        master: short name of the master key that wraps it; "" where the master key is the data key.
        anchor: of the audit trail, see `audit.verify`.
        devices, batches, tickets: how many.
    """

    format: str
    engine: str
    made_at: int
    size: int
    sha256: str
    key: str
    master: str
    anchor: str
    devices: int
    batches: int
    tickets: int

    def to_bytes(self) -> bytes:
        """As it stands in the file."""
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Parse strictly; raises BackupError."""
        try:
            fields = json.loads(data)
            kinds: dict[str, type] = cls.__annotations__
            if fields.keys() != kinds.keys() or any(type(fields[name]) is not kind for name, kind in kinds.items()):
                raise ValueError
            manifest = cls(**fields)
        except (ValueError, AttributeError, TypeError):
            raise BackupError("the backup's manifest is damaged", "take another backup") from None
        if manifest.format != FORMAT or manifest.engine not in ("sqlite", "postgresql"):
            raise BackupError("this is a backup of another version", f"this one reads {FORMAT!r}")
        return manifest


def make(out: Path, vault: Vault, *, actor: str = "system", clock: Callable[[], float] = time.time) -> Manifest:
    """Write a backup of the connected registry, which goes on running meanwhile.

    Args:
        out: a new file; it gets mode 600.

    Raises:
        BackupError: the file is there already.
        PostgresqlError: `pg_dump` is missing or failed.
        AuditBroken: the audit trail is not whole: such a registry is evidence, and nothing to come back to.
    """
    if out.exists():
        raise _there(out)
    audit.verify(vault)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".backup-") as name, ExitStack() as undo:
        folder = Path(name)
        facts = _dump(folder / DATABASE)
        sha256, size = _digest(folder / DATABASE)
        manifest = Manifest(
            format=FORMAT,
            engine=connection.vendor,
            made_at=int(clock()),
            size=size,
            sha256=sha256,
            key=keyring.fingerprint(vault),
            **facts,
        )
        with os.fdopen(os.open(folder / "backup", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(MANIFEST, manifest.to_bytes())
                archive.writestr(MAC, mac(vault, manifest))
                archive.write(folder / DATABASE, DATABASE)
            file.flush()
            os.fsync(file.fileno())
        with transaction.atomic():
            audit.append(vault, "sys_backup", subject=out.name[:64], actor=actor, clock=clock, sha256=sha256, size=size)
            try:
                os.link(folder / "backup", out)  # unlike rename, fails where a file is
            except FileExistsError:
                raise _there(out) from None
            undo.callback(out.unlink)
        undo.pop_all()  # committed
    sync_folder(out.parent)
    return manifest


def mac(vault: Vault, manifest: Manifest) -> bytes:
    """What only who has the data key can say of a manifest: 32 bytes."""
    return hmac.digest(vault.subkey(b"sealband/1 backup"), manifest.to_bytes(), "sha256")


def read(backup: Path) -> tuple[Manifest, bytes]:
    """A backup's manifest and its MAC, which nobody has checked yet; raises BackupError."""
    with _opened(backup) as archive:
        try:
            if sorted(archive.namelist()) != sorted((MANIFEST, MAC, DATABASE)):
                raise BackupError(f"{backup} is not a backup", "name a file that registry backup wrote")
            if archive.getinfo(MANIFEST).file_size > MANIFEST_MAX or archive.getinfo(MAC).file_size != 32:
                raise BackupError("the backup's manifest is damaged", "take another backup")
            return Manifest.from_bytes(archive.read(MANIFEST)), archive.read(MAC)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError):
            raise BackupError("the backup's manifest is damaged", "take another backup") from None


@contextmanager
def _opened(backup: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(backup)
    except OSError as error:
        raise BackupError(f"the backup {backup} cannot be read: {error.strerror}", "check the path") from None
    except zipfile.BadZipFile:
        raise BackupError(f"{backup} is not a backup, or cut off", "name a file that registry backup wrote") from None
    with archive:
        yield archive


def extract(backup: Path, manifest: Manifest, file: IO[bytes]) -> None:
    """Copy the database out of a backup, if it is as its manifest says."""
    damaged = BackupError("the backup's database is damaged: its SHA-256 is not the manifest's", "take another backup")
    digest, left = hashlib.sha256(), manifest.size
    with _opened(backup) as archive:
        try:
            with archive.open(DATABASE) as source:
                while chunk := source.read(min(CHUNK, left + 1)):
                    left -= len(chunk)
                    if left < 0:
                        raise damaged
                    digest.update(chunk)
                    file.write(chunk)
        except (zipfile.BadZipFile, NotImplementedError, EOFError):
            raise damaged from None
    if left or digest.hexdigest() != manifest.sha256:
        raise damaged
    file.flush()
    os.fsync(file.fileno())


def _dump(path: Path) -> dict[str, Any]:
    """Write a snapshot of the connected database; what the manifest tells of that very snapshot."""
    connection.ensure_connection()
    if connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            snapshot = postgresql.snapshot()

            def ask(query: str) -> Any:
                cursor.execute(query)
                return cursor.fetchone()

            facts = _facts(ask)
            postgresql.dump(path, snapshot)
        return facts
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(path)) as copy:
        connection.connection.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file
        return _facts(lambda query: copy.execute(query).fetchone())


def _facts(ask: Callable[[str], Any]) -> dict[str, Any]:
    sequence, last = ask("SELECT sequence, mac FROM registry_auditevent ORDER BY sequence DESC LIMIT 1")
    key = ask("SELECT master FROM registry_datakey WHERE id = 1")
    return {
        "master": key[0] if key else "",
        "anchor": audit.Trail(sequence, bytes(last)).anchor,
        "devices": ask("SELECT COUNT(*) FROM registry_device")[0],
        "batches": ask("SELECT COUNT(*) FROM registry_batch")[0],
        "tickets": ask("SELECT COUNT(*) FROM registry_ticket")[0],
    }


def _digest(path: Path) -> tuple[str, int]:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


def _there(out: Path) -> BackupError:
    return BackupError(f"{out} exists already", "name a new file")
