"""Images and patches made on the host by other means (tarfile, bsdiff4, zlib), taken apart by the device's code."""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.release import archive as release_archive
from host_tools.release import patch as release_patch
from sealwire import update
from tests.support import images, patches, slot_board
from tests.support.micropython import Micropython

PROGRAM = """
import os
from sealband.update import patch, stream, unpack
from sealband.update.install import remove
from sealband.update.refused import UpdateRefused
from sealboot import image

class Sink:
    def __init__(self, file):
        self.file = file

    def write(self, data):
        self.file.write(data)

def unpacked(path, size, folder):
    out = unpack.Unpacker(folder)
    try:
        with open(path, "rb") as file:
            reader = stream.Reader(file, size)
            stream.copy(reader, size, out)
            reader.finish()
        out.close()
    except UpdateRefused as error:
        out.abandon()
        return error.code
    return image.digest(folder)

def patched(path, base, base_digest, size, to):
    with open(path, "rb") as file, open(to, "wb") as out:
        reader = stream.Reader(file, 2 * size + 4096)
        try:
            patch.apply(reader, base, base_digest, size, Sink(out))
            reader.finish()
        except UpdateRefused as error:
            return error.code
"""


@pytest.fixture(scope="module")
def device() -> Iterator[Micropython]:
    with Micropython() as micropython:
        micropython.run(PROGRAM)
        yield micropython


