# An MQTT 3.1.1 connection that publishes to one topic and is subscribed to another, with QoS 1 (OASIS standard, 29
# October 2014; sections are its); dial.py makes it. Its methods are coroutines whose sleep is given, so that `await`
# drives them in asyncio and `yield from` in the node. Every wait is bounded, in time and in what is kept, whatever the
# broker says: a LinkError ends it, or what the socket raises (OSError, ValueError).
#
# build, extent and message are the packets, and pure.
import time

from micropython import const

from sealband import once
from sealband.links.base import LinkError

_PUBLISH = const(0x30)  # its lower bits are flags
_PUBACK = const(0x40)
_LENGTHS = {0x20: 2, _PUBACK: 2, 0x90: 3, 0xD0: 0}  # of what follows the head; CONNACK, SUBACK, PINGRESP
_LENGTH_MAX = const(65536)
KEEPALIVE_S = 60  # silence of ours that the broker puts up with

_STEP_MS = const(25)  # so often the connection is looked at
_WRITE_MS = const(30000)  # also for connection and handshake
_ANSWER_MS = const(20000)
_LISTEN_MS = const(10000)  # for the first frame
_QUIET_MS = const(500)  # for each that follows it
_VIEW_LEN = const(320)  # head, topic, number and a frame of 255 bytes
_FRAME_MAX = const(255)
_KEPT_LEN = const(64)  # of a longer packet: head, topic and number
_KEPT_MAX = const(8)  # messages that were not acknowledged yet


# A packet: its first byte, the remaining length (section 2.2.3), the rest.
def build(first, rest):
    head = bytes((first,))
    length = len(rest)
    while length > 127:
        head += bytes((length & 127 | 128,))
        length >>= 7
    return head + bytes((length,)) + rest


# (where its rest begins, where it ends) of the packet that begins with these bytes. While the head is not complete both
# are the length that it has at least. LinkError: no broker sends this, or it is longer than is put up with.
def extent(data, have):
    if not have:
        return 2, 2
    first = data[0]
    length = shift = 0
    at = 1
    while first & 0xF0 == _PUBLISH or first in _LENGTHS:
        if at == have:
            return at + 1, at + 1
        length |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            if length > _LENGTH_MAX or _LENGTHS.get(first, length) != length:
                break
            return at, at + length
        if at > 3:
            break  # 2 MiB at least
    raise LinkError("MQTT")


# (number or 0, topic, payload) of a PUBLISH with this first byte and rest, as far as that was kept (section 3.3).
def message(first, rest):
    qos = first >> 1 & 3
    at = 2 + int.from_bytes(rest[:2], "big")
    end = at + 2 * qos
    # QoS 2 was not granted, QoS 0 is not sent again, and 0 is no number (section 2.3.1)
    if qos < 2 and (qos or not first & 8) and end <= len(rest):
        number = int.from_bytes(rest[at:end], "big")
        if number or not qos:
            return number, rest[2:at], rest[end:]
    raise LinkError("MQTT")


def _pause(ms):
    yield ms


class Publisher:
    # up: the topic to publish to, with its length in front; down: the topic that is subscribed to; sleep(ms): awaited
    def __init__(self, up, down, sleep=_pause):
        self.ip = once("sealband.links.ip").Connection()
        self._up = up
        self._down = down
        self._sleep = sleep
        self._view = memoryview(bytearray(_VIEW_LEN))
        self._have = 0  # bytes of a packet
        self._number = 1
        self._came = []  # (number, frame) not handed out yet
        self._owed = b""  # acknowledgements

    # Publish a frame. True, when the broker has it.
    def publish(self, frame):
        self._number = self._number % 0xFFFF + 1
        number = self._number.to_bytes(2, "big")
        yield from self.write(build(0x32, self._up + number + frame))
        if not (yield from self.until(_PUBACK, number)):
            raise LinkError("time")
        return True

    # The frames that came, waiting so long for the first. They are acknowledged with what is written next, when they
    # were acted on: one that a power cut takes comes again.
    def receive(self, limit_ms=_LISTEN_MS):
        yield from self.write(b"")
        count = -1
        while len(self._came) > count:
            count = len(self._came)
            yield from self.until(_PUBLISH, None, _QUIET_MS if count else limit_ms)
        frames = []
        for number, frame in self._came:
            frames.append(frame)
            self._owe(number)
        self._came = []
        return frames

    # Leave, so that the broker knows.
    def disconnect(self):
        return self.write(b"\xe0\x00")

    def _owe(self, number):
        if number:
            self._owed += build(_PUBACK, number.to_bytes(2, "big"))

    def write(self, data):
        data = self._owed + data
        self._owed = b""
        began = time.ticks_ms()
        while data:
            count = self.ip.stream.write(data)
            data = data[count or 0 :]
            if not count:
                yield from self.wait(began)
        self._wrote_at = time.ticks_ms()

    def wait(self, began):
        if time.ticks_diff(time.ticks_ms(), began) > _WRITE_MS:
            raise LinkError("time")
        return self._sleep(_STEP_MS)

    # Until a packet of this kind comes whose rest begins so: its rest; PUBLISH: until a frame comes. None: the time is
    # over. What else comes is ignored, but for frames.
    def until(self, kind, begin, limit_ms=_ANSWER_MS):
        began = time.ticks_ms()
        while time.ticks_diff(time.ticks_ms(), began) <= limit_ms:
            first, rest = self._look()
            if first & 0xF0 == _PUBLISH:
                if self._take(first, rest) and kind == _PUBLISH:
                    return
            elif first == kind and rest.startswith(begin):
                return rest
            # a broker that never stops must not hold up the node
            yield from self._sleep(0 if first else _STEP_MS)
            if time.ticks_diff(time.ticks_ms(), self._wrote_at) > KEEPALIVE_S * 500:
                yield from self.write(b"\xc0\x00")  # PINGREQ; TCP notices when nobody is there

    # One look at the connection: first byte and rest of a packet that it completes; 0: nothing came, 1: not all.
    def _look(self):
        view = self._view
        have = self._have
        # no frame is longer than the view: the rest is read to be forgotten
        start = have if have < _VIEW_LEN else _KEPT_LEN
        end = min(_VIEW_LEN, start + extent(view, have)[1] - have)
        count = self.ip.stream.readinto(view[start:end])
        if count is None:
            return 0, None
        if not count:
            raise LinkError("end")
        self._have = have = have + count
        at, end = extent(view, have)
        if have < end:
            return 1, None
        self._have = 0
        return view[0], bytes(view[at:end])

    # A message: whether it is a frame and kept. What is none, or was retained, is acknowledged, so that it is gone;
    # what there is no room for is not, so that it comes again.
    def _take(self, first, rest):
        number, topic, payload = message(first, rest)
        if len(self._came) + len(self._owed) // 4 < _KEPT_MAX:
            if 0 < len(payload) <= _FRAME_MAX and topic == self._down and not first & 1:
                self._came.append((number, payload))
                return True
            self._owe(number)
