"""Messages as the wire format has them are read; everything else is refused by name, and cheaply."""

import contextlib
import re
import time

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.ingest.decode import (
    INTERVAL_MAX_S,
    TIME_MAX_S,
    VALUE_MAX,
    Event,
    MessageError,
    Receipt,
    Series,
    Status,
    Telemetry,
    UpdateReport,
    decode,
)
from tests.support.frames import vectors
from tests.support.micropython import ROOT


def message(*items):
    return b"".join(cbor2.dumps(item, canonical=True) for item in items)


def test_the_worked_example_of_the_wire_format_is_read():
    text = (ROOT / "device/lib/sealwire/README.md").read_text()
    plaintext = re.search(r"telemetry\.plaintext\s+([0-9a-f]+)", text)
    # the README says in words what these bytes mean: from 2026-11-24T00:00:00Z on
    assert decode(bytes.fromhex(plaintext.group(1))) == Telemetry(
        1795478400 - 1735689600, (Series(1, 10, (72, 73, 71, None, 74)), Series(3, 60, (3312, 3308)))
    )


def test_samples_have_their_own_times():
    read = decode(message(0, 100, [1, 10, 70, None, 2], [3, 0, 3312]))
    assert list(read.samples()) == [(100, 1, 70), (120, 1, 72), (100, 3, 3312)]
    assert read.span() == (100, 120)


def test_a_record_that_nobody_knows_is_kept_by_its_number():
    assert decode(message(0, 1, [200, 5, -7])).series == (Series(200, 5, (-7,)),)


def test_the_other_messages_are_read():
    assert decode(message(1, 9, 2)) == Event(9, 2, ())
    assert decode(message(1, 9, 70, -3, None)) == Event(9, 70, (-3, None))
    fields = {1: 77, 3: bytes(8), 6: 3700, 40: [1, -2], 41: "x"}
    assert decode(message(2, 9, fields)) == Status(9, fields)
    assert decode(message(3, 12, 1, 0)) == UpdateReport(12, 1, 0)
    assert decode(message(4, 65535, 3)) == Receipt(65535, 3)


steps = st.one_of(st.none(), st.integers(-5000, 5000))
series = st.tuples(
    st.integers(1, 255), st.integers(1, 3600), st.integers(-(10**6), 10**6), st.lists(steps, max_size=20)
)


@given(st.integers(0, 10**9), st.lists(series, min_size=1, max_size=3))
def test_differences_add_up_to_values(t0, told):
    read = decode(message(0, t0, *([record, interval, first, *rest] for record, interval, first, rest in told)))
    assert read.t0 == t0
    for one, (record, interval, first, rest) in zip(read.series, told, strict=True):
        expected, last = [first], first
        for step in rest:
            last = last if step is None else last + step
            expected.append(None if step is None else last)
        assert (one.record, one.interval_s, list(one.values)) == (record, interval, expected)


