"""Runs the whole shipped application on one MicroPython process with a heap of a given size: for tests and figures.

What runs is what a board runs: `boot.py`, `main.py`, and everything else compiled with mpy-cross. Modules of the chip
(tests/support/whole) are in the same process, so they take their share of the heap too; what they stand for is on this
end of a pipe: NVS, the virtual board's register models of the sensors, and the host's own code for frames and syncs.
"""

import os
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import boards
from host_tools.ingest import decode, sync
from host_tools.ingest.unseal import Candidate, open_uplink, seal_downlink
from host_tools.release.bundle import compile_file, compile_tree
from host_tools.release.pack import pack
from host_tools.sim.clock import SimClock
from host_tools.sim.interpreter import find_micropython
from host_tools.sim.outfit import outfit
from host_tools.sim.script import DAY_S, Script, sky
from host_tools.sim.wearer import Wearer
from provisioning.keys import epoch_keys
from sealwire.messages import EPOCH_2025
from tests.support.micropython import ROOT

CHIP = Path(__file__).with_name("whole")
FLASH_LEN = 64 * 4096
EUI = bytes.fromhex("70b3d5fffe001234")  # as in start.py
CHAIN_KEY = bytes(range(32))
BEGIN_S = 60_000_000
UNIX_BEGIN_S = EPOCH_2025 + BEGIN_S
LIMIT_S = 120.0
RX_LEN = 2048  # the receiver's line, as gnss.py sets it up
# the same application with a second link, and everything loaded that it needs while it is connected
MQTT = """

def _mqtt(board):
    import sys

    from sealband.links.mqtt import Mqtt
    from sealband.links.wifi import WifiBearer

    class Station:
        def isconnected(self):
            return False

    link = Mqtt(board, WifiBearer(Station()))
    link.held = []
    for name in ("ip", "secure", "publisher"):
        __import__("sealband.links." + name)
        link.held.append(sys.modules["sealband.links." + name])
    return link
"""
# want of memory ends as one of these: the application catches what its parts raise, and goes on
FAILURES = ("Error", "] fault", "] sensor", "] link", "] store", "] stopped", "] time", "] refused", "] dropped")


class CycleFailed(Exception):
    """The application did not get through; the text is what MicroPython printed."""


@dataclass
class Cycle:
    """What a run came to.

    Attributes:
        stored: what the server opened, by counter.
        queued: frames left in the outbox.
        output: the lines printed.
    """

    stored: dict[int, decode.Message] = field(default_factory=dict)
    queued: int = 0
    output: list[str] = field(default_factory=list)

    def samples(self) -> list[tuple[int, int, int]]:
        """(time, record, value) of all telemetry."""
        found = [one.samples() for one in self.stored.values() if isinstance(one, decode.Telemetry)]
        return sorted(sample for samples in found for sample in samples)


class _World:
    """What the chip's modules ask for: parts, battery, NVS, and the server of this one device."""

    def __init__(self, cycle: Cycle, closed: bool) -> None:
        self._cycle = cycle
        self._now_s = 0.0
        self._nvs: dict[str, bytes] = {"closed": b"\0\0\0\1"} if closed else {}
        self._downlink: bytes | None = None
        wearer = Wearer(3, "fast", script=Script((sky(0, DAY_S),)))
        worn = outfit(boards.load("VIRTUAL"), wearer, self._clock())
        self._parts = {part.address: part for part in worn.parts}
        self._inputs = worn.inputs
        self._serial = worn.serial
        self._said = b""
        self._candidate = Candidate(EUI, 0, epoch_keys(CHAIN_KEY, EUI))
        self._ctr = 0

    def _clock(self) -> SimClock:
        world = self

        class Clock(SimClock):
            def now(self) -> float:
                return world.now()

        return Clock(0, 0)

    def now(self) -> float:
        """Unix time, as the parts go by it."""
        return UNIX_BEGIN_S + self._now_s

    def answer(self, verb: str, *words: str) -> bytes:
        """What goes back for one request of tests/support/whole/_wire.py."""
        if verb == "get":
            return _counted(self._nvs.get(words[0]))
        if verb == "set":
            self._nvs[words[0]] = _bytes(words[1])
            return b""
        if verb == "erase":
            self._nvs.pop(words[0], None)
            return b""
        if verb == "down":
            return _counted(self._downlink)
        self._now_s = int(words[0]) / 1e6
        if verb == "adc":
            return b"1950000\n"
        if verb == "pin":
            level = self._inputs.get(int(words[1]))
            return b"%d\n" % (level(self.now()) if level else 1)
        if verb == "out":
            for one in self._serial.values():
                one.pin(int(words[1]), int(words[2]), self.now())
            return b""
        if verb == "uart":
            self._said = (self._said + self._serial[int(words[1])].say(self.now()))[-RX_LEN:]
            heard, self._said = self._said[: int(words[2])], self._said[int(words[2]) :]
            return _counted(heard)
        if verb == "up":
            self._downlink = self._sync(_bytes(words[1]))
            return b""
        part, register = self._parts[int(words[1])], bytes([int(words[2])])
        if verb == "write":
            part.write(register + _bytes(words[3]))
            return b""
        assert verb == "read", verb
        part.write(register)
        return _counted(part.read(int(words[3])))

    def _sync(self, frame: bytes) -> bytes:
        opened = open_uplink(frame, [self._candidate])
        self._cycle.stored[opened.ctr] = decode.decode(opened.plaintext)
        newest = max(self._cycle.stored)
        told = sync.Sync(BEGIN_S + int(self._now_s), newest, sync.bitmap(newest, self._cycle.stored), 0)
        self._ctr += 1
        return seal_downlink(self._candidate.keys, EUI, 0, self._ctr - 1, told.to_bytes())


