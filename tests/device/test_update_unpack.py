# What the unpacker takes and what it refuses, entry by entry, on littlefs.
import hashlib
import os

import vfs
from device.fakes import RamFlash, unmount
from support import images

from sealband.update.refused import UpdateRefused
from sealband.update.unpack import Unpacker
from sealboot import image
from sealwire import update

SLOT = "/ram/b"
FILES = {
    "app.mpy": bytes(range(256)) * 5,
    "board.mpy": b"board",
    "empty": b"",
    "lib/sealband/__init__.mpy": b"M" * 512,
    "lib/sealband/a-b.mpy": b"x" * 513,
    "lib/sealband/a.mpy": b"y" * 1024,
    "lib/sealband/a/deep/er/f": b"z",
    "lib/sealwire/frame.mpy": b"f" * 511,
    "lib-2": b"sorts before lib/",
    "main.py": b"import app\n",
}


def mounted(blocks=256):
    unmount()
    flash = RamFlash(blocks=blocks)
    vfs.VfsLfs2.mkfs(flash)
    vfs.mount(vfs.VfsLfs2(flash), "/ram")
    return flash


def unpack(data, piece=512):
    out = Unpacker(SLOT)
    for at in range(0, len(data), piece):
        out.write(data[at : at + piece])
    out.close()


def refused(data, piece=512):
    mounted()
    try:
        unpack(data, piece)
    except UpdateRefused as error:
        assert os.listdir("/ram") == ["b"], "something beside the slot"
        return error.code
    raise AssertionError("taken")


def good(name="a", data=b"1"):
    return images.entry(name, data)


def test_an_image_becomes_its_files_and_they_the_image_again():
    data = images.image(FILES)
    for piece in (512, 4096, 1000, 7):
        mounted()
        unpack(data, piece)
        for name in FILES:
            with open(SLOT + "/" + name, "rb") as file:
                assert file.read() == FILES[name], name
        assert image.digest(SLOT) == hashlib.sha256(data).digest()
        assert [name for name, _ in image.files(SLOT)] == sorted(FILES)


def test_any_buffer_may_be_written():
    data = images.image({"a": b"1" * 700})
    for kind in (bytes, bytearray, memoryview):
        mounted()
        out = Unpacker(SLOT)
        out.write(kind(data))
        out.write(b"")
        out.close()
        assert os.stat(SLOT + "/a")[6] == 700


def test_the_watchdog_is_fed_for_each_file():
    mounted()
    fed = []
    out = Unpacker(SLOT, lambda: fed.append(1))
    out.write(images.image(FILES))
    out.close()
    assert len(fed) == len(FILES)


def test_names_that_are_no_names_for_a_slot_are_refused():
    for name in (
        "/a",
        "/",
        "..",
        "../a",
        "lib/../../a",
        "lib/..",
        ".",
        "./a",
        "lib/./a",
        "lib//a",
        "lib/",
        "a/",
        "lib\\a",
        "a b",
        "a:b",
        "a*",
        "a\n",
        "a\x7f",
        "ä",
        "~",
        "a" * (update.NAME_MAX + 1),
        "a" * 100,
        "1/2/3/4/5/6/7",
    ):
        assert refused(images.closed(good(name))) == update.PATH_REFUSED, name
    assert refused(images.closed(images.entry("", b"1"))) == update.PATH_REFUSED
    assert refused(images.closed(images.entry("a", path=b"a\xff"))) == update.PATH_REFUSED


def test_names_at_the_limits_are_taken():
    for name in ("a" * update.NAME_MAX, "1/2/3/4/5/6", "...", "a..b", "-", "_", ".a", "a."):
        mounted()
        unpack(images.closed(good(name)))
        assert [one for one, _ in image.files(SLOT)] == [name]


def test_what_boots_a_slot_cannot_be_in_it():
    for name in (
        "boot.py",
        "boot.mpy",
        "lib/sealboot/slots.mpy",
        "lib/sealboot/__init__.py",
        "lib/sealboot/x/y",
        "lib/sealboot.py",
        "lib/sealboot.mpy",
        "sealboot/__init__.mpy",
        "sealboot.mpy",
    ):
        assert refused(images.closed(good(name))) == update.PATH_REFUSED, name
    mounted()
    unpack(images.image({"lib/sealboots": b"1", "sealboot-": b"2", "lib/boot.py": b"3"}))


def test_entries_that_are_no_plain_files_are_refused():
    for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"L", b"K", b"x", b"g", b"\x00", b"S"):
        assert refused(images.closed(images.entry("a", b"", kind=kind, link=b"main.py"))) == update.ENTRY_REFUSED, kind


