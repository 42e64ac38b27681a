"""Which modules of a folder of device code an application can come to import: only those go onto a board.

Read from the source, as written: `import` and `from … import` wherever they stand, also inside functions. A module that
is imported by a name made at run time is found when its dotted name stands somewhere as a string by itself; a string
that ends with a dot stands for all modules of that package; `part("tmp117", …)` stands for that driver. Runs nothing.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# what the firmware runs by name, and what the station asks through the serial port
ROOTS = ("boot", "main", "sealboot.", "sealband.enrol", "sealband.selftest")

# where part("name", board) has its driver (sealband/sensors/part.py)
DRIVERS = "sealband.sensors"

_DOTTED = re.compile(r"([A-Za-z_]\w*\.)+([A-Za-z_]\w*)?", re.ASCII)


def read(path: Path) -> str:
    """The text of a source file."""
    return path.read_text(encoding="utf-8")


def reached(device: Path, application: str, board: str, source: Callable[[Path], str] = read) -> set[Path]:
    """The source files that `main.py` can come to import.

    Args:
        device: the folder of device code; modules lie in it and in its `lib`.
        application: source of `app.py`.
        board: source of `board.py`.
        source: reads a file, as it is compiled.

    Returns:
        Paths relative to `device`. A file that is not valid Python is among them, and leads nowhere.
    """
    found: set[Path] = set()
    names = [*ROOTS, *_imported(application, ""), *_imported(board, "")]
    while names:
        for relative, package in _files(device, names.pop()):
            if relative not in found:
                found.add(relative)
                names.extend(_imported(source(device / relative), package))
    return found


def imports(source: str, module: str) -> bool:
    """Whether a source imports this module, or something of it."""
    return any(name.partition(".")[0] == module for name in _imported(source, ""))


def together(sources: Iterable[str]) -> str:
    """A source that imports whatever any of these does."""
    names = {name for source in sources for name in _imported(source, "")}
    return "".join(f"{name!r}\n" if "." in name else f"import {name}\n" for name in sorted(names))


def _files(device: Path, name: str) -> Iterator[tuple[Path, str]]:
    """The files that importing this name runs, each with its package; none for a module of the firmware."""
    *parts, last = name.split(".")
    parts = [*parts, last] if last else parts
    for depth in range(1, len(parts) + 1):
        path, package = Path(*parts[:depth]), ".".join(parts[: depth - 1])
        yield from _there(device, path.with_suffix(".py"), package)
        yield from _there(device, path / "__init__.py", ".".join(parts[:depth]))
    for root in (device, device / "lib") if not last else ():
        for path in sorted((root / Path(*parts)).glob("*.py")):
            yield path.relative_to(device), ".".join(parts)


def _there(device: Path, relative: Path, package: str) -> Iterator[tuple[Path, str]]:
    # the order of the board's sys.path
    for root in (Path(), Path("lib")):
        if (device / root / relative).is_file():
            yield root / relative, package
            return


def _imported(source: str, package: str) -> Iterable[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []  # the compiler says what is wrong
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            # the last part may be a module, or a name in the one before
            names.extend(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "part" and node.args:
            driver = node.args[0]
            if isinstance(driver, ast.Constant) and isinstance(driver.value, str):
                names.append(f"{DRIVERS}.{driver.value}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _DOTTED.fullmatch(node.value):
            names.append(node.value)
    return names
