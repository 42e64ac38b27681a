"""`release verify`: each rule is broken by one release and by nothing else. Attacks are in tests/attacks."""

import json
import tarfile
from pathlib import Path
from uuid import uuid4

import cbor2
import pytest

from host_tools import cli
from host_tools.cli import release_signing
from host_tools.release import archive, manifest
from host_tools.release.cose import sign1
from host_tools.release.verify import RULES, Report, verify
from provisioning import cbor, signers
from sealwire import manifest as wire
from tests.support import signed_release
from tests.support.signed_release import image, make_signers, release, signed, trust_file

NOW = 60_000_000
ROOTS, KEYS, STRANGERS = make_signers(2), make_signers(3), make_signers(2)
TRUST = trust_file(KEYS, ROOTS)
IMAGE = image(signed_release.FILES)
RELEASE = release(IMAGE)
BARE = manifest.encode(RELEASE)
GOOD = signed(BARE, KEYS[:2])


def check(envelope: bytes = GOOD, trust: bytes = TRUST, content: bytes | None = IMAGE, **more: object) -> Report:
    whom = {"vendor": RELEASE.vendor, "class_id": RELEASE.class_id, "now_s": NOW}
    return verify(envelope, trust, content, **{**whom, **more})


def test_good_release_keeps_every_rule():
    report = check()
    assert [(rule.name, rule.holds) for rule in report.rules] == [(name, True) for name in RULES]
    assert report.ok
    assert report.broken == ()
    assert [signature.state for signature in report.signatures] == ["counts", "counts"]


def test_what_was_not_named_is_not_looked_at_and_said_so():
    report = verify(GOOD, TRUST)
    assert report.ok
    looked = {rule.name for rule in report.rules if rule.holds is None}
    assert looked == {"vendor", "class", *RULES[RULES.index("image-size") :]}


def with_block(change: object) -> bytes:
    fields = cbor2.loads(GOOD).value
    block = change(cbor2.loads(fields[2]))  # type: ignore[operator]
    return cbor.dumps(cbor2.CBORTag(107, {2: cbor.dumps(block), 3: fields[3]}))


def resigned(**changes: object) -> bytes:
    return signed(manifest.encode(manifest.Release(**{**vars(RELEASE), **changes})), KEYS[:2])


FALSE = signed(manifest.encode(release(IMAGE, 9)), KEYS[2:])
FALSE_ONE = manifest.decode(FALSE).signatures[0]


@pytest.mark.parametrize(
    ("broken", "arguments"),
    [
        ({"trust-list"}, {"trust": TRUST[:-1]}),
        ({"trust-list"}, {"trust": trust_file(KEYS, ROOTS)[:-200]}),
        ({"trust-current"}, {"trust": trust_file(KEYS, ROOTS, expires=NOW)}),
        ({"length"}, {"envelope": GOOD + bytes(4096)}),
        ({"deterministic"}, {"envelope": GOOD + b"\x00"}),
        ({"deterministic"}, {"envelope": b""}),
        ({"deterministic"}, {"envelope": with_block(lambda block: [*block, b"\x18\x01"])}),
        ({"subset"}, {"envelope": with_block(lambda block: [*block, b"\x01"])}),
        (
            {"subset", "manifest-digest"},
            {"envelope": with_block(lambda block: [cbor.dumps([-16, bytes(32)]), *block[1:]])},
        ),
        ({"subset", "manifest-digest"}, {"envelope": with_block(lambda block: block[1:])}),
        ({"delivery"}, {"envelope": resigned(uri="http://elsewhere/x")}),
        ({"vendor"}, {"vendor": uuid4()}),
        ({"class"}, {"class_id": uuid4()}),
        ({"signatures"}, {"envelope": with_block(lambda block: [*block, FALSE_ONE])}),
        ({"signatures"}, {"envelope": with_block(lambda block: [*block, FALSE_ONE.replace(b"\x28", b"\x27", 1)])}),
        ({"distinct"}, {"envelope": signed(GOOD, KEYS[:1])}),
        ({"threshold"}, {"envelope": signed(BARE, KEYS[:1])}),
        ({"threshold"}, {"envelope": BARE}),
        ({"threshold"}, {"envelope": signed(BARE, [*KEYS[:1], *STRANGERS])}),
        ({"distinct", "threshold"}, {"envelope": signed(BARE, [KEYS[0], KEYS[0]])}),
        ({"threshold"}, {"trust": trust_file(KEYS, ROOTS, threshold=3)}),
        ({"image-size", "image-digest", "archive-format"}, {"content": IMAGE[:-512]}),
        ({"image-digest"}, {"content": IMAGE.replace(b"node", b"edon")}),
    ],
)
def test_broken_rule_is_named_and_no_other(broken: set[str], arguments: dict[str, object]):
    report = check(**arguments)  # type: ignore[arg-type]
    assert set(report.broken) == broken
    assert not report.ok


