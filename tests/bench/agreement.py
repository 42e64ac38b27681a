"""Heart rate, RMSSD and oxygen saturation by the driver on MicroPython, against heartpy and scipy on the same data.

Every window goes through the simulated MAX30102 and the whole driver. Where the reference shows itself that it lost or
invented beats it is none: such windows are counted, not compared. Origin of the recordings: tests/recordings/ppg and
heartpy's own examples. No medical device: the reference is another program, not a body.
"""

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from host_tools.sim.parts.max30102 import Max30102
from host_tools.sim.script import Script, run, walk, work
from host_tools.sim.wearer import Recording, Wearer
from tests.bench.figure import Figure
from tests.support.bus import Bus
from tests.support.heart_driver import RMSSD_S, WINDOW_S, HeartDriver, Reading, TwoLights, recorded
from tests.support.heart_reference import example, heart_rate, passed, ratio_of_ratios, rmssd

CURVE = (1.5958422, -34.6596622, 112.6898759)  # sealband.sensors.spo2
# seconds from one window to the next
EXAMPLES = ((0, 1.5), (1, 2.0), (2, 8.0))
OTHERS = ("rest", "motion", "head", "finger")


@dataclass(frozen=True)
class Pair:
    """A number of the driver, None where it gives none, and the reference's, NaN where that is none."""

    device: int | None
    reference: float


@dataclass(frozen=True)
class Agreement:
    """What Bland and Altman (1986) make of pairs: differences are device minus reference."""

    pairs: tuple[Pair, ...]

    @property
    def differences(self) -> list[float]:
        return [p.device - p.reference for p in self.pairs if p.device is not None and not math.isnan(p.reference)]

    def given(self) -> float:
        """Share of the windows in which the driver gives a number, %."""
        return 100.0 * sum(pair.device is not None for pair in self.pairs) / len(self.pairs)

    def off(self, limit: float) -> float:
        """Share of the compared numbers that are off by more than this, %."""
        return 100.0 * sum(abs(difference) > limit for difference in self.differences) / len(self.differences)

    def figures(self, name: str, unit: str, wrong: tuple[float, float], limits: tuple[float, ...]) -> list[Figure]:
        """A row of the table: `limits` of the share given, of |bias|, SD, mean absolute error, and of both shares."""
        found = self.differences
        bias, sd = statistics.fmean(found), statistics.stdev(found)
        low, high = bias - 1.96 * sd, bias + 1.96 * sd
        known = sum(not math.isnan(pair.reference) for pair in self.pairs)
        note = f"{len(self.pairs)} windows, a reference in {known}, {len(found)} compared"
        error = statistics.fmean(map(abs, found))
        return [
            Figure(f"{name}: windows with a number", self.given(), limits[0], at_least=True, unit="%", note=note),
            Figure(f"{name}: |bias|", abs(bias), limits[1], unit=unit, note=f"{bias:+.2f}"),
            Figure(f"{name}: SD", sd, limits[2], unit=unit, note=f"95 % limits of agreement {low:+.1f} to {high:+.1f}"),
            Figure(f"{name}: mean absolute error", error, limits[3], unit=unit),
            Figure(f"{name}: off by more than {wrong[0]:g}", self.off(wrong[0]), limits[4], unit="%"),
            Figure(f"{name}: off by more than {wrong[1]:g}", self.off(wrong[1]), limits[5], unit="%"),
        ]


def played(
    driver: HeartDriver, recording: Recording, every_s: float, length_s: float
) -> Iterator[tuple[Wearer, Reading]]:
    """Windows from the recording's beginning to its end, none over its seam."""
    wearer = Wearer(3, recording=recording)
    driver.wear(wearer)
    loop_s = recording.duration_s
    start = driver.now - (driver.now + wearer.offset_s) % loop_s + loop_s
    for step in range(int((loop_s - length_s - 3.0) / every_s)):
        driver.now = start + step * every_s
        yield wearer, driver.measure()


def span(wearer: Wearer, begin_s: float, length_s: float) -> list[float]:
    """What the recording says in these seconds, without movement."""
    rate_hz = wearer.recording.rate_hz
    return [wearer.recorded(begin_s + index / rate_hz) for index in range(int(length_s * rate_hz))]


def pulse_pair(wearer: Wearer, reading: Reading) -> Pair:
    """The heart rate of a window; heartpy's band-pass helps it where it is not sure."""
    samples, rate_hz = span(wearer, reading.begin_s, WINDOW_S), wearer.recording.rate_hz
    reference = heart_rate(samples, rate_hz)
    if not reference.steady:
        reference = heart_rate(passed(samples, rate_hz), rate_hz)
    return Pair(reading.bpm, reference.bpm if reference.steady else math.nan)


def sources() -> Iterator[tuple[Recording, float]]:
    """Every recording at rest and how far apart its windows are; of two lights the infrared one."""
    for number, every_s in EXAMPLES:
        samples, rate_hz = example(number)
        yield Recording(f"example {number}", rate_hz, tuple(samples)), every_s
    for name in OTHERS:
        found = recorded(name)
        # light is raw there: fuller vessels give back less
        samples = [-value for value in found[1].samples] if len(found) == 2 else list(found[0].samples)
        yield Recording(name, found[0].rate_hz, tuple(samples)), 2.0


def at_rest() -> Agreement:
    """The heart rate over eight seconds."""
    with HeartDriver() as driver:
        return Agreement(
            tuple(
                pulse_pair(*window)
                for recording, every_s in sources()
                for window in played(driver, recording, every_s, WINDOW_S)
            )
        )


