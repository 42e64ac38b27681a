"""Which serial ports a station works on. Never picks one of several by itself.

A port is a path: what lies behind it is a board only while the path is there. `Watch` sees boards come and go.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

POLL_S = 0.1
SETTLE_S = 0.2  # a port that has just come may not be ready to be opened
LANES_MAX = 64


class PortsUnclear(Exception):
    """Which ports are meant is not said, or there are none."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Port:
    """A serial port that this computer has.

    Attributes:
        path: to open it.
        description: what the driver says.
        serial_number: of the USB device; "".
        usb: vendor and product as 4 hex digits each, "10c4:ea60"; "" for a port that is no USB device.
    """

    path: str
    description: str
    serial_number: str
    usb: str

    @property
    def text(self) -> str:
        """On one line, for people and for the filter."""
        words = (self.path, self.usb, self.serial_number, self.description)
        return " ".join("".join(c if c.isprintable() else " " for c in word) for word in words if word)


def present() -> list[Port]:
    """The serial ports that there are, by path; USB devices only, since a board is one."""
    found = []
    for info in list_ports.comports():
        usb = f"{info.vid:04x}:{info.pid:04x}" if info.vid is not None and info.pid is not None else ""
        if usb:
            found.append(Port(info.device, info.description or "", info.serial_number or "", usb))
    return sorted(found, key=lambda port: port.path)


def choose(
    named: Sequence[str],
    pattern: str = "",
    *,
    every: bool = False,
    listed: Callable[[], Iterable[Port]] = present,
) -> list[str]:
    """The ports to work on.

    Args:
        named: paths, taken as they are; a board need not be there yet.
        pattern: regular expression that a port's line (path, USB numbers, serial number, description) must hold.
        every: all that are found, if there are several.
        listed: the ports that there are.

    Raises:
        PortsUnclear: nothing is named, and not exactly one is found; or the pattern is none.
    """
    if named:
        chosen = list(dict.fromkeys(named))
        for path in chosen:
            if not path or path.startswith("-") or not path.isprintable():
                raise PortsUnclear(f"{path!r} is no port", "name ports such as /dev/ttyUSB0")
    else:
        try:
            wanted = re.compile(pattern, re.IGNORECASE)
        except re.error as error:
            raise PortsUnclear(f"the port filter is no regular expression: {error}", "correct it") from None
        ports = [port for port in listed() if wanted.search(port.text)]
        if not ports:
            raise PortsUnclear("no board is found", "plug one in, or name the ports: --ports /dev/ttyUSB0")
        if len(ports) > 1 and not every:
            lines = "; ".join(port.text for port in ports)
            raise PortsUnclear(
                f"there are {len(ports)} ports: {lines}", "name those that are meant: --ports; or --all-ports"
            )
        chosen = [port.path for port in ports]
    if len(chosen) > LANES_MAX:
        raise PortsUnclear(f"{len(chosen)} ports are more than {LANES_MAX}", "run a second station")
    real = [os.path.realpath(path) for path in chosen if os.path.exists(path)]
    if len(set(real)) != len(real):
        raise PortsUnclear("two of the ports are the same", "name each port once")
    return chosen


class Watch:
    """Sees whether the board on a port is still the one that it was.

    Args:
        path: the port.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._seen: tuple[object, ...] | None = None

    def wait_for_board(self, stopped: Callable[[], bool]) -> bool:
        """Wait until a board is there that was not seen before; False: stopped."""
        while not stopped():
            mark = self._mark()
            if mark is not None and mark != self._seen:
                self._seen = mark
                time.sleep(SETTLE_S)
                return True
            if mark is None:
                self._seen = None
            time.sleep(POLL_S)
        return False

    def present(self) -> bool:
        """Whether the board that was waited for is still there."""
        return self._seen is not None and self._mark() == self._seen

    def forget(self) -> None:
        """Take the board that is there for one that was not seen yet."""
        self._seen = None

    def _mark(self) -> tuple[object, ...] | None:
        # a device file that is made anew has another inode, or is made at another time
        try:
            link, behind = os.lstat(self._path), os.stat(self._path)
        except OSError:
            return None
        return link.st_dev, link.st_ino, link.st_ctime_ns if os.path.islink(self._path) else 0, behind.st_ino
