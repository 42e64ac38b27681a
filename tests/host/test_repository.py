"""The repository: only what is signed well enough gets in, whole, the same bytes each time, and leads to the image."""

import hashlib
import json
import os
import random
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from host_tools.release import manifest, patch, trust, verify
from host_tools.release.manifest import ManifestError
from host_tools.release.repository import INDEX, PublishRefused, publish
from host_tools.release.serve import RepositoryServer
from host_tools.release.trust import TrustError, TrustList
from sealwire.update import WINDOW_BITS
from tests.support import firmware_image, signed_release
from tests.support.micropython import Micropython
from tests.support.signed_release import MODEL, image, keys, make_signers, trust_file

NOW = 50_000_000
ROOTS = make_signers(2)
KEYS = make_signers(3)
TRUST = trust_file(KEYS, ROOTS)
CODE = random.Random(7).randbytes(40_000)


def files(version: int) -> dict[str, bytes]:
    """An application that changes a little from version to version."""
    return {
        "app.mpy": b"version %d" % version + CODE[:9000],
        "lib/sealband/node.mpy": CODE[9000 : 9000 + 500 * version] + b"new" * version + CODE[12000:],
        "main.py": b"import app\n",
    }


def release(folder: Path, sequence: int, *, by: int = 2, version: str | None = None) -> Path:
    """A release's folder, signed by so many keys."""
    signed_release.write(folder, files(sequence), sequence, version or f"1.{sequence}.0")
    path = folder / "manifest.suit"
    path.write_bytes(signed_release.signed(path.read_bytes(), KEYS[:by]))
    return folder


def put(directory: Path, folder: Path, *lists: bytes, **options: Any) -> Any:
    return publish(directory, folder, lists or (TRUST,), now_s=NOW, **options)


def tree(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def next_list(old: bytes, by: list[Any], **changes: Any) -> bytes:
    before = trust.decode(old).trust
    data = trust.draft(trust.successor(before, **changes))
    for signer in by:
        data = trust.sign(data, signer, before)
    return data


def test_published_tree_is_that_of_the_wire_format(tmp_path: Path) -> None:
    done = put(tmp_path / "www", release(tmp_path / "one", 1))
    content = image(files(1))
    digest = hashlib.sha256(content).hexdigest()
    found = tree(tmp_path / "www")
    assert set(found) == {
        "releases.json",
        f"{MODEL}/1/{digest}/full.deflate",
        f"{MODEL}/1/app.tar",
        f"{MODEL}/1/manifest.suit",
        f"{MODEL}/1/release.json",
        f"{MODEL}/1/trust/1.cbor",
    }
    # undone by zlib itself, with the window that devices have
    assert zlib.decompress(found[f"{MODEL}/1/{digest}/full.deflate"], wbits=-WINDOW_BITS) == content
    assert found[f"{MODEL}/1/manifest.suit"] == (tmp_path / "one" / "manifest.suit").read_bytes()
    assert found[f"{MODEL}/1/trust/1.cbor"] == TRUST
    assert (done.patches, done.trust, done.folder) == ({}, (1,), tmp_path / "www" / MODEL / "1")
    # the manifest's address leads from the manifest to the image
    uri = done.parsed.release.uri
    assert f"{MODEL}/1/{uri}" in found


def test_patches_lead_from_the_last_releases_to_this_one(tmp_path: Path) -> None:
    for sequence in (1, 2, 3, 5):
        done = put(tmp_path / "www", release(tmp_path / str(sequence), sequence), keep=2)
    assert list(done.patches) == [3, 2]
    content = image(files(5))
    digest = hashlib.sha256(content).hexdigest()
    folder = tmp_path / "www" / MODEL / "5" / digest
    for base in (2, 3):
        old = image(files(base))
        delta = (folder / f"from-{hashlib.sha256(old).hexdigest()}.patch").read_bytes()
        assert patch.apply(old, delta) == content
        assert len(delta) == done.patches[base] < done.full / 2
    assert len(list(folder.iterdir())) == 3
    assert put(tmp_path / "none", release(tmp_path / "x", 1), keep=0).patches == {}


def test_releases_published_again_elsewhere_are_the_same_bytes(tmp_path: Path) -> None:
    one, two = release(tmp_path / "1", 1), release(tmp_path / "2", 2)
    for name in ("a", "b"):
        put(tmp_path / name, one)
        put(tmp_path / name, two)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_publishing_twice_changes_nothing(tmp_path: Path) -> None:
    folder = release(tmp_path / "one", 1)
    put(tmp_path / "www", folder)
    before = tree(tmp_path / "www")
    assert put(tmp_path / "www", folder).added == ()
    assert tree(tmp_path / "www") == before


def test_index_lists_every_release_and_file_with_its_digest(tmp_path: Path) -> None:
    put(tmp_path / "www", release(tmp_path / "2", 2))
    put(tmp_path / "www", release(tmp_path / "10", 10))
    index = json.loads((tmp_path / "www" / INDEX).read_text())
    assert [one["sequence"] for one in index["releases"]] == [2, 10]
    last = index["releases"][1]
    parsed = manifest.decode((tmp_path / "www" / last["path"]).read_bytes())
    assert (last["manifest"], last["digest"]) == (parsed.manifest_digest.hex(), parsed.release.digest.hex())
    assert (last["model"], last["version"], last["component"]) == (MODEL, "1.10.0", "app")
    listed = {one["path"]: one["sha256"] for entry in index["releases"] for one in entry["files"]}
    found = tree(tmp_path / "www")
    del found[INDEX]
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}


