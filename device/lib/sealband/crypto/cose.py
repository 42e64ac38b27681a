# COSE_Sign1 (RFC 9052 section 4.2) with ECDSA on P-256: what is signed, written, read and refused.
# Written is algorithm -9 (ESP256); read are -9 and -7 (ES256), which are the same on this curve. Headers may hold the
# algorithm (protected) and a key id (either); whatever else stands there is refused, since it could change the
# meaning. Who may sign is not decided here.
from hashlib import sha256

from micropython import const

from sealwire.enrolment import COSE_PROTECTED_ES256, COSE_SIGN1_TAG

from . import p256
from .cbor import CborError, Tag, decode, encode

_ALG = const(1)
_KID = const(4)
_ALGORITHMS = (-9, -7)
_KID_MAX = const(32)
_SIGNATURE_LEN = const(64)
_BUFFERS = (bytes, bytearray, memoryview)


class CoseError(Exception):
    pass


class Sign1:
    # a message read but not yet verified; `payload` is None if detached, `kid` is None if there is none

    def __init__(self, protected, kid, payload, signature):
        self.protected = protected
        self.kid = kid
        self.payload = payload
        self.signature = signature

    # whether this key signed it; a detached payload must be given
    def verify(self, public, payload=None, aad=b""):
        if (payload is None) == (self.payload is None):
            raise CoseError("the payload is needed once, attached or detached")
        if payload is None:
            payload = self.payload
        digest = sha256(sig_structure(self.protected, payload, aad)).digest()
        return p256.verify(public, digest, self.signature)


# what the signature is over (RFC 9052 section 4.4)
def sig_structure(protected, payload, aad=b""):
    for part in (protected, payload, aad):
        if not isinstance(part, _BUFFERS):
            raise CoseError("%s instead of bytes" % type(part).__name__)
    return encode(["Signature1", protected, aad, payload])


# the signed message with its tag; a detached payload is signed but left out
def sign1(private, payload, protected=COSE_PROTECTED_ES256, aad=b"", unprotected=None, detached=False):
    unprotected = unprotected or {}
    _headers(protected, unprotected)
    signature = p256.sign(private, sha256(sig_structure(protected, payload, aad)).digest())
    return encode(Tag(COSE_SIGN1_TAG, [protected, unprotected, None if detached else payload, signature]))


# the message, read but not verified
def parse1(data):
    try:
        message = decode(data)
    except CborError as error:
        raise CoseError("not CBOR: %s" % error)
    if not isinstance(message, Tag) or message.number != COSE_SIGN1_TAG:
        raise CoseError("not a COSE_Sign1")
    parts = message.value
    if not isinstance(parts, list) or len(parts) != 4:
        raise CoseError("COSE_Sign1 is not an array of 4")
    protected, unprotected, payload, signature = parts
    if payload is not None and not isinstance(payload, bytes):
        raise CoseError("payload is not bytes")
    if not isinstance(signature, bytes) or len(signature) != _SIGNATURE_LEN:
        raise CoseError("signature is not %d bytes" % _SIGNATURE_LEN)
    return Sign1(protected, _headers(protected, unprotected), payload, signature)


# the payload of a message that this key signed, or CoseError
def verify1(public, data, aad=b""):
    message = parse1(data)
    if message.payload is None:
        raise CoseError("payload is detached")
    if not message.verify(public, None, aad):
        raise CoseError("signature does not match")
    return message.payload


# the key id, or None
def _headers(protected, unprotected):
    if not isinstance(protected, bytes) or not isinstance(unprotected, dict):
        raise CoseError("headers are not bytes and a map")
    try:
        header = decode(protected)
    except CborError as error:
        raise CoseError("protected header is not CBOR: %s" % error)
    if not isinstance(header, dict) or header.get(_ALG) not in _ALGORITHMS:
        raise CoseError("algorithm is not ECDSA on P-256")
    for label in header:
        if label not in (_ALG, _KID):
            raise CoseError("protected header %r is not known" % label)
    for label in unprotected:
        if label != _KID or _KID in header:
            raise CoseError("unprotected header %r is not known or there twice" % label)
    if _KID not in header and _KID not in unprotected:
        return None
    kid = header[_KID] if _KID in header else unprotected[_KID]
    if not isinstance(kid, bytes) or len(kid) > _KID_MAX:
        raise CoseError("key id is not bytes, at most %d" % _KID_MAX)
    return kid
