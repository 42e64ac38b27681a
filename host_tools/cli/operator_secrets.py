"""How an operator's passwords and second factor come in and go out: a terminal, or files of mode 600. Never arguments.

What they must be is decided in `provisioning.operators`.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import rich_click as click
import segno

from host_tools.cli import CommandFailed
from host_tools.cli.output import remark
from provisioning.registry.vault import Vault
from provisioning.signers.secret import ask_terminal, read_secret

if TYPE_CHECKING:
    from provisioning.operators.service import Enrolment

_Command = TypeVar("_Command", bound=Callable[..., Any])
TRIES = 3


def password_option(
    name: str = "--password-file", text: str = "Its first line is the password; mode 600, or a pipe."
) -> Callable[[_Command], _Command]:
    """Adds an option that names a password's file."""
    return click.option(name, type=click.Path(path_type=Path), metavar="FILE", help=text)


def totp_option(command: _Command) -> _Command:
    """Adds `--totp-file`, for scripts that set up a second factor."""
    return click.option(
        "--totp-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="For scripts: set up the second factor, and write its URI and recovery codes to this new file, mode 600.",
    )(command)


def old_password(file: Path | None, prompt: str = "Password") -> str:
    """A password that is there: from the file, else asked for."""
    text = read_secret(file, "password") if file else ask_terminal(prompt)
    if text is None:
        raise CommandFailed("there is no terminal to ask for the password on", "name a file of mode 600 that has it")
    return text


def new_password(file: Path | None, name: str) -> str:
    """A new password: from the file, else asked for twice."""
    text = old_password(file, f"New password of {name}")
    if file is None and ask_terminal("The same again") != text:
        raise CommandFailed("the two passwords differ", "try again")
    return text


def ask_code(prompt: str) -> str:
    """A code that a person types, seen; empty if there is nobody to ask."""
    if not sys.stdin.isatty():
        return ""
    return str(click.prompt(prompt, default="", show_default=False, err=True))


def set_up_totp(vault: Vault, name: str, by: str, file: Path | None, current: str = "") -> "Enrolment | None":
    """Give an operator a second factor: by a QR code on the terminal, or into a file. None: neither is there."""
    from provisioning.operators import factors, service
    from provisioning.operators.errors import OperatorError

    secret = factors.new_secret()
    if file is not None:
        # the file first: a secret that nobody has would lock its owner out
        with _new_private(file) as out:
            enrolment = service.set_totp(vault, name, secret, None, by, current)
            out.write("\n".join((enrolment.uri, *enrolment.recovery_codes)) + "\n")
        return enrolment
    if not sys.stdin.isatty():
        return None
    uri = factors.uri(secret, name)
    remark(f"Scan this with an authenticator, for {name}:")
    segno.make(uri, error="l").terminal(out=sys.stderr, compact=True)
    remark(uri)
    for left in reversed(range(TRIES)):
        try:
            enrolment = service.set_totp(vault, name, secret, ask_code("The code that it shows"), by, current)
        except OperatorError as error:
            if not left:
                raise
            remark(f"{error}; {error.remedy}")
            continue
        remark("Recovery codes, each for one login without the authenticator. They are not shown again:")
        for code in enrolment.recovery_codes:
            remark(f"  {code}")
        return enrolment
    return None


def make_first_admin(vault: Vault, name: str | None, password_file: Path | None, totp_file: Path | None) -> str | None:
    """The first operator of a registry that has none: named, or asked for; None if it has, or nobody can be asked."""
    from provisioning.operators import service

    if service.has_operators():
        return None
    if name is None and sys.stdin.isatty():
        name = str(click.prompt("Name of the first operator, an admin", err=True))
    if name is None:
        remark("There is no operator yet, so nobody may do anything. To do: sealband operator init NAME")
        return None
    first_admin(vault, name, password_file, totp_file)
    return name


def first_admin(vault: Vault, name: str, password_file: Path | None, totp_file: Path | None) -> bool:
    """Make the first operator; whether the second factor is set up, too."""
    from provisioning.operators import service

    service.create_first(vault, name, new_password(password_file, name))
    return set_up_totp(vault, name, "", totp_file) is not None


def _new_private(path: Path) -> TextIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "w")
