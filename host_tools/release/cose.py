"""COSE_Sign1 with ECDSA on P-256 and a detached payload (RFC 9052 section 4.2): one signature of an envelope or list.

Written: algorithm −9 (ESP256) protected, the key's short name unprotected. Read: −9 and −7, the name in either header
but there; whatever else a header holds is refused, since it could change what the signature means. Who may sign is
decided elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cbor2

from provisioning import cbor, signers
from sealwire import manifest as wire
from sealwire.enrolment import COSE_PROTECTED_ES256

_ALG = 1
_KID = 4
_ALGORITHMS = (wire.ALG_ESP256, wire.ALG_ES256)


class CoseError(ValueError):
    """Not a COSE_Sign1 as this project writes or reads it; the text says why."""


@dataclass(frozen=True)
class Sign1:
    """A signature, read but not verified.

    Attributes:
        protected: the protected header's bytes, which are signed too.
        kid: the short name of the key that is said to have signed.
        signature: 64 bytes, r then s.
    """

    protected: bytes
    kid: bytes
    signature: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> "Sign1":
        """Parse an encoded COSE_Sign1.

        Raises:
            CoseError: it is none, or says more than an algorithm and a key's name.
        """
        try:
            return cls.from_item(cbor.loads(data))
        except CoseError:
            raise
        except ValueError as error:
            raise CoseError(f"the signature is {error}") from None

    @classmethod
    def from_item(cls, item: Any) -> "Sign1":
        """Parse a decoded COSE_Sign1, tag included."""
        if not isinstance(item, cbor2.CBORTag) or item.tag != wire.TAG_SIGN1:
            raise CoseError("the signature is not a COSE_Sign1")
        if not isinstance(item.value, list | tuple) or len(item.value) != 4:
            raise CoseError("the COSE_Sign1 is not an array of four")
        protected, unprotected, payload, signature = item.value
        if payload is not None:
            raise CoseError("the COSE_Sign1 brings a payload of its own")
        if not isinstance(signature, bytes) or len(signature) != signers.SIGNATURE_LEN:
            raise CoseError(f"the signature is not {signers.SIGNATURE_LEN} bytes")
        return cls(protected, _headers(protected, unprotected), signature)

    def signed_by(self, public_key: bytes, payload: bytes) -> bool:
        """Whether this key (65 bytes) signed the payload, whatever name the header gives."""
        return signers.verify(public_key, sig_structure(self.protected, payload), self.signature)


def sig_structure(protected: bytes, payload: bytes) -> bytes:
    """The bytes that are signed (RFC 9052 section 4.4)."""
    return cbor.dumps(["Signature1", protected, b"", payload])


def sign1(signer: signers.Signer, payload: bytes) -> bytes:
    """An encoded COSE_Sign1 over a detached payload.

    Raises:
        signers.SignerError: the key cannot be used.
    """
    signature = signer.sign(sig_structure(COSE_PROTECTED_ES256, payload))
    headers = {_KID: signers.kid(signer.public_key)}
    return cbor.dumps(cbor2.CBORTag(wire.TAG_SIGN1, [COSE_PROTECTED_ES256, headers, None, signature]))


def _headers(protected: Any, unprotected: Any) -> bytes:
    if not isinstance(protected, bytes) or not isinstance(unprotected, Mapping):
        raise CoseError("the COSE_Sign1's headers are not bytes and a map")
    try:
        header = cbor.loads(protected)
    except ValueError as error:
        raise CoseError(f"the protected header is {error}") from None
    # True is 1 to Python and something else to CBOR
    if not isinstance(header, Mapping) or any(type(label) is not int for label in (*header, *unprotected)):
        raise CoseError("the COSE_Sign1's headers are not maps by number")
    algorithm = header.get(_ALG)
    if type(algorithm) is not int or algorithm not in _ALGORITHMS:
        raise CoseError("the signature's algorithm is not ECDSA on P-256")
    if set(header) - {_ALG, _KID} or set(unprotected) - {_KID} or (_KID in header and _KID in unprotected):
        raise CoseError("the COSE_Sign1's headers hold more than an algorithm and a key's name")
    kid = header.get(_KID, unprotected.get(_KID))
    if not isinstance(kid, bytes) or len(kid) != signers.KID_LEN:
        raise CoseError(f"the signature does not name its key by {signers.KID_LEN} bytes")
    return kid
