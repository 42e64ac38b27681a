# The queue of sealed frames on littlefs: one file a frame, in order of priority, epoch and counter. Seals nothing,
# sends nothing, and holds ciphertext only.
#
# A file's name is its place: priority (1 hex digit), epoch (8), counter (4). A frame is written beside and renamed, so
# after a power cut it is there whole or not at all. A drop is counted in NVS, with the frame's name, before the file is
# removed; start-up removes what was counted but is still there. So each drop is counted once, whenever the power fails.
#
# When a frame was queued is kept in RAM only, to the minute: after a cold start those that wait count as old.
#
# When it is full, telemetry gives way to everything else, and the oldest frame of a priority to newer ones.
import os
import struct

from micropython import const

from sealband import once
from sealband import store as names
from sealband.errors import StoreError
from sealband.store import TEMPORARY, discard

EVENT = const(0)
REPLY = const(1)  # status, receipts
TELEMETRY = const(2)

_REPLIES_MAX = const(8)  # a board that keeps starting anew must not push out telemetry with its statuses
_KEY_LEN = const(7)
ENTRY_LEN = const(9)  # a key and the minute of the uptime in which it was queued
_FRAME_MIN = const(13)  # sealwire.frame.OVERHEAD
_OLD = const(0xFFFF)  # in place of a minute
_KEY = ">BIH"
_RECORD = ">I7s"  # drops since enrolment, key of the frame that was dropped last
_ENOSPC = const(28)


class Outbox:
    def __init__(self, store, path="/outbox", frames_max=256, bytes_max=32768):
        self._store = store
        self._path = path
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self.index = bytearray()  # entries in the order of their keys
        self.drops = 0
        dropped = b""
        record = store.load(names.OUTBOX)
        if record:
            self.drops, dropped = struct.unpack(_RECORD, record)
        keys, self._bytes, remove = once("sealband.queued").look(path, dropped)
        for key in keys:
            self._insert(key)
        for name, key in remove:
            if key:
                self._count_drop(key)
            discard(self._file(name))  # or it is a folder that someone made: that stays

    def __len__(self):
        return len(self.index) // ENTRY_LEN

    def _file(self, name):
        return self._path + "/" + name

    # where the entry of a packed key is, or belongs
    def _find(self, packed):
        index = self.index
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2 * ENTRY_LEN
            if bytes(index[middle : middle + _KEY_LEN]) < packed:
                low = middle // ENTRY_LEN + 1
            else:
                high = middle // ENTRY_LEN
        return low * ENTRY_LEN

    def _insert(self, packed, minute=_OLD):
        at = self._find(packed)
        self.index[at:at] = packed + struct.pack(">H", minute)

    # the keys as (priority, epoch, ctr), first the one to be sent first
    def keys(self):
        for at in range(0, len(self.index), ENTRY_LEN):
            yield struct.unpack(_KEY, self.index[at : at + _KEY_LEN])

    # For how many seconds at least a frame has been queued; None: for longer than is known.
    def age_s(self, key, uptime_s):
        at = self._find(struct.pack(_KEY, *key)) + _KEY_LEN
        minute = struct.unpack(">H", self.index[at : at + 2])[0]
        return None if minute == _OLD else max(0, (uptime_s // 60 - minute) % _OLD * 60 - 60)

    # The frame of a key, or None when it is gone.
    def read(self, key):
        try:
            with open(self._file(_name(struct.pack(_KEY, *key))), "rb") as file:
                return file.read()
        except OSError:
            return None

    # How long it is; the shortest that there is, when it is gone.
    def size(self, key):
        try:
            return os.stat(self._file(_name(struct.pack(_KEY, *key))))[6]
        except OSError:
            return _FRAME_MIN

    # Queue a sealed frame at this uptime. True: it is on flash. False: it was dropped, everything queued matters more.
    def put(self, priority, epoch, ctr, data, uptime_s=0):
        key = struct.pack(_KEY, priority, epoch, ctr)
        path = self._file(_name(key))
        if priority == REPLY:
            replies = 0
            for queued in self.keys():
                if queued[0] == REPLY:
                    if not replies:
                        oldest = queued
                    replies += 1
            if replies >= _REPLIES_MAX:
                self.drop(oldest)
        while len(self) >= self._frames_max or self._bytes + len(data) > self._bytes_max:
            if not self._make_room(priority, key):
                return False
        while True:
            try:
                self._store.write_file(path, data)
                break
            except OSError as error:
                discard(path + TEMPORARY)
                if error.errno != _ENOSPC:
                    self._count_drop(key)
                    return False
                if not self._make_room(priority, key):
                    return False
        self._insert(key, uptime_s // 60 % _OLD)
        self._bytes += len(data)
        return True

    # Drop the oldest frame of the lowest priority for a new one. False: the new one was dropped, since none ranks below
    # or beside it.
    def _make_room(self, priority, key):
        worst = None
        for queued in self.keys():
            if queued[0] >= priority and (worst is None or queued[0] > worst[0]):
                worst = queued
        if worst is None:
            self._count_drop(key)
            return False
        self.drop(worst)
        return True

    # Give a frame up, and count that.
    def drop(self, key):
        self._count_drop(struct.pack(_KEY, *key))
        self._remove(key)

    # counted first: a cut between the two is made good at start
    def _count_drop(self, packed):
        self.drops += 1
        try:
            self._store.save(names.OUTBOX, struct.pack(_RECORD, self.drops, packed))
        except StoreError:
            self._store.faults += 1  # the next drop writes this one down too

    def _remove(self, key):
        packed = struct.pack(_KEY, *key)
        path = self._file(_name(packed))
        try:
            self._bytes -= os.stat(path)[6]
            os.remove(path)
        except OSError:
            pass  # gone already, or flash refuses: then it comes back at the next start, and is acknowledged again
        at = self._find(packed)
        if self.index[at : at + _KEY_LEN] == packed:
            self.index[at : at + ENTRY_LEN] = b""

    # The server stored these: the newest and, by the bitmap, of the 32 before it. How many were in the queue.
    def acknowledge(self, epoch, newest, bitmap):
        gone = []
        for key in self.keys():
            behind = newest - 1 - key[2]
            if key[1] == epoch and (behind == -1 or (0 <= behind < 32 and bitmap >> behind & 1)):
                gone.append(key)
        for key in gone:
            self._remove(key)
        return len(gone)

    # Drop what was sealed before this epoch: the server has no key for it any more. How many.
    def expire(self, epoch):
        count = 0
        for key in list(self.keys()):
            if key[1] < epoch:
                self.drop(key)
                count += 1
        return count

    # Retire: nothing stays, nothing is counted. Also the record: counters of a new identity begin at 0 again.
    def erase(self):
        for key in list(self.keys()):
            self._remove(key)
        self._store.erase(names.OUTBOX)
        self.drops = 0


def _name(packed):
    return "%x%08x%04x" % struct.unpack(_KEY, packed)
