"""Several gateways hear one frame: stored once, with every reception, answered once and through the best of them."""

import base64
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from host_tools.gateway.bridge import Bridge
from host_tools.gateway.broker import EmbeddedBroker
from host_tools.gateway.envelope import Uplink
from host_tools.ingest.plaintexts import report, update
from sealwire.messages import REPORT, UPDATE
from tests.support.fleet import (
    GATEWAY,
    NOW,
    OTHER_GATEWAY,
    Fleet,
    downlink,
    message,
    models,
    own_topic,
    process,
    start_us,
    store,
    telemetry,
    uplink,
    worker,
)
from tests.support.mqtt_peer import MqttPeer, wait

from host_tools.ingest import commands, receptions  # isort: skip  (its tables: after the fleet's)

THIRD_GATEWAY = "00005eff0000a103"


@pytest.fixture
def fleet(tmp_path: Path):
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def gateways(publication: tuple[str, bytes]) -> list[str]:
    """Those that the server names for an answer, in order."""
    return [route.gateway for route in downlink(publication).routes]


def changed(heard: tuple[str, bytes], **values: object) -> tuple[str, bytes]:
    """The same reception, with some of its figures changed."""
    return heard[0], replace(Uplink.from_message(*heard), **values).to_bytes()


def answers(broker: MqttPeer) -> list[tuple[str, bytes]]:
    return [published for published in broker.published if published[0].startswith("sb/v1/gw/")]


def stored() -> list[tuple[str, float, float, str, bool]]:
    rows = models.Reception.objects.order_by("received_at_ms", "gateway")
    return [(row.gateway, row.snr, row.received_at_ms / 1000, row.data_rate, row.answered) for row in rows]


def test_one_batch(fleet: Fleet):
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    outcome = process(
        fleet.intake(),
        uplink(frame, at=NOW, snr=-3.0),
        uplink(frame, OTHER_GATEWAY, at=NOW - 0.3, snr=9.0),
        uplink(frame, THIRD_GATEWAY, at=NOW - 0.1, snr=2.0),
    )
    assert len(outcome.stored) == models.Frame.objects.count() == 1
    (publication,) = outcome.publications
    assert gateways(publication) == [OTHER_GATEWAY, THIRD_GATEWAY, GATEWAY]
    assert stored() == [
        (OTHER_GATEWAY, 9.0, NOW - 0.3, "SF7BW125", True),
        (THIRD_GATEWAY, 2.0, NOW - 0.1, "SF7BW125", False),
        (GATEWAY, -3.0, NOW, "SF7BW125", False),
    ]


def test_two_batches_of_one_worker(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake(copies_s=0.2)
    frame = wearable.seal(telemetry(70))
    assert process(server, uplink(frame, snr=-3.0)).publications == []
    fleet.clock.now += 0.1
    assert server.answer_due().publications == []
    assert process(server, uplink(frame, OTHER_GATEWAY, at=NOW + 0.1, snr=9.0)).publications == []
    fleet.clock.now += 0.11
    (publication,) = server.answer_due().publications
    assert gateways(publication) == [OTHER_GATEWAY, GATEWAY]
    assert server.answer_due().publications == []
    assert server.waiting == 0
    assert len(stored()) == 2


def test_two_workers(fleet: Fleet):
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    one, other = fleet.intake(copies_s=0.2), fleet.intake(copies_s=0.2)
    process(one, uplink(frame, snr=-3.0))
    process(other, uplink(frame, OTHER_GATEWAY, at=NOW, snr=9.0))
    fleet.clock.now += 0.2
    publications = one.answer_due().publications + other.answer_due().publications
    assert [gateways(publication) for publication in publications] == [[OTHER_GATEWAY, GATEWAY]]
    assert models.Frame.objects.count() == 1
    assert {gateway for gateway, *_ in stored()} == {GATEWAY, OTHER_GATEWAY}


def test_two_workers_between_a_broker_and_the_store(fleet: Fleet):
    """All real; the first one to have the frame answers, through the gateway that the other one heard of."""
    wearables = [fleet.add() for _ in range(10)]
    frames = [wearable.seal(telemetry(70)) for wearable in wearables]
    with MqttPeer() as first, MqttPeer() as second:
        one = worker.IngestWorker("127.0.0.1", first.port, fleet.vault, fleet.clock, client_id="one", copies_s=1.0)
        other = worker.IngestWorker("127.0.0.1", second.port, fleet.vault, fleet.clock, client_id="other", copies_s=1.0)
        with one, other:
            for mid, frame in enumerate(frames, 1):
                first.deliver(*uplink(frame, snr=1.0), mid)
                second.deliver(*uplink(frame, OTHER_GATEWAY, snr=5.0), mid)
            assert wait(lambda: len(answers(first) + answers(second)) == 10)
            assert wait(lambda: one.statistics().received + other.statistics().received == 20)
        published = answers(first) + answers(second)
    assert len(published) == 10
    assert [gateways(each) for each in published] == [[OTHER_GATEWAY, GATEWAY]] * 10
    assert models.Frame.objects.count() == 10
    assert models.Reception.objects.count() == 20
    assert one.statistics().stored + other.statistics().stored == 10


def test_a_worker_that_stops_gives_what_waits(fleet: Fleet):
    wearable = fleet.add()
    with MqttPeer() as broker:
        with worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock, copies_s=0.5) as ingest:
            broker.deliver(*uplink(wearable.seal(telemetry(70))), 1)
            assert wait(lambda: ingest.statistics().stored == 1)
        assert wait(lambda: len(answers(broker)) == 1)


