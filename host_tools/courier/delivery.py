"""Delivers carried frames to the server over MQTT, and keeps the answers for the way back. Opens nothing.

Frames of one device go in groups that one sync can acknowledge (the newest counter and the 32 before it), and the next
group waits for the answer to this one. The broker keeps answers that come while the courier is away, under its name.
"""

import queue
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.courier import topics
from host_tools.courier.errors import CourierError
from host_tools.courier.store import Carried, CourierStore
from sealwire.messages import SYNC_BITMAP_LEN

CONNECT_S = 10.0
TAKEN_S = 10.0  # for the broker to take a frame
ANSWER_S = 10.0  # for the server to answer a group
QUIET_S = 1.0  # … and after an answer to a part of it, which the server took by itself
KEEPALIVE_S = 30


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a delivery came to.

    Attributes:
        delivered: frames that the broker has taken.
        answers: of the server, kept for the way back; also those that came for an earlier delivery.
        unanswered: groups of frames that the server did not answer in time: it does not run, or knew all of them.
    """

    delivered: int
    answers: int
    unanswered: int


def groups(frames: Iterable[Carried]) -> Iterator[list[Carried]]:
    """Frames of one device in groups that one sync can acknowledge, in their order."""
    group: list[Carried] = []
    for one in sorted(frames, key=lambda carried: carried.number):
        if group:
            epoch, first = group[0].number
            if one.number[0] != epoch or one.number[1] - first > SYNC_BITMAP_LEN:
                yield group
                group = []
        group.append(one)
    if group:
        yield group


class Delivery:
    """A connection to the broker, as a context manager.

    Args:
        store: what is carried.
        host: the broker.
        port: its port.
        username: for the broker, with `password`.
        tls: for the connection to the broker; None: not encrypted.
        answer_s: so long a group waits for its answer.

    Raises:
        CourierError: the broker cannot be reached, or refuses.
    """

    def __init__(
        self,
        store: CourierStore,
        host: str,
        port: int,
        *,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._store = store
        self._address = host, port
        self._answer_s = answer_s
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._granted: queue.Queue[str] = queue.Queue()
        self._owners: dict[bytes, str] = {}
        self._kept = 0
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"sealband-courier-{store.name}", clean_session=False
        )
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._subscribed
        self._client.on_message = lambda _client, _user, message: self._answers.put(bytes(message.payload))
        if username is not None:
            self._client.username_pw_set(username, password)
        if tls is not None:
            self._client.tls_set_context(tls)

    def __enter__(self) -> "Delivery":
        host, port = self._address
        remedy = "check that the broker runs, its address, and that its rules have this courier: sealband courier id"
        self._client.connect_timeout = CONNECT_S
        try:
            self._client.connect(host, port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise CourierError(f"the MQTT broker {host}:{port} cannot be reached: {error}", remedy) from None
        self._client.loop_start()
        try:
            refusal = self._granted.get(timeout=CONNECT_S)
        except queue.Empty:
            refusal = f"no answer within {CONNECT_S:.0f} s"
        if refusal:
            self.__exit__()
            raise CourierError(f"the MQTT broker {host}:{port} refuses: {refusal}", remedy)
        for eui in self._store.devices():
            self._own(self._store.awaiting(eui))
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def run(self, progress: Callable[[int, int], None] = lambda done, all_: None) -> Delivered:
        """Deliver all that is carried.

        Args:
            progress: told (delivered, of how many).

        Raises:
            CourierError: the broker took a frame no more; what was taken stays delivered.
        """
        waiting = {eui: self._store.undelivered(eui) for eui in self._store.devices()}
        total, delivered, unanswered = sum(map(len, waiting.values())), 0, 0
        for frames in waiting.values():
            for group in groups(frames):
                for one in group:
                    self._publish(one)
                    delivered += 1
                    progress(delivered, total)
                unanswered += not self._answered(group)
        self._drain()
        return Delivered(delivered, self._kept, unanswered)

    def _publish(self, carried: Carried) -> None:
        told = self._client.publish(topics.uplink_topic(self._store.name), carried.frame, qos=1)
        taken = False
        with suppress(ValueError, RuntimeError):  # paho's words for a connection that is gone
            told.wait_for_publish(TAKEN_S)
            taken = told.is_published()
        if not taken:
            raise CourierError("the MQTT broker takes no frame", "look whether it runs, then deliver again")
        self._store.delivered(carried)

    def _answered(self, group: list[Carried]) -> bool:
        """Keep what comes until the group is answered: as a rule its last frame, when the server took all at once."""
        names = [topics.digest(one.frame) for one in group]
        until, begun = time.monotonic() + self._answer_s, False
        while (left_s := until - time.monotonic()) > 0:
            try:
                name = self._keep(self._answers.get(timeout=min(left_s, QUIET_S) if begun else left_s))
            except queue.Empty:
                break
            if name == names[-1]:
                return True
            begun = begun or name in names
        return begun

    def _drain(self) -> None:
        while not self._answers.empty():
            self._keep(self._answers.get())

    def _keep(self, payload: bytes) -> bytes:
        """Keep an answer where its device is known; the name of the frame that it answers."""
        answered, downlink = payload[: topics.ANSWER_LEN], payload[topics.ANSWER_LEN :]
        eui = self._owners.get(answered)
        if eui is not None:
            self._store.answer(eui, downlink)
            self._kept += 1
        return answered

    def _own(self, frames: Iterable[Carried]) -> None:
        for one in frames:
            self._owners[topics.digest(one.frame)] = one.eui

    # paho's thread

    def _connected(self, client: mqtt.Client, _user: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self._granted.put(str(code))
        else:
            client.subscribe(topics.downlink_topic(self._store.name), 1)

    def _subscribed(self, _client: mqtt.Client, _user: Any, _mid: int, codes: Any, _properties: Any) -> None:
        self._granted.put(", ".join(str(code) for code in codes if code.is_failure))
