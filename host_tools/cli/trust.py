"""`sealband trust`: keys, and the list of who may sign. What it does is in host_tools.release.trust and provisioning.

Each person keeps a key and hands out its public part. One makes the list, the root keys' owners sign it in turn, and
the file goes from hand to hand:

    sealband trust key alice.pem                      each, once; prints the public part
    sealband trust init --root … --root-threshold 2 --release … --threshold 2 --out trust-1.cbor
    sealband trust add trust-1.cbor --key URI         each root key's owner
    sealband trust rotate trust-1.cbor --remove-release KID --add-release … --out trust-2.cbor
    sealband trust add trust-2.cbor --previous trust-1.cbor --key URI     the old list's owners and the new one's
    sealband trust show trust-2.cbor --previous trust-1.cbor
"""

import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.output import json_option, print_json, print_table, remark
from host_tools.release import files, trust
from host_tools.release.trustview import View, view
from provisioning import signers
from provisioning.signers import secret
from sealwire.messages import EPOCH_2025
from sealwire.update import TRUST_MAX

_file = click.argument("file", type=click.Path(path_type=Path))
_key = click.option("--key", "key", required=True, metavar="URI", help="file:PATH or pkcs11:… (see the README).")
_out = click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
_previous = click.option(
    "--previous", type=click.Path(path_type=Path), help="The list before it, which is known to be the right one."
)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_expires = click.option(
    "--expires", metavar="DATE", help="From then on nothing is accepted by it: YYYY-MM-DD, or never."
)


def now_s() -> int:
    """Seconds since 2025."""
    return int(time.time()) - EPOCH_2025


@click.group("trust")
def group() -> None:
    """Keys, and the list of who may sign releases."""


@group.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--no-passphrase", is_flag=True, help="Leave the key plain: for trials only.")
@json_option
def key(path: Path, no_passphrase: bool, as_json: bool) -> None:
    """Make a key pair: PATH (PEM, encrypted, mode 600). Prints the public part."""
    passphrase = None if no_passphrase else _new_passphrase()
    try:
        made = signers.create_file_key(path, passphrase)
    except FileExistsError:
        raise CommandFailed(f"{path} is there already and was not changed", "choose another name") from None
    _print_public(made.public_key, as_json)


@group.command()
@_key
@click.option("--out", type=click.Path(path_type=Path), help="A file for it, to hand to whoever keeps the list.")
@json_option
def public(key: str, out: Path | None, as_json: bool) -> None:
    """Print the public part of a key."""
    point = signers.open_signer(key).public_key
    if out:
        files.replace(out, signers.public_text(point).encode() + b"\n")
    _print_public(point, as_json)


