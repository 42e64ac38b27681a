"""The ingest worker: MQTT on one side, `Intake` on the other, and two threads between which a bounded queue lies.

The network thread (paho's own) only queues. When the queue is full it waits, so the broker's window fills and the
broker, which is made for it, holds the flood. The store thread takes batches, and acknowledges a message after what
came of it was committed: a crash at any point costs nothing but a second delivery, which the store knows as such.

A message that cannot be processed at all is counted and acknowledged, so that it never comes back. A database that
cannot be written is waited for, and nothing is acknowledged meanwhile.
"""

import logging
import queue
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import paho.mqtt.client as mqtt
from django.db import InterfaceError, OperationalError, connection, connections
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.courier import topics
from host_tools.gateway.envelope import ENVELOPE_MAX, UPLINK_FILTER
from host_tools.ingest.answers import COPIES_S
from host_tools.ingest.arrivals import Arrival
from host_tools.ingest.intake import Intake, Outcome, Refusal, Stored
from host_tools.ingest.observer import Observer
from host_tools.ingest.refusals import Reason
from provisioning.registry.vault import Vault

DEVICE_FILTER = "sb/v1/d/+/up"
BATCH_MAX = 256
BATCH_S = 0.010  # a batch waits so long for its last frame …
LINGER_S = 0.002  # … but not when nothing came for so long
QUEUE_MAX = 1024
UNSENT_MAX = 8192  # answers that the broker has not taken yet
CONNECT_S = 10.0
KEEPALIVE_S = 30
DRAIN_S = 5.0
RETRY_FIRST_S, RETRY_LAST_S = 0.1, 5.0
HOUSEKEEPING_S = 60.0
_IDLE_S, _TICK_S = 0.1, 0.01
PAYLOAD_KEPT = ENVELOPE_MAX + 1  # enough to see that it is too long

_log = logging.getLogger("sealband.ingest")
_Result = TypeVar("_Result")


