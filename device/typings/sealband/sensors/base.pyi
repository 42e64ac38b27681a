"""What every sensor offers, and how it fails."""

from collections.abc import Generator, Sequence

from board import Bus

class SensorError(Exception):
    """The part does not answer, is another part, or its answers make no sense. It is asked again at the next sample."""

class Sensor:
    """The base of a driver, and of a sensor of your own.

    start(), read() and measure() raise nothing but SensorError; a value that is not good enough is None, never a guess.
    """

    records: Sequence[int]
    """Record ids of what read() returns, in its order; 64 to 255 are your own."""
    read_ms: int
    """How many milliseconds start() and read() take together at most."""
    alone: bool
    """It takes so much heap while it measures that no other like it and no session may run beside it."""

    def start(self) -> None:
        """Power the part up; it may run already."""

    def read(self) -> Sequence[int | None]:
        """One measurement: as many values as `records`, whole numbers in the record's scale, or None."""

    def measure(self) -> Generator[int, None, Sequence[int | None]]:
        """read() in steps, for what takes long: yields how many ms to wait, and returns what read() returns."""

    def stop(self) -> None:
        """Power the part down; never raises."""

class Registers:
    """An I2C part with 8-bit register addresses; what goes wrong on the bus is a SensorError that names the part."""

    name: str

    def __init__(self, i2c: Bus, address: int, name: str) -> None:
        """The part.

        Args:
            i2c: `board.i2c()`.
            address: 7 bits, 0x08 to 0x77.
            name: for errors.
        """

    def read_into(self, register: int, buffer: bytearray | memoryview) -> None:
        """Registers from this one on, as many as the buffer has bytes."""

    def write(self, register: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes from this register on."""

    def read_byte(self, register: int) -> int:
        """One register, 0 to 255."""

    def write_byte(self, register: int, value: int) -> None:
        """Write one register, 0 to 255."""

    def read_word(self, register: int) -> int:
        """16 bits, high byte first, 0 to 65535."""

    def write_word(self, register: int, value: int) -> None:
        """Write 16 bits, high byte first."""

    def expect(self, found: int, expected: int) -> None:
        """Raise SensorError if this is another part than expected."""
