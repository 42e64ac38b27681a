# Store: records survive in one half, RTC memory is believed once, files are replaced whole.
from device.fakes import FakeNvs, FakeRtc, World, sweep, unmount

from sealband import store
from sealband.errors import StoreError
from sealband.store import Store


def refused(act, error=StoreError):
    try:
        act()
    except error as raised:
        return str(raised)
    raise AssertionError("accepted")


def test_record_comes_back_newest_first():
    kept = Store(FakeNvs())
    assert kept.load("r") is None
    for version in (b"one", b"", b"three", b"4" * 1024):
        kept.save("r", version)
        assert kept.load("r") == version


def test_damaged_newest_half_gives_the_half_before():
    nvs = FakeNvs()
    kept = Store(nvs)
    kept.save("r", b"one")
    kept.save("r", b"two")
    assert kept.whole("r")
    damaged = bytearray(nvs.dump()["ra"])
    for bit in range(len(damaged) * 8):
        damaged[bit // 8] ^= 1 << bit % 8
        nvs.set_blob("ra", damaged)
        assert kept.load("r") == b"one" and not kept.whole("r")
        damaged[bit // 8] ^= 1 << bit % 8
    for length in range(len(damaged)):
        nvs.set_blob("ra", damaged[:length])
        assert kept.load("r") == b"one"


def test_half_of_another_record_is_not_taken():
    nvs = FakeNvs()
    kept = Store(nvs)
    kept.save("r", b"one")
    nvs.set_blob("sb", nvs.dump()["rb"])
    assert kept.load("s") is None


def test_number_stored_where_a_record_should_be_is_no_record():
    nvs = FakeNvs()
    nvs.set_i32("ra", 5)
    assert Store(nvs).load("r") is None
    nvs.set_blob("n", b"5")
    assert Store(nvs).load_number("n") is None


def test_scrub_leaves_nothing_of_the_version_before():
    nvs = FakeNvs()
    kept = Store(nvs)
    kept.save("r", b"the old secret")
    kept.save("r", b"the older one!")
    kept.save("r", b"new", scrub=True)
    assert kept.load("r") == b"new"
    assert not any(b"old" in value for value in nvs.dump().values())


def test_power_cut_in_a_scrub_is_made_good_by_the_next_load():
    world = World()
    kept = Store(world.nvs)
    kept.save("r", b"old secret")
    kept.save("r", b"old secret")

    def check(board):
        if Store(board.nvs).load("r") == b"new":
            assert not any(b"old" in value for value in board.nvs.dump().values())
        else:
            assert Store(board.nvs).load("r") == b"old secret"

    cuts = sweep(world, lambda board: Store(board.nvs).save("r", b"new", scrub=True), check, depth=2)
    print("scrub: %d cuts" % cuts)
    assert cuts > 50


def test_power_cut_in_erase_never_brings_back_the_older_version():
    world = World()
    kept = Store(world.nvs)
    kept.save("r", b"past")
    kept.save("r", b"present")
    seen = set()

    def check(board):
        seen.add(Store(board.nvs).load("r"))

    cuts = sweep(world, lambda board: Store(board.nvs).erase("r"), check, depth=2)
    print("erase: %d cuts" % cuts)
    assert seen == {b"present", None}


def test_what_was_saved_or_erased_is_committed_when_the_call_returns():
    world = World()
    kept = Store(world.nvs)
    kept.save_number("n", -5)
    assert Store(world.revived().nvs).load_number("n") == -5
    kept.save("r", b"one")
    assert Store(world.revived().nvs).load("r") == b"one"
    kept.erase("r")
    assert Store(world.revived().nvs).load("r") is None


def test_full_flash_is_an_error_and_the_old_version_stays():
    nvs = FakeNvs(space=100)
    kept = Store(nvs)
    kept.save("r", b"1" * 30)
    assert "NOT_ENOUGH_SPACE" in refused(lambda: kept.save("r", b"2" * 60))
    assert kept.load("r") == b"1" * 30
    assert "too long" in refused(lambda: kept.save("r", b"2" * 1025))


def test_write_that_flash_did_not_keep_is_an_error():
    class Deaf(FakeNvs):
        def set_blob(self, key, value):
            pass

        def set_i32(self, key, value):
            pass

    assert "reads back" in refused(lambda: Store(Deaf()).save("r", b"x"))
    assert "reads back" in refused(lambda: Store(Deaf()).save_number("n", 1))


def test_key_that_flash_will_not_erase_is_an_error():
    class Stuck(FakeNvs):
        def erase_key(self, key):
            raise OSError(-0x1104, "ESP_ERR_NVS_READ_ONLY")

    kept = Store(Stuck())
    kept.erase("r")
    kept.save("r", b"x")
    assert "not erased" in refused(lambda: kept.erase("r"))


# --- RTC memory


def flushed(**sections):
    rtc = FakeRtc()
    kept = Store(FakeNvs(), rtc, False)
    for section, data in sections.items():
        kept.rtc_put(section, data)
    kept.rtc_flush()
    return rtc


def test_rtc_sections_come_back_once_after_deep_sleep():
    rtc = flushed(chain=b"abc", node=b"")
    kept = Store(FakeNvs(), rtc, True)
    assert kept.rtc_take("chain") == b"abc" and kept.rtc_take("node") == b"" and kept.rtc_take("air") is None
    assert kept.rtc_take("chain") is None


def test_rtc_memory_is_void_as_soon_as_it_was_read():
    rtc = flushed(chain=b"abc")
    Store(FakeNvs(), rtc, True)
    assert rtc.memory() == b""
    assert Store(FakeNvs(), rtc, True).rtc_take("chain") is None


def test_rtc_memory_after_any_other_reset_is_not_believed_and_void():
    rtc = flushed(chain=b"abc")
    assert Store(FakeNvs(), rtc, False).rtc_take("chain") is None
    assert rtc.memory() == b""


def test_rtc_memory_that_can_not_be_made_void_is_not_believed():
    class ReadOnly(FakeRtc):
        def memory(self, data=None):
            return super().memory() if data is None else None

    assert Store(FakeNvs(), ReadOnly(flushed(chain=b"abc").memory()), True).rtc_take("chain") is None


def test_rtc_memory_with_any_bit_flipped_is_not_believed():
    good = flushed(chain=b"abc", air=b"de").memory()
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        kept = Store(FakeNvs(), FakeRtc(bad), True)
        assert kept.rtc_take("chain") is None and kept.rtc_take("air") is None
    for length in range(len(good)):
        assert Store(FakeNvs(), FakeRtc(good[:length]), True).rtc_take("chain") is None
    assert Store(FakeNvs(), FakeRtc(bytes(2048)), True).rtc_take("chain") is None


def test_rtc_sections_are_bounded_and_a_refused_one_costs_no_other():
    rtc = FakeRtc()
    kept = Store(FakeNvs(), rtc, True)
    kept.rtc_put("chain", b"c" * 40)
    assert "too long" in refused(lambda: kept.rtc_put("node", b"n" * 2000))
    kept.rtc_put("node", b"n" * (2048 - 1 - 8 - 3 - 43))
    kept.rtc_flush()
    assert len(rtc.memory()) == 2048
    assert Store(FakeNvs(), rtc, True).rtc_take("chain") == b"c" * 40


def test_store_without_rtc_memory_keeps_nothing_there():
    kept = Store(FakeNvs())
    kept.rtc_put("chain", b"x")
    kept.rtc_flush()
    assert kept.rtc_take("chain") is None


# --- files


def test_file_is_old_or_new_after_a_power_cut_at_every_operation():
    world = World(flash=True)
    world.mount()
    store.write_file("/ram/f", b"old")

    def run(board):
        board.mount()
        store.write_file("/ram/f", b"new" * 200)

    def check(board):
        board.mount()
        with open("/ram/f", "rb") as file:
            assert file.read() in (b"old", b"new" * 200)

    cuts = sweep(world, run, check)
    unmount()
    print("write_file: %d cuts" % cuts)
    assert cuts > 20


def test_sweep_catches_a_file_written_in_place():
    world = World(flash=True)
    world.mount()
    store.write_file("/ram/f", b"old")

    def run(board):
        board.mount()
        with open("/ram/f", "wb"):
            pass  # littlefs commits the truncation at the close
        with open("/ram/f", "ab") as file:
            file.write(b"new")

    def check(board):
        board.mount()
        with open("/ram/f", "rb") as file:
            assert file.read() in (b"old", b"new")

    try:
        sweep(world, run, check)
    except AssertionError:
        unmount()
        return
    raise AssertionError("the sweep did not see it")


def test_sweep_catches_a_record_that_is_overwritten_in_place():
    class OneHalf(Store):
        def save(self, name, data, scrub=False):
            self._write_half(name, "a", 1, 0, data)

    world = World()
    OneHalf(world.nvs).save("r", b"old")

    def check(board):
        assert Store(board.nvs).load("r") in (b"old", b"new")

    try:
        sweep(world, lambda board: OneHalf(board.nvs).save("r", b"new"), check)
    except AssertionError:
        return
    raise AssertionError("the sweep did not see it")


def test_names_leave_room_for_the_suffix():
    names = [store.CHAIN, store.MARK, store.IDENTITY, store.CONFIG, store.CLOCK, store.OUTBOX, store.AIRTIME]
    assert len(set(names)) == 7 and max(len(name) for name in names) <= 13
    assert len(set(store.SECTIONS.values())) == len(store.SECTIONS)
