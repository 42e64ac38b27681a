"""A developer's application: `app.py` and what it imports from beside it, compiled so that errors name the line.

Reads and compiles; runs nothing and knows no board. The library that the application uses is compiled as for a release,
into one pack; the developer's own files keep their line numbers and lie in the root as files of their own, so that
only they are exchanged when one of them changes.
"""

import ast
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from boards import Board
from host_tools.release import bundle, pack

FILES_MAX = 64
FILE_MAX = 256 << 10  # bytes; more is no module for a chip
_TAKEN = frozenset({"boot", "main", "pack", "board", "sealband", "sealwire", "sealboot"})
RUNNERS = Path(__file__).with_name("micropython")
_MAIN = "main.py"
_WRAPPER = "devrun.py"


class ApplicationRefused(Exception):
    """This is no application that can be run; `remedy` says what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Compiled:
    """The application's own files on the board.

    Attributes:
        folder: where they were put.
        names: name in tracebacks → the developer's file.
        library: which of the device's own modules they can come to import.
    """

    folder: Path
    names: dict[str, Path]
    library: frozenset[Path]


class Application:
    """One application.

    Args:
        path: its main file, whatever its name; on the board it is the module `app`.
        device: the folder of device code.
        board: whom it is compiled for.

    Raises:
        ApplicationRefused: there is no such file.
    """

    def __init__(self, path: Path, device: Path, board: Board) -> None:
        if not path.is_file():
            raise ApplicationRefused(f"{path} is not a file", "name the file that has build(board), app.py as a rule")
        self.path = path
        self._device = device
        self._board = board

    def files(self) -> dict[str, Path]:
        """Name on the board ("app.py", "grip.py", "parts/hub.py") → the developer's file, of all that it imports.

        A file that is not valid Python leads nowhere, and is among them.

        Raises:
            ApplicationRefused: too many or too long.
        """
        found = {"app.py": self.path}
        queue = [self.path]
        while queue:
            for name, path in self._beside(_read(queue.pop())):
                if name not in found:
                    found[name] = path
                    queue.append(path)
            if len(found) > FILES_MAX:
                raise ApplicationRefused(
                    f"{self.path.name} imports more than {FILES_MAX} files from beside it", "leave some of them out"
                )
        return found

    def stamp(self) -> bytes:
        """Changes when any of these files does."""
        digest = hashlib.sha256()
        for name, path in sorted(self.files().items()):
            digest.update(name.encode() + b"\0" + hashlib.sha256(_read(path)).digest())
        return digest.digest()

    def compile(self, out: Path) -> Compiled:
        """Compile the developer's files into an empty folder, with line numbers and assertions.

        Raises:
            CompileFailed: one of them is not valid MicroPython; the text names file and line.
            ApplicationRefused: too many or too long.
        """
        names: dict[str, Path] = {}
        for name, path in self.files().items():
            bundle.compile_file(path, out / Path(name).with_suffix(".mpy"), name)
            names[name] = path
        return Compiled(out, names, frozenset(bundle.sources(self._device, self._board, self._imports())))

    def tree(self, out: Path, compiled: Compiled) -> None:
        """Make everything that a developer's board is given: the library in a pack, and the developer's files.

        Raises:
            CompileFailed, PackRefused: it cannot be made.
        """
        bundle.compile_tree(self._device, out, self._board, app=self._imports())
        (out / "app.mpy").unlink()
        pack.pack(out)
        shutil.copyfile(RUNNERS / _MAIN, out / _MAIN)
        bundle.compile_file(RUNNERS / _WRAPPER, out / "devrun.mpy", "devrun")
        shutil.copytree(compiled.folder, out, dirs_exist_ok=True)

    def _imports(self) -> Path:
        """One file that imports whatever any of the developer's files does, for who looks for that."""
        if not hasattr(self, "_scratch"):
            self._scratch = tempfile.TemporaryDirectory(prefix="sealband-imports-")
        lines = []
        for path in self.files().values():
            source = _read(path)
            lines += [ast.unparse(node) for node in _nodes(source)]
            lines += sorted(_dotted(source))
        file = Path(self._scratch.name) / "app.py"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def _beside(self, source: bytes) -> Iterator[tuple[str, Path]]:
        for node in _nodes(source):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for top in {name.split(".")[0] for name in names} - _TAKEN - {""}:
                file, folder = self.path.parent / f"{top}.py", self.path.parent / top
                if file.is_file():
                    yield file.name, file
                elif (folder / "__init__.py").is_file():
                    for path in sorted(folder.rglob("*.py"))[: FILES_MAX + 1]:
                        yield path.relative_to(self.path.parent).as_posix(), path


def _parsed(source: bytes) -> Iterator[ast.AST]:
    try:
        yield from ast.walk(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # the compiler says what is wrong


def _nodes(source: bytes) -> list[ast.Import | ast.ImportFrom]:
    return [
        node
        for node in _parsed(source)
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)
    ]


def _dotted(source: bytes) -> set[str]:
    """Names of modules that are imported by a string, as `host_tools.release.reach` looks for them."""
    strings = (node.value for node in _parsed(source) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {repr(text) for text in strings if re.fullmatch(r"[A-Za-z_][\w.]{0,99}", text, re.ASCII) and "." in text}


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        data = file.read(FILE_MAX + 1)
    if len(data) > FILE_MAX:
        raise ApplicationRefused(f"{path} is longer than {FILE_MAX} bytes", "a chip has no room for it; split it")
    return data
