"""Rekey and retire between the shipped device code on MicroPython and the server, whatever is lost on the way."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import AuditEvent, Device, DeviceChain, EpochKey, downlink, process, telemetry
from tests.support.micropython import ROOT, Micropython
from tests.support.rollouts import Board, Command, Lifecycle, RegistryError, RolloutFleet, devices, message

DEVICE = """
from device.wearable import Wearable
from sealband.outbox import TELEMETRY
import device.wearable as wearable

def begin(eui, root):
    global w
    wearable.EUI, wearable.ROOT = eui, root
    w = Wearable(sensors=[], status_every_s=86400 * 20)

def say(text):
    w.node._queue(TELEMETRY, text)

def frames():
    return [w.node.outbox.read(key) for key in w.node.outbox.keys()]

def receive(data):
    return w.node.session._receive(data)
"""


class Real:
    """A device that runs the shipped code; its frames pass through this end, so that any of them can be lost."""

    def __init__(self, micropython: Micropython, fleet: RolloutFleet) -> None:
        self._device = micropython
        self.board = Board(fleet, fleet.add())
        self.fleet = fleet
        micropython.call(f"begin({self.board.wearable.eui!r}, {self.board.wearable.root!r})")

    @property
    def pk(self) -> int:
        return self.board.wearable.pk

    @property
    def eui(self) -> bytes:
        return self.board.wearable.eui

    def speak(self, *, deaf: bool = False, lost: bool = False) -> int:
        """Say something and send all that is queued; how many frames the server stored.

        Args:
            deaf: no answer comes through.
            lost: no frame comes through.
        """
        self._device.call(f"say({telemetry(70)!r})")
        stored = 0
        for frame in self._device.call("frames()"):
            self.fleet.clock.now += 70
            if lost:
                continue
            outcome = process(self.fleet.server, self.board.over_lora(frame))
            stored += len(outcome.stored)
            for publication in outcome.publications:
                if not deaf:
                    assert self._device.call(f"receive({downlink(publication).frame!r})")
        return stored

    def ask(self, expression: str):
        return self._device.call(expression)

    def epoch(self) -> int:
        return self.ask("w.node.chain.epoch")

    def chain(self) -> DeviceChain:
        return DeviceChain.objects.get(device_id=self.pk)


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


@pytest.fixture
def device(micropython: Micropython, fleet: RolloutFleet) -> Real:
    return Real(micropython, fleet)


def steps(fleet: RolloutFleet) -> Lifecycle:
    return Lifecycle(fleet.vault, fleet.clock, "operator:tester")


def together(device: Real) -> None:
    """Both sides have the same keys, in both directions, and nothing of a second chain is left."""
    for _ in range(3):
        device.speak()
    assert device.ask("len(w.node.outbox)") == 0
    assert device.chain().newest_epoch == device.epoch()
    assert device.chain().rekeyed_wrapped is None
    assert not EpochKey.objects.filter(device_id=device.pk, rekeyed=True).exists()


def events(device: Real) -> list[str]:
    return list(AuditEvent.objects.filter(subject=device.eui.hex()).values_list("event", flat=True))


def test_rekey_gives_both_sides_a_key_that_the_old_one_does_not_tell(device: Real, fleet: RolloutFleet):
    device.speak()
    before = device.board.wearable.keys(1)
    number = steps(fleet).rekey(device.eui)
    device.speak()
    assert device.epoch() == 1
    together(device)
    assert Command.objects.get(pk=number).state == "done"
    assert events(device).count("device_rekeyed") == 1
    did = bytes(EpochKey.objects.get(device_id=device.pk, epoch=1).did)
    assert did == device.ask("w.node.chain.keys()[4]")
    assert device.ask("w.node.chain.keys()[0]") != before.ku


def test_rekey_whose_command_is_lost_changes_nothing_until_it_comes(device: Real, fleet: RolloutFleet):
    device.speak()
    number = steps(fleet).rekey(device.eui)
    device.speak(deaf=True)
    assert device.chain().rekeyed_wrapped is not None
    assert device.epoch() == 0
    # the old chain still opens
    assert device.speak(deaf=True) >= 1
    for _ in range(3):
        device.speak()
    assert device.epoch() == 1
    assert Command.objects.get(pk=number).state == "done"
    together(device)


def test_rekey_whose_receipt_is_lost_is_seen_by_the_next_frame(device: Real, fleet: RolloutFleet):
    device.speak()
    number = steps(fleet).rekey(device.eui)
    device.speak()
    assert device.epoch() == 1
    # the receipt is on its way, and lost
    (receipt,) = device.ask("[key for key in w.node.outbox.keys() if key[0] == 1]")
    device.ask(f"w.node.outbox.drop({receipt!r})")
    assert Command.objects.get(pk=number).state == "sent"
    device.speak()
    assert Command.objects.get(pk=number).state == "done"
    together(device)


def test_frames_that_were_queued_before_a_rekey_are_still_stored_after_it(device: Real, fleet: RolloutFleet):
    device.speak()
    steps(fleet).rekey(device.eui)
    device.ask(f"say({telemetry(71)!r})")
    old = device.ask("frames()")[0]
    device.speak()
    device.speak()
    assert device.epoch() == 1
    assert device.chain().previous_ck_wrapped is not None
    outcome = process(fleet.server, device.board.over_lora(device.board.wearable.seal(telemetry(72), 0, 4000)))
    assert len(outcome.stored) == 1
    assert [one.reason.value for one in process(fleet.server, device.board.over_lora(old)).refused] == ["replay"]
    fleet.clock.now += 86400 + 1
    late = device.board.wearable.seal(telemetry(72), 0, 4001)
    assert [one.reason.value for one in process(fleet.server, device.board.over_lora(late)).refused] == ["old_epoch"]


def test_device_that_went_on_by_itself_after_a_lost_rekey_keeps_its_chain(device: Real, fleet: RolloutFleet):
    device.speak()
    steps(fleet).rekey(device.eui)
    device.speak(deaf=True)
    assert device.chain().rekeyed_wrapped is not None
    device.ask("w.node.chain._go_on_alone(None)")
    device.speak(deaf=True)
    assert device.chain().newest_epoch == 1
    # the command was sent again meanwhile, now in the new epoch; of the first sending nothing is left
    rows = EpochKey.objects.filter(device_id=device.pk, rekeyed=True)
    assert sorted(rows.values_list("epoch", flat=True)) == [2, 3, 4]
    for _ in range(4):
        device.speak()
    assert device.epoch() == 2
    together(device)


def test_device_that_went_on_by_itself_after_a_rekey_is_found(device: Real, fleet: RolloutFleet):
    device.speak()
    steps(fleet).rekey(device.eui)
    device.speak()
    device.ask("w.node.chain._go_on_alone(None)")
    device.ask("w.node.outbox.erase()")
    assert device.epoch() == 2
    assert device.speak() == 1
    together(device)


def test_device_that_says_hello_after_a_rekey_is_found(device: Real, fleet: RolloutFleet):
    device.speak()
    steps(fleet).rekey(device.eui)
    device.speak()
    device.ask("w.node.outbox.erase()")
    for _ in range(2):
        device.ask("w.node.chain._go_on_alone(None)")
    EpochKey.objects.filter(device_id=device.pk, epoch__gt=1).delete()
    hello = device.ask("__import__('sealband').once('sealband.report').hello(w.node)")
    assert len(process(fleet.server, device.board.over_lora(hello)).stored) == 1
    assert device.chain().newest_epoch == 3
    together(device)


def test_a_second_rekey_in_the_same_epoch_has_the_same_random_part(device: Real, fleet: RolloutFleet):
    """The device may have carried out the first one, whose receipt never came; a third chain would lose it."""
    device.speak()
    number = steps(fleet).rekey(device.eui)
    with pytest.raises(RegistryError, match="under way"):
        steps(fleet).rekey(device.eui)
    device.speak(deaf=True)
    Command.objects.filter(pk=number).update(state="failed", ended_at_ms=1)
    steps(fleet).rekey(device.eui)
    for _ in range(4):
        device.speak()
    assert device.epoch() == 1
    together(device)


def test_replayed_rekey_command_moves_nothing(device: Real, fleet: RolloutFleet):
    device.speak()
    steps(fleet).rekey(device.eui)
    device.ask(f"say({telemetry(70)!r})")
    (frame,) = device.ask("frames()")
    fleet.clock.now += 70
    (publication,) = process(fleet.server, device.board.over_lora(frame)).publications
    command = downlink(publication).frame
    assert device.ask(f"receive({command!r})")
    assert not device.ask(f"receive({command!r})")
    assert device.epoch() == 1
    together(device)


def test_rekeyed_pseudonyms_of_a_forged_frame_are_counted_and_no_more(device: Real, fleet: RolloutFleet):
    device.speak()
    steps(fleet).rekey(device.eui)
    device.speak(deaf=True)
    row = EpochKey.objects.get(device_id=device.pk, epoch=1, rekeyed=True)
    forged = bytes([0b11100000 | 1]) + bytes(row.did) + os.urandom(30)
    outcome = process(fleet.server, device.board.over_lora(forged))
    assert [one.reason.value for one in outcome.refused] == ["bad_tag"]
    row.refresh_from_db()
    assert row.failures == 1
    assert EpochKey.objects.get(device_id=device.pk, epoch=1, rekeyed=False).failures == 0
    for _ in range(3):
        device.speak()
    together(device)


def test_failures_counted_late_by_another_worker_do_not_stop_the_next_rekey(device: Real, fleet: RolloutFleet):
    """It looked the keys up while a rekey was not decided, and counts a forged hello when it is."""
    device.speak()
    steps(fleet).rekey(device.eui)
    device.speak(deaf=True)
    chains = fleet.server.chains
    late = [key for key in chains.by_eui([(device.eui, 2)])[device.eui, 2].keys if key.rekeyed]
    fleet.clock.now += 86400
    for _ in range(3):
        device.speak()
    assert device.epoch() == 1
    chains.count_failures(late)
    steps(fleet).rekey(device.eui)
    for _ in range(4):
        device.speak()
    together(device)
    assert device.epoch() == 2


def test_retired_device_sends_its_receipt_and_both_sides_destroy_their_keys(device: Real, fleet: RolloutFleet):
    device.speak()
    number = steps(fleet).retire(device.eui, "sold")
    assert Device.objects.get(pk=device.pk).state == "retiring"
    device.speak()
    assert device.ask("w.node.retiring is not None")
    device.ask("w.run(1)")
    (receipt,) = device.ask("frames()")
    fleet.clock.now += 70
    outcome = process(fleet.server, device.board.over_lora(receipt))
    assert Device.objects.get(pk=device.pk).state == "retired"
    assert Command.objects.get(pk=number).state == "done"
    assert not DeviceChain.objects.filter(device_id=device.pk).exists()
    # the receipt is acknowledged, so that the device need not wait
    (publication,) = outcome.publications
    assert device.ask(f"receive({downlink(publication).frame!r})")
    device.ask("w.run(1)")
    assert device.ask("w.store.load('chain')") is None
    assert device.ask("len(w.node.outbox)") == 0
    # a copy of the receipt, and whatever else comes under its name
    for frame in (receipt, device.board.wearable.seal(telemetry(1), 0, 900)):
        refused = process(fleet.server, device.board.over_lora(frame)).refused
        assert [one.reason.value for one in refused] == ["device_not_active"]
    assert events(device)[-1] == "device_retired"
    with pytest.raises(RegistryError, match="is retired"):
        devices.suspend(device.eui, fleet.vault)


def test_receipt_of_another_command_retires_nobody(device: Real, fleet: RolloutFleet):
    board = fleet.wear()
    board.send()
    board.send()
    steps(fleet).retire(board.wearable.eui)
    for ctr in range(8):
        board.deliver(board.wearable.seal(message(4, 900 + ctr, 0)))
    assert Device.objects.get(pk=board.wearable.pk).state == "retiring"
