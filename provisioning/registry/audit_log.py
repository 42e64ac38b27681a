"""The copy of the audit trail in a file: JSON lines, written when the database has committed, for log collectors.

The file is the trail up to some event: what a crash left out is written by the next event. Several programs may share
it. Kept where the database's owner cannot write, it shows an older database put in place of the present one.
"""

import fcntl
import logging
import os
import stat
from pathlib import Path
from typing import BinaryIO

from django.db import connection, transaction

from provisioning.registry.audit_lines import LINE_MAX, LineError, from_line, to_line
from provisioning.registry.models import AuditEvent

_path: Path | None = None
_log = logging.getLogger(__name__)


class AuditLogError(Exception):
    """The file cannot be gone on with: it is of another trail, or not a copy at all."""


def keep(path: Path | None) -> None:
    """From now on, copy the trail of this process's registry into this file; None: no more."""
    global _path
    _path = path


def note() -> None:
    """An event was added in the present transaction: copy it when that is committed."""
    if _path is not None and not any(entry[1] is _copy for entry in connection.run_on_commit):
        transaction.on_commit(_copy)


def _copy() -> None:
    if _path is None:
        return
    try:
        catch_up(_path)
    except (OSError, AuditLogError) as error:
        # what was done is done, and is in the database; the next event tries again, and `audit verify --log` finds it
        _log.error("the audit log %s was not written: %s", _path, error)


def catch_up(path: Path) -> int:
    """Write into the file what it lacks of the trail; how many events that were.

    Raises:
        AuditLogError: its last line is not an event of this trail.
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise AuditLogError("it is not a regular file")
        fcntl.flock(file, fcntl.LOCK_EX)
        last = _last(file)
        if last is not None:
            known = AuditEvent.objects.filter(sequence=last.sequence).first()
            if known is None or to_line(known) != to_line(last):
                raise AuditLogError("its last line is not of this trail; an older database was put back, or another")
        missing = AuditEvent.objects.filter(sequence__gt=last.sequence if last else 0).order_by("sequence")
        count = 0
        for row in missing.iterator(chunk_size=1000):
            file.write(to_line(row).encode())
            count += 1
        if count:
            os.fsync(file.fileno())
    return count


def _last(file: BinaryIO) -> AuditEvent | None:
    """The event of the last whole line; half a line, left by a crash, is cut off."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - 2 * LINE_MAX))
    tail = file.read(2 * LINE_MAX)
    whole = tail.rfind(b"\n") + 1
    if whole < len(tail):
        os.ftruncate(file.fileno(), length - len(tail) + whole)
    lines = tail[:whole].splitlines(keepends=True)
    if not lines:
        if length > LINE_MAX:
            raise AuditLogError("it holds no lines")
        return None
    try:
        return from_line(lines[-1].decode())
    except (LineError, UnicodeDecodeError):
        raise AuditLogError("its last line is not an event") from None
