"""A developer's application: `app.py` and what it imports from beside it, compiled so that errors name the line.

Reads and compiles; runs nothing and knows no board. The library that the application uses is compiled as for a release,
into one pack; the developer's own files keep their line numbers and lie in the root as files of their own, so that
only they are exchanged when one of them changes.
"""

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from boards import Board
from host_tools.ingest import definitions
from host_tools.release import beside, bundle, pack, reach
from host_tools.release.beside import ApplicationRefused

__all__ = ["Application", "ApplicationRefused", "Compiled"]

RUNNERS = Path(__file__).with_name("micropython")
_MAIN = "main.py"
_WRAPPER = "devrun.py"


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
        return beside.files(self.path)

    def stamp(self) -> bytes:
        """Changes when any of these files does."""
        digest = hashlib.sha256()
        for name, path in sorted(self.files().items()):
            digest.update(name.encode() + b"\0" + hashlib.sha256(beside.read(path)).digest())
        return digest.digest()

    def compile(self, out: Path) -> Compiled:
        """Compile the developer's files into an empty folder, with line numbers and assertions.

        Raises:
            CompileFailed: one of them is not valid MicroPython; the text names file and line.
            ApplicationRefused: too many or too long.
            DefinitionError: `records.py` is none.
        """
        names: dict[str, Path] = {}
        out.mkdir(parents=True, exist_ok=True)
        for name, path in self.files().items():
            source = path
            if name == definitions.FILE:
                # as in a release: of names and units a device has no use
                source = out / name
                source.write_text(
                    definitions.device_source(definitions.read(beside.read(path).decode(errors="replace"), name))
                )
            try:
                bundle.compile_file(source, out / Path(name).with_suffix(".mpy"), name)
            except bundle.CompileFailed as error:
                said = f"{path}:{error.line}: {error.reason}"
                raise bundle.CompileFailed(said, str(path), error.line, error.reason) from None
            names[name] = path
            if source != path:
                source.unlink()
        return Compiled(out, names, frozenset(bundle.sources(self._device, self._board, self._imports())))

    def tree(self, out: Path, compiled: Compiled) -> None:
        """Make everything that a developer's board is given: the library in a pack, and the developer's files.

        Raises:
            CompileFailed, PackRefused: it cannot be made.
        """
        bundle.compile_tree(self._device, out, self._board, app=self._imports())
        for name in ("app.mpy", "records.mpy"):
            (out / name).unlink(missing_ok=True)
        pack.pack(out)
        shutil.copyfile(RUNNERS / _MAIN, out / _MAIN)
        bundle.compile_file(RUNNERS / _WRAPPER, out / "devrun.mpy", "devrun")
        shutil.copytree(compiled.folder, out, dirs_exist_ok=True)

    def _imports(self) -> Path:
        """One file that imports whatever any of the developer's files does, for who looks for that."""
        if not hasattr(self, "_scratch"):
            self._scratch = tempfile.TemporaryDirectory(prefix="sealband-imports-")
        file = Path(self._scratch.name) / "app.py"
        sources = (beside.read(path).decode(errors="replace") for path in self.files().values())
        file.write_text(reach.together(sources), encoding="utf-8")
        return file
