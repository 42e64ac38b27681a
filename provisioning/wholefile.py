"""A file that is there whole or not at all, also after a power cut: written beside, flushed, then given its name.

Knows no format and words no error for people: what it raises is the operating system's.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE = 0o600


def replace(
    path: Path,
    content: bytes | Iterable[bytes],
    mode: int = PRIVATE,
    group: int = -1,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Put a file there, in the place of what is there.

    Args:
        path: the file; its folder must be there.
        content: all of it, or its pieces.
        mode: its permissions, whatever the umask and those of the file before.
        group: id of the group that it gets; -1: the process's.
        check: called when all is written and nothing is replaced yet; what it raises leaves everything as it was.

    Raises:
        OSError: it cannot be written; what was there is still there.
    """
    with _beside(path, content, mode, group) as beside:
        check()
        os.replace(beside, path)
    sync_folder(path.parent)


def create(path: Path, content: bytes | Iterable[bytes], mode: int = PRIVATE) -> None:
    """Make a file, never over another one.

    Raises:
        FileExistsError: there is something of that name.
        OSError: it cannot be written; nothing of it is there.
    """
    with _beside(path, content, mode, -1) as beside:
        os.link(beside, path)  # unlike rename, fails where a file is
        beside.unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Write the folder's own entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def umask() -> int:
    """The process's, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _beside(path: Path, content: bytes | Iterable[bytes], mode: int, group: int) -> Iterator[Path]:
    # made by us with mode 600: no file or link that lies in wait gets the content, and nobody reads it meanwhile
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}-")
    except OSError as error:
        error.filename = str(path)  # nobody has heard of the one beside it
        raise
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            if group != -1:
                os.fchown(file.fileno(), -1, group)
            file.writelines((content,) if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
