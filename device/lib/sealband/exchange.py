# A session: what the outbox holds goes over the links that links/policy.py chooses, one link after the other; and what
# follows from the answers or their absence. Seals nothing but a hello; what a downlink asks for is done in commands.py.
# What one session leaves for the next is in session.py's object, here called self. Loaded for a session.
#
# Each link has one part of a session: connect, a burst of frames with a time of listening after each (LoRa) or after
# several (where link.burst says how many), disconnect. The same bytes go over each link. Whatever a link does, raises
# or returns, the session goes on with the next one.
#
# While the server counts as lost, a link whose frames do not name this device says one hello, which does, and sends at
# most one event; everything else waits until the hello is answered.
from micropython import const

from sealband import once
from sealband.errors import SealError, StoreError
from sealband.outbox import EVENT, REPLY

policy = once("sealband.links.policy")  # with this module it comes and goes

_REFUSALS_MAX = const(3)  # so often a server that answers may leave a frame unacknowledged
_REST_MS = const(3600000)
_NO_LINK_MS = const(60000)
_LEAST_MS = const(1000)
_LISTENS_MAX = const(4)
_DOWNLINKS_MAX = const(32)  # that one listening may bring

# A link bounds its own waiting; these are for one that does not.
_CONNECT_MS = const(300000)
_MOST_MS = const(60000)
_STEP_MS = const(10)  # what a pause counts at least
_FACTS = ("wait_ms", "spare", "energy_mj")


