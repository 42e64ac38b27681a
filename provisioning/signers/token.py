"""Private keys on PKCS#11 tokens, by python-pkcs11: the key never leaves its token, the PIN is used and never shown.

The library is the URI's `module-path`, else `SEALBAND_PKCS11_MODULE`, else the first of `LIBRARIES` that is found in
`FOLDERS`. The PIN is the first line of the URI's `pin-source`, else it is asked for; tokens with a keypad ask for it
themselves. One login is tried: three wrong ones lock many tokens for good.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from provisioning.signers.key import SIGNATURE_LEN, Signer, SignerError, verify
from provisioning.signers.secret import Ask, read_secret
from provisioning.signers.uri import Pkcs11Uri

MODULE = "SEALBAND_PKCS11_MODULE"
# a reader's own library first: SoftHSM keeps its keys in plain files
LIBRARIES = ("opensc-pkcs11.so", "libykcs11.so", "softhsm/libsofthsm2.so", "libsofthsm2.so")
FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/opt/homebrew/lib",
)

P256_OID = bytes.fromhex("06082a8648ce3d030107")  # DER of prime256v1 (RFC 5480 section 2.1.1.1)
POINT_LEN = 65


class TokenSigner:
    """A key on a token. Each use opens a session, logs in and ends it, so that no login outlives its signature.

    Args:
        library: the loaded PKCS#11 library.
        uri: which token and key.
        pin: what `Token.open` takes as the user's PIN.

    Raises:
        SignerError: the token or key is not there, is not unique, or the PIN is refused.
    """

    def __init__(self, library: Any, uri: Pkcs11Uri, pin: object) -> None:
        self._library, self._uri, self._pin = library, uri, pin
        with self._session() as session:
            private = only_object(session, uri, _private_template(uri), "private key")
            self._point = _public_point(session, private, uri)

    @property
    def public_key(self) -> bytes:
        """65 bytes: 04, x, y."""
        return self._point

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-256 over the message: 64 bytes, r then s.

        Raises:
            SignerError: the token is gone, or does not sign as its public key says.
        """
        from pkcs11 import Attribute, Mechanism

        with self._session() as session:
            private = only_object(session, self._uri, _private_template(self._uri), "private key")
            # keys of smart cards' signature slot want the PIN again for each signature
            again = (
                {"pin": self._pin}
                if isinstance(self._pin, str) and _get(private, Attribute.ALWAYS_AUTHENTICATE)
                else {}
            )
            signature = bytes(private.sign(sha256(message).digest(), mechanism=Mechanism.ECDSA, **again))
        if len(signature) != SIGNATURE_LEN or not verify(self._point, message, signature):
            raise SignerError(
                f"what the token signed does not fit its public key ({self._uri})",
                "check that both objects on the token belong to the same key",
            )
        return signature

    def _session(self) -> AbstractContextManager[Any]:
        return logged_in(self._library, self._uri, self._pin)


@contextmanager
def logged_in(library: Any, uri: Pkcs11Uri, pin: object, *, rw: bool = False) -> Iterator[Any]:
    """A session of the user on the token that a URI names; what fails in it is a SignerError."""
    from pkcs11 import exceptions

    token = find_token(library, uri)
    try:
        try:
            session = token.open(user_pin=pin, rw=rw)
        except exceptions.UserAlreadyLoggedIn:
            session = token.open(rw=rw)
        with session:
            yield session
    except exceptions.PKCS11Error as error:
        raise _explained(error, uri) from None


def open_token(rest: str, ask: Ask) -> Signer:
    """The key that a `pkcs11:` URI names, without its scheme."""
    return TokenSigner(*reach_token(rest, ask))


def reach_token(rest: str, ask: Ask) -> tuple[Any, Pkcs11Uri, object]:
    """(library, URI, PIN) for what follows `pkcs11:`.

    Raises:
        SignerError: there is no such token, or no PIN for it.
    """
    uri = Pkcs11Uri.parse(rest)
    try:
        import pkcs11
    except ImportError:
        raise SignerError(
            "keys on tokens need python-pkcs11, which is not installed", "pip install 'sealband[pkcs11]'"
        ) from None
    path = uri.module_path or os.environ.get(MODULE) or default_library()
    try:
        library = pkcs11.lib(path)
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as error:
        raise SignerError(
            f"the PKCS#11 library {path} cannot be used: {error or type(error).__name__}",
            f"name your token's library in module-path= or {MODULE}",
        ) from None
    token = find_token(library, uri)
    return library, uri, _pin(token, uri, ask)


def default_library() -> str:
    """Path of the first PKCS#11 library of `LIBRARIES` that is installed.

    Raises:
        SignerError: there is none.
    """
    for library in LIBRARIES:
        for folder in FOLDERS:
            if (path := Path(folder, library)).is_file():
                return str(path)
    raise SignerError(
        "no PKCS#11 library was found", f"install your token's (or softhsm2), or name it in module-path= or {MODULE}"
    )


