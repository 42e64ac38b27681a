"""Both brokers behave alike in what the rest builds on: QoS 1, shared subscriptions, starting and stopping."""

import threading
import time
from collections.abc import Callable, Iterator

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.broker.sharing import split_share
from host_tools.gateway.broker import BrokerError, EmbeddedBroker, MosquittoBroker

TOPIC = "sb/v1/gw/aa555a0000000101/up"
SHARED = "$share/ingest/sb/v1/gw/+/up"

Broker = EmbeddedBroker | MosquittoBroker


@pytest.fixture(params=[EmbeddedBroker, MosquittoBroker])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    if request.param is MosquittoBroker and not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed")
    with request.param() as running:
        yield running


class Client:
    """A paho client that collects what it gets."""

    def __init__(self, broker: Broker, name: str, subscribe: str | None = None, manual_ack: bool = False) -> None:
        self.got: list[bytes] = []
        self.codes: list[bool] = []
        self.answered = threading.Event()
        self.mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, manual_ack=manual_ack)
        self.mqtt.on_message = lambda _client, _data, message: self.got.append(bytes(message.payload))
        self.mqtt.on_subscribe = self._on_subscribe
        self.mqtt.connect(broker.host, broker.port)
        self.mqtt.loop_start()
        if subscribe is not None:
            self.mqtt.subscribe(subscribe, qos=1)
            assert self.answered.wait(5)

    def _on_subscribe(self, *arguments: object) -> None:
        self.codes = [code.is_failure for code in arguments[3]]  # type: ignore[attr-defined]
        self.answered.set()

    def close(self) -> None:
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


@pytest.fixture
def join(broker: Broker) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(name: str, subscribe: str | None = None) -> Client:
        clients.append(Client(broker, name, subscribe))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def wait_for(client: Client, count: int) -> None:
    deadline = time.monotonic() + 10
    while len(client.got) < count:
        assert time.monotonic() < deadline, f"{len(client.got)} of {count} messages"
        time.sleep(0.01)


def test_a_message_reaches_every_plain_subscriber(join: Callable[..., Client]) -> None:
    subscribers = [join("one", "sb/v1/gw/+/up"), join("two", "sb/#")]
    join("sender").mqtt.publish(TOPIC, b"frame", qos=1)
    for subscriber in subscribers:
        wait_for(subscriber, 1)
        assert subscriber.got == [b"frame"]


def test_a_shared_subscription_gives_each_message_to_one_worker(join: Callable[..., Client]) -> None:
    watcher = join("watcher", "sb/v1/gw/+/up")
    workers = [join(f"worker-{n}", SHARED) for n in range(3)]
    sender = join("sender")
    messages = [n.to_bytes(2, "big") for n in range(300)]
    for message in messages:
        sender.mqtt.publish(TOPIC, message, qos=1)
    wait_for(watcher, 300)
    time.sleep(0.1)
    assert sorted(message for worker in workers for message in worker.got) == messages
    assert all(len(worker.got) >= 50 for worker in workers)


def test_a_worker_that_left_gets_nothing_and_the_others_all(join: Callable[..., Client]) -> None:
    stays, leaves = join("stays", SHARED), join("leaves", SHARED)
    leaves.close()
    sender = join("sender")
    time.sleep(0.1)
    for n in range(20):
        sender.mqtt.publish(TOPIC, bytes([n]), qos=1)
    wait_for(stays, 20)
    assert leaves.got == []


def test_a_worker_can_unsubscribe(join: Callable[..., Client]) -> None:
    stays, leaves = join("stays", SHARED), join("leaves", SHARED)
    done = threading.Event()
    leaves.mqtt.on_unsubscribe = lambda *_: done.set()
    leaves.mqtt.unsubscribe(SHARED)
    assert done.wait(5)
    sender = join("sender")
    for n in range(20):
        sender.mqtt.publish(TOPIC, bytes([n]), qos=1)
    wait_for(stays, 20)
    assert leaves.got == []


@pytest.mark.parametrize(
    "topic_filter", ["$share/", "$share/ingest", "$share/ingest/", "$share//sb/#", "$share/+/sb/#"]
)
def test_a_malformed_share_is_refused_by_the_embedded_broker(topic_filter: str) -> None:
    with EmbeddedBroker() as broker:
        client = Client(broker, "worker", topic_filter)
        assert client.codes == [True]
        client.close()


def test_split_share() -> None:
    assert split_share("sb/v1/+/up") == (None, "sb/v1/+/up")
    assert split_share("$share/ingest/sb/v1/+/up") == ("ingest", "sb/v1/+/up")


def test_the_embedded_broker_leaves_nothing_behind_and_starts_again() -> None:
    threads = threading.active_count()
    broker = EmbeddedBroker()
    for _ in range(2):
        broker.start()
        client = Client(broker, "one", "sb/#")
        broker.stop()
        client.close()
        assert threading.active_count() == threads
    broker.stop()


@pytest.mark.parametrize("kind", [EmbeddedBroker, MosquittoBroker])
def test_a_taken_port_is_said_to_be_taken(kind: type[Broker]) -> None:
    if kind is MosquittoBroker and not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed")
    with EmbeddedBroker() as first:
        second = kind(port=first.port)
        with pytest.raises(BrokerError, match="in use"):
            second.start()
        second.stop()


@pytest.mark.parametrize("kind", [EmbeddedBroker, MosquittoBroker])
def test_a_broker_without_passwords_stays_on_the_loopback(kind: type[Broker]) -> None:
    with pytest.raises(BrokerError, match="authenticates nobody"):
        kind(host="0.0.0.0")
