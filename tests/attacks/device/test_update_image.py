# Attacks on the device through a delivered image or patch, by name. The manifest is signed and right; whoever carries
# the delivery is not believed. After each: the running slot is as it was, nothing is on trial, nothing lies beside.
import os

import vfs
from device.fakes import RamFlash, unmount
from support import images, patches

import sealboot
from device import slots
from sealband.update import install as module
from sealband.update.install import install
from sealband.update.refused import UpdateRefused
from sealboot import record
from sealwire import update

OLD = {"app.mpy": bytes([i * 7 & 0xFF for i in range(1300)]), "lib/sealband/node.mpy": b"1" * 700, "main.py": b"1\n"}
NEW = {"app.mpy": bytes([i * 7 & 0xFF for i in range(1200)]), "lib/sealband/node.mpy": b"2" * 800, "main.py": b"2\n"}
OLD_IMAGE, NEW_IMAGE = images.image(OLD), images.image(NEW)
BASE = slots.digest(OLD)
EVIL = b"import evil\n"


def mounted():
    unmount()
    flash = RamFlash(blocks=256)
    vfs.VfsLfs2.mkfs(flash)
    vfs.mount(vfs.VfsLfs2(flash), "/ram")
    slots.board(OLD)
    with open("/ram/boot.py", "wb") as file:
        file.write(b"boot")
    return flash


# The code of the refusal of this download; the board is what it was.
def attacked(data, manifest=None, patched=False):
    mounted()
    slots.delivered(data)
    try:
        install(manifest or slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, patched, slots.SLOTS)
    except UpdateRefused as error:
        safe()
        return error.code
    raise AssertionError("installed")


def safe():
    held = record.load(slots.SLOTS)
    assert (held.active, held.trial) == (0, record.NONE) and held.slots == [(1, BASE, 1), record.EMPTY]
    assert slots.contents(slots.RUNNING) == OLD
    assert sorted(os.listdir("/ram")) == ["boot.py", "slots", "update"]
    assert "b" not in os.listdir(slots.SLOTS)
    with open("/ram/boot.py", "rb") as file:
        assert file.read() == b"boot"


def changed(files, name, data):
    other = dict(files)
    other[name] = data
    return other


def entry(name, data=EVIL, **fields):
    return images.closed(images.entry(name, data, **fields))


# As an image and as a patch, signed as it is: even the signers cannot do this.
def refused(image, code):
    assert attacked(images.squeezed(image), slots.Manifest(image)) == code
    patch = patches.patch(BASE, len(image), [(b"", image, 0)])
    assert attacked(images.squeezed(patch), slots.Manifest(image), True) == code


def test_tar_entry_with_parent_folders_is_refused():
    for name in ("../boot.py", "../../boot.py", "lib/../../../boot.py", "..", "../a/main.py", "lib/.."):
        refused(entry(name), update.PATH_REFUSED)


def test_tar_entry_with_an_absolute_path_is_refused():
    for name in ("/boot.py", "/ram/boot.py", "/ram/slots/a/main.py", "//boot.py"):
        refused(entry(name), update.PATH_REFUSED)


def test_tar_entry_with_the_path_in_the_prefix_field_is_refused():
    # POSIX joins prefix and name
    for prefix in (b"/", b"..", b"/ram/slots/a", b"lib"):
        refused(entry("main.py", prefix=prefix), update.ENTRY_REFUSED)


def test_link_out_of_the_slot_is_refused():
    for kind in (b"1", b"2"):
        first = images.entry("lib", b"", kind=kind, link=b"/ram/slots/a")
        refused(images.closed(first + images.entry("lib/main.py", EVIL)), update.ENTRY_REFUSED)


def test_device_file_is_refused():
    for kind in (b"3", b"4", b"6"):
        refused(entry("tty", b"", kind=kind), update.ENTRY_REFUSED)


def test_long_names_and_extended_headers_that_rename_the_next_entry_are_refused():
    for kind, data in ((b"L", b"../boot.py\x00"), (b"x", b"19 path=../boot.py\n"), (b"g", b"19 path=../boot.py\n")):
        first = images.entry("././@LongLink" if kind == b"L" else "pax", data, kind=kind)
        refused(images.closed(first + images.entry("main.py", EVIL)), update.ENTRY_REFUSED)


def test_image_that_brings_its_own_boot_code_is_refused():
    for name in ("boot.py", "boot.mpy", "lib/sealboot/slots.mpy", "lib/sealboot/record.py", "sealboot/__init__.mpy"):
        refused(entry(name), update.PATH_REFUSED)


