"""TLS certificates of those that are no devices: the broker itself, and services that speak to it.

    services' root     CN = its name            made like a devices' root (`certificates.create_root`), with another key
    ├─ broker          O = Sealband services, CN = host name    serverAuth, its names as subjectAltName
    └─ service         O = Sealband services, CN = name         clientAuth

A device's authority must never be the services': whoever can certify a device could then stand in for the broker that
devices trust. Pure X.509 as in `certificates`: DER in and out, keys as signers, no file and no clock.
"""

import ipaddress
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioning import certificate_form as form
from provisioning.certificate_form import CertificateError, Reason
from provisioning.certificate_key import SignerKey
from provisioning.signers import Signer

SKEW = timedelta(minutes=5)  # begins this much earlier, for a clock that is behind
NAME_MAX = 253  # characters of a host's name (RFC 1035 section 2.3.4, less its dots)


def issue_service(
    root_cert: bytes, root_signer: Signer, subject: x509.Name, public_key: bytes, days: int, now: datetime
) -> bytes:
    """A service's certificate, to show to the broker.

    Args:
        root_cert: DER of the services' root.
        root_signer: its key.
        subject: what the broker's rules call it.
        public_key: 65 bytes, 04, x, y.
        days: its validity.
        now: the time.

    Raises:
        CertificateError: the root is none, its key is another or it ends too soon.
    """
    return _issue(root_cert, root_signer, subject, public_key, days, now, ExtendedKeyUsageOID.CLIENT_AUTH, None)


def issue_broker(
    root_cert: bytes,
    root_signer: Signer,
    organisation: str,
    hosts: list[str],
    public_key: bytes,
    days: int,
    now: datetime,
) -> bytes:
    """The broker's certificate, for the names and addresses under which clients reach it; the first is its CN.

    Raises:
        CertificateError: as above, or a host is neither a name nor an address.
    """
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64]),
        ]
    )
    return _issue(root_cert, root_signer, subject, public_key, days, now, ExtendedKeyUsageOID.SERVER_AUTH, names)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    plain = all(label and len(label) <= 63 and label.replace("-", "a").isalnum() for label in labels)
    if not host.isascii() or not plain or len(host) > NAME_MAX:
        raise CertificateError(Reason.MALFORMED, f"{host!r} is no host's name or address")
    return x509.DNSName(host)


def _issue(
    root_cert: bytes,
    root_signer: Signer,
    subject: x509.Name,
    public_key: bytes,
    days: int,
    now: datetime,
    purpose: x509.ObjectIdentifier,
    names: x509.SubjectAlternativeName | None,
) -> bytes:
    root, key = form.parse(root_cert, "the services' root"), SignerKey(root_signer)
    if root.issuer != root.subject or not form.is_ca(root, path_length=1):
        raise CertificateError(Reason.OTHER_ISSUER, "this is not a root certificate of ours")
    form.check_same_key(root, root_signer, "services' root")
    begins, ends = now.replace(microsecond=0), now.replace(microsecond=0) + form.validity(days)
    if begins < root.not_valid_before_utc or ends > root.not_valid_after_utc:
        raise CertificateError(Reason.OUT_OF_TIME, f"the services' root is valid until {root.not_valid_after_utc:%F}")
    builder = (
        form.builder(
            subject,
            form.key_of(public_key, "the certificate"),
            max(begins - SKEW, root.not_valid_before_utc),
            ends,
        )
        .issuer_name(root.subject)
        .add_extension(form.authority(root), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(form.usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return form.signed(builder, key)
