"""Service tokens: what opens a board and what does not, and that its bytes are COSE's as another reader sees them."""

import itertools

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from provisioning import service_tokens
from provisioning.service_tokens import Challenge, ServiceTokenError
from provisioning.signers import FileSigner
from sealwire import service as wire

EUI, NONCE = bytes.fromhex("24a160fffe123456"), bytes(range(16))
CHALLENGE = Challenge(EUI, NONCE, "t-beam-sx1262", 7)
# made by hand: 85 = list of five, 74 = text of 20, 48 and 50 = 8 and 16 bytes, 6d = text of 13, 07
CHALLENGE_BYTES = bytes.fromhex(
    "85"
    "74" + b"sealband/1 challenge".hex() + "48" + EUI.hex() + "50" + NONCE.hex() + "6d" + b"t-beam-sx1262".hex() + "07"
)
NOT_AFTER = 60_000_000
PRIVATE = ec.derive_private_key(1234567, ec.SECP256R1())
SIGNER = FileSigner(PRIVATE)
OTHER = FileSigner(ec.derive_private_key(7654321, ec.SECP256R1()))


def refused(code: int, token: bytes, challenge: Challenge = CHALLENGE, now_s: int = NOT_AFTER) -> ServiceTokenError:
    with pytest.raises(ServiceTokenError) as error:
        service_tokens.check(token, challenge, SIGNER.public_key, now_s)
    assert error.value.code == code, error.value
    assert error.value.remedy
    assert error.value.reason == wire.CODES[code]
    return error.value


def signed(payload: object, *, protected: bytes = b"\xa1\x01\x28", unprotected: object = None, tag: int = 18) -> bytes:
    """A COSE_Sign1 over any payload, made without the code under test."""
    body = payload if isinstance(payload, bytes) else cbor2.dumps(payload, canonical=True)
    signature = SIGNER.sign(cbor2.dumps(["Signature1", protected, b"", body]))
    return cbor2.dumps(cbor2.CBORTag(tag, [protected, unprotected or {}, body, signature]), canonical=True)


def said(**changes: object) -> list[object]:
    fields = {"label": "sealband/1 service", "eui": EUI, "nonce": NONCE, "not_after": NOT_AFTER, "operator": "Ada"}
    return list((fields | changes).values())


def test_challenge_is_read_byte_by_byte():
    assert service_tokens.parse_challenge(CHALLENGE_BYTES) == CHALLENGE
    assert cbor2.dumps(["sealband/1 challenge", EUI, NONCE, "t-beam-sx1262", 7]) == CHALLENGE_BYTES


def test_token_has_the_bytes_that_the_board_expects():
    token = service_tokens.make(CHALLENGE, SIGNER, NOT_AFTER, "Ada")
    payload = bytes.fromhex(
        "85"
        "72" + b"sealband/1 service".hex() + "48" + EUI.hex() + "50" + NONCE.hex() + "1a03938700" + "63" + b"Ada".hex()
    )
    head = bytes.fromhex("d28443a10128a058") + bytes([len(payload)]) + payload + bytes.fromhex("5840")
    assert token[:-64] == head
    # RFC 9052 section 4.4, written out: ["Signature1", h'a10128', h'', payload]
    to_sign = bytes.fromhex("846a") + b"Signature1" + bytes.fromhex("43a101284058") + bytes([len(payload)]) + payload
    r, s = int.from_bytes(token[-64:-32], "big"), int.from_bytes(token[-32:], "big")
    PRIVATE.public_key().verify(encode_dss_signature(r, s), to_sign, ec.ECDSA(SHA256()))
    assert len(token) <= wire.TOKEN_MAX


def test_longest_token_fits_a_line_of_the_serial_port():
    token = service_tokens.make(CHALLENGE, SIGNER, 0xFFFFFFFF, "x" * wire.OPERATOR_MAX)
    assert len(token) <= wire.TOKEN_MAX
    assert len(wire.TOKEN) + 2 * len(token) + 2 <= wire.LINE_MAX


def test_token_is_accepted_until_it_expires_and_says_who_asked():
    token = service_tokens.make(CHALLENGE, SIGNER, NOT_AFTER, "Ada Lovelace, Zürich")
    for now_s in (0, NOT_AFTER):
        accepted = service_tokens.check(token, CHALLENGE, SIGNER.public_key, now_s)
        assert (accepted.eui, accepted.nonce, accepted.not_after_s) == (EUI, NONCE, NOT_AFTER)
        assert accepted.operator == "Ada Lovelace, Zürich"
    assert "expired 1 s ago" in str(refused(wire.EXPIRED, token, now_s=NOT_AFTER + 1))


