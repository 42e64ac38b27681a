"""The simulated modules (`host_tools/sim/micropython`), compiled for a board. What they do stands in them."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from host_tools.release.bundle import compile_file

MODULES = Path(__file__).with_name("micropython")
INSTALLER = MODULES / "_install.py"  # no module of the board's: fills its file system while it is off


def compile_modules(out: Path) -> Path:
    """Compile the simulated modules into a folder."""
    out.mkdir(parents=True, exist_ok=True)

    def compile_one(source: Path) -> None:
        relative = source.relative_to(MODULES)
        compile_file(source, out / relative.with_suffix(".mpy"), relative.as_posix(), optimise=3)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(compile_one, _sources()))
    return out.resolve()


def _sources() -> Iterable[Path]:
    return (path for path in sorted(MODULES.rglob("*.py")) if path != INSTALLER)
