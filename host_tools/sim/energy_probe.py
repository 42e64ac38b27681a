"""Asks the device's own code what an application does: its sensors and periods, how its samples pack into frames, and
for how long a link is on the air, listening or connected for a frame. Runs it on MicroPython, with nothing behind it.

Knows no current and no battery: those are `boards.power`'s and `host_tools.sim.energy`'s.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boards import Board
from host_tools.sim.interpreter import find_micropython

ROOT = Path(__file__).resolve().parents[2]
LINKS = ("lora", "wifi", "lte")
TIMEOUT_S = 60

_SCRIPT = r"""
import json, sys, time

class Any:
    # stands for whatever hardware an application asks for
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
    def __iter__(self): return iter(())
    def __int__(self): return 0

any = Any()
for name in ("machine", "network", "esp32", "bluetooth", "aioble"):
    sys.modules[name] = any
asked = json.loads(ASKED)
import board
board.i2c = board.battery_adc = board.modem_power = board.power = any
from sealband.app import App, Every
from sealband.batch import Batch
from sealband.sensors.base import Sensor
from sealwire import frame, radio

# as of the base class, for a sensor of somebody's own
class Named(Sensor):
    def __init__(self, records, read_ms):
        self.records, self.read_ms = records, read_ms

if asked["sensors"] is None:
    import app
    made = app.build(board)
else:
    sensors = [Every(p[0], Named(tuple(r), ms), *p[1:]) for r, p, ms in asked["sensors"]]
    made = App(sensors, [], **asked["settings"])

class Store:
    def load(self, name): return None
    load_number = rtc_take = load
    def save(self, name, data): pass
    save_number = save

class Clock:
    valid = True
    ms = 0
    def uptime_ms(self): return self.ms
    def uptime(self): return self.ms // 1000
    def ticks(self): return self.ms
clock = Clock()

class Settings:
    power_dbm, adaptive_rate = 30, 0
    spreading_factor = asked["sf"]

# a transceiver that sends for as long as its time on air, and hears nothing
class Modem:
    def __getattr__(self, name): return any
    def poll_send(self): return clock.ms
    def start_recv(self, ms): self.until = clock.ms + ms
    def poll_recv(self): return True if clock.ms < self.until else None

def pass_time(steps):
    for ms in steps:
        clock.ms += ms

def exchange(link, length):
    clock.ms += 7200000
    link.sent_ms = link.heard_ms = 0
    began = clock.ms
    pass_time(link.send(bytes(length)))
    pass_time(link.listen())
    return [link.sent_ms, link.heard_ms, clock.ms - began]

name = asked["link"]
if name == "lora":
    from sealband.links.lora import LoRa
    link = LoRa(board, make=lambda board: Modem(), ticks_ms=clock.ticks)
    link._ledger = None
    link.open(Store(), clock, Settings(), lambda n: 0)
    link.wait_ms = lambda length: 0
    frame_max = link.frame_max
else:
    from sealband.links.mqtt import Mqtt
    if name == "wifi":
        from sealband.links.wifi import WifiBearer
        link = Mqtt(board, WifiBearer(any))
    else:
        from sealband.links.lte import LteBearer
        link = Mqtt(board, LteBearer(board))
    frame_max = link.frame_max

# the frames that so many seconds at a pace come to
def frames(level, span_s, seed=1):
    batch = Batch()
    values = {}
    for t in range(0, span_s):
        for every in made.sensors:
            if t % every.periods[level] == 0:
                for record in every.sensor.records:
                    seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
                    value = values.get(record, 3000) + (seed >> 8) % 17 - 8
                    values[record] = value
                    batch.add(record, every.periods[level], t, value)
    lengths = []
    while True:
        taken = batch.take(frame_max - frame.OVERHEAD, None)
        if taken is None:
            return lengths
        lengths.append(len(taken) + frame.OVERHEAD)
        batch.drop_taken()

