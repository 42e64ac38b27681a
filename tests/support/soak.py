"""A ward under fire: boards on LoRa, some of them on LTE too, while frames are lost and everything else fails in turn.

Everything is real but the chips, the air and the modems: MicroPython with the shipped code, mosquitto with TLS and the
generated rules, the gateway bridge, ingest, SQLite. Faults come at random times: boards and modems lose their power or
their carrier, gateways go silent, broker and ingest are restarted. In the end there is a calm, and then it is judged
what is in the store, by what the boards said they had sealed, by what was on the air, and by what they still hold.
"""

import ast
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.ether import Transmission
from host_tools.sim.modem import SimModem
from host_tools.sim.site import Site
from host_tools.sim.wearer import Wearer
from provisioning.station.link import LinkError
from provisioning.tickets import TicketFile
from sealwire import frame

MAC = bytes.fromhex("70b3d5003000")
EVENT = 2  # SOS
HEAP = "320wK"  # boards with a modem have PSRAM; 64wK is shown elsewhere
REPL_S = 60.0

APP = """
import os

import machine
from sealband.app import App, Every
from sealband.links.lora import LoRa
from sealband.sensors.battery import BatteryVoltage
from sealband.sensors.tmp117 import SkinTemperature
from sealwire.recordids import SKIN_TEMPERATURE


def build(board):
    board.power()
    number = machine.unique_id()[5]

    def watch(node, record, t, value):
        # an event every four and a half minutes, at another time on each board, each with a number of its own
        if record == SKIN_TEMPERATURE and (t // 30 + number) % 9 == 0:
            node.event(2, int.from_bytes(os.urandom(4), "big"))

    # every second board has a modem, and every fourth nothing else
    links = [LoRa(board)] if number & 3 != 3 else []
    if number & 1:
        from sealband.links.lte import LteBearer
        from sealband.links.mqtt import Mqtt

        links.append(Mqtt(board, LteBearer(board, wait_s=60), ntp=None))
    return App(
        sensors=[
            Every(30, SkinTemperature(board.i2c())),
            Every(300, BatteryVoltage(board.battery_adc(), board.BATTERY["divider"])),
        ],
        links=links,
        send_every_s=180,
        on_sample=watch,
        patience_s=600,
    )
"""


@dataclass
class Verdict:
    """What came of it.

    Attributes:
        faults: how many of each kind.
        sealed, stored, queued, dropped: frames of all boards.
        events: that were sealed, and how many of them are in the store.
        on_air, over_ip: frames that the boards sent, repetitions included.
        downlinks: frames of the server, on both ways.
        by_link: stored frames.
        busiest: the most that any sender was on the air in any hour, seconds.
        violations: what broke the region's rules, by rule.
        wrong: everything that must not be.
    """

    minutes: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    sealed: int = 0
    stored: int = 0
    queued: int = 0
    dropped: int = 0
    events: tuple[int, int] = (0, 0)
    on_air: int = 0
    over_ip: int = 0
    downlinks: int = 0
    by_link: dict[str, int] = field(default_factory=dict)
    busiest: float = 0.0
    violations: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


