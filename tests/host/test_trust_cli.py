"""`sealband trust`: three people with a key each make a list, sign it in turn, and hand it on."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from host_tools import cli
from host_tools.release import trust
from provisioning import signers
from provisioning.signers import secret
from tests.support import softhsm

SECRET = "correct horse battery staple"
SEALBAND = str(Path(sys.executable).with_name("sealband"))


@pytest.fixture(autouse=True)
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(cli.COMMANDS, "trust", "Keys, and the list of who may sign.")
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    return cli.run(["trust", *arguments])


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    capsys.readouterr()
    status = run(*arguments, "--json")
    out, err = capsys.readouterr()
    assert status in (0, 1), err
    return json.loads(out or err)


@pytest.fixture
def people(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    """Public parts of keys in files of their names."""
    names = ("root1", "root2", "root3", "rel1", "rel2", "rel3")
    return {name: made(capsys, "key", f"{name}.pem", "--no-passphrase") for name in names}


@pytest.fixture
def first(people: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str]) -> Path:
    arguments = []
    for name, who in people.items():
        arguments += ["--root" if name.startswith("root") else "--release", who["public"]]
    assert not made(capsys, "init", *arguments, "--root-threshold", "2", "--threshold", "2", "--out", "1.cbor")["holds"]
    return Path("1.cbor")


def test_list_is_made_signed_and_rotated_by_people_with_separate_keys(
    people: dict[str, dict[str, str]], first: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("show", "1.cbor") == 1
    assert made(capsys, "add", "1.cbor", "--key", "file:root1.pem", "--yes")["missing"] == {"own": 1, "previous": 0}
    shown = made(capsys, "add", "1.cbor", "--key", "file:root2.pem", "--yes")
    assert (shown["holds"], shown["verdict"]) == (True, "Valid as the first list.")
    assert run("show", "1.cbor") == 0
    assert "Valid as the first list" in capsys.readouterr().err

    kid = people["rel1"]["kid"]
    new = made(capsys, "key", "rel4.pem", "--no-passphrase")
    change = ["--remove-release", kid, "--add-release", new["public"], "--expires", "2099-01-01"]
    assert run("rotate", "1.cbor", *change, "--out", "2.cbor") == 0
    # a change can't be signed by whoever does not see it
    assert "can't be shown" in made(capsys, "add", "2.cbor", "--key", "file:root1.pem", "--yes")["error"]
    for name in ("root1", "root3"):
        assert run("add", "2.cbor", "--previous", "1.cbor", "--key", f"file:{name}.pem", "--yes") == 0
    shown = made(capsys, "show", "2.cbor", "--previous", "1.cbor")
    assert shown["holds"]
    assert {(k["kid"], k["change"]) for k in shown["keys"] if k["change"]} == {(kid, "removed"), (new["kid"], "added")}
    assert shown["expires"] == "2099-01-01 00:00 UTC"
    old = trust.decode(first.read_bytes()).trust
    assert trust.check_rotation(old, Path("2.cbor").read_bytes()).trust.version == 2


def test_nothing_is_built_on_a_draft_and_nothing_is_overwritten(first: Path, capsys: pytest.CaptureFixture[str]):
    assert "0 of its root keys" in made(capsys, "rotate", "1.cbor", "--out", "2.cbor")["error"]
    for name in ("root1", "root2"):
        assert run("add", "1.cbor", "--key", f"file:{name}.pem", "--yes") == 0
    before = first.read_bytes()
    assert "is there already" in made(capsys, "rotate", "1.cbor", "--out", "1.cbor")["error"]
    assert "is there already" in made(capsys, "key", "root1.pem", "--no-passphrase")["error"]
    assert first.read_bytes() == before
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_signing_twice_by_a_stranger_or_unconfirmed_changes_nothing(first: Path, capsys: pytest.CaptureFixture[str]):
    before = first.read_bytes()
    assert "nobody can be asked" in made(capsys, "add", "1.cbor", "--key", "file:root1.pem")["error"]
    assert "root key neither" in made(capsys, "add", "1.cbor", "--key", "file:rel1.pem", "--yes")["error"]
    assert first.read_bytes() == before
    assert run("add", "1.cbor", "--key", "file:root1.pem", "--yes") == 0
    before = first.read_bytes()
    assert "already" in made(capsys, "add", "1.cbor", "--key", "file:root1.pem", "--yes")["error"]
    assert first.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--remove-release", "0123456789abcdef"], "is no release key of this list"),
        (["--threshold", "4"], "release threshold"),
        (["--root-threshold", "0"], "root threshold"),
        (["--expires", "tomorrow"], "not a date"),
        (["--expires", "2025-01-02"], "is over"),
        (["--add-root", "p256:AAAA"], "not a public key"),
        (["--add-root", "none.pub"], "cannot be read"),
    ],
)
def test_rotation_that_cannot_be_is_refused(
    first: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    for name in ("root1", "root2"):
        assert run("add", "1.cbor", "--key", f"file:{name}.pem", "--yes") == 0
    refused = made(capsys, "rotate", "1.cbor", *arguments, "--out", "2.cbor")
    assert message in refused["error"]
    assert refused["remedy"]
    assert not Path("2.cbor").exists()


def test_public_part_is_the_same_as_text_file_pem_and_uri(
    people: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str]
):
    text = people["rel1"]["public"]
    assert made(capsys, "public", "--key", "file:rel1.pem", "--out", "rel1.pub")["public"] == text
    subprocess.run(["openssl", "ec", "-in", "rel1.pem", "-pubout", "-out", "rel1.pub.pem"], check=True, timeout=30)
    names = [text, "rel1.pub", "rel1.pub.pem", "file:rel1.pem"]
    assert len({signers.open_public(name) for name in names}) == 1
    assert signers.kid(signers.open_public(text)).hex() == people["rel1"]["kid"]
    # the last character has four bits that no byte uses
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = text[:-1] + alphabet[alphabet.index(text[-1]) | 1]
    for wrong in (
        twin,
        text[:-1],
        text + "A",
        text[:-1] + ("B" if text[-1] != "B" else "C"),
        "p256:" + "A" * 86,
        "p256:",
        "x",
    ):
        with pytest.raises(signers.SignerError):
            signers.open_public(wrong)


@softhsm.needs_softhsm()
def test_root_key_on_a_token_signs_a_list(people: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str]):
    softhsm.make_key("root on a token")
    uri = softhsm.uri("root%20on%20a%20token")
    arguments = ["--root", uri, "--root-threshold", "1", "--release", "file:rel1.pem", "--threshold", "1"]
    made(capsys, "init", *arguments, "--out", "1.cbor")
    assert made(capsys, "add", "1.cbor", "--key", uri, "--yes")["holds"]


def test_new_key_is_encrypted_with_a_passphrase_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = tmp_path / "passphrase"
    path.touch(mode=0o600)
    path.write_text(SECRET + "\n")
    monkeypatch.setenv(secret.ENVIRONMENT, str(path))
    assert run("key", "mine.pem") == 0
    assert b"ENCRYPTED" in Path("mine.pem").read_bytes()
    assert signers.open_signer("file:mine.pem", lambda prompt: SECRET)


def test_new_key_without_a_passphrase_is_refused_unless_asked_for(capsys: pytest.CaptureFixture[str]):
    refused = made(capsys, "key", "mine.pem")
    assert "no passphrase" in refused["error"]
    assert "--no-passphrase" in refused["remedy"]
    assert not Path("mine.pem").exists()


def on_a_terminal(arguments: list[str], typed: list[tuple[str, str]]) -> tuple[int, str]:
    """Run the command on a terminal of its own, and type each answer when its prompt is there."""
    code = f"from host_tools import cli; cli.COMMANDS['trust'] = 'x'; raise SystemExit(cli.run({arguments!r}))"
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    shown, limit = "", time.monotonic() + 60
    waiting = list(typed)
    while time.monotonic() < limit:
        if waiting and waiting[0][0] in shown.rpartition("\x00")[2]:
            os.write(terminal, waiting.pop(0)[1].encode() + b"\n")
            shown += "\x00"
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                chunk = os.read(terminal, 4096)
            except OSError:
                break
            if not chunk:
                break
            shown += chunk.decode(errors="replace")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown


def test_passphrases_and_consent_are_asked_for_on_a_terminal(first: Path, tmp_path: Path):
    status, shown = on_a_terminal(["trust", "key", "mine.pem"], [("passphrase: ", SECRET), ("again: ", SECRET)])
    assert status == 0, shown
    assert SECRET not in shown
    status, shown = on_a_terminal(["trust", "public", "--key", "file:mine.pem"], [("mine.pem: ", SECRET)])
    assert status == 0, shown
    assert "p256:" in shown
    assert SECRET not in shown
    status, shown = on_a_terminal(["trust", "key", "b.pem"], [("passphrase: ", SECRET), ("again: ", SECRET + "x")])
    assert status == 1
    assert "differ" in shown
    add = ["trust", "add", "1.cbor", "--key", "file:root1.pem"]
    before = first.read_bytes()
    status, shown = on_a_terminal(add, [("[y/N]", "n")])
    assert (status, "not confirmed" in shown, first.read_bytes() == before) == (1, True, True)
    status, shown = on_a_terminal(add, [("[y/N]", "y")])
    assert (status, "Signed by" in shown, first.read_bytes() == before) == (0, True, False)
