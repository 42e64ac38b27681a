# When to try again, and with what: back-off with jitter, and when the server counts as lost. Pure: sends nothing.
#
# A session is one burst of frames with a receive window after each. A session in which nothing was heard doubles the
# pause. After LOST_AFTER such sessions the server counts as lost: then one hello a session, and at most one event.
from micropython import const

_FIRST_MS = const(15000)
_LONGEST_MS = const(3600000)
LOST_AFTER = const(3)
BURST_MAX = const(16)  # frames a session
UNHEARD_MAX = const(2)  # frames in a row without an answer, then the session ends


class Backoff:
    # `random(n)`: an integer below n; jitter keeps a fleet that lost its server from coming back all at once
    def __init__(self, random):
        self._random = random
        self.failures = 0  # sessions in a row that heard nothing
        self._tries = 0  # sessions in a row that left something to try again
        self._not_before_ms = 0

    @property
    def lost(self):
        return self.failures >= LOST_AFTER

    # A session ended at this uptime. sent: something went out; heard: the server said something, so the pause is short;
    # done: nothing that was tried is left.
    def ended(self, now_ms, sent, heard, done):
        if heard:
            self.failures = self._tries = 0
        elif sent:
            self.failures += 1
        self._tries = 0 if done else self._tries + 1
        if not done:
            pause_ms = min(_LONGEST_MS, _FIRST_MS << min(self._tries - 1, 16))
            self._not_before_ms = now_ms + pause_ms // 2 + self._random(pause_ms)

    # No session for so long, and up to `spread_ms` longer, so that devices that wait for the same do not come together.
    def hold(self, now_ms, wait_ms, spread_ms):
        self._not_before_ms = max(self._not_before_ms, now_ms + wait_ms + self._random(spread_ms))

    # how long until the next session
    def wait_ms(self, now_ms):
        return max(0, self._not_before_ms - now_ms)

    def state(self):
        return [self.failures, self._tries, self._not_before_ms]

    def restore(self, state):
        self.failures, self._tries, self._not_before_ms = state


# The link for a frame of this length: the first that can send it now, else the one that can soonest; (link, wait_ms),
# or (None, None) when no link carries it. `links` are in the application's order of preference.
def choose(links, frame_len):
    best = (None, None)
    for link in links:
        wait_ms = link.wait_ms(frame_len)
        if wait_ms == 0:
            return link, 0
        if wait_ms is not None and (best[1] is None or wait_ms < best[1]):
            best = (link, wait_ms)
    return best
