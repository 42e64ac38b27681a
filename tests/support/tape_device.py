# Runs on MicroPython: an LSM6DSOX whose FIFO is a tape of samples that the host hands over, and a node that notes what
# it is told. No time passes: what is on the tape is there at once.
from sealband.sensors.motion import motion


class Tape:
    def __init__(self):
        self.data = b""
        self.at = 0
        self.registers = bytearray(128)
        self.registers[0x0F] = 0x6C

    def readfrom_mem_into(self, address, register, buffer):
        if register == 0x3A:
            left = min(512, (len(self.data) - self.at) // 7)
            buffer[0] = left & 0xFF
            buffer[1] = left >> 8
        elif register == 0x78:
            buffer[:] = self.data[self.at : self.at + len(buffer)]
            self.at += len(buffer)
        else:
            buffer[:] = self.registers[register : register + len(buffer)]

    def writeto_mem(self, address, register, data):
        # a reset is over at once
        self.registers[register] = data[0] & 0xFE if register == 0x12 else data[0]


class Board:
    PARTS = {"LSM6DSOX": 0x6A}
    INTERRUPTS = {"LSM6DSOX": 34}

    def __init__(self):
        self.tape = Tape()

    def i2c(self):
        return self.tape


class Node:
    def __init__(self):
        self.events = []
        self.levels = []

    def event(self, *event):
        self.events.append(event)

    def pace(self, level):
        if not self.levels or self.levels[-1] != level:
            self.levels.append(level)


class Player:
    # half a second of stillness first, so that there is something to begin with
    def __init__(self, begin):
        self.board = Board()
        self.board.tape.data = begin
        self.node = Node()
        self.motion = motion(self.board)
        self._watch = self.motion.watch(self.node)
        next(self._watch)
        self.steps = 0
        self.activities = [0, 0, 0, 0]

    # what came in the last two seconds, as in the node
    def look(self, data):
        self.board.tape.data = data
        self.board.tape.at = 0
        next(self._watch)

    def reading(self):
        try:
            steps = self.motion.measure()
            while True:
                next(steps)
        except StopIteration as end:
            values = end.value
        self.steps += values[0]
        self.activities[values[1]] += 1
        return values
