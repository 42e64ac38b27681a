# boot.py itself, and the main.py that the firmware runs after it: the flash is littlefs in RAM, mounted as the root.
# A start is what the ESP32's main.c does: boot.py by its name, then main.py by its name in the folder that boot.py
# left, both with the same globals; nothing of the start before is left but what flash holds.
import gc
import os
import sys

import vfs
from device.fakes import RamFlash
from device.slot_board import DEEPSLEEP, PWRON, SOFT, WDT, Machine, WornFlash, make_folder, read, remove_tree, write

from sealboot import image, record, slots
from sealboot.record import EMPTY, NONE
from sealwire import update as wire

HERE = os.getcwd()
PATH = list(sys.path)
BOOT = read("device/boot.py")
PACKAGE = {name: read("device/lib/sealboot/" + name) for name in ("__init__.py", "image.py", "record.py", "slots.py")}
GOOD = b"ran.append('%s')\nimport which\nran.append(which.NAME)\n"
OLD, NEW = 7, 8


class Hang(BaseException):
    # the watchdog's reset: nothing of MicroPython sees it coming
    pass


class Restart(BaseException):
    pass


class BlindOs:
    # `os` on a flash of which folders can't be read
    def stat(self, path):
        raise OSError(5)

    def __getattr__(self, name):
        return getattr(os, name)


class NoFolder:
    # `os` on a flash that begins to fail when what runs has been chosen
    def chdir(self, path):
        raise OSError(5)

    def __getattr__(self, name):
        return getattr(os, name)


class Chip:
    # one board: its flash, and what its main.py did
    def __init__(self, flash=RamFlash):
        self.flash = flash(blocks=96)
        vfs.VfsLfs2.mkfs(self.flash)
        self.console = []

    def __enter__(self):
        vfs.umount("/")
        vfs.mount(vfs.VfsLfs2(self.flash), "/")
        os.chdir("/")
        return self

    def __exit__(self, *_):
        vfs.umount("/")
        vfs.mount(vfs.VfsPosix(), "/")
        os.chdir(HERE)

    # What its main.py said, and how it ended: "", "hangs", "raises".
    def start(self, cause=PWRON, watchdog=True, blind=False):
        modules = dict(sys.modules)
        ran, ended = [], ""
        with self:
            machine = Machine(cause, watchdog)
            machine.hang, machine.reset = _hang, _reset
            for name in list(sys.modules):
                if name.split(".")[0] in ("sealboot", "which", "app"):
                    del sys.modules[name]
            sys.modules["machine"] = machine
            if blind:
                sys.modules["os"] = BlindOs()
            sys.path[:] = ["", ".frozen", "/lib"]
            scope = {"__name__": "__main__", "ran": ran}
            try:
                exec(read("boot.py"), scope)
                self.folder = os.getcwd()
                self.path = list(sys.path)
                self.package = sys.modules.get("sealboot")
                self.left = sorted(set(scope) - {"__name__", "ran"})
                self.loaded = sorted(name for name in sys.modules if name.startswith("sealboot"))
                if "main.py" in os.listdir():
                    exec(read("main.py"), scope)
            except Hang:
                assert machine.timeout_ms, "it hangs for ever"
                ended = "hangs"
            except Restart:
                ended = "restarts"
            except Exception:
                ended = "raises"
            finally:
                sys.path[:] = PATH
                sys.modules.clear()
                sys.modules.update(modules)
        return ran, ended


def _hang():
    raise Hang


def _reset():
    raise Restart


def flash_package():
    for name in PACKAGE:
        write("/lib/sealboot/" + name, PACKAGE[name])
    write("/boot.py", BOOT)


# A developer's board: everything in the root.
def developers(flash=RamFlash):
    chip = Chip(flash)
    with chip:
        flash_package()
        write("/lib/which.py", b"NAME = 'lib'")
        write("/main.py", GOOD % b"root")
    return chip


