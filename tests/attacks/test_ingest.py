"""What hostile frames, gateways, devices and power cuts do to ingest: nothing beyond a counted refusal."""

import base64
import contextlib
import logging
import resource
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import cbor2
import paho.mqtt.client as mqtt
import pytest
from cryptography.exceptions import InvalidTag

from host_tools.gateway.broker import EmbeddedBroker
from host_tools.ingest.hellos import FAILURES_AN_HOUR
from provisioning.registry.vault import VaultError
from sealwire.keys import FAILED_OPENINGS_MAX
from tests.support.fleet import (
    GATEWAY,
    NOW,
    OTHER_GATEWAY,
    T0,
    EpochKey,
    Fleet,
    Vault,
    Wearable,
    chains,
    downlink,
    intake,
    keys,
    message,
    models,
    own_topic,
    process,
    readings,
    start_us,
    store,
    telemetry,
    uplink,
    worker,
)
from tests.support.micropython import ROOT
from tests.support.mqtt_peer import MqttPeer, wait


@pytest.fixture
def fleet(tmp_path: Path):
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def reasons(outcome) -> list[str]:
    return [refusal.reason.value for refusal in outcome.refused]


def changed(frame: bytes, index: int = -1) -> bytes:
    spoiled = bytearray(frame)
    spoiled[index] ^= 1
    return bytes(spoiled)


def failures(wearable: Wearable, epoch: int = 0) -> int:
    return EpochKey.objects.get(device_id=wearable.pk, epoch=epoch).failures


# frames


def test_replayed_frame_is_not_stored_twice(fleet: Fleet):
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    assert len(process(fleet.intake(), uplink(frame)).stored) == 1
    for again in (uplink(frame), uplink(frame, OTHER_GATEWAY), own_topic(wearable, frame)):
        # a new intake knows nothing: the database alone decides
        outcome = process(fleet.intake(), again)
        assert outcome.stored == []
        assert reasons(outcome) == ["replay"]
    assert models.Frame.objects.count() == 1
    assert store.refusals() == {"replay": 3}


def test_replay_as_a_hello_is_not_opened(fleet: Fleet):
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    process(fleet.intake(), uplink(frame))
    # the same counter under the same key, with the header of the other kind
    hello = bytes([frame[0] | 2 << 3]) + wearable.eui + bytes(4) + frame[3:]
    assert reasons(process(fleet.intake(), uplink(hello))) == ["bad_tag"]


