# From a downloaded file to a slot on trial: what is written where, and what a refusal leaves.
import os

import vfs
from device.fakes import RamFlash, unmount
from support import images, patches

import sealboot
from device import slots
from sealband.update import install as module
from sealband.update.install import install, remove
from sealband.update.refused import UpdateRefused
from sealboot import image, record
from sealwire import update

OLD = {"app.mpy": bytes([i * 7 & 0xFF for i in range(1300)]), "lib/sealband/node.mpy": b"1" * 700, "main.py": b"1\n"}
NEW = {"app.mpy": bytes([i * 7 & 0xFF for i in range(1200)]), "lib/sealband/node.mpy": b"2" * 800, "main.py": b"2\n"}
NEW_IMAGE = images.image(NEW)
PATCH = patches.encode(images.image(OLD), NEW_IMAGE, slots.digest(OLD))


def mounted(before=None, blocks=256):
    unmount()
    flash = RamFlash(blocks=blocks)
    vfs.VfsLfs2.mkfs(flash)
    vfs.mount(vfs.VfsLfs2(flash), "/ram")
    slots.board(OLD, before)
    return flash


def state():
    return record.load(slots.SLOTS)


def on_trial():
    held = state()
    assert (held.active, held.trial, held.trials, held.wakes, held.floor) == (0, 1, 0, 0, 1)
    assert held.slots == [(1, slots.digest(OLD), 1), (2, slots.digest(NEW), 0)]
    assert slots.contents(slots.IDLE) == NEW and image.digest(slots.IDLE) == slots.digest(NEW)
    assert slots.contents(slots.RUNNING) == OLD


# Install and be refused with this code; the running slot is as it was, the idle one empty.
def refused(code, data, manifest=None, patched=False, folder=slots.SLOTS):
    slots.delivered(data)
    try:
        install(manifest or slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, patched, folder)
    except UpdateRefused as error:
        assert error.code == code, error.code
        held = state()
        assert (held.active, held.trial, held.floor) == (0, record.NONE, 1)
        assert held.slots == [(1, slots.digest(OLD), 1), record.EMPTY]
        assert slots.contents(slots.RUNNING) == OLD
        try:
            os.stat(slots.IDLE)
        except OSError:
            return
        raise AssertionError("the idle slot is not empty")
    raise AssertionError("installed")


def test_a_full_image_goes_on_trial():
    for before in (None, OLD, {"x/y": b"3" * 3000, "main.py": b"0"}):
        mounted(before)
        slots.delivered(images.stored(NEW_IMAGE))
        install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, False, slots.SLOTS)
        on_trial()


def test_a_patch_goes_on_trial():
    mounted()
    slots.delivered(images.stored(PATCH))
    install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, True, slots.SLOTS)
    on_trial()


def test_what_lay_in_the_idle_slot_unrecorded_goes():
    mounted()
    slots.put(slots.IDLE, {"lib/sealband/node.mpy": b"left behind", "evil.py": b"1", "deep/er/file": b"1"})
    slots.delivered(images.stored(NEW_IMAGE))
    install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, False, slots.SLOTS)
    on_trial()


def test_installed_again_over_a_trial_that_never_began():
    mounted()
    slots.delivered(images.stored(NEW_IMAGE))
    for _ in range(2):
        install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, False, slots.SLOTS)
        on_trial()


def test_the_watchdog_is_fed():
    mounted()
    for patched, data in ((False, NEW_IMAGE), (True, PATCH)):
        fed = []
        slots.delivered(images.stored(data))
        install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, patched, slots.SLOTS, lambda: fed.append(1))
        assert len(fed) > 20


def test_another_image_than_the_signed_one_is_refused():
    for change in ({"main.py": b"3\n"}, {"main.pz": b"2\n"}, {"app.mpy": NEW["app.mpy"][:-1] + b"!"}):
        mounted()
        files = dict(NEW)
        files.update(change)
        # as long as the signed one: nothing but the digest shows it
        refused(update.IMAGE_DIGEST, images.stored(images.image(files)))
    mounted()
    refused(update.ENTRY_REFUSED, images.stored(images.image({})))


