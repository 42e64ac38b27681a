"""Board definitions: what is soldered where, one folder a board, read from its `board.toml` and checked strictly.

Owns the format of `board.toml`. Opens no hardware and knows no driver: it names pins and parts, and what is built on
them is the device's business.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from boards import chips, partitions
from boards.source import board_module
from boards.table import BoardError, Table

__all__ = ["Battery", "Board", "BoardError", "I2cBus", "Part", "Pmu", "Radio", "load", "names", "parse"]

ROOT = Path(__file__).parent

REGIONS = frozenset({"EU868"})
# what micropython-lib's drivers need beside the SPI bus
RADIO_PINS: Mapping[str, tuple[str, ...]] = {
    "SX1261": ("cs", "busy", "dio1", "reset"),
    "SX1262": ("cs", "busy", "dio1", "reset"),
    "SX1276": ("cs", "dio0", "dio1", "reset"),
    "SX1277": ("cs", "dio0", "dio1", "reset"),
    "SX1278": ("cs", "dio0", "dio1", "reset"),
    "SX1279": ("cs", "dio0", "dio1", "reset"),
}
PMU_RAILS: Mapping[str, frozenset[str]] = {"AXP2101": frozenset({"ALDO1", "ALDO2", "ALDO3", "ALDO4"})}
_NAME = re.compile(r"[A-Z][A-Z0-9_]{1,31}")
_MODEL = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
_DOMAIN = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True)
class Radio:
    """A LoRa transceiver on SPI. Pins are GPIO numbers; those that the chip has not are None.

    `rx_margin_ms`: how much sooner and longer than needed it listens, where timing is worse than a crystal's.
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


@dataclass(frozen=True)
class I2cBus:
    """The bus that the sensors are on."""

    id: int
    sda: int
    scl: int
    freq_hz: int


@dataclass(frozen=True)
class Pmu:
    """A power management chip on the I2C bus, which feeds the radio."""

    chip: str
    address: int
    radio_rail: str
    radio_mv: int


@dataclass(frozen=True)
class Battery:
    """A cell: its voltage is `divider` times what is at the ADC pin, or, without a pin, what the PMU measures."""

    adc: int | None
    divider: float
    full_mv: int
    low_mv: int
    empty_mv: int


@dataclass(frozen=True)
class Part:
    """A part on the I2C bus, by its type name and 7-bit address."""

    part: str
    address: int


@dataclass(frozen=True)
class Board:
    """One board as `board.toml` has it.

    Attributes:
        name: the folder's name.
        vendor: a domain name; with `model` it makes the identifiers of the SUIT manifest.
        model: what a release is built for.
        chip: the ESP32 variant, a key of `chips.PINS`.
        firmware: MicroPython's board (and variant) name whose image is flashed.
        flash_size: bytes.
        radio, i2c, pmu, battery: None where the board has none.
        parts: what is on the I2C bus.
    """

    name: str
    vendor: str
    model: str
    chip: str
    firmware: str
    flash_size: int
    radio: Radio | None
    i2c: I2cBus | None
    pmu: Pmu | None
    battery: Battery | None
    parts: tuple[Part, ...]

    def module(self) -> str:
        """The source of the device's `board.py`."""
        return board_module(self)

    def flash_layout(self) -> tuple[partitions.Partition, ...]:
        """The rows of the board's `partitions.csv`, in the order of the file.

        Raises:
            PartitionError: the file is missing or a row is malformed, overlaps, is misaligned or leaves the flash.
        """
        return partitions.read(ROOT / self.name / "partitions.csv", self.flash_size)

    def manifest(self) -> Path:
        """The path of the board's `manifest.py`, which says what is frozen into its firmware."""
        return ROOT / self.name / "manifest.py"


def names() -> list[str]:
    """The names of all boards, sorted."""
    return sorted(path.parent.name for path in ROOT.glob("*/board.toml"))


def load(name: str) -> Board:
    """The board of that name.

    Raises:
        BoardError: there is none, or its definition is wrong.
    """
    # the name comes from a command line: it must not walk out of the folder
    if not _NAME.fullmatch(name) or not (ROOT / name / "board.toml").is_file():
        raise BoardError(f"no board {name!r}; there are: {', '.join(names())}")
    return parse((ROOT / name / "board.toml").read_text(encoding="utf-8"), name)


