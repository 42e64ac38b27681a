"""Ticket files: what the registry signed is taken, everything else is refused with its reason."""

import copy
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from provisioning import signers
from provisioning.tickets import FILE_MAX, Ticket, TicketFile, TicketFileError, check_model
from tests.support.soft_board import public_bytes

KEY = ec.generate_private_key(ec.SECP256R1())
SIGNER = signers.FileSigner(KEY)
TICKETS = tuple(Ticket(bytes([n]) * 8, public_bytes(ec.generate_private_key(ec.SECP256R1()))) for n in range(3))
SERVICE = public_bytes(ec.generate_private_key(ec.SECP256R1()))
ISSUER = bytes.fromhex("3003020101")  # any DER: who uses it parses it
FILE = TicketFile.sign("20250101-0a0b", "virtual-wearable", 42, TICKETS, SIGNER, SERVICE, ISSUER)
DATA = FILE.to_bytes()


def changed(**fields: object) -> bytes:
    row = json.loads(DATA)
    row.update(fields)
    return json.dumps({name: value for name, value in row.items() if value is not KeyError}).encode()


def resigned(**fields: object) -> bytes:
    """Fields changed by whoever has the signing key: only the form can be what is refused."""
    row = {**vars(FILE), **fields}
    file = TicketFile.sign(row["batch"], row["model"], row["issued_at"], row["tickets"], SIGNER)
    return file.to_bytes()


def test_a_ticket_file_comes_back_as_it_was():
    assert TicketFile.from_bytes(DATA) == FILE
    assert TicketFile.from_bytes(DATA, trusted=SIGNER.public_key) == FILE
    bare = TicketFile.sign("b", "m", 42, TICKETS, SIGNER)
    assert TicketFile.from_bytes(bare.to_bytes()) == bare
    assert (bare.service, bare.issuer) == (b"", b"")


def test_the_signature_is_over_the_documented_bytes():
    import cbor2
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    pairs = [[t.ticket_id, t.public_key] for t in TICKETS]
    signed = cbor2.dumps(["sealband/1 tickets", FILE.batch, FILE.model, 42, pairs, SERVICE, ISSUER])
    r, s = (int.from_bytes(FILE.signature[at : at + 32], "big") for at in (0, 32))
    KEY.public_key().verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch": "other"}, "signature is wrong"),
        ({"model": "other"}, "signature is wrong"),
        ({"issued_at": 43}, "signature is wrong"),
        ({"signature": "00" * 64}, "signature is wrong"),
        ({"signature": "0" * 126}, "128"),
        ({"signer": TICKETS[0].public_key.hex()}, "signature is wrong"),
        ({"signer": "00" * 65}, "signature is wrong"),
        ({"format": "sealband/2 tickets"}, "format"),
        ({"service": ""}, "signature is wrong"),
        ({"service": TICKETS[0].public_key.hex()}, "signature is wrong"),
        ({"service": "04" + "11" * 64}, "not a point"),
        ({"service": "00"}, "service key"),
        ({"service": None}, "service key"),
        ({"service": KeyError}, "exactly the fields"),
        ({"issuer": ""}, "signature is wrong"),
        ({"issuer": "3003020102"}, "signature is wrong"),
        ({"issuer": "300"}, "issuer"),
        ({"issuer": "30" * 4097}, "issuer"),
        ({"issuer": 7}, "issuer"),
        ({"issuer": KeyError}, "exactly the fields"),
        ({"surplus": 1}, "exactly the fields"),
        ({"batch": KeyError}, "exactly the fields"),
        ({"batch": ""}, "batch"),
        ({"batch": "../../etc"}, "batch"),
        ({"batch": 7}, "batch"),
        ({"model": "a b"}, "model"),
        ({"model": "x" * 33}, "model"),
        ({"model": None}, "model"),
        ({"issued_at": True}, "issued_at"),
        ({"issued_at": 4.5}, "issued_at"),
        ({"issued_at": -1}, "issued_at"),
        ({"issued_at": 1 << 32}, "issued_at"),
        ({"tickets": []}, "1 to"),
        ({"tickets": {}}, "1 to"),
        ({"tickets": [7]}, "ticket 1"),
        ({"tickets": [{"id": "00" * 8}]}, "ticket 1"),
        ({"tickets": [{"id": "00" * 8, "key": "04" + "11" * 64}]}, "not a point"),
        ({"tickets": [{"id": "00" * 7, "key": TICKETS[0].public_key.hex()}]}, "id of ticket 1"),
        ({"tickets": [{"id": "0G" * 8, "key": TICKETS[0].public_key.hex()}]}, "id of ticket 1"),
        ({"tickets": [{"id": "AA" * 8, "key": TICKETS[0].public_key.hex()}]}, "lower-case"),
    ],
)
def test_a_changed_ticket_file_is_refused(fields: dict[str, object], message: str):
    with pytest.raises(TicketFileError, match=message):
        TicketFile.from_bytes(changed(**fields))


