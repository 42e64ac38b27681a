"""The life of a board's processor: one thread in which everything that changes it happens, one thing after the other.

Owns the interpreter's process, its terminal and its connection to the chip: starts, resets, the watchdog, deep sleep
and what ends it, power cuts, and an interpreter that ended by itself. What others want of it comes through a queue.

                        cause   RTC memory, time    NVS and flash
    power on              1     lost                kept
    machine.reset()       2     kept                kept
    watchdog              3     kept                kept
    end of deep sleep     4     kept                kept
    soft reset            5     kept                kept      also a Control-D and sys.exit()
    out of the loader     1     lost                kept      what the host has written there

The loader in ROM (`host_tools.sim.rom`) takes the program's place from esptool's first frame on, while the board has
power, whatever the program does, as the automatic reset circuit of a real board makes possible.

Not here: what lies in the board's folder (`host_tools.sim.storage`), what the chip answers
(`host_tools.sim.peripherals`), which partition starts (`host_tools.sim.bootloader`), what a person does with the board
(`host_tools.sim.board`).
"""

import contextlib
import os
import queue
import secrets
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

from host_tools.sim import firmware
from host_tools.sim.board_error import BoardError
from host_tools.sim.chipflash import ChipFlash
from host_tools.sim.clock import SimClock
from host_tools.sim.flash import Flash
from host_tools.sim.peripherals import Event, Peripherals, Start
from host_tools.sim.process import Process, environment
from host_tools.sim.rom import Loader, Requests, Sync
from host_tools.sim.terminal import Terminal
from host_tools.sim.wake import BY_TIMER

PWRON, HARD, WDT, DEEPSLEEP, SOFT = 1, 2, 3, 4, 5  # machine.reset_cause()
# how far ahead a sleeping board's pins are looked at, and how closely, virtual seconds
LOOK_AHEAD_S = 30.0
LOOK_STEP_S = 0.1
COMMAND_S = 10.0
CRASHES_MAX = 5
BOOTS_MAX = 8  # of firmware that does not start
DRAIN_CHUNKS = 32
FATAL = 1  # the interpreter's status when it cannot go on
State = Literal["off", "running", "asleep", "loader"]


