"""A developer's tests on MicroPython: functions `test_*()` with asserts, of a file `test_*.py`, with simulated buses.

The tests run on the interpreter that stands for the board's, a process for each file, with the device's library, the
developer's folder, and `sealtest` (`micropython/bench/sealtest.py` says what it offers). What hangs or ends the
interpreter fails by its name, and the tests after it still run.
"""

import ast
import os
import re
import secrets
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from boards import Board
from host_tools.device.console import located
from host_tools.device.happening import harmless
from host_tools.sim.interpreter import find_micropython
from host_tools.sim.process import environment

BENCH = Path(__file__).with_name("micropython") / "bench"
TIMEOUT_S = 20.0  # real seconds for one test
FOLDER = "develop"  # in a board's root, where what is pushed for a run lies
OUTPUT_MAX = 256 << 10  # bytes that one file's tests may print
FILES_MAX = 500
_HEAD = "Traceback (most recent call last):"
_NAME = re.compile(r"test_\w{1,100}", re.ASCII)


class NoTests(Exception):
    """There is nothing to run; `remedy` says how a test looks."""

    remedy = "write a file test_*.py with functions test_*() that assert"


@dataclass(frozen=True)
class Result:
    """How one test ended.

    Attributes:
        file: of the test.
        name: of the function; "" for the file as a whole.
        passed: whether it came to its end.
        error: what was raised, in one line; "" if nothing.
        place: file and line of that, or None.
        source: the line itself, or "".
        output: what it printed before, in lines.
    """

    file: Path
    name: str
    passed: bool
    error: str = ""
    place: tuple[Path, int] | None = None
    source: str = ""
    output: tuple[str, ...] = ()


# given the folder on the board's path, what is to be run, and how long one line may take; gives what is printed
Runner = Callable[[Path, str, float], Iterator[str]]


class Hung(Exception):
    """Nothing was printed for too long."""


def find(path: Path) -> list[Path]:
    """The test files of a folder and the folders in it, or the one that was named.

    Raises:
        NoTests: there are none.
    """
    if path.is_file():
        return [path]
    found = [file for file in sorted(path.rglob("test_*.py")) if not any(p.startswith(".") for p in file.parts)]
    if not found:
        raise NoTests(f"{path} has no file test_*.py")
    if len(found) > FILES_MAX:
        raise NoTests(f"{path} has more than {FILES_MAX} test files: name a smaller folder")
    return found


def names(file: Path) -> list[str]:
    """The tests of a file, in its order; none of one that is not valid Python, which running it tells."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and _NAME.fullmatch(node.name)]


def run(file: Path, runner: Runner, timeout_s: float = TIMEOUT_S) -> Iterator[Result]:
    """Run one file's tests; each result as it is there."""
    left = names(file)
    ran = False
    while left or not ran:
        ran = True
        for result in _once(file, left, runner, timeout_s):
            yield result
            left = left[left.index(result.name) + 1 :] if result.name in left else []


def _once(file: Path, wanted: Sequence[str], runner: Runner, timeout_s: float) -> Iterator[Result]:
    mark = "@" + secrets.token_hex(8)
    call = f"import _trial; _trial.run({file.stem!r}, {list(wanted)!r}, {mark!r})"
    current, printed, size = "", list[str](), 0
    try:
        for raw in runner(file.parent, call, timeout_s):
            size += len(raw)
            if size > OUTPUT_MAX:
                yield _failed(file, current, f"printed more than {OUTPUT_MAX} bytes", printed[:20])
                return
            words = raw.split()
            if not raw.startswith(mark) or len(words) != 3:
                printed.append(raw)
                continue
            verb, name = words[1:]
            if verb in ("run", "load"):
                current, printed = name if verb == "run" else "", []
            elif verb == "ok":
                yield Result(file, name, True, output=_shown(printed))
                current, printed = "", []
            else:
                yield _raised(file, name if verb == "fail" else "", printed)
                if verb == "bad":
                    return
                current, printed = "", []
    except Hung:
        yield _failed(file, current, f"did not end within {timeout_s:g} s", printed)
        return
    if current or (printed and not wanted):
        yield _failed(file, current, "the interpreter ended", printed)
    elif not wanted:
        yield _failed(file, "", "it has no function test_*()", printed)


def _raised(file: Path, name: str, printed: list[str]) -> Result:
    """What the last traceback among these lines says."""
    lines = [line for line in printed if line.strip()]
    starts = [index for index, line in enumerate(lines) if line == _HEAD]
    if not starts:
        return _failed(file, name, "no reason given", printed)
    trace = [harmless(line) for line in lines[starts[-1] + 1 : -1]]
    known: dict[str, Path] = {}
    for path in file.parent.rglob("*.py"):
        # beside the test, as the interpreter calls it here, and on a board
        known |= {path.name: path, str(path): path, f"/{FOLDER}/{path.name}": path}
    error = located(trace, harmless(lines[-1]), known)
    place = (Path(error.data["file"]), int(error.data["line"])) if error.data["file"] else None
    source = ""
    if place:
        text = place[0].read_text(encoding="utf-8", errors="replace").splitlines()
        source = text[place[1] - 1].strip()[:200] if 0 < place[1] <= len(text) else ""
    return Result(file, name, False, error.data["error"], place, source, _shown(lines[: starts[-1]]))


def _failed(file: Path, name: str, why: str, printed: Sequence[str]) -> Result:
    return Result(file, name, False, why, output=_shown(printed))


def _shown(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(harmless(line) for line in lines if line.strip())[:50]


@contextmanager
def here(device: Path, board: Board) -> Iterator[Runner]:
    """Runs tests on this machine's MicroPython, as if on this board.

    Args:
        device: the folder of device code.
        board: whose `board.py` tests import.

    Raises:
        InterpreterMissing: there is no MicroPython.
    """
    interpreter = find_micropython()
    with tempfile.TemporaryDirectory(prefix="sealband-test-") as made:
        (Path(made) / "board.py").write_text(board.module())

        def runner(folder: Path, call: str, timeout_s: float) -> Iterator[str]:
            path = ":".join(map(str, (BENCH, made, folder.resolve(), device / "lib"))) + ":.frozen"
            return lines([interpreter, "-c", call], environment() | {"MICROPYPATH": path}, folder, timeout_s)

        yield runner


def lines(command: list[str], variables: dict[str, str], folder: Path, timeout_s: float) -> Iterator[str]:
    """What a process prints, line by line; it and all that it started end when the generator does.

    Raises:
        Hung: no line came for so long.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        assert process.stdout
        try:
            yield from _lines(process.stdout.fileno(), timeout_s)
        finally:
            kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process that leads a session, and the session."""
    import signal
    from contextlib import suppress

    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _lines(descriptor: int, timeout_s: float) -> Iterator[str]:
    waiting = b""
    limit = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, limit - time.monotonic())):
                raise Hung
            chunk = os.read(descriptor, 65536)
            if not chunk:
                break
            *whole, waiting = (waiting + chunk).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace").rstrip("\r")
                if line.startswith(b"@"):
                    limit = time.monotonic() + timeout_s
            if len(waiting) > OUTPUT_MAX:
                yield waiting.decode(errors="replace")
                return
    if waiting:
        yield waiting.decode(errors="replace")
