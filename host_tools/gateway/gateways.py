"""The gateways that a bridge knows: where each can be reached, how much it may send, what it was asked to transmit.

Owns these decisions and the bounds on memory; no socket, no clock (every call says when, in monotonic seconds).

The protocol authenticates nobody, so a datagram proves nothing by the EUI it names. What is done about it:

- Where downlinks go is decided by PULL_DATA, and the address that was there first stays until it has been silent for
  `PULL_SILENCE_S`. Who names another's EUI cannot draw its downlinks away, unless the gateway itself falls silent.
- A gateway has its own allowance of datagrams while it comes from the address that it is known at. Everybody else
  shares one allowance, so that a flood from strangers takes nothing from gateways at work.
- One address can bring `PER_ADDRESS_MAX` gateways, the table holds `GATEWAYS_MAX`, and a gateway leaves it only after
  `IDLE_S` without a datagram.
- With a list of allowed gateways, each with the network that it comes from, all others are refused at their header.
"""

import ipaddress
import secrets
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

GATEWAYS_MAX = 1024
PER_ADDRESS_MAX = 32
PENDING_MAX = 64
PULL_SILENCE_S = 30.0  # the reference forwarder pulls every 10 s
PULL_REACH_S = 120.0
IDLE_S = 600.0
# in units of one datagram and of each further KiB; eight demodulators at their busiest make 80 a second
GATEWAY_RATE, GATEWAY_BURST = 200.0, 400.0
STRANGER_RATE, STRANGER_BURST = 100.0, 400.0

Address = tuple[str, int]
Attempt = TypeVar("Attempt")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class GatewayRefused(Exception):
    """A datagram is not let in, or a downlink cannot be sent; `reason` is one word, for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate` units a second, at most `burst` at once."""

    rate: float
    burst: float
    level: float = field(init=False)
    at: float = field(init=False, default=-1e300)

    def __post_init__(self) -> None:
        self.level = self.burst

    def take(self, cost: float, now: float) -> bool:
        """Whether `cost` units are there; if so they are taken."""
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level < cost:
            return False
        self.level -= cost
        return True


@dataclass(slots=True)
class Gateway(Generic[Attempt]):
    """One gateway; times are monotonic seconds.

    Attributes:
        eui: 16 lower-case hex digits.
        host: the IP address that it is known at.
        seen_at: last datagram that was let in.
        pull_address: where PULL_RESP goes; None before the first PULL_DATA.
        pulled_at: last PULL_DATA from there.
        version: of the protocol that it speaks.
        pending: what it was asked to transmit and has not answered, by token.
        counts: of what went on with it, by a closed list of names.
    """

    eui: str
    host: str
    seen_at: float
    pull_address: Address | None = None
    pulled_at: float = 0.0
    version: int = 2
    bucket: Bucket = field(default_factory=lambda: Bucket(GATEWAY_RATE, GATEWAY_BURST))
    pending: OrderedDict[int, Attempt] = field(default_factory=OrderedDict)
    counts: Counter[str] = field(default_factory=Counter)


