"""Puts the parts of a board definition on a wearer: what a virtual board's buses and ADC pins see."""

from collections.abc import Callable
from dataclasses import dataclass

from boards import Board
from host_tools.sim.clock import SimClock
from host_tools.sim.parts import Part
from host_tools.sim.parts.battery import BatteryAdc
from host_tools.sim.parts.max30102 import Max30102
from host_tools.sim.parts.tmp117 import Tmp117
from host_tools.sim.wearer import Wearer

PARTS: dict[str, Callable[[Wearer, Callable[[], float]], Part]] = {"MAX30102": Max30102, "TMP117": Tmp117}


class PartUnknown(Exception):
    """The board has a part that is not simulated."""


@dataclass(frozen=True)
class Outfit:
    """Arguments for `VirtualBoard`: parts on the I2C bus, and what returns microvolts by ADC pin."""

    parts: tuple[Part, ...]
    adc: dict[int, Callable[[], int]]


def outfit(board: Board, wearer: Wearer, clock: SimClock) -> Outfit:
    """Everything that the board definition names, on this wearer.

    Raises:
        PartUnknown: there is no simulation of one of its parts.
    """
    parts: list[Part] = []
    for fitted in board.parts:
        make = PARTS.get(fitted.part)
        if make is None:
            raise PartUnknown(f"{board.name}: {fitted.part} is not simulated; there are: {', '.join(sorted(PARTS))}")
        part = make(wearer, clock.now)
        part.address = fitted.address
        parts.append(part)
    battery = board.battery
    if battery is None or battery.adc is None:
        return Outfit(tuple(parts), {})
    return Outfit(tuple(parts), {battery.adc: BatteryAdc(wearer, clock.now, battery.divider)})
