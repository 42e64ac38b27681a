"""A repository: the static files from which devices fetch releases, for any web server.

    releases.json                                     what is there, for programs
    <model>/<sequence>/manifest.suit                  signed
    <model>/<sequence>/trust/<version>.cbor           every trust list, so that a device finds the next one
    <model>/<sequence>/<image digest>/full.deflate    the image; of firmware, in sections
    <model>/<sequence>/<image digest>/from-<digest>.patch   what makes it of an image before
    <model>/<sequence>/app.tar (fw.bin), release.json, sbom.cdx.json

Nothing is published that the trust list does not allow, and no patch that was not applied first. A release appears
whole; what is there already only ever gets more signatures, trust lists and patches.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from host_tools.release import archive, build, files, manifest, pack, patch, tree, trust, verify
from host_tools.release.cose import Sign1
from sealwire.manifest import COMPONENT_APP
from sealwire.update import ENVELOPE_MAX, FULL_NAME, PATCH_NAME, TRUST_MAX, TRUST_NAME

INDEX = "releases.json"
PATCHES = 3
PATCHES_MAX = 16
_FORMAT = 1
_MODEL = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}", re.ASCII)
_SBOM_MAX = 1 << 24


class PublishRefused(Exception):
    """A release is not published: no device would or should take it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Published:
    """What was done.

    Attributes:
        folder: of the release in the repository.
        parsed: its manifest.
        full: bytes of the full image as it is delivered.
        patches: sequence of the base → bytes of the patch.
        trust: versions of the trust lists beside it.
        added: files that were not there before, relative to `folder`.
    """

    folder: Path
    parsed: manifest.Parsed
    full: int
    patches: dict[int, int]
    trust: tuple[int, ...]
    added: tuple[str, ...]


@dataclass(frozen=True)
class _Base:
    # a release that is published already
    sequence: int
    component: bytes
    digest: bytes
    image: Path


def publish(
    directory: Path, release_folder: Path, trust_lists: Sequence[bytes], *, now_s: int, keep: int = PATCHES
) -> Published:
    """Publish a signed release, or add to one that is published already.

    Args:
        directory: the repository; it is made if it is not there.
        release_folder: as `sealband release build` made it, signed since.
        trust_lists: files of the trust lists, at least the newest one that is known to be right. Others that are
            published for the model already are kept, if each follows the one before it.
        now_s: seconds since 2025.
        keep: from how many of the last releases of the same model and component there are to be patches, at most 16.

    Raises:
        PublishRefused: the release breaks a rule, another one of this sequence is published, or the lists are no chain.
        manifest.ManifestError, trust.TrustError, files.FileRefused: a file is not what it is named.
        OSError: a file cannot be read or written.
    """
    envelope = files.read(release_folder / build.MANIFEST, ENVELOPE_MAX)
    parsed = manifest.decode(envelope)
    release = parsed.release
    if release.text is None or not _MODEL.fullmatch(release.text.model):
        raise PublishRefused(
            "the manifest does not say a model that a folder can be named after", "build the release with this program"
        )
    image = files.read(release_folder / build.IMAGES[release.component], build.IMAGE_MAX)
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        shelf = directory / release.text.model
        bases = _published(shelf)
        lists = _chain([*trust_lists, *_carried(shelf, bases)])
        _check(envelope, lists[max(lists)], image, now_s)
        contents, patches = _delivery(release, image, bases, keep)
        contents |= {TRUST_NAME % version: data for version, data in lists.items()}
        contents |= {build.MANIFEST: envelope, build.IMAGES[release.component]: image}
        contents[build.DESCRIPTION] = build.describe(parsed, _entries(release, image))
        if (release_folder / build.SBOM).exists():
            contents[build.SBOM] = _sbom(release_folder / build.SBOM, release)
        target = shelf / str(release.sequence)
        if target.exists():
            added = _add(target, contents, parsed)
        else:
            with tree.whole(target) as beside:
                tree.write(beside, contents)
            added = sorted(contents)
        files.replace(directory / INDEX, _index(directory))
    full = len(contents[FULL_NAME % release.digest.hex()])
    return Published(target, parsed, full, patches, tuple(sorted(lists)), tuple(added))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # two at once would each miss the other's release in patches and index
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check(envelope: bytes, trust_list: bytes, image: bytes, now_s: int) -> None:
    report = verify.verify(envelope, trust_list, image, now_s=now_s)
    if not report.ok:
        broken = [f"{rule.name} ({rule.text})" for rule in report.rules if rule.holds is False]
        raise PublishRefused(
            f"the release breaks a rule: {'; '.join(broken) or 'it was not looked at as a whole'}",
            "see sealband release verify; signatures are added with sealband release sign",
        )


def _chain(lists: Iterable[bytes]) -> dict[int, bytes]:
    # version → file: without a gap, each signed by enough root keys of the one before and of its own
    found: dict[int, tuple[bytes, trust.SignedTrust]] = {}
    for data in lists:
        signed = trust.decode(data)
        version = signed.trust.version
        # the first of a version is the one that was named; those kept from before only fill gaps
        if version in found and found[version][1].payload != signed.payload:
            raise PublishRefused(
                f"there are two different trust lists of version {version}",
                "find out which is the right one; no device that has one of them would ever take the other",
            )
        found.setdefault(version, (data, signed))
    if not found:
        raise PublishRefused("no trust list was named", "name it with --trust")
    versions = sorted(found)
    found[versions[0]][1].check_own()
    for before, after in pairwise(versions):
        trust.check_rotation(found[before][1].trust, found[after][0])
    return {version: found[version][0] for version in versions}


