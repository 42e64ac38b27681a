"""Board definitions: what is soldered where, one folder a board, read from its `board.toml` and checked strictly.

Owns the format of `board.toml`. Opens no hardware and knows no driver: it names pins and parts, and what is built on
them is the device's business.
"""

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from boards import chips, partitions, sections
from boards.power import Power, ledger, power
from boards.sections import Battery, Button, FirmwareImage, Gnss, I2cBus, Modem, Part, Pmu, Radio, Rail
from boards.source import board_module
from boards.table import BoardError, Table

__all__ = [
    "Battery",
    "Board",
    "BoardError",
    "Button",
    "FirmwareImage",
    "Gnss",
    "I2cBus",
    "Modem",
    "Part",
    "Pmu",
    "Power",
    "Radio",
    "Rail",
    "load",
    "names",
    "parse",
]

ROOT = Path(__file__).parent

_NAME = re.compile(r"[A-Z][A-Z0-9_]{1,31}")
_MODEL = re.compile(r"[a-z0-9][a-z0-9.-]{0,31}")
_DOMAIN = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,40}")
# numbers of a section that are GPIOs; every other number of a section is not
_PIN_FIELDS = frozenset(
    {"pin"}
    | {"sck", "mosi", "miso", "cs", "reset", "busy", "dio0", "dio1"}
    | {"sda", "scl", "adc", "enable"}
    | {"tx", "rx", "power_key", "dtr", "ri", "pps"}
)


@dataclass(frozen=True)
class Board:
    """One board as `board.toml` has it.

    Attributes:
        name: the folder's name.
        vendor: a domain name; with `model` it makes the identifiers of the SUIT manifest.
        model: what a release is built for.
        chip: the ESP32 variant, a key of `chips.CHIPS`.
        psram: none, quad or octal.
        console: what the serial REPL is on: uart0 (behind a bridge) or usb (the chip's own).
        strapping: which of its pins are read at reset and used all the same.
        firmware: MicroPython's board (and variant) name whose image is flashed.
        firmware_image: the file of that image; None where none is named.
        flash_size: bytes.
        radio, i2c, pmu, battery, modem, gnss, button: None where the board has none.
        parts: what is on the sensors' I2C bus.
        power: what the board and its parts take of its cell.
    """

    name: str
    vendor: str
    model: str
    chip: str
    psram: str
    console: str
    strapping: tuple[int, ...]
    firmware: str
    flash_size: int
    radio: Radio | None
    i2c: I2cBus | None
    pmu: Pmu | None
    battery: Battery | None
    modem: Modem | None
    gnss: Gnss | None
    parts: tuple[Part, ...]
    power: Power
    button: Button | None = None
    firmware_image: FirmwareImage | None = None

    def module(self) -> str:
        """The source of the device's `board.py`."""
        return board_module(self)

    def flash_layout(self) -> tuple[partitions.Partition, ...]:
        """The rows of the board's `partitions.csv`, in the order of the file.

        Raises:
            PartitionError: the file is missing or a row is malformed, overlaps, is misaligned or leaves the flash.
        """
        return partitions.read(ROOT / self.name / "partitions.csv", self.flash_size)

    def pins(self) -> list[tuple[str, int]]:
        """Every GPIO number that the definition names, with where it does: ("radio.sck", 5)."""
        named = ("radio", "i2c", "pmu", "battery", "modem", "gnss", "button")
        found = [pin for name in named for pin in _pins_of(getattr(self, name), name)]
        return found + [(f"{part.part}.int", part.interrupt) for part in self.parts if part.interrupt is not None]

    def ledger(self) -> tuple[int, ...]:
        """Microamperes of the cell by part, in the order of `sealwire.charge`: what the device counts charge with."""
        return ledger(
            self.power,
            self.chip,
            self.radio.chip if self.radio else None,
            self.radio.region if self.radio else "",
            self.modem.chip if self.modem else None,
            self.gnss.chip if self.gnss else None,
            [part.part for part in self.parts],
        )

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
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BoardError(f"{name}/board.toml: {error}") from error
    root = Table(read, f"{name}/board.toml")
    chip = root.choice("chip", frozenset(chips.CHIPS))
    psram = root.choice("psram", frozenset(chips.CHIPS[chip].psram))
    console = root.choice("console", frozenset(chips.CHIPS[chip].console))
    pins = chips.Pins(chip, psram, console)
    parts = tuple(sections.part(part, pins) for part in root.tables("parts"))
    radio = sections.radio(table, pins) if (table := root.table("radio")) else None
    modem = sections.modem(table, pins) if (table := root.table("modem")) else None
    gnss = sections.gnss(table, pins) if (table := root.table("gnss")) else None
    consumers = {chip: ""} | {part.part: "" for part in parts}
    consumers |= {radio.chip: ""} if radio else {}
    consumers |= {modem.chip: ""} if modem else {}
    consumers |= {gnss.chip: "GNSS"} if gnss else {}
    board = Board(
        name=root.text("name", _NAME),
        vendor=root.text("vendor", _DOMAIN),
        model=root.text("model", _MODEL),
        chip=chip,
        psram=psram,
        console=console,
        strapping=root.integers("strapping"),
        firmware=root.text("firmware", _WORD),
        flash_size=root.integer("flash_size", 0x200000, 0x2000000),
        radio=radio,
        i2c=sections.i2c(table, pins) if (table := root.table("i2c")) else None,
        pmu=sections.pmu(table, pins) if (table := root.table("pmu")) else None,
        battery=sections.battery(table, pins) if (table := root.table("battery")) else None,
        modem=modem,
        gnss=gnss,
        parts=parts,
        power=power(root.needed("power"), consumers),
        button=sections.button(table, pins) if (table := root.table("button")) else None,
        firmware_image=sections.firmware_image(table, pins) if (table := root.table("firmware_image")) else None,
    )
    root.end()
    _check_whole(board, name)
    return board