# One session: a generator of pauses.
def run(self, node):
    self.hurry = self.urgent
    self.urgent = False
    if self.hurry:
        self.attempted_ms = node.clock.uptime_ms()
    node.open_links()
    try:
        while True:
            index = _choose(self)[1]
            if index is None:
                break
            yield from _part(self, index, node.app.links[index], self.backoffs[index])
            self.used |= 1 << index
    finally:
        self.tried.clear()
        self.used = 0
        self.hurry = False
        self.next_ms = node.clock.uptime_ms() + _LEAST_MS
    rested = node.clock.uptime_ms() - self.rested_ms > _REST_MS
    if rested:
        self.rested_ms = node.clock.uptime_ms()
    for key in list(self.unacknowledged):
        if rested or key not in node.outbox.keys():
            del self.unacknowledged[key]
    wait_ms = _choose(self)[2]
    wait_ms = _NO_LINK_MS if wait_ms is None else max(_LEAST_MS, wait_ms)
    self.next_ms = node.clock.uptime_ms() + wait_ms + self.random(_LEAST_MS + wait_ms // 8)


# The frame to be sent next and its link, (key, index, 0), or when to ask again, (None, None, ms). only: this link.
def _choose(self, only=None):
    node = self._node
    soonest = None
    waiting = []
    for key in node.outbox.keys():
        tried = self.tried.get(key, 0)
        kind = tried << 2 | key[0]
        if kind in waiting or self.unacknowledged.get(key, 0) >= _REFUSALS_MAX:
            continue  # an older one like it waits, or it rests
        patience_s = node.app.patience_s
        age_s = node.outbox.age_s(key, node.clock.uptime())
        facts = _facts(self, node.outbox.size(key), tried | self.used, key[0] == EVENT)
        index, wait_ms = policy.choose(key[0], patience_s if age_s is None else age_s, patience_s, facts)
        if index is not None and (only is None or index == only):
            return key, index, 0
        waiting.append(kind)
        if wait_ms is not None and (soonest is None or wait_ms < soonest):
            soonest = wait_ms
    return None, None, soonest


# what links/policy.py goes by, for a frame of this length
def _facts(self, length, tried, event):
    node = self._node
    facts = []
    for index, link in enumerate(node.app.links):
        backoff = self.backoffs[index]
        hold_ms = 0 if event and self.hurry else backoff.wait_ms(node.clock.uptime_ms(), event)
        told = [None, 0, 0]
        for i, name in enumerate(_FACTS if link in node.links else ()):
            number = node.ask(link, name, length)
            # with a low cell, LTE is for events
            if type(number) is int and (event or not node.low or getattr(link, "name", None) != "lte"):
                told[i] = number
        facts.append((told[0], hold_ms, told[1], link.grade, told[2], backoff.tries, tried >> index & 1))
    return facts


# One link's part of a session. A fault of our own code counts as silence: what comes again and again must not send
# again and again.
def _part(self, index, link, backoff):
    node = self._node
    sent = self.sent
    heard = False
    unheard = 1  # frames in a row without an answer
    lost = policy.lost(self.backoffs)
    try:
        if (yield from _drive(self, link, "connect", _CONNECT_MS)) is not False:
            unheard = 0
            if lost and not link.addressed:
                # one hello that names this device openly; everything else waits until it is answered
                node.log.note("lost", backoff.failures)
                data = once("sealband.report").hello(node)
                if data is not None:
                    heard = yield from _exchange(self, link, (None,), data)
                # also when it could not be sealed: then flash refuses, and each try wears it
                unheard = 0 if heard else 1
            left = policy.BURST_MAX
            while left > 0 and unheard < policy.UNHEARD_MAX:
                keys = _next(self, index, 1 if lost and not heard else link.burst, lost and not heard)
                if not keys:
                    break
                left -= len(keys)
                if (yield from _exchange(self, link, keys, None)):
                    heard = True
                    unheard = 0
                else:
                    unheard += 1
        yield from _drive(self, link, "disconnect", _MOST_MS)
        if heard and lost:
            node.log.note("found")
    except Exception:
        heard = False
        unheard = 1
        raise
    finally:
        for key in node.outbox.keys():
            if self.tried.get(key, 0) >> index & 1:
                unheard = 1  # it is to be tried again
        backoff.ended(node.clock.uptime_ms(), self.sent > sent, heard, not unheard)


# The frames that are given to a link next, so many at most. lost: the server has lost us.
def _next(self, index, most, lost):
    keys = []
    while len(keys) < most:
        key = _choose(self, index)[0]
        if key is None or (lost and key[0] != EVENT and not self._node.app.links[index].addressed):
            break
        self.tried[key] = self.tried.get(key, 0) | 1 << index
        keys.append(key)
    return keys


# Send these frames (None: this data) and listen: whether the server was heard.
def _exchange(self, link, keys, data):
    node = self._node
    sent = self.sent
    for key in keys:
        if key is not None:
            if key not in node.outbox.keys():
                continue  # acknowledged meanwhile, by another way
            data = node.outbox.read(key)
            if data is None:
                node.outbox.drop(key)  # flash lost it
                continue
        if (yield from _drive(self, link, "send", _MOST_MS, data)) is not True:
            break
        self.sent += 1
        if key is not None:
            node.log.note("sent", *key)
    data = None
    heard = ours = False
    for _ in range(_LISTENS_MAX if self.sent > sent else 0):
        downlinks = yield from _drive(self, link, "listen", _MOST_MS)
        if type(downlinks) is not list or not downlinks:
            break
        node.ask(link, "rest")  # what was heard is opened in the heap that hearing took
        for downlink in downlinks[:_DOWNLINKS_MAX]:
            if isinstance(downlink, (bytes, bytearray)):
                ours = self._receive(downlink, link)
                if ours is None:
                    break
                heard = heard or ours
        if ours is None or not _left(self, keys):
            break
    if heard:
        _count(self, _left(self, keys[: self.sent - sent]))
    elif self.sent > sent:
        node.ask(link, "silent")
    return heard


# those of these frames that are not acknowledged
def _left(self, keys):
    return [key for key in self._node.outbox.keys() if key in keys]


# A frame that the server has answered, but not acknowledged, again and again, is one that it cannot take: it is
# dropped, lest it blocks the others. Or it is jammed, and others are answered: so an event rests only.
def _count(self, keys):
    node = self._node
    for key in keys:
        count = self.unacknowledged.get(key, 0) + 1
        self.unacknowledged[key] = count
        if count >= _REFUSALS_MAX and key[0] != EVENT:
            node.outbox.drop(key)
            node.log.note("dropped", node.outbox.drops)


# What one of a link's generators returns, False when it raised or took too long. An event does not wait until
# another link is up.
def _drive(self, link, name, limit_ms, *more):
    steps = None
    try:
        steps = iter(getattr(link, name)(*more))
        while limit_ms > 0 and (self.hurry or not self.urgent or name != "connect"):
            pause_ms = max(0, min(next(steps), limit_ms))
            limit_ms -= max(_STEP_MS, pause_ms)
            yield pause_ms
    except StopIteration as end:
        return end.value
    except Exception:
        pass
    finally:
        # what it holds is let go of, also when the work is given up
        self._node.ask(steps, "close")
    self._node.log.note("link", self._node.app.links.index(link))
    return False


# One frame from a link: whether it was the server's, None: it is forged. Whatever is in it, this returns.
def receive(node, data, link):
    seal = once("sealband.seal")
    try:
        epoch, ctr, plaintext = seal.open_downlink(node.chain, data)
    except SealError as error:
        if error.reason != seal.NOT_OURS:
            node.refuse()
        # a forged one: who has another one every moment would wear out the key, so no more are looked at
        return None if error.reason == seal.BAD_TAG else False
    except StoreError:
        node.log.note("store")
        return False
    except Exception as error:
        node.fault(error)
        return False
    seal = None  # its code is let go of before what follows is loaded
    try:
        for items in once("sealband.commands").act(node, epoch, ctr, plaintext, False, link):
            node.say(REPLY, *items) if items else node.report()
    except Exception as error:
        node.fault(error)
    return True
