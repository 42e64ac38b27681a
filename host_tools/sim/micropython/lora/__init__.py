# `lora` at the API of micropython-lib's driver: SX1261/SX1262 and SX1276 to SX1279, synchronous. In place of a chip
# behind SPI there is the simulated ether, which the supervisor talks to. Airtime is computed here, as the driver does.
import struct
import time

from _link import call as _call
from micropython import const

_SF_MIN = const(6)
_BW_HZ = {
    "7.8": 7800, "10.4": 10400, "15.6": 15600, "20.8": 20800, "31.25": 31250,
    "41.7": 41700, "62.5": 62500, "125": 125000, "250": 250000, "500": 500000,
}  # fmt: skip


class ConfigError(ValueError):
    def __init__(self, field):
        super().__init__("Invalid lora_cfg {}".format(field))


class RxPacket(bytearray):
    # a received packet; snr in quarters of a dB, as the chips report it
    def __init__(self, payload, ticks_ms=None, snr=None, rssi=None, valid_crc=True):
        super().__init__(payload)
        self.ticks_ms = ticks_ms
        self.snr = snr
        self.rssi = rssi
        self.valid_crc = valid_crc


class BaseModem:
    _syncword = 0x12  # both chips' value after reset: private networks

    def __init__(self, lora_cfg, ant_sw):
        self._ant_sw = ant_sw
        self._freq_hz = 0
        self._sf = 7
        self._bw_hz = 125000
        self._coding_rate = 5
        self._preamble_len = 12
        self._crc_en = True
        self._implicit_header = False
        self._invert_iq_rx = False
        self._invert_iq_tx = False
        self._output_power = 14
        self._rx = False
        self._tx = None  # when the packet on the air ends, virtual nanoseconds
        self._packet = None
        self.crc_errors = 0
        self.rx_crc_error = False
        if lora_cfg:
            self.configure(lora_cfg)

    def configure(self, lora_cfg):
        if self._rx:
            raise RuntimeError("Receiving")
        get = lora_cfg.get
        freq_hz = int(get("freq_khz", self._freq_hz / 1000) * 1000)
        if "freq_khz" in lora_cfg and not 100000000 <= freq_hz <= 1100000000:
            raise ConfigError("freq_khz")
        sf = int(get("sf", self._sf))
        if not _SF_MIN <= sf <= 12:
            raise ConfigError("sf")
        coding_rate = int(get("coding_rate", self._coding_rate))
        if not 5 <= coding_rate <= 8:
            raise ConfigError("coding_rate")
        if "bw" in lora_cfg:
            self._bw_hz = _BW_HZ[str(lora_cfg["bw"])]
        self._freq_hz, self._sf, self._coding_rate = freq_hz, sf, coding_rate
        self._preamble_len = get("preamble_len", self._preamble_len)
        self._crc_en = get("crc_en", self._crc_en)
        self._implicit_header = get("implicit_header", self._implicit_header)
        self._invert_iq_rx = get("invert_iq_rx", self._invert_iq_rx)
        self._invert_iq_tx = get("invert_iq_tx", self._invert_iq_tx)
        self._output_power = get("output_power", self._output_power)
        self._syncword = get("syncword", self._syncword)

    def _params(self, invert_iq):
        flags = self._crc_en | invert_iq << 1 | self._implicit_header << 2
        return struct.pack(
            ">IBIBHBbH",
            self._freq_hz,
            self._sf,
            self._bw_hz,
            self._coding_rate,
            self._preamble_len,
            flags,
            self._output_power,
            self._syncword,
        )

    # time on the air

    def _get_t_sym_us(self):
        return 1000000 * (1 << self._sf) // self._bw_hz

    def _get_ldr_en(self):
        # low data rate optimisation, from a symbol length of 16 ms on
        return self._get_t_sym_us() >= 16000

    def _symbol_offsets(self):
        return (0, 0)

    def get_n_symbols_x4(self, payload_len):
        # SX1261/2 datasheet 6.1.4, in quarters of a symbol
        symbols, bits = self._symbol_offsets()
        bits += 8 * payload_len + 16 * self._crc_en - 4 * self._sf + 8 + (0 if self._implicit_header else 20)
        per_symbol = 4 * (self._sf - 2 * self._get_ldr_en())
        payload = -(-max(bits, 0) // per_symbol) * self._coding_rate
        return 17 + 4 * (self._preamble_len + symbols + 8 + payload)

    def get_time_on_air_us(self, payload_len):
        return self._get_t_sym_us() * self.get_n_symbols_x4(payload_len) // 4

    # sending

    def prepare_send(self, packet):
        if len(packet) > 255:
            raise ConfigError("packet too long")
        if self._ant_sw:
            self._ant_sw.tx(True)
        self._packet = bytes(packet)

    def start_send(self):
        end = _call(b"T", struct.pack(">q", time._now()) + self._params(self._invert_iq_tx) + self._packet)
        self._tx = struct.unpack(">q", end)[0]
        self._packet = None
        return True

    def poll_send(self):
        # True: still sending; False: nothing to send; else, once, the ticks_ms() of its end
        if self._tx is None:
            return False
        if time._now() < self._tx:
            return True
        ticks = time._ticks_ms_at(self._tx)
        self._tx = None
        if self._ant_sw:
            self._ant_sw.idle()
        return ticks

    def send(self, packet, tx_at_ms=None):
        self.prepare_send(packet)
        if tx_at_ms is not None:
            time.sleep_ms(max(0, time.ticks_diff(tx_at_ms, time.ticks_ms())))
        self.start_send()
        time.sleep_us((self._tx - time._now()) // 1000)
        while True:
            ticks = self.poll_send()
            if ticks is not True:
                return ticks
            time.sleep_ms(1)

    # receiving

    def start_recv(self, timeout_ms=None, continuous=False, rx_length=0xFF):
        if continuous and timeout_ms is not None:
            raise ValueError
        if self._ant_sw:
            self._ant_sw.rx()
        head = struct.pack(">qiB", time._now(), -1 if timeout_ms is None else max(timeout_ms, 0), continuous)
        _call(b"L", head + self._params(self._invert_iq_rx))
        self._rx = True
        return True

    def poll_recv(self, rx_packet=None):
        # True: still receiving; False: no longer; else a packet
        return self._received(_call(b"P", b"", 270), rx_packet) if self._rx else False

    def recv(self, timeout_ms=None, rx_length=0xFF, rx_packet=None):
        self.start_recv(timeout_ms, False, rx_length)
        return self._received(_call(b"W", b"", 270), rx_packet) or None

    def _received(self, answer, rx_packet):
        # state (0 timed out, 1 listening, 2 packet and done, 3 packet and still listening), then the packet
        state = answer[0]
        self._rx = state in (1, 3)
        if not self._rx and self._ant_sw:
            self._ant_sw.idle()
        if state < 2:
            return self._rx
        at, rssi, snr, valid_crc = struct.unpack(">qhhB", answer[1:14])
        if not valid_crc:
            self.crc_errors += 1
            if not self.rx_crc_error:
                return self._rx
        payload = answer[14:]
        if rx_packet is None or len(rx_packet) != len(payload):
            rx_packet = RxPacket(len(payload))
        rx_packet[:] = payload
        rx_packet.ticks_ms = time._ticks_ms_at(at)
        rx_packet.rssi = rssi
        rx_packet.snr = snr
        rx_packet.valid_crc = bool(valid_crc)
        return rx_packet

    # the rest

    def calibrate_image(self):
        pass

    calibrate = calibrate_image

    def standby(self):
        _call(b"Y")
        self._rx = False
        self._tx = None
        if self._ant_sw:
            self._ant_sw.idle()

    def sleep(self, warm_start=True):
        self.standby()

    def is_idle(self):
        return not self._rx and self._tx is None

    # What is asked of the chips themselves, since the drivers have no call for it: the level, and CAD.

    _cad = 0

    def _sense(self):
        return struct.unpack(">hB", _call(b"V", struct.pack(">q", time._now()) + self._params(self._invert_iq_rx)))

    def _get_irq(self):
        return self._cad

    def _clear_irq(self, to_clear=0xFFFF):
        self._cad = 0


class SX1262(BaseModem):
    def __init__(
        self,
        spi,
        cs,
        busy,
        dio1=None,
        dio2_rf_sw=True,
        dio3_tcxo_millivolts=None,
        dio3_tcxo_start_time_us=1000,
        reset=None,
        lora_cfg=None,
        ant_sw=None,
    ):
        if dio3_tcxo_millivolts and not 1600 <= dio3_tcxo_millivolts <= 3300:
            raise ValueError("dio3_tcxo_millivolts out of range")
        super().__init__(lora_cfg, ant_sw)

    def _symbol_offsets(self):
        # SF5 and SF6 of this family have a longer preamble: datasheet 6.1.1.1
        return (2, -8) if self._sf < 7 else (0, 0)

    def _cmd(self, fmt, *args, n_read=0):
        # GetRssiInst in a receiver; SetCad; what only sets CAD up; no other command has anything behind it
        if args[0] == 0x15 and self._rx:
            return bytes((0xD2, max(0, min(255, -2 * self._sense()[0]))))
        if args[0] == 0xC5 and self.is_idle():
            self._cad = 0x80 | 0x100 * self._sense()[1]
        elif args[0] not in (0x88, 0x08):
            raise RuntimeError("not simulated")


class SX1261(SX1262):
    pass


class SX1276(BaseModem):
    def __init__(self, spi, cs, dio0=None, dio1=None, reset=None, lora_cfg=None, ant_sw=None):
        super().__init__(lora_cfg, ant_sw)

    def configure(self, lora_cfg):
        if lora_cfg.get("tx_ant", "RFO").upper() not in ("RFO", "PA_BOOST"):
            raise ConfigError("tx_ant")
        if lora_cfg.get("sf") == 6 and not lora_cfg.get("implicit_header", self._implicit_header):
            raise ConfigError("SF6 requires implicit_header mode")
        super().configure(lora_cfg)

    def _reg_read(self, reg):
        if reg != 0x1B or not self._rx:
            raise RuntimeError("not simulated")
        return max(0, self._sense()[0] + 157)

    def _set_mode(self, mode):
        if mode != 7 or not self.is_idle():
            raise RuntimeError("not simulated")
        self._cad = 4 | self._sense()[1]


SX1277 = SX1278 = SX1279 = SX1276