def _check_whole(board: Board, folder: str) -> None:
    where = f"{folder}/board.toml"
    if board.name != folder:
        raise BoardError(f"{where}: name is {board.name!r}, the folder {folder!r}")
    if board.radio is None and board.modem is None:
        raise BoardError(f"{where}: neither [radio] nor [modem]: nothing to send with")
    _check_power(board, where)
    shared = board.pmu is not None and board.pmu.i2c is None
    if (board.parts or shared) and board.i2c is None:
        raise BoardError(f"{where}: parts and pmu need [i2c]")
    if board.i2c and board.pmu and board.pmu.i2c and board.i2c.id == board.pmu.i2c.id:
        raise BoardError(f"{where}: two buses have the id {board.i2c.id}")
    if board.modem and board.gnss and board.modem.uart == board.gnss.uart:
        raise BoardError(f"{where}: modem and gnss have the same uart")
    addresses = [part.address for part in board.parts] + ([board.pmu.address] if board.pmu and shared else [])
    if len(set(addresses)) != len(addresses):
        raise BoardError(f"{where}: two parts have the same address")
    if len({part.part for part in board.parts}) != len(board.parts):
        raise BoardError(f"{where}: two parts have the same name")
    used: dict[int, str] = {}
    for name, pin in board.pins():
        if pin in used:
            raise BoardError(f"{where}: GPIO {pin} is both {used[pin]} and {name}")
        used[pin] = name
    needed = tuple(sorted(chips.CHIPS[board.chip].strapping & set(used)))
    if board.strapping != needed:
        # whoever writes a definition is to have looked at what else is wired to them
        raise BoardError(f"{where}: strapping: must be {list(needed)}, the used pins that are read at reset")


def _check_power(board: Board, where: str) -> None:
    if board.battery and board.battery.adc is None and board.pmu is None:
        raise BoardError(f"{where}: battery: needs adc, or a [pmu] that measures it")
    if board.pmu and (board.pmu.radio_rail is None) != (board.radio is None):
        raise BoardError(f"{where}: pmu: radio_rail is there just if [radio] is")
    if board.pmu is None and ((board.modem and board.modem.rails) or (board.gnss and board.gnss.rail)):
        raise BoardError(f"{where}: a rail needs a [pmu]")


def _pins_of(section: Any, where: str) -> list[tuple[str, int]]:
    if section is None:
        return []
    values = [(field.name, getattr(section, field.name)) for field in fields(section)]
    own = [(f"{where}.{name}", value) for name, value in values if name in _PIN_FIELDS and value is not None]
    # a PMU may have a bus of its own
    return own + [
        pin for name, value in values if isinstance(value, I2cBus) for pin in _pins_of(value, f"{where}.{name}")
    ]
