"""What the board's modules ask of NVS, radio, Wi-Fi and partitions, as bytes, and what these answer.

A letter says what is wanted; numbers are big-endian. Checks what it is given: the other side may be any code. Knows
neither the connection nor how errors are told (`host_tools.sim.peripherals`), and keeps nothing itself.

    NVS         o  open       G S  get and set i32      C B  get and set blob      e  erase      c  commit
    radio       T  transmit   L  listen                 P  poll                    W  wait       Y  standby
                V  level and activity
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
from host_tools.sim.nvs import INVALID_LENGTH, Nvs, NvsError
from host_tools.sim.radio import Heard, Radio, decode_params
from host_tools.sim.wifi import Station

ENOENT = 2
ENODEV = 19
READ_MAX = 4096
_NS = 1_000_000_000


class NoAnswer(Exception):
    """The request gets no answer: its asker is gone, or will be."""


class NvsRequests:
    """Answers those of `esp32.NVS`.

    Args:
        nvs: the partition.
        spend: called before each change; a power cut is an exception from it.
    """

    LETTERS = frozenset((b"o", b"G", b"S", b"C", b"B", b"e", b"c"))

    def __init__(self, nvs: Nvs, spend: Callable[[], None]) -> None:
        self._nvs = nvs
        self._spend = spend

    def answer(self, letter: bytes, body: bytes) -> bytes:
        """The result of one request, whose letter is one of `LETTERS`.

        Raises:
            NvsError: ESP-IDF refuses.
            ValueError, struct.error: it is no request.
        """
        if letter == b"c":
            self._spend()
            self._nvs.commit()
            return b""
        namespace, key, data = _names(body)
        if letter == b"o":
            self._nvs.open(namespace)
        elif letter == b"G":
            return struct.pack(">i", self._nvs.get(namespace, key, int))
        elif letter == b"C":
            value = bytes(self._nvs.get(namespace, key, bytes))
            if len(value) > int.from_bytes(data, "big"):
                raise NvsError(INVALID_LENGTH)
            return value
        else:
            self._spend()
            if letter == b"S":
                self._nvs.set(namespace, key, struct.unpack(">i", data)[0])
            elif letter == b"B":
                self._nvs.set(namespace, key, data)
            else:
                self._nvs.erase(namespace, key)
        return b""


class RadioRequests:
    """Answers those of `lora`."""

    LETTERS = frozenset((b"T", b"L", b"P", b"W", b"Y", b"V"))

    def __init__(self, radio: Radio) -> None:
        self._radio = radio

    def answer(self, letter: bytes, body: bytes, asked: Callable[[], bool]) -> bytes:
        """The result of one request, whose letter is one of `LETTERS`.

        Args:
            letter, body: the request.
            asked: whether the next one is there, which ends a wait.

        Raises:
            NoAnswer: a wait was ended.
            RadioError: the modem cannot do this.
            ValueError, struct.error: it is no request.
        """
        radio = self._radio
        if letter == b"T":
            at, params, packet = struct.unpack(">q", body[:8])[0] / _NS, decode_params(body[8:24]), body[24:]
            return struct.pack(">q", round(radio.transmit(packet, params, at) * _NS))
        if letter == b"P":
            return _heard(radio.poll())
        if letter == b"V":
            level, active = radio.sense(decode_params(body[8:]), struct.unpack(">q", body[:8])[0] / _NS)
            return struct.pack(">hB", round(level), active)
        if letter == b"W":
            heard = radio.wait(asked)
            if heard is None:
                raise NoAnswer
            return _heard(heard)
        if letter == b"L":
            at, timeout_ms, continuous = struct.unpack(">qiB", body[:13])
            timeout_s = None if timeout_ms < 0 else timeout_ms / 1000
            radio.listen(decode_params(body[13:]), at / _NS, timeout_s, bool(continuous))
        else:
            radio.standby()
        return b""


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


def _heard(heard: Heard) -> bytes:
    packet = heard.packet
    if packet is None:
        return bytes((heard.listening,))
    rssi, snr = (max(-32768, min(32767, round(value))) for value in (packet.rssi, packet.snr * 4))
    head = struct.pack(">BqhhB", 3 if heard.listening else 2, round(packet.at * _NS), rssi, snr, 1)
    return head + packet.packet


def _names(body: bytes) -> tuple[str, str, bytes]:
    namespace, key, value = body.split(b"\0", 2)
    return namespace.decode(), key.decode(), value
