"""Writes the device's `board.py` from a board definition. Pins go in by number, literally; nothing else does."""

from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boards import Board, Gnss

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

_PMU_BUS = """

def _pmu():
    # it has a bus of its own
    import machine
    from sealband.sensors.{chip} import {name}

    bus = PMU["i2c"]
    scl, sda = machine.Pin(bus["scl"]), machine.Pin(bus["sda"])
    return {name}(machine.I2C(bus["id"], scl=scl, sda=sda, freq=bus["freq_hz"]), PMU["address"])
"""

_PMU = """

def _pmu():
    from sealband.sensors.{chip} import {name}

    return {name}(i2c(), PMU["address"])
"""

_POWER = """

def power():
    # the radio's supply, which is off after a cold start
    _pmu().rail(PMU["radio_rail"], PMU["radio_mv"])
"""

_NO_POWER = """

def power():
    # everything is fed from the start
    pass
"""

_MODEM_RAILS = """

def modem_power(on):
    # the modem's supply, and with it the modem; whether it can be cut
    pmu = _pmu()
    for rail in MODEM["rails"]:
        if rail["feeds"] != "gnss":
            pmu.rail(rail["rail"], rail.get("mv"), on)
    return True
"""

_NO_MODEM_RAILS = """

def modem_power(on):
    # it is fed from the start, and only its key switches it off
    return False
"""

_GNSS_PIN = """

def gnss_power(on):
    # the receiver's supply is behind a pin
    import machine

    machine.Pin(GNSS["enable"], machine.Pin.OUT, value=1 if on else 0)
"""

_GNSS_RAIL = """

def gnss_power(on):
    # the receiver's supply, 3.3 V, is one of the PMU's
    _pmu().rail(GNSS["rail"], 3300, on)
"""

_GNSS_RESET = """\
    # and it runs while its reset is high
    machine.Pin(GNSS["reset"], machine.Pin.OUT, value=1 if on else 0)
"""

_NO_GNSS_POWER = """

def gnss_power(on):
    # it is always on
    pass
"""

_PMU_BATTERY = """

def battery_adc():
    # the PMU's own ADC, which reads the cell
    return _pmu()
"""

_BATTERY = """

def battery_adc():
    # the ADC behind the cell's divider; 11 dB: up to about 3.1 V at the pin
    import machine

    return machine.ADC(machine.Pin(BATTERY["adc"]), atten=machine.ADC.ATTN_11DB)
"""

_SWITCHED_BATTERY = """

def battery_adc():
    # the ADC behind the cell's divider, which is switched on first; 11 dB: up to about 3.1 V at the pin
    import machine

    machine.Pin(BATTERY["enable"], machine.Pin.OUT, value=not BATTERY["enable_low"])
    return machine.ADC(machine.Pin(BATTERY["adc"]), atten=machine.ADC.ATTN_11DB)
"""

_NO_BATTERY = """

def battery_adc():
    raise OSError(19)  # ENODEV
"""


def board_module(board: "Board") -> str:
    """The source of `board.py` for this board: constants (BUTTON is its pin and the level of a pressed one; POWER
    microamperes in the order of `sealwire.charge`), `power()`, `i2c()` and `battery_adc()`; with a modem
    `modem_power()` too, with a receiver for positions `gnss_power()`.
    """
    values: list[tuple[str, Any]] = [
        ("NAME", board.name),
        ("MODEL", board.model),
        ("VENDOR", board.vendor),
        ("CHIP", board.chip),
        ("RADIO", _plain(board.radio)),
        ("I2C", _plain(board.i2c)),
        ("PMU", _plain(board.pmu)),
        ("BATTERY", _plain(board.battery)),
        ("MODEM", _plain(board.modem)),
        ("GNSS", _plain(board.gnss)),
        ("PARTS", {part.part: part.address for part in board.parts}),
        ("INTERRUPTS", {part.part: part.interrupt for part in board.parts if part.interrupt is not None}),
        ("BUTTON", (board.button.pin, int(not board.button.active_low)) if board.button else None),
        ("POWER", board.ledger()),
    ]
    head = f"# Made from boards/{board.name}/board.toml; change it there.\n"
    body = "".join(f"{name} = {value!r}\n" for name, value in values)
    functions = [_I2C if board.i2c else _NO_I2C]
    if board.pmu:
        chip = board.pmu.chip
        functions.append((_PMU_BUS if board.pmu.i2c else _PMU).format(chip=chip.lower(), name=chip.capitalize()))
    functions.append(_POWER if board.pmu and board.pmu.radio_rail else _NO_POWER)
    if board.modem:
        functions.append(_MODEM_RAILS if board.modem.rails else _NO_MODEM_RAILS)
    if board.gnss:
        functions.append(_gnss_power(board.gnss))
    functions.append(_battery(board))
    return head + body + "".join(functions)


def _gnss_power(gnss: "Gnss") -> str:
    if gnss.enable is None:
        return _GNSS_RAIL if gnss.rail else _NO_GNSS_POWER
    return _GNSS_PIN if gnss.reset is None else _GNSS_PIN + _GNSS_RESET


def _battery(board: "Board") -> str:
    if board.battery is None:
        return _NO_BATTERY
    if board.battery.adc is None:
        return _PMU_BATTERY
    return _BATTERY if board.battery.enable is None else _SWITCHED_BATTERY


def _plain(value: Any) -> Any:
    """Sections as dicts, without what is None."""
    if is_dataclass(value):
        return {name: _plain(inner) for name, inner in vars(value).items() if inner is not None}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
