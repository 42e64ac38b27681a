"""Every driver against 1,000 random register faults, on MicroPython, through `part()` and the real sampler.

Whatever is wrong with a part: no exception reaches the loop, nothing outside a record's sane range is told, the sensor
beside it goes on, and the part is measured again as soon as it is well. A driver is added by a line of `DRIVERS`.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from host_tools.sim.gnss import Receiver
from host_tools.sim.parts import Part
from host_tools.sim.parts.axp import Axp192, Axp2101
from host_tools.sim.parts.battery import BatteryAdc
from host_tools.sim.parts.bma423 import Bma423
from host_tools.sim.parts.bme280 import Bme280
from host_tools.sim.parts.lsm6dsox import Lsm6dsox
from host_tools.sim.parts.max30102 import Max30102
from host_tools.sim.parts.max30205 import Max30205
from host_tools.sim.parts.tmp117 import Tmp117
from host_tools.sim.script import DAY_S, Script, sky
from host_tools.sim.wearer import Wearer
from tests.support.faults import SANE, FaultyBus

FAULTS = 1000
WELL_EVERY = 12
SKY = Script((sky(0.0, DAY_S),))
LINE = {"uart": 2, "tx": 17, "rx": 16, "baudrate": 9600}
ADDRESS = 0x2A
BESIDE = 200  # is added to the records of the sensor beside
Maker = Callable[[Wearer, Callable[[], float]], Part]


@dataclass(frozen=True)
class Driver:
    """A line of the table.

    Attributes:
        module: of device/lib/sealband/sensors.
        part: its name in board.PARTS; None: it is found in another way.
        make: the model; None: no part on the bus (the ADC).
        setup: run on the device before the first measurement; `board` is there.
        options: of part(), as they are written.
        sensor: how it is made in place of part().
        silent: the share of measurements of a part that is well that may tell nothing.
        faults: how many.
        took_ms: how long a measurement may take.
    """

    module: str
    part: str | None
    make: Maker | None
    setup: str = ""
    options: str = ""
    sensor: str = ""
    silent: float = 0.0
    faults: int = FAULTS
    took_ms: int = 16_000


DRIVERS = (
    Driver("tmp117", "TMP117", Tmp117),
    Driver("max30102", "MAX30102", Max30102, options="rmssd_every=0"),
    Driver("max30205", "MAX30205", Max30205),
    Driver("bme280", "BME280", Bme280),
    Driver("bme280", "BMP280", lambda wearer, now: Bme280(wearer, now, chip_id=0x58)),
    Driver("motion", "LSM6DSOX", Lsm6dsox, setup="from sealband.sensors.motion import motion", sensor="motion(board)"),
    Driver("motion", "BMA423", Bma423, setup="from sealband.sensors.motion import motion", sensor="motion(board)"),
    Driver("gnss", None, None, setup=f"board.GNSS = {LINE}", faults=150, took_ms=60_000),
    Driver("battery", None, None),
    Driver("battery", None, Axp2101, setup="from sealband.sensors.axp2101 import Axp2101 as Pmu"),
    Driver("battery", None, Axp192, setup="from sealband.sensors.axp192 import Axp192 as Pmu"),
)
NAMES = [f"{driver.module}-{driver.part or (driver.make.__name__ if driver.make else 'line')}" for driver in DRIVERS]  # type: ignore[attr-defined]


@pytest.fixture
def bus(request: pytest.FixtureRequest) -> Iterator[FaultyBus]:
    callspec = getattr(request.node, "callspec", None)
    with FaultyBus(NAMES.index(callspec.id) if callspec else 99) as bus:
        yield bus


@pytest.mark.parametrize("driver", DRIVERS, ids=NAMES)
def test_a_thousand_register_faults_reach_neither_the_loop_nor_the_records(bus: FaultyBus, driver: Driver) -> None:
    solder(bus, driver)
    options = ", " + driver.options if driver.options else ""
    bus.run("sensor = " + (driver.sensor or f"part({driver.module!r}, board{options})"))
    judge(bus, driver)


CARELESS = """
from sealband.sensors.base import Registers, Sensor

class Careless(Sensor):
    records = (3,)

    def __init__(self):
        self.part = Registers(board.i2c(), 0x2A, "TMP117")

    def read(self):
        return (self.part.read_word(0) * 25 >> 5,)
"""


def test_a_driver_that_looks_at_nothing_is_found_out(bus: FaultyBus) -> None:
    driver = Driver("tmp117", "TMP117", Tmp117)
    solder(bus, driver)
    bus.run(CARELESS)
    bus.run("sensor = Careless()")
    with pytest.raises(AssertionError, match=r"assert (-4000 <= )?[0-9]+ <= 8500"):
        judge(bus, driver)


def solder(bus: FaultyBus, driver: Driver) -> None:
    """The part that will be spoilt, and one beside it that is well; `board` and `part` on the device."""
    wearer = Wearer(5, "fast")
    well = Tmp117(wearer, bus.clock)
    well.address = 0x4B
    bus.parts = {well.address: well}
    if driver.make is None:
        bus.adc = BatteryAdc(wearer, bus.clock, 2.0)
    else:
        make = driver.make
        bus.make = lambda: make(wearer, bus.clock)
        part = bus.make()
        part.address = bus.spoilt = ADDRESS
        bus.parts[ADDRESS] = part
    bus.run("from sealband.sensors.part import part")
    bus.run(f"board = dev.Board({f'{driver.part}={ADDRESS}' if driver.part else ''})")
    if driver.setup:
        bus.run(driver.setup)
    if driver.module == "gnss":
        bus.receiver = Receiver(Wearer(5, "fast", script=SKY), enable=1)
    if driver.setup.endswith("as Pmu"):
        bus.run(f"board._adc = Pmu(board.i2c(), {ADDRESS}); board.BATTERY = dict(board.BATTERY, divider=1.0)")


def judge(bus: FaultyBus, driver: Driver) -> None:
    """Measure with `sensor` on the device as often as the driver's faults are many, and look at what became of it."""
    bus.run("beside = dev.Board(TMP117=0x4B)")
    bus.run("trials = dev.Trials(sensor, part('tmp117', beside))")
    records = bus.call("sensor.records")
    seen = Counter[str]()
    well_count = quiet = 0
    for outcome in bus.trials(driver.faults, well_every=WELL_EVERY):
        assert not outcome.escaped, outcome
        assert any(record == BESIDE + 3 for record, _ in outcome.told), f"the other sensor did not go on: {outcome}"
        told = [(record, value) for record, value in outcome.told if record < BESIDE]
        for record, value in told:
            assert record in records, outcome
            low, high = SANE[record]
            assert low <= value <= high, outcome
        assert outcome.took_ms < driver.took_ms, outcome
        if outcome.kind is None:
            assert not outcome.errors, f"a part that is well again: {outcome}"
            well_count += 1
            quiet += not told
        seen["told" if told else "error" if outcome.errors else "nothing"] += 1
    assert quiet <= driver.silent * well_count
    # the faults did something, and not every one of them
    assert seen["error"] > driver.faults // 10 and seen["told"] > driver.faults // 20, seen
    print(f"{driver.module}: {dict(seen)}")
