"""ChirpStack's gateway events and commands: the documentation's own examples, messages made by its library, garbage.

Examples: chirpstack.io/docs, ChirpStack Gateway Bridge, payloads, events and commands.
"""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from chirpstack_api.gw import gw_pb2 as gw
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.gateway import chirpstack
from host_tools.gateway.bridge import Bridge, BridgeError
from host_tools.gateway.broker import EmbeddedBroker
from host_tools.gateway.chirpstack import Ack, EventRefused, Stats
from host_tools.gateway.chirpstack_link import ChirpStackOptions
from host_tools.gateway.envelope import Downlink, Route, Uplink, downlink_topic

EUI = "0016c001f153a14c"
OTHER = "0016c001f153a14d"
FRAME = b"\xe3" + bytes(range(30))
CONTEXT = bytes.fromhex("c70c7419")  # the documentation's "xwx0GQ=="

UP: dict[str, Any] = {
    "phyPayload": "gKb+agGABQABOIc6cwQ=",
    "txInfo": {
        "frequency": 867300000,
        "modulation": {"lora": {"bandwidth": 125000, "spreadingFactor": 7, "codeRate": "CR_4_5"}},
    },
    "rxInfo": {
        "gatewayId": "0016c001f153a14c",
        "uplinkId": 7895,
        "time": "2022-08-03T14:37:43.383634108Z",
        "rssi": -52,
        "snr": 13.75,
        "context": "xwx0GQ==",
    },
}
STATS: dict[str, Any] = {
    "gatewayId": "0016c001f153a14c",
    "time": "2022-08-03T14:37:59Z",
    "rxPacketsReceived": 1,
    "rxPacketsReceivedOk": 1,
    "txPacketsReceived": 1,
    "txPacketsEmitted": 1,
    "txPacketsPerFrequency": {"867300000": 1},
    "rxPacketsPerFrequency": {"867300000": 1},
    "txPacketsPerStatus": {"OK": 1},
    "rxPacketsPerModulation": [
        {
            "modulation": {"lora": {"bandwidth": 125000, "spreadingFactor": 7, "codeRate": "CR_4_5"}},
            "count": 1,
        }
    ],
}
ACK: dict[str, Any] = {"gatewayId": "0016c001f153a14c", "downlinkId": 894104280, "items": [{"status": "OK"}, {}]}
DOWN_ITEM: dict[str, Any] = {
    "phyPayload": "YKb+agGgAwCSzNbb",
    "txInfo": {
        "frequency": 867300000,
        "power": 14,
        "modulation": {
            "lora": {"bandwidth": 125000, "spreadingFactor": 7, "codeRate": "CR_4_5", "polarizationInversion": True}
        },
        "timing": {"delay": {"delay": "1s"}},
        "context": "xwx0GQ==",
    },
}


def as_json(event: object) -> bytes:
    return json.dumps(event).encode()


def as_protobuf(kind: Callable[[], Any], event: dict[str, Any]) -> bytes:
    data: bytes = json_format.ParseDict(event, kind(), ignore_unknown_fields=True).SerializeToString()
    return data


def up(**changes: Any) -> bytes:
    """A protobuf `up` event with this frame; changes by path: rx_info__rssi=1."""
    event = json_format.ParseDict(UP, gw.UplinkFrame(), ignore_unknown_fields=True)
    event.phy_payload = FRAME
    event.rx_info.crc_status = gw.CRCStatus.CRC_OK
    for path, value in changes.items():
        *names, last = path.split("__")
        target = event
        for name in names:
            target = getattr(target, name)
        setattr(target, last, value)
    data: bytes = event.SerializeToString()
    return data


def reason(read: Callable[[str, bytes], object], payload: bytes) -> str:
    with pytest.raises(EventRefused) as refused:
        read(EUI, payload)
    assert refused.value.reason in chirpstack.REASONS
    return refused.value.reason


