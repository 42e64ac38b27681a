"""A published release is refused for every reason for which devices would refuse it, before any of them is woken."""

import hashlib
from pathlib import Path

import pytest

from host_tools.release import manifest, trust
from host_tools.release.cose import sign1
from host_tools.rollout import published
from host_tools.rollout.errors import RolloutError
from provisioning import signers
from tests.support.micropython import Micropython

VENDOR, MODEL = "maker.example", "test-band"
BASE = "https://updates.example/files"
IMAGE = bytes(10240)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[signers.Signer]:
    folder = tmp_path_factory.mktemp("keys")
    return [signers.create_file_key(folder / f"{name}.pem") for name in "abc"]


def envelope(sequence: int = 7, model: str = MODEL, with_text: bool = True, by=()) -> bytes:
    vendor, class_id = manifest.identifiers(VENDOR, model)
    digest = hashlib.sha256(IMAGE).digest()
    text = manifest.Text(VENDOR, model, f"1.{sequence}") if with_text else None
    uri = manifest.full_uri(digest)
    made = manifest.encode(manifest.Release(b"app", vendor, class_id, sequence, digest, len(IMAGE), uri, text))
    for signer in by:
        made = manifest.with_signature(made, sign1(signer, manifest.signature_payload(made)))
    return made


@pytest.fixture
def trust_file(keys: list[signers.Signer], tmp_path: Path) -> Path:
    points = tuple(key.public_key[1:] for key in keys)
    signed = trust.sign(trust.draft(trust.TrustList(1, 2, points, 1, points[:1])), keys[0])
    path = tmp_path / "trust.cbor"
    path.write_bytes(signed)
    return path


def put(directory: Path, made: bytes, sequence: int = 7, model: str = MODEL, whole: bool = True) -> Path:
    home = directory / model / str(sequence)
    image = home / manifest.full_uri(hashlib.sha256(IMAGE).digest())
    image.parent.mkdir(parents=True)
    if whole:
        image.write_bytes(b"deflated")
    (home / "manifest.suit").write_bytes(made)
    return home


@pytest.mark.parametrize("with_text", [True, False])
def test_a_release_of_a_repository_is_named_by_its_url(keys, trust_file: Path, tmp_path: Path, with_text):
    put(tmp_path, envelope(6, by=keys[:2]), 6)
    made = envelope(10, with_text=with_text, by=keys[:2])
    put(tmp_path, made, 10)
    (tmp_path / MODEL / "notes").mkdir()
    found = published.find(tmp_path, BASE + "/", MODEL, trust_list=trust_file, now_s=1)
    assert (found.sequence, found.model, found.component) == (10, MODEL, "app")
    assert found.url == "https://updates.example/files/test-band/10/manifest.suit"
    assert found.version == ("1.10" if with_text else "")
    assert found.manifest_digest == manifest.decode(made).manifest_digest
    assert found.image_digest == hashlib.sha256(IMAGE).digest()
    assert published.find(tmp_path, BASE, MODEL, 6).sequence == 6


def test_what_devices_would_refuse_is_refused(keys, trust_file: Path, tmp_path: Path):
    stranger = signers.create_file_key(tmp_path / "stranger.pem")
    cases = {
        "one signature too few": (envelope(by=keys[:1]), "threshold"),
        "the same key twice": (envelope(by=(keys[0], keys[0])), "distinct|threshold"),
        "a stranger's key": (envelope(by=(keys[0], stranger)), "threshold"),
        "no signature": (envelope(), "not signed"),
        "a changed byte": (envelope(by=keys[:2])[:-1] + b"x", "no manifest"),
        "no manifest at all": (b"hello", "no manifest"),
        "another model": (envelope(model="other", by=keys[:2]), "not for test-band"),
        "another model, without text": (envelope(model="other", with_text=False, by=keys[:2]), "not for test-band"),
    }
    for name, (made, said) in cases.items():
        path = tmp_path / "manifest.suit"
        path.write_bytes(made)
        with pytest.raises(RolloutError, match=said) as refused:
            published.read(path, f"{BASE}/m", MODEL, trust_file, now_s=1)
        assert refused.value.remedy, name


def test_a_repository_that_is_not_whole_is_refused(keys, tmp_path: Path):
    with pytest.raises(RolloutError, match="no release for"):
        published.find(tmp_path, BASE, MODEL)
    put(tmp_path, envelope(7, by=keys[:2]), 7, whole=False)
    with pytest.raises(RolloutError, match="no image"):
        published.find(tmp_path, BASE, MODEL)
    with pytest.raises(RolloutError, match="no release 8"):
        published.find(tmp_path, BASE, MODEL, 8)
    put(tmp_path, envelope(7, by=keys[:2]), 9)
    with pytest.raises(RolloutError, match="holds release 7"):
        published.find(tmp_path, BASE, MODEL)


GOOD = [
    "https://updates.example/manifest.suit",
    "http://10.0.0.1:8080/a/b/manifest.suit",
    "https://a-b.c1.example:1/x~y_z.-",
    "https://localhost/m",
]
BAD = [
    "",
    "manifest.suit",
    "ftp://updates.example/m",
    "HTTPS://updates.example/m",
    "https://Updates.example/m",
    "https://updates.example",
    "https://updates.example/",
    "https://updates.example//m",
    "https://updates.example/a/../m",
    "https://updates.example/./m",
    "https://user@updates.example/m",
    "https://updates.example@evil.example/m",
    "https://updates.example/m?x",
    "https://updates.example/m#x",
    "https://updates.example/%6d",
    "https://updates.example\\@evil.example/m",
    "https://updates.example:0/m",
    "https://updates.example:65536/m",
    "https://updates.example:/m",
    "https://[::1]/m",
    "https://2130706433/m",
    "https://0x7f.1/m",
    "https://256.1.1.1/m",
    "https://1.2.3/m",
    "https://01.2.3.4/m",
    "https://-a.example/m",
    "https://a-.example/m",
    "https://a..example/m",
    "https://updates.example/m m",
    "https://updates.example/m\n",
    "https://updates.exämple/m",
    "https://updates.example/" + "x" * 137,
]


@pytest.mark.parametrize("url", BAD)
def test_a_url_that_devices_do_not_fetch_is_refused(url):
    with pytest.raises(RolloutError) as refused:
        published.check_url(url)
    assert refused.value.remedy


def test_the_device_agrees_on_every_url():
    """The server never orders what the device's own reader would refuse, nor the reverse."""
    with Micropython() as device:
        device.run("from sealband.update import address\nfrom sealband.update.refused import UpdateRefused")
        device.run(
            "def takes(url):\n    try:\n        address.parse(url)\n        return True\n"
            "    except UpdateRefused:\n        return False"
        )
        assert [device.call(f"takes({url!r})") for url in GOOD] == [True] * len(GOOD)
        assert [url for url in BAD if device.call(f"takes({url!r})")] == []
    for url in GOOD:
        published.check_url(url)