# A board with a release in slot a, and with these files on trial in slot b.
def released(trial=None, flash=RamFlash):
    chip = Chip(flash)
    with chip:
        flash_package()
        held = record.Record()
        held.active, held.floor = 0, OLD
        held.slots[0] = (OLD, fill("a", {"main.py": GOOD % b"old", "lib/which.py": b"NAME = 'a'"}), 1)
        make_folder("/slots/b")
        if trial:
            held.trial = 1
            held.slots[1] = (NEW, fill("b", trial), 0)
        record.save(held, "/slots")
    return chip


def fill(slot, content):
    for name in content:
        write("/slots/%s/%s" % (slot, name), content[name])
    return image.digest("/slots/" + slot)


def test_developers_board_runs_what_lies_in_the_root():
    chip = developers()
    for cause in (PWRON, SOFT, DEEPSLEEP):
        assert chip.start(cause) == (["root", "lib"], "")
        assert chip.folder == "/" and chip.path == [".frozen", "/lib", ""]
        # for the REPL and the station: nothing of boot.py is in the way, nothing of it was loaded
        assert chip.left == ["gc", "os", "sys"] and chip.loaded == []


def test_board_without_the_package_still_runs_what_lies_in_the_root():
    chip = developers()
    with chip:
        remove_tree("/lib/sealboot")
        os.rmdir("/lib/sealboot")
    assert chip.start() == (["root", "lib"], "")


def test_empty_board_comes_to_its_repl():
    chip = Chip()
    with chip:
        write("/boot.py", BOOT)
    assert chip.start() == ([], "") and chip.folder == "/"


def test_release_runs_from_its_slot_and_nothing_shadows_it():
    chip = released()
    with chip:
        for name in ("/which.py", "/lib/which.py", "/main.py", "/sealboot.py", "/slots/which.py"):
            write(name, b"ran.append('shadow')\nNAME = 'shadow'")
        write("/sealboot/__init__.py", b"1 / 0")
        write("/machine.py", b"1 / 0")
    for cause in (PWRON, DEEPSLEEP):
        assert chip.start(cause) == (["old", "a"], "")
        assert chip.folder == "/slots/a"
        assert chip.path == ["/slots/a", "/slots/a/lib", ".frozen", "/lib"]


def test_what_chose_is_gone_and_what_was_chosen_stays():
    chip = released()
    assert chip.start() == (["old", "a"], "")
    assert chip.loaded == ["sealboot"]
    assert not [name for name in ("slots", "record", "image") if hasattr(chip.package, name)]
    assert (chip.package.index, chip.package.sequence, chip.package.trial) == (0, OLD, False)
    assert chip.left == ["gc", "os", "sys"]


def ends_after_four_starts(code, ended, more=None):
    content = {"main.py": code}
    content.update(more or {})
    chip = released(content)
    for count in range(4):
        ran, how = chip.start(PWRON if how_it_starts(count, ended) else WDT)
        assert how == ended and ran[:1] != ["old"], (count, ran, how)
        assert chip.package.trial and chip.package.sequence == NEW
    for _ in range(2):
        assert chip.start() == (["old", "a"], "")
        assert chip.package.outcome == (NEW, wire.TRIAL_FAILED)


def how_it_starts(count, ended):
    return count == 0 or ended != "hangs"


def test_release_that_raises_is_rolled_back_after_four_starts():
    ends_after_four_starts(b"1 / 0", "raises")
    ends_after_four_starts(b"ran.append('new')\nraise MemoryError", "raises")


def test_release_that_hangs_is_rolled_back_after_four_starts():
    ends_after_four_starts(b"import machine\nmachine.hang()", "hangs")


def test_release_that_can_t_be_imported_is_rolled_back_after_four_starts():
    ends_after_four_starts(b"import nowhere", "raises")
    ends_after_four_starts(b"import app", "raises", {"app.mpy": b"M\x06 no bytecode"})
    ends_after_four_starts(b"if:", "raises")


