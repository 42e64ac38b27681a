"""MAX30205, BME280 and the power management chips: the drivers on MicroPython against the register models."""

import random
from collections.abc import Callable, Iterator

import pytest

from host_tools.sim.parts import Fault, RegisterPart
from host_tools.sim.parts.axp import Axp192
from host_tools.sim.parts.bme280 import EXAMPLE, Bme280, fine_temperature, pressure_pa
from host_tools.sim.parts.max30205 import Max30205
from host_tools.sim.parts.tmp117 import Tmp117
from host_tools.sim.wearer import Wearer
from tests.support.bus import Bus

MODELS = {"max30205": Max30205, "bme280": Bme280}
SENSORS = {
    "max30205": "max30205.SkinTemperature(i2c, sleep_ms=bus.sleep_ms)",
    "bme280": "bme280.Air(i2c, sleep_ms=bus.sleep_ms)",
}


@pytest.fixture(scope="module")
def process() -> Iterator[Bus]:
    with Bus(heap="64wK") as bus:
        bus.run("from sealband.sensors import max30205, bme280, axp192, battery, tmp117")
        bus.run("i2c = bus.I2C()")
        yield bus


@pytest.fixture
def bus(process: Bus) -> Bus:
    process.solder([])
    return process


def part_of(bus: Bus, name: str, wearer: Wearer | None = None) -> RegisterPart:
    part = MODELS[name](wearer or Wearer(1, "fast"), bus.clock)
    bus.solder([part])
    bus.run(f"sensor = {SENSORS[name]}")
    return part


# --- MAX30205


def test_clinical_thermometer_tells_the_wearers_skin(bus: Bus) -> None:
    wearer = Wearer(7)
    part_of(bus, "max30205", wearer)
    assert bus.call("sensor.records") == (3,)
    for _ in range(5):
        bus.run("sensor.start()")
        begun = bus.now
        (centi,) = bus.call("sensor.read()")
        # the model's noise, half a step of the part, half a unit of the record
        assert centi / 100 == pytest.approx(wearer.skin_temperature_c(begun), abs=0.02 + 0.002 + 0.005)
        assert bus.now - begun < 0.06
        bus.run("sensor.stop()")
        bus.now += 600


# 19-8505 "Temperature, THYST, and TOS Register Definition": 2**-8 Cel a step
@pytest.mark.parametrize(("raw", "centi"), [(0x1900, 2500), (0x2580, 3750), (0x0001, 0), (0x3200, 5000)])
def test_clinical_thermometer_is_rounded_to_hundredths(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, raw: int, centi: int
) -> None:
    part = part_of(bus, "max30205")
    bus.run("sensor.start()")
    bus.now += 1
    monkeypatch.setattr(part, "_advance", lambda: part.__dict__["_words"].update({0: raw}))
    assert bus.call("sensor.read()") == (centi,)


@pytest.mark.parametrize("raw", [0x0000, 0x3201, 0x8000, 0xFFFF])
def test_skin_outside_what_the_clinical_thermometer_is_made_for_is_an_error(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, raw: int
) -> None:
    part = part_of(bus, "max30205")
    bus.run("sensor.start()")
    monkeypatch.setattr(part, "_advance", lambda: part.__dict__["_words"].update({0: raw}))
    assert bus.call("bus.attempt(sensor.read)") == f"SensorError: MAX30205 reads {raw}"


@pytest.mark.parametrize("other", ["LM75", "TMP75", "TMP117"])
def test_relative_of_the_clinical_thermometer_is_not_taken_for_it(bus: Bus, other: str) -> None:
    wearer = Wearer(1)
    if other == "TMP117":
        bus.solder([Tmp117(wearer, bus.clock)])
    else:
        bus.solder([Max30205(wearer, bus.clock, limit_mask=0xFF80 if other == "LM75" else 0xFFF0)])
    bus.run(f"sensor = {SENSORS['max30205']}")
    assert bus.call("bus.attempt(sensor.start)").startswith("SensorError: MAX30205: part id is ")


