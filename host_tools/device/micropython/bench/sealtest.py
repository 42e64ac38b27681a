# What a developer's tests use: a bus whose parts are tables of registers, ADC pins, a UART, a node that keeps what it
# is told, and a way to take a reading. `machine`, and board.py through it, give these. Time is virtual: it passes when
# somebody sleeps, and in read().
#
#     bus.parts[0x48] = {0x0F: b"\x01\x17", 0x00: [b"\x80\x00", b"\x0c\x80"]}   a list: an answer a read; the last stays
#     bus.writes                        [(address, register, bytes) ...]; a part that is not in `parts`: OSError 19
#     microvolts[35] = 1850000          pins[36] = 0
#     uart.put(b"$GNGGA...")            uart.sent
#     read(sensor)                      start, measure, stop: what the sensor measured
#     watch(watcher, node, ms)          so long of it
#     Node()                            .events [(id, values ...)], .paces
#     equal(found, expected)            says both when they differ
#     raises(SensorError, function, ...)
ENODEV = 19

microvolts = {}
pins = {}


class _Bus:
    def __init__(self):
        self.parts = {}
        self.writes = []
        self._at = {}  # address: the register that a plain read begins with

    def scan(self):
        return sorted(self.parts)

    def writeto(self, addr, buf, stop=True):
        self._part(addr)
        if buf:
            self._at[addr] = buf[0]
            self._write(addr, buf[0], bytes(buf[1:]))
        return len(buf)

    def readfrom(self, addr, nbytes, stop=True):
        return self.readfrom_mem(addr, self._at.get(addr, 0), nbytes)

    def readfrom_into(self, addr, buf, stop=True):
        buf[:] = self.readfrom(addr, len(buf))

    def writeto_mem(self, addr, memaddr, buf, addrsize=8):
        self._part(addr)
        self._write(addr, memaddr, bytes(buf))

    def readfrom_mem(self, addr, memaddr, nbytes, addrsize=8):
        registers = self._part(addr)
        data = b""
        while len(data) < nbytes:
            data += self._read(registers, memaddr) or b"\0"
            memaddr += 1
            while len(data) < nbytes and memaddr not in registers:
                data += b"\0"
                memaddr += 1
        return data[:nbytes]

    def readfrom_mem_into(self, addr, memaddr, buf, addrsize=8):
        buf[:] = self.readfrom_mem(addr, memaddr, len(buf))

    def _part(self, addr):
        if addr not in self.parts:
            raise OSError(ENODEV)
        return self.parts[addr]

    def _read(self, registers, register):
        value = registers.get(register, b"")
        if isinstance(value, list):
            return value.pop(0) if len(value) > 1 else value[0]
        return value() if callable(value) else value

    def _write(self, addr, register, data):
        if not data:
            return
        self.writes.append((addr, register, data))
        registers = self.parts[addr]
        if isinstance(registers.get(register, b""), bytes):
            registers[register] = data


class _Uart:
    def __init__(self):
        self._waiting = b""
        self.sent = b""

    def put(self, data):
        self._waiting += data

    def init(self, *settings, **more):
        pass

    def deinit(self):
        pass

    def any(self):
        return len(self._waiting)

    def read(self, nbytes=-1):
        if not self._waiting:
            return None
        nbytes = len(self._waiting) if nbytes < 0 else nbytes
        data, self._waiting = self._waiting[:nbytes], self._waiting[nbytes:]
        return data

    def readinto(self, buf, nbytes=None):
        data = self.read(len(buf) if nbytes is None else nbytes)
        if data is None:
            return None
        buf[: len(data)] = data
        return len(data)

    def readline(self):
        end = self._waiting.find(b"\n")
        return self.read(end + 1 if end >= 0 else -1)

    def write(self, data):
        self.sent += bytes(data)
        return len(data)


class Node:
    def __init__(self):
        self.events = []
        self.paces = []

    def event(self, event, *values):
        self.events.append((event,) + values)
        return True

    def pace(self, level):
        self.paces.append(level)


bus = _Bus()
uart = _Uart()


class Clock:
    # stands for the module `time`: what passes is virtual
    def __init__(self, real):
        self._real = real
        self.ms = 0

    def __getattr__(self, name):
        return getattr(self._real, name)

    def ticks_ms(self):
        return self.ms & 0x3FFFFFFF

    def ticks_us(self):
        return self.ms * 1000 & 0x3FFFFFFF

    def ticks_diff(self, end, start):
        return ((end - start + 0x20000000) & 0x3FFFFFFF) - 0x20000000

    def ticks_add(self, ticks, delta):
        return (ticks + delta) & 0x3FFFFFFF

    def sleep_ms(self, ms):
        self.ms += max(0, int(ms))

    def sleep_us(self, us):
        self.ms += (us + 999) // 1000

    def sleep(self, s):
        self.sleep_ms(s * 1000)

    def time(self):
        return 800000000 + self.ms // 1000

    def time_ns(self):
        return 800000000000000000 + self.ms * 1000000


def _pass(ms):
    import time

    time.sleep_ms(ms)


def read(sensor):
    try:
        sensor.start()
        steps = sensor.measure()
        while True:
            try:
                _pass(next(steps))
            except StopIteration as end:
                values = end.value
                break
    finally:
        sensor.stop()
    assert isinstance(values, (tuple, list)) and len(values) == len(sensor.records), "%r for records %r" % (
        values,
        sensor.records,
    )
    for value in values:
        assert value is None or type(value) is int, "%r is no int and not None" % (value,)
    return values


def watch(watcher, node, ms):
    steps = watcher.watch(node)
    while ms > 0:
        pause = max(1, next(steps))
        _pass(pause)
        ms -= pause


def equal(found, expected):
    assert found == expected, "found %r, expected %r" % (found, expected)


def raises(error, function, *arguments):
    try:
        function(*arguments)
    except error as raised:
        return raised
    raise AssertionError("%s was not raised" % error.__name__)


def reset():
    bus.__init__()
    uart.__init__()
    microvolts.clear()
    pins.clear()
