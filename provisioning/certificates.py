"""TLS client certificates of devices: a root, an issuing certificate for each batch, devices' certificates, CRLs.

    root                    CN = its name                   for as long as the fleet lives; its key stays in a safe
    └─ issuing certificate  OU = batch, CN = model          may issue for `days`, and for this batch alone
       └─ device            OU = batch, CN = EUI in hex     from the board's own request

That an issuing key certifies nobody of another batch stands in the issuing certificate itself, as a critical name
constraint (RFC 5280 section 4.2.1.10), so whoever checks a chain enforces it. It binds the OU: a broker that looks at
the CN alone would take any EUI from any issuer, so it goes by the whole subject, or by the certificates' digests. When
an issuing key may issue stands there as PrivateKeyUsagePeriod (X.509 section 9.2.2.5), which TLS ignores and `issue`
and `check_device` enforce.

Pure X.509 (RFC 5280) by `cryptography`: no file, no clock, no database. Certificates go in and out as DER, times as
aware `datetime`, keys as `provisioning.signers.Signer`. Which certificate was revoked, and where a CRL goes, is the
registry's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from provisioning import certificate_form as form
from provisioning.certificate_form import CertificateError, Reason
from provisioning.certificate_key import SignerKey
from provisioning.signers import Signer
from provisioning.tickets import check_batch, check_model

__all__ = [
    "CertificateError",
    "DeviceCertificate",
    "Issuer",
    "Reason",
    "check_device",
    "create_issuer",
    "create_root",
    "crl",
    "issue",
    "read_issuer",
    "to_pem",
]

NAME_MAX = 64  # characters (RFC 5280 appendix A.1, ub-common-name)
# a certificate begins this much before its issue, for a broker whose clock is behind the station's
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Issuer:
    """What an issuing certificate says of itself.

    Attributes:
        batch, model: what it issues for.
        public_key: 65 bytes, 04, x, y.
        serial: its own serial number.
        begins, issues_until: when its key may issue.
        ends: when it, and with it every certificate it issued, is over.
    """

    batch: str
    model: str
    public_key: bytes
    serial: int
    begins: datetime
    issues_until: datetime
    ends: datetime


@dataclass(frozen=True)
class DeviceCertificate:
    """What the registry keeps of a device's certificate.

    Attributes:
        eui: EUI-64, 8 bytes.
        batch: the batch that it was issued for.
        serial: what a CRL names it by; positive, at most 20 bytes.
        digest: SHA-256 of the DER.
        public_key: the device's TLS key, 65 bytes, 04, x, y.
        begins, ends: its validity.
    """

    eui: bytes
    batch: str
    serial: int
    digest: bytes
    public_key: bytes
    begins: datetime
    ends: datetime


def create_root(signer: Signer, name: str, days: int, now: datetime) -> bytes:
    """A self-signed root certificate.

    Args:
        signer: the root's key.
        name: its common name, 1 to 64 characters.
        days: its validity.
        now: the time.

    Raises:
        CertificateError: the name is empty or too long.
        SignerError: the key cannot be used.
    """
    if not 1 <= len(name) <= NAME_MAX:
        raise CertificateError(Reason.MALFORMED, f"a root's name has 1 to {NAME_MAX} characters")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key = SignerKey(signer)
    begins = now.replace(microsecond=0)
    return form.signed(
        form.builder(subject, key.public_key(), begins, begins + form.validity(days))
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(form.usage(ca=True), critical=True),
        key,
    )


def create_issuer(
    root_cert: bytes,
    root_signer: Signer,
    issuer_public_key: bytes,
    batch: str,
    model: str,
    days: int,
    device_days: int,
    now: datetime,
) -> bytes:
    """An issuing certificate for one batch.

    Args:
        root_cert: DER.
        root_signer: the root's key.
        issuer_public_key: 65 bytes, 04, x, y; its private half goes to the station, in a file or on a token.
        batch, model: what it issues for.
        days: for how long it may issue.
        device_days: how long each device's certificate is valid from its issue on.
        now: the time.

    Raises:
        CertificateError: the root is none, its key another, it ends too soon, or a name or the key is malformed.
        SignerError: the root's key cannot be used.
    """
    root, key = form.parse(root_cert, "the root"), SignerKey(root_signer)
    if root.issuer != root.subject or not form.is_ca(root, path_length=1):
        raise CertificateError(Reason.OTHER_ISSUER, "this is not a root certificate of ours")
    form.check_same_key(root, root_signer, "root")
    try:
        check_batch(batch)
        check_model(model)
    except ValueError as error:
        raise CertificateError(Reason.MALFORMED, str(error)) from None
    begins = now.replace(microsecond=0)
    issues_until = begins + form.validity(days)
    ends = issues_until + form.validity(device_days)
    if begins < root.not_valid_before_utc or ends > root.not_valid_after_utc:
        raise CertificateError(
            Reason.OUT_OF_TIME,
            f"the root is valid until {root.not_valid_after_utc:%F}, the devices' would be {ends:%F}",
        )
    return form.signed(
        form.builder(
            form.batch_name(batch, model),
            form.key_of(issuer_public_key, "the issuing certificate"),
            begins,
            ends,
        )
        .issuer_name(root.subject)
        .add_extension(form.authority(root), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(form.usage(ca=True), critical=True)
        .add_extension(x509.PrivateKeyUsagePeriod(begins, issues_until), critical=False)
        .add_extension(form.only_batch(batch), critical=True),
        key,
    )


def read_issuer(issuer_cert: bytes, batch: str | None = None) -> Issuer:
    """What an issuing certificate says; its own signature is not checked, for it comes in a signed ticket file.

    Args:
        issuer_cert: DER.
        batch: the batch that it must be for, if that is known.

    Raises:
        CertificateError: MALFORMED or OTHER_ISSUER: it is no issuing certificate; OTHER_BATCH.
    """
    certificate = form.parse(issuer_cert, "the issuing certificate")
    names = [(name.oid, str(name.value)) for name in certificate.subject]
    if [oid for oid, _ in names] != [NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME] or not form.is_ca(
        certificate, path_length=0
    ):
        raise CertificateError(Reason.OTHER_ISSUER, "this is not an issuing certificate of a batch")
    try:
        period = certificate.extensions.get_extension_for_class(x509.PrivateKeyUsagePeriod).value
        bound = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        raise CertificateError(Reason.OTHER_ISSUER, "the issuing certificate is not limited") from None
    begins, issues_until = period.not_before, period.not_after
    if begins is None or issues_until is None:
        raise CertificateError(Reason.OTHER_ISSUER, "the issuing certificate is not limited in time")
    if not bound.critical or bound.value != form.only_batch(names[0][1]):
        raise CertificateError(Reason.OTHER_ISSUER, "the issuing certificate is not limited to its batch")
    if batch is not None and names[0][1] != batch:
        raise CertificateError(
            Reason.OTHER_BATCH, f"the issuing certificate is for batch {names[0][1]}, not for {batch}"
        )
    return Issuer(
        batch=names[0][1],
        model=names[1][1],
        public_key=form.point_of(certificate.public_key(), "the issuing certificate"),
        serial=certificate.serial_number,
        begins=max(form.utc(begins), certificate.not_valid_before_utc),
        issues_until=min(form.utc(issues_until), certificate.not_valid_after_utc),
        ends=certificate.not_valid_after_utc,
    )


def issue(
    csr_der: bytes, eui: bytes, issuer_cert: bytes, issuer_signer: Signer, now: datetime, batch: str | None = None
) -> bytes:
    """A device's certificate for the key of its own request, valid from now for the issuing certificate's device days.

    Args:
        csr_der: the board's PKCS#10 request: CN = EUI, P-256, nothing else.
        eui: the board's EUI, 8 bytes, as it was enrolled.
        issuer_cert: DER.
        issuer_signer: the issuing certificate's key.
        now: the time.
        batch: the batch that the board is enrolled in, if it is known.

    Raises:
        CertificateError: the request is malformed, not signed by its key, for another device or asks for more than a
            device has; the issuing certificate is for another batch or key, or it may not issue now.
        SignerError: the issuing key cannot be used.
    """
    issuer = read_issuer(issuer_cert, batch)
    parent = form.parse(issuer_cert, "the issuing certificate")
    form.check_same_key(parent, issuer_signer, "issuing certificate")
    if not issuer.begins <= now <= issuer.issues_until:
        raise CertificateError(
            Reason.OUT_OF_TIME,
            f"the issuing certificate may issue from {issuer.begins:%F %T} to {issuer.issues_until:%F %T} UTC",
        )
    public_key = _requested_key(csr_der, eui)
    if form.point_of(public_key, "the request") == issuer.public_key:
        raise CertificateError(Reason.WRONG_KEY, "the request is for the issuing key")
    begins = max(issuer.begins, now.replace(microsecond=0) - CLOCK_SKEW)
    ends = now.replace(microsecond=0) + (issuer.ends - issuer.issues_until)
    return form.signed(
        form.builder(form.batch_name(issuer.batch, form.eui_text(eui)), public_key, begins, min(ends, issuer.ends))
        .issuer_name(parent.subject)
        .add_extension(form.authority(parent), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(form.usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False),
        SignerKey(issuer_signer),
    )


def check_device(
    der: bytes, issuer_cert: bytes, eui: bytes, now: datetime | None = None, batch: str | None = None
) -> DeviceCertificate:
    """Check a device's certificate against its batch's issuing certificate.

    Args:
        der: the device's certificate.
        issuer_cert: the issuing certificate, which must be trusted already.
        eui: the EUI that it must be for, 8 bytes.
        now: if given, it must be valid at this time.
        batch: the batch that the issuing certificate must be for, if it is known.

    Raises:
        CertificateError: it is not exactly what `issue` makes for this device under this issuing certificate.
    """
    issuer, parent = read_issuer(issuer_cert, batch), form.parse(issuer_cert, "the issuing certificate")
    certificate = form.parse(der, "the certificate")
    try:
        certificate.verify_directly_issued_by(parent)
    except ValueError:
        raise CertificateError(Reason.OTHER_ISSUER, "the certificate was not issued by the batch's issuer") from None
    except InvalidSignature:
        raise CertificateError(Reason.BAD_SIGNATURE, "the certificate's signature is wrong") from None
    names = [(name.oid, name.value) for name in certificate.subject]
    if names != [(name.oid, name.value) for name in form.batch_name(issuer.batch, form.eui_text(eui))]:
        if names[:1] != [(NameOID.ORGANIZATIONAL_UNIT_NAME, issuer.batch)]:
            raise CertificateError(Reason.OTHER_BATCH, f"the certificate is not for a device of batch {issuer.batch}")
        raise CertificateError(Reason.OTHER_DEVICE, f"the certificate is not for the device {eui.hex()}")
    _exactly_a_devices(certificate, parent)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not issuer.begins <= begins <= issuer.issues_until or not begins < ends <= issuer.ends:
        raise CertificateError(Reason.OUT_OF_TIME, "the certificate was issued outside its issuer's period")
    if now is not None and not begins <= now <= ends:
        raise CertificateError(Reason.OUT_OF_TIME, f"the certificate is valid from {begins:%F %T} to {ends:%F %T} UTC")
    return DeviceCertificate(
        eui=eui,
        batch=issuer.batch,
        serial=certificate.serial_number,
        digest=sha256(der).digest(),
        public_key=form.point_of(certificate.public_key(), "the certificate"),
        begins=begins,
        ends=ends,
    )


def crl(issuer_cert: bytes, issuer_signer: Signer, revoked: Mapping[int, datetime], days: int, now: datetime) -> bytes:
    """A revocation list of one issuing certificate.

    Args:
        issuer_cert: DER; a root's is as good, for its issuing certificates.
        issuer_signer: its key. It signs lists after it may issue no longer, for devices outlive that time.
        revoked: when each was revoked, by serial number.
        days: how long the list is valid.
        now: the time; lists are numbered by it, so a later one is known by its number.

    Raises:
        CertificateError: the key is another one's, or the certificate is over.
        SignerError: the key cannot be used.
    """
    parent = form.parse(issuer_cert, "the issuing certificate")
    form.check_same_key(parent, issuer_signer, "issuing certificate")
    if not parent.not_valid_before_utc <= now <= parent.not_valid_after_utc:
        raise CertificateError(Reason.OUT_OF_TIME, f"the certificate ended on {parent.not_valid_after_utc:%F}")
    begins = now.replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(parent.subject)
        .last_update(begins)
        .next_update(begins + form.validity(days))
        .add_extension(form.authority(parent), critical=False)
        .add_extension(x509.CRLNumber(int(begins.timestamp())), critical=False)
    )
    for serial, when in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when.replace(microsecond=0))
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(SignerKey(issuer_signer), SHA256()).public_bytes(Encoding.DER)


def to_pem(der: bytes) -> bytes:
    """A certificate, or a revocation list, as brokers read them.

    Raises:
        CertificateError: it is neither.
    """
    try:
        return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
    except ValueError:
        return form.parse(der, "it", limit=len(der)).public_bytes(Encoding.PEM)


def _requested_key(csr_der: bytes, eui: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a request that asks for nothing but a device's certificate."""
    try:
        csr = x509.load_der_x509_csr(csr_der[: form.DER_MAX + 1])
        whole = csr.public_bytes(Encoding.DER) == csr_der
        public_key, signature_right = csr.public_key(), csr.is_signature_valid
        names = [(name.oid, name.value) for name in csr.subject]
        surplus = bool(list(csr.attributes)) or bool(list(csr.extensions))
    except form.PARSE_ERRORS:
        raise CertificateError(Reason.MALFORMED, "the request is not a PKCS#10 request in DER") from None
    if not whole:
        raise CertificateError(Reason.MALFORMED, "there is something behind the request")
    requested = form.on_p256(public_key, "the request")
    if not form.signed_canonically(csr_der, csr.signature):
        raise CertificateError(Reason.MALFORMED, "the request's signature is not in DER")
    if csr.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256 or not signature_right:
        raise CertificateError(Reason.BAD_SIGNATURE, "the request is not signed by the key that it names")
    if names != [(NameOID.COMMON_NAME, form.eui_text(eui))]:
        raise CertificateError(Reason.OTHER_DEVICE, f"the request is not for the device {eui.hex()} and nothing else")
    if surplus:
        # whoever asks for CA:TRUE, a server's name or a longer life is no board of ours
        raise CertificateError(Reason.SURPLUS, "the request asks for more than a device's certificate")
    return requested


def _exactly_a_devices(certificate: x509.Certificate, parent: x509.Certificate) -> None:
    public_key = form.on_p256(certificate.public_key(), "the certificate")
    expected: dict[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool]] = {
        value.oid: (value, critical)
        for value, critical in (
            (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
            (form.authority(parent), False),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (form.usage(ca=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        )
    }
    if {extension.oid: (extension.value, extension.critical) for extension in certificate.extensions} != expected:
        raise CertificateError(Reason.SURPLUS, "the certificate says more, or less, than a device's says")