def parse(text: str, name: str) -> Board:
    """Read the text of a `board.toml` whose folder is called `name`.

    Raises:
        BoardError: not TOML, a key is missing, unknown, of the wrong type or out of range, or a pin is used twice.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BoardError(f"{name}/board.toml: {error}") from error
    root = Table(table, f"{name}/board.toml")
    chip = root.choice("chip", frozenset(chips.PINS))
    board = Board(
        name=root.text("name", _NAME),
        vendor=root.text("vendor", _DOMAIN),
        model=root.text("model", _MODEL),
        chip=chip,
        firmware=root.text("firmware", _WORD),
        flash_size=root.integer("flash_size", 0x200000, 0x2000000),
        radio=_radio(radio, chip) if (radio := root.table("radio")) else None,
        i2c=_i2c(i2c, chip) if (i2c := root.table("i2c")) else None,
        pmu=_pmu(pmu) if (pmu := root.table("pmu")) else None,
        battery=_battery(battery, chip) if (battery := root.table("battery")) else None,
        parts=tuple(_part(part) for part in root.tables("parts")),
    )
    root.end()
    _check_whole(board, name)
    return board


def _radio(table: Table, chip: str) -> Radio:
    radio_chip = table.choice("chip", frozenset(RADIO_PINS))
    needed = RADIO_PINS[radio_chip]
    radio = Radio(
        chip=radio_chip,
        region=table.choice("region", REGIONS),
        spi=table.integer("spi", 1, 2),
        sck=chips.output(table, "sck", chip),
        mosi=chips.output(table, "mosi", chip),
        miso=chips.pin(table, "miso", chip),
        baudrate_hz=table.integer("baudrate_hz", 100_000, 16_000_000),
        cs=chips.output(table, "cs", chip),
        reset=chips.output(table, "reset", chip),
        busy=chips.pin(table, "busy", chip) if "busy" in needed else None,
        dio0=chips.pin(table, "dio0", chip) if "dio0" in needed else None,
        dio1=chips.pin(table, "dio1", chip) if "dio1" in needed else None,
        dio2_rf_sw=table.boolean("dio2_rf_sw") if "busy" in needed else False,
        # SX1262 datasheet 13.3.6: 1.6 V to 3.3 V; absent: a plain crystal
        dio3_tcxo_mv=table.optional_integer("dio3_tcxo_mv", 1600, 3300) if "busy" in needed else None,
        rx_margin_ms=table.optional_integer("rx_margin_ms", 0, 3000),
    )
    table.end()
    return radio


def _i2c(table: Table, chip: str) -> I2cBus:
    bus = I2cBus(
        id=table.integer("id", 0, 1),
        sda=chips.output(table, "sda", chip),
        scl=chips.output(table, "scl", chip),
        freq_hz=table.integer("freq_hz", 10_000, 1_000_000),
    )
    table.end()
    return bus


def _pmu(table: Table) -> Pmu:
    chip = table.choice("chip", frozenset(PMU_RAILS))
    pmu = Pmu(
        chip=chip,
        address=table.integer("address", 0x08, 0x77),
        radio_rail=table.choice("radio_rail", PMU_RAILS[chip]),
        radio_mv=table.integer("radio_mv", 1800, 3500),
    )
    if pmu.radio_mv % 100:
        raise table.error("radio_mv", "goes in steps of 100")
    table.end()
    return pmu


def _battery(table: Table, chip: str) -> Battery:
    pin = chips.pin(table, "adc", chip) if table.has("adc") else None
    battery = Battery(
        adc=pin,
        divider=table.number("divider", 1.0, 20.0) if pin is not None else 1.0,
        full_mv=table.integer("full_mv", 1000, 20_000),
        low_mv=table.integer("low_mv", 1000, 20_000),
        empty_mv=table.integer("empty_mv", 1000, 20_000),
    )
    if pin is not None and pin not in chips.ADC_PINS[chip]:
        raise table.error("adc", f"GPIO {pin} is no input of ADC1")
    if not battery.empty_mv <= battery.low_mv <= battery.full_mv:
        raise table.error("low_mv", "must lie between empty_mv and full_mv")
    table.end()
    return battery


def _part(table: Table) -> Part:
    # 7-bit addresses below 0x08 and above 0x77 are reserved (I2C specification UM10204 3.1.12)
    part = Part(table.text("part", _WORD), table.integer("address", 0x08, 0x77))
    table.end()
    return part


def _check_whole(board: Board, folder: str) -> None:
    where = f"{folder}/board.toml"
    if board.name != folder:
        raise BoardError(f"{where}: name is {board.name!r}, the folder {folder!r}")
    if (board.parts or board.pmu) and board.i2c is None:
        raise BoardError(f"{where}: parts and pmu need [i2c]")
    if board.battery and board.battery.adc is None and board.pmu is None:
        raise BoardError(f"{where}: battery: needs adc, or a [pmu] that measures it")
    addresses = [part.address for part in board.parts] + ([board.pmu.address] if board.pmu else [])
    if len(set(addresses)) != len(addresses):
        raise BoardError(f"{where}: two parts have the same address")
    used: dict[int, str] = {}
    for name, pin in _pins(board):
        if pin in used:
            raise BoardError(f"{where}: GPIO {pin} is both {used[pin]} and {name}")
        used[pin] = name


def _pins(board: Board) -> list[tuple[str, int]]:
    pins: list[tuple[str, int | None]] = []
    if radio := board.radio:
        pins += [
            (f"radio.{name}", getattr(radio, name))
            for name in ("sck", "mosi", "miso", "cs", "reset", "busy", "dio0", "dio1")
        ]
    if board.i2c:
        pins += [("i2c.sda", board.i2c.sda), ("i2c.scl", board.i2c.scl)]
    if board.battery:
        pins.append(("battery.adc", board.battery.adc))
    return [(name, pin) for name, pin in pins if pin is not None]
