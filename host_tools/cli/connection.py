"""How commands find the registry: the options that name its database and master key, and the way in.

Who may do what behind it is decided in `host_tools.cli.guard`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from host_tools.cli import CommandFailed
from provisioning import registry as connection
from provisioning.registry import masters
from provisioning.registry import vault as vaults

_Command = TypeVar("_Command", bound=Callable[..., Any])
# the store of frames lies in the same database
AUDIT_LOG = "SEALBAND_AUDIT_LOG"
APPS = ("host_tools.ingest", "host_tools.rollout")
DEFAULT_DATABASE = "sealband.db"
DEFAULT_KEY_FILE = "sealband.key"
OPERATOR = "sealband.operator"  # in click's context: what --operator named


def _note_operator(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta[OPERATOR] = value


def operator_option(command: _Command) -> _Command:
    """Adds `--operator`, which `host_tools.cli.guard` reads; the command itself does not get it."""
    return click.option(
        "--operator",
        metavar="TOKENFILE",
        callback=_note_operator,
        expose_value=False,
        help="For scripts: the file of an operator's token, mode 600, in place of a login; '-': standard input.",
    )(command)


def database_option(command: _Command) -> _Command:
    """Adds `--database`, a path or URL, and `--operator`."""
    return click.option(
        "--database",
        envvar="SEALBAND_DATABASE",
        default=DEFAULT_DATABASE,
        show_default=True,
        help="File path, or postgresql://user:password@host/name.",
    )(operator_option(command))


def optional_database_option(command: _Command) -> _Command:
    """Adds `--database` to what can be done without a registry, and `--operator`."""
    return click.option(
        "--database",
        envvar="SEALBAND_DATABASE",
        help=f"The registry, where there is one: it says who may, and notes it. Default: {DEFAULT_DATABASE}, if there.",
    )(operator_option(command))


def key_file_option(command: _Command) -> _Command:
    """Adds `--key-file`, the master key's: a path, or a URI."""
    return click.option(
        "--key-file",
        envvar="SEALBAND_KEY_FILE",
        type=click.Path(path_type=Path),
        default=DEFAULT_KEY_FILE,
        show_default=True,
        help=f"Master key: a file of mode 600, or file:, env: or pkcs11: URI; ${vaults.ENVIRONMENT} replaces a file.",
    )(command)


def keep_audit_log() -> None:
    """Copy the audit trail into the file that `$SEALBAND_AUDIT_LOG` names."""
    from provisioning.registry import audit_log

    path = os.environ.get(AUDIT_LOG)
    audit_log.keep(Path(path) if path else None)


def open_registry(database: str, key_file: Path) -> vaults.Vault:
    """Connect to a registry that exists and open its vault."""
    if "://" not in database and not Path(database).is_file():
        raise CommandFailed(f"there is no registry at {database}", "run: sealband registry init")
    master = masters.open_master(key_file)
    connection.setup(database, extra_apps=APPS)
    from provisioning.registry import keyring, services

    services.require_registry()
    keep_audit_log()
    return keyring.open_vault(master)
