"""LSM6DSOX, accelerometer and gyroscope: registers, FIFO and interrupts as its datasheet has them (DS12814, AN5272).

Models the accelerometer's rates and ranges, software reset, the FIFO of 512 words in bypass, FIFO and continuous mode
with its tags, watermark and overrun, free-fall and wake-up recognition with latching and their way to INT1, and the
embedded pedometer, which counts the wearer's true steps after a debounce of ten. Not modelled: the gyroscope, INT2,
taps and 6D, the finite state machines and the machine learning core, compression, the bandwidth of the filters.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from host_tools.sim.parts import Fault, RegisterPart
from host_tools.sim.wearer import Wearer

ADDRESS: Final = 0x6A

_FUNC_CFG_ACCESS = 0x01
_FIFO_CTRL1 = 0x07
_FIFO_CTRL2 = 0x08
_FIFO_CTRL3 = 0x09
_FIFO_CTRL4 = 0x0A
_INT1_CTRL = 0x0D
_WHO_AM_I = 0x0F
_CTRL1_XL = 0x10
_CTRL3_C = 0x12
_CTRL4_C = 0x13
_ALL_INT_SRC = 0x1A
_WAKE_UP_SRC = 0x1B
_STATUS = 0x1E
_OUT = 0x28
_TAP_CFG0 = 0x56
_TAP_CFG2 = 0x58
_WAKE_UP_THS = 0x5B
_WAKE_UP_DUR = 0x5C
_FREE_FALL = 0x5D
_MD1_CFG = 0x5E
_TAG = 0x78
# chapter 8, "Register mapping": values after reset that are not 0
_RESET = {0x02: 0x3F, 0x12: 0x04, 0x18: 0xE0}
_READ_ONLY = frozenset({0x0F, *range(0x1A, 0x40), 0x49, 0x4A, *range(0x78, 0x7F)})
# section 9.17: samples a second by ODR_XL; 1011 is 1.6 Hz in low-power mode and 12.5 Hz else
_RATES_HZ = (0.0, 12.5, 26.0, 52.0, 104.0, 208.0, 416.0, 833.0, 1666.0, 3333.0, 6666.0, 1.6)
_RANGES_G = (2, 16, 4, 8)
# section 9.66: FF_THS in g
_FALLS_G = (0.156, 0.219, 0.250, 0.312, 0.344, 0.406, 0.469, 0.500)
_DEPTH = 512
_G_MS2 = 9.80665
_NOISE_G = 0.003  # table 3: RMS noise in low-power mode at 8 g
_DEBOUNCE = 10
_EMB_FUNC_EN_A = 0x04
_STEP_COUNTER = 0x62
_EMB_FUNC_SRC = 0x64
_FALL, _WAKE = 0x01, 0x02
# what neither falls nor strikes needs no look at every sample
_AT_REST = ("still", "lying")
Vector = tuple[float, float, float]


@dataclass
class _Seen:
    """What recognizing a free fall or an impact remembers of the samples before."""

    free_for: int = 0
    last: Vector | None = None


@dataclass
class _Ahead:
    """How far was looked ahead, and when the pin rises in that time."""

    at_s: float = 0.0
    raised_s: float | None = None
    seen: _Seen = field(default_factory=_Seen)


class Lsm6dsox(RegisterPart):
    """One accelerometer in a band on a wearer's wrist."""

    def __init__(self, wearer: Wearer, clock_now: Callable[[], float], *, seed: int = 0, who_am_i: int = 0x6C) -> None:
        """An accelerometer that was just powered up: it is in power-down.

        Args:
            wearer: whose wrist it is on.
            clock_now: Unix time, s; conversions happen by it.
            seed: of its noise.
            who_am_i: what register 0x0F says; another value is another part.
        """
        super().__init__(ADDRESS)
        self._wearer = wearer
        self._now = clock_now
        self._who_am_i = who_am_i
        self._noise = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self._power_up()

    def _power_up(self) -> None:
        self._registers = bytearray(128)
        self._embedded = bytearray(128)
        for register, value in _RESET.items():
            self._registers[register] = value
        self._fifo: list[bytes] = []
        self._word = b""
        self._tag_count = 0
        self._overrun = self._lost = False
        self._sources = 0
        self._seen = _Seen()
        self._ahead = _Ahead()
        self._steps_from_s = self._now()
        self._done_s = self._now()

    # --- conversions

    @property
    def rate_hz(self) -> float:
        """Output data rate of the accelerometer; 0 in power-down."""
        index = self._registers[_CTRL1_XL] >> 4
        return _RATES_HZ[index] if index < len(_RATES_HZ) else 0.0

    def _advance(self, now: float) -> None:
        if not self.rate_hz or self.fault is Fault.FROZEN:
            self._done_s = max(now, self._done_s)
            return
        count = int((now - self._done_s) * self.rate_hz + 1e-6)
        if count <= 0:
            return
        begin_s = self._done_s
        self._done_s += count / self.rate_hz
        mode = self._registers[_FIFO_CTRL4] & 7 if self._registers[_FIFO_CTRL3] & 0x0F else 0
        watches = bool(self._registers[_TAP_CFG2] & 0x80)
        for index in range(1, count + 1):
            time_s = begin_s + index / self.rate_hz
            kept = index == count or (mode == 1 and len(self._fifo) < _DEPTH) or (mode == 6 and count - index < _DEPTH)
            if not kept and not (watches and self._wearer.activity(time_s) not in _AT_REST):
                self._overrun |= mode == 6
                self._lost |= mode == 6
                continue
            vector = self._measure(time_s)
            if watches:
                sources = self._recognize(vector, self._seen)
                self._sources = self._sources | sources if self._registers[_TAP_CFG0] & 0x01 else sources
            if kept:
                self._keep(vector, mode)
        self._registers[_STATUS] |= 0x01

    def _measure(self, time_s: float) -> Vector:
        return self._felt(time_s, self._noise.gauss)

    def _felt(self, time_s: float, noise: Callable[[float, float], float] | None = None) -> Vector:
        full_g = _RANGES_G[self._registers[_CTRL1_XL] >> 2 & 3]
        x, y, z = (
            max(-full_g, min(full_g, metres / _G_MS2 + (noise(0.0, _NOISE_G) if noise else 0.0)))
            for metres in self._wearer.acceleration_ms2(time_s)
        )
        return x, y, z

    def _keep(self, vector: Vector, mode: int) -> None:
        full_g = _RANGES_G[self._registers[_CTRL1_XL] >> 2 & 3]
        data = b"".join(
            max(-32768, min(32767, round(value * 32768 / full_g))).to_bytes(2, "little", signed=True)
            for value in vector
        )
        self._registers[_OUT : _OUT + 6] = data
        if mode not in (1, 6):
            return
        if len(self._fifo) >= _DEPTH:
            self._overrun = self._lost = True
            if mode == 1:
                return
            self._fifo.pop(0)
        # section 9.78: sensor 02h is the accelerometer; a counter of two bits; even parity
        self._tag_count = (self._tag_count + 1) & 3
        tag = 0x02 << 3 | self._tag_count << 1
        self._fifo.append(bytes([tag | tag.bit_count() & 1]) + data)

    def _recognize(self, vector: Vector, seen: _Seen) -> int:
        """What one more sample is a sign of."""
        # AN5272 5.1: all three axes below the threshold for FF_DUR samples
        falls_g = _FALLS_G[self._registers[_FREE_FALL] & 7]
        seen.free_for = seen.free_for + 1 if max(map(abs, vector)) < falls_g else 0
        lasts = self._registers[_FREE_FALL] >> 3 | self._registers[_WAKE_UP_DUR] >> 2 & 0x20
        sources = _FALL if seen.free_for > lasts else 0
        # AN5272 5.2: the slope filter is half the difference of two samples
        weight = 256 if self._registers[_WAKE_UP_DUR] & 0x10 else 64
        full_g = _RANGES_G[self._registers[_CTRL1_XL] >> 2 & 3]
        limit_g = (self._registers[_WAKE_UP_THS] & 0x3F) * full_g / weight
        if seen.last and max(abs(a - b) / 2 for a, b in zip(vector, seen.last, strict=True)) > limit_g:
            sources |= _WAKE
        seen.last = vector
        return sources

    def interrupt(self, time_s: float) -> bool:
        """The level of INT1 at that time; asking for a time to come changes nothing."""
        if self.fault in (Fault.ABSENT, Fault.FROZEN):
            return False
        self._advance(self._now())
        raised = self._on_int1(self._sources) or (time_s > self._done_s and self._will_raise(time_s))
        raised |= bool(self._registers[_INT1_CTRL] & 0x08 and self._watermark())
        return raised != bool(self._registers[_CTRL3_C] & 0x20)

    def _on_int1(self, sources: int) -> bool:
        routes = self._registers[_MD1_CFG]
        return bool(sources & _FALL and routes & 0x10) or bool(sources & _WAKE and routes & 0x20)

    def _will_raise(self, time_s: float) -> bool:
        """Whether a free fall or an impact until then raises the pin; without noise, so that a second look agrees."""
        if not self._registers[_TAP_CFG2] & 0x80 or not self.rate_hz:
            return False
        ahead = self._ahead
        ahead.at_s = max(ahead.at_s, self._done_s)
        while ahead.raised_s is None and ahead.at_s + 1 / self.rate_hz <= time_s:
            ahead.at_s += 1 / self.rate_hz
            if self._wearer.activity(ahead.at_s) in _AT_REST:
                continue
            if self._on_int1(self._recognize(self._felt(ahead.at_s), ahead.seen)):
                ahead.raised_s = ahead.at_s
        if ahead.raised_s is None or time_s < ahead.raised_s:
            return False
        return bool(self._registers[_TAP_CFG0] & 0x01) or time_s < ahead.raised_s + 1 / self.rate_hz

    def _watermark(self) -> bool:
        level = self._registers[_FIFO_CTRL1] | (self._registers[_FIFO_CTRL2] & 1) << 8
        return bool(level) and len(self._fifo) >= level

    # --- the bus

    def write(self, data: bytes) -> None:
        self._advance(self._now())
        self._ahead = _Ahead()
        super().write(data)

    def read(self, n: int) -> bytes:
        self._advance(self._now())
        self._word = b""
        return super().read(n)

    def _next(self, register: int) -> int:
        if self._registers[_FUNC_CFG_ACCESS] & 0x80:
            return (register + 1) & 0x7F
        if not self._registers[_CTRL3_C] & 0x04:
            return register
        # section 6.5.7: a burst goes round the words of the FIFO
        return _TAG if register == _TAG + 6 else (register + 1) & 0x7F

    def _load(self, register: int) -> int:
        register &= 0x7F
        if self._registers[_FUNC_CFG_ACCESS] & 0x80 and register != _FUNC_CFG_ACCESS:
            return self._load_embedded(register)
        if _TAG <= register <= _TAG + 6:
            if register == _TAG or not self._word:
                self._word = self._fifo.pop(0) if self._fifo else bytes(7)
                self._lost = False
            return self._word[register - _TAG]
        match register:
            case 0x0F:
                return self._who_am_i
            case 0x1A | 0x1B:
                return self._source(register)
            case 0x3A:
                return len(self._fifo) & 0xFF
            case 0x3B:
                # section 9.37: FIFO_OVR_LATCHED until it is read, FIFO_OVR_IA as long as the FIFO is full
                latched, self._overrun = self._overrun, False
                full = len(self._fifo) >= _DEPTH
                over = full and self._lost
                return len(self._fifo) >> 8 | latched << 3 | over << 6 | full << 5 | self._watermark() << 7
        value = self._registers[register]
        if _OUT <= register < _OUT + 6:
            self._registers[_STATUS] = 0
        return value

    def _source(self, register: int) -> int:
        sources = self._sources
        if register == _ALL_INT_SRC:
            # section 9.61: INT_CLR_ON_READ
            self._sources = 0
            return sources
        return (sources & _FALL) << 5 | (sources & _WAKE) << 2

    def _load_embedded(self, register: int) -> int:
        if register in (_STEP_COUNTER, _STEP_COUNTER + 1):
            return self._steps() >> 8 * (register - _STEP_COUNTER) & 0xFF
        return self._embedded[register]

    def _steps(self) -> int:
        if not self._embedded[_EMB_FUNC_EN_A] & 0x08 or self.rate_hz < 26.0 or self.fault is Fault.FROZEN:
            return 0
        steps = self._wearer.steps(self._steps_from_s, self._now())
        return steps & 0xFFFF if steps >= _DEBOUNCE else 0

    def _store(self, register: int, value: int) -> None:
        register &= 0x7F
        if self._registers[_FUNC_CFG_ACCESS] & 0x80 and register != _FUNC_CFG_ACCESS:
            if register == _EMB_FUNC_EN_A and value & ~self._embedded[register] & 0x08:
                self._steps_from_s = self._now()
            if register == _EMB_FUNC_SRC and value & 0x80:
                self._steps_from_s = self._now()
                value = 0
            self._embedded[register] = value
        elif register == _CTRL3_C and value & 0x01:
            self._power_up()
        elif register not in _READ_ONLY:
            self._registers[register] = value
            if register == _CTRL1_XL:
                self._done_s = self._now()
            if register == _FIFO_CTRL4 and not value & 7:
                self._fifo = []
                self._overrun = self._lost = False
