"""Enrolment records: form, signature and key confirmation, against records made with cryptography and cbor2 alone."""

import json
import os
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from provisioning.enrolment import EnrolmentRefused, IssuedTicket, Reason, Record, admit
from provisioning.tickets import Ticket
from tests.support.soft_board import SoftBoard, public_bytes, sign1

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire-v1.json").read_text())
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
TICKET_KEY = ec.derive_private_key(int(VECTORS["ticket_private"], 16), ec.SECP256R1())
TICKET = Ticket(bytes.fromhex(VECTORS["ticket_id"]), bytes.fromhex(VECTORS["ticket_pub"]))
ISSUED = IssuedTicket(TICKET.public_key, bytes.fromhex(VECTORS["ticket_private"]), "virtual-wearable")
NONCE = bytes.fromhex(VECTORS["station_nonce"])


def vector_board() -> SoftBoard:
    board = SoftBoard(bytes.fromhex(VECTORS["eui"]))
    board.key = ec.derive_private_key(int(VECTORS["device_private"], 16), ec.SECP256R1())
    board.device_nonce = bytes.fromhex(VECTORS["device_nonce"])
    return board


def signed(fields: list[object], board: SoftBoard) -> bytes:
    return sign1(board.key, cbor2.dumps(fields, canonical=True))


def refusal(data: bytes) -> Reason:
    with pytest.raises(EnrolmentRefused) as refused:
        Record.from_bytes(data)
    return refused.value.reason


def test_the_published_vector_is_admitted_and_gives_its_root_key():
    record = Record.from_bytes(vector_board().enrol(TICKET, NONCE, 0))
    assert record.transcript.hex() == VECTORS["transcript"]
    assert record.confirm.hex() == VECTORS["confirm"]
    assert admit(record, ISSUED).hex() == VECTORS["ck0"]
    record.answers(TICKET, bytes.fromhex(VECTORS["eui"]), NONCE, "virtual-wearable")


def test_any_changed_bit_is_refused():
    data = vector_board().enrol(TICKET, NONCE, 0)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert refusal(bytes(changed)) in (Reason.MALFORMED, Reason.BAD_SIGNATURE)


def test_every_cut_and_every_tail_is_refused():
    data = vector_board().enrol(TICKET, NONCE, 0)
    for end in range(len(data)):
        assert refusal(data[:end]) == Reason.MALFORMED
    assert refusal(data + b"\0") == Reason.MALFORMED
    assert refusal(data + data) == Reason.MALFORMED


@given(st.binary(max_size=600))
def test_any_bytes_are_refused(data: bytes):
    assert refusal(data) == Reason.MALFORMED


