"""The server's half of a chain goes on with the device, keeps the epoch before for a day, reuses no counter."""

from pathlib import Path

import pytest
from django.db import transaction

from tests.support.fleet import (
    AuditEvent,
    Device,
    DeviceChain,
    EpochKey,
    Fleet,
    chains,
    downlink,
    own_topic,
    process,
    telemetry,
    uplink,
)

DAY_S = 86400


@pytest.fixture
def fleet(tmp_path: Path):
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def epochs(wearable) -> list[int]:
    return list(EpochKey.objects.filter(device_id=wearable.pk).order_by("epoch").values_list("epoch", flat=True))


def reasons(outcome) -> list[str]:
    return [refusal.reason.value for refusal in outcome.refused]


def test_frame_of_the_next_epoch_moves_the_window(fleet: Fleet):
    wearable, intake = fleet.add(), fleet.intake()
    assert epochs(wearable) == [0, 1, 2, 3]
    outcome = process(intake, uplink(wearable.seal(telemetry(70), epoch=1)))
    assert len(outcome.stored) == 1
    assert epochs(wearable) == [0, 1, 2, 3, 4]
    process(intake, uplink(wearable.seal(telemetry(71), epoch=2)))
    assert epochs(wearable) == [1, 2, 3, 4, 5]
    for row in EpochKey.objects.filter(device_id=wearable.pk):
        assert bytes(row.did) == wearable.keys(row.epoch).did
        assert row.epoch_bits == row.epoch % 8
    chain = DeviceChain.objects.get(device_id=wearable.pk)
    assert chain.newest_epoch == 2
    label = chains.chain_label
    assert fleet.vault.unwrap(chain.ck_wrapped, label(wearable.eui, 2)) == wearable.ck(2)
    assert fleet.vault.unwrap(chain.previous_ck_wrapped, label(wearable.eui, 1)) == wearable.ck(1)


def test_what_was_queued_in_the_epoch_before_is_taken_for_one_period(fleet: Fleet):
    wearable, intake = fleet.add(), fleet.intake()
    process(intake, uplink(wearable.seal(telemetry(70), epoch=1)))
    fleet.clock.now += DAY_S - 1
    outcome = process(intake, uplink(wearable.seal(telemetry(71), epoch=0), at=fleet.clock.now))
    assert len(outcome.stored) == 1
    # and acknowledged under that epoch's downlink key, which the device still has
    _, sync = wearable.open(downlink(outcome.publications[0]).frame, epoch=0)
    assert sync[0] == 16
    assert sync[2:4] == [0, 0]
    fleet.clock.now += 2
    outcome = process(intake, uplink(wearable.seal(telemetry(72), epoch=0), at=fleet.clock.now))
    assert reasons(outcome) == ["old_epoch"]


def test_expired_chain_key_is_erased(fleet: Fleet):
    wearable, intake = fleet.add(), fleet.intake()
    process(intake, uplink(wearable.seal(telemetry(70), epoch=1)))
    assert intake.chains.forget_expired() == 0
    fleet.clock.now += DAY_S
    assert intake.chains.forget_expired() == 1
    assert DeviceChain.objects.get(device_id=wearable.pk).previous_ck_wrapped is None
    assert reasons(process(intake, uplink(wearable.seal(telemetry(72), epoch=0)))) == ["old_epoch"]


def test_device_that_went_on_alone_is_found_three_epochs_ahead_but_not_four(fleet: Fleet):
    near, far, intake = fleet.add(), fleet.add(), fleet.intake()
    assert len(process(intake, uplink(near.seal(telemetry(70), epoch=3))).stored) == 1
    assert reasons(process(intake, uplink(far.seal(telemetry(70), epoch=4)))) == ["unknown_device"]


def test_hello_finds_a_device_that_the_server_lost(fleet: Fleet):
    wearable, intake = fleet.add(), fleet.intake()
    outcome = process(intake, uplink(wearable.seal(telemetry(70), epoch=30, hello=True)))
    assert len(outcome.stored) == 1
    assert epochs(wearable) == [29, 30, 31, 32, 33]
    # A server that is so far behind has forgotten what it sent in that epoch: its counters go on far above
    ctr, sync = wearable.open(downlink(outcome.publications[0]).frame, epoch=30)
    assert ctr == 0x2000
    assert sync[2] == 0
    assert len(process(intake, uplink(wearable.seal(telemetry(71), epoch=30))).stored) == 1
    assert len(process(intake, uplink(wearable.seal(telemetry(71), epoch=29))).stored) == 1


def test_hello_from_too_far_ahead_costs_nothing(fleet: Fleet):
    wearable, intake = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70), epoch=chains.HELLO_EPOCHS_AHEAD + 1, hello=True)
    assert reasons(process(intake, uplink(frame))) == ["unknown_device"]
    forged = bytes([0xF7]) + wearable.eui + b"\xff\xff\xff\xff" + bytes(12)
    assert reasons(process(intake, uplink(forged))) == ["unknown_device"]


