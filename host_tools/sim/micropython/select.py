# `select` with its timeouts in virtual time; asyncio sleeps by them. And asyncio's tasks and their queue: the built-in
# ones take the host's ticks, and cancelling a task there reaches into a queue of any other kind and dies of it.
import sys
from time import ticks_diff as _ticks_diff
from time import ticks_ms as _ticks_ms

import _link
from uselect import *  # noqa: F403
from uselect import poll as _poll


class poll:
    def __init__(self):
        self._poll = _poll()
        self.register = self._poll.register
        self.unregister = self._poll.unregister
        self.modify = self._poll.modify

    def poll(self, timeout=-1):
        return self._poll.poll(_real_ms(timeout))

    def ipoll(self, timeout=-1, flags=0):
        return self._poll.ipoll(_real_ms(timeout), flags)


def _real_ms(ms):
    return -1 if ms < 0 else -(-ms * _link.den // _link.num)


class TaskQueue:
    # the soonest first, and in their order when they are equal
    def __init__(self):
        self._tasks = []

    def peek(self):
        return self._tasks[0] if self._tasks else None

    def push(self, task, key=None):
        task.data = None
        task.ph_key = key = _ticks_ms() if key is None else key
        at = len(self._tasks)
        while at and _ticks_diff(self._tasks[at - 1].ph_key, key) > 0:
            at -= 1
        self._tasks.insert(at, task)

    def pop(self):
        return self._tasks.pop(0)

    def remove(self, task):
        self._tasks.remove(task)


class Task:
    # state: True runs, a TaskQueue of who waits, something to call at its end, None ended, False ended and asked about
    def __init__(self, coro, globals=None):
        self.coro = coro
        self.data = None  # what it waits for, then how it ended
        self.state = True
        self.ph_key = 0
        self._core = globals

    def __iter__(self):
        if not self.state:
            self.state = False
        elif self.state is True:
            self.state = TaskQueue()
        elif not isinstance(self.state, TaskQueue):
            raise RuntimeError("can't wait")
        return self

    def __next__(self):
        if not self.state:
            raise self.data
        waiting = self._core["cur_task"]
        self.state.push(waiting)
        waiting.data = self

    def done(self):
        return not self.state

    def cancel(self):
        if not self.state:
            return False
        core = self._core
        if self is core["cur_task"]:
            raise RuntimeError("can't cancel self")
        task = self
        while isinstance(task.data, Task):
            task = task.data  # the one that all the others wait for
        queue = core["_task_queue"]
        if hasattr(task.data, "remove"):
            task.data.remove(task)
            queue.push(task)
        elif _ticks_diff(task.ph_key, _ticks_ms()) > 0:
            queue.remove(task)
            queue.push(task)
        task.data = core["CancelledError"]
        return True


sys.modules["_asyncio"] = sys.modules[__name__]  # asyncio takes these two from there
