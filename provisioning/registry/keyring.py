"""The data key of the connected registry: made, opened by its master key, wrapped anew under another. One row.

Every wrapped value of the database, and the audit trail's MAC, hang on the data key; the master key wraps that key
only. So a change of the master key rewrites one row. Whoever runs meanwhile holds the data key in memory and goes on.

What a rotation of the master key is good for: from then on the old master key (a file that was copied, a token that
was lost) opens this database no more. What it can't do: a copy of the database from before opens with the old master
key as it always did, and the data key itself stays the same. In a registry that was made before there were data keys
the master key is the data key, and stays it: rotating gives that key a wrapping, but whoever has the old file has the
data key.
"""

import hmac
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from django.db import connection, transaction

from provisioning import registry
from provisioning.registry import audit
from provisioning.registry.masters import KeyMaster, Master, open_master
from provisioning.registry.models import AuditEvent, Batch, DataKey, Device
from provisioning.registry.vault import MASTER_KEY_LEN, MasterKeyRefused, Vault, VaultError

ROW = 1


class OtherMaster(MasterKeyRefused):
    """The data key is wrapped under another master key than the one that was given."""


def open_vault(master: Master | str | Path | None) -> Vault:
    """The vault of the connected registry.

    Args:
        master: the master key, or what names it (`masters.open_master`).

    Raises:
        MasterKeyRefused: it is not the one that is needed, or there is none.
        SignerError: its token is not there, or refuses.
    """
    return Vault(data_key(master))


def data_key(master: Master | str | Path | None) -> bytes:
    """The data key of the connected registry, 32 bytes; raises as `open_vault` does."""
    master = _opened(master)
    return _unwrapped(DataKey.objects.filter(id=ROW).first(), master)


def create_vault(master: Master | str | Path | None) -> Vault:
    """The vault of a registry that may be new: brings the tables up to date, and makes a data key where there is none.

    Raises:
        MasterKeyRefused: the registry is there already and its data key is wrapped under another master key.
    """
    master = _opened(master)
    registry.migrate()
    with transaction.atomic():
        row = DataKey.objects.select_for_update().filter(id=ROW).first()
        if row or AuditEvent.objects.exists() or Batch.objects.exists() or Device.objects.exists():
            return Vault(_unwrapped(row, master))
        key = os.urandom(MASTER_KEY_LEN)
        wrap_anew(key, master)
    return Vault(key)


def rotate(
    old: Master | str | Path, new: Master | str | Path, *, actor: str = "system", clock: Callable[[], float] = time.time
) -> tuple[str, str]:
    """Wrap the data key under another master key; (name of the old one, name of the new one).

    Raises:
        MasterKeyRefused: the old one is not the present master key, or both are the same.
    """
    old, new = _opened(old), _opened(new)
    if old.name == new.name:
        raise MasterKeyRefused(
            f"both are the same master key ({old.name})", "make another: sealband registry key create"
        )
    with transaction.atomic():
        key = _unwrapped(DataKey.objects.select_for_update().filter(id=ROW).first(), old)
        wrap_anew(key, new, clock)
        audit.append(
            Vault(key), "key_rotated", subject="master key", actor=actor, clock=clock, old=old.name, new=new.name
        )
    _leave_no_trace()
    return old.name, new.name


def needed() -> str:
    """Name of the master key that the data key is wrapped under; "" where the master key is the data key."""
    row = DataKey.objects.filter(id=ROW).first()
    return row.master if row else ""


def fingerprint(vault: Vault) -> str:
    """16 hex digits that tell data keys apart and say nothing of them."""
    return vault.subkey(b"sealband/1 data key name")[:8].hex()


def _opened(master: Master | str | Path | None) -> Master:
    return open_master(master) if master is None or isinstance(master, str | Path) else master


def _unwrapped(row: DataKey | None, master: Master) -> bytes:
    if row is None:
        if isinstance(master, KeyMaster):
            return master.key  # a registry from before there were data keys
        raise OtherMaster(
            "the registry's master key is one in a file or the environment still",
            "give that one; sealband registry key rotate brings it under this one",
        )
    if row.master != master.name:
        raise OtherMaster(
            f"the registry needs the master key {row.master!r}, but {master.name!r} was given",
            f"give {row.master!r}: it was rotated, or this one belongs to another registry",
        )
    try:
        key = master.unwrap(bytes(row.wrapped))
    except VaultError:
        raise OtherMaster(
            f"the master key {master.name!r} does not open the registry's data key",
            "restore the registry from a backup: sealband registry restore",
        ) from None
    if len(key) != MASTER_KEY_LEN:
        raise OtherMaster("the registry's data key has not its length", "restore it: sealband registry restore")
    return key


def wrap_anew(key: bytes, master: Master, clock: Callable[[], float] = time.time) -> None:
    """Wrap what is known to be the database's data key under this master key, in the caller's transaction."""
    wrapped = master.wrap(key)
    if not hmac.compare_digest(master.unwrap(wrapped), key):  # a token that does not give back what it was given
        raise MasterKeyRefused(f"{master.name!r} does not open what it wrapped", "use another key")
    DataKey.objects.update_or_create(
        id=ROW,
        defaults={
            "wrapped": wrapped,
            "master": master.name,
            "changed_at": datetime.fromtimestamp(clock(), UTC),
        },
    )


def _leave_no_trace() -> None:
    """Take the old wrapping out of SQLite's write-ahead log too; who reads at this moment leaves it for later."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
