"""MAX30102, optical heart-rate sensor: registers, FIFO and LEDs as its datasheet has them (19-7740 Rev 1).

Models the heart-rate, SpO2 and multi-LED modes, averaging, overflow, saturation, ambient light that its cancellation
leaves over, shutdown, reset and the die's thermometer, at the speed of the clock that it is given. What skin gives back
in red follows from the wearer's saturation by the maker's example curve, so that a whole measurement can be compared
with it. Not modelled: the interrupt pin, timing of the bus.
"""

import math
import random
from collections.abc import Callable
from typing import Final

from host_tools.sim.parts import Fault, RegisterPart
from host_tools.sim.wearer import Wearer

ADDRESS: Final = 0x57

_STATUS_1 = 0x00
_STATUS_2 = 0x01
_FIFO_WRITE = 0x04
_OVERFLOW = 0x05
_FIFO_READ = 0x06
_FIFO_DATA = 0x07
_FIFO_CONFIG = 0x08
_MODE_CONFIG = 0x09
_SPO2_CONFIG = 0x0A
_LED1 = 0x0C
_LED2 = 0x0D
_SLOTS = (0x11, 0x12)
_TEMP_INTEGER = 0x1F
_TEMP_FRACTION = 0x20
_TEMP_CONFIG = 0x21
_REVISION = 0xFE
_PART_ID = 0xFF

_DEPTH = 32
_FULL_SCALE = (1 << 18) - 1
_WRITABLE = frozenset({0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0C, 0x0D, 0x11, 0x12, 0x21})
# "SpO2 Configuration (0x0A)": conversions a second, full scale in nA
_RATES_HZ = (50, 100, 200, 400, 800, 1000, 1600, 3200)
_RANGES_NA = (2048, 4096, 8192, 16384)
_RED, _INFRARED = 1, 2

# What skin before the window gives back, measured figures being all over the place: nA of photocurrent an mA of LED
# current, and the part of it that the pulse moves. Without skin only the window's own reflex is left.
_SKIN_NA_PER_MA = {_RED: 250.0, _INFRARED: 330.0}
# saturation = a R^2 + b R + c for the ratio of ratios R: application note 6845, "Guidelines for SpO2 Measurement Using
# the Maxim MAX32664 Sensor Hub", for a MAX30101, whose LEDs and photodiode these are
_CURVE = (1.5958422, -34.6596622, 112.6898759)
_WINDOW_NA_PER_MA = 4.0
_NOISE_NA = 0.08