def test_flood_of_replays_gets_one_answer_a_window_and_leaves_the_counters(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    frames = [wearable.seal(telemetry(value)) for value in range(60, 80)]
    process(server, *(uplink(frame) for frame in frames))
    answers = 0
    for _ in range(60):
        fleet.clock.now += 1
        outcome = process(server, *(uplink(frame, at=fleet.clock.now) for frame in frames))
        answers += len(outcome.publications)
    # at this rate a whole day takes a third of the 65,536 counters
    assert answers <= 60 / intake.ANSWER_AGAIN_S + 1
    assert models.Frame.objects.count() == 20


def test_reflected_frame_is_refused(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    outcome = process(server, own_topic(wearable, wearable.seal(telemetry(70))))
    reflected = outcome.publications[0][1]
    wearable.open(reflected)
    assert reasons(process(server, uplink(reflected))) == ["bad_tag"]
    assert reasons(process(server, own_topic(wearable, reflected))) == ["bad_tag"]


def test_frame_of_another_device_is_refused(fleet: Fleet):
    mine, other, server = fleet.add(), fleet.add(), fleet.intake()
    frame = mine.seal(telemetry(70))
    as_other = frame[:1] + other.keys(0).did + frame[3:]
    assert reasons(process(server, uplink(as_other))) == ["bad_tag"]
    hello = mine.seal(telemetry(70), hello=True)
    assert reasons(process(server, uplink(hello[:1] + other.eui + hello[9:]))) == ["bad_tag"]
    assert (failures(mine), failures(other)) == (0, 2)


def test_frame_in_the_topic_of_another_device_is_refused(fleet: Fleet):
    mine, other, server = fleet.add(), fleet.add(), fleet.intake()
    for frame in (mine.seal(telemetry(70)), mine.seal(telemetry(70), hello=True)):
        assert reasons(process(server, (f"sb/v1/d/{other.eui.hex()}/up", frame))) == ["unknown_device"]
    # what somebody brings to a wrong topic is not held against the key of whom it names
    assert (failures(mine), failures(other)) == (0, 0)
    assert len(process(server, own_topic(mine, mine.seal(telemetry(71)))).stored) == 1


def test_frame_of_an_old_epoch_is_refused(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    old = [wearable.seal(telemetry(70), epoch=epoch) for epoch in (0, 1)]
    for epoch in (1, 2):
        process(server, uplink(wearable.seal(telemetry(71), epoch=epoch)))
    # two epochs back: nothing is left that could open it
    assert reasons(process(server, uplink(old[0]))) == ["unknown_device"]
    fleet.clock.now += 86400
    assert reasons(process(server, uplink(old[1]))) == ["old_epoch"]
    hello = wearable.seal(telemetry(70), epoch=0, hello=True)
    assert reasons(process(server, uplink(hello))) == ["old_epoch"]


def test_epoch_eight_later_is_not_taken_for_this_one(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70), epoch=8)
    as_now = frame[:1] + wearable.keys(0).did + frame[3:]
    assert reasons(process(server, uplink(as_now))) == ["bad_tag"]


def test_truncated_tag_is_refused(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70))
    for kept in range(len(frame)):
        outcome = process(server, own_topic(wearable, frame[:kept]))
        assert outcome.stored == []
        assert len(outcome.refused) == 1
    assert len(process(server, own_topic(wearable, frame)).stored) == 1


def test_every_changed_bit_is_found(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70))
    for bit in range(len(frame) * 8):
        spoiled = bytearray(frame)
        spoiled[bit // 8] ^= 1 << bit % 8
        assert process(server, own_topic(wearable, bytes(spoiled))).stored == []
    assert len(process(server, own_topic(wearable, frame)).stored) == 1


def test_two_devices_with_one_pseudonym_are_told_apart_by_the_tag(fleet: Fleet):
    eui, others = b"\x02" + bytes(7), {}
    for number in range(5000):
        root = number.to_bytes(32, "big")
        did = keys.epoch_keys(root, eui[:-2] + number.to_bytes(2, "big")).did
        if did in others:
            break
        others[did] = number
    one, other = (fleet.add(eui[:-2] + n.to_bytes(2, "big"), n.to_bytes(32, "big")) for n in (others[did], number))
    assert one.keys(0).did == other.keys(0).did
    server = fleet.intake()
    outcome = process(server, *(uplink(wearable.seal(telemetry(70))) for wearable in (one, other, one, other)))
    assert [stored.eui for stored in outcome.stored] == [w.eui.hex() for w in (one, other, one, other)]
    # each is answered under its own key
    for wearable in (one, other):
        opened = []
        for publication in outcome.publications:
            with contextlib.suppress(InvalidTag):
                opened.append(wearable.open(downlink(publication).frame)[1][2])
        assert opened == [1]
    # and neither's frames count as attempts against the other
    assert (failures(one), failures(other)) == (0, 0)
    process(server, uplink(changed(one.seal(telemetry(70)))))
    assert (failures(one), failures(other)) == (1, 1)


def test_key_is_refused_after_2_to_the_14_failed_openings_in_its_epoch(fleet: Fleet):
    wearable, other, server = fleet.add(), fleet.add(), fleet.intake()
    good, bad = wearable.seal(telemetry(70)), changed(wearable.seal(telemetry(71)))
    for _ in range(2**14 // 256 - 1):
        process(server, *[own_topic(wearable, bad)] * 256)
    process(server, *[own_topic(wearable, bad)] * 255)
    assert failures(wearable) == 2**14 - 1
    assert len(process(server, own_topic(wearable, good)).stored) == 1
    # one more is counted, and then not even a genuine frame is believed; not in the very batch either
    outcome = process(server, uplink(bad), uplink(wearable.seal(telemetry(72))), uplink(bad))
    assert reasons(outcome) == ["bad_tag", "key_exhausted", "key_exhausted"]
    assert reasons(process(server, uplink(wearable.seal(telemetry(73))))) == ["key_exhausted"]
    assert failures(wearable) == 2**14
    # the next epoch has a key of its own, and other devices theirs
    assert len(process(server, uplink(wearable.seal(telemetry(74), epoch=1))).stored) == 1
    assert len(process(server, uplink(other.seal(telemetry(75)))).stored) == 1


# gateways and the broker

POISON = {
    "nothing": b"",
    "a byte": b"\x00",
    "text": b"hello",
    "JSON": b'{"frame": "e0"}',
    "CBOR that is no map": cbor2.dumps([1, 2, 3]),
    "map with too little": cbor2.dumps({"frame": b"\xe0" + bytes(20)}),
    "map that claims 2^32 pairs": b"\xba\xff\xff\xff\xff",
    "array that claims 2^64 items": b"\x9b" + b"\xff" * 8,
    "nested 600 deep": b"\x81" * 600,
    "decimal fraction with a huge exponent": bytes.fromhex("a1656672616d65c4821b7fffffffffffffff01"),
    "big float with a huge exponent": bytes.fromhex("a1656672616d65c5821b7fffffffffffffff03"),
    "map that holds itself": bytes.fromhex("d81ca1656672616d65d81d00"),
    "megabyte": bytes(1 << 20),
    "not a number": cbor2.dumps(dict.fromkeys(("frame", "gateway", "rssi", "snr"), float("nan"))),
}


@pytest.mark.parametrize("name", POISON)
def test_poison_payload_is_counted_and_costs_nothing(fleet: Fleet, name):
    wearable, server = fleet.add(), fleet.intake()
    good = wearable.seal(telemetry(70))
    started = time.perf_counter()
    outcome = process(
        server,
        (f"sb/v1/gw/{GATEWAY}/up", POISON[name]),
        (f"sb/v1/d/{wearable.eui.hex()}/up", POISON[name]),
        uplink(good),
    )
    assert time.perf_counter() - started < 0.5
    assert reasons(outcome) == ["bad_envelope", "malformed"]
    assert len(outcome.stored) == 1


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "sb/v1/gw/x/up",
        "sb/v1/d//up",
        "sb/v1/d/../up",
        "sb/v1/d/0200000000000001/down",
        "sb/v1/d/02000000000000AB/up",
        "sb/v1/d/020000000000000١/up",
        "sb/v1/d/0200000000000001/up\n",
        "sb/v1/gw/00005eff0000a101/up/x",
        "$SYS/broker",
    ],
)
def test_topic_that_is_nobodys_is_refused(fleet: Fleet, topic):
    wearable = fleet.add(bytes.fromhex("0200000000000001"))
    frame = wearable.seal(telemetry(70))
    for payload in (frame, uplink(frame)[1]):
        assert reasons(process(fleet.intake(), (topic, payload))) == ["bad_topic"]


