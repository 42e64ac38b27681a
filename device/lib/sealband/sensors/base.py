# What every sensor driver offers the sampler, and how it fails. Knows no part and no schedule.
#
#     sensor.start()      power the part up; may be called when it runs already
#     sensor.read()       one measurement: a tuple as long as `records`, each an int in the record's scale or None
#     sensor.stop()       power the part down; never raises
#
# read() may block (time.sleep_ms) for up to `read_ms`; a value that is not good enough is None, never a guess.


class SensorError(Exception):
    # The part does not answer, is another part, or its answers make no sense. Retry at the next sample.
    pass


class Sensor:
    # record ids (sealwire.records) of what read() returns, in its order
    records = ()
    # how long read() takes at most, for the sampler's schedule
    read_ms = 0

    def start(self):
        pass

    def read(self):
        raise SensorError("no read()")

    def stop(self):
        pass


class Registers:
    # One I2C part with 8-bit register addresses; a bus error becomes a SensorError that names the part.

    def __init__(self, i2c, address, name):
        self._i2c = i2c
        self._address = address
        self.name = name

    def read_into(self, register, buffer):
        try:
            self._i2c.readfrom_mem_into(self._address, register, buffer)
        except OSError as error:
            raise SensorError("%s does not answer: %s" % (self.name, error))

    def write(self, register, data):
        try:
            self._i2c.writeto_mem(self._address, register, data)
        except OSError as error:
            raise SensorError("%s does not answer: %s" % (self.name, error))
