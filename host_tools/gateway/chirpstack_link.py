"""ChirpStack's gateways: an MQTT client on their broker, and the part of the bridge that speaks to them.

What a payload means is decided by `chirpstack`, whom to believe and how much by `gateways`: the table is the packet
forwarders', with the topic prefix in the place of their address. Here the broker authenticates (each gateway may
publish in its own topics only, which is ChirpStack's own rule), so a gateway is who its topic says.

Use one of these for a broker and prefix: a second one would hand every uplink and every downlink on twice.
"""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.gateway import chirpstack
from host_tools.gateway.chirpstack import EventRefused
from host_tools.gateway.downlinks import Attempt, Downlinks
from host_tools.gateway.envelope import EnvelopeError, Route, Uplink
from host_tools.gateway.gateways import GATEWAYS_MAX, GatewayRefused, Gateways

CONNECT_S = 10.0
_VERSION = 4  # stands for ChirpStack's in the table


@dataclass(frozen=True, slots=True)
class ChirpStackOptions:
    """Where ChirpStack's gateways are.

    Attributes:
        host, port: of the broker that they use.
        prefixes: of their topics: "eu868", "us915_0"; "" for none.
        prepare: called with the MQTT client before it connects, for passwords and TLS.
    """

    host: str
    port: int
    prefixes: tuple[str, ...] = ("eu868",)
    prepare: Callable[[mqtt.Client], None] | None = None


class ChirpStackLink:
    """Serves ChirpStack's gateways (`downlinks.Carrier`).

    Args:
        options: where they are.
        region: of gateways whose prefix names none.
        allowed: EUIs; None allows every gateway.
        pass_up: takes an uplink to the server; whether there was room for it.
        lock: held by whoever calls `send` and `serves`, and by the thread here.
        counts, refused, transmit_results: of the whole bridge.
        clock: Unix seconds.
    """

    def __init__(
        self,
        options: ChirpStackOptions,
        region: str,
        allowed: Iterable[str] | None,
        pass_up: Callable[[Uplink], bool],
        lock: threading.RLock,
        counts: Counter[str],
        refused: Counter[str],
        transmit_results: Counter[str],
        clock: Callable[[], float],
    ) -> None:
        chirpstack.check_installed()
        self._options = options
        self._region = region
        self._pass_up = pass_up
        self._lock = lock
        self._counts = counts
        self._refused = refused
        self._transmit_results = transmit_results
        self._clock = clock
        self._downlinks: Downlinks | None = None
        networks = None if allowed is None else dict.fromkeys(allowed)
        self._gateways: Gateways[Attempt] = Gateways(networks, per_address_max=GATEWAYS_MAX)
        self._client: mqtt.Client | None = None
        self._granted = threading.Event()

    def start(self, downlinks: Downlinks) -> bool:
        """Connect and subscribe; whether the broker takes us. OSError where it is not there."""
        self._downlinks = downlinks
        self._granted.clear()
        client = self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"sealband-chirpstack-{secrets.token_hex(4)}",
            protocol=mqtt.MQTTv311,
            clean_session=True,  # what waited for us would be too late
        )
        client.max_inflight_messages_set(100)
        client.max_queued_messages_set(100)
        client.reconnect_delay_set(1, 30)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        if self._options.prepare is not None:
            self._options.prepare(client)
        client.connect(self._options.host, self._options.port, keepalive=30)
        client.loop_start()
        return self._granted.wait(CONNECT_S)

    def stop(self) -> None:
        """Leave the broker. Also when it never ran."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def summary(self, now: float) -> Mapping[str, dict[str, int | float | bool]]:
        """Of each gateway: its counts, seconds since its last event, whether downlinks can reach it."""
        return self._gateways.summary(now)

    @property
    def connected(self) -> bool:
        """Whether the broker has us."""
        return self._client is not None and self._client.is_connected()

    def serves(self, route: Route) -> bool:
        """Whether this is of one of ChirpStack's gateways, and it is at work here (`downlinks.Carrier`)."""
        return chirpstack.is_context(route.context) and self._gateways.serves(route.gateway, time.monotonic())

    def send(self, attempt: Attempt) -> None:
        """Publish a `down` command (`downlinks.Carrier`); GatewayRefused where that is not possible."""
        route = attempt.downlink.routes[0]
        if not self.connected:
            raise GatewayRefused("unreachable", "ChirpStack's broker is away")
        gateway, (prefix, _), token = self._gateways.downlink(route.gateway, attempt, time.monotonic())
        # 0 is what an acknowledgement without a number has
        command = chirpstack.encode_downlink(
            route, attempt.downlink.frame, attempt.downlink.delay_ms, _downlink_id(token)
        )
        assert self._client is not None
        if self._client.publish(chirpstack.command_topic(prefix, gateway.eui), command).rc != mqtt.MQTT_ERR_SUCCESS:
            raise GatewayRefused("unreachable", "ChirpStack's broker takes nothing")
        self._counts["downlinks"] += 1
        gateway.counts["downlinks"] += 1

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        topics = [topic for prefix in self._options.prefixes for topic in chirpstack.filters(prefix)]
        client.subscribe([(topic, 0) for topic in topics])

    def _on_subscribe(
        self, _client: mqtt.Client, _userdata: object, _mid: int, codes: list[Any], _properties: object
    ) -> None:
        if not any(code.is_failure for code in codes):
            self._granted.set()

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        with self._lock:
            self._counts["events"] += 1
            try:
                self._take(message.topic, bytes(message.payload))
            except EventRefused as refusal:
                self._refused[f"event_{refusal.reason}"] += 1
            except GatewayRefused as refusal:
                self._refused[refusal.reason] += 1
            except Exception:  # no payload may end the MQTT thread
                self._refused["defect"] += 1

    def _take(self, topic: str, payload: bytes) -> None:
        now = time.monotonic()
        prefix, eui, event = chirpstack.event_of(topic, self._options.prefixes)
        self._gateways.admit(eui, prefix, len(payload), now)
        if event == "ack":
            ack = chirpstack.decode_ack(eui, payload)
            gateway = self._gateways.enter(eui, prefix, now)
            attempt = self._gateways.acknowledged(gateway, prefix, _token(ack.downlink_id))
            self._transmit_results[ack.error] += 1
            if ack.error != "NONE" and self._downlinks is not None:
                self._downlinks.failed(attempt)
            return
        heard = chirpstack.decode_uplink(eui, payload) if event == "up" else None
        if heard is None:
            chirpstack.decode_stats(eui, payload)
        gateway = self._gateways.enter(eui, prefix, now)
        # its events come through its own topics, so its commands go the same way
        self._gateways.pulled(gateway, (prefix, 0), _VERSION, now)
        if heard is None:
            return
        try:
            uplink = Uplink(
                frame=heard.data,
                gateway=eui,
                rssi=heard.rssi,
                snr=heard.snr,
                frequency_hz=heard.frequency_hz,
                data_rate=heard.data_rate,
                region=chirpstack.region_of(prefix, self._region),
                context=heard.context,
                received_at=self._clock(),
            )
        except EnvelopeError as refusal:
            # LoRaWAN and other neighbours in the band: nothing is wrong with them
            self._refused["foreign" if refusal.reason == "frame" else f"uplink_{refusal.reason}"] += 1
            gateway.counts["foreign"] += 1
            return
        gateway.counts["uplinks" if self._pass_up(uplink) else "refused"] += 1


def _downlink_id(token: int) -> int:
    return token + 1


def _token(downlink_id: int) -> int:
    return downlink_id - 1
