# The duty-cycle ledger: airtime spent in each sub-band within the last hour. Refuses before anything is transmitted;
# transmits nothing itself.
#
# Spent airtime is kept in buckets of a minute. A bucket counts until all of it is out of the window, and the window is
# 5 % longer than the regulation's hour, because that hour is measured with the clock of a sleeping ESP32. So the ledger
# may say more than was spent, never less.
#
# Deep sleep: the buckets go through RTC memory. Power cut: NVS keeps `reserved`, which is committed before more than it
# is spent, so after a cold start the ledger takes all of it as spent just now. Cutting the power gains no airtime.
import struct
from array import array

from micropython import const

from sealband import store as names
from sealband.errors import StoreError

_BUCKET_S = const(60)
_BUCKETS = const(64)  # the present minute and the 63 before it
_HOUR_MS = const(3600000)
_STEP_MS = const(1000)  # how far ahead is reserved at a time
_PERMILLE_MAX = const(16)  # a bucket has 16 bits, and must hold the whole budget after a cold start
_STATE_LEN = const(4 + 2 * 64)  # of a band in RTC memory, which only this chip reads: in its own byte order


# Time on air in ms, rounded up: explicit header, CRC (SX1261/2 datasheet 6.1.4; the same in SX1276's 4.1.1.6).
def time_on_air_ms(frame_len, sf, bandwidth_khz, coding_rate, preamble_len):
    symbol_us = (1 << sf) * 1000 // bandwidth_khz
    slow = 1 if symbol_us >= 16000 else 0  # low data rate optimisation
    bits = max(0, 8 * frame_len + 16 - 4 * sf + 8 + 20)
    per_symbol = 4 * (sf - 2 * slow)
    quarters = 4 * (preamble_len + 8 + (bits + per_symbol - 1) // per_symbol * coding_rate) + 17
    return (quarters * symbol_us // 4 + 999) // 1000


class Airtime:
    # `permille`: the duty cycle of each sub-band, by its number; 0: none, then this only counts
    def __init__(self, store, uptime, permille):
        self._store = store
        self._uptime = uptime  # a function: monotonic seconds, also through deep sleep
        self._budget_ms = [_HOUR_MS * share // 1000 for share in permille]
        if max(permille) > _PERMILLE_MAX:
            raise ValueError("a duty cycle of at most %d permille" % _PERMILLE_MAX)
        self._spent = [array("H", bytes(2 * _BUCKETS)) for _ in permille]  # ms in a minute
        self._reserved = [0] * len(permille)
        self._minute = uptime() // _BUCKET_S
        if not self._resume():
            self._cold_start()

    def _resume(self):
        state = self._store.rtc_take("air")
        if not state or len(state) != 4 + _STATE_LEN * len(self._spent):
            return False
        minute = struct.unpack(">I", state)[0]
        if minute > self._minute:
            return False  # uptime did not go on
        self._minute = minute
        for band in range(len(self._spent)):
            at = 4 + _STATE_LEN * band
            self._reserved[band] = struct.unpack_from(">I", state, at)[0]
            self._spent[band] = array("H", state[at + 4 : at + _STATE_LEN])
        return True

    def _cold_start(self):
        record = self._store.load(names.AIRTIME)
        for band in range(len(self._spent)):
            if record is None:
                continue  # a new board: nothing was ever sent
            reserved = self._budget_ms[band]  # of another version: wait an hour
            if len(record) == 4 * len(self._spent):
                reserved = min(reserved, struct.unpack_from(">I", record, 4 * band)[0])
            self._reserved[band] = reserved
            self._put(band, reserved)

    # into the present minute's bucket
    def _put(self, band, ms):
        self._spent[band][self._minute % _BUCKETS] += ms

    def _roll(self):
        minute = self._uptime() // _BUCKET_S
        for passed in range(self._minute + 1, min(minute, self._minute + _BUCKETS) + 1):
            for spent in self._spent:
                spent[passed % _BUCKETS] = 0
        self._minute = max(minute, self._minute)

    # ms spent in the window
    def used_ms(self, band=0):
        self._roll()
        return sum(self._spent[band])

    # How long until so much may be sent: 0 now, None never.
    def wait_ms(self, airtime_ms, band=0):
        budget = self._budget_ms[band] - airtime_ms
        if not self._budget_ms[band]:
            return 0
        if budget < 0:
            return None
        used = self.used_ms(band)
        spent = self._spent[band]
        wait_ms = 0
        for age in range(_BUCKETS - 1, -1, -1):
            if used <= budget:
                break
            # this bucket has to leave the window first
            used -= spent[(self._minute - age) % _BUCKETS]
            wait_ms = max(1, ((self._minute - age + _BUCKETS) * _BUCKET_S - self._uptime()) * 1000)
        return wait_ms

    # Take so much out of the budget; False: it may not be sent. Committed before True is returned.
    def spend(self, airtime_ms, band=0):
        if self.wait_ms(airtime_ms, band) != 0:
            return False
        used = self.used_ms(band) + airtime_ms
        left = self._reserved[band] - used
        if self._budget_ms[band] and not 0 <= left <= 4 * _STEP_MS:
            before = self._reserved[band]
            self._reserved[band] = used + _STEP_MS
            try:
                self._store.save(names.AIRTIME, struct.pack(">%dI" % len(self._reserved), *self._reserved))
            except StoreError:
                self._reserved[band] = before
                return False
        self._put(band, airtime_ms)
        return True

    # What was taken out just now, and not sent. Of a minute ago already: it stays.
    def give_back(self, airtime_ms, band=0):
        spent = self._spent[band]
        at = self._minute % _BUCKETS
        spent[at] = max(0, spent[at] - airtime_ms)

    # for deep sleep
    def suspend(self):
        self._roll()
        state = struct.pack(">I", self._minute)
        for band, spent in enumerate(self._spent):
            state += struct.pack(">I", self._reserved[band]) + bytes(spent)
        self._store.rtc_put("air", state)
