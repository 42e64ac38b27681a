"""Enrolment tickets: the signed file that carries a batch from the registry to a station. Pure: no file, no database.

JSON, every field named below and no other:

    {"format": "sealband/1 tickets", "batch": name, "model": model, "issued_at": seconds since 2025-01-01,
     "tickets": [{"id": 16 hex, "key": 130 hex}, …], "service": 130 hex or "", "issuer": hex or "",
     "signer": 130 hex, "signature": 128 hex}

The signature covers CBOR [format, batch, model, issued_at, [[id, key], …], service, issuer]. The file holds no secret.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from provisioning import signers
from sealwire import enrolment as wire

FORMAT = "sealband/1 tickets"
TICKETS_MAX = 10_000
FILE_MAX = 4 << 20  # bytes
ISSUER_MAX = 4096  # bytes
_FIELDS = {"format", "batch", "model", "issued_at", "tickets", "service", "issuer", "signer", "signature"}
_BATCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class TicketFileError(Exception):
    """A ticket file is refused; the message says what is wrong with it."""

    remedy = "get the ticket file from the registry again"


@dataclass(frozen=True)
class Ticket:
    """The right to enrol one board: its number and the registry's one-time public key.

    Attributes:
        ticket_id: 8 bytes.
        public_key: 65 bytes, 04, x, y.
    """

    ticket_id: bytes
    public_key: bytes


@dataclass(frozen=True)
class TicketFile:
    """A batch of tickets as a station gets it.

    Attributes:
        batch: the batch's name.
        model: the only model of board that may be enrolled with it.
        issued_at: seconds since 2025-01-01T00:00:00Z.
        signer: the registry's batch-signing public key, 65 bytes.
        signature: 64 bytes, r then s.
        service: public key (65 bytes) whose tokens open the local port of these boards; b"" for none.
        issuer: DER of the certificate of the key that signs these boards' own certificates; b"" for none.
    """

    batch: str
    model: str
    issued_at: int
    tickets: tuple[Ticket, ...]
    signer: bytes
    signature: bytes
    service: bytes = b""
    issuer: bytes = b""

    @classmethod
    def sign(
        cls,
        batch: str,
        model: str,
        issued_at: int,
        tickets: tuple[Ticket, ...],
        key: signers.Signer,
        service: bytes = b"",
        issuer: bytes = b"",
    ) -> "TicketFile":
        """Put the registry's signature under a batch."""
        signature = key.sign(_signed(batch, model, issued_at, tickets, service, issuer))
        return cls(batch, model, issued_at, tickets, key.public_key, signature, service, issuer)

    def to_bytes(self) -> bytes:
        """The file's content."""
        return (
            json.dumps(
                {
                    "format": FORMAT,
                    "batch": self.batch,
                    "model": self.model,
                    "issued_at": self.issued_at,
                    "tickets": [{"id": t.ticket_id.hex(), "key": t.public_key.hex()} for t in self.tickets],
                    "service": self.service.hex(),
                    "issuer": self.issuer.hex(),
                    "signer": self.signer.hex(),
                    "signature": self.signature.hex(),
                },
                indent=1,
            )
            + "\n"
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes, trusted: bytes | None = None) -> "TicketFile":
        """Parse a ticket file and check its signature.

        Args:
            data: the file's content.
            trusted: the registry's batch-signing public key, 65 bytes, when the station knows it; without it a file
                that somebody else signed passes here, and its boards are refused at import.

        Raises:
            TicketFileError: anything is missing, surplus, malformed, twice, or not signed by that key.
        """
        if len(data) > FILE_MAX:
            raise TicketFileError(f"the ticket file is longer than {FILE_MAX} bytes")
        try:
            raw = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise TicketFileError(f"the ticket file is not the JSON of a ticket file: {error}") from None
        if not isinstance(raw, dict) or set(raw) != _FIELDS:
            raise TicketFileError(f"the ticket file must have exactly the fields {', '.join(sorted(_FIELDS))}")
        if raw["format"] != FORMAT:
            raise TicketFileError(f"the ticket file's format is not {FORMAT!r}")
        issued_at = raw["issued_at"]
        if type(issued_at) is not int or not 0 <= issued_at < 1 << 32:
            raise TicketFileError("issued_at is not a number of seconds since 2025")
        rows = raw["tickets"]
        if not isinstance(rows, list) or not 1 <= len(rows) <= TICKETS_MAX:
            raise TicketFileError(f"a ticket file holds 1 to {TICKETS_MAX} tickets")
        tickets = tuple(_ticket(row, number) for number, row in enumerate(rows, 1))
        if len({t.ticket_id for t in tickets}) != len(tickets) or len({t.public_key for t in tickets}) != len(tickets):
            raise TicketFileError("a ticket stands in the file twice")
        file = cls(
            batch=_text(raw["batch"], "batch", check_batch),
            model=_text(raw["model"], "model", check_model),
            issued_at=issued_at,
            tickets=tickets,
            signer=_hex(raw["signer"], wire.PUBLIC_KEY_LEN, "signer"),
            signature=_hex(raw["signature"], signers.SIGNATURE_LEN, "signature"),
            service=_service(raw["service"]),
            issuer=_issuer(raw["issuer"]),
        )
        if trusted is not None and trusted != file.signer:
            raise TicketFileError(
                f"the ticket file is signed by {signers.kid(file.signer).hex()}, not by {signers.kid(trusted).hex()}"
            )
        signed = _signed(file.batch, file.model, issued_at, tickets, file.service, file.issuer)
        if not signers.verify(file.signer, signed, file.signature):
            raise TicketFileError("the ticket file's signature is wrong: it was changed after the registry signed it")
        return file


