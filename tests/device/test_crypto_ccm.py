# AES-CCM on the device: the examples of SP 800-38C and RFC 3610, and every way of not accepting a forgery.
from array import array

from sealband.crypto import ccm

HEAP = "64wK"
KEY = bytes(range(0x40, 0x50))
NONCE = bytes(range(0x10, 0x1D))


def refused(function, *arguments):
    try:
        value = function(*arguments)
    except ccm.AuthError:
        return "AuthError"
    except ValueError:
        return "ValueError"
    raise AssertionError("%r gave %r" % (arguments, value))


def test_examples_of_sp_800_38c_appendix_c():
    for nonce, aad, plaintext, tag_len, sealed in (
        ("10111213141516", "0001020304050607", "20212223", 4, "7162015b4dac255d"),
        (
            "1011121314151617",
            "000102030405060708090a0b0c0d0e0f",
            "202122232425262728292a2b2c2d2e2f",
            6,
            "d2a1f0e051ea5f62081a7792073d593d1fc64fbfaccd",
        ),
        (
            "101112131415161718191a1b",
            "000102030405060708090a0b0c0d0e0f10111213",
            "202122232425262728292a2b2c2d2e2f3031323334353637",
            8,
            "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951",
        ),
    ):
        nonce, aad, plaintext, sealed = (bytes.fromhex(text) for text in (nonce, aad, plaintext, sealed))
        assert ccm.encrypt(KEY, nonce, plaintext, aad, tag_len) == sealed
        assert ccm.decrypt(KEY, nonce, sealed, aad, tag_len) == plaintext


def test_packet_vector_1_of_rfc_3610():
    key = bytes.fromhex("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf")
    nonce = bytes.fromhex("00000003020100a0a1a2a3a4a5")
    sealed = bytes.fromhex("588c979a61c663d2f066d0c2c0f989806d5f6b61dac38417e8d12cfdf926e0")
    assert ccm.encrypt(key, nonce, bytes(range(8, 31)), bytes(range(8))) == sealed
    assert ccm.decrypt(key, nonce, sealed, bytes(range(8))) == bytes(range(8, 31))


def test_every_changed_bit_is_noticed():
    plaintext, aad = b"heart rate 71", b"associated"
    sealed = ccm.encrypt(KEY, NONCE, plaintext, aad)
    for i in range(8 * len(sealed)):
        forged = bytearray(sealed)
        forged[i >> 3] ^= 1 << (i & 7)
        assert refused(ccm.decrypt, KEY, NONCE, bytes(forged), aad) == "AuthError"
    for i in range(8 * len(aad)):
        forged = bytearray(aad)
        forged[i >> 3] ^= 1 << (i & 7)
        assert refused(ccm.decrypt, KEY, NONCE, sealed, bytes(forged)) == "AuthError"
    for i in range(8 * 13):
        forged = bytearray(NONCE)
        forged[i >> 3] ^= 1 << (i & 7)
        assert refused(ccm.decrypt, KEY, bytes(forged), sealed, aad) == "AuthError"


def test_truncated_tag_is_refused():
    sealed = ccm.encrypt(KEY, NONCE, b"heart rate 71", b"", 8)
    for n in range(len(sealed)):
        assert refused(ccm.decrypt, KEY, NONCE, sealed[:n], b"", 8) == "AuthError"
    # the tag length is part of what the tag covers
    for tag_len in (4, 6, 10, 12, 14, 16):
        assert refused(ccm.decrypt, KEY, NONCE, sealed, b"", tag_len) == "AuthError"
    assert refused(ccm.decrypt, KEY, NONCE, sealed[:-4], b"", 4) == "AuthError"


def test_where_text_and_associated_data_meet_is_covered():
    sealed = ccm.encrypt(KEY, NONCE, b"", b"ab\x00")
    for aad in (b"ab", b"ab\x00\x00", b"b\x00", b""):
        assert refused(ccm.decrypt, KEY, NONCE, sealed, aad) == "AuthError"


def test_nothing_to_seal_is_still_authenticated():
    for aad in (b"", b"a", bytes(100)):
        sealed = ccm.encrypt(KEY, NONCE, b"", aad)
        assert len(sealed) == 8
        assert ccm.decrypt(KEY, NONCE, sealed, aad) == b""
        assert refused(ccm.decrypt, KEY, NONCE, bytes(8), aad) == "AuthError"


def test_wrong_lengths_and_types_are_refused_by_name():
    good = (KEY, NONCE, bytes(20), b"aad", 8)
    for at, wrong in (
        (0, (b"", bytes(15), bytes(17), bytes(24), bytes(31), bytes(33), "k" * 16, None, 16, [0] * 16)),
        (1, (b"", bytes(6), bytes(14), bytes(16), "n" * 13, None, 13, array("H", [0] * 7))),
        (2, ("text", None, 20, [1, 2])),
        (3, ("aad", None, 3, [1, 2])),
        (4, (0, 1, 2, 3, 5, 7, 9, 15, 17, 18, -8, 255, None, "8", 8.0, True)),
    ):
        for value in wrong:
            arguments = list(good)
            arguments[at] = value
            assert refused(ccm.encrypt, *arguments) == "ValueError"
            assert refused(ccm.decrypt, *arguments) == "ValueError"


def test_buffers_of_every_kind_give_the_same():
    sealed = ccm.encrypt(KEY, NONCE, b"plaintext", b"aad")
    for kind in (bytearray, memoryview):
        assert ccm.encrypt(kind(KEY), kind(NONCE), kind(b"plaintext"), kind(b"aad")) == sealed
        assert ccm.decrypt(kind(KEY), kind(NONCE), kind(sealed), kind(b"aad")) == b"plaintext"
        plaintext = ccm.decrypt(kind(KEY), kind(NONCE), kind(sealed), kind(b"aad"))
        assert isinstance(sealed, bytes) and isinstance(plaintext, bytes)


def test_arguments_are_not_changed():
    key, nonce, text, aad = bytearray(KEY), bytearray(NONCE), bytearray(b"t" * 600), bytearray(b"a" * 600)
    ccm.decrypt(key, nonce, ccm.encrypt(key, nonce, text, aad), aad)
    assert (key, nonce, text, aad) == (KEY, NONCE, b"t" * 600, b"a" * 600)


def test_text_too_long_for_the_nonce_is_refused():
    # 13 bytes of nonce leave two for the length
    assert refused(ccm.encrypt, KEY, NONCE, bytes(65536), b"") == "ValueError"
    assert refused(ccm.decrypt, KEY, NONCE, bytes(65544), b"") == "AuthError"


def test_long_text_in_pieces_is_noticed_when_changed():
    text = bytes(range(256)) * 9
    sealed = bytearray(ccm.encrypt(KEY, NONCE, text, text))
    assert ccm.decrypt(KEY, NONCE, sealed, text) == text
    for at in (0, 271, 272, 287, 288, 1024, len(text) - 1, len(sealed) - 1):
        sealed[at] ^= 1
        assert refused(ccm.decrypt, KEY, NONCE, sealed, text) == "AuthError"
        sealed[at] ^= 1
    for at in (0, 13, 14, 285, 286, 302, 1100, len(text) - 1):
        aad = bytearray(text)
        aad[at] ^= 1
        assert refused(ccm.decrypt, KEY, NONCE, sealed, aad) == "AuthError"
