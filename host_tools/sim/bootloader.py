"""The virtual chip's boot loader, and the functions of `esp_ota_ops` that MicroPython's `esp32.Partition` calls.

As ESP-IDF with CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE and CONFIG_BOOTLOADER_SKIP_VALIDATE_IN_DEEP_SLEEP, which is how
MicroPython is built (`ports/esp32/boards/sdkconfig.base`). Followed: esp-idf `components/app_update/esp_ota_ops.c`,
`components/bootloader_support/src/bootloader_utility.c` and `bootloader_common_loader.c`.

otadata has two sectors with an entry each: sequence, state, CRC of the sequence. The valid entry with the higher
sequence names the slot: (sequence − 1) modulo the number of slots. States:

    NEW             by set_boot; the next start makes it
    PENDING         runs unconfirmed; the next start that is no end of a deep sleep makes it
    ABORTED         never chosen again: the other entry decides
    VALID           by mark_app_valid_cancel_rollback

A slot whose image is not whole is passed over. After a deep sleep the slot that ran is started again, unchecked.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from host_tools.sim import esp, firmware
from host_tools.sim.esp import EspError
from host_tools.sim.flash import SECTOR, SUBTYPES, TYPES, Area, Flash

NEW, PENDING, VALID, INVALID, ABORTED, UNDEFINED = 0, 1, 2, 3, 4, 0xFFFFFFFF
EMPTY = 0xFFFFFFFF
FACTORY = -1
_ENTRY = struct.Struct("<I20sII")
_APP, _DATA = TYPES["app"], TYPES["data"]
_OTA_0 = SUBTYPES["app"]["ota_0"]


@dataclass(frozen=True)
class Entry:
    """One of the two in otadata."""

    sequence: int
    state: int
    crc: int
    label: bytes = b"\xff" * 20

    @property
    def refused(self) -> bool:
        """It names nothing that may be started."""
        return self.sequence == EMPTY or self.state in (INVALID, ABORTED)

    @property
    def valid(self) -> bool:
        """It may be chosen."""
        return not self.refused and self.crc == _crc(self.sequence)


class Bootloader:
    """Chooses the slot.

    Args:
        flash: the chip's partitions.
        chip: a key of `firmware.CHIP_IDS`.
        say: called with a line where the chip would log an error.
        spend: called before each erase and write that the running code causes; a power cut is an exception from it.

    Attributes:
        running: the partition that was started last; None before the first start.
    """

    def __init__(
        self,
        flash: Flash,
        chip: str,
        say: Callable[[str], None] = lambda line: None,
        spend: Callable[[], None] = lambda: None,
    ) -> None:
        self._flash = flash
        self._chip = chip
        self._say = say
        self._spend = spend
        self._slots = [area for number in range(16) for area in flash.find(_APP, _OTA_0 + number)]
        self._factory = next(iter(flash.find(_APP, SUBTYPES["app"]["factory"])), None)
        self._otadata = next(iter(flash.find(_DATA, SUBTYPES["data"]["ota"])), None)
        self.running: Area | None = None

    # what the boot loader does

    def start(self) -> Area | None:
        """Choose a slot as after any reset but the end of a deep sleep; None: nothing can be started."""
        chosen, blank = self._select()
        self.running = None
        for index in [*range(chosen, FACTORY - 1, -1), *range(chosen + 1, len(self._slots))]:
            area = self._factory if index == FACTORY else self._slots[index]
            if area is None:
                continue
            try:
                self._check(area)
            except firmware.ImageInvalid as error:
                self._say(f"virtual board: {area.label} is not bootable: {error}")
                continue
            if blank and index != FACTORY:
                self._write_entry(0, Entry(index + 1, VALID, _crc(index + 1)))
            self.running = area
            break
        return self.running

    def _select(self) -> tuple[int, bool]:
        # the index of the slot that otadata names, and whether otadata has yet to be begun
        if self._otadata is None:
            return FACTORY, False
        entries = self._entries()
        for number, entry in enumerate(entries):
            if entry.state == PENDING:
                entries[number] = replace(entry, state=ABORTED)
                self._write_entry(number, entries[number])
        if all(entry.refused for entry in entries) or not self._slots:
            if self._factory is not None:
                return FACTORY, False
            return 0, all(entry.sequence == EMPTY or entry.crc != _crc(entry.sequence) for entry in entries)
        active = _active(entries)
        if active is None:
            return FACTORY, False
        if entries[active].state == NEW:
            entries[active] = replace(entries[active], state=PENDING)
            self._write_entry(active, entries[active])
        return (entries[active].sequence - 1) % len(self._slots), False

    # what esp_ota_ops does

    def boot_partition(self) -> Area | None:
        """The partition that otadata names."""
        if self._otadata is None:
            return None
        entries = self._entries()
        active = _active(entries)
        if active is None or not self._slots:
            return self._factory or next(iter(self._slots), None)
        return self._slots[(entries[active].sequence - 1) % len(self._slots)]

    def next_update(self, area: Area) -> Area | None:
        """The slot behind this one, or the first; None: there are none."""
        if area in self._slots:
            return self._slots[(self._slots.index(area) + 1) % len(self._slots)]
        return next(iter(self._slots), None)

    def set_boot(self, area: Area) -> None:
        """Let the next start be from this partition.

        Raises:
            EspError: it holds no whole image, or is none to start from.
        """
        try:
            self._check(area)
        except firmware.ImageInvalid as error:
            raise EspError(esp.OTA_VALIDATE_FAILED) from error
        if area.type != _APP:
            raise EspError(esp.INVALID_ARG)
        if self._otadata is None:
            raise EspError(esp.NOT_FOUND)
        if area == self._factory:
            self._spend()
            self._flash.erase(self._otadata, 0, self._otadata.size)
            return
        if area not in self._slots:
            raise EspError(esp.INVALID_ARG)
        count = len(self._slots)
        slot = self._slots.index(area)
        entries = self._entries()
        active = _active(entries)
        if active is None:
            number, sequence = 0, slot + 1
        else:
            # the lowest sequence that names the slot and is not below the present one, in the other sector
            number, sequence = 1 - active, (slot + 1) % count
            while sequence < entries[active].sequence:
                sequence += count
        self._write_entry(
            number, replace(entries[number], sequence=sequence, state=NEW, crc=_crc(sequence)), self._spend
        )

    def mark_valid(self) -> None:
        """The running firmware works: it is kept from here on.

        Raises:
            EspError: otadata names none.
        """
        if self._otadata is None:
            raise EspError(esp.NOT_FOUND)
        entries = self._entries()
        active = _active(entries)
        if active is None or not self._slots:
            raise EspError(esp.FAIL)
        if entries[active].state != VALID:
            self._write_entry(active, replace(entries[active], state=VALID), self._spend)

    def state(self, number: int) -> int:
        """The state in one of otadata's two entries, for tests."""
        return self._entries()[number].state

    def _check(self, area: Area) -> None:
        firmware.check(lambda at, length: self._flash.read(area, at, length), area.size, self._chip)

    def _entries(self) -> list[Entry]:
        assert self._otadata is not None
        entries = []
        for number in (0, 1):
            data = self._flash.read(self._otadata, number * SECTOR, _ENTRY.size)
            sequence, label, state, crc = _ENTRY.unpack(data)
            entries.append(Entry(sequence, state, crc, label))
        return entries

    def _write_entry(self, number: int, entry: Entry, spend: Callable[[], None] = lambda: None) -> None:
        assert self._otadata is not None
        spend()
        self._flash.erase(self._otadata, number * SECTOR, SECTOR)
        data = _ENTRY.pack(entry.sequence, entry.label, entry.state, entry.crc)
        spend()
        self._flash.write(self._otadata, number * SECTOR, data)


def _active(entries: list[Entry]) -> int | None:
    valid = [number for number in (0, 1) if entries[number].valid]
    return max(valid, key=lambda number: (entries[number].sequence, -number), default=None)


def _crc(sequence: int) -> int:
    # esp-idf components/app_update/otatool.py computes it the same way
    return zlib.crc32(sequence.to_bytes(4, "little"), 0xFFFFFFFF)
