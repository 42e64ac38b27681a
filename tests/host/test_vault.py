"""The vault: what it seals stays sealed, and the master key is not taken from where others can read it."""

import base64
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from provisioning.registry.vault import (
    MasterKeyRefused,
    Vault,
    VaultError,
    chain_label,
    create_key_file,
    ticket_label,
)

KEY = bytes(range(32))


def test_a_sealed_value_opens_with_plain_aes_gcm_under_the_derived_key():
    blob = Vault(KEY).wrap(b"secret", b"label")
    key = HKDF(SHA256(), 32, salt=None, info=b"sealband/1 wrap").derive(KEY)
    assert blob[0] == 1
    assert AESGCM(key).decrypt(blob[1:13], blob[13:], b"\x01label") == b"secret"


def test_the_same_value_is_never_sealed_to_the_same_bytes():
    vault = Vault(KEY)
    assert len({vault.wrap(b"secret", b"label") for _ in range(100)}) == 100


def test_every_changed_bit_is_refused():
    vault = Vault(KEY)
    blob = vault.wrap(b"secret", b"label")
    for bit in range(8 * len(blob)):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VaultError):
            vault.unwrap(bytes(changed), b"label")


@pytest.mark.parametrize("length", range(29))
def test_a_cut_value_is_refused(length: int):
    vault = Vault(KEY)
    with pytest.raises(VaultError):
        vault.unwrap(vault.wrap(b"", b"label")[:length], b"label")


def test_the_value_of_another_row_is_refused():
    vault = Vault(KEY)
    blob = vault.wrap(b"key", chain_label(bytes(8), 1))
    assert vault.unwrap(memoryview(blob), chain_label(bytes(8), 1)) == b"key"
    for other in (chain_label(bytes(8), 2), chain_label(b"\x01" + bytes(7), 1), ticket_label(bytes(8))):
        with pytest.raises(VaultError):
            vault.unwrap(blob, other)


def test_another_master_key_and_another_derived_vault_open_nothing():
    blob = Vault(KEY).derived(b"frames").wrap(b"x", b"")
    assert Vault(KEY).derived(b"frames").unwrap(blob, b"") == b"x"
    for other in (Vault(KEY), Vault(KEY).derived(b"else"), Vault(bytes(32)).derived(b"frames")):
        with pytest.raises(VaultError):
            other.unwrap(blob, b"")


def test_the_key_file_is_made_for_its_owner_only_and_never_overwritten(tmp_path: Path):
    path = tmp_path / "key"
    old = os.umask(0)
    try:
        create_key_file(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        create_key_file(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["key"]
    assert len(base64.b64decode(before)) == 32
    blob = Vault.from_settings(path, {}).wrap(b"x", b"")
    assert Vault.from_settings(path, {}).unwrap(blob, b"") == b"x"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610, 0o601])
def test_a_key_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int):
    path = tmp_path / "key"
    create_key_file(path)
    path.chmod(mode)
    with pytest.raises(MasterKeyRefused, match=f"mode {mode:03o}"):
        Vault.from_settings(path, {})


def test_a_key_file_that_is_missing_or_not_a_file_is_refused(tmp_path: Path):
    with pytest.raises(MasterKeyRefused, match="does not exist"):
        Vault.from_settings(tmp_path / "none", {})
    with pytest.raises(MasterKeyRefused):
        Vault.from_settings(tmp_path, {})
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(MasterKeyRefused, match="regular"):
        Vault.from_settings(tmp_path / "pipe", {})
    with pytest.raises(MasterKeyRefused, match="no master key"):
        Vault.from_settings(None, {})


@pytest.mark.parametrize(
    "text", ["", "x", base64.b64encode(bytes(31)).decode(), base64.b64encode(bytes(33)).decode(), "é" * 44, "A" * 300]
)
def test_a_malformed_key_is_refused_and_not_repeated_in_the_message(tmp_path: Path, text: str):
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    for take in (
        lambda: Vault.from_settings(path, {}),
        lambda: Vault.from_settings(None, {"SEALBAND_MASTER_KEY": text}),
    ):
        with pytest.raises(MasterKeyRefused) as refused:
            take()
        assert len(text) < 2 or text not in str(refused.value)


def test_the_key_in_the_environment_takes_the_place_of_the_file(tmp_path: Path):
    environment = {"SEALBAND_MASTER_KEY": base64.b64encode(KEY).decode()}
    blob = Vault.from_settings(tmp_path / "none", environment).wrap(b"x", b"")
    assert Vault(KEY).unwrap(blob, b"") == b"x"


def test_the_vault_does_not_show_its_key():
    vault = Vault(KEY)
    assert KEY.hex() not in repr(vault) and repr(KEY) not in repr(vault)
