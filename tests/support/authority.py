"""A CA for TLS tests, and certificates with whatever is wrong with them. Not used by the product."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
Names = tuple[str, ...]


class Authority:
    """A CA and what it signs."""

    def __init__(self, name: str = "updates") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self.sign(self.key.public_key(), self.name, ca=True)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def sign(
        self,
        public: ec.EllipticCurvePublicKey,
        subject: x509.Name,
        *,
        ca: bool = False,
        names: Names = (),
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = DAY,
        usage: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            alternatives: list[x509.GeneralName] = [
                x509.IPAddress(ipaddress.ip_address(name)) if name.replace(".", "").isdigit() else x509.DNSName(name)
                for name in names
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        return builder.sign(self.key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as files have it."""
    return certificate.public_bytes(Encoding.PEM)


def pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as files have it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def common_name(text: str) -> x509.Name:
    """A subject of a common name only."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
