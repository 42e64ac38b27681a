"""Operators for tests: made and logged in without a password's price, or by the commands as people do it.

Import what has models only after `provisioning.registry.setup`.
"""

import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyotp

from provisioning.registry.vault import Vault

PASSWORD = "five words by chance here"
CHOSEN = "another five words by chance"
SESSION = "SEALBAND_SESSION"


def make_operator(vault: Vault, name: str, roles: Collection[str]) -> Any:
    """An operator who has no password and so cannot log in: for sessions and tokens."""
    from datetime import UTC, datetime

    from provisioning.operators import factors, grants
    from provisioning.operators.models import Operator

    operator = Operator(name=name, totp_wrapped=b"", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    operator.set_unusable_password()
    operator.save()
    operator.totp_wrapped = factors.seal(vault, operator, factors.NONE)
    operator.save()
    grants.give(vault, operator, roles, "", 0)
    return operator


def session_of(vault: Vault, name: str, roles: Collection[str], *, second_factor: bool = True) -> str:
    """The text of a session of this operator, who is made if need be."""
    from provisioning.operators import sessions
    from provisioning.operators.models import Operator

    operator = Operator.objects.filter(name=name).first() or make_operator(vault, name, roles)
    return sessions.open_session(vault, operator, second_factor=second_factor)


def log_in(vault: Vault, folder: Path, *roles: str, name: str | None = None) -> Path:
    """A session file of an operator with these roles, for `$SEALBAND_SESSION`.

    What the guard itself writes into the audit trail comes on top of what the command does.
    """
    name = name or "-".join(roles)
    path = folder / f"session-{name}.json"
    text = session_of(vault, name, roles)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f'{{"operator": "{name}", "session": "{text}"}}\n')
    return path


def log_in_at(database: Path | str, key_file: Path, folder: Path, *roles: str) -> Path:
    """The same for a registry that commands made: opened here, and this process is connected to it."""
    from host_tools.cli.connection import open_registry

    return log_in(open_registry(str(database), key_file), folder, *roles)


def code_of(totp_file: Path, now: float | None = None) -> str:
    """The code that an authenticator shows for a file of `--totp-file`; by pyotp, apart from our code."""
    return str(pyotp.parse_uri(totp_file.read_text().splitlines()[0]).at(now or time.time()))  # type: ignore[union-attr]


def recovery_codes_of(totp_file: Path) -> list[str]:
    """The recovery codes of such a file."""
    return totp_file.read_text().splitlines()[1:]


def private_file(path: Path, text: str) -> Path:
    """A file of mode 600."""
    path.touch(mode=0o600)
    path.write_text(text + "\n")
    return path


class Desk:
    """The commands, given by people who set themselves up as the README says; nothing is put into the database.

    Args:
        run: runs `sealband` with words and a session file, and returns what it printed as JSON.
        folder: where sessions, passwords and second factors lie.
    """

    def __init__(self, run: Callable[[tuple[str, ...], Path], Any], folder: Path) -> None:
        self._run = run
        self._folder = folder
        self._password = str(private_file(folder / "password", PASSWORD))
        self._chosen = str(private_file(folder / "chosen", CHOSEN))

    def session(self, name: str) -> Path:
        return self._folder / f"session-{name}.json"

    def found(self, name: str = "root") -> Any:
        """`registry init` with its first admin, who logs in."""
        totp = self._folder / f"{name}.totp"
        told = self._run(
            ("registry", "init", "--admin", name, "--password-file", self._password, "--totp-file", str(totp)),
            self.session(name),
        )
        self._log_in(name, self._password)
        return told

    def add(self, name: str, *roles: str, by: str = "root") -> None:
        """An operator, who logs in, chooses a password, and goes on."""
        words = [word for role in roles for word in ("--role", role)]
        totp = ("--totp-file", str(self._folder / f"{name}.totp")) if set(roles) != {"factory"} else ()
        self._run(("operator", "add", name, *words, "--password-file", self._password, *totp), self.session(by))
        self._log_in(name, self._password)
        self._run(
            ("operator", "password", "--old-password-file", self._password, "--password-file", self._chosen),
            self.session(name),
        )

    def _log_in(self, name: str, password: str) -> None:
        totp = self._folder / f"{name}.totp"
        code = ("--code", code_of(totp)) if totp.exists() else ("--code", "")
        self._run(("operator", "login", name, "--password-file", password, *code), self.session(name))
