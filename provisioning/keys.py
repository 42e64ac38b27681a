"""The host's half of a device's key chain: derives the root key, the ratchet and the keys of an epoch.

Pure: no state, no file, no clock. Counters, epochs and replay belong to the device (`sealband.chain`) and to ingest.
Labels and lengths are `sealwire.keys`; HKDF is RFC 5869 with SHA-256.
"""

import hashlib
import hmac
from dataclasses import dataclass, field

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from sealwire import keys as labels
from sealwire.enrolment import CLAIM_LABEL, CLAIM_LEN, NONCE_LEN, PUBLIC_KEY_LEN, TICKET_ID_LEN, TRANSCRIPT_LABEL
from sealwire.frame import EUI_LEN


@dataclass(frozen=True, slots=True)
class EpochKeys:
    """What seals and opens the frames of one device in one epoch.

    Attributes:
        ku: 16 bytes, uplink key.
        kd: 16 bytes, downlink key.
        iu: 13 bytes, uplink IV.
        id: 13 bytes, downlink IV.
        did: 2 bytes, the device's pseudonym in this epoch; not a secret.
    """

    ku: bytes = field(repr=False)
    kd: bytes = field(repr=False)
    iu: bytes = field(repr=False)
    id: bytes = field(repr=False)
    did: bytes


def shared_secret(private: ec.EllipticCurvePrivateKey, public: bytes) -> bytes:
    """The ECDH secret z.

    Args:
        private: on P-256.
        public: the other side's 65 bytes 04, x, y.

    Returns:
        32 bytes, the x coordinate.

    Raises:
        ValueError: `public` is not an uncompressed point on the curve.
    """
    if len(public) != PUBLIC_KEY_LEN or public[0] != 4:
        raise ValueError("a public key is 65 bytes that begin with 04")
    return private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public))


def transcript(
    ticket_id: bytes, eui: bytes, device_pub: bytes, ticket_pub: bytes, station_nonce: bytes, device_nonce: bytes
) -> bytes:
    """What both sides agree on at enrolment, as one CBOR array.

    Args:
        ticket_id: 8 bytes.
        eui: 8 bytes.
        device_pub: 65 bytes.
        ticket_pub: 65 bytes.
        station_nonce: 16 bytes.
        device_nonce: 16 bytes.

    Raises:
        ValueError: a field has another length.
    """
    _expect("ticket id", ticket_id, TICKET_ID_LEN)
    _expect("EUI", eui, EUI_LEN)
    _expect("device's public key", device_pub, PUBLIC_KEY_LEN)
    _expect("ticket's public key", ticket_pub, PUBLIC_KEY_LEN)
    _expect("station's nonce", station_nonce, NONCE_LEN)
    _expect("device's nonce", device_nonce, NONCE_LEN)
    return cbor2.dumps(
        [TRANSCRIPT_LABEL, ticket_id, eui, device_pub, ticket_pub, station_nonce, device_nonce], canonical=True
    )


def root_key(z: bytes, agreed: bytes) -> bytes:
    """CK[0]: 32 bytes.

    Args:
        z: the ECDH secret, 32 bytes.
        agreed: the transcript.
    """
    _expect("ECDH secret", z, 32)
    salt = hashlib.sha256(agreed).digest()
    return HKDF(hashes.SHA256(), labels.CHAIN_KEY_LEN, salt=salt, info=labels.ROOT_LABEL).derive(z)


def confirm(root: bytes, agreed: bytes) -> bytes:
    """The 16 bytes by which a device proves that it holds CK[0] for this transcript. Compare in constant time."""
    key = _expand(root, labels.CONFIRM_LABEL, 32)
    return hmac.digest(key, hashlib.sha256(agreed).digest(), "sha256")[: labels.CONFIRM_LEN]


def claim_secret(root: bytes) -> bytes:
    """The 10 bytes on a device's label that say who holds it in his hands, of CK[0]; the device derives the same."""
    return _expand(root, CLAIM_LABEL, CLAIM_LEN)


def claim_digest(eui: bytes, claim: bytes) -> bytes:
    """What is kept of a claim secret: 32 bytes that tell whether a label fits. 80 random bits need no slow hash."""
    _expect("EUI", eui, EUI_LEN)
    _expect("claim secret", claim, CLAIM_LEN)
    return hashlib.sha256(cbor2.dumps([CLAIM_LABEL.decode(), eui, claim], canonical=True)).digest()


def ratchet(ck: bytes) -> bytes:
    """CK[e+1] of CK[e], as it follows by contact."""
    return _expand(ck, labels.RATCHET_LABEL, labels.CHAIN_KEY_LEN)


def rekey(ck: bytes, r: bytes) -> bytes:
    """CK[e+1] of CK[e] and the 16 random bytes of a rekey command."""
    _expect("rekey's random part", r, labels.REKEY_LEN)
    return _expand(ck, labels.REKEY_LABEL + r, labels.CHAIN_KEY_LEN)


def epoch_keys(ck: bytes, eui: bytes) -> EpochKeys:
    """The keys of the epoch whose chain key is `ck` (32 bytes), for the device `eui` (8 bytes)."""
    _expect("EUI", eui, EUI_LEN)
    return EpochKeys(*labels.split(_expand(ck, labels.KEYS_LABEL + eui, labels.EPOCH_KEYS_LEN)))


def _expand(key: bytes, info: bytes, length: int) -> bytes:
    _expect("chain key", key, labels.CHAIN_KEY_LEN)
    return HKDFExpand(hashes.SHA256(), length, info).derive(key)


def _expect(what: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise ValueError(f"{what} of {len(value)} bytes, expected {length}")
