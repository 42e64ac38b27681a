"""Files of a release: read up to a limit, replaced whole or not at all. Knows nothing of what they hold."""

from pathlib import Path

from provisioning import wholefile


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
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~wholefile.umask()

    def check() -> None:
        if expected is not None and path.read_bytes() != expected:
            raise FileRefused(f"{path} was changed meanwhile", "look at it again, then do it again")

    wholefile.replace(path, data, mode, check=check)


def create(path: Path, data: bytes) -> None:
    """Make a file, whole, and never over another one.

    Raises:
        FileRefused: there is one already.
        OSError: it cannot be written.
    """
    try:
        wholefile.create(path, data, 0o666 & ~wholefile.umask())
    except FileExistsError:
        raise FileRefused(f"{path} is there already and was not changed", "choose another name") from None
