"""What each ESP32 variant's pins can do, and pins taken from a board definition.

Sources: ESP32 series datasheet ("Pin Definitions", "Strapping Pins"), ESP32-S3 series datasheet (the same sections) and
ESP-IDF's programming guide, docs/en/api-reference/peripherals/gpio/{esp32,esp32s3}.inc, which has them as tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from boards.table import Table


@dataclass(frozen=True)
class Chip:
    """One variant.

    Attributes:
        gpio: the GPIO numbers that exist.
        flash: of those, what the flash chip is on.
        psram: what else is taken, by the kind of PSRAM that a board has.
        console: what the serial REPL is on, by its kind: a UART behind a USB bridge, or the chip's own USB.
        input_only: without an output driver.
        adc1: ADC1's inputs; ADC2 is the radio's while Wi-Fi is on.
        rtc: what can end a deep sleep (ext0, ext1).
        strapping: read at reset to choose how to start; what is wired to one must not pull it the wrong way then.
        image_offset: where the boot loader begins, and with it MicroPython's whole image.
    """

    gpio: frozenset[int]
    flash: frozenset[int]
    psram: Mapping[str, frozenset[int]]
    console: Mapping[str, frozenset[int]]
    input_only: frozenset[int]
    adc1: frozenset[int]
    rtc: frozenset[int]
    strapping: frozenset[int]
    image_offset: int


CHIPS: Mapping[str, Chip] = {
    "esp32": Chip(
        gpio=frozenset({*range(20), *range(21, 24), *range(25, 28), *range(32, 40)}),
        flash=frozenset(range(6, 12)),
        psram={"none": frozenset(), "quad": frozenset({16, 17})},
        console={"uart0": frozenset({1, 3})},
        input_only=frozenset(range(34, 40)),
        adc1=frozenset(range(32, 40)),
        rtc=frozenset({0, 2, 4, *range(12, 16), *range(25, 28), *range(32, 40)}),
        strapping=frozenset({0, 2, 5, 12, 15}),
        image_offset=0x1000,
    ),
    "esp32s3": Chip(
        gpio=frozenset({*range(22), *range(26, 49)}),
        # 26 is the chip select of quad PSRAM; it is left alone without PSRAM too
        flash=frozenset(range(26, 33)),
        # octal: SPIIO4 to SPIIO7 and SPIDQS; ESP32-S3R8 and the modules with R8 in their name
        psram={"none": frozenset(), "quad": frozenset({26}), "octal": frozenset(range(33, 38))},
        console={"uart0": frozenset({43, 44}), "usb": frozenset({19, 20})},
        input_only=frozenset(),
        adc1=frozenset(range(1, 11)),
        rtc=frozenset(range(22)),
        strapping=frozenset({0, 3, 45, 46}),
        image_offset=0,
    ),
}


class Pins:
    """The pins of one chip as a board leaves them free.

    Args:
        name: a key of `CHIPS`.
        psram: a key of its `psram`.
        console: a key of its `console`.
    """

    def __init__(self, name: str, psram: str, console: str) -> None:
        self._name, self.chip = name, CHIPS[name]
        self._taken = {
            "its flash chip": self.chip.flash,
            f"its {psram} PSRAM": self.chip.psram[psram],
            f"its console ({console})": self.chip.console[console],
        }

    def pin(self, table: Table, key: str) -> int:
        """A GPIO number that can at least be an input."""
        value = table.integer(key, 0, 48)
        if value not in self.chip.gpio:
            raise table.error(key, f"{self._name} has no GPIO {value}")
        for by, pins in self._taken.items():
            if value in pins:
                raise table.error(key, f"{self._name} has no GPIO {value} to spare: {by} is on it")
        return value

    def wake(self, table: Table, key: str) -> int:
        """A GPIO number that can end a deep sleep."""
        value = self.pin(table, key)
        if value not in self.chip.rtc:
            raise table.error(key, f"GPIO {value} is no RTC pin: it cannot wake the {self._name}")
        return value

    def output(self, table: Table, key: str) -> int:
        """A GPIO number that can be an output."""
        value = self.pin(table, key)
        if value in self.chip.input_only:
            raise table.error(key, f"GPIO {value} can only be an input")
        return value

    def optional_pin(self, table: Table, key: str) -> int | None:
        """As `pin`, or None where the key is absent."""
        return self.pin(table, key) if table.has(key) else None

    def optional_output(self, table: Table, key: str) -> int | None:
        """As `output`, or None where the key is absent."""
        return self.output(table, key) if table.has(key) else None
