"""The vault: seals secrets under one key before they go into the database. Stores nothing itself.

That key is the database's data key, which lies in it wrapped under the master key (`keyring`, `masters`). A master key
as software holds it comes from a file that only its owner can read, or from `$SEALBAND_MASTER_KEY`; it is never in the
database and never in a message. Sealed: AES-256-GCM (NIST SP 800-38D), a version byte, a random 96-bit nonce.
"""

import base64
import binascii
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from provisioning import wholefile

ENVIRONMENT = "SEALBAND_MASTER_KEY"
MASTER_KEY_LEN = 32
VERSION = b"\x01"
NONCE_LEN = 12
TAG_LEN = 16
OVERHEAD = len(VERSION) + NONCE_LEN + TAG_LEN
KEY_FILE_MAX = 256  # bytes; base64 of the key is 44 of them


class MasterKeyRefused(Exception):
    """The master key is missing, malformed or readable by others; never holds the key."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class VaultError(Exception):
    """A sealed value does not open: another master key, another owner of the value, or changed bytes."""


class Vault:
    """Wraps and unwraps values under one key.

    Args:
        master_key: 32 bytes.
    """

    def __init__(self, master_key: bytes) -> None:
        if len(master_key) != MASTER_KEY_LEN:
            raise MasterKeyRefused(
                f"the master key is {len(master_key)} bytes long, not {MASTER_KEY_LEN}", "give the whole key in base64"
            )
        self._master_key = bytes(master_key)
        self._cipher = AESGCM(self.subkey(b"sealband/1 wrap"))

    @classmethod
    def from_settings(cls, key_file: str | Path | None = None, environment: Mapping[str, str] = os.environ) -> "Vault":
        """The vault under the key in `$SEALBAND_MASTER_KEY` (base64) or, when that is not set, in the key file.

        Raises:
            MasterKeyRefused: neither is there, it is malformed, or somebody else could read or replace the file.
        """
        if ENVIRONMENT in environment:
            return cls(environment_key(ENVIRONMENT, environment))
        if key_file is None:
            raise MasterKeyRefused("no master key", f"name the key file, or set ${ENVIRONMENT}")
        return cls(file_key(Path(key_file)))

    def subkey(self, label: bytes) -> bytes:
        """32 bytes for one other purpose, derived from the master key (HKDF-SHA256, RFC 5869)."""
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=label).derive(self._master_key)

    def derived(self, label: bytes) -> "Vault":
        """A vault for one purpose or owner, so that no key seals too many values under random nonces (2^32 at most)."""
        return Vault(self.subkey(b"sealband/1 vault " + label))

    def wrap(self, plaintext: bytes, aad: bytes) -> bytes:
        """Seal a value.

        Args:
            plaintext: any length.
            aad: what the value is and whose, so that a row cannot be given another row's value.
        """
        nonce = os.urandom(NONCE_LEN)
        return VERSION + nonce + self._cipher.encrypt(nonce, plaintext, VERSION + aad)

    def unwrap(self, blob: bytes | memoryview, aad: bytes) -> bytes:
        """Open what `wrap` returned for the same `aad`.

        Raises:
            VaultError: it does not open.
        """
        sealed = bytes(blob)
        if len(sealed) < OVERHEAD or sealed[:1] != VERSION:
            raise VaultError("not a sealed value of this version")
        try:
            return self._cipher.decrypt(sealed[1 : 1 + NONCE_LEN], sealed[1 + NONCE_LEN :], VERSION + aad)
        except InvalidTag:
            raise VaultError("a sealed value does not open: wrong master key, or it was changed") from None


def file_key(path: Path) -> bytes:
    """The master key, 32 bytes, in a file that only its owner can read; raises MasterKeyRefused."""
    return _decode(_read_private(path), str(path))


def environment_key(name: str, environment: Mapping[str, str] = os.environ) -> bytes:
    """The master key, 32 bytes, in an environment variable; raises MasterKeyRefused."""
    if name not in environment:
        raise MasterKeyRefused(f"no master key: ${name} is not set", "set it to the key in base64")
    return _decode(environment[name], f"${name}")


def chain_label(eui: bytes, epoch: int) -> bytes:
    """`aad` of the wrapped CK[epoch] of a device."""
    return b"chain" + eui + epoch.to_bytes(4, "big")


def ticket_label(ticket_id: bytes) -> bytes:
    """`aad` of a ticket's wrapped private key."""
    return b"ticket" + ticket_id


def create_key_file(path: Path) -> None:
    """Write a new random master key with mode 600; never over an existing file.

    Raises:
        FileExistsError: there is one already.
    """
    wholefile.create(path, base64.b64encode(os.urandom(MASTER_KEY_LEN)) + b"\n")


def _read_private(path: Path) -> str:
    """The text of a file that only its owner can read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise MasterKeyRefused(f"no master key: {path} does not exist", "run: sealband registry init") from None
    except OSError as error:
        raise MasterKeyRefused(
            f"the master key file {path} cannot be read: {error.strerror}", "check its owner"
        ) from None
    try:
        # the open file is judged, not the name: nobody can swap it in between
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MasterKeyRefused(f"the master key file {path} is not a regular file", "name the key file itself")
        if status.st_mode & 0o077:
            raise MasterKeyRefused(
                f"others can read the master key file {path} (mode {stat.S_IMODE(status.st_mode):03o})",
                f"chmod 600 {path}; if others may have read it, renew the key",
            )
        if status.st_uid not in (os.geteuid(), 0):
            raise MasterKeyRefused(
                f"the master key file {path} belongs to another user", "chown it to the user who runs this"
            )
        return os.read(descriptor, KEY_FILE_MAX + 1).decode("ascii", errors="replace")
    finally:
        os.close(descriptor)


def _decode(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(text) > KEY_FILE_MAX or len(key) != MASTER_KEY_LEN:
        raise MasterKeyRefused(
            f"the master key in {where} is not base64 of {MASTER_KEY_LEN} bytes", "restore it from backup"
        )
    return key
