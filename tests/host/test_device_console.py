"""What a board prints during a run: a stranger's text, in which a developer's errors are found."""

import queue
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from host_tools.device.application import Application, ApplicationRefused
from host_tools.device.console import AGAIN_S, Console
from host_tools.device.happening import LINE_MAX, Happening
from host_tools.device.real import Port, RealRun
from host_tools.device.session import APART_S, SETTLE_S, Changes, follow
from host_tools.device.trace import TraceWriter

NAMES = {"app.py": Path("work/app.py"), "grip.py": Path("work/grip.py")}
TRACE = [
    "Traceback (most recent call last):",
    '  File "sealband.node", in _step',
    '  File "app.py", line 9, in watch',
    '  File "grip.py", line 4, in told',
    '  File "sealband.node", in event',
    "ValueError: not a record",
]


def console() -> Console:
    one = Console(NAMES)
    assert list(one.feed("sealband-run started", 0)) == []
    return one


def fed(one: Console, lines: list[str], now_s: float = 100.0) -> list[Happening]:
    return [found for line in lines for found in one.feed(line, now_s)]


def test_error_is_told_at_the_innermost_line_of_the_developer_s_files() -> None:
    (error,) = fed(console(), TRACE)
    assert error.kind == "error"
    assert (error.data["file"], error.data["line"]) == ("work/grip.py", 4)
    assert error.text.startswith("work/grip.py:4: ValueError: not a record")
    assert "work/app.py:9 in watch" in error.data["trace"]


def test_error_that_comes_a_thousand_times_is_told_once_and_counted() -> None:
    one = console()
    assert len(fed(one, TRACE * 1000)) == 1
    (again,) = fed(one, TRACE, 100.0 + AGAIN_S)
    assert again.data["times"] == 1001


def test_terminal_s_escape_sequences_from_a_board_do_not_get_through() -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31mvery red\x08\x08\u202e"
    (line,) = fed(console(), [hostile])
    assert line.text.isprintable()
    assert "very red" in line.text
    trace = [TRACE[0], '  File "app.py", line 3, in \x1b[2J', "ValueError: \x1b[2J"]
    assert all(found.text.isprintable() for found in fed(console(), trace))


def test_endless_line_and_endless_traceback_are_bounded() -> None:
    one = console()
    assert len(fed(one, ["x" * 1_000_000])[0].text) == LINE_MAX + 1
    found = fed(one, [TRACE[0], *['  File "app.py", line 1, in f'] * 10_000, "ValueError: x"])
    assert max(len(error.data.get("trace", [])) for error in found) <= 40


def test_traceback_that_ends_as_none_does_is_shown_as_it_was_printed() -> None:
    found = fed(console(), [*TRACE[:3], "[12] sent 1 0 0"])
    assert [one.kind for one in found] == ["line"] * 4
    assert found[-1].text == "[12] sent 1 0 0"


def test_prompt_and_banner_around_a_run_are_no_part_of_it() -> None:
    one = Console(NAMES)
    assert fed(one, ["MicroPython v1.28", ">>> ", "raw REPL; CTRL-B to exit"]) == []
    fed(one, ["sealband-run started"])
    assert [found.kind for found in fed(one, ["sealband-run ended", "MicroPython v1.28"])] == ["ended"]
    assert one.ended


def test_files_beside_the_application_belong_to_it_and_the_library_does_not(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("from grip import Grip\nimport sealband.app, main, os\nfrom hub.one import x\n")
    (tmp_path / "grip.py").write_text("def f():\n    import deep\n")
    for name in ("deep", "main", "sealband", "os_not_imported"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "hub").mkdir()
    for name in ("__init__", "one", "two"):
        (tmp_path / "hub" / f"{name}.py").write_text("")
    files = application(tmp_path / "my.py").files()
    assert sorted(files) == ["app.py", "deep.py", "grip.py", "hub/__init__.py", "hub/one.py", "hub/two.py"]


def test_folder_that_imports_without_an_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("".join(f"import m{number}\n" for number in range(100)))
    for number in range(100):
        (tmp_path / f"m{number}.py").write_text("")
    with pytest.raises(ApplicationRefused, match="more than 64"):
        application(tmp_path / "app.py").files()


def test_file_that_no_chip_has_room_for_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "app.py", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ApplicationRefused, match="longer than"):
        application(tmp_path / "app.py").files()


def test_pipe_in_place_of_a_module_is_not_opened(tmp_path: Path) -> None:
    import os

    (tmp_path / "app.py").write_text("import grip\n")
    os.mkfifo(tmp_path / "grip.py")
    assert list(application(tmp_path / "app.py").files()) == ["app.py"]


