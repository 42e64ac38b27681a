# A modem on a UART that says what a transcript says, with a clock of its own; and what a board has around it. It stands
# in for the modules `machine`, `network` and `sealband.provision`.
import sys

OFF = {"AT+CPOWD=1": ["NORMAL POWER DOWN"], "AT+QPOWD=1": ["OK", "POWERED DOWN"], "AT+CPOF": ["OK"]}


class Clock:
    def __init__(self):
        self.now = 0

    def ticks_ms(self):
        return self.now & 0x3FFFFFFF


class Endless(Exception):
    pass


class FakeModem:
    # steps: [(command, [line or milliseconds])]; power: whether it is on from the start
    def __init__(self, clock, steps=(), on=True, rate=115200, boot_ms=2000):
        self.clock = clock
        self.steps = list(steps)
        self.on = on
        self.rate = rate
        self.boot_ms = boot_ms
        self.ready_at = 0
        self.at = 0  # next step
        self.out = []  # [(from when on, bytes)]
        self.commands = []
        self.data = False  # PPP
        self.flood = None  # bytes that come without an end
        self._held = b""

    def answer(self, lines, at=None):
        at = self.clock.now if at is None else at
        for line in lines:
            if isinstance(line, int):
                at += line
            else:
                self.out.append((at, b"\r\n" + bytes(ord(c) & 0xFF for c in line) + b"\r\n"))

    def hear(self, data, rate):
        if not self.on or self.clock.now < self.ready_at or rate != self.rate:
            return
        if self.data:
            if data == b"+++":
                self.data = False
                self.answer(["OK"])
            return
        self._held += data
        while b"\r" in self._held:
            command, self._held = self._held.split(b"\r", 1)
            self.told(command.decode())

    def told(self, command):
        self.commands.append(command)
        for index in list(range(self.at, len(self.steps))) + list(range(self.at - 1, -1, -1)):
            if self.steps[index][0] == command:
                self.at = max(self.at, index + 1)
                self.answer(self.steps[index][1])
                break
        else:
            self.answer(self.other(command))
        for _, line in self.out[-1:]:
            if line.startswith(b"\r\nCONNECT"):
                self.data = True

    # what no transcript has
    def other(self, command):
        if command in ("AT", "ATH"):
            return ["OK"]
        if command in OFF:
            self.on = False
            return OFF[command]
        return ["ERROR"]

    def key(self):
        self.on = not self.on
        self.ready_at = self.clock.now + self.boot_ms
        self.data = False
        self.out = []

    def take(self, most):
        if self.flood is not None:
            return self.flood[:most]
        if not self.out or self.out[0][0] > self.clock.now:
            return None
        at, data = self.out.pop(0)
        end = data.find(b"\n") + 1 or len(data)
        chunk = data[: min(end, most)]
        if len(chunk) < len(data):
            self.out.insert(0, (at, data[len(chunk) :]))
        return chunk


class Pin:
    OUT = 1
    modem = None
    driven = None

    def __init__(self, number, mode=None, value=None):
        self.number = number
        if value is not None:
            self(value)

    def __call__(self, value):
        before = Pin.driven.get(self.number)
        Pin.driven[self.number] = value
        if self.number == 4 and before and not value:
            Pin.modem.key()


class UART:
    modem = None

    def __init__(self, number, baudrate, tx, rx, rxbuf):
        assert (number, tx, rx) == (1, 25, 26)
        self.rate = baudrate

    def init(self, baudrate):
        self.rate = baudrate

    def write(self, data):
        UART.modem.hear(data, self.rate)
        return len(data)

    def readline(self, most):
        return UART.modem.take(most)

    def irq(self, handler):
        assert handler is None


# network.PPP from 1.26 on
class Ppp:
    SEC_NONE, SEC_PAP, SEC_CHAP = 0, 1, 2
    last = None
    comes = True

    def __init__(self, uart):
        Ppp.last = self
        self.uart = uart
        self.calls = []
        self.up = False
        self.polls = 0

    def connect(self, security=0, user=None, key=None):
        self.calls.append(("connect", security, user, key))
        self.up = Ppp.comes

    def isconnected(self):
        self.polls += 1
        return self.up and self.polls > 3

    def disconnect(self):
        self.calls.append(("disconnect",))
        self.up = False


# network.PPP before
class OldPpp:
    AUTH_NONE, AUTH_PAP, AUTH_CHAP = 0, 1, 2

    def __init__(self, uart):
        Ppp.last = self
        self.calls = []
        self.on = self.up = False

    def active(self, on):
        self.calls.append(("active", on))
        self.on = on
        self.up = False

    def connect(self, authmode=0, username=None, password=None):
        if not self.on:
            raise OSError("must be active")
        self.calls.append(("connect", authmode, username, password))
        self.up = True

    def isconnected(self):
        return self.up


class Machine:
    Pin = Pin
    UART = UART


class Network:
    PPP = Ppp


class Provision:
    cellular = ["iot.1nce.net", "4321", "", ""]

    @staticmethod
    def load():
        return Provision


class Board:
    # cut: what modem_power answers
    def __init__(self, modem, family="sim70xx", cut=False, baudrate=115200):
        self.MODEM = {
            "chip": "any",
            "profile": "sealband.links." + family,
            "uart": 1,
            "tx": 25,
            "rx": 26,
            "baudrate": baudrate,
            "power_key": 4,
            "power_key_ms": 1000,
            "dtr": 5,
        }
        self.cut = cut
        self.modem = modem
        self.power = []
        Pin.modem = UART.modem = modem
        Pin.driven = {}

    def modem_power(self, on):
        self.power.append(on)
        if self.cut and not on:
            self.modem.on = False
        return self.cut


# sealband.store, as far as a number is concerned
class Store:
    def __init__(self, held=None):
        self.held = held
        self.writes = []

    def load_number(self, name):
        assert name == "pin"
        return self.held

    def save_number(self, name, value):
        assert name == "pin" and -0x80000000 <= value < 0x80000000
        self.held = value
        self.writes.append(value)


def install():
    sys.modules["machine"] = Machine
    sys.modules["network"] = Network
    import sealband

    sealband.provision = Provision  # as an import leaves it: it will be dropped
    sys.modules["sealband.provision"] = Provision


# Run a generator of pauses to its end in the clock's time: (its value, milliseconds).
def run(clock, steps, limit_ms):
    began = clock.now
    value = None

    def outer():
        nonlocal value
        value = yield from steps

    for pause in outer():
        if type(pause) is not int or pause < 1:
            raise Endless("a pause of %r" % pause)
        clock.now += pause
        if clock.now - began > limit_ms:
            raise Endless("no end within %d ms" % limit_ms)
    return value, clock.now - began
