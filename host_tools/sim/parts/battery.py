"""The battery's divider before an ADC pin: microvolts there, as `machine.ADC.read_uv` returns them."""

import random
from collections.abc import Callable

from host_tools.sim.wearer import Wearer

# ESP32 datasheet 4.1.2: with 11 dB attenuation the reading ends at about 3.1 V
_TOP_UV = 3_100_000
_NOISE_UV = 3_000


class BatteryAdc:
    """What the board's ADC reads; called once a conversion."""

    def __init__(self, wearer: Wearer, clock_now: Callable[[], float], divider: float, *, seed: int = 0) -> None:
        """An ADC pin between two resistors.

        Args:
            wearer: whose device it is.
            clock_now: Unix time, s.
            divider: cell voltage divided by the voltage at the pin, as board.toml has it.
            seed: of the conversion noise.
        """
        self._wearer = wearer
        self._now = clock_now
        self._divider = divider
        self._noise = random.Random(seed)  # noqa: S311 - a simulation, no secret

    def __call__(self) -> int:
        """One conversion, µV at the pin."""
        microvolts = self._wearer.battery_mv(self._now()) * 1000.0 / self._divider
        # now and then the radio's current pulls a reading down; a single reading is not to be believed
        if self._noise.random() < 0.02:
            microvolts -= 150_000.0
        return max(0, min(_TOP_UV, round(microvolts + self._noise.gauss(0.0, _NOISE_UV))))
