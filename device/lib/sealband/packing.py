# How samples are packed into a telemetry plaintext that fills a frame. Loaded for each.
#
#     telemetry  0, t0, then series [record, dt, v0, d1, d2 ...]; all series of a frame start at t0
#
# A series with one sample says dt = 0. Missing samples inside a series are null and cost a byte each.
from micropython import const

from sealband.crypto import cbor
from sealwire import messages

_NONE = const(-0x80000000)  # as batch.py: no sample
_SPLIT_MIN = const(4)  # a smaller piece of a series is not worth its head
_HEAD_LEN = const(6)  # message type and t0


# The plaintext of one frame, of these series' samples before `limit` (None: all), or None when there are none; and what
# is in it: [(series, samples)].
def take(several, plaintext_max, limit):
    ready = []
    for series in several:
        if series.before(limit):
            ready.append(series)
    if not ready:
        return None, ()
    t0 = min([series.t for series in ready])
    room = plaintext_max - _HEAD_LEN
    # Short series first and whole; the longest takes what room is left. So a frame is full, and few are split.
    sized = []
    for i, series in enumerate(ready):
        if series.t == t0:
            sized.append((series.fit(1 << 20, series.before(limit))[0], i))
    sized.sort()
    taken = []
    for _, i in sized:
        series = ready[i]
        size, count = series.fit(room, series.before(limit))
        if not count or (taken and count < min(_SPLIT_MIN, series.before(limit))):
            continue
        taken.append((series, count))
        room -= size
    if not taken:
        raise ValueError("a plaintext of %d bytes holds no sample" % plaintext_max)
    plaintext = cbor.encode(messages.TELEMETRY) + cbor.encode(t0)
    for series, count in taken:
        plaintext += cbor.encode(item(series, count))
    return plaintext, taken


# the CBOR array of a series's first `count` samples, which end with a value
def item(series, count):
    items = [series.record, series.dt if count > 1 else 0]
    last = 0
    for i in range(count):
        value = series.values[i]
        if value == _NONE:
            items.append(None)
        else:
            items.append(value - last)
            last = value
    return items
