"""A release's modules in one file: what a board imports from it, what people see in it, and what is none."""

import hashlib
from pathlib import Path
from zlib import crc32

import pytest

import boards
from host_tools.release import archive, pack
from host_tools.release.bundle import app_image, compile_tree
from host_tools.release.pack import PackRefused, contents, encode, parse
from host_tools.release.room import tree_blocks
from tests.support.micropython import ROOT, Micropython

MODULES = {"app.mpy": b"M\x06a", "sealband/__init__.mpy": b"M\x06b", "sealband/links/lora.mpy": b"M\x06cc"}

HIDING = (
    "\x1b[1A\x1b[2Ka.mpy",
    "a\rb.mpy",
    "../app.mpy",
    "a/../app.mpy",
    "a/./b.mpy",
    "a//b.mpy",
    "/app.mpy",
    "",
    "app",
    "app.py",
    "app.mpy ",
    "sealboot/slots.mpy",
    "x" * 61 + ".mpy",
)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The shipped application as plain files, and packed."""
    folders = []
    for name in ("plain", "packed"):
        folders.append(tmp_path_factory.mktemp(name) / "tree")
        compile_tree(ROOT / "device", folders[-1], boards.load("VIRTUAL"))
    pack.pack(folders[1])
    return folders[0], folders[1]


def test_packed_release_has_the_same_modules_in_a_third_of_the_flash(trees: tuple[Path, Path]) -> None:
    plain, packed = (archive.parse(app_image(tree)).entries for tree in trees)
    assert [entry.name for entry in packed] == ["main.py", "modules", "pack.mpy"]
    by_name = {entry.name.removeprefix("lib/"): entry.sha256 for entry in plain}
    found = {entry.name.removeprefix("modules/"): entry.sha256 for entry in contents(app_image(trees[1]))}
    assert found == by_name
    blocks = [tree_blocks((entry.name, entry.size) for entry in entries) for entries in (plain, packed)]
    assert blocks[1] < 0.45 * blocks[0]


def test_board_imports_every_module_from_the_pack(trees: tuple[Path, Path]) -> None:
    with Micropython(heap="4m") as device:
        device.run(f"import sys; sys.path[:] = [{str(trees[1])!r}, {str(trees[1] / 'lib')!r}, '.frozen']")
        device.run("import pack")
        device.run("import pack")  # asked for again, as the station does
        for name in ("sealwire.frame", "sealband.crypto.p256", "sealband.update.patch", "sealband.batch", "board"):
            device.run(f"import {name}")
            assert device.call(f"{name}.__file__") == f"/m/{name.replace('.', '/')}.mpy"
        device.run("from sealband.crypto import cbor")
        assert device.call("cbor.encode([1, None])") == bytes.fromhex("8201f6")
        device.run("try:\n import sealband.nothing\n found = 1\nexcept ImportError:\n found = 0")
        assert device.call("found") == 0


def test_folder_without_a_pack_is_left_as_it_is(trees: tuple[Path, Path]) -> None:
    with Micropython() as device:
        device.run(f"import sys; sys.path[:] = [{str(trees[0])!r}, {str(trees[0] / 'lib')!r}, '.frozen']")
        device.run("import pack\nimport sealwire.keys")
        assert device.call("sealwire.keys.__file__").startswith(str(trees[0]))


@pytest.mark.parametrize("damage", [b"", b"SBM2", b"SBM1\0\x02"])
def test_damaged_pack_is_no_file_system(tmp_path: Path, trees: tuple[Path, Path], damage: bytes) -> None:
    (tmp_path / "pack.mpy").write_bytes((trees[1] / "pack.mpy").read_bytes())
    (tmp_path / "modules").write_bytes(damage)
    with Micropython() as device:
        device.run(f"import sys; sys.path[:] = [{str(tmp_path)!r}, '.frozen']")
        device.run(
            "try:\n import pack\n import app\n found = 'imported'\nexcept (OSError, ImportError):\n found = 'none'"
        )
        assert device.call("found") == "none"


def test_pack_says_what_is_in_it() -> None:
    found = parse(encode(MODULES))
    assert [(entry.name, entry.size) for entry in found] == [(f"modules/{n}", len(d)) for n, d in MODULES.items()]
    assert [entry.sha256 for entry in found] == [hashlib.sha256(data).digest() for data in MODULES.values()]


def test_every_changed_byte_is_refused_or_shows_in_what_is_listed() -> None:
    data = encode(MODULES)
    listed = parse(data)
    refused = 0
    for at in range(len(data)):
        try:
            assert parse(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) != listed
        except PackRefused:
            refused += 1
    # what passes is a module's content, or where one ends and the next begins
    assert refused >= len(data) - sum(map(len, MODULES.values())) - 2
    for length in range(len(data)):
        with pytest.raises(PackRefused):
            parse(data[:length])


def test_names_that_the_device_cannot_tell_apart_are_refused() -> None:
    # found by search
    one, other = "m32060020.mpy", "m29685295.mpy"
    assert crc32(f"/{one}".encode()) == crc32(f"/{other}".encode())
    with pytest.raises(PackRefused, match="one CRC-32"):
        encode({one: b"1", other: b"2"})


@pytest.mark.parametrize("name", HIDING)
def test_name_that_would_hide_a_module_from_who_signs_is_refused(name: str) -> None:
    """By control characters, or since an import asks for another path than the one that is shown."""
    with pytest.raises(PackRefused):
        encode({**MODULES, name: b"M\x06d"})
    forged = encode({**MODULES, "evil.mpy": b"M\x06d"})
    # written by somebody else, with index and names that agree
    names = sorted(["sealband/", "sealband/links/", *MODULES, "evil.mpy"])
    at = names.index("evil.mpy")
    key = crc32(f"/{name.removesuffix('/')}".encode()).to_bytes(4, "big")
    index = 6 + 8 * at
    begin = len(forged) - 4 - int.from_bytes(forged[-4:], "big")
    listed = forged[begin:-4].replace(b"evil.mpy", name.encode())
    forged = forged[:index] + key + forged[index + 4 : begin] + listed + len(listed).to_bytes(4, "big")
    with pytest.raises(PackRefused):
        parse(forged)


def test_module_in_the_root_and_in_lib_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for name in ("pack.mpy", "x.mpy", "lib/x.mpy"):
        (tmp_path / name).write_bytes(b"M\x06")
    with pytest.raises(PackRefused, match="in the root and in lib"):
        pack.pack(tmp_path)
