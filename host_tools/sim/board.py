"""The virtual board: a MicroPython process in place of the chip's processor, on a pty in place of its serial port.

Owns what one does with it from outside: making it, switching it on and off, pressing its buttons, reading its console,
putting files into it. Its processor lives in a thread of its own (`host_tools.sim.processor`, where resets and what
they keep are listed), its flash and NVS in a folder (`host_tools.sim.storage`); what else the chip has is in
`host_tools.sim.peripherals`.
"""

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import boards
from boards.partitions import Partition
from host_tools.sim.board_error import BoardError
from host_tools.sim.clock import SimClock
from host_tools.sim.interpreter import find_micropython
from host_tools.sim.modules import compile_modules
from host_tools.sim.nvs import Nvs
from host_tools.sim.parts import Part
from host_tools.sim.processor import COMMAND_S, Processor, State
from host_tools.sim.radio import Radio
from host_tools.sim.storage import Storage
from host_tools.sim.uart import Talker
from host_tools.sim.wifi import AccessPoint

__all__ = ["HEAP", "BoardError", "VirtualBoard"]

DEFINITION = "VIRTUAL"
# 73wK, what 73 KiB are on the chip, for the application (it takes 65 to 69, 64 are the goal); the rest is the share of
# the simulated modules, which on the chip are C and take none. What of it is not loaded is held by `_start.py`
# (tests/host/test_sim_board.py measures it)
HEAP = "103wK"
LINES_KEPT = 5000

_START = "import _start; _start.start(globals())"


