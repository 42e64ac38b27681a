"""`sealband gateway`: serve LoRa packet forwarders."""

import ssl
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.addresses import GatewayName, HostPort
from host_tools.cli.output import json_option, print_json_line, print_table, remark
from host_tools.cli.stop import stoppable
from host_tools.gateway.bridge import PORT, Bridge
from host_tools.gateway.gateways import Network


@click.group()
def group() -> None:
    """Serve LoRa packet forwarders."""


@group.command()
@click.option(
    "--listen",
    type=HostPort(0),
    default=f"0.0.0.0:{PORT}",
    show_default=True,
    help="UDP address that packet forwarders send to.",
)
@click.option("--mqtt", "broker", type=HostPort(), default="127.0.0.1:1883", show_default=True, help="The MQTT broker.")
@click.option("--mqtt-user", help="User name at the broker.")
@click.option(
    "--mqtt-password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File whose first line is the password.",
)
@click.option(
    "--mqtt-ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TLS: certificate authority that signed the broker's certificate.",
)
@click.option(
    "--gateway",
    "gateways",
    type=GatewayName(),
    multiple=True,
    help="Take only this gateway, and only from this address or network where one is given. Can be repeated.",
)
@click.option("--report", "report_s", type=click.FloatRange(1), default=60.0, show_default=True, help="Seconds.")
@json_option
def run(
    listen: tuple[str, int],
    broker: tuple[str, int],
    mqtt_user: str | None,
    mqtt_password_file: Path | None,
    mqtt_ca: Path | None,
    gateways: tuple[tuple[str, Network | None], ...],
    report_s: float,
    as_json: bool,
) -> None:
    """Receive from Semtech UDP packet forwarders and publish to MQTT, until stopped.

    The protocol has no authentication: name your gateways with --gateway, best with their networks. Frames are sealed
    from the device to the server, so a false gateway can withhold or delay them but can neither read nor make one.
    """

    def prepare(client: mqtt.Client) -> None:
        if mqtt_user is not None:
            client.username_pw_set(mqtt_user, _password(mqtt_password_file))
        if mqtt_ca is not None:
            client.tls_set_context(_tls(mqtt_ca))

    bridge = Bridge(*listen, *broker, allowed=dict(gateways) if gateways else None, prepare=prepare)
    with stoppable() as stopping, bridge:
        if as_json:
            print_json_line({"event": "serving", "udp": [bridge.udp_host, bridge.udp_port], "mqtt": list(broker)})
        else:
            remark(f"serving packet forwarders on UDP {bridge.udp_host}:{bridge.udp_port}; Ctrl-C stops")
        while not stopping.wait(report_s):
            _report(bridge.statistics(), as_json)
        statistics = bridge.statistics()
    _report(statistics, as_json)
    if not as_json:
        _print_gateways(statistics["gateways"])


def _report(statistics: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json_line({"event": "statistics", **statistics})
        return
    refused = ", ".join(f"{reason} {count}" for reason, count in statistics["refused"].items()) or "nothing"
    remark(
        f"{statistics['datagrams']} datagrams, {statistics['uplinks']} frames up, {statistics['downlinks']} down; "
        f"refused: {refused}; broker {'connected' if statistics['broker'] else 'away'}"
    )


def _print_gateways(gateways: dict[str, dict[str, Any]]) -> None:
    print_table(
        ("gateway", "up", "down", "foreign", "refused", "silent s", "reachable"),
        (
            (
                eui,
                *(gateway.get(name, 0) for name in ("uplinks", "downlinks", "foreign", "refused")),
                gateway["silent_s"],
                "yes" if gateway["reachable"] else "no",
            )
            for eui, gateway in gateways.items()
        ),
    )


def _password(file: Path | None) -> str | None:
    if file is None:
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0]:
        raise CommandFailed(f"{file} is empty", "write the password into its first line")
    return lines[0]


def _tls(authority: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=authority)
    except ssl.SSLError as error:
        raise CommandFailed(f"{authority} holds no certificate", "give a PEM file") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
