"""The radio medium: who hears which packet, decided from virtual times alone.

Owns propagation, thresholds, collisions, loss and half duplex. No clock, thread or socket: every call says when. What
is decided depends on the times in the calls, not on the order in which they come, as long as a packet is entered
before somebody asks for it. `host_tools.sim.ether` serves it to processes.

The model: a packet arrives `delay_s` after it was sent, with the sender's power less the path loss of the pair and some
fading. It is heard if its SNR is above the demodulation floor of its spreading factor, if no other packet of the same
channel, bandwidth, spreading factor and polarity that overlaps it comes within 6 dB of it, if the receiver was not
itself transmitting, and if chance (`loss`) does not take it. Different spreading factors and opposite polarities are
orthogonal. A receiver that was switched on must catch the last five symbols of the preamble, and its time-out ends with
the header, as the SX126x's does (datasheet section 13.1.5).
"""

import math
import random
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from host_tools.sim.airtime import DEMODULATION_FLOOR_DB, PACKET_MAX, Ledger, RadioError, RadioParams, airtime_s
from host_tools.sim.rules import LBT_S, Rules

CAPTURE_DB = 6.0
LOCK_SYMBOLS = 5  # of the preamble; SX1261/2 datasheet section 6.1.1.1
KEEP_S = 600.0  # longer than the longest packet that overlaps one still to be judged
KEEP_MAX = 10_000
SENDERS_MAX = 1_000
LOSSES = ("loss", "weak", "collision", "half_duplex")