def test_signature_of_a_key_that_was_taken_off_the_list_does_no_harm():
    report = check(signed(signed(BARE, STRANGERS), KEYS[1:]))
    assert report.ok
    assert [signature.state for signature in report.signatures] == ["unknown", "unknown", "counts", "counts"]


def test_minus_seven_is_read_as_minus_nine_is():
    payload = manifest.signature_payload(BARE)
    protected = b"\xa1\x01\x26"
    message = cbor.dumps(["Signature1", protected, b"", payload])
    envelope = BARE
    for signer in KEYS[:2]:
        headers = {4: signers.kid(signer.public_key)}
        one = cbor.dumps(cbor2.CBORTag(18, [protected, headers, None, signer.sign(message)]))
        envelope = manifest.with_signature(envelope, one)
    assert check(envelope).ok


def test_trust_list_without_enough_roots_makes_nothing_trustworthy():
    payload, items = cbor2.loads(TRUST)
    report = check(trust=cbor.dumps([payload, items[:1]]))
    assert report.broken == ("trust-list",)
    assert not report.ok
    assert {rule.name: rule.holds for rule in report.rules}["threshold"] is None


def tar(*entries: tarfile.TarInfo) -> bytes:
    data = b"".join(
        entry.tobuf(tarfile.USTAR_FORMAT) + b"x" * entry.size + bytes(-entry.size % 512) for entry in entries
    )
    data += bytes(1024)
    return data + bytes(-len(data) % 10240)


