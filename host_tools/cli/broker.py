"""`sealband broker`: mosquitto's configuration, the certificates around it, and renewing both."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from host_tools.broker import credentials, rules
from host_tools.broker import folder as folders
from host_tools.broker.folder import Settings, Written
from host_tools.broker.mosquitto import Limits
from host_tools.cli import CommandFailed
from host_tools.cli.addresses import HostPort
from host_tools.cli.connection import database_option, key_file_option
from host_tools.cli.guard import admit, enter
from host_tools.cli.output import json_option, print_json, print_table, remark
from provisioning import signers

_Command = TypeVar("_Command", bound=Callable[..., Any])
_File = click.Path(exists=True, dir_okay=False, path_type=Path)
_Folder = click.Path(file_okay=False, path_type=Path)
_LIMITS = Limits()


class CourierName(click.ParamType):  # type: ignore[type-arg]
    """NAME=NUMBER; arrives as (name, number)."""

    name = "name=number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, number = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r} is not NAME=NUMBER", param, ctx)
        return name, number


class BridgeName(click.ParamType):  # type: ignore[type-arg]
    """NAME=EUI[,EUI…] or NAME=all; arrives as (name, EUIs)."""

    name = "name=eui,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[str, ...]]:
        if isinstance(value, tuple):
            return value
        name, equals, listed = str(value).partition("=")
        if not equals or not listed:
            self.fail(f"{value!r} is not NAME=EUI,EUI… or NAME={rules.ALL_GATEWAYS}", param, ctx)
        return name, tuple(listed.split(","))


@click.group()
def group() -> None:
    """The MQTT broker: mosquitto's configuration, certificates, rules."""


@group.command()
@click.argument("name")
@click.option("--ca", required=True, type=_File, help="The services' root; made by: sealband registry issuer root.")
@click.option("--ca-key", required=True, metavar="URI", help="Its key.")
@click.option("--server", is_flag=True, help="For the broker itself; NAME is the host under which clients reach it.")
@click.option("--host", "hosts", multiple=True, help="With --server: another name or address of it. May be repeated.")
@click.option("--days", default=397, show_default=True, type=click.IntRange(1, 3650), help="Valid for so long.")
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="PEM with key and certificate."
)
@click.option("--renew", is_flag=True, help="--out is there already: put a new key and certificate in its place.")
@json_option
def certificate(
    name: str,
    ca: Path,
    ca_key: str,
    server: bool,
    hosts: tuple[str, ...],
    days: int,
    out: Path,
    renew: bool,
    as_json: bool,
) -> None:
    """Make the key and certificate of a service (ingest, a gateway bridge) or, with --server, of the broker."""
    if hosts and not server:
        raise click.UsageError("--host needs --server")
    made = credentials.make(
        ca,
        signers.open_signer(ca_key),
        out,
        service=None if server else name,
        hosts=[name, *hosts] if server else [],
        days=days,
        now=datetime.now(UTC),
        renew=renew,
    )
    if as_json:
        print_json({"file": str(out), "subject": made.subject, "sha256": made.digest, "ends": made.ends.isoformat()})
        return
    remark(f"{made.subject} in {out} (mode 600), valid until {made.ends:%F}.")
    remark(
        f"Next: sealband broker config DIR --certificate {out} …"
        if server
        else f"Next: give it to the service: --mqtt-ca {ca} --mqtt-certificate {out}"
    )