def test_duplicate_that_replaces_a_file_that_was_there_is_refused():
    twice = images.entry("main.py", NEW["main.py"]) + images.entry("main.py", EVIL)
    refused(images.closed(twice), update.ORDER_REFUSED)


def test_too_many_files_are_refused():
    names = ["%03d" % number for number in range(update.FILES_MAX + 1)]
    refused(images.closed(b"".join([images.entry(name) for name in names])), update.TOO_MANY_FILES)


def test_image_of_another_release_under_this_manifest_is_refused():
    for other in (changed(NEW, "main.py", EVIL[:2]), OLD):
        data = images.image(other)
        assert attacked(images.squeezed(data)) == update.IMAGE_DIGEST
        patch = patches.encode(OLD_IMAGE, data, BASE)
        assert attacked(images.squeezed(patch), patched=True) == update.IMAGE_DIGEST


# Install, with something done in the midst of it; the code of the refusal, or None.
def interfered(after, act):
    mounted()
    slots.delivered(images.stored(NEW_IMAGE))
    fed = []

    def feed():
        fed.append(1)
        if len(fed) == after:
            act()

    try:
        install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, False, slots.SLOTS, feed)
    except UpdateRefused as error:
        return error.code
    assert len(fed) >= after


def test_image_swapped_after_checking_is_refused():
    # a file of the slot, once it was written
    def swap():
        with open(slots.IDLE + "/app.mpy", "wb") as file:
            file.write(bytes(len(NEW["app.mpy"])))

    for after in (8, 12, 20):
        assert interfered(after, swap) == update.IMAGE_DIGEST
        safe()


def test_file_added_to_the_slot_beside_the_image_is_refused():
    def add():
        slots.put(slots.IDLE, {"lib/evil.mpy": EVIL})

    for after in (4, 12, 20):
        assert interfered(after, add) == update.IMAGE_DIGEST
        safe()


def test_download_swapped_while_it_is_read_installs_the_signed_image_or_nothing():
    def swap():
        slots.delivered(images.stored(images.image(changed(NEW, "app.mpy", EVIL * 100))))

    for after in range(1, 12):
        code = interfered(after, swap)
        if code is None:
            assert slots.contents(slots.IDLE) == NEW
        else:
            safe()


def test_image_swapped_would_go_on_trial_if_the_slot_were_not_read_back():
    # the safeguard taken out: what was downloaded is checked, what is written is not
    class Trusting:
        def __getattr__(self, name):
            return getattr(original, name)

        def digest(self, folder, feed=None):
            return slots.digest(NEW)

    original = module.image
    mounted()
    slots.delivered(images.stored(images.image(changed(NEW, "main.py", b"3\n"))))
    module.image = Trusting()
    try:
        install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, False, slots.SLOTS)
    finally:
        module.image = original
    assert record.load(slots.SLOTS).trial == 1 and slots.contents(slots.IDLE) != NEW


def test_download_that_inflates_without_end_stops_at_the_signed_size():
    class Counting(module.Unpacker):
        taken = 0

        def write(self, chunk):
            Counting.taken += len(chunk)
            original.write(self, chunk)

    original = module.Unpacker
    module.Unpacker = Counting
    try:
        # 256 KB from few: zeros behind the image, and a single file that never ends
        bomb = images.squeezed(NEW_IMAGE + bytes(1 << 18))
        assert len(bomb) < 10000
        assert attacked(bomb) == update.BAD_STREAM
        assert Counting.taken <= len(NEW_IMAGE)
        Counting.taken = 0
        endless = images.header("app.mpy", 1 << 18) + bytes(1 << 18)
        assert attacked(images.squeezed(endless)) == update.BAD_STREAM
        assert Counting.taken <= len(NEW_IMAGE)
    finally:
        module.Unpacker = original


def test_patch_that_inflates_without_end_stops_too():
    # steps that do nothing: neither image nor base is left, and there is no end
    fed = []
    mounted()
    slots.delivered(images.squeezed(patches.patch(BASE, len(NEW_IMAGE), []) + bytes(1 << 16)))
    code = None
    try:
        install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, True, slots.SLOTS, lambda: fed.append(1))
    except UpdateRefused as error:
        code = error.code
    assert code == update.BAD_STREAM and len(fed) < len(NEW_IMAGE)
    safe()