def test_a_database_that_cannot_be_written_holds_an_answer_up_and_spends_no_counter(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
):
    wearable, server = fleet.add(), fleet.intake(copies_s=0.2)
    process(server, uplink(wearable.seal(telemetry(70))))
    fleet.clock.now += 0.3
    real = store.note_answered

    def refuse(*_):
        raise worker.OperationalError("database is locked")

    monkeypatch.setattr(store, "note_answered", refuse)
    with pytest.raises(worker.OperationalError):
        server.answer_due()
    monkeypatch.setattr(store, "note_answered", real)
    (publication,) = server.answer_due().publications
    assert wearable.open(downlink(publication).frame)[0] == 0


def test_an_answer_that_cannot_be_made_costs_no_other_device_its_own(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    """Such as that of a device whose rows in the database are damaged."""
    first, broken, last = (fleet.add() for _ in range(3))
    server = fleet.intake(copies_s=0.2)
    process(server, *(uplink(each.seal(telemetry(70))) for each in (first, broken, last)))
    fleet.clock.now += 0.3
    real = store.stored_counters

    def damaged(device: int, *rest: int, **more: int) -> list[int]:
        if device == broken.pk:
            raise ValueError("damaged")
        return real(device, *rest, **more)

    monkeypatch.setattr(store, "stored_counters", damaged)
    frames = [downlink(publication).frame for publication in server.answer_due().publications]
    assert len(frames) == 2
    assert {first.open(frames[0])[0], last.open(frames[1])[0]} == {0}
    assert server.waiting == 0 and server.answer_due().publications == []


def test_the_strongest_of_those_that_hear_it_perfectly_answers(fleet: Fleet):
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    # a signal to noise ratio of 14 is no better than one of 11: demodulators saturate
    loud, near = uplink(frame, snr=14.0), uplink(frame, OTHER_GATEWAY, snr=11.0)
    (publication,) = process(fleet.intake(), loud, changed(near, rssi=-40.0)).publications
    assert gateways(publication)[0] == OTHER_GATEWAY


def test_a_gateway_that_swallowed_the_answer_is_asked_last(fleet: Fleet):
    """It claims to hear everything best, and sends nothing: the repeated frame is answered by another one."""
    wearable, server = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70))
    false = uplink(frame, snr=100.0), uplink(frame, OTHER_GATEWAY, snr=-5.0)
    (first,) = process(server, *false).publications
    assert gateways(first) == [GATEWAY, OTHER_GATEWAY]
    fleet.clock.now += 30
    again = (
        uplink(frame, at=fleet.clock.now, snr=100.0, tmst_us=31_000_000),
        uplink(frame, OTHER_GATEWAY, at=fleet.clock.now, snr=-5.0, tmst_us=31_000_000),
    )
    (second,) = process(server, *again).publications
    assert gateways(second) == [OTHER_GATEWAY, GATEWAY]
    assert start_us(downlink(second)) == 36_000_000  # of this transmission, not of the one before


def test_a_gateway_that_floods_a_frame_leaves_room_for_those_that_hear_its_repetition(fleet: Fleet):
    """Else nobody else's reception would be there when the frame is repeated, and the swallower be asked again."""
    wearable, server = fleet.add(), fleet.intake(copies_s=0.2)
    frame = wearable.seal(telemetry(70))
    process(server, *(uplink(frame, at=NOW - index / 1000, snr=100.0) for index in range(receptions.RECEPTIONS_MAX)))
    process(server, uplink(frame, OTHER_GATEWAY, at=NOW))
    fleet.clock.now += 0.3
    (first,) = server.answer_due().publications
    assert gateways(first)[0] == GATEWAY
    fleet.clock.now += 30
    at = fleet.clock.now
    process(server, *(uplink(frame, at=at - index / 1000, snr=100.0) for index in range(receptions.RECEPTIONS_MAX)))
    process(server, uplink(frame, OTHER_GATEWAY, at=at))
    fleet.clock.now += 0.3
    (second,) = server.answer_due().publications
    assert gateways(second)[0] == OTHER_GATEWAY


