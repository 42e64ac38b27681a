"""A site whose boards get updates: what they say and print with its time, orders beside any rollout, waiting."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from host_tools.ingest.decode import Status, Telemetry, UpdateReport
from host_tools.rollout.published import Published
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.ether import Transmission
from host_tools.sim.site import Site
from host_tools.sim.wearer import Wearer
from provisioning.tickets import TicketFile
from sealwire.messages import EPOCH_2025, STATUS_RELEASE, STATUS_RUNNING

SPEED = 20.0
LIMIT_S = 90.0  # real; a busy computer is no defect
ASLEEP = 0x53  # last byte of the MAC of boards that sleep deeply
APP = """
import machine
from sealband.app import App, Every, part
from sealband.links.lora import LoRa
from sealband.sensors.tmp117 import SkinTemperature

RELEASE = %d


def build(board):
    board.power()
    asleep = machine.unique_id()[5] == 0x53
    return App(
        sensors=[
            Every(30, part("max30102", board)),
            Every(20 if asleep else 10, SkinTemperature(board.i2c())),
        ],
        links=[LoRa(board)],
        send_every_s=60,
        deep_sleep=asleep,
    )
"""
RAISES = "raise RuntimeError('not my day')\n"
HANGS = "while True:\n    pass\n"


@dataclass(frozen=True)
class Heard:
    """A frame that the server opened."""

    board: str
    epoch: int
    ctr: int
    at: float  # seconds since 2025, virtual
    message: object


@dataclass(frozen=True)
class Printed:
    """A line of a board's console."""

    board: str
    at: float
    text: str


