"""`sealband operator`: who may act, logins, sessions and tokens. What it does is in `provisioning.operators`."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from host_tools.cli import CommandFailed, guard, session_file
from host_tools.cli.connection import database_option, key_file_option, open_registry
from host_tools.cli.operator_secrets import (
    ask_code,
    first_admin,
    new_password,
    old_password,
    password_option,
    set_up_totp,
    totp_option,
)
from host_tools.cli.output import json_option, print_json, print_table, remark

if TYPE_CHECKING:
    from provisioning.operators.sessions import Acting

ROLES = ("factory", "release", "fleet", "care", "audit", "admin")
_role = click.Choice(ROLES)
_name = click.argument("name")


@click.group("operator")
def group() -> None:
    """Operators: who may do what, logins, tokens for scripts."""


@group.command()
@_name
@password_option()
@totp_option
@database_option
@key_file_option
@json_option
def init(
    name: str, password_file: Path | None, totp_file: Path | None, database: str, key_file: Path, as_json: bool
) -> None:
    """Make the first operator of a registry that has none: an admin."""
    vault = open_registry(database, key_file)
    factor = first_admin(vault, name, password_file, totp_file)
    _say_made(name, ["admin"], factor, as_json)


@group.command()
@_name
@click.option("--role", "roles", required=True, multiple=True, type=_role, help="May be repeated.")
@password_option()
@totp_option
@database_option
@key_file_option
@json_option
def add(
    name: str,
    roles: tuple[str, ...],
    password_file: Path | None,
    totp_file: Path | None,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Make an operator, who changes the password and sets up the second factor at the first login."""
    entered = guard.enter(database, key_file, "operator.manage")
    from provisioning.operators import service

    if totp_file is not None and totp_file.exists():
        raise CommandFailed(f"{totp_file} exists already", "name a new file")
    service.create(entered.vault, name, roles, new_password(password_file, name), entered.name)
    if totp_file is not None:
        set_up_totp(entered.vault, name, entered.name, totp_file)
    _say_made(name, list(roles), totp_file is not None, as_json)


@group.command()
@_name
@database_option
@key_file_option
@json_option
def disable(name: str, database: str, key_file: Path, as_json: bool) -> None:
    """Let an operator in no more. Sessions and tokens end at once."""
    entered = guard.enter(database, key_file, "operator.manage")
    from provisioning.operators import service

    service.disable(entered.vault, name, entered.name)
    _say(name, "is disabled; sessions and tokens have ended", as_json)


@group.command()
@_name
@database_option
@key_file_option
@json_option
def enable(name: str, database: str, key_file: Path, as_json: bool) -> None:
    """Let an operator in again who was disabled, or locked by failed logins."""
    entered = guard.enter(database, key_file, "operator.manage")
    from provisioning.operators import service

    service.enable(entered.vault, name, entered.name)
    _say(name, "may log in", as_json)


@group.command()
@_name
@click.option("--add", "added", multiple=True, type=_role, help="May be repeated.")
@click.option("--remove", "removed", multiple=True, type=_role, help="May be repeated.")
@database_option
@key_file_option
@json_option
def role(
    name: str, added: tuple[str, ...], removed: tuple[str, ...], database: str, key_file: Path, as_json: bool
) -> None:
    """Change somebody's roles; never one's own."""
    entered = guard.enter(database, key_file, "operator.manage")
    from provisioning.operators import service

    service.change_roles(entered.vault, name, added, removed, entered.name)
    (told,) = (one for one in service.overview(entered.vault) if one["name"] == name)
    if as_json:
        print_json(told)
    else:
        remark(f"{name} is {' and '.join(map(str, told['roles']))}.")  # type: ignore[call-overload]


@group.command()
@json_option
def roles(as_json: bool) -> None:
    """Show which role may do what."""
    from provisioning.operators.roles import ACTIONS

    if as_json:
        print_json({action: sorted(permitted) for action, permitted in ACTIONS.items()})
        return
    rows = [[action, *("x" if name in permitted else "" for name in ROLES)] for action, permitted in ACTIONS.items()]
    print_table(("action", *ROLES), rows)


@group.command("list")
@database_option
@key_file_option
@json_option
def list_(database: str, key_file: Path, as_json: bool) -> None:
    """List the operators."""
    entered = guard.enter(database, key_file, "operator.view")
    from provisioning.operators import service

    rows = service.overview(entered.vault)
    if as_json:
        print_json(rows)
        return
    columns = ("name", "roles", "state", "second_factor", "must_change_password", "last_login")
    shown = [{**row, "roles": ", ".join(map(str, row["roles"]))} for row in rows]  # type: ignore[call-overload]
    print_table(columns, [[row[column] for column in columns] for row in shown])


