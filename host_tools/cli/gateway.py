"""`sealband gateway`: serve LoRa gateways."""

import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import rich_click as click

from host_tools.cli.addresses import GatewayName, HostPort
from host_tools.cli.brokers import Broker, broker_options, first_line, tls_context
from host_tools.cli.output import json_option, print_json_line, print_table, remark
from host_tools.cli.stop import stoppable
from host_tools.gateway import chirpstack as protocol
from host_tools.gateway.bridge import PORT, Bridge
from host_tools.gateway.chirpstack_link import ChirpStackOptions
from host_tools.gateway.envelope import REGIONS
from host_tools.gateway.gateways import Network
from host_tools.gateway.ledgerfile import KeptLedger

_File = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Prefix(click.ParamType):  # type: ignore[type-arg]
    name = "prefix"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return protocol.checked_prefix(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group()
def group() -> None:
    """Serve LoRa gateways."""


@group.command()
@click.option(
    "--listen",
    type=HostPort(0),
    default=f"0.0.0.0:{PORT}",
    show_default=True,
    help="UDP address that packet forwarders send to.",
)
@click.option("--no-udp", is_flag=True, help="No packet forwarders.")
@broker_options
@click.option("--chirpstack", type=HostPort(), help="The MQTT broker that ChirpStack's gateways use.")
@click.option(
    "--prefix",
    "prefixes",
    type=_Prefix(),
    multiple=True,
    default=("eu868",),
    show_default=True,
    help="Of ChirpStack's topics, which also names the region: us915_0. Can be repeated; '' for none.",
)
@click.option("--chirpstack-user", help="User name at ChirpStack's broker.")
@click.option("--chirpstack-password-file", type=_File, help="File whose first line is the password there.")
@click.option("--chirpstack-ca", type=_File, help="TLS: certificate authority that signed that broker's certificate.")
@click.option("--chirpstack-certificate", type=_File, help="TLS: our certificate there and its key, in one PEM file.")
@click.option(
    "--region",
    type=click.Choice(REGIONS, case_sensitive=False),
    default="EU868",
    show_default=True,
    help="Whose rules the gateways keep, where no prefix says it.",
)
@click.option(
    "--gateway",
    "gateways",
    type=GatewayName(),
    multiple=True,
    help="Take only this gateway, and only from this address or network where one is given. Can be repeated.",
)
@click.option(
    "--ledger",
    "ledger_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keeps the gateways' duty cycle in this file over restarts.",
)
@click.option("--report", "report_s", type=click.FloatRange(1), default=60.0, show_default=True, help="Seconds.")
@json_option
def run(
    listen: tuple[str, int],
    no_udp: bool,
    broker: Broker,
    chirpstack: tuple[str, int] | None,
    prefixes: tuple[str, ...],
    chirpstack_user: str | None,
    chirpstack_password_file: Path | None,
    chirpstack_ca: Path | None,
    chirpstack_certificate: Path | None,
    region: str,
    gateways: tuple[tuple[str, Network | None], ...],
    ledger_file: Path | None,
    report_s: float,
    as_json: bool,
) -> None:
    """Receive from packet forwarders and from ChirpStack's gateways and publish to MQTT, until stopped.

    Packet forwarders speak Semtech's UDP protocol, which has no authentication: name your gateways with --gateway, best
    with their networks. Gateways with Basics Station or Concentratord come by way of ChirpStack's Gateway Bridge or
    MQTT Forwarder, on a broker that authenticates them. Frames are sealed from the device to the server, so a false
    gateway can withhold or delay them but can neither read nor make one.
    """
    if no_udp and chirpstack is None:
        raise click.UsageError("--no-udp leaves nothing to serve without --chirpstack")
    if chirpstack_certificate and not chirpstack_ca:
        raise click.UsageError("--chirpstack-certificate needs --chirpstack-ca")
    other = None
    if chirpstack is not None:
        password = first_line(chirpstack_password_file) if chirpstack_password_file else None
        tls = tls_context(chirpstack_ca, chirpstack_certificate) if chirpstack_ca else None
        there = Broker(*chirpstack, chirpstack_user, password, tls)
        other = ChirpStackOptions(*chirpstack, prefixes, lambda client: _prepare(client, there))
    allowed = dict(gateways) if gateways else None
    host, port = listen
    bridge = Bridge(
        None if no_udp else host,
        port,
        broker.host,
        broker.port,
        allowed=allowed,
        prepare=lambda client: _prepare(client, broker),
        region=region.upper(),
        chirpstack=other,
        ledger=KeptLedger(ledger_file, time.time()) if ledger_file else None,
    )
    with stoppable() as stopping, bridge:
        if as_json:
            print_json_line(
                {
                    "event": "serving",
                    "udp": None if no_udp else [bridge.udp_host, bridge.udp_port],
                    "mqtt": [broker.host, broker.port],
                    "chirpstack": list(chirpstack) if chirpstack else None,
                }
            )
        else:
            ways = [] if no_udp else [f"packet forwarders on UDP {bridge.udp_host}:{bridge.udp_port}"]
            if chirpstack:
                names = ", ".join(prefix or "no prefix" for prefix in prefixes)
                ways.append(f"ChirpStack's gateways at {chirpstack[0]}:{chirpstack[1]} ({names})")
            remark(f"serving {' and '.join(ways)}; Ctrl-C stops")
        while not stopping.wait(report_s):
            _report(bridge.statistics(), as_json)
        statistics = bridge.statistics()
    _report(statistics, as_json)
    if not as_json:
        _print_gateways(statistics["gateways"])


def _prepare(client: mqtt.Client, broker: Broker) -> None:
    if broker.username is not None:
        client.username_pw_set(broker.username, broker.password)
    if broker.tls is not None:
        client.tls_set_context(broker.tls)


def _report(statistics: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json_line({"event": "statistics", **statistics})
        return
    refused = ", ".join(f"{reason} {count}" for reason, count in statistics["refused"].items()) or "nothing"
    remark(
        f"{statistics['datagrams']} datagrams, {statistics['events']} events, "
        f"{statistics['uplinks']} frames up, {statistics['downlinks']} down; "
        f"refused: {refused}; broker {'connected' if statistics['broker'] else 'away'}"
    )


def _print_gateways(gateways: dict[str, dict[str, Any]]) -> None:
    print_table(
        ("gateway", "up", "down", "foreign", "refused", "on air s", "silent s", "reachable"),
        (
            (
                eui,
                *(gateway.get(name, 0) for name in ("uplinks", "downlinks", "foreign", "refused")),
                gateway["airtime_s"],
                gateway["silent_s"],
                "yes" if gateway["reachable"] else "no",
            )
            for eui, gateway in gateways.items()
        ),
    )
