# IP over a cellular modem: a bearer for mqtt.py. What stays loaded while the connection is up is this. How a modem is
# brought there is modemstart.py, modemsetup.py and attach.py, one after the other, with the engine and the table of the
# one family that the board names; nothing of it stays.
import sys
import time

from micropython import const

from sealband.links.base import LinkError

_HANG_UP_MS = const(3000)
_HANG_UP_POLL_MS = const(50)
_RX_LEN = const(2048)  # more than a whole packet, which may come while Python is busy
_START = "sealband.links.modemstart"
_SETUP = "sealband.links.modemsetup"
_ATTACH = "sealband.links.attach"
_ENGINE = "sealband.links.modem"
_PROVISION = "sealband.provision"


def _load(name):
    __import__(name)
    return sys.modules[name]


def _drop(name):
    if sys.modules.pop(name, None):
        package, name = name.rsplit(".", 1)
        if hasattr(sys.modules[package], name):
            delattr(sys.modules[package], name)


class LteBearer:
    name = "lte"
    ppp = None
    signal_dbm = None
    told = None  # (the network's time, ticks_ms of it)
    _uart = None
    _rising = False  # up() was begun, and not ended yet: a session may leave it in the middle

    # rat: "cat-m", "nb-iot", "lte" or "any", or None: as the module has it. bands: a tuple of numbers, or ().
    # psm: (seconds between two contacts, seconds awake after each), and then it is left on, asleep; edrx_s: a cycle.
    # wait_s: for a network. urc(line): told what the module says by itself. store, ticks_ms: for tests.
    def __init__(
        self, board, rat=None, bands=(), psm=None, edrx_s=0, wait_s=180, urc=None, store=None, ticks_ms=time.ticks_ms
    ):
        if board.MODEM is None:
            raise LinkError("the board has no modem")
        self.board = board
        self.rat = rat
        self.bands = bands
        self.psm = psm
        self.edrx_s = edrx_s
        self.wait_s = wait_s
        self.ticks_ms = ticks_ms
        self._urc = urc
        self._store = store

    def ready(self):
        return self.ppp is not None and self.ppp.isconnected()

    # The network's time, in seconds since 2025-01-01, or None.
    def time(self):
        if self.told:
            return self.told[0] + time.ticks_diff(self.ticks_ms(), self.told[1]) // 1000

    # On, SIM, network, PPP. LinkError: it did not come up, and is off.
    def up(self):
        if self.ready():
            return
        yield from self._hang_up()
        self.told = None
        self._rising = True
        try:
            held = _load(_PROVISION).load()
            if not held or not held.cellular:
                raise LinkError("no cellular network was provisioned")
            apn, pin, user, password = held.cellular
            called = self._uart is not None
            modem, table = self._modem()
            yield from _load(_START).on(modem, self, table, pin, self._store, called)
            _drop(_START)
            yield from _load(_SETUP).run(modem, self, table, apn)
            _drop(_SETUP)
            yield from _load(_ATTACH).run(modem, self, table, self._uart, user, password)
            self._rising = False
        except Exception as error:
            self._drop()
            yield from self._off()
            raise error if isinstance(error, LinkError) else LinkError("LTE: %r" % error)
        finally:
            self._drop()

    # The session is over. Raises nothing.
    def down(self):
        yield from self._hang_up()
        if not self.psm or self._rising:
            # without a network it would go on looking for one, and not sleep
            yield from self._off()

    def _off(self):
        yield from self._hang_up()
        if self._uart is None:
            return
        try:
            modem, table = self._modem()
            yield from _load(_START).off(modem, self, table)
        except Exception:
            pass  # nothing else can be done; up() finds it in whatever state it is
        finally:
            self._drop()
        self._uart = None

    def _hang_up(self):
        ppp, self.ppp = self.ppp, None
        if ppp is None:
            return
        try:
            if not hasattr(ppp, "disconnect"):
                ppp.active(False)  # before 1.26; waits up to eight seconds by itself
                return
            ppp.disconnect()
            began = self.ticks_ms()
            while ppp.isconnected() and time.ticks_diff(self.ticks_ms(), began) < _HANG_UP_MS:
                yield _HANG_UP_POLL_MS
            # one that does not end in good order would go on reading
            self._uart.irq(None)
        except Exception:
            pass  # it was not up

    # The engine, and the table of the family. The UART is set up anew: PPP has used it.
    def _modem(self):
        from machine import UART

        pins = self.board.MODEM
        self._uart = UART(pins["uart"], baudrate=pins["baudrate"], tx=pins["tx"], rx=pins["rx"], rxbuf=_RX_LEN)
        return _load(_ENGINE).Modem(self._uart, self._urc, self.ticks_ms), _load(pins["profile"]).TABLE

    def _drop(self):
        for name in (_START, _SETUP, _ATTACH, _ENGINE, _PROVISION, self.board.MODEM["profile"]):
            _drop(name)
