"""What a regulator's receiver would object to: sub-bands' duty cycles, dwell times, channel plans, power, payload.

Owns the rules and the list of what broke them; the air itself is `host_tools.sim.medium`. Written from the regulations
and LoRaWAN's tables, apart from `sealwire.radio`, which the devices go by, so that an error there does not hide here.

Sources: ETSI EN 300 220-2 V3.2.1 annex B, table B.1 (EU868); 47 CFR 15.247 (US915); ARIB STD-T108 3.4 (listen before
talk); LoRaWAN Regional Parameters RP002-1.0.4, the chapters named after the bands (all else).
"""

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from host_tools.sim.airtime import HOUR_S, Ledger, RadioError, RadioParams

VIOLATIONS_MAX = 100  # kept with their details; all are counted
LBT_S = 0.005
_EPSILON_S = 1e-6
_ON_CHANNEL_HZ = 1_000  # a synthesizer's step, and that tables are given in kHz


@dataclass(frozen=True)
class SubBand:
    """Frequencies with one duty cycle. `duty`: share of an hour, None: no limit; `power_dbm`: the most."""

    name: str
    low_hz: int
    high_hz: int
    duty: float | None
    power_dbm: int


@dataclass(frozen=True)
class Plan:
    """What a region allows.

    Attributes:
        sub_bands: where a packet has to lie with all of its bandwidth.
        uplink_max: longest PHYPayload by spreading factor at 125 kHz; others are not allowed.
        uplinks_hz: the only channels of uplinks; None: any in the sub-bands.
        downlinks_hz: the same of downlinks.
        downlink_bw_hz: their bandwidth.
        dwell_s: longest uplink; None: no limit.
        occupancy_s: the time in which an uplink channel may be used for `dwell_s` in all; None: any.
    """

    sub_bands: tuple[SubBand, ...]
    uplink_max: Mapping[int, int]
    uplinks_hz: tuple[int, ...] | None = None
    downlinks_hz: tuple[int, ...] | None = None
    downlink_bw_hz: int = 125_000
    dwell_s: float | None = None
    occupancy_s: float | None = None


# MACPayload plus MHDR and MIC
_UNLIMITED = {12: 64, 11: 64, 10: 64, 9: 128, 8: 255, 7: 255}
_DWELL = {10: 24, 9: 66, 8: 138, 7: 255}
_WIDE_DOWNLINKS_HZ = tuple(range(923_300_000, 927_500_001, 600_000))

PLANS: Mapping[str, Plan] = {
    "EU868": Plan(
        (
            SubBand("K", 863_000_000, 865_000_000, 0.001, 14),
            SubBand("L", 865_000_000, 868_000_000, 0.01, 14),
            SubBand("M", 868_000_000, 868_600_000, 0.01, 14),
            SubBand("N", 868_700_000, 869_200_000, 0.001, 14),
            SubBand("P", 869_400_000, 869_650_000, 0.1, 27),
            SubBand("Q", 869_700_000, 870_000_000, 0.01, 14),
        ),
        _UNLIMITED,
    ),
    "US915": Plan(
        (SubBand("902", 902_000_000, 928_000_000, None, 30),),
        _DWELL,
        tuple(range(902_300_000, 914_900_001, 200_000)),
        _WIDE_DOWNLINKS_HZ,
        500_000,
        0.4,
        20.0,
    ),
    "AS923": Plan((SubBand("915", 915_000_000, 928_000_000, 0.01, 16),), _DWELL, dwell_s=0.4),
    "AU915": Plan(
        (SubBand("915", 915_000_000, 928_000_000, None, 30),),
        _DWELL,
        tuple(range(915_200_000, 927_800_001, 200_000)),
        _WIDE_DOWNLINKS_HZ,
        500_000,
        0.4,
    ),
    "IN865": Plan((SubBand("865", 865_000_000, 867_000_000, None, 30),), _UNLIMITED),
}


@dataclass(frozen=True)
class Violation:
    """Something that was not allowed.

    Attributes:
        sender: who.
        rule: "channel", "power", "rate", "payload", "dwell", "occupancy", "duty" or "lbt".
        at: when the packet began, virtual Unix seconds.
        detail: what was measured, and the limit.
    """

    sender: str
    rule: str
    at: float
    detail: str


