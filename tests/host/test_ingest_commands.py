"""Commands leave in place of a sync, one at a time, until their receipt comes, and never cost a device its frames."""

import threading
from itertools import pairwise
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from host_tools.gateway.envelope import Route
from host_tools.ingest import plaintexts
from sealwire.radio import EU868_FRAME_MAX
from tests.support.fleet import AuditEvent, EpochKey, sequence, telemetry
from tests.support.rollouts import (
    DIGEST,
    URL,
    Board,
    Command,
    Commands,
    Contact,
    Order,
    RolloutFleet,
    commands,
    message,
    process,
)

SYNC, CONFIGURE, UPDATE, REPORT = 16, 17, 18, 21


@pytest.fixture
def fleet(tmp_path: Path):
    fleet = RolloutFleet(tmp_path)
    yield fleet
    fleet.close()


def queue(fleet: RolloutFleet, board: Board, kind: int = UPDATE, plaintext: bytes | None = None) -> Command:
    plaintext = (
        plaintext
        or {
            UPDATE: plaintexts.update(7, DIGEST, URL),
            CONFIGURE: plaintexts.configure({1: 60}),
            REPORT: plaintexts.report(),
        }[kind]
    )
    queued = Commands(fleet.vault, fleet.clock).queue([Order(board.wearable.pk, board.wearable.eui, kind, plaintext)])
    return Command.objects.get(pk=queued[board.wearable.pk])


def again(command: Command) -> Command:
    command.refresh_from_db()
    return command


# plaintexts


def test_an_update_order_is_what_the_wire_format_says():
    assert sequence(plaintexts.update(7, DIGEST, URL)) == [18, 7, DIGEST, URL]
    assert sequence(plaintexts.configure({1: 60, 3: 9})) == [17, {1: 60, 3: 9}]
    assert plaintexts.report() == b"\x15"


@pytest.mark.parametrize(
    "arguments",
    [
        (0, DIGEST, URL),
        (2**32, DIGEST, URL),
        (7, DIGEST[1:], URL),
        (7, DIGEST, URL + "x" * 200),
        (7, DIGEST, "ü"),
        (7, DIGEST, ""),
    ],
)
def test_an_order_that_no_device_would_take_is_not_made(arguments):
    with pytest.raises(ValueError, match=r"not|at most"):
        plaintexts.update(*arguments)


@pytest.mark.parametrize("values", [{1: 5}, {99: 60}, {4: 31}, {5: 2}])
def test_a_setting_out_of_its_bounds_is_not_sent(values):
    with pytest.raises(ValueError, match="cannot be"):
        plaintexts.configure(values)


@pytest.mark.parametrize(
    ("rate", "longest"),
    [*((f"SF{sf}BW125", most) for sf, most in EU868_FRAME_MAX.items()), ("SF5BW500", 51)],
)
def test_an_answer_is_as_long_as_its_data_rate_allows(rate, longest):
    way = Route("00005eff0000a101", b"1", 868_100_000, rate, 14, "EU868")
    assert plaintexts.answer_max(way) == longest - 13
    assert plaintexts.answer_max(None) == 242


def test_the_longest_url_fits_the_fastest_data_rates_and_no_other():
    plaintext = plaintexts.update(2**32 - 1, DIGEST, "https://" + "x" * 152)
    assert [sf for sf, most in EU868_FRAME_MAX.items() if len(plaintext) + 13 <= most] == [8, 7]


# when a command leaves


def test_a_new_device_is_synced_first_and_commanded_then(fleet: RolloutFleet):
    board = fleet.wear()
    queue(fleet, board)
    assert board.contacts(4) == [SYNC, UPDATE, SYNC, SYNC]
    assert board.heard[1] == [18, 7, DIGEST, URL]


def test_a_device_that_was_silent_for_long_is_synced_first(fleet: RolloutFleet):
    board = fleet.wear()
    board.contacts(2)
    queue(fleet, board)
    fleet.clock.now += 2 * 86400
    assert board.contacts(3) == [SYNC, UPDATE, SYNC]


def test_a_device_that_speaks_once_a_day_gets_its_command_the_second_time(fleet: RolloutFleet):
    board = fleet.wear()
    board.send()
    fleet.clock.now += 86400
    queue(fleet, board)
    fleet.clock.now += 3600
    assert board.contacts(3, apart_s=86400) == [SYNC, UPDATE, SYNC]


