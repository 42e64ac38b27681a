"""A board's half of enrolment over `cryptography` and `cbor2`, not over the project's derivations: for host tests."""

import hashlib
import hmac
import os

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from provisioning.station.link import BoardRefused, Status
from provisioning.tickets import Ticket


def public_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def sign1(key: ec.EllipticCurvePrivateKey, payload: bytes) -> bytes:
    """COSE_Sign1 (RFC 9052 section 4.4) with {1: -9}."""
    told = cbor2.dumps(["Signature1", b"\xa1\x01\x28", b"", payload])
    r, s = decode_dss_signature(key.sign(told, ec.ECDSA(SHA256())))
    return cbor2.dumps(cbor2.CBORTag(18, [b"\xa1\x01\x28", {}, payload, r.to_bytes(32, "big") + s.to_bytes(32, "big")]))


class SoftBoard:
    """Answers as a board does; everything that a real one keeps secret or fixed can be set."""

    def __init__(self, eui: bytes | None = None, model: str = "virtual-wearable") -> None:
        self.eui = eui or os.urandom(8)
        self.model = model
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.device_nonce = os.urandom(16)
        self.ticket: bytes | None = None
        self.record: bytes | None = None
        self.restarts = 0

    def fields(self, ticket: Ticket, station_nonce: bytes) -> list[object]:
        """The ten fields of the record."""
        public = public_bytes(self.key)
        agreed = [ticket.ticket_id, self.eui, public, ticket.public_key, station_nonce, self.device_nonce]
        transcript = hashlib.sha256(cbor2.dumps(["sealband/1 enrol", *agreed])).digest()
        other = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), ticket.public_key)
        z = self.key.exchange(ec.ECDH(), other)
        self.root = HKDF(SHA256(), 32, salt=transcript, info=b"sealband/1 root").derive(z)
        confirm_key = HKDFExpand(SHA256(), 32, b"sealband/1 confirm").derive(self.root)
        confirm = hmac.digest(confirm_key, transcript, "sha256")[:16]
        return ["sealband/1 record", *agreed, confirm, self.model, 0]

    def status(self) -> Status:
        return Status(self.eui, self.model, self.ticket, self.record is not None)

    def enrol(self, ticket: Ticket, station_nonce: bytes, now_s: int) -> bytes:
        if self.record is None:
            self.record = sign1(self.key, cbor2.dumps(self.fields(ticket, station_nonce)))
            self.ticket = ticket.ticket_id
        elif self.ticket != ticket.ticket_id:
            raise BoardRefused("other_ticket", "enrolled with another one")
        return self.record

    def restart(self) -> None:
        self.restarts += 1
