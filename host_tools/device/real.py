"""A run on a real board, through the real mpremote: the application is copied into a folder of the board and runs
from there in place of the one in its flash. Files that have not changed are not copied again. In the end the
folder is removed, and the board starts what it had.

A board's answers are a stranger's: bounded, strictly parsed, never evaluated, and it is given no way to a file of this
machine (so nothing is mounted).
"""

import contextlib
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from host_tools.device import trial
from host_tools.device.application import RUNNERS, Application, ApplicationRefused
from host_tools.device.console import TAKE_MAX, Console
from host_tools.device.happening import Happening, harmless
from host_tools.device.recording import Told
from host_tools.device.trace import TraceWriter
from host_tools.device.trial import BENCH, FOLDER, Runner, kill, lines
from host_tools.release import bundle
from host_tools.release.beside import FILE_MAX
from provisioning.station.link import MPREMOTE

PROBE_S = 15.0
LINE_MAX = 64 << 10  # bytes
OUTPUT_MAX = 64 << 10  # of a probe
_QUEUE_MAX = 20_000
_FACTS = re.compile(r"sealband-board 1 ([01]) (\d{1,3}) (\d{1,3}) (\d{1,3})")
# as boot.py sees it: a mark that cannot be read is there
_PROBE = """
import sys
def closed():
    try:
        from esp32 import NVS
    except ImportError:
        return 0
    try:
        return int(NVS("sealband").get_i32("closed") != 0)
    except Exception as error:
        return int(getattr(error, "errno", 0) != -0x1102)
v = sys.implementation
print("sealband-board 1", closed(), v._mpy & 255, v.version[0], v.version[1])
"""
_REMOVE = f"""
import os
def remove(path):
    try:
        for entry in list(os.ilistdir(path)):
            inner = path + "/" + entry[0]
            if entry[1] == 0x4000:
                remove(inner)
            else:
                os.remove(inner)
        os.rmdir(path)
    except OSError:
        pass
remove("/{FOLDER}")
"""
_CLOSED = (
    "build, sign and roll out a release (sealband release, sealband rollout), or develop on a board that no station "
    "has closed"
)


class BoardRefused(Exception):
    """The board cannot be developed on; `remedy` says what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Facts:
    """What a board says of itself.

    Attributes:
        closed: the station has closed it: it runs signed releases only.
        mpy: version of .mpy that it reads.
        version: of MicroPython.
    """

    closed: bool
    mpy: int
    version: tuple[int, int]


class Port:
    """The way to a board.

    Args:
        port: of the serial port.
        mpremote: the command, as an argument list.

    Raises:
        BoardRefused: this is no serial port.
    """

    def __init__(self, port: str, mpremote: Sequence[str] = MPREMOTE) -> None:
        if not port or port.startswith("-") or not port.isprintable():
            raise BoardRefused(f"{harmless(port)!r} is no serial port", "name a port such as /dev/ttyUSB0")
        self.port = port
        self._mpremote = list(mpremote)

    def command(self, *words: str) -> list[str]:
        """The command line for these of mpremote's words."""
        return [*self._mpremote, "connect", f"port:{self.port}", *words]

    def facts(self) -> Facts:
        """Ask the board, which interrupts what it runs.

        Raises:
            BoardRefused: it does not answer, or not as a board does.
        """
        said: list[str] = []
        try:
            for line in lines(self.command("resume", "exec", _PROBE), variables(), Path.cwd(), PROBE_S):
                said.append(line)
                if found := _FACTS.fullmatch(line):
                    return Facts(found[1] == "1", int(found[2]), (int(found[3]), int(found[4])))
                if sum(map(len, said)) > OUTPUT_MAX:
                    break
        except trial.Hung:
            said = ["no answer"]
        last = next((line for line in reversed(said) if line.strip()), "no text")
        raise BoardRefused(
            f"the board does not let anybody in: {harmless(last)}",
            f"check port and cable; if a station has closed the board, it runs signed releases only: {_CLOSED}",
        )

    def open(self) -> Facts:
        """The facts of a board that may be developed on.

        Raises:
            BoardRefused: it may not, or reads other .mpy files than mpy-cross writes.
        """
        facts = self.facts()
        if facts.closed:
            raise BoardRefused("the board was closed by a station: it runs signed releases only", _CLOSED)
        written = re.search(r"emitting mpy v(\d{1,3})", bundle.mpy_cross_version())
        if written and int(written[1]) != facts.mpy:
            raise BoardRefused(
                f"the board reads .mpy version {facts.mpy}, mpy-cross writes {written[1]}",
                "install the mpy-cross of the board's MicroPython, or flash a newer MicroPython",
            )
        return facts

    def restore(self) -> None:
        """Remove what was copied, and have it start what it had; nothing happens if it does not answer."""
        with contextlib.suppress(trial.Hung, OSError):
            for _ in lines(self.command("resume", "exec", _REMOVE, "reset"), variables(), Path.cwd(), PROBE_S):
                pass


