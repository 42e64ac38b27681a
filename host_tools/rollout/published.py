"""A published release, as it lies in a repository's folder: read, checked, and named by the URL that devices fetch.

Writes nothing and fetches nothing. A device verifies all of it again; what is refused here would be refused by every
device of the fleet, after it was woken up for it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid5

from host_tools.release import files, manifest, verify
from host_tools.rollout.errors import RolloutError
from sealwire.update import ENVELOPE_MAX, TRUST_MAX, URL_MAX

MANIFEST_NAME = "manifest.suit"

# the one form of URL that devices fetch; device/lib/sealband/update/address.py says why
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_OCTET = r"(?:0|[1-9]\d{0,2})"
_HOST = rf"(?:(?:{_LABEL}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?|{_OCTET}(?:\.{_OCTET}){{3}})"
_URL = re.compile(rf"https?://({_HOST})(?::([1-9]\d{{0,4}}))?((?:/[A-Za-z0-9._~-]+)+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Published:
    """What a rollout needs to know of a release.

    Attributes:
        model: of the boards that it is for.
        component: "app" or "fw".
        sequence: 1 and up.
        version: for people; "" if the manifest does not say.
        manifest_digest: 32 bytes, what the signatures cover.
        image_digest: 32 bytes.
        size: of the image, bytes.
        url: of the manifest.
    """

    model: str
    component: str
    sequence: int
    version: str
    manifest_digest: bytes
    image_digest: bytes
    size: int
    url: str


def read(path: Path, url: str, model: str, trust_list: Path | None = None, now_s: int | None = None) -> Published:
    """Read a manifest that is served at `url`.

    Args:
        path: the signed envelope, or a copy of it.
        url: where devices fetch it.
        model: whom it is for.
        trust_list: the file of the trust list that devices have; None: signatures are not looked at.
        now_s: seconds since 2025.

    Raises:
        RolloutError: it is no manifest, not for this model, not trusted, or the URL is not one that devices fetch.
        FileRefused: a file is longer than it may be.
        OSError: a file cannot be read.
    """
    check_url(url)
    envelope = files.read(path, ENVELOPE_MAX)
    try:
        parsed = manifest.decode(envelope)
    except manifest.ManifestError as error:
        raise RolloutError(f"{path} is no manifest: {error.reason}", "name the manifest.suit of a release") from None
    release = parsed.release
    # the class is made of the vendor's UUID and the model's name, so the name is the manifest's own word
    if uuid5(release.vendor, model) != release.class_id:
        said = f" but for {release.text.model}" if release.text else ""
        raise RolloutError(f"the manifest is not for {model}{said}", "name the model that it was built for")
    if not parsed.signatures:
        raise RolloutError("the manifest is not signed", "sign it: sealband release sign")
    if trust_list is not None:
        _verify(envelope, files.read(trust_list, TRUST_MAX), now_s)
    return Published(
        model=model,
        component=release.component.decode("ascii"),
        sequence=release.sequence,
        version=release.text.version if release.text else "",
        manifest_digest=parsed.manifest_digest,
        image_digest=release.digest,
        size=release.size,
        url=url,
    )


def find(
    directory: Path,
    base_url: str,
    model: str,
    sequence: int | None = None,
    trust_list: Path | None = None,
    now_s: int | None = None,
) -> Published:
    """Read a release of a repository (what `sealband release publish` made), by default a model's newest.

    Args:
        directory: the repository.
        base_url: where it is served.
        model: its folder in the repository.
        sequence: the release's folder in that.

    Raises:
        RolloutError: there is none, it is not whole, or as for `read`.
    """
    folder = directory / model
    present = sorted(
        int(entry.name) for entry in (folder.iterdir() if folder.is_dir() else ()) if re.fullmatch(r"\d+", entry.name)
    )
    if not present:
        raise RolloutError(
            f"{directory} holds no release for {model}", "publish one there: sealband release publish, or check --model"
        )
    chosen = present[-1] if sequence is None else sequence
    if chosen not in present:
        held = ", ".join(map(str, present[-8:]))
        raise RolloutError(f"{directory} holds no release {chosen} for {model}", f"it holds {held}")
    home = folder / str(chosen)
    found = read(
        home / MANIFEST_NAME, f"{base_url.rstrip('/')}/{model}/{chosen}/{MANIFEST_NAME}", model, trust_list, now_s
    )
    if found.sequence != chosen:
        raise RolloutError(f"{home} holds release {found.sequence}", "publish the release again")
    if not (home / manifest.full_uri(found.image_digest)).is_file():
        raise RolloutError(f"{home} holds no image for its manifest", "publish the release again")
    return found


def check_url(url: str) -> None:
    """Refuse what devices would not fetch.

    Raises:
        RolloutError: says what is wrong.
    """
    if len(url) > URL_MAX:
        raise RolloutError(f"the URL has {len(url)} characters", f"devices take at most {URL_MAX}: serve it elsewhere")
    fitting = _URL.fullmatch(url)
    port = fitting.group(2) if fitting else None
    octets = [int(part) for part in fitting.group(1).split(".")] if fitting and fitting.group(1)[-1].isdigit() else []
    if (
        not fitting
        or set(fitting.group(3).split("/")) & {".", ".."}
        or (port and int(port) > 65535)
        or any(octet > 255 for octet in octets)
    ):
        raise RolloutError(
            f"devices do not fetch {url!r}", "write https://host/path/manifest.suit, plainly: no user, query or %"
        )


def _verify(envelope: bytes, trust_list: bytes, now_s: int | None) -> None:
    report = verify.verify(envelope, trust_list, now_s=now_s)
    if not report.ok:
        first = next((rule for rule in report.rules if rule.holds is False), None)
        said = f"{first.name}: {first.text}" if first else "not all of it could be checked"
        raise RolloutError(f"devices would refuse the release: {said}", "see: sealband release verify")
