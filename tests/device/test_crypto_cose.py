# COSE_Sign1 on the device: RFC 9052's example, and what must be refused though its signature might be right.
from hashlib import sha256

from sealband.crypto import cbor, cose, p256
from sealband.crypto.cbor import Tag

HEAP = "64wK"

# RFC 9052 appendix C.2.1, key "11" of appendix C.7.1
EXAMPLE = bytes.fromhex(
    "d28443a10126a10442313154546869732069732074686520636f6e74656e742e58408eb33e4ca31d1c465ab05aac34cc6b23d58fef5c0831"
    "06c4d25a91aef0b0117e2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36"
)
EXAMPLE_PUBLIC = bytes.fromhex(
    "04bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff"
    "20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e"
)
PRIVATE = bytes.fromhex("57c92077664146e876760c9520d054aa93c3afb04e306705db6090308507b4d3")
PAYLOAD = b"payload"
ESP256 = b"\xa1\x01\x28"


def refused(function, *arguments, **named):
    try:
        value = function(*arguments, **named)
    except cose.CoseError as error:
        return str(error)
    raise AssertionError("%r gave %r" % (arguments, value))


# a message that is rightly signed, whatever its headers are
def signed(protected, unprotected, payload=PAYLOAD):
    structure = cbor.encode(["Signature1", protected, b"", payload])
    signature = p256.sign(PRIVATE, sha256(structure).digest())
    return cbor.encode(Tag(18, [protected, unprotected, payload, signature]))


def test_example_of_rfc_9052_is_verified():
    assert p256.public_key(PRIVATE) == EXAMPLE_PUBLIC
    assert cose.verify1(EXAMPLE_PUBLIC, EXAMPLE) == b"This is the content."
    message = cose.parse1(EXAMPLE)
    assert message.kid == b"11"
    assert message.protected == b"\xa1\x01\x26"
    assert message.verify(EXAMPLE_PUBLIC) is True


def test_sig_structure_is_that_of_rfc_9052():
    assert cose.sig_structure(b"\xa1\x01\x26", b"This is the content.") == bytes.fromhex(
        "846a5369676e61747572653143a101264054546869732069732074686520636f6e74656e742e"
    )


def test_signed_message_is_verified_with_either_algorithm():
    for protected in (b"\xa1\x01\x28", b"\xa1\x01\x26"):
        data = cose.sign1(PRIVATE, PAYLOAD, protected, b"aad")
        assert data[:5] == b"\xd2\x84\x43\xa1\x01"
        assert cose.verify1(EXAMPLE_PUBLIC, data, b"aad") == PAYLOAD
        assert "match" in refused(cose.verify1, EXAMPLE_PUBLIC, data)
        assert "match" in refused(cose.verify1, EXAMPLE_PUBLIC, data, b"add")
    assert cose.verify1(EXAMPLE_PUBLIC, cose.sign1(PRIVATE, b"")) == b""


def test_detached_payload_is_signed_and_left_out():
    data = cose.sign1(PRIVATE, PAYLOAD, detached=True, unprotected={4: b"12345678"})
    assert PAYLOAD not in data
    message = cose.parse1(data)
    assert message.kid == b"12345678" and message.payload is None
    assert message.verify(EXAMPLE_PUBLIC, PAYLOAD) is True
    assert message.verify(EXAMPLE_PUBLIC, b"another") is False
    assert "detached" in refused(cose.verify1, EXAMPLE_PUBLIC, data)
    refused(message.verify, EXAMPLE_PUBLIC)
    refused(cose.parse1(signed(ESP256, {})).verify, EXAMPLE_PUBLIC, PAYLOAD)


def test_every_changed_byte_is_noticed():
    data = cose.sign1(PRIVATE, PAYLOAD)
    for at in range(len(data)):
        forged = bytearray(data)
        forged[at] ^= 1
        refused(cose.verify1, EXAMPLE_PUBLIC, bytes(forged))


