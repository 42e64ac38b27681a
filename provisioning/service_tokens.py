"""Tokens that open the REPL of one closed board, once: reads the board's challenge, signs the answer, checks it.

Formats and codes are `sealwire.service`. Pure: no serial port, no clock, no audit; the station asks, and whoever holds
the service key signs, on the same desk or far away. The board is the judge: `check` says beforehand what it will say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cbor2

from provisioning import cbor, signers
from provisioning.tickets import check_model
from sealwire import service as wire
from sealwire.enrolment import COSE_PROTECTED_ES256, COSE_SIGN1_TAG

CHALLENGE_MAX = 256  # bytes; a longer one is refused before it is parsed
_NUMBER_MAX = (1 << 32) - 1
_REMEDIES = {
    wire.MALFORMED: "ask for a new token",
    wire.SIGNATURE: "have the token signed with the service key that the board's batch was given",
    wire.DEVICE: "ask for a token for this board: each opens one",
    wire.NONCE: "ask for a token for this challenge: each opens its board once",
    wire.EXPIRED: "ask for a new token, and check this computer's clock",
}


class ServiceTokenError(Exception):
    """A challenge or a token is refused.

    Attributes:
        code: one of `sealwire.service.CODES`, the same that the board would give.
        remedy: what to do next.
    """

    def __init__(self, code: int, what: str, remedy: str | None = None) -> None:
        super().__init__(what)
        self.code = code
        self.remedy = remedy or _REMEDIES[code]

    @property
    def reason(self) -> str:
        """The code's name."""
        return wire.CODES[self.code]


@dataclass(frozen=True)
class Challenge:
    """What a closed board says when it is asked to open.

    Attributes:
        eui: EUI-64, 8 bytes.
        nonce: 16 bytes, new for each challenge.
        model: the board's model.
        release: the release sequence that it runs.
    """

    eui: bytes
    nonce: bytes
    model: str
    release: int


@dataclass(frozen=True)
class ServiceToken:
    """A token whose signature was right.

    Attributes:
        eui, nonce: of the challenge that it answers.
        not_after_s: seconds since 2025-01-01T00:00:00Z.
        operator: who asked for it, for the audit trail.
    """

    eui: bytes
    nonce: bytes
    not_after_s: int
    operator: str


def parse_challenge(data: bytes) -> Challenge:
    """Read the CBOR of a challenge.

    Raises:
        ServiceTokenError: MALFORMED.
    """
    row = _decode(data, CHALLENGE_MAX, "the challenge")
    if not isinstance(row, list) or len(row) != 5 or row[0] != wire.CHALLENGE_LABEL:
        raise _malformed(f"the challenge is not a list of five that begins with {wire.CHALLENGE_LABEL!r}")
    try:
        model = check_model(row[3] if isinstance(row[3], str) else "")
    except ValueError as error:
        raise _malformed(f"the challenge: {error}") from None
    return Challenge(
        eui=_bytes(row[1], wire.EUI_LEN, "the EUI"),
        nonce=_bytes(row[2], wire.NONCE_LEN, "the nonce"),
        model=model,
        release=_number(row[4], "the release sequence"),
    )


def make(challenge: Challenge, signer: signers.Signer, not_after_s: int, operator: str) -> bytes:
    """The token that answers a challenge: a COSE_Sign1 (RFC 9052 section 4.2).

    Args:
        challenge: the board's.
        signer: the service key.
        not_after_s: seconds since 2025-01-01T00:00:00Z; boards that do not know the time go by their nonce alone.
        operator: who asked for it, 1 to 64 bytes of UTF-8.

    Raises:
        ServiceTokenError: the operator's name is empty, too long or not printable, or the time is out of range.
        SignerError: the key cannot be used.
    """
    _operator(operator)
    payload = cbor2.dumps(
        [wire.TOKEN_LABEL, challenge.eui, challenge.nonce, _number(not_after_s, "the expiry"), operator],
        canonical=True,
    )
    message = [COSE_PROTECTED_ES256, {}, payload, signer.sign(_to_sign(payload))]
    return cbor2.dumps(cbor2.CBORTag(COSE_SIGN1_TAG, message), canonical=True)


