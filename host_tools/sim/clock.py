"""The simulation's clock: one virtual time for all processes of a simulation, which may run faster than real time."""

import os
import time
from dataclasses import dataclass

ENVIRONMENT = "SEALBAND_SIM_CLOCK"


@dataclass(frozen=True)
class SimClock:
    """Virtual time as a line through one point: `virtual_origin` (Unix s) happened at `real_origin` (Unix s).

    Attributes:
        real_origin: Unix time, seconds.
        virtual_origin: Unix time in the simulation, seconds.
        speed: virtual seconds a real second, greater than 0.
    """

    real_origin: float
    virtual_origin: float
    speed: float = 1.0

    @classmethod
    def start(cls, speed: float = 1.0) -> "SimClock":
        """A clock that agrees with real time now and runs at `speed` from here on."""
        now = time.time()
        return cls(now, now, speed)

    @classmethod
    def from_environment(cls) -> "SimClock":
        """The clock that a parent process handed down in `$SEALBAND_SIM_CLOCK`, or real time."""
        text = os.environ.get(ENVIRONMENT)
        if not text:
            return cls.start()
        real, virtual, speed = (float(part) for part in text.split(","))
        return cls(real, virtual, speed)

    def to_environment(self) -> dict[str, str]:
        """What to add to a child's environment so that it shares this clock."""
        return {ENVIRONMENT: f"{self.real_origin!r},{self.virtual_origin!r},{self.speed!r}"}

    def now(self) -> float:
        """Virtual Unix time, seconds."""
        return self.virtual_origin + (time.time() - self.real_origin) * self.speed

    def real_delay(self, virtual_s: float) -> float:
        """How many real seconds pass while `virtual_s` virtual ones do; never negative."""
        return max(0.0, virtual_s / self.speed)

    def sleep(self, virtual_s: float) -> None:
        """Block for so many virtual seconds."""
        time.sleep(self.real_delay(virtual_s))

    def sleep_until(self, virtual_unix_s: float) -> None:
        """Block until that virtual Unix time; returns at once when it is past."""
        self.sleep(virtual_unix_s - self.now())
