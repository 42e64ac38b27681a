"""The one way of a command to the registry: who acts, may they do this, and the vault. Decides nothing itself.

Who acts: `--operator TOKENFILE` (`-`: standard input), else the file that `$SEALBAND_OPERATOR_TOKEN_FILE` names, else
the login that `sealband operator login` keeps. What they may: `provisioning.operators`.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import rich_click as click

from host_tools.cli import CommandFailed, connection, session_file
from provisioning.registry.vault import Vault
from provisioning.signers.secret import SECRET_MAX, read_secret

TOKEN_FILE = "SEALBAND_OPERATOR_TOKEN_FILE"  # noqa: S105  a variable's name
TOKEN_PREFIX = "sbt_"  # noqa: S105


@dataclass(frozen=True)
class Entered:
    """A command that may go on.

    Attributes:
        vault: the registry's.
        actor: who acts, for the audit trail.
        name: the operator's.
        hold: raises when the session ended, or they may not do this any more; for commands that go on and on.
    """

    vault: Vault
    actor: str
    name: str
    hold: Callable[[], None] = lambda: None


def enter(database: str, key_file: Path, action: str) -> Entered:
    """Connect to the registry and let in who may do this; that they did is in the audit trail from now on.

    Args:
        action: of the table in `provisioning.operators.roles`.

    Raises:
        CommandFailed: nobody is logged in.
        SessionRefused: the session or token does not hold.
        NotPermitted: the operator may not do this.
    """
    return admit(connection.open_registry(database, key_file), database, action)


def enter_if_at_hand(database: str | None, key_file: Path, action: str) -> Entered | None:
    """The same where there may be no registry, as where releases are signed offline: None if there is none.

    Raises:
        CommandFailed: a registry is named, and is not there.
    """
    if database is None:
        if not Path(connection.DEFAULT_DATABASE).is_file():
            return None
        database = connection.DEFAULT_DATABASE
    return enter(database, key_file, action)


def admit(vault: Vault, database: str, action: str) -> Entered:
    """The same for a registry that is open already."""
    from provisioning.operators import sessions

    text = presented(database)
    acting = sessions.admit(vault, text, action)
    return Entered(vault, acting.actor, acting.name, lambda: sessions.hold(vault, text, action))


def presented(database: str) -> str:
    """The session or token that this command is called with.

    Raises:
        CommandFailed: there is none.
        SignerError: others can read the file that holds it.
    """
    context = click.get_current_context(silent=True)
    named = (context.meta.get(connection.OPERATOR) if context else None) or os.environ.get(TOKEN_FILE)
    if named:
        text = sys.stdin.readline(SECRET_MAX).strip() if named == "-" else read_secret(Path(named), "token")
        if not text.startswith(TOKEN_PREFIX):
            raise CommandFailed(f"{named} holds no operator's token", "make one: sealband operator token create")
        return text
    session = session_file.load(database)
    if session is None:
        from provisioning.operators import service

        if not service.has_operators():
            raise CommandFailed("this registry has no operator yet", "run: sealband operator init NAME")
        raise CommandFailed("nobody is logged in", "run: sealband operator login NAME")
    return session