def test_a_slot_that_does_not_read_back_as_written_is_refused():
    # flash that keeps something else than it was given
    original = module.Unpacker

    class Forgetful(original):
        def close(self):
            original.close(self)
            with open(slots.IDLE + "/main.py", "wb") as file:
                file.write(b"3\n")

    class Untidy(original):
        def close(self):
            original.close(self)
            slots.put(slots.IDLE, {"lib/sealband/more.py": b""})

    for worse in (Forgetful, Untidy):
        mounted()
        module.Unpacker = worse
        try:
            refused(update.IMAGE_DIGEST, images.stored(NEW_IMAGE))
        finally:
            module.Unpacker = original


def test_what_is_no_deflate_is_refused():
    for data in (b"", b"\xff" * 100, b"\x07" * 100, NEW_IMAGE, images.stored(NEW_IMAGE)[:-1]):
        mounted()
        refused(update.BAD_STREAM, data)


def test_a_stream_cut_short_anywhere_is_refused():
    data = images.stored(NEW_IMAGE)
    for length in (1, 5, 6, 516, 517, 518, 600, 2000, 4097, len(data) - 1):
        mounted()
        refused(update.BAD_STREAM, data[:length])
    for length in (1, 5, 44, 45, 46, 60, len(PATCH) // 2, len(PATCH) - 1):
        mounted()
        refused(update.BAD_STREAM, images.stored(PATCH)[:length], patched=True)
        mounted()
        refused(update.BAD_STREAM, images.stored(PATCH[:length]), patched=True)


def test_anything_behind_the_stream_is_refused():
    for patched, data in ((False, NEW_IMAGE), (True, PATCH)):
        for whole in (images.stored(data) + b"\x00", images.stored(data + b"\x00"), images.stored(data) * 2):
            mounted()
            refused(update.BAD_STREAM, whole, patched=patched)


def test_an_image_of_another_length_than_signed_is_refused():
    manifest = slots.Manifest(NEW_IMAGE)
    for size in (len(NEW_IMAGE) - 512, len(NEW_IMAGE) + 512, 512, 0, 20480):
        mounted()
        manifest.size = size
        refused(update.BAD_STREAM, images.stored(NEW_IMAGE), manifest)
        refused(update.PATCH_OUTSIDE, images.stored(PATCH), manifest, True)


def test_codes_of_the_unpacker_and_the_patch_come_through():
    mounted()
    data = images.closed(images.entry("../a", b"1"))
    refused(update.PATH_REFUSED, images.stored(data), slots.Manifest(data))
    data = images.closed(images.entry("b", b"1") + images.entry("a", b"1"))
    refused(update.ORDER_REFUSED, images.stored(data), slots.Manifest(data))
    other = patches.patch(slots.digest(NEW), len(NEW_IMAGE), [(b"", NEW_IMAGE, 0)])
    refused(update.WRONG_BASE, images.stored(other), patched=True)
    outside = patches.patch(slots.digest(OLD), len(NEW_IMAGE), [(b"", b"1", -1)])
    refused(update.PATCH_OUTSIDE, images.stored(outside), patched=True)


def test_a_patch_may_write_a_bad_entry_no_more_than_an_image_may():
    mounted()
    data = images.closed(images.entry("../a", b"1"))
    encoded = patches.encode(images.image(OLD), data, slots.digest(OLD))
    refused(update.PATH_REFUSED, images.stored(encoded), slots.Manifest(data), True)


def test_an_older_or_the_same_release_is_refused_again():
    for sequence in (0, 1):
        mounted()
        refused(update.OLD_SEQUENCE, images.stored(NEW_IMAGE), slots.Manifest(NEW_IMAGE, sequence))


def test_another_component_is_refused():
    mounted()
    refused(update.WRONG_COMPONENT, images.stored(NEW_IMAGE), slots.Manifest(NEW_IMAGE, component=b"fw"))


def test_what_is_refused_beforehand_leaves_the_idle_slot_too():
    # it holds the release before, which boot.py falls back to
    mounted(NEW)
    slots.delivered(images.stored(NEW_IMAGE))
    for manifest in (slots.Manifest(NEW_IMAGE, 1), slots.Manifest(NEW_IMAGE, component=b"fw")):
        try:
            install(manifest, slots.DOWNLOAD, False, slots.SLOTS)
            raise AssertionError("installed")
        except UpdateRefused:
            pass
    assert slots.contents(slots.IDLE) == NEW and state().slots[1] == (1, slots.digest(NEW), 1)


def test_a_release_on_trial_installs_nothing_over_the_confirmed_one():
    mounted()
    slots.delivered(images.stored(NEW_IMAGE))
    install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, False, slots.SLOTS)
    sealboot.index, sealboot.sequence, sealboot.digest, sealboot.trial = 1, 2, slots.digest(NEW), True
    code = None
    try:
        install(slots.Manifest(NEW_IMAGE, 3), slots.DOWNLOAD, False, slots.SLOTS)
    except UpdateRefused as error:
        code = error.code
    assert code == update.INTERNAL
    on_trial()


