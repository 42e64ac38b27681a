# A chip with two slots for firmware and a loader that tries new ones once, on the power supply of fakes.py: for tests
# on MicroPython only. Its rules are ESP-IDF's ("App Rollback"), written again apart from host_tools/sim/bootloader.py.
# An image here is a magic byte, its length, data and SHA-256: as much as the loader's judgement needs.
#
#   OtaChip       slots, notes of the loader (otadata: two entries of sequence and state), what runs
#   Partition     esp32.Partition over `Partition.chip`
#   OtaWorld      World with a chip; copy() and revived()
#   deflated      raw deflate of stored blocks
#   sections      the same as firmware is delivered: a stream for each so many bytes
#   Delivery      a server of one file that is read by the real body.Body, and what it does wrong
import hashlib
import struct
import sys

from device.fakes import DONE, EIO, HALF, RamFlash, World

from sealband.update.body import Body
from sealband.update.fetch import FetchError
from sealwire import update

BLOCK = 4096
BLOCKS = 4
LABELS = ("ota_0", "ota_1")
NEW, PENDING, VALID, ABORTED = 0, 1, 2, 4
VALIDATE_FAILED = -5379


def image(data):
    body = b"\xe9" + struct.pack("<I", len(data)) + data
    return body + hashlib.sha256(body).digest()


def deflated(data):
    out = b""
    while True:
        part, data = data[:60000], data[60000:]
        out += struct.pack("<BHH", not data, len(part), len(part) ^ 0xFFFF) + part
        if not data:
            return out


def sections(data, length=BLOCK):
    return b"".join([deflated(data[at : at + length]) for at in range(0, len(data), length)])


# What firmware.install is given to open the delivery with.
class Delivery:
    def __init__(self, data, ranges=True):
        self.data = data
        self.ranges = ranges
        self.drops = None  # bytes that each connection carries
        self.asked = []  # from where
        self.sent = 0  # bytes, of all connections
        self.longer = False  # goes on after what it announced

    def __call__(self, at):
        self.asked.append(at)
        at = at if self.ranges and at < len(self.data) else 0
        return Body(_Connection(self, at), memoryview(bytearray(1000)), 0, at, len(self.data))


class _Connection:
    def __init__(self, delivery, at):
        self._delivery = delivery
        self._at = at
        self._left = len(delivery.data) if delivery.drops is None else delivery.drops

    def read(self, view):
        count = min(len(view), self._left)
        if not count:
            raise FetchError(update.UNREACHABLE)
        view[:count] = self._delivery.data[self._at : self._at + count]
        self._at += count
        self._left -= count
        self._delivery.sent += count
        return count

    def back(self):
        pass

    def ended(self):
        return not self._delivery.longer

    def close(self):
        self.read = None


