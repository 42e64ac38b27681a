"""HKDF, CCM, P-256 and COSE of the device against `cryptography`, on random and on chosen inputs, on MicroPython."""

import hashlib
import hmac
from collections.abc import Iterator

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.micropython import Micropython, MicropythonError

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
EDGE_SCALARS = [1, 2, 3, 4, 15, 16, 17, 127, 128, 255, N - 1, N - 2, N - 127, N // 2, N // 2 + 1, 1 << 255, 1 << 128]
scalars = st.one_of(st.sampled_from(EDGE_SCALARS), st.integers(1, N - 1))
digests = st.one_of(st.binary(min_size=32, max_size=32), st.sampled_from([bytes(32), b"\xff" * 32]))


@pytest.fixture(scope="module")
def device() -> Iterator[Micropython]:
    with Micropython() as micropython:
        micropython.run("from sealband.crypto import ccm, cose, hkdf, p256")
        yield micropython


def octets(number: int) -> bytes:
    return number.to_bytes(32, "big")


def private_key(d: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(d, ec.SECP256R1())


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def holds(public: bytes, digest: bytes, r: int, s: int) -> bool:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    try:
        key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(key=st.binary(max_size=200), message=st.binary(max_size=300))
@example(key=bytes(range(63)), message=b"")
@example(key=bytes(range(64)), message=b"a key that fills the block is taken as it is")
@example(key=bytes(range(65)), message=b"")
def test_hmac_agrees(device: Micropython, key: bytes, message: bytes) -> None:
    assert device.call(f"hkdf.hmac_sha256({key!r}, {message!r})") == hmac.digest(key, message, "sha256")


@settings(max_examples=150, deadline=None)
@given(
    salt=st.binary(max_size=100), ikm=st.binary(max_size=100), info=st.binary(max_size=100), length=st.integers(1, 400)
)
def test_hkdf_agrees(device: Micropython, salt: bytes, ikm: bytes, info: bytes, length: int) -> None:
    expected = HKDF(hashes.SHA256(), length, salt, info).derive(ikm)
    assert device.call(f"hkdf.expand(hkdf.extract({salt!r}, {ikm!r}), {info!r}, {length})") == expected
    if len(ikm) >= 32:
        expected = HKDFExpand(hashes.SHA256(), length, info).derive(ikm)
        assert device.call(f"hkdf.expand({ikm!r}, {info!r}, {length})") == expected


@settings(max_examples=300, deadline=None)
@given(
    key=st.one_of(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)),
    nonce=st.binary(min_size=7, max_size=13),
    plaintext=st.one_of(st.binary(max_size=64), st.binary(max_size=700)),
    aad=st.one_of(st.binary(max_size=64), st.binary(max_size=700)),
    tag_len=st.sampled_from([4, 6, 8, 10, 12, 14, 16]),
    flip=st.integers(0, 1 << 30),
)
def test_ccm_agrees(
    device: Micropython, key: bytes, nonce: bytes, plaintext: bytes, aad: bytes, tag_len: int, flip: int
) -> None:
    reference = AESCCM(key, tag_length=tag_len)
    sealed = reference.encrypt(nonce, plaintext, aad)
    assert device.call(f"ccm.encrypt({key!r}, {nonce!r}, {plaintext!r}, {aad!r}, {tag_len})") == sealed
    assert device.call(f"ccm.decrypt({key!r}, {nonce!r}, {sealed!r}, {aad!r}, {tag_len})") == plaintext
    forged = bytearray(sealed)
    forged[flip % len(sealed)] ^= 1 << (flip >> 20) % 8
    with pytest.raises(InvalidTag):
        reference.decrypt(nonce, bytes(forged), aad)
    with pytest.raises(MicropythonError, match="AuthError"):
        device.call(f"ccm.decrypt({key!r}, {nonce!r}, {bytes(forged)!r}, {aad!r}, {tag_len})")


@pytest.mark.parametrize("aad_len", [0, 1, 13, 14, 15, 270, 271, 272, 286, 287, 288, 289, 576, 65279, 65280, 65281])
def test_ccm_agrees_where_its_cases_meet(device: Micropython, aad_len: int) -> None:
    key, nonce = bytes(range(16)), bytes(range(13))
    device.run("base = bytes(range(256)) * 3")
    device.run(f"aad = bytes(range(256)) * {aad_len // 256} + bytes(range({aad_len % 256}))")
    aad = bytes(range(256)) * (aad_len // 256) + bytes(range(aad_len % 256))
    for length in (0, 1, 15, 16, 17, 255, 271, 272, 273, 287, 288, 289, 560, 561, 768):
        plaintext = (bytes(range(256)) * 3)[:length]
        sealed = AESCCM(key, tag_length=8).encrypt(nonce, plaintext, aad)
        assert device.call(f"ccm.encrypt({key!r}, {nonce!r}, base[:{length}], aad)") == sealed
        assert device.call(f"ccm.decrypt({key!r}, {nonce!r}, {sealed!r}, aad)") == plaintext


@settings(max_examples=60, deadline=None)
@given(d=scalars)
def test_public_keys_agree(device: Micropython, d: int) -> None:
    assert device.call(f"p256.public_key({octets(d)!r})") == point(private_key(d).public_key())


@settings(max_examples=60, deadline=None)
@given(ours=scalars, theirs=scalars)
def test_shared_secrets_agree(device: Micropython, ours: int, theirs: int) -> None:
    peer = private_key(theirs).public_key()
    expected = private_key(ours).exchange(ec.ECDH(), peer)
    assert device.call(f"p256.ecdh({octets(ours)!r}, {point(peer)!r})") == expected


@settings(max_examples=60, deadline=None)
@given(d=scalars, digest=digests)
def test_signatures_agree(device: Micropython, d: int, digest: bytes) -> None:
    algorithm = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)
    r, s = decode_dss_signature(private_key(d).sign(digest, algorithm))
    assert device.call(f"p256.sign({octets(d)!r}, {digest!r})") == octets(r) + octets(s)


@settings(max_examples=80, deadline=None)
@given(d=scalars, digest=digests, flip=st.integers(-1, 511))
def test_verification_agrees(device: Micropython, d: int, digest: bytes, flip: int) -> None:
    key = private_key(d)
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    signature = bytearray(octets(r) + octets(s))
    if flip >= 0:
        signature[flip >> 3] ^= 1 << (flip & 7)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    public = point(key.public_key())
    expected = holds(public, digest, r, s)
    assert expected is (flip < 0)
    assert device.call(f"p256.verify({public!r}, {digest!r}, {bytes(signature)!r})") is expected


@settings(max_examples=150, deadline=None)
@given(d=scalars, u1=st.one_of(st.integers(0, 300), scalars), u2=scalars)
def test_verification_agrees_where_points_meet(device: Micropython, d: int, u1: int, u2: int) -> None:
    """Signatures made from chosen u1 and u2, so that sums of equal and of opposite points come up on the way."""
    k = (u1 + u2 * d) % N
    if k == 0:
        k = 1  # then u1 G + u2 Q is infinity, and no r is right
        expected = False
    else:
        expected = True
    r = private_key(k).public_key().public_numbers().x % N
    s = r * pow(u2, -1, N) % N
    digest = octets(u1 * s % N)
    public = point(private_key(d).public_key())
    assert holds(public, digest, r, s) is expected
    assert device.call(f"p256.verify({public!r}, {digest!r}, {octets(r) + octets(s)!r})") is expected


def test_sum_at_infinity_is_no_signature(device: Micropython) -> None:
    for d in (1, 2, 3, 15, 127, N - 1, N - 3):
        for u2 in (1, 2, 5, N - 1, 1 << 200):
            u1 = -u2 * d % N
            public = point(private_key(d).public_key())
            for r in (1, u2, N - 1):
                s = r * pow(u2, -1, N) % N
                digest = octets(u1 * s % N)
                assert holds(public, digest, r, s) is False
                assert device.call(f"p256.verify({public!r}, {digest!r}, {octets(r) + octets(s)!r})") is False


Point = tuple[int, int] | None


def add(a: Point, b: Point) -> Point:
    """The sum of two points by the textbook, for points that no library makes from a scalar."""
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(k: int, a: Point) -> Point:
    total: Point = None
    while k:
        if k & 1:
            total = add(total, a)
        a = add(a, a)
        k >>= 1
    return total


def lift(x: int) -> tuple[int, int] | None:
    square = (x**3 - 3 * x + B) % P
    y = pow(square, (P + 1) // 4, P)
    return (x, y) if y * y % P == square else None


def test_r_of_a_point_whose_x_is_over_n(device: Micropython) -> None:
    """x is from n to p - 1 with probability 2^-128; a verifier that forgets it refuses what is right."""
    seen = 0
    for x in range(N, N + 40):
        found = lift(x)
        if found is None:
            continue
        r, u1, u2 = x - N, 0, 12345 + x
        if r == 0:
            continue
        public_point = multiply(pow(u2, -1, N), found)
        assert public_point is not None
        public = b"\x04" + octets(public_point[0]) + octets(public_point[1])
        s = r * pow(u2, -1, N) % N
        digest = octets(u1 * s % N)
        assert holds(public, digest, r, s) is True
        assert device.call(f"p256.verify({public!r}, {digest!r}, {octets(r) + octets(s)!r})") is True
        # r itself must stay below n
        assert device.call(f"p256.verify({public!r}, {digest!r}, {octets(x) + octets(s)!r})") is False
        seen += 1
    assert seen >= 5
    # where r + n is over p, it must not be reduced into a small x
    found = next(found for found in map(lift, range(5, 50)) if found)
    r, u2 = (found[0] - N) % P, 777
    assert r + N == P + found[0] and r < N
    public_point = multiply(pow(u2, -1, N), found)
    assert public_point is not None
    public = b"\x04" + octets(public_point[0]) + octets(public_point[1])
    s = r * pow(u2, -1, N) % N
    assert holds(public, bytes(32), r, s) is False
    assert device.call(f"p256.verify({public!r}, {bytes(32)!r}, {octets(r) + octets(s)!r})") is False


def test_points_with_small_coordinates_are_points(device: Micropython) -> None:
    for x in (0, 5, 6, 8, P - 1, P - 3, P - 4):
        found = lift(x)
        if found is None:
            continue
        for y in (found[1], P - found[1]):
            public = b"\x04" + octets(x) + octets(y)
            peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
            expected = private_key(0xC0FFEE).exchange(ec.ECDH(), peer)
            assert device.call(f"p256.ecdh({octets(0xC0FFEE)!r}, {public!r})") == expected


def test_table_of_the_base_point(device: Micropython) -> None:
    table = device.call("p256._BASE")
    assert len(table) == 64 * 64
    for i in range(64):
        numbers = private_key(2 * i + 1).public_key().public_numbers()
        assert table[64 * i : 64 * i + 64] == octets(numbers.x) + octets(2 * numbers.y % P)


@settings(max_examples=40, deadline=None)
@given(d=scalars, payload=st.binary(max_size=300), aad=st.binary(max_size=40))
def test_messages_signed_on_the_device_hold_elsewhere(device: Micropython, d: int, payload: bytes, aad: bytes) -> None:
    data = device.call(f"cose.sign1({octets(d)!r}, {payload!r}, aad={aad!r})")
    tag = cbor2.loads(data)
    assert tag.tag == 18
    protected, unprotected, carried, signature = tag.value
    assert (protected, dict(unprotected), carried) == (b"\xa1\x01\x28", {}, payload)
    digest = hashlib.sha256(cbor2.dumps(["Signature1", protected, aad, payload])).digest()
    public = point(private_key(d).public_key())
    assert holds(public, digest, int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


@settings(max_examples=40, deadline=None)
@given(d=scalars, payload=st.binary(max_size=300), aad=st.binary(max_size=40), algorithm=st.sampled_from([-7, -9]))
def test_messages_signed_elsewhere_hold_on_the_device(
    device: Micropython, d: int, payload: bytes, aad: bytes, algorithm: int
) -> None:
    key = private_key(d)
    protected = cbor2.dumps({1: algorithm, 4: b"kid"})
    digest = hashlib.sha256(cbor2.dumps(["Signature1", protected, aad, payload])).digest()
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    public = point(key.public_key())
    for carried in (payload, None):
        data = cbor2.dumps(cbor2.CBORTag(18, [protected, {}, carried, octets(r) + octets(s)]))
        given_payload = None if carried is not None else payload
        assert device.call(f"cose.parse1({data!r}).verify({public!r}, {given_payload!r}, {aad!r})") is True
        assert device.call(f"cose.parse1({data!r}).verify({public!r}, {given_payload!r}, {aad + b'x'!r})") is False
