"""The drivers on MicroPython, against the register models, with everything that can be wrong with a part."""

from collections.abc import Iterator

import pytest

from host_tools.sim.parts import Fault, RegisterPart
from host_tools.sim.parts.battery import BatteryAdc
from host_tools.sim.parts.max30102 import Max30102
from host_tools.sim.parts.tmp117 import Tmp117
from host_tools.sim.wearer import Wearer
from tests.support.bus import Bus

SENSORS = {
    "max30102": "HeartRate(i2c, sleep_ms=bus.sleep_ms, ticks_ms=bus.ticks_ms, rmssd_every=0)",
    "tmp117": "SkinTemperature(i2c, sleep_ms=bus.sleep_ms)",
}
# what a sensor may say that is not well; dark is not worn
NOTHING = ((None,), (None, None, None, None), (None, None, None, 0))


@pytest.fixture(scope="module")
def process() -> Iterator[Bus]:
    with Bus(heap="64wK") as bus:
        bus.run("from sealband.sensors.max30102 import HeartRate")
        bus.run("from sealband.sensors.tmp117 import SkinTemperature")
        bus.run("from sealband.sensors.battery import BatteryVoltage")
        bus.run("from sealband.sensors.axp2101 import Axp2101")
        bus.run("i2c = bus.I2C()")
        yield bus


def part_of(bus: Bus, name: str, wearer: Wearer | None = None) -> RegisterPart:
    wearer = wearer or Wearer(1, "fast")
    part: RegisterPart = Max30102(wearer, bus.clock) if name == "max30102" else Tmp117(wearer, bus.clock)
    bus.solder([part])
    bus.run(f"sensor = {SENSORS[name]}")
    return part


@pytest.fixture
def bus(process: Bus) -> Bus:
    process.solder([])
    return process


def test_temperature_is_the_wearers(bus: Bus) -> None:
    wearer = Wearer(7)
    part_of(bus, "tmp117", wearer)
    assert bus.call("sensor.records") == (3,)
    bus.run("sensor.start()")
    for _ in range(5):
        begun = bus.now
        (centi,) = bus.call("sensor.read()")
        # half an LSB of the part, half a unit of the record
        assert centi / 100 == pytest.approx(wearer.skin_temperature_c(begun), abs=0.0039 + 0.005 + 0.001)
        assert bus.now - begun < 0.4
        bus.now += 600
    bus.run("sensor.stop()")


@pytest.mark.parametrize(
    ("celsius", "centi"), [(-25.0, -2500), (-0.125, -12), (0.0, 0), (0.0078125, 1), (25.0, 2500), (36.6, 3660)]
)
def test_temperature_is_rounded_to_hundredths(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, celsius: float, centi: int
) -> None:
    wearer = Wearer(7)
    monkeypatch.setattr(wearer, "skin_temperature_c", lambda _: celsius)
    part_of(bus, "tmp117", wearer)
    bus.run("sensor.start()")
    # 36.6 lies between two steps of the part
    assert abs(bus.call("sensor.read()")[0] - centi) <= (celsius * 128 != int(celsius * 128))


