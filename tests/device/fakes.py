# The hardware that keeps things, in RAM, and the power that fails: for tests on MicroPython only.
# From any device test folder: `from device.fakes import World, sweep`.
#
#   Power      counts operations; the one that it is told to cut fails, and all that hangs on it is dead from then on
#   FakeNvs    esp32.NVS, its error codes too; a cut leaves the pair being written (or not committed) old, new or gone,
#              and raises PowerCut
#   RamFlash   block device for vfs.VfsLfs2; a cut leaves a write or erase undone, half done or done. It shows as EIO:
#              an exception would pass through littlefs and leave its lists half built. Code that takes the EIO for a
#              fault and goes on finds everything else dead
#   FakeRtc    machine.RTC().memory
#   FakeNetwork   a radio that can be switched on; for sys.modules["network"]
#   World      one board's worth of these, with what has left the board by radio; copy() and revived()
#   finish     drives a generator of pauses to its end
#   sweep      cuts the power at every operation of a piece of work, in every way, and again while it recovers
import gc
import io

import vfs

NOT_FOUND = -0x1102  # esp_err_t of nvs.h
TYPE_MISMATCH = -0x1103
NOT_ENOUGH_SPACE = -0x1105
KEY_TOO_LONG = -0x1109
INVALID_LENGTH = -0x110C
EIO = 5

UNDONE = "undone"
HALF = "half"  # NVS: the pair is gone; flash: the first half of the bytes
DONE = "done"
TEARS = (UNDONE, HALF, DONE)


class PowerCut(BaseException):
    # not an Exception: no code that is tested may catch it
    pass


_CUT = PowerCut("power cut")  # made beforehand: finalisers of open files run while the heap is locked


class Power:
    def __init__(self):
        self.operations = 0
        self.dead = False
        self.tear = UNDONE
        self._left = -1

    # Let so many operations pass and fail in the next.
    def cut_after(self, operations, tear):
        self._left = operations
        self.tear = tear

    # True if this operation is the one that is cut; PowerCut if the power is gone already.
    def spend(self):
        if self.dead:
            raise _CUT
        self.operations += 1
        if self._left == 0:
            self.dead = True
            return True
        self._left -= 1
        return False


