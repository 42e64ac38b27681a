"""Rollouts on PostgreSQL: workers and operators at the same time, whose transactions really overlap there.

The test starts this file as a process of its own, since one process knows one kind of database.
"""

import random
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from tests.support.micropython import ROOT
from tests.support.postgresql import TemporaryPostgresql, has_postgresql

DEVICES = 12
WORKERS = 3
TURNS = 12


@pytest.mark.skipif(not has_postgresql(), reason="needs PostgreSQL's initdb and postgres on PATH")
@pytest.mark.parametrize("scenario", ["once", "paused", "ordering", "together"])
def test_workers_and_operators_at_once(scenario):
    with TemporaryPostgresql() as server:
        command = [sys.executable, "-m", "tests.host.test_rollout_postgresql", server.url, scenario]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def main(url: str, scenario: str) -> None:
    from provisioning import registry
    from provisioning.registry.vault import Vault

    registry.setup(url, extra_apps=("host_tools.ingest", "host_tools.rollout"))
    # the supports below would set up SQLite
    registry.setup = lambda *_args, **_options: None
    from provisioning.registry import services
    from tests.support.fleet import MASTER_KEY, Clock
    from tests.support.rollouts import RolloutFleet, Rollouts, Tracker

    fleet = RolloutFleet.__new__(RolloutFleet)
    fleet.clock, fleet.vault = Clock(), Vault(MASTER_KEY)
    services.init_registry(fleet.vault)
    fleet.rollouts = Rollouts(fleet.vault, "tester", fleet.clock)
    fleet.tracker = Tracker(fleet.vault, fleet.clock)
    fleet.server = fleet.intake(observers=[fleet.tracker])
    {"once": _once, "paused": _paused, "ordering": _ordering, "together": _together}[scenario](fleet)
    from provisioning.registry import audit

    audit.verify(fleet.vault)


def _side_by_side(*actions) -> None:
    """Each in a thread with a connection of its own; the first error is raised."""
    from django.db import connections

    errors: list[BaseException] = []

    def run(action) -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive(), "a worker hangs"
    if errors:
        raise errors[0]


def _once(fleet) -> None:
    """Three workers get a new frame of each device at the same moment: each order leaves once."""
    from tests.support.rollouts import Command, process, release, telemetry

    boards = [fleet.wear() for _ in range(DEVICES)]
    for board in boards:
        board.send()
    fleet.rollouts.create(release())
    frames = [[board.over_lora(board.wearable.seal(telemetry(70))) for board in boards] for _ in range(WORKERS)]
    barrier, commanded = threading.Barrier(WORKERS), []

    def work(mine) -> None:
        server = fleet.intake(observers=[fleet.tracker])
        for frame in mine:
            barrier.wait(30)
            commanded.append(process(server, frame).commanded)

    _side_by_side(*(lambda mine=mine: work(mine) for mine in frames))
    assert sum(commanded) == DEVICES, commanded
    assert set(Command.objects.values_list("tries", flat=True)) == {1}


def _paused(fleet) -> None:
    """Nothing leaves after pause has returned, however busy the workers are."""
    from tests.support.rollouts import Command, process, release, telemetry

    boards = [fleet.wear() for _ in range(DEVICES)]
    for board in boards:
        board.send()
    number = fleet.rollouts.create(release())
    paused = threading.Event()
    late: list[int] = []

    def work(worker: int) -> None:
        server = fleet.intake(observers=[fleet.tracker])
        for board in boards[worker::WORKERS]:
            for _ in range(2):
                was_paused = paused.is_set()
                outcome = process(server, board.over_lora(board.wearable.seal(telemetry(70))))
                if was_paused:
                    late.append(outcome.commanded)

    def pause() -> None:
        fleet.rollouts.pause(number)
        paused.set()

    _side_by_side(*(lambda worker=worker: work(worker) for worker in range(WORKERS)), pause)
    assert sum(late) == 0
    assert not Command.objects.filter(state__in=("queued", "sent")).exists()
    fleet.clock.now += 3600
    assert all(board.contacts(3) == [16, 16, 16] for board in boards)


def _ordering(fleet) -> None:
    """Who pauses while a worker is queuing orders waits for it, and withdraws them."""
    import time

    from tests.support.rollouts import Command, commands, release

    for _ in range(DEVICES):
        fleet.wear()
    number = fleet.rollouts.create(release())
    fleet.rollouts.pause(number)
    entered, real = threading.Event(), commands.Commands.queue

    def slowly(self, orders):
        entered.set()
        time.sleep(0.5)
        return real(self, orders)

    commands.Commands.queue = slowly

    def pause() -> None:
        assert entered.wait(20)
        fleet.rollouts.pause(number)

    _side_by_side(lambda: fleet.rollouts.resume(number), pause)
    commands.Commands.queue = real
    assert not Command.objects.filter(state__in=("queued", "sent")).exists()
    fleet.rollouts.resume(number)
    assert Command.objects.filter(state="queued").count() == DEVICES


def _together(fleet) -> None:
    """Receipts, reports, statuses, housekeeping, and an operator who changes his mind: no error, nothing left over."""
    from django.db import OperationalError

    from tests.support.rollouts import Command, RolloutDevice, RolloutError, process, release

    boards = [fleet.wear() for _ in range(DEVICES)]
    number = fleet.rollouts.create(release())
    stop = threading.Event()

    def work(worker: int) -> None:
        chance = random.Random(worker)
        server = fleet.intake(observers=[fleet.tracker])
        mine = boards[worker::WORKERS]
        for _ in range(TURNS):
            for board in mine:
                board.queue.append(board.report(chance.randrange(1, 11), chance.randrange(0, 40)))
                board.queue.append(board.status(chance.choice((1, 1, 7))))
            batch = [board.over_lora(board.wearable.seal(board.queue.pop(0))) for board in mine for _ in range(2)]
            while True:
                try:
                    process(server, *batch)
                    break
                except OperationalError:
                    continue  # as the worker does

    def keep_house() -> None:
        while not stop.is_set():
            try:
                fleet.tracker.keep_house()
            except OperationalError:
                continue

    def operate() -> None:
        try:
            for _ in range(10):
                for action in (fleet.rollouts.pause, fleet.rollouts.resume):
                    with suppress(RolloutError):  # it is done, or active again
                        action(number)
            fleet.rollouts.abort(number)
        finally:
            stop.set()

    _side_by_side(*(lambda worker=worker: work(worker) for worker in range(WORKERS)), keep_house, operate)
    assert RolloutDevice.objects.count() == DEVICES
    assert not Command.objects.filter(state__in=("queued", "sent")).exists()
    assert all(row.orders <= 8 for row in RolloutDevice.objects.all())


if __name__ == "__main__":
    main(*sys.argv[1:])
