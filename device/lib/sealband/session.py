# When a session is to begin, and what one leaves behind for the next. What happens in it: exchange.py, which is loaded
# for a session, and for what else a downlink comes by.
from micropython import const

from sealband import once
from sealband.links.backoff import Backoff
from sealband.outbox import EVENT

_URGENT_AFTER_MS = const(15000)


class Session:
    def __init__(self, node, random):
        self._node = node
        self.random = random
        self._way = None  # exchange.py, during a session
        self.backoffs = [Backoff(random) for _ in node.app.links]
        self.sent = 0  # frames since the start
        self.unacknowledged = {}  # key: answers that did not acknowledge it
        self.rested_ms = 0
        self.tried = {}  # key: bit i: it was given to link i in this session
        self.used = 0  # bit i: link i had its part of this session
        self.urgent = False  # an event waits that no session was begun for
        self.hurry = False  # this session was begun for an event
        self.attempted_ms = -_URGENT_AFTER_MS
        self.hold_ms = 0  # not before this uptime, for other reasons than the links'
        self.next_ms = 0  # when, by the policy, there is something to do

    # Something was queued, so the policy is asked again. An event does not wait for a back-off, but for airtime.
    def queued(self, priority):
        self.next_ms = 0
        self.urgent = self.urgent or priority == EVENT

    # No session for up to so long, so that devices that wait for the same do not come together.
    def spread(self, most_ms):
        self.hold_ms = max(self.hold_ms, self._node.clock.uptime_ms() + self.random(most_ms))

    # whether run() has something to do now
    def due(self):
        return len(self._node.outbox) > 0 and self.wait_ms() == 0

    # how long until a session may begin, if there is something to send
    def wait_ms(self):
        node = self._node
        begin_ms = max(self.hold_ms, self.next_ms)
        if self.urgent:
            begin_ms = min(begin_ms, self.attempted_ms + _URGENT_AFTER_MS)
        return max(0, max(begin_ms, node.pause_until_ms) - node.clock.uptime_ms())

    # One session: a generator of pauses.
    def run(self):
        self._way = once("sealband.exchange")
        try:
            yield from self._way.run(self, self._node)
        finally:
            self._way = None
            for link in self._node.app.links:
                self._node.ask(link, "rest")

    # One frame from a link: whether it was the server's, None: it is forged. Whatever is in it, this returns.
    def _receive(self, data, link=None):
        return (self._way or once("sealband.exchange")).receive(self._node, data, link)
