# CBOR on the device: RFC 8949's examples both ways, and everything that must be refused by name.
from sealband.crypto.cbor import CborError, Tag, decode, decode_sequence, encode

HEAP = "64wK"

# RFC 8949 appendix A: what has one deterministic encoding and is used here
EXAMPLES = (
    ("00", 0),
    ("01", 1),
    ("0a", 10),
    ("17", 23),
    ("1818", 24),
    ("1819", 25),
    ("1864", 100),
    ("1903e8", 1000),
    ("1a000f4240", 1000000),
    ("1b000000e8d4a51000", 1000000000000),
    ("1bffffffffffffffff", 18446744073709551615),
    ("c249010000000000000000", Tag(2, b"\x01" + bytes(8))),
    ("3bffffffffffffffff", -18446744073709551616),
    ("c349010000000000000000", Tag(3, b"\x01" + bytes(8))),
    ("20", -1),
    ("29", -10),
    ("3863", -100),
    ("3903e7", -1000),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("c074323031332d30332d32315432303a30343a30305a", Tag(0, "2013-03-21T20:04:00Z")),
    ("c11a514b67b0", Tag(1, 1363896240)),
    ("d74401020304", Tag(23, b"\x01\x02\x03\x04")),
    ("d818456449455446", Tag(24, b"dIETF")),
    ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", Tag(32, "http://www.example.com")),
    ("40", b""),
    ("4401020304", b"\x01\x02\x03\x04"),
    ("60", ""),
    ("6161", "a"),
    ("6449455446", "IETF"),
    ("62225c", '"\\'),
    ("62c3bc", "\u00fc"),
    ("63e6b0b4", "\u6c34"),
    ("64f0908591", "\U00010151"),
    ("80", []),
    ("83010203", [1, 2, 3]),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", list(range(1, 26))),
    ("a0", {}),
    ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("826161a161626163", ["a", {"b": "c"}]),
    ("a56161614161626142616361436164614461656145", {"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}),
)

# RFC 8949 appendix A: floats, undefined, simple values and indefinite lengths, which are not used here
UNUSED = (
    "f90000 f98000 f93c00 fb3ff199999999999a f93e00 f97bff fa47c35000 fa7f7fffff fb7e37e43c8800759c f90001 f90400"
    " f9c400 fbc010666666666666 f97c00 f97e00 f9fc00 fa7f800000 fa7fc00000 faff800000 fb7ff0000000000000"
    " fb7ff8000000000000 fbfff0000000000000 f7 f0 f8ff c1fb41d452d9e8200000 5f42010243030405ff"
    " 7f657374726561646d696e67ff 9fff 9f018202039f0405ffff 9f01820203820405ff 83018202039f0405ff 83019f0203ff820405"
    " 9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff bf61610161629f0203ffff 826161bf61626163ff"
    " bf6346756ef563416d7421ff"
)

# RFC 8949 appendix F.1: not well-formed
BROKEN = (
    # end of input in a head
    "18 19 1a 1b 1901 1a0102 1b01020304050607 38 58 78 98 9a01ff00 b8 d8 f8 f900 fa0000 fb000000"
    # definite length strings with short data
    " 41 61 5affffffff00 5bffffffffffffffff010203 7affffffff00 7b7fffffffffffffff010203"
    # definite length maps and arrays not closed with enough items
    " 81 818181818181818181 8200 a1 a20102 a100 a2000000"
    # tag number not followed by content
    " c0"
    # indefinite length strings not closed by a break
    " 5f4100 7f6100"
    # indefinite length maps and arrays not closed by a break
    " 9f 9f0102 bf bf01020102 819f 9f8000 9f9f9f9f9fffffffff 9f819f819f9fffffff"
    # reserved additional information
    " 1c 1d 1e 3c 3d 3e 5c 5d 5e 7c 7d 7e 9c 9d 9e bc bd be dc dd de fc fd fe"
    # reserved two-byte simple values
    " f800 f801 f818 f81f"
    # indefinite length string chunks of the wrong type, and not definite
    " 5f00ff 5f21ff 5f6100ff 5f80ff 5fa0ff 5fc000ff 5fe0ff 7f4100ff 5f5f4100ffff 7f7f6100ffff"
    # break on its own and where an item should be
    " ff 81ff 8200ff a1ff a1ff00 a100ff a20000ff 9f81ff 9f829f819f9fffffffff bf00ff bf000000ff"
    # major types 0, 1, 6 with additional information 31
    " 1f 3f df"
)


def refused(data, *limits):
    try:
        value = decode(data, *limits)
    except CborError as error:
        return str(error)
    raise AssertionError("%r was read as %r" % (data, value))


def not_encoded(value):
    try:
        data = encode(value)
    except CborError as error:
        return str(error)
    raise AssertionError("%r was written as %r" % (value, data))


def same(a, b):
    return type(a) is type(b) and a == b


def test_examples_of_rfc_8949_are_read_and_written():
    for text, value in EXAMPLES:
        data = bytes.fromhex(text)
        assert same(decode(data), value), text
        assert encode(value) == data, text


def test_buffers_of_every_kind_are_read_and_written():
    assert decode(bytearray(b"\x83\x01\x02\x03")) == decode(memoryview(b"\x83\x01\x02\x03")) == [1, 2, 3]
    assert encode(bytearray(b"ab")) == encode(memoryview(b"ab")) == encode(b"ab") == b"\x42ab"
    assert encode((1, 2)) == encode([1, 2]) == b"\x82\x01\x02"


def test_unused_examples_of_rfc_8949_are_refused():
    for text in UNUSED.split():
        refused(bytes.fromhex(text))


def test_what_is_not_well_formed_is_refused():
    for text in BROKEN.split():
        refused(bytes.fromhex(text))


def test_reasons_are_named():
    assert "float" in refused(b"\xf9\x00\x00")
    assert "undefined" in refused(b"\xf7")
    assert "simple" in refused(b"\xf8\xff")
    assert "indefinite" in refused(b"\x9f\xff")
    assert "shortest" in refused(b"\x18\x17")
    assert "after" in refused(b"\x00\x00")
    assert "UTF-8" in refused(b"\x61\xff")
    assert "order" in refused(b"\xa2\x02\x00\x01\x00")
    assert "twice" in refused(b"\xa2\x01\x00\x01\x00")
    assert "deep" in refused(b"\x81" * 9 + b"\x00")
    assert "promised" in refused(b"\x5a\x00\x01\x00\x00")


def test_integers_longer_than_needed_are_refused_in_every_head():
    for major in (0x00, 0x20, 0x40, 0x60, 0x80, 0xA0, 0xC0):
        for head in (
            "1800",
            "1817",
            "190000",
            "1900ff",
            "1a00000000",
            "1a0000ffff",
            "1b0000000000000000",
            "1b00000000ffffffff",
        ):
            data = bytearray(bytes.fromhex(head))
            data[0] |= major
            assert "shortest" in refused(bytes(data) + bytes(300)), head


def test_text_that_is_not_utf_8_is_refused():
    # lone continuation, overlong forms, surrogates, past U+10FFFF, cut short, impossible bytes
    for text in (
        "80 bf c080 c1bf e08080 e09fbf f0808080 f08fbfbf eda080 edbfbf f4908080 f5808080 f88888888880 fe ff c3 e6b0"
        " f09085 c328 e28228 e228a1 f0288cbc f09028bc 61c3 c3c3bc".split()
    ):
        data = bytes.fromhex(text)
        assert "UTF-8" in refused(bytes((0x60 | len(data),)) + data), text
    assert "UTF-8" in not_encoded("a\ud800")
    for text in ("\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"):
        assert decode(encode(text)) == text


def test_huge_claimed_lengths_allocate_nothing():
    for major in (0x40, 0x60, 0x80, 0xA0):
        for size in ("1901ff", "1a00ffffff", "1affffffff", "1b00ffffffffffffff", "1bffffffffffffffff"):
            data = bytearray(bytes.fromhex(size))
            data[0] |= major
            refused(bytes(data))
            refused(b"\x82\x00" + bytes(data))
            refused(bytes(data) + bytes(100))


def test_nesting_is_bounded_whatever_it_is_made_of():
    assert decode(b"\x81" * 8 + b"\x00") == [[[[[[[[0]]]]]]]]
    for head in (b"\x81", b"\xc1", b"\xa1\x00", b"\x82\x00"):
        assert "deep" in refused(head * 9 + b"\x00")
        assert "deep" in refused(head * 2000 + b"\x00")
    assert "deep" in refused(b"\x81\x00", 0)
    deep = 0
    for _ in range(100):
        deep = [deep]
    assert "deep" in not_encoded(deep)
    loop = []
    loop.append(loop)
    assert "deep" in not_encoded(loop)


def test_number_of_items_is_bounded_before_they_are_made():
    assert "many" in refused(b"\x99\x02\x00" + b"\x80" * 512)
    assert len(decode(b"\x99\x01\xff" + b"\x80" * 511)) == 511
    assert "many" in refused(b"\x83\x01\x02\x03", 8, 3)
    assert "many" in refused(b"\x82\x82\x01\x02\x00", 8, 4)
    assert "many" in refused(b"\x99\x17\x70" + b"\x80" * 6000)
    try:
        decode_sequence(b"\x80" * 6000)
    except CborError as error:
        assert "many" in str(error)
    else:
        raise AssertionError("6,000 items were read")


def test_heap_or_stack_too_small_for_what_was_allowed_is_a_refusal():
    assert "memory" in refused(b"\x99\x17\x70" + b"\x80" * 6000, 8, 1 << 20)
    assert "deep" in refused(b"\x81" * 6000 + b"\x00", 1 << 20, 1 << 20)
    assert decode(b"\x00") == 0


def test_map_keys_are_in_bytewise_order_and_of_plain_types():
    keys = (10, 100, -1, b"", b"z", "z", "aa")
    value = {}
    for key in (3, 0, 6, 2, 5, 1, 4):
        value[keys[key]] = key
    data = encode(value)
    # RFC 8949 section 4.2.1: 10, 100, -1, then strings by length
    assert data == bytes.fromhex("a7 0a00 186401 2002 4003 417a04 617a05 62616106".replace(" ", ""))
    assert decode(data) == value
    # RFC 7049's older order, shorter keys first, is another encoding of the same map
    assert "order" in refused(bytes.fromhex("a2 2002 186401".replace(" ", "")))
    for key in ("80", "a0", "f5", "f6", "c100"):
        assert "key" in refused(bytes.fromhex("a1" + key + "00"))
    for key in (None, True, (1, 2), 1.5):
        assert "key" in not_encoded({key: 0})


def test_values_without_an_encoding_are_refused():
    for value in (
        1.5,
        object(),
        {1, 2},
        1 << 64,
        -(1 << 64) - 1,
        Tag(-1, 0),
        Tag(1 << 64, 0),
        Tag("a", 0),
        Tag(True, 0),
        CborError,
    ):
        not_encoded(value)
        not_encoded([0, value])
    for data in (None, "a", 5, [1], 1.5):
        assert "instead of bytes" in refused(data)


def test_sequence_is_read_whole_or_not_at_all():
    assert decode_sequence(b"") == []
    assert decode_sequence(b"\x00\x81\x01\x61a") == [0, [1], "a"]
    for data in (b"\x00\x81", b"\x00\xff", b"\x00\x18\x01", b"\x00\x61"):
        try:
            decode_sequence(data)
        except CborError:
            continue
        raise AssertionError("%r was read" % data)


def test_empty_input_is_no_item():
    refused(b"")
