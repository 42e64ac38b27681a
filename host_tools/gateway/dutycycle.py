"""What a gateway may put on the air: bands, power, and how long in any hour. Pure: every call says when.

A gateway's radio stands under the same rules as a device's. The ledger has one account for each gateway and band. It
takes a transmission only if, with it, no hour holds more than the band's share; so what it took can never exceed it,
in whatever order transmissions were planned (`Ledger.reserve` has the argument).

Sources: EU868: ETSI EN 300 220-2 V3.2.1 table B.1 (duty cycle and e.r.p. by band; e.i.r.p. is 2.15 dB more, and packet
forwarders and ChirpStack take e.i.r.p.). AS923: 1 %, LoRaWAN Regional Parameters RP002-1.0.4 section 2.7, which leaves
more to each country. US915, AU915 (47 CFR 15.247, 500 kHz) and IN865 (GSR 564(E)) have no duty cycle.
Time on air: Semtech AN1200.13, section 4.
"""

import math
import re
from collections import deque
from dataclasses import dataclass

HOUR_S = 3600.0
# `start` is as exact as a gateway's way to the bridge is short: an hour is kept this much longer
GUARD_S = 10.0
# downlinks are planned some seconds ahead, and not in the order of their times: entries stay so much longer
DISORDER_S = 120.0
ENTRIES_MAX = 10_000  # of one account: 36 s hold some hundred answers
ACCOUNTS_MAX = 8192

_DATA_RATE = re.compile(r"SF(\d{1,2})BW(\d{3})", re.ASCII)
_PREAMBLE, _CODING_RATE = 8, 1


class TransmissionRefused(Exception):
    """A gateway must not send this now. `reason` is one word of a closed list, for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


REASONS = ("band", "power", "duty_cycle", "ledger_full", "ledger_file")


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of spectrum with one rule.

    Attributes:
        low_hz, high_hz: its edges; a signal's whole bandwidth lies between them.
        permille: share of an hour that one transmitter may send; 1000: no limit.
        power_dbm: most radiated power (EIRP), dBm.
    """

    low_hz: int
    high_hz: int
    permille: int
    power_dbm: int


BANDS: dict[str, tuple[Band, ...]] = {
    "EU868": (
        Band(863_000_000, 865_000_000, 1, 16),
        Band(865_000_000, 868_000_000, 10, 16),
        Band(868_000_000, 868_600_000, 10, 16),
        Band(868_700_000, 869_200_000, 1, 16),
        Band(869_400_000, 869_650_000, 100, 29),
        Band(869_700_000, 870_000_000, 10, 16),
    ),
    "AS923": (Band(915_000_000, 928_000_000, 10, 16),),
    "US915": (Band(902_000_000, 928_000_000, 1000, 30),),
    "AU915": (Band(915_000_000, 928_000_000, 1000, 30),),
    "IN865": (Band(865_000_000, 867_000_000, 1000, 30),),
}


def airtime_s(data_rate: str, length: int) -> float:
    """How long a downlink of `length` bytes is on the air, seconds, at "SF7BW125".

    With explicit header, payload CRC, coding rate 4/5 and 8 preamble symbols, as all our downlinks.
    """
    match = _DATA_RATE.fullmatch(data_rate)
    if match is None:
        raise ValueError(f"no data rate: {data_rate!r}")
    sf, bandwidth_hz = int(match.group(1)), int(match.group(2)) * 1000
    symbol_s = 2.0**sf / bandwidth_hz
    optimised = symbol_s > 0.016  # low data rate optimisation, from 16.384 ms on
    bits = 8 * length - 4 * sf + (28 if sf >= 7 else 20) + 16
    payload = 8 + max(math.ceil(bits / (4 * (sf - 2 * optimised))), 0) * (_CODING_RATE + 4)
    # SF5 and SF6 of the SX126x have two more symbols of synchronisation
    return (_PREAMBLE + (4.25 if sf >= 7 else 6.25) + payload) * symbol_s


def band_of(region: str, frequency_hz: int, data_rate: str) -> Band:
    """The band that a signal lies in.

    Raises:
        TransmissionRefused: "band": in none of the region's.
    """
    match = _DATA_RATE.fullmatch(data_rate)
    half_hz = int(match.group(2)) * 500 if match else 0
    for band in BANDS.get(region, ()):
        if band.low_hz <= frequency_hz - half_hz and frequency_hz + half_hz <= band.high_hz:
            return band
    raise TransmissionRefused("band", f"{frequency_hz} Hz is no place for a gateway in {region}")


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One transmission that the ledger took; `start` and `end` in seconds of any clock that goes on."""

    account: tuple[str, Band]
    start: float
    end: float


class Ledger:
    """Who sends how long. Takes seconds of one clock throughout."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, Band], deque[Entry]] = {}

    def reserve(
        self, gateway: str, region: str, frequency_hz: int, data_rate: str, length: int, power_dbm: int, start: float
    ) -> Entry | None:
        """Enter a transmission that begins at `start`; None where there is no limit to keep.

        Refused if all that was taken and ends later than an hour before `start`, what is planned for later included,
        makes more than the band's share with it. So of all transmissions that touch any one hour, the one that was
        taken last was counted together with all the others: their sum is within the share. `start` may go back, by at
        most `DISORDER_S`.

        Raises:
            TransmissionRefused: "band", "power", "duty_cycle", or "ledger_full".
        """
        band = band_of(region, frequency_hz, data_rate)
        if power_dbm > band.power_dbm:
            raise TransmissionRefused("power", f"{power_dbm} dBm; the band allows {band.power_dbm}")
        if band.permille >= 1000:
            return None
        key = gateway, band
        entries = self._accounts.get(key)
        if entries is None:
            if len(self._accounts) >= ACCOUNTS_MAX and not self._forget(start):
                raise TransmissionRefused("ledger_full", "too many gateways send")
            entries = self._accounts[key] = deque()
        opened = start - HOUR_S - GUARD_S
        while entries and entries[0].end <= opened - DISORDER_S:
            entries.popleft()
        length_s = airtime_s(data_rate, length)
        used = math.fsum(entry.end - entry.start for entry in entries if entry.end > opened)
        if used + length_s > HOUR_S * band.permille / 1000 or len(entries) >= ENTRIES_MAX:
            raise TransmissionRefused("duty_cycle", f"{used:.1f} s of this hour are used")
        entry = Entry(key, start, start + length_s)
        entries.append(entry)
        return entry

    def restore(self, entry: Entry) -> None:
        """Enter a transmission that was taken earlier, by a ledger that is no more."""
        self._accounts.setdefault(entry.account, deque()).append(entry)

    def release(self, entry: Entry) -> None:
        """The gateway did not send it."""
        entries = self._accounts.get(entry.account)
        if entries is not None and entry in entries:
            entries.remove(entry)

    def used_s(self, gateway: str, now: float) -> float:
        """Seconds on the air in the hour up to `now`, all bands, of those that have a limit."""
        return math.fsum(
            entry.end - entry.start
            for (name, _), entries in self._accounts.items()
            if name == gateway
            for entry in entries
            if entry.end > now - HOUR_S
        )

    def _forget(self, now: float) -> bool:
        before = len(self._accounts)
        kept_from = now - HOUR_S - GUARD_S - DISORDER_S
        for key in [key for key, entries in self._accounts.items() if all(one.end <= kept_from for one in entries)]:
            del self._accounts[key]
        return len(self._accounts) < before