class Gateways(Generic[Attempt]):
    """The table of gateways. `Attempt` is whatever the caller wants back with a TX_ACK.

    Args:
        allowed: EUI → network that it may come from (None: any); None allows every gateway.
        per_address_max: so many gateways of one address.
    """

    def __init__(
        self, allowed: Mapping[str, Network | None] | None = None, per_address_max: int = PER_ADDRESS_MAX
    ) -> None:
        self._per_address_max = per_address_max
        self._allowed = dict(allowed) if allowed is not None else None
        self._known: OrderedDict[str, Gateway[Attempt]] = OrderedDict()  # the one that was silent longest comes first
        self._per_host: Counter[str] = Counter()
        self._strangers = Bucket(STRANGER_RATE, STRANGER_BURST)

    def __len__(self) -> int:
        return len(self._known)

    def admit(self, eui: str, host: str, length: int, now: float) -> None:
        """Decide from a datagram's header whether the rest is worth reading.

        Args:
            eui: which gateway it names.
            host: the IP address that it came from.
            length: of the datagram, bytes.
            now: monotonic seconds.

        Raises:
            GatewayRefused: "not_allowed" or "rate".
        """
        if self._allowed is not None:
            if eui not in self._allowed:
                raise GatewayRefused("not_allowed", "this gateway is not on the list")
            network = self._allowed[eui]
            if network is not None and ipaddress.ip_address(host.partition("%")[0]) not in network:
                raise GatewayRefused("not_allowed", "this gateway does not come from its network")
        gateway = self._known.get(eui)
        bucket = gateway.bucket if gateway is not None and gateway.host == host else self._strangers
        if not bucket.take(1 + length // 1024, now):
            raise GatewayRefused("rate", "more datagrams than allowed")

    def enter(self, eui: str, host: str, now: float) -> Gateway[Attempt]:
        """The record of a gateway that sent a valid datagram; made now if it is new.

        Raises:
            GatewayRefused: "table_full", or "address_full" if this address has brought enough of them.
        """
        gateway = self._known.get(eui)
        if gateway is None:
            if self._per_host[host] >= self._per_address_max:
                raise GatewayRefused("address_full", f"this address has brought {self._per_address_max} gateways")
            if len(self._known) >= GATEWAYS_MAX and not self._forget_idle(now):
                raise GatewayRefused("table_full", f"{GATEWAYS_MAX} gateways are at work")
            gateway = self._known[eui] = Gateway(eui, host, now)
            self._per_host[host] += 1
        gateway.seen_at = now
        self._known.move_to_end(eui)
        return gateway

    def _forget_idle(self, now: float) -> bool:
        eui, oldest = next(iter(self._known.items()))
        if now - oldest.seen_at < IDLE_S:
            return False
        del self._known[eui]
        self._leave(oldest.host)
        return True

    def _leave(self, host: str) -> None:
        self._per_host[host] -= 1
        if not self._per_host[host]:
            del self._per_host[host]

    def pulled(self, gateway: Gateway[Attempt], address: Address, version: int, now: float) -> None:
        """Note a PULL_DATA.

        Raises:
            GatewayRefused: "other_address" while the address that is known has pulled within `PULL_SILENCE_S`.
        """
        if gateway.pull_address not in (None, address) and now - gateway.pulled_at < PULL_SILENCE_S:
            raise GatewayRefused("other_address", "another address pulls for this gateway")
        if gateway.host != address[0]:
            self._leave(gateway.host)
            gateway.host = address[0]
            self._per_host[gateway.host] += 1
        gateway.pull_address = address
        gateway.pulled_at = now
        gateway.version = version

    def serves(self, eui: str, now: float) -> bool:
        """Whether this gateway is at work here: it was heard of within `PULL_REACH_S`."""
        gateway = self._known.get(eui)
        return gateway is not None and now - gateway.seen_at <= PULL_REACH_S

    def downlink(self, eui: str, attempt: Attempt, now: float) -> tuple[Gateway[Attempt], Address, int]:
        """Where to send a PULL_RESP, and with which token.

        Args:
            attempt: given back by `acknowledged`; the oldest is forgotten when `PENDING_MAX` others follow.

        Raises:
            GatewayRefused: "unreachable": no such gateway, or it no longer pulls.
        """
        gateway = self._known.get(eui)
        if gateway is None or gateway.pull_address is None or now - gateway.pulled_at > PULL_REACH_S:
            raise GatewayRefused("unreachable", "this gateway does not pull")
        token = secrets.randbelow(1 << 16)
        while token in gateway.pending:
            token = secrets.randbelow(1 << 16)
        gateway.pending[token] = attempt
        if len(gateway.pending) > PENDING_MAX:
            gateway.pending.popitem(last=False)
        return gateway, gateway.pull_address, token

    def acknowledged(self, gateway: Gateway[Attempt], host: str, token: int) -> Attempt:
        """What a TX_ACK is the answer to.

        Raises:
            GatewayRefused: "token": it answers nothing that this gateway was asked at this address.
        """
        if gateway.pull_address is None or gateway.pull_address[0] != host or token not in gateway.pending:
            raise GatewayRefused("token", "this acknowledges nothing")
        return gateway.pending.pop(token)

    def summary(self, now: float) -> dict[str, dict[str, int | float | bool]]:
        """Of each gateway: its counts, seconds since its last datagram, whether downlinks can reach it."""
        return {
            eui: {
                **gateway.counts,
                "silent_s": round(now - gateway.seen_at, 1),
                "reachable": gateway.pull_address is not None and now - gateway.pulled_at <= PULL_REACH_S,
            }
            for eui, gateway in sorted(self._known.items())
        }