@pytest.mark.parametrize("encoding", [chirpstack.PROTOBUF, chirpstack.JSON])
def test_the_documentations_uplink(encoding: int) -> None:
    payload = as_json(UP) if encoding == chirpstack.JSON else as_protobuf(gw.UplinkFrame, UP)
    heard = chirpstack.decode_uplink(EUI, payload)
    assert heard.data == base64.b64decode(UP["phyPayload"])
    assert (heard.rssi, heard.snr, heard.frequency_hz, heard.data_rate) == (-52, 13.75, 867_300_000, "SF7BW125")
    assert heard.context == bytes((encoding, 0, 0)) + CONTEXT


@pytest.mark.parametrize("encode", [as_json, lambda event: as_protobuf(gw.GatewayStats, event)])
def test_the_documentations_stats(encode: Callable[[object], bytes]) -> None:
    assert chirpstack.decode_stats(EUI, encode(STATS)) == Stats(1, 1, 1)


@pytest.mark.parametrize("encode", [as_json, lambda event: as_protobuf(gw.DownlinkTxAck, event)])
def test_the_documentations_acknowledgement(encode: Callable[[object], bytes]) -> None:
    assert chirpstack.decode_ack(EUI, encode(ACK)) == Ack(894104280, "NONE")
    assert chirpstack.decode_ack(EUI, encode(ACK | {"items": [{"status": "TOO_LATE"}]})).error == "TOO_LATE"
    second = [{"status": "DUTY_CYCLE_OVERFLOW"}, {"status": "OK"}]
    assert chirpstack.decode_ack(EUI, encode(ACK | {"items": second})).error == "NONE"
    assert chirpstack.decode_ack(EUI, encode(ACK | {"items": [{}, {"status": "TX_FREQ"}]})).error == "TX_FREQ"


@pytest.mark.parametrize("encoding", [chirpstack.PROTOBUF, chirpstack.JSON])
def test_a_downlink_is_what_the_documentation_shows(encoding: int) -> None:
    route = Route(EUI, bytes((encoding, 0, 0)) + CONTEXT, 867_300_000, "SF7BW125", 14, "EU868")
    frame = base64.b64decode(DOWN_ITEM["phyPayload"])
    payload = chirpstack.encode_downlink(route, frame, 1000, 894104280)
    expected = {"downlinkId": 894104280, "items": [DOWN_ITEM], "gatewayId": EUI}
    if encoding == chirpstack.JSON:
        assert json.loads(payload) == expected
    else:
        assert gw.DownlinkFrame.FromString(payload) == json_format.ParseDict(expected, gw.DownlinkFrame())


