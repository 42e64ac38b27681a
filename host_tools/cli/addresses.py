"""Addresses and gateway names as options of commands: text from the command line into checked values."""

import ipaddress
import re
from typing import Any

import rich_click as click

from host_tools.gateway.gateways import Network

_EUI = re.compile(r"[0-9a-f]{16}", re.ASCII)


class HostPort(click.ParamType):  # type: ignore[type-arg]
    """HOST:PORT, or [IPv6]:PORT; arrives as (host, port). Port 0 is any free one, where that makes sense."""

    name = "host:port"

    def __init__(self, least_port: int = 1) -> None:
        self._least_port = least_port

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdecimal() or not self._least_port <= int(port) <= 65535:
            self.fail(f"{value!r} is not HOST:PORT", param, ctx)
        return host, int(port)


class GatewayName(click.ParamType):  # type: ignore[type-arg]
    """EUI, or EUI@NETWORK; arrives as (16 lower-case hex digits, network or None)."""

    name = "eui[@network]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Network | None]:
        if isinstance(value, tuple):
            return value
        eui, at, network = str(value).partition("@")
        if not at:
            return checked_eui(self, eui, param, ctx), None
        try:
            return checked_eui(self, eui, param, ctx), ipaddress.ip_network(network)
        except ValueError as error:
            self.fail(f"{network!r} is not an IP address or network: {error}", param, ctx)


class GatewayServer(click.ParamType):  # type: ignore[type-arg]
    """EUI@HOST:PORT; arrives as (16 lower-case hex digits, (host, port))."""

    name = "eui@host:port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[str, int]]:
        if isinstance(value, tuple):
            return value
        eui, _, server = str(value).partition("@")
        return checked_eui(self, eui, param, ctx), HostPort().convert(server, param, ctx)


def checked_eui(kind: Any, text: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
    """`text` as 16 lower-case hex digits; colons and dashes between bytes are taken out."""
    eui = text.lower().replace(":", "").replace("-", "")
    if _EUI.fullmatch(eui) is None:
        kind.fail(f"{text!r} is not a gateway's EUI: 16 hex digits", param, ctx)
    return eui
