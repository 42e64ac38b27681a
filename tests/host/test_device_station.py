"""What a device answers its station after enrolment, judged apart from our code: requests, certificates, claims."""

import hashlib
import hmac
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from provisioning import certificates, service_tokens, signers
from provisioning.keys import claim_secret
from sealwire import enrolment
from sealwire import service as wire
from tests.support.closed_board import token
from tests.support.micropython import ROOT, Micropython

EUI = bytes.fromhex("70b3d5fffe001234")
NOW = datetime(2026, 11, 21, tzinfo=UTC)
NOW_S = 60_000_000
BOARD = """
import sys
from device.fakes import FakeNetwork, FakeNvs
sys.modules["network"] = FakeNetwork
from sealband import certificate, enrol, keys, service, store
from sealband.chain import Chain
where = store.Store(FakeNvs())
Chain.create(where, bytes.fromhex("70b3d5fffe001234"), bytes(32), 0)
where.save(store.IDENTITY, b"\\x01\\x00record")
"""


@pytest.fixture
def device() -> Iterator[Micropython]:
    with Micropython(path=[ROOT / "tests"]) as device:
        device.run(BOARD)
        yield device


@pytest.fixture
def signer(tmp_path: Path) -> signers.Signer:
    path = tmp_path / "key.pem"
    signers.create_file_key(path)
    return signers.open_signer(f"file:{path}")


def test_request_is_one_to_openssl_and_to_cryptography(device: Micropython, tmp_path: Path) -> None:
    der = device.call("certificate.request(where)")
    csr = x509.load_der_x509_csr(der)
    assert csr.is_signature_valid and csr.public_bytes(Encoding.DER) == der
    assert [(name.oid, name.value) for name in csr.subject] == [(NameOID.COMMON_NAME, EUI.hex())]
    assert isinstance(csr.signature_hash_algorithm, hashes.SHA256)
    assert not list(csr.attributes) and not list(csr.extensions)
    (tmp_path / "csr").write_bytes(der)
    done = subprocess.run(
        ["openssl", "req", "-inform", "DER", "-in", tmp_path / "csr", "-noout", "-verify", "-text"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "prime256v1" in done.stdout and "ecdsa-with-SHA256" in done.stdout


def test_numbers_of_a_signature_are_der_whatever_their_first_bits(device: Micropython) -> None:
    # INTEGERs of 31 to 33 bytes: each request is of another key
    lengths = set()
    for _ in range(24):
        device.run("where.erase(store.TLS)")
        der = device.call("certificate.request(where)")
        assert x509.load_der_x509_csr(der).is_signature_valid
        lengths.add(len(der))
    assert len(lengths) > 1
    for number in (
        bytes(31) + b"\x01",
        bytes(31) + b"\x80",
        b"\xff" * 32,
        b"\x00\x80" + bytes(30),
        b"\x01" + bytes(31),
    ):
        value = int.from_bytes(number, "big")
        length = (value.bit_length() + 8) // 8
        assert device.call(f"certificate._number({number!r})") == bytes((2, length)) + value.to_bytes(length, "big")


def issued(der: bytes, signer: signers.Signer) -> bytes:
    root = certificates.create_root(signer, "Sealband devices", 7300, NOW)
    issuer = certificates.create_issuer(root, signer, signer.public_key, "batch-1", "virtual-wearable", 30, 3650, NOW)
    return certificates.issue(der, EUI, issuer, signer, NOW)


def test_certificate_of_the_batch_s_key_is_kept(device: Micropython, signer: signers.Signer) -> None:
    der = issued(device.call("certificate.request(where)"), signer)
    assert len(der) <= enrolment.CERTIFICATE_MAX
    assert device.call(f"certificate.keep(where, {der!r})") == hashlib.sha256(der).digest()
    assert device.call("where.load(store.TLS)[33:]") == der


def test_certificates_of_other_makers_are_read_alike(device: Micropython) -> None:
    der = device.call("certificate.request(where)")
    key = x509.load_der_x509_csr(der).public_key()
    maker = ec.generate_private_key(ec.SECP256R1())
    names = ("a", "a much longer name of an authority that nobody knows " + "x" * 10, "é")
    for serial, name in zip((1, 1 << 150, 128), names, strict=True):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        begun = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key)
        built = (
            begun.serial_number(serial)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=9000))
            .sign(maker, hashes.SHA256())
        )
        got = built.public_bytes(Encoding.DER)
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert device.call(f"certificate.certified_key({got!r})") == spki
        assert device.call(f"certificate.keep(where, {got!r})") == hashlib.sha256(got).digest()


def test_claim_secret_is_the_registry_s_and_rfc_5869_s(device: Micropython) -> None:
    for _ in range(8):
        root = os.urandom(32)
        expected = hmac.digest(root, b"sealband/1 claim\x01", "sha256")[:10]
        assert device.call(f"keys.claim({root!r})") == expected == claim_secret(root)


def test_token_of_the_host_opens_and_every_refusal_is_the_same_on_both_sides(
    device: Micropython, signer: signers.Signer, tmp_path: Path
) -> None:
    signers.create_file_key(tmp_path / "other.pem")
    other = signers.open_signer(f"file:{tmp_path / 'other.pem'}")
    nonce = os.urandom(16)
    challenge = service_tokens.Challenge(EUI, nonce, "virtual-wearable", 1)
    row = encoded(challenge)
    presented = {
        0: service_tokens.make(challenge, signer, NOW_S, "ada@example.org"),
        wire.SIGNATURE: token(row, other),
        wire.DEVICE: token(row, signer, eui=bytes(8)),
        wire.NONCE: token(row, signer, nonce=bytes(16)),
        wire.EXPIRED: token(row, signer, not_after=NOW_S - 1),
        wire.MALFORMED: token(row, signer)[:-1],
    }
    assert set(presented) == {0, *wire.CODES}
    for code, data in presented.items():
        line = wire.TOKEN.encode() + data.hex().encode()
        found = device.call(f"service.check({line!r}, {signer.public_key!r}, {EUI!r}, {nonce!r}, {NOW_S})")
        assert found == code
        if code:
            with pytest.raises(service_tokens.ServiceTokenError) as refused:
                service_tokens.check(data, challenge, signer.public_key, NOW_S)
            assert refused.value.code == code
        else:
            service_tokens.check(data, challenge, signer.public_key, NOW_S)


def encoded(challenge: service_tokens.Challenge) -> bytes:
    row = [wire.CHALLENGE_LABEL, challenge.eui, challenge.nonce, challenge.model, challenge.release]
    return cbor2.dumps(row, canonical=True)


def test_longest_token_of_the_host_fits_into_a_line(device: Micropython, signer: signers.Signer) -> None:
    challenge = service_tokens.Challenge(EUI, bytes(16), "virtual-wearable", 1)
    data = service_tokens.make(challenge, signer, 0xFFFFFFFF, "x" * wire.OPERATOR_MAX)
    line = wire.TOKEN.encode() + data.hex().encode()
    assert len(line) < wire.LINE_MAX
    assert device.call(f"service.check({line!r}, {signer.public_key!r}, {EUI!r}, {bytes(16)!r}, 0)") == 0
