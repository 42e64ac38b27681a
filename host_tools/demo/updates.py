"""The demo's second half: a release is rolled out, one that crashes rolls itself back, and three attacks are refused.

Owns this part of the story and what is shown of it; the work is done by the site's pipeline, the rollout service, and
the boards themselves.
"""

import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from host_tools.sim.site import Site
from sealwire import update as wire
from sealwire.messages import UPDATE
from sealwire.names import UPDATE_CODES, UPDATE_STATES

if TYPE_CHECKING:
    from host_tools.ingest.decode import UpdateReport
    from host_tools.ingest.intake import Stored
    from host_tools.rollout.published import Published

STEP_S = 45.0  # real seconds for one step of the story at the most
BROKEN = '\n\nraise RuntimeError("this release is broken")\n'


class DemoFailed(Exception):
    """The demo did not come to its good end; the text says where it stopped."""

    remedy = "run it again with --keep DIR and look at the folder; on a slow computer with a lower --speed"


class Updates:
    """Plays it once, on a site whose boards run release 1 and send.

    Args:
        site: the installation.
        app: source of the application that release 1 was built of.
        stored: every frame that ingest stores, in order.
        take: told of each frame that is taken from `stored`.
        tell: prints one line.
    """

    def __init__(
        self,
        site: Site,
        app: str,
        stored: "queue.Queue[Stored]",
        take: "Callable[[Stored], None]",
        tell: Callable[[str], None],
    ) -> None:
        self._site = site
        self._app = app
        self._stored = stored
        self._take = take
        self._tell = tell
        self._names = {self._eui(board.name): board.name for board in site.boards}
        self._reports: list[tuple[str, UpdateReport]] = []
        self._telemetry: set[str] = set()

    def run(self) -> dict[str, str]:
        """Play it; by attack, the reason for which each board refused it.

        Raises:
            DemoFailed: a step did not come to its end in time.
        """
        self._roll_out_a_good_one()
        self._roll_out_a_broken_one()
        return self._attacks()

    def _roll_out_a_good_one(self) -> None:
        self._tell("6  Release 2 is built, signed by two of three keys, published and rolled out.")
        published = self._publish(2, "\nRELEASE = 2\n")
        self._site.rollouts.create(published)
        self._await("release 2 is confirmed", lambda: self._all_say(2, wire.CONFIRMED))
        self._telemetry.clear()
        self._await("telemetry comes from release 2", lambda: self._telemetry >= set(self._names))
        self._tell("   They go on sending, from release 2.")

    def _roll_out_a_broken_one(self) -> None:
        self._tell("7  Release 3, signed as well, raises when it starts.")
        published = self._publish(3, BROKEN)
        self._site.rollouts.create(published)
        self._await("release 3 is rolled back", lambda: self._all_say(3, wire.ROLLED_BACK))
        self._tell("   They are back at release 2 by themselves.")

    def _attacks(self) -> dict[str, str]:
        self._tell("8  Three attacks, ordered as by somebody who holds the server.")
        pipeline = self._site.pipeline
        tampered = pipeline.place(pipeline.release(4, "4.0", self._source("\nRELEASE = 4\n")))
        served = pipeline.repository / tampered.model / "4" / "manifest.suit"
        changed = bytearray(served.read_bytes())
        changed[-20] ^= 0x01
        served.write_bytes(changed)
        unsigned = pipeline.place(pipeline.release(5, "5.0", self._source("\nRELEASE = 5\n"), signatures=1))
        older = pipeline.published(1)
        boards = list(self._names)
        refused = self._refusals(
            [
                ("a tampered manifest", tampered, boards[0]),
                ("one signature too few", unsigned, boards[-1]),
            ]
        )
        return refused | self._refusals([("an older release", older, boards[0])])

    def _refusals(self, orders: "list[tuple[str, Published, str]]") -> dict[str, str]:
        found: dict[str, str] = {}
        # a board has one order at a time
        rounds = [orders] if len({eui for *_, eui in orders}) == len(orders) else [[one] for one in orders]
        for some in rounds:
            for _, published, eui in some:
                self._order(published, eui)
            for what, published, eui in some:
                code = self._refusal(what, published.sequence, eui)
                self._tell(f"   {what}: {self._names[eui]} refused ({code}) and runs what it ran")
                found[what] = code
        return found

    def _refusal(self, what: str, sequence: int, eui: str) -> str:
        def codes() -> list[int]:
            return [
                report.code
                for sender, report in self._reports
                if (sender, report.release, report.state) == (eui, sequence, wire.REFUSED)
            ]

        self._await(f"{what} is refused", lambda: bool(codes()))
        return UPDATE_CODES[codes()[0]]

    # the site

    def _publish(self, sequence: int, more: str) -> "Published":
        pipeline = self._site.pipeline
        published = pipeline.publish(pipeline.release(sequence, f"{sequence}.0", self._source(more)))
        sizes = pipeline.delivered(published)
        told = ", ".join(f"{name} {length:,} B" for name, length in sizes.items())
        self._tell(f"   image {published.size:,} B; delivered as {told}")
        return published

    def _source(self, more: str) -> Path:
        path = self._site.directory / "next_app.py"
        path.write_text(self._app + more)
        return path

    def _order(self, published: "Published", eui: str) -> None:
        from host_tools.ingest import plaintexts
        from host_tools.ingest.commands import Commands, Order
        from provisioning.registry.models import Device

        device = Device.objects.get(eui=bytes.fromhex(eui), former=None)
        plaintext = plaintexts.update(published.sequence, published.manifest_digest, published.url)
        commands = Commands(self._site.vault, self._site.clock.now)
        commands.queue([Order(device.pk, bytes.fromhex(eui), UPDATE, plaintext)])

    def _eui(self, name: str) -> str:
        return self._site.enrolled[name]

    # what comes in

    def _all_say(self, sequence: int, state: int) -> bool:
        said = {sender for sender, report in self._reports if (report.release, report.state) == (sequence, state)}
        return said >= set(self._names)

    def _await(self, what: str, there: Callable[[], bool]) -> None:
        from host_tools.ingest.decode import Telemetry, UpdateReport

        limit = time.monotonic() + STEP_S
        while not there():
            self._site.worker.check()
            left = limit - time.monotonic()
            if left <= 0:
                logs = "; ".join(f"{board.name}: {list(board.log)[-4:]}" for board in self._site.boards)
                raise DemoFailed(f"after {STEP_S:g} s it is still awaited that {what}; {logs}")
            try:
                stored = self._stored.get(timeout=min(left, 0.25))
            except queue.Empty:
                continue
            if stored.eui not in self._names:
                continue
            self._take(stored)
            if isinstance(stored.message, Telemetry):
                self._telemetry.add(stored.eui)
            elif isinstance(stored.message, UpdateReport):
                self._reports.append((stored.eui, stored.message))


def told(report: "UpdateReport") -> str:
    """An update report in words."""
    why = f" ({UPDATE_CODES[report.code]})" if report.code in UPDATE_CODES and report.code else ""
    return f"release {report.release} {UPDATE_STATES.get(report.state, report.state)}{why}"
