"""BMA423, accelerometer: registers, conversions and FIFO as its datasheet has them (BST-BMA423-DS000).

Models soft reset, the accelerometer's rates and ranges, and the FIFO in streaming and in stop mode, with headers and
without, with its skip frame and its sensor time frame. Not modelled: the feature engine (which answers only to a
program of the maker's), interrupts, the auxiliary interface, self-test, the bandwidth of the filters.
"""

import random
from collections.abc import Callable
from typing import Final

from host_tools.sim.parts import Fault, RegisterPart
from host_tools.sim.wearer import Wearer

ADDRESS: Final = 0x19

_CHIP_ID = 0x00
_STATUS = 0x03
_DATA = 0x12
_SENSORTIME = 0x18
_LENGTH = 0x24
_FIFO_DATA = 0x26
_ACC_CONF = 0x40
_ACC_RANGE = 0x41
_FIFO_CONFIG_0 = 0x48
_FIFO_CONFIG_1 = 0x49
_PWR_CONF = 0x7C
_PWR_CTRL = 0x7D
_CMD = 0x7E
# chapter 5, "Register Description": values after reset
_RESET = {0x40: 0xA8, 0x41: 0x01, 0x44: 0x4E, 0x45: 0x80, 0x48: 0x02, 0x49: 0x10, 0x7C: 0x03, 0x03: 0x10}
_WRITABLE = frozenset({*range(0x40, 0x5A), 0x6B, 0x6D, 0x70, 0x71, 0x72, 0x73, 0x7C, 0x7D, 0x7E})
_DEPTH = 1024
_G_MS2 = 9.80665
_NOISE_G = 0.0008
_INVALID = b"\x80"


class Bma423(RegisterPart):
    """One accelerometer in a band on a wearer's wrist."""

    def __init__(self, wearer: Wearer, clock_now: Callable[[], float], *, seed: int = 0, chip_id: int = 0x13) -> None:
        """An accelerometer that was just powered up: it is suspended.

        Args:
            wearer: whose wrist it is on.
            clock_now: Unix time, s; conversions happen by it.
            seed: of its noise.
            chip_id: what register 0x00 says; another value is another part.
        """
        super().__init__(ADDRESS)
        self._wearer = wearer
        self._now = clock_now
        self._chip_id = chip_id
        self._noise = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self._power_up()

    def _power_up(self) -> None:
        self._registers = bytearray(128)
        for register, value in _RESET.items():
            self._registers[register] = value
        self._flush()
        self._done_s = self._now()

    def _flush(self) -> None:
        self._frames: list[bytes] = []
        self._skipped = 0
        self._burst = b""

    # --- conversions

    @property
    def rate_hz(self) -> float:
        """Output data rate: 100 Hz is 8, and each number twice the one before."""
        return 100.0 * 2.0 ** ((self._registers[_ACC_CONF] & 0x0F) - 8)

    def _advance(self) -> None:
        now = self._now()
        if not self._registers[_PWR_CTRL] & 0x04 or self.fault is Fault.FROZEN:
            self._done_s = now
            return
        count = int((now - self._done_s) * self.rate_hz + 1e-6)
        keep = _DEPTH // 6
        begin_s = self._done_s
        self._done_s += count / self.rate_hz
        headed = bool(self._registers[_FIFO_CONFIG_1] & 0x10)
        wanted = bool(self._registers[_FIFO_CONFIG_1] & 0x40)
        stops = bool(self._registers[_FIFO_CONFIG_0] & 0x01)
        # of what nobody will read only the number matters
        first = 1 if stops else max(1, count - keep)
        if wanted:
            self._skipped += first - 1
        for index in range(first, count + 1):
            data = self._convert(begin_s + index / self.rate_hz)
            if wanted:
                self._push(b"\x84" + data if headed else data, stops)
            if index == count:
                self._registers[_DATA : _DATA + 6] = data
                self._registers[_STATUS] |= 0x80

    def _convert(self, time_s: float) -> bytes:
        full_g = 2 << (self._registers[_ACC_RANGE] & 3)
        data = b""
        for metres in self._wearer.acceleration_ms2(time_s):
            steps = round((metres / _G_MS2 + self._noise.gauss(0.0, _NOISE_G)) * 2048 / full_g)
            # "DATA_8 to DATA_13": 12 bits, left-justified, low byte first
            data += (max(-2048, min(2047, steps)) * 16 & 0xFFFF).to_bytes(2, "little")
        return data

    def _push(self, frame: bytes, stops: bool) -> None:
        while (len(self._frames) + 1) * len(frame) > _DEPTH:
            self._skipped += 1
            if stops:
                return
            self._frames.pop(0)
        self._frames.append(frame)

    # --- the bus

    def write(self, data: bytes) -> None:
        self._advance()
        super().write(data)

    def read(self, n: int) -> bytes:
        self._advance()
        if self._pointer == _FIFO_DATA and self.fault in (None, Fault.FROZEN, Fault.FLAKY, Fault.DEAF):
            self._begin()
            return self._read_fifo(n)
        return super().read(n)

    def _read_fifo(self, n: int) -> bytes:
        if self._registers[_PWR_CONF] & 1:
            return bytes(n)  # section 4.3: not with advanced power saving
        headed = bool(self._registers[_FIFO_CONFIG_1] & 0x10)
        data = b""
        if headed and self._skipped:
            data += bytes((0x40, min(0xFF, self._skipped)))
        self._skipped = 0
        while self._frames and len(data) < n:
            if len(data) + len(self._frames[0]) > n:
                # "FIFO Partial frame reads": it will be told again
                return data + self._frames[0][: n - len(data)]
            data += self._frames.pop(0)
        if headed and self._registers[_FIFO_CONFIG_0] & 0x02 and len(data) < n:
            data += b"\x44" + self._sensor_time()
        return (data + (_INVALID if headed else b"\x00\x80") * n)[:n]

    def _sensor_time(self) -> bytes:
        return (int(self._now() * 25600) & 0xFFFFFF).to_bytes(3, "little")  # 39.0625 us

    def _load(self, register: int) -> int:
        register &= 0x7F
        match register:
            case 0x00:
                return self._chip_id
            case 0x18 | 0x19 | 0x1A:
                return self._sensor_time()[register - _SENSORTIME]
            case 0x24 | 0x25:
                length = sum(map(len, self._frames))
                return length >> 8 * (register - _LENGTH) & 0xFF
            case 0x03:
                value = self._registers[register]
                self._registers[register] &= 0x7F
                return value
        return self._registers[register]

    def _store(self, register: int, value: int) -> None:
        register &= 0x7F
        if register not in _WRITABLE:
            return
        if register == _CMD:
            if value == 0xB6:
                self._power_up()
            elif value == 0xB0:
                self._flush()
            return
        self._registers[register] = value
        if register in (_ACC_CONF, _PWR_CTRL):
            self._done_s = self._now()
        if register in (_FIFO_CONFIG_0, _FIFO_CONFIG_1):
            self._flush()

    def interrupt(self, time_s: float) -> bool:
        """Whether INT1 is high: without the maker's program nothing but the FIFO could raise it, and we let it not."""
        return False
