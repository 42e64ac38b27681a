# What the wearer does, by whichever accelerometer the board has: steps, activity, how much it moves, falls. Knows no
# register: the part's module does, which is loaded to set it up and gone afterwards (lsm6dsox.py, bma423.py).
#
# It is a watcher and a sensor at once. watch() empties the part's FIFO every two seconds and feeds the algorithms;
# measure() tells what they found since it was asked last. All integers; 1024 is 1 g.
import gc

from micropython import const

from sealband import once
from sealband.sensors.base import Registers, SensorError
from sealband.sensors.falls import Falls
from sealband.sensors.steps import Steps
from sealwire.recordids import ACCELERATION_RMS, ACTIVITY, STEPS

FALL = const(1)  # sealwire.names.EVENTS

_POLL_MS = const(2000)
_CHUNK = const(8)  # samples of one transfer
_BLOCK = const(26)  # samples: half a second
_STUCK = const(208)  # four seconds of the same sample
_MOVING = const(2621)  # (50 mg)^2
_STILL = const(120)  # half seconds
_TURN = const(20)
_KEPT = const(15)
_TRIES = const(30)  # at polls


class Motion:
    records = (STEPS, ACTIVITY, ACCELERATION_RMS)
    read_ms = 1500
    big = alone = False

    def __init__(self, board, name):
        self._line = board.INTERRUPTS.get(name)
        self._part = Registers(board.i2c(), board.PARTS[name], name)
        self._data = memoryview(bytearray(_CHUNK * 7))
        self._fifo = self._node = None

    # --- the part

    def start(self):
        if self._fifo is None:
            fifo = self._do("start")
            self._steps = Steps()
            self._falls = Falls()
            self._fall = 0
            # samples; the last one's magnitude squared and so many times; the magnitude, the one before
            self._last = [0, 0, 0, 1024, 1024]
            # of this block: samples, sums of the differences to the last block's mean, sum of their squares
            self.block = [0, 0, 0, 0, 0]
            self._mean = (0, 0, 0)
            # half seconds by activity since the last reading, sum of their variances, the last two
            self._told = [0, 0, 0, 0, 0, 0, 0]
            # after deep sleep what the FIFO holds has to be enough
            self.still = _STILL - _KEPT if fifo[4] else 2 * _TURN
            self._fifo = fifo

    def _do(self, what, *more):
        gc.collect()
        return getattr(once("sealband.sensors.%s" % self._part.name.lower()), what)(self._part, *more)

    def stop(self):
        if self._node is None:
            self.close()

    def close(self):
        self._node = self._fifo = None
        try:
            self._do("stop")
        except SensorError:
            pass

    # Before deep sleep. The part goes on measuring, counts steps, and keeps the last seconds for the start after it.
    def arm(self):
        self._fifo = None
        try:
            return self._do("arm", self._line)
        except SensorError:
            pass

    # whether a fall may be under way: no time for deep sleep
    def busy(self):
        return self._fifo is not None and self._falls.open

    woken = busy

    # --- as a watcher

    def watch(self, node):
        self._node = node
        try:
            self.start()
            seen = -1
            left = _TRIES
            while True:
                self._drain()
                if self._last[0] == seen:
                    self.fail("delivers no samples")
                seen = self._last[0]
                if self._fall:
                    node.pace(2)
                    left -= 1
                    # where it cannot be sealed, it is tried for a minute
                    if node.event(FALL, _mg(self._fall), self._falls.still >> 1) is not False or not left:
                        self._fall = 0
                        left = _TRIES
                elif not self.still:
                    node.pace(1)
                elif self.still == _STILL:
                    node.pace(0)
                yield _POLL_MS
        finally:
            self.close()

    def fail(self, why):
        raise SensorError("%s %s" % (self._part.name, why))

    # How much it moved in the last second, in mg without gravity; None: unknown.
    def level(self):
        if self._fifo:
            try:
                self._drain()
                if self._last[0] > 2 * _BLOCK:
                    return _mg((self._told[5] + self._told[6]) >> 1)
            except SensorError:
                pass

    # --- as a sensor

    # steps since the last reading, what it mostly was since then, and the movement's root mean square
    def measure(self):
        self._drain()
        told = self._told
        if not sum(told[:4]):
            yield 1200
            self._drain()
        count = sum(told[:4])
        if not count:
            self.fail("delivers no samples")
        steps = self._steps.count
        self._steps.count = 0
        if self._fifo[4]:
            steps = self._do("steps")
        activity = told.index(max(told[:4]))
        rms = _mg(told[4] // count) * 981 // 1000
        for i in range(5):
            told[i] = 0
        return (steps, activity, rms)

    # --- the FIFO

    def _drain(self):
        if not self._fifo:
            self.fail("is off")
        register, left, fifo, size, _ = self._fifo
        part = self._part
        part.read_into(register, part._word)
        left &= part._word[0] | part._word[1] << 8
        if size == 6:
            left //= 6
        while left:
            count = min(left, _CHUNK)
            part.read_into(fifo, self._data[: count * size])
            self._take(count * size, size)
            left -= count

    def _take(self, end, size):
        data = self._data
        tag = size - 6
        block = self.block
        mean = self._mean
        last = self._last
        for i in range(tag, end, size):
            if data[i - 1] >> 3 != 2 if tag else (data[i] | data[i + 2] | data[i + 4]) & 15:
                self.fail("tells no samples")
            s = d = 0
            for axis in (0, 1, 2):
                v = (data[i + 1] ^ 128) - 128 << 6 | data[i] >> 2
                i += 2
                s += v * v
                v -= mean[axis]
                d += v * v
                block[axis] += v
            block[3] += d
            last[0] += 1
            if s == last[1]:
                # a part of 12 bits may well say the same for long when it lies still, but only of gravity
                last[2] += 1
                if last[2] > _STUCK and (tag or not 600000 < s < 1600000):
                    self.fail("is stuck")
            else:
                last[1] = s
                last[2] = 0
            self._falls.sample(s)
            last[3] = v = _root(s, last[3])
            if last[0] & 1:
                last[4] = v
            else:
                self._steps.add(last[4] + v >> 1)
            block[4] += 1
            if block[4] == _BLOCK:
                self._end()
                mean = self._mean

    # half a second is over
    def _end(self):
        block = self.block
        x, y, z, square, count = block
        for i in range(5):
            block[i] = 0
        square = (square * count - x * x - y * y - z * z) // (count * count)
        mean = self._mean
        self._mean = mean = (mean[0] + x // count, mean[1] + y // count, mean[2] + z // count)
        told = self._told
        told[4] += square
        told[5] = told[6]
        told[6] = square
        falls = self._falls
        if falls.block(mean, square):
            self._fall = falls.peak
        # a turn in the chair is no motion: that takes three seconds more or less
        if square > _MOVING:
            self.still = max(0, self.still - _TURN)
        else:
            self.still = min(_STILL, self.still + 1)
        told[self._steps.gait() or (3 if square > _MOVING else 0)] += 1


# the root of a square, found from near it; 1 at least
def _root(square, root):
    while True:
        better = (root + square // root >> 1) or 1
        if -2 < better - root < 2:
            return better
        root = better


# a square as its root in mg
def _mg(square):
    return _root(square, 1024) * 125 >> 7


# The board's accelerometer, None when it has none.
def motion(board):
    if False:
        # never run, nor compiled: tells whoever packs a board's modules which of them _do() loads
        import sealband.sensors.bma423
        import sealband.sensors.lsm6dsox  # noqa: F401
    for name in ("LSM6DSOX", "BMA423"):
        if name in board.PARTS:
            return Motion(board, name)
