"""Charge a day and battery life by link, for a stated profile: what `sealband sim energy` computes of the board's table
of currents and of the device's own code. Computed, not measured: there is no board here.

Profile: skin temperature every minute, heart rate (9.7 s) every ten, battery voltage every ten, deep sleep in between;
what was sampled is sent every ten minutes; each frame is heard at the first try. Board: VIRTUAL, a cell of 1,000 mAh.
"""

import boards
from host_tools.sim.energy import Day, estimate
from host_tools.sim.energy_probe import probe
from sealwire import recordids
from tests.bench.figure import Figure

SENSORS = [
    ([recordids.SKIN_TEMPERATURE], [60], 400),
    ([recordids.HEART_RATE], [600], 9700),
    ([recordids.BATTERY_VOLTAGE], [600], 5),
]
WAYS = (("lora", 7), ("lora", 9), ("lora", 12), ("wifi", 7), ("lte", 7))
NAMES = {"wifi": "Wi-Fi, MQTT/TLS", "lte": "LTE Cat-M, MQTT/TLS"}


def figures() -> list[Figure]:
    """mAh a day, and days of battery, for each link."""
    board = boards.load("VIRTUAL")
    settings = {"deep_sleep": True, "send_every_s": 600}
    found: list[Figure] = []
    for link, sf in WAYS:
        probed = probe(board, link, sensors=SENSORS, settings=settings, spreading_factor=sf)
        day = estimate(board, probed, link, Day((), ()))
        if not found:
            radios = {"lora", "wifi", "modem"}
            base = sum(mah for part, mah in day.mah.items() if part not in radios)
            found.append(Figure("charge a day but for the radio", base, unit="mAh", note="asleep, awake, measuring"))
        lengths = probed.frames[0]
        note = f"{len(lengths)} frame(s) of up to {max(lengths)} B every ten minutes; "
        note += f"{day.life_days:.1f} days with 1,000 mAh, of which 85 % are there"
        title = NAMES.get(link, f"LoRa SF{sf}")
        found.append(Figure(f"charge a day with {title}", day.total_mah, unit="mAh", note=note))
    return found