send_s = made.defaults["send_every_s"]
packed = [frames(level, send_s) for level in range(3)]
lengths = set([length for one in packed for length in one] + [asked["event_len"], min(frame_max, asked["status_len"])])
costs = {}
for length in lengths:
    if name == "lora":
        costs[str(length)] = exchange(link, length)
    else:
        mw = link._power_mw
        first = link.energy_mj(length) * 1000 // mw
        link.client = True
        costs[str(length)] = [first, link.energy_mj(length) * 1000 // mw, 0]
        link.client = None
print("PROBED " + json.dumps({
    "sensors": [
        [list(e.sensor.records), list(e.periods), e.sensor.read_ms, e.burst, e.quiet, e.sensor.alone]
        for e in made.sensors
    ],
    "watched": [list(w.records) for w in made.watchers],
    "links": [link.name for link in made.links],
    "deep_sleep": made.deep_sleep,
    "send_every_s": send_s,
    "status_every_s": made.defaults["status_every_s"],
    "frames": packed,
    "costs": costs,
    "frame_max": frame_max,
}))
"""


class ProbeError(Exception):
    """The application cannot be asked; `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class Sensor:
    """What an application reads: record ids, periods in seconds (rest, motion, alarm), how long a reading takes at most
    in seconds, readings a time, whether also in quiet hours, and whether no other such sensor is read meanwhile.
    """

    records: tuple[int, ...]
    periods_s: tuple[int, int, int]
    seconds: float
    burst: int = 1
    quiet: bool = True
    alone: bool = False


@dataclass(frozen=True)
class Cost:
    """What a frame costs a link in time: LoRa sends, listens, and keeps the processor awake; the others are on for the
    first frame of a session, and for each that follows it. Seconds.
    """

    sent: float = 0.0
    heard: float = 0.0
    awake: float = 0.0
    first: float = 0.0
    more: float = 0.0


@dataclass(frozen=True)
class Probed:
    """What the device's code says of an application on a board, over one link.

    Attributes:
        sensors: what is read.
        watched: record ids of the watchers, one tuple each.
        links: the names of the application's own links.
        deep_sleep: between wakes; else it stays awake.
        send_every_s, status_every_s: periods.
        frames: the frames' lengths of one sending period, at rest, in motion and in alarm.
        costs: by a frame's length.
        frame_max: the longest frame of the link.
    """

    sensors: tuple[Sensor, ...]
    watched: tuple[tuple[int, ...], ...]
    links: tuple[str, ...]
    deep_sleep: bool
    send_every_s: int
    status_every_s: int
    frames: tuple[tuple[int, ...], ...]
    costs: Mapping[int, Cost]
    frame_max: int


def probe(
    board: Board,
    link: str,
    *,
    app: Path | None = None,
    sensors: Sequence[tuple[Sequence[int], Sequence[int], int]] | None = None,
    settings: Mapping[str, Any] | None = None,
    spreading_factor: int = 7,
    event_len: int = 22,
    status_len: int = 120,
) -> Probed:
    """Ask.

    Args:
        board: which board the application is built for.
        link: over which of `LINKS` its frames go.
        app: the application; default: the example.
        sensors: instead of an application: record ids, periods in seconds, ms of a reading.
        settings: of `App` for these.
        spreading_factor: of LoRa.
        event_len, status_len: frame lengths that are wanted beside those of telemetry, in bytes.

    Raises:
        ProbeError: the application raises, or the board lacks what the link needs.
        InterpreterMissing: there is no MicroPython.
    """
    if link == "lora" and board.radio is None:
        raise ProbeError(f"{board.name} has no LoRa radio", "name another link: --link wifi")
    if link == "lte" and board.modem is None:
        raise ProbeError(f"{board.name} has no modem", "name another link: --link wifi")
    source = app or ROOT / "device" / "app.py"
    asked = {
        "link": link,
        "sf": spreading_factor,
        "sensors": None if sensors is None else [[list(r), list(p), ms] for r, p, ms in sensors],
        "settings": dict(settings or {}),
        "event_len": event_len,
        "status_len": status_len,
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "board.py").write_text(board.module(), encoding="utf-8")
        (place / "probe.py").write_text(f"ASKED = {json.dumps(json.dumps(asked))}\n{_SCRIPT}", encoding="utf-8")
        if sensors is None:
            try:
                (place / "app.py").write_bytes(source.read_bytes())
            except OSError as error:
                raise ProbeError(f"{source}: {error.strerror}", "name a file: --app app.py") from error
            if (own := source.with_name("records.py")).is_file():
                (place / "records.py").write_bytes(own.read_bytes())
        variables = {
            "PATH": os.environ.get("PATH", os.defpath),
            "MICROPYPATH": os.pathsep.join((folder, str(ROOT / "device" / "lib"), ".frozen")),
        }
        try:
            done = subprocess.run(
                [find_micropython(), "-X", "heapsize=16M", str(place / "probe.py")],
                env=variables,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProbeError(f"{source.name} does not end", "build(board) is to return an App") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith("PROBED ")]
    if done.returncode or not lines:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        raise ProbeError(f"{source.name} cannot be built for {board.name}: {said[-1]}", "see what it says, and mend it")
    return _read(json.loads(lines[-1].removeprefix("PROBED ")), link)


def _read(found: Mapping[str, Any], link: str) -> Probed:
    costs = {}
    for length, (one, other, third) in found["costs"].items():
        if link == "lora":
            costs[int(length)] = Cost(sent=one / 1000, heard=other / 1000, awake=third / 1000)
        else:
            costs[int(length)] = Cost(first=one / 1000, more=other / 1000)
    return Probed(
        sensors=tuple(
            Sensor(tuple(records), (periods[0], periods[1], periods[2]), read_ms / 1000, burst, quiet, alone)
            for records, periods, read_ms, burst, quiet, alone in found["sensors"]
        ),
        watched=tuple(tuple(records) for records in found["watched"]),
        links=tuple(found["links"]),
        deep_sleep=bool(found["deep_sleep"]),
        send_every_s=found["send_every_s"],
        status_every_s=found["status_every_s"],
        frames=tuple(tuple(lengths) for lengths in found["frames"]),
        costs=costs,
        frame_max=found["frame_max"],
    )
