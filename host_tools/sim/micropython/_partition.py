# `esp32.Partition` as the ESP32 has it. Partitions and boot loader are host_tools/sim/flash.py and bootloader.py.
# Blocks go over the line in pieces, so that nothing as long as a block is allocated.
import struct

from _link import call as _call
from _link import post as _post
from micropython import const

_PIECE = const(1024)
_INFO = ">BBII"
_out = memoryview(bytearray(_PIECE + 32))


class Partition:
    BOOT = const(0)
    RUNNING = const(1)
    TYPE_APP = const(0)
    TYPE_DATA = const(1)

    def __init__(self, id, block_size=4096):
        if isinstance(id, int):
            if id not in (0, 1):
                raise ValueError
            found = _call(b"Zb" if id == 0 else b"Zc")
        else:
            found = _call(b"Zl", id.encode())
        numbers = struct.calcsize(_INFO)
        self._label = bytes(found[numbers:])
        self._info = struct.unpack(_INFO, found[:numbers])
        self._block_size = block_size

    @staticmethod
    def find(type=0, subtype=0xFF, label=None, block_size=4096):
        labels = _call(b"Zf", bytes((type, subtype)) + (label.encode() if label else b""), 1024)
        return [Partition(str(one, "utf-8"), block_size) for one in labels.split(b"\0") if one]

    def info(self):
        return self._info + (str(self._label, "utf-8"), False)

    # size: of the answer
    def _do(self, letter, offset, data, size=64):
        return _call(letter, self._label + b"\0" + struct.pack(">i", offset) + data, size)

    def readblocks(self, block_num, buf, offset=0):
        at = block_num * self._block_size + offset
        view = memoryview(buf)
        for done in range(0, len(view), _PIECE):
            count = min(_PIECE, len(view) - done)
            view[done : done + count] = self._do(b"Zr", at + done, struct.pack(">H", count), _PIECE)

    def writeblocks(self, block_num, buf, offset=None):
        at = block_num * self._block_size
        view = memoryview(buf)
        if offset is None:
            self._do(b"Ze", at, struct.pack(">I", len(view)))
        else:
            at += offset
        begin = 3 + len(self._label)
        _out[0], _out[2] = b"Zw"
        _out[3:begin] = self._label
        for done in range(0, len(view), _PIECE):
            end = begin + 5 + min(_PIECE, len(view) - done)
            struct.pack_into(">Bi", _out, begin, 0, at + done)
            _out[begin + 5 : end] = view[done : done + _PIECE]
            _post(_out[:end])

    def ioctl(self, cmd, arg):
        if cmd in (1, 2, 3):
            return 0
        if cmd == 4:
            return self._info[3] // self._block_size
        if cmd == 5:
            return self._block_size
        if cmd == 6:
            self._do(b"Ze", arg * self._block_size, struct.pack(">I", self._block_size))
            return 0

    def set_boot(self):
        _call(b"Zs", self._label)

    def get_next_update(self):
        return Partition(str(_call(b"Zn", self._label), "utf-8"), self._block_size)

    @classmethod
    def mark_app_valid_cancel_rollback(cls):
        _call(b"Zv")
