# The queue of sealed frames: order, bounds, drops, acknowledgements, and files that are no frames.
import os

import vfs
from device.fakes import FakeNvs, RamFlash, World, unmount

from sealband.outbox import EVENT, REPLY, TELEMETRY, Outbox
from sealband.store import Store, write_file


def board():
    world = World(flash=True)
    world.mount()
    return world


def outbox(world, **limits):
    return Outbox(Store(world.nvs), "/ram/outbox", **limits)


def data(ctr, length=51):
    return b"\xe0" + bytes(((ctr * 7 + i) & 0xFF for i in range(length - 1)))


def test_frames_come_in_order_of_priority_epoch_and_counter_also_after_a_reset():
    world = board()
    queue = outbox(world)
    keys = [
        (TELEMETRY, 0, 5),
        (TELEMETRY, 0, 0x0100),
        (EVENT, 1, 7),
        (TELEMETRY, 0x10, 2),
        (REPLY, 9, 3),
        (EVENT, 0, 9),
    ]
    for key in keys:
        assert queue.put(*key, data(key[2]))
    assert list(queue.keys()) == sorted(keys)
    again = outbox(world)
    assert list(again.keys()) == sorted(keys) and len(again) == 6
    assert again._bytes == 6 * 51
    for key in keys:
        assert again.read(key) == data(key[2])


def test_acknowledgement_removes_the_newest_and_what_the_bitmap_names_of_that_epoch_only():
    world = board()
    queue = outbox(world)
    for ctr in range(40):
        queue.put(TELEMETRY, 1, ctr, data(ctr))
    queue.put(TELEMETRY, 2, 39, data(0))
    assert queue.acknowledge(1, 39, 0b101 | 1 << 31) == 4
    left = [ctr for _, epoch, ctr in queue.keys() if epoch == 1]
    assert left == [ctr for ctr in range(40) if ctr not in (39, 38, 36, 7)]
    assert (TELEMETRY, 2, 39) in list(queue.keys())
    assert queue.acknowledge(1, 39, 0xFFFFFFFF) == 29
    # 6 and older lie more than 32 before it
    assert [ctr for _, epoch, ctr in queue.keys() if epoch == 1] == list(range(7))
    assert len(outbox(world)) == len(queue) == 8
    assert queue.drops == 0


def test_full_by_number_drops_oldest_telemetry_first_then_replies_then_events():
    world = board()
    queue = outbox(world, frames_max=4)
    for key in ((EVENT, 0, 0), (REPLY, 0, 1), (TELEMETRY, 0, 2), (TELEMETRY, 0, 3)):
        assert queue.put(*key, data(0))
    assert queue.put(TELEMETRY, 0, 4, data(0))
    assert [ctr for _, _, ctr in queue.keys()] == [0, 1, 3, 4]
    for ctr in (5, 6):
        assert queue.put(EVENT, 0, ctr, data(0))
    assert [ctr for _, _, ctr in queue.keys()] == [0, 5, 6, 1]
    assert not queue.put(TELEMETRY, 0, 7, data(0)), "telemetry does not push out what matters more"
    assert queue.put(EVENT, 0, 8, data(0))
    assert queue.put(EVENT, 0, 9, data(0))
    assert [ctr for _, _, ctr in queue.keys()] == [5, 6, 8, 9]
    assert queue.drops == 6
    assert outbox(world, frames_max=4).drops == 6


def test_full_by_bytes_makes_as_much_room_as_is_needed():
    world = board()
    queue = outbox(world, bytes_max=300)
    for ctr in range(5):
        assert queue.put(TELEMETRY, 0, ctr, data(ctr, 60))
    assert queue.put(TELEMETRY, 0, 5, data(5, 222))
    assert [ctr for _, _, ctr in queue.keys()] == [4, 5]
    assert queue.drops == 4


