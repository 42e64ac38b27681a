# A day of a whole node in virtual time over its real LoRa link, with deep sleep or awake: what its own charge ledger
# says in the end. tests/host/test_energy.py holds that against the computed day.
import gc

from device.wearable import CountingSensor, Wearable

from sealband import once
from sealband.app import App, Every
from sealband.links.lora import LoRa

DAY_MS = 86400000
MIDNIGHT_MS = 48000000  # the server's time at which virtual time begins is 10:40 of a day


class Slept(BaseException):
    pass


class Packet(bytearray):
    rssi = -80


# A transceiver of micropython-lib's kind: on the air as long as a frame takes, and the server answers in its window.
class Modem:
    def __init__(self, day):
        self.day = day
        self.answer = None

    def configure(self, settings):
        self.sf = settings.get("sf", 7)

    def prepare_send(self, packet):
        self.packet = bytes(packet)

    def start_send(self):
        self.ended = self.day.time.ticks_ms()

    def poll_send(self):
        return self.ended

    def start_recv(self, timeout_ms):
        self.answer = self.day.link._sync(self.packet)[0]

    def poll_recv(self):
        return Packet(self.answer)

    def sleep(self):
        pass


class Board:
    CHIP = "esp32"
    BATTERY = None

    def __init__(self, power, radio):
        self.POWER = power
        self.RADIO = radio


class Day(Wearable):
    # sensors: [(records, periods, ms of a reading)]; spans: [(from, to, pace)] in seconds of the day; events: seconds
    def __init__(self, power, radio, sensors, spans, events, deep_sleep, send_every_s):
        self.board = Board(power, radio)
        self._wanted = sensors
        self._spans = spans
        self._events = list(events)
        self.deep_sleep = deep_sleep
        self._send_every_s = send_every_s
        super().__init__()

    def app(self):
        self.node_settings = {"board": self.board}
        self.time.boot_ms = self.time.ms
        sensors = []
        for records, periods, ms in self._wanted:
            # a reading of so many ms, in steps of a quarter of a second
            sensors.append(Every(periods[0], CountingSensor(records[0], 3000, (1, -2, 3), ms, self.time), *periods[1:]))
        link = LoRa(self.board, make=lambda board: Modem(self), ticks_ms=self.time.ticks_ms)
        return App(sensors, [link], self._send_every_s, deep_sleep=self.deep_sleep, echo=False)

    def wake_reason(self):
        return 4

    def deepsleep(self, ms):
        self.time.ms += ms
        raise Slept

    def _second(self):
        return (self.time.ms - MIDNIGHT_MS) // 1000

    def _live(self):
        second = self._second()
        self.node.level = 0
        for begin, end, pace in self._spans:
            if begin <= second < end:
                self.node.level = pace
        if self._events and second >= self._events[0]:
            self._events.pop(0)
            self.node.event(1)
            self.node.pace(2)

    def wake(self):
        self._live()
        try:
            self.node.run_deep_sleep(self)
        except Slept:
            pass
        self.start(from_deep_sleep=True)

    def step(self):
        self._live()
        self.time.ms += min(self.node.cycle(), 60000)

    def until(self, ms):
        while self.time.ms < ms:
            if self.deep_sleep:
                self.wake()
            else:
                self.step()
            gc.collect()


# [[part, uAh] ...] of a day
def day(*given):
    w = Day(*given)
    w.until(MIDNIGHT_MS)
    before = dict([tuple(pair) for pair in once("sealband.charge").used(w.node)])
    w.until(MIDNIGHT_MS + DAY_MS)
    after = once("sealband.charge").used(w.node)
    return [[part, uah - before.get(part, 0)] for part, uah in after]
