"""The life of a device in the registry: states, re-enrolment, quotas, claims, certificates, first frames."""

import datetime
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from provisioning import certificates, signers
from provisioning.enrolment import Reason
from provisioning.labels import Label
from provisioning.station.journal import CERTIFIED, SEALED, Journal
from provisioning.tickets import TicketFile
from tests.support.frames import seal_uplink
from tests.support.registries import MASTER_KEY, MODEL, TemporaryRegistry, add_record
from tests.support.soft_board import SoftBoard, public_bytes

DAY = 86400.0
NOW = 1_790_000_000.0  # 2026-09-21


@pytest.fixture
def registry(tmp_path: Path) -> TemporaryRegistry:
    return TemporaryRegistry(tmp_path)


def enrol(registry: TemporaryRegistry, board: SoftBoard, name: str = "a", file: TicketFile | None = None):
    """Enrol a board with the first ticket of a file of its own; the result of the import."""
    file = file or registry.issue(1)
    path = registry.folder / f"{name}.journal"
    add_record(path, board, board.enrol(file.tickets[0], os.urandom(16), 0))
    return registry.take(path)


def event_names(eui: bytes) -> list[str]:
    from provisioning.registry.models import AuditEvent

    rows = AuditEvent.objects.filter(subject=eui.hex()).order_by("sequence")
    return list(rows.values_list("event", flat=True))


def claim_of(board: SoftBoard) -> bytes:
    return HKDFExpand(hashes.SHA256(), 10, b"sealband/1 claim").derive(board.root)


def label_of(board: SoftBoard, claim: bytes | None = None) -> str:
    return Label(board.eui, MODEL, claim or claim_of(board)).text


# states


def test_each_state_is_followed_by_those_that_may_follow_and_no_other(registry: TemporaryRegistry):
    from provisioning.registry import devices
    from provisioning.registry.errors import RegistryError
    from provisioning.registry.models import Device

    board = SoftBoard()
    enrol(registry, board)
    vault = registry.vault
    steps = {
        "suspend": devices.suspend,
        "resume": devices.resume,
        "retiring": devices.retiring,
        "revoke": devices.revoke,
        "write_off": devices.write_off,
        "allow_reenrol": devices.allow_reenrol,
    }
    may = {
        "enrolled": {"suspend", "retiring", "revoke", "write_off"},
        "active": {"suspend", "retiring", "revoke", "write_off"},
        "suspended": {"resume", "retiring", "revoke", "write_off"},
        "retiring": {"retiring", "revoke", "write_off"},
        "revoked": {"write_off"},
        "retired": {"allow_reenrol"},
    }
    assert set(may) == set(Device.State.values)
    for state, allowed in may.items():
        for name, step in steps.items():
            Device.objects.update(state=state, reenrol_at=None)
            if name in allowed:
                step(board.eui, vault)
                continue
            with pytest.raises(RegistryError):
                step(board.eui, vault)
            assert Device.objects.get().state == state
    with pytest.raises(RegistryError, match="not enrolled"):
        devices.suspend(bytes(8), vault)
    with pytest.raises(RegistryError, match="reason"):
        devices.suspend(board.eui, vault, reason="a\nb")


def test_revoked_device_leaves_no_key_of_it_at_the_server(registry: TemporaryRegistry):
    from provisioning.registry import devices
    from provisioning.registry.models import Claim, DeviceChain

    board = SoftBoard()
    enrol(registry, board)
    wrapped = bytes(DeviceChain.objects.get().ck_wrapped)
    assert wrapped in registry.dump()
    devices.revoke(board.eui, registry.vault, reason="stolen")
    assert not DeviceChain.objects.exists()
    assert Claim.objects.get().account == ""
    assert wrapped not in registry.dump()
    assert event_names(board.eui) == ["device_enrolled", "device_revoked"]
    assert devices.show(board.eui)["history"][-1]["details"] == {"reason": "stolen"}


# the same board again


def test_board_that_is_enrolled_is_refused_with_what_it_was_before(registry: TemporaryRegistry):
    from provisioning.registry import devices

    board, again = SoftBoard(), SoftBoard()
    again.eui = board.eui
    file = registry.issue(1)
    enrol(registry, board, file=file)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    before = f"was enrolled on {today} in batch {file.batch} with ticket {file.tickets[0].ticket_id.hex()}"
    for number, (step, now) in enumerate(
        (
            (lambda: None, "now enrolled"),
            (lambda: devices.suspend(board.eui, registry.vault), "now suspended"),
            (lambda: devices.revoke(board.eui, registry.vault), "now revoked"),
            (lambda: devices.write_off(board.eui, registry.vault), "now retired"),
        )
    ):
        step()
        again.record = None
        (refusal,) = enrol(registry, again, f"again-{number}").refused
        assert refusal.reason == Reason.EUI_TAKEN
        assert before in refusal.text and now in refusal.text


