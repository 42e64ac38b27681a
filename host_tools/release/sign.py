"""What a person sees before a release is signed, and the signing. Nothing is signed that could not be read and shown.

A candidate is made of the very bytes that are signed later: the manifest, the image that it names (its digest computed
anew, its files taken apart by the rules of the device), what `release.json` says of both, and the release before.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from host_tools.release import archive, files, manifest, pack
from host_tools.release.build import DESCRIPTION, IMAGE_MAX, IMAGES, MANIFEST, description
from host_tools.release.cose import CoseError, Sign1, sign1
from provisioning import signers
from sealwire import manifest as wire
from sealwire.update import ENVELOPE_MAX

DESCRIPTION_MAX = 1 << 20


class SignRefused(Exception):
    """A release is not signed: it is not what it says it is, or must not follow the one before."""

    def __init__(
        self, what: str, remedy: str = "build it anew from sources that you trust: sealband release build"
    ) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Candidate:
    """A release as it lies on disk, read once.

    Attributes:
        path: of its envelope.
        envelope: its bytes.
        parsed: what they say.
        entries: the image's files; none if it is firmware.
    """

    path: Path
    envelope: bytes
    parsed: manifest.Parsed
    entries: tuple[archive.Entry, ...]

    @property
    def text(self) -> manifest.Text:
        """Model and version, which a candidate always says."""
        assert self.parsed.release.text
        return self.parsed.release.text


@dataclass(frozen=True)
class Change:
    """A file that is not what it was in the release before.

    Attributes:
        name: of the file.
        what: "added", "removed" or "changed".
        before, after: its size in bytes, or None.
    """

    name: str
    what: str
    before: int | None
    after: int | None


def open_release(path: Path, image: Path | None = None) -> Candidate:
    """Read a release and check that it is in itself what it says.

    Args:
        path: the release's folder, or its envelope with the image beside it.
        image: the image, if it lies elsewhere.

    Raises:
        SignRefused: the image is not the manifest's, breaks a rule of the device, or `release.json` says otherwise.
        manifest.ManifestError: the envelope is not of the subset.
        OSError: a file cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    path = path / MANIFEST if path.is_dir() else path
    envelope = files.read(path, ENVELOPE_MAX)
    parsed = manifest.decode(envelope)
    release = parsed.release
    if release.text is None:
        raise SignRefused("the manifest does not say its model and version, so nobody could see what is signed")
    for encoded in parsed.signatures:
        try:
            Sign1.from_bytes(encoded)
        except CoseError as error:
            raise SignRefused(f"a signature that is there already is none: {error}") from None
    image = image or folder / IMAGES[release.component]
    if not image.exists():
        raise SignRefused(
            f"the image {image} is not there, so what would be signed can't be shown", "name it with --image"
        )
    content = files.read(image, IMAGE_MAX)
    digest = sha256(content).digest()
    if digest != release.digest or len(content) != release.size:
        raise SignRefused(
            f"the image {image} is not the one that the manifest names: its SHA-256 is {digest.hex()} "
            f"({len(content)} bytes), the manifest says {release.digest.hex()} ({release.size} bytes)"
        )
    entries: tuple[archive.Entry, ...] = ()
    if release.component == wire.COMPONENT_APP:
        read = archive.parse(content)
        if wrong := read.format or read.names or read.order or read.count:
            raise SignRefused(f"no device would install the image: {wrong}")
        try:
            entries = pack.contents(content)
        except pack.PackRefused as error:
            raise SignRefused(f"no device could run the image: {pack.NAME}: {error}") from None
    if (folder / DESCRIPTION).exists():
        _compare(_description(folder / DESCRIPTION), parsed, entries)
    return Candidate(path, envelope, parsed, entries)


def changes(before: Candidate, after: Candidate) -> tuple[Change, ...]:
    """What a release changes in the files of the one before, sorted by name.

    Raises:
        SignRefused: it is for another model or component, or its sequence is not above.
    """
    old, new = before.parsed.release, after.parsed.release
    if (old.vendor, old.class_id, old.component) != (new.vendor, new.class_id, new.component):
        raise SignRefused(
            f"the release before is for another model or component ({before.text.model!r}, "
            f"{old.component.decode()}) than this one ({after.text.model!r}, {new.component.decode()})",
            "name the release that it follows with --previous",
        )
    if new.sequence <= old.sequence:
        raise SignRefused(
            f"sequence {new.sequence} is not above the one before, {old.sequence}: "
            "devices that run that one would refuse it",
            "build it with a higher sequence",
        )
    then = {entry.name: entry for entry in before.entries}
    now = {entry.name: entry for entry in after.entries}
    found = []
    for name in sorted(then.keys() | now.keys()):
        one, other = then.get(name), now.get(name)
        if one and other and one.sha256 == other.sha256:
            continue
        what = "changed" if one and other else "added" if other else "removed"
        found.append(Change(name, what, one.size if one else None, other.size if other else None))
    return tuple(found)


def sign(candidate: Candidate, signer: signers.Signer) -> bytes:
    """The candidate's envelope with one more signature.

    Raises:
        SignRefused: this key has signed it already, or its signature does not verify.
        signers.SignerError: the key cannot be used.
    """
    kid = signers.kid(signer.public_key)
    payload = candidate.parsed.payload
    for encoded in candidate.parsed.signatures:
        there = Sign1.from_bytes(encoded)
        # by the key, whatever name the header gives
        if there.signed_by(signer.public_key, payload):
            raise SignRefused(f"the key {kid.hex()} has signed this release already", "let another signer do it")
        if there.kid == kid:
            raise SignRefused(f"there is a false signature in the name of the key {kid.hex()}")
    added = sign1(signer, payload)
    if not Sign1.from_bytes(added).signed_by(signer.public_key, payload):
        raise SignRefused(f"the key {kid.hex()} made a signature that does not verify", "check the key")
    return manifest.with_signature(candidate.envelope, added)


def _description(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(files.read(path, DESCRIPTION_MAX))
    except (ValueError, RecursionError):
        raise SignRefused(f"{path} is not JSON") from None
    if not isinstance(value, dict):
        raise SignRefused(f"{path} is not a description of a release")
    return value


def _compare(says: Mapping[str, Any], parsed: manifest.Parsed, entries: tuple[archive.Entry, ...]) -> None:
    for field, value in description(parsed, entries).items():
        if says.get(field) != value or type(says[field]) is not type(value):
            raise SignRefused(f"{DESCRIPTION} says another {field} than manifest and image")
