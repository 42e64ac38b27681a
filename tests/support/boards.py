"""Virtual boards for tests: one with a script as its main.py, and what must not be left behind."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boards
from host_tools.release.bundle import compile_tree
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.interpreter import find_micropython
from tests.support.micropython import ROOT

MAC = bytes.fromhex("aabbcc112233")
BoardMaker = Callable[..., VirtualBoard]


def scripted(folder: Path, main: str = "", *, boot: str | None = None, **settings: Any) -> VirtualBoard:
    """A board, not started, whose flash holds these scripts."""
    tree = folder / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    (tree / "main.py").write_text(main)
    if boot is not None:
        (tree / "boot.py").write_text(boot)
    arguments: dict[str, Any] = {"name": folder.name, "mac": MAC, "clock": SimClock.start()} | settings
    board = VirtualBoard(folder / "board", **arguments)
    board.install(tree)
    return board


def drivers(folder: Path, main: str) -> Path:
    """The tree of a virtual board with all sensors' drivers and this main.py, made in an empty folder."""
    device = folder / "device"
    for package in ("sealwire", "sealband/sensors"):
        shutil.copytree(ROOT / "device" / "lib" / package, device / "lib" / package)
    shutil.copy(ROOT / "device" / "lib" / "sealband" / "__init__.py", device / "lib" / "sealband")
    (device / "main.py").write_text(main)
    compile_tree(device, folder / "tree", boards.load("VIRTUAL"))
    return folder / "tree"


def interpreters(folder: Path) -> list[int]:
    """The processes whose command line or environment names this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"SEALBAND_SIM_FLASH={folder.resolve()}".encode() in environment:
            found.append(int(entry.name))
    return found


def has_raw_repl() -> bool:
    """Whether the interpreter has a raw REPL, which mpremote needs; on unix from 1.27."""
    version = subprocess.run(
        [find_micropython(), "-c", "import sys; print(sys.implementation[1][1])"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(version.stdout) >= 27
