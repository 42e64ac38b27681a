"""Attacks on enrolment: each by the name that SECURITY.md gives it, through the station's flow and the registry."""

import os
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from provisioning.enrolment import EnrolmentRefused, Reason
from provisioning.station import bench
from provisioning.station.journal import ENROLLED, Journal
from provisioning.tickets import Ticket, TicketFile
from tests.support.registries import MODEL, TemporaryRegistry, add_record
from tests.support.soft_board import SoftBoard, public_bytes, sign1


@pytest.fixture
def registry(tmp_path: Path) -> TemporaryRegistry:
    return TemporaryRegistry(tmp_path)


def reasons(registry: TemporaryRegistry, path: Path) -> list[Reason]:
    before = len(registry.services.devices())
    result = registry.take(path)
    assert len(registry.services.devices()) == before + len(result.admitted)
    return [refusal.reason for refusal in result.refused]


def forge(board: SoftBoard, ticket: Ticket, nonce: bytes = bytes(16), **changes: object) -> bytes:
    """A record that the board signs although a field is not what it should be."""
    fields = board.fields(ticket, nonce)
    for index, value in changes.items():
        fields[int(index[1:])] = value
    return sign1(board.key, cbor2.dumps(fields, canonical=True))


def test_cloned_board_with_the_same_key_is_refused(registry: TemporaryRegistry):
    file = registry.issue(2)
    board, clone = SoftBoard(), SoftBoard()
    clone.key = board.key
    path = registry.station("a", file, [board])
    add_record(path, clone, clone.enrol(file.tickets[1], os.urandom(16), 0))
    assert reasons(registry, path) == [Reason.KEY_TAKEN]


def test_cloned_board_with_everything_the_same_is_one_device(registry: TemporaryRegistry):
    file = registry.issue(2)
    board, clone = SoftBoard(), SoftBoard()
    first = registry.station("a", file, [board])
    vars(clone).update(vars(board))
    # at the same station it is the board that was enrolled already
    with Journal.open(first) as journal:
        assert bench.enrol(clone, file, journal).repeated
    # at another station its ticket is not that station's to give
    with Journal.open(registry.folder / "b.journal") as journal, pytest.raises(bench.StationRefused):
        bench.enrol(clone, file, journal)
    registry.take(first)
    second = registry.folder / "c.journal"
    add_record(second, clone, clone.record)
    result = registry.take(second)
    assert (result.admitted, result.repeated, result.refused) == ([], 1, [])


def test_cloned_eui_with_another_key_is_refused(registry: TemporaryRegistry):
    file = registry.issue(2)
    board = SoftBoard()
    registry.take(registry.station("a", file, [board]))
    path = registry.folder / "b.journal"
    clone = SoftBoard(board.eui)
    add_record(path, clone, clone.enrol(file.tickets[1], os.urandom(16), 0))
    assert reasons(registry, path) == [Reason.EUI_TAKEN]
    # the station that enrolled the first one notices without the registry
    with Journal.open(registry.folder / "a.journal") as journal, pytest.raises(bench.StationRefused, match="before"):
        bench.enrol(SoftBoard(board.eui), file, journal)


def test_boards_with_the_same_random_numbers_are_refused(registry: TemporaryRegistry):
    board, twin = SoftBoard(), SoftBoard()
    twin.device_nonce = board.device_nonce
    file = registry.issue(2)
    path = registry.station("a", file, [board])
    add_record(path, twin, twin.enrol(file.tickets[1], os.urandom(16), 0))
    assert reasons(registry, path) == [Reason.NONCE_TAKEN]


def test_ticket_used_twice_is_refused(registry: TemporaryRegistry):
    file = registry.issue(1)
    first, second = SoftBoard(), SoftBoard()
    path = registry.station("a", file, [first])
    add_record(path, second, second.enrol(file.tickets[0], os.urandom(16), 0))
    assert reasons(registry, path) == [Reason.TICKET_USED]
    # in a journal of its own, after the import, too
    third = SoftBoard()
    other = registry.folder / "b.journal"
    add_record(other, third, third.enrol(file.tickets[0], os.urandom(16), 0))
    assert reasons(registry, other) == [Reason.TICKET_USED]
    assert [row["eui"] for row in registry.services.devices()] == [first.eui.hex()]


def test_ticket_used_twice_by_one_board_is_refused(registry: TemporaryRegistry):
    file = registry.issue(1)
    board = SoftBoard()
    path = registry.station("a", file, [board])
    add_record(path, board, forge(board, file.tickets[0], f6=os.urandom(16)))
    assert reasons(registry, path) == [Reason.TICKET_USED]


def test_more_boards_than_tickets_are_refused_at_the_station(registry: TemporaryRegistry):
    file = registry.issue(2)
    boards = [SoftBoard() for _ in range(3)]
    with pytest.raises(bench.StationRefused, match="no ticket is left"):
        registry.station("a", file, boards)
    assert boards[2].record is None
    assert len(registry.take(registry.folder / "a.journal").admitted) == 2


