"""The station's cache of firmware images: only the bytes that a board's definition names are ever flashed."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

import boards
from boards.sections import FirmwareImage
from host_tools.cli import run
from host_tools.cli import station_firmware as command
from provisioning.station import firmware
from provisioning.station.firmware import Cache, FirmwareMissing

DATA = b"\xe9" + b"firmware" * 1000
IMAGE = FirmwareImage("image.bin", hashlib.sha256(DATA).hexdigest(), 0x1000, "https://firmware.example/image.bin")


@dataclass(frozen=True)
class Board:
    """A board definition with this image."""

    name: str = "TEST_BOARD"
    firmware_image: FirmwareImage | None = IMAGE


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "downloaded"
    path.write_bytes(DATA)
    return path


def test_what_was_added_is_found(tmp_path: Path, source: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.add(Board(), source) == tmp_path / "cache" / "image.bin"
    assert cache.find(Board()).read_bytes() == cache.read(Board()) == DATA
    assert [(entry.file, entry.size) for entry in cache.entries()] == [("image.bin", len(DATA))]


def test_what_is_missing_is_said_with_where_it_is_from_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FirmwareMissing, match="is not in") as caught:
        Cache(tmp_path).read(Board())
    assert "https://firmware.example/image.bin" in caught.value.remedy
    assert "sealband station firmware add --board TEST_BOARD image.bin" in caught.value.remedy


def test_another_file_is_not_added(tmp_path: Path, source: Path) -> None:
    source.write_bytes(DATA + b"\0")
    with pytest.raises(FirmwareMissing, match="has SHA-256"):
        Cache(tmp_path / "cache").add(Board(), source)
    assert not (tmp_path / "cache").exists()


def test_a_file_that_was_exchanged_in_the_cache_is_not_flashed(tmp_path: Path, source: Path) -> None:
    cache = Cache(tmp_path / "cache")
    path = cache.add(Board(), source)
    path.write_bytes(DATA[:-1] + b"!")
    with pytest.raises(FirmwareMissing, match="another file"):
        cache.read(Board())


def test_a_link_in_the_cache_is_not_followed(tmp_path: Path, source: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "image.bin").symlink_to(source)
    with pytest.raises(OSError, match="symbolic"):
        Cache(tmp_path / "cache").read(Board())


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "image.bin")
    with pytest.raises(FirmwareMissing, match="is no file"):
        Cache(tmp_path).read(Board())


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    monkeypatch.setattr(firmware, "IMAGE_MAX", len(DATA) - 1)
    with pytest.raises(FirmwareMissing, match="no image has more"):
        Cache(tmp_path).add(Board(), source)


@pytest.mark.parametrize("name", ["../image.bin", "/etc/passwd", ".hidden", "", "a/b", "a\0b"])
def test_a_name_that_leaves_the_cache_is_refused(tmp_path: Path, source: Path, name: str) -> None:
    board = Board(firmware_image=FirmwareImage(name, hashlib.sha256(DATA).hexdigest(), 0x1000, ""))
    for call in (lambda: Cache(tmp_path).read(board), lambda: Cache(tmp_path).add(board, source)):
        with pytest.raises(FirmwareMissing, match="malformed"):
            call()


def test_a_board_that_names_no_image_is_said(tmp_path: Path) -> None:
    with pytest.raises(FirmwareMissing, match="names no firmware image"):
        Cache(tmp_path).read(Board(firmware_image=None))


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        Cache(tmp_path / "cache").add(Board(), source)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_command_adds_and_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(boards, "load", lambda name: Board(name))
    monkeypatch.setattr(boards, "names", lambda: ["TEST_BOARD"])
    assert command.boards is boards
    here = ["--firmware", str(tmp_path / "cache"), "--json"]
    assert run(["station", "firmware", "list", *here]) == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)] == ["missing"]
    assert run(["station", "firmware", "add", "--board", "TEST_BOARD", str(source), *here]) == 0
    capsys.readouterr()
    (tmp_path / "cache" / "other.bin").write_bytes(b"")
    assert run(["station", "firmware", "list", *here]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["file"], row["state"]) for row in rows] == [("image.bin", "ready"), ("other.bin", "not used")]
    (tmp_path / "cache" / "image.bin").write_bytes(b"")
    assert run(["station", "firmware", "list", *here]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "another file"
    source.write_bytes(b"other")
    assert run(["station", "firmware", "add", "--board", "TEST_BOARD", str(source), *here]) == 1
    assert "download https://firmware.example/image.bin again" in json.loads(capsys.readouterr().err)["remedy"]
