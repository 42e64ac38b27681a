"""Private keys named by URI, so that a file, a token and a service look alike to whoever signs. Holds no policy.

file:relative/or/absolute/path.pem      PKCS#8 PEM of a P-256 key, mode 600
"""

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

SIGNATURE_LEN = 64  # r, s
KID_LEN = 8
PEM_MAX = 8192  # bytes


class SignerError(Exception):
    """A private key cannot be used; never holds the key."""

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


class FileSigner:
    """A key in a PEM file.

    Args:
        key: the private key, on P-256.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @property
    def public_key(self) -> bytes:
        """65 bytes: 04, x, y."""
        return self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-256 over the message: 64 bytes, r then s."""
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def open_signer(uri: str) -> Signer:
    """The private key that a URI names.

    Raises:
        SignerError: the scheme is not known, or the key is missing, readable by others, encrypted or not on P-256.
    """
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in SCHEMES:
        known = ", ".join(f"{name}:" for name in sorted(SCHEMES))
        raise SignerError(f"the key {uri!r} has no scheme that is known", f"known schemes: {known}")
    return SCHEMES[scheme](rest)


def create_file_key(path: Path) -> FileSigner:
    """Make a P-256 key and write it as PEM with mode 600; never over an existing file.

    Raises:
        FileExistsError: there is one already.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=".signing-key-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        os.link(beside, path)
    finally:
        os.unlink(beside)
    return FileSigner(key)


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


def _open_file(rest: str) -> Signer:
    path = Path(unquote(rest.removeprefix("//")))
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & 0o077:
                raise SignerError(
                    f"others can read the private key {path} (mode {stat.S_IMODE(status.st_mode):03o})",
                    f"chmod 600 {path}; if others may have read it, renew the key",
                )
            pem = file.read(PEM_MAX + 1)
    except OSError as error:
        raise SignerError(f"the private key {path} cannot be read: {error.strerror}", "check the path") from None
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise SignerError(f"the private key {path} is encrypted", "decrypt it, or use a token") from None
    except ValueError:
        raise SignerError(f"{path} is not a private key in PEM", "name a PKCS#8 PEM file") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignerError(f"the private key {path} is not on the curve P-256", "make one with: sealband registry init")
    return FileSigner(key)


# a further kind of key joins by one line here: "pkcs11": …
SCHEMES: dict[str, Callable[[str], Signer]] = {"file": _open_file}