def entry(name: str = "a", size: int = 1, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.mode = size, 0o644
    for field, value in fields.items():
        setattr(made, field, value)
    return made


@pytest.mark.parametrize(
    ("rule", "content"),
    [
        ("format", tar(entry(mode=0o755))),
        ("format", tar(entry(uid=1))),
        ("format", tar(entry(gname="root"))),
        ("format", tar(entry(mtime=1))),
        ("format", tar(entry(size=0, type=tarfile.SYMTYPE, linkname="b"))),
        ("format", tar(entry(size=0, type=tarfile.LNKTYPE, linkname="b"))),
        ("format", tar(entry(size=0, type=tarfile.DIRTYPE))),
        ("format", tar(entry(size=0, type=tarfile.CHRTYPE))),
        ("format", tar(entry(type=tarfile.AREGTYPE))),
        ("format", tar(entry(linkname="b"))),
        ("format", tar(entry())[:-512]),
        ("format", tar(entry()) + bytes(10240)),
        ("format", tar(entry()) + b"x"),
        ("format", tar(entry())[:-1] + b"x"),
        ("format", tar(entry())[:1023] + b"x" + tar(entry())[1024:]),
        ("format", tar(entry(size=600))[:1024]),
        ("format", tar(entry())[:512]),
        ("format", b""),
        ("format", b"x" * 10240),
        ("names", tar(entry("/a"))),
        ("names", tar(entry("../a"))),
        ("names", tar(entry("a/../b"))),
        ("names", tar(entry("a//b"))),
        ("names", tar(entry("./a"))),
        ("names", tar(entry("a\\b"))),
        ("names", tar(entry("a\x1b[2J"))),
        ("names", tar(entry("a" * 65))),
        ("names", tar(entry("a/b/c/d/e/f/g"))),
        ("names", tar(entry("boot.py"))),
        ("names", tar(entry("boot.mpy"))),
        ("names", tar(entry("lib/sealboot/slots.mpy"))),
        ("names", tar(entry("lib/sealboot.mpy"))),
        ("names", tar(entry("sealboot.py"))),
        ("names", tar(entry("a"), entry("a/b"))),
        ("order", tar(entry("b"), entry("a"))),
        ("order", tar(entry("a"), entry("a"))),
        ("order", tar(entry("a"), entry("B"))),
        ("count", tar(*(entry(f"{number:03}", 0) for number in range(129)))),
        ("count", tar()),
    ],
)
def test_archive_that_breaks_a_rule_is_told_by_it(rule: str, content: bytes):
    read = archive.parse(content)
    found = {name for name in ("format", "names", "order", "count") if getattr(read, name)}
    assert rule in found
    assert found <= {rule, "count"}
    assert not read.ok


def test_archive_in_its_only_form_is_taken_apart():
    content = tar(*(entry(f"{number:03}", number) for number in range(128)))
    read = archive.parse(content)
    assert read.ok
    assert [(e.name, e.size) for e in read.entries] == [(f"{number:03}", number) for number in range(128)]


def test_firmware_is_no_archive():
    content = b"\xe9firmware" * 100
    made = manifest.Release(**{**vars(release(content)), "component": wire.COMPONENT_FW})
    report = check(signed(manifest.encode(made), KEYS[:2]), content=content)
    assert report.ok
    assert {rule.name for rule in report.rules if rule.holds is None} == set(RULES[RULES.index("archive-format") :])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(cli.sealband.commands, "verify", release_signing.verify)
    made = signed_release.write(tmp_path / "release")
    (made / "manifest.suit").write_bytes(signed((made / "manifest.suit").read_bytes(), KEYS[:2]))
    (tmp_path / "trust.cbor").write_bytes(TRUST)
    return made


def test_command_says_of_each_rule_whether_it_holds(folder: Path, capsys: pytest.CaptureFixture[str]):
    listed = ["--trust", str(folder.parent / "trust.cbor")]
    for path in (folder, folder / "manifest.suit"):
        assert cli.run(["verify", str(path), *listed, "--model", signed_release.MODEL, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["ok"]
        assert [(rule["name"], rule["holds"]) for rule in result["rules"]] == [(name, True) for name in RULES]
    assert cli.run(["verify", str(folder), *listed, "--model", "t-beam-sx1262"]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[1] for line in out.splitlines() if line.startswith("BROKEN")] == ["class"]
    assert "Broken: class." in err
    assert all(name in out for name in RULES)
    assert manifest.decode((folder / "manifest.suit").read_bytes()).release.digest.hex() in out


def test_command_looks_at_the_image_of_a_folder_and_refuses_another(folder: Path, capsys: pytest.CaptureFixture[str]):
    listed = ["--trust", str(folder.parent / "trust.cbor")]
    other = folder.parent / "other.tar"
    other.write_bytes(image({"main.py": b"evil"}))
    assert cli.run(["verify", str(folder), *listed, "--image", str(other)]) == 1
    assert "image-digest" in capsys.readouterr().err
    (folder / "app.tar").write_bytes(other.read_bytes())
    assert cli.run(["verify", str(folder), *listed]) == 1
    assert cli.run(["verify", str(folder / "manifest.suit"), *listed]) == 1
    (folder / "app.tar").unlink()
    assert cli.run(["verify", str(folder / "manifest.suit"), *listed]) == 0
    assert cli.run(["verify", str(folder), *listed]) == 1
    assert cli.run(["verify", str(folder), *listed, "--model", "none"]) == 1
    assert "no board is of the model" in capsys.readouterr().err


def test_signer_whose_name_is_a_command_for_terminals_is_shown_as_text(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    one = sign1(KEYS[2], manifest.signature_payload(BARE))
    hostile = one.replace(signers.kid(KEYS[2].public_key), b"\x1b[2J\x1b[1m"[:8])
    path = folder / "manifest.suit"
    path.write_bytes(manifest.with_signature(path.read_bytes(), hostile))
    content = tar(entry("a\x1b[2J"))
    (folder / "app.tar").write_bytes(content)
    assert cli.run(["verify", str(folder), "--trust", str(folder.parent / "trust.cbor")]) == 1
    assert "\x1b" not in "".join(capsys.readouterr())
