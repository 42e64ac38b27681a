# Patches applied in a stream: what they make, and what is refused before it is given out.
import hashlib
import os

import vfs
from device.fakes import RamFlash, unmount
from support import images, patches

from sealband.update import patch
from sealband.update.refused import UpdateRefused
from sealboot import image
from sealwire import update

BASE = "/ram/a"
FILES = {
    "app.mpy": bytes([i * 7 & 0xFF for i in range(1300)]),
    "empty": b"",
    "lib/one.mpy": bytes([i * i & 0xFF for i in range(512)]),
    "lib/sub/two.mpy": bytes([i >> 3 & 0xFF for i in range(513)]),
    "lib/three.mpy": b"3" * 511,
    "main.py": b"import app\n",
}


# What `apply` reads from: as stream.Reader, without deflate.
class Source:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def readinto(self, buffer):
        if self.at + len(buffer) > len(self.data):
            raise UpdateRefused(update.BAD_STREAM)
        buffer[:] = self.data[self.at : self.at + len(buffer)]
        self.at += len(buffer)


class Sink:
    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += bytes(data)


def put(folder, files):
    os.mkdir(folder)
    for name in files:
        at = name.find("/")
        while at >= 0:
            try:
                os.mkdir(folder + "/" + name[:at])
            except OSError:
                pass
            at = name.find("/", at + 1)
        with open(folder + "/" + name, "wb") as file:
            file.write(files[name])


def based(files=FILES):
    unmount()
    flash = RamFlash(blocks=256)
    vfs.VfsLfs2.mkfs(flash)
    vfs.mount(vfs.VfsLfs2(flash), "/ram")
    put(BASE, files)
    data = images.image(files)
    return data, hashlib.sha256(data).digest()


def applied(data, digest, size, base=BASE):
    sink = Sink()
    source = Source(data)
    patch.apply(source, base, digest, size, sink)
    assert source.at == len(data)
    return sink.data


def refused(data, digest, size, code):
    sink = Sink()
    try:
        patch.apply(Source(data), BASE, digest, size, sink)
    except UpdateRefused as error:
        assert error.code == code, error.code
        return sink.data
    raise AssertionError("taken")


def test_the_base_reads_as_the_image_from_any_place():
    data, _ = based()
    base = patch.Base(BASE)
    assert base.length == len(data)
    view = memoryview(bytearray(700))
    for length in (1, 3, 512, 513, 700):
        for at in list(range(0, len(data) - length, 331)) + [len(data) - length, 511, 512, 1812, 1813, 2047, 2048]:
            base.position = at
            base.readinto(view[:length])
            assert view[:length] == data[at : at + length], (at, length)
            assert base.position == at + length
    # backwards, byte by byte, over every border
    one = memoryview(bytearray(1))
    for at in range(len(data) - 1, -1, -1):
        if at % 512 < 3 or at % 512 > 509:
            base.position = at
            base.readinto(one)
            assert one[0] == data[at], at
    base.close()


def test_an_empty_base_is_an_image_of_zeros():
    based({})
    base = patch.Base(BASE)
    view = memoryview(bytearray(b"x" * 10240))
    base.readinto(view)
    assert base.length == 10240 and view == bytes(10240)


def test_patches_of_the_reference_encoder_make_the_new_image():
    data, digest = based()
    for change in (
        {},
        {"main.py": b"import app  # 2\n"},
        {"app.mpy": FILES["app.mpy"][:600] + b"inserted" + FILES["app.mpy"][600:]},
        {"lib/one.mpy": bytes([b ^ (1 if i % 9 == 0 else 0) for i, b in enumerate(FILES["lib/one.mpy"])])},
        {"lib/new.mpy": b"n" * 2000, "lib/three.mpy": b""},
        {"zz": FILES["app.mpy"], "00": FILES["lib/one.mpy"]},
    ):
        files = dict(FILES)
        files.update(change)
        new = images.image(files)
        encoded = patches.encode(data, new, digest)
        assert patches.decode(data, encoded) == new
        assert applied(encoded, digest, len(new)) == new


