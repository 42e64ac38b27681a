"""What a signing key is to whoever uses one: `Signer`, its errors, its short name, and checking a signature."""

from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, Hash

SIGNATURE_LEN = 64  # r, s
KID_LEN = 8


class SignerError(Exception):
    """A private key cannot be used; never holds the key, its passphrase or its PIN."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class Signer(Protocol):
    """A P-256 private key that signs, wherever it lives."""

    @property
    def public_key(self) -> bytes:
        """65 bytes: 04, x, y."""

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-256 over the message: 64 bytes, r then s (FIPS 186-5)."""


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature (64 bytes, r then s) is by this key (65 bytes) over the message."""
    if len(signature) != SIGNATURE_LEN:
        return False
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def kid(public_key: bytes) -> bytes:
    """The key's short name: the first 8 bytes of SHA-256(04, x, y)."""
    digest = Hash(SHA256())
    digest.update(public_key)
    return digest.finalize()[:KID_LEN]
