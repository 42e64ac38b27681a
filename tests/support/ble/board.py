# A whole node with a courier's ear, on MicroPython: board.py PORT EUI CK[0] [ms a stranger has]. For the host's tests.
import asyncio
import sys

sys.path.insert(0, "tests/support/ble")
sys.path.insert(0, "tests")

import air
from device.fakes import World

from sealband import keys
from sealband.app import App
from sealband.chain import Chain
from sealband.clock import Clock
from sealband.links.ble import Ble
from sealband.node import Node
from sealband.outbox import Outbox
from sealband.store import CLAIM, Store

PORT, EUI, ROOT = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])


class Board:
    def __init__(self):
        self.world = World(flash=True)
        self.world.mount("/ram")
        self.ble = Ble(handshake_ms=int(sys.argv[4]) if len(sys.argv) > 4 else 5000)
        store = Store(self.world.nvs)
        chain = Chain.create(store, EUI, ROOT, 0)
        store.save(CLAIM, keys.claim(ROOT))
        self.node = Node(
            App([], [], echo=False, listeners=[self.ble]), store, chain, Outbox(store, "/ram/outbox"), Clock(store)
        )

    # events of these values, sealed
    def events(self, count):
        for number in range(count):
            assert self.node.event(5, number)
        return len(self.node.outbox)


async def main():
    board = Board()
    await air.serve(PORT, {"board": board})
    await board.node.run()


asyncio.run(main())
