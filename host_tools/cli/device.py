"""`sealband device`: run and test an application while it is being written; see `host_tools.device`."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import rich_click as click
from rich.console import Console
from rich.text import Text

import boards
from host_tools.cli import CommandFailed
from host_tools.cli.output import json_option, print_json, print_json_line, remark, shown
from host_tools.cli.stop import stoppable
from host_tools.device import stubs, trial
from host_tools.device.application import Application
from host_tools.device.happening import Happening
from host_tools.device.real import Port, RealRun, there
from host_tools.device.session import Outcome, follow, uncompiled
from host_tools.device.trace import Trace, TraceWriter
from host_tools.release.bundle import CompileFailed
from host_tools.sim.site import DEVICE

VIRTUAL = "VIRTUAL"
SPEED = 10.0
STYLES = {
    "line": "dim",
    "error": "bold red",
    "ended": "bold red",
    "reading": "green",
    "event": "bold yellow",
    "refused": "red",
    "reload": "cyan",
    "remark": "cyan",
    "running": "cyan",
}
SOURCES = {"line": "device", "running": "device", "ended": "device", "error": "error", "remark": "run", "reload": "run"}


@click.group()
def group() -> None:
    """Run and test an application while it is being written."""


@group.command()
@click.argument("app", type=click.Path(path_type=Path, dir_okay=False), default="app.py")
@click.option("--board", "definition", help="The board definition; default: VIRTUAL, or that of the trace.")
@click.option("--port", help="The serial port of a real board; without it, the virtual board.")
@click.option("--library", is_flag=True, help="With --port: take Sealband's library from here, not from the board.")
@click.option("--reload", is_flag=True, help="Exchange the application whenever one of its files changes.")
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 100),
    default=SPEED,
    show_default=True,
    help="Virtual seconds a real second; virtual board only.",
)
@click.option("--seconds", type=click.FloatRange(min=0.1), help="End after so many real seconds; default: Ctrl-C.")
@click.option("--wearer", type=int, default=1, show_default=True, help="Another body with another number.")
@click.option("--offline", is_flag=True, help="No gateway in reach: the device's log only.")
@click.option(
    "--script", type=click.Path(path_type=Path, dir_okay=False), help="What the wearer does from now on: a TOML file."
)
@click.option("--record", type=click.Path(path_type=Path, dir_okay=False), help="A new file for what the buses carry.")
@click.option("--replay", type=click.Path(path_type=Path, dir_okay=False), help="Sensors answer from this trace.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="A new folder to leave everything in.")
@json_option
def run(
    app: Path,
    definition: str | None,
    port: str | None,
    library: bool,
    reload: bool,
    speed: float,
    seconds: float | None,
    wearer: int,
    offline: bool,
    script: Path | None,
    record: Path | None,
    replay: Path | None,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Run APP on a board, with its log, and what arrives in a store beside it."""
    if record and reload:
        raise click.UsageError("--record is of one application: leave out --reload")
    trace = Trace.read(replay) if replay else None
    board = boards.load(definition or (trace.board if trace else VIRTUAL))
    application = Application(app, DEVICE, board)
    show = _Show(as_json)
    if trace and not trace.whole:
        show.happening(Happening("remark", "the trace's recording was cut off; what there is of it is played"))
    if keep and keep.exists() and any(keep.iterdir()):
        raise CommandFailed(f"{keep} is not empty", "name a new folder")
    if port:
        if speed != SPEED or replay or offline or keep or script:
            raise click.UsageError("--speed, --script, --replay, --offline and --keep are for the virtual board")
        with stoppable() as stopping, ExitStack() as stack:
            writer = _recording(stack, record, board.name, "board")
            with _compiles():
                real = stack.enter_context(RealRun(application, Port(port), library=library, record=writer))
            outcome = follow(real, application, show.happening, stopping, seconds=seconds, reload=reload)
        _close(outcome, as_json, None)
        return
    with stoppable() as stopping, ExitStack() as stack:
        from host_tools.device.virtual import VirtualRun
        from host_tools.sim.script import load
        from host_tools.sim.wearer import Wearer

        directory = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealband-run-")))
        with _compiles():
            virtual = stack.enter_context(
                VirtualRun(
                    application,
                    board,
                    directory,
                    speed=speed,
                    wearer=Wearer(wearer, script=load(script).beginning(time.time()) if script else None),
                    online=not offline,
                    record=_recording(stack, record, board.name, "virtual"),
                    replay=trace,
                )
            )
        outcome = follow(virtual, application, show.happening, stopping, seconds=seconds, reload=reload)
    _close(outcome, as_json, keep)