@dataclass(slots=True)
class Rules:
    """The rules of one region, applied to packets in the order of their ends.

    Args:
        region: a name of `PLANS`.
        lbt_dbm: uplinks may begin only where nothing stronger than this was heard for 5 ms; None: no such rule.

    Attributes:
        violations: the first 100.
        counts: all, by rule.
        ledgers: by sender and sub-band.
    """

    region: str
    lbt_dbm: float | None = None
    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    ledgers: dict[tuple[str, str], Ledger] = field(default_factory=dict)
    _occupied: dict[tuple[str, int], deque[tuple[float, float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.region not in PLANS:
            raise RadioError(f"region must be one of {', '.join(sorted(PLANS))}")

    def check(
        self, sender: str, length: int, params: RadioParams, span: tuple[float, float], level_dbm: float = -math.inf
    ) -> None:
        """Look at a packet that has ended.

        Args:
            sender: who sent it.
            length: its bytes.
            params: how it was modulated; inverted polarity marks a downlink.
            span: when it began and ended, virtual Unix seconds.
            level_dbm: the strongest that its sender could hear on the channel 5 ms before.
        """
        plan = PLANS[self.region]
        start, end = span

        def broken(rule: str, detail: str) -> None:
            self.counts[rule] += 1
            if len(self.violations) < VIOLATIONS_MAX:
                self.violations.append(Violation(sender, rule, start, detail))

        half = params.bw_hz / 2
        low, high = params.frequency_hz - half, params.frequency_hz + half
        band = next((b for b in plan.sub_bands if b.low_hz <= low and high <= b.high_hz), None)
        allowed = plan.downlinks_hz if params.invert_iq else plan.uplinks_hz
        if band is None or not (
            allowed is None or any(abs(params.frequency_hz - hz) <= _ON_CHANNEL_HZ for hz in allowed)
        ):
            broken("channel", f"{params.frequency_hz / 1e6:.4f} MHz, {params.bw_hz // 1000} kHz wide")
        if band is not None:
            if params.power_dbm > band.power_dbm:
                broken("power", f"{params.power_dbm} dBm of {band.power_dbm}")
            ledger = self.ledgers.setdefault((sender, band.name), Ledger())
            ledger.note(start, end)
            if band.duty is not None and ledger.last_hour_s > band.duty * HOUR_S + _EPSILON_S:
                broken("duty", f"{ledger.last_hour_s:.3f} s in an hour of {band.duty * HOUR_S:.1f} in {band.name}")
        if params.invert_iq:
            if params.bw_hz != plan.downlink_bw_hz:
                broken("rate", f"a downlink of {params.data_rate}")
            return
        if params.bw_hz != 125_000 or params.sf not in plan.uplink_max:
            broken("rate", f"an uplink of {params.data_rate}")
        elif length > plan.uplink_max[params.sf]:
            broken("payload", f"{length} bytes of {plan.uplink_max[params.sf]} at {params.data_rate}")
        if plan.dwell_s is not None and end - start > plan.dwell_s + _EPSILON_S:
            broken("dwell", f"{end - start:.3f} s of {plan.dwell_s}")
        if plan.dwell_s is not None and plan.occupancy_s is not None:
            used = self._occupancy(sender, params.frequency_hz, span, plan.occupancy_s)
            if used > plan.dwell_s + _EPSILON_S:
                broken("occupancy", f"{used:.3f} s in {plan.occupancy_s:.0f} s on {params.frequency_hz / 1e6:.1f} MHz")
        if self.lbt_dbm is not None and level_dbm > self.lbt_dbm:
            broken("lbt", f"began while {level_dbm:.0f} dBm were on the channel, of {self.lbt_dbm:.0f}")

    def _occupancy(self, sender: str, frequency_hz: int, span: tuple[float, float], window_s: float) -> float:
        """Seconds that the channel was used in the window that ends with this packet."""
        spans = self._occupied.setdefault((sender, frequency_hz), deque())
        spans.append(span)
        opened = span[1] - window_s
        while spans[0][1] <= opened:
            spans.popleft()
        return sum(end - max(start, opened) for start, end in spans)

    def to_json(self) -> dict[str, object]:
        """For the ether's statistics: the region, counts by rule, the first violations, the busiest hours."""
        bands: dict[str, dict[str, float]] = {}
        for (sender, band), ledger in sorted(self.ledgers.items()):
            bands.setdefault(sender, {})[band] = round(ledger.busiest_hour_s, 6)
        return {
            "region": self.region,
            "broken": dict(sorted(self.counts.items())),
            "violations": [
                {"sender": v.sender, "rule": v.rule, "at": v.at, "detail": v.detail} for v in self.violations
            ],
            "busiest_hour_s": bands,
        }