def test_signature_by_another_key_is_refused():
    other = bytes(31) + b"\x05"
    assert "match" in refused(cose.verify1, p256.public_key(other), cose.sign1(PRIVATE, PAYLOAD))
    assert "match" in refused(cose.verify1, bytes(65), cose.sign1(PRIVATE, PAYLOAD))


def test_headers_that_are_not_known_are_refused_though_signed():
    assert cose.verify1(EXAMPLE_PUBLIC, signed(ESP256, {})) == PAYLOAD
    for protected, unprotected in (
        (b"", {}),  # no algorithm
        (b"\xa0", {}),
        (b"\xa0", {1: -9}),  # an algorithm that is not protected
        (b"\xa1\x01\x27", {}),  # EdDSA
        (b"\xa1\x01\x05", {}),  # HMAC
        (b"\xa1\x01\x38\x22", {}),  # ES384
        (b"\xa1\x01\x65ES256", {}),
        (b"\xa1\x01\xf6", {}),
        (ESP256, {1: -9}),
        (ESP256, {2: [1]}),  # crit
        (b"\xa2\x01\x28\x02\x81\x01", {}),
        (b"\xa2\x01\x28\x03\x00", {}),
        (ESP256, {4: "text"}),
        (ESP256, {4: None}),
        (ESP256, {4: bytes(33)}),
        (ESP256, {"4": b"kid"}),
        (b"\xa2\x01\x28\x04\x41a", {4: b"b"}),  # key id twice
        (b"\xa2\x04\x41a\x01\x28", {}),  # not in order
        (b"\xbf\x01\x28\xff", {}),  # indefinite
        (b"\xa1\x01\x28\x00", {}),
        (b"\x80", {}),
        (b"\x28", {}),
    ):
        refused(cose.verify1, EXAMPLE_PUBLIC, signed(protected, unprotected))
    assert cose.parse1(signed(b"\xa2\x01\x28\x04\x41a", {})).kid == b"a"


def test_what_is_no_message_is_refused():
    good = cbor.decode(cose.sign1(PRIVATE, PAYLOAD)).value
    assert cose.verify1(EXAMPLE_PUBLIC, cbor.encode(Tag(18, good))) == PAYLOAD
    for value in (
        good,  # without its tag
        Tag(17, good),
        Tag(98, good),
        Tag(18, Tag(18, good)),
        Tag(18, good[:3]),
        Tag(18, good + [0]),
        Tag(18, {0: 0}),
        Tag(18, PAYLOAD),
        Tag(18, [{1: -9}] + good[1:]),
        Tag(18, [good[0], []] + good[2:]),
        Tag(18, [good[0], None] + good[2:]),
        Tag(18, [good[0], {}, "payload", good[3]]),
        Tag(18, [good[0], {}, False, good[3]]),
        Tag(18, [good[0], {}, PAYLOAD, good[3][:63]]),
        Tag(18, [good[0], {}, PAYLOAD, good[3] + b"\0"]),
        Tag(18, [good[0], {}, PAYLOAD, None]),
        Tag(18, [good[0], {}, PAYLOAD, bytes(64)]),
    ):
        refused(cose.verify1, EXAMPLE_PUBLIC, cbor.encode(value))
    for data in (b"", b"\xd2", b"\xd2\x84", EXAMPLE + b"\0", EXAMPLE[:-1], None, "text", 5):
        refused(cose.verify1, EXAMPLE_PUBLIC, data)


def test_what_would_be_refused_is_not_written():
    for protected in (b"", b"\xa0", b"\xa1\x01\x27", b"\xff", None, "text"):
        refused(cose.sign1, PRIVATE, PAYLOAD, protected)
    refused(cose.sign1, PRIVATE, "text")
    refused(cose.sign1, PRIVATE, None)
    refused(cose.sign1, PRIVATE, PAYLOAD, ESP256, "aad")
    refused(cose.sign1, PRIVATE, PAYLOAD, unprotected={1: -9})