def test_patch_against_the_wrong_base_is_refused_before_anything_is_unpacked():
    for base in (slots.digest(NEW), bytes(32), b"\xff" * 32):
        patch = patches.encode(OLD_IMAGE, NEW_IMAGE, base)
        assert attacked(images.squeezed(patch), patched=True) == update.WRONG_BASE


def test_patch_against_the_wrong_base_under_the_right_name_is_refused():
    # the head says what runs, the steps are for another base
    other = images.image(changed(OLD, "lib/sealband/node.mpy", b"2" * 700))
    patch = patches.encode(other, NEW_IMAGE, BASE)
    assert attacked(images.squeezed(patch), patched=True) == update.IMAGE_DIGEST


def test_patch_that_writes_outside_the_image_is_refused():
    size = len(NEW_IMAGE)
    for steps in (
        [(b"", NEW_IMAGE + b"1", 0)],
        [(b"", NEW_IMAGE, 0), (b"", b"1", 0)],
        [(b"", NEW_IMAGE[:-1], 0), (bytes(2), b"", 0)],
    ):
        code = attacked(images.squeezed(patches.patch(BASE, size, steps)), patched=True)
        assert code in (update.PATCH_OUTSIDE, update.BAD_STREAM), code
    patch = patches.patch(BASE, size + 512, [(b"", NEW_IMAGE, 0), (b"", bytes(512), 0)])
    assert attacked(images.squeezed(patch), patched=True) == update.PATCH_OUTSIDE
    for number in ((1 << 32) - 1, 1 << 32, (1 << 35) - 1):
        numbers = b"\x00" + patches.number(number) + b"\x00"
        patch = patches.patch(BASE, size, []) + numbers + bytes(600)
        assert attacked(images.squeezed(patch), patched=True) == update.PATCH_OUTSIDE


def test_patch_that_reads_outside_the_base_is_refused():
    # what lies behind the running image, or before it, must not get into a slot
    size, end = len(NEW_IMAGE), len(OLD_IMAGE)
    for steps in (
        [(b"", NEW_IMAGE[:512], -1), (bytes(512), b"", 0)],
        [(b"", NEW_IMAGE[:512], end - 100), (bytes(101), b"", 0)],
        [(bytes(512), b"", end - 511), (bytes(1), b"", 0)],
        [(b"", NEW_IMAGE[:512], 1 << 32), (bytes(512), b"", 0)],
    ):
        patch = patches.patch(BASE, size, steps)
        assert attacked(images.squeezed(patch), patched=True) == update.PATCH_OUTSIDE


def test_old_release_is_refused_by_the_installer_too():
    # rollback: should the manifest's check ever be passed by
    for sequence in (0, 1):
        mounted()
        slots.delivered(images.squeezed(NEW_IMAGE))
        code = None
        try:
            install(slots.Manifest(NEW_IMAGE, sequence), slots.DOWNLOAD, False, slots.SLOTS)
        except UpdateRefused as error:
            code = error.code
        assert code == update.OLD_SEQUENCE
        safe()


def test_release_on_trial_cannot_install_over_the_one_that_it_falls_back_to():
    mounted()
    slots.delivered(images.squeezed(NEW_IMAGE))
    install(slots.Manifest(NEW_IMAGE), slots.DOWNLOAD, False, slots.SLOTS)
    sealboot.index, sealboot.sequence, sealboot.digest, sealboot.trial = 1, 2, slots.digest(NEW), True
    code = None
    try:
        install(slots.Manifest(NEW_IMAGE, 3), slots.DOWNLOAD, False, slots.SLOTS)
    except UpdateRefused as error:
        code = error.code
    assert code == update.INTERNAL and slots.contents(slots.RUNNING) == OLD


def test_no_single_bit_of_a_delivery_changes_what_is_installed():
    # some bits change the way that a run of zeros is told; what is installed then is the signed image all the same
    small = images.image({"main.py": b"2\n"})
    whole = images.squeezed(small)
    mounted()
    refusals = 0
    for at in range(len(whole) * 8):
        data = bytearray(whole)
        data[at >> 3] ^= 1 << (at & 7)
        slots.delivered(bytes(data))
        try:
            install(slots.Manifest(small), slots.DOWNLOAD, False, slots.SLOTS)
        except UpdateRefused:
            refusals += 1
            assert record.load(slots.SLOTS).trial == record.NONE
        else:
            assert slots.contents(slots.IDLE) == {"main.py": b"2\n"}
    print("%d of %d bits refused" % (refusals, len(whole) * 8))
    assert refusals > len(whole) * 7