def test_clinical_thermometer_that_was_without_power_in_between_is_noticed(bus: Bus) -> None:
    part_of(bus, "max30205")
    bus.run("sensor.start()")
    bus.solder([Max30205(Wearer(1), bus.clock)])
    assert bus.call("bus.attempt(sensor.read)").startswith("SensorError: MAX30205")


def test_clinical_thermometer_that_stands_still_is_an_error_after_six_equal_values(bus: Bus) -> None:
    part = part_of(bus, "max30205")
    bus.run("kept = None")
    outcomes = []
    for turn in range(10):
        bus.run("sensor = max30205.SkinTemperature(i2c, kept=kept, sleep_ms=bus.sleep_ms)")
        bus.run("sensor.start()")
        outcomes.append(bus.call("bus.attempt(sensor.read)"))
        bus.run("kept = sensor.kept")
        part.fault = Fault.FROZEN
        bus.now += 60
        if turn == 8:
            part.fault = None
    assert all(isinstance(outcome, tuple) for outcome in outcomes[:7]), outcomes
    assert all(outcome.startswith("SensorError: MAX30205 reads") for outcome in outcomes[7:9]), outcomes
    assert isinstance(outcomes[9], tuple), "and when it goes on it is believed"


# --- BME280


def test_compensation_is_the_datasheets_worked_example(bus: Bus) -> None:
    # BST-BMP280-DS001 section 3.12: adc_T 519888, adc_P 415148; 25.08 Cel, 100653.27 Pa
    centi, pascal_256 = bus.call(f"bme280.compensate({EXAMPLE!r}, 519888, 415148)")
    assert centi == 2508
    assert pascal_256 / 256 == pytest.approx(100653.27, abs=0.05)


def test_compensation_in_integers_is_the_formula_in_floating_point(bus: Bus) -> None:
    # two parts' constants: the datasheet's, and some of a BME280's range
    for constants in (EXAMPLE, (28485, 26735, 50, 36738, -10635, 3024, 6980, -4, -7, 9900, -10230, 4285)):
        for raw_t in range(300_000, 700_000, 40_000):
            for raw_p in range(200_000, 600_000, 50_000):
                centi, pascal_256 = bus.call(f"bme280.compensate({constants!r}, {raw_t}, {raw_p})")
                fine = fine_temperature(constants, raw_t)
                assert centi / 100 == pytest.approx(fine / 5120, abs=0.011)
                assert pascal_256 / 256 == pytest.approx(pressure_pa(constants, fine, raw_p), abs=0.6)


@pytest.mark.parametrize("chip_id", [0x60, 0x58])
def test_air_is_the_wearers(bus: Bus, chip_id: int) -> None:
    wearer = Wearer(7)
    bus.solder([Bme280(wearer, bus.clock, chip_id=chip_id)])
    bus.run(f"sensor = {SENSORS['bme280']}")
    assert bus.call("sensor.records") == (10, 11)
    for _ in range(5):
        bus.run("sensor.start()")
        begun = bus.now
        deci, deci_hpa = bus.call("sensor.read()")
        assert deci / 10 == pytest.approx(wearer.ambient_c(begun), abs=0.07)
        assert deci_hpa / 10 == pytest.approx(wearer.pressure_hpa(begun), abs=0.15)
        bus.run("sensor.stop()")
        bus.now += 3600


@pytest.mark.parametrize(("celsius", "hpa"), [(-41.0, 1000.0), (86.0, 1000.0), (20.0, 299.0), (20.0, 1101.0)])
def test_air_outside_what_the_part_is_made_for_is_an_error(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, celsius: float, hpa: float
) -> None:
    wearer = Wearer(7)
    monkeypatch.setattr(wearer, "ambient_c", lambda _: celsius)
    monkeypatch.setattr(wearer, "pressure_hpa", lambda _: hpa)
    part_of(bus, "bme280", wearer)
    bus.run("sensor.start()")
    assert bus.call("bus.attempt(sensor.read)").startswith("SensorError: BME280 reads")


