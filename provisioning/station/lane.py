"""A lane: one port, one board after the other, in a thread of its own.

A board that is done or failed is waited for to be unplugged; the next one to be plugged in is begun. What is done to a
board is in `provisioning.station.steps`.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from provisioning.station.journal import BEGUN, FAILED, JournalError
from provisioning.station.ledger import Ledger
from provisioning.station.ports import Watch
from provisioning.station.steps import InWork, Job, Setup, Step, StepFailed, Tools

Kind = Literal["waiting", "begun", "step", "done", "repeated", "failed", "ended", "broken"]


@dataclass(frozen=True)
class Event:
    """What happens on a lane.

    Attributes:
        lane: 1, 2, 3 …
        port: its path.
        kind: waiting for a board; begun; step (also progress within it); done; repeated: it was done before; failed;
            ended: the lane stopped as it was told; broken: it cannot go on.
        eui, ticket: hex, "" where not known.
        step: of "step" and "failed".
        fraction: how much of the step is done, 0 to 1.
        reason: of "failed", one of `steps.Reason`.
        text, remedy: of "failed" and "broken", for people.
        ms: how long the board took.
    """

    lane: int
    port: str
    kind: Kind
    eui: str = ""
    ticket: str = ""
    step: str = ""
    fraction: float = 0.0
    reason: str = ""
    text: str = ""
    remedy: str = ""
    ms: int = 0


class Lane(threading.Thread):
    """One port.

    Args:
        number: 1, 2, 3 …
        port: its path.
        setup: what is done to each board.
        ledger: of the station.
        in_work: of the station.
        stopping: no further board is begun once it is set.
        report: called with each event, from the lane's thread.
        tools: what the steps work with.
        clock: Unix seconds.
    """

    def __init__(
        self,
        number: int,
        port: str,
        setup: Setup,
        ledger: Ledger,
        in_work: InWork,
        stopping: threading.Event,
        report: Callable[[Event], object],
        *,
        tools: Tools | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name=f"lane-{number}", daemon=True)
        self.number = number
        self.port = port
        self._setup = setup
        self._ledger = ledger
        self._in_work = in_work
        self._stopping = stopping
        self._report = report
        self._tools = tools
        self._clock = clock
        self._watch = Watch(port)

    def run(self) -> None:
        """Until `stopping` is set and the board in hand is finished, or the journal cannot be written."""
        try:
            while not self._stopping.is_set():
                self._tell("waiting")
                if not self._watch.wait_for_board(self._stopping.is_set):
                    break
                self._one()
        except JournalError as error:
            self._stopping.set()
            self._tell("broken", text=str(error), remedy=error.remedy)
            return
        except Exception as error:
            # a defect of ours: said once, and the other lanes go on
            self._tell("broken", text=f"unexpected {type(error).__name__}: {error}", remedy="this is a defect")
            return
        self._tell("ended")

    def _one(self) -> None:
        self._ledger.append(BEGUN, lane=str(self.number), port=self.port)
        self._tell("begun")
        job = Job(
            self.port,
            self._setup,
            self._ledger,
            self._in_work,
            present=self._watch.present,
            tell=self._step,
            tools=self._tools,
            clock=self._clock,
        )
        try:
            done = job.run()
        except StepFailed as error:
            self._ledger.append(
                FAILED, eui=error.eui, ticket=error.ticket, reason=str(error.reason), step=str(error.step)
            )
            self._report(
                Event(
                    self.number,
                    self.port,
                    "failed",
                    eui=error.eui,
                    ticket=error.ticket,
                    step=str(error.step),
                    reason=str(error.reason),
                    text=str(error),
                    remedy=error.remedy,
                )
            )
            return
        self._tell("repeated" if done.repeated else "done", eui=done.eui, ticket=done.ticket, ms=done.ms)

    def _step(self, step: Step, fraction: float, eui: str) -> None:
        self._report(Event(self.number, self.port, "step", eui=eui, step=str(step), fraction=fraction))

    def _tell(
        self, kind: Kind, *, eui: str = "", ticket: str = "", text: str = "", remedy: str = "", ms: int = 0
    ) -> None:
        self._report(Event(self.number, self.port, kind, eui=eui, ticket=ticket, text=text, remedy=remedy, ms=ms))