class Processor:
    """The board's thread: everything that changes its state happens here, one thing after the other.

    Args:
        command: the interpreter and its arguments.
        firmware: the folder of the compiled modules.
        flash: the image of the file system.
        on_line: called with each line of the console, from the thread.
        partitions: of the flash.
        chip: what else `Peripherals` takes.

    Attributes:
        state: off, running, asleep or loader.
        starts: how often the processor has started.
        terminal: its serial port.
        chip: its peripherals.
        loader: what is in its ROM.
    """

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
        self.terminal = Terminal(on_line, self._from_host)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._queue: queue.Queue[tuple[Process | None, str, tuple[Any, ...], Future[None]]] = queue.Queue()
        self.chip = Peripherals(on_event=self._event, flash=partitions, say=self._say, **chip)
        self._partitions = partitions
        self._chip_flash = ChipFlash(partitions, chip["chip"], chip["nvs"].clear)
        self.loader = Loader(chip["chip"], chip["mac"], self._chip_flash)
        self._sync = Sync()
        self._requests = Requests()
        self._powered = False
        self._on_line = on_line
        self._clock: SimClock = chip["clock"]
        self._command = command
        self._firmware = firmware
        self._flash = flash
        self._process: Process | None = None
        self._listener: socket.socket | None = None
        self._server: threading.Thread | None = None
        self._wake_at: float | None = None
        self._wake_reason = BY_TIMER
        self._look_at: float | None = None  # until then nothing happens at the pins that wake it
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
        for at in (self._wake_at, self._look_at, self.chip.watchdog_at if self._process else None):
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
        self._powered = True
        if self.state == "off":
            self._crashes = 0
            self.chip.power_on()
            self._start(Start(PWRON))

    def _cut(self, *_: Any) -> None:
        self._drain()
        self._end_process()
        self._wake_at = self._look_at = None
        self._powered = False
        self.state = "off"

    def _hold(self) -> None:
        """Held in reset: it executes nothing, but its RTC has power."""
        self._drain()
        self._end_process()
        self._wake_at = self._look_at = None
        self.state = "off"

    def _release(self) -> None:
        if self._powered and self.state == "off":
            self._crashes = 0
            self._start(Start(HARD))

    # the loader

    def _from_host(self, data: bytes) -> bytes:
        """Everything that the host sends; returns what is for the program."""
        if not self._powered:
            return b""
        if self.state != "loader":
            data, frames = self._sync.feed(data)
            if frames is None:
                return data
            self._enter_loader()
            data = frames
        for request in self._requests.feed(data):
            if request is None:
                self._leave_loader()
                return self._requests.left
            self.terminal.answer(self.loader.answer(request))
            if self.loader.ended:
                self._leave_loader()
                break
        return b""

    def _enter_loader(self) -> None:
        self._drain()
        self._end_process()
        self._wake_at = self._look_at = None
        self.terminal.forget_output()
        self.chip.reset()
        self.loader.reset()
        self._requests = Requests()
        self.state = "loader"
        self._on_line("virtual board: the loader")

    def _leave_loader(self) -> None:
        self._sync = Sync()
        self.state = "off"
        self._on()

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
        now = self._clock.now()
        self._wake_at, self._wake_reason = (None if sleep_s is None else now + sleep_s), BY_TIMER
        self._look_at = now
        self._look_at_pins(now)

    def _pin(self, pin: int, level: int) -> None:
        self.chip.pins[pin] = level
        if self.state == "asleep":
            self._look_at_pins(self._clock.now())

    def _look_at_pins(self, time_s: float) -> None:
        """When the pins will end the sleep. Their levels are functions of time, so they are looked at ahead of it, and
        the board wakes at the right moment also where virtual time runs fast.
        """
        self._look_at = None
        if not self.chip.wake.armed:
            return
        end = time_s + LOOK_AHEAD_S
        while time_s < end and (self._wake_at is None or time_s < self._wake_at):
            if reason := self.chip.wake.reason(lambda pin, at=time_s: self.chip.level(pin, at)):  # type: ignore[misc]
                self._wake_at, self._wake_reason = time_s, reason
                return
            time_s += LOOK_STEP_S
        self._look_at = end

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
        if self._look_at is not None and now >= self._look_at:
            self._look_at_pins(self._look_at)
        if self._wake_at is not None and now >= self._wake_at:
            self._restart(Start(DEEPSLEEP, self._wake_reason))
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
        # The unix port can die of a Control-C that meets a finaliser ("heap is locked"). A chip goes to its prompt.
        interrupted = status == -signal.SIGINT or (status == FATAL and self.terminal.interrupted)
        self._end_process(keep_input=interrupted)
        if time.monotonic() - self._started_at > 1.0:
            self._crashes = 0
        if interrupted:
            self._was_raw = raw
            self._start(Start(SOFT, run_main=False))
            return
        if status is not None and status >= 0:
            self._crashes += not called
            if self._crashes < CRASHES_MAX:
                self.terminal.say(b"MPY: soft reboot\r\n")
                self._was_raw = raw
                self._start(Start(SOFT, run_main=not raw))
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
        if fault := self._chip_flash.unbootable():
            self._say(f"virtual board: {fault}; switched off")
            return False
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
            self._wake_at = self._look_at = None
            self.state = "off"
            return
        self.chip.start = start
        self._wake_at = self._look_at = None
        listener, address = _listen(self._firmware)
        variables = environment() | {
            "MICROPYPATH": str(self._firmware),
            "SEALBAND_SIM_LINK": address,
            "SEALBAND_SIM_FLASH": str(self._flash.resolve()),
        }
        try:
            self._process = Process(self._command, variables)
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

    def _end_process(self, *, keep_input: bool = False) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self.terminal.detach(keep_input=keep_input)
        process.kill()
        # the chip's answering thread sees the end of its connection, or loses the radio that it waits for
        self.chip.radio.close()
        if self._listener is not None:
            self._listener.close()  # it ended before it called
            self._listener = None
        if self._server is not None:
            self._server.join(COMMAND_S)
            self._server = None
        self.chip.release_lines()


_VERBS: dict[str, Callable[..., None]] = {
    "on": Processor._on,
    "cut": Processor._cut,
    "reset": Processor._reset,
    "press": Processor._press_reset,
    "hold": Processor._hold,
    "release": Processor._release,
    "exit": Processor._exit,
    "sleep": Processor._sleep,
    "pin": Processor._pin,
    "hello": Processor._hello,
    "booted": Processor._booted,
    "watchdog": Processor._look,
    "type": Processor._type,
    "stop": Processor._stop,
}


def _listen(folder: Path) -> tuple[socket.socket, str]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    address = f"@sealband-{secrets.token_hex(16)}" if sys.platform == "linux" else str(folder / "link")
    listener.bind("\0" + address[1:] if address.startswith("@") else address)
    listener.listen(1)
    return listener, address