def test_an_image_that_has_nothing_of_the_base_and_one_that_is_the_base():
    data, digest = based()
    new = images.image({"x": bytes([i * 11 & 0xFF for i in range(9000)])})
    assert applied(patches.patch(digest, len(new), [(b"", new, 0)]), digest, len(new)) == new
    assert applied(patches.patch(digest, len(data), [(bytes(len(data)), b"", 0)]), digest, len(data)) == data
    # XOR with ones all the way
    flipped = bytes([byte ^ 0xFF for byte in data])
    assert applied(patches.patch(digest, len(data), [(b"\xff" * len(data), b"", 0)]), digest, len(data)) == flipped


def test_runs_of_any_length_and_moves_in_both_directions():
    data, digest = based()
    steps, want, at = [], b"", 0
    for index, length in enumerate((0, 1, 2, 511, 512, 513, 1024, 1500, 0, 7)):
        delta = bytes([(i * index) & 0xFF for i in range(length)])
        target = (index * 1237) % 6000
        steps.append((delta, b"e" * (index * 100), target - at - length))
        want += bytes([delta[i] ^ data[at + i] for i in range(length)]) + b"e" * (index * 100)
        at = target
    encoded = patches.patch(digest, len(want), steps)
    assert applied(encoded, digest, len(want)) == want


def test_copies_up_to_the_last_byte_of_the_base():
    data, digest = based()
    for length in (1, 512, 700):
        steps = [(b"", b"", len(data) - length), (bytes(length), b"", 0)]
        assert applied(patches.patch(digest, length, steps), digest, length) == data[-length:]
    # and a move to its end and to its begin
    steps = [(b"", b"x", len(data)), (b"", b"y", -len(data)), (bytes(3), b"", 0)]
    assert applied(patches.patch(digest, 5, steps), digest, 5) == b"xy" + data[:3]


def test_a_patch_for_another_base_is_refused_before_anything_is_written():
    data, digest = based()
    other = hashlib.sha256(b"another").digest()
    encoded = patches.patch(other, 4, [(b"", b"1234", 0)])
    assert refused(encoded, digest, 4, update.WRONG_BASE) == b""
    # a folder that cannot be read is never looked at then
    os.rename(BASE, "/ram/gone")
    assert refused(encoded, digest, 4, update.WRONG_BASE) == b""


def test_another_length_or_magic_is_refused_before_anything_is_written():
    data, digest = based()
    encoded = patches.patch(digest, 4, [(b"", b"1234", 0)])
    assert refused(encoded, digest, 5, update.PATCH_OUTSIDE) == b""
    assert refused(encoded, digest, 3, update.PATCH_OUTSIDE) == b""
    assert refused(b"SBP2" + encoded[4:], digest, 4, update.BAD_STREAM) == b""


def test_reads_outside_the_base_are_refused():
    data, digest = based()
    end = len(data)
    for steps in (
        [(bytes(end + 1), b"", 0)],
        [(b"", b"", end - 3), (bytes(4), b"", 0)],
        [(b"", b"", end), (bytes(1), b"", 0)],
        [(b"", b"1", end + 1), (b"", b"2", 0)],
        [(b"", b"1", -1), (b"", b"2", 0)],
        [(bytes(10), b"", -11), (b"", b"2", 0)],
        [(bytes(10), b"", end - 9), (b"", b"2", 0)],
        [(b"", b"1", 1 << 31), (b"", b"2", 0)],
        [(b"", b"1", -(1 << 31)), (b"", b"2", 0)],
        [(b"", b"1", (1 << 34) - 1), (b"", b"2", 0)],
    ):
        size = sum([len(delta) + len(extra) for delta, extra, _ in steps])
        size = min(size, 2 * end)
        refused(patches.patch(digest, size, steps), digest, size, update.PATCH_OUTSIDE)


