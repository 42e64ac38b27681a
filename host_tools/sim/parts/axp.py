"""AXP2101 and AXP192, power management: the registers that switch outputs and measure the cell, plain memory otherwise.

Register numbers as in the makers' datasheets ("Register list") and in XPowersLib. Not modelled: charging, the key,
interrupts.
"""

from collections.abc import Callable
from typing import Final

from host_tools.sim.parts import Fault, RegisterPart
from host_tools.sim.wearer import Wearer

ADDRESS: Final = 0x34


class _Axp(RegisterPart):
    """A chip whose registers are memory, but for what `_measured` says."""

    def __init__(self, wearer: Wearer, clock_now: Callable[[], float]) -> None:
        super().__init__(ADDRESS)
        self._wearer = wearer
        self._now = clock_now
        self.memory = bytearray(256)

    def _millivolts(self) -> int:
        return round(self._wearer.battery_mv(self._now()))

    def _measure(self) -> None:
        raise NotImplementedError

    def read(self, n: int) -> bytes:
        if self.fault is not Fault.FROZEN:
            self._measure()
        return super().read(n)

    def _load(self, register: int) -> int:
        return self.memory[register]

    def _store(self, register: int, value: int) -> None:
        self.memory[register] = value


class Axp2101(_Axp):
    """An AXP2101 with a cell."""

    def __init__(self, wearer: Wearer, clock_now: Callable[[], float], *, chip_id: int = 0x4A) -> None:
        """A chip that was just powered up.

        Args:
            wearer: whose cell it is.
            clock_now: Unix time, s.
            chip_id: what register 0x03 says; another value is another part.
        """
        super().__init__(wearer, clock_now)
        self.memory[0x03] = chip_id
        self.memory[0x00] = 0x08  # a battery is there

    def _measure(self) -> None:
        if self.memory[0x30] & 1:
            self.memory[0x34:0x36] = self._millivolts().to_bytes(2, "big")


class Axp192(_Axp):
    """An AXP192 with a cell."""

    def __init__(self, wearer: Wearer, clock_now: Callable[[], float], *, chip_id: int = 0x03) -> None:
        """A chip that was just powered up.

        Args:
            wearer: whose cell it is.
            clock_now: Unix time, s.
            chip_id: what register 0x03 says; another value is another part.
        """
        super().__init__(wearer, clock_now)
        self.memory[0x03] = chip_id
        self.memory[0x01] = 0x20  # a battery is there
        self.memory[0x12] = 0x03  # DC1 and DC3, which feed the board

    def _measure(self) -> None:
        if self.memory[0x82] & 0x80:
            steps = round(self._millivolts() / 1.1)
            self.memory[0x78:0x7A] = bytes((steps >> 4 & 0xFF, steps & 0x0F))