def test_board_and_antenna_come_back_with_the_answer() -> None:
    heard = chirpstack.decode_uplink(EUI, up(rx_info__board=1, rx_info__antenna=2))
    route = Route(EUI, heard.context, 923_300_000, "SF10BW500", 27, "US915")
    info = gw.DownlinkFrame.FromString(chirpstack.encode_downlink(route, FRAME, 5000, 1)).items[0].tx_info
    assert (info.board, info.antenna, info.context) == (1, 2, CONTEXT)
    assert (info.modulation.lora.bandwidth, info.modulation.lora.spreading_factor) == (500_000, 10)
    assert info.timing.delay.delay.ToMilliseconds() == 5000


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param(up(rx_info__crc_status=gw.CRCStatus.BAD_CRC), "crc", id="bad CRC"),
        pytest.param(up(rx_info__gateway_id=OTHER), "gateway", id="another gateway's"),
        pytest.param(up(rx_info__gateway_id=""), "gateway", id="nobody's"),
        pytest.param(up(rx_info__rssi=-251), "range", id="rssi too low"),
        pytest.param(up(rx_info__snr=float("nan")), "range", id="NaN"),
        pytest.param(up(rx_info__snr=float("inf")), "range", id="infinity"),
        pytest.param(up(rx_info__context=bytes(65)), "range", id="context too long"),
        pytest.param(up(rx_info__board=256), "range", id="board"),
        pytest.param(up(tx_info__frequency=0), "range", id="no frequency"),
        pytest.param(up(tx_info__frequency=2**32 - 1), "range", id="frequency too high"),
        pytest.param(up(tx_info__modulation__lora__spreading_factor=13), "modulation", id="spreading factor 13"),
        pytest.param(up(tx_info__modulation__lora__bandwidth=125), "modulation", id="bandwidth in kHz"),
        pytest.param(up(tx_info__modulation__fsk__datarate=50000), "modulation", id="FSK"),
        pytest.param(up(phy_payload=b""), "data", id="no payload"),
        pytest.param(up(phy_payload=bytes(256)), "data", id="payload too long"),
        pytest.param(b"", "gateway", id="empty"),
        pytest.param(up()[:-5], "protobuf", id="cut short"),
        pytest.param(b"\xff" * 100, "protobuf", id="no protobuf"),
        pytest.param(bytes(chirpstack.PAYLOAD_MAX + 1), "size", id="too long"),
        pytest.param(b"{" * 1000, "json", id="nested objects"),
        pytest.param(b'{"rxInfo":' * 200, "json", id="nested fields"),
        pytest.param(b'{"a":1,' * 2100, "json", id="too many values"),
        pytest.param(b'{"phyPayload":"AA==","phyPayload":"AA=="}', "json", id="key twice"),
        pytest.param(b'{"phyPayload":1}', "json", id="number for bytes"),
        pytest.param(b'{"phyPayload":"\xff"}', "json", id="not UTF-8"),
        pytest.param(as_json(UP | {"phyPayload": "?"}), "data", id="not base64"),
        pytest.param(as_json(UP | {"txInfo": {"frequency": 10**30}}), "json", id="integer beyond 32 bits"),
        pytest.param(as_json(UP | {"rxInfo": UP["rxInfo"] | {"snr": "NaN"}}), "range", id="NaN in JSON"),
        pytest.param(as_json(UP | {"rxInfo": UP["rxInfo"] | {"crcStatus": "BAD_CRC"}}), "crc", id="bad CRC in JSON"),
    ],
)
def test_what_is_not_an_uplink_is_refused_with_its_reason(payload: bytes, expected: str) -> None:
    assert reason(chirpstack.decode_uplink, payload) == expected


def test_events_of_chirpstack_3_are_named_as_such() -> None:
    old = gw.UplinkFrame(phy_payload=FRAME)
    old.rx_info_legacy.gateway_id = bytes.fromhex(EUI)
    assert reason(chirpstack.decode_uplink, old.SerializeToString()) == "v3"
    stats = gw.GatewayStats(gateway_id_legacy=bytes.fromhex(EUI))
    assert reason(chirpstack.decode_stats, stats.SerializeToString()) == "v3"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (gw.DownlinkTxAck(gateway_id=EUI, downlink_id=1), "status"),
        (gw.DownlinkTxAck(gateway_id=EUI, downlink_id=1, items=[gw.DownlinkTxAckItem(status=99)]), "status"),  # type: ignore[arg-type]
        (gw.DownlinkTxAck(gateway_id=OTHER, downlink_id=1, items=[gw.DownlinkTxAckItem()]), "gateway"),
        (gw.DownlinkTxAck(downlink_id_legacy=bytes(16), gateway_id=EUI), "v3"),
    ],
)
def test_what_is_not_an_acknowledgement_is_refused(event: Any, expected: str) -> None:
    assert reason(chirpstack.decode_ack, event.SerializeToString()) == expected