# what must not get in


@pytest.mark.parametrize("by", [0, 1])
def test_release_with_too_few_signatures_is_not_published(tmp_path: Path, by: int) -> None:
    with pytest.raises(PublishRefused, match=f"threshold \\({by} different release keys signed, 2 are needed\\)"):
        put(tmp_path / "www", release(tmp_path / "one", 1, by=by))
    assert tree(tmp_path / "www") == {}


def test_release_signed_twice_by_one_key_is_not_published(tmp_path: Path) -> None:
    folder = release(tmp_path / "one", 1, by=1)
    path = folder / "manifest.suit"
    path.write_bytes(signed_release.signed(path.read_bytes(), KEYS[:1]))
    with pytest.raises(PublishRefused, match="threshold"):
        put(tmp_path / "www", folder)


def test_release_signed_by_keys_of_another_list_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(PublishRefused, match="threshold"):
        put(tmp_path / "www", release(tmp_path / "one", 1), trust_file(make_signers(3), ROOTS))


def test_image_swapped_after_signing_is_not_published(tmp_path: Path) -> None:
    folder = release(tmp_path / "one", 1)
    (folder / "app.tar").write_bytes(image(files(2)))
    with pytest.raises(PublishRefused, match="image-digest"):
        put(tmp_path / "www", folder)
    assert tree(tmp_path / "www") == {}


def test_signed_image_that_no_device_would_unpack_is_not_published(tmp_path: Path) -> None:
    signed_release.write(tmp_path / "one", {"../boot.py": b"evil"}, 1)
    path = tmp_path / "one" / "manifest.suit"
    path.write_bytes(signed_release.signed(path.read_bytes(), KEYS[:2]))
    with pytest.raises(PublishRefused, match="archive-names"):
        put(tmp_path / "www", tmp_path / "one")


def test_expired_trust_list_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(PublishRefused, match="trust-current"):
        put(tmp_path / "www", release(tmp_path / "one", 1), trust_file(KEYS, ROOTS, expires=NOW - 1))


def test_trust_list_that_its_own_roots_did_not_sign_publishes_nothing(tmp_path: Path) -> None:
    draft = trust.draft(TrustList(1, 2, keys(KEYS), 2, keys(ROOTS)))
    with pytest.raises(TrustError, match="signed by 0"):
        put(tmp_path / "www", release(tmp_path / "one", 1), draft)
    with pytest.raises(PublishRefused, match="no trust list"):
        publish(tmp_path / "www", tmp_path / "one", (), now_s=NOW)


def test_another_release_under_a_published_sequence_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "www", release(tmp_path / "one", 1))
    before = tree(tmp_path / "www")
    with pytest.raises(PublishRefused, match="published already, and is another one") as caught:
        put(tmp_path / "www", release(tmp_path / "other", 1, version="6.6.6"))
    assert "higher sequence" in caught.value.remedy
    assert tree(tmp_path / "www") == before


def test_model_that_would_lead_out_of_the_repository_is_refused(tmp_path: Path) -> None:
    content = image(files(1))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "app.tar").write_bytes(content)
    for model in ("../up", "..", "a/b", ".hidden", "UPPER"):
        envelope = manifest.encode(signed_release.release(content, 1, model=model))
        (tmp_path / "one" / "manifest.suit").write_bytes(signed_release.signed(envelope, KEYS[:2]))
        with pytest.raises(PublishRefused, match="folder"):
            put(tmp_path / "www", tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]


def test_manifest_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = release(tmp_path / "one", 1)
    (folder / "manifest.suit").write_bytes(b"\x00")
    with pytest.raises(ManifestError):
        put(tmp_path / "www", folder)


