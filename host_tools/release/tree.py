"""Folders that appear whole or not at all: made beside their place, put on disk, then renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provisioning.wholefile import sync_folder, umask


class FolderRefused(Exception):
    """A folder can't be made where it was asked for."""

    remedy = "choose another name, or remove what is there yourself"


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A new folder, which gets its name when the block ends without an exception; otherwise nothing stays behind.

    Raises:
        FolderRefused: there is something of that name already.
        OSError: the folder cannot be made.
    """
    refuse_existing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        # mkdtemp's mode is for its owner only
        beside.chmod(0o777 & ~umask())
        yield beside
        _sync(beside)
        refuse_existing(target)
        # of what came into being since, an empty folder alone is replaced
        os.rename(beside, target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_folder(target.parent)


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write {relative name: contents} into a folder, with the folders that they lie in."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def refuse_existing(target: Path) -> None:
    """Raise FolderRefused if there is anything of that name."""
    if os.path.lexists(target):
        raise FolderRefused(f"{target} is there already and was not changed")


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)
