# `esp32` as the ESP32 has it: NVS with ESP-IDF's error codes, wake-up pins, partitions. The store itself is
# host_tools/sim/nvs.py; `Partition` is loaded when it is used.
import struct

from _link import call as _call
from micropython import const

WAKEUP_ALL_LOW = const(0)
WAKEUP_ANY_HIGH = const(1)
_USUAL = const(254)  # most values are shorter


class NVS:
    def __init__(self, namespace):
        self._namespace = namespace
        self._do(b"o", "")

    def _do(self, letter, key, value=b"", size=4):
        return _call(letter, b"%s\0%s\0" % (self._namespace, key) + value, size)

    def set_i32(self, key, value):
        self._do(b"S", key, struct.pack(">i", value))

    def get_i32(self, key):
        return struct.unpack(">i", self._do(b"G", key))[0]

    def set_blob(self, key, value):
        self._do(b"B", key, value)

    def get_blob(self, key, buffer):
        # the chip copies into the buffer; a kilobyte of heap for each read is more than an application has to spare
        size = len(buffer)
        room = struct.pack(">I", size)
        value = self._do(b"C", key, room, min(size, _USUAL))
        if size > _USUAL == len(value):
            value = self._do(b"C", key, room, size)
        memoryview(buffer)[: len(value)] = value
        return len(value)

    def erase_key(self, key):
        self._do(b"e", key)

    def commit(self):
        self._do(b"c", "")


def wake_on_ext0(pin=None, level=0):
    _call(b"x", b"" if pin is None else bytes((pin.id, bool(level))))


def wake_on_ext1(pins=(), level=0):
    _call(b"y", bytes([level] + [pin.id for pin in pins]))


def __getattr__(name):
    if name != "Partition":
        raise AttributeError(name)
    import _partition

    return _partition.Partition
