"""`sealband station run`, `resume` and `report` before any board is touched, and the root of devices' certificates."""

import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from host_tools.cli import run
from host_tools.cli.output import remark
from host_tools.cli.station_display import Display
from host_tools.cli.station_setup import Settings
from provisioning import signers
from provisioning.station.journal import BEGUN, FAILED, Journal
from provisioning.station.lane import Event
from provisioning.tickets import Ticket, TicketFile


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tickets for the virtual board and a tree."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEALBAND_REGISTRY_KEY", raising=False)
    monkeypatch.delenv("SEALBAND_JOURNAL", raising=False)
    batch, other = (signers.create_file_key(tmp_path / f"{name}.pem") for name in ("batch", "other"))
    tickets = (Ticket(bytes(8), other.public_key),)
    for name, issuer in (("tickets.json", b""), ("certified.json", b"\x30\x00")):
        file = TicketFile.sign("b-1", "virtual-wearable", 0, tickets, batch, b"", issuer)
        (tmp_path / name).write_bytes(file.to_bytes())
    for name in ("manifest", "slots/0"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(b"x")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["station", *words]) == 1
    return capsys.readouterr().err


RUN = ("run", "--ports", "no-such-port", "--keep-firmware", "--tree", "tree")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((*RUN, "--tickets", "certified.json"), "its key is not named"),
        ((*RUN, "--tickets", "tickets.json", "--issuing-key", "file:other.pem"), "has no issuing certificate"),
        ((*RUN, "--tickets", "tickets.json", "--board", "LILYGO_T_BEAM"), "the tickets are for virtual-wearable"),
        ((*RUN[:-1], "slots", "--tickets", "tickets.json"), "not what a station puts onto boards"),
        (("run", "--ports", "p", "--tree", "tree", "--tickets", "tickets.json"), "names no firmware image"),
        ((*RUN, "--tickets", "tickets.json", "--known", "tickets.json"), "line 1 of the journal was changed"),
        (("resume",), "begin with: sealband station run"),
    ],
)
def test_station_that_is_set_up_wrongly_touches_no_board(
    desk: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str
):
    assert text in refused(capsys, *words)


def test_tickets_that_another_key_signed_are_refused(desk: Path, capsys: pytest.CaptureFixture[str]):
    key = signers.open_signer("file:other.pem").public_key.hex()
    assert "is signed by" in refused(capsys, *RUN, "--tickets", "tickets.json", "--registry-key", key)


def test_settings_come_back_and_hold_no_secret(desk: Path):
    words = Settings("tickets.json", "tree", ports=("a", "b"), issuing_key="file:issuing.pem", known=("other",))
    words.save(desk / "station.journal")
    assert Settings.load(desk / "station.journal") == words
    (desk / "station.journal.run").write_text('{"tickets": 1, "more": 2}')
    assert run(["station", "resume"]) == 1


def test_report_as_json_csv_and_html(desk: Path, capsys: pytest.CaptureFixture[str]):
    with Journal.open(desk / "station.journal") as journal:
        journal.append(BEGUN, lane="1", port="p")
        journal.append(FAILED, eui="", ticket="", reason="wrong_model", step="identify")
    assert run(["station", "report", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["failures"] == [{"step": "identify", "reason": "wrong_model", "count": 1}] and found["begun"] == 1
    assert run(["station", "report", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("eui,ticket,state")
    assert run(["station", "report", "--format", "html", "--out", "report.html"]) == 0
    assert "identify: wrong_model" in (desk / "report.html").read_text()
    data = (desk / "station.journal").read_bytes()
    (desk / "station.journal").write_bytes(data.replace(b"wrong_model", b"no_answer__"))
    assert "was changed" in refused(capsys, "report")


def test_root_certificate_is_one_for_openssl(desk: Path, capsys: pytest.CaptureFixture[str]):
    words = ["registry", "issuer", "root", "--key", "file:other.pem", "--name", "Example", "--out", "root.crt"]
    assert run(words) == 0
    shown = x509.load_pem_x509_certificate((desk / "root.crt").read_bytes())
    assert shown.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", "root.crt", "root.crt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(words) == 1, "over a certificate that is there"


def test_escapes_in_a_stranger_s_text_reach_no_terminal(capsys: pytest.CaptureFixture[str]):
    # such as the name in an issuing certificate of a ticket file that nobody trusted has signed
    text = "batch b\x1b[2J\x1b]0;x\x07\x9b2J"
    with Display(["port"], 1, 0, as_json=False) as display:
        display.show(Event(1, "port", "failed", step="certify", reason="certificate", text=text))
        display.show(Event(1, "port", "broken", text=text))
    remark(text + "\nsecond line")
    said = capsys.readouterr().err
    assert said.count("batch b") == 3 and "\nsecond line" in said
    assert not any(c in said for c in "\x1b\x07\x9b")