GOOD = up()
READERS = (chirpstack.decode_uplink, chirpstack.decode_ack, chirpstack.decode_stats)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(READERS), st.sampled_from((b"", b"{", GOOD, GOOD[:20])))
def test_random_bytes_are_read_or_refused(data: bytes, read: Callable[[str, bytes], object], head: bytes) -> None:
    try:
        read(EUI, head + data)
    except EventRefused as refused:
        reasons = {refused.reason}
    else:
        reasons = set()
    assert reasons <= set(chirpstack.REASONS)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_one_changed_byte_is_refused_or_read_within_range(place: int, change: int) -> None:
    data = bytearray(GOOD)
    data[place] ^= change
    try:
        heard = chirpstack.decode_uplink(EUI, bytes(data))
    except EventRefused:
        return
    Uplink(heard.data if heard.data[0] >= 0xE0 else FRAME, EUI, heard.rssi, heard.snr, heard.frequency_hz,
           heard.data_rate, "EU868", heard.context, 0.0)  # fmt: skip


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from((*UP, *UP["rxInfo"], "items")), json_values), st.sampled_from(READERS))
def test_no_json_is_too_strange(event: dict[str, Any], read: Callable[[str, bytes], object]) -> None:
    reasons = set()
    for payload in (event, {"rxInfo": event, "txInfo": event}, UP | event):
        try:
            read(EUI, as_json(payload))
        except EventRefused as refused:
            reasons.add(refused.reason)
    assert reasons <= set(chirpstack.REASONS)


def test_topics_with_and_without_a_prefix() -> None:
    prefixes = ("eu868", "us915_0", "")
    assert chirpstack.filters("eu868") == [f"eu868/gateway/+/event/{event}" for event in ("up", "stats", "ack")]
    assert chirpstack.filters("")[0] == "gateway/+/event/up"  # as it was before version 4
    assert chirpstack.event_of(f"eu868/gateway/{EUI}/event/up", prefixes) == ("eu868", EUI, "up")
    assert chirpstack.event_of(f"gateway/{EUI}/event/ack", prefixes) == ("", EUI, "ack")
    assert chirpstack.command_topic("us915_0", EUI) == f"us915_0/gateway/{EUI}/command/down"
    assert chirpstack.command_topic("", EUI) == f"gateway/{EUI}/command/down"
    assert chirpstack.region_of("us915_0", "EU868") == "US915"
    assert chirpstack.region_of("as923_2", "EU868") == "AS923"
    assert chirpstack.region_of("", "AU915") == "AU915"
    for topic in (f"kr920/gateway/{EUI}/event/up", f"eu868/gateway/{EUI}/event/exec", f"eu868/gateway/{EUI}1/event/up"):
        with pytest.raises(EventRefused):
            chirpstack.event_of(topic, prefixes)
    for prefix in ("+", "#", "a/b", "eu868\n"):
        with pytest.raises(ValueError, match="prefix"):
            chirpstack.checked_prefix(prefix)


# through real brokers


