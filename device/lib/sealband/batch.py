# Samples that are not sealed yet; packing.py makes telemetry plaintexts of them that fill frames. Knows no clock,
# no keys and no flash; times are whatever the caller counts in, as long as shift() is called when that changes.
from array import array

from micropython import const

from sealband import once

_NONE = const(-0x80000000)  # in an array of 32-bit values: no sample
_VALUE_MAX = const(0x7FFFFFFF)
_GAP_MAX = const(24)  # so many nulls cost about what a frame of its own would
_HEAD_LEN = const(6)  # message type and t0
_SAMPLES_MAX = const(1200)


# how many bytes CBOR needs for an integer
def int_len(value):
    if value < 0:
        value = -1 - value
    if value < 24:
        return 1
    if value < 0x100:
        return 2
    if value < 0x10000:
        return 3
    return 5 if value <= 0xFFFFFFFF else 9


class Series:
    # evenly spaced samples of one record; begins and ends with a value

    def __init__(self, record, dt, t, value):
        self.record = record
        self.dt = dt
        self.t = t
        self.values = array("i", (value,))

    # whether a sample at this time carries the series on
    def follows(self, t):
        late = t - self.t - len(self.values) * self.dt
        return self.dt > 0 and late >= 0 and late % self.dt == 0 and late // self.dt <= _GAP_MAX

    def append(self, t, value):
        for _ in range((t - self.t) // self.dt - len(self.values)):
            self.values.append(_NONE)
        self.values.append(value)

    # samples before this time
    def before(self, limit):
        if limit is None:
            return len(self.values)
        if limit <= self.t:
            return 0
        return min(len(self.values), (limit - 1 - self.t) // (self.dt or 1) + 1)

    # (bytes, samples): of its first `count` samples, so many fit into `room` and need so many bytes
    def fit(self, room, count):
        size = int_len(self.record) + int_len(self.dt if count > 1 else 0)
        last = 0
        best = (0, 0)
        for i in range(count):
            value = self.values[i]
            if value == _NONE:
                size += 1
                continue
            size += int_len(value - last)
            last = value
            whole = size + int_len(i + 3)  # a CBOR array's head is as long as its count as an integer
            if whole > room:
                break
            best = (whole, i + 1)
        return best

    # without its first `count` samples and the nulls after them; False: nothing is left
    def cut(self, count):
        while count < len(self.values) and self.values[count] == _NONE:
            count += 1
        self.values = self.values[count:]
        self.t += count * self.dt
        return len(self.values) > 0


class Batch:
    def __init__(self):
        self.series = []
        self._taken = ()  # (series, samples) of the plaintext that was built last
        self.lost = 0  # samples that did not fit, since the cold start

    # number of samples, nulls included
    def __len__(self):
        count = 0
        for series in self.series:
            count += len(series.values)
        return count

    # one sample; `dt` is the record's period in seconds. False: it is no 32-bit value.
    def add(self, record, dt, t, value):
        if not -_VALUE_MAX <= value <= _VALUE_MAX:
            return False
        if len(self) >= _SAMPLES_MAX:
            self.lose()
        for series in self.series:
            if series.record == record and series.dt == dt and series.follows(t):
                series.append(t, value)
                return True
        self.series.append(Series(record, dt, t, value))
        return True

    # the oldest series gives way, a part at a time
    def lose(self):
        series = self._oldest(self.series)
        count = min(len(series.values), _SAMPLES_MAX // 8)
        for value in series.values[:count]:
            if value != _NONE:
                self.lost += 1
        if not series.cut(count):
            self.series.remove(series)
        self._taken = ()

    def _oldest(self, several):
        oldest = several[0]
        for series in several:
            if series.t < oldest.t:
                oldest = series
        return oldest

    # all times by so much later: the clock was put right
    def shift(self, seconds):
        for series in self.series:
            series.t += seconds

    # The plaintext of one frame, of samples before `limit` (None: all), or None when there are none. What is in it
    # stays in the batch until drop_taken().
    def take(self, plaintext_max, limit=None):
        plaintext, self._taken = once("sealband.packing").take(self.series, plaintext_max, limit)
        return plaintext

    # The time up to which the samples nearly fill a frame, from which all its series go on together; None: not yet.
    def full(self, plaintext_max):
        if not self.series:
            return None
        t0 = self._oldest(self.series).t
        first = [series for series in self.series if series.t == t0]
        dt = 1
        end = t0
        for series in first:
            if len(series.values) > 1:
                dt = max(dt, series.dt)
            end = max(end, series.t + (len(series.values) - 1) * series.dt)
        limit = end // dt * dt
        size = _HEAD_LEN
        for series in first:
            size += series.fit(1 << 20, series.before(limit))[0]
        return limit if size > plaintext_max - (plaintext_max >> 3) else None

    # forget what the last plaintext holds: it is sealed and queued
    def drop_taken(self):
        for series, count in self._taken:
            if not series.cut(count):
                self.series.remove(series)
        self._taken = ()
