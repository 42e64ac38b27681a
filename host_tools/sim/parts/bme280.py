"""BME280 and BMP280, pressure and temperature of the air: registers and conversions as their datasheets have them.

BST-BME280-DS001-23 and BST-BMP280-DS001-23. Models forced and normal mode, oversampling's time, reset, and the
constants of one part: those of the datasheet's worked example. What the converter tells is found from the wearer's air
by turning the floating-point formula (appendix 8.1) around, so that a driver's integers are checked against it. Not
modelled: humidity (its registers read as after a reset), the filter, SPI.
"""

import random
import struct
from collections.abc import Callable
from typing import Final

from host_tools.sim.parts import Fault, RegisterPart
from host_tools.sim.wearer import Wearer

ADDRESS: Final = 0x76
# BST-BMP280-DS001, section 3.12, "Calculating pressure and temperature": the example's constants
EXAMPLE: Final = (27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)

_CALIBRATION = 0x88
_ID = 0xD0
_RESET = 0xE0
_STATUS = 0xF3
_CONTROL = 0xF4
_CONFIG = 0xF5
_DATA = 0xF7
_SKIPPED = 0x80000
# BME280 section 1, noise at the lowest oversampling: about 3 Pa and 0.005 °C
_NOISE_PA, _NOISE_C = 2.0, 0.003
_START_S = 0.002


class Bme280(RegisterPart):
    """One barometer in the wearer's air."""

    def __init__(
        self,
        wearer: Wearer,
        clock_now: Callable[[], float],
        *,
        chip_id: int = 0x60,
        constants: tuple[int, ...] = EXAMPLE,
    ) -> None:
        """A part that was just powered up: it sleeps.

        Args:
            wearer: whose air it is in.
            clock_now: Unix time, s; conversions happen by it.
            chip_id: what register 0xD0 says: 0x60 BME280, 0x58 BMP280; another value is another part.
            constants: dig_T1 to dig_T3, dig_P1 to dig_P9.
        """
        super().__init__(ADDRESS)
        self._wearer = wearer
        self._now = clock_now
        self._chip_id = chip_id
        self._constants = constants
        self._converter = random.Random(ADDRESS)  # noqa: S311 - a simulation, no secret
        self._power_up()

    def _power_up(self) -> None:
        self._registers = bytearray(256)
        self._registers[_ID] = self._chip_id
        self._registers[_CALIBRATION : _CALIBRATION + 24] = struct.pack("<HhhHhhhhhhhh", *self._constants)
        # BME280 sections 5.4.7 to 5.4.9: what stands there after a reset
        self._registers[_DATA : _DATA + 8] = bytes((0x80, 0, 0, 0x80, 0, 0, 0x80, 0))
        self._ready_s = self._now() + _START_S
        self._started_s: float | None = None

    def _conversion_s(self) -> float:
        # section 9.1 (BME280): typical times
        temperature, pressure = (self._registers[_CONTROL] >> shift & 7 for shift in (5, 2))
        steps = [1 << code - 1 if code < 6 else 16 for code in (temperature, pressure) if code]
        return 0.001 + 0.002 * sum(steps) + (0.0005 if pressure else 0.0)

    def _advance(self) -> None:
        now = self._now()
        if self._started_s is None or self.fault is Fault.FROZEN or now < self._started_s + self._conversion_s():
            return
        control = self._registers[_CONTROL]
        celsius = self._wearer.ambient_c(now) + self._converter.gauss(0.0, _NOISE_C)
        pascal = self._wearer.pressure_hpa(now) * 100.0 + self._converter.gauss(0.0, _NOISE_PA)
        raw_t = _invert(lambda raw: fine_temperature(self._constants, raw) / 5120.0, celsius)
        fine = fine_temperature(self._constants, raw_t)
        raw_p = _invert(lambda raw: pressure_pa(self._constants, fine, raw), pascal)
        for place, raw, on in ((_DATA, raw_p, control >> 2 & 7), (_DATA + 3, raw_t, control >> 5)):
            self._registers[place : place + 3] = ((raw if on else _SKIPPED) << 4).to_bytes(3, "big")
        if control & 3 == 3:
            self._started_s = now
        else:
            self._registers[_CONTROL] &= ~3 & 0xFF
            self._started_s = None

    def write(self, data: bytes) -> None:
        self._advance()
        self._begin()
        if self.fault is Fault.DEAF or not data:
            self._pointer = data[0] if data else self._pointer
            return
        self._pointer = data[0]
        # section 5.2.1: a write takes pairs of register and value
        for register, value in zip(data[0::2], data[1::2], strict=False):
            self._store(register, value)

    def read(self, n: int) -> bytes:
        self._advance()
        return super().read(n)

    def _load(self, register: int) -> int:
        if register == _STATUS:
            return (0x08 if self._started_s is not None else 0) | (0x01 if self._now() < self._ready_s else 0)
        if _CALIBRATION <= register < _CALIBRATION + 24 and self._now() < self._ready_s:
            return 0
        return self._registers[register]

    def _store(self, register: int, value: int) -> None:
        if register == _RESET and value == 0xB6:
            self._power_up()
        elif register in (_CONTROL, _CONFIG):
            self._registers[register] = value
            if register == _CONTROL:
                self._started_s = self._now() if value & 3 else None


def fine_temperature(constants: tuple[int, ...], raw: int) -> float:
    """Temperature in 5120ths of a degree Celsius, as the formula in floating point has it (section 8.1).

    Args:
        constants: dig_T1 to dig_T3 and more.
        raw: what the converter told, 20 bits.
    """
    t1, t2, t3 = constants[:3]
    away = raw / 131072.0 - t1 / 8192.0
    return away * 8.0 * t2 + away * away * t3


def pressure_pa(constants: tuple[int, ...], fine: float, raw: int) -> float:
    """Pressure in Pa, as the formula in floating point has it (section 8.1).

    Args:
        constants: dig_T1 to dig_P9.
        fine: `fine_temperature` of the same conversion.
        raw: what the converter told, 20 bits.
    """
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = constants[3:]
    x = fine / 2.0 - 64000.0
    offset = (x * x * p6 / 32768.0 + x * p5 * 2.0) / 4.0 + p4 * 65536.0
    gain = (1.0 + (p3 * x * x / 524288.0 + p2 * x) / 524288.0 / 32768.0) * p1
    pascal = (1048576.0 - raw - offset / 4096.0) * 6250.0 / gain
    return pascal + (p9 * pascal * pascal / 2147483648.0 + pascal * p8 / 32768.0 + p7) / 16.0


def _invert(function: Callable[[int], float], wanted: float) -> int:
    """The 20-bit reading for which a monotonic function comes nearest to that value."""
    low, high = 0, (1 << 20) - 1
    rises = function(high) > function(low)
    while high - low > 1:
        middle = (low + high) // 2
        if (function(middle) < wanted) == rises:
            low = middle
        else:
            high = middle
    return min((low, high), key=lambda raw: abs(function(raw) - wanted))
