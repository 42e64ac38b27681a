"""The MAX30102 driver on MicroPython, before the simulated part on a wearer or before a recording of two lights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from host_tools.sim.parts.lsm6dsox import Lsm6dsox
from host_tools.sim.parts.max30102 import Max30102
from host_tools.sim.wearer import Recording, Wearer
from tests.support.bus import Bus

RECORDINGS = Path(__file__).parents[1] / "recordings" / "ppg"
LOOK_S = 0.25  # the first burst: whether the band is worn
SETTLE_S = 1.2  # sealband.sensors.heart.SETTLE
WINDOW_S = 8.0
RMSSD_S = 48.0


def recorded(name: str) -> list[Recording]:
    """One of tests/recordings/ppg: one channel, or red and infrared."""
    head, *lines = (RECORDINGS / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    rate_hz = float(head.split(";")[0].removeprefix("# rate_hz"))
    channels = zip(*(map(float, line.split(";")) for line in lines), strict=True)
    return [Recording(name, rate_hz, channel) for channel in channels]


class TwoLights(Max30102):
    """The part before somebody of whom both channels were recorded, at the level that its own skin gives back."""

    def __init__(self, red: Recording, infrared: Recording, clock_now: Callable[[], float]) -> None:
        super().__init__(Wearer(), clock_now)
        self._lights = {1: red, 2: infrared}

    @cached_property
    def _means(self) -> dict[int, float]:
        return {led: sum(light.samples) / len(light.samples) for led, light in self._lights.items()}

    def _pulsing(self, led: int, time_s: float) -> float:
        return 1.0 - self._lights[led].at(time_s) / self._means[led]


@dataclass(frozen=True)
class Reading:
    """What one measurement gave; `begin_s`: Unix time of the first sample that it looks at."""

    begin_s: float
    bpm: int | None
    percent: int | None
    rmssd_ms: int | None
    worn: int | None
    reason: str


class HeartDriver(Bus):
    """A bus with the driver as `sensor`, and the accelerometer's as `moves` when `motion`."""

    def __init__(self, *, rmssd: bool = False, motion: bool = False, options: str = "") -> None:
        super().__init__(heap="64wK")
        self.run("from sealband.sensors.max30102 import HeartRate")
        self._motion = motion
        self._how = f"rmssd_every={int(rmssd)}{', motion=moves' if motion else ''}{', ' + options if options else ''}"
        if motion:
            self.run("from sealband.sensors.motion import motion")
            self.run("class Board: PARTS = {'LSM6DSOX': 0x6A}; INTERRUPTS = {}; i2c = lambda self: bus.I2C()")

    def wear(self, wearer: Wearer, part: Max30102 | None = None) -> None:
        """Put the parts on this wearer, or this one in place of the wearer's MAX30102."""
        self.solder([part or Max30102(wearer, self.clock), Lsm6dsox(wearer, self.clock)])
        if self._motion:
            self.run("moves = motion(Board()); moves.start()")
            self.now += 2.0
        self.run(f"sensor = HeartRate(bus.I2C(), sleep_ms=bus.sleep_ms, ticks_ms=bus.ticks_ms, {self._how})")

    def measure(self) -> Reading:
        """One measurement from now on."""
        begun = self.now
        self.run("sensor.start()")
        bpm, percent, rmssd_ms, worn = self.call("sensor.read()")
        self.run("sensor.stop()")
        return Reading(begun + LOOK_S + SETTLE_S, bpm, percent, rmssd_ms, worn, self.call("sensor.reason"))