def test_key_nonce_and_ticket_that_were_used_are_refused_with_whose_they_were(registry: TemporaryRegistry):
    board = SoftBoard()
    file = registry.issue(1)
    enrol(registry, board, file=file)
    key, nonce, ticket = SoftBoard(), SoftBoard(), SoftBoard()
    key.key, nonce.device_nonce = board.key, board.device_nonce
    for name, other, of, reason in (
        ("key", key, None, Reason.KEY_TAKEN),
        ("nonce", nonce, None, Reason.NONCE_TAKEN),
        ("ticket", ticket, file, Reason.TICKET_USED),
    ):
        (refusal,) = enrol(registry, other, name, of).refused
        assert refusal.reason == reason
        assert board.eui.hex() in refusal.text and file.batch in refusal.text


def test_reenrolled_board_is_a_new_device_and_the_old_one_stays(registry: TemporaryRegistry):
    from provisioning.registry import devices
    from provisioning.registry.models import Device

    board = SoftBoard()
    enrol(registry, board)
    for times in (1, 2):
        devices.write_off(board.eui, registry.vault)
        devices.allow_reenrol(board.eui, registry.vault)
        again = SoftBoard(board.eui)
        result = enrol(registry, again, f"again-{times}")
        assert result.admitted == [board.eui.hex()] and not result.refused
    rows = Device.objects.order_by("pk")
    assert [(row.label, row.state) for row in rows] == [
        (f"{board.eui.hex()}.1", "retired"),
        (f"{board.eui.hex()}.2", "retired"),
        (board.eui.hex(), "enrolled"),
    ]
    assert devices.find(board.eui, lock=False).pk == rows[2].pk
    # each identity's own history
    for former, count in ((1, 3), (2, 3), (None, 1)):
        history = devices.show(board.eui, former)["history"]
        assert history[0]["event"] == "device_enrolled" and len(history) == count
    # permission was for one
    (refusal,) = enrol(registry, SoftBoard(board.eui), "more").refused
    assert refusal.reason == Reason.EUI_TAKEN


def test_reenrolled_board_must_have_made_new_keys(registry: TemporaryRegistry):
    from provisioning.registry import devices

    board = SoftBoard()
    enrol(registry, board)
    devices.write_off(board.eui, registry.vault)
    devices.allow_reenrol(board.eui, registry.vault)
    board.record = None
    (refusal,) = enrol(registry, board, "again").refused
    assert refusal.reason == Reason.KEY_TAKEN and "now retired" in refusal.text


# quotas


def test_quota_limits_open_tickets_and_those_of_a_day(registry: TemporaryRegistry):
    services = registry.services
    vault = registry.vault
    services.set_quota(MODEL, 5, vault)
    file = registry.issue(3)
    with pytest.raises(services.RegistryError, match="5 open tickets; 2 are left, 3 were asked for"):
        registry.issue(3)
    registry.issue(3, model="other")  # which has none
    enrol(registry, SoftBoard(), file=file)
    registry.issue(3)
    assert services.revoke_batch(file.batch, vault) == 2
    services.set_quota(MODEL, 100, vault, a_day_max=8)
    with pytest.raises(services.RegistryError, match="in 24 hours; 2 are left"):
        registry.issue(3)
    later = time.time() + DAY + 1
    services.issue_batch(vault, registry.signer, MODEL, 3, clock=lambda: later)
    services.set_quota(MODEL, 0, vault)
    with pytest.raises(services.RegistryError, match="0 are left"):
        registry.issue(1)
    services.set_quota(MODEL, None, vault)
    registry.issue(1)
    with pytest.raises(services.RegistryError):
        services.set_quota("a b", 1, vault)


# claims


def test_the_label_claims_a_device_once_until_it_is_released(registry: TemporaryRegistry):
    from provisioning.registry import claims
    from provisioning.registry.models import Claim

    board = SoftBoard()
    enrol(registry, board)
    expected = hashlib.sha256(cbor2.dumps(["sealband/1 claim", board.eui, claim_of(board)])).digest()
    assert bytes(Claim.objects.get().digest) == expected
    device = claims.claim(label_of(board), "ward 3", registry.vault)
    assert device.eui_hex == board.eui.hex()
    with pytest.raises(claims.ClaimRefused, match="was claimed on"):
        claims.claim(label_of(board), "thief", registry.vault)
    assert claims.release(board.eui, registry.vault) == "ward 3"
    assert claims.release(board.eui, registry.vault) == ""
    claims.claim(label_of(board), "ward 4", registry.vault)
    assert event_names(board.eui)[1:] == [
        "device_claimed",
        "device_claim_refused",
        "device_claim_released",
        "device_claimed",
    ]