class IngestError(Exception):
    """The worker cannot start or go on.

    Attributes:
        remedy: what to do about it.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(slots=True)
class Statistics:
    """What the worker did since it was started.

    Attributes:
        received: messages of the broker.
        opened: frames whose tag was right, repeated ones among them.
        stored: frames that were new.
        refused: by reason.
        synced: answers that were sent, commands among them.
        commanded: answers that were commands.
        too_long: answers that were a sync because their data rate does not carry the command that waits.
        unsent: answers that were lost because the broker was away or took none.
        late: answers that could not reach the receive window any more.
        unanswerable: answers for which the epoch had no downlink counter left.
        receptions_left_out: receptions of frames that had enough of them already.
        retries: batches that the database did not take at once.
        queued: messages that wait for the store now.
    """

    received: int = 0
    opened: int = 0
    stored: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    synced: int = 0
    commanded: int = 0
    too_long: int = 0
    unsent: int = 0
    late: int = 0
    unanswerable: int = 0
    receptions_left_out: int = 0
    batches: int = 0
    retries: int = 0
    queued: int = 0


@dataclass(frozen=True, slots=True)
class _Delivery:
    arrival: Arrival
    mid: int
    qos: int
    connection_number: int


class IngestWorker:
    """Subscribes, stores, acknowledges, answers. Several may run side by side, also on several computers.

    Args:
        mqtt_host: the broker.
        mqtt_port: its port.
        vault: opens chain keys and seals payloads.
        clock: Unix seconds.
        on_frame: called in the store's thread for every frame that was committed.
        on_refused: called there for everything that was refused.
        shared: name of the group that shares the work (`$share/<shared>/…`); None: this worker gets everything.
        client_id: the broker keeps messages for this name while the worker is away, so it must stay the same over
            restarts and differ between workers.
        username: for the broker, with `password`.
        tls: for the connection to the broker; None: not encrypted.
        newest_release: newest release sequence of a model.
        observers: told of what concerns updates, in the store's thread; see `host_tools.ingest.observer`.
        copies_s: how long an answer over LoRa waits for what other gateways heard, by `clock`.
    """

    def __init__(
        self,
        mqtt_host: str,
        mqtt_port: int,
        vault: Vault,
        clock: Callable[[], float] = time.time,
        on_frame: Callable[[Stored], None] | None = None,
        on_refused: Callable[[Refusal], None] | None = None,
        *,
        shared: str | None = "ingest",
        client_id: str | None = None,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        newest_release: Callable[[str], int] = lambda model: 0,
        observers: Sequence[Observer] = (),
        copies_s: float = COPIES_S,
    ) -> None:
        self._address = mqtt_host, mqtt_port
        self._clock = clock
        self._on_frame = on_frame
        self._on_refused = on_refused
        self._observers = observers
        self._copies_s = copies_s
        self._intake = Intake(vault, clock, newest_release, observers, copies_s)
        share = f"$share/{shared}/" if shared else ""
        self._filters = [(share + each, 1) for each in (UPLINK_FILTER, DEVICE_FILTER, topics.UPLINK_FILTER)]
        self._queue: queue.Queue[_Delivery] = queue.Queue(QUEUE_MAX)
        self._statistics = Statistics()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._subscribed = threading.Event()
        self._refusal_of_broker = ""
        self._connection_number = 0
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or default_client_id(),
            clean_session=False,
            manual_ack=True,
        )
        self._client.max_inflight_messages_set(UNSENT_MAX)
        self._client.max_queued_messages_set(UNSENT_MAX)
        self._client.reconnect_delay_set(1, 30)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._granted
        self._client.on_message = self._arrived
        if username is not None:
            self._client.username_pw_set(username, password)
        if tls is not None:
            self._client.tls_set_context(tls)

    def __enter__(self) -> "IngestWorker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Connect and subscribe; returns when the broker has granted it.

        Raises:
            IngestError: the broker cannot be reached or refuses.
            VaultError: the master key is not the one that the registry's chains are wrapped under.
        """
        self._intake.chains.check()
        host, port = self._address
        remedy = "check that the broker runs, its address, and what it lets this client do"
        self._client.connect_timeout = CONNECT_S
        try:
            self._client.connect(host, port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise IngestError(f"the MQTT broker {host}:{port} cannot be reached: {error}", remedy) from error
        self._thread = threading.Thread(target=self._run, name="ingest-store", daemon=True)
        self._thread.start()
        self._client.loop_start()
        if not self._subscribed.wait(CONNECT_S) or self._refusal_of_broker:
            said = self._refusal_of_broker or f"no answer within {CONNECT_S:.0f} s"
            self.stop()
            raise IngestError(f"the MQTT broker {host}:{port} refuses: {said}", remedy)

    def stop(self) -> None:
        """Store what is queued (for at most some seconds), acknowledge it, and end both threads. Twice is fine."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(DRAIN_S + RETRY_LAST_S)
        # comes after the acknowledgements in the client's own queue
        self._client.disconnect()
        self._client.loop_stop()

    def check(self) -> None:
        """Raise IngestError if the store's thread ended by itself."""
        if self._failure is not None:
            raise IngestError(f"ingest ended: {type(self._failure).__name__}", "see the log, then start it again")

    def statistics(self) -> Statistics:
        """A copy of the figures."""
        with self._lock:
            return replace(self._statistics, refused=Counter(self._statistics.refused), queued=self._queue.qsize())

    # network thread

    def _connected(self, client: mqtt.Client, _user: Any, _flags: Any, code: Any, _properties: Any) -> None:
        self._connection_number += 1
        if code.is_failure:
            self._refusal_of_broker = str(code)
            self._subscribed.set()
            return
        client.subscribe(self._filters)

    def _granted(self, _client: mqtt.Client, _user: Any, _mid: int, codes: Any, _properties: Any) -> None:
        refused = [str(code) for code in codes if code.is_failure]
        self._refusal_of_broker = ", ".join(refused)
        self._subscribed.set()
        if refused:
            _log.error("the broker refuses the subscription: %s", self._refusal_of_broker)

    def _arrived(self, _client: mqtt.Client, _user: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        arrival = Arrival(topic, bytes(message.payload[:PAYLOAD_KEPT]), self._clock(), message.dup)
        delivery = _Delivery(arrival, message.mid, message.qos, self._connection_number)
        while not self._stopping.is_set():
            try:
                self._queue.put(delivery, timeout=0.2)
            except queue.Full:
                continue
            return

    # store thread

    def _run(self) -> None:
        try:
            next_housekeeping = time.monotonic()
            drained_by = None
            while True:
                if self._stopping.is_set():
                    drained_by = drained_by or time.monotonic() + DRAIN_S
                    if self._queue.empty() or time.monotonic() > drained_by:
                        self._answer_last()
                        return
                deliveries = self._gather()
                if deliveries:
                    self._store(deliveries)
                self._answer()
                if time.monotonic() >= next_housekeeping:
                    next_housekeeping = time.monotonic() + HOUSEKEEPING_S
                    self._persistently(self._intake.chains.forget_expired)
                    for observer in self._observers:
                        self._keep_house(observer)
        except _Stopped:
            return
        except BaseException as error:
            self._failure = error
            _log.exception("the store thread ended")
        finally:
            connections.close_all()

    def _keep_house(self, observer: Observer) -> None:
        try:
            self._persistently(observer.keep_house)
        except _Stopped:
            raise
        except Exception:
            _log.exception("an observer failed")

    def _answer(self) -> None:
        """Give the answers that have waited for other gateways' copies."""
        try:
            outcome = self._persistently(self._intake.answer_due)
        except _Stopped:
            raise
        except Exception:
            _log.exception("answers could not be given")
            return
        self._send(outcome)
        self._tell(outcome)

    def _answer_last(self) -> None:
        """What waits is given before the worker ends, for at most as long as one waits."""
        until = time.monotonic() + self._copies_s
        while self._intake.waiting and time.monotonic() < until + _IDLE_S:
            time.sleep(_TICK_S)
            self._answer()

    def _gather(self) -> list[_Delivery]:
        try:
            deliveries = [self._queue.get(timeout=_TICK_S if self._intake.waiting else _IDLE_S)]
        except queue.Empty:
            return []
        deadline = time.monotonic() + BATCH_S
        while len(deliveries) < BATCH_MAX:
            try:
                deliveries.append(self._queue.get_nowait())
            except queue.Empty:
                linger_s = min(LINGER_S, deadline - time.monotonic())
                if linger_s <= 0:
                    break
                try:
                    deliveries.append(self._queue.get(timeout=linger_s))
                except queue.Empty:
                    break
        return deliveries

    def _store(self, deliveries: list[_Delivery]) -> None:
        arrivals = [delivery.arrival for delivery in deliveries]
        try:
            outcomes = [self._persistently(lambda: self._intake.process(arrivals))]
        except _Stopped:
            raise
        except Exception:
            # one of them is poison: find it by taking them one at a time
            _log.exception("a batch of %d could not be processed", len(arrivals))
            outcomes = [self._single(arrival) for arrival in arrivals]
        # what the window may still be met for goes first
        for outcome in outcomes:
            self._send(outcome)
        for delivery in deliveries:
            if delivery.qos and delivery.connection_number == self._connection_number:
                self._client.ack(delivery.mid, delivery.qos)
        for outcome in outcomes:
            self._tell(outcome)
        with self._lock:
            self._statistics.received += len(deliveries)
            self._statistics.batches += 1

    def _single(self, arrival: Arrival) -> Outcome:
        try:
            return self._persistently(lambda: self._intake.process([arrival]))
        except _Stopped:
            raise
        except Exception:
            _log.exception("a message of %d bytes could not be processed", len(arrival.payload))
            return Outcome(refused=[Refusal(Reason.INTERNAL, arrival.topic)])

    def _persistently(self, action: Callable[[], _Result]) -> _Result:
        """Do it again, ever more slowly, while the database cannot be written."""
        delay_s = RETRY_FIRST_S
        while True:
            try:
                return action()
            except (OperationalError, InterfaceError) as error:
                _log.warning("the database does not take a batch: %s", error)
                connection.close()
                with self._lock:
                    self._statistics.retries += 1
                if self._stopping.wait(delay_s):
                    raise _Stopped from error
                delay_s = min(delay_s * 2, RETRY_LAST_S)

    def _send(self, outcome: Outcome) -> None:
        sent = 0
        for topic, payload in outcome.publications:
            # while there is no connection paho would keep it, and send it when nobody listens any more
            if self._client.is_connected():
                sent += self._client.publish(topic, payload, qos=1).rc == mqtt.MQTT_ERR_SUCCESS
        with self._lock:
            self._statistics.synced += sent
            self._statistics.unsent += len(outcome.publications) - sent

    def _tell(self, outcome: Outcome) -> None:
        with self._lock:
            self._statistics.opened += outcome.opened
            self._statistics.stored += len(outcome.stored)
            self._statistics.commanded += outcome.commanded
            self._statistics.too_long += outcome.too_long
            self._statistics.late += outcome.late
            self._statistics.unanswerable += outcome.unanswerable
            self._statistics.receptions_left_out += outcome.receptions_left_out
            for refusal in outcome.refused:
                self._statistics.refused[refusal.reason.value] += 1
            for stored in outcome.stored:
                if stored.fault:
                    self._statistics.refused[stored.fault] += 1
        try:
            for stored in outcome.stored if self._on_frame else ():
                self._on_frame(stored)  # type: ignore[misc]
            for refusal in outcome.refused if self._on_refused else ():
                self._on_refused(refusal)  # type: ignore[misc]
        except Exception:
            _log.exception("a callback failed")


class _Stopped(Exception):
    """The worker is told to stop while it waits for the database."""


def default_client_id() -> str:
    """One name a computer; give a second worker on it another one."""
    return f"sealband-ingest-{socket.gethostname()}"[:64]
