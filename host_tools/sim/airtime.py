"""LoRa's modulation: its parameters, how long a packet occupies the air, and the regulator's sum over an hour.

Owns the arithmetic only; who hears whom is `host_tools.sim.medium`. Written from SX1261/2 datasheet rev 2.1 section
6.1.4, apart from the device's own computation, so that an error in one does not hide in the other.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

PACKET_MAX = 255
HOUR_S = 3600.0
# Semtech AN1200.22: a symbol this long or longer needs low data rate optimisation
LOW_DATA_RATE_SYMBOL_S = 0.01638
# SX1261/2 datasheet table 6-1: the least signal to noise ratio that is still demodulated
DEMODULATION_FLOOR_DB = {5: -2.5, 6: -5.0, 7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}


class RadioError(Exception):
    """Radio parameters that no modem has."""


@dataclass(frozen=True, slots=True)
class RadioParams:
    """How a packet is modulated, or what a receiver is set to.

    Attributes:
        frequency_hz: centre frequency.
        sf: spreading factor, 5 to 12.
        bw_hz: bandwidth, 7,800 to 500,000.
        coding_rate: 5 to 8, for 4/5 to 4/8.
        preamble_len: programmed preamble, symbols.
        crc: a payload CRC is sent.
        invert_iq: polarity; a gateway's downlinks are inverted.
        power_dbm: radiated power; of no meaning to a receiver.
        sync_word: 0x34 for public networks.
        implicit_header: no header is sent; both ends know the length.
    """

    frequency_hz: int
    sf: int
    bw_hz: int = 125_000
    coding_rate: int = 5
    preamble_len: int = 8
    crc: bool = True
    invert_iq: bool = False
    power_dbm: int = 14
    sync_word: int = 0x34
    implicit_header: bool = False

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise RadioError(f"{name} must be a whole number from {low} to {high}")
        for name in ("crc", "invert_iq", "implicit_header"):
            if type(getattr(self, name)) is not bool:
                raise RadioError(f"{name} must be true or false")

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, by field name."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what `to_json` wrote; RadioError for anything else."""
        if not isinstance(value, dict) or not value.keys() <= set(cls.__slots__):
            raise RadioError("radio parameters must be an object of known keys")
        try:
            return cls(**value)
        except TypeError as error:
            raise RadioError("frequency_hz and sf are needed") from error

    @property
    def symbol_s(self) -> float:
        """Length of one symbol, seconds."""
        return (1 << self.sf) / self.bw_hz

    @property
    def header_s(self) -> float:
        """From a packet's start until its header is read, seconds: preamble, sync word, first block."""
        return (self.preamble_len + (6.25 if self.sf < 7 else 4.25) + 8) * self.symbol_s

    @property
    def data_rate(self) -> str:
        """As packet forwarders write it: "SF7BW125"."""
        return f"SF{self.sf}BW{self.bw_hz // 1000}"


_RANGES = (
    ("frequency_hz", 100_000_000, 3_000_000_000),
    ("sf", 5, 12),
    ("bw_hz", 7_800, 500_000),
    ("coding_rate", 5, 8),
    ("preamble_len", 1, 65535),
    ("power_dbm", -20, 30),
    ("sync_word", 0, 0xFFFF),
)


def symbol_count(params: RadioParams, length: int) -> float:
    """Symbols of a packet of `length` bytes, preamble included (SX1261/2 datasheet section 6.1.4)."""
    payload_bits = 8 * length + (16 if params.crc else 0) - 4 * params.sf + (0 if params.implicit_header else 20)
    if params.sf < 7:
        sync_symbols, bits_per_symbol = 6.25, 4 * params.sf
    else:
        sync_symbols, bits_per_symbol = 4.25, 4 * params.sf
        payload_bits += 8
        if params.symbol_s >= LOW_DATA_RATE_SYMBOL_S:
            bits_per_symbol = 4 * (params.sf - 2)
    coded = math.ceil(max(payload_bits, 0) / bits_per_symbol) * params.coding_rate
    return params.preamble_len + sync_symbols + 8 + coded


def airtime_s(params: RadioParams, length: int) -> float:
    """How long a packet of `length` bytes (0 to 255) occupies the air, seconds."""
    if not 0 <= length <= PACKET_MAX:
        raise RadioError(f"a packet has 0 to {PACKET_MAX} bytes")
    return symbol_count(params, length) * params.symbol_s


@dataclass(slots=True)
class Ledger:
    """What a regulator's receiver would note of one transmitter in one band.

    Memory is that of the last hour's transmissions, since nothing older can change the busiest hour to come.
    """

    total_s: float = 0.0
    busiest_hour_s: float = 0.0
    last_hour_s: float = 0.0  # of the hour that ended with the last transmission
    packets: int = 0
    entered: int = 0  # packets begun or planned; `packets` have ended
    _recent: deque[tuple[float, float]] = field(default_factory=deque)

    def note(self, start: float, end: float) -> None:
        """Enter one transmission (any clock, seconds); transmissions come in the order of their ends."""
        self.total_s += end - start
        self.packets += 1
        self._recent.append((start, end))
        # The busiest of all windows is one that ends together with a transmission: moving it either way cannot gain.
        opened = end - HOUR_S
        while self._recent[0][1] <= opened:
            self._recent.popleft()
        self.last_hour_s = sum(e - max(s, opened) for s, e in self._recent)
        self.busiest_hour_s = max(self.busiest_hour_s, self.last_hour_s)
