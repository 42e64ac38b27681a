"""Private keys in files: passphrases, and what is refused without a word about the secret."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from provisioning import signers
from provisioning.signers.secret import ENVIRONMENT, SECRET_MAX

SECRET = "correct horse battery staple"


def answers(text: str | None) -> signers.Ask:
    return lambda prompt: text


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    signers.create_file_key(path, SECRET)
    return path


def test_encrypted_key_is_opened_by_its_passphrase_only(encrypted: Path):
    assert encrypted.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in encrypted.read_bytes()
    with pytest.raises(TypeError):
        load_pem_private_key(encrypted.read_bytes(), None)
    opened = signers.open_signer(f"file:{encrypted}", answers(SECRET))
    assert signers.verify(opened.public_key, b"message", opened.sign(b"message"))
    for wrong in (SECRET + " ", SECRET.upper(), "x"):
        with pytest.raises(signers.SignerError, match="passphrase does not open") as refused:
            signers.open_signer(f"file:{encrypted}", answers(wrong))
        assert wrong not in str(refused.value) + refused.value.remedy or wrong == "x"


def test_encrypted_key_without_anyone_to_ask_is_refused_and_does_not_hang(encrypted: Path):
    for answer in (None, ""):
        with pytest.raises(signers.SignerError, match="is encrypted") as refused:
            signers.open_signer(f"file:{encrypted}", answers(answer))
        assert ENVIRONMENT in refused.value.remedy


def test_passphrase_comes_from_a_file_of_its_owner(encrypted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "passphrase"
    path.touch(mode=0o600)
    path.write_text(SECRET + "\n")
    monkeypatch.setenv(ENVIRONMENT, str(path))
    assert signers.open_signer(f"file:{encrypted}", answers(None))
    path.chmod(0o640)
    with pytest.raises(signers.SignerError, match="others can read the passphrase") as refused:
        signers.open_signer(f"file:{encrypted}", answers(None))
    assert SECRET not in str(refused.value)
    path.chmod(0o600)
    for content in (b"", b"\nsecond line", b"x" * (SECRET_MAX + 1), b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(signers.SignerError, match="passphrase file"):
            signers.open_signer(f"file:{encrypted}", answers(SECRET))
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "none"))
    with pytest.raises(signers.SignerError, match="cannot be read"):
        signers.open_signer(f"file:{encrypted}", answers(SECRET))


def test_passphrase_comes_from_a_descriptor(encrypted: Path, monkeypatch: pytest.MonkeyPatch):
    reading, writing = os.pipe()
    os.write(writing, SECRET.encode())
    os.close(writing)
    monkeypatch.setenv(ENVIRONMENT, f"/dev/fd/{reading}")
    assert signers.open_signer(f"file:{encrypted}", answers(None))
    os.close(reading)


def test_empty_or_endless_passphrase_makes_no_key(tmp_path: Path):
    for passphrase in ("", "x" * (SECRET_MAX + 1)):
        with pytest.raises(signers.SignerError, match="passphrase has 1 to"):
            signers.create_file_key(tmp_path / "key.pem", passphrase)
    assert list(tmp_path.iterdir()) == []


def test_encrypted_key_that_others_can_read_is_refused_before_anything_is_asked(encrypted: Path):
    encrypted.chmod(0o604)

    def never(prompt: str) -> str:
        raise AssertionError("asked")

    with pytest.raises(signers.SignerError, match="others can read"):
        signers.open_signer(f"file:{encrypted}", never)


def test_encrypted_key_on_another_curve_is_refused(tmp_path: Path):
    path = tmp_path / "key.pem"
    path.touch(mode=0o600)
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET.encode())))
    with pytest.raises(signers.SignerError, match="not on the curve"):
        signers.open_signer(f"file:{path}", answers(SECRET))


def test_unknown_scheme_is_named_without_what_follows_it():
    for uri in ("http:secret", "secret-scheme", "", ":", "file"):
        with pytest.raises(signers.SignerError, match="no scheme that is known") as refused:
            signers.open_signer(uri)
        assert "http:secret" not in str(refused.value)
