"""MAX30205, clinical thermometer: registers and conversions as its datasheet has them (19-8505 Rev 0).

Models one-shot, continuous and shutdown mode and the converter's noise. Not modelled: the OS output, the extended
format, the time-out of the bus.
"""

import random
from collections.abc import Callable
from typing import Final

from host_tools.sim.parts import Fault, RegisterPart
from host_tools.sim.wearer import Wearer

ADDRESS: Final = 0x48

_TEMPERATURE, _CONFIGURATION, _HYSTERESIS, _LIMIT = range(4)
# "Electrical Characteristics": typical conversion time
_CONVERSION_S = 0.044
# no figure in the datasheet: a converter of 16 bits does not stand still
_NOISE_C = 0.004


class Max30205(RegisterPart):
    """One thermometer on a wearer's skin."""

    def __init__(self, wearer: Wearer, clock_now: Callable[[], float], *, limit_mask: int = 0xFFFF) -> None:
        """A thermometer that was just powered up: it converts continuously.

        Args:
            wearer: whose skin it touches.
            clock_now: Unix time, s; conversions happen by it.
            limit_mask: which bits of its limits it keeps; 0xFF80 is an LM75, 0xFFF0 a TMP75.
        """
        super().__init__(ADDRESS)
        self._wearer = wearer
        self._now = clock_now
        self._limit_mask = limit_mask
        self._converter = random.Random(ADDRESS)  # noqa: S311 - a simulation, no secret
        # "Internal Registers": values after power-up
        self._words = {_TEMPERATURE: 0, _HYSTERESIS: 0x4B00, _LIMIT: 0x5000}
        self._configuration = 0
        self._half = b""
        self._started_s: float | None = clock_now()

    def _advance(self) -> None:
        now = self._now()
        if self._started_s is None or now < self._started_s + _CONVERSION_S or self.fault is Fault.FROZEN:
            return
        done = int((now - self._started_s) / _CONVERSION_S)
        done_s = self._started_s + done * _CONVERSION_S
        celsius = self._wearer.skin_temperature_c(done_s) + self._converter.gauss(0.0, _NOISE_C)
        self._words[_TEMPERATURE] = round(celsius * 256) & 0xFFFF
        self._started_s = None if self._configuration & 1 else done_s

    def write(self, data: bytes) -> None:
        self._advance()
        self._half = b""
        super().write(data)

    def read(self, n: int) -> bytes:
        self._advance()
        self._half = b""
        return super().read(n)

    def _next(self, register: int) -> int:
        return register

    def _load(self, register: int) -> int:
        # the pointer has two bits; "Configuration Register": one byte, told again as the second of two
        register &= 3
        if register == _CONFIGURATION:
            return self._configuration
        if not self._half:
            self._half = self._words[register].to_bytes(2, "big")
        value = self._half[0]
        self._half = self._half[1:]
        return value

    def _store(self, register: int, value: int) -> None:
        register &= 3
        if register == _CONFIGURATION:
            if value & 0x81 == 0x81 or (not value & 1 and self._started_s is None):
                self._started_s = self._now()
            self._configuration = value & 0x7F  # the start bit reads 0
            return
        self._half += bytes([value])
        if len(self._half) == 2:
            if register != _TEMPERATURE:
                self._words[register] = int.from_bytes(self._half, "big") & self._limit_mask
            self._half = b""
