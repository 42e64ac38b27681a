"""The packet-forwarder protocol: PROTOCOL.TXT's own examples, and what its datagrams must never do to us.

Examples: github.com/Lora-net/packet_forwarder, PROTOCOL.TXT (protocol version 2), sections 4 and 6.
"""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.gateway import semtech_udp
from host_tools.gateway.semtech_udp import (
    DatagramRefused,
    PullAck,
    PullData,
    PullResp,
    PushAck,
    PushData,
    Rxpk,
    Stat,
    TxAck,
    Txpk,
    decode_downstream,
    decode_upstream,
)

GATEWAY = "aa555a0000000101"
PUSH = bytes.fromhex("02beef00" + GATEWAY)

EXAMPLE_RXPK: list[dict[str, Any]] = [
    {
        "time": "2013-03-31T16:21:17.528002Z",
        "tmst": 3512348611,
        "chan": 2,
        "rfch": 0,
        "freq": 866.349812,
        "stat": 1,
        "modu": "LORA",
        "datr": "SF7BW125",
        "codr": "4/6",
        "rssi": -35,
        "lsnr": 5.1,
        "size": 32,
        "data": "-DS4CGaDCdG+48eJNM3Vai-zDpsR71Pn9CPA9uCON84",
    },
    {
        "time": "2013-03-31T16:21:17.530974Z",
        "tmst": 3512348514,
        "chan": 9,
        "rfch": 1,
        "freq": 869.1,
        "stat": 1,
        "modu": "FSK",
        "datr": 50000,
        "rssi": -75,
        "size": 16,
        "data": "VEVTVF9QQUNLRVRfMTIzNA==",
    },
    {
        "time": "2013-03-31T16:21:17.532038Z",
        "tmst": 3316387610,
        "chan": 0,
        "rfch": 0,
        "freq": 863.00981,
        "stat": 1,
        "modu": "LORA",
        "datr": "SF10BW125",
        "codr": "4/7",
        "rssi": -38,
        "lsnr": 5.5,
        "size": 32,
        "data": "ysgRl452xNLep9S1NTIg2lomKDxUgn3DJ7DE+b00Ass",
    },
]
EXAMPLE_STAT: dict[str, Any] = {
    "time": "2014-01-12 08:59:28 GMT",
    "lati": 46.24000,
    "long": 3.25230,
    "alti": 145,
    "rxnb": 2,
    "rxok": 2,
    "rxfw": 2,
    "ackr": 100.0,
    "dwnb": 2,
    "txnb": 2,
}
EXAMPLE_TXPK: dict[str, Any] = {
    "imme": True,
    "freq": 864.123456,
    "rfch": 0,
    "powe": 14,
    "modu": "LORA",
    "datr": "SF11BW125",
    "codr": "4/6",
    "ipol": False,
    "size": 32,
    "data": "H3P3N2i9qc4yt7rK7ldqoeCVJGBybzPY5h1Dd7P7p8v",
}
GOOD = EXAMPLE_RXPK[2]


def push(root: object) -> PushData:
    message = decode_upstream(PUSH + json.dumps(root).encode())
    assert isinstance(message, PushData)
    return message


def refusal(datagram: bytes, downstream: bool = False) -> str:
    with pytest.raises(DatagramRefused) as refused:
        (decode_downstream if downstream else decode_upstream)(datagram)
    assert refused.value.reason in {"size", "version", "identifier", "json", "shape"}
    return refused.value.reason


def test_the_protocols_uplink_example() -> None:
    message = push({"rxpk": EXAMPLE_RXPK})
    assert (message.token, message.version, message.gateway, message.stat) == (0xBEEF, 2, GATEWAY, None)
    first, third = message.received
    assert message.refused == ("modulation",)  # the FSK packet
    assert (first.tmst_us, first.frequency_hz, first.data_rate, first.coding_rate) == (
        3512348611,
        866_349_812,
        "SF7BW125",
        "4/6",
    )
    assert (first.rssi, first.snr) == (-35, 5.1)
    # the example mixes both alphabets of RFC 4648 and leaves the padding out
    assert first.data == base64.b64decode("+DS4CGaDCdG+48eJNM3Vai+zDpsR71Pn9CPA9uCON84=")
    assert (third.frequency_hz, third.data_rate) == (863_009_810, "SF10BW125")
    assert third.data == base64.b64decode("ysgRl452xNLep9S1NTIg2lomKDxUgn3DJ7DE+b00Ass=")


