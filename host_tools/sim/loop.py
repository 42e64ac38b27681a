"""One thread that waits for sockets, terminals and times, for parts of the simulation that have many of them.

Everything that a part owns happens in its loop's thread, one thing after the other; others ask by `call` or `soon`.
Times are real ones (time.monotonic): whoever has virtual times converts them.
"""

import contextlib
import heapq
import itertools
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

ANSWER_S = 20.0
_Result = TypeVar("_Result")


class Loop:
    """Starts its thread at once.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._watched: dict[int, tuple[Callable[[], None] | None, Callable[[], None] | None]] = {}
        self._asked: deque[Callable[[], None]] = deque()
        self._times: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self, last: Callable[[], None] | None = None) -> None:
        """End the thread; what was asked before is done before.

        Args:
            last: is done in the thread, and nothing after it.
        """

        def end() -> None:
            self._stopping = True
            if last is not None:
                last()

        self.soon(end)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def soon(self, function: Callable[[], None]) -> None:
        """Have this done in the thread."""
        self._asked.append(function)
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"\0")

    def call(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Have this done in the thread, and give what it returns or raises.

        Raises:
            TimeoutError: the thread does not come to it.
        """
        if threading.current_thread() is self._thread:
            return function(*arguments)
        if self._stopping:
            raise TimeoutError("it has been stopped")
        future: Future[_Result] = Future()

        def do() -> None:
            try:
                future.set_result(function(*arguments))
            except Exception as error:
                future.set_exception(error)

        self.soon(do)
        return future.result(ANSWER_S)

    def at(self, when: float, function: Callable[[], None]) -> None:
        """Have this done at that time; only from within the thread."""
        heapq.heappush(self._times, (when, next(self._order), function))

    def watch(
        self, what: Any, on_read: Callable[[], None] | None = None, on_write: Callable[[], None] | None = None
    ) -> None:
        """Call these when it can be read or written; neither: no more. Only from within the thread."""
        events = (selectors.EVENT_READ if on_read else 0) | (selectors.EVENT_WRITE if on_write else 0)
        fd = what if isinstance(what, int) else what.fileno()
        if not events:
            if self._watched.pop(fd, None):
                self._selector.unregister(fd)
        elif fd in self._watched:
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)
        if events:
            self._watched[fd] = (on_read, on_write)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _turn(self) -> None:
        patience = None if not self._times else max(0.0, self._times[0][0] - time.monotonic())
        for key, events in self._selector.select(patience):
            if key.fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                continue
            for event, place in ((selectors.EVENT_READ, 0), (selectors.EVENT_WRITE, 1)):
                functions = self._watched.get(key.fd)  # the one before may have ended this one
                function = functions[place] if functions and events & event else None
                if function is not None:
                    function()
        while self._asked and not self._stopping:
            self._asked.popleft()()
        while self._times and self._times[0][0] <= time.monotonic() and not self._stopping:
            heapq.heappop(self._times)[2]()