def test_more_boards_than_tickets_are_refused_at_the_registry(registry: TemporaryRegistry):
    file = registry.issue(1)
    path = registry.station("a", file, [SoftBoard()])
    for _ in range(3):
        board = SoftBoard()
        invented = Ticket(os.urandom(8), public_bytes(ec.generate_private_key(ec.SECP256R1())))
        add_record(path, board, board.enrol(invented, os.urandom(16), 0))
    assert reasons(registry, path) == [Reason.UNKNOWN_TICKET] * 3
    assert len(registry.services.devices()) == 1


def test_forged_enrolment_record_without_the_boards_key_is_refused(registry: TemporaryRegistry):
    file = registry.issue(1)
    board, forger = SoftBoard(), SoftBoard(bytes(8))
    path = registry.folder / "a.journal"
    # somebody else's signature under the board's fields
    add_record(path, board, sign1(forger.key, cbor2.dumps(board.fields(file.tickets[0], bytes(16)))))
    # a field changed after the board signed
    parts = cbor2.loads(board.enrol(file.tickets[0], bytes(16), 0)).value
    fields = cbor2.loads(parts[2])
    fields[2] = forger.eui
    changed = cbor2.dumps(cbor2.CBORTag(18, [*parts[:2], cbor2.dumps(fields), parts[3]]))
    add_record(path, forger, changed)
    assert reasons(registry, path) == [Reason.BAD_SIGNATURE] * 2


def test_forged_enrolment_record_without_the_root_key_is_refused(registry: TemporaryRegistry):
    file = registry.issue(1)
    board = SoftBoard()
    path = registry.folder / "a.journal"
    add_record(path, board, forge(board, file.tickets[0], f7=bytes(16)))
    assert reasons(registry, path) == [Reason.BAD_CONFIRMATION]
    # the ticket is not spent by it: the right board is admitted later
    path = registry.station("b", file, [board])
    assert reasons(registry, path) == []


def test_forged_enrolment_record_under_another_boards_name_is_refused(registry: TemporaryRegistry):
    file = registry.issue(1)
    board = SoftBoard()
    path = registry.folder / "a.journal"
    with Journal.open(path) as journal:
        record = board.enrol(file.tickets[0], bytes(16), 0)
        journal.append(ENROLLED, eui="00" * 8, ticket=file.tickets[0].ticket_id.hex(), record=record.hex())
    assert reasons(registry, path) == [Reason.OTHER_BOARD]


def test_forged_enrolment_record_of_garbage_is_refused_with_its_line(registry: TemporaryRegistry):
    path = registry.station("a", registry.issue(1), [SoftBoard()])
    with Journal.open(path) as journal:
        for record in ("00", "d28443a10128a040", "ff" * 600):
            journal.append(ENROLLED, eui="00" * 8, ticket="00" * 8, record=record)
    result = registry.take(path)
    assert len(result.admitted) == 1
    assert [(refusal.line, refusal.reason) for refusal in result.refused] == [
        (line, Reason.MALFORMED) for line in (4, 5, 6)
    ]


def test_record_with_swapped_ticket_key_is_refused(registry: TemporaryRegistry):
    """A station in the middle: it gives the board a key of its own under the ticket's number, so that it knows z."""
    file = registry.issue(1)
    middle = ec.generate_private_key(ec.SECP256R1())
    swapped = Ticket(file.tickets[0].ticket_id, public_bytes(middle))
    board = SoftBoard()
    path = registry.folder / "a.journal"
    add_record(path, board, board.enrol(swapped, bytes(16), 0))
    assert reasons(registry, path) == [Reason.TICKET_KEY_SWAPPED]


def test_record_with_swapped_ticket_key_that_names_the_real_one_fails_key_confirmation(registry: TemporaryRegistry):
    """The same, and the board's firmware is made to write the real key into its record."""
    file = registry.issue(1)
    real = file.tickets[0]
    middle = ec.generate_private_key(ec.SECP256R1())
    board = SoftBoard()
    confirm = board.fields(Ticket(real.ticket_id, public_bytes(middle)), bytes(16))[7]
    path = registry.folder / "a.journal"
    add_record(path, board, forge(board, real, f7=confirm))
    assert reasons(registry, path) == [Reason.BAD_CONFIRMATION]


def test_board_that_answers_with_a_swapped_ticket_key_is_refused_at_the_station(registry: TemporaryRegistry):
    file = registry.issue(1)

    class Lying(SoftBoard):
        def enrol(self, ticket: Ticket, station_nonce: bytes, now_s: int) -> bytes:
            other = Ticket(ticket.ticket_id, public_bytes(ec.generate_private_key(ec.SECP256R1())))
            return super().enrol(other, station_nonce, now_s)

    with pytest.raises(EnrolmentRefused) as refused:
        registry.station("a", file, [Lying()])
    assert refused.value.reason == Reason.TICKET_KEY_SWAPPED
    assert registry.take(registry.folder / "a.journal").admitted == []


