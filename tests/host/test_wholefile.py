"""A file is there whole or not at all, nobody else reads it meanwhile, and what was there survives every failure."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning import wholefile


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_file_is_private_whatever_the_umask_and_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"old")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        wholefile.replace(path, b"new")
        wholefile.create(tmp_path / "other", b"1")
    finally:
        os.umask(before)
    assert (mode(path), mode(tmp_path / "other"), path.read_bytes()) == (0o600, 0o600, b"new")
    wholefile.replace(path, (piece for piece in (b"a", b"b")), 0o640)
    assert (mode(path), path.read_bytes()) == (0o640, b"ab")


def test_nothing_is_made_over_a_file_or_a_dangling_link(tmp_path: Path) -> None:
    path, link = tmp_path / "there", tmp_path / "link"
    path.write_bytes(b"old")
    link.symlink_to(tmp_path / "nowhere")
    for name in (path, link):
        with pytest.raises(FileExistsError):
            wholefile.create(name, b"new")
    assert path.read_bytes() == b"old" and sorted(tmp_path.iterdir()) == [link, path]


def test_link_that_lies_in_wait_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "of others").write_bytes(b"old")
    (tmp_path / "label").symlink_to(tmp_path / "of others")
    wholefile.replace(tmp_path / "label", b"secret")
    assert (tmp_path / "of others").read_bytes() == b"old" and not (tmp_path / "label").is_symlink()


@pytest.mark.parametrize("step", ["fsync", "fchmod", "replace", "link"])
def test_failure_at_any_step_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    if step != "link":
        with pytest.raises(OSError, match="No space"):
            wholefile.replace(path, b"new")
    if step != "replace":
        with pytest.raises(OSError, match="No space"):
            wholefile.create(tmp_path / "new", b"new")
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"old"


def test_piece_that_cannot_be_made_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(b"old")

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError):
        wholefile.replace(path, pieces())
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"old"


def test_what_changed_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    path.write_bytes(b"signed by somebody else")

    def check() -> None:
        raise RuntimeError("changed")

    with pytest.raises(RuntimeError):
        wholefile.replace(path, b"mine", check=check)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"signed by somebody else"


def test_folder_that_is_not_there_is_told_by_the_name_that_was_given(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a.svg"
    with pytest.raises(FileNotFoundError) as caught:
        wholefile.replace(path, b"x")
    assert caught.value.filename == str(path)