def test_a_ticket_that_stands_twice_is_refused():
    for row in (
        TICKETS[1],
        Ticket(TICKETS[1].ticket_id, TICKETS[0].public_key),
        Ticket(bytes(8), TICKETS[1].public_key),
    ):
        with pytest.raises(TicketFileError, match="twice"):
            TicketFile.from_bytes(resigned(tickets=(*TICKETS[1:], row)))


def test_a_file_signed_by_somebody_else_is_refused_where_the_registry_is_known():
    other = signers.FileSigner(ec.generate_private_key(ec.SECP256R1()))
    forged = TicketFile.sign(FILE.batch, FILE.model, 42, TICKETS, other).to_bytes()
    assert TicketFile.from_bytes(forged).signer == other.public_key
    with pytest.raises(TicketFileError, match="signed by"):
        TicketFile.from_bytes(forged, trusted=SIGNER.public_key)


def test_a_removed_an_added_and_a_reordered_ticket_break_the_signature():
    rows = json.loads(DATA)["tickets"]
    extra = {"id": "aa" * 8, "key": public_bytes(ec.generate_private_key(ec.SECP256R1())).hex()}
    for tickets in (rows[:2], [*rows, extra], rows[::-1]):
        with pytest.raises(TicketFileError, match="signature is wrong"):
            TicketFile.from_bytes(changed(tickets=tickets))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{" * 100_000,
        b"[" * 100_000,
        DATA[:-3],
        DATA + b"x",
        DATA.replace(b'"batch"', b'"model": "a", "batch"', 1),
        DATA.replace(b"42", b"NaN", 1),
        DATA.replace(b"42", b"9" * 5000, 1),
        b" " * (FILE_MAX + 1),
    ],
)
def test_what_is_not_a_ticket_file_is_refused(data: bytes):
    with pytest.raises(TicketFileError):
        TicketFile.from_bytes(data)


@given(st.data())
def test_any_changed_byte_is_refused_or_changes_nothing(data: st.DataObject):
    raw = bytearray(DATA)
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        file = TicketFile.from_bytes(bytes(raw))
    except TicketFileError:
        return
    assert file == FILE  # white space


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(json.loads(DATA))), json_values)
def test_any_other_value_of_a_field_is_refused(name: str, value: object):
    row = copy.deepcopy(json.loads(DATA))
    if row[name] == value:
        return
    row[name] = value
    with pytest.raises(TicketFileError):
        TicketFile.from_bytes(json.dumps(row).encode())


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "x" * 33, "é", "a\n"])
def test_a_model_name_that_is_none_is_refused(name: str):
    with pytest.raises(ValueError, match="model"):
        check_model(name)


def test_a_signing_key_that_others_can_read_and_unknown_kinds_are_refused(tmp_path: Path):
    path = tmp_path / "key.pem"
    made = signers.create_file_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        signers.create_file_key(path)
    for uri in (f"file:{path}", f"file://{path}"):
        opened = signers.open_signer(uri)
        assert opened.public_key == made.public_key
        assert signers.verify(made.public_key, b"message", opened.sign(b"message"))
        assert not signers.verify(made.public_key, b"other", opened.sign(b"message"))
    path.chmod(0o640)
    with pytest.raises(signers.SignerError, match="others can read"):
        signers.open_signer(f"file:{path}")
    for uri in ("pkcs12:token=a", "http://x", str(path), "", ":", "file"):
        with pytest.raises(signers.SignerError, match="no scheme that is known"):
            signers.open_signer(uri)


def test_a_file_that_is_no_p256_key_is_refused(tmp_path: Path):
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    pems = {
        "not on the curve": ec.generate_private_key(ec.SECP384R1()),
        "not on the curve P-256": ed25519.Ed25519PrivateKey.generate(),
    }
    contents = [
        (message, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())) for message, key in pems.items()
    ]
    contents.append(("encrypted", KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))))
    contents += [("not a private key", b""), ("not a private key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n")]
    for number, (message, pem) in enumerate(contents):
        path = tmp_path / f"{number}.pem"
        path.write_bytes(pem)
        path.chmod(0o600)
        with pytest.raises(signers.SignerError, match=message):
            signers.open_signer(f"file:{path}")
    with pytest.raises(signers.SignerError, match="cannot be read"):
        signers.open_signer(f"file:{tmp_path / 'none'}")
