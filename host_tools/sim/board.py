"""The virtual board: a MicroPython process in place of the chip's processor, on a pty in place of its serial port.

Owns power and resets: cold start, reset, watchdog, deep sleep, soft reset, power cut, and what is kept over each. Each
partition of the flash is a file, NVS another; what else the chip has is in `host_tools.sim.peripherals`. A start goes
through the boot loader (`host_tools.sim.bootloader`) unless it is the end of a deep sleep or a soft reset.

                        cause   RTC memory, time    NVS and flash
    power on              1     lost                kept
    machine.reset()       2     kept                kept
    watchdog              3     kept                kept
    end of deep sleep     4     kept                kept
    soft reset            5     kept                kept      also a Control-D and sys.exit()
"""

import contextlib
import fcntl
import os
import queue
import re
import secrets
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, TimeoutExpired, run
from typing import Any, Literal

import boards
from boards.partitions import Partition
from host_tools.release.bundle import compile_file
from host_tools.sim import firmware
from host_tools.sim.clock import SimClock
from host_tools.sim.flash import FILE_SYSTEM, Flash
from host_tools.sim.interpreter import find_micropython
from host_tools.sim.nvs import Nvs
from host_tools.sim.parts import Part
from host_tools.sim.peripherals import Event, Peripherals, Start
from host_tools.sim.process import Process
from host_tools.sim.radio import Radio
from host_tools.sim.terminal import Terminal
from host_tools.sim.wifi import AccessPoint

PWRON, HARD, WDT, DEEPSLEEP, SOFT = 1, 2, 3, 4, 5  # machine.reset_cause()
WAKE_PIN, WAKE_EXT1, WAKE_TIMER = 2, 3, 4  # machine.wake_reason()
DEFINITION = "VIRTUAL"
# 64wK, what 64 KiB are on the chip, for the application; the rest is the share of the simulated modules, which on the
# chip are C and take none (tests/host/test_sim_board.py measures it)
HEAP = "80wK"
MODULES = Path(__file__).with_name("micropython")
LINES_KEPT = 5000
COMMAND_S = 10.0
CRASHES_MAX = 5
BOOTS_MAX = 8  # of firmware that does not start
DRAIN_CHUNKS = 32
State = Literal["off", "running", "asleep"]