@group.command()
@click.argument("name", required=False)
@password_option("--password-file", "Its first line is the new password; mode 600, or a pipe.")
@password_option("--old-password-file", "Its first line is the present one; only for one's own.")
@database_option
@key_file_option
@json_option
def password(
    name: str | None,
    password_file: Path | None,
    old_password_file: Path | None,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Change one's own password, or give NAME one that must be changed at the next login."""
    if name is not None:
        entered = guard.enter(database, key_file, "operator.manage")
        from provisioning.operators import service

        service.reset_password(entered.vault, name, new_password(password_file, name), entered.name)
        _say(name, "has a new password, to be changed at the next login; sessions and tokens have ended", as_json)
        return
    entered = guard.enter(database, key_file, "own.password")
    _change_password(entered, database, old_password(old_password_file, "Present password"), password_file)
    _say(entered.name, "has a new password; other sessions and all tokens have ended", as_json)


@group.command()
@click.argument("name", required=False)
@click.option("--reset", is_flag=True, help="Take NAME's second factor away, who lost it.")
@click.option("--code", help="A code of the second factor so far, or a recovery code; else asked for.")
@totp_option
@database_option
@key_file_option
@json_option
def totp(
    name: str | None,
    reset: bool,
    code: str | None,
    totp_file: Path | None,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Set up one's own second factor, or --reset that of NAME."""
    if reset != (name is not None):
        raise click.UsageError("--reset goes with the NAME of somebody else")
    from provisioning.operators import service

    if name is not None:
        entered = guard.enter(database, key_file, "operator.manage")
        service.reset_totp(entered.vault, name, entered.name)
        _say(name, "has no second factor until they set one up; sessions and tokens have ended", as_json)
        return
    entered = guard.enter(database, key_file, "own.totp")
    if service.has_totp(entered.vault, entered.name) and code is None:
        code = ask_code("Code of the second factor so far, or a recovery code")
    _enrol(entered, database, totp_file, code or "")
    _say(entered.name, "has a second factor; other sessions and all tokens have ended", as_json)


@group.command()
@_name
@password_option()
@click.option("--code", help="Of the authenticator, or a recovery code: taken once. Else asked for.")
@database_option
@key_file_option
@json_option
def login(
    name: str, password_file: Path | None, code: str | None, database: str, key_file: Path, as_json: bool
) -> None:
    """Log in: for 15 minutes without a command, and 8 hours in all."""
    vault = open_registry(database, key_file)
    from provisioning.operators import service, sessions

    if not service.has_operators():
        raise CommandFailed("this registry has no operator yet", "run: sealband operator init NAME")
    text = old_password(password_file)
    # asked in any case: what is asked for must not tell who there is
    given = ask_code("Code of the authenticator, or a recovery code (none yet: Enter)") if code is None else code
    session = sessions.login(vault, name, text, given)
    kept = session_file.store(database, name, session)
    acting = sessions.resolve(vault, session)
    # what is still to be set up is done at once where somebody is there to do it
    if password_file is None and acting.must_change:
        remark("Somebody else chose this password. Choose your own:")
        _change_password(guard.Entered(vault, acting.actor, name), database, text, None)
        acting = sessions.resolve(vault, guard.presented(database))
    if password_file is None and not acting.is_set_up:
        _enrol(guard.Entered(vault, acting.actor, name), database, None, "")
        acting = sessions.resolve(vault, guard.presented(database))
    _say_who(acting, as_json, kept)


@group.command()
@database_option
@key_file_option
@json_option
def logout(database: str, key_file: Path, as_json: bool) -> None:
    """End the session."""
    vault = open_registry(database, key_file)
    from provisioning.operators import sessions
    from provisioning.operators.errors import SessionRefused

    text = session_file.load(database)
    ended = False
    if text is not None:
        try:
            sessions.logout(vault, text)
            ended = True
        except SessionRefused:
            ended = False
        finally:
            session_file.forget(database)
    if as_json:
        print_json({"ended": ended})
    else:
        remark("Logged out." if ended else "Nobody was logged in.")


@group.command()
@database_option
@key_file_option
@json_option
def whoami(database: str, key_file: Path, as_json: bool) -> None:
    """Say who is logged in, and what they may do."""
    vault = open_registry(database, key_file)
    from provisioning.operators import sessions

    _say_who(sessions.resolve(vault, guard.presented(database)), as_json)


@group.group("token")
def token() -> None:
    """Tokens of one's own for scripts: for named actions, for some days."""


@token.command("create")
@click.option("--action", "actions", required=True, multiple=True, help="What it is for; may be repeated.")
@click.option("--days", type=int, default=30, show_default=True, help="At most 90.")
@click.option("--label", default="", help="What it is for, in words.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new file, mode 600.")
@database_option
@key_file_option
@json_option
def token_create(
    actions: tuple[str, ...], days: int, label: str, out: Path, database: str, key_file: Path, as_json: bool
) -> None:
    """Make a token: --operator FILE then acts as you, for these actions only."""
    entered = guard.enter(database, key_file, "own.token")
    from provisioning.operators import sessions

    acting = sessions.resolve(entered.vault, guard.presented(database))
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            text = sessions.create_token(entered.vault, acting, actions, days, label)
            file.write(text + "\n")
    except BaseException:
        out.unlink()
        raise
    made = sessions.resolve(entered.vault, text)
    told = {"token": made.number.hex(), "scope": sorted(actions), "expires": _time(made.expires_at_ms)}
    if as_json:
        print_json({**told, "file": str(out)})
    else:
        remark(f"Token {told['token']} until {told['expires']} in {out}: keep it as a password.")


@token.command("list")
@database_option
@key_file_option
@json_option
def token_list(database: str, key_file: Path, as_json: bool) -> None:
    """List one's own tokens; for admins and auditors, everybody's."""
    entered = guard.enter(database, key_file, "own.token")
    from provisioning.operators import sessions

    rows = sessions.tokens(sessions.resolve(entered.vault, guard.presented(database)))
    if as_json:
        print_json(rows)
        return
    columns = ("token", "operator", "label", "scope", "expires")
    shown = [{**row, "scope": ", ".join(map(str, row["scope"]))} for row in rows]  # type: ignore[call-overload]
    print_table(columns, [[row[column] for column in columns] for row in shown])


@token.command("revoke")
@click.argument("number")
@database_option
@key_file_option
@json_option
def token_revoke(number: str, database: str, key_file: Path, as_json: bool) -> None:
    """End a token of one's own; for admins, anybody's."""
    entered = guard.enter(database, key_file, "own.token")
    from provisioning.operators import sessions

    acting = sessions.resolve(entered.vault, guard.presented(database))
    sessions.revoke_token(entered.vault, number.lower(), acting)
    _say(f"Token {number}", "has ended", as_json)


def _change_password(entered: guard.Entered, database: str, old: str, file: Path | None) -> None:
    from provisioning.operators import service, sessions

    acting = sessions.resolve(entered.vault, guard.presented(database))
    session = service.change_password(entered.vault, acting, old, new_password(file, entered.name))
    session_file.store(database, entered.name, session)


def _enrol(entered: guard.Entered, database: str, file: Path | None, current: str) -> None:
    """Set up the own second factor; the session that goes on has it."""
    done = set_up_totp(entered.vault, entered.name, entered.name, file, current)
    if done is None:
        raise CommandFailed("there is no terminal to show the secret on", "name a file: --totp-file")
    session_file.store(database, entered.name, done.session)


def _say(name: str, what: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "done": what})
    else:
        remark(f"{name} {what}.")


def _say_made(name: str, roles: list[str], factor: bool, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "roles": sorted(roles), "second_factor": factor})
        return
    remark(f"{name} is {' and '.join(sorted(roles))}. Log in with: sealband operator login {name}")


def _say_who(acting: "Acting", as_json: bool, kept: str | None = None) -> None:
    from provisioning.operators.roles import actions_of
    from provisioning.operators.sessions import why_not

    told = {
        "name": acting.name,
        "roles": sorted(acting.roles),
        "actions": sorted(action for action in actions_of(acting.roles) if why_not(acting, action) is None),
        "expires": _time(acting.expires_at_ms),
        "is_set_up": acting.is_set_up,
        "kept": kept,
    }
    if as_json:
        print_json(told)
        return
    remark(f"{acting.name} ({', '.join(sorted(acting.roles))}) until {told['expires']} at the latest.")
    if not acting.is_set_up:
        remark(
            f"Still to do: sealband operator {'password' if acting.must_change else 'totp'}; nothing else is permitted."
        )


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