def test_the_protocols_status_example() -> None:
    assert push({"stat": EXAMPLE_STAT}).stat == Stat(2, 2, 2, 100.0, 2, 2)


def test_the_protocols_downlink_example() -> None:
    datagram = bytes.fromhex("02000003") + json.dumps({"txpk": EXAMPLE_TXPK}).encode()
    message = decode_downstream(datagram)
    assert isinstance(message, PullResp)
    txpk = message.txpk
    assert (txpk.tmst_us, txpk.by_gps, txpk.frequency_hz, txpk.power_dbm) == (None, False, 864_123_456, 14)
    assert (txpk.data_rate, txpk.coding_rate, txpk.invert_iq, txpk.crc) == ("SF11BW125", "4/6", False, True)
    # its last character has bits beyond the 32nd byte, which strict decoders of base64 would not take
    assert txpk.data == base64.b64decode("H3P3N2i9qc4yt7rK7ldqoeCVJGBybzPY5h1Dd7P7p8s=")


def test_the_protocols_fsk_downlink_example_is_refused() -> None:
    txpk = {**EXAMPLE_TXPK, "modu": "FSK", "datr": 50000, "fdev": 3000}
    del txpk["codr"]
    assert refusal(bytes.fromhex("02000003") + json.dumps({"txpk": txpk}).encode(), downstream=True) == "shape"


@pytest.mark.parametrize(
    "body", [b'{"txpk_ack":{"error":"COLLISION_PACKET"}}', b'\0\t{"txpk_ack":{"error":"TOO_LATE"}}']
)
def test_the_protocols_acknowledgement_of_a_downlink(body: bytes) -> None:
    message = decode_upstream(bytes.fromhex("02123405" + GATEWAY) + body)
    assert isinstance(message, TxAck)
    assert message.error in ("COLLISION_PACKET", "TOO_LATE")
    assert (message.token, message.gateway) == (0x1234, GATEWAY)


@pytest.mark.parametrize(
    "body", [b"", b"\0", b'{"txpk_ack":{"error":"NONE"}}', b'{"txpk_ack":{"warn":"TX_POWER","value":20}}']
)
def test_an_acknowledgement_without_an_error_is_a_success(body: bytes) -> None:
    message = decode_upstream(bytes.fromhex("02123405" + GATEWAY) + body)
    assert isinstance(message, TxAck)
    assert message.error == "NONE"


@pytest.mark.parametrize(
    "error",
    ["TOO_LATE", "TOO_EARLY", "COLLISION_PACKET", "COLLISION_BEACON", "TX_FREQ", "TX_POWER", "GPS_UNLOCKED"],
)
def test_every_error_of_the_protocol_is_known(error: str) -> None:
    body = json.dumps({"txpk_ack": {"error": error}}).encode()
    message = decode_upstream(bytes.fromhex("02123405" + GATEWAY) + body)
    assert isinstance(message, TxAck)
    assert message.error == error


def test_what_the_sx1302s_forwarder_adds_is_let_be() -> None:
    """github.com/Lora-net/sx1302_hal, packet_forwarder/PROTOCOL.md, sections 4 and 5."""
    packet = {"jver": 1, "tmms": 1462363677528, "mid": 8, "rssis": -37, "foff": -126, **GOOD}
    message = push({"rxpk": [packet], "stat": {**EXAMPLE_STAT, "temp": 23.2}})
    assert message.refused == ()
    assert message.received == push({"rxpk": [GOOD]}).received
    assert message.stat == Stat(2, 2, 2, 100.0, 2, 2)


def test_headers_are_the_protocols() -> None:
    assert PushAck(0xBEEF, 2).to_bytes() == bytes.fromhex("02beef01")
    assert PullAck(0xBEEF, 1).to_bytes() == bytes.fromhex("01beef04")
    assert PullData(0xBEEF, 2, GATEWAY).to_bytes() == bytes.fromhex("02beef02" + GATEWAY)
    assert TxAck(1, 2, GATEWAY, "TOO_LATE").to_bytes() == bytes.fromhex("02000105" + GATEWAY) + (
        b'{"txpk_ack":{"error":"TOO_LATE"}}'
    )
    assert decode_upstream(PullData(7, 1, GATEWAY).to_bytes()) == PullData(7, 1, GATEWAY)
    assert decode_downstream(PushAck(7, 2).to_bytes()) == PushAck(7, 2)
    assert decode_downstream(PullAck(7, 2).to_bytes()) == PullAck(7, 2)


