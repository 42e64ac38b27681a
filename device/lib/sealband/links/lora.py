# LoRa over micropython-lib's `lora` drivers: one frame on one of the region's channels, then one receive window with
# inverted IQ where the answer is to come. The duty cycle is the ledger's; what to send and when, the node's.
#
# Nothing here blocks: the driver is started and polled, so that sensors are read during a transmission of 2.5 s. The
# driver tells the end of a transmission by its interrupt's time, and the window is aligned to that.
# The driver takes frequencies in kHz. Data rates: WIRE (LoRa) in sealwire/README.md.
import sys
import time

from micropython import const

from sealband.links import rate
from sealband.links.airtime import Airtime, time_on_air_ms
from sealband.links.base import Link, LinkError
from sealwire import radio

_MARGIN_MS = const(100)  # the receiver is on before and after the window, for the crystal's and our own delays
_LATE_MS = const(1000)  # a transmission that takes so much longer than computed has failed
_POLL_MS = const(20)
_TAKEN_MS = const(500)
_CHANNELS_TRIED = const(3)  # where others speak on them
_PACKET_SYMBOLS = const(320)  # more than those of the longest downlink, at any rate
_HEADER_SYMBOLS = const(17)  # sync word, start of frame and explicit header, rounded up (SX1261/2 datasheet 6.1.4)
_BAND_M_KHZ = const(868000)  # ETSI EN 300 220-2: here sub-band M begins; below is L
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
    frame_max = radio.EU868_FRAME_MAX[7]

    # `make` and `ticks_ms` are for tests: the modem of a board, and the clock that its driver tells times by
    def __init__(self, board, make=_modem, ticks_ms=time.ticks_ms, grade=1):
        parts = board.RADIO
        self.region = parts and parts["region"]
        table = radio.region(self.region)
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
            self._rate = rate.begin(min(chosen[0], max(self._longest)), self._power_dbm)
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
            rate.adapt(self._rate, db, max(self._longest), self._power_dbm)
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

    # One of the channels that were not used for the longest time, by chance, so that nobody knows the next one: one
    # that is jammed or taken costs its share of the frames, not all. None: no sub-band has so much left.
    def _hop(self, airtime_ms):
        order = self._order
        first = self._random((len(order) + 1) // 2)
        refused = -1
        for i in range(len(order)):
            at = (first + i) % len(order)
            khz = self.channels[order[at]]
            band = 1 if self._bands > 1 and khz < _BAND_M_KHZ else 0
            if band == refused:
                continue
            # taken out of the budget before the first symbol, and not given back if the driver fails half way
            if self._ledger.spend(airtime_ms, band):
                order[at:] = order[at + 1 :] + order[at : at + 1]
                return khz
            refused = band

    def send(self, frame):
        self._ended = None
        if self.wait_ms(len(frame)) != 0:
            return False
        self._sf, airtime_ms = self._plan(len(frame))
        ended = None
        # whatever the driver raises, it must not end the node's work
        try:
            if self._modem is None:
                self._modem = self._make(self._board)
            modem = self._modem
            clear = False
            for _ in range(_CHANNELS_TRIED):
                self._khz = self._hop(airtime_ms)
                if self._khz is None:
                    return False
                modem.configure({"sf": self._sf, "freq_khz": self._khz, "bw": "125", "output_power": self._rate[1]})
                level_dbm = self._parts.get("lbt_dbm")
                if level_dbm is None:
                    break
                from sealband.links import sense

                clear = yield from sense.clear(modem, level_dbm)
                if clear:
                    break
                self._ledger.give_back(airtime_ms, 1 if self._bands > 1 and self._khz < _BAND_M_KHZ else 0)
            else:
                modem.sleep()
                return False
            modem.prepare_send(frame)
            modem.start_send()
            ended = yield from self.poll(modem.poll_send, airtime_ms, _POLL_MS, _LATE_MS)
        except Exception:
            ended = None
        # True: still sending after its time; False: the chip was reset meanwhile, and sent perhaps a part
        if type(ended) is not int:
            self.fault()
            return False
        self._ended = ended
        self.sent_ms += airtime_ms
        return True

    # What the driver answers when it no longer answers True: asked first after so long, then with pauses, for so long.
    def poll(self, ask, first_ms, pause_ms, more_ms):
        yield first_ms
        began = self._ticks_ms()
        while True:
            answer = ask()
            if answer is not True or time.ticks_diff(self._ticks_ms(), began) > more_ms:
                return answer
            yield pause_ms

    def listen(self):
        if self._ended is None:
            return []
        opens = time.ticks_add(self._ended, radio.RX1_DELAY_MS - self._margin_ms)
        packet = None
        modem = self._modem
        khz, sf, bw_khz = radio.downlink(self.region, self._khz, self._sf, 125)
        symbol_us = (1 << sf) * 1000 // bw_khz
        symbols = radio.PREAMBLE_LEN + radio.RX_WINDOW_SYMBOLS + _HEADER_SYMBOLS
        window_ms = 2 * self._margin_ms + symbols * symbol_us // 1000 + 1
        try:
            if bw_khz != 125:
                modem.configure({"freq_khz": khz, "bw": str(bw_khz)})
            while True:
                left_ms = time.ticks_diff(opens, self._ticks_ms())
                if left_ms <= 0:
                    break
                yield left_ms
            # it ends when it should, also if it begins late
            window_ms += left_ms
            if window_ms > 0:
                modem.start_recv(window_ms)
                # a packet whose header came in time may last as long as the longest
                longest_ms = _PACKET_SYMBOLS * symbol_us // 1000
                pause_ms = _POLL_MS + window_ms // 16
                packet = yield from self.poll(modem.poll_recv, pause_ms, pause_ms, window_ms + longest_ms)
                self.heard_ms += window_ms
            modem.sleep()
        except Exception:
            self.fault()
        finally:
            self._ended = None  # until then wake.py leaves the modem alone
        if packet is True or not packet:
            return []
        self.rssi = packet.rssi
        return [bytes(packet)]

    def airtime_ms(self):
        return sum([self._ledger.used_ms(band) for band in range(self._bands)]) if self._ledger else 0

    def suspend(self):
        if self._ledger:
            self._ledger.suspend()
            self._store.rtc_put("lora", bytes(self._rate) + self._order)