@group.command()
@click.argument("folder", metavar="DIR", type=_Folder)
@click.option("--host-name", help="Name or address under which clients reach the broker; stands in its certificate.")
@click.option("--listen", type=HostPort(), help="For devices. Default: 0.0.0.0:8883.")
@click.option("--services-listen", type=HostPort(), help="For ingest and bridges. Default: 127.0.0.1:8884.")
@click.option(
    "--root", type=_File, help="The devices' root certificate, PEM; several in one file while one follows another."
)
@click.option("--services-root", type=_File, help="The services' root certificate, PEM.")
@click.option("--certificate", type=_File, help="The broker's certificate, PEM.")
@click.option("--key", type=_File, help="Its key, PEM without passphrase. Default: in the file of the certificate.")
@click.option("--ingest", multiple=True, metavar="NAME", help="An ingest worker. May be repeated. Default: ingest.")
@click.option(
    "--bridge", "bridges", multiple=True, type=BridgeName(), help="A gateway bridge and its gateways. May be repeated."
)
@click.option("--courier", "couriers", multiple=True, type=CourierName(), help="A courier. May be repeated.")
@click.option(
    "--pass-on/--no-pass-on",
    default=None,
    help="Bridges may hand a downlink that a gateway refused on to another bridge's gateway. Default: no.",
)
@click.option(
    "--without-batch", "without", multiple=True, metavar="BATCH", help="Its issuing key was stolen. '': none."
)
@click.option("--issuing-key", "keys", multiple=True, metavar="URI", help="Signs revocation lists. May be repeated.")
@click.option("--crl", type=_File, help="Revocation lists made elsewhere (registry crl), in place of keys.")
@click.option("--user", help="Whom mosquitto becomes when root starts it. Default: mosquitto, if there is such a user.")
@click.option(
    "--log", type=click.Path(dir_okay=False, path_type=Path), help="File for the log. Default: standard error."
)
@click.option("--devices-max", type=click.IntRange(1), help=f"Connections of devices. Default: {_LIMITS.devices}.")
@click.option("--memory-mb", type=click.IntRange(16), help=f"What the broker may take. Default: {_LIMITS.memory_mb}.")
@database_option
@key_file_option
@json_option
def config(
    folder: Path,
    listen: tuple[str, int] | None,
    services_listen: tuple[str, int] | None,
    ingest: tuple[str, ...],
    bridges: tuple[tuple[str, tuple[str, ...]], ...],
    couriers: tuple[tuple[str, str], ...],
    keys: tuple[str, ...],
    without: tuple[str, ...],
    devices_max: int | None,
    memory_mb: int | None,
    database: str,
    key_file: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """Write what mosquitto needs into DIR: configuration, rules, authorities, revocation lists.

    Options are kept in DIR, so later runs name only what changes. Run it, or `reload`, after each change of devices.
    """
    if keys and given["crl"]:
        raise click.UsageError("give --issuing-key or --crl, not both")
    before = folders.load(folder)
    changes = {name: value for name, value in given.items() if value is not None}
    if listen or not before:
        changes["listen"] = listen or ("0.0.0.0", 8883)  # noqa: S104  the devices' door
    if services_listen or not before:
        changes["services_listen"] = services_listen or ("127.0.0.1", 8884)
    if ingest:
        changes["ingest"] = ingest
    if bridges:
        changes["bridges"] = dict(bridges)
    if couriers:
        changes["couriers"] = dict(couriers)
    if without:
        changes["without"] = tuple(filter(None, without))
    if keys:
        changes |= {"issuing_keys": tuple(map(_absolute_uri, keys)), "crl": None}
    elif given["crl"]:
        changes["issuing_keys"] = ()
    limits = before.limits if before else _LIMITS
    limits = replace(limits, devices=devices_max or limits.devices, memory_mb=memory_mb or limits.memory_mb)
    settings = folders.changed(before, changes | {"limits": limits})
    _tell(folder, settings, _renew(folder, settings, database, key_file), as_json)


@group.command()
@click.argument("folder", metavar="DIR", type=_Folder)
@database_option
@key_file_option
@json_option
def reload(folder: Path, database: str, key_file: Path, as_json: bool) -> None:
    """Renew DIR from the registry, and have the mosquitto that runs there read it."""
    settings = _load(folder)
    written = _renew(folder, settings, database, key_file)
    _tell(folder, settings, written, as_json, process=folders.reload(folder), reloaded=True)


@group.command()
@click.argument("folder", metavar="DIR", type=_Folder)
@json_option
def check(folder: Path, as_json: bool) -> None:
    """Try DIR with the mosquitto that is installed, on other ports, and say until when it is good."""
    settings = _load(folder)
    from host_tools.broker import trial

    found = trial.check(folder, settings)
    if as_json:
        print_json(found)
    else:
        print_table(("", str(folder)), list(found.items()))


def _load(folder: Path) -> Settings:
    settings = folders.load(folder)
    if settings is None:
        raise CommandFailed(f"{folder} is no broker's folder", "make one: sealband broker config DIR …")
    return settings


def _renew(folder: Path, settings: Settings, database: str, key_file: Path) -> Written:
    entered = enter(database, key_file, "broker.list")
    if settings.issuing_keys:
        admit(entered.vault, database, "certificate.crl")
    from host_tools.broker import renewal

    return renewal.renew(folder, settings, entered.vault, signers.open_signer, actor=entered.actor)


def _absolute_uri(uri: str) -> str:
    """A key's name that means the same in another folder."""
    scheme, _, rest = uri.partition(":")
    return f"file:{Path(rest).absolute()}" if scheme == "file" and not rest.startswith("//") else uri


def _tell(
    folder: Path,
    settings: Settings,
    written: Written,
    as_json: bool,
    process: int | None = None,
    reloaded: bool = False,
) -> None:
    ends = written.lists.ends if written.lists else None
    if as_json:
        print_json(
            {
                "folder": str(folder.absolute()),
                "changed": written.changed,
                "devices": written.devices,
                "issuers": written.issuers,
                "lists_until": ends.isoformat() if ends else None,
                "revoked": written.lists.revoked if written.lists else None,
                "certificate_ends": written.certificate_ends.isoformat(),
                "shared": settings.shared,
                "restart": written.restart,
                "reloaded": process,
            }
        )
        return
    remark(f"{folder}: {', '.join(written.changed) or 'nothing'} written; {written.devices} devices are let in.")
    if ends:
        remark(f"Revocation lists until {ends:%F %T} UTC: renew them before, or no device gets in (broker reload).")
    else:
        remark("No revocation lists: a revoked device has no topics but still connects. See --issuing-key.")
    if process:
        remark(f"mosquitto ({process}) reads it anew.")
    elif reloaded:
        remark("mosquitto does not run here, or writes no state/mosquitto.pid.")
    if written.restart and process:
        remark("What changed needs a restart of mosquitto: ports, limits, or whom it trusts.")
    if not reloaded:
        host, port = settings.services_listen
        remark(f"Next: sealband broker check {folder}; mosquitto -c {folder.absolute() / folders.CONF}")
        remark(f"then: sealband ingest run --mqtt {host}:{port} --shared {settings.shared} --mqtt-ca … (see README)")
