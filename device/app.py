# The example wearable: what it measures, how often, and over which link it speaks.
from sealband.app import App, Every
from sealband.links.lora import LoRa
from sealband.sensors.battery import BatteryVoltage
from sealband.sensors.max30102 import HeartRate
from sealband.sensors.tmp117 import SkinTemperature
from sealwire.recordids import BATTERY_VOLTAGE

LOW_BATTERY = 3  # sealwire.names.EVENTS


def build(board):
    board.power()
    low_mv = board.BATTERY["low_mv"]
    told = []

    # once for each time that the cell is used up
    def watch(node, record, t, value):
        if record == BATTERY_VOLTAGE and value < low_mv and not told:
            told.append(node.event(LOW_BATTERY, value))
        elif record == BATTERY_VOLTAGE and value > low_mv + 100:
            told.clear()

    return App(
        sensors=[
            Every(30, HeartRate(board.i2c())),
            Every(60, SkinTemperature(board.i2c())),
            Every(600, BatteryVoltage(board.battery_adc(), board.BATTERY["divider"])),
        ],
        links=[LoRa(board)],
        send_every_s=300,
        on_sample=watch,
    )