def variables() -> dict[str, str]:
    """mpremote's environment."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


class RealRun:
    """One run on a real board; a context manager, after which the board starts what is in its flash.

    Args:
        application: what is run.
        port: the way to the board.
        library: take the library from here, too, in place of the board's own.
        record: gets what the buses carry, told by a tap on the board.
    """

    def __init__(
        self, application: Application, port: Port, *, library: bool = False, record: TraceWriter | None = None
    ) -> None:
        self._application = application
        self._port = port
        self._library = library
        self._told = Told(record) if record else None
        self._queue: queue.Queue[str | None] = queue.Queue(_QUEUE_MAX)
        self._console = Console()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._undo = ExitStack()

    def __enter__(self) -> "RealRun":
        try:
            self._scratch = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="sealband-develop-")))
            staged = self._stage()
            self._port.open()
            self._undo.callback(self._port.restore)
            self._start(staged)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._undo.close()

    @property
    def ended(self) -> bool:
        """Whether the application, or the connection to the board, has ended."""
        return self._console.ended

    @property
    def finished(self) -> bool:
        """Never: a board goes on."""
        return False

    def reload(self) -> None:
        """Compile the application and start it in the place of the one that runs, which stays if that fails.

        Raises:
            CompileFailed, ApplicationRefused: it does not compile; the old one runs on.
        """
        staged = self._stage()
        self._stop()
        self._start(staged)

    def take(self, timeout_s: float) -> list[Happening]:
        """What has happened since, waiting so long for the first."""
        found: list[Happening] = []
        limit = time.monotonic() + timeout_s
        for _ in range(TAKE_MAX):
            try:
                line = self._queue.get_nowait() if found else self._queue.get(timeout=max(0, limit - time.monotonic()))
            except queue.Empty:
                break
            if line is None:
                if not self._console.ended:
                    self._console.ended = True
                    found.append(Happening("ended", "the connection to the board has ended"))
            elif not (self._told and self._told.take(line)) and not line.startswith(f"cp {self._scratch}"):
                found += self._console.feed(line, time.monotonic())
        return found

    def _stage(self) -> Path:
        """A new folder to be copied."""
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        compiled = self._application.compile(folder / "own")
        self._console.names = compiled.names
        staged = folder / FOLDER
        if self._library:
            self._application.tree(staged, compiled)
            (staged / "main.py").unlink()
        else:
            shutil.copytree(compiled.folder, staged)
        for name in ("devmain", "devrun", *(["devtap"] if self._told else [])):
            bundle.compile_file(RUNNERS / f"{name}.py", staged / f"{name}.mpy", name)
        return staged

    def _start(self, staged: Path) -> None:
        call = f"import sys; sys.path.insert(0, '/develop'); import devmain; devmain.run({self._told is not None})"
        self._console.restarted()
        self._console.started = True
        self._queue = queue.Queue(_QUEUE_MAX)
        self._process = subprocess.Popen(
            self._port.command("cp", "-r", str(staged), ":/", "+", "exec", call),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=variables(),
            start_new_session=True,
        )
        assert self._process.stdout
        self._reader = threading.Thread(
            target=_read, args=(self._process.stdout.fileno(), self._queue), name="board-console", daemon=True
        )
        self._reader.start()

    def _stop(self) -> None:
        if self._process is not None:
            kill(self._process)
            assert self._reader and self._process.stdout
            self._reader.join(5.0)
            self._process.stdout.close()
            self._process = None


def _read(descriptor: int, lines_read: "queue.Queue[str | None]") -> None:
    waiting = b""
    while True:
        try:
            chunk = os.read(descriptor, 4096)
        except OSError:
            break
        if not chunk:
            break
        *whole, waiting = (waiting + chunk).split(b"\n")
        if len(waiting) > LINE_MAX:
            whole, waiting = [*whole, waiting], b""
        for line in whole:
            with contextlib.suppress(queue.Full):
                lines_read.put_nowait(line.decode(errors="replace").rstrip("\r"))
    lines_read.put(None)


@contextmanager
def there(port: Port) -> Iterator[Runner]:
    """Runs tests on a real board; see `trial.here`.

    Raises:
        BoardRefused: the board cannot be developed on.
    """
    port.open()
    with ExitStack() as undo:
        undo.callback(port.restore)
        scratch = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="sealband-develop-")))

        def runner(folder: Path, call: str, timeout_s: float) -> Iterator[str]:
            staged = Path(tempfile.mkdtemp(dir=scratch)) / FOLDER
            staged.mkdir()
            for path in [*sorted(folder.glob("*.py")), *sorted(BENCH.glob("*.py"))]:
                if path.is_file() and path.stat().st_size > FILE_MAX:
                    raise ApplicationRefused(f"{path} is longer than {FILE_MAX} bytes", "split it")
                if path.is_file():
                    shutil.copyfile(path, staged / path.name)
            before = "import sys\ntry:\n import pack\nexcept ImportError:\n pass\nsys.path.insert(0, '/develop')\n"
            words = ("cp", "-r", str(staged), ":/", "+", "exec", before + call)
            return lines(port.command(*words), variables(), scratch, timeout_s)

        yield runner
