"""The parts that certificates of ours are made of, each in the one form that it has: names, extensions, validity; and
why a certificate is refused. Who may issue what is up to `provisioning.certificates`.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from provisioning.certificate_key import SignerKey
from provisioning.signers import Signer
from sealwire.frame import EUI_LEN

SERIAL_BITS = 159  # RFC 5280 section 4.1.2.2: positive, at most 20 octets
DER_MAX = 4096  # bytes; a longer certificate or request is refused before it is parsed
# what `cryptography` raises for what it cannot read
PARSE_ERRORS = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion)


class Reason(StrEnum):
    """Why a request or a certificate is refused; closed, so that refusals can be counted."""

    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad_signature"
    OTHER_DEVICE = "other_device"
    OTHER_BATCH = "other_batch"
    OTHER_ISSUER = "other_issuer"
    WRONG_KEY = "wrong_key"
    SURPLUS = "surplus"
    OUT_OF_TIME = "out_of_time"


_REMEDIES = {
    Reason.MALFORMED: "ask for it again",
    Reason.BAD_SIGNATURE: "set the board aside; go on only when it is known why",
    Reason.OTHER_DEVICE: "set the board aside; go on only when it is known why",
    Reason.OTHER_BATCH: "use the issuing certificate that came with the batch's tickets",
    Reason.OTHER_ISSUER: "use the issuing certificate and its key that came with the batch's tickets",
    Reason.WRONG_KEY: "make a key on the curve P-256",
    Reason.SURPLUS: "set the board aside; go on only when it is known why",
    Reason.OUT_OF_TIME: "check this computer's clock; if it is right, have a new issuing certificate made",
}


class CertificateError(Exception):
    """A certificate is not made, or not accepted.

    Attributes:
        reason: one of `Reason`.
        remedy: what to do next.
    """

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.remedy = _REMEDIES[reason]


def parse(der: bytes, what: str, limit: int = DER_MAX) -> x509.Certificate:
    """A certificate of ours in its one encoding.

    Raises:
        CertificateError: MALFORMED, or BAD_SIGNATURE for another algorithm; the signature itself is not checked.
    """
    try:
        if len(der) > limit:
            raise ValueError
        certificate = x509.load_der_x509_certificate(der)
        # whatever can be wrong in its inner parts is found here, not later in the middle of a check
        parts = (certificate.extensions, certificate.subject, certificate.issuer, certificate.public_key())
        whole = certificate.public_bytes(Encoding.DER) == der and signed_canonically(der, certificate.signature)
        if not whole or not parts or certificate.version is not x509.Version.v3:
            raise ValueError
        if not 0 < certificate.serial_number < 1 << SERIAL_BITS:
            raise ValueError
    except PARSE_ERRORS:
        raise CertificateError(Reason.MALFORMED, f"{what} is not a certificate in DER") from None
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise CertificateError(Reason.BAD_SIGNATURE, f"{what} is not signed with ECDSA and SHA-256")
    return certificate


def signed_canonically(der: bytes, signature: bytes) -> bool:
    """Whether a certificate or request ends with this signature in its one encoding.

    The signature does not cover itself: else one whose BIT STRING has idle bits would pass as a second certificate.
    """
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        return False
    ending = bytes((0x03, len(signature) + 1, 0)) + signature
    return encode_dss_signature(r, s) == signature and der.endswith(ending)


def builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    """A certificate with all but its issuer and what depends on its kind."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def signed(certificate: x509.CertificateBuilder, key: SignerKey) -> bytes:
    """The certificate as DER."""
    return certificate.sign(key, SHA256()).public_bytes(Encoding.DER)


def batch_name(batch: str, name: str) -> x509.Name:
    """The subject of what belongs to a batch: the batch first, because a name constraint is the beginning of a name."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, batch),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def eui_text(eui: bytes) -> str:
    """An EUI as it stands in a name."""
    if len(eui) != EUI_LEN:
        raise ValueError(f"an EUI has {EUI_LEN} bytes, not {len(eui)}")
    return eui.hex()


def only_batch(batch: str) -> x509.NameConstraints:
    """The constraint that every name below begins with this batch."""
    unit = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, batch)])
    return x509.NameConstraints([x509.DirectoryName(unit)], None)


def authority(parent: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The extension that names the issuing certificate's key."""
    try:
        own = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        raise CertificateError(Reason.OTHER_ISSUER, "the issuing certificate does not name its key") from None
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def usage(*, ca: bool) -> x509.KeyUsage:
    """What its key is for: certificates and lists, or a TLS handshake."""
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def is_ca(certificate: x509.Certificate, path_length: int) -> bool:
    """Whether it may issue, down to just this depth."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        purpose = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        return False
    return (
        constraints.critical
        and constraints.value == x509.BasicConstraints(ca=True, path_length=path_length)
        and purpose.value == usage(ca=True)
    )


def check_same_key(certificate: x509.Certificate, signer: Signer, what: str) -> None:
    """Refuse a key that is not the certificate's."""
    if point_of(certificate.public_key(), f"the {what}") != signer.public_key:
        raise CertificateError(Reason.OTHER_ISSUER, f"the key is not the {what}'s")


def point_of(key: object, what: str) -> bytes:
    """A public key as 65 bytes, 04, x, y; WRONG_KEY if it is of another kind."""
    return on_p256(key, what).public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def on_p256(key: object, what: str) -> ec.EllipticCurvePublicKey:
    """The same key; WRONG_KEY if it is of another kind."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError(Reason.WRONG_KEY, f"the key of {what} is not on the curve P-256")
    return key


def key_of(public_key: bytes, what: str) -> ec.EllipticCurvePublicKey:
    """The public key of 65 bytes; WRONG_KEY if they are no point on the curve."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
    except ValueError:
        raise CertificateError(Reason.WRONG_KEY, f"the key of {what} is not on the curve P-256") from None


def validity(days: int) -> timedelta:
    """So many days; OUT_OF_TIME if that is none."""
    if days < 1:
        raise CertificateError(Reason.OUT_OF_TIME, "a validity is at least one day")
    return timedelta(days=days)


def utc(when: datetime) -> datetime:
    """A time that an extension holds, which has no zone of its own."""
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
