"""What hostile devices, gateways and database writers do to rollouts: nothing beyond their own device."""

import json
from pathlib import Path

import pytest

from host_tools.ingest.decode import MessageError, decode
from sealwire import update
from tests.support.fleet import AuditEvent, Device, EpochKey, models, readings, store
from tests.support.rollouts import (
    Board,
    Command,
    RolloutDevice,
    RolloutError,
    RolloutFleet,
    commands,
    message,
    overview,
    process,
    release,
    telemetry,
)

SYNC, UPDATE = 16, 18


@pytest.fixture
def fleet(tmp_path: Path):
    fleet = RolloutFleet(tmp_path)
    yield fleet
    fleet.close()


def until_ordered(board: Board) -> None:
    for _ in range(4):
        if board.contacts(1) == [UPDATE]:
            return
    raise AssertionError("no order came")


def sent_as(command: Command) -> int:
    """Downlink counter of the last sending."""
    command.refresh_from_db()
    return max(ctr for _, ctr in commands._numbers(command))


# receipts


def test_receipt_of_another_device_settles_nothing(fleet: RolloutFleet):
    victim, attacker = fleet.wear(), fleet.wear()
    fleet.rollouts.create(release())
    until_ordered(victim)
    command = Command.objects.get(device_id=victim.wearable.pk)
    # the counters of two devices are about the same: it names the very one
    for ctr in range(sent_as(command) + 3):
        attacker.queue.clear()
        attacker.send(message(4, ctr, 0))
    command.refresh_from_db()
    assert command.state == "sent"
    assert fleet.state(victim) == "ordered"


def test_replayed_receipt_settles_no_second_order(fleet: RolloutFleet):
    board = fleet.wear(result=6)
    fleet.rollouts.create(release())
    until_ordered(board)
    frame = board.wearable.seal(board.queue.pop())
    board.deliver(frame)
    assert fleet.state(board) == "waiting: receipt_busy"
    fleet.clock.now += 3600
    fleet.tracker.keep_house()
    until_ordered(board)
    for _ in range(3):
        fleet.clock.now += 30
        board.deliver(frame)
    assert fleet.state(board) == "ordered"


