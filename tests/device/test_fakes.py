# The fakes fail as the hardware does: what the power-cut tests rest on.
import micropython
import vfs
from device.fakes import DONE, HALF, NOT_FOUND, TEARS, UNDONE, FakeNvs, Power, PowerCut, RamFlash, World, sweep


def cut(act, power, after, tear):
    power.cut_after(after, tear)
    try:
        act()
    except PowerCut:
        return
    raise AssertionError("not cut")


def test_nvs_pair_being_written_is_old_new_or_gone():
    for after in (0, 1):  # in the set, in the commit
        for tear, expected in ((UNDONE, 1), (DONE, 2), (HALF, None)):
            power = Power()
            nvs = FakeNvs(power, {"n": 1, "other": 7})

            def write():
                nvs.set_i32("n", 2)
                nvs.commit()

            cut(write, power, after, tear)
            left = nvs.revived(Power()).dump()
            assert (left.get("n"), left["other"]) == (expected, 7), (after, tear, left)


def test_nvs_pair_that_was_never_committed_is_torn_by_a_cut_elsewhere():
    world = World(flash=True)
    world.nvs.set_i32("n", 1)
    world.power.cut_after(0, HALF)
    assert world.flash.writeblocks(0, b"1234") == -5
    assert world.revived().nvs.dump() == {}


def test_nvs_missing_key_and_short_buffer_are_os_errors_of_the_chip():
    nvs = FakeNvs()
    nvs.set_blob("b", b"12345")
    for act, code in ((lambda: nvs.get_i32("x"), NOT_FOUND), (lambda: nvs.get_blob("b", bytearray(4)), -0x110C)):
        try:
            act()
            raise AssertionError("no error")
        except OSError as error:
            assert error.args[0] == code
    buffer = bytearray(8)
    assert nvs.get_blob("b", buffer) == 5 and buffer == b"12345\x00\x00\x00"


def test_dead_board_stays_dead():
    world = World(flash=True)
    cut(lambda: world.nvs.set_i32("n", 1), world.power, 0, UNDONE)
    for act in (lambda: world.nvs.get_i32("n"), lambda: world.nvs.set_i32("n", 1), world.nvs.commit):
        try:
            act()
            raise AssertionError("alive")
        except PowerCut:
            pass
    before = world.flash.dump()
    assert world.flash.writeblocks(0, b"1234") == -5
    assert world.flash.readblocks(0, bytearray(4)) == -5
    assert world.flash.ioctl(6, 0) == -5
    assert world.flash.dump() == before


def test_readblocks_does_not_allocate():
    flash = RamFlash()
    flash.writeblocks(1, b"abcd", 8)
    buffer = bytearray(4)
    micropython.heap_lock()
    try:
        flash.readblocks(1, buffer, 8)
    finally:
        micropython.heap_unlock()
    assert buffer == b"abcd"


def test_flash_write_is_torn_in_half():
    world = World(flash=True)
    world.power.cut_after(0, HALF)
    assert world.flash.writeblocks(3, b"12345678") == -5
    assert world.revived().flash.dump()[3 * 512 : 3 * 512 + 8] == b"1234\xff\xff\xff\xff"


def test_littlefs_survives_a_cut_at_every_operation():
    world = World(flash=True)
    world.mount()
    with open("/ram/f", "w") as file:
        file.write("old")

    def run(board):
        board.mount()
        with open("/ram/new", "w") as file:
            file.write("new" * 300)
        vfs_rename("/ram/new", "/ram/f")

    def check(board):
        board.mount()
        with open("/ram/f") as file:
            assert file.read() in ("old", "new" * 300)

    cuts = sweep(world, run, check, depth=2)
    print("littlefs: %d cuts" % cuts)
    assert cuts > 100


def vfs_rename(old, new):
    import os

    os.rename(old, new)


def test_sweep_catches_a_file_that_is_overwritten_in_place():
    class Raw:  # no file system: a record written straight into a block
        def __init__(self, board):
            self.flash = board.flash

        def write(self, data):
            self.flash.ioctl(6, 60)
            self.flash.writeblocks(60, data)

    world = World(flash=True)
    Raw(world).write(b"old record")

    def check(board):
        buffer = bytearray(10)
        board.flash.readblocks(60, buffer)
        assert buffer in (b"old record", b"new record")

    caught = False
    try:
        sweep(world, lambda board: Raw(board).write(b"new record"), check)
    except AssertionError:
        caught = True
    assert caught and len(TEARS) == 3 and vfs
