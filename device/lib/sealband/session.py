# A session: a burst of frames from the outbox with a receive window after each, and what follows from the answers or
# their absence. Seals nothing but a hello; what a downlink asks for is done in commands.py.
#
# Sessions are spaced by links/policy.py. While the server counts as lost, a session is one hello, which names the
# device openly, and at most one event; everything else waits until the hello is answered.
from micropython import const

from sealband import commands, seal
from sealband.errors import ChainStopped, SealError, StoreError
from sealband.links import policy
from sealband.outbox import EVENT
from sealwire import frame

_REFUSALS_MAX = const(3)  # so often a server that answers may leave a frame unacknowledged
_URGENT_AFTER_MS = const(15000)


class Session:
    def __init__(self, node, random):
        self._node = node
        self.backoff = policy.Backoff(random)
        self.sent = 0  # frames since the start
        self._unacknowledged = {}  # key: answers that did not acknowledge it
        self._urgent = False
        self._attempted_ms = -_URGENT_AFTER_MS

    # An event was queued: it does not wait for the back-off, but for the duty cycle.
    def urge(self):
        self._urgent = True

    # whether run() has something to do now
    def due(self):
        return len(self._node.outbox) > 0 and self.wait_ms() == 0

    # how long until a session may begin, if there is something to send
    def wait_ms(self):
        node = self._node
        now_ms = node.clock.uptime_ms()
        wait_ms = self.backoff.wait_ms(now_ms)
        if self._urgent:
            wait_ms = min(wait_ms, max(0, self._attempted_ms + _URGENT_AFTER_MS - now_ms))
        if wait_ms == 0:
            # the shortest frame there is: if not even that may be sent, do not begin
            _link, link_ms = policy.choose(node.links, frame.OVERHEAD)
            wait_ms = link_ms or 0  # without any link, a session tries to open them again
        return max(wait_ms, node.pause_until_ms - now_ms)

    # A burst of frames with a receive window after each, in the outbox's order. A fault of our own code counts as
    # silence: what comes again and again must not send again and again.
    def run(self):
        try:
            yield from self._burst()
        except Exception:
            self.backoff.ended(self._node.clock.uptime_ms(), True, False, False)
            raise

    def _burst(self):
        node = self._node
        self._urgent = False
        self._attempted_ms = node.clock.uptime_ms()
        node.open_links()
        was_lost = self.backoff.lost
        sent = self.sent
        tried = []
        heard = False
        unheard = 0
        blocked_ms = 0
        if was_lost:
            # one hello that names this device openly; everything else waits until it is answered
            node.log.note("lost", self.backoff.failures)
            data = self._hello()
            if data is not None:
                heard = yield from self._exchange(data, None)
            # also when it could not be sealed: then flash refuses, and each try wears it
            unheard = 0 if heard else 1
        while len(tried) < policy.BURST_MAX and unheard < policy.UNHEARD_MAX:
            key = None
            for queued in node.outbox.keys():
                if queued not in tried:
                    key = queued
                    break
            if key is None or (was_lost and not heard and key[0] != EVENT):
                break
            tried.append(key)
            data = node.outbox.read(key)
            if data is None:
                node.outbox.drop(key)  # flash lost it
                continue
            link, wait_ms = policy.choose(node.links, len(data))
            if link is None:
                continue
            if wait_ms:
                blocked_ms = wait_ms
                tried.pop()
                break
            answered = yield from self._exchange(data, key)
            heard = heard or answered
            unheard = 0 if answered else unheard + 1
        if heard and was_lost:
            node.log.note("found")
        now_ms = node.clock.uptime_ms()
        left = False
        for key in node.outbox.keys():
            if key in tried:
                left = True
        for key in list(self._unacknowledged):
            if key not in node.outbox.keys():
                del self._unacknowledged[key]
        self.backoff.ended(now_ms, self.sent > sent, heard, not left and not unheard)
        if blocked_ms:
            self.backoff.hold(now_ms, blocked_ms, 1000 + blocked_ms // 8)

    def _hello(self):
        node = self._node
        plaintext = node.status(node.frame_max() - frame.HELLO_OVERHEAD)
        try:
            return seal.hello(node.chain, plaintext)[1]
        except (ChainStopped, StoreError):
            return None

    # Send one frame and listen: whether the server was heard. A frame that it has answered, but not acknowledged, again
    # and again, is one that it cannot take: it is dropped, lest it blocks the others.
    def _exchange(self, data, key):
        node = self._node
        link, wait_ms = policy.choose(node.links, len(data))
        if link is None or wait_ms:
            return False
        sent = yield from link.send(data)
        if not sent:
            return False
        self.sent += 1
        if key is not None:
            node.log.note("sent", *key)
        heard = False
        downlinks = yield from link.listen()
        for downlink in downlinks:
            if self._receive(downlink):
                heard = True
        if heard and key is not None and key in node.outbox.keys():
            count = self._unacknowledged.get(key, 0) + 1
            self._unacknowledged[key] = count
            if count >= _REFUSALS_MAX:
                node.outbox.drop(key)
                node.log.note("dropped", node.outbox.drops)
        return heard

    # One frame from the air: whether it was the server's. Whatever is in it, this returns.
    def _receive(self, data):
        node = self._node
        try:
            epoch, ctr, plaintext = seal.open_downlink(node.chain, data)
        except SealError as error:
            if error.reason != seal.NOT_OURS:
                node.refuse()
            return False
        except StoreError:
            node.log.note("store")
            return False
        except Exception as error:
            node.fault(error)
            return False
        try:
            commands.act(node, epoch, ctr, plaintext)
        except Exception as error:
            node.fault(error)
        return True
