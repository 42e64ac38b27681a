# LoRa over micropython-lib's `lora` drivers, EU868: one frame on one of three channels, then one receive window on the
# same channel and data rate with inverted IQ. The duty cycle is the ledger's; what to send and when, the node's.
#
# The driver takes frequencies in kHz and blocks for a packet's airtime. Data rates: WIRE (LoRa) in sealwire/README.md.
import time

from micropython import const

from sealband.links.airtime import Airtime
from sealband.links.base import Link, LinkError
from sealwire import radio

_EARLY_MS = const(60)  # the receiver is on before the window, for the start of the crystal and our own delay
_WINDOW_MS = const(300)  # beyond the symbols that have to be heard, for the gateway's and our own timing
_HEADER_SYMBOLS = const(17)  # sync word, start of frame and explicit header, rounded up (SX1261/2 datasheet 6.1.4)

# constructor arguments of the drivers that are pins, by the names of board.RADIO
_PINS = ("busy", "dio0", "dio1", "reset")


# The driver's modem for board.RADIO; imported here, so that an application without LoRa needs no driver.
def modem(parts):
    import lora
    from machine import SPI, Pin

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


class LoRa(Link):
    name = "lora"

    # `window_ms` widens the receive window where timing is worse than a crystal's; `make` is for other modems
    def __init__(self, board, window_ms=_WINDOW_MS, make=modem):
        if board.RADIO is None or board.RADIO["region"] != "EU868":
            raise LinkError("the board has no radio for EU868")
        self._parts = board.RADIO
        self._window_ms = window_ms
        self._make = make
        self._modem = None
        self._ledger = None
        self._channel = 0
        self._sf = 7
        self._now_sf = 7  # what the modem is set to
        self._ended = None  # ticks_ms of the end of the last transmission
        self.rssi = None  # of the last frame heard
        self.errors = 0

    def open(self, store, clock, settings):
        self._ledger = Airtime(store, clock.uptime, (radio.EU868_DUTY_PERMILLE,))
        # a fleet that wakes together does not meet on one channel
        self._channel = settings.random(len(radio.EU868_CHANNELS_KHZ))
        self._random = settings.random
        try:
            self._modem = self._make(self._parts)
        except (OSError, RuntimeError, ValueError) as error:
            raise LinkError("no radio: %s" % error)
        self.configure(settings)

    def configure(self, settings):
        self._sf = settings.spreading_factor
        self._now_sf = self._sf
        self.frame_max = radio.EU868_FRAME_MAX[self._sf]
        self._modem.configure({"sf": self._sf, "output_power": settings.power_dbm})

    # The data rate for a frame: the set one, or, for one that was sealed for a faster one, the slowest that carries it.
    def _rate(self, frame_len):
        sf = self._sf
        while sf > 7 and frame_len > radio.EU868_FRAME_MAX[sf]:
            sf -= 1
        if sf != self._now_sf:
            self._modem.configure({"sf": sf})
            self._now_sf = sf
        return sf

    def _time_on_air_ms(self, frame_len):
        self._rate(frame_len)
        return self._modem.get_time_on_air_us(frame_len) // 1000 + 1

    def wait_ms(self, frame_len):
        if self._modem is None or frame_len > radio.EU868_FRAME_MAX[7]:
            return None
        return self._ledger.wait_ms(self._time_on_air_ms(frame_len))

    def send(self, frame):
        if self._modem is None or len(frame) > radio.EU868_FRAME_MAX[7]:
            return False
        if not self._ledger.spend(self._time_on_air_ms(len(frame))):
            return False
        # another channel each time: one that is jammed or taken costs a third of the frames, not all
        self._channel = (self._channel + 1 + self._random(2)) % len(radio.EU868_CHANNELS_KHZ)
        try:
            self._modem.configure({"freq_khz": radio.EU868_CHANNELS_KHZ[self._channel]})
            self._ended = self._modem.send(frame)
        except (OSError, RuntimeError):
            self.errors += 1
            self._ended = None
            return False
        return True

    def opens_ms(self):
        if self._ended is None:
            return 0
        opens = time.ticks_add(self._ended, radio.RX1_DELAY_MS - _EARLY_MS)
        return max(0, time.ticks_diff(opens, time.ticks_ms()))

    def listen(self):
        if self._ended is None:
            return []
        self._ended = None
        symbol_us = (1 << self._now_sf) * 1000 // radio.EU868_BANDWIDTH_KHZ
        symbols = radio.PREAMBLE_LEN + radio.RX_WINDOW_SYMBOLS + _HEADER_SYMBOLS
        window_ms = _EARLY_MS + self._window_ms + symbols * symbol_us // 1000
        try:
            packet = self._modem.recv(timeout_ms=window_ms)
            self._modem.sleep()
        except (OSError, RuntimeError):
            self.errors += 1
            return []
        if packet is None:
            return []
        self.rssi = packet.rssi
        return [bytes(packet)]

    def airtime_ms(self):
        return self._ledger.used_ms() if self._ledger else 0

    def suspend(self):
        if self._ledger:
            self._ledger.suspend()
