"""What a broker's certificates and revocation lists must be, judged before a broker gets them. Pure: PEM or DER in.

mosquitto asks for a list of each issuer that signed a client, and refuses all its clients when the list is missing or
over; so a set of lists is taken whole or not at all.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID


class TrustError(Exception):
    """A certificate, key or list does not do for a broker."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Lists:
    """Revocation lists that cover every issuer.

    Attributes:
        ends: when the first of them is over; from then on its devices are refused.
        revoked: how many certificates they name.
    """

    ends: datetime
    revoked: int


def certificates(pem: bytes, what: str) -> list[x509.Certificate]:
    """All certificates of a PEM text; TrustError if there is none."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise TrustError(f"{what} holds no certificate in PEM", "name a PEM file") from None


def keys(pem: bytes) -> set[bytes]:
    """The public keys of these certificates, DER."""
    shape = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return {each.public_key().public_bytes(*shape) for each in certificates(pem, "an authority")}


def authority(root_pem: bytes, issuers: Iterable[bytes], now: datetime) -> bytes:
    """PEM of the root and of the issuing certificates that it signed and that are not over.

    Args:
        root_pem: one or more roots.
        issuers: DER, of the registry.

    Raises:
        TrustError: a root is over, or an issuing certificate is of none of the roots.
    """
    roots = certificates(root_pem, "the devices' root")
    for root in roots:
        if not root.not_valid_before_utc <= now <= root.not_valid_after_utc:
            raise TrustError(f"the root {_name(root)} ended on {root.not_valid_after_utc:%F}", "make a new one")
    parts = [root.public_bytes(Encoding.PEM) for root in roots]
    for der in issuers:
        issuer = x509.load_der_x509_certificate(der)
        if issuer.not_valid_after_utc < now:
            continue
        if not any(_signed_by(issuer, root) for root in roots):
            raise TrustError(
                f"the issuing certificate {_name(issuer)} was not signed by this root", "name its root as well: --root"
            )
        parts.append(issuer.public_bytes(Encoding.PEM))
    return b"".join(parts)


def lists(pem: bytes, issuers: Iterable[bytes], now: datetime) -> Lists:
    """Check that these revocation lists do for all these issuing certificates (DER) that are not over.

    Raises:
        TrustError: one is missing, over, or not its issuer's.
    """
    found = split_lists(pem)
    ends: list[datetime] = []
    used: set[int] = set()
    for der in issuers:
        issuer = x509.load_der_x509_certificate(der)
        if issuer.not_valid_after_utc < now:
            continue
        own = [
            (number, each)
            for number, each in enumerate(found)
            if each.issuer == issuer.subject and each.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
        ]
        end = max((each.next_update_utc for _, each in own if each.next_update_utc is not None), default=None)
        if end is None:
            raise TrustError(
                f"there is no revocation list of {_name(issuer)}", "give its key too: --issuing-key, may be repeated"
            )
        if end <= now:
            raise TrustError(f"the revocation list of {_name(issuer)} ended at {end:%F %T} UTC", "make it anew")
        ends.append(end)
        used |= {number for number, _ in own}
    if not ends:
        raise TrustError("there is no issuing certificate that a list could be of", "leave the lists out")
    return Lists(min(ends), sum(len(found[number]) for number in used))


def split_lists(pem: bytes) -> list[x509.CertificateRevocationList]:
    """All revocation lists of a PEM text.

    Raises:
        TrustError: it holds something else.
    """
    mark = b"-----BEGIN X509 CRL-----"
    try:
        return [x509.load_pem_x509_crl(mark + each) for each in pem.split(mark)[1:]]
    except ValueError:
        raise TrustError("this is no revocation list in PEM", "make one: sealband registry crl") from None


def broker(certificate_pem: bytes, key_pem: bytes, host: str, now: datetime) -> datetime:
    """Check the broker's own certificate and key; returns when it ends.

    Args:
        host: the name or address under which clients reach it.

    Raises:
        TrustError: it is for another host or purpose, over, or the key is another's.
    """
    leaf = certificates(certificate_pem, "the broker's certificate")[0]
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise TrustError(
            f"the broker's certificate is valid from {leaf.not_valid_before_utc:%F} to {leaf.not_valid_after_utc:%F}",
            "renew it: sealband broker certificate --server --renew",
        )
    if not _is_for(leaf, host):
        raise TrustError(f"the broker's certificate is not for {host}", "name the host that stands in it, or renew it")
    try:
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        purposes = None
    if purposes is not None and ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
        raise TrustError("this is no server's certificate", "make one: sealband broker certificate --server")
    try:
        key = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError):
        raise TrustError("the broker's key is no private key in PEM without a passphrase", "name another") from None
    shape = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*shape) != leaf.public_key().public_bytes(*shape):
        raise TrustError("the broker's key is not its certificate's", "name the key that the certificate was made for")
    return leaf.not_valid_after_utc


def _is_for(leaf: x509.Certificate, host: str) -> bool:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        pass
    listed = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    _, dot, parent = host.lower().partition(".")
    return host.lower() in listed or (bool(dot) and f"*.{parent}" in listed)


def _signed_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except Exception:  # a wrong name, kind of key or signature: each means no
        return False
    return True


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()
