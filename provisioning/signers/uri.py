"""The PKCS #11 URI (RFC 7512): which token and which object of it are meant. Pure: opens nothing.

pkcs11:token=Release;object=alice;id=%01?pin-source=file:/run/pin&module-path=/usr/lib/softhsm/libsofthsm2.so

Only what selects a private key is known. Anything else is refused, since leaving it out would select more. A PIN in the
URI (`pin-value`) is refused as well: every process of the machine sees the arguments of the others.
"""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from provisioning.signers.key import SignerError

_PATH = ("token", "object", "id", "serial", "manufacturer", "model", "type")
_QUERY = ("pin-source", "module-path")
_EXAMPLE = "write pkcs11:token=NAME;object=NAME?pin-source=file:/path/of/pin"


@dataclass(frozen=True)
class Pkcs11Uri:
    """A key on a token; what is None may be anything.

    Attributes:
        token, serial, manufacturer, model: of the token.
        object: the key's CKA_LABEL.
        id: the key's CKA_ID.
        pin_source: path of a file whose first line is the PIN.
        module_path: the library to load.
    """

    token: str | None = None
    object: str | None = None
    id: bytes | None = None
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    pin_source: str | None = None
    module_path: str | None = None

    @classmethod
    def parse(cls, rest: str) -> "Pkcs11Uri":
        """Parse what follows `pkcs11:`.

        Raises:
            SignerError: an attribute is not known, stands there twice or has a value that it can't have.
        """
        path, _, query = rest.partition("?")
        found = {**_attributes(path, ";", _PATH), **_attributes(query, "&", _QUERY)}
        if found.pop("type", b"private") != b"private":
            raise SignerError(
                "the pkcs11 URI names an object that is not a private key", "leave out type=, or say private"
            )
        identifier = found.pop("id", None)
        try:
            text = {name.replace("-", "_"): value.decode() for name, value in found.items()}
        except UnicodeDecodeError:
            raise SignerError("the pkcs11 URI is not UTF-8", _EXAMPLE) from None
        source = text.pop("pin_source", None)
        if source is not None:
            scheme, _, source = source.partition(":")
            if scheme != "file" or not source:
                raise SignerError("pin-source is not a file: URI", "write pin-source=file:/path/of/pin")
            source = "/" + source.lstrip("/") if source.startswith("/") else source
        return cls(id=identifier, pin_source=source, **text)

    def __str__(self) -> str:
        """For messages: which key; neither where its PIN is nor which library."""
        shown = [f"token {self.token!r}"] if self.token else ["any token"]
        shown += [f"{name} {value!r}" for name in ("serial", "manufacturer", "model") if (value := getattr(self, name))]
        shown += [f"object {self.object!r}"] if self.object else []
        shown += [f"id {self.id.hex()}"] if self.id else []
        return ", ".join(shown)


def _attributes(text: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise SignerError(
                "the pkcs11 URI holds a PIN, which every process of this machine can see",
                "change the PIN, then leave out pin-value: it is asked for, or name pin-source=file:/path/of/pin",
            )
        if name not in known:
            # shown without its value, which may be a secret in the wrong place
            raise SignerError(f"the pkcs11 URI has {name!r}, which is not known here", _EXAMPLE)
        if not equals or not value or name in found:
            raise SignerError(f"the pkcs11 URI has {name!r} without a value or twice", _EXAMPLE)
        found[name] = unquote_to_bytes(value)
    return found
