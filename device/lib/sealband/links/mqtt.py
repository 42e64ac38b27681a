# Sealed frames over MQTT and TLS, on any bearer that brings IP: published to the device's own topic, downlinks from the
# one beside it. It sees no plaintext. Here is what stays loaded: whether and when there may be a connection. Making one
# is dial.py's, the connection publisher.py's and ip.py's; they are loaded for a session.
from micropython import const

from sealband import once
from sealband.links.base import Link, LinkError

_FRAME_MAX = const(255)  # sealwire.frame.FRAME_MAX
_HOLD_MS = const(10000)
_HOLD_MAX_MS = const(3600000)
# sealwire.charge
_WIFI = const(3)
_MODEM = const(4)


class Mqtt(Link):
    frame_max = _FRAME_MAX
    addressed = True  # the topic names this device
    burst = 8  # frames that are sent before listening
    client = None  # publisher.Publisher, while connected
    _failures = 0
    _since_ms = None  # uptime when connecting began
    _power_mw = 600
    _free_at_ms = None  # None: not provisioned

    # bearer: WifiBearer, LteBearer; ntp: (host, port) to ask for the time while nobody else says it, or None
    def __init__(self, board, bearer, grade=None, ntp=("pool.ntp.org", 123)):
        self.bearer = bearer
        self.name = bearer.name
        self.grade = getattr(bearer, "grade", 3) if grade is None else grade
        self.ntp = ntp
        if board and hasattr(board, "POWER"):
            # of a cell with 3.7 V
            self._power_mw = board.POWER[_MODEM if self.name == "lte" else _WIFI] * 37 // 10000

    def open(self, store, clock, settings, random):
        self.store, self.clock, self.random = store, clock, random
        self._free_at_ms = once("sealband.links.dial").provisioned(self)

    def wait_ms(self, frame_len):
        if frame_len > _FRAME_MAX or self._free_at_ms is None:
            return None
        return 0 if self.client else max(0, self._free_at_ms - self.clock.uptime_ms())

    # mostly what it takes to get there
    def energy_mj(self, frame_len=0):
        on_ms = 200 if self.client else getattr(self.bearer, "up_ms", 15000) + 3000
        return self._power_mw * on_ms // 1000

    def connect(self):
        if self.client:
            return
        self._since_ms = self.clock.uptime_ms()
        try:
            self.client = yield from once("sealband.links.dial").run(self)
        except Exception as error:
            # also the driver's, mbedtls's, and too little memory for it
            self._failed()
            yield from self.disconnect()
            raise LinkError("%s: %r" % (self.name, error))

    def send(self, frame):
        if len(frame) > _FRAME_MAX or not (yield from self._drive("publish", frame)):
            return False
        self._failures = 0
        return True

    # what came before a fault and was not handed out comes again
    def listen(self):
        return (yield from self._drive("receive")) or []

    def disconnect(self):
        yield from self._drive("disconnect")
        if self.client:
            self.client.ip.close()
            self.client = None
        yield from self.bearer.down()
        if self._since_ms is not None:
            self.on_ms += self.clock.uptime_ms() - self._since_ms
            self._since_ms = None

    # Have the connection do this: what comes of it. None: it failed, or there is none. One that failed, or was left in
    # the middle, is good for nothing.
    def _drive(self, name, *given):
        client, self.client = self.client, None
        if not client:
            return
        try:
            value = yield from getattr(client, name)(*given)
            self.client = client
            return value
        except Exception:
            self._failed()
        finally:
            if not self.client:
                client.ip.close()

    # Devices that lost the same broker do not come back together.
    def _failed(self):
        self.errors += 1
        hold_ms = min(_HOLD_MAX_MS, _HOLD_MS << min(self._failures, 9))
        self._failures += 1
        self._free_at_ms = self.clock.uptime_ms() + hold_ms // 2 + self.random(hold_ms)