class FakeNvs:
    def __init__(self, power=None, pairs=None, space=10000):
        self._power = power or Power()
        self._pairs = dict(pairs or {})
        self._pending = {}  # pairs as they were before a set that is not committed
        self.space = space  # bytes that all values together may have

    def get_i32(self, key):
        return self._get(key, int)

    def get_blob(self, key, buffer):
        value = self._get(key, bytes)
        if len(value) > len(buffer):
            raise OSError(INVALID_LENGTH, "ESP_ERR_NVS_INVALID_LENGTH")
        buffer[: len(value)] = value
        return len(value)

    def set_i32(self, key, value):
        if not -0x80000000 <= value <= 0x7FFFFFFF:
            raise OverflowError("not an i32")
        self._set(key, value)

    def set_blob(self, key, value):
        self._set(key, bytes(value))

    def erase_key(self, key):
        self._get(key, None)
        self._set(key, None)

    def commit(self):
        if self._power.spend():
            raise _CUT
        self._pending = {}

    # Everything that can be read out of it, for looking for what must not be there.
    def dump(self):
        return dict(self._pairs)

    def _get(self, key, kind):
        if self._power.dead:
            raise _CUT
        if key not in self._pairs:
            raise OSError(NOT_FOUND, "ESP_ERR_NVS_NOT_FOUND")
        if kind and not isinstance(self._pairs[key], kind):
            raise OSError(TYPE_MISMATCH, "ESP_ERR_NVS_TYPE_MISMATCH")
        return self._pairs[key]

    def _set(self, key, value):
        if not 0 < len(key) <= 15:
            raise OSError(KEY_TOO_LONG, "ESP_ERR_NVS_KEY_TOO_LONG")
        if isinstance(value, bytes):
            rest = sum(len(v) for k, v in self._pairs.items() if k != key and isinstance(v, bytes))
            if rest + len(value) > self.space:
                raise OSError(NOT_ENOUGH_SPACE, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")
        if key not in self._pending:
            self._pending[key] = self._pairs.get(key)
        self._put(key, value)
        if self._power.spend():
            raise _CUT

    def _put(self, key, value):
        if value is None:
            self._pairs.pop(key, None)
        else:
            self._pairs[key] = value

    # What is there when the power is back: what was not committed is as it was, as it should be, or gone.
    def revived(self, power):
        other = FakeNvs(power, self._pairs, self.space)
        if self._power.tear != DONE:
            for key, before in self._pending.items():
                other._put(key, before if self._power.tear == UNDONE else None)
        return other


class FakeRtc:
    def __init__(self, memory=b""):
        self._memory = bytes(memory)

    def memory(self, data=None):
        if data is None:
            return self._memory
        if len(data) > 2048:
            raise ValueError("buffer too long")
        self._memory = bytes(data)


class FakeNetwork:
    # the module `network`, as far as a radio that feeds the random number generator is one
    STA_IF = 0

    class WLAN:
        def __init__(self, interface=0):
            self._on = False

        def active(self, on=None):
            if on is not None:
                self._on = bool(on)
            return self._on


class RamFlash:
    BLOCK_LEN = 512

    def __init__(self, power=None, data=None, blocks=64):
        self._power = power or Power()
        self._blocks = len(data) // self.BLOCK_LEN if data else blocks
        # a stream and not a bytearray: its slices would be allocated
        self._bytes = io.BytesIO(data or b"\xff" * (blocks * self.BLOCK_LEN))

    def readblocks(self, block, buffer, offset=0):
        if self._power.dead:
            return -EIO
        self._bytes.seek(block * 512 + offset)
        self._bytes.readinto(buffer)
        return 0

    def writeblocks(self, block, buffer, offset=0):
        if self._power.dead:
            return -EIO
        self._bytes.seek(block * 512 + offset)
        if self._power.spend():
            self._bytes.write(memoryview(buffer)[: self._torn(len(buffer))])
            return -EIO
        self._bytes.write(buffer)
        return 0

    def ioctl(self, request, argument):
        if request == 4:
            return self._blocks
        if request == 5:
            return self.BLOCK_LEN
        if request == 6:
            if self._power.dead:
                return -EIO
            cut = self._power.spend()
            self._bytes.seek(argument * 512)
            self._bytes.write(b"\xff" * (self._torn(512) if cut else 512))
            return -EIO if cut else 0
        return 0

    # Everything on it, for looking for what must not be there.
    def dump(self):
        return self._bytes.getvalue()

    def _torn(self, length):
        return {UNDONE: 0, HALF: length // 2, DONE: length}[self._power.tear]


class World:
    # `air` is what has left the board: (epoch, ctr) or whatever a test sends; no power cut takes it back.
    def __init__(self, flash=False):
        self.power = Power()
        self.nvs = FakeNvs(self.power)
        self.rtc = FakeRtc()
        self.flash = None
        self.air = []
        if flash:
            self.flash = RamFlash(self.power)
            vfs.VfsLfs2.mkfs(self.flash)

    # Something leaves the board; a dead one sends nothing, even if a file closed over the cut hid it from the code.
    def send(self, what):
        if self.power.dead:
            raise _CUT
        self.air.append(what)

    # Mount the flash in place of whatever is mounted there.
    def mount(self, path="/ram"):
        unmount(path)
        vfs.mount(vfs.VfsLfs2(self.flash), path)

    # The same board with the same contents; what happens to one does not happen to the other.
    def copy(self):
        other = self.revived()
        other.rtc = FakeRtc(self.rtc.memory())
        return other

    # The board after the power is back: RTC memory is lost.
    def revived(self):
        other = World()
        other.nvs = self.nvs.revived(other.power)
        if self.flash:
            other.flash = RamFlash(other.power, self.flash.dump())
        other.air = list(self.air)
        return other


# What a generator of pauses returns; `sleep_ms` is told of each pause.
def finish(steps, sleep_ms):
    steps = iter(steps)
    while True:
        try:
            sleep_ms(next(steps))
        except StopIteration as end:
            return end.value


def unmount(path="/ram"):
    try:
        vfs.umount(path)
    except OSError:
        pass  # nothing is mounted there


# Cut the power at each operation of run(world), torn in each way, and after each cut (depth 2: and at each operation
# of the run that follows it) call check(world) on the revived board. run starts from whatever it finds. The number of
# cuts; an error names the cuts that led to it.
def sweep(world, run, check, tears=TEARS, depth=1, trail=()):
    cuts = 0
    after = 0
    while True:
        for tear in tears:
            board = world.copy()
            board.power.cut_after(after, tear)
            where = trail + ((after, tear),)
            try:
                run(board)
            except PowerCut:
                pass
            except Exception:
                if not board.power.dead:  # else it is what the cut looks like from inside
                    print("cuts:", where)
                    raise
            if not board.power.dead:
                check(board.copy())
                return cuts
            cuts += 1
            board = board.revived()
            try:
                check(board.copy())
            except Exception:
                print("cuts:", where)
                raise
            if depth > 1:
                cuts += sweep(board, run, check, tears, depth - 1, where)
        after += 1
        gc.collect()