@pytest.mark.parametrize("behind_s", [4.9, 3600.0])
def test_a_bridge_whose_clock_is_behind_silences_no_other(fleet: Fleet, behind_s: float):
    """Its copy comes first and as if too late to be answered; the other gateway's, a moment later, is in time."""
    wearable, server = fleet.add(), fleet.intake(copies_s=0.2)
    frame = wearable.seal(telemetry(70))
    outcome = process(server, uplink(frame, at=NOW - behind_s, snr=100.0))
    assert (len(outcome.stored), outcome.late, server.waiting) == (1, 1, 0)
    process(server, uplink(frame, OTHER_GATEWAY, at=NOW))
    fleet.clock.now += 0.3
    (publication,) = server.answer_due().publications
    assert gateways(publication) == [OTHER_GATEWAY]


def test_a_gateway_that_swallows_everything_does_not_use_up_a_commands_tries(fleet: Fleet):
    """Each try goes with a new frame, of which nobody knows yet that its answer will not arrive."""
    wearable, server = fleet.add(), fleet.intake()
    process(server, uplink(wearable.seal(telemetry(70))))
    commands.Commands(fleet.vault, fleet.clock).queue([commands.Order(wearable.pk, wearable.eui, REPORT, report())])
    asked = []
    for _ in range(8):
        fleet.clock.now += 61
        frame = wearable.seal(telemetry(70))
        copies = (
            uplink(frame, gateway, at=fleet.clock.now, snr=snr)
            for gateway, snr in ((GATEWAY, 100.0), (OTHER_GATEWAY, -5.0))
        )
        outcome = process(server, *copies)
        if outcome.commanded:
            asked.append(gateways(outcome.publications[0])[0])
    assert asked == [GATEWAY, OTHER_GATEWAY] * 2


def test_a_command_that_a_gateway_claims_to_be_too_slow_for_goes_by_another(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    process(server, uplink(wearable.seal(telemetry(70))))
    order = commands.Order(
        wearable.pk, wearable.eui, UPDATE, update(1, bytes(32), "https://updates.example/" + "x" * 60)
    )
    commands.Commands(fleet.vault, fleet.clock).queue([order])
    asked = []
    for _ in range(2):
        fleet.clock.now += 61
        frame = wearable.seal(telemetry(70))
        slow = changed(uplink(frame, at=fleet.clock.now, snr=100.0), data_rate="SF12BW125")
        outcome = process(server, slow, uplink(frame, OTHER_GATEWAY, at=fleet.clock.now, snr=-5.0))
        asked.append((outcome.commanded, gateways(outcome.publications[0])[0]))
    assert asked == [(0, GATEWAY), (1, OTHER_GATEWAY)]


def test_a_gateway_that_is_passed_over_does_not_tell_the_margin(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70))
    process(server, uplink(frame, snr=100.0), uplink(frame, OTHER_GATEWAY, snr=-5.0))
    fleet.clock.now += 30
    at = fleet.clock.now
    again = uplink(frame, at=at, snr=100.0), uplink(frame, OTHER_GATEWAY, at=at, snr=-5.0)
    (publication,) = process(server, *again).publications
    # SX1261/2 datasheet table 6-1: SF7 needs -7.5 dB
    assert wearable.open(downlink(publication).frame)[1][5] == 2


@pytest.mark.parametrize(("snr", "rate", "margin"), [(7.5, "SF7BW125", 15), (-19.2, "SF12BW125", 0)])
def test_the_sync_tells_the_best_receptions_margin(fleet: Fleet, snr: float, rate: str, margin: int):
    # SX1261/2 datasheet table 6-1: SF7 needs -7.5 dB, SF12 -20 dB
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))
    copies = [uplink(frame, snr=snr - 4), uplink(frame, OTHER_GATEWAY, snr=snr)]
    (publication,) = process(fleet.intake(), *(changed(copy, data_rate=rate) for copy in copies)).publications
    assert wearable.open(downlink(publication).frame)[1][5] == margin


def test_a_sync_in_the_devices_own_topic_tells_no_margin(fleet: Fleet):
    wearable = fleet.add()
    (publication,) = process(fleet.intake(), own_topic(wearable, wearable.seal(telemetry(70)))).publications
    assert len(wearable.open(publication[1])[1]) == 5