class VirtualBoard:
    """One board. Use it as a context manager, or call `stop` in the end.

    Args:
        directory: keeps its flash and NVS; made when it is not there. One board at a time uses it.
        name: of the board, also on the ether.
        mac: six bytes, what `machine.unique_id()` returns.
        clock: the simulation's clock.
        parts: on its I2C buses.
        adc: pin → what returns microvolts there.
        inputs: pin → its level, 0 or 1, at a Unix time: a button, a part's interrupt line.
        ether: address of the ether's server; without one the radio is alone.
        heap: MicroPython's heap, as `-X heapsize=` takes it; "103wK" is what 73 KiB are on the chip, and the share of
            the simulated modules.
        interpreter: MicroPython; default: `find_micropython()`.
        layout: the partitions; default: those of the board definition VIRTUAL.
        flash_size: of the file system's partition in bytes; default: what the layout says.
        chip: which ESP32, a key of `firmware.CHIP_IDS`.
        wifi: `{"ssid": …, "key": …}` of an access point in range, or None. While the board has an address there, its
            sockets are the host's, so it reaches what the host reaches, and 127.0.0.1 is the host; without one they
            fail as on the chip. `settimeout` is in virtual time as everything on the board: at speed 20 ten seconds are
            half a real one, to which a quarter of a real second is added for the host's scheduler.
        modem: the pty of what UART 1 is connected to, a `SimModem`'s `port` for one; None: nothing. Over PPP the
            board's sockets reach what is behind that modem, and not what the host reaches.
        modem_key: the pin that presses the modem's power key; default: that of the board definition VIRTUAL.
        serial: what talks on a UART other than the modem's, by its number.
        on_line: called with each line of the console, from the board's thread.

    Attributes:
        log: the newest 5,000 lines of the console.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str,
        mac: bytes,
        clock: SimClock | None = None,
        parts: Sequence[Part] = (),
        adc: Mapping[int, Callable[[], int]] | None = None,
        inputs: Mapping[int, Callable[[float], int]] | None = None,
        ether: tuple[str, int] | None = None,
        heap: str = HEAP,
        interpreter: str | None = None,
        layout: Sequence[Partition] | None = None,
        flash_size: int | None = None,
        chip: str = "esp32",
        wifi: Mapping[str, str] | None = None,
        modem: str | None = None,
        modem_key: int | None = None,
        serial: Mapping[int, Talker] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        if len(mac) != 6:
            raise BoardError("a MAC address has six bytes")
        if not re.fullmatch(r"[0-9]+w?[KkMm]?", heap):
            raise BoardError(f"{heap!r} is no heap size", "write it as 64wK, 128K or 2M")
        self.name = name
        self.log: deque[str] = deque(maxlen=LINES_KEPT)
        self._clock = clock or SimClock.start()
        self._heap = heap
        self._interpreter = interpreter
        rows = boards.load(DEFINITION).flash_layout() if layout is None else layout
        self._storage = Storage(directory, name=name, layout=rows, flash_size=flash_size, chip=chip)
        self._chip = chip
        self._point = AccessPoint(wifi["ssid"], wifi["key"]) if wifi else None
        self._on_line = on_line
        described = boards.load(DEFINITION)
        if modem_key is None and described.modem is not None:
            modem_key = described.modem.power_key
        lines = {"modem": modem, "modem_key": modem_key}
        self._arguments: dict[str, Any] = {
            "mac": mac,
            "parts": parts,
            "adc": adc or {},
            "inputs": inputs or {},
            "serial": serial or {},
            **lines,
        }
        self._radio = Radio(ether, name, self._clock)
        self._lines = threading.Condition()
        self._line_count = 0
        self._thread: threading.Thread | None = None
        self._processor: Processor | None = None

    # life

    def start(self) -> None:
        """Make the board and switch it on; returns when its processor runs. `port` is there from then on.

        Raises:
            BoardError: another board uses the directory, or the interpreter cannot be started.
            InterpreterMissing: there is no MicroPython.
        """
        if self._thread is not None:
            raise BoardError(f"{self.name} runs already")
        interpreter = self._interpreter or find_micropython()
        self._storage.lock()
        try:
            modules = compile_modules(self._storage.modules)
            self._storage.make()
            self._processor = Processor(
                command=[interpreter, "-X", f"heapsize={self._heap}", "-i", "-c", _START],
                firmware=modules,
                flash=self._storage.image,
                on_line=self._line,
                clock=self._clock,
                nvs=Nvs(self._storage.nvs),
                radio=self._radio,
                partitions=self._storage.partitions(),
                chip=self._chip,
                wifi=self._point,
                **self._arguments,
            )
            self._thread = threading.Thread(target=self._processor.run, name=f"board-{self.name}", daemon=True)
            self._thread.start()
            self.power_on()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Switch it off and end everything that belongs to it. May be called again."""
        if self._thread is not None and self._processor is not None:
            self._processor.command("stop")
            self._thread.join()
        self._thread = None
        self._processor = None
        self._storage.release()

    def __enter__(self) -> "VirtualBoard":
        if self._thread is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # power

    def power_on(self) -> None:
        """Switch it on; nothing happens if it is on."""
        self._running().command("on").result(COMMAND_S)

    def power_cut(self) -> None:
        """Take its power away, in the middle of whatever it does. Flash and committed NVS are kept."""
        self._running().command("cut").result(COMMAND_S)

    def cut_power_after(
        self, *, flash_operations: int = 0, nvs_operations: int = 0, partition_operations: int = 0
    ) -> None:
        """Take its power away in place of the n-th write or erase of the file system, or the n-th change of NVS.

        The file system's count takes effect, and starts, at the next start of the processor; the others at once.

        Args:
            flash_operations: of the file system; 0: never.
            nvs_operations: sets, erases and commits.
            partition_operations: writes (of 1 KiB) and erases through `esp32.Partition`, otadata's included.
        """
        chip = self._running().chip
        chip.flash_cut_after = flash_operations
        chip.nvs_cut_after = nvs_operations
        chip.partition_cut_after = partition_operations

    def disturb_loader(self, *, silent_after: int = 0, corrupt_block: int = 0) -> None:
        """Spoil what the next esptool does.

        Args:
            silent_after: from the n-th block of data on the loader answers nothing any more; 0: never.
            corrupt_block: the n-th block of data is written with a bit changed; 0: none.
        """
        loader = self._running().loader
        loader.silent_after = silent_after
        loader.corrupt_block = corrupt_block

    def reset(self) -> None:
        """Press the reset button: a cold start, which is what the chip reports."""
        self._running().command("press").result(COMMAND_S)

    def set_pin(self, pin: int, level: int) -> None:
        """Put an input to 0 or 1; wakes the board if it sleeps and was told to wake for this."""
        self._running().command("pin", pin, level).result(COMMAND_S)

    @property
    def wifi_up(self) -> bool:
        """Whether the access point is in range. Setting it takes effect at once: what is connected breaks."""
        return self._point is not None and self._point.up

    @wifi_up.setter
    def wifi_up(self, up: bool) -> None:
        if self._point is None:
            raise BoardError(f"{self.name} has no access point", "give it one: wifi=")
        if self._processor is None:
            self._point.up = up
        else:
            self._processor.chip.set_wifi_range(up)

    # what one sees of it

    @property
    def running(self) -> str:
        """The label of the partition that the boot loader has started; empty before that."""
        area = self._processor.chip.bootloader.running if self._processor else None
        return area.label if area else ""

    @property
    def port(self) -> str:
        """The path of its serial port, for mpremote."""
        return self._running().terminal.port

    @property
    def state(self) -> State:
        """off, running, asleep (deep sleep) or loader (a host talks to the loader in its ROM)."""
        return self._processor.state if self._processor else "off"

    @property
    def starts(self) -> int:
        """How often the processor has started."""
        return self._processor.starts if self._processor else 0

    @property
    def nvs_file(self) -> Path:
        """Where NVS is kept."""
        return self._storage.nvs

    @property
    def flash_file(self) -> Path:
        """The image of the file system."""
        return self._storage.image

    def type(self, text: str) -> None:
        """Input on its serial port."""
        self._running().command("type", text.encode()).result(COMMAND_S)

    def wait_for(self, text: str, timeout_s: float = 10.0, *, after: int = 0) -> str:
        """Block until a line of the console contains this text.

        Args:
            text: what to look for.
            timeout_s: real seconds.
            after: leave out so many lines of the board's life; `line_count` is the number so far.

        Returns:
            The line.

        Raises:
            BoardError: it did not come in time.
        """
        limit = time.monotonic() + timeout_s
        with self._lines:
            while True:
                skip = max(0, after - (self._line_count - len(self.log)))
                for line in list(self.log)[skip:]:
                    if text in line:
                        return line
                left = limit - time.monotonic()
                if left <= 0:
                    last = list(self.log)[-5:]
                    raise BoardError(f"{self.name} did not print {text!r} within {timeout_s} s; its last lines: {last}")
                self._lines.wait(left)

    @property
    def line_count(self) -> int:
        """How many lines the console has printed."""
        return self._line_count

    # flash

    def install(self, tree: Path, timeout_s: float = 60.0, *, clean: bool = False) -> None:
        """Copy a tree of files into the file system, over what is there; the board must be off.

        Args:
            tree: the folder.
            timeout_s: real seconds.
            clean: remove everything that is there first.

        Raises:
            BoardError: it is on, or the files do not fit.
        """
        with self._off():
            self._storage.install(tree, self._interpreter or find_micropython(), timeout_s, clean=clean)

    def exchange(self, tree: Path, timeout_s: float = 60.0) -> None:
        """Copy a tree of files over what is there while the board has power, and start it anew; its time goes on.

        As `install` while the processor is held in reset: RTC memory and time outlive it as they outlive any reset.

        Raises:
            BoardError: it is stopped, or the files do not fit; it is started anew then, too.
        """
        self._running().command("hold").result(COMMAND_S)
        try:
            self.install(tree, timeout_s)
        finally:
            self._running().command("release").result(COMMAND_S)

    def program(self, label: str, data: bytes) -> None:
        """Write a partition as a flashing tool does; the board must be off.

        Raises:
            BoardError: it is on, or has no such partition.
            EspError: the data do not fit.
        """
        with self._off():
            self._storage.program(label, data)

    @contextlib.contextmanager
    def _off(self) -> Iterator[None]:
        if self.state != "off":
            raise BoardError(f"{self.name} is on", "call stop() or power_cut() first")
        with self._storage.held():
            yield

    # the rest

    def _running(self) -> Processor:
        if self._processor is None:
            raise BoardError(f"{self.name} is stopped", "call start() first")
        return self._processor

    def _line(self, line: str) -> None:
        with self._lines:
            self.log.append(line)
            self._line_count += 1
            self._lines.notify_all()
        if self._on_line:
            self._on_line(line)
