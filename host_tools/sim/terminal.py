"""The virtual board's serial port: a pty for the host, and what passes between it and the interpreter's own terminal.

It makes the unix port's terminal behave as a chip's UART does. A Control-C reaches running code at once, even when the
terminal is raw, unless that was switched off (`micropython.kbd_intr`): then it is a byte like any other, for whoever
reads. Input is kept back while the interpreter is between running and reading, since it throws away what it has not
read when it switches the terminal's mode (TCSAFLUSH). A lone line feed is sent as CR LF, as the chip sends it.
Output that nobody reads is dropped in the end, as on a UART with nothing connected.
"""

import os
import time
import tty
from collections import deque
from collections.abc import Callable

from host_tools.sim.process import Process

CHUNK = 4096
FULL = 1 << 16  # so much output may wait for a slow reader; then the board waits too
UNREAD_KEPT = 4096  # of what nobody reads
NOBODY_READS_S = 0.5
SETTLE_S = 0.02  # how long the interpreter may take between running and reading
INTERRUPT_S = 2.0  # how long a program may take to end after a Control-C
POLL_S = 0.002
INPUT_MAX = 1 << 20
LINE_MAX = 4096
RAW_HEADER = b"raw REPL; CTRL-B to exit\r\n>"
PROMPTS = (b">>> ", b"... ", b"=== ", b"\x04>", RAW_HEADER)