def variability() -> Agreement:
    """RMSSD over 48 s."""
    pairs = []
    with HeartDriver(rmssd=True) as driver:
        for recording in (recorded("rest")[0], *(Recording("", r, tuple(s)) for s, r in map(example, (1, 2)))):
            for wearer, reading in played(driver, recording, 10.0, RMSSD_S):
                reference = rmssd(span(wearer, reading.begin_s, RMSSD_S), recording.rate_hz)
                pairs.append(Pair(reading.rmssd_ms, reference))
    return Agreement(tuple(pairs))


def moving(*, motion: bool, seeds: Iterable[int] = range(3), every_s: float = 11.0) -> Agreement:
    """The heart rate of wearers who work with their hands, walk and run most of ten minutes."""
    pairs = []
    with HeartDriver(motion=motion) as driver:
        for seed in seeds:
            begins = driver.now + 60.0
            spans = (work(30, 150), walk(180, 330, indoors=True), run(360, 480, indoors=True), work(520, 560))
            wearer = Wearer(seed, script=Script(spans, begins))
            driver.wear(wearer)
            for step in range(int(600 / every_s)):
                driver.now = begins + step * every_s
                reading = driver.measure()
                # their pulse is the recording's, faster after a run
                reference = wearer.heart_rate_bpm(reading.begin_s + WINDOW_S, WINDOW_S)
                pairs.append(Pair(reading.bpm, reference))
    return Agreement(tuple(pairs))


class Saturated(Wearer):
    """Somebody whose saturation and perfusion are set."""

    percent, part = 97.0, 0.02

    def spo2_percent(self, time_s: float) -> float:
        return self.percent

    def perfusion(self, time_s: float) -> float:
        return self.part


def saturation() -> Agreement:
    """Saturations that were put in, with strong and weak pulse, in the dark and with light leaking in."""
    pairs = []
    with HeartDriver() as driver:
        for leak_na in (0.0, 150.0):
            for part in (0.02, 0.004):
                wearer = Saturated(0, "fast")
                wearer.part = part
                driver.wear(wearer, Max30102(wearer, driver.clock, leak_na=lambda _, na=leak_na: na))
                for percent in range(72, 101, 2):
                    wearer.percent = float(percent)
                    driver.now += 5.0
                    pairs.append(Pair(driver.measure().percent, float(percent)))
    return Agreement(tuple(pairs))


def two_lights() -> Agreement:
    """Recorded red and infrared, against scipy's ratio of ratios through the same curve."""
    pairs = []
    red, infrared = recorded("head")
    a, b, c = CURVE
    with HeartDriver() as driver:
        driver.wear(Wearer(), TwoLights(red, infrared, driver.clock))
        start = driver.now - driver.now % red.duration_s + red.duration_s
        for step in range(24):
            driver.now = start + 2.0 * step
            reading = driver.measure()
            first = int((reading.begin_s - start) * red.rate_hz)
            cut = slice(first, first + int(WINDOW_S * red.rate_hz))
            ratio = ratio_of_ratios(red.samples[cut], infrared.samples[cut], red.rate_hz)
            pairs.append(Pair(reading.percent, (a * ratio + b) * ratio + c))
    return Agreement(tuple(pairs))


COST = """
import math, time
from cryptolib import aes
from sealband.sensors.heart import Pulse
from sealband.sensors.spo2 import Ratio
pulse, cipher = Pulse(), aes(bytes(16), 1)
ratio = Ratio(pulse.other, 0)
light = [int(100000 + 1000 * math.sin(i * 0.35)) for i in range(200)]
def block(count):
    plain, out = bytes(16), bytearray(16)
    for _ in range(count): cipher.encrypt(plain, out)
def sample(count):
    pulse.reset()
    for value in light: ratio.add(value, value, pulse.add(value))
def window(count):
    for _ in range(count): pulse.estimate()
def least(function, count):
    best = 1 << 29
    for _ in range(9):
        begun = time.ticks_us()
        function(count)
        best = min(best, time.ticks_diff(time.ticks_us(), begun))
    return best / count
"""


def cost() -> tuple[float, float]:
    """What a sample of both lights and the look at a full window take, in calls of cryptolib's AES with one block."""
    with Bus() as bus:
        bus.run(COST)
        block, sample, window = bus.call("(least(block, 5000), least(sample, 200), least(window, 3))")
    return sample / block, window / block


def figures() -> list[Figure]:
    """The table of agreement."""
    beats, ms, percent = "beats/min", "ms", "%"
    alone, helped = moving(motion=False), moving(motion=True)
    sample, window = cost()
    return [
        *at_rest().figures("heart rate", beats, (3, 5), (60, 0.5, 1.5, 1.0, 3, 1)),
        Figure("heart rate in motion, no accelerometer: windows with a number", alone.given(), unit="%"),
        Figure("heart rate in motion, no accelerometer: off by more than 5", alone.off(5), unit="%"),
        Figure("heart rate in motion, with it: windows with a number", helped.given(), 15, at_least=True, unit="%"),
        Figure("heart rate in motion, with it: off by more than 5", helped.off(5), 2, unit="%"),
        *variability().figures("RMSSD", ms, (5, 10), (40, 2, 3, 3, 10, 2)),
        *saturation().figures("saturation put in", percent, (1, 2), (90, 0.5, 0.7, 0.7, 0, 0)),
        *two_lights().figures("saturation, two recorded lights", percent, (2, 4), (80, 0.7, 1.2, 1.0, 10, 0)),
        Figure("a sample of both lights, by one AES block", sample, 40, note="interpreted, against C"),
        Figure("a window of 8 s judged, by one AES block", window, 20_000, note="once in 8 s"),
    ]
