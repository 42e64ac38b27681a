"""A station at work: its lanes, over one journal.

Ends when every ticket's board is done, when as many boards are done as were asked for, or when it is told to; the
boards in hand are finished first. A board whose ticket is not among this station's is nobody's business here.
"""

import threading
import time
from collections.abc import Callable, Sequence

from provisioning.station.lane import Event, Lane
from provisioning.station.ledger import Ledger
from provisioning.station.steps import InWork, Setup, Tools

POLL_S = 0.1


class Station:
    """All lanes.

    Args:
        ports: one lane each.
        setup: what is done to each board.
        ledger: over this station's journal.
        report: called with each event, one at a time, from the lanes' threads.
        count: stop after so many boards were done now; 0: when every ticket is used.
        tools: what the steps work with.
        clock: Unix seconds.

    Attributes:
        broken: the event of a lane that cannot go on, or None.
    """

    def __init__(
        self,
        ports: Sequence[str],
        setup: Setup,
        ledger: Ledger,
        report: Callable[[Event], object],
        *,
        count: int = 0,
        tools: Tools | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.broken: Event | None = None
        self.done = 0
        self.failed = 0
        self._ledger = ledger
        self._report = report
        self._count = count
        self._wanted = {ticket.ticket_id.hex() for ticket in setup.tickets.tickets}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        in_work = InWork()
        self._lanes = [
            Lane(number, port, setup, ledger, in_work, self._stopping, self._event, tools=tools, clock=clock)
            for number, port in enumerate(ports, 1)
        ]

    def run(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Work until the end; `stopped` is asked all the time whether that is now."""
        if self.is_over():
            return
        for lane in self._lanes:
            lane.start()
        while any(lane.is_alive() for lane in self._lanes):
            if stopped() or self.is_over():
                self._stopping.set()
            time.sleep(POLL_S)

    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        if self._count:
            return self.done >= self._count
        return self._wanted <= {standing.ticket for standing in self._ledger.standings() if standing.done}

    def _event(self, event: Event) -> None:
        with self._lock:
            self.done += event.kind == "done"
            self.failed += event.kind == "failed"
            if event.kind == "broken":
                self.broken = event
            self._report(event)
