"""`sealband registry …`: every step of a device's life by the commands, in JSON and for people."""

import base64
import datetime
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from host_tools.cli import run
from provisioning import certificates, signers
from provisioning.labels import Label
from provisioning.tickets import TicketFile
from tests.support.operators import log_in
from tests.support.registries import MASTER_KEY, MODEL, TemporaryRegistry, add_record
from tests.support.soft_board import SoftBoard, public_bytes


class Desk:
    """One registry, and somebody who may do all that is tried here."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.registry = TemporaryRegistry(folder)
        self.folder = folder
        self._capsys = capsys
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(base64.b64encode(MASTER_KEY))
        session = log_in(self.registry.vault, folder, "factory", "fleet", "care", name="all")
        for name, value in (("DATABASE", self.registry.database), ("KEY_FILE", key), ("SESSION", session)):
            monkeypatch.setenv(f"SEALBAND_{name}", str(value))
        monkeypatch.setenv("SEALBAND_BATCH_KEY", f"file:{folder / 'batches.pem'}")

    def __call__(self, *words: object, status: int = 0) -> Any:
        done = run(["registry", *map(str, words), "--json"])
        out, error = self._capsys.readouterr()
        assert done == status, error
        return json.loads(out if status == 0 or out else error)

    def people(self, *words: object) -> str:
        assert run(["registry", *map(str, words)]) == 0
        out, error = self._capsys.readouterr()
        return out + error

    def board(self, name: str, board: SoftBoard, file: TicketFile, ticket: int = 0) -> Path:
        path = self.folder / f"{name}.journal"
        add_record(path, board, board.enrol(file.tickets[ticket], os.urandom(16), 0))
        return path


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, capsys, monkeypatch)


def test_settings_consent_and_a_status_are_asked_for_by_name(desk: Desk):
    desk("quota", MODEL, 1)
    file = desk.registry.issue(1)
    board = SoftBoard()
    eui = board.eui.hex()
    desk("import", desk.board("a", board, file))
    assert desk("configure", eui, "send_every_s=300", "adaptive_rate=0")["command"]
    assert "3000" in desk("configure", eui, "power_dbm=3000", status=1)["error"]
    assert "sende" in desk("configure", eui, "sende=300", status=1)["error"]
    assert desk("consent", eui, "heart_rate", "4", "70")["command"]
    assert "no record" in desk("consent", eui, "heartrate", status=1)["error"]
    assert desk("consent", eui, "--nothing")["state"] == "ordered"
    assert desk("report", eui)["eui"] == eui
    assert "next answers" in desk.people("report", eui)
    for wrong in (
        ["configure", eui],
        ["configure", eui, "send_every_s"],
        ["configure", eui, "send_every_s=-3"],
        ["configure", eui, "send_every_s=300", "send_every_s=60"],
        ["consent", eui],
        ["consent", eui, "heart_rate", "--nothing"],
    ):
        assert run(["registry", *wrong, "--json"]) == 2


def test_a_device_from_its_ticket_to_its_second_life(desk: Desk):
    service = public_bytes(ec.generate_private_key(ec.SECP256R1()))
    out = desk.folder / "tickets.json"
    assert desk("quota", MODEL, 3) == [
        {"model": MODEL, "open_max": 3, "open": 0, "a_day_max": None, "last_day": 0},
    ]
    told = desk("issue", "--model", MODEL, "--count", 3, "--out", out, "--service-key", service.hex())
    assert "quota" in desk("issue", "--model", MODEL, "--count", 1, "--out", f"{out}2", status=1)["error"]
    file = TicketFile.from_bytes(out.read_bytes())
    assert file.service == service
    board = SoftBoard()
    eui = board.eui.hex()
    path = desk.board("a", board, file)
    assert desk("import", path)["admitted"] == [eui]
    assert desk("devices", "--state", "enrolled")[0]["eui"] == eui
    assert desk("devices", "--state", "active") == desk("devices", "--model", "other") == []
    assert desk("devices", "--batch", told["batch"])[0]["epoch"] == 0
    assert desk("suspend", eui, "--reason", "lent")["state"] == "suspended"
    assert "suspended" in desk("rekey", eui, status=1)["error"]
    assert desk("resume", eui)["state"] == "enrolled"
    assert desk("rekey", eui)["command"]
    assert "under way" in desk("rekey", eui, status=1)["error"]

    claim = HKDFExpand(hashes.SHA256(), 10, b"sealband/1 claim").derive(board.root)
    label = desk.folder / "label"
    label.write_text(Label(board.eui, MODEL, claim).text + "\n")
    assert desk("claim", "--wearer", "ward 3", "--label-file", label)["account"] == "ward 3"
    assert "claimed" in desk("claim", "--account", "thief", "--label-file", label, status=1)["error"]
    assert desk("release-claim", eui)["account"] == "ward 3"

    assert "enrolled again only when" in desk("reenrol", eui, status=1)["error"]
    assert desk("retire", eui)["state"] == "retiring"
    assert desk("retire", eui, "--lost")["state"] == "retired"
    second = SoftBoard(board.eui)
    again = desk.board("b", second, file, 1)
    (refusal,) = desk("import", again, status=1)["refused"]
    assert refusal["reason"] == "eui_taken" and told["batch"] in refusal["text"] and "retired" in refusal["text"]
    assert desk("reenrol", eui)["may_be_enrolled_again"]
    assert desk("import", again)["admitted"] == [eui]
    assert [row["eui"] for row in desk("devices")] == [f"{eui}.1", eui]

    shown = desk("show", f"{eui}.1")
    assert (shown["state"], shown["batch"]) == ("retired", told["batch"])
    events = [(event["event"], event["actor"]) for event in shown["history"]]
    assert ("device_suspended", "operator:all") in events
    assert events[0][0] == "device_enrolled" and events[-1][0] == "device_reenrol_allowed"
    assert [event["event"] for event in desk("show", eui)["history"]] == ["device_enrolled"]
    assert "lent" in desk.people("show", f"{eui}.1")
    assert desk("revoke", eui, "--reason", "stolen")["state"] == "revoked"
    assert desk("revoke-batch", told["batch"])["revoked"] == 1
    assert desk("batches")[0]["used"] == 2
    for words in (("devices",), ("batches",), ("quota", MODEL, "--none"), ("issuer", "list")):
        desk.people(*words)


def test_certificates_lists_and_tokens(desk: Desk):
    root, issuing, service = (signers.create_file_key(desk.folder / f"{name}.pem") for name in ("r", "i", "s"))
    now = datetime.datetime.now(datetime.UTC)
    certificate = certificates.create_root(root, "Root", 7300, now)
    (desk.folder / "root.pem").write_bytes(certificates.to_pem(certificate))
    tickets, whole = desk.folder / "tickets", desk.folder / "whole"
    key = f"file:{desk.folder / 's.pem'}"
    batch = desk("issue", "--model", MODEL, "--count", 1, "--out", tickets, "--service-key", key)["batch"]
    made = desk(
        *("issuer", "create", batch, "--root-cert", desk.folder / "root.pem", "--root-key"),
        *(f"file:{desk.folder / 'r.pem'}", "--issuing-key", f"file:{desk.folder / 'i.pem'}"),
        *("--days", 30, "--out", whole),
    )
    assert made["batch"] == batch and desk("issuer", "list")[0]["key"] == made["key"]
    file = TicketFile.from_bytes(whole.read_bytes(), desk.registry.signer.public_key)
    x509.load_der_x509_certificate(file.issuer).verify_directly_issued_by(x509.load_der_x509_certificate(certificate))
    assert issuing.public_key == certificates.read_issuer(file.issuer).public_key
    board = SoftBoard()
    desk("import", desk.board("a", board, file))

    listed, rules = desk.folder / "list.json", desk.folder / "acl"
    assert desk("broker-list", "--out", listed, "--acl", rules)["allowed"] == 1
    assert json.loads(listed.read_text())["devices"][board.eui.hex()]["allow"]
    assert f"topic write sb/v1/d/{board.eui.hex()}/up" in rules.read_text()
    assert desk("crl", "--issuing-key", f"file:{desk.folder / 'i.pem'}", "--out", desk.folder / "crl")["lists"] == 1
    lists = x509.load_pem_x509_crl((desk.folder / "crl").read_bytes())
    assert lists.is_signature_valid(x509.load_der_x509_certificate(file.issuer).public_key())

    import cbor2

    from provisioning import service_tokens

    nonce = os.urandom(16)
    challenge = cbor2.dumps(["sealband/1 challenge", board.eui, nonce, MODEL, 1])
    token = desk("service-token", challenge.hex(), "--key", key)
    asked = service_tokens.parse_challenge(challenge)
    service_tokens.check(bytes.fromhex(token["token"]), asked, service.public_key, token["not_after"] - 1735689600 - 1)
    wrong = f"file:{desk.folder / 'i.pem'}"
    assert "not this one" in desk("service-token", challenge.hex(), "--key", wrong, status=1)["error"]
    desk("revoke", board.eui.hex())
    assert desk("broker-list", "--out", listed)["refused"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ("show", "xyz"),
        ("show", "00"),
        ("suspend", "0011223344556677"),
        ("suspend", "0011223344556677.1"),
        ("revoke-batch", "none"),
        ("service-token", "zz", "--key", "file:none"),
        ("issue", "--model", "m", "--count", "1", "--out", "x", "--service-key", "0" * 130),
        ("import", "missing"),
    ],
)
def test_what_cannot_be_done_is_said_with_a_remedy(desk: Desk, words: tuple[str, ...]):
    told = desk(*words, status=1)
    assert told["error"] and told["remedy"] and "Traceback" not in told["error"]