def check(token: bytes, challenge: Challenge, public_key: bytes, now_s: int) -> ServiceToken:
    """Check a token as the board that gave the challenge will.

    Args:
        token: the COSE_Sign1.
        challenge: the board's.
        public_key: the service key, 65 bytes, 04, x, y.
        now_s: seconds since 2025-01-01T00:00:00Z.

    Raises:
        ServiceTokenError: MALFORMED, SIGNATURE, DEVICE, NONCE or EXPIRED, looked for in this order.
    """
    message = _decode(token, wire.TOKEN_MAX, "the token")
    if not isinstance(message, cbor2.CBORTag) or message.tag != COSE_SIGN1_TAG:
        raise _malformed("the token is not a COSE_Sign1")
    parts = message.value
    # inside a tag, cbor2 makes immutable lists and maps
    if not isinstance(parts, list | tuple) or len(parts) != 4 or not isinstance(parts[1], Mapping) or parts[1]:
        raise _malformed("the token is not a COSE_Sign1 without unprotected headers")
    if parts[0] != COSE_PROTECTED_ES256:
        raise _malformed("the token's algorithm is not ESP256")
    payload = _bytes(parts[2], None, "the token's payload")
    signature = _bytes(parts[3], signers.SIGNATURE_LEN, "the token's signature")
    row = _decode(payload, wire.TOKEN_MAX, "the token's payload")
    if not isinstance(row, list) or len(row) != 5 or row[0] != wire.TOKEN_LABEL:
        raise _malformed(f"the token's payload is not a list of five that begins with {wire.TOKEN_LABEL!r}")
    said = ServiceToken(
        eui=_bytes(row[1], wire.EUI_LEN, "the token's EUI"),
        nonce=_bytes(row[2], wire.NONCE_LEN, "the token's nonce"),
        not_after_s=_number(row[3], "the token's expiry"),
        operator=_operator(row[4]),
    )
    if not signers.verify(public_key, _to_sign(payload), signature):
        raise ServiceTokenError(wire.SIGNATURE, "the token is not signed by the service key of this board")
    if said.eui != challenge.eui:
        raise ServiceTokenError(wire.DEVICE, f"the token is for {said.eui.hex()}, the board is {challenge.eui.hex()}")
    if said.nonce != challenge.nonce:
        raise ServiceTokenError(wire.NONCE, "the token answers another challenge")
    if now_s > said.not_after_s:
        raise ServiceTokenError(wire.EXPIRED, f"the token expired {now_s - said.not_after_s} s ago")
    return said


def _to_sign(payload: bytes) -> bytes:
    return cbor2.dumps(["Signature1", COSE_PROTECTED_ES256, b"", payload])


def _malformed(what: str) -> ServiceTokenError:
    return ServiceTokenError(wire.MALFORMED, what)


def _decode(data: bytes, limit: int, what: str) -> Any:
    if len(data) > limit:
        raise _malformed(f"{what} is longer than {limit} bytes")
    try:
        return cbor.loads(data)
    except ValueError as error:
        raise _malformed(f"{what} is {error}") from None


def _bytes(value: Any, length: int | None, what: str) -> bytes:
    if not isinstance(value, bytes) or (length is not None and len(value) != length):
        raise _malformed(f"{what} is not {'bytes' if length is None else f'{length} bytes'}")
    return value


def _number(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value <= _NUMBER_MAX:
        raise _malformed(f"{what} is not a whole number of 32 bits")
    return value


def _operator(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value.encode()) <= wire.OPERATOR_MAX:
        raise _malformed(f"an operator's name is 1 to {wire.OPERATOR_MAX} bytes of printable text")
    return value
