"""Energy a day and battery life by link, for a stated profile. Computed, not measured: there is no board here.

What a frame costs is asked of the device's own code (`link.energy_mj`, by the board's power table), on MicroPython; how
many frames a day has comes of the device's own packing; the rest is below, with its source or as an assumption.

Profile: skin temperature every minute, heart rate (9.7 s) every ten, battery voltage every ten, deep sleep in between;
what was sampled is sent every ten minutes; an event a day; each frame is heard at the first try.
"""

import random

from sealwire import frame, records
from tests.bench import airbytes
from tests.bench.figure import Figure
from tests.support.micropython import Micropython

BATTERY_MAH, BATTERY_V, USABLE = 1000, 3.7, 0.85
REGULATOR = 0.85  # assumption: of the cell's energy, what reaches 3.3 V
# lucidar.me, "Power consumption of ESP32-S3-DevKitM-1", measured at 3.3 V: 31.7 mA awake, 8 uA in deep sleep
AWAKE_MW, ASLEEP_MW = 105.0, 0.026
QUIESCENT_MW = 0.165  # assumption: 50 uA for what a board has beside the chip (power management, sensors' standby)
# MAX30102 datasheet 19-7740: 600 uA; LED 6.2 mA in pulses of 411 us, 100 a second, at 3.3 V
PULSE_MW = 0.6 * 1.8 + 6.2 * 0.0411 * 3.3
WAKE_S = 1.2  # assumption: start of MicroPython, imports, a measurement of temperature, sealing
HEART_S = 9.7
DAY_S = 86400
SEND_EVERY_S = 600

LINKS = """
import time
from sealband.links.lora import LoRa
from sealband.links.mqtt import Mqtt
from sealband.links.wifi import WifiBearer
from sealband.links.lte import LteBearer

class Board:
    RADIO = {"chip": "SX1262", "region": "EU868", "tx_mw": 300, "rx_mw": 16}
    MODEM = {"uart": 1}

class Settings:
    spreading_factor, power_dbm, adaptive_rate = 7, 14, 0

class Store:
    def load(self, name): return None
    def save(self, name, data): pass
    def rtc_take(self, name): return None

class Clock:
    valid = True
    def uptime(self): return 0
    def uptime_ms(self): return 0

class Station:
    def isconnected(self): return False

def lora(sf):
    settings = Settings()
    settings.spreading_factor = sf
    link = LoRa(Board, make=lambda board: None)
    link.open(Store(), Clock(), settings, lambda n: 0)
    return link

links = {"lora7": lora(7), "lora9": lora(9), "lora12": lora(12)}
links["wifi"] = Mqtt(Board, WifiBearer(Station()))
links["lte"] = Mqtt(Board, LteBearer(Board))

# the first frame of a session, and each that follows it on the same connection
def cost(name, length):
    link = links[name]
    first = link.energy_mj(length)
    if hasattr(link, "client"):
        link.client = True
        more = link.energy_mj(length)
        link.client = None
        return first, more
    return first, first
"""
NAMES = {
    "lora7": "LoRa SF7",
    "lora9": "LoRa SF9",
    "lora12": "LoRa SF12",
    "wifi": "Wi-Fi, MQTT/TLS",
    "lte": "LTE Cat-M, MQTT/TLS",
}
FRAME_MAX = {"lora7": 222, "lora9": 115, "lora12": 51, "wifi": 255, "lte": 255}


def session(frame_max: int, seed: int = 1) -> list[int]:
    """Lengths of the frames that ten minutes of the profile come to."""
    wearer = random.Random(seed)
    start = airbytes.START
    samples = [
        (start, records.BATTERY_VOLTAGE, SEND_EVERY_S, wearer.randint(3600, 4150)),
        (start, records.HEART_RATE, SEND_EVERY_S, wearer.randint(55, 110)),
    ]
    skin = wearer.randint(3150, 3450)
    for minute in range(10):
        samples.append((start + 60 * minute, records.SKIN_TEMPERATURE, 60, skin))
        skin += wearer.randint(-8, 8)
    return [len(plaintext) + frame.OVERHEAD for plaintext in airbytes.pack(sorted(samples), frame_max)]


def figures() -> list[Figure]:
    """Joules a day, and days of battery, for each link."""
    base_j = DAY_S * (ASLEEP_MW + QUIESCENT_MW) / 1000
    base_j += DAY_S / 60 * WAKE_S * AWAKE_MW / 1000
    base_j += DAY_S / SEND_EVERY_S * HEART_S * (AWAKE_MW + PULSE_MW) / 1000
    cell_j = BATTERY_MAH * BATTERY_V * 3.6 * USABLE * REGULATOR
    found = [Figure("energy a day without any link", base_j, unit="J", note="asleep, awake, measuring")]
    with Micropython(heap="1m") as device:
        device.run(LINKS)
        for name, title in NAMES.items():
            lengths = session(FRAME_MAX[name])
            first, more = device.call(f"cost({name!r}, {max(lengths)})")
            sessions = DAY_S / SEND_EVERY_S
            link_j = (sessions * (first + (len(lengths) - 1) * more) + first) / 1000
            # awake while it transmits and listens: LoRa's window opens five seconds after the frame
            seconds = 6.5 * len(lengths) if name.startswith("lora") else 0.0
            link_j += sessions * seconds * AWAKE_MW / 1000
            days = cell_j / (base_j + link_j)
            note = (
                f"{len(lengths)} frame(s) of up to {max(lengths)} B every ten minutes; {days:.1f} days with 1,000 mAh"
            )
            found.append(Figure(f"energy a day with {title}", base_j + link_j, unit="J", note=note))
    return found