class BoardError(Exception):
    """The virtual board cannot do this; the text says why."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy


class VirtualBoard:
    """One board. Use it as a context manager, or call `stop` in the end.

    Args:
        directory: keeps its flash and NVS; made when it is not there. One board at a time uses it.
        name: of the board, also on the ether.
        mac: six bytes, what `machine.unique_id()` returns.
        clock: the simulation's clock.
        parts: on its I2C buses.
        adc: pin → what returns microvolts there.
        ether: address of the ether's server; without one the radio is alone.
        heap: MicroPython's heap, as `-X heapsize=` takes it; "80wK" is what 64 KiB are on the chip, and the share of
            the simulated modules.
        interpreter: MicroPython; default: `find_micropython()`.
        layout: the partitions; default: those of the board definition VIRTUAL.
        flash_size: of the file system's partition in bytes; default: what the layout says.
        chip: which ESP32, a key of `firmware.CHIP_IDS`.
        wifi: `{"ssid": …, "key": …}` of an access point in range, or None. While the board has an address there, its
            sockets are the host's, so it reaches what the host reaches, and 127.0.0.1 is the host; without one they
            fail as on the chip. `settimeout` is in virtual time as everything on the board: at speed 20 ten seconds are
            half a real one, to which a quarter of a real second is added for the host's scheduler.
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
        ether: tuple[str, int] | None = None,
        heap: str = HEAP,
        interpreter: str | None = None,
        layout: Sequence[Partition] | None = None,
        flash_size: int | None = None,
        chip: str = "esp32",
        wifi: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        if len(mac) != 6:
            raise BoardError("a MAC address has six bytes")
        if not re.fullmatch(r"[0-9]+w?[KkMm]?", heap):
            raise BoardError(f"{heap!r} is no heap size", "write it as 64wK, 128K or 2M")
        self.name = name
        self.log: deque[str] = deque(maxlen=LINES_KEPT)
        self._directory = directory
        self._clock = clock or SimClock.start()
        self._heap = heap
        self._interpreter = interpreter
        self._layout = boards.load(DEFINITION).flash_layout() if layout is None else tuple(layout)
        self._flash_size = flash_size or next((row.size for row in self._layout if row.name == FILE_SYSTEM), 0)
        if not self._flash_size:
            raise BoardError(f"the layout has no partition {FILE_SYSTEM}")
        self._chip = chip
        self._point = AccessPoint(wifi["ssid"], wifi["key"]) if wifi else None
        self._on_line = on_line
        self._arguments: dict[str, Any] = {"mac": mac, "parts": parts, "adc": adc or {}}
        self._radio = Radio(ether, name, self._clock)
        self._lines = threading.Condition()
        self._line_count = 0
        self._lock_file: int | None = None
        self._thread: threading.Thread | None = None
        self._loop: _Loop | None = None

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
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock()
        try:
            firmware = _compile_modules(self._directory / "firmware")
            self._make_flash()
            self._loop = _Loop(
                command=[interpreter, "-X", f"heapsize={self._heap}", "-i", "-c", _START],
                firmware=firmware,
                flash=self._flash,
                on_line=self._line,
                clock=self._clock,
                nvs=Nvs(self._directory / "nvs.json"),
                radio=self._radio,
                partitions=Flash(self._layout, self._directory),
                chip=self._chip,
                wifi=self._point,
                **self._arguments,
            )
            self._thread = threading.Thread(target=self._loop.run, name=f"board-{self.name}", daemon=True)
            self._thread.start()
            self.power_on()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Switch it off and end everything that belongs to it. May be called again."""
        if self._thread is not None and self._loop is not None:
            self._loop.command("stop")
            self._thread.join()
        self._thread = None
        self._loop = None
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

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
        if self._loop is None:
            self._point.up = up
        else:
            self._loop.chip.set_wifi_range(up)

    # what one sees of it

    @property
    def running(self) -> str:
        """The label of the partition that the boot loader has started; empty before that."""
        area = self._loop.chip.bootloader.running if self._loop else None
        return area.label if area else ""

    @property
    def port(self) -> str:
        """The path of its serial port, for mpremote."""
        return self._running().terminal.port

    @property
    def state(self) -> State:
        """off, running or asleep (deep sleep)."""
        return self._loop.state if self._loop else "off"

    @property
    def starts(self) -> int:
        """How often the processor has started."""
        return self._loop.starts if self._loop else 0

    @property
    def nvs_file(self) -> Path:
        """Where NVS is kept."""
        return self._directory / "nvs.json"

    @property
    def flash_file(self) -> Path:
        """The image of the file system."""
        return self._flash

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

    @property
    def _flash(self) -> Path:
        return self._directory / "flash.img"

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
            self._make_flash()
            interpreter = self._interpreter or find_micropython()
            command = [interpreter, str(MODULES / "_install.py"), str(self._flash), str(tree.resolve())]
            if clean:
                command.append("clean")
            try:
                done = run(
                    command,
                    stdin=DEVNULL,
                    stdout=PIPE,
                    stderr=STDOUT,
                    env=_environment(),
                    timeout=timeout_s,
                    check=False,
                )
            except TimeoutExpired as error:
                raise BoardError(f"installing on {self.name} did not end within {timeout_s} s") from error
        if done.returncode:
            said = done.stdout.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise BoardError(f"installing on {self.name}: {said[-1]}")

    def program(self, label: str, data: bytes) -> None:
        """Write a partition as a flashing tool does; the board must be off.

        Raises:
            BoardError: it is on, or has no such partition.
            EspError: the data do not fit.
        """
        with self._off():
            flash = Flash(self._layout, self._directory)
            area = flash.by_label(label)
            if area is None:
                raise BoardError(f"{self.name} has no partition {label!r}")
            flash.program(area, data)

    @contextlib.contextmanager
    def _off(self) -> Iterator[None]:
        if self.state != "off":
            raise BoardError(f"{self.name} is on", "call stop() or power_cut() first")
        held = self._lock_file is not None
        self._directory.mkdir(parents=True, exist_ok=True)
        if not held:
            self._lock()
        try:
            yield
        finally:
            if not held and self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    def _make_flash(self) -> None:
        if not self._flash.exists():
            with self._flash.open("xb") as image:
                image.truncate(self._flash_size)
        flash = Flash(self._layout, self._directory)
        first = next(iter(flash.find(0)), None)
        if first and not flash.path(first).exists():
            flash.program(first, firmware.factory(self._chip))

    # the rest

    def _running(self) -> "_Loop":
        if self._loop is None:
            raise BoardError(f"{self.name} is stopped", "call start() first")
        return self._loop

    def _lock(self) -> None:
        self._lock_file = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock_file)
            self._lock_file = None
            raise BoardError(f"{self._directory} is used by another board", "stop that one first") from error

    def _line(self, line: str) -> None:
        with self._lines:
            self.log.append(line)
            self._line_count += 1
            self._lines.notify_all()
        if self._on_line:
            self._on_line(line)


_START = "import _start; _start.start(globals())"


class _Loop:
    """The board's thread: everything that changes its state happens here, one thing after the other."""

    def __init__(
        self,
        *,
        command: Sequence[str],
        firmware: Path,
        flash: Path,
        on_line: Callable[[str], None],
        partitions: Flash,
        **chip: Any,
    ) -> None:
        self.state: State = "off"
        self.starts = 0
        self.terminal = Terminal(on_line)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._queue: queue.Queue[tuple[Process | None, str, tuple[Any, ...], Future[None]]] = queue.Queue()
        self.chip = Peripherals(on_event=self._event, flash=partitions, say=self._say, **chip)
        self._partitions = partitions
        self._clock: SimClock = chip["clock"]
        self._command = command
        self._firmware = firmware
        self._flash = flash
        self._process: Process | None = None
        self._listener: socket.socket | None = None
        self._server: threading.Thread | None = None
        self._wake_at: float | None = None
        self._was_raw = False
        self._started_at = 0.0
        self._crashes = 0
        self._stopping = False

    def command(self, verb: str, *arguments: Any) -> "Future[None]":
        """Ask the thread to do something; the future tells when it is done."""
        return self._put(None, verb, *arguments)

    def _event(self, event: Event) -> "Future[None]":
        return self._put(self._process, event.kind, event.sleep_s)

    def _put(self, process: Process | None, verb: str, *arguments: Any) -> "Future[None]":
        future: Future[None] = Future()
        self._queue.put((process, verb, arguments, future))
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"\0")
        return future

    def run(self) -> None:
        """Until `stop`."""
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._end_process()
            self.chip.radio.close()
            self.terminal.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self.state = "off"
            while not self._queue.empty():
                *_, future = self._queue.get()
                future.cancel()

    def _turn(self) -> None:
        again = self.terminal.pump()
        board = self.terminal.wants_board()
        listener = self._listener.fileno() if self._listener else None
        watched = [self._wake_read, self.terminal.wants_host(), board, listener]
        readable, _, _ = select.select([fd for fd in watched if fd is not None], [], [], self._patience(again))
        if self._wake_read in readable:
            os.read(self._wake_read, 4096)
        if listener in readable:
            self._accept()
        if board in readable and not self.terminal.from_board():
            self._take_end()
        while not self._queue.empty():
            self._do(*self._queue.get())
        if self.terminal.wants_host() in readable:
            self.terminal.from_host()
        self._take_time()

    def _patience(self, again: float | None) -> float | None:
        limits = [again] if again is not None else []
        for at in (self._wake_at, self.chip.watchdog_at if self._process else None):
            if at is not None:
                limits.append(self._clock.real_delay(at - self._clock.now()) + 0.001)
        return min(limits, default=None)

    def _do(self, process: Process | None, verb: str, arguments: tuple[Any, ...], future: "Future[None]") -> None:
        try:
            if process is None or process is self._process:
                _VERBS[verb](self, *arguments)
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)

    # what can happen

    def _on(self) -> None:
        if self.state == "off":
            self._crashes = 0
            self.chip.power_on()
            self._start(Start(PWRON))

    def _cut(self, *_: Any) -> None:
        self._drain()
        self._end_process()
        self._wake_at = None
        self.state = "off"

    def _press_reset(self) -> None:
        self._cut()
        self._on()

    def _reset(self, *_: Any) -> None:
        self._drain()
        self._restart(Start(HARD))

    def _exit(self, *_: Any) -> None:
        self._drain()
        self.terminal.say(b"MPY: soft reboot\r\n")
        self._restart(Start(SOFT))

    def _sleep(self, sleep_s: float | None) -> None:
        self._drain()
        wake = self.chip.wake
        pins = dict(self.chip.pins)
        self._end_process()
        self.chip.reset()
        self.chip.wake, self.chip.pins = wake, pins
        self.state = "asleep"
        self._wake_at = None if sleep_s is None else self._clock.now() + sleep_s
        self._look_at_pins()

    def _pin(self, pin: int, level: int) -> None:
        self.chip.pins[pin] = level
        self._look_at_pins()

    def _look_at_pins(self) -> None:
        if self.state != "asleep":
            return
        pins, wake = self.chip.pins, self.chip.wake
        if any(pins.get(pin, 0) == level for pin, level in wake.any_of.items()):
            self._restart(Start(DEEPSLEEP, WAKE_PIN))
        elif wake.all_low and not any(pins.get(pin, 0) for pin in wake.all_low):
            self._restart(Start(DEEPSLEEP, WAKE_EXT1))

    def _hello(self, *_: Any) -> None:
        self.terminal.started()

    def _booted(self, *_: Any) -> None:
        if self._was_raw:
            # the REPL's mode outlives a soft reset on the chip
            self._drain()
            self._was_raw = False
            self.terminal.muted = True
            self.terminal.type(b"\x01")

    def _look(self, *_: Any) -> None:
        """Nothing to do but to look at the clock again."""

    def _type(self, data: bytes) -> None:
        if self._process is not None:
            self.terminal.type(data)

    def _stop(self) -> None:
        self._stopping = True

    def _take_time(self) -> None:
        now = self._clock.now()
        if self._wake_at is not None and now >= self._wake_at:
            self._restart(Start(DEEPSLEEP, WAKE_TIMER))
        elif self._process and self.chip.watchdog_at is not None and now >= self.chip.watchdog_at:
            self._drain()
            self._restart(Start(WDT))

    def _take_end(self) -> None:
        """The interpreter has let go of its terminal: it has ended, or is about to."""
        process = self._process
        if process is None:
            return
        limit = time.monotonic() + 1.0
        while process.ended() is None and time.monotonic() < limit:
            time.sleep(0.001)
        status = process.ended()
        raw = self.terminal.raw
        called = self._listener is None
        self._end_process()
        if time.monotonic() - self._started_at > 1.0:
            self._crashes = 0
        if status is not None and status >= 0:
            self._crashes += not called
            if self._crashes < CRASHES_MAX:
                self.terminal.say(b"MPY: soft reboot\r\n")
                self._was_raw = raw
                self._start(Start(SOFT, run_main=not raw))
                return
        elif status == -2:
            # a Control-C in the moment between running and reading: on a chip, the prompt again
            self._was_raw = raw
            self._start(Start(SOFT, run_main=False))
            return
        else:
            self._crashes += 1
            if self._crashes < CRASHES_MAX:
                self.terminal.say(b"\r\nvirtual board: the interpreter died (%d)\r\n" % (status or 0))
                self._start(Start(HARD))
                return
        self.terminal.say(b"\r\nvirtual board: the interpreter keeps ending; switched off\r\n")
        self.state = "off"

    # the process

    def _restart(self, start: Start) -> None:
        self._end_process()
        self._start(start)

    def _say(self, line: str) -> None:
        self.terminal.say(line.encode() + b"\r\n")

    def _boot(self, start: Start) -> bool:
        """The boot loader's part of a start; False: there is nothing that it could start."""
        if start.cause == SOFT or (start.cause == DEEPSLEEP and self.chip.bootloader.running):
            return True
        for _ in range(BOOTS_MAX):
            area = self.chip.bootloader.start()
            if area is None:
                self._say("virtual board: no bootable app partition; switched off")
                return False
            if firmware.DEAD not in self._partitions.read(area, 0, area.size):
                return True
            self._say(f"virtual board: the firmware in {area.label} does not start")
            start.cause = HARD  # its panic was a reset
        self._say("virtual board: no firmware starts; switched off")
        return False

    def _start(self, start: Start) -> None:
        self.chip.reset()
        if not self._boot(start):
            self._wake_at = None
            self.state = "off"
            return
        self.chip.start = start
        self._wake_at = None
        listener, address = _listen(self._firmware)
        environment = _environment() | {
            "MICROPYPATH": str(self._firmware),
            "SEALBAND_SIM_LINK": address,
            "SEALBAND_SIM_FLASH": str(self._flash.resolve()),
        }
        try:
            self._process = Process(self._command, environment)
        except OSError as error:
            listener.close()
            self.state = "off"
            raise BoardError(f"{self._command[0]}: {error.strerror}", "check $MICROPYTHON") from error
        self.terminal.attach(self._process)
        self.state = "running"
        self.starts += 1
        self._started_at = time.monotonic()
        self._listener = listener

    def _accept(self) -> None:
        """The interpreter calls its chip."""
        assert self._listener is not None
        connection, _ = self._listener.accept()
        self._listener.close()
        self._listener = None
        self._server = threading.Thread(target=self.chip.serve, args=(connection,), name="board-chip", daemon=True)
        self._server.start()

    def _drain(self) -> None:
        """Take what the interpreter has printed so far, as far as a terminal can hold it."""
        for _ in range(DRAIN_CHUNKS):
            if not self._process or not self.terminal.from_board():
                return

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self.terminal.detach()
        process.kill()
        # the chip's answering thread sees the end of its connection, or loses the radio that it waits for
        self.chip.radio.close()
        if self._listener is not None:
            self._listener.close()  # it ended before it called
            self._listener = None
        if self._server is not None:
            self._server.join(COMMAND_S)
            self._server = None