def archive(files: dict[str, bytes], **attributes: object) -> bytes:
    """A ustar archive of plain files, by CPython's tarfile; `attributes` of TarInfo are set on each."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            for attribute, value in attributes.items():
                setattr(entry, attribute, value)
            tar.addfile(entry, io.BytesIO(files[name]))
    return out.getvalue()


def unpacked(device: Micropython, data: bytes, where: Path) -> object:
    """The digest of the slot that the device made of this image, or the code of its refusal."""
    (where / "download").write_bytes(release_patch.deflate(data))
    device.run(f"remove({str(where / 'slot')!r})")
    return device.call(f"unpacked({str(where / 'download')!r}, {len(data)}, {str(where / 'slot')!r})")


def on_disk(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_handmade_images_are_what_tarfile_writes() -> None:
    files = {"a": b"", "lib/b.mpy": b"1" * 512, "lib/c/d": b"2" * 9000, "main.py": b"3"}
    assert images.image(files) == archive(files)
    for data in (b"", bytes(5000), bytes(range(256)) * 9, b"\xff" * 700):
        for packed in (images.stored(data), images.squeezed(data)):
            unpacker = zlib.decompressobj(-update.WINDOW_BITS)
            assert unpacker.decompress(packed) == data
            assert unpacker.eof and not unpacker.unused_data


NAMES = st.from_regex(r"\A(?:[a-z0-9_.-]{1,6}/){0,4}[A-Za-z0-9_.-]{1,12}\Z")
FILES = st.dictionaries(NAMES, st.binary(max_size=1500), min_size=1, max_size=12)


def fits(files: dict[str, bytes]) -> bool:
    parts = [name.split("/") for name in files]
    folders = {"/".join(one[:at]) for one in parts for at in range(1, len(one))}
    dots = any(part in (".", "..") for one in parts for part in one)
    boot = any(name == "boot.py" or "sealboot" in name for name in files)
    return not dots and not boot and not folders & set(files)


@settings(max_examples=80, deadline=None)
@given(files=FILES)
def test_any_archive_of_plain_files_becomes_those_files(
    device: Micropython, tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    where = tmp_path_factory.mktemp("slot")
    data = archive(files)
    if fits(files):
        assert unpacked(device, data, where) == hashlib.sha256(data).digest()
        assert on_disk(where / "slot") == files
    else:
        assert unpacked(device, data, where) in (update.PATH_REFUSED, update.ORDER_REFUSED)


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"mode": 0o755}, update.ENTRY_REFUSED),
        ({"mode": 0o4644}, update.ENTRY_REFUSED),
        ({"uid": 1000}, update.ENTRY_REFUSED),
        ({"gid": 1000}, update.ENTRY_REFUSED),
        ({"mtime": 1_700_000_000}, update.ENTRY_REFUSED),
        ({"uname": "root"}, update.ENTRY_REFUSED),
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, update.ENTRY_REFUSED),
        ({"type": tarfile.LNKTYPE, "linkname": "main.py"}, update.ENTRY_REFUSED),
        ({"type": tarfile.DIRTYPE}, update.ENTRY_REFUSED),
        ({"type": tarfile.CHRTYPE}, update.ENTRY_REFUSED),
        ({"type": tarfile.BLKTYPE}, update.ENTRY_REFUSED),
        ({"type": tarfile.FIFOTYPE}, update.ENTRY_REFUSED),
        ({"type": tarfile.CONTTYPE}, update.ENTRY_REFUSED),
        ({"type": tarfile.AREGTYPE}, update.ENTRY_REFUSED),
        ({"name": "/etc/passwd"}, update.PATH_REFUSED),
        ({"name": "../boot.py"}, update.PATH_REFUSED),
        ({"name": "a" * 65}, update.PATH_REFUSED),
        ({"name": "d" * 60 + "/" + "f" * 60}, update.ENTRY_REFUSED),
        ({"name": "ü"}, update.PATH_REFUSED),
    ],
)
def test_archives_of_tarfile_that_are_no_images_are_refused(
    device: Micropython, tmp_path: Path, attributes: dict[str, object], code: int
) -> None:
    assert unpacked(device, archive({"main.py": b""}, **attributes), tmp_path) == code
    assert on_disk(tmp_path / "slot") == {}


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_other_tar_formats_are_refused(device: Micropython, tmp_path: Path, kind: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        entry = tarfile.TarInfo("lib/" + "n" * 120)
        tar.addfile(entry)
    assert unpacked(device, out.getvalue(), tmp_path) == update.ENTRY_REFUSED


def test_streams_with_a_wider_window_are_refused(device: Micropython, tmp_path: Path) -> None:
    noise = b"".join(hashlib.sha256(bytes([i, j])).digest() for i in range(8) for j in range(32))
    data = archive({"a": noise, "b": noise})
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    (tmp_path / "download").write_bytes(packer.compress(data) + packer.flush())
    device.run(f"remove({str(tmp_path / 'slot')!r})")
    got = device.call(f"unpacked({str(tmp_path / 'download')!r}, {len(data)}, {str(tmp_path / 'slot')!r})")
    assert got == update.BAD_STREAM


@settings(max_examples=250, deadline=None)
@given(place=st.integers(0), bit=st.integers(0, 7))
def test_an_image_with_an_error_is_refused_exactly_if_the_host_finds_one(
    device: Micropython, tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    data = bytearray(archive({"a": b"1" * 600, "lib/b.mpy": b"2", "main.py": b""}))
    data[place % 4096] ^= 1 << bit
    got = unpacked(device, bytes(data), tmp_path_factory.mktemp("slot"))
    if release_archive.parse(bytes(data)).ok:
        assert got == hashlib.sha256(data).digest()
    else:
        assert isinstance(got, int), "taken"


# --- patches


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def applied(device: Micropython, where: Path, base: dict[str, bytes], new: bytes, patch: bytes) -> object:
    """The code of the device's refusal of a deflated patch; if there is none, what the patch made."""
    (where / "base").mkdir()
    put(where / "base", base)
    (where / "patch").write_bytes(patch)
    digest = hashlib.sha256(archive(base)).digest()
    names = [str(where / name) for name in ("patch", "base", "out")]
    code = device.call(f"patched({names[0]!r}, {names[1]!r}, {digest!r}, {len(new)}, {names[2]!r})")
    return (where / "out").read_bytes() if code is None else code


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(max_size=40), st.integers(0, 40)), max_size=8)


def changed(files: dict[str, bytes], changes: list[tuple[int, bytes, int]]) -> dict[str, bytes]:
    """Files with pieces replaced: (where, what is put there, how much goes)."""
    made = dict(files)
    for number, (place, more, gone) in enumerate(changes):
        name = sorted(made)[number % len(made)] if made else "new"
        data = made.get(name, b"")
        at = place % (len(data) + 1)
        made[name] = data[:at] + more + data[at + gone :]
    return made


