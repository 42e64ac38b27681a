# HMAC and HKDF on the device: RFC 4231, RFC 5869, and inputs that are refused.
from sealband.crypto import hkdf

HEAP = "64wK"


def refused(function, *arguments):
    try:
        value = function(*arguments)
    except ValueError:
        return
    raise AssertionError("%r gave %r" % (arguments, value))


def test_hmac_of_rfc_4231():
    assert hkdf.hmac_sha256(b"Jefe", b"what do ya want for nothing?") == bytes.fromhex(
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
    assert hkdf.hmac_sha256(b"\xaa" * 131, b"Test Using Larger Than Block-Size Key - Hash Key First") == bytes.fromhex(
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    )


def test_hkdf_of_rfc_5869_case_1():
    prk = hkdf.extract(bytes(range(13)), b"\x0b" * 22)
    assert prk == bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    assert hkdf.expand(prk, bytes(range(0xF0, 0xFA)), 42) == bytes.fromhex(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_no_salt_is_32_zero_bytes():
    assert hkdf.extract(b"", b"ikm") == hkdf.extract(bytes(32), b"ikm")


def test_buffers_of_every_kind_give_the_same():
    expected = hkdf.hmac_sha256(b"key", b"message")
    assert hkdf.hmac_sha256(bytearray(b"key"), memoryview(b"message")) == expected
    assert hkdf.expand(memoryview(bytes(32)), bytearray(b"info"), 60) == hkdf.expand(bytes(32), b"info", 60)


def test_longest_output_and_no_longer():
    longest = hkdf.expand(bytes(32), b"", 8160)
    assert len(longest) == 8160
    assert hkdf.expand(bytes(32), b"", 1) == longest[:1]
    for length in (8161, 0, -1, 1 << 40, None, "32", 32.0, True):
        refused(hkdf.expand, bytes(32), b"", length)


def test_text_is_not_taken_for_bytes():
    for wrong in ("key", None, 5, [1, 2]):
        refused(hkdf.hmac_sha256, wrong, b"")
        refused(hkdf.hmac_sha256, b"", wrong)
        refused(hkdf.extract, wrong, b"")
        refused(hkdf.extract, b"", wrong)
        refused(hkdf.expand, wrong, b"", 32)
        refused(hkdf.expand, bytes(32), wrong, 32)
