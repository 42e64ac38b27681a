# What the wearer does, by whichever accelerometer the board has: steps, activity, how much it moves, falls. Knows no
# register: the part's module does, which is loaded to set it up and gone afterwards (lsm6dsox.py, bma423.py).
#
# It is a watcher and a sensor at once. watch() empties the part's FIFO every two seconds and feeds the algorithms;
# measure() tells what they found since it was asked last. All integers; 1024 is 1 g.
from micropython import const

from sealband import once
from sealband.sensors.base import Registers, SensorError
from sealband.sensors.falls import Falls
from sealband.sensors.steps import Steps
from sealwire.recordids import ACCELERATION_RMS, ACTIVITY, STEPS

FALL = const(1)  # sealwire.names.EVENTS

_POLL_MS = const(2000)
_CHUNK = const(16)  # samples of one transfer
_BLOCK = const(26)  # samples: half a second
_STUCK = const(208)  # four seconds of the same sample
_MOVING = const(2621)  # (50 mg)^2
_STILL = const(120)  # half seconds
_TURN = const(20)
_KEPT = const(15)
_MODULES = (("LSM6DSOX", "lsm6dsox"), ("BMA423", "bma423"))


class Motion:
    records = (STEPS, ACTIVITY, ACCELERATION_RMS)
    read_ms = 1500
    big = alone = False

    def __init__(self, board, name, module):
        self._board = board
        self._module = "sealband.sensors." + module
        self._part = Registers(board.i2c(), board.PARTS[name], name)
        self._data = memoryview(bytearray(_CHUNK * 7))
        self._fifo = None
        self._node = None
        self.gaps = 0
        self._begin()

    def _begin(self):
        self._steps = Steps()
        self._falls = Falls()
        self._fall = None
        self._magnitude = self._half = 1024
        self._x = self._y = self._z = self._same = 0
        # of this block: how many, sums of the differences to the last block's mean, sum of their squares
        self._block = [0, 0, 0, 0, 0]
        self._mean = (0, 0, 0)
        self._variances = None
        self._still = 2 * _TURN
        self._samples = 0
        self._reading()

    # what a reading is made of
    def _reading(self):
        self._seconds = [0, 0, 0, 0]
        self._variance = 0

    # --- the part

    def start(self):
        if self._fifo is None:
            fifo = self._do("start")
            self._begin()
            self._fifo = fifo
            if fifo[4]:
                # after deep sleep what the FIFO holds has to be enough
                self._still = _STILL - _KEPT

    def _do(self, what, *more):
        return getattr(once(self._module), what)(self._part, *more)

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
        try:
            self._fifo = None
            return self._do("arm", self._board.INTERRUPTS.get(self._part.name))
        except SensorError:
            return None

    def woken(self):
        pass

    # whether a fall may be under way: no time for deep sleep
    def busy(self):
        return self._falls.open

    # --- as a watcher

    def watch(self, node):
        self._node = node
        try:
            self.start()
            seen = -1
            while True:
                self._drain()
                if self._samples == seen:
                    raise SensorError(self._part.name + " delivers no samples")
                seen = self._samples
                self._tell(node)
                yield _POLL_MS
        finally:
            self.close()

    def _tell(self, node):
        if self._fall:
            peak, still = self._fall
            self._fall = None
            node.event(FALL, _mg(peak), still)
            node.pace(2)
        elif not self._still:
            node.pace(1)
        elif self._still == _STILL:
            node.pace(0)

    # How much it moved in the last second, in mg without gravity; None: unknown.
    def level(self):
        if self._fifo is None:
            return None
        try:
            self._drain()
        except SensorError:
            return None
        if self._variances is None:
            return None
        return _mg((self._variances[0] + self._variances[1]) >> 1)

    # --- as a sensor

    # steps since the last reading, what it mostly was since then, and the movement's root mean square
    def measure(self):
        self._drain()
        seconds = self._seconds
        if not sum(seconds):
            yield 1200
            self._drain()
        count = sum(seconds)
        if not count:
            raise SensorError(self._part.name + " delivers no samples")
        steps = self._steps.count
        self._steps.count = 0
        if self._fifo[4]:
            steps = self._do("steps")
        activity = seconds.index(max(seconds))
        rms = _root(self._variance // count) * 981 >> 10
        self._reading()
        return (steps, activity, rms)

    # --- the FIFO

    def _drain(self):
        part = self._part
        if self._fifo is None:
            raise SensorError(part.name + " is off")
        register, mask, fifo, size, _ = self._fifo
        part.read_into(register, part._word)
        left = (part._word[0] | part._word[1] << 8) & mask
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
        falls = self._falls
        block = self._block
        a, b, c = self._mean
        magnitude = self._magnitude
        for i in range(tag, end, size):
            if data[i - 1] >> 3 != 2 if tag else (data[i] | data[i + 2] | data[i + 4]) & 15:
                raise SensorError(self._part.name + " tells no samples")
            x = (data[i + 1] ^ 128) - 128 << 6 | data[i] >> 2
            y = (data[i + 3] ^ 128) - 128 << 6 | data[i + 2] >> 2
            z = (data[i + 5] ^ 128) - 128 << 6 | data[i + 4] >> 2
            s = x * x + y * y + z * z
            if x != self._x or y != self._y or z != self._z:
                self._same = 0
                self._x = x
                self._y = y
                self._z = z
            else:
                # a part of 12 bits may well say the same for long when it lies still, but only of gravity
                self._same += 1
                if self._same > _STUCK and (tag or not 600000 < s < 1600000):
                    raise SensorError(self._part.name + " is stuck")
            while True:
                better = (magnitude + s // magnitude >> 1) or 1
                if -2 < better - magnitude < 2:
                    break
                magnitude = better
            falls.sample(s)
            self._samples += 1
            if self._samples & 1:
                self._half = magnitude
            else:
                self._steps.add(self._half + magnitude >> 1)
            x -= a
            y -= b
            z -= c
            block[0] += 1
            block[1] += x
            block[2] += y
            block[3] += z
            block[4] += x * x + y * y + z * z
            if block[0] == _BLOCK:
                self._end()
                a, b, c = self._mean
        self._magnitude = magnitude

    # half a second is over
    def _end(self):
        count, x, y, z, square = self._block
        block = self._block
        for i in range(5):
            block[i] = 0
        variance = (square * count - x * x - y * y - z * z) // (count * count)
        a, b, c = self._mean
        self._mean = mean = (a + x // count, b + y // count, c + z // count)
        old = self._variances
        self._variances = (old[1] if old else variance, variance)
        if self._falls.block(mean[0], mean[1], mean[2], variance):
            self._fall = self._falls.told()
        moves = variance > _MOVING
        # a turn in the chair is no motion: that takes three seconds more or less
        self._still = max(0, self._still - _TURN) if moves else min(_STILL, self._still + 1)
        self._seconds[self._steps.gait() or (3 if moves else 0)] += 1
        self._variance += variance


# the whole part of a square root
def _root(square):
    root = 1024
    while square:
        better = root + square // root >> 1
        if -2 < better - root < 2:
            return better
        root = better or 1
    return 0


# a square as its root in mg
def _mg(square):
    return _root(square) * 125 >> 7


# The board's accelerometer, None when it has none.
def motion(board):
    for name, module in _MODULES:
        if name in board.PARTS:
            return Motion(board, name, module)


# the same as a driver of sealband.sensors.part
def sensor(board, kept=None):
    found = motion(board)
    if found is None:
        raise SensorError("the board has no accelerometer")
    return found
