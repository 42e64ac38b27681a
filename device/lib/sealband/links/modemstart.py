# A cellular module from without power to an unlocked SIM, and off again. Each step is a generator of pauses in ms and
# bounded in time. Loaded by lte.py while it is needed. Section numbers are of 3GPP TS 27.007.
from micropython import const

from sealband import store as names
from sealband.links.base import LinkError
from sealband.links.modem import checked, entry

_ANSWER_MS = const(5000)
_OFF_WORD_MS = const(10000)
_PIN_MS = const(15000)
_SIM_TRIES = const(10)
_POLL_MS = const(1000)
_SYNC_MS = const(300)
_OFF_MS = const(1000)  # for a supply to be off
_RATES = (115200, 9600)  # what modules are sold with
_REFUSED = const(3)  # of the number in flash: how often the PIN was tried without knowing that it is right
_PIN_TRIES = const(2)
_WRONG = (-1, 12, 16)  # 9.2.2: ERROR without a number, PUK wanted, incorrect password; others, as "busy", say nothing


def _pin(number, value=0):
    from machine import Pin

    return Pin(number, Pin.OUT, value=value)


# A module that answers, whatever it was doing: off, on, asleep in PSM, in a data call. `called`: of ours; one of before
# a reset is rare, and looked for last.
def _wake(modem, bearer, table, called):
    board = bearer.board
    pins = board.MODEM
    if "dtr" in pins:
        _pin(pins["dtr"])  # low: it stays awake
    key = _pin(pins["power_key"])
    board.modem_power(True)
    if (yield from modem.sync(2, called)):
        return
    for left in (1, 0):
        key(1)
        yield pins["power_key_ms"]
        key(0)
        if (yield from modem.sync(int(entry(table, "boot")[0]) // _SYNC_MS)):
            return
        if (yield from modem.sync(1, True) if left else _same_rate(modem, pins["baudrate"])):
            return
        if left:
            # it was on, and deaf: now it is off, or its supply is
            board.modem_power(False)
            yield _OFF_MS
            board.modem_power(True)
    raise LinkError("the modem does not answer")


# A module that was left at another rate is told ours, for good (V.250 6.2.10).
def _same_rate(modem, ours):
    for rate in _RATES:
        modem.uart.init(baudrate=rate)
        if (yield from modem.sync(2)):
            yield from modem.ask("+IPR=%d;&W" % ours)
            break
    modem.uart.init(baudrate=ours)
    return (yield from modem.sync(2))


# Off, by its own word if it can. LinkError: it did not say so, and what else there is was done.
def off(modem, bearer, table):
    text, said, key_ms = entry(table, "off")
    try:
        if not (yield from modem.sync(2, True)):
            raise LinkError("the modem does not answer")
        yield from modem.ask(text, _OFF_WORD_MS, done=said)
        yield _POLL_MS
        bearer.board.modem_power(False)
    except LinkError:
        if not bearer.board.modem_power(False):
            key = _pin(bearer.board.MODEM["power_key"], 1)
            yield int(key_ms)
            key(0)


# 8.3. A PIN is tried once. If it was refused it is never tried again, whatever restarts come between, until another one
# is provisioned; if nobody knows (no answer, power cut), once more. Three wrong ones lock the SIM. Returns what to
# write down when it was right.
def _unlock(modem, table, pin, store):
    from binascii import crc32

    mark = (crc32(checked(pin, None, 4, 8).encode()) & 0x0FFFFFFF) << 2
    held = store.load_number(names.PIN) or 0
    tried = held & 3 if held & ~3 == mark else 0
    if tried >= _PIN_TRIES:
        raise LinkError("the PIN was refused before, and is not tried again")
    text, prefix = entry(table, "pins")
    try:
        left = yield from modem.ask(text, _ANSWER_MS, prefix)
    except LinkError:
        left = ""  # it does not say
    if left[:1] in ("0", "1") and not left[1:2].isdigit():
        raise LinkError("the SIM has no try to spare for its PIN")
    # written down before: the power may fail in between
    store.save_number(names.PIN, mark | tried + 1)
    try:
        yield from modem.ask('+CPIN="%s"' % pin, _PIN_MS)
    except LinkError as error:
        if error.args[-1] in _WRONG:
            store.save_number(names.PIN, mark | _REFUSED)
        raise
    return mark


def _sim(modem, table, pin, store):
    mark = None
    for left in range(_SIM_TRIES, -1, -1):
        try:
            state = yield from modem.ask("+CPIN?", _ANSWER_MS, "+CPIN:")
        except LinkError as error:
            # just after power-on a SIM is missing, busy or has failed, and then is ready
            if not left or error.args[-1] is None:
                raise
            yield _POLL_MS
            continue
        if state == "READY":
            if mark is not None:
                store.save_number(names.PIN, mark)
            return
        if mark is None:
            if state != "SIM PIN" or not pin:
                raise LinkError("the SIM wants a key that was not provisioned")
            if store is None:
                from esp32 import NVS

                store = names.Store(NVS(names.NAMESPACE))
            mark = yield from _unlock(modem, table, pin, store)
        yield _POLL_MS
    store.save_number(names.PIN, mark | _REFUSED)
    raise LinkError("the SIM stays locked")


def on(modem, bearer, table, pin, store, called):
    yield from _wake(modem, bearer, table, called)
    yield from modem.ask("E0")
    yield from modem.ask("+CMEE=1")
    yield from _sim(modem, table, pin, store)
