"""`sealband gateway`: serve LoRa packet forwarders."""

from typing import Any

import paho.mqtt.client as mqtt
import rich_click as click

from host_tools.cli.addresses import GatewayName, HostPort
from host_tools.cli.brokers import Broker, broker_options
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
@broker_options
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
    broker: Broker,
    gateways: tuple[tuple[str, Network | None], ...],
    report_s: float,
    as_json: bool,
) -> None:
    """Receive from Semtech UDP packet forwarders and publish to MQTT, until stopped.

    The protocol has no authentication: name your gateways with --gateway, best with their networks. Frames are sealed
    from the device to the server, so a false gateway can withhold or delay them but can neither read nor make one.
    """

    def prepare(client: mqtt.Client) -> None:
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls is not None:
            client.tls_set_context(broker.tls)

    allowed = dict(gateways) if gateways else None
    bridge = Bridge(*listen, broker.host, broker.port, allowed=allowed, prepare=prepare)
    with stoppable() as stopping, bridge:
        if as_json:
            print_json_line(
                {"event": "serving", "udp": [bridge.udp_host, bridge.udp_port], "mqtt": [broker.host, broker.port]}
            )
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
