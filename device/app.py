# The wearable: what it measures and how often, and over which link it speaks. What a board does not have is left out.
from sealband.app import App, Button, Every, motion, part
from sealband.links.lora import LoRa


def build(board):
    board.power()
    moves = motion(board)
    return App(
        sensors=[
            Every(60, part("max30102", board, motion=moves), alarm=30),
            Every(60, part("tmp117", board) or part("max30205", board)),
            Every(60, moves),
            Every(300, part("bme280", board), quiet=False),
            Every(600, part("gnss", board), motion=300, alarm=60, quiet=False),
            Every(600, part("battery", board)),
        ],
        watchers=[moves, Button(board)],
        links=[LoRa(board)],
        send_every_s=300,
    )
