"""The gateway bridge: packet forwarders' UDP on one side, MQTT on the other.

Owns one UDP socket, one MQTT client and a thread for each. What a datagram means is decided by `semtech_udp`, whom to
believe by `gateways`, what an MQTT payload means by `envelope`, which gateway sends a downlink by `downlinks` and
`dutycycle`. Gateways of ChirpStack are `chirpstack_link`'s. Frames pass through unopened: the bridge has no key.

Every datagram and every payload that is not passed on is counted by its reason, from closed lists, so that neither
memory nor the log grows with what strangers send. While the broker is away, up to `QUEUED_MAX` frames wait for it.
"""

import contextlib
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.gateway import envelope, semtech_udp
from host_tools.gateway.chirpstack_link import ChirpStackLink, ChirpStackOptions
from host_tools.gateway.downlinks import Attempt, Carrier, Downlinks
from host_tools.gateway.dutycycle import Ledger
from host_tools.gateway.envelope import Downlink, EnvelopeError, Route, Uplink
from host_tools.gateway.gateways import Address, Gateway, GatewayRefused, Gateways, Network
from host_tools.gateway.semtech_udp import (
    DatagramRefused,
    PullAck,
    PullData,
    PullResp,
    PushAck,
    PushData,
    Rxpk,
    TxAck,
    Txpk,
)

PORT = 1700  # what packet forwarders are configured for
QUEUED_MAX = 1_000
RECEIVE_BUFFER = 4 << 20  # the kernel gives what it allows; bursts wait there
CONNECT_S = 10.0
_POLL_S = 0.25
_CONTEXT = b"\0"  # before the gateway's clock in four bytes: what our uplinks' contexts are


