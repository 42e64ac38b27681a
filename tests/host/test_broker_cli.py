"""`sealband broker …`, from the keys to a running mosquitto that lets in whom the registry lets in."""

import base64
import json
import os
import socket
import ssl
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from host_tools.broker import folder as folders
from host_tools.broker.rules import parse
from host_tools.cli import run
from host_tools.gateway import broker as brokers
from host_tools.gateway.broker import MosquittoBroker, free_port
from provisioning import certificates, signers
from provisioning.station.journal import CERTIFIED, Journal
from tests.support.broker_site import Client, common_name
from tests.support.operators import log_in
from tests.support.registries import MASTER_KEY, MODEL, TemporaryRegistry, add_record
from tests.support.soft_board import SoftBoard

mosquitto_only = pytest.mark.skipif(not MosquittoBroker.available(), reason="mosquitto is not installed")


class Desk:
    """A registry, somebody of the fleet, and the keys of both roots."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.registry, self.folder = TemporaryRegistry(folder), folder
        self._capsys, self._patch = capsys, monkeypatch
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(base64.b64encode(MASTER_KEY))
        monkeypatch.setenv("SEALBAND_DATABASE", str(self.registry.database))
        monkeypatch.setenv("SEALBAND_KEY_FILE", str(key))
        self.as_role("fleet")
        for name in ("root", "services", "issuing"):
            signers.create_file_key(folder / f"{name}.pem")
        for name in ("root", "services"):
            self("registry", "issuer", "root", "--key", self.key(name), "--name", name, "--out", folder / f"{name}.crt")
        self.home = folder / "broker"
        self.ports = free_port("127.0.0.1"), free_port("127.0.0.1")

    def key(self, name: str) -> str:
        return f"file:{self.folder / name}.pem"

    def as_role(self, *roles: str) -> None:
        self._patch.setenv("SEALBAND_SESSION", str(log_in(self.registry.vault, self.folder, *roles)))

    def __call__(self, *words: object, status: int = 0) -> Any:
        done = run([*map(str, words), "--json"])
        out, error = self._capsys.readouterr()
        assert done == status, error
        if status == 2:
            return {"error": error}
        return json.loads(out if status == 0 else error.strip().splitlines()[-1])

    def people(self, *words: object) -> str:
        assert run([*map(str, words)]) == 0
        out, error = self._capsys.readouterr()
        return str(out + error)

    def certificate(self, name: str, *more: object) -> Path:
        out = self.folder / f"{name}.cert.pem"
        ca = ("--ca", self.folder / "services.crt", "--ca-key", self.key("services"))
        self("broker", "certificate", name, *ca, "--out", out, *more)
        return out

    def first(self) -> tuple[object, ...]:
        """What the first `config` needs."""
        return (
            *(
                "config",
                self.home,
                "--host-name",
                "localhost",
                "--certificate",
                self.certificate("localhost", "--server"),
            ),
            *("--root", self.folder / "root.crt", "--services-root", self.folder / "services.crt"),
            *("--listen", f"127.0.0.1:{self.ports[0]}", "--services-listen", f"127.0.0.1:{self.ports[1]}"),
            *("--user", folders.own_user()),
        )

    def batch(self) -> None:
        """A batch with an issuing key."""
        now = datetime.now(UTC)
        self.file = self.registry.issue(4)
        self.issuer = certificates.create_issuer(
            der_of(self.folder / "root.crt"),
            signers.open_signer(self.key("root")),
            signers.open_signer(self.key("issuing")).public_key,
            self.file.batch,
            MODEL,
            30,
            365,
            now,
        )
        from provisioning.registry.models import Batch, Issuer

        Issuer.objects.create(
            batch=Batch.objects.get(name=self.file.batch),
            certificate=self.issuer,
            public_key=signers.open_signer(self.key("issuing")).public_key,
            created_at=now,
            ends_at=now + timedelta(days=395),
        )

    def board(self, ticket: int = 0) -> tuple[str, Path]:
        """A device that the registry admitted, with its certificate: EUI and PEM."""
        board, key = SoftBoard(), ec.generate_private_key(ec.SECP256R1())
        journal = self.folder / f"{ticket}.journal"
        add_record(journal, board, board.enrol(self.file.tickets[ticket], os.urandom(16), 0))
        csr = x509.CertificateSigningRequestBuilder().subject_name(common_name(board.eui.hex())).sign(key, SHA256())
        der = certificates.issue(
            csr.public_bytes(Encoding.DER),
            board.eui,
            self.issuer,
            signers.open_signer(self.key("issuing")),
            datetime.now(UTC),
        )
        with Journal.open(journal) as opened:
            opened.append(CERTIFIED, ticket=board.ticket.hex(), eui=board.eui.hex(), certificate=der.hex())
        assert self.registry.take(journal).certified == 1
        pem = self.folder / f"{board.eui.hex()}.pem"
        pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificates.to_pem(der))
        return board.eui.hex(), pem

    def context(self, pem: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "services.crt"))
        context.load_cert_chain(pem)
        return context

    def client(self, pem: Path, port: int) -> Client:
        return Client(self.context(pem), ("127.0.0.1", port), "x")


def der_of(pem: Path) -> bytes:
    return x509.load_pem_x509_certificate(pem.read_bytes()).public_bytes(Encoding.DER)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, capsys, monkeypatch)


@mosquitto_only
def test_device_of_the_registry_gets_in_until_it_is_revoked(desk: Desk):
    desk.batch()
    eui, pem = desk.board()
    told = desk("broker", *desk.first(), "--issuing-key", desk.key("issuing"))
    assert (told["devices"], told["issuers"], told["revoked"], told["restart"]) == (1, 1, 0, True)
    assert told["shared"].startswith("ingest-") and len(told["shared"]) == 23
    assert set(desk("broker", "check", desk.home)) == {
        "certificate until",
        "revocation lists until",
        "devices",
        "services",
    }
    worker = desk.certificate("ingest")
    with MosquittoBroker(folder=desk.home) as broker:
        ingest = desk.client(worker, broker.port)
        assert ingest.subscribe(f"$share/{told['shared']}/sb/v1/d/+/up")
        device = desk.client(pem, broker.devices[1])
        device.publish(f"sb/v1/d/{eui}/up", b"frame")
        assert ingest.wait(1) == [(f"sb/v1/d/{eui}/up", b"frame")]
        time.sleep(1.1)  # lists are told apart by the second that they were made in
        desk("registry", "revoke", eui)
        told = desk("broker", "reload", desk.home)
        assert (told["devices"], told["revoked"], told["restart"]) == (0, 1, False) and told["reloaded"]
        assert set(told["changed"]) == {folders.CRL, folders.RULES}
        time.sleep(0.5)
        device.publish(f"sb/v1/d/{eui}/up", b"too late")
        device.close()
        with (
            pytest.raises(ssl.SSLError, match=r"(?i)revoked"),
            socket.create_connection(broker.devices, 10) as raw,
            desk.context(pem).wrap_socket(raw, server_hostname="localhost") as link,
        ):
            link.recv(1)
        ingest.close()
        assert ingest.got == [(f"sb/v1/d/{eui}/up", b"frame")]
    assert desk("broker", "reload", desk.home)["reloaded"] is None
    assert desk("audit", "verify", status=1)["error"]  # fleet is not audit; that the events are there is seen below
    from provisioning.registry.models import AuditEvent

    events = list(AuditEvent.objects.values_list("event", flat=True))
    assert events.count("broker_list_made") == 3 and events.count("crl_made") == 3


def test_options_are_kept_and_only_what_is_named_changes(desk: Desk):
    desk("broker", *desk.first(), "--bridge", "b1=00005e1000000001,00005e1000000002", "--devices-max", 50)
    before = folders.load(desk.home)
    assert before is not None and before.bridges == {"b1": ("00005e1000000001", "00005e1000000002")}
    told = desk("broker", "config", desk.home, "--ingest", "one", "--ingest", "two", "--memory-mb", 64)
    after = folders.load(desk.home)
    assert after is not None and after.ingest == ("one", "two") and after.bridges == before.bridges
    assert (after.limits.devices, after.limits.memory_mb) == (50, 64) and after.shared == before.shared
    assert set(told["changed"]) == {folders.SETTINGS, folders.RULES, folders.CONF} and told["lists_until"] is None
    rules = parse((desk.home / folders.RULES).read_text())
    assert {user.partition(",")[0] for user in rules.clients} == {"CN=one", "CN=two", "CN=b1"}
    assert stat.S_IMODE((desk.home / folders.KEY).stat().st_mode) == 0o640


def test_batch_whose_issuing_key_was_stolen_is_trusted_no_more(desk: Desk):
    desk.batch()
    desk.board()
    first = desk.first()
    assert desk("broker", *first, "--issuing-key", desk.key("issuing"))["issuers"] == 1
    without = desk("broker", "config", desk.home, "--without-batch", desk.file.batch)
    # mosquitto keeps an authority in memory that it has read once
    assert (without["issuers"], without["restart"]) == (0, True)
    assert (desk.home / folders.DEVICES_CA).read_bytes().count(b"BEGIN CERTIFICATE") == 1
    assert desk("broker", "config", desk.home, "--without-batch", "")["issuers"] == 1


def test_batch_that_is_mistyped_does_not_stay_trusted_without_a_word(desk: Desk):
    desk.batch()
    desk("broker", *desk.first(), "--issuing-key", desk.key("issuing"))
    before = (desk.home / folders.SETTINGS).read_bytes()
    for name in (desk.file.batch.upper() + "0", desk.file.batch + " "):
        said = desk("broker", "config", desk.home, "--without-batch", name, status=1)
        assert f"there is no batch {name!r}" in said["error"] and "registry batches" in said["remedy"]
    assert (desk.home / folders.SETTINGS).read_bytes() == before


def test_it_says_what_is_missing_and_what_to_do(desk: Desk, tmp_path: Path):
    said = desk("broker", "config", tmp_path / "new", "--host-name", "x", status=1)
    assert "--root is missing" in said["error"] and said["remedy"]
    assert not (tmp_path / "new").exists()
    assert "is no broker's folder" in desk("broker", "reload", tmp_path, status=1)["error"]
    assert "is no broker's folder" in desk("broker", "check", tmp_path, status=1)["error"]
    assert (
        "not both"
        in desk("broker", *desk.first(), "--crl", tmp_path / "root.crt", "--issuing-key", "file:x", status=2)["error"]
    )
    assert "NAME=EUI" in desk("broker", "config", desk.home, "--bridge", "x", status=2)["error"]
    assert (
        "--host needs --server"
        in desk(
            *(
                "broker",
                "certificate",
                "x",
                "--ca",
                tmp_path / "root.crt",
                "--ca-key",
                "file:x",
                "--host",
                "y",
                "--out",
                "z",
            ),
            status=2,
        )["error"]
    )
    assert (
        "is there already"
        in desk(
            *(
                "broker",
                "certificate",
                "localhost",
                "--ca",
                tmp_path / "services.crt",
                "--ca-key",
                desk.key("services"),
            ),
            *("--out", tmp_path / "services.crt"),
            status=1,
        )["error"]
    )


def test_people_are_told_the_next_step(desk: Desk):
    said = desk.people("broker", *desk.first())
    assert "0 devices are let in" in said and "broker check" in said and "--shared ingest-" in said
    assert "a revoked device has no topics but still connects" in said
    assert "does not run here" in desk.people("broker", "reload", desk.home)


@pytest.mark.parametrize("command", ["config", "reload"])
def test_only_the_fleets_people_write_rules(desk: Desk, command: str):
    first = desk.first()
    desk("broker", *first)
    desk.as_role("care")
    said = desk("broker", *(first if command == "config" else ("reload", desk.home)), status=1)
    assert "broker.list" in said["error"] or "may not" in said["error"]


def test_missing_mosquitto_is_named_with_how_to_get_it(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    desk("broker", *desk.first())
    monkeypatch.setattr(brokers, "mosquitto_path", lambda: None)
    for words in (("broker", "check", desk.home), ("demo", "--broker", "mosquitto")):
        said = desk(*words, status=1)
        assert "mosquitto is not installed" in said["error"] and "apt install mosquitto" in said["remedy"]


@mosquitto_only
def test_configuration_that_mosquitto_does_not_take_is_told_in_its_words(desk: Desk):
    desk("broker", *desk.first())
    (desk.home / folders.SERVICES_CA).write_text("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
    said = desk("broker", "check", desk.home, status=1)
    assert "mosquitto ended" in said["error"] or "does not answer" in said["error"]