FLAT = st.dictionaries(st.from_regex(r"\A[a-z]{1,3}/[a-z]{1,4}\Z"), st.binary(max_size=3000), max_size=6)


@settings(max_examples=60, deadline=None)
@given(base=FLAT, more=FLAT, changes=CHANGES)
def test_patches_of_bsdiff_and_of_the_reference_encoder_make_the_same_image(
    device: Micropython,
    tmp_path_factory: pytest.TempPathFactory,
    base: dict[str, bytes],
    more: dict[str, bytes],
    changes: list[tuple[int, bytes, int]],
) -> None:
    old, new = archive(base), archive({**changed(base, changes), **more})
    digest = hashlib.sha256(old).digest()
    reference = patches.encode(old, new, digest)
    assert patches.decode(old, reference) == new
    for patch in (release_patch.make(old, new), release_patch.deflate(reference)):
        assert applied(device, tmp_path_factory.mktemp("patch"), base, new, patch) == new


OPERATIONS = st.lists(
    st.tuples(st.binary(max_size=1200), st.binary(max_size=700), st.integers(-12000, 12000)), max_size=6
)


@settings(max_examples=120, deadline=None)
@given(base=FLAT, steps=OPERATIONS)
def test_any_steps_do_what_the_host_does_or_are_refused_by_both(
    device: Micropython,
    tmp_path_factory: pytest.TempPathFactory,
    base: dict[str, bytes],
    steps: list[tuple[bytes, bytes, int]],
) -> None:
    old = archive(base)
    size = sum(len(delta) + len(extra) for delta, extra, _ in steps)
    patch = release_patch.deflate(patches.patch(hashlib.sha256(old).digest(), size, steps))
    got = applied(device, tmp_path_factory.mktemp("patch"), base, bytes(size), patch)
    try:
        assert got == release_patch.apply(old, patch)
    except release_patch.PatchError:
        assert got in (update.PATCH_OUTSIDE, update.BAD_STREAM)


@settings(max_examples=120, deadline=None)
@given(place=st.integers(0), bit=st.integers(0, 7), cut=st.one_of(st.none(), st.integers(0)))
def test_a_patch_with_an_error_does_what_it_does_on_the_host_or_is_refused_by_both(
    device: Micropython, tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, cut: int | None
) -> None:
    base = {"a/b": bytes(range(256)) * 6, "main.py": b"1"}
    old, new = archive(base), archive({"a/b": bytes(range(256)) * 3 + b"new" * 9 + bytes(range(99)), "main.py": b"2"})
    plain = bytearray(patches.encode(old, new, hashlib.sha256(old).digest()))
    plain[40 + place % (len(plain) - 40)] ^= 1 << bit
    patch = release_patch.deflate(bytes(plain[: cut % len(plain) if cut else None]))
    got = applied(device, tmp_path_factory.mktemp("patch"), base, new, patch)
    try:
        assert got == release_patch.apply(old, patch)
    except release_patch.PatchError:
        assert got in (update.PATCH_OUTSIDE, update.BAD_STREAM)


# --- the device's own tree, in the heap of the smallest chip


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> slot_board.SlotBoard:
    return slot_board.make(tmp_path_factory.mktemp("board"))


@pytest.mark.parametrize("patched", [False, True], ids=["full image", "patch"])
def test_manifest_is_verified_and_image_installed_in_64_kib(board: slot_board.SlotBoard, patched: bool) -> None:
    assert len(board.image) >= 100_000
    board.install("64wK", patched)
    assert archive(on_disk(board.root / "slots" / "b")) == board.image
    assert archive(on_disk(board.root / "slots" / "a")) == board.base


def test_a_heap_that_is_much_too_small_is_noticed(board: slot_board.SlotBoard) -> None:
    with pytest.raises(slot_board.InstallFailed, match="MemoryError"):
        board.install("44wK", True)