MALFORMED = {
    "empty": b"",
    "only a type": message(0),
    "telemetry without series": message(0, 1),
    "unknown type": message(5, 1),
    "downlink type": message(16, 1, 1, 0, 0),
    "type is negative": message(-1, 1),
    "type is true": message(True, 1, [1, 1, 1]),
    "type is text": message("0", 1),
    "time is negative": message(0, -1, [1, 1, 1]),
    "time after 2161": message(0, TIME_MAX_S + 1, [1, 1, 1]),
    "time is null": message(0, None, [1, 1, 1]),
    "time is a float": message(0, 1.5, [1, 1, 1]),
    "series is a number": message(0, 1, 1),
    "series is empty": message(0, 1, []),
    "series without value": message(0, 1, [1, 1]),
    "series begins with null": message(0, 1, [1, 1, None, 5]),
    "record 0": message(0, 1, [0, 1, 1]),
    "record 256": message(0, 1, [256, 1, 1]),
    "record is true": message(0, 1, [True, 1, 1]),
    "interval is negative": message(0, 1, [1, -1, 1]),
    "interval longer than a week": message(0, 1, [1, INTERVAL_MAX_S + 1, 1]),
    "several samples at one time": message(0, 1, [1, 0, 1, 1]),
    "samples run past the last time": message(0, TIME_MAX_S, [1, 1, 1, 1]),
    "value too large": message(0, 1, [1, 1, VALUE_MAX + 1]),
    "values add up to too much": message(0, 1, [1, 1, VALUE_MAX, 1]),
    "value of 64 bits": message(0, 1, [1, 1, 2**64 - 1]),
    "value is text": message(0, 1, [1, 1, "=1+1"]),
    "value is a list": message(0, 1, [1, 1, [1]]),
    "value is true": message(0, 1, [1, 1, True]),
    "event without id": message(1, 1),
    "event 0": message(1, 1, 0),
    "event value is text": message(1, 1, 1, "x"),
    "event with 17 values": message(1, 1, 1, *range(17)),
    "status is no map": message(2, 1, [1]),
    "status with something behind": message(2, 1, {}, 1),
    "status key is text": message(2, 1, {"a": 1}),
    "status digest of 7 bytes": message(2, 1, {3: bytes(7)}),
    "status battery is text": message(2, 1, {6: "full"}),
    "status consent is a number": message(2, 1, {12: 3}),
    "status consent to record 0": message(2, 1, {12: bytes((1, 0))}),
    "status charge is a number": message(2, 1, {13: 3}),
    "status charge of a part alone": message(2, 1, {13: [[1]]}),
    "status charge below zero": message(2, 1, {13: [[1, -1]]}),
    "status charge of text": message(2, 1, {13: [["lora", 1]]}),
    "update report cut short": message(3, 1, 1),
    "receipt for counter 65536": message(4, 65536, 0),
    "receipt with something behind": message(4, 1, 0, 0),
    # CBOR that another decoder would take
    "number not in its shortest form": bytes.fromhex("001801830101 01"),
    "map keys out of order": message(2, 1) + bytes.fromhex("a2 02 00 01 00"),
    "map key twice": message(2, 1) + bytes.fromhex("a2 01 00 01 00"),
    "indefinite array": message(0, 1) + bytes.fromhex("9f010101ff"),
    "indefinite text": message(2, 1) + bytes.fromhex("a1 01 7f6161ff"),
    "invalid UTF-8": message(2, 1) + bytes.fromhex("a1 1828 62c328"),
    "undefined": message(0, 1, [1, 1, 1]) + bytes.fromhex("f7"),
    "simple value": message(0, 1) + bytes.fromhex("830101e0"),
    "half float": message(0, 1) + bytes.fromhex("830101f93c00"),
    "cut in an integer": bytes.fromhex("0019"),
    "cut in an array": message(0, 1) + bytes.fromhex("840101"),
    "reserved length": bytes.fromhex("001c"),
    "break alone": bytes.fromhex("00ff"),
    "longer than a frame": message(0, 1, [1, 1, *range(300)]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_message_is_refused(name):
    with pytest.raises(MessageError):
        decode(MALFORMED[name])


BOMBS = {
    "array of 2^64 items": "00019bffffffffffffffff",
    "map of 2^32 pairs": "0201baffffffff",
    "map whose pairs overflow a word": "0201bb8000000000000000",
    "byte string of 2^63 bytes": "02015b7fffffffffffffff",
    "text of 4 GB": "02017affffffff",
    "240 arrays in each other": "00" + "81" * 240,
    "240 maps in each other": "00" + "a100" * 120,
    "big number of 200 bytes": "0001830101c258c8" + "ff" * 200,
    "decimal fraction with a huge exponent": "0001830101c4821b7fffffffffffffff01",
    "big float with a huge exponent": "0001830101c5821b7fffffffffffffff03",
    "array that holds itself": "0001d81c81d81d00",
    "regular expression that runs for ever": "0001830101d8236a28612b292b2462" + "616161",
    "date": "0001830101c074323032362d30312d30315430303a30303a30305a",
    "embedded CBOR": "0001830101d8184100",
    "rational with zero below": "0001830101d81e820100",
}


@pytest.mark.parametrize("name", BOMBS)
def test_cbor_bomb_is_refused_before_it_costs_anything(name):
    data = bytes.fromhex(BOMBS[name])
    started = time.perf_counter()
    with pytest.raises(MessageError, match=r"cut short|deeper|a tag"):  # by the walk, before the library sees it
        decode(data)
    assert time.perf_counter() - started < 0.05


@given(st.binary(max_size=242))
def test_any_bytes_are_read_or_refused(data):
    try:
        read = decode(data)
    except MessageError:
        return
    assert read.TYPE == data[0]


@given(st.binary(max_size=40))
def test_any_series_is_read_or_refused(data):
    try:
        read = decode(b"\x00\x01" + data)
    except MessageError:
        return
    assert isinstance(read, Telemetry)
    assert all(abs(value) <= VALUE_MAX for _, _, value in read.samples())


def test_the_plaintexts_of_the_check_values_do_no_harm():
    # they are bytes to seal, not messages; one of them ends inside a float
    for frame in vectors()["frames"]:
        with contextlib.suppress(MessageError):
            decode(bytes.fromhex(frame["plaintext"]))


def test_an_error_never_repeats_what_the_wearer_sent():
    with pytest.raises(MessageError) as refused:
        decode(message(0, 1, [1, 1, "planted-secret"]))
    assert "planted" not in str(refused.value)