def test_the_secret_on_a_label_is_nowhere_in_the_database(registry: TemporaryRegistry):
    import base64

    from provisioning.registry import claims

    board = SoftBoard()
    enrol(registry, board)
    claims.claim(label_of(board), "ward 3", registry.vault)
    wrong = os.urandom(10)
    with pytest.raises(claims.ClaimRefused) as refused:
        claims.claim(label_of(board, wrong), "ward 3", registry.vault)
    dump = registry.dump()
    for secret in (claim_of(board), wrong):
        text = base64.b32encode(secret)
        for form in (secret, secret.hex().encode(), text, text.lower()):
            assert form not in dump and form.decode("latin-1") not in str(refused.value)


# certificates and first frames


@pytest.fixture
def issuing(registry: TemporaryRegistry, tmp_path: Path):
    """(ticket file with an issuer, issuing key, its certificate)."""
    from provisioning.registry import issuers

    root, key = (signers.create_file_key(tmp_path / f"{name}.pem") for name in ("root", "issuing"))
    now = datetime.datetime.now(datetime.UTC)
    certificate = certificates.create_root(root, "Root", 7300, now)
    first = registry.issue(4)
    out = tmp_path / "tickets"
    issuers.create_issuer(
        registry.vault,
        first.batch,
        certificate,
        root,
        key.public_key,
        registry.signer,
        days=30,
        device_days=3650,
        out=out,
    )
    file = TicketFile.from_bytes(out.read_bytes(), registry.signer.public_key)
    assert (file.batch, file.tickets, file.issued_at) == (first.batch, first.tickets, first.issued_at)
    return file, key, file.issuer


def request(eui: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, eui.hex())])
    return (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    )


def journal_line(registry: TemporaryRegistry, name: str, kind: str, board: SoftBoard, **body: str) -> Path:
    path = registry.folder / f"{name}.journal"
    with Journal.open(path) as journal:
        journal.append(kind, ticket=board.ticket.hex(), eui=board.eui.hex(), **body)
    return path


def certified(registry: TemporaryRegistry, issuing, board: SoftBoard, name: str = "a") -> bytes:
    file, key, issuer = issuing
    now = datetime.datetime.now(datetime.UTC)
    der = certificates.issue(
        request(board.eui, ec.generate_private_key(ec.SECP256R1())), board.eui, issuer, key, now, file.batch
    )
    journal_line(registry, name, CERTIFIED, board, certificate=der.hex())
    return der


def test_certificate_of_a_journal_is_kept_and_revoked_with_its_device(registry: TemporaryRegistry, issuing):
    from provisioning.registry import devices, issuers

    board, other = SoftBoard(), SoftBoard()
    file, key, issuer = issuing
    enrol(registry, board, file=file)
    der = certified(registry, issuing, board)
    path = registry.folder / "a.journal"
    assert registry.take(path).certified == 1
    assert registry.take(path).certified == 0
    (shown,) = devices.show(board.eui)["certificates"]
    assert shown["sha256"] == hashlib.sha256(der).hexdigest()
    serial = x509.load_der_x509_certificate(der).serial_number
    (before,) = issuers.revocation_list(key, days=7)
    assert x509.load_der_x509_crl(before).get_revoked_certificate_by_serial_number(serial) is None
    devices.revoke(board.eui, registry.vault)
    (after,) = issuers.revocation_list(key, days=7)
    listed = x509.load_der_x509_crl(after)
    assert listed.get_revoked_certificate_by_serial_number(serial) is not None
    assert listed.is_signature_valid(x509.load_der_x509_certificate(issuer).public_key())
    with pytest.raises(registry.services.RegistryError, match="no issuing certificate"):
        issuers.revocation_list(registry.signer, days=7)
    assert other.ticket is None


