"""An image (`app.tar`) taken apart strictly: the rules that a device applies to it, one by one. Written apart from the
device's code and from what builds images. Pure.

The only archive that may hold a list of files: ustar (POSIX.1-1988), plain files with mode 644, owner and times zero,
sorted by name, each padded with zeros to 512 bytes, two blocks of zeros, and zeros up to a multiple of 10,240 bytes.
"""

import re
import tarfile
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

from sealwire.update import DEPTH_MAX, FILES_MAX, NAME_MAX, TAR_RECORD_LEN

BLOCK = tarfile.BLOCKSIZE
_CHARACTERS = re.compile(r"[A-Za-z0-9_./-]+", re.ASCII)
# what boots a slot lies outside of it
_BOOT = re.compile(r"boot\.(py|mpy)|(lib/)?sealboot(/.*|\..*)", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """A file in an image.

    Attributes:
        name: as it stands in the header, if that is text.
        size: bytes.
        sha256: of its contents.
    """

    name: str
    size: int
    sha256: bytes


@dataclass(frozen=True)
class Archive:
    """What an image holds, and what is wrong with it.

    Attributes:
        entries: in their order; those up to the first one that could not be read.
        format, names, order, count: what breaks each of these rules, or None.
    """

    entries: tuple[Entry, ...]
    format: str | None = None
    names: str | None = None
    order: str | None = None
    count: str | None = None

    @property
    def ok(self) -> bool:
        """Whether all four rules hold."""
        return not (self.format or self.names or self.order or self.count)


def parse(image: bytes) -> Archive:
    """Take an image apart; whatever is wrong with it is told, not raised."""
    entries: list[Entry] = []
    wrong = _walk(image, entries)
    names = [entry.name for entry in entries]
    order = None
    for before, name in pairwise(names):
        if name.encode() <= before.encode():
            order = f"{name!r} " + ("stands there twice" if name == before else f"comes after {before!r}")
            break
    return Archive(
        tuple(entries),
        format=wrong,
        names=next((said for name in names if (said := refuse_name(name))), None) or _folder_and_file(names),
        order=order,
        count=f"there are {len(names)} files; a device takes 1 to {FILES_MAX}"
        if not 0 < len(names) <= FILES_MAX
        else None,
    )


def refuse_name(name: str) -> str | None:
    """Why no file of a slot may bear this name, or None if one may."""
    parts = name.split("/")
    if not name or len(name) > NAME_MAX or len(parts) > DEPTH_MAX:
        return f"{name!r} is not 1 to {NAME_MAX} characters in at most {DEPTH_MAX} parts"
    if name.startswith("/"):
        return f"{name!r} is an absolute path"
    if ".." in parts or "." in parts or "" in parts:
        return f"{name!r} leaves its folder or names one"
    if not _CHARACTERS.fullmatch(name):
        return f"{name!r} has characters that no name in an image has"
    if _BOOT.fullmatch(name):
        return f"{name!r} is what boots a slot, which no update brings"
    return None


def _walk(image: bytes, entries: list[Entry]) -> str | None:
    """Fill in the entries; what breaks the format, or None."""
    at = 0
    while any(header := image[at : at + BLOCK]):
        if len(entries) > FILES_MAX:
            return f"there are more than {FILES_MAX} files"
        try:
            info = tarfile.TarInfo.frombuf(header, "ascii", "strict")
            again = tarfile.TarInfo(info.name)
            again.size, again.mode = info.size, 0o644
            canonical = again.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
        except (tarfile.HeaderError, ValueError):
            return f"there is no header of a file at byte {at}"
        # links, folders, owners, times, prefixes and extensions all end here
        if canonical != header:
            return f"the header at byte {at} ({info.name!r}) is not a plain file's in its only form"
        start, end = at + BLOCK, at + BLOCK + info.size
        at = end + -info.size % BLOCK
        if at > len(image):
            return f"{info.name!r} is cut short"
        if any(image[end:at]):
            return f"there is something behind {info.name!r}"
        entries.append(Entry(info.name, info.size, sha256(image[start:end]).digest()))
    if len(image) != -(-(at + 2 * BLOCK) // TAR_RECORD_LEN) * TAR_RECORD_LEN:
        return "it does not end as an archive of its files does"
    if any(image[at:]):
        return "there is something behind its end"
    return None


def _folder_and_file(names: list[str]) -> str | None:
    present = set(names)
    for name in names:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            if "/".join(parts[:depth]) in present:
                return f"{'/'.join(parts[:depth])!r} is a file and a folder"
    return None
