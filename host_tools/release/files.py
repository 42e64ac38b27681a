"""Files of a release: read up to a limit, replaced whole or not at all. Knows nothing of what they hold."""

import os
import tempfile
from pathlib import Path


class FileRefused(Exception):
    """A file is not as it must be for what was asked."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def read(path: Path, limit: int) -> bytes:
    """A file's bytes.

    Raises:
        FileRefused: there are more than `limit`.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FileRefused(f"{path} is longer than {limit} bytes", "check that it is the right file")
    return data


def replace(path: Path, data: bytes, expected: bytes | None = None) -> None:
    """Put a file in the place of another, in one step and on disk before it is there.

    Args:
        path: the file.
        data: its new bytes.
        expected: what it must still hold, so that no signature made meanwhile is lost.

    Raises:
        FileRefused: it holds something else by now.
        OSError: it cannot be written.
    """
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~umask()
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if expected is not None and path.read_bytes() != expected:
            raise FileRefused(f"{path} was changed meanwhile", "look at it again, then do it again")
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def create(path: Path, data: bytes) -> None:
    """Make a file, whole, and never over another one.

    Raises:
        FileRefused: there is one already.
        OSError: it cannot be written.
    """
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o666 & ~umask())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(beside, path)
    except FileExistsError:
        raise FileRefused(f"{path} is there already and was not changed", "choose another name") from None
    finally:
        os.unlink(beside)


def umask() -> int:
    """The process's, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