class Terminal:
    """The port and its two queues. One thread uses it, apart from `port`.

    Args:
        on_line: called with each line of the console, without its end.
        on_host: given everything that the host sends; returns what of it is for the program.

    Attributes:
        port: the path that mpremote connects to.
        raw: the interpreter is in raw REPL mode.
        muted: output is dropped up to the raw REPL's header.
        interrupted: the interpreter was sent a Control-C, and nothing since.
    """

    def __init__(self, on_line: Callable[[str], None], on_host: Callable[[bytes], bytes] = bytes) -> None:
        self._outer, self._slave = os.openpty()
        tty.setraw(self._slave)  # held open, so that it stays raw and a leaving client does not hang it up
        os.set_blocking(self._outer, False)
        self.port = os.ttyname(self._slave)
        self.raw = False
        self.muted = False
        self.interrupted = False
        self._on_line = on_line
        self._on_host = on_host
        self._line = bytearray()
        self._to_host = bytearray()
        self._taken_at = time.monotonic()
        self._last_byte = 0
        self._process: Process | None = None
        self._started = False
        self._to_board: deque[tuple[float, bytes]] = deque()
        self._to_board_len = 0
        self._ready = False
        self._tail = b""
        self._quiet_since = 0.0
        self._interrupted_at: float | None = None

    def close(self) -> None:
        """Take the port away."""
        self.detach()
        os.close(self._outer)
        os.close(self._slave)

    def attach(self, process: Process) -> None:
        """Connect the next run of the interpreter; input waits until `started`."""
        self._process = process
        self._started = False
        self._ready = False
        self._tail = b""
        self._interrupted_at = None
        self.interrupted = False
        self.raw = False

    def started(self) -> None:
        """The interpreter can take a Control-C from here on."""
        self._started = True

    def detach(self, *, keep_input: bool = False) -> None:
        """The interpreter has ended: its input is dropped from here on, its last line is over.

        Args:
            keep_input: what it has not read is for the next one.
        """
        if self._line:
            self._end_line()
        self._process = None
        if not keep_input:
            self._to_board.clear()
            self._to_board_len = 0

    def wants_host(self) -> int | None:
        """The file descriptor to watch for the host's input."""
        return self._outer if self._to_board_len < INPUT_MAX else None

    def wants_board(self) -> int | None:
        """The file descriptor to watch for the board's output; None while the host is too slow."""
        return self._process.terminal if self._process and len(self._to_host) < FULL else None

    def from_host(self) -> None:
        """Take what the host has sent."""
        try:
            data = os.read(self._outer, CHUNK)
        except OSError:
            return
        data = self._on_host(data)
        if self._process is not None and data:
            self.type(data)

    def type(self, data: bytes) -> None:
        """Input, as if the host had sent it."""
        self._to_board.append((time.monotonic(), data))
        self._to_board_len += len(data)

    def from_board(self) -> bool:
        """Take what the board has printed; False when there is nothing more, or never will be."""
        assert self._process is not None
        try:
            data = os.read(self._process.terminal, CHUNK)
        except OSError:
            return False
        if not data:
            return False
        self._quiet_since = time.monotonic()
        self._tail = (self._tail + data)[-len(RAW_HEADER) - 4 :]
        if self._tail.endswith(RAW_HEADER):
            self.raw = True
        elif self._tail.endswith(b">>> "):
            self.raw = False
        if self.muted:
            if not self._tail.endswith(RAW_HEADER):
                return True
            self.muted = False
            data = RAW_HEADER
        self.say(data)
        return True

    def forget_output(self) -> None:
        """Drop what the host has not taken yet."""
        self._to_host.clear()

    def answer(self, data: bytes) -> None:
        """Output of the chip's own loader: bytes as they are, no part of the console."""
        self._to_host += data

    def say(self, data: bytes) -> None:
        """Output, as if the board had printed it."""
        text = bytearray()
        for byte in data:
            if byte == 0x0A and self._last_byte != 0x0D:
                text.append(0x0D)
            text.append(byte)
            self._last_byte = byte
        self._to_host += text
        for part in bytes(text).splitlines(keepends=True):
            self._line += part
            if part.endswith(b"\n") or len(self._line) > LINE_MAX:
                self._end_line()

    def _end_line(self) -> None:
        self._on_line(self._line.decode(errors="replace").rstrip("\r\n"))
        self._line.clear()

    def pump(self) -> float | None:
        """Move both queues on; returns after how many seconds that should be done again, if so."""
        now = time.monotonic()
        self._pump_out(now)
        again = self._pump_in(now)
        if self._to_host:
            again = min(again or 1.0, SETTLE_S)
        return again

    def _pump_out(self, now: float) -> None:
        while self._to_host:
            try:
                written = os.write(self._outer, self._to_host[:CHUNK])
            except OSError:
                break
            del self._to_host[:written]
            self._taken_at = now
        if not self._to_host:
            self._taken_at = now
        elif now - self._taken_at > NOBODY_READS_S and len(self._to_host) > UNREAD_KEPT:
            del self._to_host[:-UNREAD_KEPT]

    def _pump_in(self, now: float) -> float | None:
        process = self._process
        if process is None or not self._to_board:
            return None
        if not self._started:
            return POLL_S
        executing = process.executing()
        if executing and self._interrupt(process, now):
            return POLL_S
        while self._to_board:
            if not self._may_type(executing, now):
                return POLL_S
            if not self._write(process, executing, now):
                return POLL_S
        return None

    def _interrupt(self, process: Process, now: float) -> bool:
        # a Control-C overtakes what was typed before it
        if not any(b"\x03" in data for _, data in self._to_board):
            return False
        if self._interrupted_at is not None and now - self._interrupted_at < 5 * SETTLE_S:
            return True  # MicroPython ends on a second one that comes before it has dealt with the first
        while self._to_board:
            at, data = self._to_board.popleft()
            self._to_board_len -= len(data)
            if b"\x03" in data:
                rest = data.split(b"\x03", 1)[1]
                if rest:
                    self._to_board.appendleft((at, rest))
                    self._to_board_len += len(rest)
                break
        self._interrupted_at = now
        self.interrupted = True
        self._ready = False
        self._tail = b""
        process.interrupt()
        return True

    def _may_type(self, executing: bool, now: float) -> bool:
        if executing:
            self._ready = False
            if self._interrupted_at is not None and now - self._interrupted_at < INTERRUPT_S:
                return False
            return now - self._to_board[0][0] > SETTLE_S  # the program itself reads it
        self._interrupted_at = None
        if not self._ready:
            self._ready = self._tail.endswith(PROMPTS) or now - self._quiet_since > SETTLE_S
        return self._ready

    def _write(self, process: Process, executing: bool, now: float) -> bool:
        at, data = self._to_board.popleft()
        # up to what may start running something
        stops = b"" if executing else b"\x04" if self.raw else b"\r\n\x04"
        end = min((data.index(stop) + 1 for stop in stops if stop in data), default=len(data))
        try:
            written = os.write(process.terminal, data[:end])
        except BlockingIOError:
            written = 0
        except OSError:
            written = len(data)  # hung up: the process has ended
        self._to_board_len -= written
        self.interrupted = False
        if written < len(data):
            self._to_board.appendleft((at, data[written:]))
        if written == end and data[end - 1] in stops:
            self._ready = False
            self._tail = b""
            self._quiet_since = now
        return written == end
