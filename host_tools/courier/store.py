"""What a courier carries: one folder, one file a frame, written beside and renamed. Opens nothing, sends nothing.

    id                        the courier's name at the broker, 16 hex digits, made at first use
    <eui>/up/<key>            frames of the device on their way to the server; the key as the device gave it, in hex
    <eui>/sent/<key>          frames that the broker has taken; the device has not let go of them yet
    <eui>/down/<number>       the server's answers on their way to the device, in the order in which they came

Nothing in it can be opened by its owner, and nothing of it is the only copy: a device lets go of a frame only by the
server's own sync. So what is lost here is fetched again with the next visit.
"""

import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from host_tools.courier.errors import CourierError
from provisioning import wholefile
from sealwire import ble
from sealwire.frame import FRAME_MAX, OVERHEAD

FRAMES_MAX = 4096  # of one device, in both directions together
AGAIN_S = 3600.0  # a frame that was delivered so long ago and is still queued is delivered again
KEPT_S = 14 * 86400.0  # the server has no key for anything older
_KEY = re.compile(r"[0-9a-f]{14}")
_EUI = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Carried:
    """One frame.

    Attributes:
        key: priority (1), epoch (4), counter (2), as the device keeps it.
    """

    eui: str
    key: bytes
    frame: bytes

    @property
    def number(self) -> tuple[int, int]:
        """Epoch and counter."""
        return int.from_bytes(self.key[1:5], "big"), int.from_bytes(self.key[5:], "big")


class CourierStore:
    """The folder.

    Args:
        folder: made if it is not there.
        clock: Unix seconds.

    Raises:
        CourierError: it cannot be used.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.name = self._named()
        except OSError as error:
            raise CourierError(
                f"the folder {folder} cannot be used: {error.strerror}", "name another one with --folder"
            ) from None

    def _named(self) -> str:
        path = self._folder / "id"
        if not path.is_file():
            wholefile.replace(path, secrets.token_hex(8).encode())
        name = path.read_text(encoding="ascii", errors="replace").strip()
        if not _EUI.fullmatch(name):
            raise CourierError(f"{path} holds no courier's name", "remove it; a new one is made")
        return name

    def devices(self) -> list[str]:
        """EUIs of those whose frames or answers are here."""
        return sorted(path.name for path in self._folder.iterdir() if _EUI.fullmatch(path.name) and path.is_dir())

    # --- frames up

    def wanted(self, eui: str, listed: list[bytes]) -> list[bytes]:
        """Which of the frames that a device has queued are to be fetched, in its order.

        What it has let go of is forgotten where it was delivered. What was delivered long ago and is still queued
        goes on its way again.
        """
        queued = set(listed)
        for path in self._files(eui, "sent"):
            if bytes.fromhex(path.name) not in queued:
                path.unlink(missing_ok=True)
            elif self._clock() - path.stat().st_mtime >= AGAIN_S:
                self._move(path, self._at(eui, "up") / path.name)
        here = {path.name for box in ("up", "sent") for path in self._files(eui, box)}
        room = FRAMES_MAX - len(here)
        return [key for key in listed if key.hex() not in here][: max(0, room)]

    def take(self, carried: Carried) -> None:
        """Keep a fetched frame.

        Raises:
            CourierError: it looks like none.
        """
        if len(carried.key) != ble.KEY_LEN or not OVERHEAD <= len(carried.frame) <= FRAME_MAX:
            raise CourierError("the device gave something that is no frame", "look at its log")
        wholefile.replace(self._at(carried.eui, "up") / carried.key.hex(), carried.frame)

    def undelivered(self, eui: str) -> list[Carried]:
        """Frames on their way to the server, oldest epoch and counter first; what is too old is forgotten."""
        return self._carried(eui, "up")

    def awaiting(self, eui: str) -> list[Carried]:
        """All frames of this device that the server may still answer."""
        return self._carried(eui, "up") + self._carried(eui, "sent")

    def delivered(self, carried: Carried) -> None:
        """The broker has taken it."""
        path = self._at(carried.eui, "up") / carried.key.hex()
        self._move(path, self._at(carried.eui, "sent") / path.name)

    # --- answers down

    def answer(self, eui: str, frame: bytes) -> None:
        """Keep an answer for the way back."""
        if not OVERHEAD <= len(frame) <= FRAME_MAX:
            return
        waiting = self._files(eui, "down")
        if len(waiting) >= FRAMES_MAX:
            waiting[0].unlink(missing_ok=True)
        number = int(waiting[-1].name, 16) + 1 if waiting else 0
        wholefile.replace(self._at(eui, "down") / f"{number:014x}", frame)

    def answers(self, eui: str) -> list[tuple[str, bytes]]:
        """(name, frame), in the order in which they came."""
        return [(path.name, path.read_bytes()) for path in self._files(eui, "down")]

    def handed_over(self, eui: str, name: str) -> None:
        """The device has said something to it, or has hung up at it: it is not brought again."""
        (self._at(eui, "down") / name).unlink(missing_ok=True)

    # --- files

    def _carried(self, eui: str, box: str) -> list[Carried]:
        found = []
        for path in self._files(eui, box):
            if self._clock() - path.stat().st_mtime > KEPT_S:
                path.unlink(missing_ok=True)
                continue
            found.append(Carried(eui, bytes.fromhex(path.name), path.read_bytes()))
        return sorted(found, key=lambda one: one.number)

    def _at(self, eui: str, box: str) -> Path:
        if not _EUI.fullmatch(eui):
            raise CourierError(f"{eui!r} is no EUI", "an EUI is 16 lower-case hex digits")
        path = self._folder / eui
        path.mkdir(mode=0o700, exist_ok=True)  # with its parents it would have other permissions
        path = path / box
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def _files(self, eui: str, box: str) -> list[Path]:
        folder = self._at(eui, box)
        return sorted(path for path in folder.iterdir() if _KEY.fullmatch(path.name))

    def _move(self, path: Path, to: Path) -> None:
        if path.exists():
            os.replace(path, to)
            os.utime(to, (self._clock(), self._clock()))