def _published(shelf: Path) -> list[_Base]:
    # the releases of a model, the newest first
    bases = []
    for folder in shelf.iterdir() if shelf.is_dir() else ():
        if not (folder.name.isascii() and folder.name.isdigit()):
            continue
        release = manifest.decode(files.read(folder / build.MANIFEST, ENVELOPE_MAX)).release
        image = folder / build.IMAGES[release.component]
        bases.append(_Base(release.sequence, release.component, release.digest, image))
    return sorted(bases, key=lambda base: base.sequence, reverse=True)


def _carried(shelf: Path, bases: Sequence[_Base]) -> list[bytes]:
    # the trust lists beside the model's newest release
    if not bases:
        return []
    folder = shelf / str(bases[0].sequence) / (TRUST_NAME % 0).split("/")[0]
    return [files.read(path, TRUST_MAX) for path in sorted(folder.glob("*.cbor"))]


def _delivery(
    release: manifest.Release, image: bytes, published: Sequence[_Base], keep: int
) -> tuple[dict[str, bytes], dict[int, int]]:
    # the files that are named by digests, and the patches' sizes by the sequence of their base
    is_app = release.component == COMPONENT_APP
    full = patch.deflate(image) if is_app else patch.deflate_sections(image)
    back = patch.inflate(full, len(image)) if is_app else patch.inflate_sections(full, len(image))
    if back != image:
        raise PublishRefused("the image does not come back from what would be delivered", "this is a defect")
    contents = {FULL_NAME % release.digest.hex(): full}
    sizes: dict[int, int] = {}
    if not is_app:
        # firmware is fetched whole: the running one can't be read back as the base
        return contents, sizes
    like = [base for base in published if base.component == release.component and base.sequence < release.sequence]
    for base in like[: max(0, min(keep, PATCHES_MAX))]:
        old = files.read(base.image, build.IMAGE_MAX)
        if hashlib.sha256(old).digest() != base.digest:
            raise PublishRefused(
                f"{base.image} is not the image that was published as release {base.sequence}", "put it back"
            )
        if old == image:
            continue
        delta = patch.make(old, image)
        if len(delta) < len(full):
            contents[PATCH_NAME % (release.digest.hex(), base.digest.hex())] = delta
            sizes[base.sequence] = len(delta)
    return contents, sizes


def _entries(release: manifest.Release, image: bytes) -> tuple[archive.Entry, ...]:
    return pack.contents(image) if release.component == COMPONENT_APP else ()


def _sbom(path: Path, release: manifest.Release) -> bytes:
    # no signature covers it: of whatever lies there, or is linked to, only an SBOM of this very image gets public
    data = files.read(path, _SBOM_MAX)
    try:
        named = {one["content"] for one in json.loads(data)["metadata"]["component"]["hashes"]}
    except (ValueError, LookupError, TypeError, RecursionError):
        named = set()
    if release.digest.hex() not in named:
        raise PublishRefused(f"{path} is no SBOM of this image", "build the release anew, or remove the file")
    return data


def _add(target: Path, contents: dict[str, bytes], parsed: manifest.Parsed) -> list[str]:
    # what a release that is published already lacks; never another image or manifest under the same number
    there = manifest.decode(files.read(target / build.MANIFEST, ENVELOPE_MAX))
    if there.manifest_digest != parsed.manifest_digest:
        raise PublishRefused(
            f"release {parsed.release.sequence} of this model is published already, and is another one",
            "build it with a higher sequence",
        )
    envelope = contents[build.MANIFEST]
    signing = {Sign1.from_bytes(encoded).kid for encoded in parsed.signatures}
    for encoded in there.signatures:
        if Sign1.from_bytes(encoded).kid not in signing:
            # a copy of the release that somebody has not signed takes their signature from nobody
            envelope = manifest.with_signature(envelope, encoded)
    contents = {**contents, build.MANIFEST: envelope}
    added = []
    for name, data in sorted(contents.items()):
        path = target / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            files.create(path, data)
            added.append(name)
        elif path.read_bytes() != data and (name == build.MANIFEST or path.suffix == ".cbor"):
            files.replace(path, data)
            added.append(name)
        elif path.read_bytes() != data and path.suffix in (".tar", ".bin", ".deflate", ".patch"):
            raise PublishRefused(f"{path} is not what was published", "remove it, then publish again")
    return added


def _index(directory: Path) -> bytes:
    releases: list[dict[str, Any]] = []
    for path in sorted(directory.glob(f"*/*/{build.MANIFEST}")):
        folder = path.parent
        if folder.name.startswith(".") or folder.parent.name.startswith("."):
            continue
        parsed = manifest.decode(files.read(path, ENVELOPE_MAX))
        release, text = parsed.release, parsed.release.text
        listed = sorted(item for item in folder.rglob("*") if item.is_file() and not item.name.startswith("."))
        releases.append(
            {
                "model": folder.parent.name,
                "vendor": text.vendor if text else None,
                "version": text.version if text else None,
                "component": release.component.decode(),
                "sequence": release.sequence,
                "digest": release.digest.hex(),
                "size": release.size,
                "manifest": parsed.manifest_digest.hex(),
                "path": path.relative_to(directory).as_posix(),
                "files": [_listed(item, directory) for item in listed],
            }
        )
    releases.sort(key=lambda one: (one["model"], one["sequence"]))
    return (json.dumps({"format": _FORMAT, "releases": releases}, indent=1) + "\n").encode()


def _listed(path: Path, directory: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {
        "path": path.relative_to(directory).as_posix(),
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
