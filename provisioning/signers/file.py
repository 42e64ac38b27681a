"""Private keys in PEM files: PKCS#8, mode 600, encrypted with a passphrase or not."""

import os
import stat
from pathlib import Path
from urllib.parse import unquote

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from provisioning import wholefile
from provisioning.signers.key import Signer, SignerError
from provisioning.signers.secret import ENVIRONMENT, SECRET_MAX, Ask, passphrase_from_file

PEM_MAX = 8192  # bytes


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


def create_file_key(path: Path, passphrase: str | None = None) -> FileSigner:
    """Make a P-256 key and write it as PEM with mode 600; never over an existing file.

    Args:
        path: the file to make.
        passphrase: encrypts it (PBES2 of PKCS#8); None leaves it plain.

    Raises:
        FileExistsError: there is one already.
        SignerError: the passphrase is empty or too long.
    """
    if passphrase is not None and not 0 < len(passphrase.encode()) <= SECRET_MAX:
        raise SignerError(f"a passphrase has 1 to {SECRET_MAX} bytes", "give another one")
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase.encode())
    key = ec.generate_private_key(ec.SECP256R1())
    wholefile.create(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return FileSigner(key)


def open_file(rest: str, ask: Ask) -> Signer:
    """The key in the file that a `file:` URI names, without its scheme."""
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
    key = _load(pem, path, ask)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignerError(f"the private key {path} is not on the curve P-256", "make one with: sealband trust key PATH")
    return FileSigner(key)


def _load(pem: bytes, path: Path, ask: Ask) -> PrivateKeyTypes:
    no_key = SignerError(f"{path} is not a private key in PEM", "name a PKCS#8 PEM file")
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        pass  # encrypted
    except (ValueError, UnsupportedAlgorithm):
        raise no_key from None
    passphrase = passphrase_from_file() or ask(f"Passphrase of {path}")
    if not passphrase:
        raise SignerError(
            f"the private key {path} is encrypted and no passphrase was given",
            f"use a terminal, or name a file that holds it in {ENVIRONMENT}",
        )
    try:
        return load_pem_private_key(pem, password=passphrase.encode())
    except UnsupportedAlgorithm:
        raise no_key from None
    except ValueError:
        raise SignerError(
            f"the passphrase does not open the private key {path}", "give the one that it was made with"
        ) from None