@pytest.mark.parametrize("constants", [(0,) * 12, (0xFFFF, -1, -1, 0xFFFF, *(-1,) * 8)])
def test_barometer_without_calibration_is_an_error(bus: Bus, constants: tuple[int, ...]) -> None:
    bus.solder([Bme280(Wearer(1), bus.clock, constants=constants)])
    bus.run(f"sensor = {SENSORS['bme280']}")
    assert bus.call("bus.attempt(sensor.start)") == "SensorError: BME280 has no calibration"


def test_bme680_is_not_taken_for_a_barometer_of_ours(bus: Bus) -> None:
    bus.solder([Bme280(Wearer(1), bus.clock, chip_id=0x61)])
    bus.run(f"sensor = {SENSORS['bme280']}")
    assert bus.call("bus.attempt(sensor.start)") == "SensorError: BME280: part id is 61, not 60"


def test_barometer_sleeps_between_measurements(bus: Bus) -> None:
    part = part_of(bus, "bme280")
    bus.run("sensor.start()")
    bus.run("sensor.read()")
    part.write(b"\xf4")
    assert part.read(1)[0] & 3 == 0


# --- both


@pytest.mark.parametrize("name", SENSORS)
def test_missing_part_is_a_sensor_error(bus: Bus, name: str) -> None:
    part_of(bus, name)
    bus.solder([])
    for verb in ("start", "read"):
        assert "does not answer" in bus.call(f"bus.attempt(sensor.{verb})")
    assert bus.call("bus.attempt(sensor.stop)") is None


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("name", SENSORS)
def test_faulty_part_gives_a_sensor_error_from_the_start(bus: Bus, name: str, fault: Fault) -> None:
    part = part_of(bus, name)
    part.fault = fault
    begun = bus.now
    outcome = bus.call("bus.attempt(sensor.start) or bus.attempt(sensor.read)")
    assert isinstance(outcome, str) and outcome.startswith("SensorError: ")
    assert bus.now - begun < 0.5
    assert bus.call("bus.attempt(sensor.stop)") is None
    part.fault = None
    bus.run("sensor.start()")
    assert isinstance(bus.call("sensor.read()")[0], int), "it works again once the fault has gone"


@pytest.mark.parametrize("name", ["max30205", "bme280", "tmp117", "battery"])
def test_board_without_the_part_has_no_such_sensor(bus: Bus, name: str) -> None:
    bus.run("class board: PARTS = {}; BATTERY = None")
    assert bus.call(f"bus.attempt({name}.sensor, board)").startswith("SensorError: no ")


