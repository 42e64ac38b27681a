"""Lets pytest collect files of device tests and run them on MicroPython, one process a file.

A device test file is plain MicroPython: functions named `test_*` that take nothing and assert. Optional module
constants, literal values only: `HEAP = "64wK"` (as `-X heapsize=`), `TIMEOUT_S = 120`.
"""

import ast
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools.sim.interpreter import find_micropython
from tests.support.micropython import DEVICE_PATH, ROOT

RUNNER = Path(__file__).with_name("runner.py")
DEVICE_FOLDERS = [ROOT / "tests" / "device", ROOT / "tests" / "powercut", ROOT / "tests" / "attacks" / "device"]
SIM_PATH = [ROOT / "host_tools" / "sim" / "micropython"]


class DeviceTestFailed(Exception):
    """A test function on MicroPython raised, or the interpreter ended before it got there."""


class DeviceFile(pytest.File):
    """One file that MicroPython runs; it is run once, when its first test is asked for."""

    def collect(self) -> Iterator["DeviceItem"]:
        tree = ast.parse(self.path.read_text())
        self.options: dict[str, Any] = {"HEAP": None, "TIMEOUT_S": 120}
        for node in tree.body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(name := node.targets[0], ast.Name)
                and name.id in self.options
            ):
                self.options[name.id] = ast.literal_eval(node.value)
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield DeviceItem.from_parent(self, name=node.name)

    def results(self, names: list[str]) -> dict[str, tuple[str, str]]:
        """Run the file for these functions: name → (ok, fail or missing, what was printed)."""
        if not hasattr(self, "_results"):
            self._results = self._run(names)
        return self._results

    def _run(self, names: list[str]) -> dict[str, tuple[str, str]]:
        heap = self.options["HEAP"]
        command = [
            find_micropython(),
            *(["-X", f"heapsize={heap}"] if heap else []),
            str(RUNNER),
            str(self.path),
            *names,
        ]
        where = ":".join(str(p) for p in [*DEVICE_PATH, self.path.parent, ROOT / "tests", *SIM_PATH]) + ":.frozen"
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "MICROPYPATH": where},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self.options["TIMEOUT_S"],
                check=False,
            )
            output = done.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as expired:
            output = (expired.stdout or b"").decode(errors="replace") + f"\nno end within {self.options['TIMEOUT_S']} s"
        results: dict[str, tuple[str, str]] = {}
        text: list[str] = []
        for line in output.splitlines():
            if line.startswith("@@ "):
                _, result, name, _ = line.split()
                results[name] = (result, "\n".join(text).strip())
                text = []
            else:
                text.append(line)
        for name in names:
            results.setdefault(name, ("missing", "\n".join(text)))
        return results


class DeviceItem(pytest.Item):
    """One test function on MicroPython."""

    def runtest(self) -> None:
        assert isinstance(self.parent, DeviceFile)
        names = [item.name for item in self.session.items if item.parent is self.parent]
        result, output = self.parent.results(names)[self.name]
        if output:
            self.add_report_section("call", "MicroPython", output)
            print(output)
        if result != "ok":
            raise DeviceTestFailed(output or "the interpreter ended without a result")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        if isinstance(excinfo.value, DeviceTestFailed):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.name


def is_device_test(path: Path) -> bool:
    """Whether this file is for MicroPython and not for CPython."""
    return path.name.startswith("test_") and path.suffix == ".py" and path.parent in DEVICE_FOLDERS
