"""The SUIT manifest of a release: written, and read so strictly that what is read could only be written this way.

Subset of draft-ietf-suit-manifest-37 (device/lib/sealwire/README.md, "Update"): one component, vendor, class, digest,
size and address; and a text (key 23) in which people read the same. Signatures are carried, not made and not verified.
Written apart from the device's code for the same bytes. No IO.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_DNS, UUID, uuid5

import cbor2

from provisioning import cbor
from sealwire import manifest as wire
from sealwire.update import ENVELOPE_MAX, FULL_NAME, SIGNATURES_MAX, URL_MAX

COMPONENTS = (wire.COMPONENT_APP, wire.COMPONENT_FW)
NUMBER_MAX = (1 << 32) - 1  # the boot record's sequences have four bytes
TEXT_MAX = 80
LANGUAGE = "en"

_MANIFEST_VERSION = 1
_DIGEST_LEN = 32
# draft-ietf-suit-manifest, suit-text-component keys
_TEXT_MODEL = 2
_TEXT_VENDOR_DOMAIN = 3
_TEXT_VERSION = 6


class ManifestError(Exception):
    """An envelope or a manifest is not one of ours; `reason` says what is wrong."""

    remedy = "build the release anew with sealband release build"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Text:
    """What people read of a release; signed with the rest.

    Attributes:
        vendor: the vendor's domain name, of which the vendor's UUID is made.
        model: of which, with the vendor, the class's UUID is made.
        version: for people only; devices compare the sequence.

    Raises:
        ManifestError: a field is empty, too long, or would not be shown as it is.
    """

    vendor: str
    model: str
    version: str

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            # what a terminal could take for a command must never reach a signer's eyes
            if not isinstance(value, str) or not 0 < len(value) <= TEXT_MAX or not value.isprintable():
                raise ManifestError(f"the manifest's text for the {field} is not 1 to {TEXT_MAX} printable characters")


@dataclass(frozen=True)
class Release:
    """What a manifest says about one image; made only if it could be written.

    Attributes:
        component: b"app" (the application's slot) or b"fw" (the chip's firmware).
        vendor: UUID of the vendor.
        class_id: UUID of the model.
        sequence: 1 and up; devices take only what is above their highest confirmed one.
        digest: SHA-256 of the image.
        size: of the image, in bytes.
        uri: where the image lies, relative to the manifest.
        text: the same for people, or None.

    Raises:
        ManifestError: a field is out of its range, or the text names another vendor or model than the UUIDs.
    """

    component: bytes
    vendor: UUID
    class_id: UUID
    sequence: int
    digest: bytes
    size: int
    uri: str
    text: Text | None = None

    def __post_init__(self) -> None:
        if self.component not in COMPONENTS:
            raise ManifestError("the component is neither app nor fw")
        if type(self.sequence) is not int or not 1 <= self.sequence <= NUMBER_MAX:
            raise ManifestError("the sequence is not a whole number from 1 to 2^32 − 1")
        if not isinstance(self.digest, bytes) or len(self.digest) != _DIGEST_LEN:
            raise ManifestError(f"the image's digest is not {_DIGEST_LEN} bytes")
        if type(self.size) is not int or not 1 <= self.size <= NUMBER_MAX:
            raise ManifestError("the image's size is not a whole number from 1 to 2^32 − 1")
        if not isinstance(self.uri, str) or not 0 < len(self.uri) <= URL_MAX:
            raise ManifestError(f"the image's address is not 1 to {URL_MAX} characters")
        if not self.uri.isascii() or not self.uri.isprintable() or " " in self.uri:
            raise ManifestError("the image's address holds a character that no address has")
        if self.text and (self.vendor, self.class_id) != identifiers(self.text.vendor, self.text.model):
            raise ManifestError("the manifest's text names another vendor or model than its identifiers")


@dataclass(frozen=True)
class Parsed:
    """An envelope that was read; nothing about it is verified but that its digest is its manifest's.

    Attributes:
        release: what the manifest says.
        manifest_digest: SHA-256 of the manifest with its byte string's head.
        signatures: COSE_Sign1 messages (tag 18), encoded, in their order.
    """

    release: Release
    manifest_digest: bytes
    signatures: tuple[bytes, ...]

    @property
    def payload(self) -> bytes:
        """What each signature signs: the encoded SUIT_Digest."""
        return _digest(self.manifest_digest)


def identifiers(vendor: str, model: str) -> tuple[UUID, UUID]:
    """The UUIDs of a vendor (a domain name) and of one of its models (RFC 9562 section 5.5)."""
    vendor_id = uuid5(NAMESPACE_DNS, vendor)
    return vendor_id, uuid5(vendor_id, model)


def full_uri(digest: bytes) -> str:
    """Where an image lies, relative to its manifest."""
    return FULL_NAME % digest.hex()


def encode(release: Release) -> bytes:
    """The envelope of a release that nobody has signed yet.

    Raises:
        ManifestError: it would be longer than devices take.
    """
    manifest = _manifest(release)
    return _envelope(manifest, [_digest(_manifest_digest(manifest))])


def decode(envelope: bytes) -> Parsed:
    """Read an envelope.

    Raises:
        ManifestError: it is not deterministic CBOR, holds anything beside the subset, lacks something, or its digest is
            not that of its manifest.
    """
    manifest, block = _open(envelope)
    digest = _manifest_digest(manifest)
    if block[0] != _digest(digest):
        raise ManifestError("the signed digest is not that of the manifest")
    for one in block[1:]:
        item = _loads(one, "a signature")
        if not isinstance(item, cbor2.CBORTag) or item.tag != wire.TAG_SIGN1:
            raise ManifestError("a signature is not a COSE_Sign1")
    release = _release(manifest)
    # whatever the walk below let through, such as true in place of 1
    if _manifest(release) != manifest:
        raise ManifestError("the manifest is not written as this subset writes it")
    return Parsed(release, digest, tuple(block[1:]))


def signature_payload(envelope: bytes) -> bytes:
    """What is signed: the encoded SUIT_Digest of an envelope that `decode` takes.

    Raises:
        ManifestError: as `decode`.
    """
    return decode(envelope).payload


def with_signature(envelope: bytes, cose_sign1: bytes) -> bytes:
    """The envelope with one more signature behind the others; whether it is valid is not asked.

    Raises:
        ManifestError: the envelope or the signature is none, or there would be more than devices take.
    """
    decode(envelope)
    manifest, block = _open(envelope)
    if len(block) > SIGNATURES_MAX:
        raise ManifestError(f"the manifest has {SIGNATURES_MAX} signatures; devices take no more")
    signed = _envelope(manifest, [*block, cose_sign1])
    decode(signed)
    return signed


def _open(envelope: bytes) -> tuple[bytes, list[bytes]]:
    # the manifest's bytes, and those of the authentication block's members
    if len(envelope) > ENVELOPE_MAX:
        raise ManifestError(f"an envelope of {len(envelope)} bytes is longer than {ENVELOPE_MAX}")
    item = _loads(envelope, "the envelope")
    if not isinstance(item, cbor2.CBORTag) or item.tag != wire.TAG_ENVELOPE:
        raise ManifestError("it is no SUIT envelope")
    fields = _fields(item.value, "the envelope", {wire.AUTHENTICATION, wire.MANIFEST})
    block = _array(_inner(fields[wire.AUTHENTICATION], "the authentication block"), "the authentication block")
    if not 1 <= len(block) <= 1 + SIGNATURES_MAX:
        raise ManifestError(f"the authentication block is not a digest and up to {SIGNATURES_MAX} signatures")
    if not all(isinstance(member, bytes) for member in block):
        raise ManifestError("the authentication block holds something that is not bytes")
    if not isinstance(fields[wire.MANIFEST], bytes):
        raise ManifestError("the manifest is not a byte string")
    return fields[wire.MANIFEST], block


def _release(manifest: bytes) -> Release:
    required = {wire.VERSION, wire.SEQUENCE, wire.COMMON, wire.VALIDATE, wire.INSTALL}
    fields = _fields(_loads(manifest, "the manifest"), "the manifest", required, {wire.TEXT})
    if fields[wire.VERSION] != _MANIFEST_VERSION:
        raise ManifestError("the manifest's version is not 1")
    common = _fields(_inner(fields[wire.COMMON], "common"), "common", {wire.COMPONENTS, wire.SHARED_SEQUENCE})
    component = _component(common[wire.COMPONENTS])
    shared = _inner(common[wire.SHARED_SEQUENCE], "the shared sequence")
    parameters = _fields(
        _parameters(shared, [wire.CONDITION_VENDOR, wire.CONDITION_CLASS], "the shared sequence"),
        "the shared parameters",
        {wire.PARAM_VENDOR, wire.PARAM_CLASS, wire.PARAM_DIGEST, wire.PARAM_SIZE},
    )
    install = _inner(fields[wire.INSTALL], "install")
    fetch = _fields(
        _parameters(install, [wire.FETCH, wire.CONDITION_IMAGE_MATCH], "install"),
        "the parameters of install",
        {wire.PARAM_URI},
    )
    validate = _array(_inner(fields[wire.VALIDATE], "validate"), "validate")
    if validate != _commands([wire.CONDITION_IMAGE_MATCH]):
        raise ManifestError("validate holds other commands than the subset")
    return Release(
        component=component,
        vendor=_uuid(parameters[wire.PARAM_VENDOR], "vendor"),
        class_id=_uuid(parameters[wire.PARAM_CLASS], "class"),
        sequence=fields[wire.SEQUENCE],
        digest=_image_digest(parameters[wire.PARAM_DIGEST]),
        size=parameters[wire.PARAM_SIZE],
        uri=fetch[wire.PARAM_URI],
        text=_text(fields[wire.TEXT], component) if wire.TEXT in fields else None,
    )


def _component(value: Any) -> bytes:
    components = _array(value, "the list of components")
    if len(components) != 1:
        raise ManifestError("the manifest is not about one component")
    names = _array(components[0], "the component")
    if len(names) != 1 or names[0] not in COMPONENTS:
        raise ManifestError("the component is neither app nor fw")
    return bytes(names[0])


def _parameters(value: Any, then: list[int], what: str) -> Any:
    # [20, {parameters}, command, 15, command, 15]
    sequence = _array(value, what)
    if len(sequence) < 2 or sequence[0] != wire.OVERRIDE_PARAMETERS or sequence[2:] != _commands(then):
        raise ManifestError(f"{what} holds other commands than the subset")
    return sequence[1]


def _image_digest(value: Any) -> bytes:
    parts = _array(_inner(value, "the image's digest"), "the image's digest")
    if len(parts) != 2 or parts[0] != wire.ALG_SHA256 or not isinstance(parts[1], bytes):
        raise ManifestError("the image's digest is not by SHA-256")
    return parts[1]


def _uuid(value: Any, what: str) -> UUID:
    if not isinstance(value, bytes) or len(value) != 16:
        raise ManifestError(f"the {what} is not a UUID of 16 bytes")
    return UUID(bytes=value)


def _text(value: Any, component: bytes) -> Text:
    if not isinstance(value, bytes):
        raise ManifestError("the manifest's text is not in it, so nobody could read what is signed")
    texts = _loads(value, "the text")
    if not isinstance(texts, Mapping) or set(texts) != {LANGUAGE}:
        raise ManifestError(f"the text is not in the language {LANGUAGE!r} alone")
    entries = texts[LANGUAGE]
    if not isinstance(entries, Mapping) or set(entries) != {(component,)}:
        raise ManifestError("the text is not about the component")
    known = {_TEXT_MODEL, _TEXT_VENDOR_DOMAIN, _TEXT_VERSION}
    fields = _fields(entries[(component,)], "the text", known)
    return Text(fields[_TEXT_VENDOR_DOMAIN], fields[_TEXT_MODEL], fields[_TEXT_VERSION])


def _manifest(release: Release) -> bytes:
    shared = [
        wire.OVERRIDE_PARAMETERS,
        {
            wire.PARAM_VENDOR: release.vendor.bytes,
            wire.PARAM_CLASS: release.class_id.bytes,
            wire.PARAM_DIGEST: _digest(release.digest),
            wire.PARAM_SIZE: release.size,
        },
        *_commands([wire.CONDITION_VENDOR, wire.CONDITION_CLASS]),
    ]
    install = [
        wire.OVERRIDE_PARAMETERS,
        {wire.PARAM_URI: release.uri},
        *_commands([wire.FETCH, wire.CONDITION_IMAGE_MATCH]),
    ]
    fields: dict[int, object] = {
        wire.VERSION: _MANIFEST_VERSION,
        wire.SEQUENCE: release.sequence,
        wire.COMMON: cbor.dumps(
            {wire.COMPONENTS: [[release.component]], wire.SHARED_SEQUENCE: cbor.dumps(shared)},
        ),
        wire.VALIDATE: cbor.dumps(_commands([wire.CONDITION_IMAGE_MATCH])),
        wire.INSTALL: cbor.dumps(install),
    }
    if release.text:
        words = {
            _TEXT_MODEL: release.text.model,
            _TEXT_VENDOR_DOMAIN: release.text.vendor,
            _TEXT_VERSION: release.text.version,
        }
        fields[wire.TEXT] = cbor.dumps({LANGUAGE: {(release.component,): words}})
    return cbor.dumps(fields)


def _envelope(manifest: bytes, block: list[bytes]) -> bytes:
    fields = {wire.AUTHENTICATION: cbor.dumps(block), wire.MANIFEST: manifest}
    envelope = cbor.dumps(cbor2.CBORTag(wire.TAG_ENVELOPE, fields))
    if len(envelope) > ENVELOPE_MAX:
        raise ManifestError(f"an envelope of {len(envelope)} bytes is longer than the {ENVELOPE_MAX} that devices take")
    return envelope


def _commands(commands: list[int]) -> list[int]:
    # each with its reporting policy
    return [number for command in commands for number in (command, wire.REPORT_ALL)]


def _digest(digest: bytes) -> bytes:
    return cbor.dumps([wire.ALG_SHA256, digest])


def _manifest_digest(manifest: bytes) -> bytes:
    # "covers the manifest with its bstr head"
    return hashlib.sha256(cbor.dumps(manifest)).digest()


def _inner(value: Any, what: str) -> Any:
    if not isinstance(value, bytes):
        raise ManifestError(f"{what} is not a byte string")
    return _loads(value, what)


def _array(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ManifestError(f"{what} is not an array")
    return list(value)


def _fields(value: Any, what: str, required: set[int], optional: set[int] | None = None) -> Mapping[int, Any]:
    if not isinstance(value, Mapping) or any(type(label) is not int for label in value):
        raise ManifestError(f"{what} is not a map by number")
    if missing := required - set(value):
        raise ManifestError(f"{what} lacks the field {min(missing)}")
    if unknown := set(value) - required - (optional or set()):
        raise ManifestError(f"{what} has a field that the subset does not name: {min(unknown)}")
    return value


def _loads(data: bytes, what: str) -> Any:
    try:
        return cbor.loads(data)
    except ValueError as error:
        raise ManifestError(f"{what} is {error}") from None