class BridgeError(Exception):
    """The bridge cannot start; `remedy` says what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class Bridge:
    """Serves packet forwarders, and ChirpStack's gateways.

    Args:
        udp_host: address to serve on; "0.0.0.0" or "::" for all; None: no packet forwarders.
        udp_port: 0 takes a free one.
        mqtt_host: the broker's.
        mqtt_port: the broker's.
        clock: Unix seconds, for `Uplink.received_at`.
        allowed: EUI → network that the gateway comes from (None: any); None allows every gateway.
        prepare: called with the MQTT client before it connects, for passwords and TLS.
        region: whose rules the gateways stand under, unless a prefix of ChirpStack's names another.
        chirpstack: where ChirpStack's gateways are; None: nowhere.
        ledger: of the gateways' duty cycle, `ledgerfile.KeptLedger` for one that outlives the bridge.

    Attributes:
        udp_port: where it serves, once started.
    """

    def __init__(
        self,
        udp_host: str | None = "127.0.0.1",
        udp_port: int = 0,
        mqtt_host: str = "127.0.0.1",
        mqtt_port: int = 1883,
        clock: Callable[[], float] = time.time,
        allowed: Mapping[str, Network | None] | None = None,
        prepare: Callable[[mqtt.Client], None] | None = None,
        region: str = "EU868",
        chirpstack: ChirpStackOptions | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.udp_host = udp_host
        self.udp_port = udp_port
        self._broker = (mqtt_host, mqtt_port)
        self._clock = clock
        self._prepare = prepare
        self._region = region
        self._lock = threading.RLock()  # the tables and the counts: all threads
        self._gateways: Gateways[Attempt] = Gateways(allowed)
        self._counts: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._transmit_results: Counter[str] = Counter()
        self._ledger = ledger or Ledger()
        self._chirpstack_options = chirpstack
        self._chirpstack: ChirpStackLink | None = None
        if chirpstack is not None:
            self._chirpstack = ChirpStackLink(
                chirpstack,
                region,
                allowed,
                self._pass_up,
                self._lock,
                self._counts,
                self._refused,
                self._transmit_results,
                clock,
            )
        carriers: list[Carrier] = [self, self._chirpstack] if self._chirpstack is not None else [self]
        self._downlinks = Downlinks(carriers, self._ledger, clock, self._pass_on, self._refused)
        self._socket: socket.socket | None = None
        self._client: mqtt.Client | None = None
        self._thread: threading.Thread | None = None
        self._subscribed = threading.Event()
        self._stopping = threading.Event()

    def __enter__(self) -> "Bridge":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Address | None:
        """Connect to the brokers, serve, and return the UDP address.

        Raises:
            BridgeError: the UDP port is taken, or the broker does not answer.
        """
        self._stopping.clear()
        try:
            if self.udp_host is not None:
                self._socket = self._open_socket(self.udp_host)
            self._client = self._connect()
            self._connect_chirpstack()
        except BridgeError:
            self.stop()
            raise
        if self.udp_host is None:
            return None
        self._thread = threading.Thread(target=self._serve, name="gateway-bridge", daemon=True)
        self._thread.start()
        return self.udp_host, self.udp_port

    def stop(self) -> None:
        """Leave the broker and close the socket. Also when it never ran."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None
        if self._chirpstack is not None:
            self._chirpstack.stop()
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def statistics(self) -> dict[str, Any]:
        """Counts since the start: datagrams, uplinks, downlinks, refusals and transmissions by reason, gateways."""
        with self._lock:
            return {
                "datagrams": self._counts["datagrams"],
                "events": self._counts["events"],
                "uplinks": self._counts["uplinks"],
                "downlinks": self._counts["downlinks"],
                "passed_on": self._counts["passed_on"],
                "refused": dict(sorted(self._refused.items())),
                "transmit_results": dict(sorted(self._transmit_results.items())),
                "gateways": self._summary(),
                "broker": self._client is not None and self._client.is_connected(),
                "chirpstack": None if self._chirpstack is None else self._chirpstack.connected,
            }

    def _summary(self) -> dict[str, dict[str, int | float | bool]]:
        gateways = self._gateways.summary(time.monotonic())
        if self._chirpstack is not None:
            gateways.update(self._chirpstack.summary(time.monotonic()))
        now = self._clock()
        for eui, figures in gateways.items():
            figures["airtime_s"] = round(self._ledger.used_s(eui, now), 3)
        return gateways

    def _open_socket(self, host: str) -> socket.socket:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, self.udp_port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            )[0]
            opened = socket.socket(family, kind, protocol)
        except OSError as error:
            raise BridgeError(
                f"cannot serve on UDP {host}:{self.udp_port}: {error.strerror or error}", "check the address"
            ) from error
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            opened.settimeout(_POLL_S)
            opened.bind(address)
        except OSError as error:
            opened.close()
            raise BridgeError(
                f"cannot serve on UDP {host}:{self.udp_port}: {error.strerror or error}",
                "stop what uses that port, or choose another",
            ) from error
        self.udp_port = opened.getsockname()[1]
        return opened

    def _connect(self) -> mqtt.Client:
        host, port = self._broker
        # a session of its own each time: a downlink that waited for a bridge to come back would be too late
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"sealband-bridge-{secrets.token_hex(4)}",
            protocol=mqtt.MQTTv311,
            clean_session=True,
        )
        client.max_queued_messages_set(QUEUED_MAX)
        client.max_inflight_messages_set(100)
        client.reconnect_delay_set(1, 30)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        if self._prepare is not None:
            self._prepare(client)
        refusal: OSError | None = None
        self._subscribed.clear()
        try:
            client.connect(host, port, keepalive=30)
        except OSError as error:
            refusal = error
        if refusal is None:
            client.loop_start()
            if self._subscribed.wait(CONNECT_S):
                return client
            client.disconnect()
            client.loop_stop()
        raise BridgeError(
            f"the MQTT broker at {host}:{port} does not take us"
            + (f": {refusal.strerror or refusal}" if refusal else ""),
            "start it, and check its address, password and access rules",
        ) from refusal

    def _connect_chirpstack(self) -> None:
        if self._chirpstack is None or self._chirpstack_options is None:
            return
        options, refusal = self._chirpstack_options, None
        try:
            if self._chirpstack.start(self._downlinks):
                return
        except OSError as error:
            refusal = error
        raise BridgeError(
            f"ChirpStack's MQTT broker at {options.host}:{options.port} does not take us"
            + (f": {refusal.strerror or refusal}" if refusal else ""),
            "start it, and check its address, password and access rules",
        ) from refusal

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(envelope.DOWNLINK_FILTER, qos=1)

    def _on_subscribe(
        self, _client: mqtt.Client, _userdata: object, _mid: int, codes: list[Any], _properties: object
    ) -> None:
        if not any(code.is_failure for code in codes):
            self._subscribed.set()

    # From the air: UDP to MQTT

    def _serve(self) -> None:
        assert self._socket is not None
        while not self._stopping.is_set():
            try:
                datagram, address = self._socket.recvfrom(65_536)
            except TimeoutError:
                continue
            except OSError:
                if self._stopping.is_set():
                    return
                continue  # an ICMP error about something that was sent
            try:
                with self._lock:
                    self._counts["datagrams"] += 1
                    self._take(datagram, address[:2])
            except (DatagramRefused, GatewayRefused) as refusal:
                self._refuse(refusal.reason)
            except Exception:  # no datagram may end the bridge
                self._refuse("defect")

    def _take(self, datagram: bytes, address: Address) -> None:
        now = time.monotonic()
        self._gateways.admit(semtech_udp.sender_of(datagram), address[0], len(datagram), now)
        message = semtech_udp.decode_upstream(datagram)
        gateway = self._gateways.enter(message.gateway, address[0], now)
        if isinstance(message, PullData):
            self._gateways.pulled(gateway, address, message.version, now)
            self._send(PullAck(message.token, message.version).to_bytes(), address)
        elif isinstance(message, TxAck):
            attempt = self._gateways.acknowledged(gateway, address[0], message.token)
            self._transmit_results[message.error] += 1
            if message.error != "NONE":
                self._downlinks.failed(attempt)
        else:
            self._send(PushAck(message.token, message.version).to_bytes(), address)
            self._push(gateway, message)

    def _push(self, gateway: Gateway[Attempt], message: PushData) -> None:
        for reason in message.refused:
            self._refused[f"rxpk_{reason}"] += 1
            gateway.counts["refused"] += 1
        for packet in message.received:
            try:
                self._publish(gateway, packet)
            except EnvelopeError as refusal:
                # LoRaWAN and other neighbours in the band: nothing is wrong with them
                self._refused["foreign" if refusal.reason == "frame" else f"uplink_{refusal.reason}"] += 1
                gateway.counts["foreign"] += 1

    def _publish(self, gateway: Gateway[Attempt], packet: Rxpk) -> None:
        uplink = Uplink(
            frame=packet.data,
            gateway=gateway.eui,
            rssi=packet.rssi,
            snr=packet.snr,
            frequency_hz=packet.frequency_hz,
            data_rate=packet.data_rate,
            region=self._region,
            context=_CONTEXT + packet.tmst_us.to_bytes(4, "big"),
            received_at=self._clock(),
        )
        gateway.counts["uplinks" if self._pass_up(uplink) else "refused"] += 1

    def _pass_up(self, uplink: Uplink) -> bool:
        assert self._client is not None
        sent = self._client.publish(envelope.uplink_topic(uplink.gateway), uplink.to_bytes(), qos=1)
        if sent.rc == mqtt.MQTT_ERR_QUEUE_SIZE:
            self._refused["queue_full"] += 1
            return False
        self._counts["uplinks"] += 1
        return True

    # To the air: MQTT to UDP

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        try:
            downlink = Downlink.from_message(message.topic, bytes(message.payload))
            with self._lock:
                self._downlinks.take(downlink)
        except EnvelopeError as refusal:
            self._refuse(f"downlink_{refusal.reason}")
        except Exception:  # no payload may end the MQTT thread
            self._refuse("defect")

    def serves(self, route: Route) -> bool:
        """Whether this is a packet forwarder's, and it is at work here (`downlinks.Carrier`)."""
        if len(route.context) != 5 or not route.context.startswith(_CONTEXT):
            return False
        return self._gateways.serves(route.gateway, time.monotonic())

    def send(self, attempt: Attempt) -> None:
        """Send a PULL_RESP (`downlinks.Carrier`); GatewayRefused where that is not possible."""
        downlink, route = attempt.downlink, attempt.downlink.routes[0]
        gateway, address, token = self._gateways.downlink(route.gateway, attempt, time.monotonic())
        txpk = Txpk(
            data=downlink.frame,
            frequency_hz=route.frequency_hz,
            data_rate=route.data_rate,
            tmst_us=(int.from_bytes(route.context[1:], "big") + 1000 * downlink.delay_ms) % 2**32,
            power_dbm=route.power_dbm,
        )
        self._send(PullResp(token, gateway.version, txpk).to_bytes(), address)
        self._counts["downlinks"] += 1
        gateway.counts["downlinks"] += 1

    def _pass_on(self, downlink: Downlink) -> None:
        assert self._client is not None
        if self._client.is_connected():  # else it would come when it is too late
            self._client.publish(envelope.downlink_topic(downlink.routes[0].gateway), downlink.to_bytes(), qos=1)
            self._counts["passed_on"] += 1

    def _send(self, datagram: bytes, address: Address) -> None:
        assert self._socket is not None
        with contextlib.suppress(OSError):  # no route just now: UDP promises nothing
            self._socket.sendto(datagram, address)

    def _refuse(self, reason: str) -> None:
        with self._lock:
            self._refused[reason] += 1