class UpdateSite:
    """Boards by name on a site that heard them; a context manager.

    Attributes:
        heard, printed, air: everything so far.
        known: (release, first bytes of its image's digest) of all that enough people signed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()
        self._sequence = 1
        self._tickets: TicketFile | None = None
        self.clock = SimClock.start(SPEED)
        self.heard: list[Heard] = []
        self.printed: list[Printed] = []
        self.air: list[Transmission] = []
        self.known: set[tuple[int, bytes]] = set()
        self.site = Site(folder / "site", self.clock, app=self.app(1), seed=5, on_frame=self._on_frame)

    def __enter__(self) -> "UpdateSite":
        self.site.__enter__()
        self.site.ether.on_transmission.append(self.air.append)
        self._know(self.site.pipeline.published(1))
        return self

    def __exit__(self, *_: object) -> None:
        self.site.__exit__(None, None, None)

    def join(self, boards: dict[str, int]) -> None:
        """Enrol boards: name → last byte of the MAC; returns when all were heard."""
        tickets = self.site.issue(len(boards))
        for number, (name, last) in enumerate(boards.items()):
            mac = bytes.fromhex("70b3d50030") + bytes((last,))
            wearer = Wearer(number + 30, ("fast", "slow")[number % 2])
            board = self.site.board(name, mac, wearer, on_line=lambda line, name=name: self._on_line(name, line))
            self.site.enrol(board, tickets)
        self.site.take()
        for name in boards:
            self.wait(lambda name=name: self.telemetry(name), f"telemetry of {name}")

    def board(self, name: str) -> VirtualBoard:
        return next(board for board in self.site.boards if board.name == name)

    # releases

    def app(self, sequence: int, extra: str = "") -> Path:
        """An application of its own for a release, with code that runs when it is imported."""
        path = self._folder / f"app{sequence}.py"
        path.write_text(APP % sequence + extra)
        return path

    def build(self, extra: str = "", signatures: int = 2) -> Path:
        """The folder of the next release."""
        self._sequence += 1
        number = self._sequence
        return self.site.pipeline.release(number, f"{number}.0", self.app(number, extra), signatures)

    def publish(self, extra: str = "") -> Published:
        """The next release, signed by two and published."""
        published = self.site.pipeline.publish(self.build(extra))
        self._know(published)
        return published

    def order(self, names: "str | list[str]", published: Published) -> None:
        """Queue the order of a release for boards, whatever a rollout would say to that."""
        from host_tools.ingest import plaintexts
        from host_tools.ingest.commands import Commands, Order
        from provisioning.registry.models import Device
        from sealwire.messages import UPDATE

        plaintext = plaintexts.update(published.sequence, published.manifest_digest, published.url)
        orders = []
        for name in [names] if isinstance(names, str) else names:
            eui = bytes.fromhex(self.site.enrolled[name])
            orders.append(Order(Device.objects.get(eui=eui).pk, eui, UPDATE, plaintext))
        Commands(self.site.vault, self.clock.now).queue(orders)

    def _know(self, published: Published) -> None:
        self.known.add((published.sequence, published.image_digest[:8]))

    # what was heard

    def of(self, name: str) -> list[Heard]:
        return [one for one in list(self.heard) if one.board == name]

    def telemetry(self, name: str, after: float = 0.0) -> list[Heard]:
        """Telemetry that came after a time."""
        return [one for one in self.of(name) if isinstance(one.message, Telemetry) and one.at > after]

    def reports(self, name: str, sequence: int) -> list[tuple[int, int]]:
        """(state, code) of what the board reported of a release, in the order in which it was sealed."""
        found = [one for one in self.of(name) if isinstance(one.message, UpdateReport)]
        found.sort(key=lambda one: (one.epoch, one.ctr))
        return [(one.message.state, one.message.code) for one in found if one.message.release == sequence]

    def statuses(self, name: str) -> list[tuple[int, bytes]]:
        """(release, digest's first bytes) by the board's statuses, in the order in which they were sealed."""
        found = [one for one in self.of(name) if isinstance(one.message, Status)]
        found.sort(key=lambda one: (one.epoch, one.ctr))
        return [(one.message.fields[STATUS_RELEASE], one.message.fields[STATUS_RUNNING]) for one in found]

    def lines(self, name: str, text: str) -> list[Printed]:
        """Lines of the board's console that contain a text."""
        return [one for one in list(self.printed) if one.board == name and text in one.text]

    # waiting

    def now(self) -> float:
        """Seconds since 2025, virtual."""
        return self.clock.now() - EPOCH_2025

    def wait(self, condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
        """Until a condition holds; fails the test with what was said last if it does not come to that."""
        limit = time.monotonic() + limit_s
        with self._changed:
            while not condition():
                if time.monotonic() > limit:
                    last = [f"{one.board} {one.message}" for one in self.heard[-12:]]
                    shown = "\n".join([*last, *(f"{one.board}| {one.text}" for one in self.printed[-60:])])
                    raise AssertionError(f"no {what} within {limit_s} s\n{shown}")
                self._changed.wait(0.2)

    def wait_report(self, name: str, published: Published, state: int) -> None:
        """Until the board has reported this state of a release."""
        number = published.sequence
        what = f"report {state} of release {number} from {name}"
        self.wait(lambda: state in [one for one, _ in self.reports(name, number)], what)

    def wait_alive(self, name: str, sequence: int) -> None:
        """Until telemetry came from the board that was measured after what it last said of a release."""
        said = [one.at for one in self.of(name) if getattr(one.message, "release", None) == sequence]
        self.wait(lambda: any(one.message.t0 > said[-1] for one in self.telemetry(name)), f"new telemetry of {name}")

    def _on_frame(self, stored: object) -> None:
        names = {eui: name for name, eui in self.site.enrolled.items()}
        with self._changed:
            name = names.get(stored.eui, stored.eui)
            self.heard.append(Heard(name, stored.epoch, stored.ctr, self.now(), stored.message))
            self._changed.notify_all()

    def _on_line(self, name: str, line: str) -> None:
        with self._changed:
            self.printed.append(Printed(name, self.now(), line))
            self._changed.notify_all()