def test_us915_is_answered_in_its_downlink_channels(fleet: Fleet):
    wearable = fleet.add()
    heard = changed(uplink(wearable.seal(telemetry(70))), region="US915", frequency_hz=904_500_000)
    (publication,) = process(fleet.intake(), heard).publications
    (route,) = downlink(publication).routes
    # RP002-1.0.4 section 2.5: channel 11 is answered in 11 mod 8 = 3, 923.3 + 3 x 0.6 MHz, 500 kHz
    assert (route.frequency_hz, route.data_rate, route.region) == (925_100_000, "SF7BW500", "US915")


def test_a_frame_over_both_links_is_stored_once_and_answered_on_each(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70))
    outcome = process(server, uplink(frame), own_topic(wearable, frame))
    assert models.Frame.objects.count() == 1
    topics = dict(outcome.publications)
    assert set(topics) == {f"sb/v1/gw/{GATEWAY}/down", f"sb/v1/d/{wearable.eui.hex()}/down"}
    over_lora = wearable.open(downlink(("", topics[f"sb/v1/gw/{GATEWAY}/down"])).frame)
    over_ip = wearable.open(topics[f"sb/v1/d/{wearable.eui.hex()}/down"])
    assert {over_lora[0], over_ip[0]} == {0, 1}  # each with a counter of its own


def test_a_replay_over_the_air_does_not_silence_the_devices_own_topic(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70))
    process(server, uplink(frame))  # somebody captured it, and replays it while the device goes over LTE
    fleet.clock.now += 0.5
    (publication,) = process(server, own_topic(wearable, frame)).publications
    assert publication[0] == f"sb/v1/d/{wearable.eui.hex()}/down"
    # and the other way round nothing is gained
    fleet.clock.now += 0.5
    assert process(server, uplink(frame, at=fleet.clock.now)).publications == []
    assert process(server, own_topic(wearable, frame)).publications == []