class Soak:
    """One run. Use `run`, once.

    Args:
        folder: where the site lies.
        boards: how many; every second one has a modem.
        minutes: of virtual time, faults included.
        calm: minutes after them.
        speed: virtual seconds a real second.
        loss: chance that a receiver misses a packet.
        seed: of the faults' kinds and times.
        tell: told what happens, a line each.
    """

    def __init__(
        self,
        folder: Path,
        *,
        boards: int = 20,
        minutes: float = 60.0,
        calm: float = 12.0,
        speed: float = 10.0,
        loss: float = 0.3,
        seed: int = 1,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._folder = folder
        self._count = boards
        self._minutes = minutes
        self._calm = calm
        self._clock = SimClock.start(speed)
        self._loss = loss
        self._random = random.Random(seed)
        self._tell = tell
        self._sealed: dict[str, set[int]] = defaultdict(set)  # by board: counters
        self._events: dict[str, set[int]] = defaultdict(set)
        self._frames: dict[tuple[str, str, int, int], bytes] = {}
        self._lock = threading.Lock()
        self._modems: dict[str, SimModem] = {}
        self._log: dict[str, Any] = {}
        self.verdict = Verdict(minutes=minutes)

    def run(self) -> Verdict:
        """Play it, and judge."""
        self._folder.mkdir(parents=True, exist_ok=True)
        app = self._folder / "app.py"
        app.write_text(APP)
        site = Site(
            self._folder / "site",
            self._clock,
            loss=self._loss,
            seed=3,
            mosquitto=True,
            app=app,
            gateways=2,
            region="EU868",
        )
        try:
            with site:
                self._site = site
                site.ether.on_transmission.append(self._on_air)
                self._watch_worker()
                self._furnish()
                begun = self._clock.now()
                self._trouble(begun + 60 * self._minutes)
                self._tell("calm")
                self._clock.sleep(60 * self._calm)
                self._judge()
        finally:
            for log in self._log.values():
                log.close()
            for modem in self._modems.values():
                modem.stop()
        return self.verdict

    # what there is

    def _furnish(self) -> None:
        tickets = self._site.issue(self._count)
        for number in range(self._count):
            name = f"b{number:02}"
            more: dict[str, Any] = {}
            if number & 1:
                kind = ("sim7080", "bg95")[number >> 1 & 1]
                self._modems[name] = SimModem(kind, clock=self._clock, on=False, seed=number)
                more = {"modem": self._modems[name].port, "heap": HEAP}
            self._log[name] = open(self._folder / f"{name}.log", "w")  # noqa: SIM115 - closed in run
            board = self._site.board(
                name,
                MAC[:5] + bytes((number,)),
                Wearer(number, ("fast", "slow", "middle")[number % 3]),
                on_line=lambda line, name=name: self._line(name, line),
                **more,
            )
            self._enrol(board, tickets)
            self._tell(f"{name} enrolled")
        admitted = len(self._site.take().admitted)
        if admitted != self._count:
            self.verdict.wrong.append(f"{admitted} of {self._count} boards were admitted")

    def _enrol(self, board: VirtualBoard, tickets: TicketFile) -> None:
        # on a busy computer a board answers late; what was begun is gone on with
        for left in (2, 1, 0):
            try:
                self._site.enrol(board, tickets)
                return
            except LinkError:
                if not left:
                    raise

    def _line(self, name: str, line: str) -> None:
        words = line.split()
        self._log[name].write(f"{self._clock.now():.1f} {line}\n")
        if len(words) == 5 and words[1] == "sealed" and all(word.isdigit() for word in words[2:]):
            with self._lock:
                self._sealed[name].add(int(words[4]))
                if words[2] == "0":
                    self._events[name].add(int(words[4]))

    # what goes wrong

    def _trouble(self, until: float) -> None:
        kinds = (self._cut_power, self._gateway_outage, self._broker_restart, self._server_restart)
        count: Counter[str] = Counter()
        next_s = 20 * 60 / self._count / 2  # each board loses its power every twenty minutes or so
        while self._clock.now() < until:
            self._clock.sleep(self._random.uniform(0.3, 1.7) * next_s)
            draw = self._random.random()
            if draw < 0.45:
                kind = kinds[0]
            elif draw < 0.75 and self._modems:
                kind = self._modem_drop
            else:
                kind = self._random.choice(kinds[1:])
            what = kind()
            count[what] += 1
            self._tell(what)
        self.verdict.faults = dict(count)

    def _cut_power(self) -> str:
        board = self._random.choice(self._site.boards)
        board.power_cut()
        self._clock.sleep(self._random.uniform(1, 20))
        board.power_on()
        return "power cuts"

    def _modem_drop(self) -> str:
        modem = self._random.choice(list(self._modems.values()))
        if self._random.random() < 0.5:
            modem.lose_carrier()
            return "carriers lost"
        modem.power_cut()
        return "modems without power"

    def _gateway_outage(self) -> str:
        forwarder = self._random.choice(self._site.forwarders)
        forwarder.stop()
        self._clock.sleep(self._random.uniform(20, 90))
        forwarder.start()
        return "gateway outages"

    def _broker_restart(self) -> str:
        self._site.broker.stop()
        self._clock.sleep(self._random.uniform(5, 40))
        self._site.broker.start()
        return "broker restarts"

    def _server_restart(self) -> str:
        self._site.worker.stop()
        self._clock.sleep(self._random.uniform(5, 60))
        self._site.start_worker()
        self._watch_worker()
        return "server restarts"

    # what is seen

    def _on_air(self, sent: Transmission) -> None:
        way = "down" if sent.params.invert_iq else "up"
        with self._lock:
            if way == "up":
                self.verdict.on_air += 1
            self._note(sent.sender if way == "up" else "", way, sent.packet)

    def _watch_worker(self) -> None:
        """What comes and goes by the devices' own topics, seen where ingest talks to the broker."""
        worker = self._site.worker
        process, publish = worker._intake.process, worker._client.publish
        names = {eui: name for name, eui in self._site.enrolled.items()}

        def seen(arrivals: Any) -> Any:
            with self._lock:
                for arrival in arrivals:
                    if arrival.topic.startswith("sb/v1/d/"):
                        self.verdict.over_ip += 1
                        names.update({eui: name for name, eui in self._site.enrolled.items()})
                        self._note(names.get(arrival.topic.split("/")[3], "?"), "up", arrival.payload)
            return process(arrivals)

        def said(topic: str, payload: bytes, **more: Any) -> Any:
            if topic.startswith("sb/v1/d/"):
                with self._lock:
                    self._note(topic.split("/")[3], "down over IP", payload)
            return publish(topic, payload, **more)

        worker._intake.process = seen  # type: ignore[method-assign]
        worker._client.publish = said  # type: ignore[method-assign]

    def _note(self, who: str, way: str, data: bytes) -> None:
        """A nonce is key and counter. A key is known by its owner and the epoch; a downlink's by the pseudonym."""
        parts = frame.parse(data)
        if way != "up":
            self.verdict.downlinks += 1
            who = bytes(parts.did).hex()
        key = (who, way.split()[0], parts.epoch_bits, parts.ctr)
        before = self._frames.setdefault(key, data)
        if before != data:
            self.verdict.wrong.append(f"nonce used twice: {key}")

    # what came of it

    def _judge(self) -> None:
        from host_tools.ingest.decode import Event, decode
        from host_tools.ingest.models import Frame
        from host_tools.ingest.store import Payloads

        verdict, site = self.verdict, self._site
        site.worker.check()
        queued = {board.name: _queue(board) for board in site.boards}
        time.sleep(1.0)
        payloads = Payloads(site.vault)
        stored: dict[str, set[int]] = defaultdict(set)
        told: Counter[tuple[str, tuple[int, ...]]] = Counter()
        links: Counter[str] = Counter()
        names = {eui: name for name, eui in site.enrolled.items()}
        for row in Frame.objects.select_related("device"):
            name = names[row.device.eui_hex]
            stored[name].add(row.ctr)
            links[row.link] += 1
            eui = bytes(row.device.eui)
            message = decode(payloads.unwrap(bytes(row.payload_wrapped), eui, row.epoch, row.ctr))
            if isinstance(message, Event):
                told[name, tuple(message.values)] += 1
        with self._lock:
            sealed = {name: set(counters) for name, counters in self._sealed.items()}
            events = {name: set(counters) for name, counters in self._events.items()}
        verdict.by_link = dict(links)
        verdict.stored = sum(map(len, stored.values()))
        verdict.sealed = sum(map(len, sealed.values()))
        verdict.queued = sum(len(keys) for keys, _ in queued.values())
        verdict.dropped = sum(drops for _, drops in queued.values())
        lost_events = 0
        for name, counters in sealed.items():
            keys, drops = queued[name]
            waiting = {ctr for _, _, ctr in keys}
            missing = counters - waiting - stored[name]
            lost_events += len(missing & events[name])
            if len(missing) > drops:
                verdict.wrong.append(f"{name}: frames {sorted(missing)} are lost; the board says it dropped {drops}")
            if missing & events[name]:
                verdict.wrong.append(f"{name}: events {sorted(missing & events[name])} are lost")
        verdict.events = (sum(map(len, events.values())), sum(told.values()))
        twice = [key for key, count in told.items() if count > 1]
        if twice:
            verdict.wrong.append(f"events that are there twice: {twice}")
        rules = site.ether.statistics()["rules"]
        verdict.violations = rules["broken"]
        if verdict.violations:
            verdict.wrong.append(f"the air's rules were broken: {rules['violations'][:3]}")
        verdict.busiest = max(max(bands.values()) for bands in rules["busiest_hour_s"].values())
        faults = [
            line for log in self._folder.glob("*.log") for line in log.read_text().splitlines() if " fault " in line
        ]
        if faults:
            verdict.wrong.append(f"{len(faults)} faults of the boards' code, the first: {faults[0]}")


def _queue(board: VirtualBoard) -> tuple[set[tuple[int, int, int]], int]:
    """What a board still holds, as (priority, epoch, counter), and what it has dropped since enrolment."""
    code = (
        "try:\n import pack\nexcept ImportError:\n pass\n"
        "import os\nfrom sealband import store\nheld=store.open_board().load(store.OUTBOX)\n"
        "print([os.listdir('/outbox'), int.from_bytes(held[:4], 'big') if held else 0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", f"port:{board.port}", "exec", code],
        capture_output=True,
        text=True,
        timeout=REPL_S,
        check=True,
    )
    names, drops = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    keys = {(int(n[0], 16), int(n[1:9], 16), int(n[9:], 16)) for n in names if len(n) == 13}
    return keys, drops
