"""The application of the boards in the simulated day's test: every part of the virtual board, the receiver included.

On the chip it needs PSRAM: the example application in 64 KiB leaves the receiver out.
"""

HEAP = "200wK"
APP = """
from sealband.app import App, Every, part
from sealband.links.lora import LoRa
from sealband.sensors.button import Button
from sealband.sensors.motion import motion


def build(board):
    board.power()
    moves = motion(board)
    return App(
        sensors=[
            Every(60, part("max30102", board, motion=moves), alarm=30),
            Every(60, part("tmp117", board)),
            Every(60, moves),
            Every(300, part("bme280", board)),
            Every(600, part("battery", board)),
            Every(600, part("gnss", board), motion=300),
        ],
        watchers=[moves, Button(board)],
        links=[LoRa(board)],
        send_every_s=300,
    )
"""
