"""The device's CBOR against cbor2, on MicroPython: the same values, one encoding, and no input that breaks it."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.micropython import Micropython, MicropythonError

# what a value becomes on its way back through repr: a tag is ("tag", number, value)
SHOWN = """
def shown(value):
    if isinstance(value, cbor.Tag):
        return ("tag", value.number, shown(value.value))
    if isinstance(value, list):
        return [shown(item) for item in value]
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    return value

def made(value):
    if isinstance(value, tuple):
        return cbor.Tag(value[1], made(value[2]))
    if isinstance(value, list):
        return [made(item) for item in value]
    if isinstance(value, dict):
        return {key: made(item) for key, item in value.items()}
    return value
"""

integers = st.one_of(
    st.integers(-(1 << 64), (1 << 64) - 1),
    st.sampled_from(
        [sign * (1 << bits) + off for bits in (0, 8, 16, 32, 63) for sign in (1, -1) for off in (-1, 0, 1)]
    ),
    st.integers(-300, 300),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
keys = st.one_of(integers, st.binary(max_size=40), texts)
leaves = st.one_of(integers, st.binary(max_size=300), texts, st.booleans(), st.none())
# cbor2 gives some tags a meaning; the device gives none of them one
tag_numbers = st.one_of(st.integers(40000, (1 << 64) - 1), st.sampled_from([18, 107]))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=30),
        st.dictionaries(keys, inner, max_size=8),
        st.tuples(st.just("tag"), tag_numbers, inner),
    ),
    max_leaves=30,
)


@pytest.fixture(scope="module")
def device() -> Iterator[Micropython]:
    with Micropython() as micropython:
        micropython.run("from sealband.crypto import cbor")
        micropython.run(SHOWN)
        yield micropython


def depth(value: Any) -> int:
    """How many arrays, maps and tags lie around the innermost value."""
    inner: list[Any]
    if isinstance(value, tuple):
        inner = [value[2]]
    elif isinstance(value, list):
        inner = value
    elif isinstance(value, dict):
        inner = list(value.values())
    else:
        return 0
    return 1 + max(map(depth, inner), default=0)


def expected(value: Any) -> bytes:
    """The deterministic encoding, by cbor2 but for the order of keys: it sorts them by length first (RFC 7049)."""
    if isinstance(value, tuple):
        head = cbor2.dumps(cbor2.CBORTag(value[1], 0))[:-1]
        return head + expected(value[2])
    if isinstance(value, list):
        head = cbor2.dumps([0] * len(value))[: -len(value) or None]
        return head + b"".join(map(expected, value))
    if isinstance(value, dict):
        head = cbor2.dumps(dict.fromkeys(range(len(value))), canonical=True)
        pairs = sorted((cbor2.dumps(key), expected(item)) for key, item in value.items())
        return head[:1] + b"".join(key + item for key, item in pairs)
    return cbor2.dumps(value)


def as_shown(value: Any) -> Any:
    """A value of cbor2 in the form of `shown`."""
    if isinstance(value, cbor2.CBORTag):
        return ("tag", value.tag, as_shown(value.value))
    if isinstance(value, list | tuple):
        return [as_shown(item) for item in value]
    if isinstance(value, Mapping):
        return {key: as_shown(item) for key, item in value.items()}
    return value


@settings(max_examples=400, deadline=None)
@given(value=values)
@example(value={10: 0, 100: 1, -1: 2, "z": 3, "aa": 4, b"": 5})
def test_values_have_one_encoding_and_come_back(device: Micropython, value: Any) -> None:
    data = expected(value)
    assert as_shown(cbor2.loads(data)) == value
    assert device.call(f"cbor.encode(made({value!r}))") == data
    if depth(value) <= 8:
        assert device.call(f"shown(cbor.decode({data!r}))") == value
    else:
        with pytest.raises(MicropythonError, match=r"CborError.*deep"):
            device.call(f"cbor.decode({data!r})")


@settings(max_examples=100, deadline=None)
@given(items=st.lists(leaves, max_size=10))
def test_sequences_come_back(device: Micropython, items: list[Any]) -> None:
    data = b"".join(map(cbor2.dumps, items))
    assert device.call(f"cbor.decode_sequence({data!r})") == items


def read(device: Micropython, data: bytes) -> tuple[bool, Any]:
    try:
        return True, device.call(f"shown(cbor.decode({data!r}))")
    except MicropythonError as refusal:
        if refusal.name != "CborError":
            raise
        return False, None


def check_like_cbor2(device: Micropython, data: bytes) -> None:
    """What the device reads, cbor2 reads as the same; what it reads it would write as the same bytes."""
    accepted, value = read(device, data)
    if not accepted:
        return
    stream = io.BytesIO(data)
    assert as_shown(cbor2.CBORDecoder(stream).decode()) == value
    assert device.call(f"cbor.encode(cbor.decode({data!r}))") == data


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=60))
def test_random_bytes_are_read_rightly_or_refused(device: Micropython, data: bytes) -> None:
    accepted, _ = read(device, data)
    if accepted:
        assert device.call(f"cbor.encode(cbor.decode({data!r}))") == data


@settings(max_examples=400, deadline=None)
@given(value=values, at=st.integers(0, 1 << 20), bits=st.integers(1, 255))
def test_changed_encodings_are_read_rightly_or_refused(device: Micropython, value: Any, at: int, bits: int) -> None:
    data = bytearray(expected(value))
    data[at % len(data)] ^= bits
    accepted, _ = read(device, bytes(data))
    if accepted:
        # so no two inputs are read as the same value
        assert device.call(f"cbor.encode(cbor.decode({bytes(data)!r}))") == bytes(data)


@settings(max_examples=200, deadline=None)
@given(value=values, at=st.integers(0, 1 << 20))
def test_cut_encodings_are_refused(device: Micropython, value: Any, at: int) -> None:
    data = expected(value)
    assert read(device, data[: at % len(data)]) == (False, None)
    assert read(device, data + b"\x00") == (False, None)


@settings(max_examples=200, deadline=None)
@given(value=st.recursive(leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5)))
def test_what_is_accepted_is_what_cbor2_reads(device: Micropython, value: Any) -> None:
    check_like_cbor2(device, expected(value))
    check_like_cbor2(device, cbor2.dumps(value))


@settings(max_examples=150, deadline=None)
@given(text=st.binary(max_size=12))
def test_text_is_utf_8_or_refused(device: Micropython, text: bytes) -> None:
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        assert read(device, bytes([0x60 | len(text)]) + text) == (False, None)
    else:
        assert read(device, bytes([0x60 | len(text)]) + text) == (True, decoded)


@pytest.mark.parametrize("heap", ["32wK", "64wK"])
def test_no_input_exhausts_a_small_heap(heap: str) -> None:
    """The densest input of each kind, 3 kB of it, on a heap where little else would fit."""
    with Micropython(heap=heap) as small:
        small.run("import gc; from sealband.crypto import cbor; gc.collect()")
        for unit in (
            b"\x80",
            b"\xa0",
            b"\x40",
            b"\x60",
            b"\x61a",
            b"\xc0\x80",
            b"\xa1\x00\x80",
            b"\xa1\x00\x1b" + b"\xff" * 8,
        ):
            count = 3000 // len(unit)
            small.run(f"data = b'\\x99' + ({count}).to_bytes(2, 'big') + {unit!r} * {count}")
            with pytest.raises(MicropythonError, match="CborError"):
                small.call("len(cbor.decode(data))")
            with pytest.raises(MicropythonError, match="CborError"):
                small.call("len(cbor.decode_sequence(data[3:]))")
            small.run("data = None; gc.collect()")
        assert small.call("cbor.decode(b'\\x00')") == 0
