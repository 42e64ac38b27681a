# Nothing stays fed or lit by mistake: a reset in the midst of a measurement, a PMU or a UART that fails just then.
from sealband.app import part
from sealband.sensors import gnss
from sealband.sensors.base import SensorError


class I2C:
    def __init__(self):
        self.registers = {}

    def readfrom_mem_into(self, address, register, buffer):
        for i in range(len(buffer)):
            buffer[i] = self.registers.get(register + i, 0)

    def writeto_mem(self, address, register, data):
        for i in range(len(data)):
            self.registers[register + i] = data[i]


class Board:
    PARTS = {"MAX30102": 0x57}
    GNSS = {"uart": 2, "tx": 17, "rx": 16, "baudrate": 9600}

    def __init__(self, failures=0):
        self.bus = I2C()
        self.fed = True
        self.failures = failures

    def i2c(self):
        return self.bus

    def gnss_power(self, on):
        if self.failures:
            self.failures -= 1
            raise SensorError("AXP2101 does not answer")
        self.fed = on


class Uart:
    def deinit(self):
        raise OSError(5)


def test_what_a_reset_left_on_is_off_when_the_application_is_built():
    board = Board()
    board.bus.registers[0x09] = 0x03  # both LEDs at work
    assert part("max30102", board).records == (1, 2, 12, 13)
    assert board.bus.registers[0x09] & 0x80, "the LEDs are lit"
    assert board.fed
    part("gnss", board)
    assert not board.fed, "the receiver is fed for ever"


def test_a_part_that_does_not_answer_at_the_start_is_a_sensor_all_the_same():
    class Absent(I2C):
        def writeto_mem(self, *what):
            raise OSError(19)

    board = Board(failures=1000)
    board.bus = Absent()
    assert part("max30102", board) and part("gnss", board)


def test_a_pmu_that_fails_once_or_a_uart_that_does_leaves_no_receiver_fed():
    for failures, fed in ((0, False), (1, False), (3, False), (1000, True)):
        board = Board(failures)
        receiver = gnss.Position(board)
        receiver._uart = Uart()
        receiver.stop()
        assert board.fed is fed, failures