def test_gateway_cannot_speak_for_another(fleet: Fleet):
    wearable = fleet.add()
    _, payload = uplink(wearable.seal(telemetry(70)), OTHER_GATEWAY)
    outcome = process(fleet.intake(), (f"sb/v1/gw/{GATEWAY}/up", payload))
    assert reasons(outcome) == ["bad_topic"]
    assert outcome.publications == []


def test_gateway_that_lies_about_the_time_does_not_set_the_clock_of_a_device(fleet: Fleet):
    wearable = fleet.add()
    outcome = process(fleet.intake(), uplink(wearable.seal(telemetry(70)), at=NOW + 10 * 365 * 86400))
    (publication,) = outcome.publications
    _, items = wearable.open(downlink(publication).frame)
    assert items[1] == int(NOW) + 5 - 1735689600
    assert models.Frame.objects.get().received_at_ms == NOW * 1000


def test_gateway_that_lies_about_the_time_does_not_draw_answers_to_itself(fleet: Fleet):
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    liar = uplink(frame, OTHER_GATEWAY, at=NOW + 3600, snr=5)
    outcome = process(fleet.intake(), liar, uplink(frame, GATEWAY, snr=7.5))
    assert [topic for topic, _ in outcome.publications] == [f"sb/v1/gw/{GATEWAY}/down"]


