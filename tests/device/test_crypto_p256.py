# P-256 on the device: RFC 6979's signatures, and every kind of bad key, point and signature.
from hashlib import sha256

from sealband.crypto import p256

HEAP = "64wK"

# RFC 6979 appendix A.2.5
PRIVATE = bytes.fromhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
PUBLIC = bytes.fromhex(
    "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
)
SAMPLE = bytes.fromhex(
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
)
TEST = bytes.fromhex(
    "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083"
)
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
DIGEST = sha256(b"sample").digest()
WRONG_TYPES = (None, 5, "a" * 32, "a" * 65, [0] * 32, object())


def octets(number):
    return number.to_bytes(32, "big")


def refused(function, *arguments):
    try:
        value = function(*arguments)
    except p256.P256Error as error:
        return str(error)
    raise AssertionError("%r gave %r" % (arguments, value))


def test_signatures_of_rfc_6979():
    assert p256.public_key(PRIVATE) == PUBLIC
    assert p256.sign(PRIVATE, DIGEST) == SAMPLE
    assert p256.sign(PRIVATE, sha256(b"test").digest()) == TEST
    assert p256.verify(PUBLIC, DIGEST, SAMPLE) is True
    assert p256.verify(PUBLIC, sha256(b"test").digest(), TEST) is True
    assert p256.verify(PUBLIC, DIGEST, TEST) is False


def test_shared_secret_of_rfc_5903():
    # RFC 5903 section 8.1
    i = bytes.fromhex("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433")
    r = bytes.fromhex("c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53")
    shared = bytes.fromhex("d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de")
    assert p256.ecdh(i, p256.public_key(r)) == p256.ecdh(r, p256.public_key(i)) == shared


def test_blinding_does_not_change_results():
    for _ in range(3):
        assert p256.sign(PRIVATE, DIGEST) == SAMPLE
        assert p256.public_key(PRIVATE) == PUBLIC


def test_private_key_out_of_range_is_refused():
    for number in (0, N, N + 1, P, (1 << 256) - 1):
        private = octets(number)
        assert "1 to n - 1" in refused(p256.public_key, private)
        assert "1 to n - 1" in refused(p256.ecdh, private, PUBLIC)
        assert "1 to n - 1" in refused(p256.sign, private, DIGEST)
    for private in (octets(1), octets(N - 1)):
        assert p256.verify(p256.public_key(private), DIGEST, p256.sign(private, DIGEST))


def test_private_key_of_wrong_length_or_type_is_refused():
    for private in WRONG_TYPES + (b"", bytes(31), bytes(33), PRIVATE + b"\0", b"\0" + PRIVATE, PUBLIC):
        refused(p256.public_key, private)
        refused(p256.ecdh, private, PUBLIC)
        refused(p256.sign, private, DIGEST)


def bad_points():
    x, y = PUBLIC[1:33], PUBLIC[33:]
    number = int.from_bytes(y, "big")
    for bad in (
        b"",
        b"\x00",  # infinity as SEC 1 writes it
        b"\x00" + bytes(64),
        bytes(65),
        b"\x04" + bytes(64),  # (0, 0), which some take for infinity
        b"\x04" + b"\xff" * 64,
        b"\x04" + octets(P) + octets(P),
        b"\x02" + x,  # compressed
        b"\x03" + x,
        b"\x02" + x + y,
        b"\x06" + x + y,  # hybrid
        b"\x07" + x + y,
        b"\x05" + x + y,
        x + y,
        PUBLIC[:-1],
        PUBLIC + b"\x00",
        b"\x04" + y + x,
        b"\x04" + x + octets(number ^ 1),
        b"\x04" + octets(int.from_bytes(x, "big") ^ 1) + y,
        b"\x04" + x + octets(0),
        b"\x04" + octets(1) + octets(1),
    ):
        yield bad
    # the point of x = 5 is on the curve; the same point with x + p or y + p is another encoding of it
    assert p256.ecdh(octets(1), b"\x04" + octets(5) + octets(root(5))) == octets(5)
    yield b"\x04" + octets(5 + P) + octets(root(5))
    # y^2 = x^3 - 3 x + b' for another b': small subgroups wait there (invalid curve attack)
    yield b"\x04" + octets(2) + octets(1)