def application(path: Path) -> Application:
    import boards
    from host_tools.sim.site import DEVICE

    return Application(path, DEVICE, boards.load("VIRTUAL"))


class Time:
    """In place of `time` in `host_tools.device.session`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_each_state_of_the_files_is_told_once_and_not_before_it_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.py"
    path.write_text("1")
    clock = Time()
    monkeypatch.setattr("host_tools.device.session.time", clock)
    changes = Changes(application(path))
    told = []
    for step in range(1000):
        clock.now += 0.05
        if step == 200:
            path.write_text("half")
        if step == 201:
            path.write_text("whole")
        if step == 400:
            path.unlink()  # an editor's way of writing
        if step == 401:
            path.write_text("whole")
        told += [step] if changes.due() else []
    assert len(told) == 1
    assert 0 < (told[0] - 201) * 0.05 <= SETTLE_S * 2 + 0.4


def test_files_that_change_all_the_time_do_not_begin_a_storm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "app.py"
    path.write_text("")
    clock = Time()
    monkeypatch.setattr("host_tools.device.session.time", clock)
    changes = Changes(application(path))
    count = 0
    for step in range(2000):
        clock.now += 0.05
        if step % 8 == 0:
            path.write_text(str(step))
        count += changes.due()
    assert 10 < count <= 100.0 / APART_S


class Run:
    """A board whose application is read anew, and which says what it is given to say."""

    ended = finished = False

    def __init__(self, found: Application, tmp_path: Path, stop: threading.Event) -> None:
        self.found, self.folder, self.stop, self.takes = found, tmp_path / "out", stop, 0

    def take(self, timeout_s: float) -> list[Happening]:
        self.takes += 1
        self.found.path.unlink(missing_ok=True)
        if self.takes > 100:
            self.stop.set()
        return []

    def reload(self) -> None:
        self.found.compile(self.folder)


def test_application_on_a_real_board_is_exchanged_without_a_registry() -> None:
    # in a process of its own: a registry that another test has opened would hide it
    code = "from host_tools.device import session as s; "
    code += "run = type('Run', (), {'reload': lambda self: None})(); s._exchange(run, lambda one: print(one.kind))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("reload\n", "")


def test_application_that_is_moved_away_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time()
    monkeypatch.setattr("host_tools.device.session.time", clock)
    (tmp_path / "app.py").write_text("")
    found, told, stop = application(tmp_path / "app.py"), list[Happening](), threading.Event()
    run = Run(found, tmp_path, stop)

    def report(one: Happening) -> None:
        told.append(one)

    monkeypatch.setattr(clock, "monotonic", lambda: clock.__setattr__("now", clock.now + 0.05) or clock.now)
    outcome = follow(run, found, report, stop, reload=True)
    assert not outcome.failed
    assert [one.kind for one in told] == ["error", "remark"]
    assert "No such file" in told[0].text


@pytest.mark.parametrize("line", ["", "sealband-tap 1 i r 48 0f 0117", "x"])
def test_board_that_never_stops_printing_does_not_hold_whoever_wants_to_stop(tmp_path: Path, line: str) -> None:
    class Endless(queue.Queue[str | None]):
        given = 0

        def get(self, block: bool = True, timeout: float | None = None) -> str | None:
            self.given += 1
            assert self.given < 100_000
            return line

    with TraceWriter(tmp_path / "a.trace", "VIRTUAL", "board", 0) as writer:
        (tmp_path / "app.py").write_text("")
        run = RealRun(application(tmp_path / "app.py"), Port("/dev/x"), record=writer)
        run._console.started = True
        run._scratch = tmp_path
        run._queue = Endless()
        assert len(run.take(0.0)) <= 200


def test_event_s_line_of_json_is_an_event_s_with_the_application_s_own_name() -> None:
    from host_tools.device.arrivals import arrived
    from host_tools.ingest.decode import Event
    from host_tools.ingest.definitions import Event as Named
    from host_tools.ingest.vocabulary import Vocabulary

    stored = SimpleNamespace(eui="70b3d5fffe00d001", message=Event(10, 64, (3, -1)))
    (told,) = arrived(cast(Any, stored), Vocabulary(events={64: Named(64, "handover")}))
    assert told.text == "event handover 3 -1"
    assert told.to_json()["event"] == "event"
    assert (told.to_json()["id"], told.to_json()["name"], told.to_json()["values"]) == (64, "handover", [3, -1])