def test_certificates_and_frames_that_do_not_fit_are_refused_each_with_its_reason(registry: TemporaryRegistry, issuing):
    board, stranger, bare = SoftBoard(), SoftBoard(), SoftBoard()
    file, _, _ = issuing
    enrol(registry, board, file=file)
    enrol(registry, bare)
    path = registry.folder / "a.journal"
    der = certified(registry, issuing, board, "elsewhere")
    # another device's, one of a batch without an issuer, of a board that was never admitted, and no certificate at all
    stranger.ticket, mine = file.tickets[1].ticket_id, SoftBoard(bare.eui)
    mine.ticket = bare.ticket
    foreign = certified(registry, issuing, stranger, "other")
    for one, data in ((board, foreign), (mine, der), (stranger, foreign), (board, b"\x30\x00")):
        journal_line(registry, "a", CERTIFIED, one, certificate=data.hex())
    for data in (os.urandom(40), seal_frame(stranger_keys(), board.eui, 0)):
        journal_line(registry, "a", SEALED, board, frame=data.hex())
    result = registry.take(path)
    assert [refusal.reason for refusal in result.refused] == [
        Reason.BAD_CERTIFICATE,
        Reason.BAD_CERTIFICATE,
        Reason.NOT_ENROLLED,
        Reason.BAD_CERTIFICATE,
        Reason.BAD_FRAME,
        Reason.BAD_FRAME,
    ]
    assert (result.certified, result.proven) == (0, 0)
    assert [r.reason for r in registry.take(path).refused] == [r.reason for r in result.refused]


def stranger_keys() -> bytes:
    return os.urandom(32)


def seal_frame(root: bytes, eui: bytes, ctr: int) -> bytes:
    from provisioning import keys

    return seal_uplink(keys.epoch_keys(root, eui), eui, 0, ctr, cbor2.dumps(2) + cbor2.dumps(1) + cbor2.dumps({}))


def test_first_frame_proves_that_both_sides_have_the_same_keys(registry: TemporaryRegistry):
    from provisioning.registry.models import Device

    board = SoftBoard()
    enrol(registry, board)
    path = journal_line(registry, "a", SEALED, board, frame=seal_frame(board.root, board.eui, 3).hex())
    assert registry.take(path).proven == 1
    assert Device.objects.get().proven_at is not None
    assert registry.take(path).proven == 0


def test_a_service_key_stands_in_the_ticket_file(registry: TemporaryRegistry):
    key = public_bytes(ec.generate_private_key(ec.SECP256R1()))
    services = registry.services
    file = services.issue_batch(registry.vault, registry.signer, MODEL, 1, service_key=key)
    assert TicketFile.from_bytes(file.to_bytes()).service == key
    with pytest.raises(services.RegistryError, match="service key"):
        services.issue_batch(registry.vault, registry.signer, MODEL, 1, service_key=b"\x04" + bytes(64))


# imports


def test_import_that_is_killed_leaves_nothing_and_is_done_whole_the_next_time(registry: TemporaryRegistry):
    file = registry.issue(60)
    path = registry.folder / "a.journal"
    for ticket in file.tickets:
        board = SoftBoard()
        add_record(path, board, board.enrol(ticket, bytes(16), 0))
    program = f"""
import os, signal, sys
from pathlib import Path
from provisioning import registry
registry.setup({str(registry.database)!r}, extra_apps=("host_tools.ingest", "host_tools.rollout"))
from provisioning.registry import imports, services
from provisioning.registry.vault import Vault
imports.CHUNK = 20
def progress(done, total):
    if done >= int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
services.import_journal(Path({str(path)!r}), Vault({MASTER_KEY!r}), progress=progress)
"""
    for after in (20, 40, 60):
        ended = subprocess.run([sys.executable, "-c", program, str(after)], check=False)
        assert ended.returncode == -signal.SIGKILL
        assert registry.services.devices() == []
    assert len(registry.take(path).admitted) == 60


def test_a_chunk_whose_board_somebody_else_admitted_meanwhile_is_judged_again(
    registry: TemporaryRegistry, monkeypatch: pytest.MonkeyPatch
):
    from django.db.utils import IntegrityError

    from provisioning.registry.models import Device

    real, calls = Device.objects.bulk_create, []

    def other_was_faster(rows: list[object]) -> object:
        calls.append(len(rows))
        if len(calls) == 1:
            raise IntegrityError("UNIQUE constraint failed")
        return real(rows)

    monkeypatch.setattr(Device.objects, "bulk_create", other_was_faster)
    assert len(enrol(registry, SoftBoard()).admitted) == 1
    assert calls == [1, 1]
    assert event_names(Device.objects.get().eui) == ["device_enrolled"]


def test_three_hundred_records_with_twenty_duplicates_are_imported_once(tmp_path: Path):
    from tests.bench.journal_import import measure

    assert next(figure.name for figure in measure(300, 20)) == "import of a journal, time"
