"""`sealband device run` used wrongly, or on what is no application: a line of what was wrong, one of what to do."""

import os
from pathlib import Path

import pytest

from host_tools import cli
from host_tools.device.real import BoardRefused, Port


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text("def build(board):\n    return None\n")
    return tmp_path / "app.py"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 1) -> str:
    assert cli.run(["device", "run", *arguments]) == status
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "to do: " in said
    return said


def test_application_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a file" in refused(capsys, str(tmp_path / "app.py"))


def test_syntax_error_is_said_before_anything_is_started(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app.write_text("import grip\n")
    (app.parent / "grip.py").write_text("x = 1\n\ndef f(:\n")
    assert f"{app.parent / 'grip.py'}:3: SyntaxError: invalid syntax" in refused(capsys, str(app))


def test_board_that_is_a_path_and_no_name(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "board" in refused(capsys, str(app), "--board", "../../etc")


def test_trace_that_is_foreign_is_refused_before_anything_is_started(
    app: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is no sensor trace" in refused(capsys, str(app), "--replay", str(app))


def test_trace_that_is_there_is_not_written_over(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = app.parent / "a.trace"
    trace.write_text("precious")
    assert "was not changed" in refused(capsys, str(app), "--record", str(trace))
    assert trace.read_text() == "precious"


@pytest.mark.parametrize(
    "options", [("--record", "x", "--reload"), ("--port", "/dev/null", "--offline"), ("--port", "x", "--speed", "2")]
)
def test_options_that_do_not_go_together(
    app: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, str(app), *options, status=2)


def test_folder_that_holds_something_is_not_taken_for_a_run(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not empty" in refused(capsys, str(app), "--keep", str(app.parent))


def test_folder_of_a_run_is_its_owner_s_alone_from_the_first(
    app: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app.write_text("def f(:\n")
    before = os.umask(0o002)
    try:
        for _ in range(2):  # and is not in the way of who has mended the line
            assert "SyntaxError" in refused(capsys, str(app), "--keep", str(tmp_path / "kept"))
    finally:
        os.umask(before)
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("port", ["", "--help", "-x", "/dev/tty\x1b[2J"])
def test_word_for_mpremote_is_no_port(port: str) -> None:
    with pytest.raises(BoardRefused, match="no serial port"):
        Port(port)


@pytest.mark.parametrize(
    "says",
    [
        "printf 'sealband-board 1 0 6 1'",
        "printf 'x%.0s' $(seq 1 100000)",
        "printf '\\033[2Jsealband-board 1 0 6 1 28; import os'",
        "exit 3",
        "while true; do printf 'sealband-board 1 9 9 9 9\\n'; done",
    ],
)
def test_peer_that_answers_nonsense_or_without_an_end_is_refused(
    says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host_tools.device.real.PROBE_S", 5.0)
    fake = tmp_path / "mpremote"
    fake.write_text(f"#!/bin/bash\n{says}\n")
    fake.chmod(0o755)
    with pytest.raises(BoardRefused) as error:
        Port("/dev/ttyUSB0", [str(fake)]).open()
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("says", "why"), [("1 6 1 28", "closed by a station"), ("0 5 1 18", "reads .mpy version 5"), ("0 6 1 28", "")]
)
def test_board_is_developed_on_only_if_it_is_open_and_reads_what_is_compiled(
    says: str, why: str, tmp_path: Path
) -> None:
    fake = tmp_path / "mpremote"
    fake.write_text(f"#!/bin/sh\necho sealband-board 1 {says}\n")
    fake.chmod(0o755)
    port = Port("/dev/ttyUSB0", [str(fake)])
    if not why:
        assert port.open().version == (1, 28)
        return
    with pytest.raises(BoardRefused, match=why) as error:
        port.open()
    assert error.value.remedy
