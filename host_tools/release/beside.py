"""What an application imports from beside it: a developer's own modules, which go onto the board with it.

Read from the source as `host_tools.release.reach` does; runs nothing. What it is given is a stranger's folder: only
plain files count, they are bounded in number and length, and names of the device's own are never taken from there.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

FILES_MAX = 64
FILE_MAX = 256 << 10  # bytes; more is no module for a chip
_TAKEN = frozenset({"app", "boot", "main", "pack", "board", "sealband", "sealwire", "sealboot"})


class ApplicationRefused(Exception):
    """This is no application for a board; `remedy` says what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def files(application: Path) -> dict[str, Path]:
    """Name on the board ("app.py", "grip.py", "parts/hub.py") → the file, of the application and all that it imports.

    A file that is not valid Python leads nowhere, and is among them.

    Raises:
        ApplicationRefused: too many or too long.
        OSError: one cannot be read.
    """
    found = {"app.py": application}
    queue = [application]
    while queue:
        for name, path in _imported(application.parent, read(queue.pop())):
            if name not in found:
                found[name] = path
                queue.append(path)
        if len(found) > FILES_MAX:
            raise ApplicationRefused(
                f"{application.name} imports more than {FILES_MAX} files from beside it", "leave some of them out"
            )
    return found


def read(path: Path) -> bytes:
    """One of them.

    Raises:
        ApplicationRefused: it is too long.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(FILE_MAX + 1)
    if len(data) > FILE_MAX:
        raise ApplicationRefused(f"{path} is longer than {FILE_MAX} bytes", "a chip has no room for it; split it")
    return data


def _imported(folder: Path, source: bytes) -> Iterator[tuple[str, Path]]:
    for top in sorted(_names(source) - _TAKEN - {""}):
        file, package = folder / f"{top}.py", folder / top
        if file.is_file():
            yield file.name, file
        elif (package / "__init__.py").is_file():
            for path in sorted(package.rglob("*.py"))[: FILES_MAX + 1]:
                if path.is_file():
                    yield path.relative_to(folder).as_posix(), path


def _names(source: bytes) -> set[str]:
    """First parts of the names of what a source imports."""
    names: set[str] = set()
    try:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").split(".")[0])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass  # the compiler says what is wrong
    return names
