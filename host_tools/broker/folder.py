"""A broker's folder: what mosquitto reads, written anew from settings and registry, each file whole or not at all.

    broker.json        the settings; `sealband broker reload` needs nothing else
    mosquitto.conf     the configuration
    rules.acl          who may publish and receive what
    devices-ca.pem     the devices' root and the issuing certificates of their batches
    services-ca.pem    the services' root
    crl.pem            revocation lists, if there are keys or a file to have them from
    broker.pem, .key   copies of the broker's certificate and key, readable by the user that mosquitto becomes
    state/             mosquitto's own: what outlives a restart, its process number

A file that would not change is left alone. Reads no registry: the caller brings what that says.
"""

import json
import os
import pwd
import secrets
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from host_tools.broker import mosquitto, rules, trust
from host_tools.broker.mosquitto import Configuration, Limits, Listener
from provisioning import wholefile

FORMAT = "sealband/1 broker"
SETTINGS, CONF, RULES = "broker.json", "mosquitto.conf", "rules.acl"
DEVICES_CA, SERVICES_CA, CRL = "devices-ca.pem", "services-ca.pem", "crl.pem"
CERTIFICATE, KEY, STATE = "broker.pem", "broker.key", "state"
SETTINGS_MAX = 1 << 20


class FolderError(Exception):
    """A broker's folder cannot be written, read or put to use."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Settings:
    """What somebody decided about a broker.

    Attributes:
        host_name: the name or address under which clients reach it; stands in its certificate.
        listen: address and port for devices.
        services_listen: for ingest and bridges.
        root: PEM of the devices' root or roots.
        services_root: PEM of the services' root.
        certificate, key: the broker's own, PEM.
        ingest: names of workers.
        bridges: name → EUIs of its gateways.
        couriers: name → number, as `sealband courier id` says it.
        pass_on: whether bridges may hand a downlink on to another bridge's gateway.
        without: batches whose issuing certificates are not trusted, since somebody else has their keys.
        issuing_keys: URIs of keys that sign revocation lists.
        crl: a file of revocation lists, in place of those keys.
        shared: the group of ingest workers; nobody else may learn it, see `README`.
        user: whom mosquitto becomes when root starts it.
        log: a file; None: standard error.
    """

    host_name: str
    listen: tuple[str, int]
    services_listen: tuple[str, int]
    root: Path
    services_root: Path
    certificate: Path
    key: Path
    ingest: tuple[str, ...] = ("ingest",)
    bridges: dict[str, tuple[str, ...]] = field(default_factory=dict)
    couriers: dict[str, str] = field(default_factory=dict)
    pass_on: bool = False
    without: tuple[str, ...] = ()
    issuing_keys: tuple[str, ...] = ()
    crl: Path | None = None
    shared: str = ""
    user: str = ""
    log: Path | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Written:
    """What came of it.

    Attributes:
        changed: files that are new or other than before.
        restart: whether a running mosquitto must be restarted; else the signal HUP is enough.
        devices: how many are let in.
        issuers: how many issuing certificates are trusted.
        lists: the revocation lists; None: there are none.
        certificate_ends: when the broker's certificate is over.
    """

    changed: tuple[str, ...]
    restart: bool
    devices: int
    issuers: int
    lists: trust.Lists | None
    certificate_ends: datetime


def default_user() -> str:
    """Whom mosquitto becomes: who starts it, or for root the user that its package made."""
    if os.geteuid() == 0:
        for name in ("mosquitto", "_mosquitto"):
            try:
                return pwd.getpwnam(name).pw_name
            except KeyError:
                continue
    return own_user()


def own_user() -> str:
    """Who runs this: for a broker that is tried or belongs to a demo."""
    return pwd.getpwuid(os.geteuid()).pw_name


def new_group() -> str:
    """A name for the group of ingest workers that nobody can guess: see README, "Shared subscriptions"."""
    return f"ingest-{secrets.token_hex(8)}"


def load(folder: Path) -> Settings | None:
    """The folder's settings; None: it has none.

    Raises:
        FolderError: they are not what `write` makes.
    """
    path = folder / SETTINGS
    if not path.exists():
        return None
    broken = FolderError(f"{path} is not what `sealband broker config` wrote", "move it away, and configure anew")
    try:
        with path.open("rb") as file:
            raw = json.loads(file.read(SETTINGS_MAX))
        if raw.pop("format") != FORMAT:
            raise broken
        return _settings(raw)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise broken from None


def changed(before: Settings | None, changes: dict[str, Any]) -> Settings:
    """Settings with these changes; paths are made to mean the same everywhere.

    Args:
        before: None: there were none, and `changes` must have what cannot be guessed.

    Raises:
        FolderError: something is missing.
    """
    made: dict[str, Any] = {
        name: value.absolute() if isinstance(value, Path) else value for name, value in changes.items()
    }
    if before is not None:
        if "certificate" in made and "key" not in made:
            made["key"] = made["certificate"]
        return replace(before, **made)
    for name in ("host_name", "root", "services_root", "certificate"):
        if name not in made:
            raise FolderError(
                f"--{name.replace('_', '-')} is missing", "the first time name all: see sealband broker config --help"
            )
    made.setdefault("key", made["certificate"])
    made.setdefault("user", default_user())
    made.setdefault("shared", new_group())
    return Settings(**made)


def _settings(raw: dict[str, Any]) -> Settings:
    known = {each.name for each in fields(Settings)}
    if set(raw) != known:
        raise ValueError("fields")
    for name in ("root", "services_root", "certificate", "key"):
        raw[name] = Path(raw[name])
    for name in ("crl", "log"):
        raw[name] = Path(raw[name]) if raw[name] else None
    for name in ("listen", "services_listen"):
        host, port = raw[name]
        if not host or not 0 < int(port) < 65536:
            raise ValueError(name)  # mosquitto would take the one for every address, the other for a socket's file
        raw[name] = (str(host), int(port))
    for name in ("ingest", "issuing_keys", "without"):
        if not isinstance(raw[name], list):
            raise ValueError(name)
        raw[name] = tuple(map(str, raw[name]))
    raw["bridges"] = {str(name): tuple(map(str, euis)) for name, euis in raw["bridges"].items()}
    raw["couriers"] = {str(name): str(number) for name, number in raw["couriers"].items()}
    if not isinstance(raw["pass_on"], bool):
        raise ValueError("pass_on")
    if not all(type(figure) is int and figure > 0 for figure in raw["limits"].values()):
        raise ValueError("limits")  # to mosquitto 0 and less mean none
    raw["limits"] = Limits(**raw["limits"])
    return Settings(**raw)


def services_rules(settings: Settings) -> str:
    """The lines of those that are no devices.

    Raises:
        RulesError: a name is none, or stands for two.
    """
    names = [*settings.ingest, *settings.bridges, *settings.couriers]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise rules.RulesError(f"two services are called {min(twice)}", "give each a name and a certificate of its own")
    clients = [rules.ingest(name) for name in settings.ingest]
    clients += [rules.bridge(name, gateways, pass_on=settings.pass_on) for name, gateways in settings.bridges.items()]
    clients += [rules.courier(name, number) for name, number in settings.couriers.items()]
    return rules.acl(clients)


def configuration(folder: Path, settings: Settings, *, lists: bool) -> Configuration:
    """What `mosquitto.conf` says for these settings.

    Args:
        lists: whether there are revocation lists.
    """
    limits = settings.limits
    return Configuration(
        devices=Listener(
            *settings.listen, folder / DEVICES_CA, folder / CRL if lists else None, connections=limits.devices
        ),
        services=Listener(*settings.services_listen, folder / SERVICES_CA, None, connections=limits.services),
        certificate=folder / CERTIFICATE,
        key=folder / KEY,
        rules=folder / RULES,
        state=folder / STATE,
        user=settings.user,
        log=settings.log,
        limits=limits,
    )


def write(
    folder: Path, settings: Settings, acl: str, devices: int, issuers: Sequence[bytes], crl: bytes | None, now: datetime
) -> Written:
    """Write the folder, or renew it.

    Args:
        folder: made if it is not there.
        acl: all rules, `services_rules` among them.
        devices: how many devices they let in.
        issuers: DER of the registry's issuing certificates.
        crl: PEM of revocation lists of all of them; None: none.
        now: the time, aware.

    Raises:
        TrustError: a certificate, key or list does not do; nothing was written.
        FolderError: a path or name cannot stand in a configuration.
        OSError: a file cannot be read or written.
    """
    folder = folder.absolute()
    certificate, key = settings.certificate.read_bytes(), settings.key.read_bytes()
    ends = trust.broker(certificate, key, settings.host_name, now)
    public = b"".join(each.public_bytes(Encoding.PEM) for each in trust.certificates(certificate, "the certificate"))
    authority = trust.authority(settings.root.read_bytes(), issuers, now)
    services = trust.authority(settings.services_root.read_bytes(), (), now)
    # by key: a certificate of the same root that was made anew would certify for both as well
    if trust.keys(authority) & trust.keys(services):
        raise trust.TrustError(
            "one root is to certify devices and services", "make another for services: sealband registry issuer root"
        )
    checked = trust.lists(crl, issuers, now) if crl is not None else None
    try:
        conf = mosquitto.text(configuration(folder, settings, lists=crl is not None))
    except ValueError as error:
        raise FolderError(str(error), "choose another folder or name") from None

    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    owner = owner_of(settings.user)
    (folder / STATE).mkdir(mode=0o750, exist_ok=True)
    if owner:
        os.chown(folder / STATE, *owner)
        os.chown(folder, -1, owner[1])
    before = set(_pems(_read(folder / DEVICES_CA)))
    changed = []
    contents = {
        KEY: key,
        CERTIFICATE: public,
        SERVICES_CA: services,
        DEVICES_CA: authority,
        CRL: crl,
        RULES: acl.encode(),
        CONF: conf.encode(),
        SETTINGS: _to_json(settings),
    }
    for name, content in contents.items():
        if content is None:
            continue
        old = _read(folder / name)
        if old == content or (name == RULES and _lines(old) == _lines(content)):
            continue
        _replace(folder / name, content, owner)
        changed.append(name)
    # An authority that is taken away stays in mosquitto's memory until it is restarted. A new one is read by the signal
    # only together with revocation lists (2.0.11, seen).
    after = set(_pems(authority))
    restart = CONF in changed or bool(before - after) or (crl is None and before != after)
    return Written(tuple(changed), restart, devices, len(_pems(authority)) - 1, checked, ends)


def reload(folder: Path) -> int | None:
    """Have the mosquitto of this folder read its files anew; its process number, or None: it does not run.

    Raises:
        FolderError: it runs under a user that this one may not signal.
    """
    try:
        number = int((folder / STATE / "mosquitto.pid").read_text())
        command = Path(f"/proc/{number}/cmdline")
        # a number that is left over from before may be anybody's by now
        if number <= 1 or (Path("/proc/self").exists() and b"mosquitto" not in command.read_bytes()):
            return None
        os.kill(number, signal.SIGHUP)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None
    except PermissionError:
        raise FolderError("mosquitto cannot be signalled by this user", "run: systemctl reload mosquitto") from None
    return number


def on_loopback(settings: Settings, devices_port: int, services_port: int) -> Settings:
    """The same on other ports of the loopback, and without its log, to try it."""
    return replace(settings, listen=("127.0.0.1", devices_port), services_listen=("127.0.0.1", services_port), log=None)


def write_settings(folder: Path, settings: Settings) -> None:
    """The settings' file alone."""
    _replace(folder / SETTINGS, _to_json(settings), None)


def _to_json(settings: Settings) -> bytes:
    return (json.dumps({"format": FORMAT, **asdict(settings)}, indent=1, default=str) + "\n").encode()


def owner_of(user: str) -> tuple[int, int] | None:
    """User and group that own what mosquitto reads; None: nothing to change.

    Raises:
        FolderError: there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise FolderError(
            f"there is no user {user} here", "name the one that mosquitto's package made: --user"
        ) from None
    return entry.pw_uid, entry.pw_gid


def _replace(path: Path, content: bytes, owner: tuple[int, int] | None) -> None:
    wholefile.replace(path, content, 0o640, owner[1] if owner else -1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _lines(acl: bytes) -> list[bytes]:
    """The rules without their comments, which say when they were made."""
    return [line for line in acl.splitlines() if not line.startswith(b"#")]


def _pems(text: bytes) -> list[bytes]:
    mark = b"-----BEGIN CERTIFICATE-----"
    return [each.strip() for each in text.split(mark)[1:]]
