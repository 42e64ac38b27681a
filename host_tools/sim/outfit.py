"""Puts the parts of a board definition on a wearer: what a virtual board's buses and pins see.

A part is added by one row of `PARTS`: what makes it of the wearer and the clock. One with an interrupt line has a
method `interrupt(time_s)`, its level at that Unix time, 0 or 1; asking for a time to come changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from boards import Board
from host_tools.sim.clock import SimClock
from host_tools.sim.gnss import Receiver
from host_tools.sim.parts import Part
from host_tools.sim.parts.battery import BatteryAdc
from host_tools.sim.parts.bma423 import Bma423
from host_tools.sim.parts.bme280 import Bme280
from host_tools.sim.parts.lsm6dsox import Lsm6dsox
from host_tools.sim.parts.max30102 import Max30102
from host_tools.sim.parts.max30205 import Max30205
from host_tools.sim.parts.tmp117 import Tmp117
from host_tools.sim.uart import Talker
from host_tools.sim.wearer import Wearer

PARTS: dict[str, Callable[[Wearer, Callable[[], float]], Part]] = {
    "BMA423": Bma423,
    "BME280": Bme280,
    "BMP280": partial(Bme280, chip_id=0x58),
    "LSM6DSOX": Lsm6dsox,
    "MAX30102": Max30102,
    "MAX30205": Max30205,
    "TMP117": Tmp117,
}


class PartUnknown(Exception):
    """The board has a part that is not simulated."""


@dataclass(frozen=True)
class Outfit:
    """Arguments for `VirtualBoard`: parts on the I2C bus, what returns microvolts by ADC pin, levels by pin, and what
    talks by UART.
    """

    parts: tuple[Part, ...]
    adc: dict[int, Callable[[], int]]
    inputs: dict[int, Callable[[float], int]] = field(default_factory=dict)
    serial: dict[int, Talker] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """The same as `VirtualBoard` takes them."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


def outfit(board: Board, wearer: Wearer, clock: SimClock) -> Outfit:
    """Everything that the board definition names, on this wearer.

    Raises:
        PartUnknown: there is no simulation of one of its parts.
    """
    parts: list[Part] = []
    inputs: dict[int, Callable[[float], int]] = {}
    for fitted in board.parts:
        make = PARTS.get(fitted.part)
        if make is None:
            raise PartUnknown(f"{board.name}: {fitted.part} is not simulated; there are: {', '.join(sorted(PARTS))}")
        part = make(wearer, clock.now)
        part.address = fitted.address
        parts.append(part)
        if fitted.interrupt is not None and hasattr(part, "interrupt"):
            inputs[fitted.interrupt] = part.interrupt
    if board.button is not None:
        inputs[board.button.pin] = partial(_button, wearer, board.button.active_low)
    adc: dict[int, Callable[[], int]] = {}
    if board.battery is not None and board.battery.adc is not None:
        adc[board.battery.adc] = BatteryAdc(wearer, clock.now, board.battery.divider)
    serial: dict[int, Talker] = {}
    if board.gnss is not None:
        serial[board.gnss.uart] = Receiver(wearer, baudrate=board.gnss.baudrate, enable=board.gnss.enable)
    return Outfit(tuple(parts), adc, inputs, serial)


def _button(wearer: Wearer, active_low: bool, time_s: float) -> int:
    return int(wearer.button(time_s) is not active_low)
