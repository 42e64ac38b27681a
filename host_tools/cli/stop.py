"""How a command that serves ends: on Ctrl-C and on a service manager's SIGTERM, both of which are no failure."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set while the block runs. A second signal acts as if this was not here.

    Only for a process's main thread, as Python allows signal handlers nowhere else.
    """
    stopping = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()
        restore()

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        restore()
