"""The whole MAX30102 driver on MicroPython: what it lights, when it is worn, movement, RMSSD, saturation, its heap."""

import math
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import boards
from host_tools.release.bundle import compile_tree
from host_tools.sim.interpreter import find_micropython
from host_tools.sim.parts.max30102 import Max30102, ratio_of_ratios
from host_tools.sim.script import Script, run, saturation, walk
from host_tools.sim.wearer import Wearer
from tests.support import heart_reference
from tests.support.heart_driver import RMSSD_S, HeartDriver, TwoLights, recorded

HEAP_MAX = 8192  # bytes on the chip: half of what a 64-bit interpreter takes


@pytest.fixture(scope="module")
def plain() -> Iterator[HeartDriver]:
    with HeartDriver() as driver:
        yield driver


@pytest.fixture(scope="module")
def helped() -> Iterator[HeartDriver]:
    with HeartDriver(motion=True) as driver:
        yield driver


@pytest.fixture(scope="module")
def long() -> Iterator[HeartDriver]:
    with HeartDriver(rmssd=True) as driver:
        yield driver


def leds(driver: HeartDriver) -> tuple[int, int]:
    part = driver.parts[0x57]
    part.write(b"\x0c")
    red, infrared = part.read(2)
    return red, infrared


class Watched(Max30102):
    """Keeps how long the red LED was lit."""

    def __init__(self, wearer: Wearer, clock: Callable[[], float], **more: Callable[[float], float]) -> None:
        super().__init__(wearer, clock, **more)
        self.lit: set[int] = set()

    def write(self, data: bytes) -> None:
        super().write(data)
        self.lit.add(self._registers[0x0C])


# --- what is lit


def test_red_led_stays_dark_unless_saturation_is_wanted(plain: HeartDriver) -> None:
    wearer = Wearer(1, "fast")
    part = Watched(wearer, plain.clock)
    plain.wear(wearer, part)
    plain.run("sensor.wanted = (1, 12, 13)")
    reading = plain.measure()
    assert reading.bpm is not None and reading.percent is None and reading.worn == 1
    assert part.lit == {0}
    plain.run("sensor.wanted = (2,)")
    reading = plain.measure()
    assert reading.bpm is None and reading.percent is not None
    assert part.lit == {0, 0x1F}


def test_wear_state_alone_takes_a_look_of_a_quarter_of_a_second(plain: HeartDriver) -> None:
    plain.wear(Wearer(1, "fast"))
    plain.run("sensor.wanted = (13,)")
    begun = plain.now
    reading = plain.measure()
    assert (reading.bpm, reading.percent, reading.rmssd_ms, reading.worn) == (None, None, None, 1)
    assert plain.now - begun < 0.5


@pytest.mark.parametrize(("skin", "expected"), [((40.0, 60.0), range(0x50, 0x80)), ((900.0, 700.0), range(4, 0x18))])
def test_each_led_gets_the_current_that_uses_half_the_scale(
    plain: HeartDriver, monkeypatch: pytest.MonkeyPatch, skin: tuple[float, float], expected: range
) -> None:
    from host_tools.sim.parts import max30102

    monkeypatch.setattr(max30102, "_SKIN_NA_PER_MA", {1: skin[0], 2: skin[1]})
    wearer = Wearer(1, "fast")
    plain.wear(wearer)
    reading = plain.measure()
    assert reading.reason == "good"
    assert abs(reading.percent - wearer.spo2_percent(reading.begin_s)) <= 1
    kept = plain.call("sensor.kept")
    assert kept[0] in expected and kept[1] in expected
    # what was learnt goes to the driver that comes after it
    plain.run("sensor = HeartRate(bus.I2C(), sleep_ms=bus.sleep_ms, ticks_ms=bus.ticks_ms, kept=sensor.kept)")
    plain.run("sensor.start()")
    assert leds(plain) == (0, kept[1])


# --- worn or not


