"""Takes a TOML table apart key by key; what is missing, of the wrong kind, out of range or left over is an error."""

import re
from typing import Any


class BoardError(Exception):
    """A board definition is missing or wrong; the message names the file, the key and what was expected."""


class Table:
    """A TOML table whose keys are taken one by one; `end` refuses what is left. Every method raises BoardError."""

    def __init__(self, table: dict[str, Any], where: str) -> None:
        self._left = dict(table)
        self._where = where

    def error(self, key: str, text: str) -> BoardError:
        """What is wrong with that key, to be raised."""
        return BoardError(f"{self._where}: {key}: {text}")

    def _take(self, key: str) -> Any:
        if key not in self._left:
            raise self.error(key, "missing")
        return self._left.pop(key)

    def end(self) -> None:
        """Refuse whatever was not taken."""
        if self._left:
            raise self.error(min(self._left), "unknown key")

    def text(self, key: str, pattern: re.Pattern[str]) -> str:
        """A string that matches the whole pattern."""
        value = self._take(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.error(key, f"{value!r} does not match {pattern.pattern}")
        return value

    def choice(self, key: str, choices: frozenset[str]) -> str:
        """One of these strings."""
        value = self._take(key)
        if not isinstance(value, str) or value not in choices:
            raise self.error(key, f"{value!r} is none of {', '.join(sorted(choices))}")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number from low to high."""
        value = self._take(key)
        # bool is an int in Python, not in TOML
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, f"{value!r} is no integer from {low} to {high}")
        return value

    def optional_integer(self, key: str, low: int, high: int) -> int | None:
        """A whole number from low to high, or None where the key is absent."""
        return self.integer(key, low, high) if self.has(key) else None

    def integers(self, key: str) -> tuple[int, ...]:
        """Whole numbers in rising order, each once; none where the key is absent."""
        value = self._left.pop(key, [])
        if not isinstance(value, list) or any(type(item) is not int for item in value):
            raise self.error(key, "must be an array of integers")
        if value != sorted(set(value)):
            raise self.error(key, "must be in rising order, each once")
        return tuple(value)

    def line(self, key: str) -> str:
        """A sentence for people: one line of text, not empty."""
        value = self._take(key)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.error(key, f"{value!r} is no line of text")
        return value

    def left(self) -> tuple[str, ...]:
        """The keys that were not taken yet."""
        return tuple(self._left)

    def has(self, key: str) -> bool:
        """Whether the key is there and was not taken yet."""
        return key in self._left

    def number(self, key: str, low: float, high: float) -> float:
        """A number from low to high."""
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.error(key, f"{value!r} is no number from {low} to {high}")
        return float(value)

    def boolean(self, key: str) -> bool:
        """true or false."""
        value = self._take(key)
        if not isinstance(value, bool):
            raise self.error(key, f"{value!r} is neither true nor false")
        return value

    def table(self, key: str) -> "Table | None":
        """The table of that name, or None where there is none."""
        if key not in self._left:
            return None
        value = self._left.pop(key)
        if not isinstance(value, dict):
            raise self.error(key, "must be a table")
        return Table(value, f"{self._where}: {key}")

    def needed(self, key: str) -> "Table":
        """The table of that name, which must be there."""
        table = self.table(key)
        if table is None:
            raise self.error(key, "missing")
        return table

    def tables(self, key: str) -> "list[Table]":
        """The array of tables of that name; empty where there is none."""
        value = self._left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, "must be an array of tables")
        return [Table(item, f"{self._where}: {key}[{index}]") for index, item in enumerate(value)]
