# `select` with its timeouts in virtual time; asyncio sleeps by them, and orders its tasks by `time`.
import sys
from time import ticks_ms as _ticks_ms

import _link
from uselect import *  # noqa: F403
from uselect import poll as _poll

sys.modules.pop("_asyncio", None)
import _asyncio  # noqa: E402 - the built-in one, not what _start.py put in its place


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


class TaskQueue(_asyncio.TaskQueue):
    # the built-in one takes the host's ticks where the caller gives none
    def push(self, task, ticks=None):
        super().push(task, _ticks_ms() if ticks is None else ticks)


Task = _asyncio.Task
sys.modules["_asyncio"] = sys.modules[__name__]  # asyncio takes these two from there