def test_release_that_restarts_for_ever_is_rolled_back_after_four_starts():
    ends_after_four_starts(b"import machine\nmachine.reset()", "restarts")


def test_trial_whose_main_ends_stays_watched():
    chip = released({"main.py": b"ran.append('new')"})
    assert chip.start() == (["new"], "") and chip.package.watchdog_s == 120


def test_whatever_lies_in_place_of_the_record_boot_does_not_raise_and_runs_nothing_unsigned():
    def junk(path, kind):
        if kind == "gone":
            return
        if kind == "folder":
            make_folder(path)
        else:
            write(path, {"empty": b"", "zeros": bytes(132), "long": b"\xff" * 4000}[kind])

    def clear(path):
        try:
            os.remove(path)
        except OSError:
            remove_tree(path)
            os.rmdir(path)

    kinds = ("gone", "folder", "empty", "zeros", "long")
    for first in kinds:
        for second in kinds:
            chip = released()
            with chip:
                write("/main.py", b"ran.append('unsigned')")
                clear("/slots/0")
                junk("/slots/0", first)
                junk("/slots/1", second)
            assert chip.start() == ([], ""), (first, second)
            assert chip.folder == "/lib/sealboot" and chip.loaded == ["sealboot"]
    for kind in ("folder", "zeros"):
        chip = developers()
        with chip:
            junk("/slots", kind)
        assert chip.start() == ([], ""), "a board with slots runs nothing from its root"


def test_slots_of_every_wrong_kind():
    for kind in ("gone", "file", "empty", "nested", "odd name"):
        chip = released()
        with chip:
            remove_tree("/slots/a")
            if kind in ("gone", "file"):
                os.rmdir("/slots/a")
            if kind == "file":
                write("/slots/a", b"main.py")
            if kind == "nested":
                write("/slots/a/" + "d/" * 12 + "main.py", b"")
            if kind == "odd name":
                write("/slots/a/" + "n" * 200, b"")
            write("/main.py", b"ran.append('unsigned')")
        for cause in (PWRON, DEEPSLEEP):
            assert chip.start(cause) == ([], ""), kind


def test_fault_of_the_package_runs_nothing_on_a_board_with_slots():
    for name in ("slots.py", "record.py", "__init__.py"):
        chip = released()
        with chip:
            write("/lib/sealboot/" + name, b"1 / 0")
            write("/main.py", b"ran.append('unsigned')")
        assert chip.start() == ([], ""), name
        assert chip.folder == "/lib/sealboot"


def test_flash_that_can_t_tell_whether_there_are_slots_has_some():
    for chip in (developers(), released()):
        with chip:
            write("/main.py", b"ran.append('unsigned')")
        assert chip.start(blind=True) == ([], "")
        assert chip.folder == "/lib/sealboot"


def test_worn_flash_boots_what_is_confirmed():
    chip = released({"main.py": b"ran.append('new')"}, WornFlash)
    chip.flash.worn = True
    for _ in range(5):
        assert chip.start() == (["old", "a"], "")
    chip.flash.worn = False
    assert chip.start() == (["new"], "")


def test_heap_is_free_again_after_boot():
    # the heap that boot.py leaves less than a board has that loads the package alone; names stay in the interpreter
    chip = released()
    chip.start()
    with chip:
        write("/main.py", b"import gc\ngc.collect()\nran.append(gc.mem_alloc())")
        held = record.load("/slots")
        held.slots[0] = (OLD, fill("a", {"main.py": read("/main.py")}), 1)
        record.save(held, "/slots")
    gc.collect()
    boot, _ = chip.start()
    with chip:
        write("/boot.py", b"import sys, os\nsys.path[:0] = ['/lib']\nimport sealboot\nos.chdir('/slots/a')")
    gc.collect()
    bare, _ = chip.start()
    print("heap taken by boot.py: %d bytes" % (boot[0] - bare[0]))
    assert boot[0] - bare[0] < 2048