def test_days_of_replays_leave_counters_to_answer_the_device_when_it_returns(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70))
    process(server, uplink(frame))
    EpochKey.objects.filter(device_id=wearable.pk, epoch=0).update(downlink_ctr=chains.REPEATS_CTR_MAX - 5)
    answers = 0
    for _ in range(20):
        fleet.clock.now += intake.ANSWER_AGAIN_S + 0.1
        answers += len(process(server, uplink(frame, at=fleet.clock.now)).publications)
    assert answers == 6
    fleet.clock.now += 60
    assert process(server, uplink(wearable.seal(telemetry(71)), at=fleet.clock.now)).publications


def test_poison_in_the_brokers_stream_is_acknowledged_and_never_comes_back(fleet: Fleet):
    wearable = fleet.add()
    with MqttPeer() as broker, worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock) as ingest:
        for mid, payload in enumerate(POISON.values(), 1):
            broker.deliver(f"sb/v1/gw/{GATEWAY}/up", payload, mid)
        broker.deliver(*uplink(wearable.seal(telemetry(70))), 100)
        assert wait(lambda: len(broker.acked) == len(POISON) + 1)
        assert wait(lambda: ingest.statistics().stored == 1)
        assert ingest.statistics().refused == {"bad_envelope": len(POISON)}
        assert broker.connections == 1


def test_message_that_breaks_our_own_code_is_counted_and_acknowledged(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    wearable = fleet.add()
    frames = [wearable.seal(telemetry(value)) for value in (70, 71, 72)]
    real_parse = intake.parse

    def parse(frame: bytes):
        if frame == frames[1]:
            raise ZeroDivisionError
        return real_parse(frame)

    monkeypatch.setattr(intake, "parse", parse)
    monkeypatch.setattr(worker, "LINGER_S", 0.2)
    monkeypatch.setattr(worker, "BATCH_S", 0.5)
    with MqttPeer() as broker, worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock) as ingest:
        for mid, frame in enumerate(frames, 1):
            broker.deliver(*uplink(frame), mid)
        assert wait(lambda: sorted(broker.acked) == [(1, 1), (1, 2), (1, 3)])
        assert wait(lambda: ingest.statistics().stored == 2)
        assert ingest.statistics().refused == {"internal": 1}


