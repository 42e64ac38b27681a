"""By which gateways an answer over LoRa goes, in order. Pure.

A gateway that hears a device well is heard well by it. So the first is the one with the best signal to noise ratio, up
to where more says nothing; among those, the strongest signal. But a gateway that was asked to answer this very frame
before comes last: the device has repeated it, so that answer did not arrive, whether the air lost it or a false gateway
that claims to hear everything best. A command goes with another frame each time, so its repetitions take turns at the
gateways (`another`). All this decides about an attempt only; what a gateway tells is never trusted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from host_tools.gateway.envelope import ROUTES_MAX, Downlink, Route
from host_tools.ingest import sync
from host_tools.ingest.arrivals import Genuine
from host_tools.ingest.models import Reception
from sealwire import radio

RX1_DELAY_S = radio.RX1_DELAY_MS / 1000
# what bridge and gateway still need before the window opens
SEND_AHEAD_S = 0.2
COPY_S = 2.0  # how far apart two gateways may tell of one transmission
SNR_ENOUGH_DB = 10.0  # where the demodulators of gateways saturate (SX1301 datasheet rev 2.4, packet SNR)

_DATA_RATE = re.compile(r"SF(\d{1,2})BW(\d{3})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Way:
    """One gateway that heard a transmission.

    Attributes:
        route: how it would answer.
        received_at: Unix seconds.
        margin: dB above the demodulation floor, as the sync has it.
        reception: its primary key; None if it is not stored.
    """

    route: Route
    received_at: float
    margin: int
    reception: int | None


def of(target: Genuine, receptions: Sequence[Reception]) -> list[Way]:
    """The ways to answer a frame, the best one first; none for one that came in the device's own topic.

    Args:
        target: the transmission that is answered.
        receptions: all that are stored of its frame.
    """
    uplink = target.heard.uplink
    if uplink is None:
        return []
    heard_ms = target.row.received_at_ms
    copies: dict[str, tuple[float, float, Way]] = {}
    for row in receptions:
        if abs(row.received_at_ms - heard_ms) <= COPY_S * 1000:
            route = _route(row.gateway, row.frequency_hz, row.data_rate, row.region, bytes(row.context))
            _keep(copies, row.snr, row.rssi, route, row.data_rate, row.received_at_ms / 1000, row.pk)
    if uplink.gateway not in copies:  # the frame has as many receptions as are kept
        route = _route(uplink.gateway, uplink.frequency_hz, uplink.data_rate, uplink.region, uplink.context)
        _keep(copies, uplink.snr, uplink.rssi, route, uplink.data_rate, target.heard.received_at, None)
    asked_before = {row.gateway for row in receptions if row.answered}
    ordered = sorted(
        copies.values(),
        key=lambda copy: (copy[2].route.gateway in asked_before, -min(copy[0], SNR_ENOUGH_DB), -copy[1]),
    )
    return [way for _, _, way in ordered]


def another(found: list[Way], times: int) -> list[Way]:
    """The same ways, for what was to go by the first of them so many times before and did not arrive."""
    turn = times % len(found) if found else 0
    return found[turn:] + found[:turn]


def downlink(frame: bytes, found: Sequence[Way]) -> Downlink:
    """What the bridges are told; for the first of these ways, and others if that one fails."""
    return Downlink(
        frame=frame,
        at=found[0].received_at + RX1_DELAY_S,
        delay_ms=radio.RX1_DELAY_MS,
        routes=tuple(way.route for way in found[:ROUTES_MAX]),
    )


def _keep(
    copies: dict[str, tuple[float, float, Way]],
    snr: float,
    rssi: float,
    route: Route,
    data_rate: str,
    received_at: float,
    reception: int | None,
) -> None:
    spreading_factor, _ = _numbers(data_rate)
    way = Way(route, received_at, sync.margin(snr, spreading_factor), reception)
    # Of one gateway the first: what it hears again so soon is a replay, and the device does not listen after that one.
    copies.setdefault(route.gateway, (snr, rssi, way))


def _route(gateway: str, frequency_hz: int, data_rate: str, region: str, context: bytes) -> Route:
    spreading_factor, bandwidth_khz = _numbers(data_rate)
    khz, spreading_factor, bandwidth_khz = radio.downlink(region, frequency_hz / 1000, spreading_factor, bandwidth_khz)
    return Route(
        gateway=gateway,
        context=context,
        frequency_hz=round(khz * 1000),
        data_rate=f"SF{spreading_factor}BW{bandwidth_khz}",
        power_dbm=radio.region(region)[3],
        region=region,
    )


def _numbers(data_rate: str) -> tuple[int, int]:
    match = _DATA_RATE.fullmatch(data_rate)
    assert match is not None  # an envelope has no other
    return int(match.group(1)), int(match.group(2))
