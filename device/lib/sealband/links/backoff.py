# When a link is to be tried again. A session in which nothing was heard over it doubles the pause.
from micropython import const

_FIRST_MS = const(15000)
_LONGEST_MS = const(3600000)
_EVENT_MS = const(240000)  # of a pause, while an event waits
_LOST_AFTER = const(3)


class Backoff:
    # `random(n)`: an integer below n; jitter keeps a fleet that lost its server from coming back all at once
    def __init__(self, random):
        self._random = random
        self.failures = 0  # sessions in a row in which something went out and nothing was heard
        self.tries = 0  # sessions in a row that left something to try again
        self.not_before_ms = self.event_ms = 0

    @property
    def lost(self):
        return self.failures >= _LOST_AFTER

    # A session ended at this uptime. sent: something went out; heard: the server said something, so the pause is short;
    # done: nothing that was tried is left.
    def ended(self, now_ms, sent, heard, done):
        if heard:
            self.failures = self.tries = 0
        elif sent:
            self.failures += 1
        self.tries = 0 if done else self.tries + 1
        if not done:
            pause_ms = min(_LONGEST_MS, _FIRST_MS << min(self.tries - 1, 16))
            self.not_before_ms = now_ms + pause_ms // 2 + self._random(pause_ms)
            self.event_ms = min(self.not_before_ms, now_ms + _EVENT_MS // 2 + self._random(_EVENT_MS))
        elif heard:
            # an event got through before the pause was over: what waits need not wait for its end
            self.not_before_ms = self.event_ms = now_ms

    # How long until the next session. For an event it is never much longer than the first pauses.
    def wait_ms(self, now_ms, event=False):
        return max(0, (self.event_ms if event else self.not_before_ms) - now_ms)