class Max30102(RegisterPart):
    """One sensor on a wearer's skin."""

    def __init__(
        self,
        wearer: Wearer,
        clock_now: Callable[[], float],
        *,
        seed: int = 0,
        part_id: int = 0x15,
        leak_na: Callable[[float], float] | None = None,
    ) -> None:
        """A sensor that was just powered up.

        Args:
            wearer: whose pulse it sees.
            clock_now: Unix time, s; conversions happen by it.
            seed: of the photodiode's noise.
            part_id: what register 0xFF says; another value is another part.
            leak_na: photocurrent by ambient light that the cancellation leaves over, by Unix time; none by default.
        """
        super().__init__(ADDRESS)
        self._wearer = wearer
        self._now = clock_now
        self._part_id = part_id
        self._leak_na = leak_na
        self._diode = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self._power_up()

    def _power_up(self) -> None:
        self._registers = bytearray(256)
        self._registers[_STATUS_1] = 0x01  # PWR_RDY
        self._fifo: list[bytes] = [bytes(3)] * _DEPTH
        self._unread = 0
        self._popped = b""
        self._done_s = self._now()
        self._temperature_at: float | None = None

    # --- conversions

    def _channels(self) -> tuple[int, ...]:
        mode = self._registers[_MODE_CONFIG]
        if mode & 0x80:
            return ()
        match mode & 7:
            case 2:
                return (_RED,)
            case 3:
                return (_RED, _INFRARED)
            case 7:
                slots = [self._registers[register] >> shift & 7 for register in _SLOTS for shift in (0, 4)]
                return tuple(slot for slot in slots if slot in (_RED, _INFRARED))
        return ()

    def _advance(self) -> None:
        now = self._now()
        channels = self._channels()
        averaged = min(1 << (self._registers[_FIFO_CONFIG] >> 5), 32)
        rate_hz = _RATES_HZ[self._registers[_SPO2_CONFIG] >> 2 & 7]
        period_s = averaged / rate_hz
        count = int((now - self._done_s) / period_s)
        if not channels or self.fault is Fault.FROZEN:
            self._done_s = now
            return
        rolls = self._registers[_FIFO_CONFIG] & 0x10
        # of what will be lost only the number matters
        skipped = max(0, count - 2 * _DEPTH) if rolls else max(0, count - (_DEPTH - self._unread))
        first = skipped if rolls else 0
        if rolls:
            self._lose(skipped)
        for index in range(first, count if rolls else count - skipped):
            begin_s = self._done_s + index * period_s
            self._push(b"".join(self._convert(led, begin_s, averaged, rate_hz) for led in channels), bool(rolls))
        if not rolls:
            self._lose(skipped)
        if count:
            self._registers[_STATUS_1] |= 0x40  # PPG_RDY
        if self._unread >= _DEPTH - (self._registers[_FIFO_CONFIG] & 0x0F):
            self._registers[_STATUS_1] |= 0x80  # A_FULL
        self._done_s += count * period_s

    def _convert(self, led: int, begin_s: float, averaged: int, rate_hz: int) -> bytes:
        current_ma = self._registers[_LED1 if led == _RED else _LED2] * 0.2
        range_na = _RANGES_NA[self._registers[_SPO2_CONFIG] >> 5 & 3]
        total = 0
        for step in range(averaged):
            time_s = begin_s + step / rate_hz
            if self._wearer.worn(time_s):
                # more blood swallows more light
                light_na = current_ma * _SKIN_NA_PER_MA[led] * (1.0 - self._pulsing(led, time_s))
            else:
                light_na = current_ma * _WINDOW_NA_PER_MA
            if self._leak_na is not None:
                light_na += self._leak_na(time_s)
            light_na += self._diode.gauss(0.0, _NOISE_NA)
            total += max(0, min(_FULL_SCALE, round(light_na / range_na * _FULL_SCALE)))
        # "LED_PW[1:0]": a shorter pulse gives fewer bits, left-justified
        unused_bits = 3 - (self._registers[_SPO2_CONFIG] & 3)
        return (total // averaged >> unused_bits << unused_bits).to_bytes(3, "big")

    def _pulsing(self, led: int, time_s: float) -> float:
        """What part of the light the blood takes away, more or less than its mean."""
        part = self._wearer.perfusion(time_s) * self._wearer.ppg(time_s)
        return part * ratio_of_ratios(self._wearer.spo2_percent(time_s)) if led == _RED else part

    def _push(self, sample: bytes, rolls: bool) -> None:
        if self._unread == _DEPTH:
            self._lose(1)
            if not rolls:
                return
            self._registers[_FIFO_READ] = (self._registers[_FIFO_READ] + 1) % _DEPTH
            self._unread -= 1
        place = self._registers[_FIFO_WRITE]
        self._fifo[place] = sample
        self._registers[_FIFO_WRITE] = (place + 1) % _DEPTH
        self._unread += 1

    def _lose(self, count: int) -> None:
        # "OVF_COUNTER": saturates at 0x1F
        self._registers[_OVERFLOW] = min(0x1F, self._registers[_OVERFLOW] + count)

    # --- the bus

    def write(self, data: bytes) -> None:
        self._advance()
        super().write(data)

    def read(self, n: int) -> bytes:
        self._advance()
        self._popped = b""  # a transaction begins with the first byte of a sample
        return super().read(n)

    def _next(self, register: int) -> int:
        # "FIFO Data Register": the address stays, the FIFO moves
        return register if register == _FIFO_DATA else super()._next(register)

    def _load(self, register: int) -> int:
        match register:
            case 0x07:
                return self._pop()
            case 0x00 | 0x01:
                value = self._registers[register]
                self._registers[register] = 0  # reading clears
                return value
            case 0x1F | 0x20 | 0x21:
                self._measure_temperature()
                return self._registers[register]
            case 0xFE:
                return 0x03
            case 0xFF:
                return self._part_id
        return self._registers[register]

    def _pop(self) -> int:
        if not self._popped:
            place = self._registers[_FIFO_READ]
            self._popped = self._fifo[place]
            if self._unread:
                # the read pointer moves with a sample's first byte, and moving it clears the overflow counter
                self._registers[_FIFO_READ] = (place + 1) % _DEPTH
                self._registers[_OVERFLOW] = 0
                self._unread -= 1
        value = self._popped[0]
        self._popped = self._popped[1:]
        return value

    def _store(self, register: int, value: int) -> None:
        if register not in _WRITABLE:
            return
        if register in (_FIFO_WRITE, _OVERFLOW, _FIFO_READ):
            self._registers[register] = value & 0x1F
            self._unread = (self._registers[_FIFO_WRITE] - self._registers[_FIFO_READ]) % _DEPTH
        elif register == _MODE_CONFIG and value & 0x40:
            self._power_up()
        elif register == _TEMP_CONFIG and value & 1:
            self._registers[register] = 1
            self._temperature_at = self._now() + 0.029  # "Temperature Sensor": 29 ms
        elif register != _FIFO_DATA:
            self._registers[register] = value
            if register in (_MODE_CONFIG, _SPO2_CONFIG, _FIFO_CONFIG):
                self._done_s = self._now()

    def _measure_temperature(self) -> None:
        if self._temperature_at is None or self._now() < self._temperature_at:
            return
        sixteenths = round((self._wearer.skin_temperature_c(self._temperature_at) + 1.5) * 16)
        self._registers[_TEMP_INTEGER] = sixteenths >> 4 & 0xFF
        self._registers[_TEMP_FRACTION] = sixteenths & 0x0F
        self._registers[_TEMP_CONFIG] = 0
        self._registers[_STATUS_2] |= 0x02  # DIE_TEMP_RDY
        self._temperature_at = None


def ratio_of_ratios(percent: float) -> float:
    """R at that saturation: the pulse's part of red by its part of infrared."""
    a, b, c = _CURVE
    return (-b - math.sqrt(b * b - 4.0 * a * (c - percent))) / (2.0 * a)