def test_token_of_another_device_is_refused():
    token = service_tokens.make(Challenge(bytes(8), NONCE, "t-beam-sx1262", 7), SIGNER, NOT_AFTER, "Ada")
    refused(wire.DEVICE, token)


def test_token_replayed_to_the_boards_next_challenge_is_refused():
    token = service_tokens.make(CHALLENGE, SIGNER, NOT_AFTER, "Ada")
    refused(wire.NONCE, token, Challenge(EUI, bytes(16), "t-beam-sx1262", 7))


def test_token_signed_by_another_key_is_refused():
    refused(wire.SIGNATURE, service_tokens.make(CHALLENGE, OTHER, NOT_AFTER, "Ada"))


def test_token_with_any_bit_changed_is_refused():
    token = service_tokens.make(CHALLENGE, SIGNER, NOT_AFTER, "Ada")
    for bit in range(8 * len(token)):
        changed = bytearray(token)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ServiceTokenError) as error:
            service_tokens.check(bytes(changed), CHALLENGE, SIGNER.public_key, 0)
        assert error.value.code in (wire.MALFORMED, wire.SIGNATURE)


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"\xff",
        b"\xd2" * 1000,
        signed(said(label="sealband/1 record")),
        signed(said(label="sealband/1 challenge")),
        signed(said(eui=EUI[:7])),
        signed(said(nonce=NONCE + b"x")),
        signed(said(nonce="0" * 16)),
        signed(said(not_after=-1)),
        signed(said(not_after=1 << 32)),
        signed(said(not_after=True)),
        signed(said(not_after=6e7)),
        signed(said(operator="")),
        signed(said(operator="x" * 65)),
        signed(said(operator="ü" * 33)),
        signed(said(operator="Ada\nsealband/1 unlocked")),
        signed(said(operator=b"Ada")),
        signed([*said(), 0]),
        signed(said()[:4]),
        signed({0: said()}),
        signed(b"\x9f\xff"),
        signed(cbor2.dumps(said()) + b"\0"),
        signed(said(), protected=b"\xa1\x01\x26"),
        signed(said(), protected=b""),
        signed(said(), unprotected={4: b"kid"}),
        signed(said(), tag=98),
        signed(said()) + b"\0",
        signed(said())[:-1],
    ],
    ids=itertools.count(),
)
def test_token_of_another_shape_is_refused_whoever_signed_it(token: bytes):
    refused(wire.MALFORMED, token)


def test_what_is_signed_by_hand_in_the_right_shape_is_accepted():
    # else the refusals above would show nothing
    assert service_tokens.check(signed(said()), CHALLENGE, SIGNER.public_key, 0).operator == "Ada"


@pytest.mark.parametrize(
    "row",
    [
        ["sealband/1 service", EUI, NONCE, "t-beam-sx1262", 7],
        ["sealband/1 challenge", EUI[:7], NONCE, "t-beam-sx1262", 7],
        ["sealband/1 challenge", EUI, NONCE[:8], "t-beam-sx1262", 7],
        ["sealband/1 challenge", EUI, NONCE, "x\ny", 7],
        ["sealband/1 challenge", EUI, NONCE, "", 7],
        ["sealband/1 challenge", EUI, NONCE, "t-beam-sx1262", -1],
        ["sealband/1 challenge", EUI, NONCE, "t-beam-sx1262"],
        ["sealband/1 challenge", EUI, NONCE, "t-beam-sx1262", 7, 0],
        "sealband/1 challenge",
        ["sealband/1 challenge", EUI, NONCE, "x" * 500, 7],
    ],
)
def test_malformed_challenge_is_refused(row: object):
    with pytest.raises(ServiceTokenError) as error:
        service_tokens.parse_challenge(cbor2.dumps(row))
    assert error.value.code == wire.MALFORMED
    for data in (b"", CHALLENGE_BYTES[:-1], CHALLENGE_BYTES + b"\0"):
        with pytest.raises(ServiceTokenError):
            service_tokens.parse_challenge(data)


@pytest.mark.parametrize("operator", ["", "x" * 65, "Ada\n", "\udcff", "A\x1b[2J"])
def test_token_for_an_operator_without_a_proper_name_is_not_made(operator: str):
    with pytest.raises(ServiceTokenError):
        service_tokens.make(CHALLENGE, SIGNER, NOT_AFTER, operator)


@pytest.mark.parametrize("not_after_s", [-1, 1 << 32])
def test_token_with_a_time_out_of_range_is_not_made(not_after_s: int):
    with pytest.raises(ServiceTokenError):
        service_tokens.make(CHALLENGE, SIGNER, not_after_s, "Ada")