def test_a_command_never_follows_a_command(fleet: RolloutFleet):
    board = fleet.wear()
    for kind in (UPDATE, CONFIGURE, REPORT):
        queue(fleet, board, kind)
    board.send()
    kinds = board.contacts(12)
    assert set(kinds) == {SYNC, UPDATE, CONFIGURE, REPORT}
    assert all(SYNC in pair for pair in pairwise(kinds))


def test_no_frame_is_answered_with_a_command_twice(fleet: RolloutFleet):
    """A device gives up a frame that was answered three times without being acknowledged."""
    board = fleet.wear()
    queue(fleet, board)
    board.send()
    frame = board.wearable.seal(telemetry(71))
    assert board.deliver(frame)[0] == UPDATE
    for _ in range(4):
        # it comes again and again, long after the command might be repeated
        fleet.clock.now += 120
        answer = board.deliver(frame)
        assert answer[0] == SYNC
        assert answer[2] == 1


def test_hellos_and_old_epochs_are_synced(fleet: RolloutFleet):
    board = fleet.wear()
    board.send()
    queue(fleet, board)
    assert board.deliver(board.wearable.seal(telemetry(70), hello=True))[0] == SYNC
    board.epoch = 1
    assert board.send()[0] == UPDATE
    board.queue.clear()
    assert board.send()[0] == SYNC
    # it is due again; what was left over from the epoch before is acknowledged all the same
    fleet.clock.now += 70
    board.epoch = 0
    assert board.send()[0] == SYNC
    board.epoch = 1
    assert board.send()[0] == UPDATE


def test_a_batch_with_frames_of_two_epochs_gives_a_command_once(fleet: RolloutFleet):
    board = fleet.wear()
    board.send()
    command = queue(fleet, board)
    frames = [board.wearable.seal(telemetry(70), epoch=epoch) for epoch in (0, 1)]
    outcome = process(fleet.server, *(board.over_lora(frame) for frame in frames))
    assert len(outcome.publications) == 2
    assert outcome.commanded == 1
    assert again(command).tries == 1
    assert bytes(command.sendings) == bytes.fromhex("00000001 0000")


def test_too_late_for_the_window_means_no_try_is_spent(fleet: RolloutFleet):
    board = fleet.wear()
    board.send()
    command = queue(fleet, board)
    message_ = board.over_lora(board.wearable.seal(telemetry(70)))
    fleet.clock.now += 30
    assert process(fleet.server, message_).publications == []
    assert again(command).tries == 0


def test_device_without_commands_costs_one_look_a_batch(fleet: RolloutFleet):
    boards = [fleet.wear() for _ in range(20)]
    for board in boards:
        board.send()
    queue(fleet, fleet.wear())
    batch = [board.over_lora(board.wearable.seal(telemetry(70))) for board in boards]
    with CaptureQueriesContext(
        connection,
    ) as captured:
        process(fleet.server, *batch)
    assert sum("ingest_command" in query["sql"] for query in captured) == 1
    with connection.cursor() as cursor:
        cursor.execute(
            "EXPLAIN QUERY PLAN SELECT DISTINCT device_id FROM ingest_command"
            " WHERE state IN ('queued', 'sent') AND device_id IN (1, 2)"
        )
        assert "command_open" in str(cursor.fetchall())


# how long a command is


def test_order_that_is_too_long_for_the_link_waits_for_a_faster_one_and_is_counted(fleet: RolloutFleet):
    board = fleet.wear(data_rate="SF10BW125")
    board.send()
    command = queue(fleet, board)
    assert board.contacts(3) == [SYNC, SYNC, SYNC]
    assert (again(command).too_long, command.tries) == (3, 0)
    assert commands.waiting() == {board.wearable.pk: (1, 1)}
    # a shorter one goes ahead of it
    queue(fleet, board, REPORT)
    assert board.send()[0] == REPORT
    fleet.clock.now += 60
    assert board.send()[0] == SYNC
    board.data_rate = "SF7BW125"
    assert board.send()[0] == UPDATE
    assert again(command).tries == 1


def test_order_goes_over_mqtt_whatever_the_radio_could_carry(fleet: RolloutFleet):
    board = fleet.wear(own_topic=True)
    queue(fleet, board, plaintext=plaintexts.update(7, DIGEST, "https://" + "x" * 152))
    assert board.contacts(2) == [SYNC, UPDATE]


# until the receipt


