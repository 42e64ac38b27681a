# What works for as long as the node is awake: parts that are watched, for instance for a fall.
#
#     watcher.records        one of them has to be consented; (): it needs no consent
#     watcher.watch(node)    a generator of pauses in ms, for ever; may call node.event(id, value ...), node.pace(level)
#     watcher.close()        the part off; never raises. watch() may be called anew
from micropython import const

_AGAIN_MS = const(60000)


class Watching:
    def __init__(self, watchers):
        self.watchers = watchers
        # the generator of each; None: it was closed; 0: what a reset left on may be on still
        self._steps = [0 for _ in watchers]
        self._at_ms = [0 for _ in watchers]

    # Let those go on whose time has come: ms until the next one wants to.
    def work(self, node):
        wait_ms = _AGAIN_MS
        now_ms = node.clock.uptime_ms()
        for i, watcher in enumerate(self.watchers):
            if watcher.records and not node.sampler.any(watcher.records):
                self.end(i)
                self._at_ms[i] = 0
                continue
            if self._at_ms[i] <= now_ms:
                self._at_ms[i] = now_ms + self._step(node, i, watcher)
            left_ms = self._at_ms[i] - now_ms
            wait_ms = min(wait_ms, left_ms)
        return wait_ms

    def _step(self, node, i, watcher):
        try:
            if not self._steps[i]:
                if self._steps[i] is None or not node.resumed:
                    # what a part gathered since nobody looked is told after deep sleep only, which set it to gather
                    self._steps[i] = 0
                    self.end(i)
                self._steps[i] = watcher.watch(node)
            return max(1, next(self._steps[i]))
        except Exception:
            # whatever it raises, it ends nothing; it is begun anew a minute later
            self.end(i)
            node.sampler.fail(len(node.sampler.sensors) + i)
            return _AGAIN_MS

    # the part of watcher i off, unless that was done
    def end(self, i):
        steps = self._steps[i]
        if steps is None:
            return
        self._steps[i] = None
        for each in (steps, self.watchers[i]):
            try:
                if each:
                    each.close()
            except Exception:
                pass

    # all parts off
    def close(self):
        for i in range(len(self.watchers)):
            self.end(i)
