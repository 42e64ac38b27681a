"""The commands `ingest` and `readings`, as people and programs call them."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host_tools import cli
from tests.support.fleet import (
    GATEWAY,
    MASTER_KEY,
    NOW,
    OTHER_GATEWAY,
    AuditEvent,
    Fleet,
    message,
    process,
    telemetry,
    uplink,
)
from tests.support.mqtt_peer import MqttPeer
from tests.support.operators import log_in


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fleet = Fleet(tmp_path)
    key = tmp_path / "key"
    key.write_bytes(base64.b64encode(MASTER_KEY))
    key.chmod(stat.S_IRUSR)
    monkeypatch.setenv("SEALBAND_DATABASE", str(fleet.path))
    monkeypatch.setenv("SEALBAND_KEY_FILE", str(key))
    monkeypatch.setenv("SEALBAND_SESSION", str(log_in(fleet.vault, tmp_path, "care")))
    monkeypatch.setenv("COLUMNS", "120")
    yield fleet
    fleet.close()


@pytest.fixture
def wearable(fleet: Fleet):
    wearable = fleet.add()
    sent = (telemetry(72, 73, None, 71), message(0, 1, [1, 0, 60]), message(1, 2, 2))
    process(fleet.intake(), *(uplink(wearable.seal(plaintext)) for plaintext in sent))
    return wearable


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.run(arguments)
    output = capsys.readouterr()
    return status, output.out, output.err


def test_people_see_a_table(wearable, capsys: pytest.CaptureFixture[str]):
    status, out, _ = call(capsys, "readings", "show")
    assert status == 0
    lines = [line for line in out.splitlines() if wearable.eui.hex() in line]
    assert len(lines) == 5
    assert "2025-01-01T00:00:01Z" in lines[0]
    assert "event/sos" in lines[1]
    assert "heart_rate" in lines[2]
    assert "72 beat/min" in lines[2]


def test_machines_see_json(wearable, capsys: pytest.CaptureFixture[str]):
    status, out, _ = call(capsys, "readings", "show", "--json", "--record", "heart_rate", "--last", "2")
    assert status == 0
    assert [(one["device"], one["value"], one["unit"]) for one in json.loads(out)] == [
        (wearable.eui.hex(), 73, "beat/min"),
        (wearable.eui.hex(), 71, "beat/min"),
    ]


def test_receptions_are_shown_by_gateway(wearable, fleet, capsys: pytest.CaptureFixture[str]):
    frame = wearable.seal(telemetry(70))
    process(fleet.intake(), uplink(frame, snr=2.5), uplink(frame, OTHER_GATEWAY, at=NOW + 0.1, snr=9.0))
    status, out, _ = call(capsys, "ingest", "receptions", "--json", "--device", wearable.eui.hex(), "--last", "1")
    assert status == 0
    (shown,) = json.loads(out)["frames"]
    assert shown["device"] == wearable.eui.hex()
    assert [(one["gateway"], one["snr"], one["answered"]) for one in shown["receptions"]] == [
        (GATEWAY, 2.5, False),
        (OTHER_GATEWAY, 9.0, True),
    ]
    status, out, _ = call(capsys, "ingest", "receptions")
    assert status == 0
    assert f"{OTHER_GATEWAY}*" in out
    assert call(capsys, "ingest", "receptions", "--device", "zz")[0] == 1


def test_export_writes_a_file_beside_and_renames_it(wearable, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "out.csv"
    path.write_text("older")
    assert call(capsys, "readings", "export", "--format", "csv", "--output", str(path))[0] == 0
    assert len(path.read_text().splitlines()) == 6
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir() if "out.csv" in entry.name] == ["out.csv"]


def test_export_that_fails_leaves_the_old_file(
    wearable, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from host_tools.ingest import export

    def fail(_readings):
        yield "half"
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export.FORMATS, "csv", fail)
    path = tmp_path / "out.csv"
    path.write_text("older")
    status, _, err = call(capsys, "readings", "export", "--format", "csv", "--output", str(path))
    assert status == 1
    assert "No space left" in err
    assert path.read_text() == "older"
    assert [entry.name for entry in tmp_path.iterdir() if "out.csv" in entry.name] == ["out.csv"]


def test_senml_and_json_exports_are_documents(wearable, capsys: pytest.CaptureFixture[str]):
    for name, count in (("senml", 5), ("json", 5)):
        status, out, _ = call(capsys, "readings", "export", "--format", name)
        assert status == 0
        assert len(json.loads(out)) == count


def test_looking_at_readings_is_in_the_audit_trail(wearable, capsys: pytest.CaptureFixture[str]):
    call(capsys, "readings", "show", "--device", wearable.eui.hex())
    event = AuditEvent.objects.latest("sequence")
    assert event.event == "sensitive_read"
    assert json.loads(event.details) == {"command": "readings show", "devices": [wearable.eui.hex()]}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("readings", "show", "--device", "zz"), 1, "not an EUI-64"),
        (("readings", "show", "--record", "pulse"), 1, "no record"),
        (("readings", "show", "--since", "later"), 1, "no time"),
        (("readings", "show", "--last", "0"), 2, "0"),
        (("readings", "show", "--follow", "--format", "csv"), 2, "--follow"),
        (("readings", "export", "--format", "xml"), 2, "xml"),
        (("readings", "show", "--database", "/nonexistent/x.db"), 1, "no registry"),
        (("ingest", "run", "--mqtt", "127.0.0.1:1"), 1, "cannot be reached"),
        (("ingest", "run", "--mqtt", "nowhere"), 2, "HOST:PORT"),
    ],
)
def test_what_cannot_be_done_is_said_in_two_lines(wearable, capsys, arguments, status, said):
    found, out, err = call(capsys, *arguments)
    assert (found, out) == (status, "")
    assert said in err
    assert err.count("\n") == 2
    assert "Traceback" not in err


def test_another_master_key_is_named(fleet: Fleet, wearable, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("SEALBAND_MASTER_KEY", base64.b64encode(bytes(32)).decode())
    status, out, err = call(capsys, "readings", "show")
    assert (status, out) == (1, "")
    assert "master key does not open" in err


def test_status_shows_devices_and_refusals(fleet: Fleet, wearable, capsys: pytest.CaptureFixture[str]):
    process(fleet.intake(), ("x", b""))
    status, out, _ = call(capsys, "ingest", "status", "--json")
    told = json.loads(out)
    assert status == 0
    assert told["refusals"] == {"bad_topic": 1}
    assert [(one["device"], one["frames"], one["link"]) for one in told["devices"]] == [(wearable.eui.hex(), 3, "lora")]
    assert "bad_topic" in call(capsys, "ingest", "status")[1]


@contextmanager
def running(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The command as a process; killed when it takes far too long, so that no read waits for ever."""
    command = [str(Path(sys.executable).parent / "sealband"), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process_:
        patience = threading.Timer(30, process_.kill)
        patience.start()
        try:
            yield process_
        finally:
            patience.cancel()
            process_.kill()


def test_ingest_runs_until_it_is_told_to_stop(fleet: Fleet, wearable):
    with MqttPeer() as broker, running("ingest", "run", "--json", "--mqtt", f"127.0.0.1:{broker.port}") as ingest:
        frame = wearable.seal(telemetry(80))
        broker.deliver(*uplink(frame, at=time.time()), 1)
        broker.deliver(*uplink(frame[:-1] + b"x"), 2)
        assert json.loads(ingest.stdout.readline())["event"] == "serving"
        told = [json.loads(ingest.stdout.readline()) for _ in range(2)]
        ingest.send_signal(signal.SIGTERM)
        out, err = ingest.communicate(timeout=20)
    assert ingest.returncode == 0, err
    assert {one["event"] for one in told} == {"frame", "refused"}
    assert json.loads(out.splitlines()[-1])["stored"] == 1
    # what a wearer's body said is not told to a log
    assert "80" not in json.dumps([one for one in told if one["event"] == "frame"]).replace(wearable.eui.hex(), "")


def test_following_goes_on_until_ctrl_c(fleet: Fleet, wearable):
    with running("readings", "show", "--follow", "--json", "--last", "1") as following:
        assert json.loads(following.stdout.readline())["value"] == 71
        process(fleet.intake(), uplink(wearable.seal(telemetry(91, 92))))
        assert [json.loads(following.stdout.readline())["value"] for _ in range(2)] == [91, 92]
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0