payloads = st.binary(min_size=1, max_size=255)
frequencies_hz = st.integers(100_000_000, 3_000_000_000)
data_rates = st.builds("SF{}BW{}".format, st.integers(5, 12), st.sampled_from((125, 250, 500)))
coding_rates = st.sampled_from(("4/5", "4/6", "4/7", "4/8"))


@given(
    st.lists(
        st.builds(
            Rxpk,
            payloads,
            st.integers(0, 2**32 - 1),
            frequencies_hz,
            data_rates,
            st.integers(-150, 20).map(float),
            st.integers(-250, 150).map(lambda tenths: tenths / 10),
            coding_rates,
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_our_forwarder_sends_our_bridge_reads(packets: list[Rxpk]) -> None:
    message = PushData(5, 2, GATEWAY, tuple(packets), (), Stat(1, 1, 1, 50.0, 0, 0))
    assert decode_upstream(message.to_bytes()) == message


@given(
    st.builds(
        Txpk,
        data=payloads,
        frequency_hz=frequencies_hz,
        data_rate=data_rates,
        tmst_us=st.none() | st.integers(0, 2**32 - 1),
        power_dbm=st.integers(-20, 30),
        coding_rate=coding_rates,
        invert_iq=st.booleans(),
        preamble_len=st.integers(1, 65535),
        crc=st.booleans(),
    )
)
def test_what_our_bridge_sends_our_forwarder_reads(txpk: Txpk) -> None:
    message = PullResp(5, 2, txpk)
    datagram = message.to_bytes()
    assert len(datagram) <= semtech_udp.SMALL_DATAGRAM_MAX
    assert decode_downstream(datagram) == message


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        pytest.param(b"", "size", id="empty"),
        pytest.param(PUSH[:11], "size", id="header cut short"),
        pytest.param(b"\x03" + PUSH[1:] + b"{}", "version", id="version 3"),
        pytest.param(bytes.fromhex("02beef03" + GATEWAY), "identifier", id="a server's datagram"),
        pytest.param(bytes.fromhex("02beefff" + GATEWAY), "identifier", id="identifier 255"),
        pytest.param(bytes.fromhex("02beef02" + GATEWAY + "00"), "size", id="PULL_DATA with a body"),
        pytest.param(PUSH + b" " * 33_000, "size", id="too long"),
        pytest.param(bytes.fromhex("02beef05" + GATEWAY) + b" " * 1100, "size", id="TX_ACK too long"),
        pytest.param(PUSH, "json", id="no JSON"),
        pytest.param(PUSH + b"[" * 30_000, "json", id="nested arrays"),
        pytest.param(PUSH + b'{"a":' * 2_000, "json", id="nested objects"),
        pytest.param(PUSH + b"[" + b"1," * 15_000 + b"1]", "json", id="many values"),
        pytest.param(PUSH + b'{"rxpk":NaN}', "json", id="NaN"),
        pytest.param(PUSH + b'{"rxpk":[{"freq":-Infinity}]}', "json", id="infinity"),
        pytest.param(PUSH + b'{"rxpk":[{"freq":1e999}]}', "json", id="number beyond a double"),
        pytest.param(PUSH + b'{"rxpk":[{"tmst":' + b"9" * 5_000 + b"}]}", "json", id="number of 5,000 digits"),
        pytest.param(PUSH + b'{"rxpk":[],"rxpk":[]}', "json", id="key twice"),
        pytest.param(PUSH + b'{"rxpk":"\xff"}', "json", id="not UTF-8"),
        pytest.param(PUSH + b'{"stat":{}} {}', "json", id="two documents"),
        pytest.param(PUSH + b"[]", "json", id="an array"),
        pytest.param(PUSH + b"{}", "shape", id="empty object"),
        pytest.param(PUSH + b'{"rxpk":{}}', "shape", id="rxpk is an object"),
        pytest.param(PUSH + json.dumps({"rxpk": [{}] * 65}).encode(), "shape", id="65 packets"),
        pytest.param(bytes.fromhex("02beef05" + GATEWAY) + b'{"txpk_ack":[]}', "shape", id="TX_ACK is an array"),
        pytest.param(
            bytes.fromhex("02beef05" + GATEWAY) + b'{"txpk_ack":{"error":"\\u001b[2J"}}', "shape", id="unknown error"
        ),
    ],
)
def test_hostile_datagrams_are_refused_with_their_reason(datagram: bytes, expected: str) -> None:
    assert refusal(datagram) == expected


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("tmst", -1, "tmst"),
        ("tmst", 2**32, "tmst"),
        ("tmst", 1.5, "tmst"),
        ("tmst", True, "tmst"),
        ("tmst", None, "tmst"),
        ("freq", "868.1", "freq"),
        ("freq", -868.1, "freq"),
        ("freq", 1e300, "freq"),
        ("freq", 2**63, "freq"),
        ("stat", -1, "crc"),
        ("stat", 0, "crc"),
        ("stat", 7, "stat"),
        ("modu", "FSK", "modulation"),
        ("modu", ["LORA"], "modu"),
        ("datr", "SF13BW125", "datr"),
        ("datr", "SF7BW125\n", "datr"),
        ("datr", "SF７BW125", "datr"),
        ("datr", 50000, "datr"),
        ("rssi", "-35", "rssi"),
        ("rssi", 1e6, "rssi"),
        ("lsnr", {}, "lsnr"),
        ("size", 31, "size"),
        ("size", 0, "size"),
        ("size", 256, "size"),
        ("data", 5, "data"),
        ("data", "", "size"),
        ("data", "A" * 43 + "!", "data"),
        ("data", "=" * 43, "data"),
        ("data", "A", "data"),
        ("data", "A" * 30_000, "data"),
        ("data", "\ud800" * 43, "data"),
    ],
)
def test_a_packet_with_a_bad_field_does_not_cost_its_neighbours(field: str, value: object, expected: str) -> None:
    message = push({"rxpk": [GOOD, {**GOOD, field: value}, GOOD]})
    assert message.refused == (expected,)
    assert len(message.received) == 2


