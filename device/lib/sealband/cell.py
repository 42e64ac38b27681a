# What the cell still allows. Loaded when a reading matters, and at a start that may be one of a failing cell.
#
#     0  all
#     1  low, below board.BATTERY["low_mv"]: the node samples and sends less often, without GNSS and LTE
#     2  empty, below "empty_mv": everything is sealed and saved, then the board sleeps and looks again every hour
#
# It counts as recovered from either 100 mV above it, so nothing flaps. What was told (event 3) is in NVS, so it is
# told once for each discharge, whatever restarts come between. MicroPython reports a reset by the brown-out detector as
# a power-on (ESP_RST_BROWNOUT is PWRON_RESET; on some chips it comes as a watchdog's), so after any of these the cell
# has to be measured good before the node works as usual.
import machine
from micropython import const

from sealband import once
from sealband.errors import StoreError
from sealband.store import CELL, SECTIONS

_LOW_BATTERY = const(3)  # sealwire.names.EVENTS
_RECOVERED_MV = const(100)
_LOOK_EVERY_MS = const(3600000)

# in NVS: nothing was told, it was told; then the same of an empty cell
_TOLD = const(1)
_EMPTY_TOLD = const(2)
_EMPTY = const(3)


# What a cell of so many mV allows, if it allowed `low` before.
def allows(battery, mv, low):
    if mv < battery["empty_mv"] + (_RECOVERED_MV if low > 1 else 0):
        return 2
    return 1 if mv < battery["low_mv"] + (_RECOVERED_MV if low else 0) else 0


# A reading that may change what the cell allows.
def judge(node, mv):
    battery = node.board.BATTERY
    store = node.store
    low = allows(battery, mv, node.low)
    if low > 1 and node.sampler.held:
        return  # a radio pulls it down: the next reading tells
    told = store.load_number(CELL)
    if mv < battery["low_mv"] and not told and node.event(_LOW_BATTERY, mv):
        told = _TOLD
    node.low = low
    if low > 1:
        _save(store, _EMPTY_TOLD if told else _EMPTY)
        _end(node)
    else:
        _save(store, told if low else 0)


# The number is a hint for the next start: without it that start measures.
def _save(store, number):
    if (store.load_number(CELL) or 0) != (number or 0):
        try:
            store.save_number(CELL, number or 0)
        except StoreError:
            pass


# Everything off, saved, and to sleep.
def _end(node):
    if node.watching:
        node.watching.close()
    for every in node.sampler.sensors:
        if every.busy:
            try:
                every.sensor.stop()
            except Exception:
                pass
    node.log.note("empty")
    sleep = once("sealband.sleep")
    if node.clock.valid:
        node.seal_batch(None)
    sleep.suspend(node)
    machine.deepsleep(_LOOK_EVERY_MS)


# The start of a board whose cell was low, or that was reset as by a failing one: what the cell allows, 0 or 1. An empty
# one does not come back from here, but sleeps on with all that it kept.
def begin(records, board):
    number = records.load_number(CELL) or 0
    mv = None
    if board.BATTERY:
        try:
            mv = once("sealband.sensors.battery").sensor(board).read()[0]
        except Exception:
            pass  # SensorError as a rule; whatever it is, a board that cannot measure its cell has to work
    if mv is None:
        return 1 if number else 0
    low = allows(board.BATTERY, mv, 2 if number > _TOLD else 1)
    if low > 1:
        _save(records, number if number > _TOLD else _EMPTY_TOLD if number else _EMPTY)
        for section in SECTIONS:
            kept = records.rtc_take(section)
            if kept:
                records.rtc_put(section, kept)
        records.rtc_flush()
        machine.deepsleep(_LOOK_EVERY_MS)
    _save(records, _TOLD if low and number in (_TOLD, _EMPTY_TOLD) else 0)
    return low
