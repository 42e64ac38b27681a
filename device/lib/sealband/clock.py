# Message time: whole seconds since 2025-01-01 UTC, and a monotonic uptime that goes on through deep sleep.
#
# The chip's own clock is believed for durations only: after a cold start it stands in 2000 or 1970, and whoever is on
# the serial port may set it. Until the first sync now() counts on from the last time that was surely past, `valid` is
# false, and no telemetry is to be sealed. The chip's epoch (1970 or 2000) does not matter, since it is never used.
import time

from micropython import const

from sealband import store as names
from sealband.errors import StoreError

_NOTE_EVERY_S = const(3600)  # how often the lower bound is written to flash
_DRIFT_PERMILLE = const(50)  # a sleeping ESP32 counts with an RC oscillator, 5 % at worst
_SLACK_S = const(60)
_AGREE_S = const(5)
_TIME_MAX = const(0x7FFFFFFF)


class Clock:
    # ticks_ms and system_s are the sources; tests pass their own
    def __init__(self, store, ticks_ms=time.ticks_ms, system_s=time.time):
        self._store = store
        self._ticks_ms = ticks_ms
        self._system_s = system_s
        self._last_ticks = ticks_ms()
        self._uptime_ms = 0
        self._floor = store.load_number(names.CLOCK) or 0
        self._noted = self._floor
        self._offset = self._floor  # now() - uptime
        self._synced_at = 0  # uptime of the last sync
        self._doubtful = None  # (uptime, t, following) of a sync that would turn time back
        self.valid = False

    # Monotonic milliseconds since the cold start. Must be called once in six days (ticks_ms wraps).
    def uptime_ms(self):
        ticks = self._ticks_ms()
        self._uptime_ms += max(0, time.ticks_diff(ticks, self._last_ticks))
        self._last_ticks = ticks
        return self._uptime_ms

    def uptime(self):
        return self.uptime_ms() // 1000

    # The time; while not valid, a time that is surely past, counted on.
    def now(self):
        return self.uptime() + self._offset

    # The server's time, from a downlink that was authenticated. By how many seconds time moved, or None: not believed,
    # since it would turn time back. A delayed sync could do that; a second one that agrees with it is believed, if it
    # was made later than the first one came: it acknowledges a frame that was sealed since. stored, following: places
    # in the chain, of the newest frame that the server had and of the next one that is sealed here.
    def sync(self, t, stored=0, following=0):
        uptime = self.uptime()
        moved = t - self.now()
        if not 0 < t <= _TIME_MAX:
            return None
        slack = _SLACK_S
        if self.valid:
            slack += (uptime - self._synced_at) * _DRIFT_PERMILLE // 1000
        elif t < self._floor:
            slack = 0
        else:
            slack = _TIME_MAX  # nothing is known but the lower bound
        if moved < -slack and not self._confirmed(uptime, t, stored):
            self._doubtful = (uptime, t, following)
            return None
        self._doubtful = None
        self._offset += moved
        self._synced_at = uptime
        self.valid = True
        if t - self._noted >= _NOTE_EVERY_S or t < self._noted:
            self._note(t)
        return moved

    # The time of a statement that was under way for anybody knows how long: surely past, no more, so it turns nothing
    # back. start: there is nobody else to ask, so it will have to do.
    def past(self, t, start):
        if not 0 < t <= _TIME_MAX:
            return None
        moved = max(0, t - self.now())
        self._offset += moved
        self.valid = self.valid or start
        return moved

    def _confirmed(self, uptime, t, stored):
        if self._doubtful is None:
            return False
        passed = uptime - self._doubtful[0]
        agree_s = _AGREE_S + passed * _DRIFT_PERMILLE // 1000
        return passed > _AGREE_S and abs(t - self._doubtful[1] - passed) <= agree_s and stored >= self._doubtful[2]

    def _note(self, t):
        try:
            self._store.save_number(names.CLOCK, t)
        except StoreError:
            return  # tried again with the next sync; an older bound holds too
        self._noted = self._floor = t

    # what goes on after deep sleep
    def state(self):
        uptime_ms = self.uptime_ms()
        return [uptime_ms, int(self._system_s()), self._offset, self._synced_at, self.valid, self._doubtful]

    # After deep sleep, during which only the chip's clock ran. For how many ms it slept, as far as is known.
    def restore(self, state):
        self._uptime_ms, slept_at, self._offset, self._synced_at, self.valid, self._doubtful = state
        passed_ms = max(0, int(self._system_s()) - slept_at) * 1000
        self._uptime_ms += passed_ms
        self._last_ticks = self._ticks_ms()  # since the start
        return max(0, passed_ms - self._last_ticks)