TRUTHS: dict[str, Callable[[Wearer, float], tuple[float, ...]]] = {
    "tmp117": lambda wearer, now: (100 * wearer.skin_temperature_c(now),),
    "max30205": lambda wearer, now: (100 * wearer.skin_temperature_c(now),),
    "bme280": lambda wearer, now: (10 * wearer.ambient_c(now), 10 * wearer.pressure_hpa(now)),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_single_bit_that_flips_on_the_bus_changes_no_value(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    wearer = Wearer(7)
    part: RegisterPart = Tmp117(wearer, bus.clock) if name == "tmp117" else MODELS[name](wearer, bus.clock)
    bus.solder([part])
    read = part.read
    state = {"left": 1_000_000}
    source = random.Random(3)

    def flip(n: int) -> bytes:
        data = bytearray(read(n))
        state["left"] -= 1
        if not state["left"]:
            data[source.randrange(n)] ^= 1 << source.randrange(8)
        return bytes(data)

    monkeypatch.setattr(part, "read", flip)
    make = SENSORS.get(name, "tmp117.SkinTemperature(i2c, sleep_ms=bus.sleep_ms)")
    refused = 0
    for turn in range(400):
        state["left"] = 1 + turn % 10
        bus.run(f"sensor = {make}")
        outcome = bus.call("bus.attempt(sensor.start) or bus.attempt(sensor.read)")
        if isinstance(outcome, str):
            assert outcome.startswith("SensorError: ")
            refused += 1
        else:
            assert outcome == pytest.approx(TRUTHS[name](wearer, bus.now), abs=3.0)
        bus.now += 60
    assert 100 < refused < 400


def test_what_a_barometer_measured_before_is_not_told_again(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    part = part_of(bus, "bme280")
    bus.run("sensor.start()")
    assert isinstance(bus.call("sensor.read()"), tuple)
    store = part._store
    # the order to convert is lost from here on
    monkeypatch.setattr(part, "_store", lambda register, value: register == 0xF4 or store(register, value))
    bus.run("sensor.start()")
    assert bus.call("bus.attempt(sensor.read)") == "SensorError: BME280 does not convert"


def test_barometer_that_says_it_is_done_and_measured_nothing_is_an_error(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_of(bus, "bme280")
    bus.run("sensor.start()")
    monkeypatch.setattr(part, "_advance", lambda: part.__dict__["_registers"].__setitem__(0xF4, 0x2C))
    assert bus.call("bus.attempt(sensor.read)") == "SensorError: BME280 has not measured"


# --- AXP192


def test_older_pmu_switches_its_rails_and_reads_the_cell(bus: Bus) -> None:
    wearer = Wearer(9)
    part = Axp192(wearer, bus.clock)
    bus.solder([part])
    bus.run("pmu = axp192.Axp192(i2c)")
    part.memory[0x28] = 0x0C
    bus.run("pmu.rail('LDO2', 3300)")
    # XPowersLib: LDO2 in the upper half of 0x28, 100 mV a step from 1800 mV; bit 2 of 0x12 switches it
    assert part.memory[0x28] == 0xFC and part.memory[0x12] == 0x07
    bus.run("pmu.rail('LDO3', 2800)")
    assert part.memory[0x28] == 0xFA and part.memory[0x12] == 0x0F
    bus.run("pmu.rail('DC1', 3300)")
    assert part.memory[0x26] == 104
    assert bus.call("bus.attempt(pmu.rail, 'LDO2', 3400)") == "SensorError: AXP192 has no 3400 mV"
    assert part.memory[0x28] == 0xFA
    bus.run("pmu.rail('LDO3', on=False)")
    assert part.memory[0x12] == 0x07 and part.memory[0x28] == 0xFA
    (millivolts,) = bus.call("battery.BatteryVoltage(pmu, 1.0).read()")
    assert millivolts == pytest.approx(wearer.battery_mv(bus.now), abs=2)
    part.memory[0x01] = 0
    assert bus.call("bus.attempt(battery.BatteryVoltage(pmu, 1.0).read)") == "SensorError: AXP192 sees no battery"
    for fault in (Fault.ABSENT, Fault.LOW, Fault.HIGH, Fault.RANDOM):
        part.fault = fault
        assert bus.call("bus.attempt(pmu.rail, 'LDO2', 3300)").startswith("SensorError: ")
    part.fault = Fault.DEAF
    part.memory[0x12] = 0x03
    assert bus.call("bus.attempt(pmu.rail, 'LDO2', 3300)") == "SensorError: AXP192 does not switch LDO2 on"
    part.memory[0x28] = 0
    assert bus.call("bus.attempt(pmu.rail, 'LDO2', 3300)") == "SensorError: AXP192 does not set LDO2"


def test_newer_pmu_in_its_place_is_not_taken_for_the_older_one(bus: Bus) -> None:
    bus.solder([Axp192(Wearer(1), bus.clock, chip_id=0x4A)])
    bus.run("pmu = axp192.Axp192(i2c)")
    assert bus.call("bus.attempt(pmu.rail, 'LDO2', 3300)") == "SensorError: AXP192: part id is 4a, not 3"
