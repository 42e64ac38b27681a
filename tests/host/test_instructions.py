"""Settings, consent and reports: from the operator's command through queue and link to what the shipped device does."""

from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.ingest import plaintexts
from sealwire import messages, settings
from tests.support.fleet import AuditEvent, downlink, process, sequence, telemetry
from tests.support.micropython import ROOT, Micropython
from tests.support.rollouts import Board, Command, RegistryError, RolloutFleet, devices

DEVICE = """
from device.wearable import CountingSensor, Wearable
from sealband.app import Every
from sealband.outbox import TELEMETRY
import device.wearable as wearable

def begin(eui, root):
    global w
    wearable.EUI, wearable.ROOT = eui, root
    w = Wearable([Every(10, CountingSensor(1, 70)), Every(10, CountingSensor(4, 3900))], status_every_s=86400 * 20)

def frames():
    return [w.node.outbox.read(key) for key in w.node.outbox.keys()]

def say(text):
    w.node._queue(TELEMETRY, text)

def receive(data):
    return w.node.session._receive(data)
"""


@pytest.fixture(scope="module")
def micropython() -> Iterator[Micropython]:
    with Micropython(path=[ROOT / "tests"]) as micropython:
        micropython.run(DEVICE)
        yield micropython


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RolloutFleet]:
    fleet = RolloutFleet(tmp_path)
    yield fleet
    fleet.close()


def instructions(fleet: RolloutFleet):
    from host_tools.ingest.instructions import Instructions

    return Instructions(fleet.vault, fleet.clock, "operator:tester")


def refused(call, *arguments: object) -> str:
    from host_tools.ingest.instructions import InstructionRefused

    with pytest.raises(InstructionRefused) as caught:
        call(*arguments)
    assert caught.value.remedy
    return str(caught.value)


def speak(micropython: Micropython, fleet: RolloutFleet, board: Board) -> None:
    """All that the device has queued goes to the server, and every answer comes back."""
    micropython.call(f"say({telemetry(70)!r})")
    for frame in micropython.call("frames()"):
        fleet.clock.now += 70
        for publication in process(fleet.server, board.over_lora(frame)).publications:
            assert micropython.call(f"receive({downlink(publication).frame!r})")


def test_what_is_ordered_is_what_the_device_does_and_its_receipt_ends_the_command(
    micropython: Micropython, fleet: RolloutFleet
):
    board = Board(fleet, fleet.add())
    eui = board.wearable.eui
    micropython.call(f"begin({eui!r}, {board.wearable.root!r})")
    speak(micropython, fleet, board)
    told = instructions(fleet)
    numbers = [
        told.configure(eui, {"send_every_s": 120, "adaptive_rate": 0}),
        told.consent(eui, [4]),
        told.report(eui),
    ]
    for _ in range(6):
        speak(micropython, fleet, board)
    rows = [Command.objects.get(pk=number) for number in numbers]
    assert [(row.state, row.result) for row in rows] == [(Command.State.DONE, messages.RESULT_DONE)] * 3
    assert micropython.call("(w.node.config.send_every_s, w.node.config.adaptive_rate)") == (120, 0)
    assert micropython.call("w.node.sampler.consent") == b"\x04"
    micropython.run("w.link.deaf = True")
    micropython.call("w.run(25)")
    assert micropython.call("sorted(w.node.sampler.newest)") == [4]
    steps = [
        event.details
        for event in AuditEvent.objects.filter(event="operator_action", subject=eui.hex()).order_by("sequence")
    ]
    assert [name in step for name, step in zip(("configure", "consent", "report"), steps, strict=True)] == [True] * 3
    # what may be sampled says something of the wearer: it is not in the trail
    assert not any("[4]" in step or "records" in step for step in steps)


def test_a_consent_takes_the_place_of_one_that_was_not_carried_out(fleet: RolloutFleet):
    board = Board(fleet, fleet.add())
    eui = board.wearable.eui
    first = instructions(fleet).consent(eui, [1, 3, 4])
    second = instructions(fleet).consent(eui, [])
    assert Command.objects.get(pk=first).state == Command.State.SUPERSEDED
    assert Command.objects.get(pk=second).state == Command.State.QUEUED


def test_nothing_wrong_is_queued(fleet: RolloutFleet):
    board = Board(fleet, fleet.add())
    eui = board.wearable.eui
    told = instructions(fleet)
    assert "no setting 'sendevery'" in refused(told.configure, eui, {"send_every_s": 60, "sendevery": 60})
    assert "cannot be 5" in refused(told.configure, eui, {"send_every_s": 5})
    assert "no setting is named" in refused(told.configure, eui, {})
    for wrong in ([0], [256], [-1], list(range(1, 40))):
        refused(told.consent, eui, wrong)
    devices.suspend(eui, fleet.vault, actor="operator:tester")
    for call in (
        lambda: told.report(eui),
        lambda: told.consent(eui, [1]),
        lambda: told.configure(eui, {"power_dbm": 8}),
    ):
        with pytest.raises(RegistryError, match="suspended"):
            call()
    assert Command.objects.count() == 0


def test_records_are_named_as_in_the_table_or_by_number():
    from host_tools.ingest.instructions import record_id

    assert [record_id(text) for text in ("heart_rate", "skin_temperature", "4", "200")] == [1, 3, 4, 200]
    for wrong in ("heartrate", "", "-1", "1000", "٣", "1.0"):
        refused(record_id, wrong)


@given(st.lists(st.integers(1, 255), max_size=20))
def test_a_consent_is_one_list_in_order_without_doubles(records: list[int]):
    assert sequence(plaintexts.consent(records)) == [22, sorted(set(records))]
    assert plaintexts.consent(records) == plaintexts.consent(list(reversed(records)))


def test_a_consent_to_the_usual_records_fits_the_narrowest_downlink():
    # SF12 at 125 kHz: 51 bytes of frame, 13 of them not plaintext
    assert len(plaintexts.consent([1, 3, 4, 5, 6, 12, 13, 15])) <= 51 - 13
    assert len(plaintexts.consent(range(64, 81))) <= 51 - 13
    assert cbor2.loads(plaintexts.configure({row[0]: row[3] for row in settings.SETTINGS})[1:])
