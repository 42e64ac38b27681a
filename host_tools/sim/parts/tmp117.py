"""TMP117, digital thermometer: registers and conversions as its datasheet has them (SNOSD82D).

Models continuous, one-shot and shutdown mode, averaging, the data-ready flag and soft reset. Not modelled: alerts,
EEPROM programming, the offset register's effect on accuracy.
"""

from collections.abc import Callable
from typing import Final

from host_tools.sim.parts import Fault, RegisterPart
from host_tools.sim.wearer import Wearer

ADDRESS: Final = 0x48

_TEMPERATURE = 0x00
_CONFIGURATION = 0x01
_OFFSET = 0x07
_DEVICE_ID = 0x0F
# section 7.6, "Register Map": values after reset
_RESET = {0x00: 0x8000, 0x01: 0x0220, 0x02: 0x6000, 0x03: 0x8000, 0x07: 0x0000, 0x0F: 0x0117}
_WRITABLE = frozenset({0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08})
_READY = 0x2000
_SOFT_RESET = 0x0002
# section 7.3.2, "Averaging": conversions by AVG[1:0], 15.5 ms each
_AVERAGES = (1, 8, 32, 64)
_CONVERSION_S = 0.0155
# section 7.6.2, CONV[2:0]: time from one result to the next unless averaging takes longer, s
_CYCLES_S = (0.0155, 0.125, 0.25, 0.5, 1.0, 4.0, 8.0, 16.0)


class Tmp117(RegisterPart):
    """One thermometer on a wearer's skin."""

    def __init__(self, wearer: Wearer, clock_now: Callable[[], float], *, device_id: int = 0x0117) -> None:
        """A thermometer that was just powered up: it converts continuously, as the EEPROM from the factory has it.

        Args:
            wearer: whose skin it touches.
            clock_now: Unix time, s; conversions happen by it.
            device_id: what register 0x0F says; another value is another part.
        """
        super().__init__(ADDRESS)
        self._wearer = wearer
        self._now = clock_now
        self._device_id = device_id
        self._reset()

    def _reset(self) -> None:
        self._words = dict(_RESET)
        self._words[_DEVICE_ID] = self._device_id
        self._half = b""
        self._started_s: float | None = self._now()

    def _mode(self) -> int:
        return self._words[_CONFIGURATION] >> 10 & 3

    def _conversion_s(self) -> float:
        return _AVERAGES[self._words[_CONFIGURATION] >> 5 & 3] * _CONVERSION_S

    def _advance(self) -> None:
        now = self._now()
        if self._started_s is None or now < self._started_s + self._conversion_s() or self.fault is Fault.FROZEN:
            return
        if self._mode() == 3:
            done_s = self._started_s + self._conversion_s()
            self._started_s = None
            # section 7.4.3: after a one-shot conversion the device shuts down
            self._words[_CONFIGURATION] = self._words[_CONFIGURATION] & ~0x0C00 | 0x0400
        else:
            cycle_s = max(_CYCLES_S[self._words[_CONFIGURATION] >> 7 & 7], self._conversion_s())
            done = int((now - self._started_s - self._conversion_s()) / cycle_s)
            done_s = self._started_s + done * cycle_s + self._conversion_s()
            self._started_s += (done + 1) * cycle_s
        # section 7.3.3: two's complement, 7.8125 m°C
        raw = round(self._wearer.skin_temperature_c(done_s) * 128)
        self._words[_TEMPERATURE] = (raw + self._words[_OFFSET]) & 0xFFFF
        self._words[_CONFIGURATION] |= _READY

    def write(self, data: bytes) -> None:
        self._advance()
        self._half = b""
        super().write(data)

    def read(self, n: int) -> bytes:
        self._advance()
        self._half = b""
        return super().read(n)

    def _next(self, register: int) -> int:
        # section 7.5.2: the pointer keeps its value; a register has two bytes, high byte first
        return register

    def _load(self, register: int) -> int:
        if not self._half:
            word = self._words.get(register, 0)
            self._half = word.to_bytes(2, "big")
            if register in (_TEMPERATURE, _CONFIGURATION):
                # section 7.6.2: reading either clears Data_Ready
                self._words[_CONFIGURATION] &= ~_READY
        value = self._half[0]
        self._half = self._half[1:]
        return value

    def _store(self, register: int, value: int) -> None:
        self._half += bytes([value])
        if len(self._half) < 2:
            return
        word = int.from_bytes(self._half, "big")
        self._half = b""
        if register not in _WRITABLE:
            return
        if register != _CONFIGURATION:
            self._words[register] = word
        elif word & _SOFT_RESET:
            self._reset()
        else:
            self._words[register] = word & 0x0FFC | self._words[register] & 0xF000
            self._started_s = None if self._mode() == 1 else self._now()
