"""Signing a release: nothing that was not read and shown, nothing twice, nothing half-done."""

import json
from pathlib import Path

import pytest

from host_tools import cli
from host_tools.cli import release_signing
from host_tools.release import manifest, sign
from host_tools.release.cose import Sign1, sign1
from host_tools.release.sign import SignRefused
from provisioning import signers
from tests.support import signed_release, softhsm

FILES = signed_release.FILES


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(cli.sealband.commands, "sign", release_signing.sign)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return signed_release.write(tmp_path / "release")


@pytest.fixture
def key(tmp_path: Path) -> str:
    signers.create_file_key(tmp_path / "alice.pem")
    return f"file:{tmp_path / 'alice.pem'}"


def test_one_signature_is_added_and_it_verifies(folder: Path, key: str, tmp_path: Path):
    before = (folder / "manifest.suit").read_bytes()
    assert cli.run(["sign", str(folder), "--key", key, "--yes"]) == 0
    parsed = manifest.decode((folder / "manifest.suit").read_bytes())
    assert parsed.release == manifest.decode(before).release
    (one,) = parsed.signatures
    assert Sign1.from_bytes(one).signed_by(signers.open_signer(key).public_key, parsed.payload)
    signers.create_file_key(tmp_path / "bob.pem")
    assert cli.run(["sign", str(folder / "manifest.suit"), "--key", f"file:{tmp_path / 'bob.pem'}", "--yes"]) == 0
    assert len(manifest.decode((folder / "manifest.suit").read_bytes()).signatures) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["app.tar", "manifest.suit", "release.json"]


def test_everything_is_shown_before_it_is_signed(folder: Path, key: str, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["sign", str(folder), "--key", key, "--yes"]) == 0
    shown = capsys.readouterr().out
    parsed = manifest.decode((folder / "manifest.suit").read_bytes())
    release = parsed.release
    words = [signed_release.VENDOR, signed_release.MODEL, "1.1.0", "sequence", "app", str(release.vendor)]
    words += [str(release.class_id), release.digest.hex(), str(release.size), parsed.manifest_digest.hex(), *FILES]
    assert [word for word in words if word not in shown] == []