def test_a_board_without_a_record_or_with_another_one_installs_nothing():
    mounted()
    slots.delivered(images.stored(NEW_IMAGE))
    for index, digest in ((255, b""), (0, bytes(32)), (1, slots.digest(OLD))):
        sealboot.index, sealboot.digest = index, digest
        refused(update.INTERNAL, images.stored(NEW_IMAGE))
    slots.booted()
    for number in ("0", "1"):
        try:
            os.remove(slots.SLOTS + "/" + number)
        except OSError:
            pass
    code = None
    try:
        install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, False, slots.SLOTS)
    except UpdateRefused as error:
        code = error.code
    assert code == update.INTERNAL and slots.contents(slots.RUNNING) == OLD


def test_a_full_flash_is_a_failure_that_leaves_the_idle_slot_empty():
    mounted(blocks=48)
    # a short patch makes a long image: the whole base again and again
    base = images.image(OLD)
    data = images.closed(images.entry("app.mpy", base * 2))
    copies = [(bytes(len(base)), b"", -len(base))] * 2
    steps = [(b"", data[:512], 0)] + copies + [(b"", data[512 + 2 * len(base) :], 0)]
    encoded = patches.patch(slots.digest(OLD), len(data), steps)
    refused(update.FLASH_FAILED, images.squeezed(encoded), slots.Manifest(data), True)
    # and the next that fits is installed
    slots.delivered(images.squeezed(PATCH))
    install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, True, slots.SLOTS)
    on_trial()


def test_a_download_that_is_not_there_is_a_failure():
    mounted()
    code = None
    try:
        install(slots.Manifest(NEW_IMAGE), "/ram/update/none", False, slots.SLOTS)
    except UpdateRefused as error:
        code = error.code
    assert code == update.FLASH_FAILED and state().trial == record.NONE and slots.contents(slots.RUNNING) == OLD


def test_an_error_of_our_own_empties_the_idle_slot_too():
    mounted()
    slots.delivered(images.stored(NEW_IMAGE))
    fed = []

    def feed():
        fed.append(1)
        if len(fed) == 5:
            raise MemoryError

    try:
        install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, False, slots.SLOTS, feed)
        raise AssertionError("installed")
    except MemoryError:
        pass
    assert "b" not in os.listdir(slots.SLOTS) and state().trial == record.NONE


def test_a_record_that_cannot_be_written_leaves_what_holds():
    # it names the idle slot in the first case, and the slot is whole still
    for before in (NEW, None):
        mounted(before)
        slots.delivered(images.stored(NEW_IMAGE))
        original = record.save
        held = state().pack()

        def refuses(*_):
            raise OSError(5)

        record.save = refuses
        code = None
        try:
            install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, False, slots.SLOTS)
        except UpdateRefused as error:
            code = error.code
        finally:
            record.save = original
        assert code == update.FLASH_FAILED and state().pack() == held
        assert slots.contents(slots.RUNNING) == OLD
        if before:
            assert slots.contents(slots.IDLE) == before


def test_remove_takes_a_folder_with_all_in_it():
    mounted()
    slots.put(slots.IDLE, {"a": b"1", "b/c": b"2", "b/d/e": b"3"})
    os.mkdir(slots.IDLE + "/empty")
    remove(slots.IDLE)
    remove(slots.IDLE)
    assert "b" not in os.listdir(slots.SLOTS) and "a" in os.listdir(slots.SLOTS)
