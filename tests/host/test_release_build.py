"""From source to a release's folder: whole or not at all, the same bytes each time, nothing that devices refuse."""

import hashlib
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import boards
from host_tools.release import archive, build, manifest, sign
from host_tools.release.build import BuildRefused, Order, build_app, build_firmware, last_sequence
from host_tools.release.bundle import CompileFailed, ImageRefused
from host_tools.release.espimage import FirmwareRefused, check
from host_tools.release.manifest import ManifestError
from host_tools.release.tree import FolderRefused
from tests.support import firmware_image, signed_release
from tests.support.micropython import ROOT

BOARD = boards.load("VIRTUAL")
LOCK = ROOT / "requirements.lock"
SIZE = 0x180000


def device(folder: Path, **more: str) -> Path:
    files = {"boot.py": "", "main.py": "import app\n", "app.py": "VERSION = 1\n", "lib/sealboot/__init__.py": ""}
    for name, text in (files | more).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def order(out: Path, **changed: Any) -> Order:
    return Order(**{"board": BOARD, "sequence": 7, "version": "1.2.0", "out": out, "lock": LOCK, **changed})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_folder_holds_image_manifest_sbom_and_description_that_agree(tmp_path: Path) -> None:
    built = build_app(order(tmp_path / "out"), device(tmp_path / "device"))
    files = contents(tmp_path / "out")
    assert list(files) == ["app.tar", "manifest.suit", "release.json", "sbom.cdx.json"]
    parsed = manifest.decode(files["manifest.suit"])
    image = files["app.tar"]
    release = parsed.release
    assert (release.component, release.sequence, release.size) == (b"app", 7, len(image))
    assert release.digest == hashlib.sha256(image).digest()
    assert (release.vendor, release.class_id) == manifest.identifiers(BOARD.vendor, BOARD.model)
    assert release.uri == f"{release.digest.hex()}/full.deflate"
    assert release.text == manifest.Text("sealband.example", "virtual-wearable", "1.2.0")
    assert parsed.signatures == ()
    assert (built.release, built.manifest_digest) == (release, parsed.manifest_digest)
    assert [entry.name for entry in archive.parse(image).entries] == ["app.mpy", "board.mpy", "main.py"]
    described = json.loads(files["release.json"])
    assert {**described, "files": len(described["files"])} == {
        "format": 1,
        "vendor": "sealband.example",
        "model": "virtual-wearable",
        "version": "1.2.0",
        "component": "app",
        "sequence": 7,
        "digest": release.digest.hex(),
        "size": len(image),
        "manifest": parsed.manifest_digest.hex(),
        "files": 3,
    }
    bom = json.loads(files["sbom.cdx.json"])
    named = {item["name"]: item["hashes"][0]["content"] for item in bom["components"] if item["type"] == "file"}
    assert named == {item["name"]: item["sha256"] for item in described["files"]}
    assert "mpy-cross emitting mpy v6" in files["sbom.cdx.json"].decode()


def test_what_is_built_can_be_signed(tmp_path: Path) -> None:
    build_app(order(tmp_path / "out"), device(tmp_path / "device"))
    candidate = sign.open_release(tmp_path / "out")
    assert candidate.text.version == "1.2.0"
    (signer,) = signed_release.make_signers(1)
    assert len(manifest.decode(sign.sign(candidate, signer)).signatures) == 1


def test_release_is_the_same_bytes_in_another_folder_at_another_time(tmp_path: Path) -> None:
    build_app(order(tmp_path / "one"), device(tmp_path / "device"))
    other = device(tmp_path / "deep" / "er" / "code")
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
    mask = os.umask(0o077)
    try:
        build_app(order(tmp_path / "deep" / "two"), other)
    finally:
        os.umask(mask)
    assert contents(tmp_path / "one") == contents(tmp_path / "deep" / "two")
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o777 & ~mask
    assert (tmp_path / "deep" / "two").stat().st_mode & 0o777 == 0o700


def test_time_is_in_the_sbom_only_if_it_was_given(tmp_path: Path) -> None:
    code = device(tmp_path / "device")
    build_app(order(tmp_path / "one"), code)
    build_app(order(tmp_path / "two", timestamp=datetime(2026, 1, 2, tzinfo=UTC)), code)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert [name for name in one if one[name] != two[name]] == ["sbom.cdx.json"]


