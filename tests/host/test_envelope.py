"""Envelopes between gateway bridge and server: there is one way to write one, and everything else is refused."""

import math

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from host_tools.gateway import envelope
from host_tools.gateway.envelope import Downlink, EnvelopeError, Route, Uplink

GATEWAY = "aa555a0000000101"
CONTEXT = bytes.fromhex("00ffffffff")
UPLINK = Uplink(
    b"\xe3" + bytes(range(19)), GATEWAY, -97.5, 8.25, 868_100_000, "SF7BW125", "EU868", CONTEXT, 1.735689600e9
)
ROUTE = Route(GATEWAY, CONTEXT, 868_300_000, "SF12BW125", 14, "EU868")
OTHER_ROUTE = Route("aa555a0000000102", b"\1" * 20, 923_300_000, "SF10BW500", 27, "US915")
DOWNLINK = Downlink(b"\xe3" + bytes(30), 1.735689605e9, 5000, (ROUTE, OTHER_ROUTE))

frames = st.binary(min_size=12, max_size=254).map(lambda tail: b"\xe1" + tail)
data_rates = st.builds("SF{}BW{}".format, st.integers(5, 12), st.sampled_from((125, 250, 500)))
uplinks = st.builds(
    Uplink,
    frame=frames,
    gateway=st.binary(min_size=8, max_size=8).map(bytes.hex),
    rssi=st.floats(-250, 100),
    snr=st.floats(-100, 100),
    frequency_hz=st.integers(100_000_000, 3_000_000_000),
    data_rate=data_rates,
    region=st.sampled_from(envelope.REGIONS),
    context=st.binary(min_size=1, max_size=envelope.CONTEXT_MAX),
    received_at=st.floats(0, 2**33),
)


def changed(**values: object) -> bytes:
    """UPLINK's map with some values replaced, or left out where the value is Ellipsis."""
    items = cbor2.loads(UPLINK.to_bytes()) | values
    return cbor2.dumps({key: value for key, value in items.items() if value is not ...}, canonical=True)


def reason(data: bytes) -> str:
    with pytest.raises(EnvelopeError) as refusal:
        Uplink.from_bytes(data)
    assert refusal.value.reason in envelope.REASONS
    return refusal.value.reason


def test_an_uplink_is_the_map_that_the_wire_format_names() -> None:
    assert cbor2.loads(UPLINK.to_bytes()) == {
        "frame": UPLINK.frame,
        "gateway": GATEWAY,
        "rssi": -97.5,
        "snr": 8.25,
        "frequency_hz": 868_100_000,
        "data_rate": "SF7BW125",
        "region": "EU868",
        "context": CONTEXT,
        "received_at": 1.7356896e9,
    }


@given(uplinks)
@example(UPLINK)
def test_every_uplink_survives_the_way(uplink: Uplink) -> None:
    data = uplink.to_bytes()
    assert len(data) <= envelope.ENVELOPE_MAX
    assert Uplink.from_bytes(data) == uplink
    assert Uplink.from_message(envelope.uplink_topic(uplink.gateway), data) == uplink


def test_a_downlink_survives_the_way() -> None:
    assert Downlink.from_bytes(DOWNLINK.to_bytes()) == DOWNLINK


@given(st.binary(max_size=envelope.ENVELOPE_MAX + 10))
def test_random_bytes_are_refused(data: bytes) -> None:
    reason(data)


@given(st.integers(0, len(UPLINK.to_bytes()) - 1), st.integers(0, 255))
def test_one_changed_byte_is_refused_or_read_as_written(place: int, byte: int) -> None:
    data = bytearray(UPLINK.to_bytes())
    data[place] = byte
    try:
        uplink = Uplink.from_bytes(bytes(data))
    except EnvelopeError:
        return
    assert uplink.to_bytes() == data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", "cbor", id="empty"),
        pytest.param(bytes(envelope.ENVELOPE_MAX + 1), "size", id="too long"),
        pytest.param(b"\x81" * 600, "cbor", id="nested arrays"),
        pytest.param(b"\xa1\x61a" * 200, "cbor", id="nested maps"),
        pytest.param(bytes.fromhex("bb00ffffffffffffff"), "cbor", id="map that claims 2^56 pairs"),
        pytest.param(bytes.fromhex("5b00ffffffffffffff"), "cbor", id="string that claims 2^56 bytes"),
        pytest.param(cbor2.dumps([1, 2, 3]), "cbor", id="array"),
        pytest.param(UPLINK.to_bytes() + b"\x00", "cbor", id="bytes left over"),
        pytest.param(UPLINK.to_bytes()[:-1], "cbor", id="cut short"),
        pytest.param(cbor2.dumps(cbor2.CBORTag(55799, cbor2.loads(UPLINK.to_bytes()))), "cbor", id="tagged"),
        pytest.param(b"\xb8\x09" + UPLINK.to_bytes()[1:], "cbor", id="length in two bytes"),
        pytest.param(b"\xbf" + UPLINK.to_bytes()[1:] + b"\xff", "cbor", id="indefinite length"),
        pytest.param(cbor2.dumps(dict(reversed(cbor2.loads(UPLINK.to_bytes()).items()))), "cbor", id="unsorted"),
        pytest.param(b"\xaa" + UPLINK.to_bytes()[1:] + b"\x63snr\x00", "cbor", id="key twice"),
        pytest.param(changed(snr=...), "keys", id="key missing"),
        pytest.param(changed(extra=1), "keys", id="key unknown"),
        pytest.param(changed(frame="text"), "type", id="frame is text"),
        pytest.param(changed(frame=b"\xe0" * 12), "frame", id="frame too short"),
        pytest.param(changed(frame=b"\xe0" * 256), "frame", id="frame too long"),
        pytest.param(changed(frame=b"\x40" + bytes(19)), "frame", id="a LoRaWAN uplink"),
        pytest.param(changed(gateway=b"\xaa" * 8), "type", id="gateway is bytes"),
        pytest.param(changed(gateway=GATEWAY.upper()), "range", id="gateway in capitals"),
        pytest.param(changed(gateway="../../x/y/zzzzzz"), "range", id="gateway with slashes"),
        pytest.param(changed(gateway=GATEWAY + "\n"), "range", id="gateway with a line feed"),
        pytest.param(changed(rssi=math.nan), "range", id="NaN"),
        pytest.param(changed(rssi=math.inf), "range", id="infinity"),
        pytest.param(changed(rssi=True), "type", id="boolean for a number"),
        pytest.param(changed(rssi=cbor2.CBORTag(2, b"\xff" * 300)), "range", id="integer beyond a double"),
        pytest.param(changed(rssi=None), "type", id="null"),
        pytest.param(changed(context=b""), "range", id="no context"),
        pytest.param(changed(context=bytes(envelope.CONTEXT_MAX + 1)), "range", id="context too long"),
        pytest.param(changed(context="0"), "type", id="context is text"),
        pytest.param(changed(region="eu868"), "range", id="unknown region"),
        pytest.param(changed(region=868), "type", id="region is a number"),
        pytest.param(changed(frequency_hz=868.1), "type", id="frequency in MHz"),
        pytest.param(changed(data_rate="SF13BW125"), "range", id="spreading factor 13"),
        pytest.param(changed(data_rate=cbor2.CBORTag(35, "(a+)+" * 50)), "type", id="regular expression"),
        pytest.param(changed(received_at=-1.0), "range", id="before 1970"),
    ],
)
def test_what_is_not_an_uplink_is_refused_with_its_reason(data: bytes, expected: str) -> None:
    assert reason(data) == expected


