"""PostgreSQL's own programs, for dumping and loading the connected database; the password goes by the environment."""

import os
import subprocess
from pathlib import Path

from django.db import connection

TIMEOUT_S = 6 * 3600


class PostgresqlError(Exception):
    """One of PostgreSQL's programs is missing or failed."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def snapshot() -> str:
    """Name of a snapshot that `dump` takes, good as long as the present transaction; call it first in that."""
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT pg_export_snapshot()")
        return str(cursor.fetchone()[0])


def dump(path: Path, snapshot_name: str) -> None:
    """Write the database into a file, in the custom format of `pg_dump`."""
    _run("pg_dump", "--format=custom", "--no-owner", "--no-acl", f"--snapshot={snapshot_name}", f"--file={path}")


def load(path: Path) -> None:
    """Fill the connected database, which is empty, whole or not at all."""
    _run("pg_restore", "--no-owner", "--no-acl", "--single-transaction", "--exit-on-error", str(path))


def clear() -> None:
    """Empty a database that was empty before `load`."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"DROP TABLE IF EXISTS {connection.ops.quote_name(table)} CASCADE")
        cursor.execute("DROP FUNCTION IF EXISTS registry_audit_refuse()")


def _run(program: str, *arguments: str) -> None:
    settings = connection.settings_dict
    named = {"dbname": "NAME", "user": "USER", "host": "HOST", "port": "PORT"}
    chosen = {name: settings[key] for name, key in named.items() if settings[key]} | settings["OPTIONS"]
    password = chosen.pop("password", "") or settings["PASSWORD"]
    # the program's arguments are seen by every process of the machine, its environment is not
    parameters = " ".join(f"{name}='{_quoted(value)}'" for name, value in chosen.items())
    environment = {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}
    try:
        done = subprocess.run(
            [program, f"--dbname={parameters}", "--no-password", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
    except FileNotFoundError:
        raise PostgresqlError(f"{program} is not there", "install PostgreSQL's client programs") from None
    except subprocess.TimeoutExpired:
        raise PostgresqlError(f"{program} took more than {TIMEOUT_S // 3600} hours", "look at the server") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise PostgresqlError(f"{program} failed: {said}", "look at the server, and that both have one version")


def _quoted(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace("'", "\\'")