def test_a_last_move_outside_the_base_is_refused_too():
    data, digest = based()
    refused(patches.patch(digest, 1, [(b"", b"1", -1)]), digest, 1, update.PATCH_OUTSIDE)


def test_writes_beyond_the_image_are_refused_before_they_happen():
    data, digest = based()
    for steps in (
        [(b"", b"12345", 0)],
        [(bytes(5), b"", 0)],
        [(bytes(2), b"345", 0)],
        [(bytes(4), b"5", 0)],
        [(b"", b"123", 0), (b"", b"45", 0)],
        [(b"", b"123", 0), (bytes(2), b"", 0)],
    ):
        got = refused(patches.patch(digest, 4, steps), digest, 4, update.PATCH_OUTSIDE)
        assert len(got) <= 4
    head = patches.patch(digest, 4, [])
    for copied, added in ((1 << 34, 0), (0, 1 << 34), ((1 << 35) - 1, (1 << 35) - 1)):
        numbers = patches.number(copied) + patches.number(added) + b"\x00"
        assert refused(head + numbers, digest, 4, update.PATCH_OUTSIDE) == b""


def test_numbers_that_do_not_end_are_refused():
    data, digest = based()
    head = patches.patch(digest, 4, [])
    assert refused(head + b"\x80" * 100, digest, 4, update.PATCH_OUTSIDE) == b""
    assert refused(head + b"\xff" * 5, digest, 4, update.PATCH_OUTSIDE) == b""


def test_a_patch_cut_short_anywhere_is_refused():
    data, digest = based()
    new = images.image({"app.mpy": FILES["app.mpy"][:900] + b"tail", "q": b"new"})
    encoded = patches.encode(data, new, digest)
    for length in list(range(60)) + list(range(60, len(encoded), 97)) + [len(encoded) - 1]:
        got = refused(encoded[:length], digest, len(new), update.BAD_STREAM)
        assert new.startswith(got)


def test_a_base_that_shrank_is_a_failure_of_flash():
    data, digest = based()
    base = patch.Base(BASE)
    with open(BASE + "/app.mpy", "wb") as file:
        file.write(b"short")
    try:
        base.readinto(memoryview(bytearray(1500)))
        raise AssertionError("read")
    except UpdateRefused as error:
        assert error.code == update.FLASH_FAILED
    os.remove(BASE + "/app.mpy")
    encoded = patches.patch(digest, 2000, [(bytes(2000), b"", 0)])
    files = dict(FILES)
    del files["app.mpy"]
    # the base is looked at anew each time: what it holds now is another image, which the digest at the end shows
    assert applied(encoded, digest, 2000) == images.image(files)[:2000]


def test_the_watchdog_is_fed_in_long_copies_and_runs():
    data, digest = based()
    for steps in ([(bytes(9000), b"", 0)], [(b"", b"1" * 9000, 0)], [(b"", b"", 0)] * 16 + [(b"", b"1" * 9000, 0)]):
        fed = []
        patch.apply(Source(patches.patch(digest, 9000, steps)), BASE, digest, 9000, Sink(), lambda: fed.append(1))
        assert len(fed) >= 16


def test_memory_stays_small_whatever_the_patch():
    import gc

    class Null:
        def write(self, data):
            pass

    data, digest = based()
    source = Source(patches.patch(digest, 9000, [(b"\x01" * 9000, b"", 0)]))
    gc.collect()
    peak = before = gc.mem_alloc()

    def fed():
        nonlocal peak
        gc.collect()
        peak = max(peak, gc.mem_alloc())

    patch.apply(source, BASE, digest, 9000, Null(), fed)
    assert peak - before < 6000, peak - before


def test_the_image_of_a_base_is_its_digest():
    data, digest = based()
    assert image.digest(BASE) == digest
