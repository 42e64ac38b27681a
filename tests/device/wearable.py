# A whole device in virtual time for tests on MicroPython: fake flash and NVS, sensors that count, a link to a Server.
import gc
import os

from device.fakes import FakeRtc, World
from device.server import Server

from sealband.app import App, Every
from sealband.chain import Chain
from sealband.clock import Clock
from sealband.errors import NotEnrolled
from sealband.links.base import Link, LinkError
from sealband.node import Node
from sealband.outbox import Outbox
from sealband.sensors.base import Sensor, SensorError
from sealband.store import Store

EUI = b"\x70\xb3\xd5\xff\xfe\x00\x12\x34"
ROOT = bytes(range(32))
T = 60_000_000  # the server's time when virtual time is 0


# Virtual time. sleep_ms is handed to everything that waits.
class Time:
    def __init__(self):
        self.ms = 0
        self.boot_ms = 0
        self.drift_s = 0  # what the chip's own clock is off after deep sleep

    def ticks_ms(self):
        return self.ms - self.boot_ms & 0x3FFFFFFF

    def system_s(self):
        return 946684800 + self.ms // 1000 + self.drift_s

    def sleep_ms(self, ms):
        assert ms >= 0
        self.ms += ms

    def server_t(self):
        return T + self.ms // 1000


class CountingSensor(Sensor):
    def __init__(self, record, first, steps=(0,), takes_ms=0, time=None):
        self.records = (record,)
        self._value = first
        self._steps = steps
        self._takes_ms = takes_ms
        self._time = time
        self.reads = 0
        self.fails = False
        self.running = False
        self.log = []  # (server time, value) of what was returned

    def start(self):
        self.running = True

    def measure(self):
        left_ms = self._takes_ms
        began = self._time.server_t() if self._time else 0
        while left_ms > 0:
            yield 250
            left_ms -= 250
        if self.fails:
            raise SensorError("broken")
        self._value += self._steps[self.reads % len(self._steps)]
        self.reads += 1
        self.log.append((began, self._value))
        return (self._value,)

    def stop(self):
        self.running = False


# A link to the server of a test: answers 5 s after a frame, as LoRa does. `deaf`: nothing comes through; `mute`: the
# server hears, but its answers are lost.
class ServerLink(Link):
    name = "test"

    def __init__(self, time, server, frame_max=222):
        self._time = time
        self._server = server
        self.frame_max = frame_max
        self.deaf = False
        self.mute = False
        self.sent = []  # (ms, frame)
        self.answer = self._sync
        self.opens_at = None
        self.broken = False
        self.budget = None

    def open(self, store, clock, settings, random):
        pass

    def airtime_ms(self):
        return 60 * len(self.sent)

    def wait_ms(self, frame_len):
        return 0

    def send(self, frame):
        if self.broken:
            return False
        yield 60
        self.sent.append((self._time.ms, bytes(frame)))
        self.opens_at = self._time.ms + 5000
        return True

    def listen(self):
        if self.opens_at is None:
            return []
        yield self.opens_at - self._time.ms
        assert 0 <= self._time.ms - self.opens_at < 300, "late for the window"
        self.opens_at = None
        yield 200
        if self.deaf:
            return []
        downlinks = self.answer(self.sent[-1][1])
        return [] if self.mute else downlinks

    def _sync(self, frame):
        epoch, ctr, _ = self._server.open(frame)
        return [self._server.sync(epoch, self._time.server_t(), ctr)]


# A link of MQTT's kind: connected once a session, several frames before an answer, one sync for all of them.
class BrokerLink(ServerLink):
    name = "broker"
    grade = 3
    burst = 8
    addressed = True

    def __init__(self, time, server):
        super().__init__(time, server)
        self.down = False  # it does not come up
        self.connects = []  # ms
        self.up = False
        self._answers = []

    def connect(self):
        self.connects.append(self._time.ms)
        yield 3000
        if self.down:
            raise LinkError("no carrier")
        self.up = True

    def send(self, frame):
        assert self.up
        if self.broken:
            return False
        yield 40
        self.sent.append((self._time.ms, bytes(frame)))
        if not self.deaf:
            self._answers = self.answer(frame)
        return True

    def listen(self):
        assert self.up
        yield 200 if self._answers else 10000
        answers, self._answers = self._answers, []
        return [] if self.mute else answers

    def disconnect(self):
        yield 100
        self.up = False


class Wearable:
    # more(time, server): links beside the one of LoRa's kind
    def __init__(self, sensors=None, world=None, frame_max=222, more=None, **settings):
        self.time = Time()
        self.world = world or World(flash=True)
        self.world.mount()
        self.server = Server(EUI, ROOT)
        self.link = ServerLink(self.time, self.server, frame_max)
        self.more = more(self.time, self.server) if more else []
        self.heart = CountingSensor(1, 72, (1, -2, 3, 0, -2), 9500, self.time)
        self.skin = CountingSensor(3, 3312, (-1, 2), 0, self.time)
        self.battery = CountingSensor(4, 3900, (-1,), 0, self.time)
        self.sensors = sensors
        self.settings = settings
        self.node_settings = {}
        self.node = None
        self.start()

    def app(self):
        sensors = self.sensors
        if sensors is None:
            sensors = [Every(10, self.heart), Every(60, self.skin), Every(600, self.battery)]
        return App(sensors, [self.link] + self.more, echo=False, **self.settings)

    # what main.py does after a reset
    def start(self, from_deep_sleep=False):
        self.node = None
        gc.collect()
        self.time.boot_ms = self.time.ms
        store = Store(self.world.nvs, self.world.rtc, from_deep_sleep)
        try:
            chain = Chain.load(store)
        except NotEnrolled:
            chain = Chain.create(store, EUI, ROOT, T)
        clock = Clock(store, self.time.ticks_ms, self.time.system_s)
        outbox = Outbox(store, "/ram/outbox")
        self.node = Node(
            self.app(),
            store,
            chain,
            outbox,
            clock,
            None,
            self.time.sleep_ms,
            self.random,
            reset_cause=1,
            **self.node_settings,
        )
        self.store = store
        return self.node

    seed = 7

    def random(self, n):
        self.seed = (self.seed * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.seed >> 8) % n

    # so long of being awake
    def run(self, seconds):
        end = self.time.ms + seconds * 1000
        while self.time.ms < end:
            pause_ms = self.node.cycle()
            self.time.ms += min(pause_ms, max(1, end - self.time.ms))
            gc.collect()

    def power_cut(self):
        self.world.rtc = FakeRtc()
        self.start()

    def queue(self):
        return list(self.node.outbox.keys())

    def files(self):
        return sorted(os.listdir("/ram/outbox"))
