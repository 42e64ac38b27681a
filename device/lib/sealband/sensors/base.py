# What every sensor driver offers the sampler, and how it fails. Knows no part and no schedule.
#
#     sensor.start()      power the part up; may be called when it runs already
#     sensor.read()       one measurement: a tuple as long as `records`, each an int in the record's scale or None
#     sensor.measure()    read() in steps, for who has other work meanwhile: a generator of pauses in ms
#     sensor.stop()       power the part down; never raises
#
# read() may block (time.sleep_ms) for up to `read_ms`; a value that is not good enough is None, never a guess.
# start() and read() raise nothing but SensorError.


class SensorError(Exception):
    # The part does not answer, is another part, or its answers make no sense. Try again at the next sample.
    pass


class Sensor:
    # record ids (sealwire.records) of what read() returns, in its order
    records = ()
    # how long start() and read() take together at most, for the sampler's schedule
    read_ms = 0
    # takes much of the heap while it measures: not beside another such one, nor beside a session
    alone = False

    def start(self):
        pass

    def read(self):
        raise SensorError("no read()")

    # Yields how many ms to wait; returns what read() returns. Overridden where read() blocks for long.
    def measure(self):
        return self.read()
        yield 0

    def stop(self):
        pass


class Registers:
    # One I2C part with 8-bit register addresses; what goes wrong on the bus becomes a SensorError that names the part.

    def __init__(self, i2c, address, name):
        self._i2c = i2c
        self._address = address
        self.name = name
        self._byte = bytearray(1)
        self._word = bytearray(2)

    # registers from this one on, as many as the buffer has bytes
    def read_into(self, register, buffer):
        try:
            self._i2c.readfrom_mem_into(self._address, register, buffer)
        except (OSError, ValueError) as error:
            raise SensorError("%s does not answer: %r" % (self.name, error))

    def write(self, register, data):
        try:
            self._i2c.writeto_mem(self._address, register, data)
        except (OSError, ValueError) as error:
            raise SensorError("%s does not answer: %r" % (self.name, error))

    def read_byte(self, register):
        self.read_into(register, self._byte)
        return self._byte[0]

    def write_byte(self, register, value):
        self._byte[0] = value
        self.write(register, self._byte)

    # 16 bits, high byte first
    def read_word(self, register):
        self.read_into(register, self._word)
        return self._word[0] << 8 | self._word[1]

    def write_word(self, register, value):
        self._word[0] = value >> 8
        self._word[1] = value & 0xFF
        self.write(register, self._word)

    # refuse a part that is not the expected one
    def expect(self, found, expected):
        if found != expected:
            raise SensorError("%s: part id is %x, not %x" % (self.name, found, expected))
