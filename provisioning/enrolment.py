"""A board's enrolment record: its format, and the checks before it becomes an identity. Pure: no file, no database.

Two kinds of checks. What anyone can check (`Record.from_bytes`, `Record.answers`): the form and the board's own
signature; the station does so before it journals. What only the registry can check (`admit`): that the ticket is ours
and unused, and that the board derived the same root key (key confirmation). A station in the middle that gave the board
a ticket key of its own is found by the second kind.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from provisioning import cbor, keys, signers, tickets
from sealwire import enrolment as wire
from sealwire.frame import EUI_LEN
from sealwire.keys import CONFIRM_LEN

RELEASE_MAX = (1 << 32) - 1


class Reason(StrEnum):
    """Why a record is refused; closed, so that refusals can be counted."""

    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad_signature"
    OTHER_BOARD = "other_board"
    OTHER_SESSION = "other_session"
    WRONG_MODEL = "wrong_model"
    UNKNOWN_TICKET = "unknown_ticket"
    TICKET_USED = "ticket_used"
    TICKET_REVOKED = "ticket_revoked"
    TICKET_KEY_SWAPPED = "ticket_key_swapped"
    BAD_CONFIRMATION = "bad_confirmation"
    EUI_TAKEN = "eui_taken"
    KEY_TAKEN = "key_taken"
    NONCE_TAKEN = "nonce_taken"
    # of what a journal says beside the record
    NOT_ENROLLED = "not_enrolled"
    BAD_CERTIFICATE = "bad_certificate"
    BAD_FRAME = "bad_frame"


class EnrolmentRefused(Exception):
    """A record is not admitted.

    Attributes:
        reason: one of `Reason`.
    """

    remedy = "set the board aside; enrol it again only when it is known why"

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(what)
        self.reason = reason


@dataclass(frozen=True)
class Record:
    """What a board says of itself when it is enrolled, signed with the key that it made.

    Attributes:
        ticket_id: 8 bytes.
        eui: EUI-64, 8 bytes.
        device_pub: 65 bytes, 04, x, y.
        ticket_pub: the ticket's key as the board saw it, 65 bytes.
        station_nonce, device_nonce: 16 bytes.
        confirm: key confirmation, 16 bytes.
        model: the board's model.
        release: the release sequence that it runs.
        payload: the signed bytes.
    """

    ticket_id: bytes
    eui: bytes
    device_pub: bytes
    ticket_pub: bytes
    station_nonce: bytes
    device_nonce: bytes
    confirm: bytes
    model: str
    release: int
    payload: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> "Record":
        """Parse a COSE_Sign1 (RFC 9052 section 4.2) and check its signature by the key that stands in it.

        Raises:
            EnrolmentRefused: MALFORMED or BAD_SIGNATURE.
        """
        if len(data) > wire.RECORD_MAX:
            raise _malformed(f"a record of {len(data)} bytes is longer than {wire.RECORD_MAX}")
        message = _decode(data, "the record")
        if not isinstance(message, cbor2.CBORTag) or message.tag != wire.COSE_SIGN1_TAG:
            raise _malformed("the record is not a COSE_Sign1")
        parts = message.value
        # inside a tag, cbor2 makes immutable lists and maps
        if not isinstance(parts, list | tuple) or len(parts) != 4 or not isinstance(parts[1], Mapping) or parts[1]:
            raise _malformed("the record is not a COSE_Sign1 without unprotected headers")
        if parts[0] != wire.COSE_PROTECTED_ES256:
            raise _malformed("the record's algorithm is not ESP256")
        payload = _bytes(parts[2], None, "the payload")
        signature = _bytes(parts[3], signers.SIGNATURE_LEN, "the signature")
        record = cls._from_payload(payload)
        signed = cbor2.dumps(["Signature1", wire.COSE_PROTECTED_ES256, b"", payload])
        if not signers.verify(record.device_pub, signed, signature):
            raise EnrolmentRefused(Reason.BAD_SIGNATURE, "the record is not signed by the key that it names")
        return record

    @classmethod
    def _from_payload(cls, payload: bytes) -> "Record":
        row = _decode(payload, "the payload")
        if not isinstance(row, list) or len(row) != 10 or row[0] != wire.RECORD_LABEL:
            raise _malformed(f"the payload is not a list of ten that begins with {wire.RECORD_LABEL!r}")
        try:
            device_pub = tickets.check_public_key(_bytes(row[3], wire.PUBLIC_KEY_LEN, "the device's key"))
            ticket_pub = tickets.check_public_key(_bytes(row[4], wire.PUBLIC_KEY_LEN, "the ticket's key"))
            model = tickets.check_model(row[8] if isinstance(row[8], str) else "")
        except ValueError as error:
            raise _malformed(f"the payload: {error}") from None
        if type(row[9]) is not int or not 0 <= row[9] <= RELEASE_MAX:
            raise _malformed("the release sequence is not a whole number of 32 bits")
        return cls(
            ticket_id=_bytes(row[1], wire.TICKET_ID_LEN, "the ticket's number"),
            eui=_bytes(row[2], EUI_LEN, "the EUI"),
            device_pub=device_pub,
            ticket_pub=ticket_pub,
            station_nonce=_bytes(row[5], wire.NONCE_LEN, "the station's nonce"),
            device_nonce=_bytes(row[6], wire.NONCE_LEN, "the device's nonce"),
            confirm=_bytes(row[7], CONFIRM_LEN, "the confirmation"),
            model=model,
            release=row[9],
            payload=payload,
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the payload. Not of the whole record: an ECDSA signature has a second form that also verifies."""
        return sha256(self.payload).digest()

    @property
    def transcript(self) -> bytes:
        """What both sides feed into the root key."""
        return keys.transcript(
            self.ticket_id, self.eui, self.device_pub, self.ticket_pub, self.station_nonce, self.device_nonce
        )

    def answers(self, ticket: tickets.Ticket, eui: bytes, station_nonce: bytes, model: str) -> None:
        """Check that this record answers what a station asked.

        Raises:
            EnrolmentRefused: it is for another ticket, board, session or model.
        """
        if self.ticket_id != ticket.ticket_id:
            raise EnrolmentRefused(Reason.OTHER_SESSION, "the board answered with a record of another ticket")
        if self.ticket_pub != ticket.public_key:
            raise EnrolmentRefused(Reason.TICKET_KEY_SWAPPED, "the board used another key than the ticket's")
        if self.eui != eui:
            raise EnrolmentRefused(Reason.OTHER_BOARD, "the record names another board")
        if self.station_nonce != station_nonce:
            raise EnrolmentRefused(Reason.OTHER_SESSION, "the record is of another session")
        if self.model != model:
            raise EnrolmentRefused(Reason.WRONG_MODEL, f"the board is a {self.model}, the tickets are for {model}")


