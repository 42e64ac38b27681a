"""The virtual board's NVS partition: namespaces of named values in one file, with ESP-IDF's limits and error codes.

What was set is in the file after `commit`; a power cut or reset before that loses it. (ESP-IDF usually writes earlier;
the documentation promises no more than this, so firmware is tested against no more.)
"""

import json
import os
from pathlib import Path

from host_tools.sim.esp import EspError

# esp-idf components/nvs_flash/include/nvs.h
NOT_FOUND = (0x1102, "ESP_ERR_NVS_NOT_FOUND")
TYPE_MISMATCH = (0x1103, "ESP_ERR_NVS_TYPE_MISMATCH")
NOT_ENOUGH_SPACE = (0x1105, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")
INVALID_NAME = (0x1106, "ESP_ERR_NVS_INVALID_NAME")
KEY_TOO_LONG = (0x1109, "ESP_ERR_NVS_KEY_TOO_LONG")
INVALID_LENGTH = (0x110C, "ESP_ERR_NVS_INVALID_LENGTH")
VALUE_TOO_LONG = (0x110E, "ESP_ERR_NVS_VALUE_TOO_LONG")

NAME_MAX = 15
PAGE_ENTRIES = 126  # of 32 bytes; one page is always kept free
BLOB_MAX = 4000  # within one page, which is what every ESP-IDF version takes

Value = int | bytes


class NvsError(EspError):
    """An error of the NVS library."""


class Nvs:
    """All namespaces of one chip.

    Args:
        path: the file that keeps them; it is made when first committed to.
        size: of the partition in bytes.
    """

    def __init__(self, path: Path, size: int = 0x6000) -> None:
        self._path = path
        self._entries_max = (size // 4096 - 1) * PAGE_ENTRIES
        self._committed = self._load()
        self._values = {namespace: dict(values) for namespace, values in self._committed.items()}

    def open(self, namespace: str) -> None:
        """Check a namespace's name, and make it."""
        if not 0 < len(namespace) <= NAME_MAX:
            raise NvsError(KEY_TOO_LONG if namespace else INVALID_NAME)
        self._values.setdefault(namespace, {})

    def get(self, namespace: str, key: str, kind: type[Value]) -> Value:
        """The value of that kind (int or bytes) under this key."""
        value = self._values.get(namespace, {}).get(_checked(key))
        if value is None:
            raise NvsError(NOT_FOUND)
        if not isinstance(value, kind):
            raise NvsError(TYPE_MISMATCH)
        return value

    def set(self, namespace: str, key: str, value: Value) -> None:
        """Put a value under this key; it is kept from the next commit on."""
        if isinstance(value, bytes) and len(value) > BLOB_MAX:
            raise NvsError(VALUE_TOO_LONG)
        values = self._values.setdefault(namespace, {})
        before = values.get(_checked(key))
        used = sum(_entries(value) for values in self._values.values() for value in values.values())
        # the new version is written before the old one is marked as erased
        if used + _entries(value) > self._entries_max and value != before:
            raise NvsError(NOT_ENOUGH_SPACE)
        values[key] = value

    def erase(self, namespace: str, key: str) -> None:
        """Remove a key."""
        if self._values.get(namespace, {}).pop(_checked(key), None) is None:
            raise NvsError(NOT_FOUND)

    def commit(self) -> None:
        """Write everything to the file, as one atomic step."""
        self._committed = {namespace: dict(values) for namespace, values in self._values.items()}
        document = {
            namespace: {key: value if isinstance(value, int) else value.hex() for key, value in values.items()}
            for namespace, values in self._committed.items()
        }
        beside = self._path.with_suffix(".new")
        beside.touch(mode=0o600)
        beside.write_text(json.dumps(document, indent=1))
        os.replace(beside, self._path)

    def clear(self) -> None:
        """What erasing the partition does; it is in the file at once."""
        self._values = {}
        if self._committed:
            self.commit()

    def forget(self) -> None:
        """What a reset or a power cut does: whatever was not committed is gone."""
        self._values = {namespace: dict(values) for namespace, values in self._committed.items()}

    def _load(self) -> dict[str, dict[str, Value]]:
        if not self._path.exists():
            return {}
        document = json.loads(self._path.read_text())
        return {
            namespace: {key: value if isinstance(value, int) else bytes.fromhex(value) for key, value in values.items()}
            for namespace, values in document.items()
        }


def _checked(key: str) -> str:
    if not 0 < len(key) <= NAME_MAX:
        raise NvsError(KEY_TOO_LONG if key else INVALID_NAME)
    return key


def _entries(value: Value) -> int:
    return 1 if isinstance(value, int) else 2 + -(-len(value) // 32)
