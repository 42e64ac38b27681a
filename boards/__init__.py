"""Board definitions: what is soldered where, one folder a board, read from its `board.toml` and checked strictly.

Owns the format of `board.toml`. Opens no hardware and knows no driver: it names pins and parts, and what is built on
them is the device's business.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boards import partitions
from boards.source import board_module

ROOT = Path(__file__).parent

# GPIO numbers that exist (ESP32 technical reference manual 4.1; ESP32-S3 technical reference manual 6.1), and of
# those the ones without an output driver (ESP32: 34 to 39)
PINS: Mapping[str, frozenset[int]] = {
    "esp32": frozenset({*range(24), *range(25, 28), *range(32, 40)}),
    "esp32s3": frozenset({*range(22), *range(26, 49)}),
}
INPUT_ONLY: Mapping[str, frozenset[int]] = {"esp32": frozenset(range(34, 40)), "esp32s3": frozenset()}
# ADC1's pins; ADC2 is the radio's while Wi-Fi is on
ADC_PINS: Mapping[str, frozenset[int]] = {
    "esp32": frozenset({32, 33, 34, 35, 36, 37, 38, 39}),
    "esp32s3": frozenset(range(1, 11)),
}
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
_NAME = re.compile(r"[A-Z][A-Z0-9_]{1,31}")
_MODEL = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
_DOMAIN = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,40}")


class BoardError(Exception):
    """A board definition is missing or wrong; the message names the file, the key and what was expected."""


@dataclass(frozen=True)
class Radio:
    """A LoRa transceiver on SPI. Pins are GPIO numbers; those that the chip has not are None."""

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


@dataclass(frozen=True)
class I2cBus:
    """The bus that the sensors are on."""

    id: int
    sda: int
    scl: int
    freq_hz: int


@dataclass(frozen=True)
class Battery:
    """A cell behind a resistor divider: cell voltage = voltage at the ADC pin times `divider`."""

    adc: int
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
        chip: the ESP32 variant, a key of `PINS`.
        firmware: MicroPython's board (and variant) name whose image is flashed.
        flash_size: bytes.
        radio, i2c, battery: None where the board has none.
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
    root = _Table(table, f"{name}/board.toml")
    chip = root.choice("chip", frozenset(PINS))
    board = Board(
        name=root.text("name", _NAME),
        vendor=root.text("vendor", _DOMAIN),
        model=root.text("model", _MODEL),
        chip=chip,
        firmware=root.text("firmware", _WORD),
        flash_size=root.integer("flash_size", 0x200000, 0x2000000),
        radio=_radio(radio, chip) if (radio := root.table("radio")) else None,
        i2c=_i2c(i2c, chip) if (i2c := root.table("i2c")) else None,
        battery=_battery(battery, chip) if (battery := root.table("battery")) else None,
        parts=tuple(_part(part) for part in root.tables("parts")),
    )
    root.end()
    _check_whole(board, name)
    return board


def _radio(table: "_Table", chip: str) -> Radio:
    radio_chip = table.choice("chip", frozenset(RADIO_PINS))
    needed = RADIO_PINS[radio_chip]
    radio = Radio(
        chip=radio_chip,
        region=table.choice("region", REGIONS),
        spi=table.integer("spi", 1, 2),
        sck=table.output("sck", chip),
        mosi=table.output("mosi", chip),
        miso=table.pin("miso", chip),
        baudrate_hz=table.integer("baudrate_hz", 100_000, 16_000_000),
        cs=table.output("cs", chip),
        reset=table.output("reset", chip),
        busy=table.pin("busy", chip) if "busy" in needed else None,
        dio0=table.pin("dio0", chip) if "dio0" in needed else None,
        dio1=table.pin("dio1", chip) if "dio1" in needed else None,
        dio2_rf_sw=table.boolean("dio2_rf_sw") if "busy" in needed else False,
        # SX1262 datasheet 13.3.6: 1.6 V to 3.3 V; absent: a plain crystal
        dio3_tcxo_mv=table.optional_integer("dio3_tcxo_mv", 1600, 3300) if "busy" in needed else None,
    )
    table.end()
    return radio


def _i2c(table: "_Table", chip: str) -> I2cBus:
    bus = I2cBus(
        id=table.integer("id", 0, 1),
        sda=table.output("sda", chip),
        scl=table.output("scl", chip),
        freq_hz=table.integer("freq_hz", 10_000, 1_000_000),
    )
    table.end()
    return bus


def _battery(table: "_Table", chip: str) -> Battery:
    battery = Battery(
        adc=table.pin("adc", chip),
        divider=table.number("divider", 1.0, 20.0),
        full_mv=table.integer("full_mv", 1000, 20_000),
        low_mv=table.integer("low_mv", 1000, 20_000),
        empty_mv=table.integer("empty_mv", 1000, 20_000),
    )
    if battery.adc not in ADC_PINS[chip]:
        raise table.error("adc", f"GPIO {battery.adc} is no input of ADC1")
    if not battery.empty_mv <= battery.low_mv <= battery.full_mv:
        raise table.error("low_mv", "must lie between empty_mv and full_mv")
    table.end()
    return battery


def _part(table: "_Table") -> Part:
    # 7-bit addresses below 0x08 and above 0x77 are reserved (I2C specification UM10204 3.1.12)
    part = Part(table.text("part", _WORD), table.integer("address", 0x08, 0x77))
    table.end()
    return part


def _check_whole(board: Board, folder: str) -> None:
    where = f"{folder}/board.toml"
    if board.name != folder:
        raise BoardError(f"{where}: name is {board.name!r}, the folder {folder!r}")
    if board.parts and board.i2c is None:
        raise BoardError(f"{where}: parts need [i2c]")
    addresses = [part.address for part in board.parts]
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


class _Table:
    """A TOML table whose keys are taken one by one; what is left at the end is refused."""

    def __init__(self, table: dict[str, Any], where: str) -> None:
        self._left = dict(table)
        self._where = where

    def error(self, key: str, text: str) -> BoardError:
        return BoardError(f"{self._where}: {key}: {text}")

    def _take(self, key: str) -> Any:
        if key not in self._left:
            raise self.error(key, "missing")
        return self._left.pop(key)

    def end(self) -> None:
        if self._left:
            raise self.error(min(self._left), "unknown key")

    def text(self, key: str, pattern: re.Pattern[str]) -> str:
        value = self._take(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.error(key, f"{value!r} does not match {pattern.pattern}")
        return value

    def choice(self, key: str, choices: frozenset[str]) -> str:
        value = self._take(key)
        if not isinstance(value, str) or value not in choices:
            raise self.error(key, f"{value!r} is none of {', '.join(sorted(choices))}")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = self._take(key)
        # bool is an int in Python, not in TOML
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, f"{value!r} is no integer from {low} to {high}")
        return value

    def optional_integer(self, key: str, low: int, high: int) -> int | None:
        return self.integer(key, low, high) if key in self._left else None

    def number(self, key: str, low: float, high: float) -> float:
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.error(key, f"{value!r} is no number from {low} to {high}")
        return float(value)

    def boolean(self, key: str) -> bool:
        value = self._take(key)
        if not isinstance(value, bool):
            raise self.error(key, f"{value!r} is neither true nor false")
        return value

    def pin(self, key: str, chip: str) -> int:
        value = self.integer(key, 0, 48)
        if value not in PINS[chip]:
            raise self.error(key, f"{chip} has no GPIO {value}")
        return value

    def output(self, key: str, chip: str) -> int:
        value = self.pin(key, chip)
        if value in INPUT_ONLY[chip]:
            raise self.error(key, f"GPIO {value} can only be an input")
        return value

    def table(self, key: str) -> "_Table | None":
        if key not in self._left:
            return None
        value = self._left.pop(key)
        if not isinstance(value, dict):
            raise self.error(key, "must be a table")
        return _Table(value, f"{self._where}: {key}")

    def tables(self, key: str) -> "list[_Table]":
        value = self._left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, "must be an array of tables")
        return [_Table(item, f"{self._where}: {key}[{index}]") for index, item in enumerate(value)]
