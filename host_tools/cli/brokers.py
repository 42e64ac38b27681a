"""How commands are told which MQTT broker to use: one set of options, which arrives as one `Broker`."""

import functools
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.addresses import HostPort

_Command = TypeVar("_Command", bound=Callable[..., Any])
_File = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Broker:
    """Where the broker is and who we are to it.

    Attributes:
        tls: None: the connection is not encrypted.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None


def broker_options(command: _Command) -> _Command:
    """Adds `--mqtt …`, which arrive as the argument `broker`."""

    @functools.wraps(command)
    def with_broker(
        *args: Any,
        mqtt: tuple[str, int],
        mqtt_user: str | None,
        mqtt_password_file: Path | None,
        mqtt_ca: Path | None,
        mqtt_certificate: Path | None,
        **options: Any,
    ) -> Any:
        if mqtt_certificate and not mqtt_ca:
            raise click.UsageError("--mqtt-certificate needs --mqtt-ca")
        password = first_line(mqtt_password_file) if mqtt_password_file else None
        tls = tls_context(mqtt_ca, mqtt_certificate) if mqtt_ca else None
        return command(*args, broker=Broker(*mqtt, mqtt_user, password, tls), **options)

    for option in (
        click.option(
            "--mqtt",
            type=HostPort(),
            envvar="SEALBAND_MQTT",
            default="127.0.0.1:1883",
            show_default=True,
            help="The MQTT broker.",
        ),
        click.option("--mqtt-user", help="User name at the broker."),
        click.option("--mqtt-password-file", type=_File, help="File whose first line is the password."),
        click.option("--mqtt-ca", type=_File, help="TLS: certificate authority that signed the broker's certificate."),
        click.option("--mqtt-certificate", type=_File, help="TLS: our own certificate and its key, in one PEM file."),
    ):
        with_broker = option(with_broker)
    return with_broker  # type: ignore[return-value]


def tls_context(authority: Path, certificate: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later, trusting one authority only.

    Raises:
        CommandFailed: a file holds not what it should.
    """
    try:
        context = ssl.create_default_context(cafile=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate:
            context.load_cert_chain(certificate)
    except ssl.SSLError as error:
        raise CommandFailed(f"{certificate or authority} holds no certificate", "give a PEM file") from error
    return context


def first_line(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0]:
        raise CommandFailed(f"{file} is empty", "write the password into its first line")
    return lines[0]