def test_damaged_base_makes_no_patch(tmp_path: Path) -> None:
    put(tmp_path / "www", release(tmp_path / "one", 1))
    (tmp_path / "www" / MODEL / "1" / "app.tar").write_bytes(b"damaged")
    with pytest.raises(PublishRefused, match="not the image that was published as release 1"):
        put(tmp_path / "www", release(tmp_path / "two", 2))
    assert not (tmp_path / "www" / MODEL / "2").exists()


def test_damaged_delivery_is_noticed_and_not_passed_over(tmp_path: Path) -> None:
    folder = release(tmp_path / "one", 1)
    put(tmp_path / "www", folder)
    (full,) = (tmp_path / "www").rglob("full.deflate")
    full.write_bytes(full.read_bytes()[:-1])
    with pytest.raises(PublishRefused, match="not what was published"):
        put(tmp_path / "www", folder)
    full.unlink()
    assert put(tmp_path / "www", folder).added == (full.relative_to(tmp_path / "www" / MODEL / "1").as_posix(),)


def test_failure_while_writing_leaves_no_part_of_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "www", release(tmp_path / "one", 1))
    before = tree(tmp_path / "www")
    real = os.rename

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        put(tmp_path / "www", release(tmp_path / "two", 2))
    assert tree(tmp_path / "www") == before
    monkeypatch.setattr(os, "rename", real)
    put(tmp_path / "www", tmp_path / "two")


def test_two_publications_at_once_follow_one_another(tmp_path: Path) -> None:
    folders = [release(tmp_path / str(sequence), sequence) for sequence in (1, 2, 3, 4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda folder: put(tmp_path / "www", folder), folders))
    index = json.loads((tmp_path / "www" / INDEX).read_text())
    assert [one["sequence"] for one in index["releases"]] == [1, 2, 3, 4]
    listed = {one["path"] for entry in index["releases"] for one in entry["files"]}
    assert listed == set(tree(tmp_path / "www")) - {INDEX}


# what is added to a published release


def test_third_signature_and_next_trust_list_are_added_later(tmp_path: Path) -> None:
    folder = release(tmp_path / "one", 1)
    put(tmp_path / "www", folder)
    path = folder / "manifest.suit"
    path.write_bytes(signed_release.signed(path.read_bytes(), KEYS[2:]))
    second = next_list(TRUST, ROOTS, threshold=3)
    done = put(tmp_path / "www", folder, TRUST, second)
    assert done.added == ("manifest.suit", "trust/2.cbor")
    assert (tmp_path / "www" / MODEL / "1" / "manifest.suit").read_bytes() == path.read_bytes()
    index = json.loads((tmp_path / "www" / INDEX).read_text())
    assert f"{MODEL}/1/trust/2.cbor" in [one["path"] for one in index["releases"][0]["files"]]


def test_copy_of_a_release_with_fewer_signatures_takes_none_away(tmp_path: Path) -> None:
    put(tmp_path / "www", release(tmp_path / "all", 1, by=3))
    folder = release(tmp_path / "two", 1, by=0)
    path = folder / "manifest.suit"
    path.write_bytes(signed_release.signed(path.read_bytes(), KEYS[:2]))
    done = put(tmp_path / "www", folder)
    published = (tmp_path / "www" / MODEL / "1" / "manifest.suit").read_bytes()
    assert len(manifest.decode(published).signatures) == 3
    # and devices that trust another two of the three take it
    assert "threshold" not in verify.verify(published, trust_file(KEYS[1:], ROOTS)).broken
    assert "manifest.suit" in done.added


@pytest.mark.parametrize("kind", ["link", "text", "other image"])
def test_what_is_no_sbom_of_the_image_is_not_made_public(tmp_path: Path, kind: str) -> None:
    # nobody signs the SBOM: a folder from elsewhere could name any file of the publisher's there
    folder = release(tmp_path / "one", 1)
    secret = tmp_path / "id_ed25519"
    secret.write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    sbom = folder / "sbom.cdx.json"
    sbom.unlink(missing_ok=True)
    if kind == "link":
        sbom.symlink_to(secret)
    else:
        hashes = [{"alg": "SHA-256", "content": "00" * 32}] if kind == "other image" else 5
        sbom.write_text(json.dumps({"metadata": {"component": {"hashes": hashes}}}))
    with pytest.raises(PublishRefused, match="no SBOM of this image"):
        put(tmp_path / "www", folder)
    assert not [path for path in (tmp_path / "www").rglob("*") if path.is_file()]


