"""Acknowledged frames and the delay until then by loss rate: LoRa alone, and LoRa with MQTT beside it.

The device's own node, session and policy on MicroPython, in virtual time, over links that lose: of LoRa's frames and of
their answers each this share; of MQTT's connections this share does not come up, and TCP makes good for the rest.
"""

from statistics import median

from tests.bench.figure import Figure
from tests.support.micropython import ROOT, Micropython

LOSSES = (0, 10, 30, 50)  # percent
HOURS = 12
SEND_EVERY_S = 300
EVENT_EVERY_S = 1800
SETTLED_S = 7200  # what was sealed later than so long before the end is not counted
EVENT = 0
CASES = {False: "LoRa alone", True: "LoRa and MQTT"}

DEVICE = """
import gc
from device.wearable import BrokerLink, CountingSensor, ServerLink, Wearable
from sealband.app import Every

def lossy(link, draw):
    answer = link.answer
    def through(data):
        if draw():
            return []
        answers = answer(data)
        return [] if draw() else answers
    link.answer = through

class Attached(BrokerLink):
    def connect(self):
        self.down = self.draw()
        yield from super().connect()

def run(both, loss, seconds, send_every_s, event_every_s):
    state = [12345 + loss]
    def draw():
        state[0] = (state[0] * 1103515245 + 12345) & 0x7FFFFFFF
        return (state[0] >> 8) % 100 < loss
    def more(time, server):
        link = Attached(time, server)
        link.draw = draw
        return [link] if both else []
    w = Wearable([Every(60, CountingSensor(3, 3300))], None, 222, more, send_every_s=send_every_s)
    lossy(w.link, draw)
    box = w.node.outbox
    sealed, gone = {}, {}
    put, remove = box.put, box._remove
    def noted(priority, epoch, ctr, *rest):
        sealed[(priority, epoch, ctr)] = w.time.ms
        return put(priority, epoch, ctr, *rest)
    def removed(key):
        gone[key] = w.time.ms
        remove(key)
    box.put, box._remove = noted, removed
    while w.time.ms < seconds * 1000:
        w.run(event_every_s)
        w.node.event(2)
        gc.collect()
    told = [(key[0], at, gone.get(key)) for key, at in sealed.items()]
    return box.drops, len(w.link.sent), len(w.more[0].sent) if both else 0, told
"""


def measure(micropython: Micropython, both: bool, loss: int) -> Figure:
    """One case: the share of all frames that was acknowledged, and the rest in its note."""
    seconds = HOURS * 3600
    words = f"{both!r}, {loss}, {seconds}, {SEND_EVERY_S}, {EVENT_EVERY_S}"
    drops, lora, mqtt, told = micropython.call(f"run({words})")
    settled = [one for one in told if one[1] < (seconds - SETTLED_S) * 1000]
    events = [(gone - at) / 1000 for priority, at, gone in settled if priority == EVENT and gone]
    others = [(gone - at) / 1000 for priority, at, gone in settled if priority != EVENT and gone]
    asked = sum(priority == EVENT for priority, *_ in settled)
    rate = 100 * (len(events) + len(others)) / len(settled)
    note = (
        f"events {len(events)} of {asked}, median {median(events):.0f} s, longest {max(events):.0f} s; others median"
        f" {median(others):.0f} s, longest {max(others):.0f} s; sent {lora} over LoRa"
        + (f", {mqtt} over MQTT" if both else "")
        + f"; dropped {drops}"
    )
    return Figure(f"acknowledged, {CASES[both]}, {loss} % loss", rate, 99, at_least=True, unit="%", note=note)


def figures() -> list[Figure]:
    """The table: a row for each case and loss rate."""
    with Micropython(path=[ROOT / "tests"]) as micropython:
        micropython.run(DEVICE)
        return [measure(micropython, both, loss) for both in CASES for loss in LOSSES]
