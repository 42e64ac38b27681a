"""Patches and their delivery: any pair of images, applied by the host and by the device; hostile ones are refused."""

import hashlib
import io
import random
import shutil
import struct
import tarfile
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import boards
from host_tools.release.bundle import app_image, compile_tree
from host_tools.release.patch import (
    SECTION,
    PatchError,
    apply,
    deflate,
    deflate_sections,
    inflate,
    inflate_sections,
    make,
)
from sealwire.update import BLOCK_LEN, PATCH_HEAD, PATCH_MAGIC, WINDOW_BITS
from tests.support import patches
from tests.support.micropython import ROOT, Micropython

# as the updater does it: the file inflated with a bounded window, the base a folder of files
DEVICE = """
import hashlib
from sealband.update import patch, stream
def applied(path, folder, digest, size):
    sha = hashlib.sha256()
    class Out:
        def write(self, data):
            sha.update(data)
    with open(path, 'rb') as file:
        reader = stream.Reader(file, 2 * size + 4096)
        patch.apply(reader, folder, digest, size, Out())
        reader.finish()
    return sha.digest()
def inflated(path, size):
    sha = hashlib.sha256()
    class Out:
        def write(self, data):
            sha.update(data)
    with open(path, 'rb') as file:
        reader = stream.Reader(file, size)
        stream.copy(reader, size, Out())
        reader.finish()
    return sha.digest()
"""


def edited(base: bytes, seed: int) -> bytes:
    """The base as a later version has it: pieces moved, changed, added and taken out."""
    wild = random.Random(seed)
    new = bytearray(base)
    for _ in range(wild.randint(0, 12)):
        at = wild.randint(0, len(new))
        kind = wild.choice("aird")
        if kind == "a":
            new[at:at] = wild.randbytes(wild.randint(1, 90))
        elif kind == "i":
            new[at : at + 3] = wild.randbytes(3)
        elif kind == "r":
            new[at:at] = new[: wild.randint(0, 400)]
        else:
            del new[at : at + wild.randint(1, 120)]
    return bytes(new)


@given(base=st.binary(max_size=400), image=st.binary(max_size=400))
def test_any_pair_of_images_comes_back(base: bytes, image: bytes) -> None:
    assert apply(base, make(base, image)) == image


@given(base=st.binary(min_size=1, max_size=2000), seed=st.integers(0, 1 << 30))
def test_later_version_comes_back_also_with_a_decoder_that_knows_nothing_of_ours(base: bytes, seed: int) -> None:
    image = edited(base * 3, seed)
    patch = make(base * 3, image)
    assert apply(base * 3, patch) == image
    plain = zlib.decompress(patch, wbits=-WINDOW_BITS)
    assert plain[:40] == struct.pack(PATCH_HEAD, PATCH_MAGIC, hashlib.sha256(base * 3).digest(), len(image))
    assert patches.decode(base * 3, plain) == image


@given(data=st.binary(max_size=300), times=st.integers(0, 1500))
def test_firmware_comes_back_from_its_sections(data: bytes, times: int) -> None:
    whole = data * times
    delivered = deflate_sections(whole)
    assert inflate_sections(delivered, len(whole)) == whole
    # each section is a stream that knows nothing of those before
    found, rest = [], delivered
    while rest:
        one = zlib.decompressobj(-WINDOW_BITS)
        found.append(one.decompress(rest))
        rest = one.unused_data
    assert found == [whole[at : at + SECTION] for at in range(0, len(whole), SECTION)]


def test_sections_of_other_lengths_are_taken_and_halves_of_blocks_are_not() -> None:
    data = random.Random(4).randbytes(3 * BLOCK_LEN + 7)
    for lengths in ((len(data),), (BLOCK_LEN, 2 * BLOCK_LEN, 7), (3 * BLOCK_LEN, 7)):
        assert inflate_sections(_streams(data, lengths), len(data)) == data
    for lengths in ((BLOCK_LEN - 1, 1 + 2 * BLOCK_LEN + 7), (7, 3 * BLOCK_LEN), (BLOCK_LEN, 0, 2 * BLOCK_LEN + 7)):
        with pytest.raises(PatchError, match=r"middle of a block|empty"):
            inflate_sections(_streams(data, lengths), len(data))


def test_broken_sections_are_refused() -> None:
    data = random.Random(4).randbytes(2 * BLOCK_LEN)
    delivered = _streams(data, (BLOCK_LEN, BLOCK_LEN))
    with pytest.raises(PatchError, match="more than"):
        inflate_sections(delivered, len(data) - 1)
    with pytest.raises(PatchError, match="cut short"):
        inflate_sections(delivered[:-1], len(data))
    with pytest.raises(PatchError, match="no deflate stream"):
        inflate_sections(delivered + b"\xff", len(data))


def _streams(data: bytes, lengths: tuple[int, ...]) -> bytes:
    out = []
    for length in lengths:
        out.append(deflate(data[:length]))
        data = data[length:]
    return b"".join(out)


@given(base=st.binary(max_size=600), image=st.binary(min_size=1, max_size=600))
def test_patch_of_another_encoder_is_applied(base: bytes, image: bytes) -> None:
    patch = deflate(patches.encode(base, image, hashlib.sha256(base).digest()))
    assert apply(base, patch) == image


@given(data=st.binary(max_size=5000))
def test_deflate_comes_back_through_a_window_of_1_kib(data: bytes) -> None:
    assert inflate(deflate(data * 3), 3 * len(data)) == data * 3
    assert zlib.decompress(deflate(data), wbits=-WINDOW_BITS) == data