def test_order_of_a_whole_life():
    chip = released({"main.py": GOOD % b"new", "lib/which.py": b"NAME = 'b'"})
    assert chip.start() == (["new", "b"], "")
    with chip:
        held = record.load("/slots")
        assert (held.trial, held.trials) == (1, 1)
        held.active, held.trial, held.floor = 1, NONE, NEW
        held.slots[1] = held.slots[1][:2] + (1,)
        record.save(held, "/slots")
    for cause in (PWRON, DEEPSLEEP, WDT):
        assert chip.start(cause) == (["new", "b"], "")
    with chip:
        write("/slots/b/lib/which.py", b"NAME = 'x'")
    assert chip.start() == (["old", "a"], "")
    with chip:
        assert record.load("/slots").slots[1] == EMPTY
    assert chip.package.outcome == (NEW, slots.SLOT_CORRUPT)


# --- a board that the station has closed


class Nvs:
    # esp32.NVS: what a closed board holds, unless a test says otherwise
    value, error = 1, None

    def __init__(self, namespace):
        assert namespace == "sealband"

    def get_i32(self, key):
        assert key == "closed"
        if self.error:
            raise self.error
        return self.value


class Esp32:
    NVS = Nvs


class Interrupts:
    # `micropython`, and whether a Control-C would be heard
    const = staticmethod(lambda value: value)

    def __init__(self):
        self.characters = []

    def kbd_intr(self, character):
        self.characters.append(character)


# A release whose main.py is this, on a closed board; "REPL" is how a start ends that comes to one.
def closed(code=b"ran.append('works')", more=None):
    chip = released()
    content = {"main.py": code}
    content.update(more or {})
    with chip:
        remove_tree("/slots/a")
        held = record.load("/slots")
        held.slots[0] = (OLD, fill("a", content), 1)
        record.save(held, "/slots")
    return chip


def start_closed(chip, cause=PWRON, nvs=None, broken=False):
    modules = dict(sys.modules)
    ran = []
    with chip:
        machine = Machine(cause)
        machine.reset = _reset
        for name in list(sys.modules):
            if name.split(".")[0] in ("sealboot", "which", "app", "main"):
                del sys.modules[name]
        interrupts = Interrupts()
        sys.modules.update({"machine": machine, "esp32": nvs or Esp32, "micropython": interrupts, "ran": ran})
        sys.path[:] = ["", ".frozen", "/lib"]
        time = __import__("time")

        class Time:
            def sleep(self, seconds):
                ran.append("slept")

            def __getattr__(self, name):
                return getattr(time, name)

        sys.modules["time"] = Time()
        if broken:
            sys.modules["os"] = NoFolder()
        scope = {"__name__": "__main__"}
        try:
            exec(read("boot.py"), scope)
            chip.heard = interrupts.characters[-1] == 3
            if "main.py" in os.listdir():
                interrupts.kbd_intr(3)
                exec(read("main.py"), scope)
            ended = "REPL"
        except Restart:
            ended = "restarts"
            assert interrupts.characters == [-1], "a Control-C would have been heard"
        except BaseException as error:
            ended = "REPL by " + type(error).__name__
        finally:
            sys.path[:] = PATH
            sys.modules.clear()
            sys.modules.update(modules)
    return ran, ended


WORKS = b"import ran\nran.append('works')\n"


def test_closed_board_restarts_whatever_its_main_raises():
    for name in (
        "SystemExit",
        "KeyboardInterrupt",
        "MemoryError",
        "Exception('x')",
        "BaseException",
        "GeneratorExit",
        "OSError(5)",
        "RuntimeError",
    ):
        chip = closed(WORKS + b"raise " + name.encode())
        assert start_closed(chip) == (["works"], "restarts"), name


def test_closed_board_restarts_when_its_main_exits():
    for code in (b"import sys\nsys.exit()", b"import sys\nsys.exit(0)", b"raise SystemExit(256)"):
        assert start_closed(closed(WORKS + code)) == (["works"], "restarts"), code


