"""The demo: two virtual wearables from the factory to their readings, attacks that are refused, updates.

Owns the story and what is shown of it; the updates' part is in `host_tools.demo.updates`. Everything that works in it
is real and lives elsewhere: `host_tools.sim.site` puts it together.
"""

import queue
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from host_tools.demo import updates
from host_tools.demo.people import leave_tokens
from host_tools.demo.updates import DemoFailed
from host_tools.sim.clock import SimClock
from host_tools.sim.ether import EtherClient, Transmission
from host_tools.sim.site import DEVICE, Site
from host_tools.sim.wearer import Wearer
from sealwire import records
from sealwire.messages import EPOCH_2025
from sealwire.names import EVENTS
from sealwire.radio import EU868_DUTY_PERMILLE

if TYPE_CHECKING:
    from host_tools.ingest.intake import Refusal, Stored

SPEED = 20.0
READINGS_S = 45.0  # real seconds of readings at the most
FRAMES_WANTED = 2  # of telemetry, from each board
ATTACK_S = 6.0
MAC = bytes.fromhex("70b3d5001000")
RECORDINGS = ("fast", "slow")
# the example sends every five minutes; a demo is watched, and orders reach a board in the answers to what it sends
SENDS = "send_every_s=300", "send_every_s=60"


@dataclass
class Summary:
    """What the demo measured.

    Attributes:
        sent: packets that the boards put on the air.
        received: packets that the gateway passed on, attacks among them.
        opened: frames whose tag was right.
        stored: frames that were new.
        refused: refusals by reason, attacks among them.
        samples: values that arrived.
        bytes_a_sample: everything that the boards put on the air before the updates, by the samples that arrived.
        airtime: by board, seconds on the air and the share of the hour's duty cycle that this is.
        attacks: by name, the reason for which it was refused.
        releases: by device, the release that it runs in the end.
    """

    sent: int = 0
    received: int = 0
    opened: int = 0
    stored: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    bytes_a_sample: float = 0.0
    airtime: dict[str, dict[str, float]] = field(default_factory=dict)
    attacks: dict[str, str] = field(default_factory=dict)
    releases: dict[str, int] = field(default_factory=dict)
    real_s: float = 0.0
    virtual_s: float = 0.0


