"""Copies of one frame at two workers on PostgreSQL, whose transactions overlap: one frame, one answer, all copies.

The test starts this file as a process of its own, since one process knows one kind of database.
"""

import subprocess
import sys
import threading

import pytest

from tests.support.micropython import ROOT
from tests.support.postgresql import TemporaryPostgresql, has_postgresql

DEVICES, ROUNDS = 16, 12


@pytest.mark.skipif(not has_postgresql(), reason="needs PostgreSQL's initdb and postgres on PATH")
def test_two_workers_that_have_copies_at_the_same_time_answer_once():
    with TemporaryPostgresql() as server:
        command = [sys.executable, "-m", "tests.host.test_receptions_postgresql", server.url]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def main(url: str) -> None:
    from provisioning import registry
    from provisioning.registry.vault import Vault

    registry.setup(url, extra_apps=("host_tools.ingest", "host_tools.rollout"))
    # the support below would set up SQLite
    registry.setup = lambda *_args, **_options: None
    from provisioning.registry import services
    from tests.support.fleet import (
        GATEWAY,
        MASTER_KEY,
        OTHER_GATEWAY,
        Clock,
        Fleet,
        downlink,
        models,
        telemetry,
        uplink,
    )

    fleet = Fleet.__new__(Fleet)
    fleet.clock, fleet.vault = Clock(), Vault(MASTER_KEY)
    services.init_registry(fleet.vault)
    wearables = [fleet.add() for _ in range(DEVICES)]
    workers = [fleet.intake(copies_s=0.2), fleet.intake(copies_s=0.2)]
    opened: dict[int, list[int]] = {wearable.pk: [] for wearable in wearables}
    for number in range(ROUNDS):
        fleet.clock.now += 60
        frames = [wearable.seal(telemetry(70 + number)) for wearable in wearables]
        copies = [
            [uplink(frame, gateway, at=fleet.clock.now, snr=snr) for frame in frames]
            for gateway, snr in ((GATEWAY, -2.0), (OTHER_GATEWAY, 4.0))
        ]
        outcomes = _side_by_side(lambda which, copies=copies: _process(workers[which], copies[which]))
        assert sum(len(outcome.stored) for outcome in outcomes) == DEVICES
        assert [outcome.publications for outcome in outcomes] == [[], []]
        fleet.clock.now += 0.3
        given = _side_by_side(lambda which: _persistently(workers[which].answer_due))
        publications = [publication for outcome in given for publication in outcome.publications]
        assert len(publications) == DEVICES
        for publication in publications:
            answer = downlink(publication)
            assert [route.gateway for route in answer.routes] == [OTHER_GATEWAY, GATEWAY]
            (wearable,) = [
                one for one in wearables if one.keys(0).did == answer.frame[1:3] and _opens(one, answer.frame)
            ]
            opened[wearable.pk].append(wearable.open(answer.frame)[0])
    assert all(counters == list(range(ROUNDS)) for counters in opened.values())
    assert models.Reception.objects.count() == 2 * DEVICES * ROUNDS
    assert models.Frame.objects.count() == DEVICES * ROUNDS


def _process(intake, messages):
    from tests.support.fleet import process

    return _persistently(lambda: process(intake, *messages))


def _persistently(action):
    """As the worker does: a transaction that another one stood in the way of is done again."""
    from django.db import OperationalError

    while True:
        try:
            return action()
        except OperationalError:
            continue


def _opens(wearable, frame: bytes) -> bool:
    try:
        wearable.open(frame)
    except Exception:
        return False
    return True


def _side_by_side(action) -> list:
    from django.db import connections

    results: dict[int, object] = {}

    def run(which: int) -> None:
        try:
            results[which] = action(which)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[which] for which in range(2)]


if __name__ == "__main__":
    main(sys.argv[1])
