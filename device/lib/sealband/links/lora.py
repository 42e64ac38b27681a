# LoRa over micropython-lib's `lora` drivers, EU868: one frame on one of three channels, then one receive window on the
# same channel and data rate with inverted IQ. The duty cycle is the ledger's; what to send and when, the node's.
#
# Nothing here blocks: the driver is started and polled, so that sensors are read during a transmission of 2.5 s. The
# driver tells the end of a transmission by its interrupt's time, and the window is aligned to that.
# The driver takes frequencies in kHz. Data rates: WIRE (LoRa) in sealwire/README.md.
import time

from micropython import const

from sealband.links.airtime import Airtime, time_on_air_ms
from sealband.links.base import Link, LinkError
from sealwire import radio

_LATE_MS = const(1000)  # a transmission that takes so much longer than computed has failed
_MARGIN_MS = const(100)  # the receiver is on before and after the window, for the crystal's and our own delays
_POLL_MS = const(20)
_HEADER_SYMBOLS = const(17)  # sync word, start of frame and explicit header, rounded up (SX1261/2 datasheet 6.1.4)

# constructor arguments of the drivers that are pins, by the names of board.RADIO
_PINS = ("busy", "dio0", "dio1", "reset")


_BASE = {
    "freq_khz": radio.EU868_CHANNELS_KHZ[0],
    "sf": 7,
    "bw": str(radio.EU868_BANDWIDTH_KHZ),
    "coding_rate": radio.CODING_RATE,
    "preamble_len": radio.PREAMBLE_LEN,
    "output_power": radio.EU868_POWER_DBM,
    "syncword": radio.SYNC_WORD,
    "crc_en": True,
    "invert_iq_rx": True,
    "invert_iq_tx": False,
}


# The driver's modem for board.RADIO; imported here, so that an application without LoRa needs no driver.
def modem(board):
    import lora
    from machine import SPI, Pin

    board.power()
    parts = board.RADIO
    spi = SPI(
        parts["spi"],
        baudrate=parts["baudrate_hz"],
        sck=Pin(parts["sck"]),
        mosi=Pin(parts["mosi"]),
        miso=Pin(parts["miso"]),
    )
    more = {name: Pin(parts[name]) for name in _PINS if name in parts}
    if parts["chip"] in ("SX1261", "SX1262"):
        more["dio2_rf_sw"] = parts["dio2_rf_sw"]
        if "dio3_tcxo_mv" in parts:
            more["dio3_tcxo_millivolts"] = parts["dio3_tcxo_mv"]
            more["dio3_tcxo_start_time_us"] = 5000
    return getattr(lora, parts["chip"])(spi, Pin(parts["cs"]), lora_cfg=_BASE, **more)


