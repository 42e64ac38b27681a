"""A station's steps, lanes and ledger with boards that are made of `cryptography`: stopped anywhere, copied, unfit."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from provisioning import certificates, signers
from provisioning.service_tokens import Challenge
from provisioning.station import journal as kinds
from provisioning.station.flash import Chip, FlashError
from provisioning.station.journal import Journal, JournalError, parse
from provisioning.station.lane import Event
from provisioning.station.ledger import Ledger
from provisioning.station.link import BoardRefused, LinkError, SelfTest, Status
from provisioning.station.run import Station
from provisioning.station.steps import InWork, Job, Reason, Setup, StepFailed, Tools
from provisioning.station.unlock import Seen, State
from provisioning.tickets import Ticket, TicketFile
from sealwire.enrolment import eui_from_mac
from tests.support.soft_board import SoftBoard

MODEL = "virtual-wearable"
RELEASE = (7, b"\x07" * 32)
FLASH = 4 << 20


class Stop(BaseException):
    """The station dies here."""


class FakeBoard(SoftBoard):
    """A board as the steps see it: link, flasher and what is seen on its port, all in one."""

    def __init__(self, number: int) -> None:
        self.mac = b"\x02\0\0\0\0" + bytes((number,))
        super().__init__(eui_from_mac(self.mac), MODEL)
        self.tls = ec.generate_private_key(ec.SECP256R1())
        self.certificate = b""
        self.flashed = 0
        self.closed = False
        self.faults: dict[str, str] = {}
        self.flash_errors: list[FlashError] = []
        self.before: Callable[[str], None] = lambda name: None
        self.after: Callable[[str], None] = lambda name: None

    def __getattribute__(self, name: str) -> object:
        found = super().__getattribute__(name)
        if name in ("identify", "write", "look", "status", "verify", "selftest", "enrol", "csr", "close", "seal",
                    "claim", "store_certificate", "restart"):  # fmt: skip

            def call(*arguments: object, **more: object) -> object:
                self.before(name)
                result = found(*arguments, **more)  # type: ignore[operator]
                self.after(name)
                return result

            return call
        return found

    def identify(self) -> Chip:
        return Chip(self.mac, "esp32", FLASH)

    def write(self, parts: object, progress: Callable[[float], object] = lambda done: None) -> Chip:
        if self.flash_errors:
            raise self.flash_errors.pop(0)
        assert self.record is None, "flashing erases an identity"
        self.flashed += 1
        progress(1.0)
        return self.identify()

    def look(self, port: str, limit_s: float, present: object) -> Seen:
        if self.closed:
            return Seen(State.CLOSED, Challenge(self.eui, bytes(16), MODEL, 7))
        return Seen(State.REPL if self.flashed else State.SILENT)

    def status(self) -> Status:
        self._answers()
        return super().status()

    def verify(self, envelope: str) -> tuple[int, bytes]:
        self._answers()
        return RELEASE

    def selftest(self) -> SelfTest:
        self._answers()
        return SelfTest(FLASH, 1 << 19, 60_000, self.faults, RELEASE, 0)

    def csr(self) -> bytes:
        self._answers()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.eui.hex())])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.tls, hashes.SHA256())
        return request.public_bytes(Encoding.DER)

    def store_certificate(self, certificate: bytes) -> bytes:
        self.certificate = certificate
        return hashlib.sha256(certificate).digest()

    def seal(self) -> tuple[bytes, bytes]:
        self._answers()
        return b"\xe0" + bytes(30), self.claim()

    def claim(self) -> bytes:
        return hashlib.sha256(self.eui).digest()[:10]

    def close(self, service_key: bytes) -> None:
        self._answers()
        self.closed = True

    def _answers(self) -> None:
        if self.closed or not self.flashed:
            raise LinkError("no answer", "")


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    root, issuing, batch = (signers.create_file_key(tmp_path / f"{name}.pem") for name in ("root", "issuing", "batch"))
    now = datetime.now(UTC)
    issuer = certificates.create_issuer(
        certificates.create_root(root, "Test", 400, now), root, issuing.public_key, "b-1", MODEL, 30, 300, now
    )
    keys = [signers.create_file_key(tmp_path / f"ticket-{n}.pem").public_key for n in range(3)]
    tickets = tuple(Ticket(os.urandom(8), key) for key in keys)
    file = TicketFile.sign("b-1", MODEL, 0, tickets, batch, b"", issuer)
    return Setup(file, "esp32", FLASH, True, {0x310000: b"files"}, tmp_path / "labels", issuer=issuing)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal") as journal:
        yield journal


def tools(*boards: FakeBoard) -> Tools:
    by_port = {f"port{number}": board for number, board in enumerate(boards, 1)}
    return Tools(
        link=lambda port, present: by_port[port],  # type: ignore[arg-type, return-value]
        flasher=lambda port, setup: by_port[port],
        look=lambda port, limit_s, present: by_port[port].look(port, limit_s, present),
        free=lambda port, present: None,
    )


def job(board: FakeBoard, setup: Setup, ledger: Ledger, in_work: InWork | None = None) -> Job:
    return Job("port1", setup, ledger, in_work or InWork(), tools=tools(board))


def failed(board: FakeBoard, setup: Setup, ledger: Ledger) -> StepFailed:
    with pytest.raises(StepFailed) as error:
        job(board, setup, ledger).run()
    return error.value


def counted(journal: Journal) -> dict[str, int]:
    found = [entry.kind for entry in journal.entries]
    return {kind: found.count(kind) for kind in found}


def test_board_goes_through_all_steps_and_is_recognised_afterwards(setup: Setup, journal: Journal):
    board, ledger = FakeBoard(1), Ledger(journal)
    done = job(board, setup, ledger).run()
    assert (done.eui, done.repeated, board.closed, board.flashed) == (board.eui.hex(), False, True, 1)
    steps = ["opened", "reserved", "enrolled", "certified", "sealed", "labelled", "done"]
    assert [entry.kind for entry in journal.entries] == steps
    shown = x509.load_der_x509_certificate(board.certificate)
    assert shown.public_key() == board.tls.public_key()
    assert sorted(path.name for path in setup.labels.iterdir()) == [f"{done.eui}.png", f"{done.eui}.zpl"]
    assert job(board, setup, ledger).run().repeated
    assert [entry.kind for entry in journal.entries] == steps


def test_station_that_dies_at_any_call_or_entry_ends_with_one_identity_label_and_ticket(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    append = Journal.append
    points = 0

    def run(path: Path, die_at: int) -> tuple[FakeBoard, int]:
        board, passed = FakeBoard(1), 0

        def point(_name: str) -> None:
            nonlocal passed
            passed += 1
            if passed == die_at:
                raise Stop

        def write(journal: Journal, kind: str, **body: str) -> object:
            point(kind)
            entry = append(journal, kind, **body)
            point(kind)
            return entry

        board.before = board.after = point
        for _ in range(2):
            with Journal.open(path) as journal, monkeypatch.context() as patch:
                patch.setattr(Journal, "append", write)
                try:
                    job(board, setup, Ledger(journal)).run()
                    break
                except Stop:
                    continue
        return board, passed

    _, points = run(tmp_path / "whole", 0)
    assert points > 30
    for die_at in range(1, points + 1):
        path = tmp_path / f"j{die_at}"
        board, _ = run(path, die_at)
        content = parse(path.read_bytes())
        found = [entry.kind for entry in content.entries]
        for kind in (kinds.RESERVED, kinds.ENROLLED, kinds.CERTIFIED, kinds.SEALED, kinds.LABELLED, kinds.DONE):
            assert found.count(kind) == 1, (die_at, kind, found)
        bodies = {entry.kind: entry.body for entry in content.entries}
        assert bodies[kinds.ENROLLED]["record"] == (board.record or b"").hex(), die_at
        assert bodies[kinds.CERTIFIED]["certificate"] == board.certificate.hex(), die_at
        assert board.closed and found[-1] == kinds.DONE


def test_board_that_is_closed_for_good_is_recognised_and_never_flashed(setup: Setup, journal: Journal):
    class Shut(FakeBoard):
        def look(self, port: str, limit_s: float, present: object) -> Seen:
            seen = super().look(port, limit_s, present)
            return Seen(State.CLOSED, None, self.eui) if seen.challenge else seen

    def die(name: str) -> None:
        if name == "close":
            raise Stop

    board, stranger, ledger = Shut(1), Shut(2), Ledger(journal)
    board.after = die
    with pytest.raises(Stop):
        job(board, setup, ledger).run()
    assert counted(journal)["labelled"] == 1 and "done" not in counted(journal)
    assert not job(board, setup, ledger).run().repeated and counted(journal)["done"] == 1
    stranger.flashed, stranger.closed = 1, True
    assert failed(stranger, setup, ledger).reason == Reason.ENROLLED_BEFORE and stranger.flashed == 1


def test_copy_of_a_board_that_is_done_is_refused_with_what_it_was(setup: Setup, journal: Journal):
    ledger = Ledger(journal)
    job(FakeBoard(1), setup, ledger).run()
    copy = FakeBoard(1)
    error = failed(copy, setup, ledger)
    assert error.reason == Reason.ENROLLED_BEFORE and copy.flashed == 0
    assert "entry 3 of journal" in str(error) and journal.entries[2].body["ticket"] in str(error)


def test_board_that_says_another_number_than_its_chip_takes_no_ticket_and_no_other_board_s_place(
    setup: Setup, journal: Journal
):
    ledger, honest, liar = Ledger(journal), FakeBoard(1), FakeBoard(2)
    ledger.append(kinds.RESERVED, ticket=setup.tickets.tickets[0].ticket_id.hex(), eui=honest.eui.hex(),
                  station_nonce="00" * 16)  # fmt: skip
    for said in (honest.eui, os.urandom(8)):
        liar.eui = said
        assert failed(liar, setup, ledger).reason == Reason.WRONG_MODEL
    assert counted(journal) == {"opened": 1, "reserved": 1} and liar.record is None
    assert job(honest, setup, ledger).run().ticket == setup.tickets.tickets[0].ticket_id.hex()


def test_two_boards_with_one_number_at_the_same_time_are_refused(setup: Setup, journal: Journal):
    in_work = InWork()
    board = FakeBoard(1)
    with in_work.hold(board.eui.hex()) as free:
        assert free
        with pytest.raises(StepFailed) as error:
            job(board, setup, Ledger(journal), in_work).run()
    assert error.value.reason == Reason.DUPLICATE_EUI
    job(board, setup, Ledger(journal), in_work).run()


@pytest.mark.parametrize("what", ["key", "nonce"])
def test_board_with_another_one_s_key_or_nonce_is_refused(setup: Setup, journal: Journal, what: str):
    ledger = Ledger(journal)
    first, second = FakeBoard(1), FakeBoard(2)
    if what == "key":
        second.key = first.key
    else:
        second.device_nonce = first.device_nonce
    job(first, setup, ledger).run()
    error = failed(second, setup, ledger)
    assert error.reason == f"duplicate_{what}" and first.eui.hex() in str(error)
    assert counted(journal)["enrolled"] == 1


def test_board_of_another_station_s_journal_is_refused_and_its_tickets_are_spent(
    setup: Setup, journal: Journal, tmp_path: Path
):
    with Journal.open(tmp_path / "other") as other:
        job(FakeBoard(1), setup, Ledger(other)).run()
    ledger = Ledger(journal, {"other": parse((tmp_path / "other").read_bytes())})
    board = FakeBoard(1)
    error = failed(board, setup, ledger)
    assert error.reason == Reason.ENROLLED_BEFORE and "of other" in str(error) and board.flashed == 0
    second = job(FakeBoard(2), setup, ledger).run()
    assert second.ticket == setup.tickets.tickets[1].ticket_id.hex()


def test_closed_or_enrolled_board_that_no_journal_knows_is_not_flashed(setup: Setup, journal: Journal):
    closed, enrolled = FakeBoard(1), FakeBoard(2)
    closed.flashed, closed.closed = 1, True
    enrolled.flashed = 1
    enrolled.enrol(setup.tickets.tickets[0], bytes(16), 0)
    for board in (closed, enrolled):
        assert failed(board, setup, Ledger(journal)).reason == Reason.ENROLLED_BEFORE
        assert board.flashed == 1
    assert "reserved" not in counted(journal)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LinkError("the board answered something else", ""), Reason.ENROLLED_BEFORE),
        (BoardRefused("damaged", "identity of version 2"), Reason.BOARD_REFUSED),
    ],
)
def test_enrolled_board_that_is_hard_to_hear_or_refuses_is_not_flashed(
    setup: Setup, journal: Journal, error: Exception, reason: Reason
):
    board, errors = FakeBoard(1), [error]
    board.flashed = 1
    board.enrol(setup.tickets.tickets[0], bytes(16), 0)

    def disturb(name: str) -> None:
        if name == "status" and errors:
            raise errors.pop()

    board.before = disturb
    assert failed(board, setup, Ledger(journal)).reason == reason and board.flashed == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("HeartRate", Reason.SENSOR), ("radio", Reason.RADIO), ("random", Reason.RANDOM)],
)
def test_board_that_fails_its_self_test_gets_no_ticket(setup: Setup, journal: Journal, fault: str, reason: Reason):
    board = FakeBoard(1)
    board.faults = {fault: "OSError: [Errno 19] ENODEV"}
    error = failed(board, setup, Ledger(journal))
    assert (error.reason, error.step, error.ticket) == (reason, "selftest", "")
    assert "reserved" not in counted(journal)


def test_bad_flash_is_repeated_once_and_then_fails_by_its_cause(setup: Setup, journal: Journal):
    board = FakeBoard(1)
    board.flash_errors = [FlashError("verify_failed", "x")]
    job(board, setup, Ledger(journal)).run()
    board = FakeBoard(2)
    board.flash_errors = [FlashError("write_failed", "x"), FlashError("verify_failed", "x")]
    assert failed(board, setup, Ledger(journal)).reason == Reason.BAD_FLASH
    board = FakeBoard(3)
    board.flash_errors = [FlashError("wrong_chip", "x")]
    assert failed(board, setup, Ledger(journal)).reason == Reason.WRONG_MODEL


def test_board_that_keeps_another_certificate_than_it_was_given_is_not_done(setup: Setup, journal: Journal):
    board = FakeBoard(1)
    board.store_certificate = lambda certificate: bytes(32)  # type: ignore[method-assign]
    assert failed(board, setup, Ledger(journal)).reason == Reason.CERTIFICATE
    assert "certified" not in counted(journal) and not board.closed


def test_board_that_refuses_is_journaled_by_the_lane_and_the_next_one_is_taken(
    setup: Setup, journal: Journal, tmp_path: Path
):
    first, second = FakeBoard(1), FakeBoard(2)
    socket = tmp_path / "socket"
    events: list[Event] = []
    now = [first]

    def refuse(*_: object) -> bytes:
        raise BoardRefused("damaged", "there is a chain without an identity")

    first.enrol = refuse  # type: ignore[method-assign, assignment]

    def report(event: Event) -> None:
        events.append(event)
        if event.kind == "failed":
            socket.unlink()
            now[0] = second
            threading.Timer(0.5, socket.touch).start()

    one = Tools(
        link=lambda port, present: now[0],  # type: ignore[arg-type, return-value]
        flasher=lambda port, setup: now[0],
        look=lambda port, limit_s, present: now[0].look(port, limit_s, present),
        free=lambda port, present: None,
    )
    socket.touch()
    station = Station([str(socket)], setup, Ledger(journal), report, count=1, tools=one)
    station.run()
    assert (station.done, station.failed, station.broken) == (1, 1, None)
    body = next(entry.body for entry in journal.entries if entry.kind == kinds.FAILED)
    assert (body["reason"], body["step"], body["eui"]) == ("board_refused", "enrol", first.eui.hex())
    assert [event.kind for event in events if event.kind != "step"] == [
        "waiting", "begun", "failed", "waiting", "begun", "done", "waiting", "ended",
    ]  # fmt: skip


def test_lanes_never_reserve_one_ticket_twice(setup: Setup, journal: Journal, tmp_path: Path):
    boards = [FakeBoard(number) for number in range(1, 4)]
    barrier = threading.Barrier(3)
    for board in boards:
        board.before = lambda name: barrier.wait(10) if name == "enrol" else None  # type: ignore[assignment, misc]
        board.after = lambda name: barrier.wait(10) if name == "selftest" else None  # type: ignore[assignment, misc]
    sockets = [tmp_path / f"s{number}" for number in range(3)]
    by_port = {str(path): board for path, board in zip(sockets, boards, strict=True)}
    many = Tools(
        link=lambda port, present: by_port[port],  # type: ignore[arg-type, return-value]
        flasher=lambda port, setup: by_port[port],
        look=lambda port, limit_s, present: by_port[port].look(port, limit_s, present),
        free=lambda port, present: None,
    )
    for path in sockets:
        path.touch()
    Station(list(map(str, sockets)), setup, Ledger(journal), lambda event: None, tools=many).run()
    given = [entry.body["ticket"] for entry in journal.entries if entry.kind == kinds.RESERVED]
    assert len(given) == len(set(given)) == 3


def test_station_whose_journal_cannot_be_written_stops_all_lanes(
    setup: Setup, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "socket").touch()

    def full(*_: object, **__: object) -> None:
        raise JournalError("the disk is full")

    ledger = Ledger(journal)
    monkeypatch.setattr(journal, "append", full)
    station = Station([str(tmp_path / "socket")], setup, ledger, lambda event: None, tools=tools(FakeBoard(1)))
    station.run()
    assert station.broken and "disk is full" in station.broken.text


def test_claim_secret_stands_in_no_journal(setup: Setup, journal: Journal):
    board = FakeBoard(1)
    job(board, setup, Ledger(journal)).run()
    claim = hashlib.sha256(board.eui).digest()[:10]
    assert claim.hex().encode() not in journal.path.read_bytes()


def test_claim_secret_goes_into_no_file_that_somebody_laid_beside_the_label(setup: Setup, journal: Journal):
    board = FakeBoard(1)
    setup.labels.mkdir()
    trap = setup.labels.parent / "trap"
    trap.write_bytes(b"")
    (setup.labels / f".{board.eui.hex()}.zpl.new").symlink_to(trap)
    job(board, setup, Ledger(journal)).run()
    label = setup.labels / f"{board.eui.hex()}.zpl"
    assert trap.read_bytes() == b"" and not label.is_symlink() and label.stat().st_mode & 0o777 == 0o600