def _bytes(word: str) -> bytes:
    return bytes.fromhex(word.removeprefix("-"))


def _counted(data: bytes | None) -> bytes:
    return b"-1\n" if data is None else b"%d\n" % len(data) + data


def run(heap: str, seconds: int = 660, *, closed: bool = False, mqtt: bool = False, app: Path | None = None) -> Cycle:
    """Let the application run for so many virtual seconds with this heap (as `-X heapsize=`).

    Args:
        closed: as on a board that the station has closed: boot.py runs main.py itself, and the port is watched.
        app: another application than the shipped one.
        mqtt: MQTT over TLS is loaded beside LoRa, as while it is connected, without buffers and mbedtls's objects.

    Raises:
        CycleFailed: it ended early or did not do all it should, for want of memory as a rule.
    """
    cycle = Cycle()
    _play(heap, seconds, cycle, closed, mqtt, app)
    text = "\n".join(cycle.output)
    if any(word in text for word in FAILURES) or not cycle.output[-1:] or not cycle.output[-1].startswith("done "):
        raise CycleFailed(text)
    cycle.queued = int(cycle.output[-1].split()[1])
    return cycle


def chip_share() -> int:
    """Bytes of the heap that the simulated chip takes, which on a board is C and takes none."""
    cycle = Cycle()
    _play("128wK", 0, cycle)
    bare = subprocess.run(
        [find_micropython(), "-c", "import gc; gc.collect(); print(gc.mem_alloc())"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    return int(cycle.output[-1].split()[1]) - int(bare.stdout)


def _play(
    heap: str, seconds: int, cycle: Cycle, closed: bool = False, mqtt: bool = False, own: Path | None = None
) -> None:
    world = _World(cycle, closed)
    with tempfile.TemporaryDirectory() as folder:
        tree, chip, flash = (Path(folder) / name for name in ("tree", "chip", "flash"))
        app = own or Path(folder) / "app.py"
        if not own:
            app.write_text((ROOT / "device" / "app.py").read_text())
        if mqtt:
            app.write_text(app.read_text().replace("links=[LoRa(board)]", "links=[LoRa(board), _mqtt(board)]") + MQTT)
        compile_tree(ROOT / "device", tree, boards.load("VIRTUAL"), app=app)
        pack(tree)
        for source in CHIP.rglob("*.py"):
            name = source.relative_to(CHIP)
            compile_file(source, (chip / name).with_suffix(".mpy"), name.stem, 3)
        if closed:
            # the tree is its slot
            boot = (tree / "boot.py").read_text().replace("_slot = _choose()", '_slot = "."')
            (tree / "boot.py").write_text(boot.replace('".frozen", "/lib"]', '".frozen", "../chip"]'))
        flash.write_bytes(b"\xff" * FLASH_LEN)
        begin = f"import sys; sys.argv[:] = {['', '../flash', str(seconds)]!r}; import start"
        # file names on the heap are as long as on a board, where they begin with /lib
        with subprocess.Popen(
            [find_micropython(), "-X", f"heapsize={heap}", "-c", begin],
            env={**os.environ, "MICROPYPATH": "../chip::lib:.frozen"},
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            watch = threading.Timer(LIMIT_S, process.kill)
            watch.start()
            assert process.stdin and process.stdout
            for line in process.stdout:
                if line.startswith(b"@ "):
                    process.stdin.write(world.answer(*line.decode().split()[1:]))
                    process.stdin.flush()
                else:
                    cycle.output.append(line.decode(errors="replace").rstrip("\n"))
            watch.cancel()