def test_flood_of_bad_frames_loses_no_good_one_and_memory_stays_flat(fleet: Fleet):
    """Through a real broker: forged frames with the pseudonyms of real devices, and noise."""
    wearables = [fleet.add() for _ in range(5)]
    good = [wearable.seal(telemetry(70)) for _ in range(20) for wearable in wearables]
    forged = [changed(frame) for frame in good]
    with EmbeddedBroker() as broker:
        ingest = worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock)
        sender = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        sender.max_inflight_messages_set(100)
        with ingest:
            sender.connect("127.0.0.1", broker.port)
            sender.loop_start()
            peak_kib = []
            for turn in range(10):
                last = None
                for index in range(turn * 10, turn * 10 + 10):
                    for _ in range(10):
                        sender.publish(*uplink(forged[index]), qos=1)
                        sender.publish(f"sb/v1/gw/{GATEWAY}/up", bytes([index]) * 300, qos=1)
                        sender.publish(*own_topic(wearables[0], b"\xe0" + bytes([index]) * 20), qos=1)
                    last = sender.publish(*uplink(good[index]), qos=1)
                last.wait_for_publish(10)
                peak_kib.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            assert wait(lambda: ingest.statistics().received == 3100, 30)
            sender.disconnect()
            sender.loop_stop()
        done = ingest.statistics()
    assert done.stored == 100
    assert done.refused == {"bad_tag": 1000, "bad_envelope": 1000, "unknown_device": 1000}
    assert store.refusals() == done.refused
    assert models.Frame.objects.count() == 100
    assert peak_kib[-1] - peak_kib[4] < 16 * 1024


def test_memory_stays_flat_over_a_hundred_thousand_bad_frames(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    batch = [own_topic(wearable, b"\xe0" + index.to_bytes(2, "big") + bytes(12)) for index in range(256)]
    process(server, *batch)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for turn in range(400):
        batch = [(f"sb/v1/gw/{GATEWAY}/up", turn.to_bytes(2, "big") + index.to_bytes(2, "big")) for index in range(256)]
        process(server, *batch)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 200_000
    assert store.refusals()["bad_envelope"] == 400 * 256


def test_full_queue_makes_the_broker_wait_and_loses_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "QUEUE_MAX", 8)
    monkeypatch.setattr(worker, "BATCH_MAX", 4)
    stalled = threading.Event()
    real = store.insert

    def insert(rows):
        stalled.wait(10)
        return real(rows)

    monkeypatch.setattr(store, "insert", insert)
    wearable = fleet.add()
    frames = [wearable.seal(telemetry(70)) for _ in range(100)]
    with MqttPeer() as broker, worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock) as ingest:
        for mid, frame in enumerate(frames, 1):
            broker.deliver(*uplink(frame), mid)
        assert wait(lambda: ingest.statistics().queued == 8)
        time.sleep(0.5)
        assert ingest.statistics().queued == 8
        stalled.set()
        assert wait(lambda: len(broker.acked) == 100)
        assert ingest.statistics().stored == 100


# genuine devices that are broken or captured