def test_hello_with_a_wrong_tag_is_counted_against_its_key(fleet: Fleet):
    wearable, intake = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70), epoch=20, hello=True)
    assert reasons(process(intake, uplink(frame[:-1] + bytes([frame[-1] ^ 1])))) == ["bad_tag"]
    assert EpochKey.objects.get(device_id=wearable.pk, epoch=20).failures == 1
    # the row that counts makes nobody findable by pseudonym so far ahead
    assert reasons(process(intake, uplink(wearable.seal(telemetry(70), epoch=20)))) == ["unknown_device"]
    assert len(process(intake, uplink(frame)).stored) == 1


@pytest.mark.parametrize("state", [Device.State.SUSPENDED, Device.State.RETIRED])
def test_device_that_is_not_active_is_refused(fleet: Fleet, state):
    wearable, intake = fleet.add(), fleet.intake()
    process(intake, uplink(wearable.seal(telemetry(70))))
    Device.objects.filter(pk=wearable.pk).update(state=state)
    assert reasons(process(intake, uplink(wearable.seal(telemetry(71))))) == ["device_not_active"]
    assert reasons(process(intake, uplink(wearable.seal(telemetry(71), hello=True)))) == ["device_not_active"]


def test_damaged_chain_stops_one_device_and_no_other(fleet: Fleet):
    damaged, sound, intake = fleet.add(), fleet.add(), fleet.intake()
    other = DeviceChain.objects.get(device_id=sound.pk).ck_wrapped
    DeviceChain.objects.filter(device_id=damaged.pk).update(ck_wrapped=other)
    outcome = process(intake, uplink(damaged.seal(telemetry(70))), uplink(sound.seal(telemetry(71))))
    assert reasons(outcome) == ["chain_damaged"]
    assert [stored.eui for stored in outcome.stored] == [sound.eui.hex()]


def test_cached_key_does_not_outlive_its_chain(fleet: Fleet):
    wearable, intake = fleet.add(), fleet.intake()
    process(intake, uplink(wearable.seal(telemetry(70))))
    # what a rekey by another process does to the rows
    new_root = bytes(32)
    chain = DeviceChain.objects.get(device_id=wearable.pk)
    chain.ck_wrapped = fleet.vault.wrap(new_root, chains.chain_label(wearable.eui, 0))
    chain.save()
    old_frame = wearable.seal(telemetry(71))
    wearable.root = new_root
    EpochKey.objects.filter(device_id=wearable.pk, epoch=0).update(did=wearable.keys(0).did)
    assert reasons(process(intake, uplink(old_frame))) == ["unknown_device"]
    assert len(process(intake, uplink(wearable.seal(telemetry(72)))).stored) == 1


def test_cache_stays_bounded(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chains, "CACHED_KEYS_MAX", 4)
    wearables, intake = [fleet.add() for _ in range(10)], fleet.intake()
    for _ in range(2):
        outcome = process(intake, *(uplink(wearable.seal(telemetry(70))) for wearable in wearables))
        assert len(outcome.stored) == 10
    assert len(intake.chains._cache) == 4


def test_downlink_counters_end_and_are_never_taken_twice(fleet: Fleet):
    wearable, intake = fleet.add(), fleet.intake()
    EpochKey.objects.filter(device_id=wearable.pk, epoch=0).update(downlink_ctr=0x3FFF)
    outcome = process(intake, own_topic(wearable, wearable.seal(telemetry(70))))
    assert wearable.open(outcome.publications[0][1])[0] == 0x3FFF  # those above are for after a restore
    outcome = process(intake, own_topic(wearable, wearable.seal(telemetry(71))))
    assert len(outcome.stored) == 1
    assert outcome.publications == []
    assert outcome.unanswerable == 1


def test_counter_that_was_not_committed_can_be_taken_again_and_one_that_was_cannot(fleet: Fleet):
    wearable = fleet.add()
    chain = fleet.intake().chains
    number = wearable.pk, 0
    with transaction.atomic():
        assert chain.take_downlink_counters([number]) == {number: 0}
        transaction.set_rollback(True)
    with transaction.atomic():
        assert chain.take_downlink_counters([number, (wearable.pk, 77)]) == {number: 0}
    with transaction.atomic():
        assert chain.take_downlink_counters([number]) == {number: 1}


def test_epoch_changes_and_exhausted_keys_are_in_the_audit_trail(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chains, "FAILED_OPENINGS_MAX", 2)
    wearable, intake = fleet.add(), fleet.intake()
    process(intake, uplink(wearable.seal(telemetry(70), epoch=1)))
    frame = wearable.seal(telemetry(71), epoch=1)
    process(intake, *[uplink(frame[:-1] + bytes([frame[-1] ^ 1]))] * 2)
    told = AuditEvent.objects.filter(actor="ingest").order_by("sequence").values_list("event", "subject")
    assert list(told) == [
        ("device_epoch_changed", wearable.eui.hex()),
        ("key_exhausted", wearable.eui.hex()),
    ]


def test_broken_audit_trail_costs_no_reading(fleet: Fleet):
    from provisioning.registry.models import AuditHead

    AuditHead.objects.update(mac=bytes(32))
    wearable, intake = fleet.add(), fleet.intake()
    assert len(process(intake, uplink(wearable.seal(telemetry(70), epoch=1))).stored) == 1