class Demo:
    """Runs the story once.

    Args:
        directory: where everything is kept.
        console: where it is told; a table that lives if it is a terminal, else plain lines.
        boards: how many wearables, 1 to 8.
        speed: virtual seconds a real second.
        seed: makes it repeatable, as far as two processes on a busy computer are.
        app: an application in place of the example.
        mosquitto: run mosquitto, configured as in earnest, in place of the embedded broker.
        people: leave operators, and tokens of theirs in the directory.
    """

    def __init__(
        self,
        directory: Path,
        console: Console,
        *,
        boards: int = 2,
        speed: float = SPEED,
        seed: int = 1,
        app: Path | None = None,
        people: bool = False,
        mosquitto: bool = False,
    ) -> None:
        self._mosquitto = mosquitto
        self._people = people
        self._directory = directory
        self._console = console
        self._count = boards
        self._clock = SimClock.start(speed)
        self._seed = seed
        self._app = (app or DEVICE / "app.py").read_text() if app or DEVICE.is_dir() else ""
        if app is None:
            self._app = self._app.replace(*SENDS)
        self._stored: queue.Queue[Stored] = queue.Queue()
        self._refused: queue.Queue[Refusal] = queue.Queue()
        self._on_air: list[Transmission] = []
        self._latest: dict[tuple[str, str], tuple[str, str, int]] = {}
        self._telemetry: Counter[str] = Counter()
        self._samples = 0

    def run(self) -> Summary:
        """Play it and say what came of it.

        Raises:
            DemoFailed: readings stayed away, or an attack was not refused.
        """
        begun = time.monotonic()
        with ExitStack() as stack:
            self._tell(
                "1  Release 1 is built and signed; registry, broker, radio medium, gateway and ingest are started."
            )
            self._directory.mkdir(parents=True, exist_ok=True)
            app = self._directory / "app.py"
            app.write_text(self._app)
            site = stack.enter_context(
                Site(
                    self._directory,
                    self._clock,
                    on_frame=self._stored.put,
                    on_refused=self._refused.put,
                    seed=self._seed,
                    app=app,
                    mosquitto=self._mosquitto,
                )
            )
            site.ether.on_transmission.append(self._on_air.append)
            started = self._clock.now()
            self._enrol(site)
            self._show_readings(site)
            summary = Summary(attacks=self._attacks(site))
            summary.bytes_a_sample = self._bytes_a_sample(site)
            story = updates.Updates(site, self._app, self._stored, self._take, self._tell)
            summary.attacks |= story.run()
            summary.releases = self._releases()
            self._measure(site, summary)
            summary.virtual_s = self._clock.now() - started
            if self._people:
                leave_tokens(site.vault, self._directory)
        summary.real_s = time.monotonic() - begun
        return summary

    def _tell(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    # the way of an identity

    def _enrol(self, site: Site) -> None:
        self._tell(f"2  The registry issues {self._count} tickets; {self._count} virtual boards are switched on.")
        self._tickets = site.issue(self._count)
        drawn = random.Random(self._seed)  # noqa: S311 - repeatable, and no secret
        for number in range(self._count):
            wearer = Wearer(drawn.randrange(1 << 30), RECORDINGS[number % len(RECORDINGS)])
            site.board(f"band-{number + 1}", MAC[:5] + bytes((number + 1,)), wearer)
        self._tell("3  The station enrols them with mpremote over their serial ports.")
        for board in site.boards:
            done = site.enrol(board, self._tickets)
            self._tell(f"   {board.name} at {board.port} is {done.record.eui.hex()}")
        result = site.take()
        if len(result.admitted) != self._count:
            raise DemoFailed(f"the registry admitted {len(result.admitted)} of {self._count} boards")
        self._tell(f"   The registry imports the station's journal: {len(result.admitted)} admitted.")

    # the way of a reading

    def _show_readings(self, site: Site) -> None:
        self._tell(f"4  They sample, seal, queue and send; time runs {self._clock.speed:g} times as fast.")
        limit = time.monotonic() + READINGS_S
        with ExitStack() as stack:
            refresh: Callable[[], Any] = lambda: None  # noqa: E731
            if self._console.is_terminal:
                live = stack.enter_context(Live(self._table(), console=self._console, refresh_per_second=4))
                refresh = lambda: live.update(self._table())  # noqa: E731
            while not self._enough():
                left = limit - time.monotonic()
                if left <= 0:
                    raise DemoFailed(f"after {READINGS_S:g} s telemetry is still missing: {self._missing(site)}")
                site.worker.check()
                try:
                    stored = self._stored.get(timeout=min(left, 0.25))
                except queue.Empty:
                    continue
                self._take(stored)
                refresh()

    def _enough(self) -> bool:
        return sum(count >= FRAMES_WANTED for count in self._telemetry.values()) == self._count

    def _missing(self, site: Site) -> str:
        heard = dict(self._telemetry)
        logs = "; ".join(f"{board.name}: {list(board.log)[-3:]}" for board in site.boards)
        return f"frames by device {heard}; {logs}"

    def _take(self, stored: "Stored") -> None:
        from host_tools.ingest.decode import Event, Telemetry, UpdateReport

        message = stored.message
        summary: list[str] = []
        if isinstance(message, Telemetry):
            self._telemetry[stored.eui] += 1
            values: dict[int, list[tuple[int, int]]] = defaultdict(list)
            for t, record, value in message.samples():
                values[record].append((t, value))
            for record, found in values.items():
                self._samples += len(found)
                name, unit, scale = records.lookup(record)
                t, value = found[-1]
                text = f"{Decimal(value).scaleb(scale)} {unit}".strip()
                before = self._latest.get((stored.eui, name), ("", "", 0))[2]
                self._latest[stored.eui, name] = (text, _clock_time(t), before + len(found))
                summary.append(f"{len(found)} x {name}, newest {text}")
        elif isinstance(message, Event):
            summary.append(f"event {EVENTS.get(message.event, message.event)}")
        elif isinstance(message, UpdateReport):
            summary.append(updates.told(message))
        else:
            summary.append(type(message).__name__.lower())
        if not self._console.is_terminal:
            self._tell(
                f"   {_clock_time(stored.received_at - EPOCH_2025)}  {stored.eui}  frame {stored.epoch}/{stored.ctr}"
                f"  {stored.frame_len} B  {'; '.join(summary)}"
            )

    def _table(self) -> Table:
        table = Table(title="Readings as they arrive")
        for heading in ("device", "record", "newest value", "at (UTC)", "samples"):
            table.add_column(heading, justify="right" if heading in ("newest value", "samples") else "left")
        for (eui, name), (value, at, count) in sorted(self._latest.items()):
            table.add_row(eui, name, value, at, str(count))
        return table

    # what is refused

    def _attacks(self, site: Site) -> dict[str, str]:
        self._tell("5  Three attacks.")
        heard = [sent for sent in self._on_air if not sent.params.invert_iq]
        if not heard:
            raise DemoFailed("nothing of the boards was on the air")
        captured = heard[-1]
        flipped = bytearray(captured.packet)
        flipped[-10] ^= 0x01
        assert site.ether.address is not None
        attacker = EtherClient(site.ether.address, "attacker", self._clock)
        try:
            return {
                "a replayed frame": self._sent_by_attacker(attacker, captured, captured.packet, "a replayed frame"),
                "one bit changed": self._sent_by_attacker(attacker, captured, bytes(flipped), "one bit changed"),
                "a used ticket": self._used_ticket(site),
            }
        finally:
            attacker.close()

    def _sent_by_attacker(self, attacker: EtherClient, captured: Transmission, packet: bytes, what: str) -> str:
        # the boards go on sending, so packets of theirs may collide with the attacker's; then it tries again
        limit = time.monotonic() + ATTACK_S
        while not self._refused.empty():
            self._refused.get_nowait()
        while time.monotonic() < limit:
            report = attacker.transmit(packet, captured.params)
            self._clock.sleep_until(report.end)
            try:
                refusal = self._refused.get(timeout=1.0)
            except queue.Empty:
                continue
            self._tell(f"   {what}, sent again by somebody else: refused ({refusal.reason.value})")
            return refusal.reason.value
        raise DemoFailed(f"{what} was not refused")

    def _used_ticket(self, site: Site) -> str:
        board = site.board("copycat", MAC[:5] + b"\xff", Wearer(7, RECORDINGS[0]))
        journal = self._directory / "second-station.jsonl"
        site.enrol(board, self._tickets, journal)
        board.stop()
        site.boards.remove(board)
        result = site.take(journal)
        if result.admitted or not result.refused:
            raise DemoFailed("a second board was admitted with a used ticket")
        reason = str(result.refused[0].reason)
        self._tell(f"   a second board with a used ticket, from another station: refused ({reason})")
        return reason

    # what it came to

    def _releases(self) -> dict[str, int]:
        from provisioning.registry.models import Device

        return {device.eui_hex: device.release for device in Device.objects.order_by("eui")}

    def _bytes_a_sample(self, site: Site) -> float:
        while not self._stored.empty():
            self._take(self._stored.get_nowait())
        names = {board.name for board in site.boards}
        return sum(len(sent.packet) for sent in self._on_air if sent.sender in names) / max(1, self._samples)

    def _measure(self, site: Site, summary: Summary) -> None:
        while not self._stored.empty():
            self._take(self._stored.get_nowait())
        statistics = site.worker.statistics()
        names = {board.name for board in site.boards}
        own = [sent for sent in self._on_air if sent.sender in names]
        summary.sent = len(own)
        summary.received = site.bridge.statistics()["uplinks"]
        summary.opened = statistics.opened
        summary.stored = statistics.stored
        summary.refused = dict(statistics.refused)
        summary.samples = self._samples
        for name, sender in site.ether.statistics()["senders"].items():
            if name in names and sender["packets"]:
                budget = 3600 * EU868_DUTY_PERMILLE / 1000
                share = sender["busiest_hour_s"] / budget
                summary.airtime[name] = {"seconds": sender["airtime_s"], "share_of_duty_cycle": share}


def print_summary(summary: Summary, console: Console) -> None:
    """The last lines of the demo."""
    refused = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.refused.items())) or "none"
    lines = [
        f"   frames sent {summary.sent}, received {summary.received}, opened {summary.opened}, stored {summary.stored}",
        f"   refused: {refused}; and the board with the used ticket",
        f"   {summary.bytes_a_sample:.2f} bytes on air a sample before the updates (a frame a minute; see make bench)",
    ]
    for name, used in sorted(summary.airtime.items()):
        lines.append(
            f"   {name}: {used['seconds']:.2f} s of airtime, {used['share_of_duty_cycle']:.1%} of the hour's duty cycle"
        )
    releases = ", ".join(f"{eui} {release}" for eui, release in summary.releases.items())
    lines.append(f"   releases: {releases}")
    lines.append(f"   {summary.virtual_s / 60:.0f} virtual minutes in {summary.real_s:.0f} s")
    console.print("9  Summary", *lines, sep="\n", highlight=False, markup=False, soft_wrap=True)


def _clock_time(t: float) -> str:
    return datetime.fromtimestamp(int(t) + EPOCH_2025, UTC).strftime("%H:%M:%S")
