# The charge that this board has used since the cold start: times that are counted where they pass, and board.POWER's
# currents. Loaded for a status and before deep sleep. Computed, not measured; only what this code knows is in it.
#
#     link.sent_ms, heard_ms     LoRa: on the air, listening
#     link.on_ms                 Wi-Fi, modem: from connecting to the end
#     every.spent_ms             a sensor, while it measures
#     node.spent                 all of it so far, in ms, in the order of sealwire.charge; through deep sleep
from micropython import const

from sealwire import recordids

# sealwire.charge
_BOARD = const(0)
_CHIP = const(1)
_LORA = const(2)
_WIFI = const(3)
_MODEM = const(4)
_GNSS = const(5)
_PULSE = const(6)
_MOTION = const(7)
_SENSORS = const(8)
_PARTS = const(9)
_LORA_RX = const(9)

_HOUR_MS = const(3600000)


# Take over what was counted until now. asleep_ms: so much of the time since the last call the processor slept.
def gather(node, asleep_ms=0):
    spent = node.spent or [0] * (_LORA_RX + 1)
    node.spent = spent
    passed_ms = node.clock.uptime_ms() - spent[_BOARD]
    spent[_BOARD] += passed_ms
    spent[_CHIP] += max(0, passed_ms - asleep_ms)
    for link in node.app.links:
        modem = getattr(link, "name", None) == "lte"
        for name, place in (("sent_ms", _LORA), ("heard_ms", _LORA_RX), ("on_ms", _MODEM if modem else _WIFI)):
            ms = getattr(link, name, 0)
            if ms:
                spent[place] += ms
                setattr(link, name, 0)
    for every in node.sampler.sensors:
        place = _place(every.sensor.records)
        if place:
            spent[place] += every.spent_ms
        every.spent_ms = 0
    if node.watching:
        for watcher in node.watching.watchers:
            # an accelerometer works for as long as it may, whether the processor sleeps or not
            if recordids.STEPS in watcher.records and node.sampler.any(watcher.records):
                spent[_MOTION] += passed_ms


# which part a sensor's readings are counted for; none: it is counted for as long as it is watched
def _place(records):
    if recordids.STEPS in records:
        return None
    if recordids.HEART_RATE in records:
        return _PULSE
    return _GNSS if recordids.LATITUDE in records else _SENSORS


# [[part, microampere hours] ...] of what has used any; None: this board has no figures
def used(node):
    ua = node.board and node.board.POWER
    if not ua:
        return None
    gather(node)
    spent = node.spent
    pairs = []
    for part in range(_PARTS):
        charge = spent[part] * ua[part]
        if part == _LORA:
            charge += spent[_LORA_RX] * ua[_LORA_RX]
        if charge >= _HOUR_MS:
            pairs.append([part, charge // _HOUR_MS])
    return pairs
