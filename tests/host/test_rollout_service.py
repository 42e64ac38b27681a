"""Rollouts from the operator's word to the confirmed device, through the real intake and boards that answer."""

import json
from pathlib import Path

import pytest

from sealwire import update
from tests.support.fleet import AuditEvent, Device
from tests.support.rollouts import (
    MODEL,
    Board,
    Command,
    Release,
    Rollout,
    RolloutDevice,
    RolloutError,
    RolloutFleet,
    Tracker,
    eui,
    overview,
    release,
)

SYNC, UPDATE = 16, 18
WAY = (update.ACCEPTED, update.VERIFIED, update.FETCHED, update.INSTALLED, update.STARTED, update.CONFIRMED)


@pytest.fixture
def fleet(tmp_path: Path):
    fleet = RolloutFleet(tmp_path)
    yield fleet
    fleet.close()


def ordered(board: Board) -> bool:
    """Whether it gets an update order within some contacts."""
    return UPDATE in board.contacts(4)


def until_ordered(board: Board) -> None:
    """Contacts up to the one that brings the order; the receipt and its report are queued."""
    for _ in range(4):
        if board.contacts(1) == [UPDATE]:
            return
    raise AssertionError("no order came")


# the whole way


def test_a_rollout_from_order_to_confirmation(fleet: RolloutFleet):
    boards = [fleet.wear() for _ in range(3)]
    number = fleet.rollouts.create(release())
    assert [fleet.state(board) for board in boards] == ["ordered"] * 3
    for board in boards:
        until_ordered(board)
        assert board.heard[-1] == [18, 7, release().manifest_digest, release().url]
        board.contacts(2)
        assert fleet.state(board) == "accepted"
        seen = []
        for state in WAY:
            board.send(board.report(state))
            seen.append(fleet.state(board))
        assert seen == ["accepted", "installing", "installing", "installing", "trial", "confirmed"]
    (told,) = overview.rollouts(number)
    assert (told["state"], told["devices"], told["succeeded"], told["ended"]) == ("done", {"confirmed": 3}, 3, 3)
    assert set(Command.objects.values_list("state", flat=True)) == {"done"}
    from provisioning.registry import audit

    audit.verify(fleet.vault)
    events = list(AuditEvent.objects.values_list("event", flat=True))
    assert events.count("ota_started") == 1
    assert events.count("ota_confirmed") == events.count("device_command_sent") == 3