@contextmanager
def _compiles() -> Iterator[None]:
    try:
        yield
    except CompileFailed as error:
        raise CommandFailed(uncompiled(error).text, "correct the line") from error


def _recording(stack: ExitStack, path: Path | None, board: str, source: str) -> TraceWriter | None:
    if path is None:
        return None
    remark(f"{path} will hold what the sensors see of whoever wears them: it is personal data, and for you alone (600)")
    writer = TraceWriter(path, board, source, time.time())
    stack.callback(lambda: remark(f"{path} ended early: {writer.stopped}") if writer.stopped else None)
    return stack.enter_context(writer)


def _close(outcome: Outcome, as_json: bool, keep: Path | None) -> None:
    counts = outcome.counts
    if as_json:
        print_json_line({"event": "end", "counts": dict(counts), "failed": outcome.failed})
    else:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing happened"
        remark(f"{told}" + (f"; {keep} has the rest" if keep else ""))
    if outcome.failed:
        raise CommandFailed("the application ended by itself", "see the error above; --reload waits for your change")


@group.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True), default=".")
@click.option("--board", "definition", default=VIRTUAL, show_default=True, help="Whose board.py the tests import.")
@click.option("--port", help="The serial port of a real board; without it, this machine's MicroPython.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 3600),
    default=trial.TIMEOUT_S,
    show_default=True,
    help="Real seconds that one test may take.",
)
@json_option
def test(path: Path, definition: str, port: str | None, timeout_s: float, as_json: bool) -> int:
    """Run the tests test_*() of PATH's files test_*.py on MicroPython, with simulated buses."""
    files = trial.find(path)
    results: list[trial.Result] = []
    with there(Port(port)) if port else trial.here(DEVICE, boards.load(definition)) as runner:
        for file in files:
            for result in trial.run(file, runner, timeout_s):
                results.append(result)
                if not as_json:
                    _show_result(result)
    failed = sum(not one.passed for one in results)
    if as_json:
        print_json({"passed": len(results) - failed, "failed": failed, "tests": [_as_json(one) for one in results]})
    else:
        Console().print(Text(f"{len(results) - failed} passed, {failed} failed"), highlight=False)
    return int(failed > 0)


@group.command("stubs")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default="typings")
@json_option
def put_stubs(directory: Path, as_json: bool) -> None:
    """Put typed stubs of the application interface into DIRECTORY, for editors and type checkers."""
    count = stubs.put(DEVICE / "typings", directory)
    if as_json:
        print_json({"directory": str(directory), "files": count})
    else:
        remark(f'{count} files in {directory}; pyright finds ./typings by itself, mypy by mypy_path = "{directory}"')


def _show_result(one: trial.Result) -> None:
    console = Console(soft_wrap=True)
    name = f"{one.file}::{one.name}" if one.name else str(one.file)
    said = ("ok     ", "green") if one.passed else ("FAILED ", "bold red")
    console.print(Text.assemble(said, shown(name, "")), highlight=False)
    if one.passed:
        return
    where = f"{one.place[0]}:{one.place[1]}: " if one.place else ""
    console.print(Text(f"       {where}{one.error}"), highlight=False)
    for line in [*([one.source] if one.source else []), *(f"printed: {text}" for text in one.output)]:
        console.print(Text(f"       {shown(line, '')}", "dim"), highlight=False)


def _as_json(one: trial.Result) -> dict[str, object]:
    place = {"file": str(one.place[0]), "line": one.place[1], "source": one.source} if one.place else None
    return {
        "file": str(one.file),
        "name": one.name,
        "passed": one.passed,
        "error": one.error,
        "place": place,
        "output": list(one.output),
    }


class _Show:
    """Happenings as lines: with colours for a terminal, plain elsewhere, or JSON."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(soft_wrap=True)

    def happening(self, one: Happening) -> None:
        if self._as_json:
            print_json_line(one.to_json())
            return
        source = SOURCES.get(one.kind, "store")
        style = STYLES.get(one.kind, "")
        self._console.print(Text.assemble((f"{source:<7}", "bold"), (one.text, style)), highlight=False)
        for place in one.data.get("trace", [])[:-1] if one.kind == "error" else []:
            self._console.print(Text(f"         {place}", "dim"), highlight=False)