def test_light_that_leaks_in_is_not_wear(plain: HeartDriver) -> None:
    table = Wearer(1, "fast", away=[(0, 1e12)])
    for leak_na in (50.0, 400.0, 2000.0):
        plain.wear(table, Max30102(table, plain.clock, leak_na=lambda _, na=leak_na: na))
        assert plain.measure().worn == 0
    # a lamp that flickers, and light that fills the scale: then it can't be told
    plain.wear(table, Max30102(table, plain.clock, leak_na=lambda t: 300.0 + 100.0 * math.sin(2 * math.pi * 1.2 * t)))
    assert plain.measure().worn == 0
    plain.wear(table, Max30102(table, plain.clock, leak_na=lambda _: 5000.0))
    reading = plain.measure()
    assert reading.worn is None and reading.reason == "glare"


def test_worn_in_light_that_leaks_in_is_worn(plain: HeartDriver) -> None:
    wearer = Wearer(1, "fast")
    plain.wear(wearer, Max30102(wearer, plain.clock, leak_na=lambda _: 400.0))
    reading = plain.measure()
    assert reading.worn == 1 and reading.bpm is not None
    assert reading.percent is None, "a fifth and more of the light is not the LED's"


class Table(Wearer):
    """A band before something that reflects, without blood: a table top."""

    def worn(self, time_s: float) -> bool:
        return True

    def ppg(self, time_s: float) -> float:
        return 0.0


def test_a_table_that_reflects_is_not_worn_and_no_pulse(helped: HeartDriver) -> None:
    wearer = Table(1, away=[(0, 1e12)])
    helped.wear(wearer)
    for wanted in ("None", "(13,)"):
        helped.run(f"sensor.wanted = {wanted}")
        reading = helped.measure()
        assert (reading.bpm, reading.percent, reading.worn) == (None, None, None)


