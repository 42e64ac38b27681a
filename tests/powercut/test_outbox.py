# The power fails at every flash and NVS operation of the outbox, each write torn in each way, and again while it
# recovers: queue, remove on acknowledgement, drop on overflow.
#
# What must hold: a frame that was queued is there, whole, until it is acknowledged or a drop is counted; nothing that
# is not a whole frame is ever given out; a drop is counted once; events are not dropped for telemetry.
# What happened is noted in World.air, which no cut takes back: ("begin", ctr), ("end", ctr, queued), ("ack", ctr).
import os

from device.fakes import DONE, HALF, TEARS, UNDONE, World, sweep, unmount

from sealband.outbox import EVENT, REPLY, TELEMETRY, Outbox, _name
from sealband.store import Store

TIMEOUT_S = 400

FRAMES_MAX = 3
PATH = "/ram/outbox"


def data(ctr):
    return bytes((0xE0 + (ctr & 7),)) + bytes(((ctr * 31 + i) & 0xFF for i in range(40)))


def priority(ctr):
    return EVENT if ctr % 4 == 3 else TELEMETRY


def noted(board, what):
    return [entry for entry in board.air if entry[0] == what]


# Queue so many frames from the next counter on, acknowledging the oldest queued after every second.
def script(make, frames):
    def run(board):
        board.mount()
        queue = make(Store(board.nvs), PATH, frames_max=FRAMES_MAX)
        first = len(noted(board, "begin"))
        for ctr in range(first, first + frames):
            board.send(("begin", ctr))
            queued = queue.put(priority(ctr), 0, ctr, data(ctr))
            board.send(("end", ctr, queued))
            if ctr % 2:
                oldest = min(key[2] for key in queue.keys())
                board.send(("ack", oldest))
                queue.acknowledge(0, oldest, 0)
        unmount()

    return run


def check(board):
    board.mount()
    begun = {entry[1] for entry in noted(board, "begin")}
    ended = {entry[1]: entry[2] for entry in noted(board, "end")}
    acknowledged = {entry[1] for entry in noted(board, "ack")}
    # twice: what start-up makes good must be good the next time too
    for _ in range(2):
        queue = Outbox(Store(board.nvs), PATH, frames_max=FRAMES_MAX)
        there = set()
        for key in queue.keys():
            assert key[2] in begun and key[0] == priority(key[2]), "a frame that nobody queued"
            assert queue.read(key) == data(key[2]), "a frame that is not whole"
            there.add(key[2])
        assert len(there) == len(queue) <= FRAMES_MAX
        assert queue._bytes == 41 * len(queue)
        assert sorted(os.listdir(PATH)) == sorted("%x%08x%04x" % key for key in queue.keys())
        gone = {ctr for ctr in ended if ended[ctr] and ctr not in there and ctr not in acknowledged}
        refused = [ctr for ctr in ended if not ended[ctr]]
        least = len(gone) + len(refused)
        assert queue.drops >= least, "%s dropped, %d counted" % (sorted(gone), queue.drops)
        # a put that was cut may have counted its own frame, and a frame whose acknowledgement was cut may be dropped
        unsure = len(begun) - len(ended) + len([ctr for ctr in acknowledged if ctr not in there])
        assert queue.drops <= least + unsure, "%d dropped, %d counted" % (least, queue.drops)
        assert not [ctr for ctr in gone if priority(ctr) == EVENT], "an event was dropped for telemetry"
    unmount()


def swept(make, frames, tears, depth):
    return sweep(World(flash=True), script(make, frames), check, tears, depth)


def test_one_cut_at_every_operation_torn_in_every_way():
    cuts = swept(Outbox, 16, TEARS, 1)
    print("outbox: %d cuts" % cuts)
    assert cuts > 200


def test_two_cuts_the_second_while_it_recovers_or_goes_on():
    cuts = swept(Outbox, 8, (HALF,), 2)
    print("outbox: %d pairs of cuts and single ones" % cuts)
    assert cuts > 1500