def test_a_command_waits_for_the_other_gateways_too_and_is_sent_once(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake(copies_s=0.2)
    process(server, uplink(wearable.seal(telemetry(70))))
    fleet.clock.now += 0.3
    server.answer_due()
    commands.Commands(fleet.vault, fleet.clock).queue([commands.Order(wearable.pk, wearable.eui, REPORT, report())])
    fleet.clock.now += 60
    at = fleet.clock.now
    frame = wearable.seal(telemetry(71))
    process(server, uplink(frame, at=at))
    process(server, uplink(frame, OTHER_GATEWAY, at=at, snr=9.5))
    fleet.clock.now += 0.3
    outcome = server.answer_due()
    (publication,) = outcome.publications
    assert gateways(publication) == [OTHER_GATEWAY, GATEWAY]
    assert wearable.open(downlink(publication).frame)[1] == [REPORT]
    assert outcome.commanded == 1


def test_a_replay_right_behind_the_frame_does_not_move_the_answer(fleet: Fleet):
    """The device listens 5 s after its own transmission, not after an attacker's."""
    wearable, server = fleet.add(), fleet.intake(copies_s=0.2)
    frame = wearable.seal(telemetry(70))
    process(server, uplink(frame, at=NOW, tmst_us=1_000_000))
    fleet.clock.now += 0.1
    process(server, uplink(frame, at=NOW + 0.1, tmst_us=1_100_000, snr=30.0))
    fleet.clock.now += 0.11
    (publication,) = server.answer_due().publications
    assert start_us(downlink(publication)) == 6_000_000


def test_a_replay_of_an_older_frame_in_the_same_batch_does_not_move_the_answer(fleet: Fleet):
    """Nor does it take the command away that a new frame may be answered with."""
    wearable, server = fleet.add(), fleet.intake()
    old = wearable.seal(telemetry(70))
    process(server, uplink(old))
    commands.Commands(fleet.vault, fleet.clock).queue([commands.Order(wearable.pk, wearable.eui, REPORT, report())])
    fleet.clock.now += 30
    genuine = uplink(wearable.seal(telemetry(71)), OTHER_GATEWAY, at=fleet.clock.now - 0.01, tmst_us=31_000_000)
    outcome = process(server, genuine, uplink(old, at=fleet.clock.now, tmst_us=31_010_000, snr=100.0))
    (publication,) = outcome.publications
    assert (gateways(publication), outcome.commanded) == ([OTHER_GATEWAY], 1)
    assert start_us(downlink(publication)) == 36_000_000


def test_a_flood_of_replays_and_of_invented_gateways_does_not_grow_the_table(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    frame = wearable.seal(telemetry(70))
    process(server, uplink(frame, snr=3.0))
    left_out = 0
    for number in range(20):
        fleet.clock.now += 10
        invented = [uplink(frame, f"{number:08x}{index:08x}", at=fleet.clock.now) for index in range(10)]
        repeated = [uplink(frame, at=fleet.clock.now - index / 100) for index in range(10)]
        left_out += process(server, *invented, *repeated).receptions_left_out
    assert models.Reception.objects.count() == receptions.RECEPTIONS_MAX
    assert left_out == 1 + 400 - receptions.RECEPTIONS_MAX
    # the genuine one is among what is kept, and a frame without room is answered all the same
    assert stored()[0][:3] == (GATEWAY, 3.0, NOW)
    fleet.clock.now += 10
    (publication,) = process(server, uplink(frame, OTHER_GATEWAY, at=fleet.clock.now)).publications
    assert gateways(publication) == [OTHER_GATEWAY]


def test_frames_that_do_not_open_leave_no_reception(fleet: Fleet):
    wearable = fleet.add()
    frame = bytearray(wearable.seal(telemetry(70)))
    frame[-1] ^= 1
    process(fleet.intake(), uplink(bytes(frame)), uplink(bytes(frame), OTHER_GATEWAY))
    assert models.Reception.objects.count() == 0


def test_a_delivery_that_is_repeated_is_the_same_reception(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake()
    copy = uplink(wearable.seal(telemetry(70)))
    process(server, copy)
    process(server, copy, redelivered=True)
    assert models.Reception.objects.count() == 1


def test_an_answer_that_could_wait_no_longer_is_given_at_once(fleet: Fleet):
    wearable, server = fleet.add(), fleet.intake(copies_s=0.2)
    outcome = process(server, uplink(wearable.seal(telemetry(70)), at=NOW - 4.7))
    assert len(outcome.publications) == 1


def test_the_receipt_of_a_device_that_is_retired_is_answered_at_once(fleet: Fleet):
    """Its key is destroyed with the receipt: an answer that waited could not be sealed."""
    wearable, server = fleet.add(), fleet.intake(copies_s=0.2)
    assert len(process(server, uplink(wearable.seal(message(4, 0, 0)))).publications) == 1


def test_two_gateways_through_bridges_and_broker(fleet: Fleet):
    """UDP to sync: two packet forwarders of two bridges; the better one refuses, the other one sends it in time."""
    wearable = fleet.add()
    frame = wearable.seal(telemetry(70))

    def sockets(bridge: Bridge, eui: str) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.connect(("127.0.0.1", bridge.udp_port))
        opened.settimeout(10)
        opened.send(b"\x02\0\0\x02" + bytes.fromhex(eui))
        assert opened.recv(100)[3] == 4
        return opened

    def push(opened: socket.socket, eui: str, tmst: int, snr: float) -> None:
        rxpk = {"tmst": tmst, "freq": 868.1, "stat": 1, "modu": "LORA", "datr": "SF7BW125", "codr": "4/5"}
        rxpk |= {"rssi": -90, "lsnr": snr, "size": len(frame), "data": base64.b64encode(frame).decode()}
        opened.send(b"\x02\0\1\x00" + bytes.fromhex(eui) + json.dumps({"rxpk": [rxpk]}).encode())
        assert opened.recv(100)[3] == 1

    with (
        EmbeddedBroker() as broker,
        Bridge(mqtt_port=broker.port, clock=fleet.clock) as one,
        Bridge(mqtt_port=broker.port, clock=fleet.clock) as other,
        worker.IngestWorker("127.0.0.1", broker.port, fleet.vault, fleet.clock) as ingest,
        sockets(one, GATEWAY) as near,
        sockets(other, OTHER_GATEWAY) as far,
    ):
        push(near, GATEWAY, 1_000_000, 9.0)
        push(far, OTHER_GATEWAY, 2**32 - 1_000_000, 1.0)
        order = near.recv(2000)
        near.send(
            b"\x02" + order[1:3] + b"\x05" + bytes.fromhex(GATEWAY) + b'{"txpk_ack":{"error":"COLLISION_PACKET"}}'
        )
        txpk = json.loads(far.recv(2000)[4:])["txpk"]
        assert txpk["tmst"] == 4_000_000  # its own clock, which wraps
        ctr, items = wearable.open(base64.b64decode(txpk["data"]))
        assert (ctr, items[0], items[5]) == (0, 16, 16)
        assert ingest.statistics().stored == 1
    assert {gateway for gateway, *_ in stored()} == {GATEWAY, OTHER_GATEWAY}