def test_an_uplink_under_another_gateways_topic_is_refused() -> None:
    with pytest.raises(EnvelopeError) as refusal:
        Uplink.from_message(envelope.uplink_topic("aa555a0000000102"), UPLINK.to_bytes())
    assert refusal.value.reason == "topic"


@pytest.mark.parametrize(
    "topic",
    ["", "sb/v1/gw/+/up", f"sb/v1/gw/{GATEWAY}/down", f"sb/v1/gw/{GATEWAY}/up/x", f"sb/v1/gw/{GATEWAY.upper()}/up"],
)
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(EnvelopeError) as refusal:
        Uplink.from_message(topic, UPLINK.to_bytes())
    assert refusal.value.reason == "topic"


def test_a_topic_cannot_be_made_of_a_gateway_with_wildcards() -> None:
    with pytest.raises(EnvelopeError):
        envelope.downlink_topic("+")


def downlink_reason(**values: object) -> str:
    data = cbor2.dumps(cbor2.loads(DOWNLINK.to_bytes()) | values, canonical=True)
    with pytest.raises(EnvelopeError) as refusal:
        Downlink.from_bytes(data)
    return refusal.value.reason


ITEMS = [GATEWAY, CONTEXT, 868_300_000, "SF12BW125", 14, "EU868"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({"routes": [[*ITEMS[:4], 31, "EU868"]]}, "range", id="too much power"),
        pytest.param({"routes": []}, "range", id="no route"),
        pytest.param({"routes": [ITEMS] * 5}, "range", id="five routes"),
        pytest.param({"routes": [ITEMS[:5]]}, "type", id="a route of five items"),
        pytest.param({"routes": [[*ITEMS, 0]]}, "type", id="a route of seven items"),
        pytest.param({"routes": [[[GATEWAY], *ITEMS[1:]]]}, "type", id="an array for a gateway"),
        pytest.param({"routes": [[[[GATEWAY]], *ITEMS[1:]]]}, "cbor", id="nested deeper"),
        pytest.param({"routes": {"0": 1}}, "type", id="a map of routes"),
        pytest.param({"routes": "aaaa"}, "type", id="text for routes"),
        pytest.param({"routes": [["+", *ITEMS[1:]]]}, "range", id="a wildcard for a gateway"),
        pytest.param({"routes": [[*ITEMS[:5], "XX"]]}, "range", id="unknown region"),
        pytest.param({"at": -1.0}, "range", id="before 1970"),
        pytest.param({"at": math.nan}, "range", id="NaN"),
        pytest.param({"delay_ms": 15_001}, "range", id="delay too long"),
        pytest.param({"frame": b"\x60" + bytes(20)}, "frame", id="a LoRaWAN downlink"),
    ],
)
def test_what_is_not_a_downlink_is_refused_with_its_reason(values: dict[str, object], expected: str) -> None:
    assert downlink_reason(**values) == expected


def test_a_downlink_under_another_gateways_topic_is_refused() -> None:
    Downlink.from_message(envelope.downlink_topic(GATEWAY), DOWNLINK.to_bytes())
    with pytest.raises(EnvelopeError) as refusal:
        Downlink.from_message(envelope.downlink_topic(OTHER_ROUTE.gateway), DOWNLINK.to_bytes())
    assert refusal.value.reason == "topic"


def test_the_longest_envelopes_fit() -> None:
    route = Route(GATEWAY, bytes(envelope.CONTEXT_MAX), 3_000_000_000, "SF12BW500", -20, "EU868")
    longest = Downlink(b"\xff" * 255, 2.0**33 - 0.1, 15_000, (route,) * envelope.ROUTES_MAX)
    assert Downlink.from_bytes(longest.to_bytes()) == longest