class LoRa(Link):
    name = "lora"
    frame_max = radio.EU868_FRAME_MAX[7]

    # `make` and `ticks_ms` are for tests: the modem of a board, and the clock that its driver tells times by
    def __init__(self, board, make=modem, ticks_ms=time.ticks_ms, grade=1):
        if board.RADIO is None or board.RADIO["region"] != "EU868":
            raise LinkError("the board has no radio for EU868")
        self.grade = grade
        self._board = board
        self._margin_ms = board.RADIO.get("rx_margin_ms", _MARGIN_MS)
        self._make = make
        self._ticks_ms = ticks_ms
        self._modem = None
        self._ledger = None
        self._channel = 0
        self._sf = 7
        self._now_sf = 7  # of the last frame
        self._power_dbm = radio.EU868_POWER_DBM
        self._ended = None  # ticks_ms of the end of the last transmission
        self.rssi = None  # of the last frame heard
        self.errors = 0

    def open(self, store, clock, settings, random):
        if self._ledger is None:
            self._ledger = Airtime(store, clock.uptime, (radio.EU868_DUTY_PERMILLE,))
        # a fleet that wakes together does not meet on one channel
        self._channel = random(len(radio.EU868_CHANNELS_KHZ))
        self._random = random
        self.configure(settings)
        try:
            self._modem = self._make(self._board)
        except Exception as error:
            # the driver, the bus or the board's power supply, each with its own errors
            raise LinkError("no radio: %r" % error)

    # holds from the next frame on
    def configure(self, settings):
        self._sf = settings.spreading_factor
        self._power_dbm = settings.power_dbm
        self.frame_max = radio.EU868_FRAME_MAX[self._sf]

    # The driver failed. Put the chip to sleep if it still obeys, and set it up anew for the next frame: it may have
    # lost its power, and a driver that failed while receiving refuses all settings from then on.
    def _fault(self):
        self.errors += 1
        self._ended = None
        modem, self._modem = self._modem, None
        try:
            modem.sleep()
        except Exception:
            pass  # counted already

    # The data rate for a frame: the set one, or, for one that was sealed for a faster one, the slowest that carries it.
    def _rate(self, frame_len):
        sf = self._sf
        while sf > 7 and frame_len > radio.EU868_FRAME_MAX[sf]:
            sf -= 1
        return sf

    def _airtime_ms(self, frame_len):
        return time_on_air_ms(
            frame_len, self._rate(frame_len), radio.EU868_BANDWIDTH_KHZ, radio.CODING_RATE, radio.PREAMBLE_LEN
        )

    def wait_ms(self, frame_len):
        if frame_len > radio.EU868_FRAME_MAX[7]:
            return None
        return self._ledger.wait_ms(self._airtime_ms(frame_len))

    def send(self, frame):
        self._ended = None
        if len(frame) > radio.EU868_FRAME_MAX[7]:
            return False
        self._now_sf = self._rate(len(frame))
        # another channel each time: one that is jammed or taken costs a third of the frames, not all
        self._channel = (self._channel + 1 + self._random(2)) % len(radio.EU868_CHANNELS_KHZ)
        # whatever the driver raises, it must not end the node's work
        try:
            if self._modem is None:
                self._modem = self._make(self._board)
            self._modem.configure(
                {
                    "sf": self._now_sf,
                    "freq_khz": radio.EU868_CHANNELS_KHZ[self._channel],
                    "output_power": self._power_dbm,
                }
            )
            driver_ms = (self._modem.get_time_on_air_us(len(frame)) + 999) // 1000
            # taken out of the budget before the first symbol, and not given back if the driver fails half way
            if not self._ledger.spend(max(driver_ms, self._airtime_ms(len(frame)))):
                return False
            self._modem.prepare_send(frame)
            self._modem.start_send()
            ended = yield from self._poll(self._modem.poll_send, driver_ms, _LATE_MS)
        except Exception:
            ended = None
        # True: still sending after its time; False: the chip was reset meanwhile, and sent perhaps a part
        if type(ended) is not int:
            self._fault()
            return False
        self._ended = ended
        return True

    # What the driver answers when it no longer answers True: asked first after so long, and then for so long.
    def _poll(self, ask, first_ms, more_ms):
        yield first_ms
        began = self._ticks_ms()
        while True:
            answer = ask()
            if answer is not True or time.ticks_diff(self._ticks_ms(), began) > more_ms:
                return answer
            yield _POLL_MS

    def listen(self):
        if self._ended is None:
            return []
        opens = time.ticks_add(self._ended, radio.RX1_DELAY_MS - self._margin_ms)
        self._ended = None
        while True:
            left_ms = time.ticks_diff(opens, self._ticks_ms())
            if left_ms <= 0:
                break
            yield left_ms
        symbol_us = (1 << self._now_sf) * 1000 // radio.EU868_BANDWIDTH_KHZ
        symbols = radio.PREAMBLE_LEN + radio.RX_WINDOW_SYMBOLS + _HEADER_SYMBOLS
        # it ends when it should, also if it begins late
        window_ms = 2 * self._margin_ms + symbols * symbol_us // 1000 + 1 + left_ms
        packet = None
        try:
            if window_ms > 0:
                self._modem.start_recv(window_ms)
                # a packet whose header came in time may last as long as the longest
                longest_ms = self._airtime_ms(radio.EU868_FRAME_MAX[7])
                packet = yield from self._poll(self._modem.poll_recv, _POLL_MS, window_ms + longest_ms)
            self._modem.sleep()
        except Exception:
            self._fault()
        if packet is True or not packet:
            return []
        self.rssi = packet.rssi
        return [bytes(packet)]

    def airtime_ms(self):
        return self._ledger.used_ms() if self._ledger else 0

    def suspend(self):
        if self._ledger:
            self._ledger.suspend()
