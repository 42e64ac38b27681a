"""What ends a deep sleep of the chip beside its timer: RTC pins at a level, with the limits that each chip has.

    ext0    one pin, either level
    ext1    several pins. Level 1: any of them is high. Level 0: on the ESP32 all of them are low, on the ESP32-S3 any

Both may be set at once (ESP-IDF programming guide, "Sleep Modes", external wakeup; MicroPython's `esp32.wake_on_ext0`
and `wake_on_ext1`). The level counts, not an edge: a pin that is at it already ends the sleep as it begins.
"""

from collections.abc import Callable, Sequence

from boards.chips import CHIPS

BY_EXT0, BY_EXT1, BY_TIMER = 2, 3, 4  # machine.wake_reason()


class WakeError(ValueError):
    """A pin that cannot wake this chip; `esp32` raises ValueError there too."""


class Wake:
    """Which pins end a deep sleep.

    Args:
        chip: a key of `boards.chips.CHIPS`.
    """

    def __init__(self, chip: str) -> None:
        self._rtc = CHIPS[chip].rtc
        self._all_low = chip == "esp32"
        self._ext0: tuple[int, int] | None = None
        self._ext1: tuple[tuple[int, ...], int] = ((), 0)

    @property
    def armed(self) -> bool:
        """Whether any pin is to end it."""
        return self._ext0 is not None or bool(self._ext1[0])

    def ext0(self, pin: int | None, level: int) -> None:
        """Set it, or None: no pin.

        Raises:
            WakeError: no RTC pin.
        """
        self._ext0 = None if pin is None else (self._checked(pin), level)

    def ext1(self, pins: Sequence[int], level: int) -> None:
        """Set them; none: no pins.

        Raises:
            WakeError: one is no RTC pin.
        """
        self._ext1 = (tuple(self._checked(pin) for pin in pins), level)

    def reason(self, level: Callable[[int], int]) -> int:
        """What ends the sleep with the pins at these levels: `BY_EXT0`, `BY_EXT1`, or 0: nothing."""
        if self._ext0 is not None and level(self._ext0[0]) == self._ext0[1]:
            return BY_EXT0
        pins, wanted = self._ext1
        reached = [level(pin) == wanted for pin in pins]
        if reached and (all(reached) if self._all_low and not wanted else any(reached)):
            return BY_EXT1
        return 0

    def _checked(self, pin: int) -> int:
        if pin not in self._rtc:
            raise WakeError("invalid pin")
        return pin