def test_reports_alone_tell_the_way_when_the_receipt_is_lost(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    until_ordered(board)
    board.queue.clear()
    board.send(board.report(update.VERIFIED))
    assert fleet.state(board) == "installing"


@pytest.mark.parametrize(
    ("state", "code", "ends"),
    [
        (update.REFUSED, update.TOO_FEW_SIGNATURES, "refused: too_few_signatures"),
        (update.REFUSED, update.OLD_SEQUENCE, "refused: old_sequence"),
        (update.ROLLED_BACK, update.TRIAL_FAILED, "rolled_back: trial_failed"),
        (update.GAVE_UP, update.UNREACHABLE, "failed: unreachable"),
        (update.FAILED, update.HTTP_STATUS, "retrying: http_status"),
    ],
)
def test_what_went_wrong_is_shown_and_not_ordered_again(fleet: RolloutFleet, state, code, ends):
    board = fleet.wear()
    number = fleet.rollouts.create(release())
    until_ordered(board)
    board.contacts(2)
    board.send(board.report(state, code))
    assert fleet.state(board) == ends
    fleet.clock.now += 86400
    fleet.tracker.keep_house()
    assert not ordered(board)
    (told,) = overview.rollouts(number)
    assert told["state"] == ("active" if state == update.FAILED else "done")
    assert overview.devices(number)[0]["reason"] == ends.partition(": ")[2]


def test_older_reports_that_arrive_later_move_nothing(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    until_ordered(board)
    late = board.wearable.seal(board.report(update.FETCHED))
    board.send(board.report(update.CONFIRMED))
    board.deliver(late)
    assert fleet.state(board) == "confirmed"


def test_a_device_that_is_busy_is_asked_again_later(fleet: RolloutFleet):
    board = fleet.wear(result=6)
    fleet.rollouts.create(release())
    until_ordered(board)
    board.contacts(1)
    assert fleet.state(board) == "waiting: receipt_busy"
    fleet.tracker.keep_house()
    assert not ordered(board)
    fleet.clock.now += 3600
    board.result = 0
    fleet.tracker.keep_house()
    assert ordered(board)
    board.contacts(1)
    assert fleet.state(board) == "accepted"


def test_a_device_that_never_receives_is_asked_again_and_then_given_up(fleet: RolloutFleet):
    board = fleet.wear(deaf=True)
    fleet.rollouts.create(release())
    for _ in range(30):
        board.contacts(24)
        fleet.clock.now += 86400
        fleet.tracker.keep_house()
    assert fleet.state(board) == "failed: no_receipt"
    assert RolloutDevice.objects.get().orders == 8


# who gets it


def test_a_device_that_runs_it_already_is_confirmed_and_not_ordered(fleet: RolloutFleet):
    done, newer, old = (fleet.wear(runs=runs) for runs in (7, 8, 6))
    for board in (done, newer, old):
        board.send(board.status())
    fleet.rollouts.create(release())
    assert [fleet.state(board) for board in (done, newer, old)] == ["confirmed", "newer", "ordered"]
    assert [ordered(board) for board in (done, newer, old)] == [False, False, True]


def test_status_tells_what_a_device_runs(fleet: RolloutFleet):
    board, reflashed = fleet.wear(runs=3), fleet.wear(runs=3)
    board.send(board.status())
    assert Device.objects.get(pk=board.wearable.pk).release == 3
    fleet.rollouts.create(release())
    fleet.rollouts.pause(1)
    # somebody flashed it at a desk
    reflashed.send(reflashed.status(7, release().image_digest))
    assert fleet.state(reflashed) == "confirmed"
    assert Device.objects.get(pk=reflashed.wearable.pk).release == 7


def test_status_of_what_was_never_ordered_is_believed_and_the_order_withdrawn(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    board.send(board.status(7, release().image_digest))
    assert fleet.state(board) == "confirmed"
    assert not ordered(board)
    assert Command.objects.get().state == "superseded"


def test_status_on_trial_is_not_the_end_of_it(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    until_ordered(board)
    board.contacts(2)
    board.send(board.status(7, release().image_digest))
    assert fleet.state(board) == "accepted"
    board.send(board.report(update.ROLLED_BACK, update.UNHEALTHY))
    board.send(board.status(1))
    assert fleet.state(board) == "rolled_back: unhealthy"


def test_who_reports_has_the_order_and_is_not_sent_it_again(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    until_ordered(board)
    board.queue.clear()
    board.send(board.report(update.REFUSED, update.HOST_REFUSED))
    fleet.clock.now += 3600
    assert not ordered(board)
    assert fleet.state(board) == "refused: host_refused"


def test_pausing_often_uses_no_orders_up(fleet: RolloutFleet):
    board = fleet.wear()
    number = fleet.rollouts.create(release())
    for _ in range(12):
        fleet.rollouts.pause(number)
        fleet.rollouts.resume(number)
    assert ordered(board)


def test_another_image_with_the_same_number_is_no_confirmation(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    board.send(board.status(7, bytes(32)))
    assert fleet.state(board) == "failed: other_image"


def test_named_devices_only(fleet: RolloutFleet):
    one, other = fleet.wear(), fleet.wear()
    number = fleet.rollouts.create(release(), [one.wearable.eui])
    assert ordered(one)
    assert not ordered(other)
    fleet.tracker.keep_house()
    assert not ordered(other)
    assert overview.rollouts(number)[0]["target"] == "named"


def test_a_device_that_is_enrolled_later_joins_when_it_is_heard(fleet: RolloutFleet):
    first = fleet.wear()
    fleet.rollouts.create(release())
    first.send(first.report(update.CONFIRMED))
    assert overview.rollouts()[0]["state"] == "done"
    late = fleet.wear()
    fleet.tracker.keep_house()
    assert fleet.state(late) == ""
    late.send()
    fleet.tracker.keep_house()
    assert fleet.state(late) == "ordered"
    assert overview.rollouts()[0]["state"] == "active"
    assert ordered(late)


def test_a_suspended_or_retired_device_gets_nothing(fleet: RolloutFleet):
    board, retired = fleet.wear(), fleet.wear()
    board.send()
    Device.objects.filter(pk=retired.wearable.pk).update(state=Device.State.RETIRED)
    fleet.rollouts.create(release())
    assert fleet.state(retired) == ""
    Device.objects.filter(pk=board.wearable.pk).update(state=Device.State.SUSPENDED)
    assert board.contacts(3) == [None, None, None]
    fleet.tracker.keep_house()
    assert fleet.state(retired) == ""
    with pytest.raises(RolloutError, match="suspended or retired"):
        fleet.rollouts.create(release(8), [retired.wearable.eui], replace=True)


def test_a_device_that_is_let_in_again_gets_it(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    number = RolloutDevice.objects.get()
    fleet.rollouts.pause(1)
    Device.objects.update(state=Device.State.SUSPENDED)
    fleet.rollouts.resume(1)
    number.refresh_from_db()
    assert (number.state, number.reason) == ("waiting", "not_active")
    Device.objects.update(state=Device.State.ACTIVE)
    fleet.clock.now += 3600
    fleet.tracker.keep_house()
    assert ordered(board)


# pause, resume, abort, replace


def test_paused_rollout_sends_nothing_and_goes_on(fleet: RolloutFleet):
    fresh, sent = fleet.wear(), fleet.wear(deaf=True)
    number = fleet.rollouts.create(release())
    sent.contacts(2)
    tries = Command.objects.get(device_id=sent.wearable.pk).tries
    assert tries == 1
    fleet.rollouts.pause(number)
    assert (fleet.state(fresh), fleet.state(sent)) == ("waiting", "ordered")
    fleet.clock.now += 10 * 86400
    fleet.tracker.keep_house()
    assert not ordered(fresh)
    sent.contacts(5)
    assert Command.objects.get(device_id=sent.wearable.pk).tries == tries
    fleet.rollouts.resume(number)
    sent.deaf = False
    assert ordered(fresh)
    assert ordered(sent)


def test_receipt_of_an_order_that_was_withdrawn_after_it_left_counts(fleet: RolloutFleet):
    board = fleet.wear()
    number = fleet.rollouts.create(release())
    until_ordered(board)
    fleet.rollouts.pause(number)
    board.contacts(1)
    assert fleet.state(board) == "accepted"
    fleet.rollouts.resume(number)
    assert fleet.state(board) == "accepted"
    assert not ordered(board)


def test_aborted_rollout_sends_nothing_and_still_follows_what_had_left(fleet: RolloutFleet):
    fresh, sent = fleet.wear(), fleet.wear()
    number = fleet.rollouts.create(release())
    until_ordered(sent)
    fleet.rollouts.abort(number)
    assert fleet.state(fresh) == "withdrawn"
    assert not ordered(fresh)
    sent.send(sent.report(update.CONFIRMED))
    assert fleet.state(sent) == "confirmed"
    assert overview.rollouts(number)[0]["state"] == "aborted"
    fleet.tracker.keep_house()
    assert not ordered(fresh)
    for action in (fleet.rollouts.abort, fleet.rollouts.pause, fleet.rollouts.resume):
        with pytest.raises(RolloutError) as refused:
            action(number)
        assert refused.value.remedy


def test_a_second_rollout_of_a_model_needs_replace(fleet: RolloutFleet):
    board, other = fleet.wear(), fleet.wear("other-band".replace("other-band", "other"))
    first = fleet.rollouts.create(release())
    with pytest.raises(RolloutError, match=f"rollout {first} is under way") as refused:
        fleet.rollouts.create(release(8))
    assert "--replace" in refused.value.remedy
    fleet.rollouts.create(release(8, model="other"))
    assert ordered(other)
    second = fleet.rollouts.create(release(8), replace=True)
    assert [one["state"] for one in overview.rollouts()] == ["active", "active", "replaced"]
    until_ordered(board)
    assert board.heard[-1][1] == 8
    assert fleet.state(board, second) == "ordered"
    assert fleet.state(board, first) == "withdrawn"


def test_what_an_earlier_rollout_of_the_release_left_in_the_air_moves_nothing(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    until_ordered(board)
    late = board.wearable.seal(board.report(update.ROLLED_BACK, update.TRIAL_FAILED))
    board.send(board.report(update.ROLLED_BACK, update.TRIAL_FAILED))
    second = fleet.rollouts.create(release())
    board.deliver(late)
    assert fleet.state(board, second) == "ordered"


REFUSED = {
    "no such model": (release(model="no-such-band"), None, "no device of the model"),
    "not newer": (release(3), None, "not newer than what the devices run"),
    "unknown device": (release(), [eui()], "not enrolled"),
    "nobody named": (release(), [], "names 1 to"),
    "too many named": (release(), [i.to_bytes(8, "big") for i in range(10_001)], "names 1 to"),
    "released before": (release(5, manifest_digest=bytes(32)), None, "with another manifest"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_rolled_out_is_refused_and_changes_nothing(fleet: RolloutFleet, name):
    board = fleet.wear()
    board.send(board.status(4))
    fleet.rollouts.create(release(5))
    fleet.rollouts.abort(1)
    before = fleet.on_disk(), AuditEvent.objects.count(), Release.objects.count()
    published, euis, said = REFUSED[name]
    with pytest.raises(RolloutError, match=said) as refused:
        fleet.rollouts.create(published, euis)
    assert refused.value.remedy
    assert Rollout.objects.count() == 1
    assert (AuditEvent.objects.count(), Release.objects.count()) == before[1:]


def test_audit_trail_tells_who_did_what(fleet: RolloutFleet):
    fleet.wear()
    number = fleet.rollouts.create(release())
    fleet.rollouts.pause(number)
    fleet.rollouts.resume(number)
    fleet.rollouts.abort(number)
    events = AuditEvent.objects.filter(event__startswith="ota_").order_by("sequence")
    assert [event.event for event in events] == ["ota_started", "ota_paused", "ota_resumed", "ota_stopped"]
    assert {event.actor for event in events} == {"tester"}
    assert {json.loads(event.details)["sequence"] for event in events} == {7}


# the newest release


def test_sync_tells_the_newest_release_of_the_model(fleet: RolloutFleet, monkeypatch: pytest.MonkeyPatch):
    board, other = fleet.wear(), fleet.wear("other")

    def newest() -> list[int]:
        tracker = Tracker(fleet.vault, fleet.clock)
        return [tracker.newest_release(model) for model in (MODEL, "other")]

    assert newest() == [0, 0]
    first = fleet.rollouts.create(release(7))
    assert newest() == [7, 0]
    second = fleet.rollouts.create(release(9), replace=True)
    assert newest() == [9, 0]
    fleet.rollouts.abort(second)
    assert newest() == [0, 0]  # 7 was replaced, 9 given up
    third = fleet.rollouts.create(release(10))
    board.send(board.report(update.CONFIRMED, release=10))
    assert overview.rollouts(third)[0]["state"] == "done"
    assert newest() == [10, 0]
    fleet.server = fleet.intake(newest_release=Tracker(fleet.vault, fleet.clock).newest_release)
    board.contacts(2)
    assert board.heard[-1][4] == 10
    other.send()
    assert other.heard[-1][4] == 0
    assert first < second < third


def test_newest_release_is_asked_of_the_database_now_and_then_only(fleet: RolloutFleet):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    fleet.wear()
    fleet.rollouts.create(release())
    tracker = Tracker(fleet.vault, fleet.clock)
    with CaptureQueriesContext(connection) as captured:
        assert [tracker.newest_release(MODEL) for _ in range(100)] == [7] * 100
    assert len(captured) == 1


# what else may happen


def test_a_firmware_is_not_taken_for_the_application_of_that_number(fleet: RolloutFleet):
    board = fleet.wear(runs=7)
    board.send(board.status())
    fleet.rollouts.create(release(component="fw"))
    assert fleet.state(board) == "ordered"
    board.send(board.status())
    assert fleet.state(board) == "ordered"
    assert Tracker(fleet.vault, fleet.clock).newest_release(MODEL) == 0
    board.send(board.report(update.CONFIRMED))
    assert fleet.state(board) == "confirmed"


def test_order_that_is_too_long_for_the_link_is_shown(fleet: RolloutFleet):
    board = fleet.wear(data_rate="SF12BW125")
    number = fleet.rollouts.create(release())
    assert not ordered(board)
    assert overview.rollouts(number)[0]["too_long"] == 1
    assert overview.devices(number)[0]["reason"] == "too long for the link"


def test_an_observer_that_fails_costs_no_readings(fleet: RolloutFleet, caplog: pytest.LogCaptureFixture):
    from host_tools.ingest.models import Frame

    class Broken:
        def follow(self, _told, _ended):
            RolloutDevice.objects.update(endings=99)
            raise ZeroDivisionError

        def keep_house(self):
            raise ZeroDivisionError

    board = fleet.wear()
    fleet.rollouts.create(release())
    fleet.server = fleet.intake(observers=[Broken(), fleet.tracker])
    board.send(board.report(update.VERIFIED))
    assert Frame.objects.count() == 1
    assert "an observer failed" in caplog.text
    assert RolloutDevice.objects.get().endings == 0
    assert fleet.state(board) == "installing"


def test_an_audit_trail_that_was_damaged_stops_no_rollout(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    from provisioning.registry.models import AuditHead

    AuditHead.objects.update(mac=bytes(32))
    board.send(board.report(update.CONFIRMED))
    assert fleet.state(board) == "confirmed"


def test_a_large_fleet_is_ordered_in_parts(fleet: RolloutFleet, monkeypatch: pytest.MonkeyPatch):
    from host_tools.rollout import dispatch

    monkeypatch.setattr(dispatch, "CHUNK", 4)
    for _ in range(10):
        fleet.wear()
    fleet.rollouts.create(release())
    assert Command.objects.filter(state="queued").count() == 10


def test_creation_that_was_cut_off_is_finished_by_a_worker(fleet: RolloutFleet, monkeypatch: pytest.MonkeyPatch):
    boards = [fleet.wear() for _ in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(fleet.rollouts._dispatch, "order", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fleet.rollouts.create(release())
    assert [fleet.state(board) for board in boards] == ["waiting"] * 3
    fleet.tracker.keep_house()
    assert [fleet.state(board) for board in boards] == ["ordered"] * 3
