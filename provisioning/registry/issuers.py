"""The registry's side of TLS certificates: issuing certificates of batches, what was revoked, revocation lists.

What a certificate must look like is decided in `provisioning.certificates`. Keys come as signers and are not kept.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction

from provisioning import certificates, signers
from provisioning.registry import audit, batches
from provisioning.registry.errors import Clock, RegistryError, moment
from provisioning.registry.models import Batch, Certificate, Issuer
from provisioning.registry.vault import Vault


@dataclass(frozen=True)
class Created:
    """A new issuing certificate.

    Attributes:
        certificate: DER.
        public_key: 65 bytes, of the key that may issue.
        issues_until, ends: ISO 8601: until when it may issue, and until when it and what it issued are valid.
    """

    certificate: bytes
    public_key: bytes
    issues_until: str
    ends: str


def create_issuer(
    vault: Vault,
    batch: str,
    root_certificate: bytes,
    root: signers.Signer,
    issuing_public_key: bytes,
    signer: signers.Signer,
    *,
    days: int,
    device_days: int,
    out: Path,
    actor: str = "system",
    clock: Clock = time.time,
) -> Created:
    """Certify the key that will sign the certificates of a batch's devices, and write the batch's ticket file with it.

    Args:
        batch: its name.
        root_certificate: DER.
        root: the root's key.
        issuing_public_key: 65 bytes; its private half goes to the station, in a file or on a token.
        signer: the key that signed the batch.
        days: for how long it may issue.
        device_days: how long each device's certificate is valid.
        out: a new file for the ticket file.

    Raises:
        RegistryError: there is no such batch, another key signed it, or the file exists.
        CertificateError: the root or a key does not fit.
    """
    now = moment(clock)
    with ExitStack() as undo:
        with transaction.atomic():
            row = batches.find_batch(batch)
            if row.issuers.filter(public_key=root.public_key).exists() or issuing_public_key == root.public_key:
                raise RegistryError("the issuing key is the root's own", "make a key for each batch")
            der = certificates.create_issuer(
                root_certificate, root, issuing_public_key, row.name, row.model, days, device_days, now
            )
            told = certificates.read_issuer(der, row.name)
            Issuer.objects.create(
                batch=row, certificate=der, public_key=issuing_public_key, created_at=now, ends_at=told.ends
            )
            audit.append(
                vault,
                "issuer_created",
                subject=row.name,
                actor=actor,
                clock=clock,
                key=signers.kid(issuing_public_key).hex(),
                root=signers.kid(root.public_key).hex(),
                days=days,
                device_days=device_days,
            )
            batches.write_ticket_file(row, signer, out, undo)
        undo.pop_all()  # committed
    return Created(der, issuing_public_key, told.issues_until.isoformat(), told.ends.isoformat())


def issuers() -> list[dict[str, Any]]:
    """All issuing certificates, oldest first, as plain values."""
    rows = Issuer.objects.select_related("batch").order_by("id")
    return [
        {
            "batch": row.batch.name,
            "key": signers.kid(bytes(row.public_key)).hex(),
            "created_at": row.created_at.isoformat(timespec="seconds"),
            "ends_at": row.ends_at.isoformat(timespec="seconds"),
            "certificates": row.certificates.count(),
            "revoked": row.certificates.filter(revoked_at__isnull=False).count(),
        }
        for row in rows
    ]


def newest(batch: Batch) -> list[Issuer]:
    """The batch's issuing certificates, the newest first."""
    return list(batch.issuers.order_by("-id"))


def revocation_list(key: signers.Signer, *, days: int, clock: Clock = time.time) -> list[bytes]:
    """A list (DER) for each issuing certificate of this key that is not over.

    Args:
        key: an issuing key.
        days: for how long the lists are valid: a broker refuses everybody after that.

    Raises:
        RegistryError: no issuing certificate is this key's.
        CertificateError: the list cannot be made.
    """
    now = moment(clock)
    rows = list(Issuer.objects.filter(public_key=key.public_key, ends_at__gt=now).order_by("id"))
    if not rows:
        raise RegistryError(
            f"no issuing certificate that is still valid belongs to the key {signers.kid(key.public_key).hex()}",
            "see: sealband registry issuer list",
        )
    return [_revocation_list(row, key, days, clock) for row in rows]


def _revocation_list(row: Issuer, key: signers.Signer, days: int, clock: Clock) -> bytes:
    revoked = Certificate.objects.filter(issuer=row, revoked_at__isnull=False).values_list("serial", "revoked_at")
    when = {int(serial, 16): at for serial, at in revoked if at is not None}
    return certificates.crl(bytes(row.certificate), key, when, days, moment(clock))