@dataclass(frozen=True)
class IssuedTicket:
    """What the registry knows of a ticket when a record for it arrives.

    Attributes:
        public_key: 65 bytes.
        private_key: 32 bytes, the scalar.
        model: the batch's model.
    """

    public_key: bytes
    private_key: bytes
    model: str


def admit(record: Record, ticket: IssuedTicket) -> bytes:
    """Check a record against its ticket and return the root key CK[0] that the board shares with us.

    Raises:
        EnrolmentRefused: TICKET_KEY_SWAPPED, WRONG_MODEL or BAD_CONFIRMATION.
    """
    if record.ticket_pub != ticket.public_key:
        raise EnrolmentRefused(
            Reason.TICKET_KEY_SWAPPED, "the board was given another key than the ticket's: somebody stood in the middle"
        )
    if record.model != ticket.model:
        raise EnrolmentRefused(Reason.WRONG_MODEL, f"the board is a {record.model}, the ticket is for a {ticket.model}")
    private = ec.derive_private_key(int.from_bytes(ticket.private_key, "big"), ec.SECP256R1())
    other = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), record.device_pub)
    root = keys.root_key(private.exchange(ec.ECDH(), other), record.transcript)
    if not hmac.compare_digest(keys.confirm(root, record.transcript), record.confirm):
        raise EnrolmentRefused(
            Reason.BAD_CONFIRMATION,
            "the board derived another root key: the record was forged or the exchange disturbed",
        )
    return root


def _malformed(what: str) -> EnrolmentRefused:
    return EnrolmentRefused(Reason.MALFORMED, what)


def _decode(data: bytes, what: str) -> Any:
    try:
        return cbor.loads(data)
    except ValueError as error:
        raise _malformed(f"{what} is {error}") from None


def _bytes(value: Any, length: int | None, what: str) -> bytes:
    if not isinstance(value, bytes) or (length is not None and len(value) != length):
        raise _malformed(f"{what} is not {'bytes' if length is None else f'{length} bytes'}")
    return value
