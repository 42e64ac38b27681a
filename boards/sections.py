"""The sections of a `board.toml`: what each may hold, and what is checked within one. How they fit together is
`boards.parse`'s business.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from boards import power, regions
from boards.chips import Pins
from boards.table import Table

# what micropython-lib's drivers need beside the SPI bus
RADIO_PINS: Mapping[str, tuple[str, ...]] = {
    "SX1261": ("cs", "busy", "dio1", "reset"),
    "SX1262": ("cs", "busy", "dio1", "reset"),
    "SX1276": ("cs", "dio0", "dio1", "reset"),
    "SX1277": ("cs", "dio0", "dio1", "reset"),
    "SX1278": ("cs", "dio0", "dio1", "reset"),
    "SX1279": ("cs", "dio0", "dio1", "reset"),
}
# what our driver switches for the radio, and all outputs that a part may be fed from
PMU_RADIO_RAILS: Mapping[str, frozenset[str]] = {
    "AXP2101": frozenset({"ALDO1", "ALDO2", "ALDO3", "ALDO4"}),
    "AXP192": frozenset({"LDO2", "LDO3"}),
}
PMU_RADIO_MV_MAX: Mapping[str, int] = {"AXP2101": 3500, "AXP192": 3300}
PMU_RAILS = frozenset(
    {f"DC{number}" for number in range(1, 6)}
    | {f"ALDO{number}" for number in range(1, 5)}
    | {"BLDO1", "BLDO2", "DLDO1", "DLDO2", "CPUSLDO"}
    | {"LDO2", "LDO3"}
)
# the outputs that our driver switches for a modem, with the voltages that it can set, in mV
MODEM_RAILS: Mapping[str, tuple[int, int]] = {"DC3": (1600, 3400), "BLDO1": (500, 3500), "BLDO2": (500, 3500)}
# the device's module with the table of a modem's family
MODEMS: Mapping[str, str] = {
    "SIM7000G": "sealband.links.sim70xx",
    "SIM7080G": "sealband.links.sim70xx",
    "BG95": "sealband.links.bg9x",
    "BG96": "sealband.links.bg9x",
    "A7670": "sealband.links.a76xx",
}
_WORD = re.compile(r"[A-Za-z0-9_-]{1,40}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}\.bin")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SOURCE = re.compile(r"https://[!-~]{1,200}")


@dataclass(frozen=True)
class Radio:
    """A LoRa transceiver on SPI. Pins are GPIO numbers; those that the chip has not are None.

    `rx_margin_ms`: how much sooner and longer than needed it listens, where timing is worse than a crystal's.
    `channels_khz`: where the region's own channels are not what the gateways hear. `lbt_dbm`: listen before talk, up to
    this level. `tx_mw`, `rx_mw`: what it takes when it sends with the region's power and when it listens.
    """

    chip: str
    region: str
    spi: int
    sck: int
    mosi: int
    miso: int
    baudrate_hz: int
    cs: int
    reset: int
    busy: int | None = None
    dio0: int | None = None
    dio1: int | None = None
    dio2_rf_sw: bool = False
    dio3_tcxo_mv: int | None = None
    rx_margin_ms: int | None = None
    channels_khz: tuple[int, ...] | None = None
    lbt_dbm: int | None = None
    tx_mw: int = 300
    rx_mw: int = 20


@dataclass(frozen=True)
class I2cBus:
    """An I2C bus: the one that the sensors are on, or the PMU's own."""

    id: int
    sda: int
    scl: int
    freq_hz: int


@dataclass(frozen=True)
class Pmu:
    """A power management chip; `radio_rail` is what feeds the radio, None without a radio.

    `i2c`: its own bus; None: it is on the sensors'.
    """

    chip: str
    address: int
    radio_rail: str | None = None
    radio_mv: int | None = None
    i2c: I2cBus | None = None


@dataclass(frozen=True)
class Battery:
    """A cell: its voltage is `divider` times what is at the ADC pin, or, without a pin, what the PMU measures.

    `enable`: the pin that switches the divider on, low if `enable_low`; None: it is always on.
    """

    adc: int | None
    divider: float
    full_mv: int
    low_mv: int
    empty_mv: int
    enable: int | None = None
    enable_low: bool | None = None


@dataclass(frozen=True)
class Rail:
    """An output of the PMU, what it feeds (modem, level shifter, GNSS antenna), and its voltage if the chip's own
    setting is not to stay.
    """

    rail: str
    feeds: str
    mv: int | None = None


