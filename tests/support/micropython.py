"""A long-lived MicroPython process that evaluates expressions for host tests. Not used by the product."""

import ast
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

from host_tools.sim.interpreter import find_micropython

ROOT = Path(__file__).resolve().parents[2]
DEVICE_PATH = [ROOT / "device" / "lib", ROOT / "device"]
SERVER = Path(__file__).with_name("evaluator.py")


class MicropythonError(Exception):
    """What was evaluated raised; `name` is the exception's type on the device."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class Micropython:
    """MicroPython with the device's library on its path; `call` evaluates one expression and returns a literal."""

    def __init__(self, *, heap: str | None = None, path: list[Path] | None = None) -> None:
        where = ":".join(str(p) for p in [*(path or []), *DEVICE_PATH]) + ":.frozen"
        command = [find_micropython(), *(["-X", f"heapsize={heap}"] if heap else []), str(SERVER)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "MICROPYPATH": where},
        )

    def run(self, statement: str, timeout_s: float = 60.0) -> None:
        """Execute a statement, for its effect on later calls."""
        self._ask("x", statement, timeout_s)

    def call(self, expression: str, timeout_s: float = 60.0) -> Any:
        """The value of an expression (numbers, bytes, str, None, lists, tuples, dicts), or MicropythonError."""
        return ast.literal_eval(self._ask("e", expression, timeout_s))

    def _ask(self, verb: str, text: str, timeout_s: float) -> str:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{verb}{text!r}\n".encode())
        self._process.stdin.flush()
        line = self._readline(timeout_s)
        if line.startswith("!"):
            name, message = ast.literal_eval(line[1:])
            raise MicropythonError(name, message)
        return line[1:]

    def _readline(self, timeout_s: float) -> str:
        assert self._process.stdout
        limit = time.monotonic() + timeout_s
        buffer = b""
        fd = self._process.stdout.fileno()
        while not buffer.endswith(b"\n"):
            ready, _, _ = select.select([fd], [], [], max(0.0, limit - time.monotonic()))
            if not ready:
                self.close()
                raise TimeoutError(f"MicroPython did not answer within {timeout_s} s")
            chunk = os.read(fd, 65536)
            if not chunk:
                raise EOFError("MicroPython ended")
            buffer += chunk
        return buffer.decode().rstrip("\n")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()

    def __enter__(self) -> "Micropython":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