@group.command()
@click.option("--root", "roots", required=True, multiple=True, metavar="KEY", help="A root key: p256:…, file or URI.")
@click.option("--root-threshold", required=True, type=int, help="How many root keys sign a list.")
@click.option("--release", "releases", required=True, multiple=True, metavar="KEY", help="A release key, likewise.")
@click.option("--threshold", required=True, type=int, help="How many release keys sign a release.")
@_expires
@_out
@json_option
def init(
    roots: Sequence[str],
    root_threshold: int,
    releases: Sequence[str],
    threshold: int,
    expires: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Make the draft of the first list, which its root keys then sign with `trust add`."""
    made = trust.TrustList(
        1, threshold, _keys(releases), root_threshold, _keys(roots), _expiry(expires) if expires else None
    )
    data = trust.draft(made)
    files.create(out, data)
    _show(view(trust.decode(data), None, now_s()), as_json)


@group.command()
@_file
@_key
@_previous
@_yes
@json_option
def add(file: Path, key: str, previous: Path | None, yes: bool, as_json: bool) -> None:
    """Sign a list with a root key, of its own or of the list before it. Shows it first."""
    data = files.read(file, TRUST_MAX)
    signed = trust.decode(data)
    if signed.trust.version > 1 and previous is None:
        raise CommandFailed(
            f"what trust list {signed.trust.version} changes can't be shown without the list before it",
            "name it with --previous",
        )
    before = _whole(previous) if previous else None
    if before:
        trust.check_follows(before, signed.trust)
    if not as_json:
        _show(view(signed, before, now_s()), as_json)
    confirm("Sign this trust list?", yes, as_json)
    signer = signers.open_signer(key)
    after = trust.sign(data, signer, before)
    files.replace(file, after, expected=data)
    seen = view(trust.decode(after), before, now_s())
    if as_json:
        _show(seen, as_json)
    else:
        remark(f"Signed by {signers.kid(signer.public_key).hex()}. {seen.verdict}")


@group.command()
@_file
@_out
@click.option("--add-release", multiple=True, metavar="KEY", help="A release key: p256:…, file or URI.")
@click.option("--remove-release", multiple=True, metavar="KID", help="Its 16 hex digits, as shown.")
@click.option("--add-root", multiple=True, metavar="KEY", help="A root key.")
@click.option("--remove-root", multiple=True, metavar="KID", help="Its 16 hex digits.")
@click.option("--threshold", type=int, help="How many release keys sign a release; else as before.")
@click.option("--root-threshold", type=int, help="How many root keys sign a list; else as before.")
@_expires
@json_option
def rotate(
    file: Path,
    out: Path,
    add_release: Sequence[str],
    remove_release: Sequence[str],
    add_root: Sequence[str],
    remove_root: Sequence[str],
    threshold: int | None,
    root_threshold: int | None,
    expires: str | None,
    as_json: bool,
) -> None:
    """Make the draft of the next list, which root keys of FILE and of the new list then sign with `trust add`."""
    old = _whole(file)
    made = trust.successor(
        old,
        release_keys=_without(old.release_keys, remove_release, "release") + _keys(add_release),
        root_keys=_without(old.root_keys, remove_root, "root") + _keys(add_root),
        threshold=old.threshold if threshold is None else threshold,
        root_threshold=old.root_threshold if root_threshold is None else root_threshold,
        expires=old.expires if expires is None else _expiry(expires),
    )
    data = trust.draft(made)
    files.create(out, data)
    _show(view(trust.decode(data), old, now_s()), as_json)


@group.command()
@_file
@_previous
@json_option
def show(file: Path, previous: Path | None, as_json: bool) -> int:
    """Explain a list: who, how many, whose signatures are there. Exit status 1 if it does not hold (yet)."""
    seen = view(trust.decode(files.read(file, TRUST_MAX)), _whole(previous) if previous else None, now_s())
    _show(seen, as_json)
    return 0 if seen.holds else 1


def confirm(question: str, yes: bool, as_json: bool) -> None:
    """Ask a person; refuse where nobody can be asked and nobody said yes beforehand.

    Raises:
        CommandFailed: the answer is not yes.
    """
    if yes:
        return
    if as_json or sys.stdin is None or not sys.stdin.isatty():
        raise CommandFailed("nobody can be asked here, so nothing was signed", "look at it, then say --yes")
    if not click.confirm(question, default=False, err=True):
        raise CommandFailed("not confirmed, so nothing was signed", "nothing was changed")


def _show(seen: View, as_json: bool) -> None:
    new, before = seen.trust, seen.before
    if as_json:
        print_json(
            {
                "version": new.version,
                "previous": before.version if before else None,
                "release_threshold": new.threshold,
                "root_threshold": new.root_threshold,
                "expires": _date(new.expires),
                "keys": [vars(key) for key in seen.keys],
                "missing": {"own": seen.missing[0], "previous": seen.missing[1]},
                "holds": seen.holds,
                "verdict": seen.verdict,
                "remarks": seen.remarks,
            }
        )
        return
    fields = [
        ("version", new.version, before and before.version),
        ("release keys needed", f"{new.threshold} of {len(new.release_keys)}", before and before.threshold),
        ("root keys needed", f"{new.root_threshold} of {len(new.root_keys)}", before and before.root_threshold),
        ("expires", _date(new.expires) or "never", before and (_date(before.expires) or "never")),
    ]
    columns: tuple[str, ...] = ("", "this list", "the one before")
    print_table(columns[: 3 if before else 2], [row[: 3 if before else 2] for row in fields], title="Trust list")
    rows = [(k.role, k.kid, k.change, "" if k.signed is None else "signed" if k.signed else "–") for k in seen.keys]
    print_table(("role", "key", "change", "this list"), rows, title="Keys")
    for line in (*seen.remarks, seen.verdict):
        remark(line)


def _whole(path: Path) -> trust.TrustList:
    """A list that its own root keys signed: nothing may be built on a draft."""
    return trust.decode(files.read(path, TRUST_MAX)).check_own()


def _keys(names: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(signers.open_public(name)[1:] for name in names)


def _without(keys: tuple[bytes, ...], kids: Sequence[str], role: str) -> tuple[bytes, ...]:
    by_kid = {signers.kid(b"\x04" + key).hex(): key for key in keys}
    for kid in kids:
        if by_kid.pop(kid.lower(), None) is None:
            raise CommandFailed(f"{kid!r} is no {role} key of this list", "sealband trust show FILE lists them")
    return tuple(by_kid.values())


def _expiry(text: str) -> int | None:
    if text == "never":
        return None
    try:
        moment = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise CommandFailed(f"{text!r} is not a date", "write YYYY-MM-DD, or never") from None
    expires = int(moment.timestamp()) - EPOCH_2025
    if expires <= now_s():
        raise CommandFailed(f"{text} is over", "name a day to come")
    return expires


def _date(expires: int | None) -> str | None:
    return None if expires is None else datetime.fromtimestamp(expires + EPOCH_2025, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _new_passphrase() -> str:
    passphrase = secret.passphrase_from_file() or secret.ask_terminal("New passphrase")
    if not passphrase:
        raise CommandFailed(
            "no passphrase was given",
            f"use a terminal, name a file that holds it in {secret.ENVIRONMENT}, or say --no-passphrase",
        )
    if secret.ENVIRONMENT not in os.environ and secret.ask_terminal("The same again") != passphrase:
        raise CommandFailed("the two passphrases differ, so no key was made", "try again")
    return passphrase


def _print_public(point: bytes, as_json: bool) -> None:
    text, kid = signers.public_text(point), signers.kid(point).hex()
    if as_json:
        print_json({"public": text, "kid": kid})
    else:
        remark(f"Public part; its short name is {kid}:")
        print(text)