def check_batch(name: str) -> str:
    """A batch's name, or ValueError: 1 to 32 letters, digits, _ and -."""
    if not _BATCH.fullmatch(name):
        raise ValueError("a batch's name is 1 to 32 letters, digits, _ and -, not beginning with _ or -")
    return name


def check_model(name: str) -> str:
    """A model's name, or ValueError: 1 to 32 letters, digits, dots, _ and -."""
    if not _MODEL.fullmatch(name) or len(name) > wire.MODEL_MAX:
        raise ValueError(f"a model's name is 1 to {wire.MODEL_MAX} letters, digits, dots, _ and -")
    return name


def check_public_key(key: bytes) -> bytes:
    """A P-256 public key (65 bytes, 04, x, y) that lies on the curve, or ValueError (NIST SP 800-56A 5.6.2.3)."""
    if len(key) != wire.PUBLIC_KEY_LEN or key[0] != 4:
        raise ValueError("a public key is 65 bytes that begin with 04")
    ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    return key


def _signed(
    batch: str, model: str, issued_at: int, tickets: tuple[Ticket, ...], service: bytes, issuer: bytes
) -> bytes:
    pairs = [[t.ticket_id, t.public_key] for t in tickets]
    return cbor2.dumps([FORMAT, batch, model, issued_at, pairs, service, issuer], canonical=True)


def _service(value: Any) -> bytes:
    if value == "":
        return b""
    key = _hex(value, wire.PUBLIC_KEY_LEN, "the service key")
    try:
        return check_public_key(key)
    except ValueError:
        raise TicketFileError("the service key is not a point on P-256") from None


def _issuer(value: Any) -> bytes:
    """DER as it came: who uses it to check certificates parses it, after the file's signature was found good."""
    if not isinstance(value, str) or len(value) > 2 * ISSUER_MAX or not re.fullmatch(r"([0-9a-f]{2})*", value):
        raise TicketFileError(f"the issuer is not a certificate of at most {ISSUER_MAX} bytes in lower-case hex")
    return bytes.fromhex(value)


def _ticket(row: Any, number: int) -> Ticket:
    if not isinstance(row, dict) or set(row) != {"id", "key"}:
        raise TicketFileError(f"ticket {number} must have exactly the fields id, key")
    key = _hex(row["key"], wire.PUBLIC_KEY_LEN, f"the key of ticket {number}")
    try:
        check_public_key(key)
    except ValueError:
        raise TicketFileError(f"the key of ticket {number} is not a point on P-256") from None
    return Ticket(_hex(row["id"], wire.TICKET_ID_LEN, f"the id of ticket {number}"), key)


def _hex(value: Any, length: int, what: str) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]*", value) or len(value) != 2 * length:
        raise TicketFileError(f"{what} is not {2 * length} lower-case hex digits")
    return bytes.fromhex(value)


def _text(value: Any, what: str, check: Callable[[str], str]) -> str:
    try:
        return check(value if isinstance(value, str) else "")
    except ValueError as error:
        raise TicketFileError(f"{what}: {error}") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a field stands twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")