def test_forged_receipt_does_not_open(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    until_ordered(board)
    frame = bytearray(board.wearable.seal(board.queue.pop(0)))
    frame[-1] ^= 1
    board.deliver(bytes(frame))
    assert fleet.state(board) == "ordered"


def test_receipt_that_guesses_counters_never_sent_settles_nothing(fleet: RolloutFleet):
    board = fleet.wear()
    board.contacts(3)
    number = fleet.rollouts.create(release())
    for ctr in (0, 1, 2, 3, 65535):
        board.data_rate = "SF12BW125"  # the order does not fit, so none has left
        board.send(message(4, ctr, 0))
    assert overview.rollouts(number)[0]["devices"] == {"ordered": 1}
    assert Command.objects.get().state == "queued"


# reports


def test_report_of_one_device_moves_no_other(fleet: RolloutFleet):
    victim, attacker = fleet.wear(), fleet.wear()
    fleet.rollouts.create(release())
    until_ordered(victim)
    for state in range(256):
        attacker.send(attacker.report(state, update.TRIAL_FAILED))
    victim_row = RolloutDevice.objects.get(device_id=victim.wearable.pk)
    assert (victim_row.state, victim_row.reason) == ("ordered", "")


def test_report_in_one_batch_with_another_devices_moves_its_own(fleet: RolloutFleet):
    victim, attacker = fleet.wear(), fleet.wear()
    fleet.rollouts.create(release())
    for board in (victim, attacker):
        until_ordered(board)
    frames = [
        victim.wearable.seal(victim.report(update.FETCHED)),
        attacker.wearable.seal(attacker.report(update.ROLLED_BACK, update.TRIAL_FAILED)),
        attacker.wearable.seal(attacker.status(99)),
    ]
    process(fleet.server, *(victim.over_lora(frame) for frame in frames))
    assert fleet.state(victim) == "installing"
    assert fleet.state(attacker) == "newer"


def test_report_of_a_device_that_is_not_in_the_rollout_puts_it_into_none(fleet: RolloutFleet):
    member, stranger = fleet.wear(), fleet.wear()
    number = fleet.rollouts.create(release(), [member.wearable.eui])
    stranger.send(stranger.report(update.CONFIRMED))
    assert overview.rollouts(number)[0]["devices"] == {"ordered": 1}


def test_replayed_report_moves_nothing(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    until_ordered(board)
    failed = board.wearable.seal(board.report(update.ROLLED_BACK, update.TRIAL_FAILED))
    board.deliver(failed)
    second = fleet.rollouts.create(release(8))
    third = fleet.rollouts.create(release(7), replace=True)
    for _ in range(3):
        fleet.clock.now += 30
        board.deliver(failed)
    assert fleet.state(board, second) == "withdrawn"
    assert fleet.state(board, third) == "ordered"


def test_report_flood_stays_bounded(fleet: RolloutFleet):
    board, other = fleet.wear(), fleet.wear()
    fleet.rollouts.create(release())
    until_ordered(board)
    rows = {model: model.objects.count() for model in (RolloutDevice, Command)}
    events = AuditEvent.objects.count()
    states = (update.CONFIRMED, update.ROLLED_BACK, update.ACCEPTED, update.FAILED, update.REFUSED, update.GAVE_UP)
    for turn in range(20):
        batch = [board.wearable.seal(board.report(states[(turn + n) % 6], n % 256)) for n in range(50)]
        process(fleet.server, *(board.over_lora(frame) for frame in batch))
        fleet.clock.now += 3600
        fleet.tracker.keep_house()
    assert RolloutDevice.objects.count() == rows[RolloutDevice]
    assert Command.objects.count() <= rows[Command] + 8
    assert RolloutDevice.objects.get(device_id=board.wearable.pk).orders <= 8
    # the trail has its first endings, not a thousand
    assert AuditEvent.objects.count() - events <= 3
    assert fleet.state(other) == "ordered"


def test_reports_write_one_row_a_batch(fleet: RolloutFleet):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    board = fleet.wear()
    fleet.rollouts.create(release())
    until_ordered(board)

    def queries(count: int) -> int:
        batch = [board.over_lora(board.wearable.seal(board.report(update.FETCHED, n % 200))) for n in range(count)]
        with CaptureQueriesContext(connection) as captured:
            process(fleet.server, *batch)
        return sum("rollout_rolloutdevice" in query["sql"] for query in captured)

    assert queries(60) == queries(1)


HOSTILE = {
    "text for a state": message(3, 7, "<script>", 0),
    "text for a code": message(3, 7, 6, "=cmd|' /C calc'!A0"),
    "text for a release": message(3, "7; DROP TABLE", 6, 0),
    "map for a code": message(3, 7, 6, {1: "x"}),
    "state that is true": message(3, 7, True, 0),
    "release beyond 32 bits": message(3, 2**40, 6, 0),
    "state beyond a byte": message(3, 7, 256, 0),
    "more than three": message(3, 7, 6, 0, "x"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_text_in_a_report_is_refused_and_moves_nothing(fleet: RolloutFleet, name):
    with pytest.raises(MessageError):
        decode(HOSTILE[name])
    board = fleet.wear()
    fleet.rollouts.create(release())
    outcome = process(fleet.server, board.over_lora(board.wearable.seal(HOSTILE[name])))
    assert outcome.stored[0].fault == "malformed_message"
    assert fleet.state(board) == "ordered"


def test_what_a_report_shows_is_words_of_ours_and_numbers(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    for state in range(0, 256, 5):
        for code in (-255, -1, 0, 9, 77, 255):
            board.send(board.report(state, code))
    shown = json.dumps(overview.devices(1)) + "".join(
        one.record for one in readings.Readings(store.Payloads(fleet.vault)).in_order(readings.Filter())
    )
    assert set(shown) <= set('abcdefghijklmnopqrstuvwxyz0123456789_/-:,. "{}[]') | set("T")


# orders


def test_device_of_another_model_never_gets_the_order(fleet: RolloutFleet):
    mine, foreign = fleet.wear(), fleet.wear("other-band")
    with pytest.raises(RolloutError, match="not of the model"):
        fleet.rollouts.create(release(), [mine.wearable.eui, foreign.wearable.eui])
    number = fleet.rollouts.create(release())
    foreign.send()
    fleet.tracker.keep_house()
    assert UPDATE not in foreign.contacts(6)
    assert overview.rollouts(number)[0]["total"] == 1
    # nor when somebody writes it into the rollout
    RolloutDevice.objects.create(
        rollout_id=number, device_id=foreign.wearable.pk, state="waiting", next_at_ms=0, changed_at_ms=0
    )
    fleet.tracker.keep_house()
    assert UPDATE not in foreign.contacts(6)
    assert fleet.state(foreign) == "waiting: not_active"


def test_order_is_sealed_for_its_device_alone(fleet: RolloutFleet):
    board, eavesdropper = fleet.wear(), fleet.wear()
    board.send()
    fleet.rollouts.create(release())
    from cryptography.exceptions import InvalidTag

    from tests.support.rollouts import downlink

    frame = board.wearable.seal(telemetry(70))
    outcome = process(fleet.server, board.over_lora(frame))
    assert outcome.commanded == 1
    sealed = downlink(outcome.publications[0]).frame
    assert release().url.encode() not in sealed
    as_mine = sealed[:1] + eavesdropper.wearable.keys(0).did + sealed[3:]
    with pytest.raises(InvalidTag):
        eavesdropper.wearable.open(as_mine)


def test_paused_rollout_sends_nothing(fleet: RolloutFleet):
    boards = [fleet.wear() for _ in range(5)]
    for board in boards:
        board.send()
    number = fleet.rollouts.create(release())
    boards[0].deaf = True
    boards[0].contacts(2)
    fleet.rollouts.pause(number)
    for _ in range(5):
        fleet.clock.now += 86400
        fleet.tracker.keep_house()
        for board in boards:
            assert UPDATE not in board.contacts(4)
    assert sum(Command.objects.values_list("tries", flat=True)) == 1


def test_replays_draw_no_orders_and_spend_no_tries(fleet: RolloutFleet):
    """Whoever repeats a device's frames must not use up its order."""
    board = fleet.wear()
    frames = [board.wearable.seal(telemetry(value)) for value in range(60, 64)]
    for frame in frames:
        board.deliver(frame)
    fleet.rollouts.create(release())
    board.deaf = True
    for _ in range(50):
        fleet.clock.now += 120
        for frame in frames:
            process(fleet.server, board.over_lora(frame))
    assert Command.objects.get().tries == 0


def test_device_that_is_retired_while_its_order_waits_gets_nothing(fleet: RolloutFleet):
    board = fleet.wear()
    board.send()
    fleet.rollouts.create(release())
    Device.objects.filter(pk=board.wearable.pk).update(state=Device.State.RETIRED)
    assert board.contacts(4) == [None] * 4
    assert Command.objects.get().tries == 0


def test_order_in_the_database_is_bound_to_its_device(fleet: RolloutFleet):
    """Who can write rows, but has not the master key, makes no device fetch from elsewhere."""
    one, other = fleet.wear(), fleet.wear()
    fleet.rollouts.create(release())
    first, second = Command.objects.order_by("pk")
    Command.objects.filter(pk=first.pk).update(plaintext_wrapped=bytes(second.plaintext_wrapped))
    Command.objects.filter(pk=second.pk).update(plaintext_wrapped=bytes(100))
    assert UPDATE not in one.contacts(4)
    assert UPDATE not in other.contacts(4)
    assert set(Command.objects.values_list("state", flat=True)) == {"failed"}
    assert models.Frame.objects.count() == 8


def test_no_downlink_counter_is_used_twice_over_commands_and_syncs(fleet: RolloutFleet):
    board = fleet.wear()
    fleet.rollouts.create(release())
    counters = []
    act = board.act
    board.act = lambda ctr, items: (counters.append(ctr), act(ctr, items))
    board.contacts(20)
    assert UPDATE in [items[0] for items in board.heard]
    assert counters == list(range(20))
    assert EpochKey.objects.get(device_id=board.wearable.pk, epoch=0).downlink_ctr == 20


def test_the_same_sequence_is_never_rolled_out_with_another_manifest(fleet: RolloutFleet):
    fleet.wear()
    number = fleet.rollouts.create(release())
    fleet.rollouts.abort(number)
    with pytest.raises(RolloutError, match="another manifest"):
        fleet.rollouts.create(release(manifest_digest=bytes(32)))
