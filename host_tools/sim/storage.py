"""The folder that keeps a board: its partitions, the image of its file system, its NVS, and the lock on all of them.

One board at a time uses a folder. Files are put into it only while the board is off, which its owner sees to. What
the running board writes there goes past this module (`host_tools.sim.flash`, `host_tools.sim.nvs`, and the file system
on the board itself).
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, TimeoutExpired, run

from boards.partitions import Partition
from host_tools.sim import firmware
from host_tools.sim.board_error import BoardError
from host_tools.sim.flash import FILE_SYSTEM, Flash
from host_tools.sim.modules import INSTALLER
from host_tools.sim.process import environment


class Storage:
    """One board's folder.

    Args:
        folder: made when something is first put there.
        name: of the board, for messages.
        layout: the partitions.
        flash_size: of the file system's partition in bytes; None: what the layout says.
        chip: a key of `firmware.CHIP_IDS`.

    Raises:
        BoardError: the layout has no file system.
    """

    def __init__(
        self, folder: Path, *, name: str, layout: Sequence[Partition], flash_size: int | None, chip: str
    ) -> None:
        self._folder = folder
        self._name = name
        self._layout = tuple(layout)
        self._flash_size = flash_size or next((row.size for row in self._layout if row.name == FILE_SYSTEM), 0)
        if not self._flash_size:
            raise BoardError(f"the layout has no partition {FILE_SYSTEM}")
        self._chip = chip
        self._lock_file: int | None = None

    @property
    def image(self) -> Path:
        """The image of the file system."""
        return self._folder / "flash.img"

    @property
    def nvs(self) -> Path:
        """Where NVS is kept."""
        return self._folder / "nvs.json"

    @property
    def modules(self) -> Path:
        """Where the compiled modules lie, which stand for the firmware's own."""
        return self._folder / "firmware"

    def partitions(self) -> Flash:
        """The partitions as they are now."""
        return Flash(self._layout, self._folder)

    def lock(self) -> None:
        """Take the folder, which is made, until `release`.

        Raises:
            BoardError: another board has it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise BoardError(f"{self._folder} is used by another board", "stop that one first") from error

    def release(self) -> None:
        """Give the folder back; nothing happens if it was not taken."""
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Take the folder for a while, if this board has not taken it already."""
        if self._lock_file is not None:
            yield
            return
        self.lock()
        try:
            yield
        finally:
            self.release()

    def make(self) -> None:
        """Make what is not there yet: an empty file system, and the firmware that a board comes with."""
        if not self.image.exists():
            with self.image.open("xb") as image:
                image.truncate(self._flash_size)
        flash = self.partitions()
        first = next(iter(flash.find(0)), None)
        if first and not flash.path(first).exists():
            flash.program(first, firmware.factory(self._chip))

    def install(self, tree: Path, interpreter: str, timeout_s: float, *, clean: bool) -> None:
        """Copy a tree of files into the file system, over what is there.

        Args:
            tree: the folder.
            interpreter: MicroPython, whose littlefs writes them.
            timeout_s: real seconds.
            clean: remove everything that is there first.

        Raises:
            BoardError: they do not fit, or it took too long.
        """
        self.make()
        command = [interpreter, str(INSTALLER), str(self.image), str(tree.resolve())]
        if clean:
            command.append("clean")
        try:
            done = run(
                command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment(), timeout=timeout_s, check=False
            )
        except TimeoutExpired as error:
            raise BoardError(f"installing on {self._name} did not end within {timeout_s} s") from error
        if done.returncode:
            said = done.stdout.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise BoardError(f"installing on {self._name}: {said[-1]}")

    def program(self, label: str, data: bytes) -> None:
        """Write a partition as a flashing tool does.

        Raises:
            BoardError: there is no such partition.
            EspError: the data do not fit.
        """
        flash = self.partitions()
        area = flash.by_label(label)
        if area is None:
            raise BoardError(f"{self._name} has no partition {label!r}")
        flash.program(area, data)
