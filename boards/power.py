"""What a board takes of its cell: `[power]` of a `board.toml` and the currents of its parts in `currents.toml`.

The one table of currents: the links' energy figures, the device's own ledger (`board.POWER`) and `sealband sim energy`
are all made from it. Figures only; for how long a part is in a state is the business of who asks.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from boards.table import BoardError, Table
from sealwire import charge, radio

RAIL_MV = 3300
CELL_MV = 3700  # a lithium cell's nominal voltage
FEEDS = frozenset({"rail", "cell"})
# which part of the ledger counts the readings of a part; all others are SENSORS
_LEDGER = {"MAX30102": charge.PULSE, "BMA423": charge.MOTION, "LSM6DSOX": charge.MOTION}
_MAX_MA = 2000.0


@dataclass(frozen=True)
class Currents:
    """One part: `ma` by state at its own supply, which that is (`feed`: rail or cell), where the figures are from."""

    ma: Mapping[str, float]
    feed: str
    source: str


@dataclass(frozen=True)
class Power:
    """What feeds a board, and what its parts take.

    Attributes:
        capacity_mah: of the cell.
        usable: share of it that is there before the board gives up, with age and cold.
        quiescent_ma: of the cell, always: regulator, PMU, whatever else is on the board.
        efficiency: of a switching regulator from the cell to 3.3 V; None: a linear one.
        source: where these figures are from.
        currents: of the parts that the board has and somebody has figures of, by name.
        unknown: the parts that nobody has figures of; they count as nothing.
    """

    capacity_mah: int
    usable: float
    quiescent_ma: float
    efficiency: float | None
    source: str
    currents: Mapping[str, Currents] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def cell_ua(self, part: str, state: str) -> float:
        """What that part takes of the cell in that state, in microamperes; 0 where nobody knows."""
        known = self.currents.get(part)
        if known is None:
            return 0.0
        ua = known.ma.get(state, 0.0) * 1000.0
        if known.feed == "cell" or self.efficiency is None:
            return ua
        return ua * RAIL_MV / (CELL_MV * self.efficiency)

    def tx_state(self, part: str, dbm: int) -> str:
        """The state of that radio for a transmission with so many dBm: the next listed power that is not less."""
        listed = sorted(int(name[3:]) for name in self.currents[part].ma if name.startswith("tx_"))
        return f"tx_{next((level for level in listed if level >= dbm), listed[-1])}"


@cache
def library() -> Mapping[str, Currents]:
    """All of `currents.toml`.

    Raises:
        BoardError: it is wrong.
    """
    path = Path(__file__).with_name("currents.toml")
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: _currents(Table(part, f"currents.toml: {name}")) for name, part in read.items()}


def _currents(table: Table) -> Currents:
    source = table.line("source")
    feed = table.choice("feed", FEEDS) if table.has("feed") else "rail"
    return Currents({state: table.number(state, 0.0, _MAX_MA) for state in table.left()}, feed, source)


def power(table: Table, parts: Mapping[str, str]) -> Power:
    """Section [power].

    Args:
        table: the section.
        parts: the board's parts, each with the name to fall back to where nobody has figures of it ("" for none).
    """
    found = {name: library().get(name, library().get(other)) for name, other in parts.items()}
    currents = {name: known for name, known in found.items() if known is not None}
    if own := table.table("currents"):
        for name in own.left():
            if name not in parts:
                raise own.error(name, "the board has no such part")
            mine = _currents(own.needed(name))
            kept = currents.get(name)
            currents[name] = Currents({**(kept.ma if kept else {}), **mine.ma}, mine.feed, mine.source)
    linear = table.choice("regulator", frozenset({"linear", "switching"})) == "linear"
    section = Power(
        capacity_mah=table.integer("capacity_mah", 10, 100_000),
        usable=table.number("usable", 0.1, 1.0),
        quiescent_ma=table.number("quiescent_ma", 0.0, 100.0),
        efficiency=None if linear else table.number("efficiency", 0.3, 1.0),
        source=table.line("source"),
        currents=currents,
        unknown=tuple(sorted(set(parts) - set(currents))),
    )
    table.end()
    return section


def radio_mw(chip: str, region: str) -> dict[str, int]:
    """What a transceiver takes of 3.3 V when it sends with the region's power, and when it listens, in mW."""
    known = library().get(chip)
    if known is None:
        raise BoardError(f"currents.toml: {chip}: missing")
    state = Power(1, 1.0, 0.0, None, "", {chip: known}).tx_state(chip, region_dbm(region))
    return {"tx_mw": round(known.ma[state] * RAIL_MV / 1000), "rx_mw": round(known.ma["rx"] * RAIL_MV / 1000)}


def region_dbm(region: str) -> int:
    """The power that a region leaves a board."""
    table = radio.region(region)
    return int(table[3]) if table else 14


def ledger(
    power: Power, chip: str, radio_chip: str | None, region: str, modem: str | None, gnss: str | None, parts: list[str]
) -> tuple[int, ...]:
    """`board.POWER`: microamperes of the cell, in the order of `sealwire.charge`: what flows always, then what each
    part of the ledger takes on top of that while it is at work, LoRa's receiver last.
    """
    standing = 1000.0 * power.quiescent_ma + power.cell_ua(chip, "deep_sleep")
    ua = [0.0] * (charge.LORA_RX + 1)
    # the node does not use light sleep: whoever waits is awake
    ua[charge.CHIP] = power.cell_ua(chip, "awake") - power.cell_ua(chip, "deep_sleep")
    ua[charge.WIFI] = power.cell_ua(chip, "wifi")
    if radio_chip:
        standing += power.cell_ua(radio_chip, "sleep")
        ua[charge.LORA] = power.cell_ua(radio_chip, power.tx_state(radio_chip, region_dbm(region)))
        ua[charge.LORA_RX] = power.cell_ua(radio_chip, "rx")
    if modem:
        standing += power.cell_ua(modem, "off")
        ua[charge.MODEM] = power.cell_ua(modem, "session")
    if gnss:
        standing += power.cell_ua(gnss, "off")
        ua[charge.GNSS] = power.cell_ua(gnss, "acquiring")
    for part in parts:
        standing += power.cell_ua(part, "standby")
        place = _LEDGER.get(part, charge.SENSORS)
        state = "working" if place == charge.MOTION else "measuring"
        ua[place] = max(ua[place], power.cell_ua(part, state))
    ua[charge.BOARD] = standing
    return tuple(round(value) for value in ua)