BOMBS = [
    "00019bffffffffffffffff",
    "00" + "81" * 240,
    "0001830101c5821b7fffffffffffffff03",
    "0001d81c81d81d00",
    "0001830101d8236a28612b292b2462616161",
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_cbor_bomb_in_a_genuine_frame_is_kept_acknowledged_and_not_believed(fleet: Fleet, bomb):
    wearable, server = fleet.add(), fleet.intake()
    frame = wearable.seal(bytes.fromhex(bomb))
    started = time.perf_counter()
    outcome = process(server, uplink(frame))
    assert time.perf_counter() - started < 0.5
    assert outcome.stored[0].fault == "malformed_message"
    assert store.refusals() == {"malformed_message": 1}
    # acknowledged, or the device would send it for ever
    _, sync = wearable.open(downlink(outcome.publications[0]).frame)
    assert sync[2] == 0
    row = models.Frame.objects.get()
    assert row.message_type is None
    assert list(readings.Readings(store.Payloads(fleet.vault)).in_order(readings.Filter())) == []


ABSURD = {
    "sample every second from 2161 on": message(0, 2**32 - 1, [1, 1, 70, 0]),
    "record 0": message(0, T0, [0, 1, 70]),
    "record 2^64": message(0, T0, [2**64 - 1, 1, 70]),
    "interval of 2^32 s": message(0, T0, [1, 2**32, 70, 1]),
    "values that add up beyond 2^53": message(0, T0, [1, 1, 2**53 - 1, 2**53 - 1]),
    "more samples than a frame has bytes": message(0, T0)[:-1] + b"\x00" + b"\x9a\x00\xff\xff\xff",
    "same time for many samples": message(0, T0, [1, 0, *range(50)]),
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_telemetry_is_no_reading(fleet: Fleet, name):
    wearable = fleet.add()
    outcome = process(fleet.intake(), uplink(wearable.seal(ABSURD[name])))
    assert [stored.fault for stored in outcome.stored] == ["malformed_message"]


def test_telemetry_from_the_future_is_marked(fleet: Fleet):
    wearable = fleet.add()
    outcome = process(
        fleet.intake(),
        uplink(wearable.seal(telemetry(70, t0=T0 + 2 * 86400))),
        uplink(wearable.seal(telemetry(70, 71, interval_s=7 * 86400))),
        uplink(wearable.seal(telemetry(70))),
    )
    assert [stored.fault for stored in outcome.stored] == ["implausible_time", "implausible_time", ""]


def test_the_most_samples_that_fit_a_frame_are_expanded(fleet: Fleet):
    wearable = fleet.add()
    process(fleet.intake(), uplink(wearable.seal(message(0, T0, [1, 1, 70, *[0] * 228]))))
    found = list(readings.Readings(store.Payloads(fleet.vault)).in_order(readings.Filter()))
    assert len(found) == 229


# several workers, crashes, power cuts


def test_two_workers_racing_on_the_same_frames_store_and_answer_each_once(fleet: Fleet):
    wearables = [fleet.add() for _ in range(40)]
    frames = [uplink(wearable.seal(telemetry(70))) for wearable in wearables]
    barrier, outcomes, errors = threading.Barrier(2), [], []

    def run() -> None:
        try:
            server = fleet.intake()
            for message_ in frames:
                barrier.wait(10)
                outcomes.append(process(server, message_))
        except BaseException as error:
            errors.append(error)
            barrier.abort()
        finally:
            intake.transaction.get_connection().close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert sum(len(outcome.stored) for outcome in outcomes) == 40
    assert sum(len(outcome.publications) for outcome in outcomes) == 40
    assert sum(reasons(outcome) == ["replay"] for outcome in outcomes) == 40
    assert models.Frame.objects.count() == 40
    used = EpochKey.objects.filter(epoch=0).values_list("downlink_ctr", flat=True)
    assert set(used) == {1}


def test_frame_that_two_gateways_heard_is_answered_once_by_the_better_one(fleet: Fleet):
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    outcome = process(
        fleet.intake(),
        uplink(frame, at=NOW, snr=-3.0, tmst_us=5),
        uplink(frame, OTHER_GATEWAY, at=NOW - 0.3, snr=9.0, tmst_us=2**32 - 1),
    )
    assert len(outcome.stored) == 1
    assert [topic for topic, _ in outcome.publications] == [f"sb/v1/gw/{OTHER_GATEWAY}/down"]
    # and the gateway's clock wraps
    assert start_us(downlink(outcome.publications[0])) == 4_999_999
    assert process(fleet.intake(), uplink(frame, at=NOW + 1)).publications == []


def test_device_that_missed_the_answer_is_answered_again(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70))
    process(server, uplink(frame))
    fleet.clock.now += 6
    outcome = process(server, uplink(frame, at=fleet.clock.now))
    assert reasons(outcome) == ["replay"]
    ctr, sync = wearable.open(downlink(outcome.publications[0]).frame)
    assert (ctr, sync[2]) == (1, 0)


def test_frame_far_behind_the_newest_is_answered_by_its_own_number(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    process(server, *(uplink(wearable.seal(telemetry(70), ctr=ctr)) for ctr in (0, 1, 3, *range(60, 100))))
    outcome = process(server, uplink(wearable.seal(telemetry(70), ctr=5)))
    # the newest, 99, is out of reach; what is said of 4 to 0 is true all the same
    assert wearable.open(downlink(outcome.publications[0]).frame)[1][2:4] == [5, 0b11010]


def test_frame_that_lay_in_the_broker_is_stored_but_not_answered_too_late(fleet: Fleet):
    wearable = fleet.add()
    outcome = process(fleet.intake(), uplink(wearable.seal(telemetry(70)), at=NOW - 30))
    assert len(outcome.stored) == 1
    assert outcome.publications == []
    assert outcome.late == 1
    # and no downlink counter was spent
    assert EpochKey.objects.get(device_id=wearable.pk, epoch=0).downlink_ctr == 0


def killed(fleet: Fleet, broker: MqttPeer, moment: str, message_: tuple[str, bytes]) -> None:
    """A worker takes the message and is killed at that moment."""
    command = [sys.executable, "-m", "tests.support.dying_worker", str(fleet.path), str(broker.port), moment]
    with subprocess.Popen(command, cwd=ROOT) as process_:
        broker.deliver(*message_, 1)
        assert process_.wait(20) == -9


def test_crash_between_commit_and_acknowledgement_costs_a_second_delivery_and_nothing_else(fleet: Fleet):
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    with MqttPeer() as broker:
        killed(fleet, broker, "ack", uplink(frame))
        assert models.Frame.objects.count() == 1
        assert broker.acked == []
        # the answer still waited for other gateways' copies; the broker says that it delivers again
        assert broker.published == []
        with worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock, client_id="worker") as ingest:
            broker.deliver(*uplink(frame), 1, again=True)
            assert wait(lambda: broker.acked == [(2, 1)])
            assert wait(lambda: len(broker.published) == 1)
            assert wait(lambda: ingest.statistics().refused == {"replay": 1})
        assert models.Frame.objects.count() == 1
        opened = [wearable.open(downlink(publication).frame) for publication in broker.published]
        assert [ctr for ctr, _ in opened] == [0]
        assert [sync[2] for _, sync in opened] == [0]


def test_power_cut_between_counter_and_publication_never_uses_a_counter_twice(fleet: Fleet):
    wearable = fleet.add()
    first, second = wearable.seal(telemetry(70)), wearable.seal(telemetry(71))
    with MqttPeer() as broker:
        killed(fleet, broker, "publish", uplink(first))
        assert broker.published == []
        # counter 0 was spent on a frame that never left
        assert EpochKey.objects.get(device_id=wearable.pk, epoch=0).downlink_ctr == 1
        with worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock, client_id="worker"):
            broker.deliver(*uplink(first), 1, again=True)
            broker.deliver(*uplink(second), 2)
            assert wait(lambda: len(broker.acked) == 2)
            assert wait(lambda: len(broker.published) >= 1)
        opened = [wearable.open(downlink(publication).frame) for publication in broker.published]
        counters = [ctr for ctr, _ in opened]
        assert 0 not in counters
        assert len(set(counters)) == len(counters)
        assert opened[-1][1][2:4] == [1, 1]