def test_headers_with_any_other_byte_are_refused():
    for fields in (
        {"mode": b"0000755\x00"},
        {"mode": b"0004644\x00"},
        {"owner": b"0001750\x00"},
        {"group": b"0001750\x00"},
        {"mtime": b"14567200000\x00"},
        {"link": b"x"},
        {"magic": b"ustar  \x00"},
        {"magic": bytes(8)},
        {"user": b"root"},
        {"prefix": b"lib"},
        {"prefix": b"/etc"},
        {"check": b"000000\x00 "},
        {"check": b"0000000\x00"},
        {"path": b"a\x00b"},
        {"length": b"           \x00"},
        {"length": b"00000000001 "},
        {"length": b" 0000000001\x00"},
        {"length": b"0x000000001\x00"},
        {"length": b"0000_000001\x00"},
        {"length": b"-0000000001\x00"},
        {"length": b"+0000000001\x00"},
        {"length": b"\x80" + bytes(10) + b"\x01"},
    ):
        assert refused(images.closed(images.entry("a", b"1", **fields))) == update.ENTRY_REFUSED, fields


def test_any_single_bit_of_a_header_counts():
    whole = images.closed(good())
    for at in range(512):
        data = bytearray(whole)
        data[at] ^= 1
        code = refused(bytes(data))
        assert code in (update.ENTRY_REFUSED, update.PATH_REFUSED), at


def test_duplicates_and_unsorted_names_are_refused():
    for names in (("a", "a"), ("b", "a"), ("lib/b", "lib/a"), ("lib/a", "lib-2"), ("a", "B"), ("a/b", "a")):
        data = b"".join([good(name) for name in names])
        assert refused(images.closed(data)) == update.ORDER_REFUSED, names


def test_a_file_where_a_folder_is_needed_is_refused():
    for names in (("a", "a/b"), ("a", "a-b", "a/b"), ("lib/a", "lib/a.b", "lib/a/b/c")):
        data = b"".join([good(name) for name in names])
        assert refused(images.closed(data)) == update.ORDER_REFUSED, names


def test_too_many_files_are_refused():
    names = ["%03d" % number for number in range(update.FILES_MAX + 1)]
    assert refused(images.closed(b"".join([good(name) for name in names]))) == update.TOO_MANY_FILES
    mounted()
    unpack(images.closed(b"".join([good(name) for name in names[:-1]])))
    assert len(os.listdir(SLOT)) == update.FILES_MAX


def test_an_image_cut_short_anywhere_is_refused():
    data = images.image({"a": b"1" * 700, "lib/b": b"2"})
    for length in list(range(0, 3100, 100)) + [511, 512, 513, 1535, 1536, 2048, 3071, 3072, 3584, 4096, len(data) - 1]:
        assert refused(data[:length]) == update.BAD_STREAM, length


def test_anything_after_the_end_is_refused():
    data = images.image({"a": b"1"})
    for more in (b"\x00", bytes(512), bytes(10240), b"1", good("b")):
        assert refused(data + more) == update.BAD_STREAM
        assert refused(data + more, 4096) == update.BAD_STREAM


def test_an_entry_behind_the_zeros_is_refused():
    assert refused(images.closed(good("a"), good("b"))) == update.ENTRY_REFUSED
    assert refused(images.closed(good("a"), bytes(1024) + good("b"))) == update.ENTRY_REFUSED
    # one block of zeros is no end, and nothing follows it
    whole = good("a") + bytes(512) + good("b")
    assert refused(images.closed(whole)) == update.ENTRY_REFUSED


def test_padding_that_is_not_zero_is_refused():
    data = bytearray(images.image({"a": b"1"}))
    for at in (513, 514, 1023):
        data[at] ^= 0x80
        assert refused(bytes(data)) == update.ENTRY_REFUSED, at
        data[at] ^= 0x80
    unpack(bytes(data))


def test_an_image_without_a_file_is_refused():
    assert refused(images.image({})) == update.ENTRY_REFUSED


def test_an_image_of_the_right_files_with_other_padding_at_the_end_is_refused():
    data = images.image({"a": b"1"})
    assert refused(data[:2048]) == update.BAD_STREAM
    assert refused(data + bytes(10240)) == update.BAD_STREAM


def test_a_full_flash_is_a_failure_of_flash():
    mounted(24)
    for files in ({"a": b"1" * 20000}, {"%d/%d" % (i, i): b"1" * 600 for i in range(30)}):
        try:
            unpack(images.image(files))
            raise AssertionError("taken")
        except UpdateRefused as error:
            assert error.code == update.FLASH_FAILED, error.code
        from sealband.update.install import remove

        remove(SLOT)
        assert os.listdir("/ram") == []


def test_no_file_stays_open_when_an_entry_is_refused():
    mounted()
    out = Unpacker(SLOT)
    out.write(images.header("a", 700) + b"1" * 600)
    out.abandon()
    out.abandon()
    os.remove(SLOT + "/a")
    out = Unpacker(SLOT)
    try:
        out.write(images.entry("a", b"1") + images.header("b", 5) + b"12345" + b"\x01" * 600)
    except UpdateRefused as error:
        assert error.code == update.ENTRY_REFUSED
    assert out._file is None


def test_memory_stays_small_whatever_the_image():
    import gc

    mounted()
    blocks = [images.header("a", 40000)] + [b"1" * 512] * 78 + [b"1" * 64 + bytes(448)]
    out = Unpacker(SLOT)
    gc.collect()
    before = gc.mem_alloc()
    for block in blocks:
        out.write(block)
    gc.collect()
    assert gc.mem_alloc() - before < 2048, gc.mem_alloc() - before
    out.abandon()
