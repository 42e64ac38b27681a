"""One run of the interpreter, from reset to the next: a process that leads a session on a terminal of its own.

The kernel hangs it up when the terminal's other side is gone, so it ends with its supervisor however that ends.
"""

import contextlib
import os
import signal
import termios
import time
import tty
from collections.abc import Mapping, Sequence

END_S = 5.0
_MARK = termios.NOFLSH  # of signals from the keyboard, which are off
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


def environment() -> dict[str, str]:
    """What every interpreter is given: nothing of the user's, so no history file, no time zone, no settings."""
    return {"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC", "LANG": "C.UTF-8"}


class Process:
    """Starts it.

    Args:
        command: program and arguments; the program by its path.
        environment: all of it.

    Raises:
        OSError: the program cannot be started.

    Attributes:
        terminal: the supervisor's side of its terminal.
        pid: of the process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.terminal, inner = os.openpty()
        try:
            # raw: a Control-C is a byte, and a signal only by `interrupt`. The mark is without effect, and is there
            # while code runs: MicroPython has modes of its own where it reads.
            tty.setraw(inner)
            modes = termios.tcgetattr(inner)
            modes[3] |= _MARK
            termios.tcsetattr(inner, termios.TCSANOW, modes)
            # a session leader without a terminal gets the first one that it opens
            self.pid = os.posix_spawn(
                command[0],
                list(command),
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.ttyname(inner), os.O_RDWR, 0),
                    (os.POSIX_SPAWN_DUP2, 0, 1),
                    (os.POSIX_SPAWN_DUP2, 0, 2),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=_SIGNALS,
            )
        except BaseException:
            os.close(self.terminal)
            raise
        finally:
            os.close(inner)
        os.set_blocking(self.terminal, False)
        self._status: int | None = None

    def interrupt(self) -> None:
        """Send SIGINT, which raises KeyboardInterrupt in the code that runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    def executing(self) -> bool:
        """Whether code runs that a Control-C would end, as against a REPL that waits for input."""
        try:
            with open(f"/proc/{self.pid}/status") as status:
                for line in status:
                    if line.startswith("SigCgt:"):
                        # MicroPython handles SIGINT exactly while it executes
                        return bool(int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1)
        except OSError:
            pass
        with contextlib.suppress(termios.error):
            return bool(termios.tcgetattr(self.terminal)[3] & _MARK)
        return False

    def ended(self) -> int | None:
        """Its exit status (negative: the signal that ended it), or None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def kill(self) -> None:
        """End it at once, with everything it started, and wait until it has ended."""
        limit = time.monotonic() + END_S
        while self.ended() is None and time.monotonic() < limit:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            time.sleep(0.001)
        self.close()

    def close(self) -> None:
        """Give the terminal back, after the process has ended."""
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1
