"""`sealband sim ether`: the radio medium, and simulated gateways on it."""

from contextlib import ExitStack

import rich_click as click

from host_tools.cli import CommandFailed
from host_tools.cli.addresses import GatewayServer
from host_tools.cli.output import json_option, print_json_line, print_table, remark
from host_tools.cli.stop import stoppable
from host_tools.sim.clock import SimClock
from host_tools.sim.ether import Ether
from host_tools.sim.forwarder import Forwarder
from host_tools.sim.rules import PLANS


@click.command("ether")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="TCP port on the loopback interface; 0: any.")
@click.option(
    "--loss", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Chance that a packet is lost."
)
@click.option("--delay", "delay_s", type=click.FloatRange(0, 60), default=0.0, show_default=True, help="Seconds.")
@click.option("--seed", type=int, default=0, show_default=True, help="Makes loss and fading repeatable.")
@click.option(
    "--speed",
    type=click.FloatRange(0.01, 1000),
    help="Virtual seconds a real second; default: the clock in SEALBAND_SIM_CLOCK, or 1.",
)
@click.option(
    "--gateway",
    "gateways",
    type=GatewayServer(),
    multiple=True,
    help="Also simulate this gateway, whose packet forwarder sends to this UDP address. Can be repeated.",
)
@click.option(
    "--region",
    type=click.Choice(sorted(PLANS)),
    default="EU868",
    show_default=True,
    help="Whose rules every packet is held against, and what the gateways listen to.",
)
@json_option
def group(
    port: int,
    loss: float,
    delay_s: float,
    seed: int,
    speed: float | None,
    gateways: tuple[tuple[str, tuple[str, int]], ...],
    region: str,
    as_json: bool,
) -> None:
    """Serve the radio medium for virtual boards and gateways, until stopped."""
    clock = SimClock.from_environment() if speed is None else SimClock.start(speed)
    ether = Ether(clock, seed=seed, loss=loss, delay_s=delay_s, region=region)
    with stoppable() as stopping, ExitStack() as running:
        try:
            host, bound = ether.start(port)
        except OSError as error:
            raise CommandFailed(f"cannot serve on port {port}: {error.strerror}", "choose another port") from error
        running.callback(ether.stop)
        for eui, server in gateways:
            try:
                running.enter_context(Forwarder(eui, server, (host, bound), clock, region=region))
            except OSError as error:
                what = f"gateway {eui} cannot send to {server[0]}:{server[1]}: {error.strerror or error}"
                raise CommandFailed(what, "check the address") from error
        if as_json:
            print_json_line({"event": "serving", "address": [host, bound], "environment": clock.to_environment()})
        else:
            shared = " ".join(f"{name}={value}" for name, value in clock.to_environment().items())
            remark(f"the ether is at {host}:{bound}; other parts share its clock with {shared}; Ctrl-C stops")
        stopping.wait()
        statistics = ether.statistics()
    if as_json:
        print_json_line({"event": "statistics", **statistics})
        return
    lost = ", ".join(f"{reason} {count}" for reason, count in statistics["lost"].items())
    remark(f"{statistics['transmissions']} transmissions, {statistics['delivered']} received; lost: {lost}")
    print_table(
        ("sender", "packets", "airtime s", "busiest hour s"),
        (
            (name, sender["packets"], sender["airtime_s"], sender["busiest_hour_s"])
            for name, sender in statistics["senders"].items()
        ),
    )
    for violation in statistics["rules"]["violations"]:
        remark(f"{violation['sender']} broke a rule of {region} ({violation['rule']}): {violation['detail']}")
