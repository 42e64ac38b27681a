"""`sealband registry …` for who is let in: issuing certificates, revocation lists, brokers' list, service tokens."""

import ssl
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.connection import database_option, key_file_option
from host_tools.cli.guard import enter
from host_tools.cli.output import json_option, print_json, print_table, remark
from host_tools.release import files
from provisioning import certificates, signers
from sealwire.messages import EPOCH_2025

_File = click.Path(exists=True, dir_okay=False, path_type=Path)
_Out = click.Path(dir_okay=False, path_type=Path)
CERTIFICATE_MAX = 65536  # bytes


def public_key(text: str) -> bytes:
    """The public key (65 bytes) that 130 hex digits say, or that the signer of this URI has."""
    if len(text) == 130 and ":" not in text:
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise CommandFailed("the key is not 130 hex digits", "give it as `registry init` prints one") from None
    return signers.open_signer(text).public_key


@click.group()
def issuer() -> None:
    """Certificates of the keys that sign devices' TLS certificates."""


@issuer.command()
@click.option("--key", required=True, metavar="URI", help="The root's key; it stays in a safe.")
@click.option("--name", required=True, metavar="TEXT", help="What the certificate is called.")
@click.option("--days", default=7300, show_default=True, type=click.IntRange(1, 36500), help="Valid for so long.")
@click.option("--out", required=True, type=_Out, help="The certificate, PEM; a new file.")
@json_option
def root(key: str, name: str, days: int, out: Path, as_json: bool) -> None:
    """Make the root certificate that issuing certificates are signed by; needs no registry."""
    der = certificates.create_root(signers.open_signer(key), name, days, datetime.now(UTC))
    files.create(out, certificates.to_pem(der))
    if as_json:
        print_json({"file": str(out), "sha256": sha256(der).digest(), "days": days})
    else:
        remark(f"Root certificate {name} in {out}, SHA-256 {sha256(der).hexdigest()}.")


@issuer.command()
@click.argument("batch")
@click.option("--root-cert", required=True, type=_File, help="The root's certificate, PEM or DER.")
@click.option("--root-key", required=True, metavar="URI", help="The root's key.")
@click.option("--issuing-key", required=True, metavar="URI|HEX", help="The key that issues at the station.")
@click.option("--days", required=True, type=click.IntRange(1, 3650), help="For so long it may issue.")
@click.option("--device-days", default=3650, show_default=True, type=click.IntRange(1, 36500), help="Of devices'.")
@click.option("--out", required=True, type=_Out, help="The batch's ticket file with it, for the station; a new file.")
@click.option("--signing-key", envvar="SEALBAND_BATCH_KEY", default="file:sealband-batches.pem", show_default=True)
@database_option
@key_file_option
@json_option
def create(
    batch: str,
    root_cert: Path,
    root_key: str,
    issuing_key: str,
    days: int,
    device_days: int,
    out: Path,
    signing_key: str,
    database: str,
    key_file: Path,
    as_json: bool,
) -> None:
    """Certify a key for one batch, and write the batch's ticket file with the certificate."""
    entered = enter(database, key_file, "issuer.create")
    from provisioning.registry import issuers

    made = issuers.create_issuer(
        entered.vault,
        batch,
        _der(root_cert),
        signers.open_signer(root_key),
        public_key(issuing_key),
        signers.open_signer(signing_key),
        days=days,
        device_days=device_days,
        out=out,
        actor=entered.actor,
    )
    told = {
        "batch": batch,
        "key": signers.kid(made.public_key).hex(),
        "issues_until": made.issues_until,
        "ends": made.ends,
        "file": str(out),
    }
    if as_json:
        print_json(told)
    else:
        remark(f"Key {told['key']} may issue for {batch} until {made.issues_until}. The ticket file is {out}.")


@issuer.command("list")
@database_option
@key_file_option
@json_option
def list_(database: str, key_file: Path, as_json: bool) -> None:
    """List issuing certificates, and how many devices they certified."""
    enter(database, key_file, "device.list")
    from provisioning.registry import issuers

    rows = issuers.issuers()
    if as_json:
        print_json(rows)
    else:
        columns = ("batch", "key", "created_at", "ends_at", "certificates", "revoked")
        print_table(columns, [[row[column] for column in columns] for row in rows])