def test_between_the_two_limits_it_stays_as_it_was(plain: HeartDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    from host_tools.sim.parts import max30102

    worn = []
    wearer = Wearer(1, "fast")
    plain.wear(wearer)
    plain.run("sensor.wanted = (13,)")
    # counts at 6.2 mA: 4096 nA are 262143
    for counts in (3000, 6000, 8000, 6000, 5000, 4000, 6000, 7000, 9000):
        monkeypatch.setattr(max30102, "_SKIN_NA_PER_MA", {1: 20.0, 2: counts / 262143 * 4096 / 6.2})
        worn.append(plain.measure().worn)
    assert worn == [0, 0, 1, 1, 1, 0, 0, 0, 1]


def test_band_that_is_taken_off_while_it_measures_is_off(plain: HeartDriver) -> None:
    wearer = Wearer(1, "fast", away=[(plain.now + 4.0, 1e12)])
    plain.wear(wearer)
    begun = plain.now
    reading = plain.measure()
    assert (reading.bpm, reading.percent, reading.worn) == (None, None, 0)
    assert plain.now - begun < 6.0


# --- movement


def test_walk_gives_no_number_and_the_rest_after_it_does(helped: HeartDriver) -> None:
    begins = helped.now + 10.0
    wearer = Wearer(4, "middle", script=Script((walk(20, 120, indoors=True), run(140, 200, indoors=True)), begins))
    helped.wear(wearer)
    for at, moves in ((30, True), (60, True), (100, True), (150, True), (180, True), (240, False), (260, False)):
        helped.now = begins + at
        reading = helped.measure()
        assert reading.worn == 1
        if moves:
            assert (reading.bpm, reading.percent, reading.reason) == (None, None, "moving")
        else:
            assert reading.bpm is not None and reading.percent is not None


def test_walk_without_accelerometer_is_what_the_accelerometer_is_for(plain: HeartDriver) -> None:
    # it swings as regularly as a pulse: the optical signal alone cannot tell
    begins = plain.now + 10.0
    wearer = Wearer(0, script=Script((run(20, 120, indoors=True),), begins))
    plain.wear(wearer)
    plain.now = begins + 40
    reading = plain.measure()
    assert reading.bpm is None or abs(reading.bpm - wearer.heart_rate_bpm(plain.now)) > 5


# --- RMSSD


def test_rmssd_agrees_with_heartpy(long: HeartDriver) -> None:
    recording = recorded("rest")[0]
    wearer = Wearer(3, recording=recording)
    long.wear(wearer)
    start = long.now - (long.now + wearer.offset_s) % recording.duration_s + recording.duration_s
    for step in (20.0, 34.0, 48.0):
        long.now = start + step
        reading = long.measure()
        assert long.now - reading.begin_s < 50.0
        count = int(RMSSD_S * recording.rate_hz)
        seconds = [wearer.recorded(reading.begin_s + index / recording.rate_hz) for index in range(count)]
        assert reading.rmssd_ms is not None
        assert abs(reading.rmssd_ms - heart_reference.rmssd(seconds, recording.rate_hz)) <= 6.0


def test_rmssd_is_measured_when_it_is_due_and_tried_again_when_it_failed(long: HeartDriver) -> None:
    shaken = [(long.now + 11.0, long.now + 200.0)]
    wearer = Wearer(3, "fast", moving=shaken)
    long.wear(wearer)
    long.run("sensor._rmssd_every = 3")
    found = []
    for _ in range(6):
        begun = long.now
        reading = long.measure()
        found.append((reading.rmssd_ms is not None, long.now - begun > 15.0))
        long.now += 1.0
        if len(found) == 3:
            long.now = shaken[0][1]
    # the third fails for its movement, so the fourth is due too, and then it is not for a while
    assert found == [(False, False)] * 3 + [(True, True)] + [(False, False)] * 2


def test_movement_in_the_middle_of_rmssd_gives_none(long: HeartDriver) -> None:
    wearer = Wearer(3, "fast", moving=[(long.now + 15.0, long.now + 45.0)])
    long.wear(wearer)
    begun = long.now
    reading = long.measure()
    assert reading.bpm is not None and reading.rmssd_ms is None
    # two bad windows are enough to give up
    assert long.now - begun < 30.0


# --- saturation


@pytest.mark.parametrize("percent", [75.0, 85.0, 92.0, 98.0])
def test_saturation_of_the_wearer_is_what_the_driver_tells(plain: HeartDriver, percent: float) -> None:
    begins = plain.now
    wearer = Wearer(2, script=Script((saturation(10, 300, percent),), begins))
    plain.wear(wearer)
    plain.now = begins + 100
    reading = plain.measure()
    assert abs(reading.percent - wearer.spo2_percent(reading.begin_s)) <= 1


def test_saturation_of_two_recorded_lights_is_scipys(plain: HeartDriver) -> None:
    red, infrared = recorded("head")
    plain.wear(Wearer(), TwoLights(red, infrared, plain.clock))
    start = plain.now - plain.now % red.duration_s + red.duration_s
    told = []
    for step in (0.0, 12.0, 24.0, 36.0, 46.0):
        plain.now = start + step
        reading = plain.measure()
        first = int((reading.begin_s - start) * red.rate_hz)
        cut = slice(first, first + int(8.0 * red.rate_hz))
        ratio = heart_reference.ratio_of_ratios(red.samples[cut], infrared.samples[cut], red.rate_hz)
        assert abs(ratio_of_ratios(reading.percent) - ratio) <= 0.04
        told.append(reading.percent)
    # somebody who holds their breath, by the look of it
    assert told[0] >= 95 and told[-1] <= 90


# --- robust


def test_registers_that_hold_what_they_cannot_are_an_error(plain: HeartDriver) -> None:
    wearer = Wearer(1, "fast")
    plain.wear(wearer)
    plain.run("sensor.start()")
    # bits 5 to 7 of the pointers are always 0 ("FIFO (0x04-0x07)")
    part = plain.parts[0x57]
    load = part._load  # type: ignore[attr-defined]
    part._load = lambda register: load(register) | (0x20 if register == 5 else 0)  # type: ignore[attr-defined]
    assert plain.call("bus.attempt(sensor.read)") == "SensorError: MAX30102 answers nonsense"


def test_part_that_loses_its_settings_meanwhile_is_an_error(plain: HeartDriver) -> None:
    wearer = Wearer(1, "fast")
    plain.wear(wearer)
    plain.run("sensor.start()")
    plain.run("steps = sensor.measure()")
    for _ in range(20):
        plain.call("bus.sleep_ms(next(steps))")
    plain.parts[0x57].write(b"\x0a\x00")
    message = plain.call("bus.attempt(lambda: [bus.sleep_ms(pause) for pause in steps])")
    assert message == "SensorError: MAX30102 does not keep its settings"


def test_board_without_the_part_has_no_sensor(plain: HeartDriver) -> None:
    plain.run("import sealband.sensors.max30102 as module")
    plain.run("class Bare: PARTS = {}")
    assert plain.call("bus.attempt(module.sensor, Bare())") == "SensorError: no MAX30102 on this board"
    assert plain.call("module.PARTS") == ("MAX30102",)


HEAP = """
import gc, sys
sys.path[:] = [TREE, TREE + "/lib"]
from sealband import once
import sealband.sensors.base, array, math, time
class I2C:
    registers = {}
    def readfrom_mem_into(self, address, register, buffer):
        for i in range(len(buffer)): buffer[i] = self.registers.get(register + i, 0)
        if register == 0xFF: buffer[0] = 0x15
        if register == 9: buffer[0] &= 0xBF
    def writeto_mem(self, address, register, data):
        for i in range(len(data)): self.registers[register + i] = data[i]
class Board:
    PARTS = {"MAX30102": 0x57}
    bus = I2C()
    def i2c(self): return self.bus
def load():
    driver = once("sealband.sensors.max30102").sensor(Board)
    driver.start()
    return driver, driver.measure()
Board = Board()
for name in ("max30102", "heart", "spo2", "rmssd"): once("sealband.sensors." + name)
load()
gc.collect()
before = gc.mem_alloc()
driver, steps = load()
next(steps)
ratio = once("sealband.sensors.spo2").Ratio(driver._pulse.other, 0)
pulse = driver._pulse
for i in range(232):
    value = int(100000 + 1000 * math.sin(i * 0.35))
    ratio.add(value, value, pulse.add(value))
gc.collect()
standing = gc.mem_alloc() - before
assert pulse.estimate()
print(standing, gc.mem_alloc() - before)
"""


def test_everything_that_measures_takes_eight_kilobytes_of_the_chip(tmp_path: Path) -> None:
    compile_tree(Path(__file__).parents[2] / "device", tmp_path, boards.load("VIRTUAL"))
    command = [find_micropython(), "-X", "heapsize=512k", "-c", HEAP.replace("TREE", repr(str(tmp_path)))]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "MICROPYPATH": ""})
    standing, peak = (int(number) // 2 for number in found.stdout.split())
    print(f"{standing} bytes, {peak} while a window is judged")
    assert standing < peak <= HEAP_MAX


def test_the_model_inverts_the_curve_that_the_driver_has() -> None:
    # application note 6845, worked out by hand
    for percent, ratio in ((99.08, 0.4), (95.76, 0.5), (79.63, 1.0)):
        assert ratio_of_ratios(percent) == pytest.approx(ratio, abs=0.001)


CONSENT = """
from sealband.app import Every
from sealband.batch import Batch
from sealband.sampler import Sampler
from sealband.sensors.part import part
class Fitted:
    PARTS = {"MAX30102": 0x57}
    i2c = lambda self: bus.I2C()
told = []
more = {"sleep_ms": bus.sleep_ms, "ticks_ms": bus.ticks_ms}
sampler = Sampler([Every(60, part("max30102", Fitted(), **more))], Batch(), lambda *one: told.append(one))
sampler.start(0)
def cycle(t):
    told.clear()
    for task in sampler.due(t):
        for pause in task: bus.sleep_ms(pause)
    return sorted(record for record, _, _ in told)
"""


def test_consent_decides_what_is_lit_and_told_at_the_next_measurement(plain: HeartDriver) -> None:
    wearer = Wearer(1, "fast")
    part = Watched(wearer, plain.clock)
    plain.solder([part])
    plain.run(CONSENT)
    plain.run("sampler.consent = {1, 13}")
    assert plain.call("cycle(60)") == [1, 13]
    assert part.lit == {0}
    plain.run("sampler.consent = {13}")
    begun = plain.now
    assert plain.call("cycle(120)") == [13]
    assert plain.now - begun < 1.0
    plain.run("sampler.consent = None")
    assert plain.call("cycle(180)") == [1, 2, 13]
    assert part.lit == {0, 0x1F}
    plain.run("sampler.consent = set()")
    assert plain.call("cycle(240)") == []