def test_other_application_takes_the_place_of_the_folders(tmp_path: Path) -> None:
    code = device(tmp_path / "device")
    (tmp_path / "mine.py").write_text("VERSION = 2\n")
    one = build_app(order(tmp_path / "one"), code)
    two = build_app(order(tmp_path / "two"), code, tmp_path / "mine.py")
    differing = [a.name for a, b in zip(one.entries, two.entries, strict=True) if a != b]
    assert differing == ["app.mpy"]


def test_folder_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FolderRefused, match="already"):
        build_app(order(tmp_path / "out"), device(tmp_path / "device"))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ({"app.py": "def (:\n"}, CompileFailed),
        ({"app.py": f"import {'x' * 60}\n", f"lib/{'x' * 60}.py": ""}, ImageRefused),
        ({"app.py": "'m.'\n"} | {f"lib/m/x{number}.py": "" for number in range(200)}, ImageRefused),
    ],
)
def test_failed_build_leaves_nothing_behind(tmp_path: Path, broken: dict[str, str], error: type[Exception]) -> None:
    code = device(tmp_path / "device", **broken)
    with pytest.raises(error):
        build_app(order(tmp_path / "out"), code)
    assert [path.name for path in tmp_path.iterdir()] == ["device"]


def test_disk_that_is_full_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, files: dict[str, bytes]) -> None:
        (folder / "app.tar").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build.tree, "write", full)
    with pytest.raises(OSError, match="No space"):
        build_app(order(tmp_path / "out"), device(tmp_path / "device"))
    assert [path.name for path in tmp_path.iterdir()] == ["device"]


def test_folder_without_device_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildRefused, match=r"main\.py is not there"):
        build_app(order(tmp_path / "out"), tmp_path)


def test_text_that_a_terminal_would_obey_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="printable"):
        build_app(order(tmp_path / "out", version="1.0\x1b[2J"), device(tmp_path / "device"))
    assert not (tmp_path / "out").exists()


# room


def test_release_without_room_for_two_is_refused(tmp_path: Path) -> None:
    code = device(
        tmp_path / "device",
        **{f"lib/m/m{number}.py": f"X = {'x' * 300!r}\n" for number in range(90)},
        **{"app.py": "'m.'\n"},
    )
    with pytest.raises(BuildRefused, match="blocks of 4 KiB") as caught:
        build_app(order(tmp_path / "out"), code)
    assert "4 KiB of flash" in caught.value.remedy


def test_release_whose_download_has_no_room_is_refused(tmp_path: Path) -> None:
    noise = b"".join(hashlib.sha256(bytes([n, m])).digest() for n in range(80) for m in range(70))
    code = device(tmp_path / "device", **{"app.py": f"X = {noise!r}\n"})
    with pytest.raises(BuildRefused, match="download has"):
        build_app(order(tmp_path / "out"), code)


# sequences


def test_sequence_that_is_missing_is_refused_with_the_one_to_take(tmp_path: Path) -> None:
    code = device(tmp_path / "device")
    with pytest.raises(BuildRefused, match="no sequence") as caught:
        build_app(order(tmp_path / "two", sequence=None), code)
    assert "--sequence" in caught.value.remedy
    build_app(order(tmp_path / "out" / "one"), code)
    with pytest.raises(BuildRefused, match="no sequence") as caught:
        build_app(order(tmp_path / "two", sequence=None, previous=tmp_path / "out"), code)
    assert caught.value.remedy == "say --sequence 8"


@pytest.mark.parametrize("sequence", [1, 6, 7])
def test_sequence_that_is_not_above_the_last_one_is_refused(tmp_path: Path, sequence: int) -> None:
    code = device(tmp_path / "device")
    build_app(order(tmp_path / "releases" / "one"), code)
    for previous in (tmp_path / "releases" / "one", tmp_path / "releases", tmp_path):
        with pytest.raises(BuildRefused, match="not above the last one of virtual-wearable, 7") as caught:
            build_app(order(tmp_path / "two", sequence=sequence, previous=previous), code)
        assert caught.value.remedy == "say --sequence 8"
    build_app(order(tmp_path / "two", sequence=8, previous=tmp_path / "releases"), code)


