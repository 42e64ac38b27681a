"""Master keys by URI: they wrap the data key of a registry and nothing else. Knows no database.

file:PATH (or PATH alone)   base64 of 32 bytes, mode 600; `$SEALBAND_MASTER_KEY` takes the place of a path alone
env:NAME                    base64 of 32 bytes in an environment variable; env: alone is SEALBAND_MASTER_KEY
pkcs11:token=…;object=…     an AES-256 key that never leaves its token, by AES-GCM on it (URI as for signing keys)
"""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from provisioning.registry.vault import (
    ENVIRONMENT,
    NONCE_LEN,
    TAG_LEN,
    MasterKeyRefused,
    Vault,
    VaultError,
    create_key_file,
    environment_key,
    file_key,
)
from provisioning.signers import Ask, SignerError
from provisioning.signers.secret import ask_terminal
from provisioning.signers.token import logged_in, only_object, reach_token
from provisioning.signers.uri import Pkcs11Uri

SCHEMES = ("env", "file", "pkcs11")
NAME_MAX = 64
KEY_LABEL = b"sealband/1 data key"  # the wrapped key's associated data: what else the master wraps is not taken for it
_TOKEN_VERSION = b"\x01"


class Master(Protocol):
    """A key that wraps data keys, wherever it lives."""

    @property
    def name(self) -> str:
        """Tells it from other master keys, at most 64 characters; secret to nobody."""

    def wrap(self, data_key: bytes) -> bytes:
        """Seal a data key."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """Open what `wrap` returned; raises VaultError."""


class KeyMaster:
    """A master key that this process holds.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        vault = Vault(key)
        self.key = bytes(key)
        self._cipher = vault.derived(b"data key")
        self._name = f"key {vault.subkey(b'sealband/1 master name')[:8].hex()}"

    @property
    def name(self) -> str:
        """`key` and 16 hex digits that follow from the key alone, so a file may be moved."""
        return self._name

    def wrap(self, data_key: bytes) -> bytes:
        """Seal a data key (AES-256-GCM)."""
        return self._cipher.wrap(data_key, KEY_LABEL)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Open a data key; raises VaultError."""
        return self._cipher.unwrap(wrapped, KEY_LABEL)


class TokenMaster:
    """A master key on a token. Each use opens a session, logs in and ends it.

    Args:
        library: the loaded PKCS#11 library.
        uri: which token and key.
        pin: what `Token.open` takes as the user's PIN.

    Raises:
        SignerError: the token or key is not there or not unique, or the PIN is refused.
        MasterKeyRefused: the key is not an AES-256 key that stays on its token.
    """

    def __init__(self, library: Any, uri: Pkcs11Uri, pin: object) -> None:
        from pkcs11 import Attribute, KeyType

        self._library, self._uri, self._pin = library, uri, pin
        with logged_in(library, uri, pin) as session:
            key = self._key(session)
            if key[Attribute.KEY_TYPE] != KeyType.AES or key[Attribute.VALUE_LEN] != 32:
                raise MasterKeyRefused(f"not an AES key of 32 bytes: {uri}", "make one: sealband registry key create")
            if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
                raise MasterKeyRefused(
                    f"the key can be read out of its token: {uri}", "make one that is sensitive and not extractable"
                )
            token, label = session.token.label, key[Attribute.LABEL]
        # no digest of a key can be had from its token; which token it is tells two of one name apart
        text = repr((token, session.token.serial, label, uri.id))
        self._name = f"token {str(token)[:20]}/{str(label)[:20]} {sha256(text.encode()).hexdigest()[:8]}"

    @property
    def name(self) -> str:
        """`token`, the names of the token and the key, and 8 hex digits that tell tokens of one name apart."""
        return self._name

    def wrap(self, data_key: bytes) -> bytes:
        """Seal a data key by AES-GCM on the token (PKCS #11 v3.0 section 2.12)."""
        from pkcs11 import GCMParams, Mechanism

        nonce = os.urandom(NONCE_LEN)
        with logged_in(self._library, self._uri, self._pin) as session:
            parameters = GCMParams(nonce, KEY_LABEL, TAG_LEN * 8)
            sealed = self._key(session).encrypt(data_key, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
        return _TOKEN_VERSION + nonce + bytes(sealed)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Open a data key on the token; raises VaultError."""
        from pkcs11 import GCMParams, Mechanism, exceptions

        nonce, sealed = wrapped[1 : 1 + NONCE_LEN], wrapped[1 + NONCE_LEN :]
        if wrapped[:1] != _TOKEN_VERSION or len(sealed) < TAG_LEN:
            raise VaultError("not a key that a token wrapped")
        with logged_in(self._library, self._uri, self._pin) as session:
            key = self._key(session)
            try:
                parameters = GCMParams(nonce, KEY_LABEL, TAG_LEN * 8)
                return bytes(key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=parameters))
            except exceptions.PKCS11Error:  # tokens differ in how they say that a tag is wrong
                raise VaultError(f"the key on the token does not open the data key ({self._uri})") from None

    def _key(self, session: Any) -> Any:
        return only_object(session, self._uri, _template(self._uri), "secret key")


def open_master(
    name: str | Path | None, environment: Mapping[str, str] = os.environ, ask: Ask = ask_terminal
) -> Master:
    """The master key that a URI or path names.

    Args:
        name: see the module's opening; None stands for `$SEALBAND_MASTER_KEY`.
        environment: where `env:` looks.
        ask: asks a person for a PIN.

    Raises:
        MasterKeyRefused: it is missing, malformed, readable by others, or can be read out of its token.
        SignerError: the token or its key is not there, or the PIN is refused.
    """
    text = "" if name is None else str(name)
    scheme, colon, rest = text.partition(":")
    if scheme == "pkcs11" and colon:
        return TokenMaster(*reach_token(rest, ask))
    if scheme == "file" and colon:
        return KeyMaster(file_key(_path(rest)))
    if scheme == "env" and colon:
        return KeyMaster(environment_key(rest or ENVIRONMENT, environment))
    if ENVIRONMENT in environment:
        return KeyMaster(environment_key(ENVIRONMENT, environment))
    if not text:
        raise MasterKeyRefused("no master key", f"name one by its URI, or set ${ENVIRONMENT}")
    return KeyMaster(file_key(Path(text)))


def create_master(name: str | Path, ask: Ask = ask_terminal) -> None:
    """Make a new random master key where a URI or path says; never over one that is there.

    Raises:
        MasterKeyRefused: there is one already, or the URI names no place where one can be made.
        SignerError: the token is not there, or refuses.
    """
    scheme, colon, rest = str(name).partition(":")
    if scheme == "env" and colon:
        raise MasterKeyRefused("a key in the environment can't be made from here", "set it, or use file: or pkcs11:")
    if scheme == "pkcs11" and colon:
        _create_on_token(rest, ask)
        return
    path = _path(rest) if scheme == "file" and colon else Path(name)
    try:
        create_key_file(path)
    except FileExistsError:
        raise MasterKeyRefused(f"there is a master key already: {path}", "name a new file") from None


def file_of(name: str | Path, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The file that a URI or path names, or None if it names no file."""
    scheme, colon, rest = str(name).partition(":")
    if colon and scheme in SCHEMES:
        return _path(rest) if scheme == "file" else None
    return None if ENVIRONMENT in environment else Path(name)


def _path(rest: str) -> Path:
    if not rest.removeprefix("//"):
        raise MasterKeyRefused("file: names no file", "write file:PATH")
    return Path(unquote(rest.removeprefix("//")))


def _create_on_token(rest: str, ask: Ask) -> None:
    library, uri, pin = reach_token(rest, ask)
    from pkcs11 import Attribute, KeyType

    if not uri.object:
        raise MasterKeyRefused(f"the key has no name: {uri}", "say object=NAME in the URI")
    with logged_in(library, uri, pin, rw=True) as session:
        if list(session.get_objects(_template(uri))):
            raise MasterKeyRefused(f"there is such a key already: {uri}", "give another object=NAME")
        session.generate_key(
            KeyType.AES,
            256,
            label=uri.object,
            id=uri.id or os.urandom(8),
            store=True,
            template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
        )


def _template(uri: Pkcs11Uri) -> dict[Any, Any]:
    from pkcs11 import Attribute, ObjectClass

    template: dict[Any, Any] = {Attribute.CLASS: ObjectClass.SECRET_KEY}
    if uri.object is not None:
        template[Attribute.LABEL] = uri.object
    if uri.id is not None:
        template[Attribute.ID] = uri.id
    return template


__all__ = ["KeyMaster", "Master", "SignerError", "TokenMaster", "create_master", "file_of", "open_master"]