def test_temperature_outside_the_parts_range_is_an_error(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    wearer = Wearer(7)
    monkeypatch.setattr(wearer, "skin_temperature_c", lambda _: 151.0)
    part_of(bus, "tmp117", wearer)
    assert bus.call("bus.attempt(sensor.read)").startswith("SensorError: TMP117 reads 19328")


def test_thermometer_sleeps_between_measurements(bus: Bus) -> None:
    part = part_of(bus, "tmp117")
    bus.run("sensor.start()")
    bus.run("sensor.read()")
    part.write(b"\x01")
    assert part.read(2)[0] & 0x0C == 0x04


def test_heart_rate_sensor_is_dark_when_stopped(bus: Bus) -> None:
    part = part_of(bus, "max30102")
    bus.run("sensor.start()")
    assert isinstance(bus.call("sensor.read()")[0], int)
    bus.run("sensor.stop()")
    part.write(b"\x09")
    assert part.read(1)[0] & 0x80


def test_heart_rate_without_a_stop_between_reads_starts_anew(bus: Bus) -> None:
    part_of(bus, "max30102", Wearer(1, "fast"))
    bus.run("sensor.start()")
    first = bus.call("sensor.read()")[0]
    bus.now += 300  # the FIFO has long overflowed
    assert abs(bus.call("sensor.read()")[0] - first) < 25
    assert bus.call("sensor.reason") == "good"
    assert bus.call("sensor.gaps") == 0


def test_device_that_is_not_worn_gives_nothing_soon(bus: Bus) -> None:
    part_of(bus, "max30102", Wearer(1, "fast", away=[(0, 1e12)]))
    bus.run("sensor.start()")
    begun = bus.now
    assert bus.call("sensor.read()") == (None, None, None, 0)
    assert bus.call("sensor.reason") == "not worn"
    assert bus.now - begun < 1.5


def test_too_bright_skin_gets_less_light(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    from host_tools.sim.parts import max30102

    monkeypatch.setattr(max30102, "_SKIN_NA_PER_MA", {1: 1500.0, 2: 1500.0})
    part = part_of(bus, "max30102", Wearer(1, "fast"))
    bus.run("sensor.start()")
    bus.call("sensor.read()")
    part.write(b"\x0c")
    assert part.read(1)[0] < 0x1F // 2 + 1
    # the next measurement begins with what was learnt
    bus.run("sensor.start()")
    assert isinstance(bus.call("sensor.read()")[0], int)


@pytest.mark.parametrize("name", SENSORS)
def test_missing_part_is_a_sensor_error(bus: Bus, name: str) -> None:
    part_of(bus, name)
    bus.solder([])
    for verb in ("start", "read"):
        assert "does not answer" in bus.call(f"bus.attempt(sensor.{verb})")
        assert bus.call(f"bus.attempt(sensor.{verb})").startswith("SensorError: ")
    assert bus.call("bus.attempt(sensor.stop)") is None


@pytest.mark.parametrize("name", SENSORS)
def test_other_part_at_the_address_is_a_sensor_error(bus: Bus, name: str) -> None:
    part: RegisterPart
    if name == "max30102":
        part = Max30102(Wearer(1), bus.clock, part_id=0x11)  # a MAX30100
    else:
        part = Tmp117(Wearer(1), bus.clock, device_id=0x1116)  # a TMP116
    bus.solder([part])
    bus.run(f"sensor = {SENSORS[name]}")
    assert "part id is 11" in bus.call("bus.attempt(sensor.start)")


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("name", SENSORS)
def test_faulty_part_gives_sensor_error_or_nothing_from_the_start(bus: Bus, name: str, fault: Fault) -> None:
    part = part_of(bus, name)
    part.fault = fault
    begun = bus.now
    outcome = bus.call("bus.attempt(sensor.start) or bus.attempt(sensor.read)")
    assert outcome in NOTHING or outcome.startswith("SensorError: ")
    assert bus.now - begun < 11
    assert bus.call("bus.attempt(sensor.stop)") is None
    # and it works again once the fault has gone
    part.fault = None
    bus.run("sensor.start()")
    assert isinstance(bus.call("sensor.read()")[0], int)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("name", SENSORS)
def test_part_that_fails_after_its_start(bus: Bus, name: str, fault: Fault) -> None:
    part = part_of(bus, name)
    bus.run("sensor.start()")
    part.fault = fault
    outcomes = [bus.call("bus.attempt(sensor.read)") for _ in range(4)]
    for outcome in outcomes:
        if fault is Fault.DEAF and name == "tmp117":
            # it was shut down and does not hear that it should convert
            assert outcome == "SensorError: TMP117 does not convert"
            continue
        if fault is Fault.DEAF:
            continue  # it keeps running as it was set up: its samples are true
        assert outcome in NOTHING or outcome.startswith("SensorError: ")


def test_frozen_heart_rate_sensor_is_noticed_within_two_seconds(bus: Bus) -> None:
    part = part_of(bus, "max30102")
    bus.run("sensor.start()")
    part.fault = Fault.FROZEN
    begun = bus.now
    assert bus.call("bus.attempt(sensor.read)") == "SensorError: MAX30102 delivers no samples"
    assert bus.now - begun < 2.0


def test_battery_is_the_cells_voltage_in_spite_of_bad_readings(bus: Bus) -> None:
    wearer = Wearer(9)
    bus.solder([], {35: BatteryAdc(wearer, bus.clock, 2.0, seed=3)})
    bus.run("sensor = BatteryVoltage(bus.ADC(35), 2.0)")
    assert bus.call("sensor.records") == (4,)
    for _ in range(50):
        (millivolts,) = bus.call("sensor.read()")
        assert millivolts == pytest.approx(wearer.battery_mv(bus.now), abs=15)
        bus.now += 3600


def test_battery_that_is_missing_or_unreadable_is_a_sensor_error(bus: Bus) -> None:
    bus.solder([], {35: lambda: 0, 36: lambda: 142_000})
    bus.run("sensor = BatteryVoltage(bus.ADC(35), 2.0)")
    assert bus.call("bus.attempt(sensor.read)") == "SensorError: battery reads 0 mV"
    bus.run("sensor = BatteryVoltage(bus.ADC(36), 2.0)")
    assert bus.call("bus.attempt(sensor.read)") == "SensorError: battery reads 284 mV"
    bus.run("sensor = BatteryVoltage(bus.ADC(34), 2.0)")
    assert bus.call("bus.attempt(sensor.read)").startswith("SensorError: battery ADC does not answer")


class Pmu(RegisterPart):
    """The AXP2101's registers that the driver touches; plain memory otherwise."""

    def __init__(self) -> None:
        super().__init__(0x34)
        self.memory = bytearray(256)
        self.memory[0x03] = 0x4A
        self.memory[0x00] = 0x08
        self.memory[0x34:0x36] = (3987).to_bytes(2, "big")
        self.memory[0x93] = 0xE0  # reserved bits that must stay
        self.memory[0x90] = 0x01

    def _load(self, register: int) -> int:
        return self.memory[register]

    def _store(self, register: int, value: int) -> None:
        self.memory[register] = value


def test_pmu_switches_a_rail_on_and_reads_the_cell(bus: Bus) -> None:
    part = Pmu()
    bus.solder([part])
    bus.run("pmu = Axp2101(i2c)")
    bus.run("pmu.rail('ALDO2', 3300)")
    assert part.memory[0x93] == 0xE0 | 28
    assert part.memory[0x90] == 0x03
    assert bus.call("BatteryVoltage(pmu, 1.0).read()") == (3987,)
    assert part.memory[0x30] & 1
    part.memory[0x00] = 0
    assert bus.call("bus.attempt(BatteryVoltage(pmu, 1.0).read)") == "SensorError: AXP2101 sees no battery"
    for fault in (Fault.ABSENT, Fault.LOW, Fault.HIGH, Fault.RANDOM):
        part.fault = fault
        assert bus.call("bus.attempt(pmu.rail, 'ALDO2', 3300)").startswith("SensorError: ")
    part.fault = Fault.DEAF
    part.memory[0x90] = 0
    assert bus.call("bus.attempt(pmu.rail, 'ALDO2', 3300)") == "SensorError: AXP2101 does not switch ALDO2 on"
    part.memory[0x93] = 0
    assert bus.call("bus.attempt(pmu.rail, 'ALDO2', 3300)") == "SensorError: AXP2101 does not set ALDO2"


def test_pmu_switches_rails_on_and_off_and_leaves_a_voltage_that_is_not_given(bus: Bus) -> None:
    part = Pmu()
    bus.solder([part])
    bus.run("pmu = Axp2101(i2c)")
    part.memory[0x96] = 0xE0 | 13
    bus.run("pmu.rail('BLDO1')")
    assert part.memory[0x96] == 0xE0 | 13
    assert part.memory[0x90] == 0x11
    part.memory[0x80], part.memory[0x84] = 0x21, 0x80
    bus.run("pmu.rail('DC3', 3000)")
    assert part.memory[0x80] == 0x25 and part.memory[0x84] == 0x80 | 102
    bus.run("pmu.rail('DC3', 3000, False)")
    bus.run("pmu.rail('BLDO1', None, False)")
    assert part.memory[0x80] == 0x21 and part.memory[0x90] == 0x01
    part.fault = Fault.DEAF
    part.memory[0x80] = 0x25
    assert bus.call("bus.attempt(pmu.rail, 'DC3', None, False)") == "SensorError: AXP2101 does not switch DC3 off"
