"""A PostgreSQL server of its own in a temporary folder, on a Unix socket: for tests; needs `initdb` and `postgres`."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path


def has_postgresql() -> bool:
    """Whether the programs are there, and a user to run them as (they refuse to run as root)."""
    return bool(shutil.which("initdb") and shutil.which("postgres")) and (os.geteuid() != 0 or _user() is not None)


def _user() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


class TemporaryPostgresql:
    """Start with `with`; `url` is a `SEALBAND_DATABASE`."""

    def __enter__(self) -> "TemporaryPostgresql":
        # short, since a socket's path may have 107 bytes only
        self._folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        owner = _user() if os.geteuid() == 0 else None
        if owner:
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        else:
            self._as = {}
        data = self._folder / "data"
        self._run("initdb", "-D", str(data), "-U", "seal", "-A", "trust", "-E", "UTF8", "--no-sync")
        self._server = subprocess.Popen(
            ["postgres", "-D", str(data), "-k", str(self._folder), "-c", "listen_addresses=", "-c", "fsync=off"],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as,
        )
        self.url = f"postgresql://seal@/postgres?host={self._folder}"
        limit = time.monotonic() + 30
        while not (self._folder / ".s.PGSQL.5432").exists():
            if self._server.poll() is not None or time.monotonic() > limit:
                self.__exit__()
                raise RuntimeError("postgres did not start")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.send_signal(signal.SIGINT)  # "fast" shutdown
        try:
            self._server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder, **self._as)