def test_patch_is_the_same_bytes_each_time() -> None:
    base = random.Random(1).randbytes(5000)
    assert make(base, edited(base, 2)) == make(base, edited(base, 2))


def test_patch_between_like_images_is_small() -> None:
    base = random.Random(1).randbytes(50_000)
    image = base[:20_000] + b"new" * 10 + base[20_100:]
    assert len(make(base, image)) < len(deflate(image)) // 50


def test_device_applies_patch_and_full_image(tmp_path: Path) -> None:
    # the device's own tree, and a later version of it
    compile_tree(ROOT / "device", tmp_path / "tree", boards.load("LILYGO_T_BEAM"))
    base = app_image(tmp_path / "tree")
    with tarfile.open(fileobj=io.BytesIO(base)) as tar:
        tar.extractall(tmp_path / "slot", filter="data")
    for seed, path in enumerate(sorted((tmp_path / "tree").rglob("*.mpy"))[::5]):
        path.write_bytes(edited(path.read_bytes(), seed))
    (tmp_path / "tree" / "lib" / "sealband" / "log.mpy").rename(tmp_path / "tree" / "lib" / "logged.mpy")
    image = app_image(tmp_path / "tree")
    (tmp_path / "patch").write_bytes(make(base, image))
    (tmp_path / "full").write_bytes(deflate(image))
    with Micropython(heap="64wK") as device:
        device.run(DEVICE)
        base_digest, digest = hashlib.sha256(base).digest(), hashlib.sha256(image).digest()
        folder, size = str(tmp_path / "slot"), len(image)
        assert device.call(f"applied({str(tmp_path / 'patch')!r}, {folder!r}, {base_digest!r}, {size})") == digest
        assert device.call(f"inflated({str(tmp_path / 'full')!r}, {size})") == digest
    assert len(make(base, image)) < len(deflate(image)) / 2


# what a commit does: a function more, a constant of another value, a module renamed
CHANGES = [
    (
        "lib/sealband/node.py",
        "\n\ndef added(node, limit=7):\n    return [x for x in node.outbox.keys() if x[0] < limit]\n",
    ),
    ("lib/sealband/sampler.py", "\nLIMIT = 4711\n"),
    ("lib/sealband/crypto/p256.py", "\n\ndef twice(number):\n    return number * 2\n"),
]


def test_patch_of_a_small_change_is_at_most_15_percent_of_the_full_image(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "device", tmp_path / "device", ignore=shutil.ignore_patterns("__pycache__"))
    versions = []
    for number in range(len(CHANGES) + 1):
        compile_tree(tmp_path / "device", tmp_path / "tree", boards.load("LILYGO_T_BEAM"))
        versions.append(app_image(tmp_path / "tree"))
        if number < len(CHANGES):
            name, more = CHANGES[number]
            with open(tmp_path / "device" / name, "a") as file:
                file.write(more)
    for base, image in [*pairwise(versions), (versions[0], versions[-1])]:
        assert base != image
        assert len(make(base, image)) <= 0.15 * len(deflate(image))


BASE = bytes(range(256)) * 4
DIGEST = hashlib.sha256(BASE).digest()


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (b"", "too short"),
        (patches.patch(DIGEST, 4, [(b"", b"abcd", 0)], magic=b"SBP2"), "no patch"),
        (patches.patch(bytes(32), 4, [(b"", b"abcd", 0)]), "another base"),
        (patches.patch(DIGEST, 4, [(b"", b"abcde", 0)]), "outside the image"),
        (patches.patch(DIGEST, 2000, [(bytes(1025), b"", 0)]), "outside the base"),
        (patches.patch(DIGEST, 8, [(bytes(4), b"", -5), (bytes(4), b"", 0)]), "moves outside"),
        (patches.patch(DIGEST, 8, [(bytes(4), b"", 1021), (bytes(4), b"", 0)]), "moves outside"),
        (patches.patch(DIGEST, 4, [(b"", b"abcd", -1)]), "moves outside"),
        (patches.patch(DIGEST, 8, [(b"", b"abcd", 0)]), "does not end"),
        (patches.patch(DIGEST, 8, [(b"", b"abcd", 0)]) + b"\x04\x00\x00\x01", "cut short"),
        (patches.patch(DIGEST, 4, [(b"", b"abcd", 0)]) + b"\x00", "follows"),
        (patches.patch(DIGEST, 4, []) + b"\xff" * 9, "does not end"),
    ],
)
def test_patch_that_leads_elsewhere_is_refused(plain: bytes, reason: str) -> None:
    with pytest.raises(PatchError, match=reason):
        apply(BASE, deflate(plain))


def test_stream_that_is_cut_followed_or_endless_is_refused() -> None:
    data = deflate(b"x" * 1000)
    with pytest.raises(PatchError, match="cut short"):
        inflate(data[:-1], 1000)
    with pytest.raises(PatchError, match="follows"):
        inflate(data + b"\x00", 1000)
    with pytest.raises(PatchError, match="more than 999"):
        inflate(data, 999)
    with pytest.raises(PatchError, match="no deflate"):
        inflate(b"\xff\xff", 1000)


@given(patch=st.binary(max_size=200))
def test_any_bytes_are_refused_or_applied(patch: bytes) -> None:
    for data in (patch, deflate(struct.pack(PATCH_HEAD, PATCH_MAGIC, DIGEST, 300) + patch)):
        try:
            apply(BASE, data)
        except PatchError:
            continue
