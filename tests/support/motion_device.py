# Runs on MicroPython beside bus_device: a board with one accelerometer, a node that notes what it is told, and a driver
# of watchers and readings in the bus's own time.
import bus_device as bus

from sealband.sensors.motion import motion


class Board:
    def __init__(self, name, address):
        self.PARTS = {name: address}
        self.INTERRUPTS = {name: 34}

    def i2c(self):
        return bus.I2C()


class Node:
    def __init__(self):
        self.events = []
        self.levels = []
        self.refuses = 0  # so many events can't be sealed

    def event(self, *event):
        if self.refuses:
            self.refuses -= 1
            return False
        self.events.append(event)
        return True

    def pace(self, level):
        if not self.levels or self.levels[-1] != level:
            self.levels.append(level)


class Band:
    def __init__(self, name, address):
        self.node = Node()
        self.motion = motion(Board(name, address))
        self.begin()

    def begin(self):
        self.watch = self.motion.watch(self.node)

    # so many seconds of the node's life
    def live(self, seconds):
        while seconds > 0:
            pause_ms = next(self.watch)
            bus.sleep_ms(pause_ms)
            seconds -= pause_ms / 1000

    def reading(self):
        try:
            steps = self.motion.measure()
            while True:
                bus.sleep_ms(next(steps))
        except StopIteration as end:
            return end.value

    # Deep sleep: the program is gone, the part is not. Another band wakes up.
    def asleep(self):
        line = self.motion.arm()
        self.motion = self.watch = None
        return line
