# One connection of a fetch and its limits on time; TCP and TLS are links/ip.py's. Knows nothing of HTTP.
#
# Every wait is a poll of at most _STEP_MS, after which the watchdog is fed and the limits are looked at. So a server
# that says nothing, says little, or goes on for ever holds the device no longer than they allow, also within a TLS
# handshake.
#
# Whatever can go wrong here is a FetchError; no OSError gets out.
from time import ticks_diff

from micropython import const

from sealband.links import ip
from sealband.update.head import FetchError
from sealwire import update as wire

_STEP_MS = const(250)


class Limits:
    # silence_ms: without a byte, and for the connection and the handshake each; rate: bytes a second, averaged over
    # each window_ms; get_ms, download_ms: for one document, one file
    def __init__(self, silence_ms=30000, window_ms=30000, rate=64, get_ms=120000, download_ms=900000):
        self.silence_ms = silence_ms
        self.window_ms = window_ms
        self.rate = rate
        self.get_ms = get_ms
        self.download_ms = download_ms


# What is left of the limits. now_ms: ticks as time.ticks_diff takes them; they may wrap.
class Pace:
    def __init__(self, limits, total_ms, now_ms, feed):
        self._limits = limits
        self._total_ms = total_ms
        self._now_ms = now_ms
        self._feed = feed
        # added up step by step, since a difference of ticks is good for a few days only
        self._last = now_ms()
        self._spent_ms = 0
        self.fresh()

    # A stage begins: connection, handshake, response.
    def fresh(self):
        self._quiet_ms = 0
        self._window_ms = 0
        self._count = 0

    # The time since the last step went into our own work: it counts for the whole, and is no silence of the server's.
    def back(self):
        now = self._now_ms()
        self._spent_ms += ticks_diff(now, self._last)
        self._last = now

    # So many bytes came since the last step. FetchError when a limit is passed.
    def step(self, count):
        if self._feed:
            self._feed()
        limits = self._limits
        now = self._now_ms()
        passed = ticks_diff(now, self._last)
        self._last = now
        self._spent_ms += passed
        self._window_ms += passed
        self._quiet_ms = 0 if count else self._quiet_ms + passed
        self._count += count
        if self._spent_ms > self._total_ms or self._quiet_ms > limits.silence_ms:
            raise FetchError(wire.TIME_OUT)
        if self._window_ms >= limits.window_ms:
            if self._count * 1000 < limits.rate * limits.window_ms:
                raise FetchError(wire.TOO_SLOW)
            self._window_ms = 0
            self._count = 0


class Connection:
    def __init__(self, pace):
        self._pace = pace
        self._ip = ip.Connection()
        self._one = bytearray(1)
        self.close = self._ip.close

    # Connect. context: for TLS, with the CA that must have signed the server's certificate for this host.
    def open(self, host, port, context=None):
        pace = self._pace
        pace.step(0)
        try:
            self._ip.begin(host, port)
            pace.step(0)
            pace.fresh()
            while not self._ip.made(_STEP_MS, context, host):
                pace.step(0)
            pace.fresh()
        except (OSError, IndexError, ValueError) as error:
            raise self._failed(error)

    # Send all of it; the TLS handshake comes first.
    def send(self, data):
        sent = 0
        while sent < len(data):
            try:
                count = self._ip.stream.write(data[sent:])
            except (OSError, ValueError) as error:
                raise self._failed(error)
            self._pace.step(0)
            if count:
                sent += count
            else:
                self._ip.wait(_STEP_MS)
        self._pace.fresh()

    # Bytes that came, at least one, into a memoryview; 0: the server closed.
    def read(self, view):
        while True:
            try:
                count = self._ip.stream.readinto(view)
            except (OSError, ValueError) as error:
                raise self._failed(error)
            self._pace.step(count or 0)
            if count is not None:
                return count
            self._ip.wait(_STEP_MS)

    # The reader was busy with what it had read.
    def back(self):
        self._pace.back()

    # Whether the server has nothing more to say. It may leave the connection open, but not go on.
    def ended(self):
        for _ in range(2):
            try:
                count = self._ip.stream.readinto(self._one)
            except (OSError, ValueError):
                return True
            if count is not None:
                return count == 0
            self._ip.wait(_STEP_MS)
        return True

    # mbedtls speaks in negative numbers, and in ValueErrors of a certificate; what the socket said is positive. The end
    # of a TCP connection is an error in the handshake only; later, with or without a farewell, it reads as the end.
    def _failed(self, error):
        number = error.errno if type(error) is OSError else -1
        if self._ip.secure and type(number) is int and number < 0:
            return FetchError(wire.TLS_REFUSED)
        return FetchError(wire.UNREACHABLE)