def test_releases_of_other_models_do_not_count(tmp_path: Path) -> None:
    build_app(order(tmp_path / "releases" / "one"), device(tmp_path / "device"))
    assert last_sequence(tmp_path / "releases", boards.load("LILYGO_T_BEAM")) == 0
    assert last_sequence(tmp_path / "releases", BOARD) == 7


def test_previous_folder_that_is_not_there_or_damaged_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        last_sequence(tmp_path / "nothing", BOARD)
    (tmp_path / ".one-killed").mkdir()
    (tmp_path / ".one-killed" / "manifest.suit").write_bytes(b"half")
    assert last_sequence(tmp_path, BOARD) == 0
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "manifest.suit").write_bytes(b"damaged")
    with pytest.raises(ManifestError):
        last_sequence(tmp_path, BOARD)


# firmware


def test_firmware_becomes_a_release_of_its_own_component(tmp_path: Path) -> None:
    image = firmware_image.make(b"interpreter" * 1000, segments=3)
    (tmp_path / "fw").write_bytes(image)
    build_firmware(order(tmp_path / "out"), tmp_path / "fw")
    files = contents(tmp_path / "out")
    assert list(files) == ["fw.bin", "manifest.suit", "release.json", "sbom.cdx.json"]
    assert files["fw.bin"] == image
    release = manifest.decode(files["manifest.suit"]).release
    assert (release.component, release.digest) == (b"fw", hashlib.sha256(image).digest())
    assert json.loads(files["release.json"])["files"] == []
    listed = [item for item in json.loads(files["sbom.cdx.json"])["components"] if item["type"] == "file"]
    assert [(item["name"], item["hashes"][0]["content"]) for item in listed] == [("fw.bin", release.digest.hex())]


GOOD = firmware_image.make(b"code" * 100, segments=2)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "does not begin with E9"),
        (b"\xe8" + GOOD[1:], "does not begin with E9"),
        (b"\xe9", "cut short"),
        (GOOD[:100], "cut short"),
        (GOOD[:-1], "cut short"),
        (GOOD[:600] + b"\x00" + GOOD[601:], "checksum is wrong"),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "SHA-256 is wrong"),
        (GOOD[:1] + b"\x00" + GOOD[2:], "0 segments"),
        (GOOD[:1] + b"\x11" + GOOD[2:], "17 segments"),
        (firmware_image.make(chip=firmware_image.ESP32_S3), "is for chip 9"),
        # MicroPython's file for the whole flash begins with the boot loader, which is an image too
        (GOOD + bytes(0x7000) + GOOD, "may be the one for the whole flash"),
        (firmware_image.make(bytes(SIZE)), "its partition"),
    ],
)
def test_file_that_the_chip_would_not_start_is_refused(tmp_path: Path, image: bytes, reason: str) -> None:
    (tmp_path / "fw").write_bytes(image)
    with pytest.raises(FirmwareRefused, match=reason):
        build_firmware(order(tmp_path / "out"), tmp_path / "fw")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("hashed", [True, False])
def test_image_of_every_length_is_taken(hashed: bool) -> None:
    for length in range(0, 64, 4):
        check(firmware_image.make(bytes(range(length)), hashed=hashed), "esp32", SIZE)
    check(firmware_image.make(chip=firmware_image.ESP32_S3), "esp32s3", SIZE)


def test_every_flipped_byte_of_a_firmware_image_is_noticed() -> None:
    for index in range(len(GOOD)):
        flipped = bytearray(GOOD)
        flipped[index] ^= 0x41
        with pytest.raises(FirmwareRefused):
            check(bytes(flipped), "esp32", SIZE)


def test_lock_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        build_app(order(tmp_path / "out", lock=tmp_path / "nothing"), device(tmp_path / "device"))
    assert not (tmp_path / "out").exists()


def test_device_tree_of_this_source_is_built_for_every_board(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "device", tmp_path / "device")
    for name in boards.names():
        built = build_app(order(tmp_path / name, board=boards.load(name)), tmp_path / "device")
        assert built.delivered < built.release.size