@pytest.mark.parametrize("field", ["tmst", "freq", "stat", "modu", "datr", "rssi", "lsnr", "size", "data"])
def test_a_packet_without_a_field_that_is_used_is_refused(field: str) -> None:
    message = push({"rxpk": [{key: value for key, value in GOOD.items() if key != field}]})
    assert (message.received, message.refused) == ((), (field,))


@pytest.mark.parametrize("item", [None, 5, "x", [], [[]]])
def test_a_packet_that_is_no_object_is_refused(item: object) -> None:
    assert push({"rxpk": [item, GOOD]}).refused == ("rxpk",)


def test_fields_that_other_forwarders_add_are_let_be() -> None:
    added = {"jver": 1, "rsig": [{"ant": 0, "chan": 7, "lsnr": 5.5}], "mid": 8, "ftime": None, "foff": -12, "aesk": 0}
    assert len(push({"rxpk": [GOOD | added]}).received) == 1


@pytest.mark.parametrize("stat", [None, [], {"rxnb": -1}, {"rxok": "2"}, {"ackr": 101}, {"txnb": 1e9}])
def test_a_bad_status_does_not_cost_the_packets(stat: object) -> None:
    message = push({"rxpk": [GOOD], "stat": stat})
    assert (len(message.received), message.stat, len(message.refused)) == (1, None, 1)


@given(st.binary(max_size=600), st.sampled_from((b"", PUSH, bytes.fromhex("02000005" + GATEWAY))))
def test_random_datagrams_are_read_or_refused(data: bytes, head: bytes) -> None:
    for decode in (decode_upstream, decode_downstream):
        try:
            decode(head + data)
        except DatagramRefused:
            continue


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(GOOD)) | st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(list(GOOD)), json_values), json_values)
def test_no_json_is_too_strange(fields: dict[str, object], stat: object) -> None:
    try:
        message = push({"rxpk": [GOOD | fields, fields], "stat": stat})
    except DatagramRefused:
        return  # NaN, infinity, integers beyond 64 bits
    assert len(message.received) + len(message.refused) >= 2


@given(st.dictionaries(st.sampled_from([*EXAMPLE_TXPK, "tmst", "prea", "ncrc"]), json_values))
def test_no_downlink_is_too_strange_for_our_forwarder(fields: dict[str, object]) -> None:
    datagram = bytes.fromhex("02000003") + json.dumps({"txpk": EXAMPLE_TXPK | fields}).encode()
    try:
        message = decode_downstream(datagram)
    except DatagramRefused:
        return
    assert isinstance(message, PullResp)
    assert 1 <= len(message.txpk.data) <= 255
