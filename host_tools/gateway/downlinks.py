"""Downlinks on their way to a gateway: the first one that may and can send it, and the next when it cannot.

The server names up to four gateways, the best one first. Each is asked only within its duty cycle, and never while the
frame may already be on the air: the next one is for a gateway that said no (TX_ACK), that cannot be reached, or whose
hour is used up. A gateway that says nothing has it, since protocol version 1 has no TX_ACK and two gateways that send
at once may both be lost.

Bridges need not know of each other: what the rest of the routes leads to elsewhere is published again, for the bridge
that serves that gateway. Each time there is one route less, so it ends. No thread, no socket; calls come one at a time.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from host_tools.gateway.dutycycle import Entry, Ledger, TransmissionRefused
from host_tools.gateway.envelope import Downlink, Route
from host_tools.gateway.gateways import GatewayRefused

# what a packet forwarder needs before it goes on the air (TX_START_DELAY and its queue's margin), and the way there
AHEAD_S = 0.1
# further ahead than any receive window: such a downlink is no answer, and would block the ledger
AT_MOST_AHEAD_S = 20.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A downlink that one gateway, that of its first route, was asked to send."""

    downlink: Downlink
    entry: Entry | None  # in the ledger


class Carrier(Protocol):
    """A kind of gateways and the way to them."""

    def serves(self, route: Route) -> bool:
        """Whether this route is of this kind, and its gateway at work here.

        The kind is in the context, not in the EUI, which anybody can name to a bridge.
        """

    def send(self, attempt: Attempt) -> None:
        """Ask the gateway of the first route; raises GatewayRefused if that is not possible."""


class Downlinks:
    """Finds each downlink its gateway.

    Args:
        carriers: asked in this order.
        ledger: of all gateways that they serve.
        clock: Unix seconds.
        pass_on: gives a downlink to the bridge that serves its first gateway.
        refused: counts why something was not sent.
    """

    def __init__(
        self,
        carriers: Sequence[Carrier],
        ledger: Ledger,
        clock: Callable[[], float],
        pass_on: Callable[[Downlink], None],
        refused: Counter[str],
    ) -> None:
        self._carriers = carriers
        self._ledger = ledger
        self._clock = clock
        self._pass_on = pass_on
        self._refused = refused

    def take(self, downlink: Downlink) -> bool:
        """A downlink of the server; whether it was handed to a gateway."""
        if downlink.at > self._clock() + AT_MOST_AHEAD_S:
            self._refused["downlink_too_early"] += 1
            return False
        if self._carrier(downlink) is None:
            self._refused["unreachable"] += 1  # or another bridge's
            return False
        return self._deliver(downlink)

    def failed(self, attempt: Attempt) -> bool:
        """The gateway will not send it; whether another one was asked."""
        if attempt.entry is not None:
            self._ledger.release(attempt.entry)
        return self._go_on(attempt.downlink)

    def _deliver(self, downlink: Downlink) -> bool:
        carrier = self._carrier(downlink)
        if carrier is None:
            self._pass_on(downlink)
            return False
        route = downlink.routes[0]
        entry = None
        try:
            entry = self._ledger.reserve(
                route.gateway,
                route.region,
                route.frequency_hz,
                route.data_rate,
                len(downlink.frame),
                route.power_dbm,
                downlink.at,
            )
            carrier.send(Attempt(downlink, entry))
            return True
        except (TransmissionRefused, GatewayRefused) as refusal:
            self._refused[refusal.reason] += 1
        if entry is not None:
            self._ledger.release(entry)
        return self._go_on(downlink)

    def _go_on(self, downlink: Downlink) -> bool:
        """With the next route, if there is one and time for it."""
        if len(downlink.routes) < 2:
            return False
        if self._clock() > downlink.at - AHEAD_S:
            self._refused["too_late_for_another"] += 1
            return False
        return self._deliver(replace(downlink, routes=downlink.routes[1:]))

    def _carrier(self, downlink: Downlink) -> Carrier | None:
        route = downlink.routes[0]
        return next((carrier for carrier in self._carriers if carrier.serves(route)), None)
