"""The worker between a broker and the store: through a real broker, over broken connections, several at once."""

import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from host_tools.gateway.broker import EmbeddedBroker, MosquittoBroker
from tests.support.fleet import (
    GATEWAY,
    NOW,
    Fleet,
    downlink,
    message,
    models,
    own_topic,
    start_us,
    telemetry,
    uplink,
    worker,
)
from tests.support.mqtt_peer import MqttPeer, wait


@pytest.fixture
def fleet(tmp_path: Path):
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def start(fleet: Fleet, port: int, **options) -> worker.IngestWorker:
    return worker.IngestWorker("127.0.0.1", port, fleet.vault, fleet.clock, **options)


class Everything:
    """A client that sends, and sees all downlinks."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _client, _user, heard: self.heard.append((heard.topic, heard.payload))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe([("sb/v1/gw/+/down", 1), ("sb/v1/d/+/down", 1)])
        assert subscribed.wait(10)

    def send(self, *messages: tuple[str, bytes]) -> None:
        for sent in [self.client.publish(topic, payload, qos=1) for topic, payload in messages]:
            sent.wait_for_publish(10)

    def __enter__(self) -> "Everything":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("broker_type", [EmbeddedBroker, MosquittoBroker])
def test_frames_of_gateways_and_devices_are_stored_and_answered(fleet: Fleet, broker_type):
    if broker_type is MosquittoBroker and not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed")
    over_lora, over_lte = fleet.add(), fleet.add()
    stored, refused = [], []
    with broker_type() as broker, Everything(broker.port) as others:
        ingest = start(fleet, broker.port, on_frame=stored.append, on_refused=refused.append)
        with ingest:
            frame = over_lora.seal(telemetry(70))
            others.send(uplink(frame), own_topic(over_lte, over_lte.seal(message(1, 5, 2))))
            assert wait(lambda: len(others.heard) == 2)
            others.send(uplink(frame[:-1] + b"x"))
            assert wait(lambda: len(refused) == 1)
        by_topic = dict(others.heard)
    answer = downlink(("", by_topic[f"sb/v1/gw/{GATEWAY}/down"]))
    (route,) = answer.routes
    assert (start_us(answer), route.frequency_hz, route.data_rate) == (6_000_000, 868_100_000, "SF7BW125")
    # the time that a sync tells is that of its receive window
    assert over_lora.open(answer.frame) == (0, [16, int(NOW) + 5 - 1735689600, 0, 0, 0, 15])
    direct = by_topic[f"sb/v1/d/{over_lte.eui.hex()}/down"]
    assert over_lte.open(direct) == (0, [16, int(NOW) - 1735689600, 0, 0, 0])
    assert {(one.eui, one.link, one.gateway) for one in stored} == {
        (over_lora.eui.hex(), "lora", GATEWAY),
        (over_lte.eui.hex(), "mqtt", ""),
    }
    done = ingest.statistics()
    assert (done.received, done.opened, done.stored, done.synced, dict(done.refused)) == (3, 2, 2, 2, {"bad_tag": 1})


def test_sync_tells_the_release_that_a_model_should_run(fleet: Fleet):
    wearable = fleet.add()
    with MqttPeer() as broker, start(fleet, broker.port, newest_release={"test-band": 12}.__getitem__):
        broker.deliver(*uplink(wearable.seal(telemetry(70))), 1)
        assert wait(lambda: len(broker.published) == 1)
        assert wearable.open(downlink(broker.published[0]).frame)[1][4] == 12


def test_burst_of_one_device_is_answered_once_with_everything_in_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "LINGER_S", 0.2)
    monkeypatch.setattr(worker, "BATCH_S", 0.5)
    wearable = fleet.add()
    with MqttPeer() as broker, start(fleet, broker.port):
        for ctr in (0, 1, 3, 4):
            broker.deliver(*own_topic(wearable, wearable.seal(telemetry(70), ctr=ctr)), ctr + 1)
        assert wait(lambda: len(broker.acked) == 4)
        assert wait(lambda: len(broker.published) == 1)
        assert wearable.open(broker.published[0][1])[1][2:4] == [4, 0b1101]


def test_two_workers_share_the_frames(fleet: Fleet):
    wearables = [fleet.add() for _ in range(20)]
    frames = [uplink(wearable.seal(telemetry(value))) for value in range(5) for wearable in wearables]
    with EmbeddedBroker() as broker, Everything(broker.port) as others:
        one, other = (start(fleet, broker.port, client_id=name) for name in ("one", "other"))
        with one, other:
            others.send(*frames)
            assert wait(lambda: models.Frame.objects.count() == 100)
            assert wait(lambda: one.statistics().stored + other.statistics().stored == 100)
        assert one.statistics().stored > 0
        assert other.statistics().stored > 0


def test_workers_that_do_not_share_store_each_frame_once(fleet: Fleet):
    wearables = [fleet.add() for _ in range(20)]
    with EmbeddedBroker() as broker, Everything(broker.port) as others:
        one, other = (start(fleet, broker.port, client_id=name, shared=None) for name in ("one", "other"))
        with one, other:
            others.send(*(uplink(wearable.seal(telemetry(70))) for wearable in wearables))
            assert wait(lambda: one.statistics().received + other.statistics().received == 40)
            assert wait(lambda: len(others.heard) == 20)
            time.sleep(0.5)
            assert len(others.heard) == 20
    assert models.Frame.objects.count() == 20
    assert one.statistics().stored + other.statistics().stored == 20


def test_connection_that_breaks_is_made_again(fleet: Fleet):
    wearable = fleet.add()
    with MqttPeer() as broker, start(fleet, broker.port) as ingest:
        broker.deliver(*uplink(wearable.seal(telemetry(70))), 1)
        assert wait(lambda: broker.acked == [(1, 1)])
        broker.cut()
        assert wait(lambda: broker.connections == 2)
        broker.deliver(*uplink(wearable.seal(telemetry(71))), 1)
        assert wait(lambda: broker.acked == [(1, 1), (2, 1)])
        assert ingest.statistics().stored == 2
    groups = [f"$share/ingest/sb/v1/{each}/up" for each in ("gw/+", "d/+", "courier/+")]
    assert broker.subscribed == groups * 2


def test_messages_without_acknowledgement_are_taken_too(fleet: Fleet):
    wearable = fleet.add()
    with MqttPeer() as broker, start(fleet, broker.port) as ingest:
        broker.deliver(*uplink(wearable.seal(telemetry(70))), 0, qos=0)
        assert wait(lambda: ingest.statistics().stored == 1)
        assert broker.acked == []


def test_stopping_stores_and_acknowledges_what_is_queued(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "BATCH_MAX", 1)
    wearable = fleet.add()
    with MqttPeer() as broker:
        with start(fleet, broker.port) as ingest:
            for mid in range(1, 31):
                broker.deliver(*uplink(wearable.seal(telemetry(70))), mid)
            assert wait(lambda: ingest.statistics().received + ingest._queue.qsize() >= 30)
        assert ingest.statistics().stored == 30
        assert wait(lambda: len(broker.acked) == 30)
        ingest.stop()
    assert [thread for thread in threading.enumerate() if thread.name.startswith(("ingest", "paho"))] == []


def test_stopping_while_the_database_is_locked_acknowledges_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    def refuse(_rows):
        raise worker.OperationalError("database is locked")

    monkeypatch.setattr(worker.Intake, "process", lambda _self, _arrivals: refuse(None))
    wearable = fleet.add()
    with MqttPeer() as broker:
        with start(fleet, broker.port) as ingest:
            broker.deliver(*uplink(wearable.seal(telemetry(70))), 1)
            assert wait(lambda: ingest.statistics().retries >= 2)
        assert broker.acked == []
        ingest.check()


def test_callback_that_fails_stops_nothing(fleet: Fleet):
    def fail(_stored):
        raise ValueError

    wearable = fleet.add()
    with MqttPeer() as broker, start(fleet, broker.port, on_frame=fail) as ingest:
        for mid in (1, 2):
            broker.deliver(*uplink(wearable.seal(telemetry(70))), mid)
        assert wait(lambda: len(broker.acked) == 2)
        assert ingest.statistics().stored == 2
        ingest.check()


def test_broker_that_is_not_there_is_named(fleet: Fleet):
    with MqttPeer() as broker:
        port = broker.port
    with pytest.raises(worker.IngestError, match=f"127.0.0.1:{port} cannot be reached") as error:
        start(fleet, port).start()
    assert error.value.remedy


def test_broker_that_refuses_the_subscription_is_named(fleet: Fleet):
    with MqttPeer() as broker:
        broker.grant = 0x80
        ingest = start(fleet, broker.port)
        before = set(threading.enumerate())  # what another test left is not ours
        with pytest.raises(worker.IngestError, match="refuses"):
            ingest.start()
        ours = [one for one in threading.enumerate() if one not in before and one.name.startswith(("ingest", "paho"))]
        for one in ours:
            one.join(10)  # on a busy computer its last moment may take longer than ours
        assert not any(one.is_alive() for one in ours)


def test_mosquitto_delivers_again_what_a_worker_left_behind(fleet: Fleet):
    if not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed")
    wearable = fleet.add()
    with MosquittoBroker() as broker, Everything(broker.port) as others:
        first = start(fleet, broker.port, client_id="worker")
        first._client.ack = lambda *_: None  # type: ignore[method-assign, assignment]  it dies before it can
        with first:
            others.send(uplink(wearable.seal(telemetry(70))))
            assert wait(lambda: first.statistics().stored == 1)
            assert wait(lambda: len(others.heard) == 1)
        # what comes while nobody is there is kept for the name
        others.send(uplink(wearable.seal(telemetry(71))))
        with start(fleet, broker.port, client_id="worker") as second:
            assert wait(lambda: second.statistics().received == 2)
            assert wait(lambda: len(others.heard) == 2)
            assert second.statistics().stored == 1
            assert second.statistics().refused == {"replay": 1}
    assert [wearable.open(downlink(answer).frame)[0] for answer in others.heard] == [0, 1]
    assert wearable.open(downlink(others.heard[1]).frame)[1][2:4] == [1, 1]
