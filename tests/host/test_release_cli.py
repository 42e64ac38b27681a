"""`sealband release` from source to a server, as people and programs call it."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from host_tools import cli
from host_tools.cli import release as command
from provisioning import signers
from tests.support import firmware_image
from tests.support.micropython import ROOT
from tests.support.signed_release import make_signers, trust_file


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.sealband.commands, "release", command.group)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A small folder of device code."""
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "main.py").write_text("import app\n")
    (tmp_path / "device" / "app.py").write_text("VERSION = 1\n")
    return tmp_path / "device"


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    """Two release keys as files, and the trust list that needs both: trust.cbor."""
    listed = []
    for name in ("alice", "bob"):
        signers.create_file_key(tmp_path / f"{name}.pem")
        listed.append(f"file:{tmp_path / name}.pem")
    opened = [signers.open_signer(uri) for uri in listed]
    (tmp_path / "trust.cbor").write_bytes(trust_file(opened, make_signers(1)))  # type: ignore[arg-type]
    return listed


def build(code: Path, out: Path, *more: str) -> int:
    arguments = ["release", "build", "--board", "VIRTUAL", "--device", str(code), "--version", "1.0", "--out", str(out)]
    return cli.run([*arguments, *more])


def failure(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    value: dict[str, str] = json.loads(capsys.readouterr().err)
    return value


def test_way_from_source_to_a_server(
    code: Path, keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    www, trust = tmp_path / "www", str(tmp_path / "trust.cbor")
    for sequence in (1, 2):
        (code / "app.py").write_text(f"VERSION = {sequence}\n")
        out = tmp_path / f"out{sequence}"
        assert build(code, out, "--sequence", str(sequence), *(["--previous", str(www)] if sequence > 1 else [])) == 0
        for key in keys:
            assert cli.run(["release", "sign", str(out), "--key", key, "--yes"]) == 0
        assert cli.run(["release", "verify", str(out), "--trust", trust]) == 0
        capsys.readouterr()
        arguments = ["release", "publish", str(www), "--release", str(out), "--trust", trust, "--json"]
        assert cli.run(arguments) == 0
        done = json.loads(capsys.readouterr().out)
    assert done["path"] == "virtual-wearable/2/manifest.suit"
    assert (done["sequence"], list(done["patches"]), done["trust"]) == (2, ["1"], [1])
    serve = "import sys; from host_tools.cli.release import group; group(sys.argv[1:])"
    server = subprocess.Popen(
        [sys.executable, "-c", serve, "serve", str(www), "--port", "0", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        url = json.loads(server.stdout.readline())["url"]
        with urllib.request.urlopen(f"{url}/{done['path']}", timeout=10) as answer:
            assert answer.read() == (tmp_path / "out2" / "manifest.suit").read_bytes()
        assert json.loads(server.stdout.readline())["line"].startswith("GET")
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=10) == 0
    finally:
        server.kill()
        server.wait()


def test_build_says_what_was_made_and_what_to_do_next(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(code, tmp_path / "out", "--sequence", "1") == 0
    shown = capsys.readouterr()
    described = json.loads((tmp_path / "out" / "release.json").read_text())
    assert described["digest"] in shown.out and described["manifest"] in shown.out
    assert f"sealband release sign {tmp_path / 'out'}" in " ".join(shown.err.split())
    assert build(code, tmp_path / "json", "--sequence", "1", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["digest"] == described["digest"]
    assert shown.err == ""


@pytest.mark.parametrize(
    ("arguments", "error", "remedy"),
    [
        ((), "the release has no sequence", "--sequence"),
        (("--sequence", "1", "--out", "."), "is there already", "choose another name"),
        (("--sequence", "1", "--device", "nowhere"), "main.py is not there", "--device"),
        (("--sequence", "1", "--lock", "nowhere"), "nowhere", "check the path"),
        (("--sequence", "1", "--previous", "nowhere"), "nowhere", "check the path"),
        (("--sequence", "1", "--board", "NONE"), "no board 'NONE'", ""),
        (("--sequence", "1", "--firmware", "app.py"), "does not begin with E9", "application image"),
        (("--sequence", "1", "--version", "\x1b[1m"), "printable", "build"),
    ],
)
def test_build_that_cannot_be_done_says_why_and_what_to_do(
    code: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    error: str,
    remedy: str,
) -> None:
    monkeypatch.chdir(code)
    assert build(code, tmp_path / "out", *arguments, "--json") == 1
    said = failure(capsys)
    assert error in said["error"] and remedy in said["remedy"] and said["remedy"]
    assert not (tmp_path / "out").exists()


def test_source_that_does_not_compile_is_named_without_a_traceback(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (code / "app.py").write_text("def (:\n")
    assert build(code, tmp_path / "out", "--sequence", "1", "--json") == 1
    said = failure(capsys)
    assert said["error"].startswith("app: ") and "SyntaxError" in said["error"]
    assert said["remedy"].startswith("correct")


@pytest.mark.parametrize("arguments", [("--sequence", "0"), ("--sequence", "x"), ("--app", "a", "--firmware", "f")])
def test_wrong_use_is_status_2(code: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert build(code, tmp_path / "out", "--sequence", "1", *arguments) == 2
    assert not (tmp_path / "out").exists()


def test_firmware_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "micropython.bin").write_bytes(firmware_image.make())
    arguments = ["--sequence", "3", "--firmware", str(tmp_path / "micropython.bin"), "--json"]
    assert build(tmp_path, tmp_path / "out", *arguments) == 0
    assert json.loads(capsys.readouterr().out)["component"] == "fw"


def test_source_date_gets_into_the_sbom(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    assert build(code, tmp_path / "out", "--sequence", "1") == 0
    assert '"timestamp": "2026-01-01T00:00:00+00:00"' in (tmp_path / "out" / "sbom.cdx.json").read_text()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    capsys.readouterr()
    assert build(code, tmp_path / "other", "--sequence", "1", "--json") == 1
    assert "SOURCE_DATE_EPOCH" in failure(capsys)["error"]


def test_unsigned_release_is_not_published(
    code: Path, keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(code, tmp_path / "out", "--sequence", "1") == 0
    assert cli.run(["release", "sign", str(tmp_path / "out"), "--key", keys[0], "--yes"]) == 0
    capsys.readouterr()
    trust = str(tmp_path / "trust.cbor")
    arguments = ["release", "publish", str(tmp_path / "www"), "--release", str(tmp_path / "out"), "--trust", trust]
    assert cli.run([*arguments, "--json"]) == 1
    said = failure(capsys)
    assert "1 different release keys signed, 2 are needed" in said["error"]
    assert "sealband release sign" in said["remedy"]
    assert [path for path in (tmp_path / "www").rglob("*") if path.is_file()] == []


def test_served_folder_that_is_none_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["release", "serve", str(tmp_path / "nothing"), "--json"]) == 1
    assert "nothing" in failure(capsys)["error"]
    assert os.listdir(tmp_path) == []
