"""What a courier carries: its folder, the way to the server and back, and the command line over all of it."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from click.testing import CliRunner

from host_tools.cli import sealband
from host_tools.courier import delivery as deliveries
from host_tools.courier import topics
from host_tools.courier import visit as visits
from host_tools.courier.delivery import Delivery, groups
from host_tools.courier.errors import CourierError
from host_tools.courier.store import AGAIN_S, KEPT_S, Carried, CourierStore
from host_tools.gateway.broker import EmbeddedBroker, MosquittoBroker
from tests.support.courier_board import CourierBoard
from tests.support.fleet import NOW, Clock, Fleet, Wearable, message, models, process, telemetry, uplink, worker
from tests.support.mqtt_peer import wait

from host_tools.ingest import commands, plaintexts  # isort: skip  after Django is connected

EUI = "70b3d5fffe001234"
COURIER = "00112233445566aa"


def key(ctr: int, epoch: int = 0, priority: int = 2) -> bytes:
    return bytes((priority,)) + epoch.to_bytes(4, "big") + ctr.to_bytes(2, "big")


def carried(ctr: int, epoch: int = 0, frame: bytes = b"\xe0" + bytes(20)) -> Carried:
    return Carried(EUI, key(ctr, epoch), frame + bytes((ctr & 0xFF,)))


class Ticking(Clock):
    """No two things happen at one moment."""

    def __call__(self) -> float:
        self.now += 0.0001
        return self.now


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "registry").mkdir()
    fleet = Fleet(tmp_path / "registry", Ticking())
    yield fleet
    fleet.close()


# --- the folder


def test_what_is_carried_is_there_again_and_only_for_its_owner(tmp_path: Path):
    store = CourierStore(tmp_path / "c")
    for ctr in (5, 3, 4):
        store.take(carried(ctr))
    again = CourierStore(tmp_path / "c")
    assert again.name == store.name
    assert again.devices() == [EUI]
    assert [one.number for one in again.undelivered(EUI)] == [(0, 3), (0, 4), (0, 5)]
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "c").rglob("*")} == {0}


def test_frame_that_the_device_let_go_of_is_forgotten_and_one_that_stays_is_delivered_again(tmp_path: Path):
    clock = Clock()
    store = CourierStore(tmp_path, clock)
    listed = [key(1), key(2), key(3)]
    assert store.wanted(EUI, listed) == listed
    for ctr in (1, 2):
        store.take(carried(ctr))
        store.delivered(carried(ctr))
    assert store.wanted(EUI, [key(2), key(3)]) == [key(3)]
    assert [one.number for one in store.awaiting(EUI)] == [(0, 2)]
    clock.now += AGAIN_S
    assert store.wanted(EUI, [key(2), key(3)]) == [key(3)]
    assert [one.number for one in store.undelivered(EUI)] == [(0, 2)]
    clock.now += KEPT_S + 1
    assert store.undelivered(EUI) == []


def test_device_that_lists_without_end_or_gives_no_frame_fills_no_disk(tmp_path: Path):
    store = CourierStore(tmp_path)
    assert len(store.wanted(EUI, [key(ctr) for ctr in range(10_000)])) == 4096
    for frame in (b"", bytes(12), bytes(256)):
        with pytest.raises(CourierError):
            store.take(Carried(EUI, key(1), frame))
    with pytest.raises(CourierError):
        store.take(Carried("../" + EUI, key(1), bytes(20)))
    with pytest.raises(CourierError):
        store.take(Carried(EUI, b"../../x", b""))


def test_answers_are_handed_over_in_the_order_in_which_they_came(tmp_path: Path):
    store = CourierStore(tmp_path)
    for number in range(12):
        store.answer(EUI, bytes(20) + bytes((number,)))
    store.answer(EUI, b"short")
    store.answer(EUI, bytes(300))
    assert [frame[20] for _, frame in store.answers(EUI)] == list(range(12))
    for name, _ in store.answers(EUI)[:11]:
        store.handed_over(EUI, name)
    store.answer(EUI, bytes(21))
    assert [frame[20] for _, frame in CourierStore(tmp_path).answers(EUI)] == [11, 0]


def test_folder_that_cannot_be_used_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CourierError, match="cannot be used"):
        CourierStore(tmp_path / "file")
    (tmp_path / "id").write_text("../../etc")
    with pytest.raises(CourierError, match="no courier's name"):
        CourierStore(tmp_path)


def test_groups_are_what_one_sync_can_acknowledge():
    frames = [carried(ctr) for ctr in (0, 1, 32, 33, 65, 66)] + [carried(0, epoch=1)]
    numbers = [[one.number for one in group] for group in groups(reversed(frames))]
    assert numbers == [[(0, 0), (0, 1), (0, 32)], [(0, 33), (0, 65)], [(0, 66)], [(1, 0)]]
    assert list(groups([])) == []


# --- the server


def up(frame: bytes, courier: str = COURIER) -> tuple[str, bytes]:
    return topics.uplink_topic(courier), frame


def test_carried_frame_is_stored_with_its_courier_and_answered_to_it(fleet: Fleet):
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    outcome = process(fleet.intake(), up(frame))
    assert [(one.eui, one.link, one.gateway) for one in outcome.stored] == [(wearable.eui.hex(), "ble", COURIER)]
    ((topic, payload),) = outcome.publications
    assert topic == f"sb/v1/courier/{COURIER}/down"
    assert payload[:8] == topics.digest(frame)
    assert wearable.open(payload[8:]) == (0, [16, int(NOW) - 1735689600, 0, 0, 0])


def test_answer_tells_nobody_whose_a_frame_is_that_was_heard_on_the_air(fleet: Fleet):
    wearable = fleet.add()
    ((_, payload),) = process(fleet.intake(), up(wearable.seal(telemetry(70)))).publications
    assert wearable.eui not in payload and wearable.eui.hex().encode() not in payload
    assert payload[9:11] == wearable.keys(0).did


def test_no_command_is_given_to_a_courier(fleet: Fleet):
    wearable = fleet.add()
    intake = fleet.intake()
    process(intake, up(wearable.seal(telemetry(70))))
    fleet.clock.now += 10
    intake._commands.queue([commands.Order(wearable.pk, wearable.eui, 21, plaintexts.report())])
    ((_, payload),) = process(intake, up(wearable.seal(telemetry(71)))).publications
    assert wearable.open(payload[8:])[1][0] == 16
    # and it goes out where the device listens
    fleet.clock.now += 10
    outcome = process(intake, (f"sb/v1/d/{wearable.eui.hex()}/up", wearable.seal(telemetry(72))))
    assert outcome.commanded == 1


def test_copy_of_a_carried_frame_by_radio_is_stored_once(fleet: Fleet):
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    intake = fleet.intake()
    process(intake, uplink(frame, at=fleet.clock.now))
    outcome = process(intake, up(frame))
    assert [one.reason.value for one in outcome.refused] == ["replay"]
    assert models.Frame.objects.count() == 1


def test_courier_that_repeats_frames_draws_no_flood_of_answers(fleet: Fleet):
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    intake = fleet.intake()
    assert len(process(intake, up(frame)).publications) == 1
    assert not any(process(intake, up(frame)).publications for _ in range(20))


@pytest.mark.parametrize(
    "topic", ["sb/v1/courier/x/up", f"sb/v1/courier/{COURIER}/down", f"sb/v1/courier/{COURIER.upper()}/up"]
)
def test_topic_that_is_no_courier_s_is_refused(fleet: Fleet, topic: str):
    outcome = process(fleet.intake(), (topic, fleet.add().seal(telemetry(70))))
    assert [one.reason.value for one in outcome.refused] == ["bad_topic"] and not outcome.publications


def test_what_is_no_frame_is_refused_and_counted(fleet: Fleet):
    wearable = fleet.add()
    good = wearable.seal(telemetry(70))
    outcome = process(fleet.intake(), up(b""), up(bytes(300)), up(bytes(20)), up(good[:-1] + b"x"))
    assert len(outcome.refused) == 4 and not outcome.stored and not outcome.publications


# --- both ways through a broker


def start(fleet: Fleet, port: int) -> worker.IngestWorker:
    return worker.IngestWorker("127.0.0.1", port, fleet.vault, fleet.clock, client_id="ingest")


def load(store: CourierStore, wearable: Wearable, counters: range) -> None:
    for ctr in counters:
        store.take(Carried(wearable.eui.hex(), key(ctr), wearable.seal(message(1, 1000 + ctr, 5, ctr), ctr=ctr)))


def test_a_hundred_frames_are_acknowledged_in_groups(fleet: Fleet, tmp_path: Path):
    wearable = fleet.add()
    store = CourierStore(tmp_path / "c")
    load(store, wearable, range(100))
    with EmbeddedBroker() as broker, start(fleet, broker.port), Delivery(store, "127.0.0.1", broker.port) as delivery:
        told: list[tuple[int, int]] = []
        done = delivery.run(lambda *progress: told.append(progress))
    assert (done.delivered, done.unanswered) == (100, 0) and told[-1] == (100, 100)
    assert models.Frame.objects.count() == 100
    acknowledged: set[int] = set()
    last = -1
    for _, frame in store.answers(wearable.eui.hex()):
        ctr, (kind, _, newest, bitmap, _) = wearable.open(frame)
        assert kind == 16 and ctr > last
        last = ctr
        acknowledged |= {newest} | {newest - 1 - bit for bit in range(32) if bitmap >> bit & 1}
    assert acknowledged == set(range(100))
    assert store.undelivered(wearable.eui.hex()) == []


def test_answer_that_comes_while_the_courier_is_away_waits_for_it(fleet: Fleet, tmp_path: Path):
    wearable = fleet.add()
    store = CourierStore(tmp_path / "c")
    load(store, wearable, range(3))
    if not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed, and the embedded broker keeps nothing for who is away")
    with MosquittoBroker() as broker:
        with start(fleet, broker.port):
            pass  # subscribed; its session keeps what comes
        with Delivery(store, "127.0.0.1", broker.port, answer_s=0.2) as delivery:
            assert delivery.run() == deliveries.Delivered(3, 0, 1)
        with start(fleet, broker.port) as ingest:
            assert wait(lambda: ingest.statistics().synced >= 1)
        with Delivery(store, "127.0.0.1", broker.port, answer_s=0.2) as delivery:
            assert wait(lambda: not delivery._answers.empty())
            assert delivery.run().answers >= 1
    assert wearable.open(store.answers(wearable.eui.hex())[-1][1])[1][2:4] == [2, 3]


def test_answer_to_what_was_never_carried_is_dropped(tmp_path: Path):
    store = CourierStore(tmp_path)
    store.take(carried(1))
    with EmbeddedBroker() as broker:
        liar = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        liar.connect("127.0.0.1", broker.port)
        liar.loop_start()
        with Delivery(store, "127.0.0.1", broker.port, answer_s=0.3) as delivery:
            for payload in (b"", bytes(7), bytes(8) + bytes(30), os.urandom(3000)):
                liar.publish(topics.downlink_topic(store.name), payload, 1).wait_for_publish(5)
            assert delivery.run().answers == 0
        liar.loop_stop()
    assert store.answers(EUI) == []


def test_broker_that_is_away_is_said_and_nothing_counts_as_delivered(tmp_path: Path):
    store = CourierStore(tmp_path)
    store.take(carried(1))
    with pytest.raises(CourierError, match="cannot be reached"), Delivery(store, "127.0.0.1", 1):
        pass
    assert len(store.undelivered(EUI)) == 1


def test_frames_go_from_the_device_to_the_server_and_leave_its_queue_by_the_server_s_word_alone(
    fleet: Fleet, tmp_path: Path
):
    wearable = fleet.add(eui=bytes.fromhex(EUI), root=bytes(range(32)))
    store = CourierStore(tmp_path / "c")
    with CourierBoard(wearable.eui, wearable.root) as board:
        assert board.look("result = board.events(80)") == 81
        first = asyncio.run(visits.carry(board.air, board.label, 5, store))
        assert (first.fetched, first.opened) == (81, 0)
        with (
            EmbeddedBroker() as broker,
            start(fleet, broker.port),
            Delivery(store, "127.0.0.1", broker.port) as delivery,
        ):
            assert delivery.run().unanswered == 0
        assert board.look("result = len(board.node.outbox)") == 81
        board.until_advertised()
        second = asyncio.run(visits.carry(board.air, board.label, 5, store))
        assert second.opened >= 3 and second.queued == second.fetched == 0
        # it had no clock and nobody else to ask
        assert board.look("result = (board.node.clock.valid, board.node.faults)") == (True, 0)
        assert store.answers(EUI) == [] and store.awaiting(EUI) == []
    assert models.Frame.objects.filter(link="ble").count() == 81


# --- the command line


def run(*arguments: str, text: str = "") -> tuple[int, dict]:
    done = CliRunner().invoke(sealband, ["courier", *arguments, "--json"], input=text)
    return done.exit_code, json.loads(done.stdout) if done.stdout.strip().startswith("{") else {}


def test_commands_carry_frames_and_answers(fleet: Fleet, tmp_path: Path):
    wearable = fleet.add(eui=bytes.fromhex(EUI), root=bytes(range(32)))
    folder = str(tmp_path / "c")
    with CourierBoard(wearable.eui, wearable.root) as board, EmbeddedBroker() as broker, start(fleet, broker.port):
        virtual = "--virtual", "{}:{}".format(*board.address)
        text = board.label.text + "\n"
        code, told = run("scan", *virtual, text=text)
        assert code == 0 and told == {"devices": [{"device": EUI, "model": "test-band", "rssi": None}], "others": 0}
        code, told = run("status", *virtual, text=text)
        assert code == 0 and told["device"] == EUI and told["queued"] == 1 and told["status"]["uptime_s"] >= 0
        board.until_advertised()
        code, told = run("fetch", *virtual, "--folder", folder, text=text)
        assert code == 0 and told["visited"][0]["fetched"] == 1 and told["missed"] == 0
        code, told = run("deliver", "--folder", folder, "--mqtt", f"127.0.0.1:{broker.port}")
        assert code == 0 and told == {"delivered": 1, "answers": 1, "unanswered": 0}
        board.until_advertised()
        label = tmp_path / "label"
        label.write_text(text)
        code, told = run("fetch", *virtual, "--folder", folder, "--label-file", str(label))
        assert code == 0 and told["visited"][0]["opened"] == 1 and told["visited"][0]["queued"] == 0
        code, told = run("id", "--folder", folder)
        assert code == 0 and told == {"courier": CourierStore(tmp_path / "c").name}


def test_label_is_no_argument_and_in_no_message(tmp_path: Path):
    with CourierBoard(bytes.fromhex(EUI), bytes(range(32))) as board:
        secret = board.label.text.rsplit(":", 1)[1]
        done = subprocess.run(
            [sys.executable, "-m", "host_tools.cli", "courier", "status", "--virtual", "127.0.0.1:1"],
            input=board.label.text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1 and "not in reach" in done.stderr and "Traceback" not in done.stderr
        assert secret not in done.stdout + done.stderr
        done = subprocess.run(
            [sys.executable, "-m", "host_tools.cli", "courier", "status", board.label.text],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "text", "code"),
    [
        (("status",), "", 1),
        (("status",), "SEALBAND:1:nonsense\n", 1),
        (("scan", "--virtual", "nowhere"), "x", 2),
        (("fetch", "--label-file", "/does/not/exist"), "", 2),
        (("deliver", "--mqtt", "127.0.0.1:1"), "", 1),
    ],
)
def test_what_a_user_can_do_wrong_ends_in_one_line(tmp_path: Path, arguments: tuple[str, ...], text: str, code: int):
    done = subprocess.run(
        [sys.executable, "-m", "host_tools.cli", "courier", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SEALBAND_COURIER": str(tmp_path / "c")},
    )
    assert done.returncode == code and "Traceback" not in done.stderr and done.stderr.strip()