def test_closed_board_restarts_when_its_main_ends():
    assert start_closed(closed(WORKS)) == (["works"], "restarts")


def test_closed_board_restarts_when_its_main_cannot_be_run():
    for code in (b"if:", b"import nowhere", b"\xff\xfe", b"x = [0] * (1 << 60)"):
        assert start_closed(closed(code)) == ([], "restarts"), code


def test_closed_board_restarts_when_its_own_package_is_damaged():
    for name in ("__init__.py", "slots.py", "record.py"):
        chip = closed(WORKS)
        with chip:
            write("/lib/sealboot/" + name, b"1 / 0")
        assert start_closed(chip)[1] == "restarts", name


def test_closed_board_with_nothing_to_run_waits_and_starts_anew():
    for gone in (("/slots/0", "/slots/1"), ("/slots/a/main.py",)):
        chip = closed(WORKS)
        with chip:
            for path in gone:
                os.remove(path)
            write("/main.py", b"import ran\nran.append('unsigned')")
        assert start_closed(chip) == (["slept"], "restarts"), gone
    # nor without any slots: a closed board had some
    chip = developers()
    with chip:
        write("/main.py", b"import ran\nran.append('unsigned')")
    assert start_closed(chip) == (["slept"], "restarts")


def test_flash_that_fails_between_choosing_and_running_opens_no_closed_board():
    for gone in (False, True):
        chip = closed(WORKS)
        with chip:
            write("/main.py", b"import ran\nran.append('unsigned')")
            if gone:
                os.remove("/slots/a/main.py")
        assert start_closed(chip, broken=True) == (["slept"], "restarts"), gone


def test_only_the_release_s_own_word_opens_a_closed_board():
    chip = closed(WORKS + b"import sealboot\nsealboot.unlocked = True")
    assert start_closed(chip) == (["works", "works"], "REPL")
    for word in (b"1", b"'yes'", b"None", b"0"):
        chip = closed(WORKS + b"import sealboot\nsealboot.unlocked = " + word)
        assert start_closed(chip) == (["works"], "restarts"), word
    chip = closed(WORKS + b"import sealboot\nsealboot.unlocked = True\nraise SystemExit")
    assert start_closed(chip) == (["works"], "restarts")


def test_soft_reset_of_an_unlocked_repl_comes_back_to_it():
    # mpremote does one before each command; main.py is not run then, by the firmware or from here
    # (start.py sends a Control-D, after which the firmware does run it, through a hard reset)
    chip = closed(WORKS)
    assert start_closed(chip, SOFT)[1] == "REPL" and chip.heard is False


def test_mark_that_cannot_be_read_closes_and_one_that_was_never_written_does_not():
    class Failing(Esp32):
        class NVS(Nvs):
            error = OSError(-0x1105, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")

    class Absent(Esp32):
        class NVS(Nvs):
            error = OSError(-0x1102, "ESP_ERR_NVS_NOT_FOUND")

    class Zero(Esp32):
        class NVS(Nvs):
            value = 0

    chip = closed(WORKS)
    assert start_closed(chip, nvs=Failing) == (["works"], "restarts")
    for nvs in (Absent, Zero):
        assert start_closed(chip, nvs=nvs) == (["works"], "REPL")
        assert chip.heard, "Control-C stayed off"


def test_trial_on_a_closed_board_that_raises_is_rolled_back_all_the_same():
    chip = released({"main.py": b"import ran\nran.append('new')\n1 / 0"})
    with chip:
        held = record.load("/slots")
        remove_tree("/slots/a")
        held.slots[0] = (OLD, fill("a", {"main.py": WORKS}), 1)
        record.save(held, "/slots")
    for _ in range(4):
        assert start_closed(chip) == (["new"], "restarts")
    for _ in range(2):
        assert start_closed(chip) == (["works"], "restarts")
