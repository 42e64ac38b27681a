"""What each ESP32 variant's pins can do, and pins taken from a board definition."""

from collections.abc import Mapping

from boards.table import Table

# GPIO numbers that a board can use: those that exist less those that the flash chip is on (ESP32 datasheet, "Pin
# Definitions": 6 to 11; ESP32-S3 datasheet: 26 to 32); and of those the ones without an output driver
PINS: Mapping[str, frozenset[int]] = {
    "esp32": frozenset({*range(6), *range(12, 20), *range(21, 24), *range(25, 28), *range(32, 40)}),
    "esp32s3": frozenset({*range(22), *range(33, 49)}),
}
INPUT_ONLY: Mapping[str, frozenset[int]] = {"esp32": frozenset(range(34, 40)), "esp32s3": frozenset()}
# ADC1's pins; ADC2 is the radio's while Wi-Fi is on
ADC_PINS: Mapping[str, frozenset[int]] = {
    "esp32": frozenset({32, 33, 34, 35, 36, 37, 38, 39}),
    "esp32s3": frozenset(range(1, 11)),
}


def pin(table: Table, key: str, chip: str) -> int:
    """A GPIO number of that chip that can at least be an input."""
    value = table.integer(key, 0, 48)
    if value not in PINS[chip]:
        raise table.error(key, f"{chip} has no GPIO {value} to spare")
    return value


def output(table: Table, key: str, chip: str) -> int:
    """A GPIO number of that chip that can be an output."""
    value = pin(table, key, chip)
    if value in INPUT_ONLY[chip]:
        raise table.error(key, f"GPIO {value} can only be an input")
    return value