def test_replayed_record_of_an_earlier_session_is_refused_at_the_station(registry: TemporaryRegistry):
    file = registry.issue(2)

    class Replaying(SoftBoard):
        def enrol(self, ticket: Ticket, station_nonce: bytes, now_s: int) -> bytes:
            return super().enrol(ticket, bytes(16), now_s)

    with pytest.raises(EnrolmentRefused) as refused:
        registry.station("a", file, [Replaying()])
    assert refused.value.reason == Reason.OTHER_SESSION


def test_swapped_ticket_file_enrols_nobody_into_the_registry(registry: TemporaryRegistry):
    """Somebody gives the station a file of his own; with the registry's key known to it, it is refused before that."""
    from provisioning import signers

    mine = signers.create_file_key(registry.folder / "mine.pem")
    keys = [public_bytes(ec.generate_private_key(ec.SECP256R1())) for _ in range(2)]
    tickets = tuple(Ticket(t.ticket_id, key) for t, key in zip(registry.issue(2).tickets, keys, strict=True))
    forged = TicketFile.sign("20250101-00000000", MODEL, 0, tickets, mine)
    path = registry.station("a", forged, [SoftBoard(), SoftBoard()])
    assert reasons(registry, path) == [Reason.TICKET_KEY_SWAPPED] * 2


def test_ticket_of_another_registry_is_unknown(tmp_path: Path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = TemporaryRegistry(tmp_path / "one")
    path = one.station("a", one.issue(1), [SoftBoard()])
    two = TemporaryRegistry(tmp_path / "two")
    assert reasons(two, path) == [Reason.UNKNOWN_TICKET]


def test_ticket_for_another_model_is_refused(registry: TemporaryRegistry):
    file = registry.issue(1, model="other")
    board = SoftBoard()
    with pytest.raises(bench.StationRefused, match="tickets are for other"):
        registry.station("a", file, [board])
    path = registry.folder / "b.journal"
    add_record(path, board, board.enrol(file.tickets[0], bytes(16), 0))
    assert reasons(registry, path) == [Reason.WRONG_MODEL]


def test_board_that_was_retired_does_not_come_back_without_leave(registry: TemporaryRegistry):
    from provisioning.registry import devices

    file = registry.issue(2)
    board = SoftBoard()
    registry.take(registry.station("a", file, [board]))
    devices.write_off(board.eui, registry.vault)
    again = SoftBoard(board.eui)
    path = registry.folder / "b.journal"
    add_record(path, again, again.enrol(file.tickets[1], os.urandom(16), 0))
    result = registry.take(path)
    assert [refusal.reason for refusal in result.refused] == [Reason.EUI_TAKEN]
    assert "now retired" in result.refused[0].text
    devices.allow_reenrol(board.eui, registry.vault)
    assert registry.take(path).admitted == [board.eui.hex()]
    # the same journal lets it in, and that is told too
    assert [event["event"] for event in devices.show(board.eui)["history"]] == ["device_enrolled"]


def test_old_record_of_a_retired_board_is_not_taken_for_a_new_enrolment(registry: TemporaryRegistry):
    from provisioning.registry import devices

    board = SoftBoard()
    path = registry.station("a", registry.issue(1), [board])
    registry.take(path)
    devices.write_off(board.eui, registry.vault)
    devices.allow_reenrol(board.eui, registry.vault)
    replayed = registry.folder / "b.journal"
    add_record(replayed, board, board.record)
    for journal in (path, replayed):
        result = registry.take(journal)
        assert (result.admitted, result.repeated) == ([], 1)
    assert [row["state"] for row in registry.services.devices()] == ["retired"]


def test_more_tickets_than_the_quota_are_not_issued(registry: TemporaryRegistry):
    registry.services.set_quota(MODEL, 3, registry.vault)
    registry.issue(3)
    with pytest.raises(registry.services.RegistryError, match="quota"):
        registry.issue(1)


def test_revoked_ticket_is_refused(registry: TemporaryRegistry):
    file = registry.issue(1)
    path = registry.station("a", file, [SoftBoard()])
    registry.services.revoke_batch(file.batch, registry.vault)
    assert reasons(registry, path) == [Reason.TICKET_REVOKED]


def test_ticket_file_with_another_service_key_or_issuer_is_refused():
    from provisioning import signers
    from provisioning.tickets import TicketFileError

    key, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    tickets = (Ticket(bytes(8), public_bytes(own)),)
    file = TicketFile.sign("b", MODEL, 0, tickets, signers.FileSigner(key), public_bytes(own), b"\x30\x00")
    data = file.to_bytes()
    for old, new in ((f'"service": "{file.service.hex()}"', '"service": ""'), ('"issuer": "3000"', '"issuer": ""')):
        with pytest.raises(TicketFileError, match="signature"):
            TicketFile.from_bytes(data.replace(old.encode(), new.encode()))
    assert TicketFile.from_bytes(data) == file
