"""The NVS store apart from the board."""

import os
import stat
from pathlib import Path

import pytest

from host_tools.sim.nvs import Nvs, NvsError


def test_only_what_was_committed_is_kept(tmp_path: Path) -> None:
    nvs = Nvs(tmp_path / "nvs.json")
    nvs.set("a", "k", 1)
    nvs.commit()
    nvs.set("a", "k", 2)
    nvs.set("b", "blob", b"\0\xff")
    assert nvs.get("a", "k", int) == 2
    nvs.forget()
    assert nvs.get("a", "k", int) == 1
    with pytest.raises(NvsError, match="NOT_FOUND"):
        Nvs(tmp_path / "nvs.json").get("b", "blob", bytes)
    nvs.set("b", "blob", b"\0\xff")
    nvs.commit()
    assert Nvs(tmp_path / "nvs.json").get("b", "blob", bytes) == b"\0\xff"


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    nvs = Nvs(tmp_path / "nvs.json")
    nvs.set("a", "k", b"key")
    nvs.commit()
    assert stat.S_IMODE(os.stat(tmp_path / "nvs.json").st_mode) == 0o600


def test_full_partition_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    # six pages of 4 KiB, one of them free: 5 * 126 entries of 32 bytes, two more for each blob (esp-idf, "NVS")
    nvs = Nvs(tmp_path / "nvs.json", 0x6000)
    for number in range(5):
        nvs.set("a", f"k{number}", bytes(100 * 32))
    nvs.set("a", "k5", bytes((630 - 5 * 102 - 2) * 32))
    for more in (1, bytes(1)):
        with pytest.raises(NvsError, match="NOT_ENOUGH_SPACE"):
            nvs.set("a", "more", more)
    nvs.erase("a", "k0")
    nvs.set("a", "more", 1)
    assert nvs.get("a", "k1", bytes) == bytes(3200)