def test_epochs_that_end_and_replies_beyond_their_share_at_any_cut():
    # every frame is queued; then all replies above the eighth and all frames of the epoch before are given up
    def run(board):
        board.mount()
        queue = Outbox(Store(board.nvs), PATH)
        for ctr in range(len(noted(board, "begin")), 12):
            board.send(("begin", ctr))
            queue.put(REPLY if ctr < 10 else TELEMETRY, ctr & 1, ctr, data(ctr))
            board.send(("end", ctr))
        queue.expire(1)
        unmount()

    def check(board):
        board.mount()
        for _ in range(2):
            queue = Outbox(Store(board.nvs), PATH)
            there = [key[2] for key in queue.keys()]
            for key in queue.keys():
                assert queue.read(key) == data(key[2])
            begun, ended = len(noted(board, "begin")), len(noted(board, "end"))
            assert ended <= len(there) + queue.drops <= begun, (there, queue.drops)
        queue.expire(1)
        assert ended <= len(queue) + queue.drops <= begun and all(key[1] == 1 for key in queue.keys())
        unmount()

    cuts = sweep(World(flash=True), run, check, (UNDONE, DONE), 1)
    print("outbox, given up: %d cuts" % cuts)
    assert cuts > 150


def test_frames_that_flash_lost_a_part_of_are_counted_once_at_any_cut_of_the_start():
    world = World(flash=True)
    world.mount()
    queue = Outbox(Store(world.nvs), PATH)
    for ctr in range(6):
        queue.put(TELEMETRY, 0, ctr, data(ctr))
    for ctr in (1, 3, 4):
        with open("%s/%x%08x%04x" % (PATH, TELEMETRY, 0, ctr), "wb") as file:
            file.write(b"\xe0" * 5)
    unmount()

    def run(board):
        board.mount()
        Outbox(Store(board.nvs), PATH)
        unmount()

    def check(board):
        run(board)
        board.mount()
        queue = Outbox(Store(board.nvs), PATH)
        assert [key[2] for key in queue.keys()] == [0, 2, 5]
        assert queue.drops == 3, "3 dropped, %d counted" % queue.drops
        unmount()

    cuts = sweep(world, run, check, depth=2)
    print("outbox, damaged: %d cuts" % cuts)
    assert cuts > 300


def test_retire_leaves_no_frame_of_the_old_identity_uncounted_at_any_cut():
    # a record that outlives its identity would hide a frame of the next one, whose counters begin at 0 again
    world = World(flash=True)
    world.mount()
    queue = Outbox(Store(world.nvs), PATH, frames_max=1)
    for ctr in range(2):
        queue.put(TELEMETRY, 0, ctr, data(ctr))
    unmount()

    def run(board):
        board.mount()
        Outbox(Store(board.nvs), PATH).erase()
        unmount()

    def check(board):
        run(board)
        board.mount()
        queue = Outbox(Store(board.nvs), PATH)
        assert len(queue) == 0 and queue.drops == 0 and os.listdir(PATH) == [] and not board.nvs.dump()
        assert queue.put(TELEMETRY, 0, 0, data(0))
        assert len(Outbox(Store(board.nvs), PATH)) == 1
        unmount()

    cuts = sweep(world, run, check, depth=2)
    print("outbox, retired: %d cuts" % cuts)
    assert cuts > 40


class RemovesFirst(Outbox):
    # unsafe: the drop is counted after the file is gone
    def drop(self, key):
        self._remove(key)
        import struct

        self._count_drop(struct.pack(">BIH", *key))


class RewritesQueue(Outbox):
    # unsafe: an acknowledgement empties the queue and writes the survivors anew, one by one
    def acknowledge(self, epoch, newest, bitmap):
        for key in list(self.keys()):
            frame = self.read(key)
            os.remove(self._file(_name_of(key)))
            if key[2] == newest:
                self._remove(key)
            else:
                with open(self._file(_name_of(key)), "wb") as file:
                    file.write(frame)


def _name_of(key):
    import struct

    return _name(struct.pack(">BIH", *key))


class AnswersTooSoon(Outbox):
    # unsafe: put() returns before the file is closed, so before littlefs has committed it
    held = None

    def put(self, priority, epoch, ctr, data):
        if self.held:
            self.held.close()
        done = Outbox.put(self, priority, epoch, ctr, data)
        if done:
            path = self._file(_name_of((priority, epoch, ctr)))
            os.remove(path)
            self.held = open(path, "wb")
            self.held.write(data)
        return done


def caught(make, word):
    try:
        swept(make, 8, TEARS, 1)
    except AssertionError as error:
        assert word in str(error), error
        return
    raise AssertionError("the sweep saw nothing")


def test_sweep_catches_a_drop_that_is_counted_too_late():
    caught(RemovesFirst, "counted")


def test_sweep_catches_a_queue_that_is_rewritten_in_place():
    caught(RewritesQueue, "counted")


def test_sweep_catches_a_put_that_answers_before_flash_has_it():
    caught(AnswersTooSoon, "")
