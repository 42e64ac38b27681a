"""`sealband sim modem`: a simulated cellular modem on a pty."""

from typing import Any

import rich_click as click

from host_tools.cli.output import json_option, print_json_line, remark
from host_tools.cli.stop import stoppable
from host_tools.sim.clock import SimClock
from host_tools.sim.modem import SimModem
from host_tools.sim.modem_vendors import TYPES


@click.command("modem")
@click.option("--type", "kind", type=click.Choice(sorted(TYPES)), default="sim7080", show_default=True)
@click.option(
    "--pin", default="", help="Of the SIM; default: it asks for none. Three wrong ones, then the PUK 12345678."
)
@click.option("--no-sim", is_flag=True, help="There is no card in it.")
@click.option(
    "--attach-delay", type=click.FloatRange(0), default=3.0, show_default=True, help="Until registered, seconds."
)
@click.option("--no-service", is_flag=True, help="No network is found.")
@click.option("--denied", is_flag=True, help="The network refuses the registration.")
@click.option("--roaming", is_flag=True, help="The network is not the card's own.")
@click.option(
    "--rat", type=click.Choice(["cat-m", "nb-iot"]), default="cat-m", show_default=True, help="What there is."
)
@click.option("--apn", help="The only one that the network takes; default: any.")
@click.option("--user", help="Its PPP demands this name by PAP; default: nothing.")
@click.option("--key", default="", help="And this password.")
@click.option(
    "--drop-after", type=click.IntRange(1), help="The carrier is lost after so many bytes of each connection."
)
@click.option("--drop-after-seconds", type=click.FloatRange(0), help="And after so many seconds.")
@click.option("--drop-abruptly", is_flag=True, help="Without ending PPP in good order.")
@click.option("--garbage", type=click.FloatRange(0, 1), default=0.0, help="Chance of noise before a line.")
@click.option("--cut", type=click.FloatRange(0, 1), default=0.0, help="Chance that a line loses its end.")
@click.option("--pieces", is_flag=True, help="Lines come in pieces of a few bytes.")
@click.option("--deaf", is_flag=True, help="Nothing is answered.")
@click.option("--off", is_flag=True, help="It waits for its power key.")
@click.option("--rate", type=click.IntRange(0), default=0, show_default=True, help="Of the line, baud; 0: the host's.")
@click.option("--seed", type=int, default=0, show_default=True, help="Makes its noise repeatable.")
@click.option(
    "--speed",
    type=click.FloatRange(0.01, 1000),
    help="Virtual seconds a real second; default: the clock in SEALBAND_SIM_CLOCK, or 1.",
)
@json_option
def group(kind: str, speed: float | None, as_json: bool, **given: Any) -> None:
    """Serve a modem's AT commands and PPP on a serial port, until stopped; behind PPP is what this host reaches."""
    clock = SimClock.from_environment() if speed is None else SimClock.start(speed)
    named = {"attach_delay": "attach_delay_s", "drop_after": "drop_after_bytes", "drop_after_seconds": "drop_after_s"}
    conditions = {named.get(name, name): value for name, value in given.items() if name not in ("no_sim", "off")}
    with (
        stoppable() as stopping,
        SimModem(kind, clock=clock, on=not given["off"], sim=not given["no_sim"], **conditions) as modem,
    ):
        if as_json:
            event = {"event": "port", "port": modem.port, "type": kind, "environment": clock.to_environment()}
            print_json_line(event)
        else:
            remark(f"{kind}: {modem.port}; Ctrl-C stops")
        stopping.wait()
        if as_json:
            print_json_line({"event": "statistics", "calls": modem.calls, "power": modem.power})
