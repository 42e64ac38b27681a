"""A satellite receiver on a wearer: sentences of NMEA 0183 each second, as bytes that arrive on the chip's UART.

Owns what the receiver knows and says; when bytes arrive and what fits the buffer is `host_tools.sim.uart`'s. Places
come from `Wearer.position`, which is None where there is no sky. Everything is worked out when somebody looks.
"""

import enum
import math
import random
from datetime import UTC, datetime

from host_tools.sim.wearer import Wearer

# u-blox NEO-6 data sheet (GPS.G6-HW-09005), table 1: 26 s cold, 1 s hot; datum kept for as long as orbits are good
COLD_S, HOT_S, HOT_FOR_S = 27, 2, 4 * 3600
# how far a fix is off, m: one sigma of a civil receiver under open sky
NOISE_M = 2.5
_METRES_A_DEGREE = 111_319.5
_LOOKBACK_S = 90


class GnssFault(enum.Enum):
    """What can be wrong with a receiver or its line."""

    SILENT = "says nothing"
    NO_SKY = "hears no satellite, whatever the wearer does"
    GARBAGE = "bytes of another rate"
    CHECKSUM = "every checksum is wrong"
    TORN = "lines lose their ends"
    ENDLESS = "a line without an end"


class Receiver:
    """One receiver.

    Args:
        wearer: who carries it.
        seed: of the noise.
        enable: the pin that feeds it when high; None: it is always on.

    Attributes:
        baudrate: of its line.
        fault: what is wrong, None: nothing.
        spoof: a place (latitude, longitude, altitude) that it is made to believe, None: the wearer's.
        ahead_s: by how much the time is ahead that it is made to believe.
    """

    def __init__(self, wearer: Wearer, *, seed: int = 0, baudrate: int = 9600, enable: int | None = None) -> None:
        self._wearer = wearer
        self._random = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self.baudrate = baudrate
        self.fault: GnssFault | None = None
        self.spoof: tuple[float, float, float] | None = None
        self.ahead_s = 0
        self._said_s = 0  # up to this second all was said; 0: it is off
        self._heard_s = 0  # seconds of sky since it is fed
        self._fixed_s = -math.inf
        self._enable = enable
        self.on = enable is None

    def pin(self, number: int, level: int, now: float) -> None:
        """An output of the chip has this level: it is fed, or no more."""
        if number != self._enable:
            return
        if level and not self.on:
            self._said_s, self._heard_s = int(now), 0
        self.on = bool(level)

    def say(self, now: float) -> bytes:
        """What it has said since it was asked last."""
        if not self.on:
            return b""
        first = max(self._said_s, int(now) - _LOOKBACK_S) + 1
        said = b"".join(self._second(second) for second in range(first, int(now) + 1))
        self._said_s = max(self._said_s, int(now))
        return said

    def _second(self, second: int) -> bytes:
        place = self.spoof or self._wearer.position(second)
        if self.fault is GnssFault.NO_SKY:
            place = None
        needed_s = HOT_S if second - self._fixed_s < HOT_FOR_S else COLD_S
        self._heard_s = self._heard_s + 1 if place else 0
        fixed = place if place and self._heard_s >= needed_s else None
        if fixed:
            self._fixed_s = second
        known = self._fixed_s > -math.inf  # it has a clock of its own once it has seen a satellite's
        said = b"".join(sentence(body) for body in self._bodies(second, fixed, bool(place), known))
        match self.fault:
            case GnssFault.SILENT:
                return b""
            case GnssFault.GARBAGE:
                return self._random.randbytes(len(said))
            case GnssFault.CHECKSUM:
                return b"".join(sentence(body, wrong=1) for body in self._bodies(second, fixed, bool(place), known))
            case GnssFault.TORN:
                return b"".join(line[: self._random.randrange(len(line))] for line in said.splitlines(keepends=True))
            case GnssFault.ENDLESS:
                return said.replace(b"\r\n", b"").replace(b"$", b",")
        return said

    def _bodies(
        self, second: int, place: tuple[float, float, float] | None, heard: bool, known: bool
    ) -> tuple[str, ...]:
        when = datetime.fromtimestamp(second + self.ahead_s, UTC)
        clock, date = (f"{when:%H%M%S}.00", f"{when:%d%m%y}") if known else ("", "")
        satellites = 4 + second // 60 % 8 if place else 0
        hdop = f"{0.8 + 6 / max(satellites, 1) / 4:.2f}" if place else "99.99"
        strengths = [
            f"{7 * n % 32 + 1:02d},{20 + 3 * n},{40 * n % 360:03d},{30 + n if heard else ''}" for n in range(4)
        ]
        north, east = self._random.gauss(0.0, NOISE_M), self._random.gauss(0.0, NOISE_M)
        where, height = ",,,", ","
        if place:
            latitude = place[0] + north / _METRES_A_DEGREE
            longitude = place[1] + east / _METRES_A_DEGREE / math.cos(math.radians(place[0]))
            where = f"{_minutes(latitude, 2)},{'NS'[latitude < 0]},{_minutes(longitude, 3)},{'EW'[longitude < 0]}"
            height = f"{place[2] + 1.5 * north:.1f},M"
        return (
            f"GNRMC,{clock},{'A' if place else 'V'},{where},0.1,,{date},,,{'A' if place else 'N'}",
            f"GNGGA,{clock},{where},{int(bool(place))},{satellites:02d},{hdop},{height},47.0,M,,",
            f"GNGSA,A,{3 if place else 1},{','.join(['07', '14', '21', '28'] + [''] * 8)},1.9,{hdop},1.2",
            f"GPGSV,1,1,04,{','.join(strengths)}",
        )


def sentence(body: str, wrong: int = 0) -> bytes:
    """A whole sentence: `$`, the body, its checksum (with these bits wrong) and the end of the line."""
    check = wrong
    for byte in body.encode("ascii"):
        check ^= byte
    return f"${body}*{check:02X}\r\n".encode("ascii")


def _minutes(degrees: float, width: int) -> str:
    """dddmm.mmmmm"""
    units = round(abs(degrees) * 60 * 100_000)
    whole, part = divmod(units, 60 * 100_000)
    return f"{whole:0{width}d}{part // 100_000:02d}.{part % 100_000:05d}"
