# LoRa over micropython-lib's `lora` drivers: what holds from one session to the next. Sending and listening: onair.py.
# The duty cycle is the ledger's; what to send and when, the node's.
# The driver takes frequencies in kHz. Data rates: WIRE (LoRa) in sealwire/README.md.
import sys
import time

from micropython import const

from sealband import once
from sealband.links.airtime import Airtime, time_on_air_ms
from sealband.links.base import Link, LinkError
from sealwire import radio

_MARGIN_MS = const(100)  # the receiver is on before and after the window, for the crystal's and our own delays
_TAKEN_MS = const(500)
_BAND_M_KHZ = const(868000)  # ETSI EN 300 220-2: here sub-band M begins; below is L
_RATE = "sealband.links.rate"
# 47 CFR 15.247 (a)(1)(i): at most 400 ms on a channel in so long. Which channels were used before a start is not known
_OCCUPANCY_MS = const(20000)


# Nothing of the driver is there in an application without LoRa, and nothing of its setting up after that.
def _modem(board):
    from sealband.links import transceiver

    made = transceiver.modem(board)
    del sys.modules["sealband.links.transceiver"]
    delattr(sys.modules["sealband.links"], "transceiver")
    return made


class LoRa(Link):
    name = "lora"
    frame_max = 222  # sealwire.radio: EU868_FRAME_MAX[7]

    # `make` and `ticks_ms` are for tests: the modem of a board, and the clock that its driver tells times by
    def __init__(self, board, make=_modem, ticks_ms=time.ticks_ms, grade=1):
        parts = board.RADIO
        self.region = parts and parts["region"]
        table = once("sealwire.radio").region(self.region)
        if not table:
            raise LinkError("the board has no radio for a region")
        self.grade = grade
        self._board = board
        self._parts = parts
        self.channels, self._permille, self._dwell_ms, self._limit_dbm, self._longest = table
        self.channels = parts.get("channels_khz", self.channels)
        self._margin_ms = parts.get("rx_margin_ms", _MARGIN_MS)
        self._make = make
        self._ticks_ms = ticks_ms
        self._modem = None
        self._ledger = None
        self._settings = self._rate = None
        self._khz = 0  # of the last frame
        self._sf = 7
        self._ended = None  # ticks_ms of the end of the last transmission
        self._way = None  # onair.py, during a session
        self.taken = False  # by who hears downlinks at other times: wake.py
        self.rssi = None  # of the last frame heard
        self.errors = 0

    def open(self, store, clock, settings, random):
        if self._ledger is None:
            self._store = store
            self._clock = clock
            self._random = random
            # EU868's channels lie in two sub-bands, if the board has more than the usual
            bands = 2 if self._permille and min(self.channels) < _BAND_M_KHZ else 1
            self._ledger = Airtime(store, clock.uptime, (self._permille,) * bands)
            self._bands = bands
            self._order = bytearray(range(len(self.channels)))  # the longest unused channels first
            self.configure(settings)
            kept = store.rtc_take("lora")
            if kept and len(kept) == 5 + len(self._order):
                self._order = bytearray(kept[5:])
                if self._adaptive:
                    self._rate = list(kept[:5])
                    self._changed()
        try:
            self._modem = self._make(self._board)
        except Exception as error:
            # the driver, the bus or the board's power supply, each with its own errors
            raise LinkError("no radio: %r" % error)

    # Holds from the next frame on. The set data rate is where adaptation begins.
    def configure(self, settings):
        self._adaptive = settings.adaptive_rate
        self._power_dbm = min(settings.power_dbm, self._limit_dbm)
        chosen = (settings.spreading_factor, self._power_dbm, self._adaptive)
        if chosen != self._settings:
            self._settings = chosen
            self._rate = once(_RATE).begin(min(chosen[0], max(self._longest)), self._power_dbm)
            self._changed()

    def _changed(self):
        # a frame of 51 bytes goes at a faster rate where this one does not carry it
        self.frame_max = max(51, self._longest[self._rate[0]])

    def margin(self, db):
        # of the rate that the frame went out at; what it would be at the rate that is adapted
        self._adapt(db + (self._rate[0] - self._sf) * 5 // 2)

    def silent(self):
        self._adapt(None)

    def _adapt(self, db):
        if self._adaptive:
            once(_RATE).adapt(self._rate, db, max(self._longest), self._power_dbm)
            self._changed()

    # The driver failed. Put the chip to sleep if it still obeys, and set it up anew for the next frame: it may have
    # lost its power, and a driver that failed while receiving refuses all settings from then on.
    def fault(self):
        self.errors += 1
        self._ended = None
        modem, self._modem = self._modem, None
        try:
            modem.sleep()
        except Exception:
            pass  # counted already

    # Spreading factor for a frame and its time on the air: the present one, or, for a frame that was sealed for a
    # faster one, the slowest that carries it; None if none does.
    def _plan(self, frame_len):
        sf = self._rate[0]
        while frame_len > self._longest[sf]:
            sf -= 1
            if sf < 7:
                return None, 0
        return sf, time_on_air_ms(frame_len, sf, 125, radio.CODING_RATE, radio.PREAMBLE_LEN)

    # until one of the sub-bands has so much left
    def wait_ms(self, frame_len):
        sf, airtime_ms = self._plan(frame_len)
        if sf is None:
            return None
        wait_ms = self._ledger.wait_ms(airtime_ms)
        if self._bands > 1:
            wait_ms = min(wait_ms, self._ledger.wait_ms(airtime_ms, 1))
        if self._dwell_ms and len(self.channels) >= 8:
            wait_ms = max(wait_ms, _OCCUPANCY_MS - self._clock.uptime() * 1000)
        return max(wait_ms, _TAKEN_MS) if self.taken else wait_ms

    # of the sub-band that has most left
    def spare(self, frame_len):
        budget_ms = 3600 * self._permille
        if not budget_ms:
            return 1000
        used_ms = self._plan(frame_len)[1] + min([self._ledger.used_ms(band) for band in range(self._bands)])
        return max(0, 1000 - 1000 * used_ms // budget_ms)

    def energy_mj(self, frame_len):
        airtime_ms = self._plan(frame_len)[1]
        window_ms = 2 * self._margin_ms + airtime_ms // 2
        return (airtime_ms * self._parts.get("tx_mw", 300) + window_ms * self._parts.get("rx_mw", 20)) // 1000

    # what sends and listens: loaded for a session
    def _air(self):
        if self._way is None:
            self._way = once("sealband.links.onair")
        return self._way

    def send(self, frame):
        return self._air().send(self, frame)

    def listen(self):
        return self._air().listen(self)

    # the session is over
    def rest(self):
        self._way = None

    # What the driver answers when it no longer answers True: asked first after so long, then with pauses, for so long.
    def poll(self, ask, first_ms, pause_ms, more_ms):
        yield first_ms
        began = self._ticks_ms()
        while True:
            answer = ask()
            if answer is not True or time.ticks_diff(self._ticks_ms(), began) > more_ms:
                return answer
            yield pause_ms

    def airtime_ms(self):
        return sum([self._ledger.used_ms(band) for band in range(self._bands)]) if self._ledger else 0

    def suspend(self):
        if self._ledger:
            self._ledger.suspend()
            self._store.rtc_put("lora", bytes(self._rate) + self._order)