class TransmitRefused(Exception):
    """The packet did not go on the air; `reason` is one word, for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(slots=True, eq=False)
class Transmission:
    """One packet on the air. Times are virtual Unix seconds at the sender's antenna; `number` counts its sender's."""

    sender: str
    packet: bytes
    params: RadioParams
    start: float
    end: float
    number: int
    judged: dict[str, "Reception | str"] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Reception:
    """A packet as a receiver got it.

    Attributes:
        packet: its bytes.
        rssi: dBm.
        snr: dB.
        at: when it had ended at the receiver, virtual Unix seconds.
        params: how it was modulated.
    """

    packet: bytes
    rssi: float
    snr: float
    at: float
    params: RadioParams


@dataclass(frozen=True, slots=True)
class Window:
    """A receiver that is on from `start` and gives up at `end` unless it has read a header by then."""

    params: RadioParams
    start: float
    end: float


class Medium:
    """The air that everybody shares.

    Args:
        seed: makes fading and loss repeatable: the n-th packet of a sender has the same fate in each run.
        loss: chance that a receiver misses a packet for no reason, 0 to 1.
        delay_s: from sending to arriving.
        path_loss_db: of (sender, receiver) pairs in either order; others have `default_path_loss_db`.
        default_path_loss_db: 110 dB is about 1 km in a town.
        fading_db: standard deviation.
        noise_figure_db: of every receiver.
        rules: what every packet is held against, once it has ended; None: nothing.
    """

    def __init__(
        self,
        seed: int = 0,
        loss: float = 0.0,
        delay_s: float = 0.0,
        path_loss_db: Mapping[tuple[str, str], float] | None = None,
        default_path_loss_db: float = 110.0,
        fading_db: float = 1.0,
        noise_figure_db: float = 6.0,
        rules: Rules | None = None,
    ) -> None:
        if not 0.0 <= loss <= 1.0 or not 0.0 <= delay_s <= 60.0:
            raise RadioError("loss must be from 0 to 1 and delay_s from 0 to 60")
        self.seed = seed
        self.loss = loss
        self.delay_s = delay_s
        self.path_loss_db = dict(path_loss_db or {})
        self.default_path_loss_db = default_path_loss_db
        self.fading_db = fading_db
        self.noise_figure_db = noise_figure_db
        self.rules = rules
        self.ledgers: dict[str, Ledger] = {}
        self.delivered = 0
        self.lost = dict.fromkeys(LOSSES, 0)
        self._air: deque[Transmission] = deque()
        self._unsettled: list[Transmission] = []

    def transmit(self, sender: str, packet: bytes, params: RadioParams, start: float, now: float) -> Transmission:
        """Put a packet on the air at `start`, which may lie a little before or well after `now`.

        Raises:
            TransmitRefused: empty or too long, the sender still transmits, or the air's book is full.
        """
        if not 1 <= len(packet) <= PACKET_MAX:
            raise TransmitRefused("size", f"a packet has 1 to {PACKET_MAX} bytes")
        self.settle(now)
        if len(self._air) >= KEEP_MAX or (sender not in self.ledgers and len(self.ledgers) >= SENDERS_MAX):
            raise TransmitRefused("flood", "more packets or senders than the simulation keeps")
        end = start + airtime_s(params, len(packet))
        if any(other.sender == sender and other.start < end and start < other.end for other in self._air):
            raise TransmitRefused("busy", "this sender has another packet on the air at that time")
        ledger = self.ledgers.setdefault(sender, Ledger())
        ledger.entered += 1
        transmission = Transmission(sender, packet, params, start, end, ledger.entered)
        self._air.append(transmission)
        self._unsettled.append(transmission)
        return transmission

    def after_own(self, sender: str, start: float, tolerance_s: float) -> float:
        """`start`, or the end of this sender's packet that overlaps it by no more than `tolerance_s`."""
        ends = [t.end for t in self._air if t.sender == sender and t.start <= start < t.end <= start + tolerance_s]
        return max(ends, default=start)

    def settle(self, now: float) -> None:
        """Enter what has ended by `now` into its sender's ledger, and forget what nobody can ask for any more."""
        ended = [t for t in self._unsettled if t.end <= now]
        if ended:
            self._unsettled = [t for t in self._unsettled if t.end > now]
            for transmission in sorted(ended, key=lambda t: t.end):
                self.ledgers[transmission.sender].note(transmission.start, transmission.end)
                if self.rules is not None:
                    self._hold_against_rules(self.rules, transmission)
        if self._air and self._air[0].end < now - KEEP_S:
            self._air = deque(t for t in self._air if t.end >= now - KEEP_S)

    def _hold_against_rules(self, rules: Rules, sent: Transmission) -> None:
        level = -math.inf
        if rules.lbt_dbm is not None:
            level = self.level_dbm(sent.sender, sent.params.frequency_hz, sent.start - LBT_S)
        rules.check(sent.sender, len(sent.packet), sent.params, (sent.start, sent.end), level)

    def level_dbm(self, receiver: str, frequency_hz: int, at: float) -> float:
        """The strongest that a receiver has on a channel of 125 kHz at that time, its own noise at least."""
        noise = -174 + 10 * math.log10(125_000) + self.noise_figure_db
        return max((self._rssi(receiver, t) for t in self._on_channel(receiver, frequency_hz, at)), default=noise)

    def active(self, receiver: str, params: RadioParams, at: float) -> bool:
        """Whether a receiver finds LoRa symbols on its channel at that time, as CAD does."""
        noise = -174 + 10 * math.log10(params.bw_hz) + self.noise_figure_db + DEMODULATION_FLOOR_DB[params.sf]
        return any(
            interferes(params, t.params) and self._rssi(receiver, t) >= noise
            for t in self._on_channel(receiver, params.frequency_hz, at)
        )

    def _on_channel(self, receiver: str, frequency_hz: int, at: float) -> Iterator[Transmission]:
        for t in self._air:
            near = 2 * abs(t.params.frequency_hz - frequency_hz) < t.params.bw_hz + 125_000
            if near and t.sender != receiver and t.start + self.delay_s <= at < t.end + self.delay_s:
                yield t

    def arrival(self, transmission: Transmission) -> float:
        """When its last symbol reaches every receiver."""
        return transmission.end + self.delay_s

    def expected(self, receiver: str, window: Window) -> Transmission | None:
        """The first packet that a receiver in this window would lock on to and has not been judged for."""
        candidates = [
            t
            for t in self._air
            if t.sender != receiver
            and receiver not in t.judged
            and tuned(window.params, t.params)
            and self._locks(window, t)
        ]
        return min(candidates, key=lambda t: t.end, default=None)

    def _locks(self, window: Window, transmission: Transmission) -> bool:
        start, params = transmission.start + self.delay_s, transmission.params
        latest_on = start + max(0, params.preamble_len - LOCK_SYMBOLS) * params.symbol_s
        return window.start <= latest_on and start + params.header_s <= window.end

    def judge(self, receiver: str, transmission: Transmission) -> Reception | None:
        """What `receiver`, which was tuned to it and on, got of a packet that has ended. Asked again, the same."""
        verdict = transmission.judged.get(receiver)
        if verdict is None:
            verdict = transmission.judged[receiver] = self._verdict(receiver, transmission)
            if isinstance(verdict, str):
                self.lost[verdict] += 1
            else:
                self.delivered += 1
        return None if isinstance(verdict, str) else verdict

    def _verdict(self, receiver: str, transmission: Transmission) -> Reception | str:
        overlapping = [
            t for t in self._air if t is not transmission and t.start < transmission.end and transmission.start < t.end
        ]
        if any(t.sender == receiver for t in overlapping):
            return "half_duplex"
        chance = self._chance(receiver, transmission)
        rssi = self._rssi(receiver, transmission)
        noise = -174 + 10 * math.log10(transmission.params.bw_hz) + self.noise_figure_db
        snr = rssi - noise
        if snr < DEMODULATION_FLOOR_DB[transmission.params.sf]:
            return "weak"
        strongest = max(
            (self._rssi(receiver, t) for t in overlapping if interferes(t.params, transmission.params)),
            default=-math.inf,
        )
        if rssi - strongest < CAPTURE_DB:
            return "collision"
        if chance.random() < self.loss:
            return "loss"
        # a modem cannot tell much above 10 dB
        return Reception(
            transmission.packet,
            round(rssi, 1),
            round(min(snr, 10 + snr / 100), 1),
            self.arrival(transmission),
            transmission.params,
        )

    def _chance(self, receiver: str, transmission: Transmission) -> random.Random:
        return random.Random(f"{self.seed}/{transmission.sender}/{transmission.number}/{receiver}")  # noqa: S311

    def _rssi(self, receiver: str, transmission: Transmission) -> float:
        pair = (transmission.sender, receiver)
        loss_db = self.path_loss_db.get(pair, self.path_loss_db.get(pair[::-1], self.default_path_loss_db))
        fading = random.Random(f"{self.seed}~{transmission.sender}/{transmission.number}/{receiver}")  # noqa: S311
        return transmission.params.power_dbm - loss_db + fading.gauss(0, self.fading_db)


def tuned(receiver: RadioParams, sender: RadioParams) -> bool:
    """Whether a receiver set like this decodes a packet sent like that."""
    return (
        interferes(receiver, sender)
        and receiver.sync_word == sender.sync_word
        and receiver.implicit_header == sender.implicit_header
    )


def interferes(one: RadioParams, other: RadioParams) -> bool:
    """Whether two packets that overlap in time disturb each other; all others are taken as orthogonal."""
    return (
        one.sf == other.sf
        and one.bw_hz == other.bw_hz
        and one.invert_iq == other.invert_iq
        # SX1261/2 datasheet section 6.1.1.3: an offset of a quarter of the bandwidth is still demodulated
        and abs(one.frequency_hz - other.frequency_hz) * 4 <= one.bw_hz
    )