@dataclass(frozen=True)
class Modem:
    """A cellular modem on a UART; pins as the ESP32 sees them: `tx` is what it sends on.

    `profile`: the device's module for its family. `power_key`: high for `power_key_ms` presses the modem's key.
    """

    chip: str
    profile: str
    uart: int
    tx: int
    rx: int
    baudrate: int
    power_key: int
    power_key_ms: int
    dtr: int | None = None
    ri: int | None = None
    rails: tuple[Rail, ...] = ()


@dataclass(frozen=True)
class Gnss:
    """A receiver for satellite positions on a UART; pins as the ESP32 sees them.

    `enable`: the pin that feeds it when high; `rail`: the PMU's output that does. None: it is always on.
    """

    chip: str
    uart: int
    tx: int
    rx: int
    baudrate: int
    reset: int | None = None
    pps: int | None = None
    enable: int | None = None
    rail: str | None = None


@dataclass(frozen=True)
class Part:
    """A part on the sensors' I2C bus, by its type name and 7-bit address.

    `interrupt` (`int` in the file): the pin that its first interrupt output is on, which can end a deep sleep.
    """

    part: str
    address: int
    interrupt: int | None = None


@dataclass(frozen=True)
class Button:
    """A button that the wearer presses; its pin can end a deep sleep. It has a resistor of its own to the other level:
    some pins have none in the chip, and in deep sleep none of those that are in the chip are sure.
    """

    pin: int
    active_low: bool


@dataclass(frozen=True)
class FirmwareImage:
    """The file that a new board is flashed with. `sha256` has 64 hex digits, `source` says where the file is from."""

    file: str
    sha256: str
    offset: int
    source: str


def radio(table: Table, pins: Pins) -> Radio:
    """Section [radio]."""
    chip = table.choice("chip", frozenset(RADIO_PINS))
    needed = RADIO_PINS[chip]
    region = table.choice("region", regions.REGIONS)
    section = Radio(
        chip=chip,
        region=region,
        spi=table.integer("spi", 1, 2),
        sck=pins.output(table, "sck"),
        mosi=pins.output(table, "mosi"),
        miso=pins.pin(table, "miso"),
        baudrate_hz=table.integer("baudrate_hz", 100_000, 16_000_000),
        cs=pins.output(table, "cs"),
        reset=pins.output(table, "reset"),
        busy=pins.pin(table, "busy") if "busy" in needed else None,
        dio0=pins.pin(table, "dio0") if "dio0" in needed else None,
        dio1=pins.pin(table, "dio1") if "dio1" in needed else None,
        dio2_rf_sw=table.boolean("dio2_rf_sw") if "busy" in needed else False,
        # SX1262 datasheet 13.3.6: 1.6 V to 3.3 V; absent: a plain crystal
        dio3_tcxo_mv=table.optional_integer("dio3_tcxo_mv", 1600, 3300) if "busy" in needed else None,
        rx_margin_ms=table.optional_integer("rx_margin_ms", 0, 3000),
        channels_khz=regions.channels(table, region),
        lbt_dbm=table.optional_integer("lbt_dbm", -110, -50),
        **power.radio_mw(chip, region),
    )
    table.end()
    return section


def i2c(table: Table, pins: Pins) -> I2cBus:
    """Sections [i2c] and [pmu.i2c]."""
    section = I2cBus(
        id=table.integer("id", 0, 1),
        sda=pins.output(table, "sda"),
        scl=pins.output(table, "scl"),
        freq_hz=table.integer("freq_hz", 10_000, 1_000_000),
    )
    table.end()
    return section


def pmu(table: Table, pins: Pins) -> Pmu:
    """Section [pmu]."""
    chip = table.choice("chip", frozenset(PMU_RADIO_RAILS))
    own = table.table("i2c")
    feeds_radio = table.has("radio_rail")
    section = Pmu(
        chip=chip,
        address=table.integer("address", 0x08, 0x77),
        radio_rail=table.choice("radio_rail", PMU_RADIO_RAILS[chip]) if feeds_radio else None,
        radio_mv=table.integer("radio_mv", 1800, PMU_RADIO_MV_MAX[chip]) if feeds_radio else None,
        i2c=i2c(own, pins) if own else None,
    )
    if section.radio_mv is not None and section.radio_mv % 100:
        raise table.error("radio_mv", "goes in steps of 100")
    table.end()
    return section