class OtaChip:
    def __init__(self, power, first):
        self.power = power
        self.slots = [bytearray(b"\xff" * (BLOCK * BLOCKS)) for _ in LABELS]
        self.slots[0][: len(first)] = first
        self.notes = [(1, VALID), None]
        self.running = None
        self.blind = ()  # operations that fail: names
        self.on_valid = None  # called before the running slot is marked valid

    def revived(self, power):
        other = OtaChip(power, b"")
        other.slots = [bytearray(slot) for slot in self.slots]
        other.notes = list(self.notes)
        other.blind = self.blind
        other.on_valid = self.on_valid
        return other

    # The image in a slot if the loader takes it, or None.
    def held(self, index):
        slot = self.slots[index]
        if slot[0] != 0xE9:
            return None
        end = 5 + struct.unpack("<I", slot[1:5])[0]
        if end + 32 > len(slot) or hashlib.sha256(slot[:end]).digest() != slot[end : end + 32]:
            return None
        return bytes(slot[: end + 32])

    # A start through the loader: the index of the slot that runs, or None. PowerCut may happen in it.
    def start(self):
        for number in (0, 1):
            if self.notes[number] and self.notes[number][1] == PENDING:
                self._note(number, self.notes[number][0], ABORTED)
        active = self.active()
        chosen = 0
        if active is not None:
            sequence, state = self.notes[active]
            chosen = (sequence - 1) % 2
            if state == NEW:
                self._note(active, sequence, PENDING)
        self.running = None
        for index in (chosen, 1 - chosen):
            if self.held(index) is not None:
                self.running = index
                break
        return self.running

    def active(self):
        usable = [number for number in (0, 1) if self.notes[number] and self.notes[number][1] != ABORTED]
        if not usable:
            return None
        return max(usable, key=lambda number: (self.notes[number][0], -number))

    def _note(self, number, sequence, state):
        self._spend("otadata")
        if self.power.dead:
            if self.power.tear != "undone":
                self.notes[number] = None
            raise OSError(EIO)
        self.notes[number] = None
        self._spend("otadata")
        if not self.power.dead or self.power.tear == DONE:
            self.notes[number] = (sequence, state)
        if self.power.dead:
            raise OSError(EIO)

    def _spend(self, what):
        if what in self.blind:
            raise OSError(EIO)
        self.power.spend()

    def erase(self, index, at, length):
        self._spend("erase")
        self._change(index, at, b"\xff" * length)

    def write(self, index, at, data):
        self._spend("write")
        slot = self.slots[index]
        self._change(index, at, bytes(slot[at + i] & data[i] for i in range(len(data))))

    def _change(self, index, at, data):
        if self.power.dead:
            data = data[: {HALF: len(data) // 2, DONE: len(data)}.get(self.power.tear, 0)]
        self.slots[index][at : at + len(data)] = data
        if self.power.dead:
            raise OSError(EIO)

    def set_boot(self, index):
        if self.held(index) is None:
            raise OSError(VALIDATE_FAILED)
        active = self.active()
        if active is None:
            self._note(0, index + 1, NEW)
            return
        sequence = index + 1
        while sequence < self.notes[active][0]:
            sequence += 2
        self._note(1 - active, sequence, NEW)

    def mark_valid(self):
        active = self.active()
        if active is None:
            raise OSError(-1)
        if self.notes[active][1] != VALID:
            if self.on_valid:
                self.on_valid(self)
            self._note(active, self.notes[active][0], VALID)


class Partition:
    BOOT = 0
    RUNNING = 1
    chip = None
    slotless = False

    def __init__(self, id):
        if id == self.RUNNING:
            self._index = Partition.chip.running
        else:
            active = Partition.chip.active()
            self._index = 0 if active is None else (Partition.chip.notes[active][0] - 1) % 2

    def info(self):
        return (0, 16 + self._index, 0x10000, BLOCK * BLOCKS, LABELS[self._index], False)

    def get_next_update(self):
        if Partition.slotless:
            raise OSError(2)
        other = Partition(self.RUNNING)
        other._index = 1 - self._index
        return other

    def readblocks(self, block, buffer, offset=0):
        at = block * BLOCK + offset
        data = Partition.chip.slots[self._index][at : at + len(buffer)]
        if "read" in Partition.chip.blind:
            data = bytes(len(data))
        buffer[:] = data

    def writeblocks(self, block, buffer):
        assert len(buffer) == BLOCK  # esp_partition_erase_range takes whole sectors
        Partition.chip.erase(self._index, block * BLOCK, BLOCK)
        Partition.chip.write(self._index, block * BLOCK, buffer)

    def ioctl(self, request, argument):
        assert request == 6
        Partition.chip.erase(self._index, argument * BLOCK, BLOCK)

    def set_boot(self):
        Partition.chip.set_boot(self._index)

    @classmethod
    def mark_app_valid_cancel_rollback(cls):
        Partition.chip.mark_valid()


class _Esp32:
    pass


_Esp32.Partition = Partition
sys.modules["esp32"] = _Esp32


class OtaWorld(World):
    def __init__(self, first=None):
        World.__init__(self, flash=first is not None)
        self.chip = OtaChip(self.power, first or b"")

    def revived(self):
        other = OtaWorld()
        other.nvs = self.nvs.revived(other.power)
        other.flash = RamFlash(other.power, self.flash.dump())
        other.air = list(self.air)
        other.chip = self.chip.revived(other.power)
        return other

    # Reset or power: the loader starts a slot, and the code there sees its partitions. Its index.
    def start(self):
        Partition.chip = self.chip
        return self.chip.start()
