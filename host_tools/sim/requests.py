"""What the board's `network`, `socket` and `Partition` ask of the chip, as bytes.

A letter says what is wanted; numbers are big-endian. Checks what it is given: the other side may be any code.

    Wi-Fi       ?  state: status, address, radio on, associations, dBm, tries     !  radio on or off
                c  connect: ssid, key      d  disconnect     s  scan     r  tries     i  ssid
    partitions  b  boot     c  running     l  by label: type, subtype, address, size, label
                n  next update, f  find: labels            r  read         w  write      e  erase
                s  set boot                v  mark valid
"""

import struct
from collections.abc import Callable

from host_tools.sim import wifi
from host_tools.sim.bootloader import Bootloader
from host_tools.sim.flash import FILE_SYSTEM, Area, Flash
from host_tools.sim.wifi import Station

ENOENT = 2
ENODEV = 19
READ_MAX = 4096


class WifiRequests:
    """Answers those of `network` and `socket`."""

    def __init__(self, station: Station) -> None:
        self._station = station

    def answer(self, body: bytes) -> bytes:
        """The result of one request.

        Raises:
            WifiError: the driver refuses.
            ValueError, IndexError, struct.error: it is no request.
        """
        letter, data = body[:1], body[1:]
        station = self._station
        if letter == b"?":
            status = station.status()
            state = (status, station.connected(), station.active, station.association, wifi.RSSI_DBM)
            return struct.pack(">HBBIbb", *state, station.reconnects)
        if letter == b"!":
            station.set_active(bool(data[0]))
        elif letter == b"c":
            ssid, separator, key = data.partition(b"\0")
            station.connect(*((ssid.decode(), key.decode()) if separator else (None, None)))
        elif letter == b"d":
            station.disconnect()
        elif letter == b"s":
            for point in station.scan():
                head = (wifi.CHANNEL, wifi.RSSI_DBM, wifi.WPA2 if point.key else wifi.OPEN, wifi.BSSID)
                return struct.pack(">BbB6s", *head) + point.ssid.encode()
        elif letter == b"r":
            (station.reconnects,) = struct.unpack(">b", data)
        elif letter == b"i":
            return station.ssid.encode()
        else:
            raise ValueError("no such request")
        return b""


class PartitionRequests:
    """Answers those of `esp32.Partition`.

    Args:
        flash: the partitions.
        bootloader: of the same.
        spend: called before each write and erase; a power cut is an exception from it.
    """

    def __init__(self, flash: Flash, bootloader: Bootloader, spend: Callable[[], None]) -> None:
        self._flash = flash
        self._bootloader = bootloader
        self._spend = spend

    def answer(self, body: bytes) -> bytes:
        """The result of one request.

        Raises:
            EspError: ESP-IDF refuses.
            OSError: there is no such partition.
            ValueError, IndexError, struct.error: it is no request.
        """
        letter, data = body[:1], body[1:]
        if letter == b"b":
            return _packed(self._bootloader.boot_partition())
        if letter == b"c":
            return _packed(self._bootloader.running)
        if letter == b"l":
            return _packed(self._flash.by_label(data.decode()))
        if letter == b"f":
            found = self._flash.find(data[0], data[1], data[2:].decode() or None)
            return b"\0".join(area.label.encode() for area in found)
        if letter == b"v":
            self._bootloader.mark_valid()
            return b""
        label, _, rest = data.partition(b"\0")
        area = self._flash.by_label(label.decode())
        if area is None:
            raise OSError(ENOENT, "no such partition")
        if letter == b"n":
            following = self._bootloader.next_update(area)
            if following is None:
                raise OSError(ENOENT, "no such partition")
            return following.label.encode()
        if letter == b"s":
            self._bootloader.set_boot(area)
            return b""
        return self._blocks(letter, area, rest)

    def _blocks(self, letter: bytes, area: Area, data: bytes) -> bytes:
        if area.label == "nvs":
            raise OSError(ENODEV, "NVS is kept in another form")
        (offset,) = struct.unpack(">i", data[:4])
        data = data[4:]
        if letter == b"r":
            (length,) = struct.unpack(">H", data)
            if length > READ_MAX:
                raise ValueError("too much at once")
            return self._flash.read(area, offset, length)
        if area.label == FILE_SYSTEM:
            raise OSError(ENODEV, "the file system writes there")
        self._spend()
        if letter == b"w":
            self._flash.write(area, offset, data)
        elif letter == b"e":
            (length,) = struct.unpack(">I", data)
            self._flash.erase(area, offset, length)
        else:
            raise ValueError("no such request")
        return b""


def _packed(area: Area | None) -> bytes:
    if area is None:
        raise OSError(ENOENT, "no such partition")
    return struct.pack(">BBII", area.type, area.subtype, area.address, area.size) + area.label.encode()
