"""Public keys as text that people hand to each other: `p256:` and x, y in base64url (RFC 4648), 91 characters.

The short name (`kid`, 16 hex digits) is for comparing by voice; it is no substitute for the key.
"""

import base64
import binascii
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from provisioning.signers.key import SignerError

PREFIX = "p256:"
POINT_LEN = 65  # 04, x, y
FILE_MAX = 4096  # bytes
_REMEDY = "get it anew from its owner: sealband trust public --key URI"


def public_text(point: bytes) -> str:
    """The text form of a public key of 65 bytes (04, x, y)."""
    return PREFIX + base64.urlsafe_b64encode(point[1:]).rstrip(b"=").decode()


def parse_public(text: str) -> bytes:
    """The public key, 65 bytes, that a text form holds.

    Raises:
        SignerError: it is no text form of a point on the curve P-256.
    """
    body = text.strip().removeprefix(PREFIX)
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    point = b"\x04" + raw
    # a text that differs in its last bits must not be a second name of the same key
    if len(point) != POINT_LEN or not text.strip().startswith(PREFIX) or public_text(point) != text.strip():
        raise SignerError("this is not a public key (p256: and 86 characters)", _REMEDY)
    return check_point(point)


def read_public(path: Path) -> bytes:
    """The public key in a file: its text form, or PEM (SubjectPublicKeyInfo).

    Raises:
        SignerError: the file cannot be read or holds neither.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(FILE_MAX)
    except OSError as error:
        raise SignerError(f"the public key {path} cannot be read: {error.strerror}", "check the path") from None
    if not content.lstrip().startswith(b"-----BEGIN"):
        return parse_public(content.decode("ascii", "replace"))
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise SignerError(f"{path} is not a public key", _REMEDY) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignerError(f"the public key {path} is not on the curve P-256", _REMEDY)
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def check_point(point: bytes) -> bytes:
    """The same 65 bytes, if they are a point on the curve.

    Raises:
        SignerError: they are none.
    """
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise SignerError("this is not a point on the curve P-256", _REMEDY) from None
    return point