def test_statuses_of_a_board_that_keeps_starting_anew_do_not_push_out_telemetry():
    world = board()
    queue = outbox(world, frames_max=20)
    for ctr in range(12):
        queue.put(TELEMETRY, 0, ctr, data(ctr))
    for ctr in range(12, 60):
        assert queue.put(REPLY, 0, ctr, data(ctr))
    keys = list(queue.keys())
    assert len([key for key in keys if key[0] == TELEMETRY]) == 12
    assert [ctr for priority, _, ctr in keys if priority == REPLY] == list(range(52, 60))


def test_flash_that_is_full_drops_instead_of_failing():
    nvs = FakeNvs()
    unmount()
    flash = RamFlash(blocks=24)
    vfs.VfsLfs2.mkfs(flash)
    vfs.mount(vfs.VfsLfs2(flash), "/ram")
    queue = Outbox(Store(nvs), "/ram/outbox")
    for ctr in range(60):
        queue.put(TELEMETRY, 0, ctr, data(ctr, 222))
        queue.put(EVENT, 0, 1000 + ctr, data(ctr, 30))
    assert queue.drops > 0
    again = Outbox(Store(nvs), "/ram/outbox")
    assert list(again.keys()) == list(queue.keys()) and again.drops == queue.drops
    for key in again.keys():
        assert again.read(key) == (data(key[2], 222) if key[0] == TELEMETRY else data(key[2] - 1000, 30))
    assert len(again) + again.drops == 120


def test_expire_drops_and_counts_what_no_key_opens_any_more():
    world = board()
    queue = outbox(world)
    for epoch in (1, 2, 3):
        queue.put(TELEMETRY, epoch, 0, data(0))
        queue.put(EVENT, epoch, 1, data(1))
    assert queue.expire(2) == 2
    assert [epoch for _, epoch, _ in queue.keys()] == [2, 3, 2, 3]
    assert queue.drops == 2


def test_files_that_are_no_frames_are_removed_and_folders_do_no_harm():
    world = board()
    queue = outbox(world)
    queue.put(TELEMETRY, 0, 1, data(1))
    for name, content in (
        ("2000000000002.new", data(2)),  # what a cut leaves of a write
        ("README", b"x"),
        ("2000000000003", b""),
        ("2000000000004", bytes(300)),
        ("9000000000005", data(5)),
        ("200000000000G", data(5)),
        ("2000000000 06", data(5)),
        ("2000000000AB1", data(5)),
    ):
        write_file("/ram/outbox/" + name, content)
    os.mkdir("/ram/outbox/folder")
    write_file("/ram/outbox/folder/notes", b"x")
    again = outbox(world)
    assert list(again.keys()) == [(TELEMETRY, 0, 1)]
    assert sorted(os.listdir("/ram/outbox")) == ["2000000000001", "folder"]
    assert again.drops == 2, "a frame that flash lost a part of is a drop"


def test_a_file_that_vanished_reads_as_none_and_can_be_given_up():
    world = board()
    queue = outbox(world)
    queue.put(TELEMETRY, 0, 1, data(1))
    os.remove("/ram/outbox/2000000000001")
    assert queue.read((TELEMETRY, 0, 1)) is None
    queue.drop((TELEMETRY, 0, 1))
    assert len(queue) == 0 and queue.drops == 1


def test_retire_leaves_nothing_and_a_new_identity_may_use_the_same_counters():
    world = board()
    queue = outbox(world, frames_max=1)
    queue.put(TELEMETRY, 0, 0, data(0))
    queue.put(TELEMETRY, 0, 1, data(1))
    queue.erase()
    assert os.listdir("/ram/outbox") == [] and not world.nvs.dump()
    queue = outbox(world)
    queue.put(TELEMETRY, 0, 0, data(0))
    assert len(outbox(world)) == 1


def test_drops_go_on_when_nvs_is_full():
    world = board()
    world.nvs.space = 0
    queue = outbox(world, frames_max=1)
    for ctr in range(4):
        queue.put(TELEMETRY, 0, ctr, data(ctr))
    assert queue.drops == 3 and len(queue) == 1
    world.nvs.space = 1000
    queue.put(TELEMETRY, 0, 4, data(4))
    assert outbox(world).drops == 4
