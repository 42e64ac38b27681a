"""`sealband station unlock` and `label`: what is done to a board that is finished. The work is in
provisioning.station.unlock, provisioning.service_tokens and provisioning.labels."""

import getpass
import os
import time
from collections.abc import Callable
from pathlib import Path

import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.output import json_option, print_json, remark
from host_tools.release import files
from provisioning import service_tokens, signers
from provisioning.labels import Label
from provisioning.service_tokens import Challenge
from provisioning.station import steps, unlock
from provisioning.station.link import Link
from sealwire import service as wire
from sealwire.messages import EPOCH_2025

TOKEN_WAIT_S = wire.HOLD_S - 10
VALID_S = 300
_path = click.Path(path_type=Path)
_operator = click.option("--operator-name", metavar="TEXT", help="Who asks, for the board's record; default: you.")
_valid = click.option(
    "--valid", "valid_s", default=VALID_S, show_default=True, type=click.IntRange(1, 86400), help="Seconds."
)


@click.command("unlock")
@click.option("--port", required=True, help="The board's serial port.")
@click.option("--key", metavar="URI", help="The service key: file:PATH or pkcs11:…")
@click.option("--eui", default="", help="The board that is meant, by its label: for no other is a token made.")
@click.option("--challenge-out", type=_path, help="Without the key here: the file that gets the board's challenge.")
@click.option("--token", type=_path, help="… and the file that will hold the token; it is waited for.")
@_operator
@_valid
@json_option
def unlock_command(
    port: str,
    key: str | None,
    eui: str,
    challenge_out: Path | None,
    token: Path | None,
    operator_name: str | None,
    valid_s: int,
    as_json: bool,
) -> None:
    """Open a closed board's REPL until its next reset.

    With the service key here, by one command. Without: --challenge-out FILE --token FILE; whoever has the key makes
    the second of the first by `sealband registry service-token`, within two minutes.
    """
    if (key is None) == (challenge_out is None or token is None):
        raise click.UsageError("give --key, or both --challenge-out and --token")
    if key is not None:
        answer = _by_key(signers.open_signer(key), valid_s, operator_name)
    else:
        assert challenge_out is not None and token is not None
        answer = _by_files(challenge_out, token)

    def met(challenge: Challenge) -> None:
        found = challenge.eui.hex()
        if eui and found != eui.lower():
            # a challenge can be passed on: what is on the port may ask for a board that is elsewhere
            raise CommandFailed(f"the board on {port} asks for {found}", "look at the port and at the number")
        if not as_json:
            remark(f"Board {found}, a {challenge.model} with release {challenge.release}, waits for its token.")

    opened = unlock.unlock(port, answer, on_challenge=met)
    if as_json:
        print_json({"eui": opened.eui.hex(), "model": opened.model, "release": opened.release, "unlocked": True})
    else:
        remark(f"The REPL of {opened.eui.hex()} is open until its next reset.")


@click.command("label")
@click.argument("eui")
@click.option("--port", required=True, help="The board's serial port; its REPL must be open.")
@click.option("--labels", default="labels", show_default=True, type=_path, help="The folder.")
@click.option(
    "--label-format", "formats", multiple=True, default=("png", "zpl"), type=click.Choice(steps.LABEL_FORMATS)
)
@json_option
def label_command(eui: str, port: str, labels: Path, formats: tuple[str, ...], as_json: bool) -> None:
    """Print the label of board EUI again: the board is asked for its claim secret, which the station does not keep."""
    link = Link(port)
    status = link.status()
    if status.eui.hex() != eui.lower():
        raise CommandFailed(f"the board on {port} is {status.eui.hex()}", "look at the port and at the number")
    written = steps.write_label(Label(status.eui, status.model, link.claim()), labels, formats)
    if as_json:
        print_json({"eui": status.eui.hex(), "files": [str(path) for path in written]})
    else:
        remark(f"The label of {status.eui.hex()} is in {', '.join(map(str, written))}.")


def _by_key(signer: signers.Signer, valid_s: int, operator_name: str | None) -> Callable[[Challenge, str], bytes]:
    def answer(challenge: Challenge, _text: str) -> bytes:
        return service_tokens.make(challenge, signer, _expiry(valid_s), operator_name or getpass.getuser())

    return answer


def _by_files(challenge_out: Path, token: Path) -> Callable[[Challenge, str], bytes]:
    if token.exists():
        raise CommandFailed(f"{token} is there already: a token is for one challenge", "remove it")

    def answer(_challenge: Challenge, text: str) -> bytes:
        files.replace(challenge_out, text.removeprefix(wire.CHALLENGE).encode() + b"\n")
        remark(f"Challenge in {challenge_out}; waiting for {token} for {TOKEN_WAIT_S} s.")
        limit = time.monotonic() + TOKEN_WAIT_S
        while time.monotonic() < limit:
            if token.exists() and os.path.getsize(token):
                digits = files.read(token, 4 * wire.TOKEN_MAX).decode("ascii", errors="replace").strip()
                try:
                    return bytes.fromhex(digits)
                except ValueError:
                    raise CommandFailed(
                        f"{token} holds no token", "make it by: sealband registry service-token"
                    ) from None
            time.sleep(0.2)
        raise CommandFailed(f"{token} did not come in {TOKEN_WAIT_S} s", "begin again")

    return answer


def _expiry(valid_s: int) -> int:
    return int(time.time()) - EPOCH_2025 + valid_s
