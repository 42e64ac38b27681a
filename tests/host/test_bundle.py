"""Compiling the tree that goes onto a board."""

import hashlib
from pathlib import Path

import pytest

import boards
from host_tools.release.bundle import CompileFailed, compile_file, compile_tree
from host_tools.sim.board import VirtualBoard
from tests.support.boards import MAC
from tests.support.micropython import ROOT

# docs.micropython.org, "MicroPython .mpy files": the first two bytes of version 6, which 1.23 and later read
MPY_6 = b"M\x06"


def device(folder: Path) -> Path:
    (folder / "lib" / "inner").mkdir(parents=True)
    (folder / "boot.py").write_text("")
    (folder / "main.py").write_text("import app\nimport board\nimport inner.part\napp.run(board)\n")
    (folder / "app.py").write_text("def run(board):\n    print('running on', board.NAME)\n")
    (folder / "lib" / "inner" / "__init__.py").write_text("")
    (folder / "lib" / "inner" / "part.py").write_text("VALUE = 1\n")
    return folder


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(p.relative_to(folder)).encode() + p.read_bytes() for p in files)).hexdigest()


def test_tree_is_compiled_and_runs_on_the_board(tmp_path: Path) -> None:
    files = compile_tree(device(tmp_path / "device"), tmp_path / "out", boards.load("VIRTUAL"))
    names = ["app.mpy", "board.mpy", "boot.py", "lib/inner/__init__.mpy", "lib/inner/part.mpy", "main.py"]
    assert [path.as_posix() for path in files] == names
    assert all((tmp_path / "out" / path).read_bytes()[:2] == MPY_6 for path in files if path.suffix == ".mpy")
    board = VirtualBoard(tmp_path / "board", name="b", mac=MAC)
    board.install(tmp_path / "out")
    with board:
        board.wait_for("running on VIRTUAL")


def test_same_source_gives_the_same_bytes_anywhere(tmp_path: Path) -> None:
    for name in ("one", "elsewhere"):
        compile_tree(device(tmp_path / name / "device"), tmp_path / name / "out", boards.load("VIRTUAL"))
    assert digest(tmp_path / "one" / "out") == digest(tmp_path / "elsewhere" / "out")


def test_what_was_in_the_folder_does_not_get_into_the_tree(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.mpy").write_bytes(b"M\x06old")
    compile_tree(device(tmp_path / "device"), tmp_path / "out", boards.load("VIRTUAL"))
    assert not (tmp_path / "out" / "old.mpy").exists()


def test_invalid_source_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def (:\n")
    with pytest.raises(CompileFailed, match=r"lib/bad.py: .*SyntaxError"):
        compile_file(tmp_path / "bad.py", tmp_path / "bad.mpy", "lib/bad.py")
    assert not (tmp_path / "bad.mpy").exists()


def test_all_device_code_compiles_for_every_board(tmp_path: Path) -> None:
    for name in boards.names():
        files = compile_tree(ROOT / "device", tmp_path / name, boards.load(name))
        assert Path("board.mpy") in files