@click.command()
@click.option("--issuing-key", "keys", required=True, multiple=True, metavar="URI", help="May be repeated.")
@click.option("--out", required=True, type=_Out, help="PEM with all lists; replaced whole, for a broker's `crlfile`.")
@click.option("--days", default=7, show_default=True, type=click.IntRange(1, 365), help="Brokers refuse all after it.")
@database_option
@key_file_option
@json_option
def crl(keys: tuple[str, ...], out: Path, days: int, database: str, key_file: Path, as_json: bool) -> None:
    """Write the revocation lists of issuing keys."""
    entered = enter(database, key_file, "certificate.crl")
    from host_tools.ingest import broker_list
    from provisioning import certificates
    from provisioning.registry import audit, issuers

    lists = [der for key in keys for der in issuers.revocation_list(signers.open_signer(key), days=days)]
    broker_list.write(out, b"".join(certificates.to_pem(der) for der in lists))
    audit.append(entered.vault, "crl_made", actor=entered.actor, lists=len(lists), days=days)
    if as_json:
        print_json({"file": str(out), "lists": len(lists), "days": days})
    else:
        remark(f"{len(lists)} revocation lists in {out}, valid for {days} days.")


@click.command("broker-list")
@click.option("--out", required=True, type=_Out, help="JSON; replaced whole.")
@click.option("--acl", type=_Out, help="The same for mosquitto's `acl_file`; replaced whole.")
@click.option("--others", type=_File, help="Rules for who is no device (ingest, gateways), to stand in --acl as well.")
@database_option
@key_file_option
@json_option
def list_of_brokers(
    out: Path, acl: Path | None, others: Path | None, database: str, key_file: Path, as_json: bool
) -> None:
    """Write who may speak to the brokers. Then have them read it: mosquitto by the signal HUP."""
    if others and not acl:
        raise click.UsageError("--others needs --acl")
    entered = enter(database, key_file, "broker.list")
    from host_tools.ingest import broker_list
    from provisioning.registry import audit

    listed = broker_list.document(time.time())
    broker_list.write(out, broker_list.to_json(listed).encode())
    if acl:
        rules = others.read_text(encoding="utf-8") if others else ""
        broker_list.write(acl, broker_list.acl(listed, rules).encode())
    allowed = sum(device["allow"] for device in listed["devices"].values())
    refused = len(listed["devices"]) - allowed
    audit.append(entered.vault, "broker_list_made", actor=entered.actor, allowed=allowed, refused=refused)
    if as_json:
        print_json({"file": str(out), "allowed": allowed, "refused": refused})
    else:
        remark(f"{allowed} devices are let in, {refused} are not.")


@click.command("service-token")
@click.argument("challenge")
@click.option("--key", required=True, metavar="URI", help="The service key of the device's batch.")
@click.option("--minutes", default=10, show_default=True, type=click.IntRange(1, 1440), help="It is good for so long.")
@database_option
@key_file_option
@json_option
def service_token(challenge: str, key: str, minutes: int, database: str, key_file: Path, as_json: bool) -> None:
    """Make the token that opens one board, from the challenge (hex) that it printed."""
    entered = enter(database, key_file, "service.unlock")
    from provisioning import service_tokens
    from provisioning.registry import audit, devices

    try:
        asked = service_tokens.parse_challenge(bytes.fromhex(challenge))
    except ValueError:
        raise CommandFailed("the challenge is not hex", "copy what stands behind `sealband/1 challenge`") from None
    device = devices.find(asked.eui, lock=False)
    signer = signers.open_signer(key)
    if bytes(device.ticket.batch.service_key) != signer.public_key:
        known = bytes(device.ticket.batch.service_key)
        which = signers.kid(known).hex() if known else "none"
        raise CommandFailed(
            f"the service key of batch {device.ticket.batch.name} is {which}, not this one", "name that key"
        )
    until = int(time.time()) + 60 * minutes
    token = service_tokens.make(asked, signer, until - EPOCH_2025, entered.name or entered.actor)
    audit.append(
        entered.vault, "service_unlocked", subject=device.eui_hex, actor=entered.actor, step="token", minutes=minutes
    )
    if as_json:
        print_json({"eui": device.eui_hex, "token": token.hex(), "not_after": until})
    else:
        print(token.hex())


def _der(path: Path) -> bytes:
    """The certificate of a file, PEM or DER."""
    data = path.read_bytes()[:CERTIFICATE_MAX]
    if not data.lstrip().startswith(b"-----BEGIN"):
        return data
    try:
        return ssl.PEM_cert_to_DER_cert(data.decode("ascii"))
    except ValueError:
        raise CommandFailed(f"{path} holds no certificate", "name the root's certificate, PEM or DER") from None


COMMANDS = (issuer, crl, list_of_brokers, service_token)