@pytest.mark.parametrize(
    "text",
    ["d81c81d81d00", "d82341ff", "c106c0", "c249ffffffffffffffffff", "f97e00", "81" * 400, "a1a000", "9fff", "d2a0"],
)
def test_hostile_cbor_is_refused(text: str):
    data = bytes.fromhex(text)
    assert refusal(data) == Reason.MALFORMED
    for payload in (data, b"\x8a" + 10 * data):
        assert refusal(sign1(ec.generate_private_key(ec.SECP256R1()), payload[:300])) == Reason.MALFORMED


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, "sealband/2 record"),
        (0, b"sealband/1 record"),
        (1, bytes(7)),
        (1, "12345678"),
        (2, bytes(9)),
        (2, None),
        (3, b"\x04" + bytes(64)),
        (3, bytes(65)),
        (3, b"\x02" + bytes(32)),
        (4, b"\x04" + b"\x11" * 64),
        (4, 7),
        (5, bytes(15)),
        (6, bytes(17)),
        (7, bytes(8)),
        (7, bytes(32)),
        (8, ""),
        (8, "x" * 33),
        (8, "a\nb"),
        (8, b"model"),
        (9, -1),
        (9, True),
        (9, 1 << 32),
        (9, "0"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_although_signed(index: int, value: object):
    board = SoftBoard()
    fields = board.fields(TICKET, NONCE)
    fields[index] = value
    assert refusal(signed(fields, board)) == Reason.MALFORMED


def test_missing_and_surplus_fields_are_refused():
    board = SoftBoard()
    fields = board.fields(TICKET, NONCE)
    assert refusal(signed(fields[:-1], board)) == Reason.MALFORMED
    assert refusal(signed([*fields, 0], board)) == Reason.MALFORMED


def test_another_algorithm_or_an_unprotected_header_is_refused():
    board = SoftBoard()
    parts = cbor2.loads(board.enrol(TICKET, NONCE, 0)).value
    for at, value in ((0, b"\xa1\x01\x26"), (0, b""), (0, b"\xa1\x01\x05"), (1, {4: b"kid"}), (3, parts[3][:63])):
        changed = [*parts]
        changed[at] = value
        assert refusal(cbor2.dumps(cbor2.CBORTag(18, changed))) == Reason.MALFORMED
    assert refusal(cbor2.dumps(cbor2.CBORTag(98, parts))) == Reason.MALFORMED
    assert refusal(cbor2.dumps(parts)) == Reason.MALFORMED
    assert refusal(b"\xd8\x12" + board.record[1:]) == Reason.MALFORMED  # the tag in two bytes


def test_signatures_of_zero_are_refused():
    parts = cbor2.loads(SoftBoard().enrol(TICKET, NONCE, 0)).value
    for signature in (bytes(64), N.to_bytes(32, "big") * 2, bytes(31) + b"\1" + bytes(32), b"\xff" * 64):
        data = cbor2.dumps(cbor2.CBORTag(18, [*parts[:3], signature]))
        assert refusal(data) == Reason.BAD_SIGNATURE


def test_the_other_form_of_the_same_signature_is_the_same_record():
    board = SoftBoard()
    data = board.enrol(TICKET, NONCE, 0)
    tagged = cbor2.loads(data)
    r, s = tagged.value[3][:32], int.from_bytes(tagged.value[3][32:], "big")
    other = cbor2.dumps(cbor2.CBORTag(18, [*tagged.value[:3], r + (N - s).to_bytes(32, "big")]))
    assert other != data
    assert Record.from_bytes(other).digest == Record.from_bytes(data).digest


def test_a_record_that_does_not_answer_the_question_is_refused():
    board = SoftBoard()
    record = Record.from_bytes(board.enrol(TICKET, NONCE, 0))
    model = "virtual-wearable"
    record.answers(TICKET, board.eui, NONCE, model)
    other_key = public_bytes(ec.generate_private_key(ec.SECP256R1()))
    for question, reason in (
        ((Ticket(bytes(8), TICKET.public_key), board.eui, NONCE, model), Reason.OTHER_SESSION),
        ((Ticket(TICKET.ticket_id, other_key), board.eui, NONCE, model), Reason.TICKET_KEY_SWAPPED),
        ((TICKET, bytes(8), NONCE, model), Reason.OTHER_BOARD),
        ((TICKET, board.eui, bytes(16), model), Reason.OTHER_SESSION),
        ((TICKET, board.eui, NONCE, "other"), Reason.WRONG_MODEL),
    ):
        with pytest.raises(EnrolmentRefused) as refused:
            record.answers(*question)
        assert refused.value.reason == reason


def test_a_record_with_another_root_key_fails_the_confirmation():
    board = SoftBoard()
    for confirm in (bytes(16), os.urandom(16)):
        fields = board.fields(TICKET, NONCE)
        fields[7] = confirm
        with pytest.raises(EnrolmentRefused) as refused:
            admit(Record.from_bytes(signed(fields, board)), ISSUED)
        assert refused.value.reason == Reason.BAD_CONFIRMATION


def test_a_record_for_another_model_is_refused():
    board = SoftBoard(model="other")
    with pytest.raises(EnrolmentRefused) as refused:
        admit(Record.from_bytes(board.enrol(TICKET, NONCE, 0)), ISSUED)
    assert refused.value.reason == Reason.WRONG_MODEL