def battery(table: Table, pins: Pins) -> Battery:
    """Section [battery]."""
    pin = pins.optional_pin(table, "adc")
    enable = pins.optional_output(table, "enable") if pin is not None else None
    section = Battery(
        adc=pin,
        divider=table.number("divider", 1.0, 20.0) if pin is not None else 1.0,
        full_mv=table.integer("full_mv", 1000, 20_000),
        low_mv=table.integer("low_mv", 1000, 20_000),
        empty_mv=table.integer("empty_mv", 1000, 20_000),
        enable=enable,
        enable_low=table.boolean("enable_low") if enable is not None else None,
    )
    if pin is not None and pin not in pins.chip.adc1:
        raise table.error("adc", f"GPIO {pin} is no input of ADC1")
    if not section.empty_mv <= section.low_mv <= section.full_mv:
        raise table.error("low_mv", "must lie between empty_mv and full_mv")
    table.end()
    return section


def modem(table: Table, pins: Pins) -> Modem:
    """Section [modem]."""
    chip = table.choice("chip", frozenset(MODEMS))
    section = Modem(
        chip=chip,
        profile=MODEMS[chip],
        uart=table.integer("uart", 1, 2),  # 0 is the console's
        tx=pins.output(table, "tx"),
        rx=pins.pin(table, "rx"),
        baudrate=table.integer("baudrate", 1200, 4_000_000),
        power_key=pins.output(table, "power_key"),
        power_key_ms=table.integer("power_key_ms", 10, 10_000),
        dtr=pins.optional_output(table, "dtr"),
        ri=pins.optional_pin(table, "ri"),
        rails=tuple(_rail(rail) for rail in table.tables("rails")),
    )
    if len({rail.rail for rail in section.rails}) != len(section.rails):
        raise table.error("rails", "one is there twice")
    if section.rails and not any(rail.feeds == "modem" for rail in section.rails):
        # the device takes a rail that is off for a modem that is off
        raise table.error("rails", "none feeds the modem")
    table.end()
    return section


def _rail(table: Table) -> Rail:
    name = table.choice("rail", frozenset(MODEM_RAILS))
    rail = Rail(
        rail=name,
        feeds=table.choice("feeds", frozenset({"modem", "level", "gnss"})),
        mv=table.optional_integer("mv", *MODEM_RAILS[name]),
    )
    if rail.mv is not None and rail.mv % 100:
        raise table.error("mv", "goes in steps of 100")
    table.end()
    return rail


def gnss(table: Table, pins: Pins) -> Gnss:
    """Section [gnss]."""
    section = Gnss(
        chip=table.text("chip", _WORD),
        uart=table.integer("uart", 1, 2),
        tx=pins.output(table, "tx"),
        rx=pins.pin(table, "rx"),
        baudrate=table.integer("baudrate", 1200, 4_000_000),
        reset=pins.optional_output(table, "reset"),
        pps=pins.optional_pin(table, "pps"),
        enable=pins.optional_output(table, "enable"),
        rail=table.choice("rail", PMU_RAILS) if table.has("rail") else None,
    )
    table.end()
    return section


def part(table: Table, pins: Pins) -> Part:
    """One of [[parts]]."""
    section = Part(
        part=table.text("part", _WORD),
        # 7-bit addresses below 0x08 and above 0x77 are reserved (I2C specification UM10204 3.1.12)
        address=table.integer("address", 0x08, 0x77),
        interrupt=pins.wake(table, "int") if table.has("int") else None,
    )
    table.end()
    return section


def button(table: Table, pins: Pins) -> Button:
    """Section [button]."""
    section = Button(pin=pins.wake(table, "pin"), active_low=table.boolean("active_low"))
    table.end()
    return section


def firmware_image(table: Table, pins: Pins) -> FirmwareImage:
    """Section [firmware_image]."""
    section = FirmwareImage(
        file=table.text("file", _FILE),
        sha256=table.text("sha256", _DIGEST),
        offset=table.integer("offset", 0, 0x1FFFFFF),
        source=table.text("source", _SOURCE),
    )
    if section.offset != pins.chip.image_offset:
        raise table.error("offset", f"this chip's image begins at {pins.chip.image_offset:#x}")
    table.end()
    return section