def test_command_is_repeated_until_its_receipt_and_not_sooner_than_a_minute(fleet: RolloutFleet):
    board = fleet.wear(deaf=True)
    board.send()
    command = queue(fleet, board)
    sent_at = []
    for _ in range(30):
        before = again(command).tries
        board.send()
        if again(command).tries > before:
            sent_at.append(fleet.clock.now)
        fleet.clock.now += 10
    assert len(sent_at) == 5
    assert min(b - a for a, b in pairwise(sent_at)) >= 60
    assert command.state == "sent"
    counters = commands._numbers(command)
    assert len(counters) == command.tries  # each time with a counter of its own
    board.deaf = False
    fleet.clock.now += 60
    board.contacts(4)
    assert (again(command).state, command.result) == ("done", 0)


def test_command_is_given_up_after_ten_times(fleet: RolloutFleet):
    board = fleet.wear(deaf=True)
    command = queue(fleet, board)
    board.contacts(30)
    assert (again(command).state, command.tries, command.result) == ("failed", 10, None)
    assert command.ended_at_ms is not None
    # a receipt that comes after all is followed
    board.deaf = False
    board.queue.append(message(4, max(ctr for _, ctr in commands._numbers(command)), 0))
    board.send()
    assert (again(command).state, command.result) == ("done", 0)


def test_receipt_of_an_earlier_sending_counts(fleet: RolloutFleet):
    board = fleet.wear()
    board.send()
    command = queue(fleet, board)
    board.send()
    receipt, board.queue = board.queue[0], []
    fleet.clock.now += 100
    board.send()
    fleet.clock.now += 100
    board.deaf = True
    board.send()
    assert again(command).tries == 2
    board.send(receipt)
    assert again(command).state == "done"


def test_receipt_may_come_in_the_next_epoch_and_not_later(fleet: RolloutFleet):
    for later, state in ((1, "done"), (2, "sent")):
        board = fleet.wear()
        board.send()
        command = queue(fleet, board)
        board.send()
        receipt, board.queue = board.queue[0], []
        for epoch in range(1, later + 1):
            board.epoch = epoch
            fleet.clock.now += 10
            board.deaf = True
            board.send(receipt if epoch == later else None)
        assert again(command).state == state


@pytest.mark.parametrize(("code", "state"), [(0, "done"), (1, "failed"), (4, "failed"), (6, "failed"), (99, "failed")])
def test_result_of_a_receipt_decides(fleet: RolloutFleet, code, state):
    board = fleet.wear(result=code)
    board.send()
    command = queue(fleet, board)
    board.contacts(3)
    assert (again(command).state, command.result) == (state, code)


def test_receipt_that_could_mean_two_sendings_means_none(fleet: RolloutFleet):
    board = fleet.wear(deaf=True)
    board.send()
    first, second = queue(fleet, board, UPDATE), queue(fleet, board, CONFIGURE)
    Command.objects.filter(pk=first.pk).update(state="sent", tries=1, sendings=bytes.fromhex("00000000 0005"))
    Command.objects.filter(pk=second.pk).update(state="sent", tries=1, sendings=bytes.fromhex("00000001 0005"))
    board.epoch = 1
    board.send(message(4, 5, 0))
    assert (again(first).state, again(second).state) == ("sent", "sent")


def test_a_status_is_the_receipt_of_being_asked_for_one(fleet: RolloutFleet):
    board = fleet.wear()
    board.send()
    command = queue(fleet, board, REPORT)
    assert board.contacts(2) == [REPORT, SYNC]
    assert again(command).state == "done"


# the queue


def test_a_newer_order_takes_the_place_of_one_that_waits(fleet: RolloutFleet):
    board = fleet.wear()
    old, other, new = queue(fleet, board), queue(fleet, board, CONFIGURE), queue(fleet, board)
    assert [again(one).state for one in (old, other, new)] == ["superseded", "queued", "queued"]


def test_queue_is_bounded(fleet: RolloutFleet):
    board = fleet.wear()
    for _ in range(commands.OPEN_MAX):
        queue(fleet, board, CONFIGURE)
    with pytest.raises(commands.QueueFull) as full:
        queue(fleet, board, CONFIGURE)
    assert full.value.remedy
    for _ in range(100):
        queue(fleet, board)
    assert Command.objects.count() <= commands.OPEN_MAX + commands.KEPT_MAX + 2


