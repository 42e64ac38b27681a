"""Master keys by URI: what wraps a data key opens it again, nothing else does, and no key leaves its token."""

import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from provisioning.registry import masters
from provisioning.registry.vault import MasterKeyRefused, VaultError
from provisioning.signers import SignerError
from tests.support import softhsm

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
DATA_KEY = bytes(range(100, 132))
TEXT = base64.b64encode(KEY).decode()
on_a_token = softhsm.needs_softhsm()


def derived(key: bytes, label: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=label).derive(key)


def key_file(folder: Path, key: bytes = KEY) -> Path:
    path = folder / f"{key[0]}.key"
    path.touch(mode=0o600)
    path.write_bytes(base64.b64encode(key))
    return path


def test_wrapped_data_key_opens_with_plain_aes_gcm_under_the_derived_key():
    wrapped = masters.KeyMaster(KEY).wrap(DATA_KEY)
    cipher = AESGCM(derived(derived(KEY, b"sealband/1 vault data key"), b"sealband/1 wrap"))
    assert cipher.decrypt(wrapped[1:13], wrapped[13:], b"\x01sealband/1 data key") == DATA_KEY


def test_data_key_opens_under_no_other_master_key_and_not_when_changed():
    wrapped = masters.KeyMaster(KEY).wrap(DATA_KEY)
    assert masters.KeyMaster(KEY).unwrap(wrapped) == DATA_KEY
    with pytest.raises(VaultError):
        masters.KeyMaster(OTHER).unwrap(wrapped)
    with pytest.raises(VaultError):
        masters.KeyMaster(KEY).unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]))


def test_the_same_key_has_one_name_wherever_it_lies(tmp_path: Path):
    path = key_file(tmp_path)
    environment = {"SEALBAND_MASTER_KEY": TEXT, "ELSE": TEXT}
    opened = [
        masters.open_master(name, variables)
        for name, variables in (
            (path, {}),
            (str(path), {}),
            (f"file:{path}", {}),
            (f"file://{path}", {}),
            ("env:", environment),
            ("env:ELSE", environment),
            (None, environment),
            ("/none", environment),  # the variable takes the place of a path, as it always did
        )
    ]
    assert len({master.name for master in opened}) == 1
    assert all(master.unwrap(opened[0].wrap(DATA_KEY)) == DATA_KEY for master in opened)
    assert masters.open_master(key_file(tmp_path, OTHER), {}).name != opened[0].name
    assert TEXT not in opened[0].name
    assert KEY.hex() not in opened[0].name


def test_file_uri_means_the_file_even_where_the_environment_holds_a_key(tmp_path: Path):
    path = key_file(tmp_path, OTHER)
    assert masters.open_master(f"file:{path}", {"SEALBAND_MASTER_KEY": TEXT}).name == masters.KeyMaster(OTHER).name


@pytest.mark.parametrize(
    "name", [None, "file:", "file:///none", "/none", "env:NONE", "env:SHORT", "pkcs12:x"], ids=lambda name: str(name)
)
def test_master_key_that_is_not_there_is_refused_with_a_remedy(name: str | None):
    with pytest.raises(MasterKeyRefused) as error:
        masters.open_master(name, {"SHORT": "c2hvcnQ="})
    assert error.value.remedy
    assert "c2hvcnQ" not in str(error.value)


def test_key_file_that_others_can_read_is_refused(tmp_path: Path):
    path = key_file(tmp_path)
    path.chmod(0o640)
    with pytest.raises(MasterKeyRefused, match="others can read"):
        masters.open_master(f"file:{path}", {})


def test_new_key_file_has_mode_600_and_replaces_none(tmp_path: Path):
    uri = f"file:{tmp_path / 'new.key'}"
    masters.create_master(uri)
    assert stat.S_IMODE((tmp_path / "new.key").stat().st_mode) == 0o600
    name = masters.open_master(uri, {}).name
    with pytest.raises(MasterKeyRefused, match="there is a master key already"):
        masters.create_master(uri)
    assert masters.open_master(uri, {}).name == name
    with pytest.raises(MasterKeyRefused):
        masters.create_master("env:X")


@on_a_token
def test_master_key_on_a_token_wraps_and_never_leaves_it():
    import pkcs11

    masters.create_master(softhsm.uri("master"))
    master = masters.open_master(softhsm.uri("master"), {})
    wrapped = [master.wrap(DATA_KEY) for _ in range(2)]
    assert wrapped[0] != wrapped[1]
    assert DATA_KEY not in wrapped[0]
    assert [masters.open_master(softhsm.uri("master"), {}).unwrap(one) for one in wrapped] == [DATA_KEY] * 2
    assert len(master.name) <= 64
    with softhsm.token().open(user_pin=softhsm.PIN) as session:
        key = session.get_key(pkcs11.ObjectClass.SECRET_KEY, label="master")
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]
        assert key[pkcs11.Attribute.NEVER_EXTRACTABLE]


@on_a_token
def test_what_a_token_wrapped_is_authenticated():
    masters.create_master(softhsm.uri("authentic"))
    masters.create_master(softhsm.uri("another"))
    master = masters.open_master(softhsm.uri("authentic"), {})
    wrapped = master.wrap(DATA_KEY)
    for position in (0, 1, 12, 13, 44, len(wrapped) - 1):
        changed = bytearray(wrapped)
        changed[position] ^= 1
        with pytest.raises(VaultError):
            master.unwrap(bytes(changed))
    for cut in (0, 1, 28, len(wrapped) - 1):
        with pytest.raises(VaultError):
            master.unwrap(wrapped[:cut])
    other = masters.open_master(softhsm.uri("another"), {})
    assert other.name != master.name
    with pytest.raises(VaultError):
        other.unwrap(wrapped)
    assert master.unwrap(wrapped) == DATA_KEY  # no failure left the token unusable


@on_a_token
def test_token_key_that_can_be_read_out_or_is_too_short_or_missing_is_refused(tmp_path: Path):
    import pkcs11

    template = {pkcs11.Attribute.EXTRACTABLE: True, pkcs11.Attribute.SENSITIVE: False}
    with softhsm.token().open(user_pin=softhsm.PIN, rw=True) as session:
        session.generate_key(pkcs11.KeyType.AES, 256, label="loose", store=True, template=template)
        session.generate_key(pkcs11.KeyType.AES, 128, label="short", store=True)
    for name, message in (("loose", "can be read out"), ("short", "not an AES key of 32 bytes")):
        with pytest.raises(MasterKeyRefused, match=message):
            masters.open_master(softhsm.uri(name), {})
    with pytest.raises(SignerError, match="no such secret key"):
        masters.open_master(softhsm.uri("nobody"), {})
    masters.create_master(softhsm.uri("taken"))
    with pytest.raises(MasterKeyRefused, match="such a key already"):
        masters.create_master(softhsm.uri("taken"))
    with pytest.raises(MasterKeyRefused, match="no name"):
        masters.create_master(softhsm.uri("", object=None))
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text("0000-0000")
    with pytest.raises(SignerError, match="refused the PIN") as error:
        masters.open_master(softhsm.uri("taken", pin_source=f"file:{pin}"), {})
    assert "0000" not in str(error.value)


def test_random_keys_differ(tmp_path: Path):
    names = set()
    for number in range(3):
        masters.create_master(tmp_path / str(number))
        names.add(masters.open_master(tmp_path / str(number), {}).name)
    assert len(names) == 3
