"""The typed stubs of the application interface, put where editors look for them.

pyright and Pylance look into `typings/` beside the application by themselves; mypy is told by `mypy_path`.
"""

from pathlib import Path


class StubsRefused(Exception):
    """The stubs cannot be put there; `remedy` says what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def put(source: Path, target: Path) -> int:
    """Copy the stubs; how many there are. Files that are there already must be the same.

    Args:
        source: `typings` of the device code.
        target: a folder, which is made.

    Raises:
        StubsRefused: there are no stubs, or a file there is another.
        OSError: a file cannot be written.
    """
    stubs = {path.relative_to(source): path.read_bytes() for path in sorted(source.rglob("*.pyi"))}
    if not stubs:
        raise StubsRefused("the device code is not beside this package", "run it in a clone of the repository")
    for relative, data in stubs.items():
        path = target / relative
        if path.is_symlink() or (path.exists() and path.read_bytes() != data):
            raise StubsRefused(f"{path} is there already, and another", "remove that folder, or name another")
    for relative, data in stubs.items():
        path = target / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return len(stubs)