_VERBS: dict[str, Callable[..., None]] = {
    "on": _Loop._on,
    "cut": _Loop._cut,
    "reset": _Loop._reset,
    "press": _Loop._press_reset,
    "exit": _Loop._exit,
    "sleep": _Loop._sleep,
    "pin": _Loop._pin,
    "hello": _Loop._hello,
    "booted": _Loop._booted,
    "watchdog": _Loop._look,
    "type": _Loop._type,
    "stop": _Loop._stop,
}


def _environment() -> dict[str, str]:
    # nothing of the user's: no history file, no time zone, no settings
    return {"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC", "LANG": "C.UTF-8"}


def _listen(folder: Path) -> tuple[socket.socket, str]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    address = f"@sealband-{secrets.token_hex(16)}" if sys.platform == "linux" else str(folder / "link")
    listener.bind("\0" + address[1:] if address.startswith("@") else address)
    listener.listen(1)
    return listener, address


def _compile_modules(out: Path) -> Path:
    """Compile the simulated modules into a folder."""
    out.mkdir(parents=True, exist_ok=True)

    def compile_one(source: Path) -> None:
        relative = source.relative_to(MODULES)
        compile_file(source, out / relative.with_suffix(".mpy"), relative.as_posix(), optimise=3)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(compile_one, _sources()))
    return out.resolve()


def _sources() -> Iterable[Path]:
    return (path for path in sorted(MODULES.rglob("*.py")) if path.name != "_install.py")