def test_nothing_is_acknowledged_before_it_is_committed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    wearable = fleet.add()
    attempts: list[int] = []
    real = store.insert

    def insert(rows):
        attempts.append(1)
        if len(attempts) < 3:
            raise worker.OperationalError("database or disk is full")
        return real(rows)

    monkeypatch.setattr(store, "insert", insert)
    with MqttPeer() as broker, worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock) as ingest:
        broker.deliver(*uplink(wearable.seal(telemetry(70))), 1)
        assert wait(lambda: len(attempts) == 2)
        assert broker.acked == []
        assert broker.published == []
        assert wait(lambda: broker.acked == [(1, 1)])
        assert ingest.statistics().retries == 2
    assert models.Frame.objects.count() == 1


def test_acknowledgement_is_not_carried_into_another_connection(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    """Identifiers are the broker's to give again: an old one might confirm a message that was never stored."""
    wearable = fleet.add()
    hold = threading.Event()
    real = store.insert

    def insert(rows):
        rows = list(rows)
        if rows:
            hold.wait(10)
        return real(rows)

    monkeypatch.setattr(store, "insert", insert)
    with MqttPeer() as broker, worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock) as ingest:
        broker.deliver(*uplink(wearable.seal(telemetry(70))), 7)
        assert wait(lambda: ingest._queue.empty())
        broker.cut()
        assert wait(lambda: broker.connections == 2)
        broker.deliver("sb/v1/gw/x/up", b"", 8)
        hold.set()
        assert wait(lambda: broker.acked == [(2, 8)])
        time.sleep(0.1)
        assert broker.acked == [(2, 8)]


