"""What a release is made of, as a CycloneDX document: the image's files, what made them, and the host's libraries.

The same release, tools and lock file give the same bytes: the serial number is made of what is described, components
are sorted, and there is a time only if it is passed in. Reads nothing by itself.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import uuid5

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from host_tools.release.archive import Entry
from host_tools.release.manifest import Release

_LOCKED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+_-]+)(?: ; (.+?))?(?: \\)?")
_PREFIX = "sealband:"


class SbomError(Exception):
    """A lock file cannot be read."""

    remedy = "renew it: make lock"


@dataclass(frozen=True)
class Locked:
    """One line of the lock file.

    Attributes:
        name: of the package.
        version: the only one that is installed.
        marker: where it is installed, as PEP 508 has it; "" for everywhere.
    """

    name: str
    version: str
    marker: str = ""


@dataclass(frozen=True)
class Tool:
    """A program that made the image.

    Attributes:
        name: of its package.
        version: of its package.
        said: what it says of itself, or "".
    """

    name: str
    version: str
    said: str = ""


def locked(text: str) -> list[Locked]:
    """The packages of a lock file as `uv pip compile` writes it.

    Raises:
        SbomError: a line is neither a package, nor its hashes, nor a remark.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith((" ", "#")):
            continue
        match = _LOCKED.fullmatch(line)
        if not match:
            raise SbomError(f"requirements.lock line {number} is no pinned package: {line[:60]!r}")
        found.append(Locked(match[1], match[2], match[3] or ""))
    if not found:
        raise SbomError("requirements.lock names no package")
    return found


def sbom(
    release: Release, entries: Sequence[Entry], tools: Iterable[Tool], lock: str, timestamp: datetime | None = None
) -> bytes:
    """The document.

    Args:
        release: what it describes; its text says model and version.
        entries: the image's files; for a firmware image, itself.
        tools: what compiled them.
        lock: the text of `requirements.lock`: what the tools themselves stand on.
        timestamp: of the release, or None.

    Raises:
        SbomError: the lock file cannot be read.
    """
    assert release.text
    whole = Component(
        type=ComponentType.FIRMWARE,
        name=release.text.model,
        version=release.text.version,
        group=release.text.vendor,
        bom_ref=f"release:{release.sequence}",
        hashes=[_sha256(release.digest)],
        properties=_properties(
            component=release.component.decode(), sequence=str(release.sequence), size=str(release.size)
        ),
    )
    files = [
        Component(
            type=ComponentType.FILE,
            name=entry.name,
            bom_ref=f"file:{entry.name}",
            scope=ComponentScope.REQUIRED,
            hashes=[_sha256(entry.sha256)],
            properties=_properties(size=str(entry.size)),
        )
        for entry in entries
    ]
    libraries = [
        Component(
            type=ComponentType.LIBRARY,
            name=package.name,
            version=package.version,
            bom_ref=f"pypi:{package.name}@{package.version}",
            # none of it gets onto a board
            scope=ComponentScope.EXCLUDED,
            purl=PackageURL("pypi", None, package.name, package.version),
            properties=_properties(marker=package.marker) if package.marker else [],
        )
        for package in locked(lock)
    ]
    made_by = [
        Component(
            type=ComponentType.APPLICATION,
            name=tool.name,
            version=tool.version,
            bom_ref=f"tool:{tool.name}",
            properties=_properties(says=tool.said) if tool.said else [],
        )
        for tool in tools
    ]
    metadata = BomMetaData(
        component=whole,
        tools=ToolRepository(components=made_by),
        properties=_properties(lock=sha256(lock.encode()).hexdigest()),
    )
    metadata.timestamp = timestamp  # type: ignore[assignment]
    bom = Bom(
        metadata=metadata,
        components=[*files, *libraries],
        serial_number=uuid5(release.class_id, f"{release.sequence} {release.digest.hex()}"),
    )
    bom.register_dependency(whole, files)
    return (JsonV1Dot6(bom).output_as_string(indent=2) + "\n").encode()


def _sha256(digest: bytes) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest.hex())


def _properties(**values: str) -> list[Property]:
    return [Property(name=_PREFIX + name, value=value) for name, value in values.items()]