def test_every_trust_list_since_the_first_lies_beside_each_new_release(tmp_path: Path) -> None:
    put(tmp_path / "www", release(tmp_path / "one", 1))
    second = next_list(TRUST, ROOTS, threshold=1)
    put(tmp_path / "www", release(tmp_path / "two", 2), second)
    third = next_list(second, ROOTS, threshold=2)
    done = put(tmp_path / "www", release(tmp_path / "three", 3), third)
    assert done.trust == (1, 2, 3)
    found = tree(tmp_path / "www" / MODEL / "3" / "trust")
    assert found == {"1.cbor": TRUST, "2.cbor": second, "3.cbor": third}


def test_trust_list_that_skips_one_or_is_not_signed_by_the_one_before_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "www", release(tmp_path / "one", 1))
    third = next_list(next_list(TRUST, ROOTS), ROOTS)
    with pytest.raises(TrustError, match="does not follow"):
        put(tmp_path / "www", release(tmp_path / "two", 2), third)
    foreign = trust_file(KEYS, make_signers(2), version=2)
    with pytest.raises(TrustError, match="root keys of list 1"):
        put(tmp_path / "www", tmp_path / "two", foreign)


def test_two_lists_of_one_version_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "www", release(tmp_path / "one", 1))
    with pytest.raises(PublishRefused, match="two different trust lists of version 1"):
        put(tmp_path / "www", release(tmp_path / "two", 2), trust_file(KEYS, ROOTS, threshold=1))


def test_newest_list_decides_also_if_an_older_one_was_named(tmp_path: Path) -> None:
    # the newest one asks for three signatures: a device that reads it would refuse two
    folder = release(tmp_path / "one", 1)
    path = folder / "manifest.suit"
    path.write_bytes(signed_release.signed(path.read_bytes(), KEYS[2:]))
    put(tmp_path / "www", folder, TRUST, next_list(TRUST, ROOTS, threshold=3))
    with pytest.raises(PublishRefused, match="3 are needed"):
        put(tmp_path / "www", release(tmp_path / "two", 2), TRUST)


def test_firmware_is_published_whole_and_without_patches(tmp_path: Path) -> None:
    for sequence in (1, 2):
        content = firmware_image.make(b"interpreter %d" % sequence * 20_000)
        digest = hashlib.sha256(content).digest()
        made = signed_release.release(content, sequence)
        made = manifest.Release(
            b"fw", made.vendor, made.class_id, sequence, digest, len(content), made.uri, made.text
        )  # fmt: skip
        folder = tmp_path / str(sequence)
        folder.mkdir()
        (folder / "fw.bin").write_bytes(content)
        (folder / "manifest.suit").write_bytes(signed_release.signed(manifest.encode(made), KEYS[:2]))
        done = put(tmp_path / "www", folder)
        assert done.patches == {}
        full = (done.folder / digest.hex() / "full.deflate").read_bytes()
        # in sections: zlib ends behind the first, from where the next one needs nothing of it
        back = b""
        while full:
            stream = zlib.decompressobj(-WINDOW_BITS)
            back += stream.decompress(full)
            full = stream.unused_data
            assert len(back) % patch.SECTION == 0 or not full
        assert back == content


def test_device_fetches_from_the_server_and_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    for sequence in (1, 2):
        done = put(tmp_path / "www", release(tmp_path / str(sequence), sequence))
    release_2 = done.parsed.release
    base = hashlib.sha256(image(files(1))).hexdigest()
    with RepositoryServer(tmp_path / "www") as server, Micropython() as device:
        where = f"{server.url}/{MODEL}/2"
        device.run("from sealband.update.fetch import FetchError, Source")
        device.run(f"source = Source([{server.url!r}])")
        device.run(
            "def status(url):\n try:\n  source.get(url, 4096)\n except FetchError as error:\n  return error.status"
        )
        assert device.call(f"source.get({where + '/manifest.suit'!r}, 4096)") == tree(done.folder)["manifest.suit"]
        assert device.call(f"source.get({where + '/trust/1.cbor'!r}, 4096)") == TRUST
        assert device.call(f"status({where + '/trust/2.cbor'!r})") == 404
        for name in (release_2.uri, f"{release_2.digest.hex()}/from-{base}.patch"):
            whole = (done.folder / name).read_bytes()
            for length in (0, 1, len(whole) - 1):
                download = tmp_path / "download"
                download.write_bytes(whole[:length])
                url = f"{where}/{name}"
                assert device.call(f"source.download({url!r}, {str(download)!r}, 200000)") == len(whole)
                assert download.read_bytes() == whole