# what lies on the disk and in the log


def test_planted_health_value_is_not_found_in_the_database_or_the_log(fleet: Fleet, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    wearable = fleet.add()
    planted = "PLANTED-DIAGNOSIS-4711"
    samples = message(0, T0, [1, 10, 187, 13, -57, 91, 4, -33, 29])
    status = message(2, T0, {200: planted})
    malformed = message(0, T0) + planted.encode()
    with MqttPeer() as broker, worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock) as ingest:
        for mid, plaintext in enumerate((samples, status, malformed), 1):
            broker.deliver(*uplink(wearable.seal(plaintext)), mid)
        assert wait(lambda: ingest.statistics().stored == 3)
    on_disk = fleet.on_disk()
    assert wearable.eui in on_disk  # the right file is searched
    needles = [planted.encode(), planted.encode("utf-16-le"), planted[::-1].encode(), samples, samples[6:]]
    needles += [base64.b64encode(needle)[4:-4] for needle in (planted.encode(), samples)]
    needles += [needle.hex().encode() for needle in (planted.encode(), samples)]
    needles += [wearable.root, wearable.keys(0).ku, wearable.keys(0).kd]
    for needle in needles:
        assert needle not in on_disk
        assert needle not in caplog.text.encode()
    # and it is there, for who has the key
    found = list(readings.Readings(store.Payloads(fleet.vault)).in_order(readings.Filter()))
    assert [one.number for one in found] == [187, 200, 143, 234, 238, 205, 234]


def test_worker_with_another_master_key_does_not_start(fleet: Fleet):
    fleet.add()
    with MqttPeer() as broker:
        ingest = worker.IngestWorker("127.0.0.1", broker.port, Vault(bytes(32)), fleet.clock)
        with pytest.raises(VaultError):
            ingest.start()
        # before it took anything from the broker that it could not have opened
        assert broker.connections == 0


def test_keys_are_not_in_what_is_printed_of_them(fleet: Fleet):
    wearable = fleet.add()
    found = fleet.intake().chains.by_pseudonym([(0, wearable.keys(0).did)])
    shown = repr(found)
    assert chains.Found.__name__ in shown
    for secret in (wearable.keys(0).ku, wearable.keys(0).kd, wearable.root):
        assert repr(secret) not in shown
        assert secret.hex() not in shown


def test_flood_of_forged_hellos_locks_no_device_out(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    forged = []
    for epoch in range(4):
        frame = bytearray(wearable.seal(telemetry(70), epoch=epoch, hello=True))
        frame[-1] ^= 1
        forged += [uplink(bytes(frame))] * 40
    seen = Counter(reasons(process(server, *forged)))
    assert seen == {"bad_tag": FAILURES_AN_HOUR, "too_many_hellos": len(forged) - FAILURES_AN_HOUR}
    # data is opened as ever, and after an hour so is a hello
    assert reasons(process(server, uplink(wearable.seal(telemetry(71), epoch=0)))) == []
    fleet.clock.now += 3601
    assert reasons(process(server, uplink(wearable.seal(telemetry(72), epoch=3, hello=True)))) == []
    # at this rate a day-long epoch stays far below the limit of its key
    assert 24 * FAILURES_AN_HOUR < FAILED_OPENINGS_MAX / 10
