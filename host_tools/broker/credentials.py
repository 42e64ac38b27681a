"""Keys and certificates of the broker and of services, each pair in one PEM file as `--mqtt-certificate` takes it."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from host_tools.broker import rules, trust
from host_tools.release.files import FileRefused
from provisioning import certificates, service_certificates, wholefile
from provisioning.signers import Signer


@dataclass(frozen=True)
class Made:
    """A new certificate.

    Attributes:
        subject: as brokers write it.
        digest: SHA-256 of its DER, hex.
        ends: until when it is valid.
    """

    subject: str
    digest: str
    ends: datetime


def make(
    root: Path,
    signer: Signer,
    out: Path,
    *,
    service: str | None,
    hosts: list[str],
    days: int,
    now: datetime,
    renew: bool = False,
) -> Made:
    """Make a key, certify it and write both.

    Args:
        root: PEM of the services' root.
        signer: its key.
        out: a new file, mode 600.
        service: a service's name; None: the broker's certificate, for these `hosts`.
        renew: take the place of a file that is there.

    Raises:
        CertificateError, RulesError, TrustError: root, key or name does not do.
        FileRefused: the file is there, or with `renew` it is not.
        OSError: it cannot be written.
    """
    if out.exists() != renew:
        if renew:
            raise FileRefused(f"{out} is not there", "leave --renew out")
        raise FileRefused(f"{out} is there already and was not changed", "choose another name, or --renew")
    issuer = trust.certificates(root.read_bytes(), str(root))[0].public_bytes(Encoding.DER)
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    if service is not None:
        subject = rules.service_subject(service)
        der = service_certificates.issue_service(issuer, signer, subject, point, days, now)
    else:
        der = service_certificates.issue_broker(issuer, signer, rules.SERVICES, hosts, point, days, now)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificates.to_pem(der)
    wholefile.replace(out, text)
    made = x509.load_der_x509_certificate(der)
    return Made(made.subject.rfc4514_string(), sha256(der).hexdigest(), made.not_valid_after_utc)
