"""The root command: what becomes of errors, and that one broken part does not take the others with it."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import rich_click as click

from host_tools import cli
from host_tools.cli import CommandFailed, explain, run
from host_tools.sim.board import BoardError

SEALBAND = str(Path(sys.executable).with_name("sealband"))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[Exception]:
    """A command `fail` that raises what its argument names."""
    errors: dict[str, BaseException] = {
        "ours": BoardError("it is on", "switch it off"),
        "command": CommandFailed("no", "do this"),
        "file": FileNotFoundError(2, "No such file or directory", "/x/y"),
        "defect": KeyError("secret\nkey"),
        "interrupt": KeyboardInterrupt(),
    }

    @click.command()
    @click.argument("kind")
    @click.option("--json", "as_json", is_flag=True)
    def fail(kind: str, as_json: bool) -> None:
        raise errors[kind]

    monkeypatch.setitem(cli.sealband.commands, "fail", fail)
    return Exception


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("ours", ["error: it is on", "to do: switch it off"]),
        ("command", ["error: no", "to do: do this"]),
        ("file", ["error: /x/y: No such file or directory", "to do: check the path"]),
        ("interrupt", ["error: stopped before it was done"]),
    ],
)
@pytest.mark.usefixtures("failing")
def test_error_is_one_line_of_what_and_one_of_what_to_do(
    capsys: pytest.CaptureFixture[str], kind: str, lines: list[str]
) -> None:
    assert run(["fail", kind]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip().splitlines() == lines


@pytest.mark.usefixtures("failing")
def test_defect_says_that_it_is_one_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fail", "defect"]) == 1
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 2
    assert "unexpected KeyError" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("failing")
def test_error_with_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fail", "ours", "--json"]) == 1
    assert json.loads(capsys.readouterr().err) == {"error": "it is on", "remedy": "switch it off"}


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["--wrong"], ["sim", "board"], ["sim", "board", "x", "--mac", "zz"]]
)
def test_wrong_use_is_status_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith("error: ")
    assert "--help" in lines[1]


def test_part_that_cannot_be_loaded_is_named_and_the_others_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = cli.importlib.import_module

    def broken(name: str) -> ModuleType:
        if name == "host_tools.cli.gateway":
            raise ImportError("No module named 'paho'")
        return load(name)

    monkeypatch.setattr(cli.importlib, "import_module", broken)
    assert run(["--help"]) == 0
    assert "gateway" in capsys.readouterr().out
    assert run(["gateway", "run", "--port", "1"]) == 1
    assert "gateway cannot be loaded" in capsys.readouterr().err
    assert run(["sim", "--help"]) == 0


def test_explain_keeps_an_error_on_one_line() -> None:
    assert explain(BoardError("one\n two"))[0] == "one two"


def test_error_that_quotes_a_stranger_moves_nobody_s_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise cli.CommandFailed("app.py says \x1b[2J", "mend \x9b2J it")

    monkeypatch.setattr(cli.sealband, "main", fail)
    for arguments in ([], ["--json"]):
        assert cli.run(arguments) == 1
        said = capsys.readouterr().err
        assert "app.py says" in said
        assert not {"\x1b", "\x9b"} & set(said) and "u001b" not in said


def test_no_colour_where_it_is_not_wanted(tmp_path: Path) -> None:
    done = subprocess.run([SEALBAND, "nothing"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "\x1b" not in done.stdout + done.stderr


def test_reader_that_leaves_is_no_error() -> None:
    process = subprocess.Popen(
        f"{SEALBAND} --help | head -1", shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.communicate(timeout=30)[1] == b""