# the y of a point, mod p = 3 mod 4
def root(x):
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    y = pow(x * x * x - 3 * x + b, (P + 1) // 4, P)
    assert y * y % P == (x * x * x - 3 * x + b) % P
    return y


def test_public_key_off_the_curve_is_refused_before_any_secret_touches_it():
    for public in bad_points():
        refused(p256.ecdh, PRIVATE, public)
        assert p256.verify(public, DIGEST, SAMPLE) is False


def test_wrong_types_raise_instead_of_deciding():
    for wrong in WRONG_TYPES:
        refused(p256.ecdh, PRIVATE, wrong)
        refused(p256.verify, wrong, DIGEST, SAMPLE)
        refused(p256.verify, PUBLIC, wrong, SAMPLE)
        refused(p256.verify, PUBLIC, DIGEST, wrong)
        refused(p256.sign, PRIVATE, wrong)


def test_digest_of_wrong_length_is_refused():
    for digest in (b"", DIGEST[:31], DIGEST + b"\0", DIGEST * 2, DIGEST[:20]):
        assert "digest" in refused(p256.sign, PRIVATE, digest)
        assert "digest" in refused(p256.verify, PUBLIC, digest, SAMPLE)


def test_signature_out_of_range_does_not_hold():
    r, s = int.from_bytes(SAMPLE[:32], "big"), int.from_bytes(SAMPLE[32:], "big")
    big = (1 << 256) - 1
    for bad_r, bad_s in (
        (0, s),
        (r, 0),
        (0, 0),
        (N, s),
        (r, N),
        (N, N),
        (1, 1),
        (N - 1, N - 1),
        (N - r, s),
        (s, r),
        (big, s),
        (r, big),
        (P, s),
        (r, P),
        (r ^ 1, s),
        (r, s ^ 1),
    ):
        assert p256.verify(PUBLIC, DIGEST, octets(bad_r) + octets(bad_s)) is False
    for small in range(1, 20):
        for other in (small, N - small):
            assert p256.verify(PUBLIC, bytes(32), octets(small) + octets(other)) is False


def test_both_signs_of_s_hold_so_that_a_signature_is_no_identifier():
    s = int.from_bytes(SAMPLE[32:], "big")
    assert s > N // 2
    assert p256.verify(PUBLIC, DIGEST, SAMPLE[:32] + octets(N - s)) is True


def test_signature_of_wrong_length_does_not_hold():
    for signature in (b"", SAMPLE[:63], SAMPLE + b"\0", b"\0" + SAMPLE, SAMPLE * 2, bytes(64), bytes(1000)):
        assert p256.verify(PUBLIC, DIGEST, signature) is False
    # DER is another format
    der = b"\x30\x46\x02\x21\x00" + SAMPLE[:32] + b"\x02\x21\x00" + SAMPLE[32:]
    assert p256.verify(PUBLIC, DIGEST, der) is False


def test_every_changed_byte_is_noticed():
    for at in range(0, 64, 3):
        forged = bytearray(SAMPLE)
        forged[at] ^= 0x10
        assert p256.verify(PUBLIC, DIGEST, forged) is False
    for at in range(0, 32, 5):
        digest = bytearray(DIGEST)
        digest[at] ^= 1
        assert p256.verify(PUBLIC, digest, SAMPLE) is False


def test_buffers_of_every_kind_give_the_same():
    for kind in (bytearray, memoryview):
        assert p256.public_key(kind(PRIVATE)) == PUBLIC
        assert p256.sign(kind(PRIVATE), kind(DIGEST)) == SAMPLE
        assert p256.verify(kind(PUBLIC), kind(DIGEST), kind(SAMPLE)) is True
        assert p256.ecdh(kind(PRIVATE), kind(PUBLIC)) == p256.ecdh(PRIVATE, PUBLIC)


def test_digest_at_the_edges_is_signed_and_verified():
    for digest in (bytes(32), octets(N), octets(N - 1), octets(N + 1), b"\xff" * 32):
        signature = p256.sign(PRIVATE, digest)
        assert p256.verify(PUBLIC, digest, signature) is True
    # n and 0 are the same number mod n, and so is what is signed
    assert p256.sign(PRIVATE, bytes(32)) == p256.sign(PRIVATE, octets(N))


def test_result_of_a_fault_is_never_handed_out():
    walk = p256._walk

    def faulty_walk(*arguments):
        x, w, z = walk(*arguments)
        return x ^ 1, w, z

    p256._walk = faulty_walk
    try:
        for function, arguments in (
            (p256.sign, (PRIVATE, DIGEST)),
            (p256.ecdh, (PRIVATE, PUBLIC)),
            (p256.public_key, (PRIVATE,)),
        ):
            assert "went wrong" in refused(function, *arguments)
    finally:
        p256._walk = walk
    assert p256.sign(PRIVATE, DIGEST) == SAMPLE