def find_token(library: Any, uri: Pkcs11Uri) -> Any:
    """The only token that fits a URI.

    Raises:
        SignerError: none does, or more than one.
    """
    from pkcs11 import exceptions

    found, present = [], []
    try:
        for slot in library.get_slots(token_present=True):
            try:
                token = slot.get_token()
            except (exceptions.TokenNotPresent, exceptions.TokenNotRecognised):
                continue
            present.append(token.label)
            if _fits(token, uri):
                found.append(token)
    except exceptions.PKCS11Error as error:
        raise _explained(error, uri) from None
    if not found:
        there = ", ".join(repr(label) for label in sorted(present) if label) or "none"
        raise SignerError(f"there is no such token: {uri}", f"plug it in; tokens that are there: {there}")
    if len(found) > 1:
        raise SignerError(f"{len(found)} tokens fit: {uri}", "name the token's serial in the URI: serial=…")
    return found[0]


def _fits(token: Any, uri: Pkcs11Uri) -> bool:
    serial = (
        token.serial.decode("utf-8", "replace").strip() if isinstance(token.serial, bytes) else token.serial.strip()
    )
    wanted = (uri.token, uri.serial, uri.manufacturer, uri.model)
    has = (token.label, serial, token.manufacturer_id, token.model)
    return all(want is None or want == value.strip() for want, value in zip(wanted, has, strict=True))


def _pin(token: Any, uri: Pkcs11Uri, ask: Ask) -> object:
    from pkcs11 import PROTECTED_AUTH, TokenFlag

    flags = token.flags
    if flags & TokenFlag.USER_PIN_LOCKED:
        raise SignerError(f"the token's PIN is locked ({uri})", "unlock it with its administrator's PIN")
    if flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH:
        return PROTECTED_AUTH
    last = bool(flags & TokenFlag.USER_PIN_FINAL_TRY)
    if uri.pin_source and last:
        # a script that is run again must not be what locks the token
        raise SignerError(f"one more wrong PIN locks the token ({uri})", "give the PIN by hand: leave out pin-source")
    if uri.pin_source:
        return read_secret(Path(uri.pin_source), "PIN")
    pin = ask(f"PIN of {uri}" + (" (the last try)" if last else ""))
    if not pin:
        raise SignerError(
            f"no PIN was given ({uri})", "use a terminal, or name a file that holds it: ?pin-source=file:/path/of/pin"
        )
    return pin


def _private_template(uri: Pkcs11Uri) -> dict[Any, Any]:
    from pkcs11 import Attribute, ObjectClass

    template: dict[Any, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    if uri.object is not None:
        template[Attribute.LABEL] = uri.object
    if uri.id is not None:
        template[Attribute.ID] = uri.id
    return template


def only_object(session: Any, uri: Pkcs11Uri, template: dict[Any, Any], what: str) -> Any:
    found = list(session.get_objects(template))
    if not found:
        raise SignerError(f"the token has no such {what}: {uri}", "check object= and id= of the URI")
    if len(found) > 1:
        raise SignerError(
            f"{len(found)} objects of the token fit as {what}: {uri}", "say which one with object= and id="
        )
    return found[0]


def _public_point(session: Any, private: Any, uri: Pkcs11Uri) -> bytes:
    from pkcs11 import Attribute, KeyType, ObjectClass

    off_curve = SignerError(f"the key is not on the curve P-256: {uri}", "make one on the token: EC, prime256v1")
    if _get(private, Attribute.KEY_TYPE) != KeyType.EC or _get(private, Attribute.EC_PARAMS) != P256_OID:
        raise off_curve
    # both halves of a pair bear the same id; a token without ids at least gives them the same name
    shared = {Attribute.ID: _get(private, Attribute.ID)} if _get(private, Attribute.ID) else {}
    shared = shared or {Attribute.LABEL: _get(private, Attribute.LABEL)}
    public = only_object(session, uri, {Attribute.CLASS: ObjectClass.PUBLIC_KEY, **shared}, "public key")
    point = bytes(_get(public, Attribute.EC_POINT) or b"")
    if len(point) == POINT_LEN + 2 and point[:2] == bytes([4, POINT_LEN]):
        point = point[2:]  # a DER OCTET STRING (PKCS #11 section 6.3.3); some tokens leave it out
    if _get(public, Attribute.EC_PARAMS) != P256_OID or len(point) != POINT_LEN or point[0] != 4:
        raise off_curve
    return point


def _get(key: Any, attribute: Any) -> Any:
    from pkcs11 import exceptions

    try:
        return key[attribute]
    except (exceptions.AttributeTypeInvalid, exceptions.AttributeSensitive, KeyError):
        return None


def _explained(error: Exception, uri: Pkcs11Uri) -> SignerError:
    from pkcs11 import exceptions

    if isinstance(error, exceptions.PinIncorrect | exceptions.PinInvalid | exceptions.PinLenRange):
        return SignerError(
            f"the token refused the PIN ({uri})", "check it before you try again: tokens lock after a few"
        )
    if isinstance(error, exceptions.PinLocked):
        return SignerError(f"the token's PIN is locked ({uri})", "unlock it with its administrator's PIN")
    if isinstance(error, exceptions.UserPinNotInitialized):
        return SignerError(f"the token has no user PIN yet ({uri})", "set one with the token's own tool")
    # its text may quote what it was given; its name cannot
    return SignerError(f"the token failed with {type(error).__name__} ({uri})", "check the token and its library")