def test_what_changed_since_the_release_before_is_shown(
    folder: Path, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    files = {"app.mpy": b"application", "lib/new.mpy": b"new", "main.py": FILES["main.py"]}
    newer = signed_release.write(tmp_path / "newer", files, 3, "1.2.0")
    assert cli.run(["sign", str(newer), "--key", key, "--previous", str(folder), "--yes", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["changes"] == [
        {"name": "app.mpy", "what": "changed", "before": 550, "after": 11},
        {"name": "lib/new.mpy", "what": "added", "before": None, "after": 3},
        {"name": "lib/sealband/node.mpy", "what": "removed", "before": 1200, "after": None},
    ]
    assert (result["previous"], result["signatures"], result["version"]) == (2, 1, "1.2.0")
    signers.create_file_key(tmp_path / "bob.pem")
    arguments = ["--key", f"file:{tmp_path / 'bob.pem'}", "--previous", str(folder), "--yes"]
    assert cli.run(["sign", str(newer), *arguments]) == 0
    out, err = capsys.readouterr()
    assert "changed  app.mpy" in out
    assert "(-539 bytes)" in out
    assert "1.2.0 (before: 1.1.0)" in out
    assert "3 files differ, 1 do not." in err


def refused(folder: Path, key: str, message: str, *more: str) -> None:
    before = (folder / "manifest.suit").read_bytes()
    with pytest.raises(Exception, match=message) as error:
        cli.sealband.main(["sign", str(folder), "--key", key, *more], standalone_mode=False)
    assert cli.explain(error.value)[1]
    assert "defect" not in cli.explain(error.value)[1]
    assert (folder / "manifest.suit").read_bytes() == before


def test_nothing_is_signed_without_consent(folder: Path, key: str):
    refused(folder, key, "nobody can be asked")
    refused(folder, key, "nobody can be asked", "--json")


def test_same_key_signs_once_even_under_another_name(folder: Path, key: str):
    signer = signers.open_signer(key)
    assert cli.run(["sign", str(folder), "--key", key, "--yes"]) == 0
    refused(folder, key, "has signed this release already", "--yes")
    # its signature with another key's name in the header
    envelope = manifest.encode(manifest.decode((folder / "manifest.suit").read_bytes()).release)
    one = sign1(signer, manifest.signature_payload(envelope))
    hidden = one.replace(signers.kid(signer.public_key), bytes(8))
    (folder / "manifest.suit").write_bytes(manifest.with_signature(envelope, hidden))
    refused(folder, key, "has signed this release already", "--yes")


def test_false_signature_in_the_signers_name_is_told(folder: Path, key: str):
    signer, stranger = signers.open_signer(key), signed_release.make_signers(1)[0]
    envelope = (folder / "manifest.suit").read_bytes()
    one = sign1(stranger, manifest.signature_payload(envelope))
    false = one.replace(signers.kid(stranger.public_key), signers.kid(signer.public_key))
    (folder / "manifest.suit").write_bytes(manifest.with_signature(envelope, false))
    refused(folder, key, "false signature in the name", "--yes")


@pytest.mark.parametrize("sequence", [1, 2])
def test_sequence_that_is_not_above_the_one_before_is_refused(folder: Path, key: str, tmp_path: Path, sequence: int):
    older = signed_release.write(tmp_path / "older", {"main.py": b"x"}, sequence)
    refused(older, key, "is not above the one before", "--previous", str(folder), "--yes")


def test_release_of_another_model_is_no_release_before(folder: Path, key: str, tmp_path: Path):
    other = signed_release.write(tmp_path / "other", sequence=1)
    content = (other / "app.tar").read_bytes()
    (other / "manifest.suit").write_bytes(manifest.encode(signed_release.release(content, 1, model="other")))
    (other / "release.json").unlink()
    refused(folder, key, "for another model", "--previous", str(other), "--yes")


def test_image_that_is_not_the_manifests_is_refused(folder: Path, key: str):
    content = bytearray((folder / "app.tar").read_bytes())
    content[600] ^= 1
    (folder / "app.tar").write_bytes(content)
    refused(folder, key, "is not the one that the manifest names", "--yes")
    (folder / "app.tar").unlink()
    refused(folder, key, "can't be shown", "--yes")


@pytest.mark.parametrize(
    "files",
    [
        {"../main.py": b"x"},
        {"/main.py": b"x"},
        {"boot.py": b"x"},
        {"lib/sealboot/slots.mpy": b"x"},
        {"b": b"x", "a": b"x"},
        {"a b": b"x"},
        {"a": b"x", "a/b": b"y"},
    ],
)
def test_image_that_no_device_would_install_is_not_signed(tmp_path: Path, key: str, files: dict[str, bytes]):
    refused(signed_release.write(tmp_path / "bad", files), key, "no device would install", "--yes")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vendor", "other.example"),
        ("model", "other"),
        ("component", "fw"),
        ("manifest", "00"),
        ("version", "9"),
        ("sequence", 3),
        ("sequence", "2"),
        ("sequence", 2.0),
        ("digest", "00"),
        ("size", 1),
        ("files", []),
        ("files", None),
    ],
)
def test_description_that_says_otherwise_is_refused(folder: Path, key: str, field: str, value: object):
    path = folder / "release.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    refused(folder, key, f"another {field} than manifest and image", "--yes")
    for text in ("", "[]", "[" * 100_000):
        path.write_text(text)
        refused(folder, key, "not JSON|not a description", "--yes")


def test_manifest_that_cannot_be_read_or_shown_is_not_signed(folder: Path, key: str):
    good = (folder / "manifest.suit").read_bytes()
    text = manifest.decode(good).release
    silent = manifest.Release(**{**vars(text), "text": None})
    for data, message in (
        (good[:-1], "not CBOR"),
        (good + b"\x00", "not one item"),
        (b"", "not CBOR"),
        (bytes(5000), "longer than 4096"),
        (manifest.encode(silent), "does not say its model"),
    ):
        (folder / "manifest.suit").write_bytes(data)
        refused(folder, key, message, "--yes")


def test_envelope_with_a_signature_that_is_none_is_not_signed(folder: Path, key: str):
    good = (folder / "manifest.suit").read_bytes()
    signer = signed_release.make_signers(1)[0]
    one = sign1(signer, manifest.signature_payload(good))
    broken = one.replace(b"\x43\xa1\x01\x28", b"\x43\xa1\x01\x27")
    (folder / "manifest.suit").write_bytes(manifest.with_signature(good, broken))
    refused(folder, key, "a signature that is there already is none", "--yes")


def test_signature_made_meanwhile_is_not_lost(folder: Path, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = sign.sign

    def slow(candidate: sign.Candidate, signer: signers.Signer) -> bytes:
        signed = real(candidate, signer)
        other = signed_release.make_signers(1)
        candidate.path.write_bytes(signed_release.signed(candidate.envelope, other))
        return signed

    monkeypatch.setattr(sign, "sign", slow)
    assert cli.run(["sign", str(folder), "--key", key, "--yes"]) == 1
    parsed = manifest.decode((folder / "manifest.suit").read_bytes())
    (one,) = parsed.signatures
    assert not Sign1.from_bytes(one).signed_by(signers.open_signer(key).public_key, parsed.payload)
    assert sorted(path.name for path in folder.iterdir()) == ["app.tar", "manifest.suit", "release.json"]


def test_key_whose_signature_does_not_verify_adds_nothing(folder: Path):
    class Broken:
        public_key = signed_release.make_signers(1)[0].public_key

        def sign(self, message: bytes) -> bytes:
            return bytes(64)

    with pytest.raises(SignRefused, match="does not verify"):
        sign.sign(sign.open_release(folder), Broken())


def test_firmware_is_shown_and_signed(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "firmware"
    folder.mkdir()
    content = b"\xe9firmware" * 100
    made = manifest.Release(**{**vars(signed_release.release(content)), "component": b"fw"})
    (folder / "manifest.suit").write_bytes(manifest.encode(made))
    (folder / "fw.bin").write_bytes(content)
    assert cli.run(["sign", str(folder), "--key", key, "--yes"]) == 0
    assert made.digest.hex() in capsys.readouterr().out
    (folder / "fw.bin").write_bytes(content + b"x")
    refused(folder, key, "is not the one that the manifest names", "--yes")


@softhsm.needs_softhsm()
def test_release_is_signed_by_a_key_on_a_token(folder: Path):
    softhsm.make_key("release")
    assert cli.run(["sign", str(folder), "--key", softhsm.uri("release"), "--yes"]) == 0
    parsed = manifest.decode((folder / "manifest.suit").read_bytes())
    public = signers.open_signer(softhsm.uri("release")).public_key
    assert Sign1.from_bytes(parsed.signatures[0]).signed_by(public, parsed.payload)


def test_seventeenth_signature_is_refused(folder: Path, key: str):
    path = folder / "manifest.suit"
    path.write_bytes(signed_release.signed(path.read_bytes(), signed_release.make_signers(16)))
    refused(folder, key, "16 signatures", "--yes")
