# The driver's object for board.RADIO, set up for its region. Loaded when it is made, and gone from the heap after that.
import lora
from machine import SPI, Pin

from sealwire import radio


def modem(board):
    board.power()
    parts = board.RADIO
    spi = SPI(
        parts["spi"],
        baudrate=parts["baudrate_hz"],
        sck=Pin(parts["sck"]),
        mosi=Pin(parts["mosi"]),
        miso=Pin(parts["miso"]),
    )
    # constructor arguments of the drivers that are pins
    more = {name: Pin(parts[name]) for name in ("busy", "dio0", "dio1", "reset") if name in parts}
    settings = {
        "freq_khz": radio.region(parts["region"])[0][0],
        "bw": "125",
        "coding_rate": radio.CODING_RATE,
        "preamble_len": radio.PREAMBLE_LEN,
        "syncword": radio.SYNC_WORD,
        "crc_en": True,
        "invert_iq_rx": True,
        "invert_iq_tx": False,
    }
    if "dio0" in parts:
        settings["tx_ant"] = "PA_BOOST"  # the pin that modules with an SX1276 have connected
    else:
        more["dio2_rf_sw"] = parts["dio2_rf_sw"]
        if "dio3_tcxo_mv" in parts:
            more["dio3_tcxo_millivolts"] = parts["dio3_tcxo_mv"]
            more["dio3_tcxo_start_time_us"] = 5000
    made = getattr(lora, parts["chip"])(spi, Pin(parts["cs"]), lora_cfg=settings, **more)
    made.calibrate_image()  # for the region's band: SX1261/2 datasheet 9.2.1
    return made
