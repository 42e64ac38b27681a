"""amqtt with what it lacks of MQTT: shared subscriptions (MQTT 5 section 4.8.2), and a bound on what waits.

It takes `$share/…` for an ordinary topic that nobody can publish to. Knows no rules: who may receive what is asked of
`_may_receive`, which a subclass decides.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig

IN_FLIGHT_MAX = 20_000  # messages on their way to subscribers; more are dropped and counted
_REFUSED = 0x80  # SUBACK return code, MQTT 3.1.1 section 3.9.3
_SHARE = "$share/"


class SharingBroker(Broker):  # type: ignore[misc]
    """amqtt with shared subscriptions, and with a bound on what waits for slow subscribers."""

    def __init__(self, config: BrokerConfig) -> None:
        super().__init__(config)
        self.dropped = 0
        self._turn: dict[str, int] = {}

    async def add_subscription(self, subscription: tuple[str, int], session: Any) -> int:
        share, topic_filter = split_share(subscription[0])
        if share is not None and (not share or not topic_filter or "+" in share or "#" in share):
            return _REFUSED
        code: int = await super().add_subscription(subscription, session)
        return code

    async def _publish_retained_messages_for_subscription(self, subscription: tuple[str, int], session: Any) -> None:
        if split_share(subscription[0])[0] is None:  # MQTT 5 section 4.8.2: none to a shared subscription
            await super()._publish_retained_messages_for_subscription(subscription, session)

    async def _run_broadcast(self, running_tasks: "deque[asyncio.Future[Any]]") -> None:
        message = await self._broadcast_queue.get()
        for session, qos in list(self._receivers(message["topic"])):
            handler = self._get_handler(session)
            if handler is None:
                continue
            if len(running_tasks) >= IN_FLIGHT_MAX:
                self.dropped += 1
                continue
            sent = handler.mqtt_publish(message["topic"], message["data"], message.get("qos", qos), retain=False)
            running_tasks.append(asyncio.ensure_future(sent))

    def _receivers(self, topic: str) -> Iterator[tuple[Any, int]]:
        for key, subscriptions in self._subscriptions.items():
            share, topic_filter = split_share(key)
            if not self._matches(topic, topic_filter):
                continue
            connected = [
                (session, qos)
                for session, qos in subscriptions
                if session.transitions.state == "connected" and self._may_receive(session, topic)
            ]
            if share is not None and connected:
                turn = self._turn[key] = (self._turn.get(key, -1) + 1) % len(connected)
                connected = [connected[turn]]
            yield from connected

    def _may_receive(self, _session: Any, _topic: str) -> bool:
        return True


def split_share(topic_filter: str) -> tuple[str | None, str]:
    """Share name (None: not a shared subscription) and what is subscribed to, of "$share/name/filter"."""
    if not topic_filter.startswith(_SHARE):
        return None, topic_filter
    share, _, rest = topic_filter[len(_SHARE) :].partition("/")
    return share, rest
