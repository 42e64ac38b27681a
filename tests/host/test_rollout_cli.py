"""`sealband rollout`, as people and programs call it."""

import base64
import json
import stat
from pathlib import Path

import pytest

from host_tools import cli
from sealwire import update
from tests.host.test_rollout_published import BASE, MODEL, envelope, put
from tests.support.fleet import MASTER_KEY
from tests.support.operators import log_in
from tests.support.rollouts import RolloutFleet, eui


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fleet = RolloutFleet(tmp_path)
    key = tmp_path / "key"
    key.write_bytes(base64.b64encode(MASTER_KEY))
    key.chmod(stat.S_IRUSR)
    monkeypatch.setenv("SEALBAND_DATABASE", str(fleet.path))
    monkeypatch.setenv("SEALBAND_KEY_FILE", str(key))
    monkeypatch.setenv("SEALBAND_SESSION", str(log_in(fleet.vault, tmp_path, "fleet")))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setitem(cli.COMMANDS, "rollout", "Roll releases out.")
    yield fleet
    fleet.close()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    from provisioning import signers

    folder = tmp_path / "files"
    put(folder, envelope(7, by=[signers.create_file_key(tmp_path / "release.pem")]))
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.run(("rollout", *arguments))
    output = capsys.readouterr()
    return status, output.out, output.err


def create(capsys: pytest.CaptureFixture[str], repository: Path, *more: str) -> tuple[int, str, str]:
    return call(capsys, "create", "--model", MODEL, "--repository", str(repository), "--base-url", BASE, *more)


def test_create_and_watch_it_to_its_end(fleet: RolloutFleet, repository: Path, capsys):
    boards = [fleet.wear() for _ in range(2)]
    status, out, err = create(capsys, repository)
    assert (status, out) == (0, "")
    assert "Rollout 1: release 7 (1.7) to 2 devices of test-band" in err
    assert "signatures were not checked" in err
    boards[0].send(boards[0].report(update.REFUSED, update.OLD_SEQUENCE))
    boards[1].send(boards[1].report(update.CONFIRMED))
    status, out, _ = call(capsys, "status")
    assert status == 0
    assert "1 of 2: 1 confirmed, 1 refused" in out
    assert "done" in out
    status, out, _ = call(capsys, "status", "1")
    assert "old_sequence" in out
    assert boards[0].wearable.eui.hex() in out
    status, out, _ = call(capsys, "status", "--watch", "--json")
    assert json.loads(out)[0]["state"] == "done"


def test_machines_see_json(fleet: RolloutFleet, repository: Path, capsys):
    board = fleet.wear()
    told = json.loads(create(capsys, repository, "--json")[1])
    assert (told["rollout"], told["sequence"], told["state"], told["devices"]) == (1, 7, "active", {"ordered": 1})
    for command, state in (("pause", "paused"), ("resume", "active"), ("abort", "aborted")):
        assert json.loads(call(capsys, command, "1", "--json")[1])["state"] == state
    (told,) = json.loads(call(capsys, "status", "1", "--json")[1])
    assert [(one["device"], one["state"]) for one in told["each"]] == [(board.wearable.eui.hex(), "withdrawn")]
    assert json.loads(call(capsys, "status", "--json")[1])[0].get("each") is None


def test_one_manifest_and_its_url(fleet: RolloutFleet, repository: Path, capsys):
    board, other = fleet.wear(), fleet.wear()
    manifest = repository / MODEL / "7" / "manifest.suit"
    arguments = ("--model", MODEL, "--manifest", str(manifest), "--url", f"{BASE}/m", "--device")
    dashed = board.wearable.eui.hex("-")
    assert call(capsys, "create", *arguments, dashed)[0] == 0
    assert (fleet.state(board), fleet.state(other)) == ("ordered", "")


WRONG = {
    "no such model": (("--model", "no-such"), 1, "holds no release for no-such"),
    "no such device": (("--device", eui().hex()), 1, "not enrolled"),
    "no EUI": (("--device", "band-1"), 1, "not an EUI-64"),
    "no such release": (("--sequence", "9"), 1, "holds no release 9"),
    "no trust list": (("--trust", "/nowhere"), 1, "/nowhere"),
    "both ways": (("--manifest", "m"), 2, "either"),
    "a URL with a user": (("--base-url", "https://a@b.example"), 1, "do not fetch"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_done_is_said_in_two_lines(fleet: RolloutFleet, repository: Path, capsys, name):
    fleet.wear()
    arguments, expected, said = WRONG[name]
    status, out, err = create(capsys, repository, *arguments)
    assert (status, out) == (expected, "")
    assert said in err
    assert err.count("\n") == 2
    assert "to do:" in err
    assert call(capsys, "status", "--json")[1] == "[]\n"


def test_a_second_one_names_what_to_do(fleet: RolloutFleet, repository: Path, capsys):
    board = fleet.wear()
    create(capsys, repository)
    status, _, err = create(capsys, repository)
    assert status == 1
    assert "rollout 1 is under way" in err
    assert "--replace" in err
    assert create(capsys, repository, "--replace")[0] == 0
    assert fleet.state(board) == "ordered"
    assert call(capsys, "status", "3")[0] == 1
    assert call(capsys, "pause", "1")[0] == 1
    assert call(capsys, "abort", "7")[0] == 1


def test_nothing_to_show(fleet: RolloutFleet, capsys):
    assert call(capsys, "status") == (0, "", "There is no rollout.\n")


def test_ingest_status_shows_what_waits(fleet: RolloutFleet, repository: Path, capsys):
    board = fleet.wear(data_rate="SF12BW125", runs=3)
    create(capsys, repository)
    board.send(board.status())
    board.contacts(3)
    capsys.readouterr()
    assert cli.run(("ingest", "status", "--json")) == 0
    (told,) = json.loads(capsys.readouterr().out)["devices"]
    assert (told["release"], told["commands"], told["too_long"]) == (3, 1, 1)