def test_kinds_that_need_more_than_a_receipt_are_not_queued(fleet: RolloutFleet):
    board = fleet.wear()
    for kind in (16, 23):
        with pytest.raises(ValueError, match="kind"):
            queue(fleet, board, kind, b"\x10")


def test_what_is_withdrawn_is_sent_no_more(fleet: RolloutFleet):
    board = fleet.wear()
    board.send()
    command = queue(fleet, board)
    assert commands.withdraw(Command.objects.filter(pk=command.pk), int(fleet.clock.now * 1000)) == 1
    assert board.contacts(3) == [SYNC, SYNC, SYNC]
    assert again(command).ended_at_ms is not None


def test_command_of_another_device_does_not_open_and_fails(fleet: RolloutFleet):
    """Somebody who can write to the database moves an order to another device."""
    board, other = fleet.wear(), fleet.wear()
    board.send(), other.send()
    command = queue(fleet, board)
    Command.objects.filter(pk=command.pk).update(device_id=other.wearable.pk)
    assert other.send()[0] == SYNC
    assert again(command).state == "failed"


def test_what_a_command_says_is_not_in_the_database(fleet: RolloutFleet):
    board = fleet.wear()
    queue(fleet, board)
    on_disk = fleet.on_disk()
    assert board.wearable.eui in on_disk
    assert URL.encode() not in on_disk
    assert DIGEST not in on_disk


def test_first_sending_is_in_the_audit_trail(fleet: RolloutFleet):
    board = fleet.wear(deaf=True)
    command = queue(fleet, board)
    board.contacts(6)
    events = AuditEvent.objects.filter(event="device_command_sent")
    assert [(event.subject, event.details) for event in events] == [
        (board.wearable.eui.hex(), f'{{"command":{command.pk},"kind":"update"}}')
    ]


def test_a_clock_that_was_put_back_holds_no_command_up(fleet: RolloutFleet):
    board = fleet.wear(deaf=True)
    board.send()
    command = queue(fleet, board)
    board.send()
    fleet.clock.now -= 30 * 86400
    Contact.objects.update(synced_at_ms=int(fleet.clock.now * 1000), commanded=False)
    board.contacts(2)
    assert again(command).tries >= 2


# crashes and two workers


def test_rolled_back_batch_spends_neither_counter_nor_try(fleet: RolloutFleet, monkeypatch: pytest.MonkeyPatch):
    from host_tools.ingest import store

    board = fleet.wear()
    board.send()
    command = queue(fleet, board)
    counter = EpochKey.objects.get(device_id=board.wearable.pk, epoch=0).downlink_ctr

    def fail(*_args):
        raise RuntimeError

    frame = board.over_lora(board.wearable.seal(telemetry(71)))
    with monkeypatch.context() as patch:
        patch.setattr(store, "count_refusals", fail)
        with pytest.raises(RuntimeError):
            process(fleet.server, frame)
    assert again(command).tries == 0
    assert EpochKey.objects.get(device_id=board.wearable.pk, epoch=0).downlink_ctr == counter
    assert process(fleet.server, frame).commanded == 1
    assert again(command).tries == 1


def test_crash_after_the_commit_costs_a_try_and_no_counter_twice(fleet: RolloutFleet):
    board = fleet.wear(deaf=True)  # what was committed as sent never left
    board.send()
    command = queue(fleet, board)
    board.send()
    assert again(command).tries == 1
    board.deaf = False
    board.send()
    fleet.clock.now += 61
    assert board.send()[0] == UPDATE
    assert len(commands._numbers(again(command))) == 2


def test_two_workers_send_a_command_once(fleet: RolloutFleet):
    boards = [fleet.wear() for _ in range(20)]
    for board in boards:
        board.send()
        queue(fleet, board)
    # two new frames of each device, one for each worker
    frames = [[board.over_lora(board.wearable.seal(telemetry(value))) for board in boards] for value in (71, 72)]
    barrier, outcomes, errors = threading.Barrier(2), [], []

    def run(mine) -> None:
        try:
            server = fleet.intake()
            for frame in mine:
                barrier.wait(20)
                outcomes.append(process(server, frame))
        except BaseException as error:
            errors.append(error)
            barrier.abort()
        finally:
            transaction.get_connection().close()

    threads = [threading.Thread(target=run, args=(mine,)) for mine in frames]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sum(outcome.commanded for outcome in outcomes) == 20
    assert set(Command.objects.values_list("tries", flat=True)) == {1}
