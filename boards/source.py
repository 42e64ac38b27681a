"""Writes the device's `board.py` from a board definition. Pins go in by number, literally; nothing else does."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boards import Board

_I2C = """

_i2c = None


def i2c():
    # the sensors' bus, set up once
    global _i2c
    if _i2c is None:
        import machine

        scl, sda = machine.Pin(I2C["scl"]), machine.Pin(I2C["sda"])
        _i2c = machine.I2C(I2C["id"], scl=scl, sda=sda, freq=I2C["freq_hz"])
    return _i2c
"""

_NO_I2C = """

def i2c():
    raise OSError(19)  # ENODEV
"""

_PMU = """

def power():
    # the radio's supply, which is off after a cold start
    from sealband.sensors.axp2101 import Axp2101

    Axp2101(i2c(), PMU["address"]).rail(PMU["radio_rail"], PMU["radio_mv"])
"""

_NO_PMU = """

def power():
    # everything is fed from the start
    pass
"""

_PMU_BATTERY = """

def battery_adc():
    # the PMU's own ADC, which reads the cell
    from sealband.sensors.axp2101 import Axp2101

    return Axp2101(i2c(), PMU["address"])
"""

_BATTERY = """

def battery_adc():
    # the ADC behind the cell's divider; 11 dB: up to about 3.1 V at the pin
    import machine

    return machine.ADC(machine.Pin(BATTERY["adc"]), atten=machine.ADC.ATTN_11DB)
"""

_NO_BATTERY = """

def battery_adc():
    raise OSError(19)  # ENODEV
"""


def board_module(board: "Board") -> str:
    """The source of `board.py` for this board: constants, `power()`, `i2c()` and `battery_adc()`."""
    values: list[tuple[str, Any]] = [
        ("NAME", board.name),
        ("MODEL", board.model),
        ("VENDOR", board.vendor),
        ("CHIP", board.chip),
        ("RADIO", _fields(board.radio)),
        ("I2C", _fields(board.i2c)),
        ("PMU", _fields(board.pmu)),
        ("BATTERY", _fields(board.battery)),
        ("PARTS", {part.part: part.address for part in board.parts}),
    ]
    head = f"# Made from boards/{board.name}/board.toml; change it there.\n"
    body = "".join(f"{name} = {value!r}\n" for name, value in values)
    i2c = _I2C if board.i2c else _NO_I2C
    power = _PMU if board.pmu else _NO_PMU
    battery = _NO_BATTERY
    if board.battery:
        battery = _PMU_BATTERY if board.battery.adc is None else _BATTERY
    return head + body + i2c + power + battery


def _fields(section: object) -> dict[str, Any] | None:
    if section is None:
        return None
    return {name: value for name, value in vars(section).items() if value is not None}