def wait_for(true: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


class Peer:
    """A client that collects what it subscribed to."""

    def __init__(self, broker: EmbeddedBroker, *topics: str) -> None:
        self.got: list[tuple[str, bytes]] = []
        ready = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _client, _data, message: self.got.append((message.topic, message.payload))
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect(broker.host, broker.port)
        self.client.subscribe([(topic, 1) for topic in topics])
        self.client.loop_start()
        assert ready.wait(5)

    def send(self, topic: str, payload: bytes) -> None:
        self.client.publish(topic, payload, qos=1).wait_for_publish(5)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


NOW = 1_735_700_000.25


@pytest.fixture(scope="module")
def brokers() -> Iterator[tuple[EmbeddedBroker, EmbeddedBroker]]:
    with EmbeddedBroker() as ours, EmbeddedBroker() as theirs:
        yield ours, theirs


@pytest.fixture
def bridge(brokers: tuple[EmbeddedBroker, EmbeddedBroker]) -> Iterator[Bridge]:
    ours, theirs = brokers
    options = ChirpStackOptions(theirs.host, theirs.port, ("eu868", "us915_0"))
    with Bridge(None, mqtt_port=ours.port, clock=lambda: NOW, chirpstack=options) as running:
        yield running


@pytest.fixture
def server(brokers: tuple[EmbeddedBroker, EmbeddedBroker]) -> Iterator[Peer]:
    peer = Peer(brokers[0], "sb/v1/gw/+/up")
    yield peer
    peer.close()


@pytest.fixture
def gateways(brokers: tuple[EmbeddedBroker, EmbeddedBroker]) -> Iterator[Peer]:
    peer = Peer(brokers[1], "+/gateway/+/command/down")
    yield peer
    peer.close()


def test_a_frame_goes_up_and_its_answer_down(bridge: Bridge, server: Peer, gateways: Peer) -> None:
    gateways.send(f"eu868/gateway/{EUI}/event/up", up())
    wait_for(lambda: server.got)
    heard = Uplink.from_message(*server.got[0])
    assert heard == Uplink(FRAME, EUI, -52.0, 13.75, 867_300_000, "SF7BW125", "EU868", bytes((1, 0, 0)) + CONTEXT, NOW)
    route = Route(EUI, heard.context, 867_300_000, "SF7BW125", 14, "EU868")
    server.send(downlink_topic(EUI), Downlink(FRAME, NOW + 4.5, 5000, (route,)).to_bytes())
    wait_for(lambda: gateways.got)
    topic, payload = gateways.got[0]
    assert topic == f"eu868/gateway/{EUI}/command/down"
    command = gw.DownlinkFrame.FromString(payload)
    assert (command.gateway_id, command.items[0].phy_payload) == (EUI, FRAME)
    ack = gw.DownlinkTxAck(
        gateway_id=EUI, downlink_id=command.downlink_id, items=[gw.DownlinkTxAckItem(status=gw.TxAckStatus.OK)]
    )
    gateways.send(f"eu868/gateway/{EUI}/event/ack", ack.SerializeToString())
    wait_for(lambda: bridge.statistics()["transmit_results"] == {"NONE": 1})
    figures = bridge.statistics()["gateways"][EUI]
    assert (figures["uplinks"], figures["downlinks"], figures["reachable"]) == (1, 1, True)
    assert figures["airtime_s"] == pytest.approx(0.0717, abs=0.001)  # Semtech's calculator: 31 bytes at SF7


def test_a_refusal_of_one_gateway_leads_to_the_next(bridge: Bridge, server: Peer, gateways: Peer) -> None:
    for eui in (EUI, OTHER):
        event = json_format.ParseDict(UP, gw.UplinkFrame(), ignore_unknown_fields=True)
        event.rx_info.gateway_id, event.phy_payload = eui, FRAME
        payload = json_format.MessageToJson(event).encode()  # a gateway that is set to JSON
        gateways.send(f"us915_0/gateway/{eui}/event/up", payload)
    wait_for(lambda: len(server.got) == 2)
    contexts = {Uplink.from_message(*message).gateway: Uplink.from_message(*message) for message in server.got}
    assert {heard.region for heard in contexts.values()} == {"US915"}
    routes = tuple(Route(eui, contexts[eui].context, 923_300_000, "SF10BW500", 20, "US915") for eui in (EUI, OTHER))
    server.send(downlink_topic(EUI), Downlink(FRAME, NOW + 4.5, 5000, routes).to_bytes())
    wait_for(lambda: gateways.got)
    first = json.loads(gateways.got[0][1])
    ack = {"gatewayId": EUI, "downlinkId": first["downlinkId"], "items": [{"status": "TOO_LATE"}]}
    gateways.send(f"us915_0/gateway/{EUI}/event/ack", as_json(ack))
    wait_for(lambda: len(gateways.got) == 2)
    topic, payload = gateways.got[1]
    assert topic == f"us915_0/gateway/{OTHER}/command/down"
    assert json.loads(payload)["items"][0]["phyPayload"] == first["items"][0]["phyPayload"]
    assert bridge.statistics()["transmit_results"] == {"TOO_LATE": 1}


def test_what_is_refused_is_counted_and_the_rest_goes_on(bridge: Bridge, server: Peer, gateways: Peer) -> None:
    topic = f"eu868/gateway/{EUI}/event/up"
    gateways.send(topic, up(rx_info__gateway_id=OTHER))
    gateways.send(topic, b"\xff\xff")
    gateways.send(topic, b"{]")
    gateways.send(topic, up(phy_payload=b"\x40" + bytes(20)))  # LoRaWAN
    gateways.send(f"eu868/gateway/{EUI}/event/ack", as_json(ACK))  # of nothing that was asked
    gateways.send(f"eu868/gateway/{EUI}/event/stats", as_json(STATS))
    gateways.send(topic, up())
    wait_for(lambda: server.got)
    assert [Uplink.from_message(*message).frame for message in server.got] == [FRAME]
    assert bridge.statistics()["refused"] == {
        "event_gateway": 1,
        "event_json": 1,
        "event_protobuf": 1,
        "foreign": 1,
        "token": 1,
    }


def test_a_flood_of_one_gateway_takes_nothing_from_another(bridge: Bridge, server: Peer, gateways: Peer) -> None:
    gateways.send(f"eu868/gateway/{OTHER}/event/up", up(rx_info__gateway_id=OTHER))
    for _ in range(1500):
        gateways.client.publish(f"eu868/gateway/{EUI}/event/up", up(phy_payload=b"\xe1" + bytes(40)), qos=0)
    gateways.send(f"eu868/gateway/{OTHER}/event/up", up(rx_info__gateway_id=OTHER, phy_payload=FRAME[::-1]))
    wait_for(lambda: bridge.statistics()["events"] == 1502, 30)
    assert bridge.statistics()["refused"]["rate"] > 300
    assert bridge.statistics()["gateways"][OTHER].get("foreign", 0) == 1  # it was read, though it is no frame of ours


def test_only_gateways_of_the_list_are_served(brokers: tuple[EmbeddedBroker, EmbeddedBroker], gateways: Peer) -> None:
    ours, theirs = brokers
    options = ChirpStackOptions(theirs.host, theirs.port)
    with Bridge(None, mqtt_port=ours.port, allowed={OTHER: None}, chirpstack=options) as bridge:
        gateways.send(f"eu868/gateway/{EUI}/event/up", up())
        wait_for(lambda: bridge.statistics()["refused"] == {"not_allowed": 1})


def test_a_stranger_on_udp_who_names_a_gateway_of_chirpstack_does_not_take_its_downlinks(
    brokers: tuple[EmbeddedBroker, EmbeddedBroker], server: Peer, gateways: Peer
) -> None:
    ours, theirs = brokers
    options = ChirpStackOptions(theirs.host, theirs.port)
    with (
        Bridge(mqtt_port=ours.port, clock=lambda: NOW, chirpstack=options) as bridge,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        stranger.connect(("127.0.0.1", bridge.udp_port))
        stranger.settimeout(5)
        stranger.send(b"\x02\0\0\x02" + bytes.fromhex(EUI))
        assert stranger.recv(100)[3] == 4
        gateways.send(f"eu868/gateway/{EUI}/event/up", up())
        wait_for(lambda: server.got)
        context = Uplink.from_message(*server.got[0]).context
        route = Route(EUI, context, 867_300_000, "SF7BW125", 14, "EU868")
        server.send(downlink_topic(EUI), Downlink(FRAME, NOW + 4.5, 5000, (route,)).to_bytes())
        wait_for(lambda: gateways.got)
        stranger.settimeout(0.2)
        with pytest.raises(TimeoutError):
            stranger.recv(2000)


def test_it_says_which_broker_is_not_there(brokers: tuple[EmbeddedBroker, EmbeddedBroker]) -> None:
    with pytest.raises(BridgeError, match=r"ChirpStack's MQTT broker at 127.0.0.1:1 does not take us"):
        Bridge(None, mqtt_port=brokers[0].port, chirpstack=ChirpStackOptions("127.0.0.1", 1)).start()


def test_reading_messages_loads_no_grpc() -> None:
    import subprocess
    import sys

    code = (
        "from host_tools.gateway import chirpstack; chirpstack.check_installed(); import sys;"
        "print([name for name in sys.modules if name.split('.')[0] in ('grpc', 'requests')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
