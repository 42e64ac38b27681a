"""A plain MicroPython REPL on a raw pty, as the least thing that the real mpremote can talk to."""

import os
import pty
import subprocess
import tty
from pathlib import Path

from host_tools.sim.interpreter import find_micropython
from tests.support.micropython import DEVICE_PATH

MODULES = Path(__file__).with_name("plain")


class PlainBoard:
    """The process, its port, and its NVS in `folder`; one boot after the other by `boot`."""

    def __init__(self, folder: Path, mac: bytes, heap: str = "128wK") -> None:
        self._environment = {
            **os.environ,
            "MICROPYPATH": ":".join(str(path) for path in [MODULES, *DEVICE_PATH]) + ":.frozen",
            "PLAIN_MAC": mac.hex(),
            "PLAIN_NVS": str(folder / "nvs"),
        }
        self._heap = heap
        self._process: subprocess.Popen[bytes] | None = None
        self._fds: tuple[int, ...] = ()

    def boot(self) -> None:
        self.close()
        # the interpreter has the master's end, so that nobody but mpremote reads the slave's
        master, slave = pty.openpty()
        tty.setraw(slave)
        self._fds = (master, slave)
        self.port = os.ttyname(slave)
        self._process = subprocess.Popen(
            [find_micropython(), "-X", f"heapsize={self._heap}"],
            stdin=master,
            stdout=master,
            stderr=master,
            env=self._environment,
            start_new_session=True,
        )

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        for fd in self._fds:
            os.close(fd)
        self._process, self._fds = None, ()

    def __enter__(self) -> "PlainBoard":
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
